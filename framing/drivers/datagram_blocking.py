"""The blocking half of the datagram driver: a call returns when it is done, or raises when its time is over."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from types import EllipsisType, TracebackType
from typing import Generic, Self, TypeVar

from framing.drivers.address import AddressLike
from framing.drivers.datagram_desk import Desk
from framing.drivers.datagram_mailbox import RETRY_SECONDS, Boxed, Mailbox, Packet
from framing.drivers.datagram_sockets import bound, connected, parse
from framing.drivers.service import Handlers, Service
from framing.drivers.stream import end_of, time_left
from framing.errors import ConnectionClosed, Timeout
from framing.wire import Wire

__all__ = ["Endpoint", "Server", "bind", "connect"]

T = TypeVar("T")


def bind(address: AddressLike, wire: Wire[T], *, timeout: float | None = None) -> Endpoint[T]:
    """An endpoint that receives at ``address``: ``(host, port)``, ``"udp://host:port"`` or ``"unix:/path"``.

    Port 0 takes any free port; an empty host means every address of this machine. ``timeout``, in seconds, is the default of
    every call. Raises `framing.ConnectionFailed`.
    """
    end_of(timeout)  # says what is wrong with a timeout before anything is opened
    return Endpoint(bound(parse(address)), wire, timeout=timeout)


def connect(address: AddressLike, wire: Wire[T], *, timeout: float | None = None) -> Endpoint[T]:
    """An endpoint that sends to ``address`` and hears nobody else; whether anybody is there, no call can tell.

    ``timeout``, in seconds, is the default of every call. Raises `framing.ConnectionFailed`.
    """
    end_of(timeout)
    return Endpoint(connected(parse(address)), wire, timeout=timeout)


class Endpoint(Boxed[T]):
    """Messages over ``sock``, any datagram socket, which it owns from now on; made by `bind` and `connect`.

    ``timeout`` is the default of every call, in seconds; None waits as long as it takes, 0 looks only. Every method may be
    called from any thread.
    """

    __slots__ = ("timeout",)

    def __init__(self, sock: socket.socket, wire: Wire[T], *, timeout: float | None = None) -> None:
        end_of(timeout)
        super().__init__(Mailbox(sock, wire))
        self.timeout = timeout

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


class Server(Generic[T]):
    """Runs ``service`` for every packet that comes to ``address``, in one thread.

    There are no connections: of a service only ``received`` is called. Its peer stands for the packet's sender; two of the
    same sender are equal, so that a set of them holds each once. What is sent to it leaves at once, a packet a message, or
    is lost where the system takes none. A packet that is no message, and a service that raises, are logged, and that is all.

    As a context manager it serves in the background until the end of the block; `run` does so in the calling thread, until
    `stop`. `address` says where it receives, with the port that the system chose for port 0.
    """

    def __init__(self, address: AddressLike, wire: Wire[T], service: Service[T]) -> None:
        handlers = Handlers[T].of(service)  # before anything is opened
        self._desk = Desk(Mailbox(bound(parse(address)), wire), handlers)
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
