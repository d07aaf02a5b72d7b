"""StructHeader: headers declared with construct, plain and varying."""

from __future__ import annotations

from contextlib import suppress

import construct as c
import pytest
from construct import this

from framing import CorruptFrame, EncodeError, FrameTooLarge, StructHeader, TruncatedFrame

PLAIN = StructHeader(c.Struct("kind" / c.Byte, "length" / c.Int16ub), size=this.length)
WHOLE = StructHeader(c.Struct("length" / c.Int32ub), size=this.length - 4)
MAGIC = StructHeader(c.Struct("magic" / c.Const(b"\xca\xfe"), "length" / c.Int32ul), size=this.length)
VARYING = StructHeader(
    c.Struct("flags" / c.Byte, "length" / c.IfThenElse(this.flags & 1, c.Int64ub, c.Int8ub)), size=this.length
)
TEXT = StructHeader(
    c.Struct("length" / c.NullTerminated(c.GreedyString("ascii"))), size=lambda header: int(header.length), max_header=8
)


@pytest.mark.parametrize(
    ("framer", "frame"),
    [
        (PLAIN, b"\x01\x00\x03abc"),
        (PLAIN, b"\x01\x00\x00"),
        (WHOLE, b"\x00\x00\x00\x07abc"),
        (MAGIC, b"\xca\xfe\x03\x00\x00\x00abc"),
        (VARYING, b"\x00\x03abc"),
        (VARYING, b"\x01\x00\x00\x00\x00\x00\x00\x00\x03abc"),
    ],
)
def test_the_frame_is_delivered_and_sent_whole(framer: StructHeader, frame: bytes):
    assert framer.encode(frame) == frame
    decoder = framer.decoder()
    assert [one for at in range(len(frame)) for one in decoder.feed(frame[at : at + 1])] == [frame]
    assert framer.decoder().feed(frame * 3) == [frame] * 3


def test_the_header_can_be_unpacked_from_the_frame():
    header, body = VARYING.unpack(b"\x00\x03abc")
    assert (header.flags, header.length, body) == (0, 3, b"abc")
    with pytest.raises(CorruptFrame):
        VARYING.unpack(b"\x01\x00")


@pytest.mark.parametrize(
    ("framer", "stream"),
    [
        (WHOLE, b"\x00\x00\x00\x03"),
        (MAGIC, b"\xca\xff\x03\x00\x00\x00"),
        (TEXT, b"123456789"),
        (TEXT, b"abc\x00"),
        (TEXT, b"-3\x00"),
        (TEXT, b"\xff\x00"),
        (StructHeader(c.Struct("length" / c.GreedyBytes), size=this.length), b"a"),
        (StructHeader(c.Struct("a" / c.Byte), size=this.missing), b"a"),
        (StructHeader(c.Struct("a" / c.Byte), size=1 / this.a), b"\x00"),
    ],
)
def test_a_header_that_says_nothing_sensible_is_corrupt(framer: StructHeader, stream: bytes):
    with pytest.raises(CorruptFrame):
        framer.decoder().feed(stream)
    for cut in range(1, len(stream)):
        decoder = framer.decoder()
        with suppress(CorruptFrame):
            decoder.feed(stream[:cut])
        with pytest.raises(CorruptFrame):
            decoder.feed(stream[cut:])


def test_the_limit_counts_the_whole_frame():
    framer = StructHeader(PLAIN.declaration, size=this.length, max_frame=5)
    assert framer.decoder().feed(b"\x01\x00\x02ab") == [b"\x01\x00\x02ab"]
    with pytest.raises(FrameTooLarge) as raised:
        framer.decoder().feed(b"\x01\x00\x03")
    assert (raised.value.expected, raised.value.got) == (5, 6)


@pytest.mark.parametrize("at", range(1, 12))
def test_eof_in_header_or_body_is_truncated(at: int):
    decoder = VARYING.decoder()
    decoder.feed(b"\x01\x00\x00\x00\x00\x00\x00\x00\x03abc"[:at])
    with pytest.raises(TruncatedFrame):
        decoder.feed_eof()


@pytest.mark.parametrize("frame", [b"", b"\x01", b"\x01\x00\x03ab", b"\x01\x00\x03abcd"])
def test_a_frame_whose_header_disagrees_with_its_size_is_not_sent(frame: bytes):
    with pytest.raises(EncodeError):
        PLAIN.encode(frame)
    with pytest.raises(EncodeError):
        MAGIC.encode(b"\xca\xff\x03\x00\x00\x00abc")


def test_equal_declarations_make_equal_framers():
    again = StructHeader(c.Struct("kind" / c.Byte, "length" / c.Int16ub), size=this.length)
    assert again == PLAIN
    assert hash(again) == hash(PLAIN)
    assert again != StructHeader(c.Struct("kind" / c.Byte, "length" / c.Int16ul), size=this.length)
    assert again != StructHeader(PLAIN.declaration, size=this.length, max_header=100)
    assert again != 5


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: StructHeader(b"x", size=this.a), TypeError, "construct"),
        (lambda: StructHeader(c.Byte, size=4), TypeError, "size"),
        (lambda: StructHeader(c.Byte, size=this.a, max_header=0), ValueError, "max_header"),
        (lambda: StructHeader(c.Byte, size=this.a, max_header=1 << 17), ValueError, "max_header"),
    ],
)
def test_an_option_that_cannot_be_is_named(make, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        make()
