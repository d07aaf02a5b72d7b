"""The datagram driver over real sockets: blocking, on asyncio, on asyncio in debug mode, and on uvloop where it is there."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from framing import (
    JSON,
    Checksum,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionRefused,
    DecodeError,
    EncodeError,
    LengthPrefixed,
    Timeout,
    Wire,
)
from framing.drivers import datagram
from framing.drivers.address import Address

WIRE = Wire(LengthPrefixed(4), Checksum("crc32"), JSON())
RAW = Wire(LengthPrefixed(4))
LOCAL = ("127.0.0.1", 0)
KINDS = ["asyncio", "debug", "uvloop"] if importlib.util.find_spec("uvloop") else ["asyncio", "debug"]
Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


def descriptors() -> int:
    held = Path("/proc/self/fd")
    return len(list(held.iterdir())) if held.exists() else 0


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "uvloop":
        return importlib.import_module("uvloop").new_event_loop()
    return asyncio.SelectorEventLoop()


@pytest.fixture(autouse=True)
def _nothing_is_leaked() -> Iterator[None]:
    for kind in KINDS:
        new_loop(kind).close()  # what a kind of loop opens once, for good, is no leak
    gc.collect()
    before = descriptors(), threading.active_count()
    yield
    gc.collect()
    assert (descriptors(), threading.active_count()) == before


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine; it may leave no task and no complaint of the loop behind."""

    def run_it(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        complaints: list[dict[str, Any]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(10):
                await main()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(debug=request.param == "debug", loop_factory=lambda: new_loop(request.param)) as runner:
            runner.run(guarded())
        assert complaints == []

    return run_it


class Echo:
    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.peers: set[Any] = set()

    def opened(self, peer: Any) -> None:
        raise AssertionError("there are no connections")

    closed = opened

    def received(self, peer: Any, message: Any) -> None:
        self.messages.append(message)
        self.peers.add(peer)
        peer.send(message)


def places(where: str, tmp_path: Path) -> tuple[Any, Any]:
    """Where a server and where a client bind."""
    if where == "udp6" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    return {
        "udp": (LOCAL, LOCAL),
        "udp6": ("udp://[::1]:0", "udp://[::1]:0"),
        "name": (("localhost", 0), ("localhost", 0)),
        "unix": (f"unix:{tmp_path}/server", f"unix:{tmp_path}/client"),
    }[where]


# -------------------------------------------------------------------------------------------------- blocking


@pytest.mark.parametrize("where", ["udp", "udp6", "name", "unix"])
def test_messages_go_there_and_back(where: str, tmp_path: Path) -> None:
    here, there = places(where, tmp_path)
    with datagram.bind(here, WIRE, timeout=2) as server, datagram.bind(there, WIRE, timeout=2) as client:
        client.send({"op": "sum"}, server.address)
        message, sender = server.receive()
        assert message == {"op": "sum"}
        assert sender == client.address
        server.send([1, 2], sender)
        packet = client.receive()
        assert packet == ([1, 2], server.address)
        assert packet.message == [1, 2]
        with datagram.connect(server.address, WIRE, timeout=2) as connected:
            connected.send("hello")
            message, sender = server.receive()
            assert (message, sender) == ("hello", connected.address)
            server.send("you too", sender)
            assert connected.receive() == ("you too", server.address)
            assert connected.peer == server.address
    assert list(tmp_path.iterdir()) == []


def test_a_packet_holds_the_payload_and_none_of_the_framers_bytes() -> None:
    with datagram.bind(LOCAL, WIRE) as endpoint, socket.socket(type=socket.SOCK_DGRAM) as stranger:
        stranger.bind(LOCAL)
        endpoint.send({"a": 1}, stranger.getsockname())
        assert stranger.recv(100) == WIRE.payload({"a": 1}) == WIRE.encode({"a": 1})[4:]


def test_an_ipv4_peer_reaches_an_endpoint_of_all_addresses_and_is_answered() -> None:
    with (
        datagram.bind(("", 0), WIRE, timeout=2) as server,
        datagram.connect(("127.0.0.1", server.address.port), WIRE, timeout=2) as client,
    ):
        client.send(1)
        _, sender = server.receive()
        server.send(2, sender)
        assert client.receive().message == 2
        server.send(3, ("127.0.0.1", client.address.port))
        assert client.receive().message == 3


@pytest.mark.parametrize(
    ("wire", "size"), [(RAW, 65_508), (Wire(LengthPrefixed(4, max_frame=100)), 101), (RAW, 1 << 20)]
)
def test_a_message_that_is_too_large_for_a_packet_sends_nothing(wire: Wire[bytes], size: int) -> None:
    with datagram.bind(LOCAL, wire) as endpoint, datagram.bind(LOCAL, wire) as other:
        with pytest.raises(EncodeError) as caught:
            endpoint.send(bytes(size), other.address)
        assert (caught.value.got, caught.value.expected) == (size, size - 1 if size < 1 << 20 else 65_507)
        with pytest.raises(Timeout):
            other.receive(timeout=0)


def test_the_largest_packet_and_the_empty_one_go_through() -> None:
    with datagram.bind(LOCAL, RAW, timeout=2) as endpoint, datagram.bind(LOCAL, RAW, timeout=2) as other:
        for size in (65_507, 0, 1):
            message = os.urandom(size)
            endpoint.send(message, other.address)
            assert other.receive() == (message, endpoint.address)


def test_what_the_system_does_not_send_is_an_encode_error(tmp_path: Path) -> None:
    wire = Wire(LengthPrefixed(4, max_frame=1 << 24))
    with datagram.bind(f"unix:{tmp_path}/a", wire, timeout=2) as a, datagram.bind(f"unix:{tmp_path}/b", wire) as b:
        with pytest.raises(EncodeError, match="the system sends no packet of 8000000 bytes"):
            b.send(bytes(8_000_000), a.address)
        b.send(bytes(100_000), a.address)  # above what UDP carries
        assert a.receive().message == bytes(100_000)


def test_bad_packets_are_told_with_their_sender_and_poison_nothing() -> None:
    wire = Wire(LengthPrefixed(4, max_frame=50), JSON())
    with datagram.bind(LOCAL, wire, timeout=2) as endpoint, socket.socket(type=socket.SOCK_DGRAM) as stranger:
        stranger.bind(LOCAL)
        target = (endpoint.address.host, endpoint.address.port)
        for packet in (b"1", b"{oops", b"2", b'"' + b"x" * 49 + b'"', b"y" * 60_000, b"3", b"", b"4"):
            stranger.sendto(packet, target)
        got: list[Any] = []
        while len(got) < 8:
            try:
                got.append(endpoint.receive().message)
            except datagram.BadPacket as error:
                assert isinstance(error, DecodeError)
                assert error.sender == Address("udp", *stranger.getsockname())
                got.append((error.head[:2], error.got))
        assert got == [1, (b"{o", None), 2, (b'"x', 51), (b"yy", 51), 3, (b"", None), 4]


def test_a_refused_packet_surfaces_as_connection_refused_and_the_endpoint_goes_on() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as deaf:
        # It holds the port, so that nobody else gets it, and hears itself alone.
        deaf.bind(LOCAL)
        address = deaf.getsockname()
        deaf.connect(address)
        endpoint = datagram.connect(address, WIRE, timeout=2)
        endpoint.send("is anybody there?")
    with endpoint:
        with pytest.raises(ConnectionRefused, match=f"udp://127.0.0.1:{address[1]}") as caught:
            endpoint.receive()
        assert isinstance(caught.value, ConnectionRefusedError)
        with datagram.bind(address, WIRE, timeout=2) as late:
            endpoint.send("and now?")
            message, sender = late.receive()
            assert message == "and now?"
            late.send("yes", sender)
            assert endpoint.receive().message == "yes"


def test_a_time_that_is_over_loses_nothing() -> None:
    with datagram.bind(LOCAL, WIRE) as endpoint:
        for timeout in (0, 0.02):
            started = time.monotonic()
            with pytest.raises(Timeout):
                endpoint.receive(timeout=timeout)
            assert timeout <= time.monotonic() - started < timeout + 0.5
        endpoint.send("to myself", endpoint.address)
        assert endpoint.receive(timeout=1).message == "to myself"


def test_a_unix_socket_whose_receiver_is_behind_is_waited_for(tmp_path: Path) -> None:
    with datagram.bind(f"unix:{tmp_path}/a", RAW, timeout=2) as a, datagram.connect(f"unix:{tmp_path}/a", RAW) as b:
        n = 0
        with contextlib.suppress(Timeout):
            for n in range(100_000):
                b.send(b"%d" % n, timeout=0.02)
        assert n < 99_999
        got: list[bytes] = []

        def read() -> None:
            while len(got) <= n:
                got.append(a.receive().message)

        thread = threading.Thread(target=read)
        thread.start()
        b.send(b"%d" % n, timeout=2)
        thread.join()
        assert got == [b"%d" % each for each in range(n + 1)]


def test_many_threads_may_send_and_receive() -> None:
    with datagram.bind(LOCAL, RAW, timeout=2) as server, datagram.connect(server.address, RAW, timeout=2) as client:
        got: list[bytes] = []

        def receive() -> None:
            got.extend(server.receive().message for _ in range(20))

        def send(name: int) -> None:
            for n in range(20):
                client.send(bytes([name, n]) * 500)

        threads = [threading.Thread(target=receive) for _ in range(4)]
        threads += [threading.Thread(target=send, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == sorted(bytes([name, n]) * 500 for name in range(4) for n in range(20))


def test_closing_wakes_who_waits() -> None:
    endpoint = datagram.bind(LOCAL, WIRE)
    packets: list[Any] = []
    thread = threading.Thread(target=lambda: packets.extend(endpoint))
    thread.start()
    endpoint.send(1, endpoint.address)
    while not packets:
        time.sleep(0.001)
    endpoint.close()
    thread.join(2)
    assert not thread.is_alive()
    assert packets == [(1, endpoint.address)]
    for call in (endpoint.receive, lambda: endpoint.send(1, LOCAL)):
        with pytest.raises(ConnectionClosed):
            call()
    endpoint.close()
    assert endpoint.fileno() == -1


def test_who_cannot_be_reached_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    with datagram.bind(LOCAL, WIRE) as endpoint, datagram.bind(f"unix:{tmp_path}/a", WIRE) as unix:
        with pytest.raises(ValueError, match="say whom to send to"):
            endpoint.send(1)
        with pytest.raises(ValueError, match="cannot be reached"):
            endpoint.send(1, unix.address)
        with pytest.raises(ValueError, match="for streams"):
            endpoint.send(1, "tcp://127.0.0.1:1")
        with pytest.raises(ValueError, match="unnamed"):
            unix.send(1, Address("unix"))
        with pytest.raises(ConnectionFailed, match="no such socket file"):
            unix.send(1, f"unix:{tmp_path}/none")
        with pytest.raises(ConnectionFailed, match="resolved"):
            endpoint.send(1, ("nowhere.invalid", 1))
        for call in (datagram.bind, datagram.connect):
            with pytest.raises(ConnectionFailed, match="can be no host name"):
                call(("x" * 70, 1), WIRE)
        with datagram.connect(endpoint.address, WIRE) as connected, pytest.raises(ValueError, match="alone"):
            connected.send(1, unix.address)
    with pytest.raises(ValueError, match="for streams"):
        datagram.bind("tcp://127.0.0.1:0", WIRE)
    with socket.socket() as stream, pytest.raises(ValueError, match="datagram socket"):
        datagram.Endpoint(stream, WIRE)


def test_any_datagram_socket_will_do() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with datagram.Endpoint(ours, WIRE, timeout=2) as a, datagram.Endpoint(theirs, WIRE, timeout=2) as b:
        a.send([1])
        assert b.receive().message == [1]
        b.send([2])
        assert a.receive().message == [2]


def test_a_stale_socket_file_is_replaced_and_a_live_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(path))
    with datagram.bind(f"unix:{path}", WIRE), pytest.raises(ConnectionFailed, match="already"):
        datagram.bind(f"unix:{path}", WIRE)
    assert not path.exists()
    path.write_text("no socket")
    with pytest.raises(ConnectionFailed, match="a file that is no socket is there"):
        datagram.bind(f"unix:{path}", WIRE)
    assert path.read_text() == "no socket"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(str(path))
        stream.listen()
        with pytest.raises(ConnectionFailed, match="already"):
            datagram.bind(f"unix:{path}", WIRE)
    assert path.exists()


def test_closing_leaves_a_path_alone_that_somebody_else_has_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = datagram.bind(f"unix:{path}", WIRE)
    path.unlink()
    with datagram.bind(f"unix:{path}", WIRE, timeout=2) as second:
        first.close()
        assert path.exists()
        with datagram.connect(f"unix:{path}", WIRE) as client:
            client.send("still here")
            assert second.receive().message == "still here"
    assert not path.exists()


def test_a_taken_port_is_refused() -> None:
    with datagram.bind(LOCAL, WIRE) as endpoint, pytest.raises(ConnectionFailed, match="already") as caught:
        datagram.bind(endpoint.address, WIRE)
    assert str(endpoint.address) in str(caught.value)


# --------------------------------------------------------------------------------------------------- asyncio


@pytest.mark.parametrize("where", ["udp", "udp6", "name", "unix"])
def test_messages_go_there_and_back_on_a_loop(run: Run, where: str, tmp_path: Path) -> None:
    async def main() -> None:
        here, there = places(where, tmp_path)
        async with datagram.async_bind(here, WIRE) as server, datagram.async_bind(there, WIRE) as client:
            await client.send({"op": "sum"}, server.address)
            message, sender = await server.receive()
            assert (message, sender) == ({"op": "sum"}, client.address)
            await server.send([1, 2], sender)
            assert await client.receive() == ([1, 2], server.address)
            async with datagram.async_connect(server.address, WIRE) as connected:
                await connected.send("hello")
                message, sender = await server.receive()
                await server.send("you too", sender)
                assert await connected.receive() == ("you too", server.address)
        with pytest.raises(ConnectionClosed):
            await server.receive()

    run(main)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", range(5))
def test_a_cancelled_receive_takes_no_packet(run: Run, steps: int) -> None:
    async def main() -> None:
        async with datagram.async_bind(LOCAL, WIRE) as endpoint:
            for turn in range(5):
                task = asyncio.create_task(endpoint.receive())
                for step in range(5):
                    if step == turn:
                        await endpoint.send(turn, endpoint.address)
                    if step == steps:
                        task.cancel()
                    await asyncio.sleep(0)
                (result,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(result, asyncio.CancelledError):
                    result = await endpoint.receive()
                assert result == (turn, endpoint.address)
                assert endpoint._waiters == []

    run(main)


def test_a_cancelled_send_sends_nothing(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        address = f"unix:{tmp_path}/a"
        async with datagram.async_bind(address, RAW) as a, datagram.async_connect(address, RAW) as b:
            sent: list[bytes] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    while True:
                        message = b"%d" % len(sent)
                        await b.send(message)
                        sent.append(message)
            late = asyncio.create_task(b.send(b"late"))
            await asyncio.sleep(0.005)
            assert not late.done()
            got = [(await a.receive()).message]
            await late
            got += [(await a.receive()).message for _ in sent]
            assert got == [*sent, b"late"]

    run(main)


def test_packets_of_a_loop_may_be_bad_and_refused_too(run: Run) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.bind(LOCAL)
            address = stranger.getsockname()
            async with datagram.async_connect(address, WIRE) as endpoint:
                stranger.sendto(b"no crc", (endpoint.address.host, endpoint.address.port))
                stranger.sendto(WIRE.payload(1), (endpoint.address.host, endpoint.address.port))
                with pytest.raises(datagram.BadPacket) as caught:
                    await endpoint.receive()
                assert caught.value.sender == Address("udp", *address)
                assert (await endpoint.receive()).message == 1
                stranger.connect(address)  # from now on it hears itself alone
                await endpoint.send(2)
                with pytest.raises(ConnectionRefused):
                    await endpoint.receive()
                with pytest.raises(EncodeError):
                    await endpoint.send("x" * 70_000)

    run(main)


def test_closing_wakes_the_tasks_that_wait(run: Run) -> None:
    async def main() -> None:
        endpoint = await datagram.async_bind(LOCAL, WIRE)
        packets: list[Any] = []
        both = asyncio.Event()

        async def read() -> None:
            async for packet in endpoint:
                packets.append(packet)
                if len(packets) == 2:
                    both.set()

        task = asyncio.create_task(read())
        await endpoint.send(1, endpoint.address)
        await endpoint.send(2, ("localhost", endpoint.address.port))
        await both.wait()
        endpoint.close()
        await task
        assert [packet.message for packet in packets] == [1, 2]

    run(main)


# -------------------------------------------------------------------------------------------------- services


def talk_to(address: Address, service: Any) -> None:
    """Two clients talk to an echo server; bad packets among it change nothing."""
    with datagram.connect(address, WIRE, timeout=2) as a, datagram.connect(address, WIRE, timeout=2) as b:
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"garbage", (address.host, address.port))
        for n in range(20):
            a.send(n)
            b.send([n])
            assert (a.receive().message, b.receive().message) == (n, [n])
        assert len(service.messages) == 40
        assert {peer.address for peer in service.peers} == {a.address, b.address}
        assert len(service.peers) == 2


def test_a_service_runs_on_datagrams() -> None:
    service = Echo()
    with datagram.Server(LOCAL, WIRE, service) as server:
        talk_to(server.address, service)


def test_a_service_runs_on_datagrams_of_a_loop(run: Run) -> None:
    service = Echo()

    async def main() -> None:
        async with datagram.AsyncServer(LOCAL, WIRE, service) as server:
            await asyncio.get_running_loop().run_in_executor(None, talk_to, server.address, service)
        with pytest.raises(ConnectionClosed):
            await server.__aenter__()

    run(main)


def test_one_peer_sends_many_messages_and_encoded_ones_each_in_its_packet() -> None:
    class Chatty:
        def received(self, peer: Any, message: Any) -> None:
            assert not peer.paused
            peer.send_many([1, 2])
            peer.send_encoded(WIRE.encode_many([3, 4]))
            with pytest.raises(EncodeError):
                peer.send_many([5, "x" * 70_000])
            peer.close()
            peer.send("end")

    with datagram.Server(LOCAL, WIRE, Chatty()) as server, datagram.connect(server.address, WIRE, timeout=2) as client:
        client.send("go")
        assert [client.receive().message for _ in range(5)] == [1, 2, 3, 4, "end"]


def test_a_service_that_raises_is_logged_with_the_sender_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(Echo):
        def received(self, peer: Any, message: Any) -> None:
            if message == "bug":
                raise RuntimeError("a bug")
            super().received(peer, message)

    with datagram.Server(LOCAL, WIRE, Buggy()) as server, datagram.connect(server.address, WIRE, timeout=2) as client:
        client.send("bug")
        client.send("fine")
        assert client.receive().message == "fine"
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert str(client.address) in record.message


@pytest.mark.parametrize("how", ["thread", "signal"])
def test_a_server_is_stopped_from_anywhere(how: str) -> None:
    server = datagram.Server(LOCAL, WIRE, Echo())
    before = signal.signal(signal.SIGUSR1, lambda *_: server.stop())
    stop = server.stop if how == "thread" else lambda: os.kill(os.getpid(), signal.SIGUSR1)
    timer = threading.Timer(0.05, stop)
    try:
        timer.start()
        server.run()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    server.close()


def test_a_server_of_a_loop_is_stopped_from_anywhere(run: Run) -> None:
    async def main() -> None:
        async with datagram.AsyncServer(LOCAL, WIRE, Echo()) as server:
            loop = asyncio.get_running_loop()
            stopping = loop.run_in_executor(None, server.stop)
            await server.run()
            await stopping
        server.stop()

    run(main)


def test_the_blocking_half_does_not_load_asyncio() -> None:
    code = "import sys, framing.drivers.datagram; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
