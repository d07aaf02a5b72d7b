"""Varints: LEB128 as protobuf writes it, in as few bytes as there can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.kernels import read_varint, varint_size, write_varint
from framing.kernels.contract import CORRUPT, TOO_LARGE

# protobuf, Encoding; MQTT 3.1.1, table 2.4.
VECTORS = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "8001"),
    (150, "9601"),
    (16383, "ff7f"),
    (16384, "808001"),
    (2097151, "ffff7f"),
    (268435455, "ffffff7f"),
    ((1 << 64) - 1, "ffffffffffffffffff01"),
]


@pytest.mark.parametrize(("value", "written"), VECTORS)
def test_vectors(value: int, written: str):
    assert write_varint(value) == bytes.fromhex(written)
    assert read_varint(bytes.fromhex("aa" + written + "aa"), 1, 10) == (value, 1 + len(written) // 2)
    assert varint_size(value) == len(written) // 2


@given(st.integers(0, 1 << 70))
def test_what_is_written_is_read(value: int):
    written = write_varint(value)
    assert read_varint(written, 0, len(written)) == (value, len(written))
    assert varint_size(value) == len(written)
    for size in range(len(written)):
        assert read_varint(written[:size], 0, len(written)) is None


@pytest.mark.parametrize("written", ["8000", "808000", "ffff00"])
def test_a_needless_last_byte_is_corrupt(written: str):
    assert read_varint(bytes.fromhex(written), 0, 10) == CORRUPT


def test_more_bytes_than_the_most_are_too_large_as_soon_as_they_are_there():
    assert read_varint(b"\xff\xff", 0, 3) is None
    assert read_varint(b"\xff\xff\xff", 0, 3) == TOO_LARGE
