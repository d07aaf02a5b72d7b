"""Heartbeats of the blocking driver: half-open peers are found, living ones kept, and nobody sees a ping or a pong."""

# ruff: noqa: SIM117 # the server's block around its clients' reads as what it is

from __future__ import annotations

import math
import socket
import threading
import time

import pytest

from framing import EncodeError, Heartbeat, Timeout, Wire
from framing.drivers import blocking

WIRE = Wire.parse("u32+json")
LOCAL = ("127.0.0.1", 0)
QUICK = Heartbeat("ping", "pong", interval=0.05, timeout=0.15)


def until(condition, seconds=3.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


class Recorder:
    def __init__(self):
        self.got = []
        self.ends = []
        self.peers = []

    def opened(self, peer):
        self.peers.append(peer)

    def received(self, peer, message):
        self.got.append(message)
        peer.send(message)

    def closed(self, peer, error):
        self.ends.append(error)


def test_a_server_finds_a_peer_that_is_silent_although_its_socket_stays_open():
    service = Recorder()
    with blocking.Server(LOCAL, WIRE, service, heartbeat=QUICK) as server:
        with socket.create_connection((server.address.host, server.address.port)) as silent:
            began = time.monotonic()
            until(lambda: service.ends)
            assert 0.14 < time.monotonic() - began < 1
            silent.settimeout(1)
            pinged = b"".join(iter(lambda: silent.recv(1000), b""))
    assert isinstance(service.ends[0], Timeout)
    assert "not even a heartbeat" in str(service.ends[0])
    assert 2 <= len(WIRE.decoder().feed(pinged)) <= 3
    assert service.got == []


@pytest.mark.parametrize("timeout", [None, 5])
def test_a_client_finds_a_server_that_is_silent_although_its_socket_stays_open(timeout):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with blocking.connect(listener.getsockname(), WIRE, heartbeat=QUICK, timeout=timeout) as connection:
            began = time.monotonic()
            for _ in range(2):
                with pytest.raises(Timeout, match="not even a heartbeat"):
                    connection.receive()
            assert 0.14 < time.monotonic() - began < 1
            assert connection.error is not None


@pytest.mark.parametrize("beat", [QUICK, Heartbeat(0, interval=0.05, timeout=0.15)], ids=["with pong", "without"])
@pytest.mark.parametrize("secure", [False, True])
def test_two_peers_keep_each_other_alive_and_neither_sees_it(beat, secure, contexts):
    service = Recorder()
    tls = (contexts[0], contexts[1]) if secure else (None, None)
    with blocking.Server(LOCAL, WIRE, service, heartbeat=beat, ssl_context=tls[0]) as server:
        with blocking.connect(server.address, WIRE, heartbeat=beat, timeout=5, ssl_context=tls[1]) as connection:
            with pytest.raises(Timeout, match="receive again"):
                connection.receive(timeout=0.6)
            assert not service.ends
            connection.send(["now"])
            assert connection.receive() == ["now"]
            assert connection.error is None
        until(lambda: service.ends)
    assert service.got == [["now"]]
    assert service.ends == [None]


def test_a_peer_without_the_option_answers_as_it_answers_anything():
    service = Recorder()  # an echo: the ping comes back, and a ping that comes is no message either
    with blocking.Server(LOCAL, WIRE, service) as server:
        with blocking.connect(server.address, WIRE, heartbeat=Heartbeat("ping", interval=0.05, timeout=0.15)) as one:
            with pytest.raises(Timeout, match="receive again"):
                one.receive(timeout=0.4)
            one.send("hello")
            assert one.receive(timeout=5) == "hello"
    assert set(service.got) == {"ping", "hello"}


def test_a_peer_that_ignores_pings_is_kept_where_silence_has_no_limit():
    class Deaf(Recorder):
        def received(self, peer, message):
            self.got.append(message)

    service = Deaf()
    with blocking.Server(LOCAL, WIRE, service) as server:
        beat = Heartbeat("ping", interval=0.03, timeout=math.inf)
        with blocking.connect(server.address, WIRE, heartbeat=beat) as connection:
            with pytest.raises(Timeout, match="receive again"):
                connection.receive(timeout=0.2)
        until(lambda: service.ends)
    assert service.got.count("ping") >= 3


def test_a_ping_is_answered_although_messages_come_with_it():
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, WIRE, timeout=5, heartbeat=Heartbeat("ping", "pong", interval=60)) as one:
        theirs.settimeout(5)
        theirs.sendall(WIRE.encode_many([1, "ping", 2]))
        assert one.receive_batch() == [1, 2]
        assert theirs.recv(100) == WIRE.encode("pong")
        theirs.sendall(WIRE.encode_many(["ping", "pong"]) + WIRE.encode("x"))
        assert one.receive() == "x"
        assert theirs.recv(100) == WIRE.encode("pong")


def test_a_receive_that_only_looks_sends_the_ping_that_is_due():
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, WIRE, heartbeat=Heartbeat("ping", interval=0.03)) as connection:
        time.sleep(0.05)
        with pytest.raises(Timeout, match="receive again"):
            connection.receive(timeout=0)
        theirs.settimeout(1)
        assert theirs.recv(100) == WIRE.encode("ping")


def test_time_in_which_nobody_received_is_not_held_against_the_peer():
    service = Recorder()
    with blocking.Server(LOCAL, WIRE, service) as server:
        with blocking.connect(server.address, WIRE, heartbeat=Heartbeat("ping", interval=0.1, timeout=0.5)) as one:
            time.sleep(0.8)
            with pytest.raises(Timeout, match="receive again"):
                one.receive(timeout=0.6)
            one.send("hello")
            assert one.receive(timeout=5) == "hello"


def test_a_heartbeat_goes_on_while_other_threads_send():
    service = Recorder()
    with blocking.Server(LOCAL, WIRE, service, heartbeat=QUICK) as server:
        with blocking.connect(server.address, WIRE, heartbeat=QUICK, timeout=5) as connection:
            got = []
            count = 100

            def receive():
                while len(got) < 3 * count:
                    got.append(connection.receive())

            def send(number):
                for index in range(count):
                    connection.send([number, index])
                    time.sleep(0.002)

            threads = [threading.Thread(target=receive), *(threading.Thread(target=send, args=(n,)) for n in range(3))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert sorted(got) == [[n, i] for n in range(3) for i in range(count)]


def test_a_ping_that_cannot_be_encoded_is_found_before_anything_is_opened():
    beat = Heartbeat(object())
    for opening in (
        lambda: blocking.connect("tcp://127.0.0.1:1", WIRE, heartbeat=beat),
        lambda: blocking.Server(LOCAL, WIRE, Recorder(), heartbeat=beat),
    ):
        with pytest.raises(EncodeError):
            opening()


def test_keep_alive_and_reuse_port_are_options():
    service = Recorder()
    with blocking.Server(LOCAL, WIRE, service, keep_alive=True, reuse_port=hasattr(socket, "SO_REUSEPORT")) as server:
        with blocking.connect(server.address, WIRE, keep_alive=True) as connection:
            until(lambda: service.peers)
            for sock in (connection._link.stream.sock, service.peers[0].link.stream.sock):
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "SO_REUSEPORT"):
            with blocking.Server(server.address, WIRE, service, reuse_port=True) as other:
                assert other.address == server.address
