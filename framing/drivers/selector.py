"""The selector driver: servers, clients, timers and standard input in one thread.

    with selector.Server(("127.0.0.1", 9000), wire, Echo()) as server:
        server.run()                      # until server.stop(), from any thread or a signal handler

It waits with whatever selector it is given: select, poll, epoll or kqueue; without one, with the best that the system has.
`Loop` is the same without a listening socket: for clients.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from selectors import EVENT_READ
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from framing.channel import Heartbeat
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
from framing.drivers.dialing import Dial
from framing.drivers.failures import OUT_OF_RESOURCES, translate
from framing.drivers.limits import Limits, check_server
from framing.drivers.reactor import Reactor, Timer
from framing.drivers.running import Running
from framing.drivers.service import Handlers, Service, UpgradablePeer
from framing.drivers.session import Session
from framing.drivers.tls import client_tls, server_tls, wrap_client, wrap_server
from framing.errors import ConnectionClosed
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Loop", "Server", "Timer"]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")


class Loop:
    """One thread that waits for all: connections, timers, readers, and what other threads ask of it.

    ``selector`` is any selector of the `selectors` module, empty, and for this loop alone; it is left open at the end.
    ``drain_timeout``: seconds that the connections have, when the loop is stopped, to write what is queued.

    `stop` and `call_soon_threadsafe` may be called from any thread and from a signal handler, everything else in the
    loop's thread, or before it runs.
    """

    def __init__(self, *, selector: selectors.BaseSelector | None = None, drain_timeout: float = 5.0) -> None:
        check_server(drain_timeout=drain_timeout)
        self.drain_timeout = drain_timeout
        self._reactor = Reactor(selector)
        self._sessions: set[Session[Any]] = set()
        self._stop_asked = False
        self._draining = False
        self._running = Running("the loop")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {len(self._sessions)} connections>"

    # ------------------------------------------------------------- what to do

    def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
        """Have ``call()`` called in the loop's thread, soon; what it raises is logged."""
        self._reactor.call_soon_threadsafe(call)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Have ``call()`` called in ``seconds``, unless the timer is cancelled; what it raises is logged."""
        return self._reactor.call_later(seconds, call)

    def add_reader(self, fileobj: Any, call: Callable[[], object]) -> None:
        """Call ``call()`` whenever ``fileobj`` (a descriptor, or what has a ``fileno()``) can be read without waiting.

        For standard input beside sockets: read it with ``os.read``, past the buffers of ``sys.stdin``, for a selector
        does not know what those hold. Remove it at its end, which can be read for ever. What ``call`` raises is logged, and
        the reader removed.
        """
        self._reactor.add_reader(fileobj, call)

    def remove_reader(self, fileobj: Any) -> bool:
        """Call its reader no more; whether there was one. The file is not closed."""
        return self._reactor.remove_reader(fileobj)

    def connect(
        self,
        address: AddressLike,
        wire: Wire[T],
        service: Service[T],
        *,
        timeout: float | None = 10.0,
        frame_timeout: float | None = None,
        idle_timeout: float | None = None,
        slow_reader_timeout: float | None = None,
        high_water: int = 1 << 16,
        low_water: int = 1 << 14,
        heartbeat: Heartbeat[T] | None = None,
        keep_alive: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> UpgradablePeer[T]:
        """Connect to ``address``, and run ``service`` on the connection. Returns at once: send right away if you like.

        ``timeout`` seconds are for connecting, every address of a name being tried, and as many for the TLS handshake.
        Where no connection can be made the service's ``closed`` is called with the error, and ``opened`` was not.
        With ``ssl_context``, or to a ``tls://`` address, it speaks TLS; ``server_hostname`` is the name that the
        certificate must be for, without it the address's host. ``keep_alive`` has the system, ``heartbeat`` this loop,
        look whether the peer is still there.
        """
        where = Address.parse(address)
        if where.scheme == "udp":
            raise ValueError(f"{where} is for datagrams; a loop connects streams: give tcp://, tls:// or unix:")
        context, name = client_tls(where, ssl_context, server_hostname)
        limits = Limits(
            high_water=high_water,
            low_water=low_water,
            frame_timeout=frame_timeout,
            idle_timeout=idle_timeout,
            handshake_timeout=timeout,
            slow_reader_timeout=slow_reader_timeout,
            max_queued=None,
            heartbeat=heartbeat,
        )
        limits.channel(wire, 0.0)  # a wrong heartbeat is told here, not when the connection is made
        if self._draining:
            raise self._running.refusal()
        handlers = Handlers[T].of(service)
        session = Session(self._reactor, wire, handlers, limits, where, serving=False, gone=self._forget)
        wrap = None if context is None else partial(wrap_client, context=context, server_hostname=name)
        connected = partial(self._begin, session, wrap=wrap, keep_alive=keep_alive, doing="connecting to")
        dial = Dial(self._reactor, where, timeout, connected, session.fail)
        session.cancel_connecting = dial.cancel
        self._sessions.add(session)
        self._reactor.call_soon_threadsafe(dial.start)
        return session

    def _begin(
        self,
        session: Session[Any],
        sock: socket.socket,
        *,
        wrap: Callable[[socket.socket], socket.socket] | None,
        keep_alive: bool,
        doing: str,
    ) -> OSError | None:
        """The socket of a session is connected, and ``wrap`` makes TLS of it; returns why it could not be taken."""
        try:
            no_delay(sock)
            if keep_alive:
                set_keep_alive(sock)
            session.start(sock if wrap is None else wrap(sock))
        except OSError as error:
            sock.close()
            session.fail(translate(error, session.address, doing))
            return error
        return None

    def _forget(self, session: Session[Any]) -> None:
        """The session has ended."""
        self._sessions.discard(session)

    # -------------------------------------------------------- start and stop

    def run(self) -> None:
        """Wait and serve until `stop` is called; returns when every connection has ended.

        Ctrl-C ends it as `stop` does, and is then raised; a second one ends it at once.
        """
        self._running.claim()
        try:
            self._running.enter()
            self._reactor.owner = threading.get_ident()
            try:
                self._rounds()
            except BaseException:
                self._stop_asked = True
                self._rounds()
                raise
        finally:
            self._running.end(self._release)

    def stop(self) -> None:
        """Ask the loop to end, from any thread or signal handler; returns at once.

        It accepts nobody any more, and lets the connections handle what was received and write what is queued, within
        ``drain_timeout`` seconds.
        """
        self._stop_asked = True
        self._reactor.wake()

    def close(self) -> None:
        """Stop, wait until `run` has returned in its thread, and give every descriptor back. To close twice is no error."""
        self._running.close(self.stop, self._release)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rounds(self) -> None:
        drain_end = float("inf")
        while True:
            longest: float | None = None
            if self._stop_asked:
                now = time.monotonic()
                if not self._draining:
                    self._draining = True
                    drain_end = now + self.drain_timeout
                    self._accept_no_more()
                    # What other threads have sent before they asked for the end is queued, and goes out too.
                    self._reactor.do_asked()
                    for session in list(self._sessions):
                        session.stop()
                elif drain_end == float("inf"):
                    drain_end = now  # an exception came out of the draining itself
                if not self._sessions or now >= drain_end:
                    return
                longest = drain_end - now
            self._reactor.round(longest)

    def _accept_no_more(self) -> None:
        """Stop listening, where this loop does."""

    def _release(self) -> None:
        """Give everything back."""
        self._draining = True
        # All of it, also where a service raises KeyboardInterrupt, or SystemExit, on the way.
        with contextlib.ExitStack() as all_of_it:
            all_of_it.callback(self._reactor.shut)
            for session in list(self._sessions):
                all_of_it.callback(session.kill, ConnectionClosed("the loop was stopped before all was written"))
            all_of_it.callback(self._accept_no_more)


class Server(Loop, Generic[T]):
    """Runs ``service`` for everybody who connects to ``address``, all of them in the one thread that calls `run`.

    `address` says where it listens, with the port that the system chose for port 0; it does so from the beginning, so that
    clients can connect before `run` is called.

    ``max_connections``: above it, nobody is accepted until somebody leaves. ``frame_timeout``: seconds from a frame's
    first byte to its last. ``idle_timeout``: seconds without a byte in either direction. ``handshake_timeout``: seconds
    for the TLS handshake. ``slow_reader_timeout``: seconds in which a peer, while more than ``high_water`` bytes wait for it
    and until no more than ``low_water`` do, has to take ``high_water`` of them, or else is closed; it is not read from
    meanwhile. ``max_queued``: while more bytes than these wait for a peer, it is closed when others, or timers, send it still
    more. None means no limit.

    ``heartbeat`` finds peers that are gone without a word; ``keep_alive`` has the system look for them. ``ssl_context``
    makes it TLS: ``opened`` is called behind the handshake. ``reuse_port`` lets several processes listen at the same port;
    ``backlog`` is how many may wait there to be accepted.
    """

    def __init__(
        self,
        address: AddressLike,
        wire: Wire[T],
        service: Service[T],
        *,
        selector: selectors.BaseSelector | None = None,
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
        check_server(max_connections=max_connections)
        asked = Address.parse(address)
        self.wire = wire
        self.max_connections = max_connections
        self._handlers = Handlers[T].of(service)
        self._limits = Limits(
            high_water=high_water,
            low_water=low_water,
            frame_timeout=frame_timeout,
            idle_timeout=idle_timeout,
            handshake_timeout=handshake_timeout,
            slow_reader_timeout=slow_reader_timeout,
            max_queued=max_queued,
            heartbeat=heartbeat,
        )
        self._limits.channel(wire, 0.0)  # a wrong heartbeat is told here, not to the first client
        context = server_tls(asked, ssl_context)
        self._wrap = None if context is None else partial(wrap_server, context=context)
        self._keep_alive = keep_alive
        self._connections = 0
        self._accepting = False
        self._resting: Timer | None = None
        self._listener: socket.socket | None = None
        super().__init__(selector=selector, drain_timeout=drain_timeout)
        try:
            self._listener = listen(asked, backlog, reuse_port=reuse_port)
            self.address = local_address(self._listener, asked)
            self._accept_or_not()
        except BaseException:
            if self._listener is not None:
                close_listener(self._listener, asked)
            self._reactor.shut()
            raise

    def __repr__(self) -> str:
        return f"<Server at {self.address}, {self._connections} connections>"

    @property
    def connections(self) -> int:
        """How many peers are connected; not counted are the connections that this side has made."""
        return self._connections

    def _accept_or_not(self) -> None:
        """Listen while there is room, and only then: who waits, waits in the system's queue."""
        if self._listener is None:
            return
        wanted = self._connections < self.max_connections and self._resting is None
        if wanted and not self._accepting:
            self._reactor.watch(self._listener, EVENT_READ, self._accept)
        elif not wanted and self._accepting:
            self._reactor.unwatch(self._listener)
        self._accepting = wanted

    def _accept(self, _: int) -> None:
        if self._listener is None or not self._accepting:
            return
        try:
            for sock, raw in accept_some(self._listener, self.max_connections - self._connections):
                self._admit(sock, peer_address(raw, self.address))
        except OSError as error:
            logger.warning("%s accepts nobody for %g s: %s", self.address, ACCEPT_PAUSE, error)
            self._resting = self._reactor.call_later(ACCEPT_PAUSE, self._rested)
        self._accept_or_not()

    def _rested(self) -> None:
        self._resting = None
        self._accept_or_not()

    def _admit(self, sock: socket.socket, address: Address) -> None:
        """Begin a session; raises OSError only where the system has no room for it."""
        session = Session(
            self._reactor, self.wire, self._handlers, self._limits, address, serving=True, gone=self._forget
        )
        self._connections += 1
        self._sessions.add(session)
        error = self._begin(session, sock, wrap=self._wrap, keep_alive=self._keep_alive, doing="accepting")
        if error is not None and error.errno in OUT_OF_RESOURCES:
            raise error

    def _forget(self, session: Session[Any]) -> None:
        super()._forget(session)
        if session.serving:
            self._connections -= 1
        if not self._accepting and not self._draining:
            self._accept_or_not()

    def _accept_no_more(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        if self._accepting:
            self._reactor.unwatch(listener)
            self._accepting = False
        close_listener(listener, self.address)
