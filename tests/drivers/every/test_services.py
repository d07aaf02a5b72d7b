"""What a service may rely on, whatever driver runs it."""

from __future__ import annotations

import logging
import sys
import threading

import pytest

from framing import ConnectionReset, EncodeError, FrameTooLarge, LengthPrefixed, Wire
from framing.drivers.address import Address
from framing.drivers.service import Peer
from tests.drivers.every.registry import over
from tests.drivers.every.services import JSON, Counting, Echo, Recorder, Scripted, take, until


def test_each_connection_is_opened_then_received_from_then_closed_once(serve, visit, transport):
    def handle(peer, message):
        if message == "bye":
            peer.close()
        peer.send(message)

    service = Scripted(handle)
    server = serve(JSON, service)
    ways = {
        "clean": lambda stranger: stranger.say_end(),
        "bye": lambda stranger: (stranger.send("bye", "never"), stranger.rest()),
        "too large": lambda stranger: (stranger.write(b"\xff" * 8), stranger.rest()),
        "lost": lambda stranger: stranger.reset() if transport.is_tcp else stranger.cut(),
    }
    for name, leave in ways.items():
        for number in range(3):
            stranger = visit(server, JSON)
            stranger.send([name, number, 1], [name, number, 2])
            assert stranger.take(2) == [[name, number, 1], [name, number, 2]]
            leave(stranger)
            stranger.sock.close()
    until(lambda: server.connections == 0)
    assert len(set(service.peers)) == 12
    for peer in service.peers:
        calls = [name for name, whose, _ in service.calls if whose is peer]
        said_bye = ("received", peer, "bye") in service.calls
        assert calls == ["opened", *["received"] * (3 if said_bye else 2), "closed"]
    assert not service.overlaps
    kinds = [type(end) for end in service.ends]
    assert kinds.count(FrameTooLarge) == 3
    assert kinds.count(ConnectionReset) == (3 if transport.is_tcp else 0)
    assert kinds.count(type(None)) == (6 if transport.is_tcp else 9)


def test_a_peer_has_its_address(serve, visit, transport):
    service = Recorder()
    server = serve(JSON, service)
    stranger = visit(server, JSON)
    peer = service.peer()
    assert isinstance(peer, Peer)
    assert isinstance(peer.address, Address)
    assert not peer.paused
    if transport.is_tcp:
        host, port = stranger.sock.getsockname()[:2]
        assert (peer.address.scheme, peer.address.host, peer.address.port) == (server.address.scheme, host, port)
    else:
        assert peer.address == server.address
    assert str(peer.address) in repr(peer)


def test_received_is_all_that_a_service_needs(serve, visit):
    class Least:
        def received(self, peer, message):
            peer.send(message)

    stranger = visit(serve(JSON, Least()), JSON)
    stranger.send(1)
    assert stranger.receive() == 1


@pytest.mark.parametrize("method", ["opened", "received", "closed"])
def test_a_service_that_raises_ends_that_connection_only_and_is_logged_with_its_peer(serve, visit, caplog, method):
    trouble = ZeroDivisionError("of the service's own making")

    class Troubled(Echo):
        def opened(self, peer):
            super().opened(peer)
            if method == "opened" and len(self.peers) == 2:
                raise trouble

        def handle(self, peer, message):
            super().handle(peer, message)
            if method == "received" and message == "trouble":
                raise trouble

        def closed(self, peer, error):
            super().closed(peer, error)
            if method == "closed":
                raise trouble

    caplog.set_level(logging.INFO, "framing.drivers")
    service = Troubled()
    server = serve(JSON, service)
    other = visit(server, JSON)
    other.send("before")
    assert other.receive() == "before"
    stranger = visit(server, JSON)
    peer = service.peer(2)
    if method != "opened":
        stranger.send("fine", "trouble", "behind")
    if method == "received":
        assert stranger.rest() == ["fine", "trouble"]
        stranger.sock.close()
    elif method == "closed":
        assert stranger.take(3) == ["fine", "trouble", "behind"]
        stranger.say_end()
    else:
        assert stranger.rest() == []
        stranger.sock.close()
    assert service.end() is (None if method == "closed" else trouble)
    other.send("behind")
    assert other.receive() == "behind"
    until(lambda: server.connections == 1)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.name == "framing.drivers"
    assert record.levelno == logging.ERROR
    assert str(peer.address) in record.getMessage()
    assert method in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is trouble
    assert "behind" not in [message for name, whose, message in service.calls if whose is peer and method == "received"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how many segments came")
@over("tcp", "tcp6", "tls")
def test_what_is_sent_while_a_batch_is_handled_leaves_in_one_write(serve, visit):
    def handle(peer, message):
        peer.send(message)
        peer.send_many([message, message])
        peer.send_encoded(JSON.encode(message))

    stranger = visit(serve(JSON, Scripted(handle)), JSON)
    stranger.send("hello")
    stranger.take(4)
    before = stranger.segments
    stranger.send(*range(100))
    assert stranger.take(400) == [number for number in range(100) for _ in range(4)]
    assert stranger.segments - before == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how many segments came")
@over("tcp", "tcp6", "tls")
def test_what_a_client_sends_at_once_leaves_in_one_write(meet):
    client, stranger = meet(JSON)
    client.send("hello")
    assert stranger.receive() == "hello"
    before = stranger.segments
    client.send_many(range(500))
    assert stranger.take(500) == list(range(500))
    assert stranger.segments - before == 1


def test_a_broadcast_is_encoded_once(serve, visit):
    codec = Counting()
    wire = Wire(LengthPrefixed(4), codec)

    class Broadcast(Recorder):
        def handle(self, peer, message):
            frames = wire.encode(message)
            for other in self.peers:
                other.send_encoded(frames)

    service = Broadcast()
    server = serve(wire, service)
    strangers = [visit(server, wire) for _ in range(8)]
    service.peer(8)
    strangers[3].write(LengthPrefixed(4).encode(b"to all"))
    assert [stranger.receive() for stranger in strangers] == [b"to all"] * 8
    assert codec.encoded == [b"to all"]


def test_what_cannot_be_encoded_sends_nothing_of_it(serve, visit):
    wire = Wire(LengthPrefixed(4, max_frame=100), Counting())
    refused = []

    def handle(peer, message):
        for send, what in (
            (peer.send, b"x"),
            (peer.send, b"a" * 101),
            (peer.send_many, [b"a", b"x", b"b"]),
            (peer.send_many, [b"a", b"a" * 101]),
        ):
            try:
                send(what)
            except EncodeError:
                refused.append(what)
        peer.send(message)

    stranger = visit(serve(wire, Scripted(handle)), wire)
    stranger.send(b"fine")
    stranger.send(b"still fine")
    assert stranger.take(2) == [b"fine", b"still fine"]
    assert len(refused) == 8


def test_what_a_client_cannot_encode_sends_nothing_of_it(meet):
    wire = Wire(LengthPrefixed(4, max_frame=100), Counting())
    client, stranger = meet(wire)
    for send, what in (
        (client.send, b"x"),
        (client.send, b"a" * 101),
        (client.send_many, [b"a", b"x", b"b"]),
        (client.send_many, [b"a", b"a" * 101]),
    ):
        with pytest.raises(EncodeError):
            send(what)
    client.send(b"fine")
    assert stranger.receive() == b"fine"
    stranger.send(b"fine too")
    assert client.receive() == b"fine too"


def eight_threads(send):
    """Eight threads send two hundred messages each."""

    def send_all(number):
        for at in range(200):
            send([number, at, "x" * (at * number % 300)])

    threads = [threading.Thread(target=send_all, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    return threads


def in_order(messages):
    """Whether each thread's messages are there, whole and in its order."""
    for number in range(8):
        of_this = [message for message in messages if message[0] == number]
        assert of_this == [[number, at, "x" * (at * number % 300)] for at in range(200)]


def test_frames_that_many_threads_send_to_a_peer_never_interleave(serve, visit):
    service = Recorder()
    stranger = visit(serve(JSON, service), JSON)
    threads = eight_threads(service.peer().send)
    in_order(stranger.take(1600))
    for thread in threads:
        thread.join()


@over("tcp", "tls")
def test_frames_that_many_threads_send_over_a_connection_never_interleave(serve, connect):
    client = connect(serve(JSON, Echo()).address, JSON)
    threads = eight_threads(client.send)
    in_order(take(client, 1600))
    for thread in threads:
        thread.join()
