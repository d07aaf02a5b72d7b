"""What every kernel takes and gives: the contract between the decoder and the inner loops.

A *kernel* is a stateless function that finds the payloads in the bytes held:

    split(*options, data, start, memo, limit) -> (payloads, used, need, memo, skipped, fault)

``data``
    The bytes held, ``bytes`` or ``bytearray``; never changed, and never kept.
``start``
    The index in ``data`` at which the first undelivered frame begins.
``memo``
    What the kernel said about that frame when it was called before on fewer bytes, or None. Its meaning is the
    kernel's own; it spares a second look at bytes already searched, so that a drip of single bytes costs no more
    than one chunk. A memo counts from the frame's start, so it stays true when the decoder moves its bytes.
``limit``
    The most payloads to return; 0 for all.

``payloads``
    Slices of ``data``, of its type.
``used``
    The index at which the first frame that was not returned begins (junk that the rule ignores is behind us).
``need``
    Bytes, counted from ``used``, without which another call cannot learn anything; 0 where ``limit`` was reached.
``memo``
    To be given back with the next call. Not None means that a search goes on: inside a frame, or for one (`HUNTING`).
``skipped``
    Bad frames that were passed over because the framer was asked to skip.
``fault``
    None, or why the frame at ``used`` breaks the rule: ``(kind, reason, expected, got, seen)``, where ``kind`` is
    `TOO_LARGE` or `CORRUPT` and ``seen`` is how many of the frame's bytes show it.

A kernel's answer depends on the bytes from the frame's start on and on nothing else: called on a longer prefix of
the same stream it says the same of the same frames. That is what makes cuts invisible (the first law).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["CORRUPT", "DISCARDING", "HUNTING", "TOO_LARGE", "Data", "Fault", "Memo", "Split", "Splitter"]

TOO_LARGE = "too large"
CORRUPT = "corrupt"

DISCARDING = -1
"""The memo of a kernel that is inside a frame which it passes over."""

HUNTING = -2
"""The memo of a kernel that is between frames and looks for the mark of the next one; a stream may end here."""

Data: TypeAlias = bytes | bytearray
Memo: TypeAlias = Any
Fault: TypeAlias = tuple[str, str, int | None, int | None, int]
Split: TypeAlias = tuple[list[Any], int, int, Memo, int, Fault | None]
Splitter: TypeAlias = Callable[[Data, int, Memo, int], Split]
"""A kernel with its options bound: ``(data, start, memo, limit)`` in, the six answers out."""
