"""`start_tls` in mid-stream: every server driver with every client driver, the attack on it, and each way to fail."""

# ruff: noqa: SIM117 # the server's block around its clients' reads as what it is

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from framing import (
    ConnectionClosed,
    ConnectionFailed,
    ConnectionReset,
    CorruptFrame,
    FramingError,
    LengthPrefixed,
    Lines,
    Text,
    Timeout,
    Wire,
)
from framing.drivers import aio, blocking, nonblocking, selector
from framing.drivers.address import Address
from framing.drivers.service import UpgradablePeer

LINES = Wire(Lines(), Text())
RAW = Wire(LengthPrefixed(4, max_frame=1 << 24))
LOCAL = ("127.0.0.1", 0)
SECONDS = 10.0
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
LOOPS = ["asyncio", "uvloop"] if HAS_UVLOOP else ["asyncio"]


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    return importlib.import_module("uvloop").new_event_loop() if kind == "uvloop" else asyncio.SelectorEventLoop()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = threading.active_count()
    yield
    until(lambda: threading.active_count() == before)


# ------------------------------------------------------------------------------------------------- servers


@contextlib.contextmanager
def running(server: Any, run: Callable[[], object]) -> Iterator[Any]:
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert not failures, failures


@contextlib.contextmanager
def serving(kind: str, service: Any, wire: Wire[Any] = LINES, **options: Any) -> Iterator[Any]:
    """A server of this driver, in a thread of its own; the loop of asyncio may have no reason to complain."""
    if kind in ("threads", "selector"):
        server: Any = (blocking if kind == "threads" else selector).Server(LOCAL, wire, service, **options)
        with running(server, server.run):
            yield server
        return
    server = aio.serve(LOCAL, wire, service, **options)
    listens = threading.Event()
    complaints: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with server:
            listens.set()
            await server.run()

    def run() -> None:
        with asyncio.Runner(loop_factory=partial(new_loop, kind)) as runner:
            runner.run(main())

    with running(server, run):
        assert listens.wait(SECONDS)
        yield server
    assert not complaints, complaints


class Upgrading:
    """Answers in capitals, and speaks TLS from STARTTLS on."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.got: list[str] = []
        self.ends: list[Exception | None] = []
        self.raised: list[Exception] = []
        self.peer: Any = None

    def opened(self, peer: Any) -> None:
        self.peer = peer

    def received(self, peer: Any, message: str) -> None:
        self.got.append(message)
        if message == "STARTTLS":
            peer.send("go ahead")
            assert isinstance(peer, UpgradablePeer)
            try:
                peer.start_tls(self.context)
            except Exception as error:
                self.raised.append(error)
                raise
            peer.send("welcome")
        else:
            peer.send(message.upper())

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.ends.append(error)


# ------------------------------------------------------------------------------------------------- clients


class BlockingClient:
    """What a conversation needs of a client; the others have the same methods."""

    def __init__(self, address: Any, wire: Wire[Any] = LINES, timeout: float = SECONDS) -> None:
        self.timeout = timeout
        self.connection = blocking.connect(address, wire, timeout=SECONDS)

    def send(self, message: Any) -> None:
        self.connection.send(message)

    def receive(self) -> Any:
        return self.connection.receive()

    def upgrade(self, request: Any, context: ssl.SSLContext, server_hostname: str | None = None) -> Any:
        """Ask for TLS, and begin it behind the answer, which is returned."""
        self.connection.send(request)
        answer = self.connection.receive()
        self.connection.start_tls(context, server_hostname=server_hostname, timeout=self.timeout)
        return answer

    def echo(self, messages: list[Any]) -> list[Any]:
        """Send all, and receive as many at the same time."""
        sender = threading.Thread(target=self.connection.send_many, args=(messages,))
        sender.start()
        got = [self.connection.receive() for _ in messages]
        sender.join()
        return got

    def close(self) -> None:
        self.connection.close()


class NonblockingClient:
    def __init__(self, address: Any, wire: Wire[Any] = LINES, timeout: float = SECONDS) -> None:
        where = Address.parse(address)
        sock = socket.create_connection((where.host, where.port))
        self.connection = nonblocking.Connection(sock, wire, address=where, handshake_timeout=timeout)
        self.got: list[Any] = []

    def turn(self, *, singly: bool = False) -> None:
        connection = self.connection
        end = time.monotonic() + SECONDS
        with selectors.DefaultSelector() as waiting:
            deadline = 0.0  # nothing to wait for: the call tells how it ended
            if connection.interest:
                waiting.register(connection, connection.interest)
                deadline = min(end, connection.deadline or end)
            ready = waiting.select(max(deadline - time.monotonic(), 0))
        self.got += connection.handle(ready[0][1] if ready else selectors.EVENT_READ, limit=1 if singly else 0)
        if not ready:
            connection.expire()
            assert time.monotonic() < end

    def send(self, message: Any) -> None:
        self.connection.send(message)

    def receive(self, *, singly: bool = False) -> Any:
        while not self.got:
            self.turn(singly=singly)
        return self.got.pop(0)

    def upgrade(self, request: Any, context: ssl.SSLContext, server_hostname: str | None = None) -> Any:
        self.connection.send(request)
        answer = self.receive(singly=True)
        self.connection.start_tls(context, server_hostname=server_hostname)
        assert self.connection.handshaking
        while self.connection.handshaking:
            self.turn()
        return answer

    def echo(self, messages: list[Any]) -> list[Any]:
        self.connection.send_many(messages)
        return [self.receive() for _ in messages]

    def close(self) -> None:
        self.connection.close()


class SelectorClient:
    def __init__(self, address: Any, wire: Wire[Any] = LINES, timeout: float = SECONDS) -> None:
        self.said: queue.Queue[Any] = queue.Queue()
        self.upgrading: Callable[[Any], object] | None = None
        self.loop = selector.Loop()
        self.peer = self.loop.connect(address, wire, self, timeout=timeout)
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def received(self, peer: Any, message: Any) -> None:
        self.said.put(message)
        if self.upgrading is not None:
            upgrade, self.upgrading = self.upgrading, None
            upgrade(peer)

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.said.put(error or ConnectionClosed("a clean end"))

    def send(self, message: Any) -> None:
        self.peer.send(message)

    def receive(self) -> Any:
        said = self.said.get(timeout=SECONDS)
        if isinstance(said, Exception):
            self.said.put(said)
            raise said
        return said

    def upgrade(self, request: Any, context: ssl.SSLContext, server_hostname: str | None = None) -> Any:
        self.upgrading = lambda peer: peer.start_tls(context, server_hostname=server_hostname)
        self.peer.send(request)
        return self.receive()

    def echo(self, messages: list[Any]) -> list[Any]:
        self.peer.send_many(messages)
        return [self.receive() for _ in messages]

    def close(self) -> None:
        self.loop.close()
        self.thread.join(SECONDS)


class AioClient:
    def __init__(self, kind: str, address: Any, wire: Wire[Any] = LINES, timeout: float = SECONDS) -> None:
        self.timeout = timeout
        self.complaints: list[Any] = []
        self.runner = asyncio.Runner(loop_factory=partial(new_loop, kind))
        loop = self.runner.get_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.connection: aio.Connection[Any] = self.run(aio.connect(address, wire))

    def run(self, waited: Any) -> Any:
        async def main() -> Any:
            async with asyncio.timeout(SECONDS):
                return await waited

        return self.runner.run(main())

    def send(self, message: Any) -> None:
        self.run(self.connection.send(message))

    def receive(self) -> Any:
        return self.run(self.connection.receive())

    def upgrade(self, request: Any, context: ssl.SSLContext, server_hostname: str | None = None) -> Any:
        async def main() -> Any:
            await self.connection.send(request)
            answer = await self.connection.receive()
            await self.connection.start_tls(context, server_hostname=server_hostname, timeout=self.timeout)
            return answer

        return self.run(main())

    def echo(self, messages: list[Any]) -> list[Any]:
        async def main() -> list[Any]:
            async def send() -> None:
                for message in messages:
                    await self.connection.send(message)

            sending = asyncio.create_task(send())
            got = [await self.connection.receive() for _ in messages]
            await sending
            return got

        return self.run(main())

    def close(self) -> None:
        self.run(self.connection.aclose())
        self.runner.close()
        assert not self.complaints, self.complaints


CLIENTS: dict[str, Any] = {"blocking": BlockingClient, "nonblocking": NonblockingClient, "selector": SelectorClient}
CLIENTS |= {kind: partial(AioClient, kind) for kind in LOOPS}
SERVERS = ["threads", "selector", *LOOPS]

every_server = pytest.mark.parametrize("server_kind", SERVERS)
every_client = pytest.mark.parametrize("client_kind", CLIENTS)


@contextlib.contextmanager
def connected(kind: str, address: Any, wire: Wire[Any] = LINES, **options: Any) -> Iterator[Any]:
    client = CLIENTS[kind](address, wire, **options)
    try:
        yield client
    finally:
        client.close()


def upgraded(client: Any, context: ssl.SSLContext, server_hostname: str | None = None) -> Any:
    """What the server says first behind the upgrade; some clients raise there what others raise in the upgrade itself."""
    assert client.upgrade("STARTTLS", context, server_hostname) == "go ahead"
    return client.receive()


# --------------------------------------------------------------------------------------------- the network


class Wiretap:
    """Somebody between client and server who passes everything on, and writes it down."""

    def __init__(self, server: Address) -> None:
        self.listener = socket.create_server(LOCAL)
        self.address = self.listener.getsockname()
        self.asked = bytearray()
        self.answered = bytearray()
        self.threads = [threading.Thread(target=self.run, args=(server,))]
        self.threads[0].start()

    def run(self, server: Address) -> None:
        near, _ = self.listener.accept()
        far = socket.create_connection((server.host, server.port))
        back = threading.Thread(target=self.pass_on, args=(far, near, self.answered))
        back.start()
        self.pass_on(near, far, self.asked)
        back.join()
        near.close()
        far.close()

    @staticmethod
    def pass_on(source: socket.socket, target: socket.socket, noted: bytearray) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                noted += chunk
                target.sendall(chunk)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.threads[0].join(SECONDS)
        self.listener.close()


@contextlib.contextmanager
def plain(server: Any) -> Iterator[socket.socket]:
    with socket.create_connection((server.address.host, server.address.port)) as sock:
        sock.settimeout(SECONDS)
        yield sock


def read(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        chunk = sock.recv(size - len(got))
        assert chunk, got
        got += chunk
    return got


def rest(sock: socket.socket) -> bytes:
    """Until the end, however rough."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(1 << 16):
            got += chunk
    return got


@contextlib.contextmanager
def stranger(kind: str, **options: Any) -> Iterator[tuple[Any, socket.socket]]:
    """A client of this driver, and the plain socket of the test that has accepted it."""
    with socket.create_server(LOCAL) as listener:
        with connected(kind, listener.getsockname(), **options) as client:
            if kind in LOOPS:
                client.run(asyncio.sleep(0))
            accepted, _ = listener.accept()
            accepted.settimeout(SECONDS)
            with accepted:
                yield client, accepted


@contextlib.contextmanager
def answering(sock: socket.socket, *answers: bytes) -> Iterator[None]:
    """Give one of the answers to each thing that is said: to STARTTLS, and to what comes behind it."""

    def answer() -> None:
        for said in answers:
            sock.recv(1 << 16)
            sock.sendall(said)

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    thread.join(SECONDS)


# ------------------------------------------------------------------------------------------ conversations


@every_client
@every_server
def test_a_plain_conversation_goes_on_with_tls(server_kind: str, client_kind: str, contexts: Contexts) -> None:
    service = Upgrading(contexts[0])
    with serving(server_kind, service) as server:
        tap = Wiretap(server.address)
        with connected(client_kind, tap.address) as client:
            client.send("hello")
            assert client.receive() == "HELLO"
            assert client.upgrade("STARTTLS", contexts[1]) == "go ahead"
            assert client.receive() == "welcome"
            for number in range(3):
                client.send(f"secret {number}")
                assert client.receive() == f"SECRET {number}"
        tap.close()
        until(lambda: service.ends)
    assert service.ends == [None]
    assert service.got == ["hello", "STARTTLS", *(f"secret {number}" for number in range(3))]
    # What was sent before is plain, and all else TLS's: a record of a handshake comes next, and nothing can be read.
    for noted, said in ((tap.asked, b"hello\nSTARTTLS\n"), (tap.answered, b"HELLO\ngo ahead\n")):
        assert noted.startswith(said + b"\x16\x03")
        assert b"secret" not in noted.lower()
        assert b"welcome" not in noted


@every_client
@every_server
def test_tls_begun_in_mid_stream_carries_a_full_load_both_ways(
    server_kind: str, client_kind: str, contexts: Contexts
) -> None:
    class Echo(Upgrading):
        def received(self, peer: Any, message: Any) -> None:
            peer.send(message)
            if message == b"STARTTLS":
                peer.start_tls(self.context)

    service = Echo(contexts[0])
    messages = [bytes([number % 256]) * (number * 37 % 5000) for number in range(600)]
    messages += [bytes([number]) * 700_000 for number in range(3)]
    with serving(server_kind, service, RAW) as server:
        with connected(client_kind, server.address, RAW) as client:
            assert client.upgrade(b"STARTTLS", contexts[1]) == b"STARTTLS"
            assert client.echo(messages) == messages
        until(lambda: service.ends)
    assert service.ends == [None]


@every_server
def test_what_is_sent_behind_the_beginning_of_tls_is_never_written_in_plain_text(
    server_kind: str, contexts: Contexts
) -> None:
    class Confiding(Upgrading):
        def received(self, peer: Any, message: Any) -> None:
            peer.send(b"go ahead")
            peer.start_tls(self.context)
            peer.send(b"secret 1")
            peer.send(b"secret 2")

    service = Confiding(contexts[0])
    with serving(server_kind, service, RAW) as server:
        with plain(server) as stranger:
            stranger.sendall(RAW.encode(b"STARTTLS"))
            agreed = RAW.encode(b"go ahead")
            assert read(stranger, len(agreed)) == agreed
            # Whoever does not shake hands is told nothing more: half a hello brings no answer, and here is all that came.
            stranger.sendall(b"\x16\x03\x01\x02\x00")
            stranger.settimeout(0.2)
            with pytest.raises(TimeoutError):
                stranger.recv(1)
        until(lambda: service.ends)


@every_server
def test_what_the_peer_has_not_taken_yet_leaves_in_plain_text_before_the_handshake(
    server_kind: str, contexts: Contexts
) -> None:
    class Wordy(Upgrading):
        def received(self, peer: Any, message: str) -> None:
            if message == "STARTTLS":
                peer.send("x" * 900_000)
                peer.send("y" * 900_000)
            super().received(peer, message)

    service = Wordy(contexts[0])
    with serving(server_kind, service) as server, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(SECONDS)
        sock.connect((server.address.host, server.address.port))
        sock.sendall(b"STARTTLS\n")
        time.sleep(0.05)  # the server's socket is full
        plain_text = b"x" * 900_000 + b"\n" + b"y" * 900_000 + b"\ngo ahead\n"
        assert read(sock, len(plain_text)) == plain_text
        with contexts[1].wrap_socket(sock, server_hostname="localhost") as secure:
            assert read(secure, 8) == b"welcome\n"
            secure.sendall(b"secret\n")
            assert read(secure, 7) == b"SECRET\n"


@every_client
def test_a_client_may_send_right_behind_the_upgrade(client_kind: str, contexts: Contexts) -> None:
    with serving("threads", Upgrading(contexts[0])) as server, connected(client_kind, server.address) as client:
        assert client.upgrade("STARTTLS", contexts[1]) == "go ahead"
        for number in range(5):
            client.send(f"m{number}")
        assert [client.receive() for _ in range(6)] == ["welcome", *(f"M{number}" for number in range(5))]


@every_server
def test_the_peers_of_a_server_can_be_sent_to_from_other_threads_while_hands_are_shaken(
    server_kind: str, contexts: Contexts
) -> None:
    service = Upgrading(contexts[0])
    with serving(server_kind, service) as server, plain(server) as sock:
        sock.sendall(b"STARTTLS\n")
        assert read(sock, 9) == b"go ahead\n"
        threads = [threading.Thread(target=service.peer.send, args=(f"broadcast {number}",)) for number in range(5)]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        with contexts[1].wrap_socket(sock, server_hostname="localhost") as secure:
            said = read(secure, 5 * len(b"broadcast 0\n") + len(b"welcome\n")).split(b"\n")
            for thread in threads:
                thread.join()
    assert sorted(said) == [b"", *(b"broadcast %d" % number for number in range(5)), b"welcome"]


# ---------------------------------------------------------------------------------------------- the attack


INJECTED = [b"R", b"RCPT\n", b"RCPT\nQUIT\nDA"]


@every_server
@pytest.mark.parametrize("injected", INJECTED)
def test_plain_text_behind_the_agreement_fails_the_server(
    server_kind: str, injected: bytes, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    service = Upgrading(contexts[0])
    with serving(server_kind, service) as server, plain(server) as sock:
        sock.sendall(b"STARTTLS\n" + injected)
        assert rest(sock) == b"go ahead\n"  # and no handshake, let alone an answer to what was injected
        until(lambda: service.ends)
    assert service.got == ["STARTTLS"]
    (error,) = service.ends
    assert isinstance(error, CorruptFrame)
    assert error is service.raised[0]
    assert "came in plain text" in str(error)
    # It is the peer's doing, and no fault of the service.
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@every_server
def test_a_service_that_swallows_the_refusal_gets_nothing_that_was_injected(
    server_kind: str, contexts: Contexts
) -> None:
    class Careless(Upgrading):
        def received(self, peer: Any, message: str) -> None:
            with contextlib.suppress(CorruptFrame):
                super().received(peer, message)

    service = Careless(contexts[0])
    with serving(server_kind, service) as server, plain(server) as sock:
        sock.sendall(b"STARTTLS\nRCPT\n")
        assert rest(sock) == b"go ahead\n"
        until(lambda: service.ends)
    assert service.got == ["STARTTLS"]
    assert isinstance(service.ends[0], CorruptFrame)


@every_client
@pytest.mark.parametrize("injected", INJECTED)
def test_plain_text_behind_the_agreement_fails_the_client(
    client_kind: str, injected: bytes, contexts: Contexts
) -> None:
    with stranger(client_kind) as (client, theirs), answering(theirs, b"go ahead\n" + injected):
        with pytest.raises(CorruptFrame, match="came in plain text"):
            upgraded(client, contexts[1])
        assert rest(theirs) == b""  # no ClientHello
        with pytest.raises(FramingError):
            client.receive()


@every_client
def test_plain_text_in_place_of_the_handshake_is_none(client_kind: str, contexts: Contexts) -> None:
    lines = (b"go ahead\n", b"an attacker's line\n" * 10)
    with stranger(client_kind) as (client, theirs), answering(theirs, *lines):
        with pytest.raises(ConnectionFailed, match="does not speak TLS"):
            upgraded(client, contexts[1])
        with pytest.raises(FramingError):
            client.receive()


# ------------------------------------------------------------------------------------------- what goes wrong


@every_server
def test_who_never_shakes_hands_is_shown_out_by_the_server(server_kind: str, contexts: Contexts) -> None:
    service = Upgrading(contexts[0])
    with serving(server_kind, service, handshake_timeout=0.2) as server, plain(server) as silent:
        with plain(server) as other:
            began = time.monotonic()
            silent.sendall(b"STARTTLS\n")
            assert rest(silent) == b"go ahead\n"
            until(lambda: service.ends)
            assert 0.15 < time.monotonic() - began < 5
            other.sendall(b"and I?\n")
            assert read(other, 7) == b"AND I?\n"
    assert isinstance(service.ends[0], Timeout)


@every_client
def test_a_server_that_never_shakes_hands_is_given_up(client_kind: str, contexts: Contexts) -> None:
    with stranger(client_kind, timeout=0.2) as (client, theirs), answering(theirs, b"go ahead\n"):
        began = time.monotonic()
        with pytest.raises(Timeout, match="shaking hands"):
            upgraded(client, contexts[1])
        assert 0.15 < time.monotonic() - began < 5
        with pytest.raises(FramingError):
            client.receive()


@every_client
@every_server
def test_a_certificate_that_is_not_trusted_fails_both_sides_and_says_what_to_do(
    server_kind: str, client_kind: str, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    service = Upgrading(contexts[0])
    with serving(server_kind, service) as server:
        with connected(client_kind, server.address) as client:
            with pytest.raises(ConnectionFailed, match=r"certificate was refused.*load the authority") as caught:
                upgraded(client, ssl.create_default_context())
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
            assert caught.value.address == server.address
            with pytest.raises(FramingError):
                client.receive()
        until(lambda: service.ends)
    assert isinstance(service.ends[0], ConnectionFailed)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@every_client
def test_the_name_of_the_server_is_checked(client_kind: str, contexts: Contexts) -> None:
    with serving("selector", Upgrading(contexts[0])) as server, connected(client_kind, server.address) as client:
        with pytest.raises(ConnectionFailed, match=r"other\.example"):
            upgraded(client, contexts[1], "other.example")


@every_server
def test_who_goes_while_hands_are_shaken_is_reported(server_kind: str, contexts: Contexts) -> None:
    service = Upgrading(contexts[0])
    with serving(server_kind, service) as server:
        with plain(server) as sock:
            sock.sendall(b"STARTTLS\n")
            assert read(sock, 9) == b"go ahead\n"
            sock.sendall(b"\x16\x03\x01")
        until(lambda: service.ends)
    assert isinstance(service.ends[0], ConnectionReset)


@every_server
def test_a_server_stops_while_hands_are_shaken(server_kind: str, contexts: Contexts) -> None:
    service = Upgrading(contexts[0])
    with serving(server_kind, service, drain_timeout=0.2) as server, plain(server) as sock:
        sock.sendall(b"STARTTLS\n")
        assert read(sock, 9) == b"go ahead\n"
        began = time.monotonic()
        server.stop()
        assert rest(sock) == b""
        until(lambda: service.ends)
        assert time.monotonic() - began < 5


@every_server
def test_what_is_left_for_a_peer_that_never_shakes_hands_is_not_kept_longer(
    server_kind: str, contexts: Contexts
) -> None:
    class Brief(Upgrading):
        def received(self, peer: Any, message: str) -> None:
            super().received(peer, message)
            peer.close()

    service = Brief(contexts[0])
    options = {"handshake_timeout": 0.2, "slow_reader_timeout": None}
    with serving(server_kind, service, **options) as server, plain(server) as silent:
        silent.sendall(b"STARTTLS\n")
        assert rest(silent) == b"go ahead\n"
        until(lambda: service.ends)
        until(lambda: server.connections == 0)
    assert isinstance(service.ends[0], Timeout)


@every_server
def test_a_service_may_close_behind_the_upgrade(server_kind: str, contexts: Contexts) -> None:
    class Brief(Upgrading):
        def received(self, peer: Any, message: str) -> None:
            super().received(peer, message)
            peer.close()

    service = Brief(contexts[0])
    with serving(server_kind, service) as server, plain(server) as sock:
        sock.sendall(b"STARTTLS\n")
        assert read(sock, 9) == b"go ahead\n"
        with contexts[1].wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as secure:
            assert read(secure, 8) == b"welcome\n"
            assert secure.recv(10) == b""
        until(lambda: service.ends)
    assert service.ends == [None]


# ------------------------------------------------------------------------------------------- what is no upgrade


@every_server
def test_what_cannot_be_an_upgrade_changes_nothing(server_kind: str, contexts: Contexts) -> None:
    told: list[tuple[type, str]] = []

    class Wrong(Upgrading):
        def received(self, peer: Any, message: str) -> None:
            def attempt(*args: Any, **options: Any) -> None:
                try:
                    peer.start_tls(*args, **options)
                except Exception as error:
                    told.append((type(error), str(error)))

            attempt(contexts[1])
            attempt(contexts[0], server_hostname="localhost")
            thread = threading.Thread(target=attempt, args=(contexts[0],))
            thread.start()
            thread.join()
            super().received(peer, message)
            if message == "STARTTLS":
                attempt(contexts[0])

    service = Wrong(contexts[0])
    with serving(server_kind, service) as server, connected("blocking", server.address) as client:
        client.send("hello")
        assert client.receive() == "HELLO"
        assert client.upgrade("STARTTLS", contexts[1]) == "go ahead"
        assert client.receive() == "welcome"
        client.close()
        until(lambda: service.ends)
    assert service.ends == [None]
    kinds = [kind for kind, _ in told]
    assert kinds == [ValueError, ValueError, FramingError] * 2 + [FramingError]
    texts = [text for _, text in told]
    assert "a client's" in texts[0]
    assert "server_hostname is the client's" in texts[1]
    assert "the service's own methods" in texts[2]
    assert "speaks TLS already" in texts[6]


@every_server
def test_behind_the_end_there_is_no_upgrade(server_kind: str, contexts: Contexts) -> None:
    class Late(Upgrading):
        def received(self, peer: Any, message: str) -> None:
            peer.close()
            super().received(peer, message)

    service = Late(contexts[0])
    with serving(server_kind, service) as server, plain(server) as sock:
        sock.sendall(b"STARTTLS\n")
        assert rest(sock) == b""
        until(lambda: service.ends)
    assert [type(error) for error in service.raised] == [ConnectionClosed]
