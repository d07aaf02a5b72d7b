"""Judges `VarintPrefixed` by protobuf's own delimited streams and by ``delimited-protobuf``.

Both peers read from a file-like object that must hold whole frames; neither can be fed pieces. Their message here is
``BytesValue``, whose own bytes are our payload. nanopb's ``PB_ENCODE_DELIMITED`` writes the same frames.
"""

from __future__ import annotations

import io

import delimited_protobuf
import pytest
from google.protobuf import proto
from google.protobuf.internal.encoder import _VarintBytes
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.wrappers_pb2 import BytesValue
from hypothesis import given
from hypothesis import strategies as st

from framing import CorruptFrame, FrameTooLarge, TruncatedFrame, VarintPrefixed

from .feeding import chunk_sizes, judged, payload_lists, received, verdict

FRAMER = VarintPrefixed()
values = payload_lists.map(lambda contents: [BytesValue(value=content) for content in contents])


def bodies(messages: list[BytesValue]) -> list[bytes]:
    return [message.SerializeToString() for message in messages]


def parsed(stream: bytes) -> list[BytesValue]:
    file = io.BytesIO(stream)
    return list(iter(lambda: proto.parse_length_prefixed(BytesValue, file), None))


@judged
@given(messages=values)
def test_protobuf_reads_what_varint_prefixed_writes(messages):
    assert parsed(FRAMER.encode_many(bodies(messages))) == messages


@judged
@given(messages=values, sizes=chunk_sizes)
def test_varint_prefixed_reads_what_protobuf_writes(messages, sizes):
    out = io.BytesIO()
    for message in messages:
        proto.serialize_length_prefixed(message, out)
    assert received(FRAMER, out.getvalue(), sizes) == bodies(messages)
    assert out.getvalue() == FRAMER.encode_many(bodies(messages))


@judged
@given(messages=values, sizes=chunk_sizes)
def test_varint_prefixed_reads_what_delimited_protobuf_writes(messages, sizes):
    out = io.BytesIO()
    for message in messages:
        delimited_protobuf.write(out, message)
    assert received(FRAMER, out.getvalue(), sizes) == bodies(messages)


@judged
@given(content=st.binary(min_size=1, max_size=200))
def test_delimited_protobuf_reads_what_varint_prefixed_writes(content):
    message = BytesValue(value=content)
    assert delimited_protobuf.read(io.BytesIO(FRAMER.encode(message.SerializeToString())), BytesValue) == message


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 16_383, 16_384, 65_535, 1 << 20])
def test_varint_is_spelt_as_protobuf_spells_it(size):
    frame = FRAMER.encode(bytes(size))
    assert frame[: len(frame) - size] == _VarintBytes(size)


@pytest.mark.parametrize("size", [(1 << 20) + 1, 1 << 31, (1 << 63) - 1, (1 << 64) - 1])
def test_lengths_above_the_limit_are_refused_at_the_header(size):
    assert verdict(FRAMER, _VarintBytes(size)) == ([], FrameTooLarge)


def test_protobuf_has_no_limit_and_reads_whatever_is_announced():
    asked: list[int] = []

    class Spy(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size if size is not None else -1)
            return super().read(size)

    with pytest.raises(ValueError, match="Truncated"):
        proto.parse_length_prefixed(BytesValue, Spy(_VarintBytes((1 << 31) - 1)))
    assert max(asked) == (1 << 31) - 1
    with pytest.raises(OverflowError):
        proto.parse_length_prefixed(BytesValue, io.BytesIO(_VarintBytes(1 << 63)))


def test_protobuf_takes_a_second_spelling_of_a_length():
    assert parsed(b"\x80\x00") == [BytesValue()]
    assert parsed(b"\x83\x80\x00\x0a\x01x") == [BytesValue(value=b"x")]
    assert verdict(FRAMER, b"\x80\x00") == ([], CorruptFrame)
    assert verdict(FRAMER, b"\x83\x80\x00\x0a\x01x") == ([], CorruptFrame)


def test_protobuf_wraps_a_length_of_2_to_the_64_around_to_zero():
    wrapped = b"\x80" * 9 + b"\x02"
    assert parsed(wrapped) == [BytesValue()]
    assert verdict(FRAMER, wrapped) == ([], FrameTooLarge)


@pytest.mark.parametrize("stream", [b"\x80", b"\x05", b"\x05\x0a\x03ab"])
def test_half_frame_is_an_error_of_protobuf_too(stream):
    with pytest.raises((ValueError, ProtobufError)):
        parsed(stream)
    assert verdict(FRAMER, stream) == ([], TruncatedFrame)


def test_delimited_protobuf_takes_a_header_without_its_body_for_an_empty_message():
    assert delimited_protobuf.read(io.BytesIO(b"\x05"), BytesValue) == BytesValue()
    assert verdict(FRAMER, b"\x05") == ([], TruncatedFrame)


def test_delimited_protobuf_takes_an_empty_message_for_the_end():
    stream = FRAMER.encode_many([b"", b"\x0a\x01x"])
    assert delimited_protobuf.read(io.BytesIO(stream), BytesValue) is None
    assert received(FRAMER, stream) == [b"", b"\x0a\x01x"]
