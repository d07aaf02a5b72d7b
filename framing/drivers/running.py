"""Running: who runs a server, and that it is over; both are decided once.

``stop`` and ``close`` are called by any thread, by signal handlers above them, by callbacks of the run itself, before the run
and behind it. So nothing here waits for a lock, which whoever was interrupted might hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from framing.errors import ConnectionClosed

__all__ = ["Running"]

_NOBODY = 0
"""Stands for the thread that runs what was closed before any did; no thread has this number."""


class Running:
    """The one run of ``what``.

        running.claim()
        try:
            running.enter()
            ...
        finally:
            running.end(release)

    What `claim` decides nobody else can change, and from there on `end` is called, whatever happens.
    """

    __slots__ = ("_ending", "_inside", "_over", "_runner", "_what", "ended")

    def __init__(self, what: str) -> None:
        self._what = what
        self._runner: dict[str, int] = {}  # the thread that runs it: setdefault() decides who comes first
        self._inside = False
        self._ending = threading.Lock()  # taken by who ends it, and never waited for
        self._over = threading.Event()
        self.ended = False

    def claim(self) -> None:
        """The calling thread is going to run it. Raises ConnectionClosed behind the end, RuntimeError where it is running."""
        me = threading.get_ident()
        runner = self._runner.setdefault("thread", me)
        if self.ended or runner == _NOBODY:
            raise self.refusal()
        if runner != me or self._inside:
            raise RuntimeError(f"{self._what} is running already")

    def enter(self) -> None:
        """It runs. Raises ConnectionClosed where a signal handler has closed it behind `claim`."""
        self._inside = True
        if self.ended:
            raise self.refusal()

    def refusal(self) -> ConnectionClosed:
        """What is raised behind the end."""
        return ConnectionClosed(f"{self._what} has been stopped; make a new one")

    def end(self, release: Callable[[], object]) -> None:
        """It has ended: call ``release``, unless that was done."""
        if not self._ending.acquire(blocking=False):
            return
        self.ended = True
        try:
            release()
        finally:
            self._inside = False
            self._over.set()

    def close(self, stop: Callable[[], object], release: Callable[[], object]) -> None:
        """Call ``stop``, and return when it has ended; in the thread that runs it, at once: the run does the rest."""
        runner = self._runner.setdefault("thread", _NOBODY)
        stop()
        mine = runner == threading.get_ident()
        if runner == _NOBODY or (mine and not self._inside):
            self.end(release)
        elif not mine:
            self._over.wait()
