"""Frame check sequences and stuffing, against slow definitions written from the specifications."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from framing.kernels import fcs, stuff_cobs, stuff_hdlc, stuff_slip


def slow_crc(data: bytes, width: int, polynomial: int) -> int:
    """RFC 1662, appendix C, bit by bit: least significant bit first, ones before, inverted behind."""
    crc = (1 << width) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ polynomial if crc & 1 else crc >> 1
    return crc ^ ((1 << width) - 1)


@pytest.mark.parametrize(("width", "check"), [(16, 0x906E), (32, 0xCBF43926)])
def test_the_check_value_of_123456789(width: int, check: int):
    assert fcs(width, b"123456789") == check.to_bytes(width // 8, "little")


@given(st.binary(max_size=60))
def test_a_check_sequence_is_that_of_its_definition(data: bytes):
    assert fcs(16, data) == slow_crc(data, 16, 0x8408).to_bytes(2, "little")
    assert fcs(32, data) == slow_crc(data, 32, 0xEDB88320).to_bytes(4, "little")
    assert fcs(0, data) == b""


@given(st.lists(st.binary(max_size=3) | st.just(b"a" * 254) | st.just(b"a" * 253), max_size=5).map(b"\0".join))
@example(b"a" * 254)
@example(b"a" * 508 + b"\0")
def test_cobs_has_no_zero_and_is_no_longer_than_it_may_be(payload: bytes):
    stuffed = stuff_cobs(payload)
    assert 0 not in stuffed
    assert len(stuffed) <= len(payload) + len(payload) // 254 + 1


@given(st.lists(st.sampled_from([b"\xc0", b"\xdb", b"\xdc", b"\xdd", b"\x7e", b"\x7d", b"\x5e", b"a"])).map(b"".join))
def test_slip_and_hdlc_escape_their_two_bytes_and_no_others(payload: bytes):
    slip, hdlc = stuff_slip(payload), stuff_hdlc(0, payload)
    assert 0xC0 not in slip
    assert 0x7E not in hdlc
    assert len(slip) == len(payload) + payload.count(b"\xc0") + payload.count(b"\xdb")
    assert len(hdlc) == len(payload) + payload.count(b"\x7e") + payload.count(b"\x7d")
