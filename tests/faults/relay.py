"""Relay: what a network does to a connection, on purpose and on time. It stands between a client and a server on loopback.

    with Relay(server.address) as relay:
        door = relay.listen(Plan(up=reset(after=7)))     # connect to door.address instead of the server's
        …
        door.passages[0].up                              # bytes that went up before it happened

A `Plan` says what happens in each direction, *up* from the client to the server and *down* back, as a sequence of steps;
behind the last step bytes pass freely. Offsets count the bytes of one direction. It guarantees that

- the bytes themselves, and their order, are left alone: what a plan changes is when they come, in what pieces, and whether;
- a fault behind byte N comes when the receiving system has N bytes, and never gets more: N is exact;
- where a stream ends before a step's place the step does not happen; the end, or the reset, is passed on;
- what goes wrong with the relay itself, such as a system without ports left, is raised by `Relay.close`;
- `Relay.close` leaves no thread, socket or file behind.

One plan gives the same pieces and the same faults each time; what runs in between is the system's business. A reset is
TCP's: over a unix socket there is none. The relay runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import itertools
import socket
import struct
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from framing.drivers.address import Address, AddressLike

__all__ = [
    "Crawl",
    "Door",
    "HalfClose",
    "Hold",
    "Pass",
    "Passage",
    "Pause",
    "Plan",
    "Relay",
    "Reset",
    "crawl",
    "cut",
    "delay",
    "glue",
    "half_close",
    "hold",
    "reset",
]

CHUNK = 1 << 16
TAKEN_SECONDS = 5.0
"""How long the receiving system may take for what is to be there before a fault."""


# ------------------------------------------------------------------ the steps


@dataclass(frozen=True, slots=True)
class Pass:
    """Hold bytes back until there are ``count``, and write them in one piece; after ``patience`` seconds, what is there."""

    count: int
    patience: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Let nothing pass for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Crawl:
    """Let pieces of ``size`` bytes pass, one each ``pause`` seconds: ``count`` bytes of them, or all the rest."""

    size: int = 1
    pause: float = 0.0
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection, on both sides at once (RST)."""


@dataclass(frozen=True, slots=True)
class HalfClose:
    """End this direction's stream; what still comes in it is thrown away. The other direction goes on."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing passes any more, not even the end: as when a cable is cut. After ``seconds``, if given, it is a reset."""

    seconds: float | None = None


Step: TypeAlias = Pass | Pause | Crawl | Reset | HalfClose | Hold
Steps: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one connection, in each direction; as it is, nothing."""

    up: Steps = ()
    down: Steps = ()


def cut(*offsets: int, pause: float = 0.001) -> Steps:
    """Cut the stream at each offset: what is before it and what is behind come as pieces of their own."""
    before = (0, *offsets)
    return tuple(
        step for one, two in itertools.pairwise(before) for step in (Pass(two - one), Pause(pause)) if two > one
    )


def glue(count: int, patience: float | None = None) -> Steps:
    """Let the first ``count`` bytes come in one piece, however they were sent."""
    return (Pass(count, patience),)


def delay(*, after: int, seconds: float) -> Steps:
    """Hold everything behind ``after`` bytes up for a while."""
    return (*_first(after), Pause(seconds))


def crawl(*, after: int, size: int = 1, pause: float = 0.0, count: int | None = None) -> Steps:
    """Slow down to a crawl behind ``after`` bytes."""
    return (*_first(after), Crawl(size, pause, count))


def reset(*, after: int) -> Steps:
    """Break the connection behind ``after`` bytes."""
    return (*_first(after), Reset())


def half_close(*, after: int) -> Steps:
    """End the stream behind ``after`` bytes."""
    return (*_first(after), HalfClose())


def hold(*, after: int, seconds: float | None = None) -> Steps:
    """Let nothing pass behind ``after`` bytes."""
    return (*_first(after), Hold(seconds))


def _first(count: int) -> Steps:
    return (Crawl(CHUNK, 0.0, count),) if count else ()


# --------------------------------------------------------------- one connection


@dataclass(slots=True)
class Passage:
    """One connection through the relay: how many bytes went ``up`` and ``down`` so far, and how it ended."""

    number: int
    plan: Plan
    up: int = 0
    down: int = 0
    name: Any = None
    """The relay's own address, as the server sees it. The system may give it to another one, when this one is over."""
    connected: float = 0.0
    """When that was, on the clock of ``time.monotonic``."""
    broken: bool = False
    """Whether it was reset, by its plan or because one side was."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when both sockets are closed."""


class _Break(Exception):
    """The connection breaks, on both sides."""


class _Line:
    """A passage at work: two sockets, a task a direction."""

    def __init__(self, passage: Passage, client: socket.socket) -> None:
        self.passage = passage
        self.client = client
        self.server: socket.socket | None = None
        self.loop = asyncio.get_running_loop()
        self._done = {"up": False, "down": False}
        self._breaking = False
        self._gone: set[socket.socket] = set()  # those whose reset a write has met, so that no read will tell it

    async def run(self, target: Address) -> None:
        passage = self.passage
        try:
            _set_up(self.client)
            try:
                self.server = await _connected(target)
            except (ConnectionError, FileNotFoundError):
                passage.broken = True  # nobody is there
                return
            _set_up(self.server)
            passage.connected = time.monotonic()
            passage.name = self.server.getsockname()
            tasks = [
                self.loop.create_task(self._flow("up", self.client, self.server, passage.plan.up)),
                self.loop.create_task(self._flow("down", self.server, self.client, passage.plan.down)),
            ]
            try:
                await asyncio.gather(*tasks)
            except _Break:
                passage.broken = True
                await self._cancelled(tasks)
                await _taken(self.client)
                await _taken(self.server)
            finally:
                await self._cancelled(tasks)
        finally:
            for sock in (self.client, self.server):
                if sock is not None:
                    if passage.broken and sock.family != socket.AF_UNIX:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.close()
            passage.over.set()

    @staticmethod
    async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _flow(self, way: str, source: socket.socket, sink: socket.socket, steps: Steps) -> None:
        for step in steps:
            if isinstance(step, Pass):
                whole = await self._pass(way, source, sink, step)
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            elif isinstance(step, Crawl):
                whole = await self._crawl(way, source, sink, step)
            else:
                await self._fault(source, sink, step)
                self._done[way] = True
                return
            if not whole:
                break
        await self._crawl(way, source, sink, Crawl(CHUNK))
        self._done[way] = True
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    async def _fault(self, source: socket.socket, sink: socket.socket, step: Step) -> None:
        if isinstance(step, Hold):
            await asyncio.sleep(step.seconds if step.seconds is not None else 1 << 30)
        if not isinstance(step, HalfClose):
            # Before the other direction gets its turn: nobody's answer to the last byte overtakes the fault.
            self._breaking = True
            raise _Break
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        while await self._receive(source, CHUNK):
            pass

    async def _pass(self, way: str, source: socket.socket, sink: socket.socket, step: Pass) -> bool:
        """Whether the stream goes on behind it."""
        data = b""
        end = None if step.patience is None else self.loop.time() + step.patience
        while len(data) < step.count:
            try:
                chunk = await self._receive(source, step.count - len(data), end)
            except TimeoutError:
                break
            if not chunk:
                await self._send(way, sink, data)
                return False
            data += chunk
        await self._send(way, sink, data)
        return True

    async def _crawl(self, way: str, source: socket.socket, sink: socket.socket, step: Crawl) -> bool:
        left = step.count
        while left is None or left > 0:
            data = await self._receive(source, step.size if left is None else min(step.size, left))
            if not data:
                return False
            await self._send(way, sink, data)
            if left is not None:
                left -= len(data)
                if not left:
                    break
            # With nothing to wait for, the other connections get their turn all the same.
            await asyncio.sleep(step.pause)
        return True

    async def _receive(self, source: socket.socket, count: int, end: float | None = None) -> bytes:
        while True:
            try:
                data = source.recv(count)
            except BlockingIOError:
                left = None if end is None else max(end - self.loop.time(), 0.0)
                # Waiting and reading are two things, so that a wait that is cut short loses no byte.
                async with asyncio.timeout(left):
                    await _ready(self.loop.add_reader, self.loop.remove_reader, source)
            except OSError:
                raise _Break from None
            else:
                if self._breaking or (not data and source in self._gone):
                    raise _Break
                return data

    async def _send(self, way: str, sink: socket.socket, data: bytes) -> None:
        while data:
            if self._breaking:
                raise _Break
            try:
                count = sink.send(data)
            except BlockingIOError:
                await _ready(self.loop.add_writer, self.loop.remove_writer, sink)
                continue
            except OSError as error:
                # The other direction may still have bytes of this side's to pass on; it meets the break behind them.
                if self._done["down" if way == "up" else "up"]:
                    raise _Break from None
                if error.errno != errno.EPIPE:  # which comes behind a clean end, and that one is still to be passed on
                    self._gone.add(sink)
                return
            setattr(self.passage, way, getattr(self.passage, way) + count)
            data = data[count:]


def _set_up(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _connected(target: Address) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX) if target.scheme == "unix" else socket.socket(_family(target.host))
    try:
        sock.setblocking(False)
        name: Any = target.path if target.scheme == "unix" else (target.host, target.port)
        await asyncio.get_running_loop().sock_connect(sock, name)
    except BaseException:
        sock.close()
        raise
    return sock


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _ready(add: Callable[..., object], remove: Callable[..., object], sock: socket.socket) -> None:
    event = asyncio.Event()
    add(sock, event.set)
    try:
        await event.wait()
    finally:
        remove(sock)


async def _taken(sink: socket.socket) -> None:
    """Wait until the receiving system has all that was written: a reset would overtake what is under way."""
    end = time.monotonic() + TAKEN_SECONDS
    while time.monotonic() < end:
        try:
            if not int.from_bytes(fcntl.ioctl(sink, termios.TIOCOUTQ, bytes(4)), sys.byteorder):
                return
        except OSError:
            return
        await asyncio.sleep(0.0002)


# -------------------------------------------------------------------- the relay


class Door:
    """One listening address, and its plan: the same for each connection, or by its number."""

    def __init__(self, schedule: Plan | Callable[[int], Plan], listener: socket.socket, keep: int | None) -> None:
        self._schedule = schedule
        self._numbers = itertools.count()
        self.listener = listener
        self.passages: deque[Passage] = deque(maxlen=keep)
        """The connections that came through this door, in the order of their coming: all, or the last ones."""
        name = listener.getsockname()
        self.address = (
            Address.parse(f"unix:{name}") if listener.family == socket.AF_UNIX else Address.parse((name[0], name[1]))
        )

    def enter(self) -> Passage:
        """One more connection has come; what happens to it is decided by its number, from 0 on."""
        number = next(self._numbers)
        plan = self._schedule if isinstance(self._schedule, Plan) else self._schedule(number)
        passage = Passage(number, plan)
        self.passages.append(passage)
        return passage


class Relay:
    """Between any number of clients and the server at ``target``, in a thread, until the end of the ``with`` block."""

    def __init__(self, target: AddressLike) -> None:
        self.target = Address.parse(target)
        self._loop = asyncio.SelectorEventLoop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._files: list[str] = []
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def listen(
        self,
        schedule: Plan | Callable[[int], Plan] = Plan(),
        *,
        address: AddressLike = ("127.0.0.1", 0),
        keep: int | None = None,
    ) -> Door:
        """Open one more door, at any free port or at ``address``; a schedule gets the connection's number there.

        The door keeps record of all its connections, or of the last ``keep``.
        """
        where = Address.parse(address)
        if where.scheme == "unix":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(where.path)
            listener.listen(1024)
            self._files.append(where.path)
        else:
            listener = socket.create_server((where.host, where.port), family=_family(where.host), backlog=1024)
        listener.setblocking(False)
        door = Door(schedule, listener, keep)
        self._loop.call_soon_threadsafe(self._begin, self._accept(door))
        return door

    def close(self) -> None:
        """Close every connection and every door, and wait for the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        for path in self._files:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
        self._files.clear()
        if self._failures:
            raise self._failures.pop()  # a mistake of the relay's own is no fault that anybody asked for

    # ------------------------------------------------------- in the relay's thread

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _begin(self, what: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    async def _accept(self, door: Door) -> None:
        with door.listener:
            while True:
                try:
                    client, _ = door.listener.accept()
                except BlockingIOError:
                    await _ready(self._loop.add_reader, self._loop.remove_reader, door.listener)
                    continue
                self._begin(_Line(door.enter(), client).run(self.target))

    async def _end(self) -> None:
        this = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not this]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
