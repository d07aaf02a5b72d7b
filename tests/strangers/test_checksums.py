"""Checksums against libraries that nobody here wrote."""

from __future__ import annotations

import crcmod.predefined
import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.layers import CHECKSUMS

CRCMOD = {
    "crc32": "crc-32",
    "crc32c": "crc-32c",
    "crc16-xmodem": "xmodem",
    "crc16-ccitt-false": "crc-ccitt-false",
    "crc16-x25": "x-25",
    "crc16-kermit": "kermit",
    "crc16-modbus": "modbus",
}


@pytest.mark.parametrize("name", sorted(CRCMOD))
def test_crcmod_agrees(name):
    theirs = crcmod.predefined.mkPredefinedCrcFun(CRCMOD[name])

    @given(st.binary(max_size=200))
    def agrees(payload):
        assert CHECKSUMS[name][0](payload) == theirs(payload)

    agrees()


@given(st.binary(max_size=500))
def test_google_crc32c_agrees(payload):
    assert CHECKSUMS["crc32c"][0](payload) == google_crc32c.value(payload)
