"""What the tests of this directory share beside the drivers: services that write down what happens, and waiting for facts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from framing import DecodeError, EncodeError, LengthPrefixed, Wire
from framing.codecs import Codec
from tests.drivers.every.registry import SECONDS, Client

T = TypeVar("T")

RAW = Wire(LengthPrefixed(4, max_frame=1 << 23))
"""Bytes behind their length: for what depends on no wire."""

JSON = Wire.parse("u32+json")


def until(happened: Callable[[], T], what: str = "it did not happen in time", seconds: float = SECONDS) -> T:
    """What ``happened`` returns, as soon as that is true."""
    end = time.monotonic() + seconds
    pause = 0.0005
    while not (result := happened()):
        assert time.monotonic() < end, what
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    return result


class Patience:
    """For loops that wait while they do something: `left` is true until the time is over, and an error then."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> bool:
        assert time.monotonic() < self._end, "it did not happen in time"
        return True


def descriptors() -> int:
    """How many descriptors this process has; 0 where the system does not tell."""
    held = Path("/proc/self/fd")
    return len(list(held.iterdir())) if held.exists() else 0


def take(client: Client, count: int) -> list[Any]:
    """The next ``count`` messages."""
    messages: list[Any] = []
    while len(messages) < count:
        messages += client.receive_batch()
    assert len(messages) == count
    return messages


class Recorder:
    """Writes down what the drivers call, and when one call for a peer began inside another one."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any]] = []
        self.peers: list[Any] = []
        self.overlaps: list[tuple[str, Any]] = []
        self._inside: set[Any] = set()
        self._lock = threading.Lock()

    def opened(self, peer: Any) -> None:
        self._note("opened", peer, None)
        self.peers.append(peer)

    def received(self, peer: Any, message: Any) -> None:
        self._note("received", peer, message)
        with self._lock:
            if peer in self._inside:
                self.overlaps.append(("received", message))
            self._inside.add(peer)
        try:
            self.handle(peer, message)
        finally:
            self._inside.discard(peer)

    def handle(self, peer: Any, message: Any) -> None:
        """What is done about a message: nothing."""

    def closed(self, peer: Any, error: Exception | None) -> None:
        if peer in self._inside:
            self.overlaps.append(("closed", error))
        self._note("closed", peer, error)

    def _note(self, name: str, peer: Any, value: Any) -> None:
        self.calls.append((name, peer, value))

    @property
    def got(self) -> list[Any]:
        """The messages of all peers."""
        return [value for name, _, value in self.calls if name == "received"]

    @property
    def ends(self) -> list[Exception | None]:
        """What `closed` was given, in order."""
        return [value for name, _, value in self.calls if name == "closed"]

    def end(self) -> Exception | None:
        """Wait for the first end, and return why it came."""
        return until(lambda: self.ends, "nothing was closed")[0]

    def peer(self, count: int = 1) -> Any:
        """Wait until there are ``count`` peers, and return the last of them."""
        until(lambda: len(self.peers) >= count, f"not all of {count} peers are there")
        return self.peers[count - 1]


class Echo(Recorder):
    """Sends everything back."""

    def handle(self, peer: Any, message: Any) -> None:
        peer.send(message)


class Scripted(Recorder):
    """Does as it is told: ``handle`` is given."""

    def __init__(self, handle: Callable[[Any, Any], object]) -> None:
        super().__init__()
        self._handle = handle

    def handle(self, peer: Any, message: Any) -> None:
        self._handle(peer, message)


@dataclass(frozen=True, slots=True)
class Counting(Codec[bytes]):
    """Bytes; writes down what it encodes, and refuses in both directions what begins with a cross."""

    encoded: list[bytes] = field(default_factory=list, compare=False)

    def encode(self, message: bytes) -> bytes:
        self.encoded.append(message)
        if message[:1] == b"x":
            raise EncodeError("a cross")
        return message

    def decode(self, payload: bytes) -> bytes:
        if payload[:1] == b"x":
            raise DecodeError("a cross")
        return payload
