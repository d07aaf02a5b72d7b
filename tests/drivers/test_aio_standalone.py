"""The asyncio server with a loop of its own: the shape of the other drivers' servers, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import inspect
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framing import ConnectionClosed, ConnectionFailed, Wire
from framing.drivers import aio, blocking, selector
from framing.drivers.workers import WorkerServer
from protocols.echo import Echo

WIRE = Wire.parse("u32+json")
LOCAL = ("127.0.0.1", 0)
SECONDS = 10.0


def descriptors() -> int:
    opened = Path("/proc/self/fd")
    return len(list(opened.iterdir())) if opened.exists() else 0


KINDS = ["asyncio", "uvloop"] if importlib.util.find_spec("uvloop") else ["asyncio"]


@pytest.fixture(autouse=True)
def _nothing_is_leaked() -> Iterator[None]:
    for kind in KINDS:
        importlib.import_module(kind).new_event_loop().close()  # what a kind of loop opens once, for good, is no leak
    gc.collect()
    before = descriptors(), threading.active_count()
    yield
    end = time.monotonic() + SECONDS
    while (descriptors(), threading.active_count()) != before and time.monotonic() < end:
        time.sleep(0.005)
    assert (descriptors(), threading.active_count()) == before


@pytest.fixture(params=KINDS)
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop] | None:
    return None if request.param == "asyncio" else importlib.import_module(request.param).new_event_loop


@contextlib.contextmanager
def running(server: Any) -> Iterator[None]:
    """Run the server in a thread, and stop it behind the block."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


def ask(server: Any, message: Any = "hello", **options: Any) -> Any:
    with blocking.connect(server.address, WIRE, timeout=SECONDS, **options) as connection:
        connection.send(message)
        return connection.receive()


def test_it_serves_in_the_thread_that_runs_it(loop_factory):
    class Where:
        def received(self, peer, message):
            peer.send([threading.current_thread().name, type(asyncio.get_running_loop()).__module__])

    with aio.StandaloneServer(LOCAL, WIRE, Where(), loop_factory=loop_factory) as server:
        assert server.address.port != 0
        assert server.wire is WIRE
        thread = threading.Thread(target=server.run, name="of its own")
        thread.start()
        name, module = ask(server)
        server.stop()
        thread.join(SECONDS)
    assert name == "of its own"
    assert module.startswith("uvloop" if loop_factory is not None else "asyncio")


def test_who_connects_before_it_runs_is_answered(loop_factory):
    with (
        aio.StandaloneServer(LOCAL, WIRE, Echo(), loop_factory=loop_factory) as server,
        blocking.connect(server.address, WIRE, timeout=SECONDS) as connection,
    ):
        connection.send([1, 2])
        with running(server):
            assert connection.receive() == [1, 2]
            assert server.connections == 1
            assert repr(server) == f"<StandaloneServer at {server.address}, 1 connections>"


def test_stop_before_run_ends_it_at_once(loop_factory):
    with aio.StandaloneServer(LOCAL, WIRE, Echo(), loop_factory=loop_factory) as server:
        server.stop()
        server.run()
        server.stop()
        with pytest.raises(ConnectionClosed, match="make a new one"):
            server.run()


def test_a_stop_that_comes_while_it_starts_is_not_overlooked(monkeypatch):
    with aio.StandaloneServer(LOCAL, WIRE, Echo()) as server:
        passed_on = []
        stop = server._server.stop

        def overlook_the_first() -> None:
            passed_on.append(threading.get_ident())
            if len(passed_on) > 1:
                stop()

        # As where another thread stops it between two lines of its start.
        monkeypatch.setattr(server._server, "stop", overlook_the_first)
        server.stop()
        server.run()
        assert len(passed_on) == 2


def test_stop_from_a_signal_handler_writes_what_is_queued(loop_factory):
    def stop(*_: object) -> None:
        server.stop()

    class Stopping:
        def received(self, peer, message):
            os.kill(os.getpid(), signal.SIGTERM)
            peer.send(message)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with aio.StandaloneServer(LOCAL, WIRE, Stopping(), loop_factory=loop_factory) as server:
            replies: list[Any] = []
            client = threading.Thread(target=lambda: replies.append(ask(server, "last")))
            client.start()
            server.run()
            client.join(SECONDS)
        assert replies == ["last"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_ends_it_as_stop_does_and_is_raised(loop_factory):
    class Interrupting:
        def __init__(self):
            self.ends: list[Any] = []

        def received(self, peer, message):
            peer.send(message)
            os.kill(os.getpid(), signal.SIGINT)

        def closed(self, peer, error):
            self.ends.append(error)

    service = Interrupting()
    with aio.StandaloneServer(LOCAL, WIRE, service, loop_factory=loop_factory) as server:
        replies: list[Any] = []
        client = threading.Thread(target=lambda: replies.append(ask(server, "last")))
        client.start()
        with pytest.raises(KeyboardInterrupt):
            server.run()
        client.join(SECONDS)
    assert replies == ["last"]
    assert service.ends == [None]


def test_a_second_ctrl_c_does_not_wait_for_what_is_being_drained(loop_factory):
    big = Wire.parse("u32(max_frame=64M)")

    class Drowning:
        def received(self, peer, message):
            peer.send(bytes(1 << 25))
            os.kill(os.getpid(), signal.SIGINT)
            asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)

    with (
        aio.StandaloneServer(LOCAL, big, Drowning(), drain_timeout=60, loop_factory=loop_factory) as server,
        socket.create_connection((server.address.host, server.address.port)) as sock,
    ):
        sock.sendall(big.encode(b"and now I do not read"))
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            server.run()
        assert time.monotonic() - began < 30


def test_ctrl_c_behind_stop_does_not_wait_for_what_is_being_drained(loop_factory):
    big = Wire.parse("u32(max_frame=64M)")

    class Drowning:
        def received(self, peer, message):
            peer.send(bytes(1 << 25))
            server.stop()
            # By itself, as a handler that was set in the meantime would: it is none of the loop's own.
            asyncio.get_running_loop().call_later(0.1, signal.raise_signal, signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            aio.StandaloneServer(LOCAL, big, Drowning(), drain_timeout=60, loop_factory=loop_factory) as server,
            socket.create_connection((server.address.host, server.address.port)) as sock,
        ):
            sock.sendall(big.encode(b"and now I do not read"))
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                server.run()
            assert time.monotonic() - began < 30
    finally:
        signal.signal(signal.SIGTERM, before)


def test_close_in_another_thread_waits_until_run_has_returned(loop_factory):
    ended = threading.Event()
    server = aio.StandaloneServer(LOCAL, WIRE, Echo(), loop_factory=loop_factory)

    def run() -> None:
        server.run()
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    ask(server)
    with pytest.raises(RuntimeError, match="running already"):
        server.run()
    server.close()
    assert ended.wait(SECONDS)
    thread.join(SECONDS)
    server.close()


def test_close_inside_the_service_is_stop(loop_factory):
    class Closing:
        def received(self, peer, message):
            peer.send(message)
            server.close()

    server = aio.StandaloneServer(LOCAL, WIRE, Closing(), loop_factory=loop_factory)
    replies: list[Any] = []
    client = threading.Thread(target=lambda: replies.append(ask(server)))
    client.start()
    server.run()
    client.join(SECONDS)
    assert replies == ["hello"]


def test_close_without_run_gives_the_port_back():
    with aio.StandaloneServer(LOCAL, WIRE, Echo()) as server:
        address = server.address
        with pytest.raises(ConnectionFailed, match="something listens there already"):
            aio.StandaloneServer(address, WIRE, Echo())
    with blocking.Server(address, WIRE, Echo()) as other:
        assert other.address == address


def test_a_socket_file_is_removed(tmp_path):
    with aio.StandaloneServer(f"unix:{tmp_path}/s", WIRE, Echo()) as server, running(server):
        assert ask(server, {"a": 1}) == {"a": 1}
    assert not (tmp_path / "s").exists()
    with aio.StandaloneServer(f"unix:{tmp_path}/s", WIRE, Echo()):
        assert (tmp_path / "s").exists()
    assert not (tmp_path / "s").exists()


def test_tls(contexts, loop_factory):
    with (
        aio.StandaloneServer(
            "tls://127.0.0.1:0", WIRE, Echo(), ssl_context=contexts[0], loop_factory=loop_factory
        ) as server,
        running(server),
    ):
        assert str(server.address).startswith("tls://")
        assert ask(server, [None], ssl_context=contexts[1]) == [None]


def test_two_may_share_a_port():
    with (
        aio.StandaloneServer(LOCAL, WIRE, Echo(), reuse_port=True) as one,
        aio.StandaloneServer(one.address, WIRE, Echo(), reuse_port=True) as other,
        running(one),
        running(other),
    ):
        assert [ask(one, number) for number in range(8)] == list(range(8))


def test_tasks_of_the_service_are_cancelled_at_its_end(loop_factory):
    class Waiting:
        def __init__(self):
            self.ends: list[str] = []

        def received(self, peer, message):
            self.task = asyncio.get_running_loop().create_task(self.wait())
            peer.send(message)

        async def wait(self):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.ends.append("cancelled")
                raise

    service = Waiting()
    with aio.StandaloneServer(LOCAL, WIRE, service, loop_factory=loop_factory) as server, running(server):
        ask(server)
    assert service.ends == ["cancelled"]


def test_a_running_loop_is_refused_and_nothing_is_lost_by_it():
    with aio.StandaloneServer(LOCAL, WIRE, Echo()) as server:

        async def inside() -> None:
            server.run()

        with pytest.raises(RuntimeError, match="serve on it"):
            asyncio.run(inside())
        with running(server):
            assert ask(server) == "hello"


def test_a_loop_that_cannot_be_made_ends_it():
    def no_loop() -> asyncio.AbstractEventLoop:
        raise ZeroDivisionError

    with aio.StandaloneServer(LOCAL, WIRE, Echo(), loop_factory=no_loop) as server, pytest.raises(ZeroDivisionError):
        server.run()


def test_wrong_options_are_told_before_anything_is_opened():
    for wrong in ({"max_connections": 0}, {"low_water": 2, "high_water": 1}, {"drain_timeout": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            aio.StandaloneServer(LOCAL, WIRE, Echo(), **wrong)
    with pytest.raises(ValueError, match="datagrams"):
        aio.StandaloneServer("udp://127.0.0.1:0", WIRE, Echo())
    with pytest.raises(ValueError, match="needs a certificate"):
        aio.StandaloneServer("tls://127.0.0.1:0", WIRE, Echo())
    with pytest.raises(ValueError, match="client's"):
        aio.StandaloneServer(LOCAL, WIRE, Echo(), ssl_context=ssl.create_default_context())


def test_its_options_are_the_servers():
    mine = dict(inspect.signature(aio.StandaloneServer).parameters)
    assert mine.pop("loop_factory").default is None
    assert mine == dict(inspect.signature(aio.Server).parameters)


@pytest.mark.parametrize("kind", [blocking.Server, selector.Server, aio.StandaloneServer])
def test_one_piece_of_code_runs_every_server(kind):
    server: WorkerServer
    with kind(LOCAL, WIRE, Echo()) as server, running(server):
        assert ask(server, [kind.__module__]) == [kind.__module__]
