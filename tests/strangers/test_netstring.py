"""Judges `Netstring` by pynetstring."""

from __future__ import annotations

import pynetstring
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing import CorruptFrame, FrameTooLarge, Netstring, TruncatedFrame

from .feeding import chunk_sizes, chunked, judged, payload_lists, received, verdict


@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_pynetstring_reads_what_netstring_writes(payloads, sizes):
    decoder = pynetstring.Decoder()
    got: list[bytes] = []
    for chunk in chunked(Netstring().encode_many(payloads), sizes):
        got += decoder.feed(chunk)
    assert got == payloads
    assert not decoder.pending()


@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_netstring_reads_what_pynetstring_writes(payloads, sizes):
    stream = b"".join(pynetstring.encode(payloads))
    assert received(Netstring(), stream, sizes) == payloads
    assert stream == Netstring().encode_many(payloads)


@judged
@given(parts=st.lists(st.sampled_from([b"1", b"3", b":", b",", b"x", b"abc", b"1:a,", b"0:,", b"12:", b"-"])))
def test_pynetstring_and_netstring_agree_on_hostile_streams_without_leading_zeros(parts):
    stream = b"".join(parts)
    decoder = pynetstring.Decoder(maxlen=40)
    got: list[bytes] = []
    error: type[Exception] | None = None
    try:
        for byte in stream:  # one by one: what came before an error is lost otherwise, as a test below shows
            got += decoder.feed(bytes((byte,)))
    except pynetstring.TooLong:
        error = FrameTooLarge
    except pynetstring.ParseError:
        error = CorruptFrame
    else:
        error = TruncatedFrame if decoder.pending() else None
    assert verdict(Netstring(max_frame=40), stream) == (got, error)


@pytest.mark.parametrize("stream", [b"03:abc,", b"0000000000000000003:abc,"])
def test_pynetstring_takes_leading_zeros(stream):
    assert pynetstring.decode(stream) == [b"abc"]
    assert verdict(Netstring(), stream) == ([], CorruptFrame)


def test_pynetstring_has_no_limit_unless_told_and_then_reads_digits_for_ever():
    decoder = pynetstring.Decoder()
    assert decoder.feed(b"9" * 4000) == []
    assert decoder._decoder._length > 10**3999
    assert verdict(Netstring(), b"9" * 4000) == ([], FrameTooLarge)


def test_pynetstring_loses_the_payload_before_an_error_that_comes_in_the_same_chunk():
    stream = b"3:abc,x"
    with pytest.raises(pynetstring.BadLength):
        pynetstring.Decoder().feed(stream)
    cut = pynetstring.Decoder()
    assert cut.feed(stream[:-1]) == [b"abc"]
    with pytest.raises(pynetstring.BadLength):
        cut.feed(stream[-1:])
    assert verdict(Netstring(), stream) == verdict(Netstring(), stream, [6]) == ([b"abc"], CorruptFrame)


def test_pynetstring_goes_on_after_an_error_as_if_nothing_had_happened():
    decoder = pynetstring.Decoder()
    with pytest.raises(pynetstring.BadLength):
        decoder.feed(b"x")
    assert decoder.feed(b"3:abc,") == [b"abc"]
    assert verdict(Netstring(), b"x3:abc,", [1]) == ([], CorruptFrame)


@pytest.mark.parametrize("stream", [b"3", b"3:", b"3:abc"])
def test_half_frame_is_an_error_of_pynetstring_too(stream):
    with pytest.raises(pynetstring.IncompleteString):
        pynetstring.decode(stream)
    assert verdict(Netstring(), stream) == ([], TruncatedFrame)
