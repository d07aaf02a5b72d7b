"""CBOR: what goes in comes out, only harmless tags come in, and nothing ends the process."""

from __future__ import annotations

import builtins
import datetime as dt
import decimal
import math
import pickle
import tracemalloc
import uuid
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.codecs import CBOR
from framing.codecs.cbor import _MEANINGS
from framing.errors import DecodeError, EncodeError

NAN = float("nan")

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary()
messages = st.recursive(
    scalars | st.decimals(allow_nan=False) | st.uuids(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(scalars, inner, max_size=4),
    max_leaves=12,
)


def nested(depth, kind=list):
    message: Any = 1
    for _ in range(depth):
        message = [message] if kind is list else {"a": message}
    return message


def tagged(tag, content):
    head = bytes([0xC0 + tag]) if tag < 24 else bytes([0xD8, tag]) if tag < 256 else b"\xd9" + tag.to_bytes(2, "big")
    return head + content


@given(messages)
def test_round_trip(message):
    assert CBOR().decode(CBOR().encode(message)) == message


@given(st.binary(max_size=60))
def test_any_payload_is_a_message_or_a_decode_error(payload):
    try:
        CBOR().decode(payload)
    except DecodeError as error:
        assert error.offset is None


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "0101",
        "61ff",
        "63eda080",
        "7f61c361bcff",
        "a201010102",
        "a20101f502",
        "bf01010102ff",
        "bf01ff",
        "f801",
        "fc",
        "ff",
        "81ff",
        "9b7fffffffffffffff",
        "ba7fffffff",
        "5b7fffffffffffffff",
        "7a7fffffff",
        "a1f97e0001",
        "a181fb7ff800000000000001",
        "c06161",
        "c1fb7ff0000000000000",
        "c4821b7fffffffffffffff01",
        "d8254100",
        "d81c81d81d00",
        "d81c01",
        "d81d00",
        "d901008263616161d81900",
        "d8236128",
        "d82361 61".replace(" ", ""),
        "d81e820102",
        "d8c801",
        "d9a7f88201 02".replace(" ", ""),
    ],
)
def test_bad_payloads_are_refused(payload):
    with pytest.raises(DecodeError):
        CBOR().decode(bytes.fromhex(payload))


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


def test_repeated_keys_may_be_allowed():
    assert CBOR(unique_keys=False).decode(bytes.fromhex("a201010102")) == {1: 2}


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("max_depth", [1, 64, 256])
def test_the_depth_limit_is_exact_in_both_directions(kind, max_depth):
    codec = CBOR(max_depth=max_depth)
    fits, over = nested(max_depth, kind), nested(max_depth + 1, kind)
    assert codec.decode(codec.encode(fits)) == fits
    with pytest.raises(EncodeError, match="deep"):
        codec.encode(over)
    with pytest.raises(DecodeError, match=r"deep|depth"):
        codec.decode(cbor2.dumps(over))


def test_an_empty_map_is_a_level_too():
    with pytest.raises(DecodeError, match="deep"):
        CBOR(max_depth=1).decode(bytes.fromhex("a101a0"))


@pytest.mark.parametrize(
    "payload", [b"\x81" * 100_000, b"\xa1\x01" * 100_000, b"\xc1" * 100_000, b"\x9f" * 100_000, b"\xa1" * 100_000]
)
def test_nesting_bombs_are_refused_in_little_memory(payload):
    CBOR().decode(b"\x01")
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            CBOR().decode(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_messages_that_hold_themselves_or_nest_without_end_are_refused():
    cycle: list[Any] = []
    cycle.append(cycle)
    for message in (cycle, nested(100_000), nested(100_000, dict)):
        with pytest.raises(EncodeError, match="deep"):
            CBOR().encode(message)


def test_a_tag_within_tags_without_end_is_refused():
    message: Any = 1
    for _ in range(100_000):
        message = cbor2.CBORTag(200, message)
    with pytest.raises(EncodeError, match="deep"):
        CBOR(tags={200}).encode(message)
    while isinstance(message, cbor2.CBORTag):
        message = message.value


@pytest.mark.parametrize(
    "message",
    [
        {NAN: 1},
        {(1, NAN): 1},
        dt.datetime(2020, 1, 1),  # noqa: DTZ001 that it has no zone is the point
        memoryview(b"x"),
        cbor2.CBORTag(200, 1),
        cbor2.CBORTag(28, 1),
        object(),
        "\ud800",
        1j,
        range(3),
    ],
)
def test_messages_that_would_arrive_as_others_are_refused(message):
    with pytest.raises(EncodeError):
        CBOR().encode(message)


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


def test_it_is_a_value():
    assert CBOR() == CBOR() != CBOR(max_depth=3)
    assert len({CBOR(), CBOR(tags=frozenset({200}))}) == 2
    assert pickle.loads(pickle.dumps(CBOR(tags={200}))) == CBOR(tags=frozenset({200}))
    with pytest.raises(ValueError, match="max_depth"):
        CBOR(max_depth=0)
