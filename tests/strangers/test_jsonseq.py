"""Judges ``Delimited(b"\\n", start=b"\\x1e")``, the framing of JSON text sequences (RFC 7464), by jsonseq."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonseq.decode import JSONSeqDecoder
from jsonseq.encode import JSONSeqEncoder

from framing import CorruptFrame, Delimited, EncodeError, TruncatedFrame

from .feeding import chunk_sizes, judged, received, verdict

FRAMER = Delimited(b"\n", start=b"\x1e")
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def as_lines(stream: bytes) -> list[str]:
    """The pieces in which jsonseq wants its stream: lines, as a text file gives them."""
    return stream.decode().splitlines(keepends=True)


@judged
@given(messages=st.lists(documents, max_size=6))
def test_jsonseq_reads_what_delimited_writes(messages):
    stream = FRAMER.encode_many(json.dumps(message).encode() for message in messages)
    assert list(JSONSeqDecoder().decode(as_lines(stream))) == messages


@judged
@given(messages=st.lists(documents, max_size=6), ascii_only=st.booleans(), sizes=chunk_sizes)
def test_delimited_reads_what_jsonseq_writes(messages, ascii_only, sizes):
    stream = "".join(JSONSeqEncoder(ensure_ascii=ascii_only).encode(messages)).encode()
    assert [json.loads(payload) for payload in received(FRAMER, stream, sizes)] == messages


def test_jsonseq_depends_on_how_its_stream_is_cut():
    stream = "\x1e[1]\n\x1e[2]\n"
    assert list(JSONSeqDecoder().decode([stream[:5], stream[5:]])) == [[1], [2]]
    with pytest.raises(json.JSONDecodeError):
        list(JSONSeqDecoder().decode([stream]))
    assert verdict(FRAMER, stream.encode()) == verdict(FRAMER, stream.encode(), [1]) == ([b"[1]", b"[2]"], None)


def test_jsonseq_takes_a_number_that_was_cut_off_for_a_whole_one():
    # RFC 7464, section 2.4: a top-level number without the line feed behind it may be cut off, and must not be taken.
    assert list(JSONSeqDecoder().decode(["\x1e[1]\n", "\x1e123"])) == [[1], 123]
    assert verdict(FRAMER, b"\x1e[1]\n\x1e123") == ([b"[1]"], TruncatedFrame)


def test_jsonseq_takes_no_text_behind_a_bad_one():
    # RFC 7464, section 2.3: a text that does not parse should not end the sequence.
    decoded = JSONSeqDecoder().decode(["\x1e[1]\n", "\x1e[2\n", "\x1e[3]\n"])
    got: list[Any] = [next(decoded)]
    with pytest.raises(json.JSONDecodeError):
        next(decoded)
    got += list(decoded)
    assert got == [[1]]
    assert received(FRAMER, b"\x1e[1]\n\x1e[2\n\x1e[3]\n") == [b"[1]", b"[2", b"[3]"]


def test_text_that_was_cut_off_is_corrupt_here_or_passed_over():
    stream = b'\x1e{"a":\x1e[2]\n'
    with pytest.raises(json.JSONDecodeError):
        list(JSONSeqDecoder().decode(['\x1e{"a":', "\x1e[2]\n"]))
    assert verdict(FRAMER, stream) == ([], CorruptFrame)
    assert received(Delimited(b"\n", start=b"\x1e", on_corrupt="skip"), stream) == [b"[2]"]


@pytest.mark.parametrize("junk", [b"x", b"x\n", b"\n", b"\x1e", b"\x1e\x1e", b"\x1e[\x1e"])
def test_junk_before_a_text_is_corrupt_here_or_passed_over(junk):
    assert verdict(FRAMER, junk + b"\x1e[1]\n") == ([], CorruptFrame)
    skipping = Delimited(b"\n", start=b"\x1e", on_corrupt="skip")
    assert received(skipping, junk + b"\x1e[1]\n") == received(skipping, junk + b"\x1e[1]\n", [1]) == [b"[1]"]


def test_text_on_several_lines_is_legal_there_and_not_carried_by_this_framer():
    text = "".join(JSONSeqEncoder(indent=1).encode([{"a": 1}]))
    assert list(JSONSeqDecoder().decode(as_lines(text.encode()))) == [{"a": 1}]
    assert verdict(FRAMER, text.encode()) == ([b"{"], CorruptFrame)
    with pytest.raises(EncodeError):
        FRAMER.encode(text[1:-1].encode())
