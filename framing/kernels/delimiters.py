"""Kernels for frames that end in a delimiter, with or without a mark at their start.

``bytes.split`` finds short lines faster than any loop, so the common case is one call of it. Long ones are found faster by
``find``, which looks at many bytes at once; it takes over, too, where a limit or a skip has to be watched. A search never
looks at a byte twice: the memo says how far a frame has been searched, less the bytes in which a delimiter may already
have begun.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from framing.kernels.contract import CORRUPT, DISCARDING, HUNTING, TOO_LARGE, Data, Fault, Memo, Split

__all__ = ["join_delimited", "pattern_of", "split_delimited", "split_marked"]

LONG_BYTES = 512
"""Frames of so many bytes are found sooner one by one."""

_CR = 0x0D
_NO_DELIMITER = "no delimiter came within that"


@lru_cache(maxsize=256)
def pattern_of(delimiters: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """What finds the first of several delimiters, and the longest where several begin at one place."""
    return re.compile(b"|".join(map(re.escape, sorted(delimiters, key=len, reverse=True))))


def join_delimited(delimiter: bytes, cr_allowed: bool, max_frame: int, payloads: list[Any]) -> bytes | None:
    """The frames of all payloads, as `split_delimited` takes them apart, in one bytes object.

    None where one of them is no ``bytes``, too large, or has a delimiter in it, and where the delimiter ends as it begins:
    what is wrong, if anything is, encoding each by itself tells.
    """
    if list(map(type, payloads)).count(bytes) < len(payloads) or max(map(len, payloads), default=0) > max_frame:
        return None
    if any(delimiter.startswith(delimiter[at:]) for at in range(1, len(delimiter))):
        return None
    joined = delimiter.join([*payloads, b""])
    # No two of them can have bytes in common. So if there are no more than were put there, those are all.
    if joined.count(delimiter) > len(payloads) or (cr_allowed and b"\r" in joined and b"\r" + delimiter in joined):
        return None
    return joined


def split_delimited(
    delimiter: bytes,
    cr_allowed: bool,
    max_frame: int,
    skip: bool,
    data: Data,
    start: int,
    memo: Memo,
    limit: int,
) -> Split:
    """The payload, then ``delimiter``; with ``cr_allowed`` a carriage return before the delimiter belongs to it."""
    size = len(data)
    width = len(delimiter)
    if not limit and memo is None and start < size:
        parts = _cut(delimiter, data, start)
        tail = len(parts.pop())
        if tail < max_frame + width and (size - start <= max_frame or not parts or max(map(len, parts)) <= max_frame):
            # One byte is searched for by memchr; CR and LF together would take ten times as long.
            if cr_allowed and b"\r" in data:
                parts = [part[:-1] if part.endswith(b"\r") else part for part in parts]
            return parts, size - tail, tail + 1, max(0, tail - width + 1) if tail else None, 0, None
    payloads: list[Any] = []
    # The delimiter of a payload that is within the limit ends within this many bytes of the frame's start.
    bound = max_frame + width + cr_allowed
    skipped = 0
    at = start
    scanned = memo or 0
    while True:
        if scanned == DISCARDING:
            stop = data.find(delimiter, at)
            if stop < 0:
                used = max(at, size - width + 1)
                return payloads, used, size - used + 1, DISCARDING, skipped, None
            at = stop + width
            scanned = 0
        stop = data.find(delimiter, at + scanned, at + bound)
        if stop < 0:
            held = size - at
            if held < bound:
                return payloads, at, held + 1, max(0, held - width + 1) if held else None, skipped, None
            if not skip:
                return (
                    payloads,
                    at,
                    0,
                    None,
                    skipped,
                    (TOO_LARGE, _NO_DELIMITER, max_frame, max_frame + 1, max_frame + 1),
                )
            skipped += 1
            at += bound - width + 1
            scanned = DISCARDING
            continue
        end = stop - 1 if cr_allowed and stop > at and data[stop - 1] == _CR else stop
        if end - at <= max_frame:
            payloads.append(data[at:end])
        elif skip:
            skipped += 1
        else:
            return payloads, at, 0, None, skipped, (TOO_LARGE, _NO_DELIMITER, max_frame, max_frame + 1, max_frame + 1)
        at = stop + width
        scanned = 0
        if limit and len(payloads) == limit:
            return payloads, at, 0, None, skipped, None


def _cut(delimiter: bytes, data: Data, start: int) -> list[Any]:
    """What ``data[start:].split(delimiter)`` gives, in whatever way is fast for frames as long as the first ones."""
    width = len(delimiter)
    parts: list[Any] = []
    stop = data.find(delimiter, start)
    while stop - start >= LONG_BYTES:
        parts.append(data[start:stop])
        start = stop + width
        stop = data.find(delimiter, start)
    if stop < 0:
        parts.append(data[start:])
        return parts
    if parts or width > 1:
        parts += (data[start:] if start else data).split(delimiter)
        return parts
    # To split some bytes before the start, too, is sooner done than to copy all those behind it.
    every: list[Any] = data.split(delimiter)
    del every[: data.count(delimiter, 0, start)]
    every[0] = data[start:stop]
    return every


def split_marked(
    delimiters: tuple[bytes, ...],
    mark: bytes,
    max_frame: int,
    skip_oversize: bool,
    skip_corrupt: bool,
    data: Data,
    start: int,
    memo: Memo,
    limit: int,
) -> Split:
    """``mark`` (which may be empty), the payload, then the first of several delimiters.

    A mark inside a frame means that the frame before it was cut off: its sender began anew.
    """
    payloads: list[Any] = []
    pattern = pattern_of(delimiters)
    longest = max(map(len, delimiters))
    size = len(data)
    lead = len(mark)
    bound = lead + max_frame + longest
    skipped = 0
    at = start
    scanned = memo or 0
    while True:
        if scanned == DISCARDING:
            found = pattern.search(data, at)
            if found is None:
                used = max(at, size - longest + 1)
                return payloads, used, size - used + 1, DISCARDING, skipped, None
            at = found.end()
            scanned = 0
        if scanned == HUNTING:
            found_at = data.find(mark, at)
            if found_at < 0:
                used = size - _begun(mark, data, at)
                return payloads, used, size - used + 1, HUNTING, skipped, None
            at = found_at
            scanned = 0
        if not scanned and lead and (fault := _mark_fault(mark, data, at)) is not None:
            if not skip_corrupt:
                return payloads, at, 0, None, skipped, fault
            skipped += 1
            at += 1
            scanned = HUNTING
            continue
        # Clamped, for an index above the largest size is an OverflowError here.
        found = pattern.search(data, at + max(scanned, lead), min(size, at + bound))
        if found is None:
            held = size - at
            if held < bound:
                # Until the mark is whole it is looked at again, and so is all behind it.
                again = max(0, held - longest + 1) if held >= lead else 0
                return payloads, at, held + 1, again if held else None, skipped, None
            stop = size
        else:
            stop = found.start()
        begin = at + lead
        if stop - begin > max_frame:
            if not skip_oversize:
                seen = lead + max_frame + 1
                return payloads, at, 0, None, skipped, (TOO_LARGE, _NO_DELIMITER, max_frame, max_frame + 1, seen)
            skipped += 1
            if found is None:
                at += bound - longest + 1
                scanned = DISCARDING
                continue
        elif lead and (inner := data.rfind(mark, begin, stop)) >= 0:
            if not skip_corrupt:
                reason = "a start mark came before its delimiter: the frame was cut off"
                return payloads, at, 0, None, skipped, (CORRUPT, reason, None, None, lead)
            skipped += 1
            at = inner
            scanned = 0
            continue
        else:
            payloads.append(data[begin:stop])
        assert found is not None
        at = found.end()
        scanned = 0
        if limit and len(payloads) == limit:
            return payloads, at, 0, None, skipped, None


def _mark_fault(mark: bytes, data: Data, at: int) -> Fault | None:
    here = bytes(data[at : at + len(mark)])
    if mark.startswith(here):
        return None
    wrong = next(index for index, byte in enumerate(here) if byte != mark[index])
    return (CORRUPT, "it does not begin with the start mark", mark[wrong], here[wrong], wrong + 1)


def _begun(mark: bytes, data: Data, at: int) -> int:
    """How many of the last bytes may be the beginning of ``mark``."""
    for count in range(min(len(mark) - 1, len(data) - at), 0, -1):
        if data.endswith(mark[:count]):
            return count
    return 0
