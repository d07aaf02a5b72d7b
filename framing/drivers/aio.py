"""The asyncio driver: clients and servers on the running loop, asyncio's own or uvloop's.

    async with aio.connect(("127.0.0.1", 9000), wire) as connection:
        await connection.send({"op": "sum", "args": [1, 2]})
        print(await connection.receive())

    async with aio.serve(("127.0.0.1", 9000), wire, Echo()) as server:
        await server.run()                       # until server.stop(), from any thread, task or signal handler

    with aio.StandaloneServer(("127.0.0.1", 9000), wire, Echo()) as server:
        server.run()                             # the same, where no loop is running: it has its own

It guarantees that

- a call that is cancelled, by ``asyncio.timeout`` for instance, has taken no message and sent none: make it again;
- what was received before an error is delivered before it, and the error then raised by every call that follows;
- what is sent in one go, while a batch is handled or by tasks that run in one turn of the loop, leaves in one write;
- every connection has one timer at the most, and no task.

A service is the same plain object as for every other driver. Its methods are plain functions: one that waited would hold back
the messages behind it, so coroutine functions are refused; start a task where something must be awaited.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from framing.channel import Channel, Heartbeat, State
from framing.drivers.address import Address, AddressLike, is_number, no_delay, resolve
from framing.drivers.address import keep_alive as set_keep_alive
from framing.drivers.aio_link import AsyncLink
from framing.drivers.aio_server import Server, serve
from framing.drivers.aio_standalone import StandaloneServer
from framing.drivers.failures import UNDER_WAY, translate
from framing.drivers.opening import Opening
from framing.drivers.tls import client_tls, upgrade_tls
from framing.drivers.tunnel import Tunnel
from framing.errors import ConnectionClosed, ConnectionFailed, CorruptFrame, DecodeError, FramingError
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection", "Server", "StandaloneServer", "connect", "serve"]

T = TypeVar("T")


class _Refused:
    """Stands among received messages for a payload that was refused, until its turn to be raised has come."""

    __slots__ = ("error",)

    def __init__(self, error: DecodeError) -> None:
        self.error = error


class _Inbox(AsyncLink[T]):
    """The link of a client: what was received waits here, in order, until it is asked for."""

    __slots__ = ("_unread", "end", "items", "leavers", "readers", "refusals")

    def __init__(self, channel: Channel[T], address: Address) -> None:
        super().__init__(channel, address, None)
        self.items: deque[T | _Refused] = deque()
        self.refusals = 0  # how many of the items are none
        self.end: FramingError | None = None  # what is raised behind them
        self.readers: list[asyncio.Future[None]] = []
        self.leavers: list[asyncio.Future[None]] = []  # who waits for the transport's end
        self._unread = 0  # bytes read since the inbox was empty

    def _take(self, chunk: bytes | memoryview | None, nbytes: int = 0) -> None:
        super()._take(chunk, nbytes)
        if self.items:
            self._unread += nbytes
            if self._unread > self.channel.high_water:
                self.pause()

    def delivered(self, messages: list[T]) -> None:
        self.items.extend(messages)
        self._wake(self.readers)

    def troubled(self, error: FramingError) -> None:
        if isinstance(error, DecodeError):
            self.items.append(_Refused(error))
            self.refusals += 1
        elif self.end is None:
            self.end = self.failure = error
            self.pause()
            self._wake(self.writers)
        self._wake(self.readers)

    def ended(self) -> None:
        self.end = ConnectionClosed(f"{self.address} has ended the stream; all of it was received")
        self._wake(self.readers)

    def shaken(self) -> None:
        self._wake(self.readers)
        self.flush()

    async def hands_shaken(self) -> None:
        """Wait for TLS; raises why it is not to be had."""
        while self.shaking and self.end is None:
            await self.wait(self.readers)
        if not self.secured:
            assert self.end is not None
            raise self.end.with_traceback(None)

    def refused(self, error: CorruptFrame) -> None:
        self.troubled(error)
        self._forget()
        self.finish(error, hurried=True)

    def interrupted(self) -> None:
        """Nobody waits for the handshake any more, and half of one is nothing."""
        self.troubled(ConnectionFailed(f"the TLS handshake with {self.address} was interrupted; connect again"))
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.end is None:
            closed = ConnectionClosed(f"the connection with {self.address} is closed")
            self.end = self.failure if isinstance(self.failure, FramingError) else closed
        self._wake(self.readers)
        self._wake(self.leavers)

    def writable(self) -> None:
        self._wake(self.writers)

    def _forget(self) -> None:
        """Drop what was not asked for."""
        self.items.clear()
        self.refusals = 0

    def emptied(self) -> None:
        """All the items have been taken: read on."""
        self._unread = 0
        if self._deaf and self.end is None:
            self.resume()

    def leave(self) -> None:
        """Tell whoever waits that this side closes, and drop what was not asked for."""
        self.end = ConnectionClosed(f"the connection with {self.address} was closed on this side")
        self._forget()
        self._wake(self.readers)
        self._wake(self.writers)


class Connection(Generic[T]):
    """Messages over one connection, made by `connect`; full duplex: any tasks send while others receive.

    An ``async with`` block closes it at its end. All methods belong to the loop's thread.
    """

    __slots__ = ("_link", "address", "wire")

    def __init__(self, link: _Inbox[T]) -> None:
        self._link = link
        self.wire = link.channel.wire
        self.address = link.address

    def __repr__(self) -> str:
        return f"<Connection {self.address}, {self.state.value}>"

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
        """How many bytes of messages sent wait to be taken by the system."""
        return self._link.queued

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport knows under asyncio's name for it: ``"socket"``, ``"ssl_object"``, ``"peercert"``."""
        link = self._link
        known = None if link.tunnel is None else link.tunnel.extra_info(name)
        if known is not None or link.transport is None:
            return default if known is None else known
        return link.transport.get_extra_info(name, default)

    # ----------------------------------------------------------------- sending

    async def send(self, message: T) -> None:
        """Send one message: returns when it is queued, for which it waits while too much is (``high_water``).

        When it is cancelled, nothing was sent. Raises `framing.EncodeError` (nothing was sent), `framing.ConnectionReset`,
        and `framing.ConnectionClosed` where the connection was closed.
        """
        await self._send(*self.wire.pieces(message))

    async def send_many(self, messages: Iterable[T]) -> None:
        """Send all of ``messages`` at once, or, where one cannot be encoded, none; waits and raises as `send`."""
        await self._send(self.wire.encode_many(messages))

    async def send_encoded(self, *frames: bytes) -> None:
        """Send what ``wire.encode``, or ``wire.pieces``, returned: for many peers it is encoded once; else as `send`."""
        await self._send(*frames)

    async def _send(self, *frames: bytes) -> None:
        link = self._link
        # The wait comes first and the queueing last: who is cancelled while waiting has sent nothing.
        while link.channel.may_send and link.full:
            await link.wait(link.writers)
        transport = link.transport
        if not link.channel.may_send or transport is None or transport.is_closing():
            raise self._no_sending()
        link.channel.send_encoded(*frames)
        link.schedule()

    def _no_sending(self) -> FramingError:
        link = self._link
        if isinstance(link.failure, ConnectionFailed):
            return link.failure.with_traceback(None)
        error = ConnectionClosed(f"nothing more can be sent to {self.address}: the connection is {self.state.value}")
        error.__cause__ = link.failure
        return error

    def close_sending(self) -> None:
        """End this side's stream behind all that was sent; receiving goes on, so that the last replies still come.

        Raises `framing.FramingError` over TLS, which the ssl module cannot half-close: use `close` there.
        """
        link = self._link
        if link.tunnel is not None:
            raise FramingError("a TLS connection cannot end one direction alone; use close()")
        link.channel.send_eof()
        link.flush()

    # --------------------------------------------------------------- receiving

    async def receive(self) -> T:
        """The next message. When it is cancelled, none was taken: ``asyncio.timeout`` around it loses nothing.

        Raises `framing.ConnectionClosed` at the end of the peer's stream. `framing.DecodeError` stands for one refused
        payload, in its place; the next call goes on behind it. A `framing.Violation` (so `framing.TruncatedFrame`, where the
        stream ended inside a frame) and a `framing.ConnectionReset` come behind all that was whole before them, and from
        then on always.
        """
        link = self._link
        items = link.items
        while not items:
            await self._wait()
        item = items.popleft()
        if not items:
            link.emptied()
        if type(item) is _Refused:
            link.refusals -= 1
            raise item.error
        return cast("T", item)

    async def receive_batch(self) -> list[T]:
        """All the messages that are there, one at least: waits, and raises, as `receive` does. The fastest way."""
        link = self._link
        items = link.items
        while not items:
            await self._wait()
        if link.refusals:
            if type(items[0]) is _Refused:
                return [await self.receive()]
            batch: list[T | _Refused] = []
            while type(items[0]) is not _Refused:
                batch.append(items.popleft())
            return cast("list[T]", batch)
        batch = list(items)
        items.clear()
        link.emptied()
        return cast("list[T]", batch)

    async def _wait(self) -> None:
        link = self._link
        if link.end is not None:
            # Without the traceback of the last time, which would grow with each call.
            raise link.end.with_traceback(None)
        if link.channel.queued:
            link.flush()  # the reply depends on it
        await link.wait(link.readers)

    def __aiter__(self) -> AsyncIterator[T]:
        """Give the messages until the peer's stream ends; raises as `receive` does, but for the clean end."""
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    # --------------------------------------------------------------------- TLS

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
        timeout: float | None = 10.0,  # noqa: ASYNC109 # asyncio.timeout() would end the connection too, and not say why
    ) -> None:
        """Go on with TLS in mid-stream, when both sides have agreed to: what was sent is written, then hands are shaken.

        Both sides wait between the agreement and the handshake. So nothing may have come behind the peer's last message:
        what has, came in plain text, perhaps from somebody in between, and fails the connection with
        `framing.CorruptFrame`. (Receive that message with `receive`; `receive_batch` would hand you what came behind it.)
        ``server_side`` says who shows the certificate; a client holds it against ``server_hostname``, or else the host of
        `address`. ``timeout`` is in seconds, None to wait as long as it takes. Where this is cancelled, the connection fails.

        Raises what `connect` raises; ValueError, and nothing has happened, for options that do not fit;
        `framing.FramingError`, and nothing has happened, where another task is receiving, or TLS is there already.
        """
        context, name = upgrade_tls(self.address, ssl_context, server_hostname, server_side=server_side)
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout!r}; give seconds above 0, or None to wait as long as it takes")
        link = self._link
        if not all(reader.done() for reader in link.readers):
            raise FramingError("another task is receiving; start TLS in the task that received the agreement to it")
        if link.end is not None:
            raise link.end.with_traceback(None)
        link.upgrade(Tunnel(context, server_hostname=name, server_side=server_side), timeout, len(link.items))
        try:
            await link.hands_shaken()
        except asyncio.CancelledError:
            link.interrupted()
            raise

    # ------------------------------------------------------------------ ending

    def close(self) -> None:
        """End both directions behind what was sent; tasks that wait in a call get `framing.ConnectionClosed`.

        Messages that were not received are dropped. `wait_closed` waits for it. To close twice is no error.
        """
        link = self._link
        link.leave()
        link.finish(None, hurried=True)

    async def wait_closed(self) -> None:
        """Wait until all is written, the descriptor given back, and the connection gone: a few seconds at the most."""
        link = self._link
        while not link.lost:
            await link.wait(link.leavers)

    async def aclose(self) -> None:
        """`close` and `wait_closed`; where this is cancelled, what is not written yet is dropped."""
        self.close()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self._link.abort()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def connect(
    address: AddressLike,
    wire: Wire[T],
    *,
    timeout: float | None = None,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    frame_timeout: float | None = None,
    idle_timeout: float | None = None,
    high_water: int = 1 << 16,
    low_water: int = 1 << 14,
    keep_alive: bool = False,
    heartbeat: Heartbeat[T] | None = None,
) -> Opening[Connection[T]]:
    """Connect to ``address``: ``(host, port)``, ``"tcp://host:port"`` or ``"unix:/path"``. Every address is tried.

    ``async with`` it, or await it. ``timeout``, in seconds, is for looking up the name, connecting and the TLS handshake
    together. With ``ssl_context``, or to a ``tls://`` address, it speaks TLS; the certificate is held against
    ``server_hostname``, or else the host of ``address``.

    ``frame_timeout`` and ``idle_timeout``, in seconds, fail the connection as `framing.Channel` says; the water marks, in
    bytes, bound what waits in each direction. ``keep_alive`` has the system, ``heartbeat`` this driver, look whether a
    silent peer is still there.

    Raises `framing.ConnectionRefused`, `framing.ConnectionFailed` or `framing.Timeout`.
    """
    where = Address.parse(address)
    if where.scheme == "udp":
        raise ValueError(f"{where} is for datagrams, and this is a driver of streams; write tcp://")
    context, hostname = client_tls(where, ssl_context, server_hostname)
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout is {timeout!r}; give seconds, or None to wait as long as it takes")
    options: dict[str, Any] = {
        "frame_timeout": frame_timeout,
        "idle_timeout": idle_timeout,
        "high_water": high_water,
        "low_water": low_water,
        "heartbeat": heartbeat,
    }
    Channel(wire, **options)  # wrong options are told here

    async def make() -> Connection[T]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                sock = await _connected(where, timeout)
                if keep_alive:
                    set_keep_alive(sock)
                link = _Inbox(Channel(wire, now=loop.time(), **options), where)
                opener = loop.create_unix_connection if where.scheme == "unix" else loop.create_connection
                try:
                    await opener(lambda: link, sock=sock)
                except BaseException:
                    sock.close()
                    raise
                if context is not None:
                    await _secure(link, Tunnel(context, server_hostname=hostname))
        except TimeoutError as error:
            raise translate(error, where, "connecting to") from error
        except FramingError:
            raise
        except OSError as error:
            raise translate(error, where, "connecting to") from error
        return Connection(link)

    return Opening(make)


async def _secure(link: _Inbox[Any], tunnel: Tunnel) -> None:
    """Shake hands with a server that was connected; where that fails, nothing of it is left."""
    try:
        link.begin_tls(tunnel, None)
        await link.hands_shaken()
    except FramingError:
        link.abort()
        while not link.lost:
            await link.wait(link.leavers)
        raise
    except BaseException:
        link.abort()
        raise


async def _reach(loop: asyncio.AbstractEventLoop, sock: socket.socket, target: Any) -> None:
    """Connect a socket that does not block."""
    if sock.family != socket.AF_INET6 or not target[3]:
        await loop.sock_connect(sock, target)
        return
    # uvloop's own way drops the scope, without which a link-local address means nothing.
    number = sock.connect_ex(target)
    if number in UNDER_WAY:
        answered = asyncio.Event()
        loop.add_writer(sock, answered.set)
        try:
            await answered.wait()
        finally:
            loop.remove_writer(sock)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


async def _connected(address: Address, timeout: float | None) -> socket.socket:  # noqa: ASYNC109 # shared among addresses
    """Connect a socket; all the addresses of a name are tried. Raises the last one's error, with the others as notes."""
    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    if address.scheme == "unix" or is_number(address.host):
        targets = resolve(address)
    else:
        targets = await loop.run_in_executor(None, resolve, address)
    failures: list[str] = []
    last: OSError = OSError("no address")
    for index, (family, kind, proto, target) in enumerate(targets):
        # A dead first address must not use up the time of a living second one.
        share = None if end is None else (end - loop.time()) / (len(targets) - index)
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            no_delay(sock)
            async with asyncio.timeout(share):
                await _reach(loop, sock, target)
        except OSError as error:
            sock.close()
            last = error
            failures.append(f"{target[0] if isinstance(target, tuple) else address}: {error}")
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    failure = translate(last, address, "connecting to")
    if len(failures) > 1:
        failure.add_note("tried " + "; ".join(failures))
    raise failure
