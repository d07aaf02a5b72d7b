"""What codecs ask of a payload or a message beyond what a parser tells: how deep, how many map entries, what was lost.

Each question has an exact answer here, in plain Python, of linear cost and without recursion; a codec asks only where a
cheap proof (a count of bytes, an encoding that comes out the same) has not answered already. The payload scanners
expect a payload that a parser has accepted: given another they return a number, or raise IndexError, and never hang.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

__all__ = [
    "count_keys",
    "find_difference",
    "find_lossy_float",
    "json_depth",
    "msgpack_skeleton",
    "nests_within",
    "object_depth",
]

# Possessive, and taking a string without an end up to the end of the payload: linear, whatever it is given.
_JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_CONTAINERS = frozenset({dict, list, tuple})
_BRACKETS = b"[]{}"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def json_depth(payload: bytes) -> int:
    """How deep arrays and objects nest in a JSON text; 0 for a scalar."""
    brackets = _JSON_STRING.sub(b"", payload).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets), initial=0))


# The MessagePack formats that carry bytes behind a length: the width of the length, and what else precedes the bytes.
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_SIZED.update({0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)})
# … and those of a fixed size, the first byte included.
_FIXED = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5}
_FIXED.update({0xD3: 9, 0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18})


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


def nests_within(message: Any, max_depth: int) -> bool:
    """Whether a message as a parser makes it, of dicts, lists and tuples, nests no deeper than ``max_depth``."""
    level: list[Any] = [message] if type(message) in _CONTAINERS else []
    for _ in range(max_depth):
        if not level:
            return True
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                pairs = cast("Mapping[Any, Any]", node)
                below += [value for value in pairs.values() if type(value) in _CONTAINERS]
                below += [key for key in pairs if type(key) is tuple]
            else:
                below += [value for value in node if type(value) in _CONTAINERS]
        level = below
    return not level


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
