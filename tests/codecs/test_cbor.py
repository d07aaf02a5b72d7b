"""CBOR: what is its own, beside what `test_formats` asks of every format."""

from __future__ import annotations

import builtins
import datetime as dt
import decimal
import math
import pickle
import uuid
from typing import Any

import cbor2
import pytest

from framing.codecs import CBOR
from framing.codecs.cbor import _MEANINGS
from framing.errors import DecodeError, EncodeError
from tests.codecs.formats import NAN


def tagged(tag, content):
    head = bytes([0xC0 + tag]) if tag < 24 else bytes([0xD8, tag]) if tag < 256 else b"\xd9" + tag.to_bytes(2, "big")
    return head + content


def test_every_tag_that_is_not_allowed_is_refused():
    refused = 0
    for tag in range(1 << 16):
        if tag not in CBOR().tags:
            with pytest.raises(DecodeError, match=r"tag|sound"):
                CBOR().decode(tagged(tag, b"\x61a"))
            refused += 1
    assert refused == (1 << 16) - len(CBOR().tags)


def test_the_tags_that_cbor2_gives_a_meaning_are_known():
    class UnknownError(Exception):
        pass

    def hook(_tag, _immutable):
        raise UnknownError

    for tag in range(1 << 16):
        known = False
        for content in (b"\x61a", b"\x80"):
            try:
                cbor2.loads(tagged(tag, content), tag_hook=hook)
                known = True
            except Exception as error:
                known = known or not isinstance(error.__cause__, UnknownError)
        assert known == (tag in _MEANINGS), tag


def test_tags_may_be_added_and_some_never():
    codec = CBOR(tags={200, 35})
    assert codec.decode(tagged(200, b"\x01")) == cbor2.CBORTag(200, 1)
    assert codec.decode(codec.encode(cbor2.CBORTag(200, [1]))) == cbor2.CBORTag(200, (1,))
    assert codec.decode(bytes.fromhex("d8236161")).pattern == "a"
    with pytest.raises(DecodeError, match="tag 4"):
        codec.decode(CBOR().encode(decimal.Decimal("1.5")))
    with pytest.raises(EncodeError, match="tag 4"):
        codec.encode(decimal.Decimal("1.5"))
    with pytest.raises(ValueError, match="25, 28"):
        CBOR(tags={25, 28})


def test_a_tag_within_tags_without_end_is_refused():
    message: Any = 1
    for _ in range(100_000):
        message = cbor2.CBORTag(200, message)
    with pytest.raises(EncodeError, match="deep"):
        CBOR(tags={200}).encode(message)
    while isinstance(message, cbor2.CBORTag):
        message = message.value


def test_what_the_format_carries_arrives():
    now = dt.datetime(2020, 1, 1, 12, 0, 0, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    message = {"t": now, (1, "a"): 2.5, None: b"x", 1.5: 10**40, "inf": [math.inf, -math.inf], "s": {1, 2}}
    message |= {
        "d": dt.date(2020, 1, 1),
        "u": uuid.UUID(int=5),
        "e": decimal.Decimal("1.50"),
        "x": cbor2.undefined,
    }
    assert CBOR().decode(CBOR().encode(message)) == message
    assert math.isnan(CBOR().decode(CBOR().encode({"key": [NAN]}))["key"][0])
    assert CBOR().decode(CBOR().encode((1, (2,)))) == [1, [2]]
    assert CBOR(verify=False).encode([1]) == b"\x81\x01"


def test_a_missing_library_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "cbor2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'framing\[cbor\]'"):
        CBOR().encode(1)


def test_a_set_of_tags_is_a_value():
    assert len({CBOR(), CBOR(tags=frozenset({200}))}) == 2
    assert pickle.loads(pickle.dumps(CBOR(tags={200}))) == CBOR(tags=frozenset({200}))
