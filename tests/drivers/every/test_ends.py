"""How a stream ends: clean, half, inside a frame, cut, reset, and out of time; on both sides, behind what came before."""

from __future__ import annotations

import threading
import time

import pytest

from framing import ConnectionClosed, ConnectionReset, FramingError, TruncatedFrame
from tests.drivers.every.registry import SECONDS, TRANSPORTS, half_closing, over
from tests.drivers.every.services import JSON, RAW, Echo, Recorder, Scripted, take, until

plain = over(*(name for name, transport in TRANSPORTS.items() if not transport.secure))
resettable = over(*(name for name, transport in TRANSPORTS.items() if transport.is_tcp))
secure = over(*(name for name, transport in TRANSPORTS.items() if transport.secure))


def raised_again(client, kind):
    """What `receive` raises, now and always."""
    errors = []
    for _ in range(3):
        with pytest.raises(kind) as raised:
            client.receive()
        errors.append(raised.value)
    assert len({str(error) for error in errors}) == 1
    return errors[0]


# ------------------------------------------------------------------------------------------------- clean ends


def test_a_client_that_closes_ends_cleanly_behind_all_that_it_sent(serve, connect):
    service = Recorder()
    server = serve(JSON, service)
    client = connect(server.address, JSON)
    client.send_many(range(500))
    client.close()
    client.close()
    assert service.end() is None
    assert service.got == list(range(500))
    until(lambda: server.connections == 0)
    assert [name for name, _, _ in service.calls] == ["opened", *["received"] * 500, "closed"]


def test_a_server_that_closes_ends_cleanly_behind_all_that_it_sent(serve, connect):
    def bye(peer, message):
        peer.send_many(range(500))
        peer.close()
        peer.close()

    service = Scripted(bye)
    server = serve(JSON, service)
    client = connect(server.address, JSON)
    client.send("the first")
    assert take(client, 500) == list(range(500))
    raised_again(client, ConnectionClosed)
    assert service.end() is None
    client.close()
    until(lambda: server.connections == 0)
    assert service.got == ["the first"]


def test_messages_behind_a_close_are_not_handled_and_the_last_reply_arrives(serve, visit):
    def bye(peer, message):
        peer.send(message)
        peer.close()

    service = Scripted(bye)
    stranger = visit(serve(JSON, service), JSON)
    stranger.send(*range(2000))
    assert stranger.rest() == [0]
    assert service.end() is None
    assert service.got == [0]


def test_a_server_that_stops_ends_cleanly(serve, connect):
    service = Echo()
    server = serve(JSON, service)
    client = connect(server.address, JSON)
    client.send(1)
    assert client.receive() == 1
    server.stop()
    raised_again(client, ConnectionClosed)
    assert service.end() is None


def test_what_another_thread_sent_before_it_stopped_the_server_arrives(serve, connect):
    handling, go_on = threading.Event(), threading.Event()

    def busy(peer, message):
        handling.set()
        assert go_on.wait(SECONDS)

    service = Scripted(busy)
    server = serve(JSON, service)
    client = connect(server.address, JSON)
    client.send("work")
    assert handling.wait(SECONDS)
    service.peers[0].send_many(range(500))
    server.stop()
    go_on.set()
    assert take(client, 500) == list(range(500))
    raised_again(client, ConnectionClosed)
    assert service.end() is None


# -------------------------------------------------------------------------------------------------- half ends


@plain
@half_closing
def test_replies_still_come_behind_the_end_of_a_clients_stream(serve, connect):
    service = Echo()
    server = serve(JSON, service)
    client = connect(server.address, JSON)
    client.send_many(range(500))
    client.close_sending()
    assert take(client, 500) == list(range(500))
    raised_again(client, ConnectionClosed)
    with pytest.raises(ConnectionClosed):
        client.send("too late")
    assert service.end() is None


@plain
def test_replies_that_fill_every_buffer_still_go_out_behind_the_peers_end(serve, visit):
    """Requests that are small, replies that are large: most of both wait when the end comes."""
    block = b"a" * (1 << 16)
    service = Scripted(lambda peer, message: peer.send(block))
    stranger = visit(serve(RAW, service), RAW, receive_buffer=4096)
    stranger.send(*[b"more"] * 200)
    stranger.say_end()
    until(lambda: service.got)
    assert stranger.rest() == [block] * 200
    assert service.end() is None


@plain
@half_closing
def test_a_client_may_still_send_behind_the_end_of_its_peers_stream(meet):
    client, stranger = meet(JSON)
    stranger.send("all that I say")
    stranger.say_end()
    assert client.receive() == "all that I say"
    raised_again(client, ConnectionClosed)
    client.send_many(range(10))
    client.close()
    assert stranger.rest() == list(range(10))


@secure
@half_closing
def test_tls_is_not_half_closed_and_goes_on_as_if_nobody_had_asked(serve, connect):
    server = serve(JSON, Echo())
    client = connect(server.address, JSON)
    with pytest.raises(FramingError, match="TLS"):
        client.close_sending()
    client.send("still there")
    assert client.receive() == "still there"


# -------------------------------------------------------------------------------------------- ends in a frame


@pytest.mark.parametrize("kept", [1, 4, 5, 40])
def test_an_end_inside_a_frame_is_truncation_to_a_server_behind_what_came_whole(serve, visit, transport, kept):
    service = Echo()
    stranger = visit(serve(RAW, service), RAW)
    stranger.send(b"one", b"two")
    stranger.write(RAW.encode(b"a" * 50)[:kept])
    if transport.secure:
        # OpenSSL reads no more where it has said its end.
        assert stranger.take(2) == [b"one", b"two"]
        stranger.say_end()
    else:
        stranger.say_end()
        assert stranger.rest() == [b"one", b"two"]
    error = service.end()
    assert isinstance(error, TruncatedFrame)
    assert (error.offset, error.got) == (14, kept)
    assert service.got == [b"one", b"two"]


@pytest.mark.parametrize("kept", [1, 4, 5, 40])
def test_an_end_inside_a_frame_is_truncation_to_a_client_behind_what_came_whole(meet, kept):
    client, stranger = meet(RAW)
    stranger.send(b"one", b"two")
    stranger.write(RAW.encode(b"a" * 50)[:kept])
    stranger.say_end()
    assert take(client, 2) == [b"one", b"two"]
    error = raised_again(client, TruncatedFrame)
    assert (error.offset, error.got) == (14, kept)


@secure
def test_tls_that_is_cut_off_is_no_clean_end_to_a_server(serve, visit):
    service = Echo()
    stranger = visit(serve(JSON, service), JSON)
    stranger.send("one")
    assert stranger.receive() == "one"
    stranger.cut()
    assert isinstance(service.end(), ConnectionReset)
    assert service.got == ["one"]


@secure
def test_tls_that_is_cut_off_is_no_clean_end_to_a_client(meet):
    client, stranger = meet(JSON)
    stranger.send("one", "two")
    stranger.cut()
    assert take(client, 2) == ["one", "two"]
    raised_again(client, ConnectionReset)


@resettable
def test_a_reset_is_told_to_a_server(serve, visit):
    service = Echo()
    server = serve(JSON, service)
    stranger, other = visit(server, JSON), visit(server, JSON)
    stranger.send("one")
    assert stranger.receive() == "one"
    stranger.reset()
    assert isinstance(service.end(), ConnectionReset)
    other.send("two")
    assert other.receive() == "two"
    until(lambda: server.connections == 1)


@resettable
def test_a_reset_is_told_to_a_client_behind_what_it_had_received(meet):
    client, stranger = meet(JSON)
    stranger.send("one")
    assert client.receive() == "one"
    stranger.reset()
    raised_again(client, ConnectionReset)


# -------------------------------------------------------------------------------------------------- timeouts


@pytest.mark.parametrize("kept", [0, 3, 4, 9])
def test_a_receive_whose_time_is_over_loses_nothing_and_can_be_repeated(meet, kept):
    client, stranger = meet(RAW)
    frame = RAW.encode(b"patience")
    stranger.send(b"first")
    stranger.write(frame[:kept])
    assert client.receive() == b"first"
    for _ in range(2):
        before = time.monotonic()
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.02)
        assert time.monotonic() - before >= 0.015
    stranger.write(frame[kept:])
    assert client.receive() == b"patience"


def test_closing_in_another_thread_ends_a_receive_that_waits(meet):
    client, _ = meet(RAW)
    ends = []

    def wait() -> None:
        try:
            client.receive()
        except FramingError as error:
            ends.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.02)  # it should be waiting by then; if it is not, the end is the same
    client.close()
    waiting.join(5)
    assert not waiting.is_alive()
    assert isinstance(ends[0], ConnectionClosed)


def test_a_server_may_close_a_peer_from_another_thread(serve, connect):
    service = Recorder()
    server = serve(JSON, service)
    client = connect(server.address, JSON)
    peer = service.peer()
    peer.send("bye")
    peer.close()
    assert client.receive() == "bye"
    raised_again(client, ConnectionClosed)
    client.close()
    assert service.end() is None
    peer.send("nobody hears it, and it is no error")
    peer.close()
