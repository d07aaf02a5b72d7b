"""The asyncio half of the datagram driver, for loops with ``add_reader``: all but Windows' proactor loop have it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from framing.drivers.address import Address, AddressLike, is_number
from framing.drivers.datagram_desk import Desk
from framing.drivers.datagram_mailbox import RETRY_SECONDS, Boxed, Mailbox, Packet, read_raw
from framing.drivers.datagram_sockets import bound, connected, parse
from framing.drivers.failures import translate
from framing.drivers.opening import Opening
from framing.drivers.service import Handlers, Service
from framing.errors import ConnectionClosed
from framing.wire import Wire

if TYPE_CHECKING:
    import asyncio

__all__ = ["AsyncEndpoint", "AsyncServer", "async_bind", "async_connect"]

T = TypeVar("T")

HANDLED_AT_ONCE = 64
"""Packets that a server handles before others get their turn."""


def async_bind(address: AddressLike, wire: Wire[T]) -> Opening[AsyncEndpoint[T]]:
    """As `bind`, on the running loop: ``async with`` it, or await it."""
    where = parse(address)

    async def make() -> AsyncEndpoint[T]:
        return AsyncEndpoint(bound(await _numbered(where)), wire)

    return Opening(make)


def async_connect(address: AddressLike, wire: Wire[T]) -> Opening[AsyncEndpoint[T]]:
    """As `connect`, on the running loop: ``async with`` it, or await it."""
    where = parse(address)

    async def make() -> AsyncEndpoint[T]:
        return AsyncEndpoint(connected(await _numbered(where)), wire)

    return Opening(make)


async def _numbered(where: Address) -> Address:
    """``where`` with the first address of its name, which is looked up in another thread, for that blocks."""
    if where.scheme == "unix" or not where.host or is_number(where.host):
        return where
    try:
        found = await _running_loop().getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise translate(error, where, "looking up") from error
    return read_raw(found[0][0], found[0][4])


def _running_loop() -> asyncio.AbstractEventLoop:
    # Imported where it is used: it costs what the blocking half does not need.
    import asyncio  # noqa: PLC0415 # as said above

    return asyncio.get_running_loop()


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    """Wake all who wait, but for those who were cancelled in the same turn of the loop."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


class AsyncEndpoint(Boxed[T]):
    """An `Endpoint` of the running loop, made by `async_bind` and `async_connect`, or over ``sock``, which it then owns.

    A call that is cancelled has taken no packet, and sent none. All methods belong to the loop's thread.
    """

    __slots__ = ("_loop", "_reading", "_waiters")

    def __init__(self, sock: socket.socket, wire: Wire[T]) -> None:
        super().__init__(Mailbox(sock, wire))
        self._loop = _running_loop()
        self._waiters: list[asyncio.Future[None]] = []
        self._reading = False

    async def send(self, message: T, to: AddressLike | None = None) -> None:
        """Send one packet; raises as `Endpoint.send`. A host name in ``to`` is looked up each time: give numbers."""
        box = self._box
        payload = box.encode(message)
        where = box.where(to)
        if where is not None and where.scheme == "udp" and not is_number(where.host):
            raw = await self._loop.run_in_executor(None, box.raw, where)
        else:
            raw = box.raw(where)
        while not box.send(payload, raw):
            later: asyncio.Future[None] = self._loop.create_future()
            timer = self._loop.call_later(RETRY_SECONDS, _wake, [later])
            try:
                await later
            finally:
                timer.cancel()

    async def receive(self) -> Packet[T]:
        """The next message and its sender, as a pair; raises as `Endpoint.receive`, but for the time, which is yours."""
        while (packet := self._box.receive()) is None:
            if not self._reading:
                self._loop.add_reader(self._box.sock, self._ready)
                self._reading = True
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return packet

    def _ready(self) -> None:
        """Wake whoever waits, to see for themselves; where nobody does, the system keeps the packets."""
        if not self._waiters:
            self._read_no_more()
        _wake(self._waiters)

    def _read_no_more(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._box.sock)
            self._reading = False

    def __aiter__(self) -> AsyncIterator[Packet[T]]:
        """Iterate over the packets until the endpoint is closed; raises as `receive` does, but for that."""
        return self

    async def __anext__(self) -> Packet[T]:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Give the descriptor back; tasks that wait in a call get `framing.ConnectionClosed`. Twice is no error."""
        self._read_no_more()
        self._box.close()
        _wake(self._waiters)

    async def aclose(self) -> None:
        """`close`; there is nothing to wait for."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncServer(Generic[T]):
    """As `Server`, on the running loop: ``async with`` it; it serves inside of the block."""

    def __init__(self, address: AddressLike, wire: Wire[T], service: Service[T]) -> None:
        self._handlers = Handlers[T].of(service)
        self.address = parse(address)
        self.wire = wire
        self._desk: Desk[T] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<AsyncServer of datagrams at {self.address}>"

    async def run(self) -> None:
        """Wait until `stop` is called."""
        if self._desk is not None and not self._desk.box.closed:
            waiter: asyncio.Future[None] = _running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def stop(self) -> None:
        """Ask it to end, from any thread, task or signal handler; returns at once."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        desk, loop = self._desk, self._loop
        if desk is None or loop is None or desk.box.closed:
            return
        loop.remove_reader(desk.box.sock)
        desk.box.close()
        _wake(self._waiters)

    def _ready(self) -> None:
        assert self._desk is not None
        with contextlib.suppress(ConnectionClosed):
            for _ in range(HANDLED_AT_ONCE):
                if not self._desk.handle():
                    return

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise ConnectionClosed(f"the server at {self.address} has been started once; make a new one")
        self._loop = _running_loop()
        self._desk = Desk(Mailbox(bound(await _numbered(self.address)), self.wire), self._handlers)
        self.address = self._desk.box.address
        self._loop.add_reader(self._desk.box.sock, self._ready)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
