"""Judges `LengthPrefixed`, `VarintPrefixed`, `Delimited` and `FixedSize` by construct's own ways to frame.

construct parses what is there whole: it has no decoder that waits, so cuts cannot be tried on it.
"""

from __future__ import annotations

from typing import Any

import pytest
from construct import (
    FixedSized,
    FormatFieldError,
    GreedyBytes,
    GreedyRange,
    Int8ub,
    Int16ul,
    Int24ub,
    Int32ub,
    Int64ub,
    NullTerminated,
    PascalString,
    Prefixed,
    StreamError,
    VarInt,
)
from hypothesis import given
from hypothesis import strategies as st

from framing import (
    CorruptFrame,
    Delimited,
    EncodeError,
    FixedSize,
    FrameTooLarge,
    LengthPrefixed,
    TruncatedFrame,
    VarintPrefixed,
)

from .feeding import chunk_sizes, judged, payload_lists, received, verdict

PEERS = pytest.mark.parametrize(
    ("framer", "declaration"),
    [
        (LengthPrefixed(1), Prefixed(Int8ub, GreedyBytes)),
        (LengthPrefixed(2, "little"), Prefixed(Int16ul, GreedyBytes)),
        (LengthPrefixed(3), Prefixed(Int24ub, GreedyBytes)),
        (LengthPrefixed(4), Prefixed(Int32ub, GreedyBytes)),
        (LengthPrefixed(8), Prefixed(Int64ub, GreedyBytes)),
        (LengthPrefixed(4, counts="frame"), Prefixed(Int32ub, GreedyBytes, includelength=True)),
        (LengthPrefixed(2, "little", counts="frame"), Prefixed(Int16ul, GreedyBytes, includelength=True)),
        (VarintPrefixed(), Prefixed(VarInt, GreedyBytes)),
    ],
)


@PEERS
@judged
@given(payloads=payload_lists)
def test_construct_parses_what_we_write(framer, declaration, payloads):
    assert list(GreedyRange(declaration).parse(framer.encode_many(payloads))) == payloads


@PEERS
@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_we_read_what_construct_builds(framer, declaration, payloads, sizes):
    stream = GreedyRange(declaration).build(payloads)
    assert received(framer, stream, sizes) == payloads
    assert stream == framer.encode_many(payloads)


@judged
@given(texts=st.lists(st.text(max_size=60), max_size=6), sizes=chunk_sizes)
def test_pascal_strings_travel_both_ways(texts, sizes):
    declaration = GreedyRange(PascalString(VarInt, "utf8"))
    payloads = [text.encode() for text in texts]
    assert received(VarintPrefixed(), declaration.build(texts), sizes) == payloads
    assert list(declaration.parse(VarintPrefixed().encode_many(payloads))) == texts


@judged
@given(
    payloads=st.lists(st.binary(max_size=60).filter(lambda payload: b"\0" not in payload), max_size=6),
    sizes=chunk_sizes,
)
def test_null_terminated_and_delimited_agree(payloads, sizes):
    declaration = GreedyRange(NullTerminated(GreedyBytes))
    assert received(Delimited(b"\0"), declaration.build(payloads), sizes) == payloads
    assert list(declaration.parse(Delimited(b"\0").encode_many(payloads))) == payloads


@judged
@given(payloads=st.lists(st.binary(min_size=7, max_size=7), max_size=6), sizes=chunk_sizes)
def test_fixed_sized_and_fixed_size_agree(payloads, sizes):
    declaration = GreedyRange(FixedSized(7, GreedyBytes))
    assert received(FixedSize(7), declaration.build(payloads), sizes) == payloads
    assert list(declaration.parse(FixedSize(7).encode_many(payloads))) == payloads


def test_both_refuse_a_payload_that_the_length_cannot_hold():
    with pytest.raises(FormatFieldError):
        Prefixed(Int8ub, GreedyBytes).build(bytes(300))
    with pytest.raises(EncodeError):
        LengthPrefixed(1).encode(bytes(300))


def test_both_refuse_a_length_that_does_not_count_itself():
    with pytest.raises(StreamError):
        Prefixed(Int32ub, GreedyBytes, includelength=True).parse(b"\0\0\0\2abc")
    assert verdict(LengthPrefixed(4, counts="frame"), b"\0\0\0\2abc") == ([], CorruptFrame)


@pytest.mark.parametrize("half", [b"\0", b"\0\0\0\5", b"\0\0\0\5ab"])
def test_greedy_range_drops_half_a_frame_at_the_end_without_a_word(half):
    one = Prefixed(Int32ub, GreedyBytes)
    stream = b"\0\0\0\1a" + half
    assert list(GreedyRange(one).parse(stream)) == [b"a"]
    with pytest.raises(StreamError):
        one.parse(half)
    assert verdict(LengthPrefixed(4), stream) == ([b"a"], TruncatedFrame)


def test_greedy_range_takes_a_corrupt_frame_for_the_end_and_drops_all_behind_it():
    text: Any = GreedyRange(PascalString(Int8ub, "utf8"))
    assert list(text.parse(b"\1a\1\xff\1b")) == ["a"]
    assert received(LengthPrefixed(1), b"\1a\1\xff\1b") == [b"a", b"\xff", b"b"]


def test_construct_takes_a_second_spelling_of_a_length():
    assert Prefixed(VarInt, GreedyBytes).parse(b"\x81\x80\x00a") == b"a"
    assert verdict(VarintPrefixed(), b"\x81\x80\x00a") == ([], CorruptFrame)


def test_construct_has_no_limit_and_reads_a_varint_of_any_size():
    assert VarInt.parse(b"\xff" * 1000 + b"\x01") > 1 << 6999
    assert verdict(VarintPrefixed(), b"\xff" * 1000 + b"\x01") == ([], FrameTooLarge)


def test_null_terminated_builds_one_payload_as_two():
    stream = NullTerminated(GreedyBytes).build(b"one\0two")
    assert list(GreedyRange(NullTerminated(GreedyBytes)).parse(stream)) == [b"one", b"two"]
    with pytest.raises(EncodeError):
        Delimited(b"\0").encode(b"one\0two")
