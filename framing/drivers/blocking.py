"""The blocking driver: a call returns when it is done, or raises when its time is over.

    with blocking.connect(("127.0.0.1", 9000), wire, timeout=5) as connection:
        connection.send({"op": "sum", "args": [1, 2]})
        print(connection.receive())

A `Connection` is full duplex: any threads send while others receive, each with a timeout of its own, and frames never
interleave. A timeout loses nothing. `Server` runs a service with a thread a connection.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from framing.channel import Channel, Heartbeat, State
from framing.drivers import address as addresses
from framing.drivers.address import Address, AddressLike
from framing.drivers.failures import translate
from framing.drivers.link import Link
from framing.drivers.stream import Stream, end_of
from framing.drivers.threaded import Server
from framing.drivers.tls import client_tls, upgrade_tls, wrap_client, wrap_server
from framing.errors import ConnectionClosed, CorruptFrame, FramingError, Timeout
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection", "Server", "connect"]

T = TypeVar("T")

CLOSE_SECONDS = 1.0
"""How long `Connection.close` waits for other threads to leave their calls; they are woken, so they do at once.

With TLS, also how long for the peer's system to take what was sent.
"""


def connect(
    address: AddressLike,
    wire: Wire[T],
    *,
    timeout: float | None = None,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    frame_timeout: float | None = None,
    idle_timeout: float | None = None,
    heartbeat: Heartbeat[T] | None = None,
    keep_alive: bool = False,
) -> Connection[T]:
    """Connect to ``address``: ``(host, port)``, ``"tcp://host:port"``, ``"tls://host:port"`` or ``"unix:/path"``.

    Every address of a host name is tried. ``timeout``, in seconds, is for connecting and the TLS handshake together, and
    then the default of every call. ``tls://`` speaks TLS with ``ssl.create_default_context()``; any address does with an
    ``ssl_context``. The certificate is held against ``server_hostname``, or else the host of ``address``. ``keep_alive``
    sets SO_KEEPALIVE. `Connection` explains the rest.

    Raises `framing.ConnectionRefused`, `framing.ConnectionReset`, `framing.ConnectionFailed` or `framing.Timeout`, which are
    the builtins of these names too; ValueError for options that do not fit together.
    """
    end = end_of(timeout)  # says what is wrong with a timeout before anything is opened
    where = Address.parse(address)
    context, name = client_tls(where, ssl_context, server_hostname)
    _make_channel(wire, frame_timeout, idle_timeout, heartbeat)
    sock = addresses.connect(where, timeout)
    try:
        if keep_alive:
            addresses.keep_alive(sock)
        if context is not None:
            sock = _secured(sock, context, name, where, end)
        return Connection(
            sock,
            wire,
            timeout=timeout,
            address=where,
            frame_timeout=frame_timeout,
            idle_timeout=idle_timeout,
            heartbeat=heartbeat,
        )
    except BaseException:
        sock.close()
        raise


def _secured(
    sock: socket.socket, context: ssl.SSLContext, name: str | None, where: Address, end: float | None
) -> socket.socket:
    try:
        secure = wrap_client(sock, context, name)
    except OSError as error:
        raise translate(error, where, "starting TLS with") from error
    try:
        Stream(secure, where).handshake(end)
    except BaseException:
        secure.close()
        raise
    return secure


def _make_channel(
    wire: Wire[T], frame_timeout: float | None, idle_timeout: float | None, heartbeat: Heartbeat[T] | None
) -> Channel[T]:
    return Channel(
        wire, frame_timeout=frame_timeout, idle_timeout=idle_timeout, heartbeat=heartbeat, now=time.monotonic()
    )


class Connection(Generic[T]):
    """Messages over ``sock``, any connected stream socket (TCP, unix, one of a pair, TLS), which it owns from now on.

    ``timeout`` is the default of every call, in seconds; None waits as long as it takes, 0 looks only. ``frame_timeout``
    is how long a frame may take from its first byte to its last, ``idle_timeout`` how long nothing may move: both fail
    the connection, where a ``timeout`` fails the call alone.

    ``heartbeat`` fails the connection when the peer is gone without a word. The connection has no thread of its own, so
    it beats, answers and judges while one of yours is in `receive`; time in which none was is not held against the peer.

    Every method may be called from any thread; not from a signal handler, except `close`.
    """

    __slots__ = ("_inbox", "_link", "address", "timeout", "wire")

    def __init__(
        self,
        sock: socket.socket,
        wire: Wire[T],
        *,
        timeout: float | None = None,
        address: AddressLike | None = None,
        frame_timeout: float | None = None,
        idle_timeout: float | None = None,
        heartbeat: Heartbeat[T] | None = None,
    ) -> None:
        end_of(timeout)
        self.address = Address.parse(address) if address is not None else addresses.peer_of(sock)
        self.timeout = timeout
        self.wire = wire
        channel = _make_channel(wire, frame_timeout, idle_timeout, heartbeat)
        addresses.no_delay(sock)
        self._link: Link[T] = Link(Stream(sock, self.address), channel)
        self._inbox: deque[T] = deque()

    def __repr__(self) -> str:
        return f"<Connection {self.address or 'of a pair'}, {self.state.value}>"

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""
        return self._link.stream.fileno()

    @property
    def state(self) -> State:
        """What may still be done: both directions open, one, or none."""
        return self._link.channel.state

    @property
    def error(self) -> FramingError | None:
        """Why the connection failed; None while it has not."""
        return self._link.channel.error

    @property
    def queued(self) -> int:
        """How many bytes of messages sent still wait in this process: those that a timeout left behind."""
        return self._link.channel.queued

    @property
    def unconsumed(self) -> bytes:
        """The received bytes that belong to no message yet: what an upgrade in mid-stream must hand over, or refuse."""
        with self._link.lock:
            return self._link.channel.unconsumed

    def _end(self, timeout: float | EllipsisType | None) -> float | None:
        if timeout is ...:
            timeout = self.timeout
        return None if timeout is None else end_of(timeout)

    # ----------------------------------------------------------------- sending

    def send(self, message: T, *, timeout: float | EllipsisType | None = ...) -> None:
        """Send one message; returns when the system has taken all of it.

        Raises `framing.EncodeError` (nothing was sent), `framing.ConnectionClosed`, `framing.ConnectionReset`, and
        `framing.Timeout`, after which the message is *not* to be sent again: it stays queued, and leaves, whole and
        in order, with the next send, with `flush`, or while a receive waits.
        """
        self._send(self.wire.pieces(message), timeout)

    def send_many(self, messages: Iterable[T], *, timeout: float | EllipsisType | None = ...) -> None:
        """Send all of ``messages`` in as few writes as it takes, or, where one cannot be encoded, none; raises as `send`."""
        self._send((self.wire.encode_many(messages),), timeout)

    def send_encoded(self, *frames: bytes, timeout: float | EllipsisType | None = ...) -> None:
        """Send what ``wire.encode``, or ``wire.pieces``, returned: for many peers it is encoded once; raises as `send`."""
        self._send(frames, timeout)

    def _send(self, frames: tuple[bytes, ...], timeout: float | EllipsisType | None) -> None:
        self._link.send(frames, self._end(timeout))

    def flush(self, *, timeout: float | EllipsisType | None = ...) -> None:
        """Write what a timeout left behind; raises as `send`."""
        self._link.flush(self._end(timeout))

    def close_sending(self, *, timeout: float | EllipsisType | None = ...) -> None:
        """End this side's stream behind all that was sent; receiving goes on, so that the last replies still come.

        Raises as `send`; `framing.FramingError` over TLS, which the ssl module cannot half-close: use `close` there.
        """
        link = self._link
        if not link.stream.can_half_close:
            raise FramingError("a TLS connection cannot end one direction alone; use close()")
        link.flush(self._end(timeout))
        with link.lock:
            link.channel.send_eof()
        link.stream.shutdown(socket.SHUT_WR)

    # --------------------------------------------------------------- receiving

    def receive(self, *, timeout: float | EllipsisType | None = ...) -> T:
        """The next message.

        Raises `framing.ConnectionClosed` at the end of the peer's stream, `framing.Timeout` when the time is over: nothing is
        lost then, call it again. `framing.DecodeError` stands for one refused payload, in its place; the next call goes on
        behind it. A `framing.Violation` (so `framing.TruncatedFrame`, where the stream ended inside a frame) and a
        `framing.ConnectionReset` come behind all that was whole before them, and from then on always.
        """
        return self._receive(timeout)[0]

    def receive_batch(self, *, timeout: float | EllipsisType | None = ...) -> list[T]:
        """All the messages that are there, one at least: waits, and raises, as `receive` does. The fastest way."""
        return self._receive(timeout, batch=True)

    def _receive(self, timeout: float | EllipsisType | None, *, batch: bool = False) -> list[T]:
        link, inbox = self._link, self._inbox
        end = self._end(timeout)
        if end is None:
            link.receiving.acquire()
        elif not link.receiving.acquire(False):
            left = max(end - time.monotonic(), 0.0)
            if not link.receiving.acquire(timeout=left):
                raise Timeout("another thread was receiving for all the time given; receive again")
        link.receiver = threading.get_ident()
        try:
            if not inbox:
                messages = link.read(end)
                if batch or len(messages) == 1:
                    return messages
                inbox.extend(messages)
            if batch:
                messages = list(inbox)
                inbox.clear()
                return messages
            return [inbox.popleft()]
        finally:
            link.receiver = 0
            link.receiving.release()

    def __iter__(self) -> Iterator[T]:
        """The messages until the peer's stream ends; raises as `receive` does, but for the clean end."""
        return self

    def __next__(self) -> T:
        try:
            return self._receive(...)[0]
        except ConnectionClosed:
            raise StopIteration from None

    # --------------------------------------------------------------------- TLS

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        """Go on with TLS in mid-stream, when both sides have agreed to: what was sent is written, then hands are shaken.

        Both sides wait between the agreement and the handshake. So nothing may have come behind the peer's last message:
        what has, came in plain text, perhaps from somebody in between, and fails the connection with
        `framing.CorruptFrame`. (Receive that message with `receive`; `receive_batch` would hand you what came behind it.)
        ``server_side`` says who shows the certificate; a client holds it against ``server_hostname``, or else the host of
        `address`.

        Raises what `connect` raises; ValueError, and nothing has happened, for a context that does not fit;
        `framing.FramingError`, and nothing has happened, where another thread is receiving, or TLS is there already.
        """
        end = self._end(timeout)
        context, name = upgrade_tls(self.address, ssl_context, server_hostname, server_side=server_side)
        wrap: Callable[[socket.socket], socket.socket] = (
            partial(wrap_server, context=context)
            if server_side
            else partial(wrap_client, context=context, server_hostname=name)
        )
        link = self._link
        if not link.receiving.acquire(blocking=False):
            raise FramingError("another thread is receiving; start TLS in the thread that received the agreement to it")
        try:
            link.start_tls(wrap, end, len(self._inbox))
        except CorruptFrame:
            self._inbox.clear()
            raise
        finally:
            link.receiving.release()

    # ------------------------------------------------------------------ ending

    def close(self) -> None:
        """End both directions and give the descriptor back; threads that wait in a call get `framing.ConnectionClosed`.

        What `send` has returned for is still delivered by the system. What a timeout left queued is dropped: `flush` first.
        To close twice is no error.
        """
        link, stream = self._link, self._link.stream
        with link.lock:
            link.channel.close()
            link.channel.drop()
        quiet = not link.receiving.locked() and not link.sending.locked()
        stream.end_sending()
        if not quiet:
            stream.shutdown(socket.SHUT_RDWR)
        if threading.get_ident() in (link.receiver, link.sender):
            return  # a signal handler: the call under it ends now, and whoever made that call closes
        if not link.receiving.acquire(timeout=CLOSE_SECONDS):
            return
        try:
            if not link.sending.acquire(timeout=CLOSE_SECONDS):
                return
            try:
                stream = link.stream  # start_tls() may have changed it meanwhile
                if stream.secure:
                    stream.discard_until_taken(CLOSE_SECONDS)
                else:
                    stream.discard()
                stream.close()
                self._inbox.clear()
            finally:
                link.sending.release()
        finally:
            link.receiving.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
