"""Workers: one server in several processes, which share its port, so that it uses more than one processor.

    def make(address):
        return selector.Server(address, wire, Echo(), reuse_port=True)

    outcome = run_workers(4, "tcp://127.0.0.1:9000", make, ready=lambda address: print("serving at", address))

Each worker makes its own server behind the fork and runs it; the system spreads new connections over them. Workers share
nothing: what one connection of a chat says does not reach the peers of another worker by itself.

It guarantees that

- all workers listen at the same port, also when the system chose it (port 0), and nobody else gets it meanwhile;
- SIGTERM and SIGINT to this process stop every worker, and Ctrl-C stops them once; `run_workers` returns, within ``grace``
  seconds and a little, when all have ended;
- none is started again: one that dies is logged, and the others go on; one that cannot start stops all;
- workers do not outlive this process, even where it is killed.

Only for systems with ``fork`` and SO_REUSEPORT: Linux, the BSDs, macOS (which gives most connections to one worker).
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Protocol

from framing.drivers.address import Address, AddressLike, local_address, reserve
from framing.errors import FramingError

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

__all__ = ["Outcome", "WorkerServer", "run_workers"]

logger = logging.getLogger("framing.drivers")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

KILLED_WITHIN = 5.0
"""Seconds in which the system ends a process that was killed; then it is left to the system."""


class WorkerServer(Protocol):
    """What a worker runs: `blocking.Server`, `selector.Server` and `aio.StandaloneServer` are such servers."""

    def run(self) -> object:
        """Serve until `stop`."""
        ...

    def stop(self) -> object:
        """Ask the server to end; called by a signal's handler."""
        ...

    def close(self) -> object:
        """Give back what is left."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: the exit status of each worker, minus the signal's number where one was killed by a signal.

    ``signal`` is the signal that this process was asked to end with, None where the workers ended by themselves.
    """

    address: Address
    exits: tuple[int, ...]
    signal: int | None = None


def run_workers(
    count: int,
    address: AddressLike,
    make_server: Callable[[Address], WorkerServer],
    *,
    grace: float = 10.0,
    ready: Callable[[Address], object] | None = None,
) -> Outcome:
    """Run ``count`` processes, each with what ``make_server(address)`` returns, until all have ended.

    ``make_server`` is called in the worker, with the port that the system chose for port 0, and gives its server
    ``reuse_port=True``. ``ready`` is called here when all listen. ``grace`` is how many seconds the workers have from the
    signal to their end; whoever has not ended is killed, and so are all by a second signal.

    Call it in the main thread, before other threads are started: a fork takes none of them along. Raises
    `framing.ConnectionFailed` where the port cannot be had, RuntimeError where other threads run, ValueError for options
    that are none and for addresses that are not TCP's.
    """
    if count < 1:
        raise ValueError(f"count is {count}; give 1 worker at least")
    if not grace >= 0:
        raise ValueError(f"grace is {grace!r}; give seconds, 0 or more")
    asked = Address.parse(address)
    with reserve(asked) as held:
        if threading.active_count() > 1 or threading.current_thread() is not threading.main_thread():
            raise RuntimeError("run_workers() forks: call it in the main thread, before other threads are started")
        return _Crew(local_address(held, asked), held, make_server, grace, ready).run(count)


class _Crew:
    """The workers of one `run_workers`."""

    def __init__(
        self,
        address: Address,
        held: socket.socket,
        make_server: Callable[[Address], WorkerServer],
        grace: float,
        ready: Callable[[Address], object] | None,
    ) -> None:
        self._address = address
        self._held = held
        self._make_server = make_server
        self._grace = grace
        self._ready = ready
        self._caught: list[int] = []
        self._unready = 0
        self._exits: dict[ForkProcess, int] = {}
        self._workers: list[ForkProcess] = []
        # The workers tell by the one that they listen; the other ends when this process does, and tells them.
        self._told_out, self._told_in = socket.socketpair()
        self._life_out, self._life_in = socket.socketpair()

    def run(self, count: int) -> Outcome:
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        # A signal between the fork and the worker's own handlers would run this process's handlers in the worker.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for number in _SIGNALS:
                signal.signal(number, self._catch)
            self._start(count)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._watch()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._end_all()
            for number, handler in before.items():
                signal.signal(number, handler)
            for sock in (self._told_out, self._told_in, self._life_out, self._life_in):
                sock.close()
        return Outcome(
            self._address,
            tuple(self._exits[worker] for worker in self._workers),
            self._caught[0] if self._caught else None,
        )

    def _start(self, count: int) -> None:
        context = multiprocessing.get_context("fork")
        for number in range(count):
            worker = context.Process(target=self._work, name=f"framing worker {number}")
            worker.start()
            self._workers.append(worker)
        self._unready = count

    def _catch(self, number: int, _: Any) -> None:
        self._caught.append(number)
        self._signal_all(signal.SIGTERM if len(self._caught) == 1 else signal.SIGKILL)
        # Wakes the wait below, which has a deadline from now on.
        with contextlib.suppress(OSError):
            self._told_in.send(b"!")

    def _signal_all(self, number: int) -> None:
        for worker in self._workers:
            if worker not in self._exits and worker.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    def _watch(self) -> None:
        """Until all workers have ended."""
        end: float | None = None
        stopping = False
        while self._alive:
            stopping = stopping or bool(self._caught)
            if stopping and end is None:
                end = time.monotonic() + self._grace
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                logger.error("%d workers have not ended in %g s and are killed", self._alive, self._grace)
                return
            for found in wait([*(w.sentinel for w in self._workers if w not in self._exits), self._told_out], left):
                if found is self._told_out:
                    self._hear(self._told_out.recv(64))
            for worker in self._workers:
                if worker not in self._exits and worker.exitcode is not None:
                    self._note(worker, worker.exitcode, expected=stopping or bool(self._caught))
                    if self._unready and not stopping:
                        self._signal_all(signal.SIGTERM)
                        stopping = True

    def _hear(self, told: bytes) -> None:
        before, self._unready = self._unready, max(self._unready - told.count(b"+"), 0)
        if before and not self._unready and not self._caught and self._ready is not None:
            self._ready(self._address)

    @property
    def _alive(self) -> int:
        return len(self._workers) - len(self._exits)

    def _note(self, worker: ForkProcess, status: int, *, expected: bool) -> None:
        self._exits[worker] = status
        if status or not expected:
            logger.error(
                "%s: %s (process %d) has ended with status %d; it is not started again, %d go on",
                self._address,
                worker.name,
                worker.pid or 0,
                status,
                self._alive,
            )

    def _end_all(self) -> None:
        """Kill whoever is left, so that none is left behind, and take the last statuses."""
        self._signal_all(signal.SIGKILL)
        for worker in self._workers:
            if worker not in self._exits:
                worker.join(KILLED_WITHIN)
                self._note(worker, -signal.SIGKILL if worker.exitcode is None else worker.exitcode, expected=True)

    # ------------------------------------------------------------ in the worker

    def _work(self) -> None:
        server: WorkerServer | None = None
        asked: list[int] = []

        def stop(number: int, _: Any) -> None:
            asked.append(number)
            if server is not None:
                server.stop()

        signal.signal(signal.SIGTERM, stop)
        # The terminal sends Ctrl-C to all; the parent passes it on, once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for sock in (self._held, self._told_out, self._life_in):
            sock.close()
        threading.Thread(target=self._end_with_parent, name="framing worker's end", daemon=True).start()
        try:
            server = self._make_server(self._address)
            try:
                if asked:
                    return
                with contextlib.suppress(OSError):
                    self._told_in.send(b"+")
                server.run()
            finally:
                server.close()
        except FramingError as error:
            logger.error("%s: %s", multiprocessing.current_process().name, error)  # noqa: TRY400 # its text says it all
            raise SystemExit(1) from None

    def _end_with_parent(self) -> None:
        with contextlib.suppress(OSError):
            while self._life_out.recv(1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
