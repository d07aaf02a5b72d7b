"""Judges `COBS`, `SLIP` and `HDLC` by cobs, sliplib, OpenThread's pyspinel (RFC 1662 with FCS-16) and crcmod."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import Any

import crcmod.predefined
import pytest
import sliplib
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st
from spinel.hdlc import Hdlc

from framing import COBS, HDLC, SLIP, CorruptFrame, EncodeError, FrameTooLarge, TruncatedFrame

from .feeding import chunk_sizes, chunked, growth, judged, received, verdict

FCS16 = crcmod.predefined.mkCrcFun("x-25")
FCS32 = crcmod.predefined.mkCrcFun("crc-32")
# Bytes that mean something to one of the three, often; long runs without a zero are where COBS has its edges.
special = st.lists(
    st.sampled_from([b"\0", b"\1", b"\xff", b"\xc0", b"\xdb", b"\xdc", b"\xdd", b"\x7e", b"\x7d", b"\x5e", b"ab"])
).map(b"".join)
contents = st.binary(max_size=300) | special | st.integers(250, 520).map(lambda size: b"x" * size)


def every(alphabet: bytes, most: int) -> list[bytes]:
    """Every string of 1 to ``most`` bytes of the alphabet: where one escape can be taken for another, one of them shows it."""
    return [bytes(one) for size in range(1, most + 1) for one in itertools.product(alphabet, repeat=size)]


# --- COBS


@judged
@given(payload=contents)
def test_cobs_reads_what_our_cobs_writes(payload):
    frame = COBS().encode(payload)
    assert cobs.decode(frame[:-1]) == payload
    assert frame == cobs.encode(payload) + b"\0"


@judged
@given(payloads=st.lists(contents, max_size=6), sizes=chunk_sizes)
def test_our_cobs_reads_what_cobs_writes(payloads, sizes):
    stream = b"".join(cobs.encode(payload) + b"\0" for payload in payloads)
    assert received(COBS(), stream, sizes) == payloads


@judged
@given(body=st.lists(st.integers(1, 6) | st.integers(1, 255), min_size=1, max_size=300).map(bytes))
def test_cobs_and_our_cobs_agree_on_hostile_bodies(body):
    try:
        theirs: Any = ([cobs.decode(body)], None)
    except cobs.DecodeError:
        theirs = ([], CorruptFrame)
    assert verdict(COBS(), body + b"\0") == theirs


def test_cobs_and_our_cobs_agree_on_every_short_body():
    for body in every(b"\1\2\3a", 5):
        try:
            theirs: Any = ([cobs.decode(body)], None)
        except cobs.DecodeError:
            theirs = ([], CorruptFrame)
        assert verdict(COBS(), body + b"\0") == theirs


@pytest.mark.parametrize("last", [b"", b"\x01"])
def test_both_read_both_spellings_of_a_last_full_block(last):
    body = b"\xff" + b"x" * 254 + last
    assert cobs.decode(body) == b"x" * 254
    assert received(COBS(), body + b"\0") == [b"x" * 254]


@pytest.mark.parametrize("size", range(252, 257))
@pytest.mark.parametrize("tail", [b"", b"\0", b"\0\0", b"\0a"])
def test_both_write_the_same_around_the_edge_of_a_block(size, tail):
    payload = b"\xff" * size + tail
    assert COBS().encode(payload) == cobs.encode(payload) + b"\0"


# --- SLIP


def slip_read(stream: bytes, sizes: Sequence[int] = (1 << 30,)) -> list[bytes]:
    driver = sliplib.Driver()
    for chunk in chunked(stream, sizes):
        driver.receive(chunk)
    messages = []
    while (message := driver.get(block=False)) is not None:
        messages.append(message)
    return messages


@judged
@given(payloads=st.lists(contents.filter(len), max_size=6), sizes=chunk_sizes)
def test_sliplib_reads_what_slip_writes(payloads, sizes):
    assert slip_read(SLIP().encode_many(payloads), sizes) == payloads


@pytest.mark.parametrize("leading", [False, True])
@judged
@given(payloads=st.lists(contents.filter(len), max_size=6), sizes=chunk_sizes)
def test_slip_reads_what_sliplib_writes(leading, payloads, sizes):
    with sliplib.use_leading_end_byte(leading):
        driver = sliplib.Driver()
    stream = b"".join(driver.send(payload) for payload in payloads)
    assert received(SLIP(), stream, sizes) == payloads
    if leading:
        assert stream == SLIP().encode_many(payloads)


@judged
@given(body=special.map(lambda body: body.replace(b"\xc0", b"")).filter(len))
def test_sliplib_and_slip_agree_on_hostile_bodies(body):
    try:
        theirs: Any = ([sliplib.decode(body)], None)
    except sliplib.ProtocolError:
        theirs = ([], CorruptFrame)
    assert verdict(SLIP(), body + b"\xc0") == theirs


def test_sliplib_and_slip_agree_on_every_short_body_and_payload():
    for body in every(b"\xdb\xdc\xdda", 5):
        try:
            theirs: Any = ([sliplib.decode(body)], None)
        except sliplib.ProtocolError:
            theirs = ([], CorruptFrame)
        assert verdict(SLIP(), body + b"\xc0") == theirs
    for payload in every(b"\xc0\xdb\xdc\xdda", 4):
        assert SLIP().encode(payload) == b"\xc0" + sliplib.encode(payload) + b"\xc0"


def test_sliplib_loses_an_empty_payload_that_slip_refuses():
    driver = sliplib.Driver()
    assert slip_read(driver.send(b"") + driver.send(b"a")) == [b"a"]
    with pytest.raises(EncodeError):
        SLIP().encode(b"")


def test_sliplib_takes_half_a_frame_for_a_whole_one_at_the_end():
    driver = sliplib.Driver()
    driver.receive(b"\xc0whole\xc0hal")
    driver.receive(b"")  # how it is told of EOF
    assert [driver.get(block=False), driver.get(block=False)] == [b"whole", b"hal"]
    assert verdict(SLIP(), b"\xc0whole\xc0hal") == ([b"whole"], TruncatedFrame)


def test_sliplib_has_no_limit():
    driver = sliplib.Driver()
    driver.receive(bytes((1 << 20) + 1))
    assert len(driver._recv_buffer) == (1 << 20) + 1
    assert verdict(SLIP(), bytes((1 << 21) + 1)) == ([], FrameTooLarge)


def test_sliplib_copies_the_square_of_a_frame_that_comes_in_pieces():
    assert growth(lambda data: sliplib.Driver().receive, bytes, 1 << 16, 1 << 10) > 3.8


# --- HDLC


class Line:
    """A serial line, as pyspinel reads one: a byte a call; what was not read is in ``rest``."""

    def __init__(self, stream: bytes) -> None:
        self.rest = list(stream)

    def read(self) -> int:
        return self.rest.pop(0)


def spinel_read(stream: bytes) -> list[bytes | None]:
    """The packets that pyspinel finds before the line falls silent; None for one that it refused."""
    reader, packets = Hdlc(Line(stream)), []
    while True:
        try:
            packets.append(reader.collect())
        except IndexError:
            return packets


@judged
@given(payloads=st.lists(contents.filter(len), max_size=6))
def test_pyspinel_reads_what_hdlc_writes(payloads):
    assert spinel_read(HDLC().encode_many(payloads)) == payloads


@judged
@given(payloads=st.lists(contents, max_size=6), sizes=chunk_sizes)
def test_hdlc_reads_what_pyspinel_writes(payloads, sizes):
    stream = b"".join(Hdlc(None).encode(payload) for payload in payloads)
    assert received(HDLC(), stream, sizes) == payloads
    assert stream == HDLC().encode_many(payloads)


@judged
@given(
    body=st.lists(st.sampled_from([b"\x7d\x5e", b"\x7d\x5d", b"\x7d\x31", b"a", b"\x11", b"\xff\x03"])).map(b"".join),
    wrong=st.booleans(),
)
def test_pyspinel_and_hdlc_agree_on_hostile_bodies(body, wrong):
    clear = bytearray()
    escaped = False
    for byte in body:
        if byte == 0x7D:
            escaped = True
        else:
            clear.append(byte ^ 0x20 if escaped else byte)
            escaped = False
    check = struct.pack("<H", FCS16(bytes(clear)) ^ wrong)
    check = check.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    stream = b"\x7e" + body + check + b"\x7e"
    ours = verdict(HDLC(), stream)
    assert spinel_read(stream) == [None if wrong else bytes(clear)]
    assert ours == (([], CorruptFrame) if wrong else ([bytes(clear)], None))


def test_pyspinel_and_hdlc_agree_on_every_short_payload():
    payloads = every(b"\x7e\x7d\x5e\x5da", 4)
    stream = HDLC().encode_many(payloads)
    assert stream == b"".join(Hdlc(None).encode(payload) for payload in payloads)
    assert spinel_read(stream) == payloads
    assert received(HDLC(), stream, [13]) == payloads


def test_pyspinel_loses_every_second_frame_where_frames_share_a_flag():
    # RFC 1662, section 3.1: "only one Flag Sequence is required between two frames".
    one, two, three = (HDLC().encode(payload) for payload in (b"one", b"two", b"three"))
    shared = one + two[1:] + three[1:]
    assert spinel_read(shared) == [b"one", b"three"]
    assert received(HDLC(), shared) == [b"one", b"two", b"three"]


def test_pyspinel_reads_over_the_abort_and_loses_the_frame_behind_it():
    # RFC 1662, section 4.3: an escape and a flag abort the frame. It takes the flag for an escaped byte of data.
    stream = b"\x7eab\x7d\x7e" + HDLC().encode(b"next")
    assert spinel_read(stream) == [None]
    assert verdict(HDLC(), stream) == ([], CorruptFrame)
    assert received(HDLC(on_corrupt="skip"), stream) == [b"next"]


@judged
@given(payload=contents)
def test_hdlc_carries_the_check_sequences_of_crcmod(payload):
    for width, check in ((16, struct.pack("<H", FCS16(payload))), (32, struct.pack("<I", FCS32(payload)))):
        body = (payload + check).replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
        framer = HDLC(fcs=width)
        assert framer.encode(payload) == b"\x7e" + body + b"\x7e"
        assert received(framer, b"\x7e" + body + b"\x7e") == [payload]


@judged
@given(payload=st.binary(min_size=1, max_size=40), bit=st.integers(0, 7), data=st.data())
def test_hdlc_refuses_a_single_flipped_bit(payload, bit, data):
    for width in (16, 32):
        frame = bytearray(HDLC(fcs=width).encode(payload))
        at = data.draw(st.integers(1, len(frame) - 2))
        frame[at] ^= 1 << bit
        payloads, _ = verdict(HDLC(fcs=width, on_corrupt="skip"), bytes(frame))
        assert payloads == []
