"""The datagram driver: one message a packet, over UDP and unix datagrams, blocking and on asyncio.

    with datagram.bind(("127.0.0.1", 9000), wire) as endpoint:
        message, sender = endpoint.receive()
        endpoint.send({"got": message}, sender)

    async with datagram.async_connect(("127.0.0.1", 9000), wire) as endpoint:
        await endpoint.send({"op": "sum", "args": [1, 2]})
        print((await endpoint.receive()).message)

A packet has its own bounds, so it holds what a wire's layers and codec make of a message, and none of the framer's bytes; of
the framer, ``max_frame`` counts. It guarantees that

- a message that is too large for a packet raises `framing.EncodeError`, and no part of it is sent;
- a packet that was cut short, is above ``max_frame``, or is refused by a layer or the codec raises `BadPacket`, which is a
  `framing.DecodeError` that knows the sender; the packets behind it come as if nothing had been;
- a time that is over, and a cancelled call, lose no packet.

What datagrams are stays so: they may be lost, doubled and overtaken, and nobody tells. Whoever says that nobody listens
at an address (ICMP) is heard by a connected endpoint alone, and late: `framing.ConnectionRefused` then comes out of whichever
call is next, and stands for an earlier packet.

The asynchronous half needs a loop with ``add_reader``: all but Windows' proactor loop have it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, cast

from framing.drivers.address import Address, AddressLike, is_number
from framing.drivers.failures import translate
from framing.drivers.opening import Opening
from framing.drivers.service import Handlers, Service
from framing.drivers.stream import end_of, time_left
from framing.errors import HEAD_BYTES, ConnectionClosed, DecodeError, EncodeError, FramingError, Timeout
from framing.wire import Wire

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "AsyncEndpoint",
    "AsyncServer",
    "BadPacket",
    "Endpoint",
    "Packet",
    "Server",
    "async_bind",
    "async_connect",
    "bind",
    "connect",
]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")

LIMITS: dict[int, int] = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}
"""The most payload bytes of a UDP packet: 65,535 less the headers (RFC 768; IPv6's own header is not counted, RFC 8200)."""

LARGEST = 1 << 24
"""The most bytes of a unix datagram that are received, far above what systems allow one to be."""

RETRY_SECONDS = 0.001
"""How long to wait for a unix socket whose receiver is behind: an unconnected one is never told when there is room."""

HANDLED_AT_ONCE = 64
"""Packets that a server handles before others get their turn."""


class Packet(NamedTuple, Generic[T]):
    """One received message, and who sent it: an unnamed unix socket has an empty path, and cannot be answered."""

    message: T
    sender: Address


class BadPacket(DecodeError):
    """A packet that is no message: cut short, too large, or refused by a layer or the codec. ``sender`` sent it."""

    sender: Address


class _Mailbox(Generic[T]):
    """A datagram socket that does not block, and the wire whose messages its packets are."""

    __slots__ = ("_closed", "_limit", "_lock", "_open", "_path", "_room", "address", "peer", "sock", "wire")

    def __init__(self, sock: socket.socket, wire: Wire[T]) -> None:
        if sock.type != socket.SOCK_DGRAM:
            raise ValueError(f"a datagram socket is needed, not {sock!r}; for streams take the other drivers")
        sock.setblocking(False)
        self.sock = sock
        self.wire = wire
        self.address = _read_raw(sock.family, sock.getsockname())
        try:
            self.peer: Address | None = _read_raw(sock.family, sock.getpeername())
        except OSError:
            self.peer = None
        self._open = wire.opener()
        self._limit = LIMITS.get(sock.family, LARGEST)
        # One byte more than is allowed tells a packet that is too large from one that just fits.
        self._room = memoryview(bytearray(min(wire.framer.max_frame, self._limit) + 1))
        self._lock = threading.RLock()  # may be taken again by a signal handler that closes
        self._closed = False
        # The socket file that is removed on closing, where it is still the same.
        self._path: tuple[Path, int] | None = None
        if self.address.scheme == "unix" and self.address.path[:1] not in {"", "\0"}:
            path = Path(self.address.path)
            self._path = (path, path.stat().st_ino)

    def __repr__(self) -> str:
        return f"{self.address}" + (f" to {self.peer}" if self.peer is not None else "")

    # --------------------------------------------------------------- receiving

    def receive(self) -> Packet[T] | None:
        """The next packet, None where there is none just now; raises `BadPacket`, `ConnectionRefused`, `ConnectionClosed`."""
        with self._lock:
            if self._closed:
                raise self._no_more("receiving")
            try:
                nbytes, cut, raw = self._read()
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                raise translate(error, self.peer or self.address, "receiving from") from error
            payload = bytes(self._room[:nbytes])
        if self._closed:
            raise self._no_more("receiving")
        # Some systems do not say whose packet it is where there is only one who may send.
        sender = self.peer if self.peer is not None and not raw else _read_raw(self.sock.family, raw)
        largest = self.wire.framer.max_frame
        if cut or nbytes > largest:
            what = f"is above max_frame={largest}" if nbytes > largest else f"was cut short behind {nbytes} bytes"
            raise BadPacket(
                f"a packet from {sender} {what}; the packets behind it are sound",
                sender=sender,
                head=payload[:HEAD_BYTES],
                expected=largest,
                got=nbytes,
            )
        try:
            return Packet(self._open(payload), sender)
        except DecodeError as error:
            numbers = {"path": error.path, "head": error.head, "expected": error.expected, "got": error.got}
            raise BadPacket(f"a packet from {sender}: {error}", sender=sender, **numbers) from error

    def _read(self) -> tuple[int, bool, Any]:
        """How many bytes came, whether there were more, and the raw address that they are from."""
        if hasattr(self.sock, "recvmsg_into"):
            nbytes, _, flags, raw = self.sock.recvmsg_into([self._room])
            return nbytes, bool(flags & socket.MSG_TRUNC), raw
        try:
            nbytes, raw = self.sock.recvfrom_into(self._room)
        except OSError as error:
            if error.errno != errno.EMSGSIZE and getattr(error, "winerror", None) != 10040:
                raise
            return len(self._room), True, None
        return nbytes, False, raw

    # ----------------------------------------------------------------- sending

    def encode(self, message: T) -> bytes:
        """The packet of ``message``; raises `EncodeError` where there can be none."""
        return self.check(self.wire.payload(message))

    def check(self, payload: bytes) -> bytes:
        """The same payload; raises `EncodeError` where it is too large for a packet."""
        if len(payload) > self._limit:
            raise EncodeError(
                f"a payload of {len(payload)} bytes does not fit into a packet, which holds {self._limit}; "
                "send less, or over a stream",
                expected=self._limit,
                got=len(payload),
            )
        return payload

    def send(self, payload: bytes, raw: Any) -> bool:
        """Send a packet; False where the system takes none just now."""
        if self._closed:
            raise self._no_more("sending")
        try:
            if raw is None:
                self.sock.send(payload)
            else:
                self.sock.sendto(payload, raw)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                text = f"the system sends no packet of {len(payload)} bytes here; send less, or over a stream"
                raise EncodeError(text, got=len(payload)) from error
            raise translate(error, self.peer or _read_raw(self.sock.family, raw), "sending to") from error
        return True

    def where(self, to: AddressLike | None) -> Address | None:
        """Whom to send to, None for the one that this is connected to."""
        if to is None:
            if self.peer is None:
                raise ValueError("this endpoint is not connected: say whom to send to")
            return None
        if self.peer is not None:
            raise ValueError(f"this endpoint is connected, and sends to {self.peer} alone")
        return _parse(to)

    def raw(self, to: Address | None) -> Any:
        """``to`` as the socket module writes it; a host name is looked up, which may take its time."""
        if to is None:
            return None
        family = self.sock.family
        if (to.scheme == "unix") != (family not in LIMITS):
            raise ValueError(f"{to} cannot be reached from {self.address}: the one is a path, the other a port")
        if to.scheme == "unix":
            if not to.path:
                raise ValueError("an unnamed unix socket cannot be sent to; the sender has to bind a path")
            return to.path
        host = to.host
        if family == socket.AF_INET and is_number(host):
            return host, to.port
        flags = 0
        if family == socket.AF_INET6:
            if is_number(host) and "%" not in host:
                return (host if ":" in host else f"::ffff:{host}"), to.port
            flags = getattr(socket, "AI_V4MAPPED", 0)
        try:
            return socket.getaddrinfo(host, to.port, family=family, type=socket.SOCK_DGRAM, flags=flags)[0][4]
        except (OSError, UnicodeError) as error:
            failure = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error))
            raise translate(failure, to, "sending to") from error

    # --------------------------------------------------------------------- end

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    def _no_more(self, doing: str) -> ConnectionClosed:
        return ConnectionClosed(f"{doing} at {self.address}: the endpoint has been closed on this side")

    def close(self) -> None:
        """Give the descriptor back; who waits for it in another thread is woken."""
        self._closed = True
        with contextlib.suppress(OSError):
            # It wakes, though it fails where nothing is connected.
            self.sock.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self.sock.close()
            if self._path is not None:
                path, inode = self._path
                self._path = None
                with contextlib.suppress(OSError):
                    if path.stat().st_ino == inode:
                        path.unlink()

    def wait(self, end: float | None, *, writing: bool = False) -> bool:
        """Wait until there is something to read, or room to write; False past ``end``."""
        left = time_left(end)
        fd = self.sock.fileno()
        if fd < 0:
            raise self._no_more("waiting")
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(fd, select.POLLOUT if writing else select.POLLIN)
            # Rounded up: a wait that ends a millisecond early would spin until its deadline.
            return bool(poll.poll(None if left is None else int(left * 1000) + 1)) or left is None
        ready = select.select([] if writing else [fd], [fd] if writing else [], [], left)
        return bool(ready[0] or ready[1])


def _read_raw(family: int, raw: Any) -> Address:
    """A raw address as an `Address`."""
    if family in LIMITS and raw:
        host, port, *more = raw
        scope = f"%{more[1]}" if len(more) > 1 and more[1] and "%" not in host else ""
        return Address("udp", f"{host}{scope}", port)
    path: str | bytes = raw or ""
    return Address("unix", path=os.fsdecode(path))


def _parse(value: AddressLike) -> Address:
    """Read an address; what is no URL is UDP's. Raises ValueError for a stream's URL."""
    where = Address.parse(value)
    if where.scheme in {"udp", "unix"}:
        return where
    if isinstance(value, tuple):
        return replace(where, scheme="udp")
    raise ValueError(f"{where} is for streams, and this is the driver of datagrams; write udp://host:port")


def _bound(where: Address) -> socket.socket:
    """A socket that is bound to ``where``."""
    if where.scheme == "unix":
        tries: list[tuple[int, Any, bool]] = [(socket.AF_UNIX, where.path, False)]
    else:
        tries = []
        if not where.host and socket.has_dualstack_ipv6():
            tries.append((socket.AF_INET6, ("::", where.port), True))
        flags = socket.AI_PASSIVE
        try:
            found = socket.getaddrinfo(where.host or None, where.port, type=socket.SOCK_DGRAM, flags=flags)
        except OSError as error:
            raise translate(error, where, "binding") from error
        tries += [(family, raw, False) for family, _, _, _, raw in found]
    last: OSError = OSError("no address")
    for family, raw, dual in tries:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
            if where.scheme == "unix":
                _clear_path(where)
            sock.bind(raw)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise translate(last, where, "binding") from last


def _clear_path(where: Address) -> None:
    """Remove the socket file that a dead endpoint left; what lives, and what is no socket, is left alone."""
    if where.path.startswith("\0"):
        return
    with contextlib.suppress(FileNotFoundError):
        path = Path(where.path)
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # to bind fails then, and says so
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(where.path)
            except ConnectionRefusedError:
                path.unlink()
            except OSError:
                return  # a server of streams lives there


def _connected(where: Address) -> socket.socket:
    """A socket that sends to, and hears, ``where`` alone."""
    last: OSError = OSError("no address")
    try:
        found = (
            [(socket.AF_UNIX, where.path)]
            if where.scheme == "unix"
            else [(each[0], each[4]) for each in socket.getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM)]
        )
    except OSError as error:
        raise translate(error, where, "connecting to") from error
    for family, raw in found:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family not in LIMITS and sys.platform == "linux":
                sock.bind("")  # a name of the system's choice, without which nobody could answer
            sock.connect(raw)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise translate(last, where, "connecting to") from last


# -------------------------------------------------------------------------------------------------- blocking


def bind(address: AddressLike, wire: Wire[T], *, timeout: float | None = None) -> Endpoint[T]:
    """An endpoint that receives at ``address``: ``(host, port)``, ``"udp://host:port"`` or ``"unix:/path"``.

    Port 0 takes any free port; an empty host means every address of this machine. ``timeout``, in seconds, is the default of
    every call. Raises `framing.ConnectionFailed`.
    """
    end_of(timeout)  # says what is wrong with a timeout before anything is opened
    return Endpoint(_bound(_parse(address)), wire, timeout=timeout)


def connect(address: AddressLike, wire: Wire[T], *, timeout: float | None = None) -> Endpoint[T]:
    """An endpoint that sends to ``address`` and hears nobody else; whether anybody is there, no call can tell.

    ``timeout``, in seconds, is the default of every call. Raises `framing.ConnectionFailed`.
    """
    end_of(timeout)
    return Endpoint(_connected(_parse(address)), wire, timeout=timeout)


class Endpoint(Generic[T]):
    """Messages over ``sock``, any datagram socket, which it owns from now on; made by `bind` and `connect`.

    ``timeout`` is the default of every call, in seconds; None waits as long as it takes, 0 looks only. Every method may be
    called from any thread.
    """

    __slots__ = ("_box", "timeout")

    def __init__(self, sock: socket.socket, wire: Wire[T], *, timeout: float | None = None) -> None:
        end_of(timeout)
        self._box = _Mailbox(sock, wire)
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<Endpoint {self._box}>"

    @property
    def address(self) -> Address:
        """Where it receives."""
        return self._box.address

    @property
    def peer(self) -> Address | None:
        """Whom it is connected to, None where to nobody."""
        return self._box.peer

    @property
    def wire(self) -> Wire[T]:
        """What its packets are made by."""
        return self._box.wire

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""
        return self._box.sock.fileno()

    def send(self, message: T, to: AddressLike | None = None, *, timeout: float | EllipsisType | None = ...) -> None:
        """Send one packet, to ``to``, or to the peer that this is connected to.

        Raises `framing.EncodeError` (nothing was sent), `framing.ConnectionRefused` (of an earlier packet; this one was not
        sent), `framing.Timeout` where the system takes no packet in the time given.
        """
        box = self._box
        payload = box.encode(message)
        raw = box.raw(box.where(to))
        end = end_of(self.timeout if timeout is ... else timeout)
        while not box.send(payload, raw):
            if not box.wait(end, writing=True) or time_left(end) == 0:
                raise Timeout(f"sending from {box.address}: the system takes no packet; nothing was sent")
            time.sleep(RETRY_SECONDS)

    def receive(self, *, timeout: float | EllipsisType | None = ...) -> Packet[T]:
        """The next message and its sender, as a pair.

        Raises `framing.Timeout` when the time is over; `BadPacket`, a `framing.DecodeError`, for one packet that is no
        message; `framing.ConnectionRefused` where a packet sent before found nobody; `framing.ConnectionClosed` when
        the endpoint is closed on this side. After all but the last, call it again.
        """
        box = self._box
        end = end_of(self.timeout if timeout is ... else timeout)
        while (packet := box.receive()) is None:
            if not box.wait(end):
                raise Timeout(f"receiving at {box.address}: no packet came in the time given; receive again")
        return packet

    def __iter__(self) -> Iterator[Packet[T]]:
        """Iterate over the packets until the endpoint is closed; raises as `receive` does, but for that."""
        return self

    def __next__(self) -> Packet[T]:
        try:
            return self.receive()
        except ConnectionClosed:
            raise StopIteration from None

    def close(self) -> None:
        """Give the descriptor back; threads that wait in a call get `framing.ConnectionClosed`. Twice is no error."""
        self._box.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --------------------------------------------------------------------------------------------------- asyncio


def async_bind(address: AddressLike, wire: Wire[T]) -> Opening[AsyncEndpoint[T]]:
    """As `bind`, on the running loop: ``async with`` it, or await it."""
    where = _parse(address)

    async def make() -> AsyncEndpoint[T]:
        return AsyncEndpoint(_bound(await _numbered(where)), wire)

    return Opening(make)


def async_connect(address: AddressLike, wire: Wire[T]) -> Opening[AsyncEndpoint[T]]:
    """As `connect`, on the running loop: ``async with`` it, or await it."""
    where = _parse(address)

    async def make() -> AsyncEndpoint[T]:
        return AsyncEndpoint(_connected(await _numbered(where)), wire)

    return Opening(make)


async def _numbered(where: Address) -> Address:
    """``where`` with the first address of its name, which is looked up in another thread, for that blocks."""
    if where.scheme == "unix" or not where.host or is_number(where.host):
        return where
    try:
        found = await _running_loop().getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise translate(error, where, "looking up") from error
    return _read_raw(found[0][0], found[0][4])


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


class AsyncEndpoint(Generic[T]):
    """An `Endpoint` of the running loop, made by `async_bind` and `async_connect`, or over ``sock``, which it then owns.

    A call that is cancelled has taken no packet, and sent none. All methods belong to the loop's thread.
    """

    __slots__ = ("_box", "_loop", "_reading", "_waiters")

    def __init__(self, sock: socket.socket, wire: Wire[T]) -> None:
        self._box = _Mailbox(sock, wire)
        self._loop = _running_loop()
        self._waiters: list[asyncio.Future[None]] = []
        self._reading = False

    def __repr__(self) -> str:
        return f"<AsyncEndpoint {self._box}>"

    @property
    def address(self) -> Address:
        """Where it receives."""
        return self._box.address

    @property
    def peer(self) -> Address | None:
        """Whom it is connected to, None where to nobody."""
        return self._box.peer

    @property
    def wire(self) -> Wire[T]:
        """What its packets are made by."""
        return self._box.wire

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
            self._loop.remove_reader(self._box.sock)
            self._reading = False
        _wake(self._waiters)

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
        if self._reading:
            self._loop.remove_reader(self._box.sock)
            self._reading = False
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


# -------------------------------------------------------------------------------------------------- services


class _Sender(Generic[T]):
    """The `Peer` that a service sees of one packet. Two of the same sender are equal; none has a connection."""

    __slots__ = ("_address", "_desk")

    def __init__(self, desk: _Desk[T], address: Address) -> None:
        self._desk = desk
        self._address = address

    def __repr__(self) -> str:
        return f"<Peer {self._address}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Sender):
            return NotImplemented
        return self._desk is cast("_Sender[T]", other)._desk and self._address == cast("_Sender[T]", other)._address

    def __hash__(self) -> int:
        return hash(self._address)

    @property
    def address(self) -> Address:
        return self._address

    @property
    def paused(self) -> bool:
        return False

    def send(self, message: T) -> None:
        self._desk.post([self._desk.box.encode(message)], self._address)

    def send_many(self, messages: Iterable[T]) -> None:
        self._desk.post([self._desk.box.encode(message) for message in messages], self._address)

    def send_encoded(self, frames: bytes) -> None:
        # Encoded for streams: each frame's payload is a packet.
        box = self._desk.box
        self._desk.post([box.check(payload) for payload in box.wire.framer.decoder().feed(frames)], self._address)

    def close(self) -> None:
        """There is nothing to close."""


class _Desk(Generic[T]):
    """Has a service handle packets; what both servers have in common."""

    def __init__(self, box: _Mailbox[T], service: Service[T]) -> None:
        self.box = box
        self._received = Handlers[T].of(service).received

    def handle(self) -> bool:
        """Handle the next packet; False where there is none just now. Raises `ConnectionClosed` alone."""
        try:
            packet = self.box.receive()
        except ConnectionClosed:
            raise
        except FramingError as error:
            logger.info("%s: a packet was dropped: %s", self.box.address, error)
            return True
        if packet is None:
            return False
        try:
            self._received(_Sender(self, packet.sender), packet.message)
        except Exception:
            logger.exception("%s: the service raised in received()", packet.sender)
        return True

    def post(self, payloads: list[bytes], to: Address) -> None:
        """Send packets, as far as the system takes them: a server waits for nobody, and what is lost is lost."""
        try:
            raw = self.box.raw(to)
            for payload in payloads:
                self.box.send(payload, raw)
        except EncodeError:
            raise
        except (FramingError, ValueError) as error:
            logger.debug("%s: an answer was dropped: %s", to, error)


class Server(Generic[T]):
    """Runs ``service`` for every packet that comes to ``address``, in one thread.

    There are no connections: of a service only ``received`` is called. Its peer stands for the packet's sender; two of the
    same sender are equal, so that a set of them holds each once. What is sent to it leaves at once, a packet a message, or
    is lost where the system takes none. A packet that is no message, and a service that raises, are logged, and that is all.

    As a context manager it serves in the background until the end of the block; `run` does so in the calling thread, until
    `stop`. `address` says where it receives, with the port that the system chose for port 0.
    """

    def __init__(self, address: AddressLike, wire: Wire[T], service: Service[T]) -> None:
        Handlers[T].of(service)  # before anything is opened
        self._desk = _Desk(_Mailbox(_bound(_parse(address)), wire), service)
        self.wire = wire
        self.address = self._desk.box.address
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Server of datagrams at {self.address}>"

    def run(self) -> None:
        """Serve until `stop` is called. In a ``with`` block: wait for that."""
        if self._thread is not None:
            self._thread.join()
        else:
            self._serve()

    def _serve(self) -> None:
        desk = self._desk
        try:
            while True:
                if not desk.handle():
                    desk.box.wait(None)
        except ConnectionClosed:
            return
        finally:
            desk.box.close()

    def stop(self) -> None:
        """End it, from any thread or signal handler: the packet that is being handled is the last."""
        self._desk.box.close()

    def close(self) -> None:
        """`stop`, and wait for the thread."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, name=f"framing server {self.address}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncServer(Generic[T]):
    """As `Server`, on the running loop: ``async with`` it; it serves inside of the block."""

    def __init__(self, address: AddressLike, wire: Wire[T], service: Service[T]) -> None:
        Handlers[T].of(service)
        self.address = _parse(address)
        self.wire = wire
        self._service = service
        self._desk: _Desk[T] | None = None
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
        self._desk = _Desk(_Mailbox(_bound(await _numbered(self.address)), self.wire), self._service)
        self.address = self._desk.box.address
        self._loop.add_reader(self._desk.box.sock, self._ready)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
