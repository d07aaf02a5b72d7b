"""What codecs ask of payloads and messages beyond what a parser tells: how deep, whether a key is there twice, what was lost.

Each question has an exact answer here, in plain Python, of linear cost and without recursion. Those that are asked of every
message take a batch, answer yes or no, and try a cheap proof first (a length, an encoding that comes out the same): a
no makes the codec look for the one to blame. They have compiled twins. The payload scanners expect payloads that a
parser has accepted: given another they return a number, or raise IndexError, and never hang.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeAlias, cast

__all__ = [
    "Same",
    "arrives",
    "cbor_sound",
    "count_keys",
    "find_difference",
    "find_lossy_float",
    "find_nan_key",
    "is_plain",
    "json_depth",
    "json_sound",
    "json_within",
    "msgpack_may_have_nan",
    "msgpack_skeleton",
    "msgpack_sound",
    "msgpack_within",
    "object_depth",
]

Same: TypeAlias = Callable[[list[bytes], list[Any]], bool]
"""Whether messages come out as just these payloads when they are encoded again."""

# Possessive, and taking a string without an end up to the end of the payload: linear, whatever it is given.
_JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_CONTAINERS = frozenset({dict, list, tuple})
_BRACKETS = b"[]{}"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_MSGPACK_CONTAINERS = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
_CBOR_CONTAINERS = bytes(range(0x80, 0xC0))
# A float that is not a number, as it would stand as a key; it may also be found where there is none. Each pattern begins
# with one byte, and is searched for by it.
_MSGPACK_NAN = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]"), re.compile(rb"\xca[\x7f\xff][\x80-\xff]")
_CBOR_NAN = (
    re.compile(rb"\xfb[\x7f\xff][\xf0-\xff]"),
    re.compile(rb"\xfa[\x7f\xff][\x80-\xff]"),
    re.compile(rb"\xf9[\x7c-\x7f\xfc-\xff]"),
)
_PLAIN: frozenset[object] = frozenset({type(None), bool, float, str, bytes})
_PLAIN_KEYS: frozenset[object] = frozenset({str, bytes})
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def json_depth(payload: bytes) -> int:
    """How deep arrays and objects nest in a JSON text; 0 for a scalar."""
    brackets = _JSON_STRING.sub(b"", payload).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets), initial=0))


def json_within(payloads: list[bytes], max_depth: int) -> bool:
    """Whether no JSON text nests deeper than ``max_depth``."""
    if max(map(len, payloads), default=0) // 2 <= max_depth:  # what is opened is closed
        return True
    return not any(
        len(payload) // 2 > max_depth
        and payload.count(b"[") + payload.count(b"{") > max_depth
        and json_depth(payload) > max_depth
        for payload in payloads
    )


def json_sound(payloads: list[bytes], messages: list[Any], max_depth: int, unique_keys: bool, same: Same) -> bool:
    """Whether no JSON text nests deeper than ``max_depth``, nor, where ``unique_keys``, has a name twice in one object.

    ``messages`` are what they were read as, without a type.
    """
    if not json_within(payloads, max_depth):
        return False
    # What comes out the same was made of dicts, whose keys are unique. With white space or escapes it does not; but each
    # entry has its colon.
    return (
        not unique_keys
        or _has_keys_for_colons(payloads, messages)
        or same(payloads, messages)
        or all(
            _JSON_STRING.sub(b"", payload).count(b":") == count_keys(message)
            for payload, message in zip(payloads, messages, strict=True)
        )
    )


def _has_keys_for_colons(payloads: list[bytes], messages: list[Any]) -> bool:
    """Whether all messages are dicts, with as many keys as there are colons: then each entry is one of these keys, once."""
    return (
        # The first of them tells, mostly, whether it is worth asking.
        next(map(type, messages), None) is dict
        and payloads[0].count(b":") == len(messages[0])
        and set(map(type, messages)) == {dict}
        and b"".join(payloads).count(b":") == sum(map(len, messages))
    )


# The MessagePack formats that carry bytes behind a length: the width of the length, and what else precedes the bytes.
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_SIZED.update({0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)})
# … and those of a fixed size, the first byte included.
_FIXED = {0xC0: 1, 0xC1: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2}
_FIXED.update({0xD1: 3, 0xD2: 5, 0xD3: 9, 0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18})


def msgpack_skeleton(payload: bytes, max_depth: int) -> tuple[int, int]:
    """How deep arrays and maps nest in a MessagePack payload, and how many entries its maps declare in all.

    Stops as soon as the depth is above ``max_depth``: memory is bounded by that and not by the payload.
    """
    at = deepest = entries = 0
    size = len(payload)
    waiting = [1]  # for each open container, how many items of it are still to come
    while waiting:
        if not waiting[-1]:
            waiting.pop()
            continue
        if at >= size:
            break
        waiting[-1] -= 1
        byte = payload[at]
        if byte <= 0x7F or byte >= 0xE0:
            at += 1
            continue
        if 0xA0 <= byte <= 0xBF:
            at += 1 + (byte & 0x1F)
            continue
        fixed = _FIXED.get(byte)
        if fixed is not None:
            at += fixed
            continue
        sized = _SIZED.get(byte)
        if sized is not None:
            width, kind = sized
            at += 1 + width + kind + int.from_bytes(payload[at + 1 : at + 1 + width])
            continue
        if byte <= 0x9F:
            count, is_map, at = byte & 0x0F, byte < 0x90, at + 1
        else:  # DC, DD: arrays; DE, DF: maps; of 16 and 32 bits
            width = 4 if byte & 1 else 2
            count, is_map, at = int.from_bytes(payload[at + 1 : at + 1 + width]), byte >= 0xDE, at + 1 + width
        if is_map:
            entries += count
            count *= 2
        waiting.append(count)
        if len(waiting) - 1 > deepest:
            deepest = len(waiting) - 1
            if deepest > max_depth:
                break
    return deepest, entries


def msgpack_within(payloads: list[bytes], max_depth: int) -> bool:
    """Whether no MessagePack payload nests deeper than ``max_depth``."""
    if max(map(len, payloads), default=0) <= max_depth:
        return True
    return not any(
        len(payload) > max_depth
        and len(payload) - len(payload.translate(None, _MSGPACK_CONTAINERS)) > max_depth
        and msgpack_skeleton(payload, max_depth)[0] > max_depth
        for payload in payloads
    )


def msgpack_may_have_nan(payload: bytes) -> bool:
    """False where no float in a MessagePack payload is NaN."""
    # The second byte of one is 7F or FF: that neither is there is the quickest answer.
    return (b"\x7f" in payload or b"\xff" in payload) and any(
        pattern.search(payload) is not None for pattern in _MSGPACK_NAN
    )


def msgpack_sound(payloads: list[bytes], messages: list[Any], max_depth: int, unique_keys: bool, same: Same) -> bool:
    """Whether no payload nests deeper than ``max_depth``, has NaN for a key or, where ``unique_keys``, a key twice in a map.

    ``messages`` are what they were read as, without a type.
    """
    if not msgpack_within(payloads, max_depth):
        return False
    if msgpack_may_have_nan(b"".join(payloads)) and any(
        msgpack_may_have_nan(payload) and find_nan_key(message) is not None
        for payload, message in zip(payloads, messages, strict=True)
    ):
        return False
    # What comes out the same was made of dicts, whose keys are unique. What has longer forms than need be does not; then
    # the entries that are declared must be as many as the keys that there are.
    return (
        not unique_keys
        or same(payloads, messages)
        or all(
            msgpack_skeleton(payload, max_depth)[1] == count_keys(message)
            for payload, message in zip(payloads, messages, strict=True)
        )
    )


def cbor_sound(payload: bytes, message: Any, max_depth: int) -> bool:
    """Whether what ``payload`` was read as nests no deeper than ``max_depth``, and has no NaN for a key."""
    opened = len(payload) - len(payload.translate(None, _CBOR_CONTAINERS))
    if opened > max_depth and object_depth(message, max_depth) > max_depth:
        return False
    may_have_nan = any(pattern.search(payload) is not None for pattern in _CBOR_NAN)
    return not may_have_nan or find_nan_key(message) is None


def find_nan_key(message: Any) -> str | None:
    """The path of a NaN that is a key of a dict in a message, or within one; None where there is none."""
    found: list[str] = []

    def inspect(value: Any, path: str, is_key: bool) -> None:
        if is_key and _is_nan(value):
            found.append(path)

    object_depth(message, sys.maxsize, inspect)
    return found[0] if found else None


def is_plain(message: Any, max_depth: int) -> bool:
    """Whether a message is made of what arrives as itself in every binary codec, and nests no deeper than ``max_depth``.

    That is None, bool, int of 64 bits, float, str, bytes, list, tuple (as a list) and dict, and no subclass of theirs; its
    keys str, bytes and int. A no says nothing: what is not plain may arrive as well.
    """
    # In depth, and not level by level: a list that holds itself twice would double with each of them.
    levels: list[Iterator[Any]] = [iter((message,))]
    while levels:
        for node in levels[-1]:
            kind = cast("object", type(node))
            if kind is dict:
                if not all(type(key) in _PLAIN_KEYS or _is_small_int(key) for key in node):
                    return False
                below: Iterable[Any] = node.values()
            elif kind is list or kind is tuple:
                below = node
            elif kind in _PLAIN or _is_small_int(node):
                continue
            else:
                return False
            if len(levels) > max_depth:
                return False
            levels.append(iter(below))
            break
        else:
            levels.pop()
    return True


def _is_small_int(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def arrives(
    messages: list[Any], payloads: list[bytes], decode: Callable[[bytes], Any], is_json: bool, max_depth: int
) -> bool:
    """Whether no payload nests deeper than ``max_depth``, and each message is what ``decode`` makes of its payload.

    A list may arrive for a tuple, a NaN for a NaN. The payloads are what the messages were encoded as, in JSON or
    MessagePack: of a message that is made of what these carry faithfully by their nature, a twin need not decode any.
    """
    if not (json_within if is_json else msgpack_within)(payloads, max_depth):
        return False
    arrived = list(map(decode, payloads))
    return arrived == messages or all(
        find_difference(sent, came) is None for sent, came in zip(messages, arrived, strict=True)
    )


def count_keys(message: Any) -> int:
    """How many entries the dicts of a decoded message hold in all, keys that are tuples of them included."""
    count = 0
    waiting: list[Any] = [message]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            pairs = cast("Mapping[Any, Any]", node)
            count += len(pairs)
            waiting += [value for value in pairs.values() if type(value) in _CONTAINERS]
            waiting += [key for key in pairs if type(key) is tuple]
        elif isinstance(node, (list, tuple)):
            waiting += [value for value in cast("Sequence[Any]", node) if type(value) in _CONTAINERS]
    return count


def object_depth(
    message: Any, max_depth: int, inspect: Callable[[Any, str, bool], tuple[Any, ...] | None] | None = None
) -> int:
    """How deep dicts, lists, tuples and sets nest in a message, not deeper than ``max_depth + 1``: a cycle ends there.

    ``inspect``, where given, is called with each value that is none of these, its path, and whether it is a key of a
    dict, or within one. What it returns is inside that value, one level deeper.
    """
    deepest = 0
    waiting: list[tuple[Any, int, str, bool]] = [(message, 0, "$", False)]
    while waiting:
        node, depth, path, is_key = waiting.pop()
        children: list[tuple[Any, int, str, bool]]
        below = depth + 1
        if issubclass(type(node), Mapping):  # not dict alone: cbor2 has a frozen mapping, for a key
            pairs: Mapping[Any, Any] = node
            children = [(value, below, f"{path}.{key}", is_key) for key, value in pairs.items()]
            children += [(key, below, f"{path}.{key}", True) for key in pairs]
        elif isinstance(node, (list, tuple, set, frozenset)):
            items = cast("Iterable[Any]", node)
            children = [(value, below, f"{path}[{index}]", is_key) for index, value in enumerate(items)]
        else:
            inside = inspect(node, path, is_key) if inspect is not None else None
            if not inside:
                continue
            children = [(value, below, path, is_key) for value in inside]
        if below > deepest:
            deepest = below
            if deepest > max_depth:
                return deepest
        waiting += children
    return deepest


def find_difference(sent: Any, arrived: Any) -> str | None:
    """The path at which what arrived is not what was sent, or None. A list may arrive for a tuple, a NaN for a NaN."""
    waiting: list[tuple[Any, Any, str]] = [(sent, arrived, "$")]
    while waiting:
        one, other, path = waiting.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            pairs, theirs = cast("Mapping[Any, Any]", one), cast("Mapping[Any, Any]", other)
            for key, value in pairs.items():
                if key not in theirs:
                    return f"{path}[{key!r}]"
                waiting.append((value, theirs[key], f"{path}.{key}"))
            if len(pairs) != len(theirs):
                return path
        elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
            ours, those = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
            if len(ours) != len(those):
                return path
            waiting.extend(
                (mine, that, f"{path}[{at}]") for at, (mine, that) in enumerate(zip(ours, those, strict=True))
            )
        elif one != other and not (_is_nan(one) and _is_nan(other)):
            return path
    return None


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def find_lossy_float(message: Any, max_depth: int) -> str | None:
    """The path of a NaN or an infinity in a message, which JSON has no word for; None where there is none."""
    found: list[str] = []

    def inspect(value: Any, path: str, _is_key: bool) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            found.append(path)

    object_depth(message, max_depth, inspect)
    return found[0] if found else None
