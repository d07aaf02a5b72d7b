"""The ends of every server driver: `stop` and `close`, from anywhere and at any time, as often as one likes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from framing import ConnectionClosed, LengthPrefixed, Wire
from framing.drivers import aio, blocking, selector
from tests.drivers.beside import Run

WIRE = Wire(LengthPrefixed(4, max_frame=1 << 24))
LOCAL = ("127.0.0.1", 0)
SECONDS = 10.0


def new_uvloop() -> asyncio.AbstractEventLoop:
    return importlib.import_module("uvloop").new_event_loop()


SERVERS: dict[str, Callable[..., Any]] = {
    "threads": blocking.Server,
    "selector": selector.Server,
    "asyncio": partial(aio.StandaloneServer, loop_factory=asyncio.SelectorEventLoop),
}
if importlib.util.find_spec("uvloop"):
    SERVERS["uvloop"] = partial(aio.StandaloneServer, loop_factory=new_uvloop)
    new_uvloop().close()  # what it opens once, for good, is no leak

every_server = pytest.mark.parametrize("make", SERVERS.values(), ids=SERVERS)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def descriptors() -> int:
    opened = Path("/proc/self/fd")
    return len(list(opened.iterdir())) if opened.exists() else 0


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    gc.collect()
    before = descriptors(), threading.active_count()
    yield
    gc.collect()
    until(lambda: (descriptors(), threading.active_count()) == before)


class Echo:
    def __init__(self) -> None:
        self.peers: list[Any] = []
        self.ends: list[Exception | None] = []

    def opened(self, peer: Any) -> None:
        self.peers.append(peer)

    def received(self, peer: Any, message: bytes) -> None:
        peer.send(message)

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.ends.append(error)


@contextlib.contextmanager
def running(server: Any) -> Iterator[Run]:
    run = Run(server)
    try:
        yield run
    finally:
        server.stop()
        run.over()
        server.close()


def plain(server: Any) -> socket.socket:
    return socket.create_connection((server.address.host, server.address.port), timeout=SECONDS)


def served(server: Any) -> socket.socket:
    """A client whom the server answers."""
    sock = plain(server)
    sock.sendall(WIRE.encode(b"hello"))
    assert sock.recv(100) == WIRE.encode(b"hello")
    return sock


def refused(server: Any) -> bool:
    try:
        plain(server).close()
    except ConnectionRefusedError:
        return True
    return False


# -------------------------------------------------------------------------------------------------- stop


@every_server
def test_a_server_stopped_before_it_ran_ends_at_once_and_serves_nobody(make: Any) -> None:
    service = Echo()
    server = make(LOCAL, WIRE, service)
    server.stop()
    server.stop()
    with plain(server) as sock:
        run = Run(server)
        assert run.over() is None
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert refused(server)
    assert service.ends == [None] * len(service.peers)
    server.close()


@every_server
def test_stop_from_many_threads_ends_the_server_once(make: Any) -> None:
    service = Echo()
    server = make(LOCAL, WIRE, service)
    with running(server) as run, served(server) as sock:
        threads = [threading.Thread(target=server.stop) for _ in range(10)]
        for thread in threads:
            thread.start()
        assert sock.recv(1) == b""
        for thread in threads:
            thread.join()
        assert run.over() is None
    assert service.ends == [None]
    assert refused(server)


@every_server
def test_stop_inside_the_service_lets_it_finish(make: Any) -> None:
    class Last(Echo):
        def received(self, peer: Any, message: bytes) -> None:
            server.stop()
            super().received(peer, message)
            server.stop()

    service = Last()
    server = make(LOCAL, WIRE, service)
    with running(server) as run, served(server) as sock:
        assert sock.recv(1) == b""
        assert run.over() is None
    assert service.ends == [None]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@every_server
def test_stop_in_a_signal_handler(make: Any) -> None:
    server = make(LOCAL, WIRE, Echo())
    before = signal.signal(signal.SIGALRM, lambda *_: (server.stop(), server.stop()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        server.run()
    finally:
        signal.signal(signal.SIGALRM, before)
        server.close()
    assert refused(server)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@every_server
def test_close_in_a_signal_handler(make: Any) -> None:
    server = make(LOCAL, WIRE, Echo())
    before = signal.signal(signal.SIGALRM, lambda *_: server.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        server.run()
    finally:
        signal.signal(signal.SIGALRM, before)
        server.close()
    assert refused(server)


class Big(Echo):
    def received(self, peer: Any, message: bytes) -> None:
        peer.send(bytes(8_000_000))


@contextlib.contextmanager
def slow_client(server: Any) -> Iterator[socket.socket]:
    """Somebody who has asked for much, and has not read it."""
    with plain(server) as sock:
        sock.sendall(WIRE.encode(b"x"))
        assert sock.recv(4, socket.MSG_WAITALL) == WIRE.encode(bytes(8_000_000))[:4]
        yield sock


@every_server
def test_stop_while_draining_does_not_cut_it_short(make: Any) -> None:
    service = Big()
    server = make(LOCAL, WIRE, service, drain_timeout=60)
    with running(server) as run, slow_client(server) as sock:
        for _ in range(5):
            server.stop()
            time.sleep(0.01)
        assert not run.returned
        got = 0
        while count := len(sock.recv(1 << 20)):
            got += count
        assert got == 8_000_000
        assert run.over() is None
    assert service.ends == [None]


@every_server
def test_stop_while_draining_does_not_prolong_it(make: Any) -> None:
    service = Big()
    server = make(LOCAL, WIRE, service, drain_timeout=0.3)
    with running(server) as run, slow_client(server):
        end = time.monotonic() + SECONDS
        while not run.returned:
            server.stop()
            run.thread.join(0.02)
            assert time.monotonic() < end
        assert run.over() is None
    (error,) = service.ends
    assert error is not None


# -------------------------------------------------------------------------------------------------- close


@every_server
def test_stop_and_close_behind_the_end_change_nothing(make: Any) -> None:
    server = make(LOCAL, WIRE, Echo())
    with running(server) as run:
        served(server).close()
        server.close()
        assert run.over() is None
    for _ in range(2):
        server.close()
        server.stop()
    with pytest.raises(ConnectionClosed, match="make a new one"):
        server.run()


@every_server
def test_a_server_closed_before_it_ran_gives_all_back_and_does_not_run(make: Any) -> None:
    server = make(LOCAL, WIRE, Echo())
    threads = [threading.Thread(target=server.close) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert refused(server)
    with pytest.raises(ConnectionClosed, match="make a new one"):
        server.run()


@every_server
def test_close_returns_when_every_connection_has_ended(make: Any) -> None:
    service = Echo()
    server = make(LOCAL, WIRE, service)
    with running(server) as run, served(server) as sock:
        server.close()
        assert service.ends == [None]
        assert refused(server)
        assert sock.recv(1) == b""
        assert run.over() is None


@every_server
def test_close_inside_the_service_does_not_wait_for_itself(make: Any) -> None:
    class Last(Echo):
        def received(self, peer: Any, message: bytes) -> None:
            super().received(peer, message)
            server.close()

    service = Last()
    server = make(LOCAL, WIRE, service, drain_timeout=30)
    with running(server) as run, served(server) as sock:
        began = time.monotonic()
        assert sock.recv(1) == b""
        assert run.over() is None
        assert time.monotonic() - began < 5
    assert service.ends == [None]


@every_server
def test_closing_just_as_it_begins_to_run_ends_it_one_way_or_the_other(make: Any) -> None:
    outcomes = set()
    for number in range(20):
        server = make(LOCAL, WIRE, Echo())
        run = Run(server)
        if number % 2:
            time.sleep(0.0005 * (number % 5))
        server.close()
        outcomes.add(type(run.over()))
        assert refused(server)
    assert outcomes <= {type(None), ConnectionClosed}


@every_server
def test_a_server_that_runs_cannot_be_run_twice(make: Any) -> None:
    server = make(LOCAL, WIRE, Echo())
    with running(server), served(server) as sock:
        with pytest.raises(RuntimeError, match="running already"):
            server.run()
        sock.sendall(WIRE.encode(b"unharmed"))
        assert sock.recv(100) == WIRE.encode(b"unharmed")


# ---------------------------------------------------------------------------- asyncio, on a loop that runs already


def test_a_task_may_stop_the_server_before_during_and_behind_its_run() -> None:
    async def main() -> None:
        early = aio.serve(LOCAL, WIRE, Echo())
        await early.aclose()
        await early.run()

        server = aio.serve(LOCAL, WIRE, Echo())
        async with server:
            waiting = asyncio.create_task(server.run())
            await asyncio.sleep(0)
            for _ in range(3):
                server.stop()
            await waiting
            server.stop()
            await asyncio.gather(server.aclose(), server.aclose())
        server.stop()
        await server.aclose()
        await server.run()

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_the_loops_own_signal_handler_may_stop_the_server() -> None:
    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, Echo()) as server:
            asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, server.stop)
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            await server.run()

    asyncio.run(main())


def test_stop_behind_the_end_of_the_loop_is_no_error() -> None:
    servers = []

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, Echo()) as server:
            servers.append(server)

    asyncio.run(main())
    servers[0].stop()
