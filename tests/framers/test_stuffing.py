"""Byte stuffing: the vectors of the papers and RFCs, bad escapes, aborts, and the way back into the stream."""

from __future__ import annotations

import pytest

from framing import COBS, HDLC, SLIP, CorruptFrame, EncodeError, Framer, FrameTooLarge, TruncatedFrame
from framing.kernels import fcs


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


ALL = bytes(range(1, 255))
COBS_VECTORS = [
    # The examples of the article on COBS in the Wikipedia; the fourth is Cheshire and Baker's own.
    ("00", "01 01 00"),
    ("0000", "01 01 01 00"),
    ("001100", "01 02 11 01 00"),
    ("11220033", "03 11 22 02 33 00"),
    ("11223344", "05 11 22 33 44 00"),
    ("11000000", "02 11 01 01 01 00"),
    (ALL.hex(), "ff" + ALL.hex() + "00"),
    ("00" + ALL.hex(), "01 ff" + ALL.hex() + "00"),
    (ALL.hex() + "ff", "ff" + ALL.hex() + "02 ff 00"),
    ((ALL[1:] + b"\xff\x00").hex(), "ff" + (ALL[1:] + b"\xff").hex() + "01 01 00"),
    ((ALL[2:] + b"\xff\x00\x01").hex(), "fe" + (ALL[2:] + b"\xff").hex() + "02 01 00"),
    ("", "01 00"),
]


@pytest.mark.parametrize(("payload", "frame"), COBS_VECTORS)
def test_cobs_vectors(payload: str, frame: str):
    assert COBS().encode(unhex(payload)) == unhex(frame)
    assert COBS().decoder().feed(unhex(frame)) == [unhex(payload)]


def test_cobs_takes_a_full_last_block_in_its_long_form_too():
    assert COBS().decoder().feed(b"\xff" + ALL + b"\x01\x00") == [ALL]


VECTORS = [
    # RFC 1055: END is C0, ESC DB; DB DC and DB DD stand for them.
    (SLIP(), "01c002db03", "c0 01 dbdc 02 dbdd 03 c0"),
    (SLIP(), "dbdc", "c0 dbdd dc c0"),
    # RFC 1662, sections 4.2 and C.2; the FCS of 123456789 is X-25's 906E, least significant byte first.
    (HDLC(), b"123456789".hex(), "7e 313233343536373839 6e90 7e"),
    (HDLC(fcs=None), "7e007d01", "7e 7d5e 00 7d5d 01 7e"),
    # CRC-32 of 123456789 is CBF43926.
    (HDLC(fcs=32), b"123456789".hex(), "7e 313233343536373839 2639f4cb 7e"),
]


@pytest.mark.parametrize(("framer", "payload", "frame"), VECTORS)
def test_vectors(framer: Framer, payload: str, frame: str):
    assert framer.encode(unhex(payload)) == unhex(frame)
    assert framer.decoder().feed(unhex(frame)) == [unhex(payload)]


def test_a_check_sequence_leaves_the_residue_of_its_rfc():
    # RFC 1662, appendix C: the FCS over payload and FCS is the good value, F0B8 or DEBB20E3, before the last inversion.
    for width, residue in ((16, 0xF0B8), (32, 0xDEBB20E3)):
        body = b"hello" + fcs(width, b"hello")
        assert int.from_bytes(fcs(width, body), "little") ^ ((1 << width) - 1) == residue


@pytest.mark.parametrize(
    ("framer", "stream", "payloads"),
    [
        (SLIP(), "c0c0c0 61 c0c0 62 c0", [b"a", b"b"]),
        (SLIP(), "61c0", [b"a"]),
        (HDLC(fcs=None), "7e7e 61 7e 62 7e7e", [b"a", b"b"]),
        (COBS(), "0000 0261 00 00", [b"a"]),
        # Other bytes than the two that must be escaped may be (RFC 1662, section 4.2).
        (HDLC(fcs=None), "7e 7d41 7d31 7e", [b"a\x11"]),
    ],
)
def test_idle_bytes_and_shared_flags_are_no_frames(framer: Framer, stream: str, payloads: list[bytes]):
    decoder = framer.decoder()
    assert decoder.feed(unhex(stream)) == payloads
    assert decoder.feed_eof() == []


BAD = [
    (SLIP(), "61 db 61 c0", "neither DC nor DD"),
    (SLIP(), "61 db c0", "neither DC nor DD"),
    (SLIP(), "db db dc c0", "neither DC nor DD"),
    (HDLC(), "7e 61 7d 7e", "aborted"),
    (HDLC(), "7e 61 7e", "shorter than"),
    (HDLC(), "7e 313233343536373839 6f90 7e", "does not match"),
    (HDLC(fcs=32), "7e 313233343536373839 2639f4cc 7e", "does not match"),
    (COBS(), "05 11 22 00", "reaches past"),
    (COBS(), "ff 01 00", "reaches past"),
]


@pytest.mark.parametrize(("framer", "stream", "says"), BAD)
def test_a_bad_frame_is_corrupt_and_its_offset_known(framer: Framer, stream: str, says: str):
    good = framer.encode(b"good")
    decoder = framer.decoder()
    assert decoder.feed(good + unhex(stream)) == [b"good"]
    assert isinstance(decoder.error, CorruptFrame)
    assert says in str(decoder.error)
    assert decoder.error.offset == len(good) + unhex(stream).startswith(b"\x7e")


@pytest.mark.parametrize(("framer", "stream", "says"), BAD)
def test_a_bad_frame_is_skipped_where_that_was_asked_for(framer: Framer, stream: str, says: str):
    from dataclasses import replace

    decoder = replace(framer, on_corrupt="skip").decoder()
    good = framer.encode(b"good")
    assert decoder.feed(good + unhex(stream) + good) == [b"good", b"good"]
    assert decoder.skipped == 1


@pytest.mark.parametrize(
    "framer", [COBS(max_frame=3), SLIP(max_frame=3), HDLC(max_frame=3), HDLC(fcs=None, max_frame=3)]
)
@pytest.mark.parametrize("letter", [b"a", b"\xc0", b"\x7e", b"\x00"])
def test_the_limit_counts_payload_bytes_not_stuffed_ones(framer: Framer, letter: bytes):
    from dataclasses import replace

    assert framer.decoder().feed(framer.encode(letter * 3)) == [letter * 3]
    with pytest.raises(FrameTooLarge) as raised:
        framer.decoder().feed(replace(framer, max_frame=4).encode(letter * 4))
    assert raised.value.expected == 3


@pytest.mark.parametrize("stream", ["c061", "61", "c0 61 c0 62"])
def test_eof_in_a_stuffed_frame_is_truncated(stream: str):
    decoder = SLIP().decoder()
    decoder.feed(unhex(stream))
    with pytest.raises(TruncatedFrame):
        decoder.feed_eof()


@pytest.mark.parametrize("framer", [SLIP(), HDLC(fcs=None)])
def test_a_frame_that_its_receivers_ignore_is_not_sent(framer: Framer):
    with pytest.raises(EncodeError, match="empty"):
        framer.encode(b"")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: COBS(on_corrupt="drop"), "on_corrupt"),
        (lambda: SLIP(on_corrupt="drop"), "on_corrupt"),
        (lambda: HDLC(on_corrupt="drop"), "on_corrupt"),
        (lambda: HDLC(fcs=8), "fcs"),
    ],
)
def test_an_option_that_cannot_be_is_named(make, says: str):
    with pytest.raises(ValueError, match=says):
        make()
