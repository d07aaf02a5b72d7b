"""Everything that this library raises on its own account.

    FramingError
    ├── SpecError            ValueError       a spec string names something that is not there
    ├── EncodeError          ValueError       this message cannot be sent; nothing was written
    ├── DecodeError          ValueError       a layer or codec refused one payload; the stream goes on
    ├── Violation                             the stream broke the framer's rule; the decoder is poisoned
    │   ├── FrameTooLarge    ValueError       … a frame is, or announces, more than ``max_frame``
    │   ├── CorruptFrame     ValueError       … a header, trailer, escape or checksum is wrong
    │   └── TruncatedFrame   EOFError         … the stream ended inside a frame
    ├── ConnectionClosed     ConnectionError  the stream ended cleanly; there is nothing more to receive
    ├── ConnectionFailed     ConnectionError  the connection could not be made, or broke
    │   ├── ConnectionRefused    ConnectionRefusedError
    │   └── ConnectionReset      ConnectionResetError, BrokenPipeError, ConnectionAbortedError
    └── Timeout              TimeoutError     the time given ran out; what was received is kept

Each carries its numbers as attributes, pickles with them, and says in its text what to do next.
Where the standard library has a word for the same mishap, the error is that builtin too, so that
``except TimeoutError`` or ``except ConnectionResetError`` keeps working.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConnectionClosed",
    "ConnectionFailed",
    "ConnectionRefused",
    "ConnectionReset",
    "CorruptFrame",
    "DecodeError",
    "EncodeError",
    "FrameTooLarge",
    "FramingError",
    "SpecError",
    "Timeout",
    "TruncatedFrame",
    "Violation",
    "guess_protocol",
]

HEAD_BYTES = 16
"""The most bytes of an offending frame that an error keeps."""

# What a stream of another protocol begins with. A length field read out of these bytes is nonsense, and
# the reader of the error is best told whose bytes they are.
_FIRST_BYTES: tuple[tuple[bytes, str], ...] = (
    (b"HTTP", "an HTTP response"),
    (b"GET ", "an HTTP request"),
    (b"POST", "an HTTP request"),
    (b"PUT ", "an HTTP request"),
    (b"HEAD", "an HTTP request"),
    (b"OPTI", "an HTTP request"),
    (b"PRI ", "an HTTP/2 preface"),
    (b"SSH-", "an SSH banner"),
    (b"\x16\x03", "a TLS handshake"),
    (b"\x15\x03", "a TLS alert"),
    (b'{"', "JSON text without framing"),
    (b"[{", "JSON text without framing"),
    (b"AMQP", "an AMQP protocol header"),
)


def guess_protocol(head: bytes) -> str | None:
    """Name the protocol whose stream begins with ``head``, or None where it is none that we know.

    A two-byte length shows only the first two bytes of a word such as ``HTTP``, so a shorter head is
    held against the same number of bytes, two at least.
    """
    if len(head) < 2:
        return None
    for first, name in _FIRST_BYTES:
        if head[: len(first)] == first[: len(head)]:
            return name
    return None


class FramingError(Exception):
    """The root: catch this to catch all that the library raises on its own account."""

    def __init__(self, message: str = "", **numbers: Any) -> None:
        super().__init__(message)
        for name, value in numbers.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own __reduce__ gives back only the positional arguments; the numbers travel as state.
        return (type(self), (self.args[0] if self.args else "",), dict(self.__dict__))


class SpecError(FramingError, ValueError):
    """A spec string, or a name given in place of one, cannot be read.

    ``part`` is the part of the string that is wrong; ``nearest`` the nearest right word, or None.
    """

    part: str = ""
    nearest: str | None = None


class EncodeError(FramingError, ValueError):
    """A message or payload cannot be sent so that the peer gets it back exactly; nothing was written.

    ``expected`` and ``got`` are sizes in bytes where a size is the reason, else None.
    """

    expected: int | None = None
    got: int | None = None


class DecodeError(FramingError, ValueError):
    """A layer or codec refused one well-framed payload. The stream is sound: the next call goes on behind it.

    ``offset`` is where the payload's frame begins in the stream, in bytes from its start; ``path`` where in
    the message the trouble is (``$.user.name``), where the codec knows it; ``head`` the payload's first bytes.
    """

    offset: int | None = None
    path: str | None = None
    head: bytes = b""
    expected: int | None = None
    got: int | None = None

    def located(self, offset: int) -> DecodeError:
        """Set ``offset``, put it into the text, and return the same error."""
        self.offset = offset
        self.args = (f"{self.args[0]} (the frame at byte {offset} of the stream)",)
        return self


class Violation(FramingError):
    """The stream broke the rule of its framer: where the next frame begins cannot be known any more.

    ``offset`` is the position in the stream, in bytes, at which the offending frame begins; ``expected``
    and ``got`` the numbers that disagree, where there are such; ``head`` the bytes, 16 at most, that showed it.
    All four are the same however the stream was cut into chunks.
    """

    offset: int = 0
    expected: int | None = None
    got: int | None = None
    head: bytes = b""

    def __init__(
        self,
        message: str = "",
        *,
        offset: int = 0,
        expected: int | None = None,
        got: int | None = None,
        head: bytes = b"",
    ) -> None:
        super().__init__(message, offset=offset, expected=expected, got=got, head=head)


class FrameTooLarge(Violation, ValueError):
    """A frame is, or announces, more payload than ``max_frame``: ``expected`` is the limit, ``got`` the size.

    Where the size is known only to be above the limit (no delimiter was found), ``got`` is the least that it can be.
    """


class CorruptFrame(Violation, ValueError):
    """A header, trailer, delimiter, escape or checksum is not what the framer's rule demands."""


class TruncatedFrame(Violation, EOFError):
    """The stream ended inside a frame: ``got`` bytes of it came, ``expected`` at least, where that is known."""


class ConnectionClosed(FramingError, ConnectionError):
    """The peer ended the stream cleanly, between two frames, or this side has closed the connection."""


class ConnectionFailed(FramingError, ConnectionError):
    """The connection could not be made, or broke. ``address`` is the peer's; ``errno`` the system's number."""

    address: Any = None
    # Declared here because OSError fills it only from two positional arguments.
    errno: int | None = None


class ConnectionRefused(ConnectionFailed, ConnectionRefusedError):
    """Nobody listens at the address."""


class ConnectionReset(ConnectionFailed, ConnectionResetError, BrokenPipeError, ConnectionAbortedError):
    """The peer dropped the connection without ending the stream.

    Which of its three builtins the system reports depends on who noticed first, so it is all of them.
    """


class Timeout(FramingError, TimeoutError):
    """The time given ran out. Nothing is lost: the same call can be made again."""
