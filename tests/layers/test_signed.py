"""Signed: RFC 4231's vector, wrong keys, keys that must not show."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.errors import DecodeError
from framing.layers import Signed

KEY = bytes(range(32))


def test_vector_of_rfc_4231_case_1():
    signature = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert Signed(b"\x0b" * 20).encode(b"Hi There") == b"Hi There" + bytes.fromhex(signature)


@given(st.binary(min_size=16, max_size=80), st.binary(max_size=200))
def test_round_trip(key, payload):
    assert Signed(key).decode(Signed(key).encode(payload), len(payload)) == payload


def test_every_changed_byte_is_found():
    good = Signed(KEY).encode(b"hello")
    for index in range(len(good)):
        bad = bytearray(good)
        bad[index] ^= 1
        with pytest.raises(DecodeError, match="signature is wrong"):
            Signed(KEY).decode(bytes(bad), 100)


def test_another_key_is_found():
    with pytest.raises(DecodeError, match="another key"):
        Signed(KEY).decode(Signed(KEY[::-1]).encode(b"hello"), 100)


def test_short_and_long_payloads():
    with pytest.raises(DecodeError, match="shorter") as caught:
        Signed(KEY).decode(bytes(31), 100)
    assert (caught.value.expected, caught.value.got) == (32, 31)
    with pytest.raises(DecodeError, match="max_frame=4"):
        Signed(KEY).decode(Signed(KEY).encode(b"hello"), 4)


def test_bad_keys():
    with pytest.raises(ValueError, match="can be guessed"):
        Signed(bytes(15))
    with pytest.raises(TypeError, match="key is bytes"):
        Signed("a key of sixteen characters")


def test_the_key_does_not_show_and_the_error_does_not_tell():
    assert repr(KEY)[2:10] not in repr(Signed(KEY))
    with pytest.raises(DecodeError) as caught:
        Signed(KEY).decode(bytes(40), 100)
    assert caught.value.expected is None
    assert caught.value.got is None


def test_it_is_a_value():
    assert Signed(KEY) == Signed(KEY) != Signed(KEY[::-1])
    assert len({Signed(KEY), Signed(KEY)}) == 1
    assert pickle.loads(pickle.dumps(Signed(KEY))) == Signed(KEY)
