"""The buffer of a thread: all connections read into it, on every driver of streams, but for large frames."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import threading
from collections.abc import Callable
from functools import partial
from selectors import EVENT_READ
from typing import Any

import pytest

from framing import Channel, LengthPrefixed, Wire
from framing.drivers import aio, blocking, nonblocking, selector
from framing.drivers.scratch import SCRATCH_BYTES, thread_scratch

RAW = Wire(LengthPrefixed(4, max_frame=1 << 24))
LARGE = 3_000_000
SECONDS = 10.0

Take = Callable[[socket.socket, int], list[bytes]]


def test_each_thread_has_one_and_keeps_it():
    ours = thread_scratch()
    assert thread_scratch() is ours
    assert len(ours) == SCRATCH_BYTES
    theirs: list[memoryview] = []
    thread = threading.Thread(target=lambda: theirs.extend([thread_scratch(), thread_scratch()]))
    thread.start()
    thread.join()
    assert theirs[0] is theirs[1]
    assert theirs[0] is not ours


def take_blocking(sock: socket.socket, count: int) -> list[bytes]:
    with blocking.Connection(sock, RAW, timeout=SECONDS) as connection:
        return [connection.receive() for _ in range(count)]


def take_nonblocking(sock: socket.socket, count: int) -> list[bytes]:
    got: list[bytes] = []
    with nonblocking.Connection(sock, RAW) as connection:
        while len(got) < count:
            got += connection.handle(EVENT_READ)
    return got


class Collect:
    """A service that ends its server when it has got so many messages."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.got: list[bytes] = []
        self.server: Any = None

    def received(self, peer: Any, message: bytes) -> None:
        self.got.append(message)
        if len(self.got) == self.count:
            self.server.stop()


def take_by_service(make: Any, sock: socket.socket, count: int) -> list[bytes]:
    service = Collect(count)
    with make(("127.0.0.1", 0), RAW, service) as server:
        service.server = server
        relay = socket.create_connection((server.address.host, server.address.port))

        def pass_on() -> None:
            with relay, sock:
                while chunk := sock.recv(1 << 20):
                    relay.sendall(chunk)

        thread = threading.Thread(target=pass_on)
        thread.start()
        server.run()
        thread.join(SECONDS)
    return service.got


DRIVERS: dict[str, Take] = {
    "blocking": take_blocking,
    "nonblocking": take_nonblocking,
    "threads": partial(take_by_service, blocking.Server),
    "selector": partial(take_by_service, selector.Server),
    "asyncio": partial(take_by_service, partial(aio.StandaloneServer, loop_factory=asyncio.SelectorEventLoop)),
}
if importlib.util.find_spec("uvloop"):
    DRIVERS["uvloop"] = partial(
        take_by_service,
        partial(aio.StandaloneServer, loop_factory=lambda: importlib.import_module("uvloop").new_event_loop()),
    )


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were received in a place that a channel lent, and how many were taken out of a buffer."""
    counts = [0, 0]
    updated, receive = Channel.buffer_updated, Channel.receive

    def counting_updated(self: Channel[Any], nbytes: int, now: float | None = None) -> list[Any]:
        counts[0] += nbytes
        return updated(self, nbytes, now)

    def counting_receive(self: Channel[Any], chunk: Any, now: float | None = None) -> list[Any]:
        counts[1] += len(chunk)
        return receive(self, chunk, now)

    monkeypatch.setattr(Channel, "buffer_updated", counting_updated)
    monkeypatch.setattr(Channel, "receive", counting_receive)
    return counts


def given(frames: bytes, take: Take, count: int) -> list[bytes]:
    near, far = socket.socketpair()
    thread = threading.Thread(target=lambda: (far.sendall(frames), far.close()))
    thread.start()
    got = take(near, count)
    thread.join(SECONDS)
    return got


@pytest.mark.parametrize("driver", DRIVERS)
def test_small_frames_are_read_into_the_buffer_of_the_thread(driver: str, lent: list[int]):
    messages = [bytes([number % 256]) * (number % 300) for number in range(1000)]
    frames = RAW.encode_many(messages)
    assert given(frames, DRIVERS[driver], 1000) == messages
    assert lent == [0, len(frames)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_large_frame_is_received_in_its_place_and_once(driver: str, lent: list[int]):
    if driver == "uvloop":
        pytest.skip("uvloop holds on to the buffer until what was read is handled: a frame's own place could not grow")
    messages = [b"before", bytes(LARGE), b"behind"]
    frames = RAW.encode_many(messages)
    assert given(frames, DRIVERS[driver], 3) == messages
    in_place, out_of_a_buffer = lent
    assert in_place + out_of_a_buffer == len(frames)
    # Only what came before it was known to be large, and what came behind it, went by way of the buffer.
    assert out_of_a_buffer <= 2 * SCRATCH_BYTES
