"""Judges `LengthPrefixed`, `Netstring` and `Lines` by Twisted's Int8/16/32StringReceiver, NetstringReceiver, LineOnlyReceiver.

No reactor runs: bytes go in by ``dataReceived`` and come out of a ``StringTransport``.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import (
    Int8StringReceiver,
    Int16StringReceiver,
    Int32StringReceiver,
    LineOnlyReceiver,
    NetstringReceiver,
    StringTooLongError,
)
from twisted.python.failure import Failure

from framing import EncodeError, FrameTooLarge, LengthPrefixed, Lines, Netstring, TruncatedFrame

from .feeding import chunk_sizes, chunked, growth, judged, payload_lists, received, verdict

WIDTHS = pytest.mark.parametrize(
    ("protocol", "width"), [(Int8StringReceiver, 1), (Int16StringReceiver, 2), (Int32StringReceiver, 4)]
)
CRLF = Lines(newline=b"\r\n")
# Bare CR and LF come often: which of them ends a line is what readers differ about.
texts = st.binary(max_size=60) | st.lists(st.sampled_from([b"\r", b"\n", b"a"]), max_size=8).map(b"".join)
lines = st.lists(texts.filter(lambda line: b"\r\n" not in line), max_size=8)


def peer(protocol: type[Any], *, limit: int | None = None) -> Any:
    """A connected receiver that keeps what it received in ``got``."""

    class Peer(protocol):
        def __init__(self):
            self.got: list[bytes] = []

        def stringReceived(self, string):
            self.got.append(bytes(string))

        def lineReceived(self, line):
            self.got.append(bytes(line))

    one = Peer()
    if limit is not None:
        one.MAX_LENGTH = limit
    one.makeConnection(StringTransport())
    return one


def told(one: Any, stream: bytes, sizes: Any = (1 << 30,)) -> list[bytes]:
    """What ``one`` receives until the stream ends, or it closes the connection: a TCP transport reads no more then."""
    for chunk in chunked(stream, sizes):
        if one.transport.disconnecting:
            break
        one.dataReceived(chunk)
    one.connectionLost(Failure(ConnectionDone()))
    return one.got


@WIDTHS
@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_int_receivers_read_what_length_prefixed_writes(protocol, width, payloads, sizes):
    assert told(peer(protocol), LengthPrefixed(width).encode_many(payloads), sizes) == payloads


@WIDTHS
@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_length_prefixed_reads_what_int_receivers_write(protocol, width, payloads, sizes):
    sender = peer(protocol)
    for payload in payloads:
        sender.sendString(payload)
    assert received(LengthPrefixed(width), sender.transport.value(), sizes) == payloads
    assert sender.transport.value() == LengthPrefixed(width).encode_many(payloads)


@WIDTHS
@judged
@given(
    stream=st.lists(st.binary(max_size=4) | st.sampled_from([b"\0", b"\0\0\0", b"\0\0\0\5", b"\5"])).map(b"".join),
    sizes=chunk_sizes,
)
def test_int_receivers_and_length_prefixed_agree_on_hostile_streams(protocol, width, stream, sizes):
    one = peer(protocol, limit=40)
    payloads, error = verdict(LengthPrefixed(width, max_frame=40), stream, sizes)
    assert told(one, stream, sizes) == payloads
    assert one.transport.disconnecting == (error is FrameTooLarge)


@pytest.mark.parametrize(("protocol", "width"), [(Int8StringReceiver, 1), (Int16StringReceiver, 2)])
def test_neither_sender_wraps_a_length_that_does_not_fit(protocol, width):
    payload = bytes(1 << 8 * width)
    with pytest.raises(StringTooLongError):
        peer(protocol).sendString(payload)
    with pytest.raises(EncodeError):
        LengthPrefixed(width).encode(payload)


def test_int_sender_ignores_the_limit_that_its_receiver_enforces():
    sender = peer(Int32StringReceiver, limit=10)
    sender.sendString(bytes(11))
    reader = peer(Int32StringReceiver, limit=10)
    assert told(reader, sender.transport.value()) == []
    assert reader.transport.disconnecting
    with pytest.raises(EncodeError):
        LengthPrefixed(4, max_frame=10).encode(bytes(11))


def test_int_receiver_delivers_again_what_it_delivered_where_it_is_fed_on_after_refusing_a_frame():
    one = peer(Int32StringReceiver, limit=10)
    one.dataReceived(b"\0\0\0\1a\0\0\0\xff")
    one.dataReceived(b"more")
    assert one.got == [b"a", b"a"]
    assert verdict(LengthPrefixed(4, max_frame=10), b"\0\0\0\1a\0\0\0\xffmore", [9]) == ([b"a"], FrameTooLarge)


def test_int_receiver_goes_on_buffering_after_it_refused_a_frame():
    one = peer(Int32StringReceiver, limit=10)
    for _ in range(100):
        one.dataReceived(b"\xff" * 1000)
    assert one.transport.disconnecting
    assert len(one._unprocessed) == 100_000
    decoder = LengthPrefixed(4, max_frame=10).decoder()
    for _ in range(100):
        with pytest.raises(FrameTooLarge):
            decoder.feed(b"\xff" * 1000)
    assert decoder.buffered == 0


@pytest.mark.parametrize(
    ("protocol", "framer", "stream"),
    [
        (Int32StringReceiver, LengthPrefixed(4), b"\0\0\0\1a\0\0\0\5bc"),
        (Int32StringReceiver, LengthPrefixed(4), b"\0\0\0\1a\0\0\0\5"),
        (NetstringReceiver, Netstring(), b"1:a,5:bc"),
        (NetstringReceiver, Netstring(), b"1:a,5"),
        (LineOnlyReceiver, CRLF, b"a\r\nbc"),
    ],
)
def test_half_frame_at_the_end_vanishes_there_and_is_truncated_here(protocol, framer, stream):
    one = peer(protocol)
    assert told(one, stream) == [b"a"]
    assert not one.transport.disconnecting
    assert verdict(framer, stream) == ([b"a"], TruncatedFrame)


@pytest.mark.parametrize("protocol", [Int32StringReceiver, LineOnlyReceiver])
def test_receiver_copies_the_square_of_a_frame_that_comes_in_pieces(protocol):
    def feed_to_new(data: bytes) -> Any:
        return peer(protocol, limit=len(data)).dataReceived

    ratio = growth(feed_to_new, lambda size: size.to_bytes(4, "big") + bytes(size), 1 << 17, 1 << 10)
    assert ratio > 3.8


def test_netstring_receiver_copies_the_square_of_a_chunk_of_small_frames():
    ratio = growth(lambda data: peer(NetstringReceiver).dataReceived, lambda size: b"1:a," * size, 1 << 10, 1 << 20)
    assert ratio > 3.8


@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_netstring_receiver_reads_what_netstring_writes(payloads, sizes):
    assert told(peer(NetstringReceiver), Netstring().encode_many(payloads), sizes) == payloads


@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_netstring_reads_what_netstring_receiver_writes(payloads, sizes):
    sender = peer(NetstringReceiver)
    for payload in payloads:
        sender.sendString(payload)
    assert received(Netstring(), sender.transport.value(), sizes) == payloads
    assert sender.transport.value() == Netstring().encode_many(payloads)


@judged
@given(
    parts=st.lists(st.sampled_from([b"0", b"1", b"3", b":", b",", b"x", b"abc", b"1:a,", b"0:,", b"12:", b"-", b" "])),
    sizes=chunk_sizes,
)
def test_netstring_receiver_and_netstring_agree_on_hostile_streams(parts, sizes):
    stream = b"".join(parts)
    one = peer(NetstringReceiver, limit=40)
    payloads, error = verdict(Netstring(max_frame=40), stream, sizes)
    assert told(one, stream, sizes) == payloads
    assert bool(one.brokenPeer) == (error not in (None, TruncatedFrame))


@pytest.mark.parametrize("stream", [b"03:abc,", b"00:,", b"+3:abc,", b" 3:abc,", b"3:abcd", b":,", b"3;abc,"])
def test_netstring_receiver_and_netstring_refuse_the_same_lengths(stream):
    one = peer(NetstringReceiver)
    assert told(one, stream) == []
    assert one.brokenPeer
    payloads, error = verdict(Netstring(), stream)
    assert payloads == []
    assert error is not None


@pytest.mark.parametrize("stream", [b"11:", b"111", b"9999999999:"])
def test_netstring_receiver_and_netstring_refuse_a_length_above_the_limit_at_its_digits(stream):
    one = peer(NetstringReceiver, limit=10)
    assert told(one, stream, [1]) == []
    assert one.brokenPeer
    assert verdict(Netstring(max_frame=10), stream, [1]) == ([], FrameTooLarge)


def test_netstring_receiver_waits_on_a_newline_among_the_digits():
    # Its pattern ends in "$", which also matches before a newline; the next byte shows the mistake.
    one = peer(NetstringReceiver)
    one.dataReceived(b"3\n")
    assert not one.brokenPeer
    one.dataReceived(b":")
    assert one.brokenPeer
    assert verdict(Netstring(), b"3\n")[1] is not TruncatedFrame


@judged
@given(payloads=lines, sizes=chunk_sizes)
def test_line_receiver_reads_what_lines_writes(payloads, sizes):
    assert told(peer(LineOnlyReceiver), CRLF.encode_many(payloads), sizes) == payloads


@judged
@given(payloads=lines, sizes=chunk_sizes)
def test_lines_reads_what_line_receiver_writes(payloads, sizes):
    sender = peer(LineOnlyReceiver)
    for payload in payloads:
        sender.sendLine(payload)
    assert received(CRLF, sender.transport.value(), sizes) == payloads


def test_line_sender_writes_one_payload_as_two_lines():
    sender = peer(LineOnlyReceiver)
    sender.sendLine(b"MAIL FROM:<a>\r\nRCPT TO:<b>")
    assert told(peer(LineOnlyReceiver), sender.transport.value()) == [b"MAIL FROM:<a>", b"RCPT TO:<b>"]
    with pytest.raises(EncodeError):
        CRLF.encode(b"MAIL FROM:<a>\r\nRCPT TO:<b>")


def test_line_receiver_and_lines_refuse_a_line_above_the_limit():
    one = peer(LineOnlyReceiver, limit=10)
    assert told(one, b"01234567890\r\n") == []
    assert one.transport.disconnecting
    assert verdict(Lines(newline=b"\r\n", max_frame=10), b"01234567890\r\n") == ([], FrameTooLarge)


def test_line_receiver_refuses_in_two_reads_what_it_takes_in_one():
    # At its limit exactly: it counts the first byte of the delimiter as a byte of the line.
    stream = b"0123456789\r\n"
    whole, cut = peer(LineOnlyReceiver, limit=10), peer(LineOnlyReceiver, limit=10)
    assert told(whole, stream) == [b"0123456789"]
    assert told(cut, stream, [11]) == []
    assert cut.transport.disconnecting
    framer = Lines(newline=b"\r\n", max_frame=10)
    assert verdict(framer, stream) == verdict(framer, stream, [11]) == ([b"0123456789"], None)
    assert verdict(framer, b"x" + stream, [11])[1] is FrameTooLarge
