"""What the twins of `framing.kernels.audit` are asked about: payloads and messages, good ones and hostile ones.

Payloads are built from trees that no dict could be, with keys that come twice and headers longer than need be, and then read
by the parser whose work the audit completes.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import cbor2
import msgspec
from hypothesis import strategies as st

from framing.codecs.json import _tools as json_tools
from framing.codecs.msgpack import _tools as msgpack_tools

__all__ = ["ARRIVES", "CBOR_SOUND", "IS_PLAIN", "JSON_SOUND", "MSGPACK_SOUND", "WITHIN"]

Pairs = tuple[tuple[Any, Any], ...]
DEPTHS = st.integers(0, 6) | st.sampled_from([64, 256, 257, 1 << 70, True, -1])

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(['":{[', '\\"', "}]", "a:b"])
names = st.sampled_from(["a", "b", "c:", "{"])
numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.integers(-40, 200)


def trees(scalars: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Messages in which a dict is a tuple of pairs, so that a key may come twice."""
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(keys, inner), max_size=4).map(tuple),
        max_leaves=10,
    )


def json_text(tree: Any, space: str) -> str:
    if isinstance(tree, list):
        return "[" + f",{space}".join(json_text(one, space) for one in tree) + "]"
    if isinstance(tree, tuple):
        return "{" + ",".join(f"{json.dumps(key)}{space}:{json_text(value, space)}" for key, value in tree) + "}"
    return json.dumps(tree)


def msgpack_bytes(tree: Any, long: bool) -> bytes:
    if isinstance(tree, list):
        head = b"\xdc" + len(tree).to_bytes(2, "big") if long else bytes([0x90 | len(tree)])
        return head + b"".join(msgpack_bytes(one, long) for one in tree)
    if isinstance(tree, tuple):
        head = b"\xdf" + len(tree).to_bytes(4, "big") if long else bytes([0x80 | len(tree)])
        return head + b"".join(msgpack_bytes(one, long) for pair in tree for one in pair)
    return msgspec.msgpack.encode(tree)


def nested(depth: int, around: str) -> bytes:
    return (around[0] * depth + "1" + around[1] * depth).encode()


def _read(decode: Any, payload: bytes) -> list[Any]:
    """The message in a list, or nothing where the parser refuses the payload."""
    try:
        return [decode(payload)]
    except (ValueError, OverflowError, RecursionError):
        return []


def _sound(payloads: st.SearchStrategy[bytes], tools: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    def arguments(drawn: tuple[list[bytes], int, Any]) -> tuple[Any, ...]:
        payloads, depth, unique = drawn
        read = [(payload, *_read(tools.decode, payload)) for payload in payloads]
        good = [pair for pair in read if len(pair) == 2]
        return [payload for payload, _ in good], [message for _, message in good], depth, unique, tools.same

    return st.tuples(st.lists(payloads, max_size=4), DEPTHS, st.sampled_from([True, True, False, 1])).map(arguments)


json_scalars = st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | texts
json_payloads = st.tuples(trees(json_scalars, names), st.sampled_from(["", " ", "\n"])).map(
    lambda drawn: json_text(*drawn).encode()
) | st.tuples(st.integers(1, 300), st.just("[]")).map(lambda drawn: nested(*drawn))
JSON_SOUND = _sound(json_payloads, json_tools(Any))

floats = st.floats() | st.just(math.nan)
msgpack_scalars = st.none() | st.booleans() | numbers | floats | texts | st.binary(max_size=4)
msgpack_keys = st.sampled_from(["a", "b", 1, True, 1.0, b"a", [1], [1, [2]], math.nan, [math.nan], None])
times = st.just(dt.datetime(2020, 1, 1, tzinfo=dt.UTC)) | st.just(msgspec.msgpack.Ext(5, b"x" * 20))
msgpack_payloads = st.tuples(trees(msgpack_scalars | times, msgpack_keys), st.booleans()).map(
    lambda drawn: msgpack_bytes(*drawn)
) | st.integers(1, 300).map(lambda depth: b"\x91" * depth + b"\xc0")
MSGPACK_SOUND = _sound(msgpack_payloads, msgpack_tools(Any))

garbage = st.binary(max_size=40) | st.text('[]{}",:\\', max_size=30).map(str.encode)
headers = st.lists(
    st.sampled_from([b"\x91", b"\x82", b"\xdc\0\x02", b"\xdd\0\0\0", b"\xc1", b"\xd9\x02", b"\xc9\0\0", b"a"])
)
WITHIN = st.tuples(
    st.lists(garbage | headers.map(b"".join) | json_payloads | msgpack_payloads | st.just("text"), max_size=4)
    | st.just((b"[[",)),
    DEPTHS,
)


def _cbor(drawn: tuple[Any, int]) -> tuple[Any, ...]:
    message, depth = drawn
    payload = cbor2.dumps(message)
    return payload, cbor2.loads(payload), depth


hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
odd = st.sampled_from(
    [
        1 << 63,
        -(1 << 63),
        1 << 64,
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        dt.date(2020, 1, 1),
        frozenset({1}),
        bytearray(b"x"),
        type("Text", (str,), {})("x"),
        type("Number", (int,), {})(5),
    ]
) | st.builds(lambda: cbor2.CBORTag(200, [[1]]))
messages = st.recursive(
    hashable | odd,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=4)
    ),
    max_leaves=10,
)
CBOR_SOUND = st.tuples(messages, DEPTHS).map(_cbor)
IS_PLAIN = st.tuples(messages | st.integers(1, 300).map(lambda depth: json.loads(nested(depth, "[]"))), DEPTHS)


def _arrives(drawn: tuple[bool, list[Any], int]) -> tuple[Any, ...]:
    is_json, some, depth = drawn
    tools = json_tools(Any) if is_json else msgpack_tools(Any)
    sent, payloads = [], []
    for message in some:
        try:
            payload = tools.encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError):
            continue
        sent.append(message)
        payloads.append(payload)
    return sent, payloads, tools.decode, is_json, depth


ARRIVES = st.tuples(st.booleans(), st.lists(messages, max_size=4), DEPTHS).map(_arrives)
