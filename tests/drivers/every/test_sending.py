"""What is sent while messages are handled: in its order, as it was when it was sent, and refused where it was sent."""

from __future__ import annotations

import threading

import pytest

from framing import EncodeError, LengthPrefixed, Lines, MessagePack, VarintPrefixed, Wire
from framing.drivers.aio_link import AsyncLink
from framing.drivers.stream import Stream
from tests.drivers.every.registry import over
from tests.drivers.every.services import JSON, RAW, Recorder, Scripted, until

WIRES = {
    "raw": Wire(LengthPrefixed(4, max_frame=1000)),
    "one byte of length": Wire(LengthPrefixed(1)),
    "varint": Wire(VarintPrefixed(max_frame=1000)),
    "lines": Wire(Lines(max_frame=1000)),
    "MessagePack": Wire(LengthPrefixed(4, max_frame=1000), MessagePack()),
}

BATCH = 20
"""Messages that are sent in one write, so that they are handled in one go, or in few."""


@pytest.fixture(params=WIRES)
def wire(request):
    return WIRES[request.param]


def test_all_ways_to_send_keep_their_order(serve, visit, wire):
    def handle(peer, message):
        peer.send(message + b"1")
        peer.send(message + b"2")
        peer.send_encoded(wire.encode(message + b"3"))
        peer.send(message + b"4")
        peer.send_many([message + b"5", message + b"6"])
        peer.send(message + b"7")

    stranger = visit(serve(wire, Scripted(handle)), wire)
    sent = [b"%02d" % number for number in range(BATCH)]
    stranger.send(*sent)
    assert stranger.take(7 * BATCH) == [message + b"%d" % way for message in sent for way in range(1, 8)]


def test_a_message_that_cannot_be_sent_is_refused_by_the_call_that_sends_it_and_takes_none_with_it(serve, visit, wire):
    refused = []

    def handle(peer, message):
        peer.send(message)
        for wrong in (bytes(1001), object()):
            try:
                peer.send(wrong)
            except EncodeError:
                refused.append(message)
        peer.send(message)

    stranger = visit(serve(wire, Scripted(handle)), wire)
    sent = [b"%d" % number for number in range(BATCH)]
    stranger.send(*sent)
    assert stranger.take(2 * BATCH) == [message for message in sent for _ in range(2)]
    assert refused == [message for message in sent for _ in range(2)]


def test_a_message_leaves_as_it_was_when_it_was_sent(serve, visit):
    def handle(peer, message):
        changing = bytearray(message)
        peer.send(changing)
        changing[:] = b"changed"
        peer.send(memoryview(changing))
        changing[:] = b"behind!"

    stranger = visit(serve(RAW, Scripted(handle)), RAW)
    stranger.send(*[b"x"] * BATCH)
    assert stranger.take(2 * BATCH) == [b"x", b"changed"] * BATCH


def test_a_message_of_a_codec_leaves_as_it_was_when_it_was_sent(serve, visit):
    def handle(peer, message):
        peer.send(message)
        message.append("changed")
        peer.send(message)
        message.clear()

    stranger = visit(serve(JSON, Scripted(handle)), JSON)
    stranger.send(*[[1]] * BATCH)
    assert stranger.take(2 * BATCH) == [[1], [1, "changed"]] * BATCH


def test_a_batch_of_replies_above_the_high_mark_arrives_whole_and_in_order(serve, visit):
    def handle(peer, message):
        for number in range(100):
            peer.send(message + b"%d" % number + bytes(50))

    stranger = visit(serve(RAW, Scripted(handle), high_water=2000, low_water=500), RAW)
    sent = [b"%d." % number for number in range(BATCH)]
    stranger.send(*sent)
    expected = [message + b"%d" % number + bytes(50) for message in sent for number in range(100)]
    assert stranger.take(100 * BATCH) == expected


def test_more_than_the_high_mark_is_not_kept_for_a_peer_that_does_not_read(serve, visit):
    handled = []

    def handle(peer, message):
        handled.append(message)
        peer.send(bytes(10_000))

    server = serve(RAW, Scripted(handle), high_water=20_000, low_water=1000, slow_reader_timeout=None)
    stranger = visit(server, RAW)
    asked = 6000  # 60 MB of replies: what systems buffer for a connection is far less
    stranger.send(*[b"x"] * asked)
    until(lambda: len(handled) > 1)
    # It comes to rest: behind the first look nothing may go on for ever.
    # It comes to rest, though there are requests left.
    counts = [0]

    def rests():
        counts.append(len(handled))
        return counts[-2] == counts[-1] or threading.Event().wait(0.1)

    until(rests)
    assert 1 < len(handled) < asked
    stranger.sock.close()


def test_what_another_thread_sends_behind_the_service_comes_behind_it(serve, visit):
    def handle(peer, message):
        peer.send(message + b" of the service")
        thread = threading.Thread(target=peer.send, args=(message + b" of a thread",))
        thread.start()
        thread.join()

    stranger = visit(serve(RAW, Scripted(handle)), RAW)
    stranger.send(b"1")
    assert stranger.take(2) == [b"1 of the service", b"1 of a thread"]


def test_what_was_sent_before_the_service_closes_or_fails_arrives_and_nothing_behind_it(serve, visit, caplog):
    def handle(peer, message):
        peer.send(message)
        if message == b"close":
            peer.close()
            peer.send(b"behind")
        if message == b"fail":
            raise ZeroDivisionError("of the service's own making")

    server = serve(RAW, Scripted(handle))
    for last in (b"close", b"fail"):
        stranger = visit(server, RAW)
        stranger.send(b"1", b"2", last, b"never")
        assert stranger.rest() == [b"1", b"2", last]
        stranger.sock.close()
    assert "ZeroDivisionError" in caplog.text


def test_what_is_sent_to_others_meanwhile_arrives_there(serve, visit):
    peers = []

    class Hub:
        def opened(self, peer):
            peers.append(peer)
            peer.send(b"welcome")

        def received(self, peer, message):
            for one in peers:
                one.send(message)

    server = serve(RAW, Hub())
    strangers = [visit(server, RAW) for _ in range(3)]
    for stranger in strangers:
        assert stranger.receive() == b"welcome"
    sent = [b"%d" % number for number in range(BATCH)]
    strangers[1].send(*sent)
    for stranger in strangers:
        assert stranger.take(BATCH) == sent


LARGE = bytes(1 << 20)


@pytest.fixture
def written(monkeypatch):
    """Whose bytes are written, by any driver."""
    origins = []

    def noted(function):
        def write(self, buffers):
            origins.extend(piece.obj if isinstance(piece, memoryview) else piece for piece in buffers)
            return function(self, buffers)

        return write

    monkeypatch.setattr(Stream, "write", noted(Stream.write))
    monkeypatch.setattr(AsyncLink, "_put", noted(AsyncLink._put))
    return origins


@over("tcp", "tls")
def test_a_large_message_is_written_from_where_it_is_by_a_server(serve, visit, written):
    wire = Wire(LengthPrefixed(4))

    def handle(peer, message):
        peer.send(b"before")
        peer.send(LARGE)
        peer.send(b"behind")

    stranger = visit(serve(wire, Scripted(handle)), wire)
    stranger.send(b"go")
    assert stranger.take(3) == [b"before", LARGE, b"behind"]
    assert any(origin is LARGE for origin in written)


@over("tcp", "tls")
def test_a_large_message_is_written_from_where_it_is_by_a_client(serve, connect, written):
    wire = Wire(LengthPrefixed(4))
    service = Recorder()
    client = connect(serve(wire, service).address, wire)
    client.send(b"before")
    client.send(LARGE)
    client.send(b"behind")
    until(lambda: service.got == [b"before", LARGE, b"behind"])
    assert any(origin is LARGE for origin in written)
