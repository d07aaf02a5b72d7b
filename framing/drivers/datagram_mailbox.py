"""Mailbox: a datagram socket and a wire; what a packet may be, and what each of its errors becomes.

No call waits for a packet, nor for room to send one: both halves of the datagram driver are made of these calls, and each adds
a way to wait.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from typing import Any, Generic, NamedTuple, TypeVar

from framing.drivers.address import Address, AddressLike, is_number, remove_dead_path, resolve
from framing.drivers.datagram_sockets import parse
from framing.drivers.failures import translate
from framing.drivers.stream import READ, WRITE, Poll, time_left
from framing.errors import HEAD_BYTES, ConnectionClosed, DecodeError, EncodeError
from framing.wire import Wire

__all__ = ["RETRY_SECONDS", "BadPacket", "Boxed", "Mailbox", "Packet", "read_raw"]

T = TypeVar("T")

LIMITS: dict[int, int] = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}
"""The most payload bytes of a UDP packet: 65,535 less the headers (RFC 768; IPv6's own header is not counted, RFC 8200)."""

LARGEST = 1 << 24
"""The most bytes of a unix datagram that are received, far above what systems allow one to be."""

RETRY_SECONDS = 0.001
"""How long to wait for a unix socket whose receiver is behind: an unconnected one is never told when there is room."""


class Packet(NamedTuple, Generic[T]):
    """One received message, and who sent it: an unnamed unix socket has an empty path, and cannot be answered."""

    message: T
    sender: Address


class BadPacket(DecodeError):
    """A packet that is no message: cut short, too large, or refused by a layer or the codec. ``sender`` sent it."""

    sender: Address


class Mailbox(Generic[T]):
    """A datagram socket that does not block, and the wire whose messages its packets are. Any threads may use it."""

    __slots__ = ("_closed", "_left", "_limit", "_lock", "_open", "_room", "_waiting", "address", "peer", "sock", "wire")

    def __init__(self, sock: socket.socket, wire: Wire[T]) -> None:
        if sock.type != socket.SOCK_DGRAM:
            raise ValueError(f"a datagram socket is needed, not {sock!r}; for streams take the other drivers")
        sock.setblocking(False)
        self.sock = sock
        self.wire = wire
        self.address = read_raw(sock.family, sock.getsockname())
        try:
            self.peer: Address | None = read_raw(sock.family, sock.getpeername())
        except OSError:
            self.peer = None
        self._open = wire.opener()
        self._limit = LIMITS.get(sock.family, LARGEST)
        # One byte more than is allowed tells a packet that is too large from one that just fits.
        self._room = memoryview(bytearray(min(wire.framer.max_frame, self._limit) + 1))
        self._lock = threading.RLock()  # may be taken again by a signal handler that closes
        self._closed = False
        self._waiting = 0  # how many threads wait for the descriptor
        self._left: int | None = None  # the descriptor, where it was closed while they do

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
        sender = self.peer if self.peer is not None and not raw else read_raw(self.sock.family, raw)
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
            raise translate(error, self.peer or read_raw(self.sock.family, raw), "sending to") from error
        return True

    def where(self, to: AddressLike | None) -> Address | None:
        """Whom to send to, None for the one that this is connected to."""
        if to is None:
            if self.peer is None:
                raise ValueError("this endpoint is not connected: say whom to send to")
            return None
        if self.peer is not None:
            raise ValueError(f"this endpoint is connected, and sends to {self.peer} alone")
        return parse(to)

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
        if is_number(to.host):
            if family == socket.AF_INET:
                return to.host, to.port
            if "%" not in to.host:
                return (to.host if ":" in to.host else f"::ffff:{to.host}"), to.port
        return resolve(to, "sending to", family=family)[0][3]

    # ----------------------------------------------------------------- waiting

    def wait(self, end: float | None, *, writing: bool = False) -> bool:
        """Wait until there is something to read, or room to write; False past ``end``."""
        with self._lock:
            fd = self.sock.fileno()
            if fd < 0:
                raise self._no_more("waiting")
            self._waiting += 1
        try:
            # A poll of its own, for it serves one thread at a time.
            return bool(Poll(fd).wait(WRITE if writing else READ, time_left(end)))
        finally:
            with self._lock:
                self._waiting -= 1
                if self._left is not None and not self._waiting:
                    left, self._left = self._left, None
                    socket.close(left)

    # --------------------------------------------------------------------- end

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    def _no_more(self, doing: str) -> ConnectionClosed:
        return ConnectionClosed(f"{doing} at {self.address}: the endpoint has been closed on this side")

    def close(self) -> None:
        """Give the descriptor back, and remove the socket file; who waits in another thread is woken."""
        first, self._closed = not self._closed, True
        with contextlib.suppress(OSError):
            # It wakes, though it fails where nothing is connected.
            self.sock.shutdown(socket.SHUT_RDWR)
        with self._lock:
            if self._waiting and self.sock.fileno() >= 0:
                # The last who waits gives it back: one that is about to would wait for whoever gets its number next.
                self._left = self.sock.detach()
            else:
                self.sock.close()
        if first:
            remove_dead_path(self.address, socket.SOCK_DGRAM)


class Boxed(Generic[T]):
    """What every endpoint tells of its mailbox."""

    __slots__ = ("_box",)

    def __init__(self, box: Mailbox[T]) -> None:
        self._box = box

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._box}>"

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


def read_raw(family: int, raw: Any) -> Address:
    """What the socket module calls somebody, as an `Address`."""
    if family in LIMITS and raw:
        host, port, *more = raw
        scope = f"%{more[1]}" if len(more) > 1 and more[1] and "%" not in host else ""
        return Address("udp", f"{host}{scope}", port)
    path: str | bytes = raw or ""
    return Address("unix", path=os.fsdecode(path))
