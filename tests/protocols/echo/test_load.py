"""The load: what an honest server answers is right, and each kind of dishonesty is found, named and counted."""

from __future__ import annotations

import contextlib
import gc
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framing import ConnectionClosed, ConnectionFailed, ConnectionRefused, EncodeError, Timeout, Wire
from framing.drivers import aio, blocking, datagram, selector
from protocols.echo import Echo
from protocols.echo.load import Figures, Load

WIRE = Wire.parse("u32+json")
LOCAL = ("127.0.0.1", 0)
SERVERS = {"threads": blocking.Server, "selector": selector.Server, "asyncio": aio.StandaloneServer}


def descriptors() -> int:
    opened = Path("/proc/self/fd")
    return len(list(opened.iterdir())) if opened.exists() else 0


@pytest.fixture(autouse=True)
def _nothing_is_leaked() -> Iterator[None]:
    gc.collect()
    before = descriptors(), threading.active_count()
    yield
    end = time.monotonic() + 10
    while (descriptors(), threading.active_count()) != before and time.monotonic() < end:
        time.sleep(0.005)
    assert (descriptors(), threading.active_count()) == before


@contextlib.contextmanager
def serving(service: Any = None, wire: Wire[Any] = WIRE, kind: Any = blocking.Server, **options: Any) -> Iterator[Any]:
    """The address of a server."""
    with kind(options.pop("address", LOCAL), wire, service or Echo(), **options) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server.address
        finally:
            server.stop()
            thread.join(10)


def faults(figures: Figures) -> dict[str, int]:
    names = ("lost", "doubled", "changed", "out_of_order", "failed")
    return {name: getattr(figures, name) for name in names if getattr(figures, name)}


@pytest.mark.parametrize("kind", SERVERS)
def test_an_honest_server_answers_all(kind):
    with serving(kind=SERVERS[kind]) as address:
        figures = Load(address, WIRE, connections=7, pipeline=5, messages=1000, size=(1, 500)).run()
    assert figures.right
    assert (figures.connections, figures.sent, figures.replies, faults(figures)) == (7, 1000, 1000, {})
    assert figures.latencies.count == 1000
    assert figures.seconds > 0
    assert figures.messages_per_second == pytest.approx(1000 / figures.seconds)
    assert figures.bytes_per_second * figures.seconds == pytest.approx(figures.reply_bytes)
    assert not figures.stopped


@pytest.mark.parametrize("spec", ["u32", "lines+text", "cobs+crc32+cbor", "fixed:16", "varint+zlib+msgpack"])
def test_any_wire_does(spec):
    wire = Wire.parse(spec)
    with serving(wire=wire) as address:
        figures = Load(address, wire, messages=200).run()
    assert (figures.right, figures.replies) == (True, 200)


def test_over_tls(certificates):
    with serving(kind=selector.Server, address="tls://127.0.0.1:0", ssl_context=certificates.server) as address:
        figures = Load(address, WIRE, messages=300, ssl_context=certificates.client).run()
    assert (figures.right, figures.replies) == (True, 300)


def test_over_a_unix_socket(tmp_path):
    with serving(address=f"unix:{tmp_path}/s") as address:
        assert Load(address, WIRE, messages=300).run().right


def test_large_messages_do_not_block_each_other():
    wire = Wire.parse("u32(max_frame=4M)")
    with serving(wire=wire, kind=selector.Server) as address:
        figures = Load(address, wire, connections=3, pipeline=8, messages=40, size=1 << 20).run()
    assert (figures.right, figures.reply_bytes) == (True, 40 * ((1 << 20) + 4))


def test_it_goes_on_for_as_long_as_it_is_told():
    with serving(kind=selector.Server) as address:
        began = time.monotonic()
        figures = Load(address, WIRE, seconds=0.3).run()
        assert 0.3 <= time.monotonic() - began < 10
    assert figures.right
    assert figures.replies == figures.sent > 0


def test_fewer_messages_than_places_are_spread_over_the_connections():
    class Count(Echo):
        def __init__(self):
            self.peers: set[Any] = set()

        def received(self, peer, message):
            self.peers.add(peer)
            peer.send(message)

    service = Count()
    with serving(service) as address:
        assert Load(address, WIRE, connections=6, pipeline=16, messages=6).run().replies == 6
    assert len(service.peers) == 6


# ------------------------------------------------------------------- servers that lie


class Liar:
    """Does something else with every tenth message."""

    def __init__(self, lie: Any) -> None:
        self.lie = lie
        self.count = 0
        self.lies = 0

    def received(self, peer: Any, message: Any) -> None:
        self.count += 1
        if self.count % 10 == 5:
            self.lies += 1
            self.lie(self, peer, message)
        else:
            peer.send(message)


def swallow(liar: Any, peer: Any, message: Any) -> None:
    pass


def repeat(liar: Any, peer: Any, message: Any) -> None:
    peer.send_many([message, message])


def alter(liar: Any, peer: Any, message: Any) -> None:
    peer.send({**message, "id": -1})


def loosen(liar: Any, peer: Any, message: Any) -> None:
    """Python finds no difference, and there is one."""
    peer.send({**message, "list": [*message["list"][:2], 1, *message["list"][3:]]})


def invent(liar: Any, peer: Any, message: Any) -> None:
    peer.send_many(["nobody asked", message])


@pytest.mark.parametrize(
    ("lie", "found"),
    [(swallow, "lost"), (repeat, "doubled"), (alter, "changed"), (loosen, "changed"), (invent, "changed")],
)
def test_lies_are_counted_by_their_kind(lie, found):
    liar = Liar(lie)
    with serving(liar, kind=selector.Server) as address:
        figures = Load(address, WIRE, connections=3, pipeline=20, messages=399, size=100).run()
    assert faults(figures) == {found: liar.lies}
    assert liar.lies == 40
    assert not figures.right
    assert figures.replies == 399 - (liar.lies if lie in {swallow, alter, loosen} else 0)


def test_the_last_reply_doubled_is_found_too():
    class Last(Echo):
        def received(self, peer, message):
            peer.send_many([message] * (2 if message["id"] == 10 else 1))

    with serving(Last()) as address:
        assert faults(Load(address, WIRE, connections=1, messages=10).run()) == {"doubled": 1}


def test_replies_that_are_swapped_are_out_of_order():
    class Swap:
        def __init__(self):
            self.held: dict[Any, Any] = {}

        def received(self, peer, message):
            if peer in self.held:
                peer.send_many([message, self.held.pop(peer)])
            else:
                self.held[peer] = message

    with serving(Swap()) as address:
        figures = Load(address, WIRE, connections=2, pipeline=2, messages=100).run()
    assert faults(figures) == {"out_of_order": 50}
    assert figures.replies == 100
    assert not figures.right


def test_a_reply_for_somebody_else_is_a_change():
    class Mixed(Echo):
        def __init__(self):
            self.peers: list[Any] = []

        def opened(self, peer):
            self.peers.append(peer)

        def received(self, peer, message):
            self.peers[1 - self.peers.index(peer)].send(message)

    with serving(Mixed(), kind=selector.Server) as address:
        figures = Load(address, WIRE, connections=2, pipeline=1, messages=2).run()
    assert faults(figures) == {"changed": 2}


def test_a_silent_server_is_a_failed_connection_and_its_messages_are_lost():
    class Silent:
        def received(self, peer, message):
            pass

    with serving(Silent()) as address:
        figures = Load(address, WIRE, connections=2, pipeline=3, messages=100, timeout=0.2).run()
    assert faults(figures) == {"lost": 6, "failed": 2}
    assert [type(error) for error in figures.errors] == [Timeout]
    assert "gave no answer in 0.2 s" in str(figures.errors[0])


def test_a_server_that_hangs_up_is_a_failed_connection_and_the_others_go_on():
    class HangsUp(Echo):
        def __init__(self):
            self.victim: Any = None

        def received(self, peer, message):
            self.victim = self.victim or peer
            if peer is self.victim:
                peer.close()
            else:
                peer.send(message)

    with serving(HangsUp(), kind=selector.Server) as address:
        figures = Load(address, WIRE, connections=3, pipeline=2, messages=90).run()
    assert faults(figures) == {"lost": 2, "failed": 1}
    assert (figures.sent, figures.replies) == (90, 88)
    assert [type(error) for error in figures.errors] == [ConnectionClosed]
    assert "does it speak u32+json?" in str(figures.errors[0])


def test_garbage_in_a_reply_fails_the_connection_and_says_where():
    with socket.create_server(LOCAL) as listener:

        def answer() -> None:
            with listener.accept()[0] as sock:
                sock.recv(100)
                sock.sendall(b"\0\0\0\2{]")
                sock.recv(100_000)

        thread = threading.Thread(target=answer)
        thread.start()
        figures = Load(listener.getsockname(), WIRE, connections=1, messages=1).run()
        thread.join(10)
    assert faults(figures) == {"lost": 1, "failed": 1}
    assert "byte 0 of the stream" in str(figures.errors[0])


def test_where_nobody_listens_one_connection_is_tried():
    with socket.socket() as closed:
        closed.bind(LOCAL)
        figures = Load(closed.getsockname(), WIRE, connections=100, messages=1).run()
    assert (faults(figures), figures.connections, figures.sent) == ({"failed": 1}, 0, 0)
    assert isinstance(figures.errors[0], ConnectionRefused)


# ---------------------------------------------------------------------------- packets


class Relay:
    """Passes packets on between a load and a server, and does to each what ``fate`` says: a list of copies."""

    def __init__(self, server: Any, fate: Any) -> None:
        self.fate = fate
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(LOCAL)
        self.back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.back.connect((server.host, server.port))
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while True:
            packet, sender = self.front.recvfrom(65536)
            if not packet:
                return
            self.back.send(packet)
            for copy in self.fate(self.back.recv(65536)):
                self.front.sendto(copy, sender)

    @contextlib.contextmanager
    def relaying(self) -> Iterator[str]:
        try:
            yield f"udp://127.0.0.1:{self.front.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ender:
                ender.sendto(b"", self.front.getsockname())
            self.thread.join(10)
            self.front.close()
            self.back.close()


TEXT = Wire.parse("lines+text")


def over_udp(fate: Any, **options: Any) -> Figures:
    with datagram.Server(LOCAL, TEXT, Echo()) as server, Relay(server.address, fate).relaying() as address:
        return Load(
            address, TEXT, **{"connections": 3, "pipeline": 4, "messages": 120, "timeout": 0.2, **options}
        ).run()


def test_packets_come_back():
    with datagram.Server(LOCAL, WIRE, Echo()) as server:
        figures = Load(server.address, WIRE, connections=4, pipeline=4, messages=500).run()
    assert (figures.right, figures.connections, figures.replies, faults(figures)) == (True, 4, 500, {})


def test_packets_that_are_lost_are_counted_behind_their_time_and_are_no_matter_of_order():
    chance = random.Random(1)
    gone: list[bytes] = []

    def lose(packet: bytes) -> list[bytes]:
        if chance.random() < 0.1:
            gone.append(packet)
            return []
        return [packet]

    figures = over_udp(lose)
    assert faults(figures) == {"lost": len(gone)}
    assert len(gone) > 3
    assert figures.replies + figures.lost == figures.sent == 120
    assert not figures.right


def test_packets_may_overtake_each_other():
    held: list[bytes] = []

    def swap(packet: bytes) -> list[bytes]:
        if held:
            return [packet, held.pop()]
        held.append(packet)
        return []

    # One socket: the relay holds back a packet of whoever sent it, and can answer only the one who speaks.
    figures = over_udp(swap, connections=1, pipeline=2, timeout=5)
    assert faults(figures) == {"out_of_order": 60}
    assert figures.right


def test_packets_that_come_twice_or_changed_are_faults():
    count = iter(range(1000))

    def spoil(packet: bytes) -> list[bytes]:
        turn = next(count)
        return (
            [packet, packet] if turn == 50 else [b"x" + packet] if turn == 60 else [b"\xff"] if turn == 70 else [packet]
        )

    # What stands in the place of a reply does not say whose place that is: its own is lost.
    assert faults(over_udp(spoil)) == {"doubled": 1, "changed": 2, "lost": 2}


def test_late_packets_are_not_lost():
    late: list[bytes] = []

    def hold(packet: bytes) -> list[bytes]:
        if not late:
            late.append(packet)
            return []
        if len(late) == 1:
            time.sleep(0.5)
            late.append(packet)
            return [late[0], packet]
        return [packet]

    assert faults(over_udp(hold, connections=1, pipeline=2, messages=10)).get("lost", 0) == 0


def test_a_port_at_which_nobody_listens_is_told_by_the_system():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(LOCAL)
        place = closed.getsockname()
    figures = Load(f"udp://127.0.0.1:{place[1]}", TEXT, connections=2, messages=100).run()
    assert figures.failed == 2
    assert isinstance(figures.errors[0], ConnectionRefused)


def test_a_message_that_no_packet_holds_ends_the_load():
    with (
        datagram.Server(LOCAL, TEXT, Echo()) as server,
        pytest.raises(EncodeError, match="does not fit into a packet"),
    ):
        Load(server.address, TEXT, messages=10, size=70_000).run()


# ------------------------------------------------------------------------- its end


def test_stop_from_another_thread_ends_it_with_the_figures_so_far():
    class Slow(Echo):
        def received(self, peer, message):
            if message["id"] > 20:
                threading.Timer(0, load.stop).start()
            else:
                peer.send(message)

    with serving(Slow()) as address:
        load = Load(address, WIRE, connections=2, pipeline=4, seconds=60)
        figures = load.run()
    assert figures.stopped
    assert figures.right
    assert figures.replies <= 20  # the stop may overtake the last of them
    assert figures.unanswered == figures.sent - figures.replies > 0


def test_stop_before_run_ends_it_at_once():
    with serving() as address:
        load = Load(address, WIRE, seconds=60)
        load.stop()
        figures = load.run()
    assert (figures.stopped, figures.sent, figures.failed) == (True, 0, 0)


def test_stop_ends_it_also_while_it_connects(certificates):
    with socket.create_server(LOCAL) as silent:
        load = Load(silent.getsockname(), WIRE, messages=1, timeout=60, ssl_context=certificates.client)
        timer = threading.Timer(0.1, load.stop)
        timer.start()
        figures = load.run()
        timer.join()
    assert (figures.stopped, figures.failed) == (True, 0)


def test_progress_is_told_and_what_it_raises_ends_the_load():
    seen: list[int] = []

    def progress(figures: Figures) -> None:
        seen.append(figures.replies)
        if len(seen) == 3:
            raise ZeroDivisionError

    with serving() as address, pytest.raises(ZeroDivisionError):
        Load(address, WIRE, seconds=60).run(progress)
    assert seen == sorted(seen)
    assert seen[-1] > 0


def test_it_runs_once():
    with serving() as address:
        load = Load(address, WIRE, messages=1)
        load.run()
        with pytest.raises(ConnectionClosed):
            load.run()


def test_figures_are_json():
    with serving() as address:
        figures = Load(address, WIRE, messages=50).run()
    made = json.loads(json.dumps(figures.as_dict()))
    assert (made["sent"], made["replies"], made["right"], made["errors"]) == (50, 50, True, [])
    assert set(made["latency"]) == {"p50", "p90", "p99", "max"}
    assert 0 < made["latency"]["p50"] <= made["latency"]["p99"] <= made["latency"]["max"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "messages or seconds"),
        ({"messages": 1, "seconds": 1}, "messages or seconds"),
        ({"messages": 0}, "messages is 0"),
        ({"messages": 1, "connections": 0}, "connections is 0"),
        ({"messages": 1, "pipeline": 0}, "pipeline is 0"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"messages": 1, "timeout": -1}, "timeout is -1"),
        ({"messages": 1, "size": (2, 1)}, "smallest"),
        ({"messages": 1, "address": "nowhere"}, "no scheme"),
    ],
)
def test_options_that_are_none_are_told(options, says):
    with pytest.raises(ValueError, match=says):
        Load(options.pop("address", "tcp://127.0.0.1:9"), WIRE, **options)


def test_many_connections_are_made_some_at_a_time():
    with serving(kind=selector.Server) as address:
        figures = Load(address, WIRE, connections=200, pipeline=2, messages=1000).run()
    assert (figures.right, figures.connections) == (True, 200)


def test_a_connection_that_cannot_be_made_beside_others_is_counted():
    with socket.create_server(LOCAL, backlog=1) as listener:
        accepted: list[socket.socket] = []

        def answer() -> None:
            sock, _ = listener.accept()
            accepted.append(sock)
            while data := sock.recv(1 << 16):
                sock.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        figures = Load(listener.getsockname(), WIRE, connections=8, messages=4, pipeline=1, timeout=0.5).run()
        thread.join(10)
        accepted[0].close()
    assert figures.failed > 0
    assert figures.replies >= 1
    assert not figures.right
    assert all(isinstance(error, (Timeout, ConnectionFailed)) for error in figures.errors)
