"""Lengths in binary: vectors, and each thing that can be wrong with one."""

from __future__ import annotations

import pytest

from framing import (
    CorruptFrame,
    EncodeError,
    FixedSize,
    Framer,
    FrameTooLarge,
    LengthField,
    LengthPrefixed,
    RecordMarked,
    TruncatedFrame,
    VarintPrefixed,
    Violation,
)

VECTORS = [
    (LengthPrefixed(1), b"abc", "03 616263"),
    (LengthPrefixed(2), b"abc", "0003 616263"),
    (LengthPrefixed(2, "little"), b"abc", "0300 616263"),
    (LengthPrefixed(3), b"abc", "000003 616263"),
    (LengthPrefixed(3, "little"), b"abc", "030000 616263"),
    (LengthPrefixed(4), b"", "00000000"),
    (LengthPrefixed(4, counts="frame"), b"abc", "00000007 616263"),
    (LengthPrefixed(8), b"a", "0000000000000001 61"),
    # protobuf, Encoding, "Base 128 Varints": 150 is 96 01.
    (VarintPrefixed(), b"a" * 150, "9601" + "61" * 150),
    (VarintPrefixed(), b"a" * 127, "7f" + "61" * 127),
    (VarintPrefixed(), b"a" * 128, "8001" + "61" * 128),
    (VarintPrefixed(), b"", "00"),
    # RFC 1006, section 6: version 3, reserved 0, the length of the whole packet.
    (LengthField(2, offset=2, adjust=-4, prefix=b"\x03\x00"), b"\x03\x00\x00\x07abc", "03000007 616263"),
    # AMQP 0-9-1, section 4.2.3: a heartbeat; the end octet is CE.
    (LengthField(4, offset=3, adjust=1, trailer=b"\xce"), bytes.fromhex("08000000000000ce"), "08000000000000ce"),
    # MQTT 3.1.1, section 2.2.3: PINGREQ, C0 00.
    (LengthField("varint", offset=1), b"\xc0\x00", "c000"),
    (FixedSize(3), b"abc", "616263"),
    # RFC 5531, section 11: the high bit marks the last fragment.
    (RecordMarked(), b"abc", "80000003 616263"),
    (RecordMarked(), b"", "80000000"),
]


@pytest.mark.parametrize(("framer", "payload", "frame"), VECTORS)
def test_vectors(framer: Framer, payload: bytes, frame: str):
    assert framer.encode(payload) == bytes.fromhex(frame)
    assert framer.decoder().feed(bytes.fromhex(frame)) == [payload]


# Framer, stream, error, expected, got.
BAD = [
    (LengthPrefixed(4), "00100001", FrameTooLarge, 1 << 20, (1 << 20) + 1),
    (LengthPrefixed(4), "7fffffff", FrameTooLarge, 1 << 20, (1 << 31) - 1),
    (LengthPrefixed(4), "ffffffff", FrameTooLarge, 1 << 20, (1 << 32) - 1),
    (LengthPrefixed(8), "ffffffffffffffff", FrameTooLarge, 1 << 20, (1 << 64) - 1),
    (LengthPrefixed(4, counts="frame"), "00000003", CorruptFrame, 4, 3),
    (LengthPrefixed(4, counts="frame"), "00000000", CorruptFrame, 4, 0),
    (LengthPrefixed(2, min_frame=12), "000b", CorruptFrame, 12, 11),
    (VarintPrefixed(max_frame=300), "ad02", FrameTooLarge, 300, 301),
    (VarintPrefixed(max_frame=300), "ffff", FrameTooLarge, 300, 1 << 14),
    (VarintPrefixed(), "8000", CorruptFrame, None, None),
    (VarintPrefixed(), "ffff00", CorruptFrame, None, None),
    (VarintPrefixed(min_frame=2), "01", CorruptFrame, 2, 1),
    (LengthField(2, offset=2, adjust=-4, prefix=b"\x03\x00"), "0400", CorruptFrame, 3, 4),
    (LengthField(2, offset=2, adjust=-4, prefix=b"\x03\x00"), "0301", CorruptFrame, 0, 1),
    (LengthField(2, offset=2, adjust=-4, prefix=b"\x03\x00"), "03000003", CorruptFrame, 4, 3),
    (LengthField(4, offset=1, adjust=-4, max_frame=100), "5a00000064", FrameTooLarge, 100, 101),
    (LengthField(4, offset=3, adjust=1, trailer=b"\xce"), "08000000000000cd", CorruptFrame, None, None),
    (LengthField("varint", offset=1, max_frame=400), "c0ffff", FrameTooLarge, 400, 1 << 14),
    (LengthField("varint", offset=1), "c08000", CorruptFrame, None, None),
    (LengthField(1, min_frame=5), "03616263", CorruptFrame, 4, 3),
    (RecordMarked(max_frame=10), "8000000b", FrameTooLarge, 10, 11),
    (RecordMarked(max_frame=10), "00000006616263646566 80000005", FrameTooLarge, 10, 11),
    (RecordMarked(max_fragments=2), "00000000 00000000 80000000", CorruptFrame, 2, 3),
]


@pytest.mark.parametrize(("framer", "stream", "error", "expected", "got"), BAD)
def test_a_bad_header_is_refused_with_its_numbers(
    framer: Framer, stream: str, error: type[Violation], expected: int | None, got: int | None
):
    good = next(payload for one, payload, _ in VECTORS if type(one) is type(framer))
    before = b""
    try:
        before = framer.encode(good)
    except EncodeError:
        good = b""
    decoder = framer.decoder()
    try:
        delivered = decoder.feed(before + bytes.fromhex(stream))
    except error:
        delivered = []
    assert delivered == ([good] if before else [])
    assert type(decoder.error) is error
    assert (decoder.error.offset, decoder.error.expected, decoder.error.got) == (len(before), expected, got)


REFUSED = [
    (LengthPrefixed(1), bytes(256)),
    (LengthPrefixed(2), bytes(65536)),
    (LengthPrefixed(1, counts="frame"), bytes(255)),
    (LengthPrefixed(2, min_frame=2), b"a"),
    (VarintPrefixed(min_frame=2), b"a"),
    (LengthField(2), b""),
    (LengthField(2), b"\0"),
    (LengthField(2), b"\0\2a"),
    (LengthField(2), b"\0\1ab"),
    (LengthField(2, offset=2, prefix=b"\3\0"), b"\3\1\0\0"),
    (LengthField(1, trailer=b"!"), b"\1?"),
    (LengthField(1, trailer=b"!"), b"\0"),
    (LengthField("varint"), b"\x81\x00a"),
    (LengthField(1, min_frame=3), b"\1a"),
    (FixedSize(3), b"ab"),
    (FixedSize(3), b"abcd"),
    (FixedSize(3), b""),
]


@pytest.mark.parametrize(("framer", "payload"), REFUSED)
def test_a_payload_that_would_not_come_out_is_refused(framer: Framer, payload: bytes):
    with pytest.raises(EncodeError):
        framer.encode(payload)


def test_a_field_that_is_full_still_holds_its_most():
    for framer, most in (
        (LengthPrefixed(1), 255),
        (LengthPrefixed(1, counts="frame"), 254),
        (LengthPrefixed(2), 65535),
    ):
        assert framer.decoder().feed(framer.encode(bytes(most))) == [bytes(most)]


def test_a_prefix_that_is_wrong_is_known_at_its_wrong_byte():
    framer = LengthField(2, offset=2, adjust=-4, prefix=b"\x03\x00")
    decoder = framer.decoder()
    assert decoder.feed(b"\x03") == []
    with pytest.raises(CorruptFrame):
        decoder.feed(b"\x01")


def test_records_come_in_fragments_and_are_put_together():
    stream = bytes.fromhex("00000002 6162 00000000 80000001 63 80000001 64")
    decoder = RecordMarked().decoder()
    assert [payload for at in range(len(stream)) for payload in decoder.feed(stream[at : at + 1])] == [b"abc", b"d"]
    assert RecordMarked().decoder().feed(stream) == [b"abc", b"d"]


def test_eof_between_two_fragments_is_inside_a_record():
    decoder = RecordMarked().decoder()
    assert decoder.feed(bytes.fromhex("00000001 61")) == []
    with pytest.raises(TruncatedFrame):
        decoder.feed_eof()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: LengthPrefixed(0), ValueError, "width"),
        (lambda: LengthPrefixed(9), ValueError, "width"),
        (lambda: LengthPrefixed("4"), TypeError, "width"),
        (lambda: LengthPrefixed(True), TypeError, "width"),
        (lambda: LengthPrefixed(4, "network"), ValueError, "byteorder"),
        (lambda: LengthPrefixed(4, counts="header"), ValueError, "counts"),
        (lambda: LengthPrefixed(4, min_frame=-1), ValueError, "min_frame"),
        (lambda: LengthPrefixed(4, min_frame=11, max_frame=10), ValueError, "min_frame"),
        (lambda: VarintPrefixed(min_frame=11, max_frame=10), ValueError, "min_frame"),
        (lambda: LengthField(0), ValueError, "width"),
        (lambda: LengthField("leb128"), TypeError, "width"),
        (lambda: LengthField(2, offset=256), ValueError, "offset"),
        (lambda: LengthField(2, offset=-1), ValueError, "offset"),
        (lambda: LengthField(2, adjust=1 << 32), ValueError, "adjust"),
        (lambda: LengthField(2, prefix=b"ab", offset=1), ValueError, "prefix"),
        (lambda: LengthField(2, trailer="x"), EncodeError, "bytes"),
        (lambda: FixedSize(0), ValueError, "size"),
        (lambda: FixedSize(11, max_frame=10), ValueError, "size"),
        (lambda: RecordMarked(max_frame=1 << 31), ValueError, "max_frame"),
        (lambda: RecordMarked(max_fragments=0), ValueError, "max_fragments"),
    ],
)
def test_an_option_that_cannot_be_is_named(make, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        make()


def test_a_varint_that_counts_more_than_the_frame_may_have_is_read() -> None:
    framer = LengthField("varint", adjust=-10, max_frame=127)
    frame = b"\x80\x01" + b"x" * 118
    assert framer.decoder().feed(framer.encode(frame)) == [frame]
