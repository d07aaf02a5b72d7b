"""EINTR: signals while a driver waits. Nothing is lost, nothing repeated, and no time begins anew.

A handler that does nothing but count runs every few milliseconds, so that every wait is interrupted many times; on the threads
of a server too, whose calls the system interrupts although Python runs the handler in the main thread.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from framing import LengthPrefixed, Timeout, Wire
from framing.drivers import blocking, datagram, nonblocking, selector

if not hasattr(signal, "setitimer"):
    pytest.skip("this system has no interval timers", allow_module_level=True)

RAW = Wire(LengthPrefixed(4, max_frame=1 << 25))
LOCAL = ("127.0.0.1", 0)
EVERY = 0.003
LATE = 3.0
"""Seconds by which a loaded machine may be late; a time that began anew with each signal would never be over."""


class Hits:
    """How often the handler ran."""

    count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1


@contextlib.contextmanager
def storm(*, first: float = EVERY) -> Iterator[Hits]:
    """Signals to the main thread, until the end of the block."""
    hits = Hits()
    before = signal.signal(signal.SIGALRM, hits)
    signal.setitimer(signal.ITIMER_REAL, first, EVERY)
    try:
        yield hits
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def storm_on_threads(prefix: str) -> Iterator[Hits]:
    """Signals to all other threads whose names begin so."""
    hits = Hits()
    before = signal.signal(signal.SIGUSR1, hits)
    over = threading.Event()

    def send() -> None:
        while not over.wait(EVERY):
            for thread in threading.enumerate():
                if thread.name.startswith(prefix) and thread.ident is not None:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pthread_kill(thread.ident, signal.SIGUSR1)

    sender = threading.Thread(target=send, name="the storm")
    sender.start()
    try:
        yield hits
    finally:
        over.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def beside(call: Any, *args: Any) -> Iterator[None]:
    """Have it called in a thread of its own, beside the block."""
    thread = threading.Thread(target=call, args=args)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def kept_to(seconds: float) -> Iterator[None]:
    before = time.monotonic()
    with pytest.raises(Timeout):
        yield
    assert seconds * 0.99 <= time.monotonic() - before < seconds + LATE


class Echo:
    def received(self, peer: Any, message: Any) -> None:
        peer.send(message)


# --------------------------------------------------------------------------------------------------- blocking


@pytest.mark.parametrize("timeout", [None, 10])
def test_a_receive_that_waits_is_interrupted_and_gets_its_message(timeout: float | None) -> None:
    ours, theirs = socket.socketpair()
    frame = RAW.encode(b"one") + RAW.encode(b"two")

    def drip() -> None:
        for byte in frame:
            time.sleep(EVERY * 2)
            theirs.sendall(bytes([byte]))

    with theirs, blocking.Connection(ours, RAW) as connection, storm() as hits, beside(drip):
        assert connection.receive(timeout=timeout) == b"one"
        assert connection.receive(timeout=timeout) == b"two"
        assert hits.count > 3


def test_the_times_of_calls_that_wait_do_not_begin_anew() -> None:
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, RAW) as connection, storm() as hits:
        with kept_to(0.2):
            connection.receive(timeout=0.2)
        with kept_to(0.2):
            connection.send(bytes(1 << 23), timeout=0.2)
        with kept_to(0.2):
            connection.flush(timeout=0.2)
        assert hits.count > 20


def test_the_deadline_of_a_frame_does_not_begin_anew() -> None:
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, RAW, frame_timeout=0.2) as connection, storm():
        theirs.sendall(b"\0\0")
        with kept_to(0.2):
            connection.receive()


def test_a_send_that_waits_is_interrupted_and_writes_each_byte_once() -> None:
    ours, theirs = socket.socketpair()
    messages = [random.Random(size).randbytes(size) for size in (3_000_000, 10, 1_000_000)]
    got = bytearray()

    def read() -> None:
        while chunk := theirs.recv(20_000):
            got.extend(chunk)
            time.sleep(0.0005)

    with theirs, storm() as hits, beside(read):
        with blocking.Connection(ours, RAW, timeout=20) as connection:
            connection.send_many(messages)
            connection.close_sending()
        assert hits.count > 3
    assert got == RAW.encode_many(messages)


def test_a_connect_that_waits_is_interrupted_and_keeps_to_its_time() -> None:
    with socket.create_server(LOCAL, backlog=0) as full, socket.create_connection(full.getsockname()), storm() as hits:
        with kept_to(0.3):
            blocking.connect(full.getsockname(), RAW, timeout=0.3)
        assert hits.count > 20


def test_a_connect_that_waits_is_interrupted_and_connects() -> None:
    with socket.create_server(LOCAL, backlog=0) as full, socket.create_connection(full.getsockname()):
        accepted: list[socket.socket] = []

        def serve() -> None:
            time.sleep(0.1)
            # The one in front, and ours, which asks again after a second.
            accepted.extend(full.accept()[0] for _ in range(2))
            accepted[1].sendall(RAW.encode(b"at last"))

        with storm() as hits, beside(serve):
            with blocking.connect(full.getsockname(), RAW, timeout=10) as connection:
                assert connection.receive() == b"at last"
            assert hits.count > 20
        for sock in accepted:
            sock.close()


# ---------------------------------------------------------------------------------------------------- servers


def talk(server: Any, failures: list[BaseException]) -> None:
    """Two clients, messages of every size, and the stop."""
    try:
        with (
            blocking.connect(server.address, RAW, timeout=10) as one,
            blocking.connect(server.address, RAW, timeout=10) as two,
        ):
            for size in (0, 1, 70_000, 2_000_000):
                for connection in (one, two):
                    message = random.Random(size).randbytes(size)
                    with beside(connection.send, message):
                        assert connection.receive() == message
                time.sleep(0.02)
    except BaseException as error:  # told in the main thread
        failures.append(error)
    finally:
        server.stop()


@pytest.mark.parametrize("driver", [blocking, selector], ids=["threads", "selector"])
def test_a_server_that_waits_in_the_main_thread_is_interrupted_and_serves_on(driver: Any) -> None:
    failures: list[BaseException] = []
    server = driver.Server(LOCAL, RAW, Echo())
    with storm() as hits, beside(talk, server, failures):
        server.run()
    assert not failures
    assert hits.count > 5


def test_the_threads_of_a_server_are_interrupted_and_serve_on() -> None:
    failures: list[BaseException] = []
    with blocking.Server(LOCAL, RAW, Echo()) as server, storm_on_threads("framing ") as hits:
        talk(server, failures)
    assert not failures
    assert hits.count > 5


@pytest.mark.parametrize("driver", [blocking, selector], ids=["threads", "selector"])
def test_the_deadlines_of_a_server_do_not_begin_anew(driver: Any) -> None:
    class Ends(Echo):
        def __init__(self) -> None:
            self.ends: list[tuple[float, Exception | None]] = []

        def closed(self, peer: Any, error: Exception | None) -> None:
            self.ends.append((time.monotonic(), error))
            if len(self.ends) == 2:
                server.stop()

    service = Ends()
    server = driver.Server(LOCAL, RAW, service, frame_timeout=0.2, slow_reader_timeout=0.2)
    place = (server.address.host, server.address.port)
    begun = time.monotonic()
    with (
        storm(),
        storm_on_threads("framing "),
        socket.create_connection(place) as loris,
        socket.create_connection(place) as deaf,
    ):
        loris.sendall(b"\0\0")
        deaf.setblocking(False)
        requests = RAW.encode(bytes(100_000))

        def flood() -> None:
            with contextlib.suppress(ConnectionError):
                while len(service.ends) < 2:
                    with contextlib.suppress(BlockingIOError):
                        # Cut anywhere: the server has stopped to read by then.
                        deaf.send(requests)
                    time.sleep(0.001)

        with beside(flood):
            server.run()
    assert [type(error) for _, error in service.ends] == [Timeout, Timeout]
    assert all(0.15 < at - begun < 0.4 + LATE for at, _ in service.ends)


def test_connections_of_a_loop_are_made_although_it_is_interrupted() -> None:
    class Ask:
        replies: list[bytes]

        def __init__(self) -> None:
            self.replies = []

        def received(self, peer: Any, message: bytes) -> None:
            self.replies.append(message)
            loop.stop()

    ask = Ask()
    with selector.Server(LOCAL, RAW, Echo()) as loop, storm() as hits:
        loop.connect(("localhost", loop.address.port), RAW, ask).send(bytes(3_000_000))
        loop.run()
        while hits.count < 1:
            time.sleep(EVERY)
    assert ask.replies == [bytes(3_000_000)]


# ------------------------------------------------------------------------------------------- a loop of one's own


def test_a_loop_of_ones_own_is_interrupted_and_nothing_is_lost() -> None:
    ours, theirs = socket.socketpair()
    messages = [random.Random(size).randbytes(size) for size in (3_000_000, 10, 0, 1_000_000)]
    replies: list[bytes] = []

    def answer() -> None:
        with blocking.Connection(theirs, RAW, timeout=20) as connection:
            for message in connection:
                connection.send(message)

    with (
        storm() as hits,
        beside(answer),
        nonblocking.Connection(ours, RAW) as connection,
        selectors.DefaultSelector() as waiting,
    ):
        waiting.register(connection, connection.interest)
        connection.send_many(messages)
        while len(replies) < len(messages):
            waiting.modify(connection, connection.interest)
            for _, events in waiting.select(20):
                replies += connection.handle(events)
        waiting.unregister(connection)
    assert replies == messages
    assert hits.count > 0


# -------------------------------------------------------------------------------------------------- datagrams


def test_datagrams_are_waited_for_through_signals_and_no_longer_than_asked() -> None:
    with datagram.bind(LOCAL, RAW) as endpoint, storm() as hits:
        with kept_to(0.2):
            endpoint.receive(timeout=0.2)
        timer = threading.Timer(0.05, endpoint.send, (b"late", endpoint.address))
        timer.start()
        assert endpoint.receive(timeout=10).message == b"late"
        timer.join()
        assert hits.count > 20
