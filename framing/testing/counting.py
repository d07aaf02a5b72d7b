"""Count what a framer's kernel looks at, without a clock.

Two questions, asked of the same function in two ways. *How many bytes does it touch?* It is given bytes that count how
many of them each search, slice and copy went over; where twice the stream costs more than about twice the bytes,
the cost is not linear. *Does it look again at what it has searched?* Regular expressions and other native code
go past the counting, so bytes that end a frame are planted in the middle of what was searched before: a kernel that goes
on where it stopped cannot see them, one that begins anew finds a frame which is not there.

A compiled kernel goes past the counting altogether. Its bytes are counted on its reference in plain Python, which says the
same of the same bytes; whether it looks again it is asked itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import BuiltinFunctionType
from typing import Any

from framing.framers import Framer
from framing.kernels import decimals, delimiters, lengths, stuffing
from framing.kernels.contract import Data, Memo, Split, Splitter

__all__ = ["Spied", "Tally"]

_PLANT_FROM = 1024
"""Where less than this was searched, a second look costs nothing worth the name: headers may be read again."""


@dataclass(slots=True)
class Tally:
    """What was counted: bytes touched by the kernel, and copied to be shown to it."""

    touched: int = 0
    looked_again: int | None = None
    """The length of the data, when planted bytes were first seen; None where they never were."""


def _found(tally: Tally, size: int, args: tuple[Any, ...], at: int) -> None:
    begin, end, _ = slice(*(args[1:3] if len(args) > 2 else (args[1] if len(args) > 1 else 0, None))).indices(size)
    tally.touched += max(0, end - begin) if at < 0 else max(0, at - begin) + 1


def _searching(name: str, base: Any) -> Callable[..., Any]:
    plain = getattr(base, name)
    backwards = name.startswith("r")

    def search(self: Any, *args: Any) -> Any:
        at = -1
        try:
            at = plain(self, *args)
        finally:
            _found(self.tally, len(self), args, -1 if backwards else at)
        return at

    return search


def _going_over_all(name: str, base: Any) -> Callable[..., Any]:
    plain = getattr(base, name)

    def go(self: Any, *args: Any, **options: Any) -> Any:
        self.tally.touched += len(self)
        return plain(self, *args, **options)

    return go


def _counting(base: Any) -> Any:
    """A subclass of ``base`` (bytes or bytearray) that adds what is done with it to its ``tally``."""

    def getitem(self: Any, key: Any) -> Any:
        part = base.__getitem__(self, key)
        self.tally.touched += 1 if isinstance(part, int) else len(part)
        return part

    def contains(self: Any, part: Any) -> bool:
        return bool((self.index(part) if isinstance(part, int) and part in bytes(self) else self.find(part)) >= 0)

    methods: dict[str, Any] = {name: _searching(name, base) for name in ("find", "rfind", "index", "rindex")}
    over_all = (
        "count",
        "split",
        "rsplit",
        "splitlines",
        "partition",
        "rpartition",
        "replace",
        "translate",
        "decode",
        "hex",
    )
    methods |= {
        name: _going_over_all(name, base) for name in (*over_all, "__iter__", "__add__", "strip", "lower", "upper")
    }
    return type(f"Counted{base.__name__}", (base,), methods | {"__getitem__": getitem, "__contains__": contains})


_COUNTED: dict[type, Any] = {bytes: _counting(bytes), bytearray: _counting(bytearray)}

_REFERENCES: dict[str, Callable[..., Split]] = {
    name: getattr(module, name)
    for module in (decimals, delimiters, lengths, stuffing)
    for name in module.__all__
    if name.startswith("split_")
}


def _countable(split: Splitter) -> Splitter:
    """The kernel, or its reference where it is compiled."""
    bound: Any = split
    if isinstance(bound, partial) and isinstance(bound.func, BuiltinFunctionType):
        return partial(_REFERENCES[bound.func.__name__], *bound.args)
    return split


@dataclass(frozen=True, slots=True, eq=False)
class Spied(Framer):
    """``framer`` with its kernel watched: a framer that behaves as it does, and counts into ``tally``.

    ``plant`` is what to put among the bytes already searched, or nothing.
    """

    framer: Framer
    tally: Tally
    plant: bytes = b""
    searched: list[int] = field(default_factory=lambda: [0])

    def splitter(self) -> Splitter:
        """The kernel of the framer, watched."""
        return self._split_watched(self.framer.splitter())

    @property
    def final_delimiter(self) -> bytes:
        return self.framer.final_delimiter

    def _split_watched(self, split: Splitter) -> Splitter:
        tally, searched = self.tally, self.searched
        countable = _countable(split)

        def watched(data: Data, start: int, memo: Memo, limit: int) -> Split:
            counted = _COUNTED[type(data)](data)
            counted.tally = tally
            if type(data) is bytes:
                tally.touched += len(data)
            answer = countable(counted, start, memo, limit)
            payloads, used, need, _, skipped, fault = answer
            incomplete = not payloads and fault is None and not skipped and used == start
            if self.plant and incomplete and memo is not None and searched[0] >= _PLANT_FROM:
                middle = start + searched[0] // 2
                planted = bytearray(data)
                planted[middle : middle + len(self.plant)] = self.plant
                again = split(type(data)(planted), start, memo, limit)
                if again[:3] != (payloads, used, need) or again[5] is not None:
                    tally.looked_again = tally.looked_again or len(data)
            searched[0] = len(data) - start if incomplete else 0
            return answer

        return watched
