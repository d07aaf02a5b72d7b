"""What the codecs of dicts and lists have in common, as data: `test_formats` asks the same of each."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import Callable
from typing import Any

import cbor2
import msgspec
from hypothesis import strategies as st

from framing.codecs import CBOR, JSON, Codec, MessagePack

__all__ = ["FORMATS", "INF", "NAN", "TYPED", "Format", "Opaque", "Point", "TypedFormat", "nested"]

NAN = float("nan")
INF = float("inf")


@dataclasses.dataclass
class Point:
    x: int
    y: float | None = None


@dataclasses.dataclass(eq=False)
class Opaque:
    values: list[int]
    ratio: float | None = None


class Colour(enum.Enum):
    RED = "red"


def nested(depth: int, kind: type = list) -> Any:
    message: Any = 1
    for _ in range(depth):
        message = [message] if kind is list else {"a": message}
    return message


@dataclasses.dataclass(frozen=True)
class Format:
    codec: Callable[..., Codec[Any]]
    messages: st.SearchStrategy[Any]
    noise: st.SearchStrategy[bytes]
    """Payloads that come near to being right."""
    foreign: Callable[[Any], bytes]
    """Another encoder of the format, which has no limits of ours."""
    bad: tuple[bytes, ...]
    """Payloads that are refused, …"""
    bombs: tuple[bytes, ...]
    """… among them such as nest without end."""
    twice: tuple[bytes, Any]
    """A payload with a key twice, and the message with its last value."""
    lost: tuple[Any, ...]
    """Messages that would arrive as others, or not at all."""
    place: tuple[Any, str]
    """One such, and where in it what is lost is."""
    unverified: tuple[Any, bytes]
    """A message, and its payload where nobody looks whether it arrives."""

    def __repr__(self) -> str:
        return type(self.codec()).__name__


texts = st.text(st.characters(exclude_categories=["Cs"]))
flat = st.none() | st.booleans() | texts


def messages_of(scalars: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )


packed = flat | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary()
boxed = flat | st.integers() | st.floats(allow_nan=False) | st.binary()

FORMATS = [
    Format(
        codec=JSON,
        messages=messages_of(flat | st.integers() | st.floats(allow_nan=False, allow_infinity=False), texts),
        noise=st.text('[]{}",:0123456789.eE+-\\u dntrue', max_size=30).map(str.encode),
        foreign=lambda message: json.dumps(message).encode(),
        bad=(
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
            b'{":":1,":":2}',
            b'{"a":":","a":2}',
        ),
        bombs=(b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b'["' * 100_000),
        twice=(b'{"a":1,"a":2}', {"a": 2}),
        lost=(
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
        ),
        place=({"a": {"b": [1, NAN]}, "c": (1,)}, r"\$\.a\.b\[1\]"),
        unverified=({1: NAN}, b'{"1":null}'),
    ),
    Format(
        codec=MessagePack,
        messages=messages_of(packed, packed),
        noise=st.binary(max_size=60),
        foreign=msgspec.msgpack.encode,
        bad=(
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
        ),
        bombs=(b"\x91" * 100_000, b"\x81\xa1a" * 100_000, b"\x91" * 100_000 + b"\xc0", b"\x81" * 100_000),
        twice=(b"\x82\xa1a\x01\xa1a\x02", {"a": 2}),
        lost=(
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
        ),
        place=({"a": [1, {1, 2}], "c": (1,)}, r"\$\.a\[1\]"),
        unverified=({1}, b"\x91\x01"),
    ),
    Format(
        codec=CBOR,
        messages=messages_of(boxed | st.decimals(allow_nan=False) | st.uuids(), boxed),
        noise=st.binary(max_size=60),
        foreign=cbor2.dumps,
        bad=tuple(
            map(
                bytes.fromhex,
                (
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
                    "a1fa7fc0000001",
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
                    "d8236161",
                    "d81e820102",
                    "d8c801",
                    "d9a7f8820102",
                ),
            )
        ),
        bombs=(b"\x81" * 100_000, b"\xa1\x01" * 100_000, b"\xc1" * 100_000, b"\x9f" * 100_000, b"\xa1" * 100_000),
        twice=(bytes.fromhex("a201010102"), {1: 2}),
        lost=(
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
        ),
        place=({"a": [1, object()], "c": (1,)}, r"\$\.a\[1\]"),
        unverified=([1], b"\x81\x01"),
    ),
]


@dataclasses.dataclass(frozen=True)
class TypedFormat:
    """What those that read straight into a type have in common besides."""

    codec: Callable[..., Codec[Any]]
    skipped: tuple[bytes, ...]
    """Payloads of a `Point` with something wrong in what its type does not know."""

    def __repr__(self) -> str:
        return type(self.codec()).__name__


TYPED = [
    TypedFormat(
        JSON,
        (
            b'{"x":1,"x":2}',
            b'{"x":1,"u":1,"u":2}',
            b'{"x":1,"u":{"v":1,"v":1}}',
            b'{"x":1,"u":"\xff"}',
            b'{"x":1,"u":"\\ud800"}',
            b'{"x":1,"u":' + b"[" * 70 + b"]" * 70 + b"}",
        ),
    ),
    TypedFormat(
        MessagePack,
        (
            b"\x82\xa1x\x01\xa1x\x02",
            b"\x83\xa1x\x01\xa1u\x01\xa1u\x02",
            b"\x82\xa1x\x01\xa1u\x82\x01\x01\x01\x01",
            b"\x82\xa1x\x01\xa1u\xa1\xff",
            b"\x82\xa1x\x01\xa1u" + b"\x91" * 70 + b"\xc0",
            b"\x82\xa1x\x01\xa1u\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01",
        ),
    ),
]
