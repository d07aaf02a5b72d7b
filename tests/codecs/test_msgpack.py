"""MessagePack: what goes in comes out, and whatever cannot is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import math
import pickle
import tracemalloc
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.codecs import MessagePack
from framing.errors import DecodeError, EncodeError
from framing.kernels.audit import count_keys, msgpack_skeleton

NAN = float("nan")

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts | st.binary()
)
messages = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(scalars, inner, max_size=4),
    max_leaves=12,
)


@dataclasses.dataclass
class Point:
    x: int
    y: float | None = None


def nested(depth, kind=list):
    message: Any = 1
    for _ in range(depth):
        message = [message] if kind is list else {"a": message}
    return message


@given(messages)
def test_round_trip(message):
    assert MessagePack().decode(MessagePack().encode(message)) == message


@given(messages)
def test_the_skeleton_counts_depth_and_entries(message):
    def depth(node):
        if isinstance(node, dict):
            return 1 + max((depth(value) for value in node.values()), default=0)
        return 1 + max(map(depth, node), default=0) if isinstance(node, list) else 0

    payload = msgspec.msgpack.encode(message)
    assert msgpack_skeleton(payload, 1000) == (depth(message), count_keys(message))


@given(st.binary(max_size=60))
def test_any_payload_is_a_message_or_a_decode_error(payload):
    msgpack_skeleton(payload, 64)
    try:
        MessagePack().decode(payload)
    except DecodeError as error:
        assert error.offset is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x01\x01",
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffaa",
        b"\xd8\xff" + b"\xff" * 16,
        b"\xd7\xff" + b"\xff" * 8,
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x82\x01\x01\xc3\x02",
        b"\x82\x01\x01\xca\x3f\x80\x00\x00\x02",
        b"\x92\x01\x82\xd9\x01a\x01\xa1a\x02",
        b"\x82\xa1a\x81\x01\x02\xa1a\x81\x03\x04",
        b"\x81\x81\x01\x02\x01",
        b"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01",
        b"\x81\xca\xff\xc0\x00\x00\x01",
        b"\x81\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01",
    ],
)
def test_bad_payloads_are_refused(payload):
    with pytest.raises(DecodeError):
        MessagePack().decode(payload)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\xde\x00\x01\xd9\x01a\xcd\x00\x01", {"a": 1}),
        (b"\xdf\x00\x00\x00\x01\xda\x00\x01a\xca\x3f\x80\x00\x00", {"a": 1.0}),
        (b"\xdc\x00\x02\xd1\x00\x01\xdb\x00\x00\x00\x01b", [1, "b"]),
        (b"\xdd\x00\x00\x00\x01\xc6\x00\x00\x00\x01b", [b"b"]),
    ],
)
def test_longer_forms_than_need_be_are_read(payload, message):
    assert MessagePack().decode(payload) == message


def test_repeated_keys_may_be_allowed():
    assert MessagePack(unique_keys=False).decode(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("max_depth", [1, 64, 256])
def test_the_depth_limit_is_exact_in_both_directions(kind, max_depth):
    codec = MessagePack(max_depth=max_depth)
    fits, over = nested(max_depth, kind), nested(max_depth + 1, kind)
    assert codec.decode(codec.encode(fits)) == fits
    with pytest.raises(EncodeError, match="deep"):
        codec.encode(over)
    with pytest.raises(DecodeError, match="deep"):
        codec.decode(msgspec.msgpack.encode(over))


def test_container_bytes_in_strings_and_siblings_are_no_depth():
    for message in ([[]] * 1000, ["\u0110\u0450" * 1000], [b"\x91" * 5000], [{"a": ["\u0110" * 99]}] * 100):
        assert MessagePack(max_depth=3).decode(MessagePack(max_depth=3).encode(message)) == message


@pytest.mark.parametrize(
    "payload", [b"\x91" * 100_000, b"\x81\xa1a" * 100_000, b"\x91" * 100_000 + b"\xc0", b"\x81" * 100_000]
)
def test_nesting_bombs_are_refused_in_little_memory(payload):
    MessagePack().decode(b"\x01")
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            MessagePack().decode(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_messages_that_hold_themselves_or_nest_without_end_are_refused():
    cycle: list[Any] = []
    cycle.append(cycle)
    for message in (cycle, nested(100_000)):
        with pytest.raises(EncodeError, match="deep"):
            MessagePack().encode(message)


@pytest.mark.parametrize(
    "message",
    [
        2**64,
        -(2**63) - 1,
        {NAN: 1},
        {(1, NAN): 1},
        {1, 2},
        frozenset([1]),
        uuid.UUID(int=1),
        decimal.Decimal("1.5"),
        dt.datetime(2020, 1, 1),  # noqa: DTZ001 without a zone it would arrive as a string
        dt.date(2020, 1, 1),
        msgspec.msgpack.Ext(-1, b"x"),
        Point(1),
        object(),
        "\ud800",
    ],
)
def test_messages_that_would_arrive_as_others_are_refused(message):
    with pytest.raises(EncodeError):
        MessagePack().encode(message)


def test_the_error_names_the_place():
    with pytest.raises(EncodeError, match=r"\$\.a\[1\]"):
        MessagePack().encode({"a": [1, {1, 2}], "c": (1,)})


def test_what_the_format_carries_arrives():
    now = dt.datetime(2020, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    message = {"t": now, (1, "a"): 2.5, None: b"x", 1.5: msgspec.msgpack.Ext(5, b"y"), "inf": [math.inf, -math.inf]}
    assert MessagePack().decode(MessagePack().encode(message)) == message
    assert math.isnan(MessagePack().decode(MessagePack().encode({"key": [NAN]}))["key"][0])
    assert MessagePack().decode(MessagePack().encode((1, (2,)))) == [1, [2]]


def test_unverified_encoding_leaves_what_msgspec_refuses():
    assert MessagePack(verify=False).encode({1}) == b"\x91\x01"
    with pytest.raises(EncodeError):
        MessagePack(verify=False).encode(2**64)


def test_a_type_is_read_straight_into():
    codec = MessagePack(type=Point)
    assert codec.decode(codec.encode(Point(1, 2.5))) == Point(1, 2.5)
    assert codec.decode(MessagePack().encode({"x": 1, "z": [1, {"k": 2}]})) == Point(1)
    assert MessagePack(type=set[int]).decode(MessagePack(type=set[int]).encode({1, 2})) == {1, 2}
    arrived = codec.decode(codec.encode(Point(1, NAN)))
    assert math.isnan(arrived.y)


@pytest.mark.parametrize(
    ("message", "path"), [({"x": "a"}, "$.x"), ({"x": 1, "y": "b"}, "$.y"), ([], None), ({}, None)]
)
def test_data_of_another_type_is_refused_with_its_path(message, path):
    with pytest.raises(DecodeError) as caught:
        MessagePack(type=Point).decode(MessagePack().encode(message))
    assert caught.value.path == path


@pytest.mark.parametrize(
    "payload",
    [
        b"\x82\xa1x\x01\xa1x\x02",
        b"\x83\xa1x\x01\xa1u\x01\xa1u\x02",
        b"\x82\xa1x\x01\xa1u\x82\x01\x01\x01\x01",
        b"\x82\xa1x\x01\xa1u\xa1\xff",
        b"\x82\xa1x\x01\xa1u" + b"\x91" * 70 + b"\xc0",
    ],
)
def test_what_the_type_skips_is_judged_too(payload):
    with pytest.raises(DecodeError):
        MessagePack(type=Point).decode(payload)


@pytest.mark.parametrize(
    ("codec", "message"),
    [(MessagePack(type=Point), Point("a")), (MessagePack(type=Point), {"x": 1}), (MessagePack(type=int), "1")],
)
def test_messages_that_are_not_of_the_type_are_refused(codec, message):
    with pytest.raises(EncodeError):
        codec.encode(message)


def test_it_is_a_value():
    assert MessagePack() == MessagePack(type=Any) != MessagePack(type=Point)
    assert len({MessagePack(type=Point), MessagePack(type=Point), MessagePack()}) == 2
    for codec in (MessagePack(), MessagePack(type=Point), MessagePack(type=list[Point]), MessagePack(type=int | None)):
        assert pickle.loads(pickle.dumps(codec)) == codec
    assert dataclasses.replace(MessagePack(type=Point), max_depth=5) == MessagePack(type=Point, max_depth=5)


@pytest.mark.parametrize("max_depth", [0, 257, "1"])
def test_wrong_options(max_depth):
    with pytest.raises((ValueError, TypeError), match="max_depth"):
        MessagePack(max_depth=max_depth)
