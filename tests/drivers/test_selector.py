"""The selector driver: servers, clients, timers and readers in one thread, on real sockets."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import selectors
import signal
import socket
import ssl
import struct
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framing import (
    JSON,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionRefused,
    ConnectionReset,
    CorruptFrame,
    DecodeError,
    FrameTooLarge,
    LengthPrefixed,
    Lines,
    Netstring,
    Text,
    Timeout,
    TruncatedFrame,
    Wire,
)
from framing.channel import Heartbeat
from framing.drivers import accepting, reactor
from framing.drivers.blocking import Connection, connect
from framing.drivers.selector import Loop, Server
from tests.drivers.beside import flooding

WIRE = Wire(LengthPrefixed(4), JSON())
RAW = Wire(LengthPrefixed(4))
LOCAL = ("127.0.0.1", 0)
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def descriptors() -> int:
    opened = Path("/proc/self/fd")
    return len(list(opened.iterdir())) if opened.exists() else 0


@pytest.fixture(autouse=True)
def _nothing_is_leaked() -> Iterator[None]:
    gc.collect()
    before = descriptors(), threading.active_count()
    yield
    end = time.monotonic() + 1
    while (descriptors(), threading.active_count()) != before and time.monotonic() < end:
        time.sleep(0.005)
    assert (descriptors(), threading.active_count()) == before


class Echo:
    """Sends back what it gets, and notes what happens."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.peers: list[Any] = []

    def opened(self, peer: Any) -> None:
        self.peers.append(peer)
        self.said.append("opened")

    def received(self, peer: Any, message: Any) -> None:
        self.said.append(message)
        peer.send(message)

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.said.append(("closed", type(error)))
        self.peers.remove(peer)


@contextlib.contextmanager
def running(service: Any, wire: Wire[Any] = WIRE, address: Any = LOCAL, **options: Any) -> Iterator[Server[Any]]:
    """A server that runs in a thread of its own until the end of the block."""
    with Server(address, wire, service, **options) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(8)
            assert not thread.is_alive()


def plain(server: Server[Any]) -> socket.socket:
    return socket.create_connection((server.address.host, server.address.port), timeout=2)


def until(condition: Callable[[], Any], seconds: float = 2.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def in_loop(loop: Loop, call: Callable[[], Any]) -> Any:
    """Call it in the loop's thread, and return what it returns."""
    answer: list[Any] = []
    loop.call_soon_threadsafe(lambda: answer.append(call()))
    until(lambda: answer)
    return answer[0]


# ----------------------------------------------------------------------------------------------- the service


SELECTORS = [
    getattr(selectors, name)
    for name in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector")
    if hasattr(selectors, name)
]


@pytest.mark.parametrize("kind", SELECTORS)
def test_a_service_runs_on_every_selector_which_stays_the_callers(kind: Any) -> None:
    service = Echo()
    with kind() as selector:
        with running(service, selector=selector) as server, connect(server.address, WIRE, timeout=2) as client:
            client.send_many([1, "two", {"three": 3}])
            assert [client.receive() for _ in range(3)] == [1, "two", {"three": 3}]
            assert server.connections == 1
        assert not selector.get_map()
    assert service.said == ["opened", 1, "two", {"three": 3}, ("closed", type(None))]


def test_a_unix_socket_is_served_and_its_file_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with running(Echo(), address=f"unix:{path}") as server, connect(server.address, WIRE, timeout=2) as client:
        client.send(1)
        assert client.receive() == 1
    assert not path.exists()


def test_what_is_sent_while_a_batch_is_handled_leaves_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    from framing.drivers.stream import Stream

    writes: list[int] = []
    real = Stream.write

    def write(self: Stream, buffers: Any) -> int:
        count = real(self, buffers)
        if threading.current_thread() is not threading.main_thread():
            writes.append(count)
        return count

    monkeypatch.setattr(Stream, "write", write)
    with running(Echo()) as server, plain(server) as peer:
        stream = WIRE.encode_many(range(200))
        peer.sendall(stream)
        got = b""
        while len(got) < len(stream):
            got += peer.recv(1 << 16)
        assert got == stream
    assert writes == [len(stream)]


def test_a_broadcast_reaches_all_and_is_encoded_once() -> None:
    encoded: list[Any] = []

    class Shout(Echo):
        def received(self, peer: Any, message: Any) -> None:
            encoded.append(message)
            frames = WIRE.encode(message)
            for other in self.peers:
                other.send_encoded(frames)

    with running(Shout()) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server.address, WIRE, timeout=2)) for _ in range(20)]
        for client in clients:
            client.send("hello")
        assert all([client.receive() for _ in range(20)] == ["hello"] * 20 for client in clients)
    assert len(encoded) == 20


@pytest.mark.parametrize("method", ["opened", "received", "closed"])
def test_a_service_that_raises_ends_that_connection_only_and_is_logged_with_its_peer(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(Echo):
        def opened(self, peer: Any) -> None:
            super().opened(peer)
            if method == "opened" and len(self.peers) == 2:
                raise ZeroDivisionError(method)

        def received(self, peer: Any, message: Any) -> None:
            super().received(peer, message)
            if method == "received" and message == "bad":
                raise ZeroDivisionError(method)

        def closed(self, peer: Any, error: Exception | None) -> None:
            super().closed(peer, error)
            if method == "closed" and self.peers:
                raise ZeroDivisionError(method)

    service = Picky()
    with running(service) as server, connect(server.address, WIRE, timeout=2) as good:
        good.send(1)
        assert good.receive() == 1
        with connect(server.address, WIRE, timeout=2) as bad:
            if method != "opened":
                bad.send("bad")
                assert bad.receive() == "bad"  # what was sent before it raised still leaves
                bad.close_sending()
            with pytest.raises(ConnectionClosed):
                bad.receive()
            until(lambda: len(service.peers) == 1)
        good.send(2)
        assert good.receive() == 2
        expected = type(None) if method == "closed" else ZeroDivisionError
        assert ("closed", expected) in service.said
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 1
    assert f"raised in {method}()" in logged[0].getMessage()
    assert "tcp://127.0.0.1:" in logged[0].getMessage()


def test_a_service_that_closes_gets_no_more_messages_and_its_replies_arrive() -> None:
    class Once(Echo):
        def received(self, peer: Any, message: Any) -> None:
            super().received(peer, message)
            peer.close()
            peer.send("too late: dropped")

    service = Once()
    with running(service) as server, plain(server) as peer:
        # Much more than is read: were the socket closed with it inside, the reset would destroy the reply.
        peer.sendall(WIRE.encode_many(["first", *["more"] * 20_000]))
        got = b""
        while chunk := peer.recv(1 << 16):
            got += chunk
        assert got == WIRE.encode("first")
        until(lambda: not service.peers)
    assert service.said == ["opened", "first", ("closed", type(None))]


def test_a_peer_that_goes_on_sending_is_not_reset_behind_the_last_reply() -> None:
    class Once(Echo):
        def received(self, peer: Any, message: Any) -> None:
            super().received(peer, message)
            peer.close()

    service = Once()
    with running(service) as server, plain(server) as peer:
        peer.sendall(WIRE.encode("first"))
        until(lambda: service.said[-1:] == [("closed", type(None))])
        for _ in range(10):
            peer.sendall(WIRE.encode("more") * 100)
            time.sleep(0.002)
        assert peer.recv(100) == WIRE.encode("first")
        assert peer.recv(100) == b""
        assert server.connections == 1  # still throwing away
        peer.close()
        until(lambda: server.connections == 0, 0.5)


def test_replies_still_go_out_behind_the_peers_end() -> None:
    with running(Echo()) as server, plain(server) as peer:
        stream = WIRE.encode_many([list(range(100))] * 2000)
        sender = threading.Thread(target=lambda: (peer.sendall(stream), peer.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b""
        while chunk := peer.recv(1 << 16):
            got += chunk
        sender.join()
        assert got == stream


# ------------------------------------------------------------------------------------------------- bad peers


CONVERSATION = WIRE.encode_many([[1], {"a": "b"}])
FIRST = len(WIRE.encode([1]))


@pytest.fixture(scope="module")
def echo_server() -> Iterator[tuple[Server[Any], Echo]]:
    service = Echo()
    with running(service) as server:
        yield server, service


@pytest.mark.parametrize("how", ["end", "half", "reset"])
@pytest.mark.parametrize("kept", range(len(CONVERSATION) + 1))
def test_a_conversation_cut_at_every_byte_harms_nobody_else(
    echo_server: tuple[Server[Any], Echo], how: str, kept: int
) -> None:
    server, service = echo_server
    service.said.clear()
    with plain(server) as peer:
        peer.sendall(CONVERSATION[:kept])
        whole = 0 if kept < FIRST else 1 if kept < len(CONVERSATION) else 2
        until(lambda: len(service.said) == 1 + whole)
        if how == "reset":
            # Its reply has been taken, so that the reset is met by reading, and not by a write that is under way.
            replies = (0, FIRST, len(CONVERSATION))[whole]
            while replies:
                replies -= len(peer.recv(replies))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            peer.shutdown(socket.SHUT_WR)
            got = b""
            while chunk := peer.recv(100):
                got += chunk
            assert got == CONVERSATION[: (0, FIRST, len(CONVERSATION))[whole]]
        peer.close()
    until(lambda: not service.peers)
    messages = [[1], {"a": "b"}][:whole]
    clean = kept in (0, FIRST, len(CONVERSATION))
    verdict = ConnectionReset if how == "reset" else type(None) if clean else TruncatedFrame
    if how == "end" and whole:
        # The reply may have met a socket that is closed already.
        assert service.said[-1] in (("closed", verdict), ("closed", ConnectionReset))
        assert service.said[:-1] == ["opened", *messages]
    else:
        assert service.said == ["opened", *messages, ("closed", verdict)]


@pytest.mark.parametrize(
    ("wire", "stream", "good", "error"),
    [
        (Wire(Netstring(), Text()), b"2:ab,oops", ["ab"], CorruptFrame),
        (WIRE, WIRE.encode(1) + b"GET / HTTP/1.1\r\n\r\n", [1], FrameTooLarge),
        (WIRE, WIRE.encode(1) + b"\0\0\0\1{" + WIRE.encode(2), [1], DecodeError),
    ],
)
def test_malformed_input_ends_the_connection_behind_what_was_good(
    wire: Wire[Any], stream: bytes, good: list[Any], error: type[Exception]
) -> None:
    service = Echo()
    with running(service, wire) as server, plain(server) as peer:
        peer.sendall(stream)
        got = b""
        while chunk := peer.recv(100):
            got += chunk
        assert got == wire.encode_many(good)
        until(lambda: not service.peers)
    assert service.said == ["opened", *good, ("closed", error)]


def test_a_failure_without_a_name_ends_that_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    class Hungry(JSON):
        __slots__ = ()

        def decode(self, payload: bytes) -> Any:
            if payload == b'"eat"':
                raise MemoryError
            return super().decode(payload)

    service = Echo()
    with running(service, Wire(LengthPrefixed(4), Hungry())) as server, plain(server) as peer:
        peer.sendall(WIRE.encode("eat"))
        assert peer.recv(10) == b""
        with connect(server.address, WIRE, timeout=2) as other:
            other.send(1)
            assert other.receive() == 1
    assert ("closed", MemoryError) in service.said
    assert any(record.exc_info for record in caplog.records)


# ------------------------------------------------------------------------------------------------ protection


def test_a_slow_loris_meets_the_frame_deadline() -> None:
    service = Echo()
    with running(service, frame_timeout=0.1) as server, plain(server) as peer:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in WIRE.encode("x" * 200):
                peer.sendall(bytes([byte]))
                time.sleep(0.01)
                if not service.peers and service.said:
                    break
        until(lambda: service.said == ["opened", ("closed", Timeout)])
        assert 0.09 < time.monotonic() - began < 0.5


def test_a_peer_that_talks_in_time_outlives_many_frame_deadlines() -> None:
    with running(Echo(), frame_timeout=0.05) as server, plain(server) as peer:
        frame = WIRE.encode("x" * 20)
        for _ in range(4):
            peer.sendall(frame[:5])
            time.sleep(0.03)
            peer.sendall(frame[5:])
            assert peer.recv(100) == frame
        time.sleep(0.12)
        peer.sendall(frame)
        assert peer.recv(100) == frame


def test_an_idle_peer_is_closed_and_a_busy_one_is_not() -> None:
    service = Echo()
    with running(service, idle_timeout=0.4) as server, plain(server) as idle, plain(server) as busy:
        while ("closed", Timeout) not in service.said:
            busy.sendall(WIRE.encode(1))
            assert busy.recv(100)
        assert idle.recv(1) == b""
        assert service.said.count(("closed", Timeout)) == 1
        assert len(service.peers) == 1


def test_a_peer_that_does_not_read_is_not_read_from_and_harms_nobody() -> None:
    service = Echo()
    with running(service, RAW, high_water=1 << 16) as server, plain(server) as greedy:
        greedy.settimeout(0.2)
        sent = 0
        frame = RAW.encode(b"x" * 10_000)
        with contextlib.suppress(TimeoutError):
            while sent < 200 << 20:
                sent += greedy.send(frame * 20)
        assert sent < 100 << 20
        peer = service.peers[0]
        assert peer.paused
        queued = in_loop(server, lambda: peer._connection.queued)
        assert queued <= (1 << 16) + len(frame)
        with connect(server.address, RAW, timeout=2) as other:
            other.send(b"and I?")
            assert other.receive() == b"and I?"
        # As soon as it reads, all goes on, and nothing was lost.
        got = 0
        greedy.settimeout(2)
        whole = sent // len(frame) * len(frame)
        while got < whole:
            got += len(greedy.recv(1 << 20))
        assert got == whole
        until(lambda: not peer.paused)


def test_a_small_request_for_large_replies_holds_one_reply_at_a_time() -> None:
    class Big(Echo):
        def received(self, peer: Any, message: Any) -> None:
            self.said.append(1)
            peer.send(b"x" * 1_000_000)

    service = Big()
    with running(service, RAW) as server, plain(server) as peer:
        peer.sendall(RAW.encode(b"") * 1000)
        until(lambda: service.peers and service.peers[0].paused)
        time.sleep(0.05)
        assert in_loop(server, lambda: service.peers[0]._connection.queued) <= 1_000_004 + (1 << 16)
        assert len(service.said) < 20
        got = 0
        while got < 50_000_000:
            got += len(peer.recv(1 << 20))
        assert len(service.said) >= 50


def test_a_slow_reader_is_closed_after_its_deadline() -> None:
    service = Echo()
    with running(service, RAW, slow_reader_timeout=0.1) as server, plain(server) as peer:
        peer.settimeout(10)
        with flooding(peer, RAW.encode(b"x" * 100_000)):
            until(lambda: ("closed", Timeout) in service.said, 10)
        assert not service.peers


def test_a_reader_that_only_drips_is_a_slow_one() -> None:
    service = Echo()
    with running(service, RAW, slow_reader_timeout=0.15) as server, plain(server) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(10)
        end = time.monotonic() + 10
        with flooding(peer, RAW.encode(b"x" * 100_000)), contextlib.suppress(OSError):
            while ("closed", Timeout) not in service.said and time.monotonic() < end:
                peer.recv(10)
                time.sleep(0.005)
        until(lambda: ("closed", Timeout) in service.said, 1)


def test_a_reader_slower_than_the_water_marks_allow_is_a_slow_one(tmp_path: Path) -> None:
    service = Echo()
    marks = {"high_water": 1 << 20, "low_water": 0, "max_queued": None}
    # A unix socket, for its buffers are small: what the peer takes is room for the server at once.
    address = f"unix:{tmp_path / 's'}"
    with (
        running(service, RAW, address, slow_reader_timeout=0.2, **marks) as server,
        socket.socket(socket.AF_UNIX) as peer,
    ):
        peer.connect(server.address.path)
        peer.settimeout(10)
        end = time.monotonic() + 10
        taken = 0
        with flooding(peer, RAW.encode(b"x" * 100_000)), contextlib.suppress(OSError):
            while ("closed", Timeout) not in service.said and time.monotonic() < end:
                taken += len(peer.recv(40_000))
                time.sleep(0.02)
        assert taken > 40_000
        until(lambda: ("closed", Timeout) in service.said, 1)


def test_a_reader_that_keeps_up_slowly_is_not_closed() -> None:
    service = Echo()
    with running(service, RAW, slow_reader_timeout=0.1) as server, plain(server) as peer:
        peer.sendall(RAW.encode(b"x" * 1_000_000))
        peer.sendall(RAW.encode(b"y" * 1_000_000))
        got = 0
        while got < 2_000_008:
            got += len(peer.recv(100_000))
            time.sleep(0.02)
        assert service.peers


def test_a_broadcast_does_not_pile_up_for_one_who_does_not_read() -> None:
    class Shout(Echo):
        def received(self, peer: Any, message: Any) -> None:
            for other in self.peers:
                other.send(message)

    service = Shout()
    with (
        running(service, RAW, max_queued=1 << 18) as server,
        plain(server) as deaf,
        connect(server.address, RAW, timeout=2) as loud,
    ):
        until(lambda: len(service.peers) == 2)
        for _ in range(300):
            loud.send(b"x" * 50_000)
            assert loud.receive() == b"x" * 50_000
            if len(service.peers) == 1:
                break
        assert service.said[-1] == ("closed", Timeout)
        assert deaf.fileno() >= 0


def test_above_max_connections_nobody_is_accepted_until_somebody_leaves() -> None:
    service = Echo()
    with running(service, max_connections=2) as server, plain(server) as one, plain(server) as two:
        until(lambda: server.connections == 2)
        with plain(server) as three:
            three.sendall(WIRE.encode(3))
            three.settimeout(0.1)
            with pytest.raises(TimeoutError):
                three.recv(10)
            assert server.connections == 2
            one.close()
            three.settimeout(2)
            assert three.recv(100) == WIRE.encode(3)
            assert server.connections == 2
        assert two.fileno() >= 0


def test_accept_survives_running_out_of_descriptors_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[float] = []
    real = socket.socket.accept

    def accept(self: socket.socket) -> Any:
        calls.append(time.monotonic())
        if len(calls) <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    monkeypatch.setattr("framing.drivers.selector.ACCEPT_PAUSE", 0.05)
    with running(Echo()) as server, connect(server.address, WIRE, timeout=2) as client:
        client.send(1)
        assert client.receive() == 1
    assert calls[1] - calls[0] > 0.04
    assert len(calls) <= 5  # it has not spun
    assert sum("accepts nobody" in record.getMessage() for record in caplog.records) == 2
    assert accepting.ACCEPT_PAUSE > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs resource limits, which Windows has not")
def test_real_descriptor_exhaustion_pauses_accepting_and_the_connections_go_on() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    service = Echo()
    with running(service) as server, connect(server.address, WIRE, timeout=2) as old:
        old.send(0)
        assert old.receive() == 0
        # Made while there is room; connected when there is none.
        waiting = [socket.socket() for _ in range(5)]
        hoard = [os.dup(0)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hoard[0] + 20, hard), hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    hoard.append(os.dup(0))
            for sock in waiting:
                sock.settimeout(2)
                sock.connect((server.address.host, server.address.port))
                sock.sendall(WIRE.encode("let me in"))
            time.sleep(0.05)
            old.send(1)
            assert old.receive() == 1
            assert server.connections == 1
        finally:
            for number in hoard:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in waiting:
            assert sock.recv(100) == WIRE.encode("let me in")
            sock.close()


def test_a_descriptor_that_select_cannot_take_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        selectors.SelectSelector() as selector,
        running(Echo(), selector=selector) as server,
        connect(server.address, WIRE, timeout=2) as client,
    ):
        client.send(1)
        assert client.receive() == 1
        monkeypatch.setattr(reactor, "SELECT_LIMIT", 3)
        with plain(server) as other, contextlib.suppress(ConnectionResetError):
            assert other.recv(1) == b""
        client.send(2)
        assert client.receive() == 2


# ------------------------------------------------------------------------------------------------------- TLS


def test_tls_serves_any_client_both_ways_at_once(contexts: Contexts) -> None:
    theirs, ours = contexts
    service = Echo()
    with running(service, RAW, ssl_context=theirs) as server:
        with Connection(ours.wrap_socket(plain(server), server_hostname="localhost"), RAW, timeout=2) as client:
            messages = [bytes([number]) * 50_000 for number in range(60)]
            sender = threading.Thread(target=client.send_many, args=(messages,))
            sender.start()
            assert [client.receive() for _ in messages] == messages
            sender.join()
        until(lambda: not service.peers)
    assert service.said[-1] == ("closed", type(None))


def test_the_tls_server_says_close_notify(contexts: Contexts) -> None:
    class Bye(Echo):
        def received(self, peer: Any, message: Any) -> None:
            peer.send(message)
            peer.close()

    theirs, ours = contexts
    with (
        running(Bye(), ssl_context=theirs) as server,
        plain(server) as sock,
        ours.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as secure,
    ):
        secure.sendall(WIRE.encode("bye"))
        assert secure.recv(100) == WIRE.encode("bye")
        assert secure.recv(100) == b""  # a ragged end would be an SSLEOFError


def test_whoever_does_not_shake_hands_is_never_opened(caplog: pytest.LogCaptureFixture, contexts: Contexts) -> None:
    caplog.set_level(logging.INFO)
    theirs, ours = contexts
    service = Echo()
    with (
        running(service, ssl_context=theirs, handshake_timeout=0.3) as server,
        plain(server) as silent,
        plain(server) as wrong,
    ):
        wrong.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        with contextlib.suppress(ConnectionResetError):
            while wrong.recv(100):
                pass
        assert silent.recv(1) == b""
        until(lambda: server.connections == 0)
    # A server of its own, with time: on a loaded machine an honest handshake may take as long as that.
    with running(service, ssl_context=theirs) as server:
        with plain(server) as sock, ours.wrap_socket(sock, server_hostname="localhost") as secure:
            secure.sendall(WIRE.encode(1))
            assert secure.recv(100) == WIRE.encode(1)
            secure.unwrap().close()
        until(lambda: not service.peers)
    assert service.said == ["opened", 1, ("closed", type(None))]
    assert any("not done in 0.3 s" in record.getMessage() for record in caplog.records)


# --------------------------------------------------------------------------------------------------- clients


class Collect:
    """A client that notes what happens."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def opened(self, peer: Any) -> None:
        self.said.append("opened")

    def received(self, peer: Any, message: Any) -> None:
        self.said.append(message)

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.said.append(("closed", type(error)))


def test_a_stream_that_tls_did_not_end_was_cut(contexts: Contexts) -> None:
    theirs, ours = contexts
    service = Echo()
    with (
        running(service, address="tls://127.0.0.1:0", ssl_context=theirs) as server,
        plain(server) as sock,
        ours.wrap_socket(sock, server_hostname="localhost") as secure,
    ):
        secure.sendall(WIRE.encode(1))
        assert secure.recv(100) == WIRE.encode(1)
        assert server.address.scheme == service.peers[0].address.scheme == "tls"
        socket.socket.shutdown(secure, socket.SHUT_WR)
        until(lambda: not service.peers)
    assert service.said == ["opened", 1, ("closed", ConnectionReset)]


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_client_lives_in_the_servers_own_thread(host: str, secure: bool, contexts: Contexts) -> None:
    theirs, ours = contexts if secure else (None, None)
    client = Collect()
    with Server(LOCAL, WIRE, Echo(), ssl_context=theirs) as server:
        peer = server.connect(
            (host, server.address.port), WIRE, client, ssl_context=ours, server_hostname="localhost" if secure else None
        )
        peer.send_many(["sent", "before", "there is", "a connection"])
        server.call_later(0.15, peer.close)
        server.call_later(0.25, server.stop)
        server.run()
    assert client.said == ["opened", "sent", "before", "there is", "a connection", ("closed", type(None))]


def test_a_client_may_send_much_before_it_reads() -> None:
    client = Collect()
    with Server(LOCAL, RAW, Echo()) as server:
        peer = server.connect(server.address, RAW, client)
        peer.send_many([b"x" * 100_000] * 80)

        def look() -> None:
            if client.said.count(b"x" * 100_000) == 80:
                server.stop()
            else:
                server.call_later(0.01, look)

        look()
        server.call_later(5, server.stop)
        server.run()
    assert len(client.said) == 82


def test_nobody_at_the_address_is_told_to_closed_alone() -> None:
    said: list[Any] = []

    class Told(Collect):
        def closed(self, peer: Any, error: Exception | None) -> None:
            said.append((peer, error))
            loop.stop()

    service = Told()
    with Loop() as loop, socket.socket() as closed:
        closed.bind(LOCAL)  # which holds the port, so that nobody else listens there
        port = closed.getsockname()[1]
        peer = loop.connect(("127.0.0.1", port), WIRE, service)
        loop.run()
    assert service.said == []
    assert said[0][0] is peer
    error = said[0][1]
    assert isinstance(error, ConnectionRefused)
    assert isinstance(error, ConnectionRefusedError)
    assert f"tcp://127.0.0.1:{port}" in str(error)
    peer.send("dropped without a word")
    peer.close()


def test_every_address_of_a_name_is_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Echo()
    client = Collect()
    with Server(LOCAL, WIRE, service) as server, socket.socket() as closed:
        closed.bind(LOCAL)
        port, good = closed.getsockname()[1], server.address.port

        def lookup(*_: Any, **__: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (port, good)]

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        server.connect(("two.example", good), WIRE, client).send("found")
        server.call_later(0.2, server.stop)
        server.run()
    assert client.said == ["opened", "found", ("closed", type(None))]


def test_a_name_that_is_not_found_and_one_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, *_: Any, **__: Any) -> list[Any]:
        if host == "slow.example":
            time.sleep(0.3)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    missing, slow = Collect(), Collect()
    with Loop() as loop:
        loop.connect(("no.example", 1), WIRE, missing)
        loop.connect(("slow.example", 1), WIRE, slow, timeout=0.05)
        loop.call_later(0.15, loop.stop)
        began = time.monotonic()
        loop.run()
        assert time.monotonic() - began < 0.25
    assert missing.said == [("closed", ConnectionFailed)]
    assert slow.said == [("closed", Timeout)]


def test_a_certificate_for_another_name_is_refused(contexts: Contexts) -> None:
    theirs, ours = contexts
    client, service = Collect(), Echo()
    with Server(LOCAL, WIRE, service, ssl_context=theirs) as server:
        server.connect(server.address, WIRE, client, ssl_context=ours, server_hostname="other.example")
        server.call_later(0.15, server.stop)
        server.run()
    assert client.said == [("closed", ConnectionFailed)]
    assert "opened" not in client.said


def test_addresses_that_cannot_be_are_told_at_once() -> None:
    with Loop() as loop:
        with pytest.raises(ValueError, match="datagrams"):
            loop.connect("udp://127.0.0.1:1", WIRE, Collect())
        with pytest.raises(ValueError, match="server_hostname is for TLS"):
            loop.connect("tcp://127.0.0.1:1", WIRE, Collect(), server_hostname="x")
    with pytest.raises(ValueError, match="needs a certificate"):
        Server("tls://127.0.0.1:0", WIRE, Echo())


# ------------------------------------------------------------------------------------------------- heartbeats


BEAT: Heartbeat[Any] = Heartbeat({"ping": 1}, {"pong": 1}, interval=0.05)


def test_heartbeats_keep_two_quiet_peers_informed_and_reach_no_service() -> None:
    service, client = Echo(), Collect()
    with Server(LOCAL, WIRE, service, heartbeat=BEAT) as server:
        server.connect(server.address, WIRE, client, heartbeat=BEAT, keep_alive=True)
        server.call_later(0.4, server.stop)
        server.run()
    assert service.said == ["opened", ("closed", type(None))]
    assert client.said == ["opened", ("closed", type(None))]


def test_a_peer_that_is_gone_without_a_word_is_found() -> None:
    service = Echo()
    with running(service, heartbeat=BEAT, keep_alive=True) as server, plain(server) as peer:
        assert peer.recv(100) == WIRE.encode(BEAT.ping)
        began = time.monotonic()
        until(lambda: ("closed", Timeout) in service.said)
        assert time.monotonic() - began < 0.3


def test_a_ping_is_answered_at_once() -> None:
    with running(Echo(), heartbeat=Heartbeat("ping", "pong", interval=60)) as server, plain(server) as peer:
        peer.sendall(WIRE.encode_many(["ping", 1]))
        got = b""
        while len(got) < len(WIRE.encode_many(["pong", 1])):
            got += peer.recv(100)
        assert got == WIRE.encode_many(["pong", 1])
        peer.sendall(WIRE.encode("ping"))
        assert peer.recv(100) == WIRE.encode("pong")


# ---------------------------------------------------------------------------------------- the loop's other work


def test_timers_are_called_in_order_and_once_unless_cancelled() -> None:
    said: list[int] = []
    with Loop() as loop:
        for number in (3, 1, 2):
            loop.call_later(number / 50, lambda number=number: said.append(number))
        cancelled = loop.call_later(0.01, lambda: said.append(99))
        cancelled.cancel()
        cancelled.cancel()
        loop.call_later(0.1, loop.stop)
        began = time.monotonic()
        loop.run()
        assert 0.09 < time.monotonic() - began < 0.3
    assert said == [1, 2, 3]
    with pytest.raises(ValueError, match="0 or more"):
        loop.call_later(-1, loop.stop)


def test_cancelled_timers_do_not_pile_up() -> None:
    with Loop() as loop:
        keep = loop.call_later(3600, loop.stop)
        for _ in range(10_000):
            loop.call_later(3600, loop.stop).cancel()
        assert len(loop._reactor._timers) < 300
        assert any(timer is keep for timer in loop._reactor._timers)


def test_a_timer_of_no_seconds_that_sets_itself_again_starves_nobody() -> None:
    with running(Echo()) as server:

        def again() -> None:
            server.call_later(0, again)

        in_loop(server, again)
        with connect(server.address, WIRE, timeout=2) as client:
            client.send(1)
            assert client.receive() == 1


def test_a_timer_that_is_due_in_the_very_moment_it_is_set_waits_for_the_next_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    with Loop() as loop:
        # A coarse clock: it does not move while the timers are called.
        now = time.monotonic()
        monkeypatch.setattr(reactor, "time", types.SimpleNamespace(monotonic=lambda: now))
        loop.call_later(0, lambda: said.append("first") or loop.call_later(0, lambda: said.append("second")))
        loop._reactor.round()
        assert said == ["first"]
        loop._reactor.round()
        assert said == ["first", "second"]


def test_a_callback_that_raises_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with running(Echo()) as server, connect(server.address, WIRE, timeout=2) as client:
        server.call_soon_threadsafe(lambda: 1 // 0)
        in_loop(server, lambda: server.call_later(0, lambda: 1 // 0))
        client.send(1)
        assert client.receive() == 1
    assert sum(record.exc_info is not None for record in caplog.records) == 2


def test_standard_input_is_read_beside_sockets() -> None:
    reading, writing = os.pipe()
    client = Collect()
    typed = Wire(Lines(), Text()).decoder()
    with Server(LOCAL, WIRE, Echo()) as server:
        peer = server.connect(server.address, WIRE, client)

        def read() -> None:
            chunk = os.read(reading, 4096)
            if not chunk:
                server.remove_reader(reading)
                server.call_later(0.05, server.stop)
            for line in typed.feed(chunk):
                peer.send(line)

        server.add_reader(reading, read)
        with pytest.raises(ValueError, match="remove_reader"):
            server.add_reader(reading, read)
        server.call_later(0.02, lambda: os.write(writing, b"hello\nwor"))
        server.call_later(0.04, lambda: os.write(writing, b"ld\n"))
        server.call_later(0.06, lambda: os.close(writing))
        server.run()
    os.close(reading)
    assert client.said == ["opened", "hello", "world", ("closed", type(None))]


@pytest.mark.parametrize("kind", SELECTORS)
def test_a_file_in_place_of_standard_input_is_read_too(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "typed"
    path.write_bytes(b"one\ntwo\n" * 10)
    got = bytearray()
    with kind() as selector, path.open("rb") as file, Loop(selector=selector) as loop:

        def read() -> None:
            chunk = os.read(file.fileno(), 16)
            got.extend(chunk)
            if not chunk:
                assert loop.remove_reader(file)
                assert not loop.remove_reader(file)
                loop.stop()

        loop.add_reader(file, read)
        loop.run()
    assert bytes(got) == path.read_bytes()


def test_a_reader_that_raises_is_logged_and_removed(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Loop() as loop:
        theirs.send(b"x")
        loop.add_reader(ours, lambda: 1 // 0)
        loop.call_later(0.05, loop.stop)
        loop.run()
        assert not loop.remove_reader(ours)
    assert sum("reader" in record.getMessage() for record in caplog.records) == 1


def test_any_thread_may_send_and_frames_never_interleave() -> None:
    service = Echo()
    with running(service, RAW) as server, connect(server.address, RAW, timeout=2) as client:
        until(lambda: service.peers)
        peer = service.peers[0]
        threads = [
            threading.Thread(target=lambda n=number: [peer.send(bytes([n]) * (50 * n + 1)) for _ in range(300)])
            for number in range(6)
        ]
        for thread in threads:
            thread.start()
        got = [client.receive() for _ in range(1800)]
        for thread in threads:
            thread.join()
        assert all(set(message) == {message[0]} and len(message) == 50 * message[0] + 1 for message in got)
        assert [sum(message[0] == number for message in got) for number in range(6)] == [300] * 6
        threading.Thread(target=peer.close).start()
        with pytest.raises(ConnectionClosed):
            client.receive()


# ------------------------------------------------------------------------------------------------------- ends


def test_stop_drains_what_is_queued_and_returns() -> None:
    service = Echo()
    stream = RAW.encode(b"x" * 500_000) * 60
    with running(service, RAW) as server, plain(server) as peer:

        def ask() -> None:
            with contextlib.suppress(OSError):
                peer.sendall(stream)

        sender = threading.Thread(target=ask)
        sender.start()
        until(lambda: service.peers and service.peers[0].paused)
        server.stop()
        got = 0
        while chunk := peer.recv(1 << 16):
            got += len(chunk)
        handled = sum(isinstance(item, bytes) for item in service.said)
        assert got == handled * 500_004
        assert handled
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert service.said[-1] == ("closed", type(None))


def test_draining_is_bounded_when_a_peer_does_not_read() -> None:
    service = Echo()
    with running(service, RAW, drain_timeout=0.1) as server, plain(server) as peer:
        peer.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while True:
                peer.sendall(RAW.encode(b"x" * 100_000))
        began = time.monotonic()
        server.stop()
        server.close()
        assert time.monotonic() - began < 0.5
    assert service.said[-1] == ("closed", ConnectionClosed)


def test_stop_refuses_new_connections_at_once_and_a_second_run_says_so() -> None:
    with running(Echo()) as server:
        address = server.address
        server.stop()
        until(lambda: server._running.ended)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address.host, address.port), timeout=1)
    with pytest.raises(ConnectionClosed):
        server.run()
    server.close()
    server.stop()


def test_stop_from_a_signal_handler() -> None:
    service = Echo()
    before = signal.getsignal(signal.SIGALRM)
    try:
        with Server(LOCAL, WIRE, service) as server:
            signal.signal(signal.SIGALRM, lambda *_: server.stop())
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            began = time.monotonic()
            server.run()
            assert 0.04 < time.monotonic() - began < 0.5
    finally:
        signal.signal(signal.SIGALRM, before)


def test_control_c_drains_and_is_raised() -> None:
    service = Echo()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Server(LOCAL, WIRE, service) as server, plain(server) as peer:
            peer.sendall(WIRE.encode("before"))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                server.run()
            assert peer.recv(100) == WIRE.encode("before")
            assert peer.recv(100) == b""
    finally:
        signal.signal(signal.SIGALRM, before)
    assert service.said == ["opened", "before", ("closed", type(None))]


def test_stop_from_inside_the_service() -> None:
    class Last(Echo):
        def received(self, peer: Any, message: Any) -> None:
            super().received(peer, message)
            server.close()

    with Server(LOCAL, WIRE, Last()) as server, plain(server) as peer:
        peer.sendall(WIRE.encode("stop"))
        server.run()
        assert peer.recv(100) == WIRE.encode("stop")
        assert peer.recv(100) == b""


def test_a_server_that_never_ran_gives_all_back() -> None:
    before = descriptors()
    with Server(LOCAL, WIRE, Echo()) as server:
        assert server.address.port
    assert descriptors() == before


@pytest.mark.parametrize(
    "options",
    [
        {"max_connections": 0},
        {"frame_timeout": 0},
        {"low_water": 2, "high_water": 1},
        {"max_queued": 1},
        {"drain_timeout": -1},
        {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
    ],
)
def test_wrong_options_are_told_before_anything_is_opened(options: dict[str, Any]) -> None:
    before = descriptors()
    with pytest.raises(ValueError, match=next(iter(options))):
        Server(LOCAL, WIRE, Echo(), **options)
    assert descriptors() == before


def test_an_address_in_use_leaves_nothing_open() -> None:
    before = descriptors()
    with Server(LOCAL, WIRE, Echo()) as server, pytest.raises(ConnectionFailed, match="something listens there"):
        Server(server.address, WIRE, Echo())
    with selectors.DefaultSelector() as selector, socket.socket() as other:
        selector.register(other, selectors.EVENT_READ)
        with pytest.raises(ValueError, match="nobody else"):
            Loop(selector=selector)
    assert descriptors() == before


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system does not share ports")
def test_several_servers_share_a_port_where_they_are_told_to() -> None:
    with Server(LOCAL, WIRE, Echo(), reuse_port=True) as one, Server(one.address, WIRE, Echo(), reuse_port=True) as two:
        assert two.address == one.address


# ------------------------------------------------------------------------------------------------------- many


def test_a_thousand_idle_connections_cost_the_active_ones_nothing() -> None:
    service = Echo()
    with running(service, idle_timeout=30) as server:
        crowd = [plain(server) for _ in range(1000)]
        try:
            # The server's thread counts a connection before it sets its timer: wait for the last of both.
            until(lambda: server.connections == 1000 and len(server._reactor._timers) == 1000, 5)
            active = crowd[::100]
            timers = len(server._reactor._timers)
            for number in range(50):
                for peer in active:
                    peer.sendall(WIRE.encode(number))
                for peer in active:
                    assert peer.recv(100) == WIRE.encode(number)
            # One entry a connection, however much is said on it.
            assert len(server._reactor._timers) == timers == 1000
        finally:
            for peer in crowd:
                peer.close()
        until(lambda: server.connections == 0)


def test_a_server_that_is_full_sleeps_while_others_wait_to_be_accepted() -> None:
    class Counting(selectors.DefaultSelector):
        waits = 0

        def select(self, timeout: float | None = None) -> Any:
            self.waits += 1
            return super().select(timeout)

    with (
        Counting() as selector,
        running(Echo(), selector=selector, max_connections=1) as server,
        connect(server.address, WIRE, timeout=2) as first,
        connect(server.address, WIRE, timeout=2) as second,
    ):
        first.send(1)
        assert first.receive() == 1
        second.send(2)
        before = selector.waits
        with pytest.raises(Timeout):
            second.receive(timeout=0.3)
        assert selector.waits - before < 20
        first.close()
        assert second.receive() == 2


def test_connections_that_a_server_has_made_itself_do_not_count() -> None:
    quiet = Echo()
    with running(Echo()) as server, running(Echo()) as other:
        with connect(server.address, WIRE, timeout=2) as client:
            client.send(1)
            assert client.receive() == 1
            in_loop(server, lambda: server.connect(other.address, WIRE, quiet))
            until(lambda: other.connections == 1)
            assert server.connections == 1
            other.stop()
            until(lambda: len(quiet.said) == 2)  # opened, and closed
            client.send(2)
            assert client.receive() == 2
            assert server.connections == 1
        until(lambda: server.connections == 0)
