"""The server of the blocking driver: a thread a connection, and one that keeps the house.

A connection's own thread reads, calls the service and writes the replies, in one write a batch; while the peer does not take
them, it is not read from. The house thread accepts, finishes what other threads sent to a peer that is slow just now, and
clears up behind connections that ended. So no peer, however slow or hostile, makes another one wait.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from framing.channel import Channel, Heartbeat
from framing.drivers.accepting import ACCEPT_PAUSE, LINGER, accept_some
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
from framing.drivers.link import Link
from framing.drivers.service import Handlers, Peer, Service
from framing.drivers.stream import Stream, end_of
from framing.drivers.tls import server_tls, wrap_server
from framing.errors import ConnectionClosed, FramingError, Timeout
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Server", "UpgradablePeer"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

logger = logging.getLogger("framing.drivers")


class _Session(Generic[T]):
    """One connection of a server: the thread that serves it, and the `Peer` that the service sees."""

    def __init__(self, server: Server[T], link: Link[T], address: Address) -> None:
        self._server = server
        self.link = link
        self._address = address
        self._owner = 0
        self._unhandled = 0  # messages that came with the one that the service is handling, behind it
        self._gone = False
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
        self.send_encoded(self._server.wire.encode(message))

    def send_many(self, messages: Iterable[T]) -> None:
        self.send_encoded(self._server.wire.encode_many(messages))

    def send_encoded(self, frames: bytes) -> None:
        link = self.link
        if self._gone:
            return
        try:
            link.queue(frames)
        except FramingError:
            return  # gone, or closing
        if threading.get_ident() == self._owner:
            # What is sent while a batch is handled leaves behind it, in one write; but more than the high-water mark is
            # not kept: the service waits for its own peer here, and nobody else does.
            if link.channel.paused:
                self._flush()
        elif not link.try_flush():
            if link.channel.queued > self._server.max_queued:
                self.abort(
                    Timeout(f"{self._address} does not read: more than {self._server.max_queued} bytes wait for it")
                )
            else:
                self._server.finish_later(self)

    def start_tls(self, ssl_context: ssl.SSLContext) -> None:
        context = server_tls(None, ssl_context)
        assert context is not None
        if threading.get_ident() != self._owner:
            raise FramingError(
                "start_tls() belongs into the service's own methods: other threads do not know what came"
            )
        timeout = self._server.handshake_timeout
        self.link.start_tls(partial(wrap_server, context=context), end_of(timeout), self._unhandled)

    def close(self) -> None:
        with self.link.lock:
            self.link.channel.close()
        if threading.get_ident() != self._owner:
            self.wake()

    # ------------------------------------------------------ other threads

    def wake(self) -> None:
        """Let the session's thread see that it is to end: it may be waiting for its peer."""
        self.link.stream.shutdown(socket.SHUT_RD)

    def abort(self, error: FramingError) -> None:
        """End the session without waiting for its peer."""
        with self.link.lock:
            self.link.channel.lost(error)
        self.link.stream.shutdown(socket.SHUT_RDWR)

    # ---------------------------------------------------- the session's thread

    def _run(self) -> None:
        self._owner = threading.get_ident()
        handlers = self._server.handlers
        error: Exception | None = None
        if self.link.stream.secure and not self._greet():
            self._gone = True
            self._part()
            return
        try:
            error = self._serve(handlers)
            if self.link.channel.queued:
                late = self._flush()
                error = error or late
        finally:
            self._gone = True
            try:
                handlers.closed(self, error)
            except Exception:
                logger.exception("%s: the service raised in closed()", self._address)
            self._part()

    def _greet(self) -> bool:
        """Shake hands; of a peer that cannot, the service hears nothing."""
        try:
            self.link.stream.handshake(end_of(self._server.handshake_timeout))
        except FramingError as error:
            logger.info("%s: the connection is closed: %s", self._address, error)
            return False
        return True

    def _serve(self, handlers: Handlers[T]) -> Exception | None:
        """Until the end: why it came, None for a clean one."""
        link, received = self.link, handlers.received
        channel = link.channel
        try:
            handlers.opened(self)
        except Exception as error:
            logger.exception("%s: the service raised in opened(); the connection is closed", self._address)
            return error
        while True:
            failure = self._flush() if channel.queued else None
            if failure is not None:
                return failure
            if self._ending():
                return channel.error
            try:
                messages = link.read(None)
            except ConnectionClosed:
                return None
            except FramingError as error:
                if self._ending() and channel.error is None:
                    return None
                logger.info("%s: the connection is closed: %s", self._address, error)
                return error
            try:
                for behind, message in enumerate(messages, 1 - len(messages)):
                    self._unhandled = -behind
                    received(self, message)
                    if not channel.may_receive:
                        break  # the service has closed it
            except Exception as error:
                logger.exception("%s: the service raised in received(); the connection is closed", self._address)
                return error

    def _ending(self) -> bool:
        return self._server.stopping or not self.link.channel.may_receive

    def _flush(self) -> FramingError | None:
        """Write all that is queued; what went wrong, where something did."""
        try:
            self.link.flush(None, stall=self._server.send_timeout)
        except FramingError as error:
            if not self.link.channel.error:
                logger.info("%s: the connection is closed: %s", self._address, error)
            self.abort(error)
            return error
        return None

    def _part(self) -> None:
        link = self.link
        link.stream.end_sending()
        if not link.eof and not self._server.stopping:
            link.stream.discard(LINGER)
        self._server.finished(self)
        if self.abandoned:
            link.stream.close()


@runtime_checkable
class UpgradablePeer(Peer[T_contra], Protocol[T_contra]):
    """What the service of a `Server` with threads gets as its peer: it can go on with TLS in mid-stream."""

    def start_tls(self, ssl_context: ssl.SSLContext) -> None:
        """Write what was sent, shake hands as the server, and return; in ``received``, behind the agreement to it.

        Raises `framing.CorruptFrame` where anything came behind the message that is handled: in plain text, perhaps from
        somebody in between. It, and every other failure, ends the connection; let it pass.
        """
        ...


class Server(Generic[T]):
    """Runs ``service`` for everybody who connects to ``address``, each in a thread of their own.

    As a context manager it accepts in the background until the end of the block; `run` does so in the calling thread, until
    `stop`. `address` says where it listens, with the port that the system chose for port 0.

    With ``ssl_context`` it speaks TLS; ``handshake_timeout``: seconds that a peer has to shake hands, during which the
    service does not hear of it.

    ``max_connections``: above it, nobody is accepted until somebody leaves. ``frame_timeout``: seconds from a frame's
    first byte to its last. ``idle_timeout``: seconds without a byte in either direction; None for no limit.
    ``send_timeout``: seconds for which a peer may take nothing of what waits for it. ``max_queued``: the most bytes that other
    connections' threads may leave waiting for one peer before it is closed. ``drain_timeout``: seconds that the
    connections have when the server is stopped, to write what is queued. ``heartbeat``: finds peers that are gone without a
    word, and keeps those that are not. ``keep_alive`` sets SO_KEEPALIVE on every connection, ``reuse_port`` SO_REUSEPORT on
    the listening socket, so that several processes may listen at the port (`framing.drivers.workers`).
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
        send_timeout: float | None = 30.0,
        max_queued: int = 1 << 20,
        drain_timeout: float = 5.0,
        high_water: int = 1 << 16,
        low_water: int = 1 << 14,
        ssl_context: ssl.SSLContext | None = None,
        handshake_timeout: float | None = 10.0,
        heartbeat: Heartbeat[T] | None = None,
        reuse_port: bool = False,
        keep_alive: bool = False,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections is {max_connections}; give 1 at least")
        if handshake_timeout is not None and not handshake_timeout > 0:
            raise ValueError(f"handshake_timeout is {handshake_timeout!r}; give seconds above 0, or None for no limit")
        self.handlers = Handlers[T].of(service)
        self.wire = wire
        self.max_connections = max_connections
        self.send_timeout = send_timeout
        self.max_queued = max_queued
        self.drain_timeout = drain_timeout
        self.stopping = False
        self._channel_options: dict[str, Any] = {
            "frame_timeout": frame_timeout,
            "idle_timeout": idle_timeout,
            "high_water": high_water,
            "low_water": low_water,
            "heartbeat": heartbeat,
        }
        self._make_channel()  # wrong options are told here, not to the first client
        asked = Address.parse(address)
        self.handshake_timeout = handshake_timeout
        self._ssl_context = server_tls(asked, ssl_context)
        self._keep_alive = keep_alive
        self._listener = listen(asked, reuse_port=reuse_port)
        self.address = local_address(self._listener, asked)
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._sessions: set[_Session[T]] = set()
        self._finished: deque[_Session[T]] = deque()
        self._unfinished: deque[_Session[T]] = deque()
        self._slow: dict[_Session[T], tuple[float, int]] = {}
        self._accepting = False
        self._resume = 0.0  # when to accept again, after the system ran out of descriptors
        self._ended = False
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Server at {self.address}, {len(self._sessions)} connections>"

    def _make_channel(self) -> Channel[T]:
        return Channel(self.wire, now=time.monotonic(), **self._channel_options)

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
        if self._ended:
            raise ConnectionClosed(f"the server at {self.address} has been stopped; make a new one")
        self._keep_house()

    def stop(self) -> None:
        """Ask the server to end, from any thread or signal handler; returns at once.

        It accepts no more, lets each connection finish the messages that it is handling and write what is queued,
        within ``drain_timeout`` seconds, and closes them.
        """
        self.stopping = True
        self._wake()

    def close(self) -> None:
        """Stop, and wait until every connection has ended and every descriptor is given back."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        elif not self._ended and not self._accepting:
            self._end()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._keep_house, name=f"framing server {self.address}", daemon=True)
        self._thread.start()
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

    def finished(self, session: _Session[T]) -> None:
        """The session's thread is about to return."""
        self._finished.append(session)
        self._wake()

    # ------------------------------------------------------ the house thread

    def _keep_house(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_in, selectors.EVENT_READ)
            try:
                try:
                    self._loop(selector)
                except BaseException:
                    # Ctrl-C in run(): the connections end as after stop(); a second one ends at once.
                    self.stopping = True
                    self._loop(selector)
                    raise
            finally:
                self._end()

    def _loop(self, selector: selectors.BaseSelector) -> None:
        drain_end: float | None = None
        killed = False
        while True:
            now = time.monotonic()
            if self.stopping and drain_end is None:
                drain_end = now + self.drain_timeout
                self._accept_or_not(selector, wanted=False)
                self._close_listener()
                for session in self._sessions:
                    session.wake()
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
            self._look_after(selector)

    def _pause(self, now: float, drain_end: float | None) -> float | None:
        """How long the house may sleep."""
        ends = [since + self.send_timeout for since, _ in self._slow.values()] if self.send_timeout is not None else []
        if drain_end is not None:
            ends.append(drain_end)
        elif self._resume > now:
            ends.append(self._resume)
        return max(min(ends) - now, 0.0) if ends else None

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
            session = _Session(self, Link(Stream(sock, address), self._make_channel()), address)
            self._sessions.add(session)
            session.thread.start()
        except BaseException:
            if session is not None:
                self._sessions.discard(session)
            sock.close()
            raise

    def _look_after(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        while self._unfinished:
            session = self._unfinished.popleft()
            if session in self._sessions and session not in self._slow:
                selector.register(session.link.stream.sock, selectors.EVENT_WRITE, session)
                self._slow[session] = (now, session.link.channel.queued)
        if self.send_timeout is not None and self._slow:
            for session, (since, _) in list(self._slow.items()):
                if now >= since + self.send_timeout:
                    self._forget(session, selector)
                    session.abort(Timeout(f"{session.address} took nothing for {self.send_timeout:g} s"))
        while self._finished:
            session = self._finished.popleft()
            self._forget(session, selector)
            session.thread.join()
            session.link.stream.close()
            self._sessions.discard(session)

    def _write_slow(self, session: _Session[T], selector: selectors.BaseSelector) -> None:
        if session not in self._slow:
            return
        before = self._slow[session][1]
        if session.link.try_flush():
            self._forget(session, selector)
        elif (queued := session.link.channel.queued) != before:
            self._slow[session] = (time.monotonic(), queued)

    def _forget(self, session: _Session[T], selector: selectors.BaseSelector) -> None:
        if self._slow.pop(session, None) is not None:
            selector.unregister(session.link.stream.sock)

    def _close_listener(self) -> None:
        close_listener(self._listener, self.address)

    def _end(self) -> None:
        self._ended = True
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
