"""What breaks the rules: messages before it are delivered first, then the error, and nobody else notices."""

from __future__ import annotations

import time

import pytest

from framing import COBS, ConnectionClosed, CorruptFrame, DecodeError, FrameTooLarge, LengthPrefixed, Netstring, Wire
from tests.drivers.every.registry import CLIENTS, half_closing
from tests.drivers.every.services import Counting, Echo, take, until

SMALL = Wire(LengthPrefixed(4, max_frame=100))
CROSSES = Wire(LengthPrefixed(4), Counting())

BAD = {
    "too large": (SMALL, b"\0\0\0\x65" + b"a" * 101, FrameTooLarge),
    "another protocol": (SMALL, b"GET / HTTP/1.1\r\n\r\n", FrameTooLarge),
    "no digit": (Wire(Netstring()), b"+3:abc,", CorruptFrame),
    "a wrong code": (Wire(COBS()), b"\x05a\0", CorruptFrame),
}
violations = pytest.mark.parametrize(("wire", "bad", "error"), BAD.values(), ids=BAD)


@violations
def test_a_server_answers_what_came_before_a_violation_and_ends_that_connection_only(serve, visit, wire, bad, error):
    service = Echo()
    server = serve(wire, service)
    other = visit(server, wire)
    other.send(b"before")
    assert other.receive() == b"before"
    stranger = visit(server, wire)
    stranger.write(wire.encode_many([b"one", b"two"]) + bad + wire.encode(b"never"))
    assert stranger.rest() == [b"one", b"two"]
    stranger.sock.close()  # for so long, and a moment, the server listens on, that no reset takes the replies away
    assert isinstance(service.end(), error)
    assert service.got == [b"before", b"one", b"two"]
    other.send(b"behind")
    assert other.receive() == b"behind"
    until(lambda: server.connections == 1)
    assert len(service.ends) == 1


def test_replies_before_a_violation_are_not_lost_to_a_reset_where_the_peer_goes_on_sending(serve, visit):
    """A socket that is closed with something unread in it would reset the connection."""
    stranger = visit(serve(SMALL, Echo()), SMALL)
    stranger.write(SMALL.encode(b"one") + b"\xff" * 8)
    for _ in range(5):
        time.sleep(0.01)  # for each to find a server that knows already
        stranger.write(b"\xff" * 10_000)
    assert stranger.rest() == [b"one"]
    stranger.sock.close()


@violations
def test_a_client_delivers_what_came_before_a_violation_and_then_always_raises_it(meet, wire, bad, error):
    client, stranger = meet(wire)
    stranger.write(wire.encode_many([b"one", b"two"]) + bad + wire.encode(b"never"))
    assert take(client, 2) == [b"one", b"two"]
    for _ in range(3):
        with pytest.raises(error):
            client.receive()


def test_a_violation_is_the_same_however_the_stream_is_cut(serve, visit):
    wire, bad, error = BAD["too large"]
    service = Echo()
    server = serve(wire, service)
    stream = wire.encode_many([b"one", b"two"]) + bad
    for count, size in enumerate((1, 3, 7, 18, len(stream)), 1):
        stranger = visit(server, wire)
        for begin in range(0, 19, size):
            stranger.write(stream[begin : begin + size])
        assert stranger.rest() == [b"one", b"two"]
        stranger.sock.close()
        until(lambda: len(service.ends) >= count)  # noqa: B023 -- it is called here and now
    assert {str(end) for end in service.ends} == {str(service.ends[0])}
    assert isinstance(service.ends[0], error)


def test_a_refused_payload_ends_the_connection_of_a_server_behind_the_replies(serve, visit):
    service = Echo()
    server = serve(CROSSES, service)
    other = visit(server, CROSSES)
    stranger = visit(server, CROSSES)
    stranger.write(LengthPrefixed(4).encode_many([b"one", b"two", b"x three", b"four"]))
    assert stranger.rest() == [b"one", b"two"]
    stranger.sock.close()
    error = service.end()
    assert isinstance(error, DecodeError)
    assert error.offset == 14
    other.send(b"behind")
    assert other.receive() == b"behind"


@half_closing
def test_a_refused_payload_is_raised_by_a_client_in_its_place_once_and_the_next_call_goes_on(meet):
    client, stranger = meet(CROSSES)
    stranger.write(LengthPrefixed(4).encode_many([b"one", b"x", b"two", b"three", b"x", b"x", b"four"]))
    stranger.say_end()
    got = []
    for _ in range(7):
        try:
            got.append(client.receive())
        except DecodeError as error:
            got.append(error.offset)
    assert got == [b"one", 7, b"two", b"three", 28, 33, b"four"]
    with pytest.raises(ConnectionClosed):
        client.receive()


@pytest.mark.parametrize(
    "client_driver", [name for name, driver in CLIENTS.items() if driver.is_a_service], indirect=True
)
def test_a_refused_payload_ends_the_connection_of_a_client_that_runs_a_service(meet):
    client, stranger = meet(CROSSES)
    stranger.write(LengthPrefixed(4).encode_many([b"one", b"x", b"two"]))
    assert client.receive() == b"one"
    for _ in range(3):
        with pytest.raises(DecodeError):
            client.receive()
    assert stranger.rest() == []
    stranger.sock.close()


def test_a_client_that_closes_behind_a_violation_does_not_wait_for_a_peer_that_is_gone(meet):
    client, stranger = meet(SMALL)
    stranger.write(b"\xff\xff\xff\xff")
    with pytest.raises(FrameTooLarge):
        client.receive()
    stranger.sock.close()
    before = time.monotonic()
    client.close()
    assert time.monotonic() - before < 0.7
