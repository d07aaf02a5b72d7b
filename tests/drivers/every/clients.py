"""Client drivers of streams: whatever runs their connections, the calls of a test wait until they are done."""

from __future__ import annotations

import asyncio
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from framing import ConnectionClosed, DecodeError, FramingError, Timeout, Wire
from framing.drivers import address as addresses
from framing.drivers import aio, blocking, nonblocking, selector
from framing.drivers.address import Address, AddressLike
from framing.drivers.tls import client_tls, wrap_client
from tests.drivers.every.loops import SECONDS, loop_beside, outcome, within

R = TypeVar("R")


class Client(Protocol):
    """A connection: any thread may call it, and each call returns when it is done."""

    def send(self, message: Any) -> None: ...
    def send_many(self, messages: Iterable[Any]) -> None: ...
    def send_encoded(self, frames: bytes) -> None: ...
    def receive(self, *, timeout: float = ...) -> Any: ...
    def receive_batch(self, *, timeout: float = ...) -> list[Any]: ...
    def close_sending(self) -> None: ...
    def close(self) -> None: ...


Connect = Callable[..., Client]


class _Inbox:
    """What a loop in another thread has received, in order; the end, once it was told, stays."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: deque[Any] = deque()
        self._end: Exception | None = None

    def put(self, items: Iterable[Any]) -> None:
        with self._changed:
            self._items.extend(items)
            self._changed.notify_all()

    def end(self, error: Exception) -> None:
        with self._changed:
            self._end = self._end or error
            self._changed.notify_all()

    def receive(self, *, timeout: float = SECONDS) -> Any:
        with self._changed:
            self._wait(timeout)
            item = self._items.popleft()
        if isinstance(item, DecodeError):
            raise item
        return item

    def receive_batch(self, *, timeout: float = SECONDS) -> list[Any]:
        with self._changed:
            self._wait(timeout)
            if not isinstance(self._items[0], DecodeError):
                batch = []
                while self._items and not isinstance(self._items[0], DecodeError):
                    batch.append(self._items.popleft())
                return batch
        return [self.receive()]

    def _wait(self, timeout: float) -> None:
        if not self._changed.wait_for(lambda: self._items or self._end, timeout):
            raise Timeout("nothing came")
        if not self._items:
            assert self._end is not None
            raise self._end.with_traceback(None)


@contextmanager
def in_any_thread() -> Iterator[Connect]:
    yield partial(blocking.connect, timeout=SECONDS)


class _SelectLoop:
    """The loop that a user of the nonblocking driver owns: connections, their deadlines, and what other threads ask for."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.clients: set[_Selected] = set()
        self.asked: deque[Callable[[], object]] = deque()
        self.over = False
        self.wake_in, self.wake_out = socket.socketpair()
        self.selector.register(self.wake_in, selectors.EVENT_READ)

    def do(self, call: Callable[[], R]) -> R:
        """Have ``call`` called in the loop's thread, and return its result."""
        future: Future[R] = Future()
        self.asked.append(lambda: outcome(future, call))
        self.wake_out.send(b"\0")
        return future.result(SECONDS)

    def run(self) -> None:
        while not self.over:
            deadlines = [at for client in self.clients if (at := client.deadline) is not None]
            longest = max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None
            for key, events in self.selector.select(longest):
                if key.data is None:
                    self.wake_in.recv(4096)
                else:
                    key.data.turn(events)
            for client in list(self.clients):
                client.look_at_the_clock()
            while self.asked:
                self.asked.popleft()()

    def close(self) -> None:
        self.selector.close()
        self.wake_in.close()
        self.wake_out.close()

    def wait_for(self, client: _Selected) -> None:
        interest = client.connection.interest
        if client.interest and interest:
            self.selector.modify(client.connection, interest, client)
        elif interest:
            self.selector.register(client.connection, interest, client)
        elif client.interest:
            self.selector.unregister(client.connection)
        client.interest = interest


class _Selected:
    """A connection of the nonblocking driver in such a loop."""

    def __init__(self, loop: _SelectLoop, connection: nonblocking.Connection[Any]) -> None:
        self.loop = loop
        self.connection = connection
        self.inbox = _Inbox()
        self.receive = self.inbox.receive
        self.receive_batch = self.inbox.receive_batch
        self.interest = 0
        self.ended = False
        loop.clients.add(self)
        loop.wait_for(self)

    def turn(self, events: int) -> None:
        try:
            self.inbox.put(self.connection.handle(events))
        except DecodeError as error:
            self.inbox.put([error])
        except FramingError as error:
            self.ended = True
            self.inbox.end(error)
        self.loop.wait_for(self)

    @property
    def deadline(self) -> float | None:
        return None if self.ended else self.connection.deadline

    def look_at_the_clock(self) -> None:
        if self.deadline is None or time.monotonic() < self.deadline:
            return
        self.turn(selectors.EVENT_READ)  # what came in time counts
        try:
            if not self.ended:
                self.connection.expire()
        except Timeout as error:
            self.ended = True
            self.inbox.end(error)
        self.loop.wait_for(self)

    def _do(self, call: Callable[[], object]) -> None:
        def done_and_waited_for() -> None:
            try:
                call()
            finally:
                self.loop.wait_for(self)

        self.loop.do(done_and_waited_for)

    def send(self, message: Any) -> None:
        self._do(lambda: self.connection.send(message))

    def send_many(self, messages: Iterable[Any]) -> None:
        self._do(lambda: self.connection.send_many(messages))

    def send_encoded(self, frames: bytes) -> None:
        self._do(lambda: self.connection.send_encoded(frames))

    def close_sending(self) -> None:
        self._do(self.connection.close_sending)

    def close(self) -> None:
        def close() -> None:
            if self in self.loop.clients:
                self.loop.clients.discard(self)
                if self.interest:
                    self.loop.selector.unregister(self.connection)
                self.connection.close()

        self.loop.do(close)
        self.inbox.end(ConnectionClosed("closed on this side"))


@contextmanager
def in_a_select_loop() -> Iterator[Connect]:
    loop = _SelectLoop()

    def connect(
        address: AddressLike,
        wire: Wire[Any],
        *,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        **options: Any,
    ) -> Client:
        where = Address.parse(address)
        context, name = client_tls(where, ssl_context, server_hostname)
        sock = addresses.connect(where, SECONDS)
        if context is not None:
            sock = wrap_client(sock, context, name)
        client = loop.do(lambda: _Selected(loop, nonblocking.Connection(sock, wire, address=where, **options)))
        deadline = time.monotonic() + SECONDS
        while client.connection.handshaking and not client.ended:
            assert time.monotonic() < deadline, "hands were not shaken"
            time.sleep(0.0005)
        return client

    thread = threading.Thread(target=loop.run, name="the select loop of a test", daemon=True)
    thread.start()
    try:
        yield connect
    finally:
        loop.do(partial(setattr, loop, "over", True))
        thread.join(SECONDS)
        loop.close()


class _Served:
    """A connection of the selector driver's `Loop`: its service puts what comes into an inbox."""

    def __init__(self) -> None:
        self.inbox = _Inbox()
        self.receive = self.inbox.receive
        self.receive_batch = self.inbox.receive_batch
        self.begun: Future[None] = Future()
        self.gone = threading.Event()
        self.peer: Any = None

    def opened(self, peer: Any) -> None:
        self.begun.set_result(None)

    def received(self, peer: Any, message: Any) -> None:
        self.inbox.put([message])

    def closed(self, peer: Any, error: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_exception(error or ConnectionClosed("closed before it was opened"))
        self.inbox.end(error or ConnectionClosed("a clean end"))
        self.gone.set()

    def send(self, message: Any) -> None:
        self.peer.send(message)

    def send_many(self, messages: Iterable[Any]) -> None:
        self.peer.send_many(messages)

    def send_encoded(self, frames: bytes) -> None:
        self.peer.send_encoded(frames)

    def close_sending(self) -> None:
        raise NotImplementedError("a Peer has no such method")

    def close(self) -> None:
        self.peer.close()
        assert self.gone.wait(SECONDS)


@contextmanager
def in_the_selectors_loop() -> Iterator[Connect]:
    loop = selector.Loop()

    def connect(address: AddressLike, wire: Wire[Any], **options: Any) -> Client:
        client = _Served()
        asked: Future[Any] = Future()
        loop.call_soon_threadsafe(
            lambda: outcome(asked, lambda: loop.connect(address, wire, client, timeout=SECONDS, **options))
        )
        client.peer = asked.result(SECONDS)
        client.begun.result(SECONDS)
        return client

    with loop, _running(loop):
        yield connect


@contextmanager
def _running(loop: selector.Loop) -> Iterator[None]:
    thread = threading.Thread(target=loop.run, name="the loop of a test", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.stop()
        thread.join(SECONDS)


class _Awaited:
    """A connection of the asyncio driver, whose loop runs in another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: aio.Connection[Any]) -> None:
        self.loop = loop
        self.connection = connection

    def _do(self, call: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result()

    def send(self, message: Any) -> None:
        self._do(self.connection.send(message))

    def send_many(self, messages: Iterable[Any]) -> None:
        self._do(self.connection.send_many(messages))

    def send_encoded(self, frames: bytes) -> None:
        self._do(self.connection.send_encoded(frames))

    def receive(self, *, timeout: float = SECONDS) -> Any:
        return self._do(within(timeout, self.connection.receive()))

    def receive_batch(self, *, timeout: float = SECONDS) -> list[Any]:
        return self._do(within(timeout, self.connection.receive_batch()))

    def close_sending(self) -> None:
        async def close_sending() -> None:
            self.connection.close_sending()

        self._do(close_sending())

    def close(self) -> None:
        self._do(self.connection.aclose())


def on_loop(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], AbstractContextManager[Connect]]:
    @contextmanager
    def clients() -> Iterator[Connect]:
        with loop_beside(make_loop) as loop:

            async def opened(address: AddressLike, wire: Wire[Any], options: dict[str, Any]) -> Client:
                return _Awaited(loop, await aio.connect(address, wire, timeout=SECONDS, **options))

            def connect(address: AddressLike, wire: Wire[Any], **options: Any) -> Client:
                return asyncio.run_coroutine_threadsafe(opened(address, wire, options), loop).result(SECONDS)

            yield connect

    return clients


@dataclass(frozen=True)
class ClientDriver:
    """``start`` begins a block that gives a function to connect with.

    ``is_a_service``: its connections run a service, as a server's do. They have a server's ways: a refused payload ends the
    connection, for a service could not be told of it otherwise, and one direction cannot be closed alone.
    """

    start: Callable[[], AbstractContextManager[Connect]]
    is_a_service: bool = False
