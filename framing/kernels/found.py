"""The kernel around a framer that is written as one function: it says where the payload that starts here begins and ends.

A framer of a user's own: its function looks at the bytes, this loop does all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framing.errors import HEAD_BYTES, CorruptFrame
from framing.kernels.contract import CORRUPT, TOO_LARGE, Data, Fault, Memo, Split

__all__ = ["split_found"]

ROOM = 1 << 16
"""What header and trailer of a frame may take beside its payload: without an end, bytes are kept up to here."""


def split_found(
    find: Callable[[Data, int, int], tuple[int, int, int] | int],
    max_frame: int,
    data: Data,
    start: int,
    memo: Memo,
    limit: int,
) -> Split:
    """Ask ``find`` for one frame after the other. The memo is how many bytes of the frame it has seen before.

    A frame whose end is not found, or found farther than ``max_frame`` and `ROOM`, is too large: ``find`` need not
    watch the limit itself.
    """
    payloads: list[Any] = []
    size = len(data)
    bound = max_frame + ROOM
    endless: Fault = (TOO_LARGE, "its end is not found within that", max_frame, max_frame + 1, HEAD_BYTES)
    at = start
    seen = memo or 0
    while at < size:
        try:
            answer = _ask(find, data, at, at + seen)
        except CorruptFrame as error:
            # What the framer shows of the frame begins where the frame begins.
            fault = (CORRUPT, str(error), error.expected, error.got, len(error.head))
            return payloads, at, 0, None, 0, fault
        except Exception:
            # A mistake in find is raised as it is, but behind what came before it: the next call meets it again.
            if payloads:
                return payloads, at, size - at, None, 0, None
            raise
        if isinstance(answer, int):
            if size - at > bound:
                return payloads, at, 0, None, 0, endless
            return payloads, at, min(size - at + answer, bound + 1), size - at, 0, None
        begin, end, behind = answer
        if behind - at > bound and size - at > bound and isinstance(find(data[at : at + bound + 1], 0, 0), int):
            # Found only because more has come than is ever kept: what is judged is what would have been kept.
            return payloads, at, 0, None, 0, endless
        if end - begin > max_frame:
            if begin > size:
                # What the header says is known before the header has come: show it only when it is there, so
                # that the error is the same however the bytes arrive.
                return payloads, at, begin - at, size - at, 0, None
            reason = "it is announced, or found, to be more than that"
            return payloads, at, 0, None, 0, (TOO_LARGE, reason, max_frame, end - begin, min(begin - at, HEAD_BYTES))
        if behind - at > bound:
            if size - at < HEAD_BYTES:
                return payloads, at, HEAD_BYTES, size - at, 0, None
            return payloads, at, 0, None, 0, endless
        if behind > size:
            return payloads, at, behind - at, size - at, 0, None
        payloads.append(data[begin:end])
        at = behind
        seen = 0
        if limit and len(payloads) == limit:
            return payloads, at, 0, None, 0, None
    return payloads, at, 1, None, 0, None


def _ask(
    find: Callable[[Data, int, int], tuple[int, int, int] | int], data: Data, at: int, seen: int
) -> tuple[int, int, int] | int:
    """The answer of ``find``, if it is one; raises ValueError for one that could never come to an end."""
    answer = find(data, at, seen)
    if isinstance(answer, int):
        if answer < 1:
            raise ValueError(f"find asked for {answer} more bytes; ask for 1 at least, or return a frame")
        return answer
    begin, end, behind = answer
    if not at <= begin <= end <= behind or behind == at:
        raise ValueError(
            f"find returned {answer} for a frame at {at}: it must hold start <= begin <= end <= next, next > start"
        )
    return answer
