"""Service: what a server does with messages, written once. Peer: what a service sees of one connection.

    class Echo:
        def opened(self, peer): ...              # optional
        def received(self, peer, message):       # the one that must be there
            peer.send(message)
        def closed(self, peer, error): ...       # optional

Every server driver keeps these promises:

- ``opened`` comes first, ``closed`` last and once, ``received`` between them, in the order of the stream;
- for one peer they are never called at the same time; for two peers they may be, where a driver has threads;
- ``closed`` gets None after a clean end, else the reason: a `framing.FramingError`, or what the service itself raised;
- a service that raises ends that one connection, and is logged; nobody else notices;
- what is sent while a batch of messages is handled leaves in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, runtime_checkable

from framing.drivers.address import Address

if TYPE_CHECKING:
    import ssl

__all__ = ["Handlers", "Peer", "Service", "UpgradablePeer"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@runtime_checkable
class Peer(Protocol[T_contra]):
    """One connection, as a service sees it: hashable, compared by identity, and the same for every driver.

    Sending queues, and never waits for another peer. What is sent to a peer that is gone, or closing, is dropped without a
    word: it can vanish at any moment, so a service could not prevent it, and ``closed`` tells. Any thread may send.
    """

    @property
    def address(self) -> Address:
        """Where the peer is; for a unix socket, whose clients have no name, the address of the server."""
        ...

    @property
    def paused(self) -> bool:
        """Whether more waits for this peer than it takes: time to stop making more, until this is false again."""
        ...

    def send(self, message: T_contra) -> None:
        """Send one message; raises `framing.EncodeError`, and sends nothing, where it cannot be encoded."""
        ...

    def send_many(self, messages: Iterable[T_contra]) -> None:
        """Send all of ``messages``, or, where one cannot be encoded, none of them; raises as `send`."""
        ...

    def send_encoded(self, *frames: bytes) -> None:
        """Send what ``wire.encode``, or ``wire.pieces``, returned: a broadcast encodes once."""
        ...

    def close(self) -> None:
        """End the connection, behind what has been sent; messages that have not been handled yet are dropped."""
        ...


@runtime_checkable
class UpgradablePeer(Peer[T_contra], Protocol[T_contra]):
    """A connection that can go on with TLS in mid-stream: what every driver of streams gives its services.

        def received(self, peer, message):
            if message == "STARTTLS" and isinstance(peer, UpgradablePeer):
                peer.send("go ahead")                # leaves in plain text
                peer.start_tls(self.ssl_context)     # what is sent from here on is encrypted

    Whoever accepted the connection is the server and shows its certificate; who made it is the client.
    """

    def start_tls(self, ssl_context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        """Go on with TLS behind the message that is handled, the peer's agreement; in the service's own methods.

        What was sent before leaves in plain text, before the handshake; what is sent after it goes encrypted, behind it; and
        every message that is received from here on came encrypted. A driver with threads has shaken hands when this
        returns, the others do it as the peer answers.

        A client holds the server's certificate against ``server_hostname``, or else the host of `address`. The time for it is
        the one that the handshake of a TLS connection has.

        Raises `framing.CorruptFrame` where anything has come behind the message that is handled, whole or not: in plain text,
        perhaps from somebody in between. It, and every failure of the handshake, here or later, ends the connection, and
        is what ``closed`` gets; let it pass. Raises ValueError, `framing.ConnectionClosed` or another `framing.FramingError`,
        and nothing has happened, where the options do not fit, the connection has ended, or it speaks TLS already.
        """
        ...


class Service(Protocol[T]):
    """What a server does with messages. Only ``received`` must be there; the module's text shows all three."""

    def received(self, peer: Peer[T], message: T, /) -> object:
        """A message came from ``peer``; what is returned is ignored."""
        ...


def _nothing(*_: object) -> None:
    """The method that a service has left out."""


@dataclass(frozen=True, slots=True)
class Handlers(Generic[T]):
    """A service's three methods, those that it left out replaced by nothing."""

    opened: Callable[[Peer[T]], object]
    received: Callable[[Peer[T], T], object]
    closed: Callable[[Peer[T], Exception | None], object]

    @classmethod
    def of(cls, service: Service[T]) -> Handlers[T]:
        """Raises TypeError for what is no service, before a server is started with it."""
        methods: dict[str, Any] = {
            name: getattr(service, name, _nothing if name != "received" else None)
            for name in ("opened", "received", "closed")
        }
        for name, method in methods.items():
            if not callable(method):
                hint = "give an instance of" if isinstance(service, type) else "a service has"
                raise TypeError(
                    f"{service!r} has no method {name}(): {hint} a class with received(self, peer, message)"
                )
        if isinstance(service, type):
            raise TypeError(f"{service!r} is a class; give an instance of it: {service.__name__}()")
        return cls(**cast("dict[str, Callable[..., object]]", methods))
