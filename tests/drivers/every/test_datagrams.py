"""One message a packet, over every server driver, every client driver and every transport of datagrams."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import ExitStack
from itertools import count

import pytest

from framing import ConnectionClosed, DecodeError, EncodeError, FramingError, LengthPrefixed, Wire
from framing.drivers import datagram
from framing.drivers.stream import Poll
from tests.drivers.every.registry import DATAGRAM_CLIENTS, DATAGRAM_SERVERS, DATAGRAM_TRANSPORTS
from tests.drivers.every.services import JSON, Counting, Echo, Scripted, until
from tests.drivers.every.test_messages import WIRES

_numbers = count()


@pytest.fixture(params=DATAGRAM_TRANSPORTS)
def transport(request):
    return DATAGRAM_TRANSPORTS[request.param]


@pytest.fixture(params=DATAGRAM_SERVERS)
def serve(request, transport, sockets):
    """Start a server of ours: ``serve(wire, service)``."""
    with ExitStack() as stack:

        def start(wire, service):
            url = transport.url.format(path=sockets / f"d{next(_numbers)}")
            return stack.enter_context(DATAGRAM_SERVERS[request.param](url, wire, service))

        yield start


@pytest.fixture(params=DATAGRAM_CLIENTS)
def connect(request):
    """Connect an endpoint of ours: ``connect(address, wire)``."""
    with DATAGRAM_CLIENTS[request.param]() as begin, ExitStack() as stack:

        def connected(address, wire):
            endpoint = begin(address, wire)
            stack.callback(endpoint.close)
            return endpoint

        yield connected


@pytest.fixture
def visit(transport, sockets):
    """A plain socket that is connected to a server of ours."""
    with ExitStack() as stack:

        def visited(server):
            sock = stack.enter_context(socket.socket(transport.family, socket.SOCK_DGRAM))
            sock.settimeout(5)
            address = server.address
            if transport.family == socket.AF_UNIX:
                sock.bind(str(sockets / f"v{next(_numbers)}"))
                sock.connect(address.path)
            else:
                sock.connect((address.host, address.port))
            return sock

        yield visited


@pytest.mark.parametrize("spec", WIRES)
def test_messages_come_back_a_packet_each(serve, connect, spec):
    wire = Wire.parse(spec)
    service = Echo()
    endpoint = connect(serve(wire, service).address, wire)
    for message in WIRES[spec]:
        endpoint.send(message)
        assert endpoint.receive().message == message
    assert service.got == WIRES[spec]
    assert not service.overlaps


def test_a_receive_whose_time_is_over_loses_nothing_and_can_be_repeated(serve, connect):
    endpoint = connect(serve(JSON, Echo()).address, JSON)
    for number in range(3):
        with pytest.raises(TimeoutError):
            endpoint.receive(timeout=0.01)
        endpoint.send(number)
        assert endpoint.receive().message == number


def test_what_cannot_be_encoded_sends_nothing(serve, connect):
    wire = Wire(LengthPrefixed(4, max_frame=100), Counting())
    service = Echo()
    endpoint = connect(serve(wire, service).address, wire)
    for wrong in (b"x", b"a" * 101):
        with pytest.raises(EncodeError):
            endpoint.send(wrong)
    endpoint.send(b"fine")
    assert endpoint.receive().message == b"fine"
    assert service.got == [b"fine"]


def test_closing_in_another_thread_ends_a_receive_that_waits(serve, connect):
    endpoint = connect(serve(JSON, Echo()).address, JSON)
    ends = []

    def wait():
        try:
            endpoint.receive()
        except FramingError as error:
            ends.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.02)  # it should be waiting by then; if it is not, the end is the same
    endpoint.close()
    waiting.join(5)
    assert isinstance(ends[0], ConnectionClosed)


def test_closing_at_the_moment_of_a_wait_ends_it_and_it_never_waits_for_another_descriptor(
    monkeypatch, transport, sockets
):
    """Who is about to wait for a descriptor must not find somebody else's under its number."""
    endpoint = datagram.bind(transport.url.format(path=sockets / f"b{next(_numbers)}"), JSON)
    wait = Poll.wait
    with ExitStack() as stack:

        def wait_too_late(poll, mask, seconds):
            monkeypatch.undo()
            endpoint.close()  # as another thread would
            for _ in range(3):
                stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            return wait(poll, mask, seconds)

        monkeypatch.setattr(Poll, "wait", wait_too_late)
        with pytest.raises(ConnectionClosed):
            endpoint.receive(timeout=2)
    assert endpoint.fileno() == -1


def test_a_bad_packet_is_dropped_and_logged_with_its_sender_and_others_are_answered(serve, visit, caplog):
    caplog.set_level(logging.INFO, "framing.drivers")
    service = Echo()
    server = serve(JSON, service)
    stranger = visit(server)
    for bad in (b"[1,", b"\xff\xff", b"[" * 1000):
        stranger.send(bad)
    stranger.send(b"[1]")
    assert stranger.recv(100) == b"[1]"
    assert service.got == [[1]]
    dropped = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    name = stranger.getsockname()
    assert len(dropped) == 3
    assert all((name if isinstance(name, str) else str(name[1])) in line for line in dropped)


def test_a_bad_packet_is_raised_by_an_endpoint_once_and_the_next_is_sound(connect, transport, sockets):
    with socket.socket(transport.family, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(5)
        path = str(sockets / f"v{next(_numbers)}")
        if transport.family == socket.AF_UNIX:
            stranger.bind(path)
            address = f"unix:{path}"
        else:
            stranger.bind(("::1" if transport.family == socket.AF_INET6 else "127.0.0.1", 0))
            address = stranger.getsockname()[:2]
        endpoint = connect(address, JSON)
        endpoint.send("hello")
        said, name = stranger.recvfrom(100)
        assert said == b'"hello"'
        for packet in (b"1", b"[", b"2"):
            stranger.sendto(packet, name)
        assert endpoint.receive().message == 1
        with pytest.raises(DecodeError):
            endpoint.receive()
        assert endpoint.receive().message == 2


def test_a_service_that_raises_is_logged_with_the_sender_and_goes_on(serve, visit, caplog):
    def handle(peer, message):
        if message == "trouble":
            raise ZeroDivisionError
        peer.send(message)

    stranger = visit(serve(JSON, Scripted(handle)))
    stranger.send(b'"trouble"')
    stranger.send(b'"fine"')
    assert stranger.recv(100) == b'"fine"'
    (record,) = [record for record in caplog.records if record.exc_info]
    name = stranger.getsockname()
    assert (name if isinstance(name, str) else str(name[1])) in record.getMessage()


def test_a_broadcast_is_encoded_once(serve, visit):
    codec = Counting()
    wire = Wire(LengthPrefixed(4), codec)
    peers = set()

    def handle(peer, message):
        peers.add(peer)
        if message == b"all":
            frames = wire.encode(message)
            for other in peers:
                other.send_encoded(frames)

    service = Scripted(handle)
    server = serve(wire, service)
    strangers = [visit(server) for _ in range(5)]
    for stranger in strangers:
        stranger.send(b"here")
    until(lambda: len(service.got) == 5)
    strangers[0].send(b"all")
    assert [stranger.recv(100) for stranger in strangers] == [b"all"] * 5
    assert codec.encoded == [b"all"]


def test_stop_may_be_called_by_many_threads_at_once(serve, visit):
    server = serve(JSON, Echo())
    stranger = visit(server)
    stranger.send(b"1")
    assert stranger.recv(10) == b"1"
    threads = [threading.Thread(target=server.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: server.over)
    server.stop()
