"""Desk: has a service handle packets, one after the other; what the servers of both halves have in common.

There are no connections: of a service only ``received`` is called, and its peer stands for the sender of one packet.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Generic, TypeVar, cast

from framing.drivers.address import Address
from framing.drivers.datagram_mailbox import Mailbox
from framing.drivers.service import Handlers
from framing.errors import ConnectionClosed, EncodeError, FramingError

__all__ = ["Desk"]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")


class _Sender(Generic[T]):
    """The `Peer` that a service sees of one packet. Two of the same sender are equal; none has a connection."""

    __slots__ = ("_address", "_desk")

    def __init__(self, desk: Desk[T], address: Address) -> None:
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

    def send_encoded(self, *frames: bytes) -> None:
        # Encoded for streams: each frame's payload is a packet.
        box = self._desk.box
        self._desk.post(
            [box.check(payload) for payload in box.wire.framer.decoder().feed(b"".join(frames))], self._address
        )

    def close(self) -> None:
        """There is nothing to close."""


class Desk(Generic[T]):
    """Packets come in at ``box``, the service handles them, and its answers leave."""

    __slots__ = ("_received", "box")

    def __init__(self, box: Mailbox[T], handlers: Handlers[T]) -> None:
        self.box = box
        self._received = handlers.received

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
