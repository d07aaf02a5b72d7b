"""Deadlines, water marks, numbers: whoever breaks a limit is closed and told to the service, and nobody else notices."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time

import pytest

from framing import ConnectionClosed, Timeout
from framing.channel import Heartbeat
from tests.drivers.every.registry import TRANSPORTS, over
from tests.drivers.every.services import JSON, RAW, Echo, Patience, Recorder, Scripted, until
from tests.drivers.every.strangers import Stranger, dial

secure = over(*(name for name, transport in TRANSPORTS.items() if transport.secure))
few = over("tcp", "tls", "unix")


class Bystander:
    """Somebody who goes on echoing while others misbehave, and is to be served all the time."""

    def __init__(self, stranger):
        self.stranger = stranger
        self.slowest = 0.0
        self.turns = 0

    def talk_until(self, happened):
        """Talk until ``happened()``; return what that is."""
        end = time.monotonic() + 10
        while not (result := happened()):
            before = time.monotonic()
            assert before < end, "it did not happen in time"
            self.stranger.send(self.turns)
            assert self.stranger.receive() == self.turns
            self.slowest = max(self.slowest, time.monotonic() - before)
            self.turns += 1
            time.sleep(0.01)
        return result


# -------------------------------------------------------------------------------------------------- deadlines


@few
def test_a_frame_that_drips_is_over_at_its_deadline_and_who_talks_in_time_goes_on(serve, visit):
    service = Echo()
    server = serve(JSON, service, frame_timeout=0.2)
    bystander = Bystander(visit(server, JSON))
    stranger = visit(server, JSON)
    begun = time.monotonic()
    stranger.send("in time")
    assert stranger.receive() == "in time"
    drip = iter(b"\0\0\0\xff" + b"[" * 200)

    def dripped():
        if not service.ends:
            stranger.write(bytes([next(drip)]))
        return service.ends

    (error,) = bystander.talk_until(dripped)
    assert isinstance(error, Timeout)
    assert time.monotonic() - begun > 0.19
    assert stranger.closed()
    assert bystander.turns > 5
    assert len(service.ends) == 1


@few
def test_who_is_idle_is_closed_at_the_deadline_and_who_is_busy_is_not(serve, visit):
    service = Echo()
    server = serve(JSON, service, idle_timeout=0.2)
    bystander = Bystander(visit(server, JSON))
    stranger = visit(server, JSON)
    stranger.send("the last word")
    assert stranger.receive() == "the last word"
    (error,) = bystander.talk_until(lambda: service.ends)
    assert isinstance(error, Timeout)
    assert stranger.rest() == []
    stranger.sock.close()
    until(lambda: server.connections == 1)


@secure
def test_who_does_not_shake_hands_in_time_is_closed_and_the_service_never_hears_of_it(serve, visit):
    service = Echo()
    server = serve(JSON, service, handshake_timeout=0.2)
    bystander = Bystander(visit(server, JSON))
    bystander.talk_until(lambda: bystander.turns)
    silent, dripping = visit(server, JSON, shake=False), visit(server, JSON, shake=False)
    until(lambda: server.connections == 3)
    drip = iter(b"\x16\x03\x01\x02\x00" + b"\0" * 200)

    def dripped():
        if server.connections > 1:
            dripping.sock.send(bytes([next(drip)]), socket.MSG_NOSIGNAL)
        return server.connections == 1

    bystander.talk_until(dripped)
    assert silent.closed()
    assert dripping.closed()
    assert len(service.peers) == 1
    assert not service.ends


@secure
def test_who_does_not_speak_tls_is_closed_and_the_service_never_hears_of_it(serve, visit, caplog):
    caplog.set_level(logging.INFO, "framing.drivers")
    service = Echo()
    server = serve(JSON, service)
    bystander = Bystander(visit(server, JSON))
    service.peer()
    stranger = visit(server, JSON, shake=False)
    stranger.write(b"GET / HTTP/1.1\r\n\r\n")
    bystander.talk_until(lambda: server.connections == 1)
    assert stranger.closed()
    assert len(service.peers) == 1
    assert not service.ends
    host, port = stranger.sock.getsockname()[:2]
    until(lambda: any(f"{host}:{port}" in record.getMessage() for record in caplog.records), "it is not logged")


def test_a_clients_own_deadlines_hold_too(meet):
    client, stranger = meet(JSON, frame_timeout=0.1)
    stranger.send("in time")
    stranger.write(b"\0\0")
    assert client.receive() == "in time"
    for _ in range(2):
        with pytest.raises(Timeout, match="complete"):
            client.receive()
    quiet, _ = meet(JSON, idle_timeout=0.1)
    for _ in range(2):
        with pytest.raises(Timeout, match="nothing was received or written"):
            quiet.receive()


# ------------------------------------------------------------------------------------------------ slow readers


BLOCK = b"a" * (1 << 16)


@few
def test_a_slow_reader_is_closed_after_its_deadline_while_others_are_served(serve, visit):
    def handle(peer, message):
        for _ in range(message):
            peer.send(BLOCK)

    class Flood(Scripted):
        def received(self, peer, message):
            super().received(peer, 256 if message == b"flood" else 1)

    service = Flood(handle)
    server = serve(RAW, service, slow_reader_timeout=0.3)
    other = visit(server, RAW)
    stranger = visit(server, RAW, receive_buffer=4096)
    stranger.send(b"flood")
    until(lambda: service.got)
    patience = Patience()
    while not service.ends and patience.left():
        before = time.monotonic()
        other.send(b"one")
        assert other.receive() == BLOCK
        assert time.monotonic() - before < 2
        time.sleep(0.01)
    assert isinstance(service.end(), Timeout)
    until(lambda: server.connections == 1)


@over("tcp", "unix")
def test_who_asks_and_ends_and_does_not_read_is_closed_after_the_deadline_too(serve, visit):
    """All that is left behind a peer's EOF is to write; that it never takes."""

    def flood(peer, message):
        peer.send_many([BLOCK] * 256)

    service = Scripted(flood)
    server = serve(RAW, service, slow_reader_timeout=0.3, high_water=1 << 25, max_queued=1 << 25)
    stranger = visit(server, RAW, receive_buffer=4096)
    stranger.send(b"flood")
    stranger.say_end()
    assert isinstance(service.end(), Timeout)
    until(lambda: server.connections == 0)
    assert service.got == [b"flood"]


@few
def test_what_others_send_to_who_does_not_read_has_an_end(serve, visit):
    """A broadcast does not pile up: above ``max_queued`` the one who does not read is closed."""

    class Broadcast(Recorder):
        def handle(self, peer, message):
            frames = RAW.encode(message)
            for other in list(self.peers):
                other.send_encoded(frames)

    service = Broadcast()
    server = serve(RAW, service, max_queued=1 << 18, high_water=1 << 16)
    deaf = visit(server, RAW, receive_buffer=4096)
    service.peer()
    talker = visit(server, RAW)
    service.peer(2)
    for _ in range(400):
        talker.send(BLOCK)
        assert talker.receive() == BLOCK
        if service.ends:
            break
    assert isinstance(service.end(), Timeout)
    assert [peer for name, peer, _ in service.calls if name == "closed"] == [service.peers[0]]
    deaf.sock.close()
    until(lambda: server.connections == 1)


@over("tcp")
def test_who_reads_slowly_but_steadily_gets_everything(serve, visit):
    def flood(peer, message):
        peer.send_many([BLOCK] * 48)

    service = Scripted(flood)
    stranger = visit(serve(RAW, service, slow_reader_timeout=0.4), RAW, receive_buffer=4096)
    stranger.send(b"flood")
    for _ in range(12):
        time.sleep(0.05)
        assert stranger.take(4) == [BLOCK] * 4
    assert not service.ends


# -------------------------------------------------------------------------------------------------- heartbeats


@over("tcp", "tls")
def test_a_server_finds_who_is_gone_without_a_word_and_keeps_who_answers(serve, visit):
    service = Echo()
    beat = Heartbeat("ping", interval=0.1, timeout=0.4)
    server = serve(JSON, service, heartbeat=beat)
    gone = visit(server, JSON)
    service.peer()
    alive = visit(server, JSON)
    service.peer(2)
    patience = Patience()
    while not service.ends and patience.left():
        assert alive.receive() == "ping"
        alive.send("ping")
    assert isinstance(service.end(), Timeout)
    assert gone.receive() == "ping"
    alive.send("still there")
    until(lambda: service.got)
    assert service.got == ["still there"]
    assert service.peers[0] in [peer for name, peer, _ in service.calls if name == "closed"]
    assert len(service.ends) == 1


@few
def test_a_client_finds_a_server_that_is_gone_without_a_word(meet):
    client, stranger = meet(JSON, heartbeat=Heartbeat("ping", pong="pong", interval=0.05, timeout=0.2))
    stranger.send("ping", "not a ping")
    assert client.receive() == "not a ping"
    with pytest.raises(Timeout, match="heard"):
        client.receive()
    assert set(stranger.take(2)) <= {"ping", "pong"}


@over("tcp")
def test_heartbeats_keep_two_quiet_peers_connected_and_neither_sees_them(serve, connect):
    beat = Heartbeat("ping", interval=0.05, timeout=0.3)
    service = Echo()
    client = connect(serve(JSON, service, heartbeat=beat).address, JSON, heartbeat=beat)
    with pytest.raises(TimeoutError):
        client.receive(timeout=0.35)
    client.send("still there")
    assert client.receive() == "still there"
    assert service.got == ["still there"]
    assert not service.ends


@over("tcp")
def test_a_peer_without_the_option_is_kept_where_its_silence_is_no_sign(serve, visit):
    service = Echo()
    beat = Heartbeat("ping", interval=0.05, timeout=math.inf)
    stranger = visit(serve(JSON, service, heartbeat=beat), JSON)
    assert stranger.take(3) == ["ping"] * 3
    assert not service.ends


# --------------------------------------------------------------------------------------------------- numbers


def test_above_max_connections_nobody_is_accepted_until_somebody_leaves(serve, transport, contexts):
    service = Echo()
    server = serve(JSON, service, max_connections=2)
    socks = [dial(server.address, transport, contexts[1]) for _ in range(2)]
    service.peer(2)
    socks.append(dial(server.address, transport, contexts[1], shake=False))
    try:
        with Stranger(socks[1], JSON) as second:
            second.send("served")
            assert second.receive() == "served"
            time.sleep(0.05)
            assert server.connections == 2
            assert len(service.peers) == 2
            socks[0].close()
            if transport.secure:
                socks[2] = contexts[1].wrap_socket(socks[2], server_hostname=server.address.host)
            with Stranger(socks[2], JSON) as third:
                third.send("served at last")
                assert third.receive() == "served at last"
                assert server.connections == 2
    finally:
        for sock in socks:
            sock.close()


@over("tcp", "unix")
def test_of_many_who_connect_at_once_no_more_are_accepted_than_there_may_be(serve, visit):
    service = Echo()
    server = serve(JSON, service, max_connections=3)
    for _ in range(20):
        visit(server, JSON)
    service.peer(3)
    time.sleep(0.02)
    assert server.connections == 3
    assert len(service.peers) == 3


def test_many_connects_and_disconnects_leave_nothing_behind(serve, connect):
    """That nothing is left when the test is over, no test of this directory may break; here nothing is, meanwhile."""
    service = Echo()
    server = serve(JSON, service)
    for round_ in range(3):
        clients = [connect(server.address, JSON) for _ in range(5)]
        for client in clients:
            client.send(round_)
        for client in clients:
            assert client.receive() == round_
            client.close()
        until(lambda: server.connections == 0)
    assert service.ends == [None] * 15


# ------------------------------------------------------------------------------------------------------- stop


def test_stopping_writes_what_is_queued(serve, visit):
    def flood(peer, message):
        peer.send_many([BLOCK] * 64)

    service = Scripted(flood)
    server = serve(RAW, service, high_water=1 << 23, max_queued=1 << 23)
    stranger = visit(server, RAW, receive_buffer=4096)
    stranger.send(b"flood")
    until(lambda: service.got)
    server.stop()
    assert stranger.rest() == [BLOCK] * 64
    until(lambda: server.over)
    assert service.ends == [None]


@pytest.mark.parametrize("moment", [0, 0.05])
@over("tcp", "tls")
def test_stopping_waits_no_longer_than_it_may_for_who_does_not_read(serve, visit, moment):
    def flood(peer, message):
        peer.send_many([BLOCK] * 64)

    service = Scripted(flood)
    server = serve(RAW, service, high_water=1 << 23, max_queued=1 << 23, drain_timeout=0.2)
    stranger = visit(server, RAW, receive_buffer=4096)
    stranger.send(b"flood")
    until(lambda: service.got)
    time.sleep(moment)
    before = time.monotonic()
    server.stop()
    until(lambda: server.over, seconds=5)
    assert time.monotonic() - before > 0.15
    assert len(service.ends) == 1
    assert isinstance(service.ends[0], ConnectionClosed)


@few
def test_a_server_that_has_stopped_listens_no_more(serve, visit):
    service = Echo()
    server = serve(JSON, service)
    stranger = visit(server, JSON)
    service.peer()
    server.stop()
    assert stranger.rest() == []
    until(lambda: server.over)
    with pytest.raises(OSError, match=r"refused|No such file"):
        visit(server, JSON)


@few
def test_a_service_may_stop_its_server(serve, visit):
    server = None

    def stop(peer, message):
        peer.send(message)
        server.stop()

    service = Scripted(stop)
    server = serve(JSON, service)
    stranger = visit(server, JSON)
    stranger.send("stop")
    assert stranger.rest() == ["stop"]
    until(lambda: server.over)
    assert service.ends == [None]


@few
def test_stop_may_be_called_by_many_threads_at_once(serve, visit):
    server = serve(JSON, Echo())
    stranger = visit(server, JSON)
    stranger.send(1)
    assert stranger.receive() == 1
    threads = [threading.Thread(target=server.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stranger.rest() == []
    until(lambda: server.over)
    server.stop()
