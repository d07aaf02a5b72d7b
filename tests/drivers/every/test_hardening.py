"""What framing code has got wrong in software that people trust, over real sockets and every driver: a test for each row.

The rows that no driver can touch, such as an encoder that wraps, are tested beside the framers and codecs.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

from framing import (
    CBOR,
    JSON,
    Compressed,
    CorruptFrame,
    DecodeError,
    FrameTooLarge,
    LengthPrefixed,
    Lines,
    MessagePack,
    Timeout,
    TruncatedFrame,
    Wire,
)
from tests.drivers.every import services
from tests.drivers.every.registry import over
from tests.drivers.every.services import RAW, Echo, Patience, Scripted, until
from tests.drivers.every.strangers import Stranger

ROOT = Path(__file__).parents[3]
few = over("tcp", "tls")
plain = over("tcp", "unix")

GENEROUS = Wire(LengthPrefixed(4, max_frame=(1 << 31) - 1))
TINY = Wire(LengthPrefixed(1))


@contextlib.contextmanager
def frugal(limit: int):
    """No more than ``limit`` bytes of memory are taken meanwhile, by whatever thread."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@few
def test_memory_for_a_declared_length_of_a_server(serve, visit):
    """Netty CVE-2026-42583 and -45416, CPython http.client CVE-2025-13836, Kafka KIP-498."""
    service = Echo()
    server = serve(GENEROUS, service)
    with frugal(1 << 21):
        stranger = visit(server, GENEROUS)
        stranger.send(b"first")
        assert stranger.receive() == b"first"
        stranger.write(b"\x7f\xff\xff\xff")
        for _ in range(20):
            stranger.write(b"a" * 100)
            time.sleep(0.002)  # for each to be a read of its own
        stranger.say_end()
        assert isinstance(service.end(), TruncatedFrame)
        stranger.sock.close()


@few
def test_memory_for_a_declared_length_of_a_client(meet):
    """The same, of a server that is not to be trusted."""
    client, stranger = meet(GENEROUS)
    with frugal(1 << 21):
        stranger.write(b"\x7f\xff\xff\xff")
        for _ in range(20):
            stranger.write(b"a" * 100)
            time.sleep(0.002)
        stranger.say_end()
        with pytest.raises(TruncatedFrame):
            client.receive()


@pytest.mark.parametrize("size", [1, 7, 500, 5000])
@pytest.mark.parametrize("ended", [True, False], ids=["found", "not found"])
@few
def test_a_limit_late_or_bypassed(serve, visit, size, ended):
    """h11 and anyio accept in one read what they refuse in two; Netty MQTT CVE-2026-42587, CVE-2026-44248."""
    wire = Wire(Lines(max_frame=1000))
    service = Echo()
    stranger = visit(serve(wire, service), wire)
    stream = b"a" * 1000 + b"\n" + b"b" * 1001 + (b"\n" if ended else b"b" * 2000)
    with contextlib.suppress(OSError):  # what comes behind the limit may find nobody
        for begin in range(0, len(stream), size):
            stranger.write(stream[begin : begin + size])
    assert stranger.rest() == [b"a" * 1000]
    stranger.sock.close()
    error = service.end()
    assert isinstance(error, FrameTooLarge)
    assert (error.offset, error.expected, error.got) == (1001, 1000, 1001)
    assert service.got == [b"a" * 1000]


class Tiny:
    """Counts what is empty, and sends back what is not."""

    count = 0

    def received(self, peer, message):
        if message:
            peer.send(message)
        else:
            self.count += 1


@plain
def test_many_tiny_items_starve_nobody(serve, visit):
    """Redis CVE-2021-32675, HTTP/2 CVE-2019-9518: while a million empty frames come, others are answered."""
    service = Tiny()
    server = serve(TINY, service)
    other, stranger = visit(server, TINY), visit(server, TINY)
    flood = threading.Thread(target=stranger.write, args=(bytes(1_000_000),))
    flood.start()
    patience = Patience()
    while service.count < 1_000_000 and patience.left():
        before = time.monotonic()
        other.send(b"and I?")
        assert other.receive() == b"and I?"
        assert time.monotonic() - before < 2
    flood.join()


@over("tcp")
def test_many_tiny_items_take_no_memory(serve, visit):
    """The same: they are handled as they come, and not kept."""
    service = Tiny()
    stranger = visit(serve(TINY, service), TINY)
    with frugal(1 << 22):
        stranger.write(bytes(100_000))
        until(lambda: service.count == 100_000)


@few
def test_many_tiny_items_to_a_client(meet):
    """The same, of a server that is not to be trusted: all of them come, and what is behind them."""
    client, stranger = meet(TINY)
    flood = threading.Thread(target=stranger.write, args=(bytes(300_000) + b"\1!",))
    flood.start()
    count = 0
    while (batch := client.receive_batch())[-1] != b"!":
        count += len(batch)
    assert count + len(batch) == 300_001
    flood.join()


@few
def test_going_on_after_an_error_of_a_server(serve, visit):
    """redis-py CVE-2023-28858; Netty goes on where no frame begins: what comes behind a violation is never a message."""
    service = Echo()
    server = serve(RAW, service)
    stranger = visit(server, RAW)
    stranger.send(b"good")
    stranger.write(b"\xff\xff\xff\xff" + RAW.encode(b"injected") * 100)
    patience = Patience()
    with contextlib.suppress(OSError):
        while not service.ends and patience.left():
            stranger.write(RAW.encode(b"injected"))
            time.sleep(0.001)
        stranger.write(RAW.encode(b"injected"))
    assert isinstance(service.end(), FrameTooLarge)
    stranger.sock.close()
    until(lambda: server.connections == 0)
    assert service.got == [b"good"]


@few
def test_going_on_after_an_error_of_a_client(meet):
    """The same, of a server that is not to be trusted."""
    client, stranger = meet(RAW)
    stranger.write(RAW.encode(b"good") + b"\xff\xff\xff\xff" + RAW.encode(b"injected") * 100)
    assert client.receive() == b"good"
    for _ in range(5):
        with pytest.raises(FrameTooLarge):
            client.receive()
        with contextlib.suppress(OSError):
            stranger.write(RAW.encode(b"injected"))


HALVES = {
    "u32": b"\0\0\0\1",
    "u32+json": b"\0\0",
    "lines+text": b"no end of line",
    "netstring": b"3:abc",
    "varint": b"\x80",
    "cobs": b"\x05abcd",
    "lsp": b"Content-Length: 2\r\n\r\n",
    "octets": b"3",
    "fixed:4": b"abc",
}
halves = pytest.mark.parametrize("spec", HALVES)


@halves
@few
def test_a_half_frame_that_looks_clean_to_a_server(serve, visit, spec):
    """tokio-util: EOF behind a consumed header; Erlang drops an unterminated line."""
    service = Echo()
    wire = Wire.parse(spec)
    stranger = visit(serve(wire, service), wire)
    stranger.write(HALVES[spec])
    stranger.say_end()
    assert isinstance(service.end(), TruncatedFrame)
    assert not service.got


@halves
@few
def test_a_half_frame_that_looks_clean_to_a_client(meet, spec):
    """The same, of a server."""
    client, stranger = meet(Wire.parse(spec))
    stranger.write(HALVES[spec])
    stranger.say_end()
    for _ in range(2):
        with pytest.raises(TruncatedFrame):
            client.receive()


def upgrading(contexts: Any) -> Scripted:
    """A service that goes on with TLS when it is asked to."""

    def handle(peer: Any, message: Any) -> None:
        peer.send(message)
        if message == "STARTTLS":
            peer.start_tls(contexts[0])

    return Scripted(handle)


@plain
def test_an_upgrade_in_mid_stream_hides_what_comes_behind_it(serve, visit, contexts):
    service = upgrading(contexts)
    stranger = visit(serve(services.JSON, service), services.JSON)
    stranger.send("in the clear")
    assert stranger.receive() == "in the clear"
    stranger.send("STARTTLS")
    assert stranger.receive() == "STARTTLS"
    sock = contexts[1].wrap_socket(stranger.sock, server_hostname="localhost")
    with Stranger(sock, services.JSON) as secured:
        secured.send("in secret", 2)
        assert secured.take(2) == ["in secret", 2]
        assert service.got == ["in the clear", "STARTTLS", "in secret", 2]
        secured.say_end()
    assert service.end() is None


@pytest.mark.parametrize("kept", [3, 100])
@plain
def test_bytes_kept_across_an_upgrade(serve, visit, contexts, kept):
    """PostgreSQL CVE-2021-23214: what came behind the agreement was injected by somebody in between; it is refused."""
    service = upgrading(contexts)
    server = serve(services.JSON, service)
    stranger = visit(server, services.JSON)
    stranger.write(services.JSON.encode("STARTTLS") + services.JSON.encode("injected")[:kept])
    assert isinstance(service.end(), CorruptFrame)
    assert stranger.closed()
    stranger.sock.close()
    until(lambda: server.connections == 0)
    assert service.got == ["STARTTLS"]


@few
def test_decompression_bombs(serve, visit):
    """NATS CVE-2026-27571: a small frame that inflates to 16 MiB takes no such memory, and ends its own connection only."""
    wire = Wire(LengthPrefixed(4, max_frame=1 << 17), Compressed("zlib"))
    bomb = wire.framer.encode(zlib.compress(bytes(1 << 24)))
    service = Echo()
    server = serve(wire, service)
    other = visit(server, wire)
    with frugal(1 << 21):
        stranger = visit(server, wire)
        stranger.write(wire.encode(b"before") + bomb + wire.encode(b"behind"))
        assert stranger.rest() == [b"before"]
        stranger.sock.close()
        assert isinstance(service.end(), DecodeError)
    other.send(b"others")
    assert other.receive() == b"others"


@few
def test_decompression_bombs_for_a_client(meet):
    """The same, of a server that is not to be trusted."""
    wire = Wire(LengthPrefixed(4, max_frame=1 << 17), Compressed("zlib"))
    client, stranger = meet(wire)
    bomb = wire.framer.encode(zlib.compress(bytes(1 << 24)))
    with frugal(1 << 21):
        stranger.write(wire.encode(b"before") + bomb)
        assert client.receive() == b"before"
        with pytest.raises(DecodeError):
            client.receive()


BOMBS = {
    "json": (JSON(), b"[" * 100_000),
    "msgpack": (MessagePack(), b"\x91" * 100_000),
    "cbor": (CBOR(), b"\x81" * 100_000),
}
bombs = pytest.mark.parametrize(("codec", "bomb"), BOMBS.values(), ids=BOMBS)


@bombs
@few
def test_nesting_bombs(serve, visit, codec, bomb):
    """cbor2 CVE-2026-26209: neither a RecursionError nor a crash; one refused payload."""
    wire = Wire(LengthPrefixed(4), codec)
    service = Echo()
    server = serve(wire, service)
    other, stranger = visit(server, wire), visit(server, wire)
    stranger.write(wire.encode(["before"]) + wire.framer.encode(bomb))
    assert stranger.rest() == [["before"]]
    stranger.sock.close()
    assert isinstance(service.end(), DecodeError)
    other.send(["others"])
    assert other.receive() == ["others"]


@bombs
@few
def test_nesting_bombs_for_a_client(meet, codec, bomb):
    """The same, of a server that is not to be trusted."""
    wire = Wire(LengthPrefixed(4), codec)
    client, stranger = meet(wire)
    stranger.write(wire.encode(["before"]) + wire.framer.encode(bomb))
    assert client.receive() == ["before"]
    with pytest.raises(DecodeError):
        client.receive()


@over("tcp", "tls", "unix")
def test_output_that_grows(serve, visit):
    """asyncio CVE-2024-12254, Redis CVE-2025-21605: who asks for much and reads nothing is slowed, then closed."""
    reply = b"a" * (1 << 16)
    service = Scripted(lambda peer, message: peer.send(reply))
    server = serve(RAW, service, slow_reader_timeout=0.3)
    greedy, other = visit(server, RAW, receive_buffer=4096), visit(server, RAW)
    with frugal(1 << 23):
        # 10,000 small requests for 640 MiB: the system's own buffers take some of the replies, and then it is over.
        greedy.write(RAW.encode(b"more") * 10_000)
        patience = Patience()
        while not service.ends and patience.left():
            before = time.monotonic()
            other.send(b"one")
            assert other.receive() == reply
            assert time.monotonic() - before < 2
            time.sleep(0.01)
    assert isinstance(service.end(), Timeout)
    asked_for = [message for message in service.got if message == b"more"]
    assert len(asked_for) < 300
    until(lambda: server.connections == 1)


@few
def test_output_that_grows_behind_a_reader_who_comes_late(serve, visit):
    """… and who reads after all, gets every reply."""
    reply = b"a" * (1 << 14)
    stranger = visit(serve(RAW, Scripted(lambda peer, message: peer.send(reply))), RAW, receive_buffer=4096)
    asking = threading.Thread(target=stranger.send, args=[b"more"] * 1000)
    asking.start()
    time.sleep(0.05)
    assert stranger.take(1000) == [reply] * 1000
    asking.join()


@over("tcp")
def test_slow_loris(serve, visit):
    """CVE-2020-13849: a deadline for each frame, not only for idleness; many who drip are gone together."""
    service = Echo()
    server = serve(services.JSON, service, frame_timeout=0.3, idle_timeout=10)
    other = visit(server, services.JSON)
    slow = [visit(server, services.JSON) for _ in range(40)]
    service.peer(41)
    drip = iter(b"\0\0\0\xff" + b"[" * 250)
    patience = Patience()
    while server.connections > 1 and patience.left():
        byte = bytes([next(drip)])
        for stranger in slow:
            with contextlib.suppress(OSError):
                stranger.write(byte)
        other.send("others")
        assert other.receive() == "others"
        if len(service.ends) == 40:
            for stranger in slow:
                stranger.sock.close()
        time.sleep(0.02)
    assert [type(end) for end in service.ends] == [Timeout] * 40


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set as Linux has it")
@over("tcp")
def test_descriptors_run_out(server_driver, transport):
    """Any accept loop: EMFILE pauses accepting; there is no spin and no end, connections go on, and it resumes."""
    wire = services.JSON
    command = [sys.executable, "-m", "tests.drivers.every.starved", server_driver, "40"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process, contextlib.ExitStack() as stack:
        assert process.stdout is not None
        host, port = process.stdout.readline().decode().strip().removeprefix("tcp://").split(":")

        def visitor() -> Stranger:
            return stack.enter_context(Stranger(socket.create_connection((host, int(port))), wire))

        first = visitor()

        def asked(what: str) -> Any:
            first.send(what)
            return first.receive()

        assert asked("open") == 1
        visitors = [visitor() for _ in range(60)]
        last = visitors[-1]
        last.send("I wait")
        until(lambda: asked("open") > 20)
        time.sleep(0.1)
        seconds, opened = asked("cpu"), asked("open")
        assert opened < 40
        time.sleep(0.6)  # it tries again once or twice meanwhile
        assert asked("cpu") - seconds < 0.2
        assert asked("open") == opened
        for leaving in visitors[:40]:
            leaving.sock.close()
        assert last.receive() == "I wait"
        assert asked("still there") == "still there"
        said, complaints = process.communicate(b"", timeout=20)
        assert said == b"ended well\n"
        assert process.returncode == 0
        assert b"Traceback" not in complaints
