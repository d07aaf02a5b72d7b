"""A connected pair of channels: two ends that talk to each other without a socket, a thread or a clock.

What one end sends is carried to the other in chunks, cut as the caller asks, so that a protocol can be tested from both
sides over a stream as cut up as any network makes it, and the same way every time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Generic, TypeVar

from framing.channel import Channel
from framing.errors import FramingError
from framing.wire import Wire

__all__ = ["End", "connected"]

T = TypeVar("T")


class End(Generic[T]):
    """One end of a connected pair: its ``channel``, and the way to the other end. Made by `connected`."""

    def __init__(self, channel: Channel[T], cut: Callable[[bytes], Iterable[bytes]]) -> None:
        self.channel = channel
        self._cut = cut
        self._other: End[T] = self
        self._arriving: deque[bytes] = deque()
        self._late: FramingError | None = None

    def send(self, message: T) -> None:
        """Queue ``message``; it is carried over when the other end receives. Raises as `Channel.send`."""
        self.channel.send(message)

    def send_eof(self) -> None:
        """End this end's stream behind what it has sent."""
        self.channel.send_eof()

    def close(self) -> None:
        """End both directions; the other end still gets what was sent, then the end of the stream."""
        self.channel.close()

    def receive(self) -> list[T]:
        """Carry over all that the other end has sent; return the messages that it makes whole.

        Messages before an error are returned, and the error is raised by the next call, as a channel does it: a
        `DecodeError` once, a `Violation` from then on, and `ConnectionClosed` behind a clean end.
        """
        if self._late is not None:
            late, self._late = self._late, None
            raise late
        self._arriving.extend(self._cut(self._other.written()))
        messages: list[T] = []
        try:
            while (more := self._step()) is not None:
                messages += more
        except FramingError as error:
            if not messages:
                raise
            self._late = error
        return messages

    def written(self) -> bytes:
        """Take the bytes that wait to be written; for a test that looks at them, or spoils them, on their way."""
        taken: list[bytes] = []
        while buffers := self.channel.outgoing():
            taken.append(b"".join(buffers))
            self.channel.sent(len(taken[-1]))
        return b"".join(taken)

    def deliver(self, chunk: bytes) -> None:
        """Put bytes of the test's own into what this end receives next, behind what has been carried over."""
        self._arriving.append(chunk)

    def join(self, other: End[T]) -> None:
        """Connect two ends with each other."""
        self._other, other._other = other, self

    def _step(self) -> list[T] | None:
        channel = self.channel
        if channel.pending:
            return channel.receive(b"")
        if self._arriving:
            return channel.receive(self._arriving.popleft())
        if not channel.may_receive:
            # Behind the last message, once: nothing, and then what the channel itself says.
            return channel.receive(b"")
        return channel.receive_eof() if self._other.channel.eof_due else None


def connected(
    wire: Wire[T],
    *,
    cut: Callable[[bytes], Iterable[bytes]] | None = None,
    seed: int | None = None,
    **options: Any,
) -> tuple[End[T], End[T]]:
    """Two ends over ``wire``, each the other's peer.

    ``cut`` says how what was sent is cut into chunks on its way; with ``seed`` it is cut at random, the same way for the
    same seed; with neither it arrives whole. ``options`` go to both channels (`Channel`).
    """
    if cut is None:
        cut = _whole if seed is None else _random_cut(Random(seed))  # noqa: S311 -- to be repeated, not to be secret
    ends = (End(Channel(wire, **options), cut), End(Channel(wire, **options), cut))
    ends[0].join(ends[1])
    return ends


def _whole(stream: bytes) -> list[bytes]:
    return [stream] if stream else []


def _random_cut(rng: Random) -> Callable[[bytes], list[bytes]]:
    def cut(stream: bytes) -> list[bytes]:
        chunks: list[bytes] = []
        at = 0
        while at < len(stream):
            behind = at + rng.choice((1, 1, 2, 3, 7, 64, 4096))
            chunks.append(stream[at:behind])
            at = behind
        return chunks

    return cut
