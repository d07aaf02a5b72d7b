"""Scratch: the buffer that all connections of a thread read into, one after the other.

One for each connection would be 64 KiB for each that is idle. So what was read is taken out before anything else is read in
the same thread. Only a large frame is not read by way of it, but into the place where it stays (`Channel.in_place`).
"""

from __future__ import annotations

import threading
from typing import Final

__all__ = ["SCRATCH_BYTES", "thread_scratch"]

SCRATCH_BYTES: Final = 1 << 16
"""Large enough that system calls are few, small enough to stay in the processor's cache."""


class _Local(threading.local):
    def __init__(self) -> None:
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))


_local = _Local()


def thread_scratch() -> memoryview:
    """The buffer of the calling thread."""
    return _local.scratch
