"""The compiled twin says what the reference says of *every* short stream and small message of the parts that mean something.

What hypothesis draws is wide, and seldom at an edge; what is listed here is narrow, and at all of them.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import cbor2
import pytest

from framing.codecs.json import _tools as json_tools
from framing.codecs.msgpack import _tools as msgpack_tools
from framing.kernels import audit, delimiters, stuffing
from tests.kernels.audited import json_text, msgpack_bytes
from tests.kernels.comparing import native, needs_twin, outcome

pytestmark = needs_twin

NAN, INF = math.nan, math.inf
FLAGS = (False, True)
SIZES = (0, 1, 2, 100)


def both(name: str, reference: Any, *arguments: Any) -> Any:
    """What both say; it must be the same."""
    said = outcome(reference, *arguments)
    assert outcome(getattr(native, name), *arguments) == said, (name, arguments)
    return said


def every(alphabet: Iterable[bytes], most: int) -> Iterator[bytes]:
    for size in range(most + 1):
        for parts in itertools.product(alphabet, repeat=size):
            yield b"".join(parts)


def compare_streams(reference: Any, options: Iterable[tuple[Any, ...]], alphabet: Iterable[bytes], most: int) -> None:
    """Each stream whole, one payload of it, from its second byte on, with the memo of its first half, and with others."""
    name = reference.__name__
    every_options = list(options)
    for stream in every(alphabet, most):
        half = stream[: len(stream) // 2]
        for some in every_options:
            both(name, reference, *some, stream, 0, None, 0)
            both(name, reference, *some, stream, 0, None, 1)
            both(name, reference, *some, bytearray(stream), min(1, len(stream)), None, 0)
            _, used, _, memo, _, fault = reference(*some, half, 0, None, 0)
            if fault is None:
                both(name, reference, *some, stream, used, memo, 0)
            for strange in range(1, len(stream) + 1 if len(stream) < most else 0):
                both(name, reference, *some, stream, 0, strange, 0)


@pytest.mark.parametrize(
    ("delimiter", "alphabet"),
    [(b"\n", b"\r\na"), (b"\r\n", b"\r\na"), (b"aba", b"ab\r"), (b"aab", b"ab"), (b"aa", b"ab")],
)
def test_delimiters(delimiter: bytes, alphabet: bytes):
    options = [(delimiter, cr, size, skip) for cr in FLAGS for size in SIZES for skip in FLAGS]
    compare_streams(delimiters.split_delimited, options, [bytes([one]) for one in alphabet], 5)


@pytest.mark.parametrize(
    ("several", "mark", "alphabet"),
    [
        ((b"\n",), b"", b"\r\na"),
        ((b"\r\n", b"\n"), b"", b"\r\na"),
        ((b"\r\n", b"\n"), b"a", b"\r\na"),
        ((b"ba", b"aba"), b"", b"abc"),
        ((b"\n", b"bc"), b"aa", b"\nabc"),
        ((b"\n",), b"aba", b"ab\n"),
        ((b"b", b"ba"), b"a", b"ab"),
    ],
)
def test_marks_and_several_delimiters(several: tuple[bytes, ...], mark: bytes, alphabet: bytes):
    options = [(several, mark, size, *skips) for size in SIZES for skips in itertools.product(FLAGS, FLAGS)]
    compare_streams(delimiters.split_marked, options, [bytes([one]) for one in alphabet], 5)


@pytest.mark.parametrize(
    ("reference", "before", "alphabet"),
    [
        (stuffing.split_cobs, (), [b"\0", b"\1", b"\2", b"\3"]),
        (stuffing.split_cobs, (), [b"\0", b"\xff" + b"a" * 254, b"\xfe" + b"a" * 253, b"\1"]),
        (stuffing.split_slip, (), [b"\xc0", b"\xdb", b"\xdc", b"\xdd"]),
        (stuffing.split_hdlc, (0,), [b"\x7e", b"\x7d", b"\x5e", b"a"]),
        (stuffing.split_hdlc, (16,), [b"\x7e", b"\x7d", stuffing.stuff_hdlc(16, b"}"), stuffing.stuff_hdlc(16, b"")]),
        (stuffing.split_hdlc, (32,), [b"\x7e", b"\x5d", stuffing.stuff_hdlc(32, b"~a"), stuffing.stuff_hdlc(32, b"")]),
    ],
    ids=["cobs", "cobs, full blocks", "slip", "hdlc", "hdlc, 16 bits", "hdlc, 32 bits"],
)
def test_stuffing(reference: Any, before: tuple[Any, ...], alphabet: list[bytes]):
    compare_streams(reference, [(*before, size, skip) for size in (*SIZES, 254) for skip in FLAGS], alphabet, 5)


def test_joining():
    lists = [
        list(some)
        for size in range(3)
        for some in itertools.product((b"", b"a", b"\n", b"a\r", b"ab", b"\0~"), repeat=size)
    ]
    for payloads in lists:
        for most in (0, 1, 9):
            for delimiter in (b"\n", b"\r\n", b"ba", b"aba"):
                for cr in FLAGS:
                    both("join_delimited", delimiters.join_delimited, delimiter, cr, most, payloads)
            both("join_cobs", stuffing.join_cobs, most, payloads)
            both("join_slip", stuffing.join_slip, most, payloads)
            for width in (0, 16, 32):
                both("join_hdlc", stuffing.join_hdlc, width, most, payloads)


# --- Payloads, as trees in which a map is a tuple of pairs


def trees(keys: tuple[Any, ...], values: tuple[Any, ...]) -> Iterator[Any]:
    pairs = list(itertools.product(keys, values))
    maps = [(), *((pair,) for pair in pairs), *itertools.product(pairs, pairs)]
    yield from values
    for one in maps:
        yield one
        yield [one]
        yield (("a", one),)
        yield (("a", one), ("a", 1))


def compare_payloads(name: str, reference: Any, tools: Any, payloads: Iterable[bytes]) -> set[Any]:
    said = set()
    for payload in payloads:
        message = tools.decode(payload)
        for unique in FLAGS:
            for depth in (0, 1, 2, 64):
                said.add(both(name, reference, [payload], [message], depth, unique, tools.same))
    return said


def test_json():
    values = (1, "x", "a:b", ':"', "{[", [], (), (("a", 1), ("a", 2)), [1, [2]])
    payloads = [json_text(tree, space).encode() for tree in trees(("a", "b:"), values) for space in ("", " ", "\n")]
    assert compare_payloads("json_sound", audit.json_sound, json_tools(Any), payloads) == {(True, bool), (False, bool)}
    for size in range(5):
        for parts in itertools.product(("[", "]", "{", '"', "\\", "a"), repeat=size):
            for depth in (0, 1, 2):
                both("json_within", audit.json_within, ["".join(parts).encode() * 3], depth)


def test_messagepack():
    values = (1, -1, "x", 1.5, NAN, INF, [], (), (("a", 1), ("a", 2)), [1, [NAN]], ((1, 2),))
    keys = ("a", 1, 1.0, True, NAN, [NAN], [1], None)
    payloads = []
    for tree in trees(keys, values):
        for long in FLAGS:
            payload = msgpack_bytes(tree, long)
            try:
                msgpack_tools(Any).decode(payload)
            except ValueError:
                continue
            payloads.append(payload)
    said = compare_payloads("msgpack_sound", audit.msgpack_sound, msgpack_tools(Any), payloads[::5])
    assert said == {(True, bool), (False, bool)}
    for size in range(5):
        for parts in itertools.product((b"\x91", b"\x82", b"\xdc\0\2", b"\xa1", b"\xc4\1", b"\xc1", b"a"), repeat=size):
            for depth in (0, 1, 2):
                both("msgpack_within", audit.msgpack_within, [b"".join(parts)], depth)


# --- Messages


class Text(str):
    __slots__ = ()


SCALARS = [
    None,
    True,
    1,
    1 << 63,
    -(1 << 63) - 1,
    1.5,
    NAN,
    INF,
    "x",
    Text("x"),
    b"x",
    bytearray(b"x"),
    dt.date(2020, 1, 1),
]
SCALARS += [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]
MESSAGES: list[Any] = [*SCALARS]
for scalar in SCALARS:
    MESSAGES += [[scalar], (1, scalar), {"a": scalar}, {"a": [scalar, {"b": scalar}]}]
    if not isinstance(scalar, bytearray):
        MESSAGES += [{scalar: 1}, {(1, scalar): 1}, {"a": {scalar: []}}]


def test_messages_to_send():
    for message in MESSAGES:
        for depth in range(4):
            both("is_plain", audit.is_plain, message, depth)
    for tools, is_json in ((json_tools(Any), True), (msgpack_tools(Any), False)):
        said = set()
        for message in MESSAGES:
            try:
                payload = tools.encode(message)
            except (TypeError, ValueError, OverflowError):
                continue
            for depth in range(4):
                said.add(both("arrives", audit.arrives, [message], [payload], tools.decode, is_json, depth))
        assert {(True, bool), (False, bool)} <= said


def test_cbor():
    said = set()
    for message in MESSAGES:
        try:
            payload = cbor2.dumps(message)
            arrived = cbor2.loads(payload)
        except (cbor2.CBORError, TypeError, ValueError):
            continue
        for depth in range(4):
            said.add(both("cbor_sound", audit.cbor_sound, payload, arrived, depth))
    assert said == {(True, bool), (False, bool)}
