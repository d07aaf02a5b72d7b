"""The asyncio driver over real sockets: on asyncio, on asyncio in debug mode, and on uvloop where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import importlib.util
import logging
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import framing.drivers.aio_server
from framing import (
    JSON,
    Channel,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionRefused,
    ConnectionReset,
    DecodeError,
    EncodeError,
    FrameTooLarge,
    FramingError,
    LengthPrefixed,
    Text,
    Timeout,
    TruncatedFrame,
    Wire,
)
from framing.channel import Heartbeat
from framing.drivers import aio
from framing.drivers.address import Address
from framing.drivers.tunnel import Tunnel

WIRE = Wire(LengthPrefixed(4), JSON())
RAW = Wire(LengthPrefixed(4, max_frame=1 << 23))
LOCAL = ("127.0.0.1", 0)
Main = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Main], None]


def descriptors() -> int:
    held = Path("/proc/self/fd")
    return len(list(held.iterdir())) if held.exists() else 0


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "uvloop":
        return importlib.import_module("uvloop").new_event_loop()
    return asyncio.SelectorEventLoop()


KINDS = ["asyncio", "debug", "uvloop"] if importlib.util.find_spec("uvloop") else ["asyncio", "debug"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def run(kind: str) -> Run:
    """Run a coroutine; it may leave no task, thread, descriptor or complaint of the loop behind."""

    def run_it(main: Main) -> None:
        complaints: list[dict[str, Any]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(20):
                await main()
            for _ in range(3):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        new_loop(kind).close()  # what a kind of loop opens once, for good, is no leak
        gc.collect()
        files, threads = descriptors(), threading.active_count()
        with asyncio.Runner(debug=kind == "debug", loop_factory=lambda: new_loop(kind)) as runner:
            runner.run(guarded())
        assert complaints == []
        end = time.monotonic() + 3
        # What an earlier test left to be cleared up may go meanwhile, and who has ended is still counted for a moment.
        while (descriptors() > files or threading.active_count() > threads) and time.monotonic() < end:
            gc.collect()
            time.sleep(0.002)
        assert descriptors() <= files
        assert threading.active_count() <= threads

    return run_it


class Echo:
    """Sends everything back, and writes down what happened."""

    def __init__(self) -> None:
        self.opened_peers: list[Any] = []
        self.closed_peers: list[tuple[Any, Exception | None]] = []
        self.messages: list[Any] = []

    def opened(self, peer: Any) -> None:
        self.opened_peers.append(peer)

    def received(self, peer: Any, message: Any) -> None:
        self.messages.append(message)
        peer.send(message)

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.closed_peers.append((peer, error))

    @property
    def errors(self) -> list[Exception | None]:
        return [error for _, error in self.closed_peers]


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen in time"
        await asyncio.sleep(0.002)


class Stranger:
    """A plain socket of the test's own, to be a peer with no manners."""

    def __init__(self, address: Address, *, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.address = address

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        await self.loop.sock_connect(self.sock, (self.address.host, self.address.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def receive(self) -> bytes:
        return await self.loop.sock_recv(self.sock, 1 << 16)

    async def rest(self) -> bytes:
        parts = []
        while part := await self.receive():
            parts.append(part)
        return b"".join(parts)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@contextlib.asynccontextmanager
async def conversation(wire: Wire[Any] = WIRE, **options: Any):
    """A connection of ours, and the plain socket that accepted it."""
    with socket.create_server(LOCAL) as listener:
        listener.setblocking(False)
        accepting = asyncio.create_task(asyncio.get_running_loop().sock_accept(listener))
        async with aio.connect(listener.getsockname(), wire, **options) as connection:
            accepted, _ = await accepting
            accepted.setblocking(False)
            stranger = Stranger(Address.parse(listener.getsockname()))
            stranger.sock.close()
            stranger.sock = accepted
            stranger.loop = asyncio.get_running_loop()
            with accepted:
                yield connection, stranger


# ------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("where", ["tcp", "tcp6", "unix", "name"])
def test_messages_go_there_and_back(run: Run, where: str, tmp_path: Path) -> None:
    if where == "tcp6" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    address = {"tcp": LOCAL, "tcp6": ("::1", 0), "unix": f"unix:{tmp_path}/s", "name": ("localhost", 0)}[where]
    service = Echo()

    async def main() -> None:
        async with aio.serve(address, WIRE, service) as server:
            assert isinstance(server.address, Address)
            async with aio.connect(server.address, WIRE) as connection:
                await connection.send({"op": "sum", "args": [1, 2]})
                assert await connection.receive() == {"op": "sum", "args": [1, 2]}
                await connection.send_many([1, "two", [3]])
                await connection.send_encoded(WIRE.encode(4))
                assert [await connection.receive() for _ in range(4)] == [1, "two", [3], 4]
            await until(lambda: service.closed_peers)
        assert service.errors == [None]
        assert server.connections == 0

    run(main)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_can_be_awaited_and_closed_by_hand(run: Run) -> None:
    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, Echo()) as server:
            connection = await aio.connect(server.address, WIRE)
            await connection.send(1)
            assert await connection.receive() == 1
            connection.close()
            connection.close()
            await connection.wait_closed()
            for call in (connection.receive(), connection.receive_batch(), connection.send(1)):
                with pytest.raises(ConnectionClosed):
                    await call

    run(main)


def test_many_connections_share_the_receive_buffer_and_keep_their_bytes_apart(run: Run) -> None:
    async def talk(address: Address, name: int) -> None:
        async with Stranger(address) as stranger:
            frame = WIRE.encode([name] * 50)
            for _ in range(3):
                for cut in range(0, len(frame), 37):
                    await stranger.send(frame[cut : cut + 37])
                    await asyncio.sleep(0)
            answer = b""
            while len(answer) < 3 * len(frame):
                answer += await stranger.receive()
            assert answer == frame * 3

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, Echo()) as server:
            await asyncio.gather(*(talk(server.address, name) for name in range(20)))

    run(main)


def test_a_large_frame_is_received_in_its_own_place_where_the_loop_allows_it(
    run: Run, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[int] = []
    original = Channel.get_buffer

    def counting(self: Channel[Any], sizehint: int = -1) -> memoryview:
        lent.append(1)
        return original(self, sizehint)

    monkeypatch.setattr(Channel, "get_buffer", counting)

    async def main() -> None:
        async with aio.serve(LOCAL, RAW, Echo()) as server, aio.connect(server.address, RAW) as connection:
            for size in (1, 65_532, 65_536, 200_000, 3_000_000, 0, 1 << 20, 1 << 23, 5):
                message = os.urandom(size)
                await connection.send(message)
                assert await connection.receive() == message

    run(main)
    assert bool(lent) == (kind != "uvloop")  # which holds on to the buffer for too long


def test_every_tcp_socket_has_nagle_switched_off(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server, aio.connect(server.address, WIRE) as connection:
            await connection.send(1)
            await connection.receive()
            ours = connection.get_extra_info("socket")
            theirs = service.opened_peers[0].transport.get_extra_info("socket")
            for sock in (ours, theirs):
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)


# -------------------------------------------------------------------------------------------------- writing


class Counting:
    """A transport that counts what it is asked to write."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


def test_what_is_sent_while_one_read_is_handled_leaves_in_one_write(run: Run) -> None:
    class Counted(Echo):
        def opened(self, peer: Any) -> None:
            super().opened(peer)
            peer.transport = Counting(peer.transport)

    service = Counted()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server, Stranger(server.address) as stranger:
            frames = WIRE.encode_many(range(100))
            await stranger.send(frames)
            assert await stranger.receive() == frames
            assert service.opened_peers[0].transport.written == [frames]

    run(main)


def test_what_tasks_send_in_one_turn_of_the_loop_leaves_in_one_write(run: Run) -> None:
    async def main() -> None:
        async with conversation() as (connection, stranger):
            counting = connection._link.transport = Counting(connection._link.transport)
            await asyncio.gather(*(connection.send(n) for n in range(50)))
            assert await stranger.receive() == WIRE.encode_many(range(50))
            assert len(counting.written) == 1

    run(main)


def test_a_broadcast_encodes_once(run: Run) -> None:
    class Room:
        def __init__(self) -> None:
            self.peers: set[Any] = set()

        def opened(self, peer: Any) -> None:
            self.peers.add(peer)

        def received(self, peer: Any, message: Any) -> None:
            frames = WIRE.encode(message)
            for each in self.peers:
                each.send_encoded(frames)

        def closed(self, peer: Any, error: Exception | None) -> None:
            self.peers.discard(peer)

    room = Room()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, room) as server, contextlib.AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(aio.connect(server.address, WIRE)) for _ in range(5)]
            await until(lambda: len(room.peers) == 5)
            await connections[0].send("all")
            assert [await connection.receive() for connection in connections] == ["all"] * 5
        assert room.peers == set()

    run(main)


def test_a_message_that_cannot_be_encoded_sends_nothing(run: Run) -> None:
    class Wrong(Echo):
        def received(self, peer: Any, message: Any) -> None:
            with pytest.raises(EncodeError):
                peer.send(object())
            with pytest.raises(EncodeError):
                peer.send_many([1, object()])
            super().received(peer, message)

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, Wrong()) as server, aio.connect(server.address, WIRE) as connection:
            with pytest.raises(EncodeError):
                await connection.send(object())
            with pytest.raises(EncodeError):
                await connection.send_many([1, object()])
            assert connection.queued == 0
            await connection.send("good")
            assert await connection.receive() == "good"

    run(main)


def test_frames_of_many_senders_never_interleave(run: Run) -> None:
    async def main() -> None:
        async with aio.serve(LOCAL, RAW, Echo()) as server, aio.connect(server.address, RAW) as connection:

            async def sender(name: int) -> None:
                for n in range(20):
                    await connection.send(bytes([name, n]) * 10_000)

            async def receiver() -> dict[int, list[int]]:
                got: dict[int, list[int]] = {}
                for _ in range(200):
                    message = await connection.receive()
                    assert message == message[:2] * 10_000
                    got.setdefault(message[0], []).append(message[1])
                return got

            got, *_ = await asyncio.gather(receiver(), *(sender(name) for name in range(10)))
            assert got == {name: list(range(20)) for name in range(10)}

    run(main)


def test_other_threads_may_send_and_close(run: Run) -> None:
    class Helped(Echo):
        def received(self, peer: Any, message: Any) -> None:
            def work() -> None:
                with pytest.raises(EncodeError):
                    peer.send(object())
                peer.send("from a thread")
                peer.close()

            self.thread = threading.Thread(target=work)
            self.thread.start()

    service = Helped()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server, aio.connect(server.address, WIRE) as connection:
            await connection.send(1)
            assert [message async for message in connection] == ["from a thread"]
            service.thread.join()
        service.opened_peers[0].send("nobody hears it")

    run(main)
    service.opened_peers[0].send("and the loop is gone")


# --------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("steps", range(8))
def test_a_cancelled_receive_takes_no_message(run: Run, steps: int) -> None:
    async def main() -> None:
        async with conversation() as (connection, stranger):
            for turn in range(8):
                task = asyncio.create_task(connection.receive())
                for step in range(8):
                    if step == turn:
                        stranger.sock.send(WIRE.encode(turn))
                    if step == steps:
                        task.cancel()
                    await asyncio.sleep(0)
                (result,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(result, asyncio.CancelledError):
                    result = await connection.receive()
                assert result == turn

    run(main)


def test_a_receive_whose_time_is_over_can_be_repeated(run: Run) -> None:
    async def main() -> None:
        async with conversation() as (connection, stranger):

            async def drip() -> None:
                for byte in WIRE.encode_many(range(60)):
                    await stranger.send(bytes([byte]))
                    await asyncio.sleep(0.0003)

            async def receive() -> list[Any]:
                got: list[Any] = []
                late = 0
                while len(got) < 60:
                    try:
                        async with asyncio.timeout(0.0005):
                            got += await (connection.receive_batch() if late % 2 else one(connection))
                    except TimeoutError:
                        late += 1
                assert late
                return got

            got, _ = await asyncio.gather(receive(), drip())
            assert got == list(range(60))

    async def one(connection: Any) -> list[Any]:
        return [await connection.receive()]

    run(main)


@pytest.mark.parametrize("steps", range(8))
def test_a_cancelled_send_sends_nothing(run: Run, steps: int) -> None:
    async def main() -> None:
        async with conversation(RAW, high_water=1000, low_water=0) as (connection, stranger):
            sent: list[bytes] = []
            got = b""

            async def send(message: bytes) -> None:
                await connection.send(message)
                sent.append(message)

            number = 0
            while True:  # until the peer's buffers are full
                try:
                    async with asyncio.timeout(0.02):
                        await send(bytes([number]) * 100_000)
                        number += 1
                except TimeoutError:
                    break
            for _ in range(4):
                task = asyncio.create_task(send(bytes([number]) * 1000))
                number += 1
                await asyncio.sleep(0)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        got += stranger.sock.recv(1 << 20)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            connection.close_sending()
            got += await stranger.rest()
            assert RAW.decoder().feed(got) == sent
            stranger.sock.close()

    run(main)


@pytest.mark.parametrize("steps", range(8))
def test_a_cancelled_connect_leaves_nothing_behind(run: Run, steps: int) -> None:
    async def main() -> None:
        async def connect() -> None:
            async with aio.connect(server.address, WIRE):
                await asyncio.sleep(10)

        async with aio.serve(LOCAL, WIRE, Echo()) as server:
            task = asyncio.create_task(connect())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main)


def test_a_server_that_is_cancelled_stops(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        server = aio.serve(LOCAL, WIRE, service)
        task = asyncio.create_task(server.run())
        await asyncio.sleep(0.01)
        async with aio.connect(server.address, WIRE) as connection:
            await connection.send(1)
            await connection.receive()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(ConnectionClosed):
                await connection.receive()
        assert service.errors == [None]

    run(main)


# ------------------------------------------------------------------------------------------ ends and errors


def test_async_for_ends_at_a_clean_end(run: Run) -> None:
    async def main() -> None:
        async with conversation() as (connection, stranger):
            await stranger.send(WIRE.encode_many([1, 2, 3]))
            stranger.sock.shutdown(socket.SHUT_WR)
            assert [message async for message in connection] == [1, 2, 3]
            for _ in range(2):
                with pytest.raises(ConnectionClosed):
                    await connection.receive()
            # The peer has said all; it still listens.
            await connection.send("still here")
            assert await stranger.receive() == WIRE.encode("still here")

    run(main)


@pytest.mark.parametrize("batch", [False, True])
def test_a_refused_payload_is_raised_in_its_place_and_the_stream_goes_on(run: Run, batch: bool) -> None:
    async def main() -> None:
        async with conversation() as (connection, stranger):
            bad = LengthPrefixed(4).encode(b"{oops")
            await stranger.send(
                WIRE.encode(1) + WIRE.encode(2) + bad + WIRE.encode(3) + bad + bad + WIRE.encode(4) + bad
            )
            stranger.sock.shutdown(socket.SHUT_WR)
            got: list[Any] = []
            while len(got) < 8:
                try:
                    got += await connection.receive_batch() if batch else [await connection.receive()]
                except DecodeError as error:
                    got.append(error.offset)
            with pytest.raises(ConnectionClosed):
                await connection.receive()
            assert got == [1, 2, 10, 3, 24, 33, 4, 47]

    run(main)


@pytest.mark.parametrize("trouble", ["violation", "truncated", "reset"])
def test_messages_before_an_error_are_delivered_first_and_the_error_stays(run: Run, trouble: str) -> None:
    expected = {"violation": FrameTooLarge, "truncated": TruncatedFrame, "reset": ConnectionReset}[trouble]

    async def main() -> None:
        async with conversation() as (connection, stranger):
            await stranger.send(WIRE.encode_many([1, 2]))
            if trouble == "violation":
                await stranger.send(b"HTTP/1.1 200 OK" + WIRE.encode(3))
            elif trouble == "truncated":
                await stranger.send(WIRE.encode(3)[:-1])
                stranger.sock.shutdown(socket.SHUT_WR)
            else:
                await asyncio.sleep(0.02)
                stranger.reset()
            await asyncio.sleep(0.02)
            assert await connection.receive() == 1
            assert await connection.receive_batch() == [2]
            for _ in range(2):
                with pytest.raises(expected):
                    await connection.receive()
            if trouble != "truncated":
                assert isinstance(connection.error, expected)
                with pytest.raises(ConnectionReset if trouble == "reset" else ConnectionClosed):
                    await connection.send(1)

    run(main)


def test_what_a_peer_said_before_it_dropped_the_connection_is_received(run: Run, kind: str) -> None:
    if kind == "uvloop":
        pytest.skip("uvloop has closed its socket by the time that it tells")

    async def main() -> None:
        async with conversation() as (connection, stranger):
            connection._link.pause()  # so that the write fails before anything is read
            await stranger.send(WIRE.encode("you are not welcome"))
            stranger.sock.shutdown(socket.SHUT_RDWR)
            stranger.sock.close()
            with contextlib.suppress(FramingError):
                for _ in range(20):
                    await connection.send("a" * 1000)
                    await asyncio.sleep(0.002)
            assert await connection.receive() == "you are not welcome"
            with pytest.raises(ConnectionReset) as caught:
                await connection.receive()
            assert caught.value.address == connection.address

    run(main)


def test_an_end_inside_a_frame_is_truncation_although_a_write_has_met_it_first(run: Run, kind: str) -> None:
    if kind == "uvloop":
        pytest.skip("uvloop has closed its socket by the time that it tells")

    async def main() -> None:
        async with conversation() as (connection, stranger):
            connection._link.pause()  # so that the write fails before anything is read
            await stranger.send(WIRE.encode("whole") + WIRE.encode("half")[:6])
            stranger.sock.close()
            with contextlib.suppress(FramingError):
                for _ in range(20):
                    await connection.send("a" * 1000)
                    await asyncio.sleep(0.002)
            assert await connection.receive() == "whole"
            for _ in range(2):
                with pytest.raises(TruncatedFrame):
                    await connection.receive()

    run(main)


def test_replies_still_go_out_behind_the_peers_end(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, RAW, service) as server:
            async with aio.connect(server.address, RAW) as connection:
                messages = [bytes([n]) * 50_000 for n in range(40)]
                sending = asyncio.create_task(connection.send_many(messages))
                await sending
                connection.close_sending()
                with pytest.raises(ConnectionClosed):
                    await connection.send(b"too late")
                assert [message async for message in connection] == messages
            async with Stranger(server.address) as stranger:
                await stranger.send(RAW.encode(b"last words"))
                stranger.sock.shutdown(socket.SHUT_WR)
                assert await stranger.rest() == RAW.encode(b"last words")
            await until(lambda: len(service.errors) == 2)
        assert service.errors == [None, None]

    run(main)


def test_errors_of_connecting_are_the_builtins_and_name_the_address(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket() as closed:
            closed.bind(LOCAL)  # which holds the port, so that nobody else listens there
            with pytest.raises(ConnectionRefused) as refused:
                await aio.connect(closed.getsockname(), WIRE)
            assert f"tcp://127.0.0.1:{closed.getsockname()[1]}" in str(refused.value)
        assert isinstance(refused.value, ConnectionRefusedError)
        assert refused.value.errno == errno.ECONNREFUSED
        with pytest.raises(ConnectionFailed, match="no such socket file"):
            await aio.connect(f"unix:{tmp_path}/none", WIRE)
        with pytest.raises(ConnectionFailed, match="resolved"):
            await aio.connect(("nowhere.invalid", 1), WIRE)
        with pytest.raises(ConnectionFailed, match="already"):
            async with aio.serve(LOCAL, WIRE, Echo()) as server, aio.serve(server.address, WIRE, Echo()):
                pass

    run(main)


def test_connecting_has_its_time(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(LOCAL) as silent:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            started = time.monotonic()
            with pytest.raises(Timeout, match="no answer came in time"):
                await aio.connect(silent.getsockname(), WIRE, timeout=0.1, ssl_context=context)
            assert time.monotonic() - started < 1

    run(main)


def test_wrong_options_are_told_at_once() -> None:
    class Waits:
        async def received(self, peer: Any, message: Any) -> None: ...

    with pytest.raises(TypeError, match=r"Waits\.received\(\) is a coroutine function"):
        aio.serve(LOCAL, WIRE, Waits())
    with pytest.raises(TypeError, match="no method received"):
        aio.serve(LOCAL, WIRE, object())  # type: ignore[arg-type] # the point
    with pytest.raises(ValueError, match="low_water"):
        aio.serve(LOCAL, WIRE, Echo(), low_water=5, high_water=1)
    with pytest.raises(ValueError, match="max_connections"):
        aio.serve(LOCAL, WIRE, Echo(), max_connections=0)
    with pytest.raises(ValueError, match="slow_reader_timeout"):
        aio.serve(LOCAL, WIRE, Echo(), slow_reader_timeout=0)
    with pytest.raises(ValueError, match="timeout is -1"):
        aio.connect(LOCAL, WIRE, timeout=-1)
    with pytest.raises(ValueError, match="server_hostname"):
        aio.connect(LOCAL, WIRE, server_hostname="x")
    with pytest.raises(ValueError, match="datagrams"):
        aio.connect("udp://127.0.0.1:1", WIRE)
    with pytest.raises(ValueError, match="datagrams"):
        aio.serve("udp://127.0.0.1:1", WIRE, Echo())
    with pytest.raises(ValueError, match="ssl_context"):
        aio.serve("tls://127.0.0.1:1", WIRE, Echo())
    with pytest.raises(ValueError, match="frame_timeout"):
        aio.connect(LOCAL, WIRE, frame_timeout=0)


# ------------------------------------------------------------------------------------------------- services


@pytest.mark.parametrize("where", ["opened", "received", "closed"])
def test_a_service_that_raises_ends_that_connection_only_and_is_logged_with_its_peer(
    run: Run, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    mishap = RuntimeError("a bug")

    class Buggy(Echo):
        victim: Any = None

        def fail(self, method: str, peer: Any) -> None:
            self.victim = self.victim or peer
            if method == where and peer is self.victim:
                raise mishap

        def opened(self, peer: Any) -> None:
            super().opened(peer)
            self.fail("opened", peer)

        def received(self, peer: Any, message: Any) -> None:
            super().received(peer, message)
            self.fail("received", peer)

        def closed(self, peer: Any, error: Exception | None) -> None:
            super().closed(peer, error)
            self.fail("closed", peer)

    service = Buggy()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server:
            async with Stranger(server.address) as first:
                await until(lambda: service.opened_peers)
                async with aio.connect(server.address, WIRE) as second:
                    await first.send(WIRE.encode_many([1, 2]))
                    if where == "closed":
                        first.sock.shutdown(socket.SHUT_WR)
                    # What was sent before the mishap still arrives.
                    said = {"opened": b"", "received": WIRE.encode(1), "closed": WIRE.encode_many([1, 2])}
                    assert await first.rest() == said[where]
                    await second.send("unharmed")
                    assert await second.receive() == "unharmed"
            await until(lambda: len(service.closed_peers) == 2)
            assert dict(service.closed_peers)[service.victim] is (None if where == "closed" else mishap)

    with caplog.at_level(logging.ERROR):
        run(main)
    (record,) = caplog.records
    assert record.name == "framing.drivers"
    assert str(service.victim.address) in record.message
    assert record.exc_info is not None
    assert record.exc_info[1] is mishap


def test_a_refused_payload_ends_the_connection_of_a_server_behind_the_replies(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server, Stranger(server.address) as stranger:
            await stranger.send(WIRE.encode(1) + LengthPrefixed(4).encode(b"{oops") + WIRE.encode(2))
            assert await stranger.rest() == WIRE.encode(1)
            await until(lambda: service.closed_peers)
        assert isinstance(service.errors[0], DecodeError)
        assert service.messages == [1]

    run(main)


@pytest.mark.parametrize(
    "talk", [b"GET / HTTP/1.1\r\n\r\n" * 10_000, b"\x16\x03\x01\x02\x00\x01\x00", b"\xff" * 300_000]
)
def test_who_talks_another_protocol_is_shown_out_and_harms_nobody(run: Run, talk: bytes) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server, aio.connect(server.address, WIRE) as connection:
            await until(lambda: service.opened_peers)
            async with Stranger(server.address) as stranger:
                await stranger.send(talk)
                assert await stranger.rest() == b""
                stranger.sock.shutdown(socket.SHUT_WR)
            await until(lambda: service.closed_peers)
            assert isinstance(service.errors[0], FrameTooLarge)
            await connection.send(1)
            assert await connection.receive() == 1

    run(main)


def test_messages_behind_a_close_are_dropped(run: Run) -> None:
    class Once(Echo):
        def received(self, peer: Any, message: Any) -> None:
            super().received(peer, message)
            peer.close()
            peer.send("unheard")

    service = Once()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server, aio.connect(server.address, WIRE) as connection:
            await connection.send_many([1, 2, 3])
            assert [message async for message in connection] == [1]
            await until(lambda: service.closed_peers)
        assert service.messages == [1]
        assert service.errors == [None]

    run(main)


def test_a_peer_that_resets_is_reported_as_such(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server, Stranger(server.address) as stranger:
            await stranger.send(WIRE.encode(1))
            await stranger.receive()
            stranger.reset()
            await until(lambda: service.closed_peers)
        assert isinstance(service.errors[0], ConnectionReset)

    run(main)


# ----------------------------------------------------------------------------------------------- protection


def test_slow_loris_has_a_deadline_for_each_frame(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service, frame_timeout=0.15) as server, Stranger(server.address) as stranger:
            started = time.monotonic()
            with contextlib.suppress(OSError):
                for byte in WIRE.encode("x" * 1000):
                    await stranger.send(bytes([byte]))
                    await asyncio.sleep(0.01)
                    if service.closed_peers:
                        break
            assert 0.1 < time.monotonic() - started < 1
        assert isinstance(service.errors[0], Timeout)

    run(main)


def test_a_slow_but_honest_peer_is_not_late(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with (
            aio.serve(LOCAL, WIRE, service, frame_timeout=0.5, idle_timeout=0.75) as server,
            Stranger(server.address) as stranger,
        ):
            stream = WIRE.encode_many(range(5))
            await stranger.send(stream[:2])
            for start in range(2, len(stream) - 2, 5):
                await asyncio.sleep(0.2)
                await stranger.send(stream[start : start + 5])
            await until(lambda: len(service.messages) >= 4)
            assert service.closed_peers == []

    run(main)


def test_idle_connections_are_closed_after_their_deadline(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service, idle_timeout=0.1) as server, Stranger(server.address) as stranger:
            assert await stranger.rest() == b""
            await until(lambda: service.closed_peers)
        assert isinstance(service.errors[0], Timeout)

    run(main)


def test_a_client_may_have_deadlines_too(run: Run) -> None:
    async def main() -> None:
        async with conversation(idle_timeout=0.05) as (connection, _):
            for _ in range(2):
                with pytest.raises(Timeout, match="nothing was received"):
                    await connection.receive()

    run(main)


def test_heartbeats_keep_a_silent_connection_and_end_a_dead_one(run: Run) -> None:
    service = Echo()
    beat: Heartbeat[Any] = Heartbeat("ping", "pong", interval=0.04)

    async def main() -> None:
        async with (
            aio.serve(LOCAL, WIRE, service, heartbeat=beat) as server,
            aio.connect(server.address, WIRE, heartbeat=beat) as living,
            Stranger(server.address) as dead,
        ):
            heard = await dead.rest()
            assert heard.startswith(WIRE.encode("ping"))
            await until(lambda: service.closed_peers)
            assert isinstance(service.errors[0], Timeout)
            await living.send("still here")
            assert await living.receive() == "still here"
            assert service.messages == ["still here"]

    run(main)


def test_heartbeats_go_on_while_a_client_does_not_read(run: Run) -> None:
    async def main() -> None:
        beat: Heartbeat[Any] = Heartbeat("ping", interval=0.03)
        async with conversation(high_water=100, low_water=0, heartbeat=beat) as (connection, stranger):
            await stranger.send(WIRE.encode("x" * 1000))
            pings = WIRE.encode("ping") * 4
            said = b""
            while len(said) < len(pings):
                said += await stranger.receive()
            assert said.startswith(pings)
            assert await connection.receive() == "x" * 1000

    run(main)


def test_keep_alive_is_an_option(run: Run) -> None:
    async def main() -> None:
        service = Echo()
        async with (
            aio.serve(LOCAL, WIRE, service, keep_alive=True) as server,
            aio.connect(server.address, WIRE, keep_alive=True) as connection,
        ):
            await until(lambda: service.opened_peers)
            ours = connection.get_extra_info("socket")
            theirs = service.opened_peers[0].transport.get_extra_info("socket")
            for sock in (ours, theirs):
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    run(main)


def test_a_connection_has_one_timer_however_many_messages_it_has() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[float] = []
        call_at = loop.call_at
        loop.call_at = lambda when, *args, **kw: calls.append(when) or call_at(when, *args, **kw)  # type: ignore[method-assign] # to count
        async with aio.serve(LOCAL, WIRE, Echo(), idle_timeout=60) as server, Stranger(server.address) as stranger:
            for n in range(200):
                frame = WIRE.encode(n)
                await stranger.send(frame[:3])
                await asyncio.sleep(0)
                await stranger.send(frame[3:])
                await stranger.receive()
            assert len(calls) <= 2

    with asyncio.Runner() as runner:
        runner.run(main())


def big_replies(size: int) -> Any:
    class Big(Echo):
        def received(self, peer: Any, message: Any) -> None:
            self.messages.append(message)
            peer.send(message + bytes(size))
            self.most = max(getattr(self, "most", 0), peer.queued)

    return Big()


def test_who_does_not_read_is_not_read_from_and_closed_after_a_deadline(run: Run) -> None:
    service = big_replies(100_000)

    async def main() -> None:
        async with (
            aio.serve(LOCAL, RAW, service, slow_reader_timeout=0.3) as server,
            Stranger(server.address, receive_buffer=1 << 14) as slow,
            aio.connect(server.address, RAW) as quick,
        ):
            sending = asyncio.create_task(
                slow.send(RAW.encode_many([b"%05d" % n + bytes(2000) for n in range(10_000)]))
            )
            await until(lambda: service.messages)
            await asyncio.sleep(0.05)
            handled = len(service.messages)
            assert handled < 500  # kept back though all of them are here: their replies would have no place
            assert service.most < 300_000
            (peer,) = (peer for peer in service.opened_peers if peer.paused)
            assert len(peer._waiting) < 100  # nor is what does not fit read and put aside
            await quick.send(b"q")
            assert (await quick.receive())[:1] == b"q"
            await until(lambda: service.closed_peers)
            (error,) = service.errors
            assert isinstance(error, Timeout)
            assert "does not read" in str(error)
            await asyncio.gather(sending, return_exceptions=True)

    run(main)


def test_who_reads_late_gets_every_reply_in_order(run: Run) -> None:
    service = big_replies(10_000)

    async def main() -> None:
        async with aio.serve(LOCAL, RAW, service) as server, Stranger(server.address, receive_buffer=1 << 14) as slow:
            requests = [b"%05d" % n for n in range(1500)]
            sending = asyncio.create_task(slow.send(RAW.encode_many(requests)))
            await asyncio.sleep(0.05)
            decoder = RAW.decoder()
            got: list[bytes] = []
            while len(got) < 1500:
                got += [message[:5] for message in decoder.feed(await slow.receive())]
            await sending
            assert got == requests
            assert service.most < 200_000
            slow.sock.shutdown(socket.SHUT_WR)
            assert await slow.rest() == b""

    run(main)


def test_a_steady_drain_is_no_slow_reader(run: Run) -> None:
    service = big_replies(3_000_000)

    async def main() -> None:
        async with (
            aio.serve(LOCAL, RAW, service, slow_reader_timeout=0.1, high_water=1000, low_water=0) as server,
            Stranger(server.address, receive_buffer=1 << 14) as slow,
        ):
            await until(lambda: service.opened_peers)
            sending = service.opened_peers[0].transport.get_extra_info("socket")
            sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)  # so that little of it is out of our hands
            await slow.send(RAW.encode(b"x"))
            got = 0
            started = time.monotonic()
            while got < 3_000_005:
                chunk = await slow.receive()
                assert chunk
                got += len(chunk)
                if time.monotonic() - started < 0.7:
                    # A piece of what waits takes longer than the deadline, but some of it is taken all the time.
                    await asyncio.sleep(0.015)
            assert service.closed_peers == []

    run(main)


def test_a_broadcast_does_not_pile_up_for_who_does_not_read(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, RAW, service, max_queued=200_000) as server, Stranger(server.address):
            await until(lambda: service.opened_peers)
            (peer,) = service.opened_peers
            most = 0
            for _ in range(1000):
                peer.send(bytes(50_000))
                most = max(most, peer.queued)
                await asyncio.sleep(0)
            await until(lambda: service.closed_peers)
            assert most < 300_000
            assert isinstance(service.errors[0], Timeout)

    run(main)


def test_a_client_that_does_not_receive_does_not_read(run: Run) -> None:
    async def main() -> None:
        async with conversation(RAW) as (connection, stranger):
            sending = asyncio.create_task(stranger.send(RAW.encode_many([bytes(1000)] * 20_000)))
            await asyncio.sleep(0.1)
            assert not sending.done()
            assert len(connection._link.items) < 500
            got = 0
            while got < 20_000:
                got += len(await connection.receive_batch())
            await sending

    run(main)


def test_above_max_connections_nobody_is_accepted_until_somebody_leaves(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service, max_connections=2) as server:
            first = await aio.connect(server.address, WIRE)
            second = await aio.connect(server.address, WIRE)
            await until(lambda: server.connections == 2)
            async with first, aio.connect(server.address, WIRE) as third:
                await third.send("let me in")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await third.receive()
                assert len(service.opened_peers) == 2
                await second.aclose()
                assert await third.receive() == "let me in"

    run(main)


def test_descriptors_run_out_and_accepting_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = framing.drivers.aio_server.accept_some
    tries: list[float] = []

    def starved(listener: socket.socket, most: int) -> Iterator[Any]:
        tries.append(time.monotonic())
        if len(tries) <= 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        yield from real(listener, most)

    monkeypatch.setattr(framing.drivers.aio_server, "accept_some", starved)
    monkeypatch.setattr(framing.drivers.aio_server, "ACCEPT_PAUSE", 0.03)

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, Echo()) as server, aio.connect(server.address, WIRE) as connection:
            await connection.send(1)
            assert await connection.receive() == 1

    run(main)
    assert tries[3] - tries[0] > 0.08
    assert len([record for record in caplog.records if "nobody is accepted" in record.message]) == 1


# ------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("how", ["task", "thread", "signal"])
def test_stop_may_be_called_from_anywhere(run: Run, how: str) -> None:
    if how == "signal" and sys.platform == "win32":
        pytest.skip("no such signals here")
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service) as server:
            async with aio.connect(server.address, WIRE) as connection:
                await connection.send(1)
                await connection.receive()
                if how == "task":
                    server.stop()
                elif how == "thread":
                    await asyncio.to_thread(server.stop)
                else:
                    before = signal.signal(signal.SIGUSR1, lambda *_: server.stop())
                    try:
                        signal.raise_signal(signal.SIGUSR1)
                    finally:
                        signal.signal(signal.SIGUSR1, before)
                await server.run()
                with pytest.raises(ConnectionClosed):
                    await connection.receive()
            with pytest.raises(ConnectionRefused):
                await aio.connect(server.address, WIRE)
        assert service.errors == [None]
        server.stop()
        with pytest.raises(ConnectionClosed, match="make a new one"):
            await server.__aenter__()

    run(main)


def test_stopping_writes_what_is_queued(run: Run) -> None:
    service = big_replies(2_000_000)

    async def main() -> None:
        async with aio.serve(LOCAL, RAW, service) as server, Stranger(server.address, receive_buffer=1 << 14) as slow:
            await slow.send(RAW.encode(b"x"))
            await until(lambda: service.messages)
            stopping = asyncio.create_task(server.aclose())
            assert len(await slow.rest()) == 2_000_005
            await stopping

    run(main)


def test_stopping_waits_no_longer_than_it_may_for_who_does_not_read(run: Run) -> None:
    service = big_replies(4_000_000)

    async def main() -> None:
        async with (
            aio.serve(LOCAL, RAW, service, drain_timeout=0.2) as server,
            Stranger(server.address, receive_buffer=1 << 14) as slow,
        ):
            await slow.send(RAW.encode(b"x"))
            await until(lambda: service.messages)
            started = time.monotonic()
            await server.aclose()
            assert 0.1 < time.monotonic() - started < 1
            assert len(service.closed_peers) == 1

    run(main)


def test_a_server_that_was_told_to_stop_before_it_began_ends_at_once(run: Run) -> None:
    async def main() -> None:
        server = aio.serve(LOCAL, WIRE, Echo())
        server.stop()
        await server.run()

    run(main)


def test_two_servers_may_share_a_port_where_they_are_told_to(run: Run) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        pytest.skip("no SO_REUSEPORT here")

    async def main() -> None:
        async with (
            aio.serve(LOCAL, WIRE, Echo(), reuse_port=True) as server,
            aio.serve(server.address, WIRE, Echo(), reuse_port=True) as other,
        ):
            assert other.address == server.address

    run(main)


# ------------------------------------------------------------------------------------------------------ TLS


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def test_tls_carries_messages_at_full_load(run: Run, contexts: Contexts) -> None:
    service = Echo()

    async def main() -> None:
        async with (
            aio.serve(LOCAL, RAW, service, ssl_context=contexts[0]) as server,
            aio.connect(server.address, RAW, ssl_context=contexts[1], timeout=5) as connection,
        ):
            messages = [bytes([n % 256]) * (n * 37 % 3000) for n in range(1500)] + [os.urandom(700_000)]

            async def send() -> None:
                for message in messages:
                    await connection.send(message)

            sending = asyncio.create_task(send())
            got: list[bytes] = []
            while len(got) < len(messages):
                got += await connection.receive_batch()
            await sending
            assert got == messages
            assert connection.get_extra_info("ssl_object").version().startswith("TLS")
            with pytest.raises(FramingError, match="use close"):
                connection.close_sending()
        assert service.errors == [None]

    run(main)


def test_tls_checks_the_name_of_the_server(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, Echo(), ssl_context=contexts[0]) as server:
            with pytest.raises(ConnectionFailed, match="ostname"):
                await aio.connect(server.address, WIRE, ssl_context=contexts[1], server_hostname="example.org")
            async with aio.connect(
                f"tls://127.0.0.1:{server.address.port}", WIRE, ssl_context=contexts[1], server_hostname="localhost"
            ) as connection:
                await connection.send(1)
                assert await connection.receive() == 1

    run(main)


def test_who_cannot_shake_hands_harms_nobody(run: Run, contexts: Contexts) -> None:
    service = Echo()

    async def main() -> None:
        async with (
            # Time enough for an honest handshake on a loaded machine too.
            aio.serve(LOCAL, WIRE, service, ssl_context=contexts[0], handshake_timeout=1.5) as server,
            Stranger(server.address) as plain,
            Stranger(server.address) as silent,
        ):
            await plain.send(WIRE.encode("hello"))
            with contextlib.suppress(ConnectionError):
                await plain.rest()
            async with aio.connect(server.address, WIRE, ssl_context=contexts[1]) as connection:
                await connection.send(1)
                assert await connection.receive() == 1
            with contextlib.suppress(ConnectionError):
                assert await silent.rest() == b""
            await until(lambda: server.connections == 0)
        assert len(service.opened_peers) == 1

    run(main)


def test_tls_that_is_cut_off_is_no_clean_end(run: Run, contexts: Contexts) -> None:
    service = Echo()

    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, service, ssl_context=contexts[0]) as server:

            def talk() -> None:
                plain = socket.create_connection((server.address.host, server.address.port))
                with contexts[1].wrap_socket(plain, server_hostname="localhost") as sock:
                    sock.sendall(WIRE.encode("a whole message"))
                    assert sock.recv(100) == WIRE.encode("a whole message")
                    socket.socket.shutdown(sock, socket.SHUT_WR)  # without close_notify

            thread = threading.Thread(target=talk)
            thread.start()
            await until(lambda: service.closed_peers)
            thread.join()
        assert isinstance(service.errors[0], ConnectionReset)
        assert service.messages == ["a whole message"]

    run(main)


def test_replies_still_go_out_behind_the_clients_close_notify(run: Run, contexts: Contexts) -> None:
    service = big_replies(3_000_000)

    def talk(address: Address) -> bytes:
        ours = Tunnel(contexts[1], server_hostname="localhost")
        with socket.create_connection((address.host, address.port), timeout=5) as sock:
            while not ours.shake():
                sock.sendall(ours.outgoing())
                ours.feed(sock.recv(1 << 16))
            ours.write(RAW.encode(b"one"))
            ours.end()  # says close_notify, while most of the reply is on its way
            sock.sendall(ours.outgoing())
            got = bytearray()
            room = memoryview(bytearray(1 << 16))
            while (count := ours.read(room)) != 0:
                if count is None:
                    chunk = sock.recv(1 << 16)
                    assert chunk, "it was cut off"
                    ours.feed(chunk)
                else:
                    got += room[:count]
            return bytes(got)

    async def main() -> None:
        async with aio.serve(LOCAL, RAW, service, ssl_context=contexts[0]) as server:
            assert await asyncio.to_thread(talk, server.address) == RAW.encode(b"one" + bytes(3_000_000))
        assert service.errors == [None]

    run(main)


def test_a_client_that_does_not_wait_for_the_servers_close_notify_has_ended_cleanly(
    run: Run, contexts: Contexts, tmp_path: Path
) -> None:
    service = Echo()

    def talk(path: str) -> ssl.SSLSocket:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(5)
        plain.connect(path)
        sock = contexts[1].wrap_socket(plain, server_hostname="localhost")
        sock.sendall(WIRE.encode(1))
        assert sock.recv(100) == WIRE.encode(1)
        return sock

    async def main() -> None:
        async with aio.serve(f"unix:{tmp_path}/s", WIRE, service, ssl_context=contexts[0]) as server:
            for _ in range(5):
                sock = await asyncio.to_thread(talk, server.address.path)
                sock.setblocking(False)
                with contextlib.suppress(ssl.SSLWantReadError):
                    sock.unwrap()
                sock.close()  # before the server, which is on this very loop, has read the end
            await until(lambda: len(service.closed_peers) == 5)
        assert service.errors == [None] * 5

    run(main)


def test_the_tls_object_is_known_by_asyncios_names(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        async with (
            aio.serve(LOCAL, WIRE, Echo(), ssl_context=contexts[0]) as server,
            aio.connect(server.address, WIRE, ssl_context=contexts[1]) as connection,
        ):
            assert connection.get_extra_info("sslcontext") is contexts[1]
            assert ("DNS", "localhost") in connection.get_extra_info("peercert")["subjectAltName"]
            assert connection.get_extra_info("cipher")[1].startswith("TLS")
            assert connection.get_extra_info("compression", "none") == "none"
            assert connection.get_extra_info("peername") == (server.address.host, server.address.port)
            assert connection.get_extra_info("nonsense", 1) == 1

    run(main)


@pytest.mark.parametrize("steps", range(4))
def test_a_cancelled_upgrade_fails_the_connection(run: Run, contexts: Contexts, steps: int) -> None:
    async def main() -> None:
        async with conversation() as (connection, stranger):
            upgrading = asyncio.create_task(connection.start_tls(contexts[1]))
            for _ in range(steps):
                await asyncio.sleep(0)
            upgrading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upgrading
            if not steps:
                return  # it had not begun
            with pytest.raises(ConnectionFailed, match="interrupted"):
                await connection.receive()
            with pytest.raises(ConnectionFailed, match="interrupted"):
                await connection.send(1)
            with contextlib.suppress(ConnectionError):
                await stranger.rest()

    run(main)


def test_while_another_task_receives_there_is_no_upgrade(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        async with conversation() as (connection, stranger):
            receiving = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            with pytest.raises(FramingError, match="another task"):
                await connection.start_tls(contexts[1])
            with pytest.raises(ValueError, match="timeout"):
                await connection.start_tls(contexts[1], timeout=0)
            with pytest.raises(ValueError, match="a server's"):
                await connection.start_tls(contexts[0])
            await stranger.send(WIRE.encode("unharmed"))
            assert await receiving == "unharmed"

    run(main)


def test_who_closes_while_hands_are_shaken_ends_the_upgrade(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        async with conversation() as (connection, _):
            upgrading = asyncio.create_task(connection.start_tls(contexts[1]))
            await asyncio.sleep(0.01)
            connection.close()
            with pytest.raises(ConnectionClosed):
                await upgrading
            with pytest.raises(ConnectionClosed):
                await connection.start_tls(contexts[1])

    run(main)


def test_behind_the_end_there_is_no_upgrade(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        async with conversation() as (connection, stranger):
            stranger.sock.shutdown(socket.SHUT_WR)
            await until(lambda: connection._link.eof)
            with pytest.raises(ConnectionClosed):
                await connection.start_tls(contexts[1])
            await connection.send("still here")
            assert await stranger.receive() == WIRE.encode("still here")

    run(main)


def test_a_server_may_stop_while_hands_are_shaken(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        async with aio.serve(LOCAL, WIRE, Echo(), ssl_context=contexts[0]) as server, Stranger(server.address):
            await until(lambda: server.connections == 1)

    run(main)


def test_text_lines_work_as_well(run: Run) -> None:
    wire = Wire.parse("lines+text")
    assert wire.codec == Text()

    async def main() -> None:
        async with aio.serve(LOCAL, wire, Echo()) as server, Stranger(server.address) as telnet:
            await telnet.send(b"hello\r\n")
            assert await telnet.receive() == b"hello\n"

    run(main)
