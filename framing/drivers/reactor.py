"""Reactor: one thread that waits for everything at once: descriptors, timers, and what other threads ask of it.

It knows no messages and no peers. Every round goes the same way: wait, call what is ready, call whose time has come, call
what other threads have asked for, and then let everybody who was touched in the round settle, once. So what many events of a
round have queued for one connection leaves it in one write.

What a callback raises is logged and ends nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import logging
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Final, Protocol, TypeAlias

from framing.drivers.epoll import best_selector

__all__ = ["Reactor", "Settling", "Timer"]

logger = logging.getLogger("framing.drivers")

Ready: TypeAlias = Callable[[int], object]

SELECT_LIMIT: Final = 512 if sys.platform == "win32" else 1024
"""What select() takes: so many descriptors on Windows, numbers below this elsewhere."""

CANCELLED_KEPT = 64
"""Cancelled timers that may lie about before it is worth clearing them up."""


class Settling(Protocol):
    """Somebody who was touched in a round."""

    def settle(self) -> None:
        """The round's events are handled: write, and say anew what to wait for."""
        ...


class Timer:
    """A call that is due at a time. `cancel` it, or let it happen."""

    __slots__ = ("_reactor", "call", "order", "when")

    def __init__(self, reactor: Reactor, when: float, order: int, call: Callable[[], object]) -> None:
        self._reactor = reactor
        self.when = when
        self.order = order
        self.call: Callable[[], object] | None = call

    def __repr__(self) -> str:
        return f"<Timer {'over' if self.call is None else f'due at {self.when:.3f}'}>"

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when or (self.when == other.when and self.order < other.order)

    def cancel(self) -> None:
        """Let it not happen; nothing changes where it has happened already."""
        if self.call is not None:
            self.call = None
            self._reactor.cancelled()


class Reactor:
    """One thread's waiting. ``selector`` is any of the selectors module, and for this reactor alone; it is not closed then."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        if selector is not None and selector.get_map():
            raise ValueError("the selector has descriptors registered; give one that nobody else uses")
        self._own_selector = selector is None
        self._selector: selectors.BaseSelector = best_selector() if selector is None else selector
        self._timers: list[Timer] = []  # a heap
        self._order = count()
        self._cancelled = 0
        self._soon: deque[Callable[[], object]] = deque()
        self._settling: deque[Settling] = deque()
        self.attend: Callable[[Settling], None] = self._settling.append
        """Have its ``settle()`` called when the events of this round are handled."""
        self._always: dict[Any, Callable[[], object]] = {}  # files, which no selector takes and which are always ready
        self._readers: dict[Any, Callable[[], object]] = {}
        self.owner: int | None = None  # the thread that runs the rounds
        self._awake = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._woken)

    # ------------------------------------------------------------ descriptors

    def watch(self, fileobj: Any, events: int, ready: Ready) -> None:
        """Call ``ready(events)`` when ``fileobj`` is ready; raises OSError where the system cannot wait for it."""
        if isinstance(self._selector, selectors.SelectSelector):
            number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
            if (len(self._selector.get_map()) if sys.platform == "win32" else number) >= SELECT_LIMIT:
                # Told here, and of this one: select() itself would fail for everybody.
                raise OSError(
                    errno.EMFILE, f"select() takes no more than {SELECT_LIMIT} descriptors; give another selector"
                )
        try:
            self._selector.register(fileobj, events, ready)
        except KeyError:
            # The system gives no number twice: whoever had it was closed before it was unwatched, as by a TLS that failed.
            self._selector.unregister(fileobj if isinstance(fileobj, int) else fileobj.fileno())
            self._selector.register(fileobj, events, ready)

    def rewatch(self, fileobj: Any, events: int, ready: Ready) -> None:
        """Wait for something else from now on."""
        self._selector.modify(fileobj, events, ready)

    def unwatch(self, fileobj: Any) -> None:
        """Wait for it no more; before it is closed, or as soon as that is known."""
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(fileobj)

    def add_reader(self, fileobj: Any, call: Callable[[], object]) -> None:
        """Call ``call()`` whenever ``fileobj`` can be read without waiting, until it raises; a regular file always can."""
        if fileobj in self._readers or fileobj in self._selector.get_map():
            raise ValueError(f"{fileobj!r} has a reader; remove_reader() first")
        try:
            self.watch(fileobj, selectors.EVENT_READ, lambda _: self._read(fileobj))
        except PermissionError:
            # A regular file, as when standard input is redirected: epoll refuses it, for it never has to wait.
            self._always[fileobj] = call
        self._readers[fileobj] = call

    def remove_reader(self, fileobj: Any) -> bool:
        """Call it no more, from the next event on; whether there was a reader."""
        if self._readers.pop(fileobj, None) is None:
            return False
        if self._always.pop(fileobj, None) is None:
            self.unwatch(fileobj)
        return True

    def _read(self, fileobj: Any) -> None:
        call = self._readers.get(fileobj)
        if call is None:
            return  # removed by another event of this round
        try:
            call()
        except Exception:
            logger.exception("a reader raised; it is removed")
            self.remove_reader(fileobj)

    # ----------------------------------------------------------------- timers

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call ``call()`` in ``seconds``; in the loop's thread, or before it runs."""
        if not seconds >= 0:
            raise ValueError(f"a timer in {seconds!r} seconds; give 0 or more")
        timer = Timer(self, time.monotonic() + seconds, next(self._order), call)
        heapq.heappush(self._timers, timer)
        return timer

    def cancelled(self) -> None:
        """A timer was cancelled. They are cleared up when they are most of what there is."""
        self._cancelled += 1
        if self._cancelled > CANCELLED_KEPT and self._cancelled * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if timer.call is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _run_timers(self) -> None:
        now = time.monotonic()
        # A timer that is set by one of these waits for the next round, or zero seconds would starve the sockets.
        last = next(self._order)
        put_off: list[Timer] = []
        while self._timers and self._timers[0].when <= now:
            timer = heapq.heappop(self._timers)
            if timer.call is None:
                self._cancelled = max(self._cancelled - 1, 0)
            elif timer.order > last:
                put_off.append(timer)
            else:
                call, timer.call = timer.call, None
                self._guarded(call)
        for timer in put_off:
            heapq.heappush(self._timers, timer)

    @staticmethod
    def _guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:
            logger.exception("a callback raised")

    # ---------------------------------------------------------- other threads

    def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
        """Have ``call()`` called in the loop's thread; from any thread, and from a signal handler.

        It takes no lock: a handler that interrupted the holder would wait for ever. What is asked of a loop that has
        ended is not done.
        """
        self._soon.append(call)
        self.wake()

    def do_asked(self) -> None:
        """Do what has been asked for up to now: a call that asks for itself again would hold up everybody else."""
        for _ in range(len(self._soon)):
            self._guarded(self._soon.popleft())

    def wake(self) -> None:
        """Let the loop look around; from any thread or signal handler."""
        if not self._awake:
            self._awake = True
            # A full pipe wakes as well as a fuller one; a closed one belongs to a loop that has ended.
            with contextlib.suppress(OSError):
                self._wake_out.send(b"\0")

    def _woken(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)
        # Before the calls are taken: who finds this set has asked before they are.
        self._awake = False

    # ----------------------------------------------------------------- rounds

    def round(self, longest: float | None = None) -> None:
        """Wait, ``longest`` seconds at the most, and do all that is due."""
        if self._soon or self._settling or self._always:
            longest = 0.0
        elif self._timers:
            longest = self._patience(longest)
        found = self._selector.select(longest)
        for key, events in found:
            key.data(events)
        if self._always:
            for fileobj in list(self._always):
                self._read(fileobj)
        # One that falls due while others are ready is found so by the next round, before it waits: that asks the clock anyway.
        if self._timers and (not found or longest == 0.0):
            self._run_timers()
        if self._soon:
            self.do_asked()
        settling = self._settling
        for _ in range(len(settling)):
            settling.popleft().settle()

    def _patience(self, longest: float | None) -> float | None:
        """How long the next wait may be, for the timers; None for as long as it takes."""
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
            self._cancelled = max(self._cancelled - 1, 0)
        if not self._timers:
            return longest
        left = self._timers[0].when - time.monotonic()
        if longest is not None and longest < left:
            return longest
        return max(left, 0.0)

    def shut(self) -> None:
        """Forget all callbacks, and give back what was taken. The descriptors watched for others are theirs to close."""
        self._soon.clear()
        self._timers.clear()
        self._settling.clear()
        for fileobj in list(self._readers):
            self.remove_reader(fileobj)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(self._wake_in)
        if self._own_selector:
            self._selector.close()
        self._wake_in.close()
        self._wake_out.close()
        self.owner = None
