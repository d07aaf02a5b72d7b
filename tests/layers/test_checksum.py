"""Checksum: the catalogue's check values, every damaged byte, wrong names."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.errors import DecodeError
from framing.layers import CHECKSUMS, Checksum, Layer

CHECKS = {
    "crc32": 0xCBF43926,
    "crc32c": 0xE3069283,
    "adler32": 0x091E01DE,
    "crc16-xmodem": 0x31C3,
    "crc16-ccitt-false": 0x29B1,
    "crc16-x25": 0x906E,
    "crc16-kermit": 0x2189,
    "crc16-modbus": 0x4B37,
}


def test_every_checksum_has_a_check_value_here():
    assert set(CHECKS) == set(CHECKSUMS)


@pytest.mark.parametrize(("name", "value"), CHECKS.items())
def test_check_values_of_the_catalogue(name, value):
    width = 2 if name.startswith("crc16") else 4
    assert Checksum(name).encode(b"123456789") == b"123456789" + value.to_bytes(width, "big")
    assert Checksum(name, byteorder="little").encode(b"123456789") == b"123456789" + value.to_bytes(width, "little")


@given(st.sampled_from(sorted(CHECKS)), st.sampled_from(["big", "little"]), st.binary(max_size=300))
def test_round_trip(name, byteorder, payload):
    layer = Checksum(name, byteorder=byteorder)
    assert layer.decode(layer.encode(payload), len(payload)) == payload


@pytest.mark.parametrize("name", CHECKS)
def test_every_changed_bit_is_found(name):
    layer = Checksum(name)
    good = layer.encode(b"hello, world")
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError) as caught:
            layer.decode(bytes(bad), 100)
        assert caught.value.expected != caught.value.got
        assert caught.value.offset is None


@pytest.mark.parametrize("name", CHECKS)
def test_a_payload_shorter_than_its_checksum_is_refused(name):
    width = len(Checksum(name).encode(b""))
    with pytest.raises(DecodeError, match="shorter") as caught:
        Checksum(name).decode(bytes(width - 1), 100)
    assert (caught.value.expected, caught.value.got) == (width, width - 1)


def test_a_checksum_in_the_other_byte_order_is_named():
    with pytest.raises(DecodeError, match='byteorder="big"'):
        Checksum("crc32", byteorder="little").decode(Checksum("crc32").encode(b"x"), 100)


def test_output_above_max_size_is_refused():
    layer = Checksum("crc32")
    assert layer.decode(layer.encode(b"four"), 4) == b"four"
    with pytest.raises(DecodeError, match="max_frame=3"):
        layer.decode(layer.encode(b"four"), 3)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("crc23", "crc32"), ("CRC32C", "crc32c"), ("crc16_modbus", "crc16-modbus"), ("adler", "adler32")],
)
def test_an_unknown_name_is_told_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
        Checksum(name)


def test_wrong_options():
    with pytest.raises(ValueError, match="no checksum is named"):
        Checksum(None)
    with pytest.raises(ValueError, match="byteorder"):
        Checksum("crc32", byteorder="middle")


def test_it_is_a_value():
    assert Checksum("crc32") == Checksum("crc32", byteorder="big") != Checksum("crc32", byteorder="little")
    assert len({Checksum("crc32"), Checksum("crc32"), Checksum("crc32c")}) == 2
    assert pickle.loads(pickle.dumps(Checksum("crc32"))) == Checksum("crc32")


def test_a_layer_without_methods_says_so():
    with pytest.raises(NotImplementedError, match="encode"):
        Layer().encode(b"")
    with pytest.raises(NotImplementedError, match="decode"):
        Layer().decode(b"", 1)
