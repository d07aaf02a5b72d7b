"""The buffer of a thread: all connections read into it, on every driver of streams, but for large frames."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import ssl
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

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Take = Callable[[socket.socket, int, Contexts | None], list[bytes]]


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


def serving_tls(sock: socket.socket, contexts: Contexts | None) -> socket.socket:
    return sock if contexts is None else contexts[0].wrap_socket(sock, server_side=True)


def take_blocking(sock: socket.socket, count: int, contexts: Contexts | None) -> list[bytes]:
    with blocking.Connection(serving_tls(sock, contexts), RAW, timeout=SECONDS) as connection:
        return [connection.receive() for _ in range(count)]


def take_nonblocking(sock: socket.socket, count: int, contexts: Contexts | None) -> list[bytes]:
    got: list[bytes] = []
    with nonblocking.Connection(serving_tls(sock, contexts), RAW) as connection:
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


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 20):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def take_by_service(make: Any, sock: socket.socket, count: int, contexts: Contexts | None) -> list[bytes]:
    service = Collect(count)
    context = None if contexts is None else contexts[0]
    with make(("127.0.0.1", 0), RAW, service, ssl_context=context) as server:
        service.server = server
        with sock, socket.create_connection((server.address.host, server.address.port)) as relay:
            threads = [threading.Thread(target=pass_on, args=ends) for ends in ((sock, relay), (relay, sock))]
            for thread in threads:
                thread.start()
            server.run()
            for thread in threads:
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


def given(frames: bytes, take: Take, count: int, contexts: Contexts | None = None) -> list[bytes]:
    near, far = socket.socketpair()

    def give() -> None:
        with contextlib.suppress(OSError):
            sock = far if contexts is None else contexts[1].wrap_socket(far, server_hostname="localhost")
            with sock:
                sock.sendall(frames)
                while sock.recv(1 << 16):
                    pass

    thread = threading.Thread(target=give)
    thread.start()
    got = take(near, count, contexts)
    thread.join(SECONDS)
    assert not thread.is_alive()
    return got


@pytest.mark.parametrize("driver", DRIVERS)
def test_small_frames_are_read_into_the_buffer_of_the_thread(driver: str, lent: list[int]):
    messages = [bytes([number % 256]) * (number % 300) for number in range(1000)]
    frames = RAW.encode_many(messages)
    assert given(frames, DRIVERS[driver], 1000) == messages
    assert lent == [0, len(frames)]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_large_frame_is_received_in_its_place_and_once(
    driver: str, secure: bool, lent: list[int], contexts: Contexts
):
    if driver == "uvloop" and not secure:
        pytest.skip("uvloop holds on to the buffer until what was read is handled: a frame's own place could not grow")
    messages = [b"before", bytes(LARGE), b"behind"]
    frames = RAW.encode_many(messages)
    assert given(frames, DRIVERS[driver], 3, contexts if secure else None) == messages
    in_place, out_of_a_buffer = lent
    assert in_place + out_of_a_buffer == len(frames)
    # Only what came before it was known to be large, and what came behind it, went by way of the buffer.
    assert out_of_a_buffer <= 2 * SCRATCH_BYTES
