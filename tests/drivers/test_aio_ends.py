"""Connections of the asyncio server that end badly: the others go on, the server stops, nothing is kept for who has ended."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from framing import ConnectionFailed, EncodeError, LengthPrefixed, Wire
from framing.drivers import aio
from framing.drivers.aio_link import PIECE_BYTES
from framing.drivers.tunnel import Tunnel
from tests.drivers.beside import Run
from tests.drivers.every.services import JSON, RAW, Recorder, until

SECONDS = 10.0
LOCAL = ("127.0.0.1", 0)
KINDS = ["asyncio", "uvloop"] if importlib.util.find_spec("uvloop") else ["asyncio"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


class House(Run):
    """A server's run, and what its loop complained of."""

    def __init__(self, kind: str, wire: Wire[Any], service: Any, **options: Any) -> None:
        self.complaints: list[Any] = []

        def make_loop() -> asyncio.AbstractEventLoop:
            loop: asyncio.AbstractEventLoop = importlib.import_module(kind).new_event_loop()
            loop.set_exception_handler(lambda _, context: self.complaints.append(context.get("exception")))
            return loop

        super().__init__(aio.StandaloneServer(LOCAL, wire, service, loop_factory=make_loop, **options))

    @property
    def sessions(self) -> list[Any]:
        return list(self.server._server._sessions)

    def call(self, function: Callable[[], Any]) -> Any:
        """What ``function`` returns, called in the loop's thread."""
        result: list[Any] = []
        self.server._server.call(lambda: result.append(function()))
        return until(lambda: result)[0]

    def stops(self) -> bool:
        self.server.stop()
        self.thread.join(SECONDS)
        return self.returned


@pytest.fixture
def house(kind: str) -> Iterator[Callable[..., House]]:
    with contextlib.ExitStack() as stack:

        def begin(wire: Wire[Any], service: Any, **options: Any) -> House:
            made = House(kind, wire, service, **options)
            stack.callback(made.stops)
            return made

        yield begin


@pytest.fixture
def dial() -> Iterator[Callable[..., Client]]:
    with contextlib.ExitStack() as stack:

        def dialed(house: House, wire: Wire[Any], *, receive_buffer: int | None = None) -> Client:
            return stack.enter_context(contextlib.closing(Client(house, wire, receive_buffer)))

        yield dialed


class Client:
    """A plain socket."""

    def __init__(self, house: House, wire: Wire[Any], receive_buffer: int | None) -> None:
        self._wire = wire
        self._decoder = wire.decoder()
        self._got: list[Any] = []
        self._sock = socket.socket()
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.settimeout(SECONDS)
        address = house.server.address
        assert address.host is not None
        assert address.port is not None
        self._sock.connect((address.host, address.port))

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    def send(self, *messages: Any) -> None:
        self._sock.sendall(self._wire.encode_many(messages))

    def take(self, count: int) -> list[Any]:
        """The next ``count`` messages; fewer where the stream ends before."""
        while len(self._got) < count:
            chunk = b""
            with contextlib.suppress(ConnectionError):
                chunk = self._sock.recv(1 << 16)
            if not chunk:
                break
            self._got += self._decoder.feed(chunk)
        taken, self._got = self._got[:count], self._got[count:]
        return taken

    def close(self) -> None:
        self._sock.close()

    def reset(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


class Echo(Recorder):
    def handle(self, peer: Any, message: Any) -> None:
        peer.send(message)


class Quitting(Echo):
    """Raises ``error`` when the method ``where`` is called for the ``nth`` time."""

    def __init__(self, where: str, error: type[BaseException], nth: int = 1) -> None:
        super().__init__()
        self._where = where
        self._error = error
        self._left = nth

    def _quit(self, where: str) -> None:
        if self._where == where:
            self._left -= 1
            if not self._left:
                raise self._error

    def opened(self, peer: Any) -> None:
        super().opened(peer)
        self._quit("opened")

    def handle(self, peer: Any, message: Any) -> None:
        super().handle(peer, message)
        self._quit("received")

    def closed(self, peer: Any, error: Exception | None) -> None:
        super().closed(peer, error)
        self._quit("closed")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["opened", "received", "closed"])
def test_a_service_that_quits_leaves_no_connection_that_the_end_would_wait_for(kind, house, dial, where, error):
    service = Quitting(where, error, 2 if where == "opened" else 1)
    running = house(RAW, service)
    dial(running, RAW)
    service.peer()
    client = dial(running, RAW)
    with contextlib.suppress(ConnectionError):
        client.send(b"1")
    client.take(1)
    client.reset()
    if where == "closed":
        service.end()  # as the transport goes, and not before
    assert running.stops()
    assert running.sessions == []
    ended = [peer for name, peer, _ in service.calls if name == "closed"]
    assert sorted(map(id, ended)) == sorted(map(id, service.peers))
    if kind == "asyncio":
        assert type(running.raised) is error


class Unsound(BaseException):
    """What no loop takes for its own end."""


def test_a_connection_whose_end_raises_gives_its_place_to_the_next(house, dial):
    service = Quitting("closed", Unsound)
    running = house(RAW, service, max_connections=1)
    for number in range(3):
        client = dial(running, RAW)
        client.send(b"%d" % number)
        assert client.take(1) == [b"%d" % number]
        client.close()
    until(lambda: len(service.ends) == 3)
    assert running.stops()


class Unjoinable(LengthPrefixed):
    """A framer that cannot make a frame of one payload, alone or among others."""

    def joiner(self):
        made = super().joiner()
        assert made is not None
        join, most = made

        def join_or_fail(payloads):
            if b"boom" in payloads:
                raise MemoryError("of the framer's making")
            return join(payloads)

        return join_or_fail, most


class Lying(LengthPrefixed):
    """A framer that refuses what it has promised to take."""

    def encode_many(self, payloads):
        raise EncodeError("of the framer's making")

    def joiner(self):
        made = super().joiner()
        assert made is not None
        join, most = made
        return (lambda payloads: None if b"boom" in payloads else join(payloads)), most


class Parting(Echo):
    """Closes the connection behind the reply, in the same call."""

    def handle(self, peer: Any, message: Any) -> None:
        super().handle(peer, message)
        if message == b"boom":
            peer.close()


@pytest.mark.parametrize("make_service", [Echo, Parting])
@pytest.mark.parametrize(("framer", "error"), [(Unjoinable, MemoryError), (Lying, EncodeError)])
def test_what_cannot_be_framed_ends_its_own_connection_alone(house, dial, caplog, framer, error, make_service):
    service = make_service()
    running = house(Wire(framer(4)), service, drain_timeout=0.5)
    bystander, culprit = dial(running, RAW), dial(running, RAW)
    bystander.send(b"1")
    assert bystander.take(1) == [b"1"]
    culprit.send(b"boom", b"never")
    assert culprit.take(1) == []
    until(lambda: service.ends)
    bystander.send(b"2")
    assert bystander.take(1) == [b"2"]
    assert [type(end) for end in service.ends] == [error]
    [(name, peer, _)] = [call for call in service.calls if call[0] == "closed"]
    assert name == "closed"
    told = [record for record in caplog.records if record.exc_info and record.exc_info[0] is error]
    assert [record.getMessage().startswith(str(peer.address)) for record in told] == [True]
    assert running.stops()
    assert running.raised is None
    assert running.complaints == []
    assert len(service.ends) == 2


def test_what_was_not_framed_yet_when_the_transport_went_is_dropped(house, dial):
    class Failing(Echo):
        def handle(self, peer: Any, message: Any) -> None:
            super().handle(peer, message)
            raise Unsound

    service = Failing()
    running = house(Wire(Unjoinable(4)), service)
    client = dial(running, RAW)
    client.send(b"boom")
    assert client.take(1) == []
    assert type(service.end()) is ConnectionFailed
    assert [type(complaint) for complaint in running.complaints] == [Unsound]
    assert running.stops()


def test_what_cannot_be_encoded_is_refused_behind_the_close_too(house, dial):
    wire = Wire(LengthPrefixed(1))
    refused: list[str] = []

    class Closing(Recorder):
        def handle(self, peer: Any, message: Any) -> None:
            peer.close()
            self.try_all(peer)

        def closed(self, peer: Any, error: Exception | None) -> None:
            self.try_all(peer)
            super().closed(peer, error)

        def try_all(self, peer: Any) -> None:
            try:
                peer.send(bytes(256))
            except EncodeError:
                refused.append("send")
            try:
                peer.send_many([b"1", bytes(256)])
            except EncodeError:
                refused.append("send_many")

    service = Closing()
    client = dial(house(wire, service), wire)
    client.send(b"1")
    assert client.take(1) == []
    until(lambda: service.ends)
    assert refused == ["send", "send_many"] * 2


def test_nothing_is_kept_behind_the_close(house, dial):
    kept: list[tuple[int, list[bytes]]] = []

    class Closing(Recorder):
        def handle(self, peer: Any, message: Any) -> None:
            peer.send(b"before")
            peer.close()
            peer.send(b"behind")
            kept.append((peer._room, list(peer._payloads)))

    client = dial(house(RAW, Closing()), RAW)
    client.send(b"1")
    assert client.take(2) == [b"before"]
    until(lambda: kept)
    assert kept == [(0, [])]


def test_a_flush_that_raises_holds_up_nobody_else(house, dial):
    service = Recorder()
    running = house(RAW, service)
    clients = [dial(running, RAW) for _ in range(3)]
    service.peer(3)

    def raising(_: bytes) -> None:
        raise Unsound

    class Broken:
        """A transport that cannot write."""

        def __init__(self, transport: Any) -> None:
            self._transport = transport
            self.write = raising

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    first = service.peers[0]
    whole = first.transport

    def broadcast() -> bool:
        first.transport = Broken(whole)
        for peer in service.peers:
            peer.send_encoded(RAW.encode(b"to all"))
        return True

    def mend() -> bool:
        first.transport = whole
        return True

    running.call(broadcast)
    others = [client for client in clients if client.port != first.address.port]
    assert [client.take(1) for client in others] == [[b"to all"]] * 2
    running.call(mend)
    assert [type(complaint) for complaint in running.complaints] == [Unsound]
    assert running.stops()


def test_what_another_thread_sends_comes_behind_the_batch_with_a_codec_too(house, dial):
    class Helped(Recorder):
        def handle(self, peer: Any, message: Any) -> None:
            peer.send("first")
            helper = threading.Thread(target=peer.send, args=("of a thread",))
            helper.start()
            helper.join()
            peer.send("second")

    client = dial(house(JSON, Helped()), JSON)
    client.send("go")
    assert client.take(3) == ["first", "second", "of a thread"]


def test_the_transport_is_given_no_more_than_its_high_water(house, dial):
    size, count = 1 << 16, 512  # 32 MiB: what systems buffer for a connection is far less

    class Pouring(Recorder):
        def opened(self, peer: Any) -> None:
            super().opened(peer)
            for _ in range(count):
                peer.send(bytes(size))

    service = Pouring()
    running = house(RAW, service, drain_timeout=0.0, max_queued=None)
    client = dial(running, RAW, receive_buffer=1 << 14)
    peer = service.peer()
    assert client.take(1) == [bytes(size)]
    until(lambda: running.call(lambda: (peer._blocked,))[0])

    def look() -> tuple[int, int]:
        peer.send(b"one more")
        peer.flush()
        return peer.transport.get_write_buffer_size(), peer.channel.queued

    waiting, queued = running.call(look)
    assert waiting <= (1 << 16) + PIECE_BYTES
    assert queued > (size * count) // 4


def test_tls_is_given_nothing_before_hands_are_shaken(house, dial, contexts, monkeypatch):
    written: list[bytes] = []
    before = Tunnel.write

    def write(self: Tunnel, data: bytes | memoryview) -> int:
        written.append(bytes(data))
        return before(self, data)

    monkeypatch.setattr(Tunnel, "write", write)

    class Upgrading(Recorder):
        def handle(self, peer: Any, message: Any) -> None:
            peer.start_tls(contexts[0])
            peer.send(b"kept until hands are shaken")

    service = Upgrading()
    running = house(RAW, service)
    client = dial(running, RAW)
    client.send(b"go")
    until(lambda: service.got)
    peer = service.peer()
    assert running.call(lambda: (peer.flush(), peer.shaking, peer.channel.queued > 0)) == (None, True, True)
    assert written == []
