"""The server of the blocking driver: a thread a connection, and one that keeps the house.

A connection's own thread reads, calls the service and writes the replies, in one write a batch; while the peer does not take
them, it is not read from. The house thread accepts, finishes what other threads sent to a peer that is slow just now, and
clears up behind connections that ended. So no peer, however slow or hostile, makes another one wait.

A thread that waits for its peer in a read cannot be woken by another one without harm: to shut the socket down for reading has
the system answer what the peer still sends with a reset, which destroys the last replies. So the house says the end to
the peer in its place, and the peer's own end, or whatever else it sends, wakes the thread; force comes last.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from framing.channel import Heartbeat, State
from framing.drivers.accepting import ACCEPT_PAUSE, accept_some
from framing.drivers.address import (
    Address,
    AddressLike,
    close_listener,
    keep_alive,
    listen,
    local_address,
    no_delay,
    peer_address,
)
from framing.drivers.limits import LINGER, NEVER, QUIET, Limits, Linger, SlowReader, check_server
from framing.drivers.link import Link
from framing.drivers.running import Running
from framing.drivers.service import Handlers, Peer, Service
from framing.drivers.stream import Stream, end_of
from framing.drivers.tls import server_tls, upgrade_tls, wrap_server
from framing.errors import ConnectionClosed, FramingError, Timeout
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Server"]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")

_OVER = frozenset({State.CLOSED, State.FAILED})


class _Session(Generic[T]):
    """One connection of a server: the thread that serves it, and the `Peer` that the service sees."""

    def __init__(self, server: Server[T], link: Link[T], address: Address) -> None:
        limits = server.limits
        self._server = server
        self.link = link
        self._address = address
        self._owner = 0
        self._unhandled = 0  # messages that came with the one that the service is handling, behind it
        self._gone = False
        self._turn = threading.Lock()  # held while it is settled whether the thread, or the house, says the end
        self._greeting = True
        self._reading = False  # the thread waits for messages, and sends nothing meanwhile
        self._parted = False  # the house has ended it
        self._finishing = False  # the last replies are being written
        self._aborted: FramingError | None = None
        self._slowness = SlowReader(limits.slow_reader_timeout, limits.high_water)
        self._linger: Linger | None = None
        self.abandoned = False
        self.thread = threading.Thread(target=self._run, name=f"framing peer {address}", daemon=True)

    def __repr__(self) -> str:
        return f"<Peer {self._address}>"

    # ---------------------------------------------------- the service's view

    @property
    def address(self) -> Address:
        return self._address

    @property
    def paused(self) -> bool:
        return self.link.channel.paused

    def send(self, message: T) -> None:
        self.send_encoded(*self._server.wire.pieces(message))

    def send_many(self, messages: Iterable[T]) -> None:
        self.send_encoded(self._server.wire.encode_many(messages))

    def send_encoded(self, *frames: bytes) -> None:
        link = self.link
        if self._gone:
            return
        if threading.get_ident() == self._owner:
            self._keep(*frames)
            return
        backlog = link.channel.queued
        try:
            done = link.try_send(*frames)
        except FramingError:
            return  # gone, or closing
        if not done:
            # One message is always taken, of whatever size; so it is what waited before it that counts.
            limits = self._server.limits
            if limits.max_queued is not None and backlog > limits.max_queued and link.channel.paused:
                self.abort(limits.overrun(self._address))
            else:
                self._server.finish_later(self)

    def _keep(self, *frames: bytes) -> None:
        """What is sent while a batch is handled leaves behind it, in one write; but more than the high-water mark is not kept.

        The service waits for its own peer here, and nobody else does.
        """
        try:
            self.link.queue(*frames)
        except FramingError:
            return  # gone, or closing
        if self.link.channel.paused:
            self._relieve()

    def start_tls(self, ssl_context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        context, _ = upgrade_tls(self._address, ssl_context, server_hostname, server_side=True)
        if threading.get_ident() != self._owner:
            raise FramingError("start_tls() belongs into the service's own methods, which the peer's thread calls")
        timeout = self._server.limits.handshake_timeout
        self.link.start_tls(partial(wrap_server, context=context), end_of(timeout), self._unhandled)

    def close(self) -> None:
        with self.link.lock:
            self.link.channel.close()
        if threading.get_ident() != self._owner:
            self._server.part_later(self)

    # ------------------------------------------------------ other threads

    def hurry(self) -> None:
        """The server is stopping."""
        with self._turn:
            if self._greeting:
                self.link.stream.shutdown(socket.SHUT_RDWR)
            elif self._linger is not None:
                self._linger.hurried = True

    def part(self) -> bool:
        """End it for its thread, where that waits for the peer; whether the end was said, for all must be written before."""
        with self._turn:
            if not self._reading:
                return False  # it sees for itself
            self._parted = True
            with self.link.lock:
                self.link.channel.close()
                if self.link.channel.queued:
                    return False
            self.link.stream.end_sending(wait=True)
            return True

    def wake(self) -> None:
        """Have a thread that still waits for its peer end, whatever becomes of what the peer sends."""
        with self._turn:
            if self._reading:
                self.link.stream.shutdown(socket.SHUT_RD)

    def abort(self, error: FramingError) -> None:
        """End the session without waiting for its peer."""
        logger.info("%s: the connection is closed: %s", self._address, error)
        self._aborted = error
        with self.link.lock:
            self.link.channel.lost(error)
        self.link.stream.shutdown(socket.SHUT_RDWR)

    def too_slow(self, now: float) -> Timeout | None:
        """Why the peer is not waited for any more, None where it is; `slow_until` says when to look again."""
        channel = self.link.channel
        with self.link.lock:
            queued = channel.queued
            slow = channel.paused or (queued > 0 and (self._finishing or not channel.may_send))
            if not self._slowness.look(now, self.link.written, slow=slow):
                return None
        return self._slowness.verdict(self._address, queued)

    @property
    def slow_until(self) -> float:
        """When `too_slow` has something to say."""
        return self._slowness.due

    # ---------------------------------------------------- the session's thread

    def _run(self) -> None:
        self._owner = threading.get_ident()
        handlers = self._server.handlers
        if not self._greet():
            self._gone = True
            self.link.stream.end_sending()
            self.link.stream.discard()  # there is no reply that a reset could destroy
            self._leave()
            return
        error: Exception | None = None
        try:
            error = self._serve(handlers)
            self._finishing = True
            late = self._write_on()
            error = error or late
        finally:
            self._gone = True
            try:
                handlers.closed(self, error)
            except Exception:
                logger.exception("%s: the service raised in closed()", self._address)
            self._part()

    def _greet(self) -> bool:
        """Shake hands, where this is TLS; of a peer that cannot, the service hears nothing."""
        try:
            if self.link.stream.secure:
                self.link.stream.handshake(end_of(self._server.limits.handshake_timeout))
        except FramingError as error:
            logger.info("%s: the connection is closed: %s", self._address, error)
            return False
        finally:
            with self._turn:
                self._greeting = False
        return True

    def _serve(self, handlers: Handlers[T]) -> Exception | None:
        """Until the end: why it came, None for a clean one."""
        link = self.link
        channel = link.channel
        try:
            handlers.opened(self)
        except Exception as error:
            if error is channel.error:
                logger.info("%s: the connection is closed: %s", self._address, error)
            else:
                logger.exception("%s: the service raised in opened(); the connection is closed", self._address)
            return error
        while True:
            if channel.queued:
                self._relieve()
            with self._turn:
                if self._server.stopping or not channel.may_receive:
                    return channel.error or link.send_error
                self._reading = True
            try:
                messages = link.read(None)
            except ConnectionClosed:
                return self._aborted or channel.error or link.send_error
            except FramingError as error:
                if self._parted and channel.error is None:
                    return self._aborted
                if error is not self._aborted:
                    logger.info("%s: the connection is closed: %s", self._address, error)
                return error
            finally:
                with self._turn:
                    self._reading = False
            if self._parted:
                return self._aborted
            try:
                self._hand_on(messages, handlers.received)
            except Exception as error:
                if error is channel.error:  # which start_tls() has raised, and which is the peer's doing
                    logger.info("%s: the connection is closed: %s", self._address, error)
                else:
                    logger.exception("%s: the service raised in received(); the connection is closed", self._address)
                return error
            del messages  # a peer that has nothing more to say would keep them here

    def _hand_on(self, messages: list[T], received: Callable[[Peer[T], T], object]) -> None:
        for behind, message in enumerate(messages, 1 - len(messages)):
            self._unhandled = -behind
            received(self, message)
            if self.link.channel.state in _OVER:
                break  # the service has closed it

    def _relieve(self) -> None:
        """Write what is queued; while the peer takes too little of it, wait for it."""
        link = self.link
        if not link.try_flush() and link.channel.paused:
            self._write_on()
        if link.channel.queued:
            # The service may take its time before the next read, which would write it too.
            self._server.finish_later(self)

    def _write_on(self) -> FramingError | None:
        """Write, and wait for the peer, until it has caught up, at the end with all; what went wrong, where something did."""
        link, channel = self.link, self.link.channel
        while channel.paused or (self._finishing and channel.queued):
            if (late := self.too_slow(time.monotonic())) is not None:
                self.abort(late)
                break
            try:
                link.push(None if self.slow_until == NEVER else self.slow_until)
            except FramingError:
                break  # the next read tells, behind what the peer said before
        self.too_slow(time.monotonic())
        return channel.error or link.send_error

    def _part(self) -> None:
        link = self.link
        link.stream.end_sending(wait=True)
        if self._parted or not link.eof:
            with self._turn:
                self._linger = Linger(time.monotonic(), hurried=self._server.stopping)
            link.stream.discard(self._linger)
        self._leave()

    def _leave(self) -> None:
        self._server.finished(self)
        if self.abandoned:
            self.link.stream.close()


class Server(Generic[T]):
    """Runs ``service`` for everybody who connects to ``address``, each in a thread of their own.

    As a context manager it accepts in the background until the end of the block; `run` does so in the calling thread, until
    `stop`. `address` says where it listens, with the port that the system chose for port 0.

    With ``ssl_context`` it speaks TLS; ``handshake_timeout``: seconds that a peer has to shake hands, during which the
    service does not hear of it.

    ``max_connections``: above it, nobody is accepted until somebody leaves. ``frame_timeout``: seconds from a frame's
    first byte to its last. ``idle_timeout``: seconds without a byte in either direction. ``slow_reader_timeout``: seconds
    in which a peer, while more than ``high_water`` bytes wait for it and until no more than ``low_water`` do, has to take
    ``high_water`` of them, or else is closed; it is not read from meanwhile. ``max_queued``: while more bytes than these wait
    for a peer, it is closed when others send it still more. None means no limit. ``drain_timeout``: seconds that the
    connections have when the server is stopped, to write what is queued.

    ``heartbeat`` finds peers that are gone without a word, and keeps those that are not; ``keep_alive`` sets SO_KEEPALIVE on
    every connection. ``reuse_port`` sets SO_REUSEPORT on the listening socket, so that several processes may listen at the
    port (`framing.drivers.workers`); ``backlog`` is how many may wait there to be accepted.
    """

    def __init__(
        self,
        address: AddressLike,
        wire: Wire[T],
        service: Service[T],
        *,
        max_connections: int = 1000,
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
        self.handlers = Handlers[T].of(service)
        self.wire = wire
        self.max_connections = max_connections
        self.drain_timeout = drain_timeout
        self.stopping = False
        asked = Address.parse(address)
        self._ssl_context = server_tls(asked, ssl_context)
        self._keep_alive = keep_alive
        self._listener = listen(asked, backlog, reuse_port=reuse_port)
        self.address = local_address(self._listener, asked)
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._sessions: set[_Session[T]] = set()
        self._finished: deque[_Session[T]] = deque()
        self._unfinished: deque[_Session[T]] = deque()
        self._slow: set[_Session[T]] = set()  # what is left for them, the house writes
        self._unparted: deque[_Session[T]] = deque()
        self._parting: dict[_Session[T], float | None] = {}  # when to use force, None before the end was said
        self._accepting = False
        self._resume = 0.0  # when to accept again, after the system ran out of descriptors
        self._running = Running(f"the server at {self.address}")
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Server at {self.address}, {len(self._sessions)} connections>"

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._sessions)

    # -------------------------------------------------------- start and stop

    def run(self) -> None:
        """Serve until `stop` is called; returns when every connection has ended. In a ``with`` block: wait for that."""
        if self._thread is not None:
            self._thread.join()
            return
        self._keep_house()

    def stop(self) -> None:
        """Ask the server to end, from any thread or signal handler; returns at once.

        It accepts no more, lets each connection finish the messages that it is handling and write what is queued,
        within ``drain_timeout`` seconds, and closes them.
        """
        self.stopping = True
        self._wake()

    def close(self) -> None:
        """Stop, and wait until every connection has ended and every descriptor is given back; in the service, `stop` alone."""
        if any(session.thread is threading.current_thread() for session in list(self._sessions)):
            self.stop()  # it would wait for itself
        else:
            self._running.close(self.stop, self._end)
            if self._thread is not None:
                self._thread.join()

    def __enter__(self) -> Self:
        if self._running.ended:
            raise self._running.refusal()
        began = threading.Event()
        house = partial(self._keep_house, began.set)
        self._thread = threading.Thread(target=house, name=f"framing server {self.address}", daemon=True)
        self._thread.start()
        began.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ----------------------------------------------- called by the sessions

    def _wake(self) -> None:
        # A full pipe wakes as well as a fuller one; a closed one belongs to a server that has ended.
        with contextlib.suppress(OSError):
            self._wake_out.send(b"\0")

    def finish_later(self, session: _Session[T]) -> None:
        """Have what is left in the session's queue written as its peer takes it."""
        self._unfinished.append(session)
        self._wake()

    def part_later(self, session: _Session[T]) -> None:
        """Have the session end, though its thread may be waiting for its peer."""
        self._unparted.append(session)
        self._wake()

    def finished(self, session: _Session[T]) -> None:
        """The session's thread is about to return."""
        self._finished.append(session)
        self._wake()

    # ------------------------------------------------------ the house thread

    def _keep_house(self, began: Callable[[], object] | None = None) -> None:
        try:
            self._running.claim()
        finally:
            if began is not None:
                began()
        try:
            self._running.enter()
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_in, selectors.EVENT_READ)
                try:
                    self._loop(selector, self.drain_timeout)
                except BaseException:
                    # Ctrl-C in run(): the connections end as after stop(); behind stop(), or a second one, at once.
                    patience = 0.0 if self.stopping else self.drain_timeout
                    self.stopping = True
                    self._loop(selector, patience)
                    raise
        finally:
            self._running.end(self._end)

    def _loop(self, selector: selectors.BaseSelector, patience: float) -> None:
        drain_end: float | None = None
        killed = False
        while True:
            now = time.monotonic()
            if self.stopping and drain_end is None:
                drain_end = now + patience
                self._accept_or_not(selector, wanted=False)
                self._close_listener()
                for session in self._sessions:
                    session.hurry()
                    end = self._parting.get(session)
                    self._parting[session] = None if end is None else min(end, now + QUIET)
            self._look_after(selector, now)
            if drain_end is not None:
                if not self._sessions:
                    return
                if now >= drain_end:
                    if killed:
                        return
                    for session in self._sessions:
                        session.abort(ConnectionClosed("the server was stopped"))
                    killed, drain_end = True, now + 1.0
            else:
                room = len(self._sessions) < self.max_connections and now >= self._resume
                self._accept_or_not(selector, wanted=room)
            for key, _ in selector.select(self._pause(now, drain_end)):
                if key.fileobj is self._wake_in:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_in.recv(4096)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._write_slow(key.data, selector)

    def _pause(self, now: float, drain_end: float | None) -> float | None:
        """How long the house may sleep."""
        ends = [session.slow_until for session in self._slow]
        ends += [end for end in self._parting.values() if end is not None]
        if drain_end is not None:
            ends.append(drain_end)
        elif self._resume > now:
            ends.append(self._resume)
        first = min(ends, default=NEVER)
        return None if first == NEVER else max(first - now, 0.0)

    def _accept_or_not(self, selector: selectors.BaseSelector, *, wanted: bool) -> None:
        if wanted and not self._accepting:
            selector.register(self._listener, selectors.EVENT_READ)
        elif not wanted and self._accepting:
            selector.unregister(self._listener)
        self._accepting = wanted

    def _accept(self) -> None:
        try:
            for sock, raw in accept_some(self._listener, self.max_connections - len(self._sessions)):
                try:
                    self._admit(sock, raw)
                except (OSError, RuntimeError, ValueError) as error:
                    # RuntimeError: the system starts no more threads.
                    logger.info("%s: a connection is closed: %s", self.address, error)
                    if isinstance(error, RuntimeError):
                        self._rest(error)
                        return
        except OSError as error:
            self._rest(error)

    def _rest(self, error: Exception) -> None:
        logger.warning("%s accepts nobody for %g s: %s", self.address, ACCEPT_PAUSE, error)
        self._resume = time.monotonic() + ACCEPT_PAUSE

    def _admit(self, sock: socket.socket, raw: object) -> None:
        session: _Session[T] | None = None
        try:
            no_delay(sock)
            if self._keep_alive:
                keep_alive(sock)
            if self._ssl_context is not None:
                sock = wrap_server(sock, self._ssl_context)
            address = peer_address(raw, self.address)
            channel = self.limits.channel(self.wire, time.monotonic())
            session = _Session(self, Link(Stream(sock, address), channel), address)
            self._sessions.add(session)
            session.thread.start()
        except BaseException:
            if session is not None:
                self._sessions.discard(session)
            sock.close()
            raise

    def _look_after(self, selector: selectors.BaseSelector, now: float) -> None:
        while self._unfinished:
            session = self._unfinished.popleft()
            if session in self._sessions and session not in self._slow:
                selector.register(session.link.stream.sock, selectors.EVENT_WRITE, session)
                self._slow.add(session)
        for session in list(self._slow):
            if (late := session.too_slow(now)) is not None:
                self._forget(session, selector)
                session.abort(late)
        while self._unparted:
            session = self._unparted.popleft()
            if session in self._sessions:
                self._parting.setdefault(session, None)
        for session, end in list(self._parting.items()):
            if end is None:
                if session.part():
                    self._parting[session] = now + (QUIET if self.stopping else LINGER)
            elif now >= end:
                session.wake()
                self._parting[session] = NEVER
        while self._finished:
            session = self._finished.popleft()
            self._forget(session, selector)
            self._parting.pop(session, None)
            session.thread.join()
            session.link.stream.close()
            self._sessions.discard(session)

    def _write_slow(self, session: _Session[T], selector: selectors.BaseSelector) -> None:
        if session in self._slow and session.link.try_flush():
            self._forget(session, selector)
            session.too_slow(time.monotonic())

    def _forget(self, session: _Session[T], selector: selectors.BaseSelector) -> None:
        if session in self._slow:
            self._slow.discard(session)
            selector.unregister(session.link.stream.sock)

    def _close_listener(self) -> None:
        close_listener(self._listener, self.address)

    def _end(self) -> None:
        self._close_listener()
        for session in list(self._sessions):
            # Its service does not return. Its socket is shut down; the thread closes it, should it ever come back.
            session.abandoned = True
            if not session.thread.is_alive():
                session.link.stream.close()
            else:
                logger.warning("%s: the service has not returned; its thread is left behind", session.address)
        self._sessions.clear()
        self._wake_out.close()
        self._wake_in.close()
