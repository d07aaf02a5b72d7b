"""Judges `ContentLength` by python-lsp-jsonrpc's stream reader and writer.

Its reader is blocking and reads from a file, so cuts cannot be tried on it.
"""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pylsp_jsonrpc.streams import JsonRpcStreamReader, JsonRpcStreamWriter

from framing import ContentLength, CorruptFrame, FrameTooLarge, TruncatedFrame

from .feeding import chunk_sizes, judged, received, verdict

FRAMER = ContentLength()
messages = st.lists(
    st.fixed_dictionaries(
        {
            "jsonrpc": st.just("2.0"),
            "id": st.integers(0, 1 << 31),
            "params": st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4),
        }
    ),
    max_size=5,
)


def read(stream: bytes) -> list[Any]:
    got: list[Any] = []
    JsonRpcStreamReader(io.BytesIO(stream)).listen(got.append)
    return got


def bodies(stream: bytes) -> list[bytes]:
    """What its reader takes for the bodies of the messages, before it reads them as JSON."""
    reader, got = JsonRpcStreamReader(io.BytesIO(stream)), []
    while (body := reader._read_message()) is not None:
        got.append(body)
    return got


@judged
@given(wanted=messages)
def test_pylsp_reads_what_content_length_writes(wanted):
    assert read(FRAMER.encode_many(json.dumps(message).encode() for message in wanted)) == wanted


@judged
@given(wanted=messages, sizes=chunk_sizes, ascii_only=st.booleans())
def test_content_length_reads_what_pylsp_writes(wanted, sizes, ascii_only):
    out = io.BytesIO()
    writer = JsonRpcStreamWriter(out, ensure_ascii=ascii_only)
    for message in wanted:
        writer.write(message)
    assert [json.loads(payload) for payload in received(FRAMER, out.getvalue(), sizes)] == wanted


@judged
@given(payloads=st.lists(st.binary(max_size=100), max_size=5))
def test_pylsp_finds_the_bodies_of_any_bytes(payloads):
    assert bodies(FRAMER.encode_many(payloads)) == payloads


@pytest.mark.parametrize(
    ("stream", "taken"),
    [
        (b"Content-Length: 002\r\n\r\n{}", b"{}"),
        (b"Content-Length: +2\r\n\r\n{}", b"{}"),
        (b"Content-Length: 1_0\r\n\r\n0123456789", b"0123456789"),
        (b"Content-Length: 2\n\n{}", b"{}"),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", b"{}"),
        (b"Content-Length: 2\r\nno header at all\r\n\r\n{}", b"{}"),
    ],
)
def test_pylsp_takes_headers_that_are_corrupt_here(stream, taken):
    assert bodies(stream)[0] == taken
    # Without a blank line in CRLF the header has no end, and neither has it then at the end of the stream.
    assert verdict(FRAMER, stream)[1] is (TruncatedFrame if b"\r" not in stream else CorruptFrame)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 2\r\n\r\n", None),
        (b"content-length: 2\r\n\r\n", None),
        (b"Content-Length: -1\r\n\r\n", CorruptFrame),
        (b"Content-Type: x\r\n\r\n", CorruptFrame),
    ],
)
def test_pylsp_reads_to_the_end_of_the_stream_where_its_first_line_gives_no_length(header, error):
    stream = header + b"{}" + FRAMER.encode(b'{"id": 2}')
    assert bodies(stream) == [b"{}" + FRAMER.encode(b'{"id": 2}')]
    assert verdict(FRAMER, stream) == (([b"{}", b'{"id": 2}'], None) if error is None else ([], error))


@pytest.mark.parametrize(
    "stream", [b"Content-Le", b"Content-Length: 5\r\n", b"Content-Length: 5\r\nContent-Type: x\r\n"]
)
def test_half_header_is_a_clean_end_to_pylsp(stream):
    assert bodies(stream) == []
    assert verdict(FRAMER, stream) == ([], TruncatedFrame)


def test_pylsp_delivers_half_a_body_where_it_is_json_by_itself():
    assert read(b"Content-Length: 5\r\n\r\n123") == [123]
    assert verdict(FRAMER, b"Content-Length: 5\r\n\r\n123") == ([], TruncatedFrame)


def test_pylsp_delivers_the_message_before_a_bad_header_once_more(caplog):
    caplog.set_level(logging.CRITICAL)
    stream = FRAMER.encode(b'{"id": 1}') + b"Content-Length: x\r\n\r\n{}"
    assert read(stream).count({"id": 1}) == 2
    assert verdict(FRAMER, stream) == ([b'{"id": 1}'], CorruptFrame)


def test_pylsp_falls_over_a_bad_first_header(caplog):
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(UnboundLocalError):
        read(b"Content-Length: x\r\n\r\n{}")


def test_pylsp_has_no_limit_and_reads_whatever_is_announced():
    asked: list[Any] = []

    class Spy(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size)
            return super().read(size)

    header = b"Content-Length: 2147483647\r\n\r\n"
    assert JsonRpcStreamReader(Spy(header))._read_message() == b""
    assert asked == [(1 << 31) - 1]
    assert verdict(FRAMER, header) == ([], FrameTooLarge)
