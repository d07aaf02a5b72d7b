"""JSON: what goes in comes out, and whatever cannot is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pickle
import tracemalloc
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.codecs import JSON
from framing.errors import DecodeError, EncodeError

NAN = float("nan")
INF = float("inf")

texts = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@dataclasses.dataclass
class Point:
    x: int
    y: float | None = None


@dataclasses.dataclass(eq=False)
class Opaque:
    values: list[int]
    ratio: float | None = None


def nested(depth, kind=list):
    message: Any = 1
    for _ in range(depth):
        message = [message] if kind is list else {"a": message}
    return message


@given(messages)
def test_round_trip(message):
    assert JSON().decode(JSON().encode(message)) == message


@given(messages)
def test_the_standard_library_reads_and_writes_the_same(message):
    assert json.loads(JSON().encode(message)) == message
    assert JSON().decode(json.dumps(message).encode()) == message
    assert JSON().decode(json.dumps(message, ensure_ascii=False, indent=1).encode()) == message


@given(st.binary(max_size=40) | st.text('[]{}",:0123456789.eE+-\\u dntrue', max_size=30).map(str.encode))
def test_any_payload_is_a_message_or_a_decode_error(payload):
    try:
        message = JSON().decode(payload)
    except DecodeError as error:
        assert error.offset is None
    else:
        assert JSON().decode(JSON().encode(message)) == message


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"1 2",
        b"[1]x",
        b"[1,]",
        b"{",
        b"nul",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"[NaN]",
        b"1e999",
        b"-1e999",
        b"01",
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\\ud800\\u0041"',
        b'"\\udc00"',
        b"\xef\xbb\xbf1",
        b"1" * 5_000,
        b"1" * 100_000,
        b"[" + b"1" * 100_000 + b"]",
        b'{"a":1,"a":2}',
        b'{"a" : 1, "b:" : {"c":1, "c":2}}',
        b'[{"a":1,"\\u0061":2}]',
        b'{"a":{"x":1},"a":{"y:":2}}',
    ],
)
def test_bad_payloads_are_refused(payload):
    with pytest.raises(DecodeError):
        JSON().decode(payload)


def test_colons_in_strings_are_no_keys():
    assert JSON().decode(b'{"a:b": "c:d", "e" : [":", {":": 1}]}') == {"a:b": "c:d", "e": [":", {":": 1}]}


def test_a_repeated_key_is_named_and_may_be_allowed():
    with pytest.raises(DecodeError, match="'b'"):
        JSON().decode(b'{"a":1,"c":{"b":1,"b":1}}')
    assert JSON(unique_keys=False).decode(b'{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("max_depth", [1, 64, 256])
def test_the_depth_limit_is_exact_in_both_directions(kind, max_depth):
    codec = JSON(max_depth=max_depth)
    fits, over = nested(max_depth, kind), nested(max_depth + 1, kind)
    assert codec.decode(codec.encode(fits)) == fits
    with pytest.raises(EncodeError, match="deep"):
        codec.encode(over)
    with pytest.raises(DecodeError, match="deep"):
        codec.decode(json.dumps(over).encode())


def test_brackets_in_strings_and_siblings_are_no_depth():
    for message in ([[]] * 1000, ["[" * 1000], {'"\\[[[': ["[{" * 100] * 100}, [{"a": ['\\"[[[']}] * 100):
        assert JSON(max_depth=3).decode(JSON(max_depth=3).encode(message)) == message


@pytest.mark.parametrize(
    "payload", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b'["' * 100_000]
)
def test_nesting_bombs_are_refused_in_little_memory(payload):
    JSON().decode(b"1")
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            JSON().decode(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_messages_that_hold_themselves_or_nest_without_end_are_refused():
    cycle: list[Any] = []
    cycle.append(cycle)
    for message in (cycle, nested(100_000)):
        with pytest.raises(EncodeError, match="deep"):
            JSON().encode(message)


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "message",
    [
        NAN,
        [1, INF],
        {"a": {"b": -INF}},
        {1: 2},
        {"a": {1.5: 2}},
        {"1": 0, 1: 0},
        {None: 1},
        {True: 1},
        {b"a": 1},
        {(1,): 1},
        {1, 2},
        b"bytes",
        bytearray(b"x"),
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        uuid.UUID(int=1),
        decimal.Decimal("1.5"),
        Colour.RED,
        Point(1),
        object(),
        "\ud800",
        {"\ud800": 1},
        [10**5000],
        [1j],
    ],
)
def test_messages_that_would_arrive_as_others_are_refused(message):
    with pytest.raises(EncodeError):
        JSON().encode(message)


def test_the_error_names_the_place():
    with pytest.raises(EncodeError, match=r"\$\.a\.b\[1\]"):
        JSON().encode({"a": {"b": [1, NAN]}, "c": (1,)})


def test_a_tuple_arrives_as_a_list_and_none_is_null():
    assert JSON().decode(JSON().encode({"a": (1, (2, None))})) == {"a": [1, [2, None]]}
    assert JSON().encode(None) == b"null"


def test_unverified_encoding_leaves_what_msgspec_refuses():
    assert JSON(verify=False).encode({1: NAN}) == b'{"1":null}'
    with pytest.raises(EncodeError):
        JSON(verify=False).encode(object())


def test_a_type_is_read_straight_into():
    codec = JSON(type=Point)
    assert codec.encode(Point(1, 2.5)) == b'{"x":1,"y":2.5}'
    assert codec.decode(b'{"x": 1, "z": [1, {"k": 2}]}') == Point(1, None)
    assert JSON(list[Point]).decode(b'[{"x":1,"y":null}]') == [Point(1)]
    assert JSON(type=set[int]).decode(JSON(type=set[int]).encode({1, 2})) == {1, 2}
    assert JSON(type=dict[int, uuid.UUID]).decode(b'{"1":"00000000-0000-0000-0000-000000000001"}') == {
        1: uuid.UUID(int=1)
    }


@pytest.mark.parametrize(
    ("payload", "path"),
    [(b'{"x":"a"}', "$.x"), (b'{"x":1,"y":"b"}', "$.y"), (b"[]", None), (b"{}", None)],
)
def test_data_of_another_type_is_refused_with_its_path(payload, path):
    with pytest.raises(DecodeError) as caught:
        JSON(type=Point).decode(payload)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "payload",
    [
        b'{"x":1,"x":2}',
        b'{"x":1,"u":1,"u":2}',
        b'{"x":1,"u":{"v":1,"v":1}}',
        b'{"x":1,"u":"\xff"}',
        b'{"x":1,"u":"\\ud800"}',
        b'{"x":1,"u":' + b"[" * 70 + b"]" * 70 + b"}",
    ],
)
def test_what_the_type_skips_is_judged_too(payload):
    with pytest.raises(DecodeError):
        JSON(type=Point).decode(payload)


def test_numbers_too_large_for_a_float_are_fine_where_the_type_has_room():
    codec = JSON(type=dict[str, decimal.Decimal])
    assert codec.decode(b'{"a": 1e999}') == {"a": decimal.Decimal("1e999")}
    with pytest.raises(DecodeError, match="twice"):
        codec.decode(b'{"a": 1e999, "a": 1}')


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (JSON(type=Point), Point("a")),
        (JSON(type=Point), {"x": 1}),
        (JSON(type=Point), Point(1, NAN)),
        (JSON(type=Opaque), Opaque([1], NAN)),
        (JSON(type=float), INF),
        (JSON(type=int), "1"),
    ],
)
def test_messages_that_are_not_of_the_type_are_refused(codec, message):
    with pytest.raises(EncodeError):
        codec.encode(message)


def test_types_that_compare_by_identity_are_sent():
    arrived = JSON(type=Opaque).decode(JSON(type=Opaque).encode(Opaque((1, 2))))
    assert (arrived.values, arrived.ratio) == ([1, 2], None)


def test_it_is_a_value():
    assert JSON() == JSON(type=Any) != JSON(type=Point)
    assert len({JSON(type=Point), JSON(type=Point), JSON()}) == 2
    for codec in (JSON(), JSON(type=Point), JSON(type=list[Point]), JSON(type=int | None), JSON(max_depth=3)):
        assert pickle.loads(pickle.dumps(codec)) == codec
    assert dataclasses.replace(JSON(type=Point), max_depth=5) == JSON(type=Point, max_depth=5)
    assert "max_depth=64" in repr(JSON())


@pytest.mark.parametrize("max_depth", [0, 257, "1"])
def test_wrong_options(max_depth):
    with pytest.raises((ValueError, TypeError), match="max_depth"):
        JSON(max_depth=max_depth)
