"""Connections of the selector server that end badly: the others go on, the server stops, and the service is told once."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from framing import ConnectionRefused, LengthPrefixed, Timeout, Wire
from framing.drivers import selector
from tests.drivers.beside import Run
from tests.drivers.every.registry import SECONDS

RAW = Wire(LengthPrefixed(4))
LOCAL = ("127.0.0.1", 0)
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


class House(Run):
    """A server's run, and who comes to it."""

    def __init__(self, service: Any, wire: Wire[Any] = RAW, **options: Any) -> None:
        super().__init__(selector.Server(LOCAL, wire, service, **options))

    def visit(self) -> socket.socket:
        sock = socket.create_connection((self.server.address.host, self.server.address.port))
        sock.settimeout(10)
        return sock

    def end(self) -> None:
        self.server.stop()
        self.over()


@contextlib.contextmanager
def running(service: Any, wire: Wire[Any] = RAW, **options: Any) -> Iterator[House]:
    house = House(service, wire, drain_timeout=0.5, **options)
    try:
        yield house
    finally:
        house.end()
        house.server.close()


def frame(*payloads: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)


def ask(sock: socket.socket, payload: bytes = b"are you there?") -> bytes:
    sock.sendall(frame(payload))
    with contextlib.suppress(TimeoutError):
        reply = sock.recv(4)
        return sock.recv(int.from_bytes(reply)) if reply else b""
    return b""


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Echo:
    def __init__(self) -> None:
        self.ends: list[Exception | None] = []

    def received(self, peer: Any, message: bytes) -> None:
        peer.send(message)

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.ends.append(error)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="holds descriptors by number, as Linux gives them")
def test_a_number_given_back_by_a_tls_that_failed_may_be_the_next_ones(contexts: Contexts) -> None:
    """One asks for TLS and resets; another connects in the same round, and gets the descriptor that was freed in it."""
    asked, gone = threading.Event(), threading.Event()

    class Upgrading(Echo):
        def received(self, peer: Any, message: bytes) -> None:
            peer.send(message)
            if message == b"TLS":
                peer.start_tls(contexts[0])
                asked.set()
                gone.wait(10)

    with running(Upgrading()) as house:
        bystander = house.visit()
        assert ask(bystander) == b"are you there?"
        for _ in range(10):
            asked.clear(), gone.clear()
            first, second = house.visit(), socket.socket()
            first.sendall(frame(b"TLS"))
            assert asked.wait(10)
            # Its own number stays taken, so that the server's is the only one that is free.
            number = first.fileno()
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            keeper = os.open(os.devnull, os.O_RDONLY)
            os.dup2(keeper, number)
            second.settimeout(10)
            second.connect((house.server.address.host, house.server.address.port))
            gone.set()
            assert ask(second) == b"are you there?"
            second.close(), os.close(keeper), first.close()
        assert ask(bystander) == b"are you there?"
        bystander.close()
    assert house.raised is None


@pytest.mark.parametrize("where", ["opened", "received", "closed"])
@pytest.mark.parametrize("sending", [False, True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_service_ends_the_server_in_order_and_is_raised(
    where: str, kind: type[BaseException], *, sending: bool
) -> None:
    calls: list[str] = []

    class Interrupted:
        def _call(self, name: str, peer: Any) -> None:
            calls.append(name)
            if sending and name != "closed":
                peer.send(b"x")
            if calls.count(where) == 1 and name == where:
                raise kind

        def opened(self, peer: Any) -> None:
            self._call("opened", peer)

        def received(self, peer: Any, message: bytes) -> None:
            self._call("received", peer)

        def closed(self, peer: Any, error: Exception | None) -> None:
            self._call("closed", peer)

    house = House(Interrupted(), drain_timeout=2 * SECONDS)
    sock = house.visit()
    sock.sendall(frame(b"a", b"b", b"c"))
    sock.shutdown(socket.SHUT_WR)
    assert type(house.over()) is kind  # and long before its time for draining is over
    assert calls[0] == "opened"
    assert calls[-1] == "closed"
    assert calls.count("closed") == 1
    if where == "received":
        assert calls.count("received") == 3  # what was received with it is handled
    sock.close()
    house.server.close()


def test_a_client_is_told_once_that_there_is_no_connection_also_where_that_is_interrupted() -> None:
    with socket.create_server(LOCAL) as nobody:
        target = nobody.getsockname()
    told: list[Exception | None] = []

    class Interrupted:
        def received(self, peer: Any, message: bytes) -> None: ...

        def closed(self, peer: Any, error: Exception | None) -> None:
            told.append(error)
            raise KeyboardInterrupt

    with selector.Loop() as loop:
        loop.connect(target, RAW, Interrupted())
        with pytest.raises(KeyboardInterrupt):
            loop.run()
    assert [type(error) for error in told] == [ConnectionRefused]


def test_the_limit_of_what_waits_for_a_peer_holds_within_one_turn() -> None:
    """One stranger's many small messages make the service send a lot to another, who does not read."""
    most: list[int] = []
    ends: list[Exception | None] = []

    class Relaying:
        deaf: Any = None

        def opened(self, peer: Any) -> None:
            self.deaf = self.deaf or peer

        def received(self, peer: Any, message: bytes) -> None:
            self.deaf.send(os.urandom(50_000))
            connection = self.deaf._connection
            most.append(0 if connection is None else connection.queued)

        def closed(self, peer: Any, error: Exception | None) -> None:
            if peer is self.deaf:
                ends.append(error)

    with running(Relaying(), max_queued=1 << 20, high_water=1 << 16) as house:
        deaf, talker = house.visit(), house.visit()
        talker.sendall(frame(*[b"go"] * 2000))
        end = time.monotonic() + 10
        while not ends and time.monotonic() < end:
            time.sleep(0.01)
        assert [type(error) for error in ends] == [Timeout]
        assert max(most) <= (1 << 20) + 2 * 50_004
        deaf.close(), talker.close()


@dataclass(frozen=True)
class Faithless(LengthPrefixed):
    """Says that it can join any payloads, and cannot."""

    def joiner(self) -> tuple[Callable[[list[bytes]], bytes | None], int]:
        def join(payloads: list[bytes]) -> bytes:
            if b"boom" in payloads:
                raise MemoryError
            return frame(*payloads)

        return join, self.max_frame


def test_what_cannot_be_framed_ends_its_own_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    service = Echo()
    with running(service, Wire(Faithless(4))) as house, caplog.at_level(logging.ERROR, "framing"):
        bystander, culprit = house.visit(), house.visit()
        assert ask(bystander) == b"are you there?"
        assert ask(culprit, b"boom") == b""
        assert [type(error) for error in service.ends] == [MemoryError]
        assert ask(bystander) == b"are you there?"
        bystander.close(), culprit.close()
    assert house.raised is None
    assert "sending failed" in caplog.text


def test_a_readers_descriptor_that_was_closed_behind_the_loops_back_may_be_the_next_ones() -> None:
    ours, theirs = socket.socketpair()
    with running(Echo()) as house:
        done = threading.Event()

        def register() -> None:
            house.server.add_reader(ours, lambda: None)
            ours.close()
            done.set()

        house.server.call_soon_threadsafe(register)
        assert done.wait(10)
        visitors = [house.visit() for _ in range(3)]
        assert [ask(visitor) for visitor in visitors] == [b"are you there?"] * 3
        for visitor in visitors:
            visitor.close()
    theirs.close()
    assert house.raised is None


def test_one_descriptor_has_one_reader() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, selector.Loop() as loop:
        loop.add_reader(ours, lambda: None)
        for again in (ours, ours.fileno()):
            with pytest.raises(ValueError, match="has a reader"):
                loop.add_reader(again, lambda: None)


def test_what_another_thread_sends_late_in_a_round_and_then_stops_arrives() -> None:
    """Late: when the calls that other threads asked for are taken already, and the round is about to end."""
    busy, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        busy.set()
        assert go_on.wait(10)

    peers: list[Any] = []

    class Answering(Echo):
        def received(self, peer: Any, message: Any) -> None:
            peers.append(peer)
            super().received(peer, message)

    with running(Answering()) as house, house.visit() as sock:
        assert ask(sock) == b"are you there?"
        house.server.call_soon_threadsafe(wait)
        assert busy.wait(10)
        peers[0].send(b"the last words")
        house.server.stop()
        go_on.set()
        assert sock.recv(100) == frame(b"the last words")
        assert sock.recv(100) == b""
