"""The server of the asyncio driver: one transport a connection, no task but while it is greeted.

Messages go to the service as they are read, in the loop's thread; what it sends leaves in one write behind each read. A
peer that does not take its replies is not read from, and messages of it that came already wait: so what is kept for it is
bounded.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import length_hint
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from framing.channel import Channel, Heartbeat
from framing.drivers.accepting import ACCEPT_PAUSE, accept_some
from framing.drivers.address import (
    Address,
    AddressLike,
    close_listener,
    listen,
    local_address,
    no_delay,
    peer_address,
)
from framing.drivers.address import keep_alive as set_keep_alive
from framing.drivers.aio_link import AsyncLink
from framing.drivers.limits import Limits, check_server
from framing.drivers.service import Handlers, Service
from framing.drivers.tls import server_tls, upgrade_tls
from framing.drivers.tunnel import Tunnel
from framing.errors import ConnectionClosed, CorruptFrame, FramingError
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Server", "serve"]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")

_RAISED = (Exception, asyncio.CancelledError)
"""What a service may raise so that only its own connection ends; CancelledError is no Exception, and no end of the server."""


class _Session(AsyncLink[T]):
    """The link of a server: messages go to the service as they come, and this is the `Peer` that it sees."""

    __slots__ = (
        "_batch",
        "_halted",
        "_handling",
        "_opened",
        "_received",
        "_reported",
        "_server",
        "_trouble",
        "_waiting",
    )

    def __init__(self, server: Server[T], channel: Channel[T], address: Address) -> None:
        super().__init__(channel, address, server.limits.slow_reader_timeout)
        self._server = server
        self._received = server.handlers.received
        self._waiting: list[T] = []  # messages that are handled when the peer has taken the replies to others
        self._trouble: Exception | None = None  # what ends the connection behind them
        self._batch: Iterator[T] = iter(())  # those behind the message that is handled
        self._handling = False
        self._halted = False  # the service is to get no more messages just now
        self._opened = False
        if channel.wire.machine.raw:
            self._thread = server.thread
        self._reported = True  # whether closed() has been called; it is not for who was never opened

    def __repr__(self) -> str:
        return f"<Peer {self.address}>"

    # ------------------------------------------------------ the service's view

    @property
    def paused(self) -> bool:
        return self.full

    def _send(self, message: T) -> None:
        wire = self._server.wire
        if self._room > 0 and threading.get_ident() == self._server.thread:
            payload = wire.payload(message)
            if not self._keep(payload):
                self.send_encoded(*wire.framer.pieces(payload))
        else:
            self.send_encoded(*wire.pieces(message))

    def send_many(self, messages: Iterable[T]) -> None:
        self.send_encoded(self._server.wire.encode_many(messages))

    def send_encoded(self, *frames: bytes) -> None:
        if threading.get_ident() != self._server.thread:
            self._server.call(self.send_encoded, *frames)
        elif not self._ending and self.channel.may_send:
            if not self._handling:
                # Sent by somebody else, who is not slowed by this peer's slowness: there must be an end to it.
                limits = self._server.limits
                if (
                    (self._blocked or self.channel.paused or self._server.tight)
                    and limits.max_queued is not None
                    and self.queued > limits.max_queued
                ):
                    self.flush()  # what was sent in this turn of the loop has not been tried yet
                    if self.queued > limits.max_queued:
                        self.abort(limits.overrun(self.address))
                        return
                if not self._scheduled:
                    self._scheduled = True
                    self._server.attend(self)
            self.channel.send_encoded(*frames)
            if self._handling:
                self._halted = self._halted or self.channel.paused
                self._payloads, self._room = self.channel.gather()

    def schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._server.attend(self)

    def close(self) -> None:
        if threading.get_ident() != self._server.thread:
            self._server.call(self.close)
        else:
            self.part(None)

    def start_tls(self, ssl_context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        context, _ = upgrade_tls(self.address, ssl_context, server_hostname, server_side=True)
        if threading.get_ident() != self._server.thread:
            raise FramingError("start_tls() belongs into the service's own methods, which the loop's thread calls")
        if self._ending:
            raise ConnectionClosed("start_tls(): the connection has ended")
        unhandled = length_hint(self._batch) + len(self._waiting)
        self.upgrade(Tunnel(context, server_side=True), self._server.limits.handshake_timeout, unhandled)

    # ----------------------------------------------------------- what happens

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        context = self._server.ssl_context
        if self._server.stopping:
            self.abort()
        elif context is None:
            self._open()
        else:
            self.begin_tls(Tunnel(context, server_side=True), self._server.limits.handshake_timeout)

    def shaken(self) -> None:
        if not self._opened:
            self._open()
            return
        self.flush()
        if self.full:
            self.pause()

    def _open(self) -> None:
        self._opened = True
        self._reported = False
        self._handling = True
        self._payloads, self._room = self.channel.gather()
        try:
            self._server.handlers.opened(self)
        except _RAISED as error:
            if error is not self.failure:
                logger.exception("%s: the service raised in opened(); the connection is closed", self.address)
                self.part(cast("Exception", error))
        finally:
            self._handling = False
            self._room = 0
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        # Whatever the service raises on the way, SystemExit among it: nobody must wait for who is gone.
        try:
            super().connection_lost(exc)
        finally:
            self._waiting.clear()
            try:
                self._report()
            finally:
                self._server.finished(self)

    def delivered(self, messages: list[T]) -> None:
        if self._trouble is not None:
            return  # they came behind what ends the connection
        if self._waiting or self._handling:
            self._waiting.extend(messages)
        else:
            self._handle(messages)

    def troubled(self, error: FramingError) -> None:
        if not self._opened and not self._ending:
            logger.info("%s: the connection is closed: %s", self.address, error)
        self._trouble = self._trouble or error
        self._settle()

    def refused(self, error: CorruptFrame) -> None:
        self.part(error)

    def ended(self) -> None:
        self._settle()

    def writable(self) -> None:
        while self._waiting and not self.full and not self._ending:
            messages, self._waiting = self._waiting, []
            self._handle(messages)
        if not self._waiting and not self.full:
            self.resume()
            self._settle()

    def pause_writing(self) -> None:
        super().pause_writing()
        # Who does not read is not read from: what it asks for would have no place to go.
        if not self._ending:
            self.pause()

    def _handle(self, messages: list[T]) -> None:
        """Have the service handle ``messages``, in one write; those for which the peer has no room wait."""
        received, channel = self._received, self.channel
        left = self._batch = iter(messages)
        more = True
        while more and not self._ending:
            more = False
            # What the service sends to this peer is kept, to be framed at once.
            self._handling = True
            self._halted = False
            self._payloads, self._room = channel.gather()
            try:
                for message in left:
                    received(self, message)
                    if self._halted or self._ending:
                        more = True
                        break
            except _RAISED as error:
                if error is not self.failure:  # which start_tls() has raised, and which is the peer's doing
                    logger.exception("%s: the service raised in received(); the connection is closed", self.address)
                    self.part(cast("Exception", error))
            finally:
                self._handling = False
                self._room = 0
            if self._payloads or channel.queued:
                self.flush()
            if more and self.full:
                self._waiting.extend(left)
                break

    def _settle(self) -> None:
        """Behind the last message: end, where there is a reason to."""
        if self._waiting or self._ending:
            return
        if self._trouble is not None:
            self.part(self._trouble)
        elif self.eof:
            self.part(None)

    def part(self, error: Exception | None) -> None:
        """End the connection behind what has been sent; messages that have not been handled are dropped."""
        self._room = 0
        self._waiting.clear()
        stopping = self._server.stopping
        # Who was never opened has no reply that a reset could destroy, and is not to hold a descriptor for long.
        hurried = stopping or not self._opened
        self.finish(error, hurried=hurried, drain=self._server.drain_timeout if stopping else None)
        if not self._reported:
            self.loop.call_soon(self._report_early)

    def _report_early(self) -> None:
        """Nothing more can happen that the service would learn of, though the socket lingers."""
        if self._drained:
            self._report()

    def _report(self) -> None:
        if self._reported:
            return
        self._reported = True
        if isinstance(self.failure, FramingError):
            logger.info("%s: the connection is closed: %s", self.address, self.failure)
        try:
            self._server.handlers.closed(self, self.failure)
        except _RAISED:
            logger.exception("%s: the service raised in closed()", self.address)


class Server(Generic[T]):
    """Runs ``service`` for everybody who connects to ``address``, on the running loop.

    It accepts inside its ``async with`` block, at the end of which it is stopped and every connection has ended. `address`
    says where it listens, with the port that the system chose for port 0.

    ``max_connections``: above it, nobody is accepted until somebody leaves. Seconds, None for no limit: ``frame_timeout``
    from a frame's first byte to its last; ``idle_timeout`` without a byte in either direction; ``handshake_timeout``
    for TLS, which ``ssl_context`` switches on; ``slow_reader_timeout`` in which a peer, while more than ``high_water`` bytes
    wait for it and until no more than ``low_water`` do, has to take ``high_water`` of them, or else is closed.
    ``drain_timeout``: seconds that the connections have when the server is stopped, to write what is queued.

    Bytes: above ``high_water`` of them a peer that does not read is not read from, and its messages wait, until it is down at
    ``low_water``; while more than ``max_queued`` (None for no limit) wait for a peer, it is closed when others send it still
    more. ``keep_alive`` has the system, ``heartbeat`` this driver, look whether silent peers are still there. ``reuse_port``
    lets several processes listen at the same port; ``backlog`` is how many may wait there to be accepted.

    Raises TypeError for a service whose methods are coroutine functions.
    """

    def __init__(
        self,
        address: AddressLike,
        wire: Wire[T],
        service: Service[T],
        *,
        max_connections: int = 10_000,
        frame_timeout: float | None = 30.0,
        idle_timeout: float | None = None,
        handshake_timeout: float | None = 10.0,
        slow_reader_timeout: float | None = 30.0,
        drain_timeout: float = 5.0,
        high_water: int = 1 << 16,
        low_water: int = 1 << 14,
        max_queued: int | None = 1 << 20,
        ssl_context: ssl.SSLContext | None = None,
        heartbeat: Heartbeat[T] | None = None,
        keep_alive: bool = False,
        reuse_port: bool = False,
        backlog: int = socket.SOMAXCONN,
    ) -> None:
        check_server(max_connections=max_connections, drain_timeout=drain_timeout)
        self.limits = Limits(
            frame_timeout=frame_timeout,
            idle_timeout=idle_timeout,
            handshake_timeout=handshake_timeout,
            slow_reader_timeout=slow_reader_timeout,
            high_water=high_water,
            low_water=low_water,
            max_queued=max_queued,
            heartbeat=heartbeat,
        )
        self.limits.channel(wire, 0.0)  # a wrong heartbeat is told here, not to the first client
        # Below the water marks, here and in the transport, there may be more than ``max_queued``.
        self.tight = max_queued is not None and max_queued < 2 * high_water
        self.handlers = Handlers[T].of(service)
        for name in ("opened", "received", "closed"):
            if inspect.iscoroutinefunction(getattr(self.handlers, name)):
                raise TypeError(
                    f"{type(service).__name__}.{name}() is a coroutine function; a service's methods are plain functions, "
                    "the same for every driver: where something must be awaited, start a task with asyncio.create_task()"
                )
        self.wire = wire
        self.address = Address.parse(address)
        if self.address.scheme == "udp":
            raise ValueError(f"{self.address} is for datagrams, and this is a server of streams; write tcp://")
        self.max_connections = max_connections
        self.drain_timeout = drain_timeout
        self.stopping = False
        self.thread = 0
        self.ssl_context = server_tls(self.address, ssl_context)
        self._reuse_port = reuse_port
        self._backlog = backlog
        self._keep_alive = keep_alive
        self._loop: asyncio.AbstractEventLoop | None = None
        self._called: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._asked = False
        self._listener: socket.socket | None = None
        self._accepting = False
        self._starved = False  # the system has no descriptors left, and that was logged
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: set[_Session[T]] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._touched: deque[_Session[T]] = deque()  # who has something to write in this turn of the loop

    def __repr__(self) -> str:
        return f"<Server at {self.address}, {len(self._sessions)} connections>"

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._sessions)

    # -------------------------------------------------------- start and stop

    def _start(self) -> None:
        if self._loop is not None:
            raise ConnectionClosed(f"the server at {self.address} has been started once; make a new one")
        self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        if self._listener is None:
            self._listen()
        self._accept_again()
        if self.stopping:
            self._stop()

    def _listen(self) -> None:
        """Have clients wait in the system's queue, though nobody is accepted yet."""
        asked = self.address
        self._listener = listen(asked, self._backlog, reuse_port=self._reuse_port)
        self.address = local_address(self._listener, asked)

    async def run(self) -> None:
        """Serve until `stop` is called; returns when every connection has ended. Outside of a ``with`` block it starts first.

        Where this is cancelled, the server stops too.
        """
        if self._loop is None:
            async with self:
                await self._ended()
        else:
            await self._ended()

    def stop(self) -> None:
        """Ask the server to end, from any thread, task or signal handler; returns at once.

        It accepts no more, writes what is queued within ``drain_timeout`` seconds, and closes every connection.
        """
        if self._loop is None:
            self.stopping = True
        else:
            self.call(self._stop)

    async def aclose(self) -> None:
        """Stop, and wait until every connection has ended and every descriptor is given back."""
        if self._loop is None:
            self.stop()
            return
        self._stop()
        try:
            await self._ended()
        except asyncio.CancelledError:
            for session in list(self._sessions):
                session.abort()
            raise

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ended(self) -> None:
        while self._listener is not None or self._sessions or self._tasks:
            waiter = cast("asyncio.AbstractEventLoop", self._loop).create_future()
            self._waiters.append(waiter)
            await waiter

    def _stop(self) -> None:
        self.stopping = True
        if self._listener is None:
            return
        self._pause_accepting()
        close_listener(self._listener, self.address)
        self._listener = None
        for task in self._tasks:
            task.cancel()
        for session in list(self._sessions):
            session.part(None)
        self._look()

    def call(self, function: Any, *args: Any) -> None:
        """Call ``function`` in the loop's thread; where the loop is gone, so is whom it was for."""
        assert self._loop is not None
        self._called.append((function, args))
        if not self._asked:
            # Once for all that are called until it gets its turn: to wake a loop is a system call.
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._take_calls)
            except RuntimeError:
                self._called.clear()
                self._asked = False

    def _take_calls(self) -> None:
        assert self._loop is not None
        # Before the calls are taken: who finds this set has added theirs before they are.
        self._asked = False
        try:
            for _ in range(len(self._called)):
                function, args = self._called.popleft()
                function(*args)
        finally:
            if self._called:
                self._loop.call_soon(self._take_calls)

    def attend(self, session: _Session[T]) -> None:
        """Have the session flushed before the loop waits again: once for all of them, for a callback costs more than that."""
        assert self._loop is not None
        if not self._touched:
            self._loop.call_soon(self._settle)
        self._touched.append(session)

    def _settle(self) -> None:
        assert self._loop is not None
        touched = self._touched
        try:
            for _ in range(len(touched)):
                touched.popleft().flush()
        finally:
            if touched:
                self._loop.call_soon(self._settle)

    def _look(self) -> None:
        if self._listener is None and not self._sessions and not self._tasks:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    # --------------------------------------------------------------- accepting

    def _accept_again(self) -> None:
        if not self._accepting and self._listener is not None and len(self._sessions) < self.max_connections:
            assert self._loop is not None
            self._accepting = True
            self._loop.add_reader(self._listener, self._accept)

    def _pause_accepting(self) -> None:
        if self._accepting and self._listener is not None:
            assert self._loop is not None
            self._accepting = False
            self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        """Accept who is waiting; above ``max_connections`` they wait on, in the system's queue."""
        assert self._loop is not None
        if self._listener is None:
            return
        try:
            for sock, raw in accept_some(self._listener, self.max_connections - len(self._sessions)):
                self._starved = False
                self._admit(sock, raw)
        except OSError as error:
            # Whoever waits would make the loop spin. Try again later, or when somebody leaves.
            if not self._starved:
                logger.warning("%s: nobody is accepted for a while: %s", self.address, error)
            self._starved = True
            self._pause_accepting()
            self._loop.call_later(ACCEPT_PAUSE, self._accept_again)
        if len(self._sessions) >= self.max_connections:
            self._pause_accepting()

    def _admit(self, sock: socket.socket, raw: Any) -> None:
        assert self._loop is not None
        sock.setblocking(False)
        no_delay(sock)
        if self._keep_alive:
            set_keep_alive(sock)
        channel = self.limits.channel(self.wire, self._loop.time())
        session = _Session(self, channel, peer_address(raw, self.address))
        self._sessions.add(session)
        task = self._loop.create_task(self._greet(sock, session))
        self._tasks.add(task)
        task.add_done_callback(partial(self._greeted, sock, session))

    async def _greet(self, sock: socket.socket, session: _Session[T]) -> None:
        """Make the transport."""
        assert self._loop is not None
        await self._loop.connect_accepted_socket(lambda: session, sock)

    def _greeted(self, sock: socket.socket, session: _Session[T], task: asyncio.Task[None]) -> None:
        """Clear up where there was no greeting: a task may be cancelled before it begins."""
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            logger.info("%s: the connection is closed: %r", session.address, error)
            session.abort()
            if session.transport is None:
                sock.close()
            # uvloop drops such a transport without a word, even where connection_made() was called.
            session.connection_lost(None)
        self._look()

    def finished(self, session: _Session[T]) -> None:
        """The session's transport is gone."""
        self._sessions.discard(session)
        self._accept_again()
        self._look()


serve = Server
"""What reads well behind ``async with``; `Server` says what the options mean."""
