"""Peers that take little, and peers that still send: how long a server waits for them, and what they get by then."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from framing import ConnectionReset, FrameTooLarge, Timeout
from framing.drivers import limits
from tests.drivers.beside import flooding
from tests.drivers.every.registry import SECONDS, over
from tests.drivers.every.services import RAW, Echo, Recorder, Scripted, until

BLOCK = b"a" * (1 << 16)
MUCH = 1 << 22


# ------------------------------------------------------------------------------------------------ slow readers


@over("tcp", "unix")
@pytest.mark.parametrize("marks", [{}, {"high_water": 1 << 16, "low_water": 1 << 16}], ids=["apart", "at one place"])
def test_who_only_drips_does_not_read(serve, visit, marks):
    """One byte now and then is no progress: else it would hold what is queued for ever."""
    service = Echo()
    server = serve(RAW, service, slow_reader_timeout=0.3, **marks)
    stranger = visit(server, RAW, receive_buffer=4096)
    end = time.monotonic() + SECONDS
    with flooding(stranger.sock, RAW.encode(BLOCK)), contextlib.suppress(OSError):
        while not service.ends:
            assert time.monotonic() < end
            stranger.sock.recv(10)
            time.sleep(0.002)
    error = service.end()
    assert isinstance(error, Timeout)
    assert "does not read" in str(error)
    until(lambda: server.connections == 0)


@over("tcp", "unix")
def test_a_drip_is_none_to_a_peer_that_others_send_to_either(serve, visit):
    service = Recorder()
    server = serve(RAW, service, slow_reader_timeout=0.3, max_queued=None)
    stranger = visit(server, RAW, receive_buffer=4096)
    peer = service.peer()
    for _ in range(200):
        peer.send(BLOCK)
    end = time.monotonic() + SECONDS
    with contextlib.suppress(OSError):
        while not service.ends:
            assert time.monotonic() < end
            stranger.sock.recv(10)
            peer.send(b"more, which is no progress of the peer's either")
            time.sleep(0.002)
    assert isinstance(service.end(), Timeout)


def test_one_message_of_whatever_size_is_taken_for_a_peer(serve, visit):
    service = Recorder()
    server = serve(RAW, service, max_queued=1 << 16)
    stranger = visit(server, RAW, receive_buffer=4096)
    peer = service.peer()
    peer.send(bytes(MUCH))
    assert stranger.receive() == bytes(MUCH)
    until(lambda: not peer.paused)
    peer.send(b"and another one")
    assert stranger.receive() == b"and another one"
    assert not service.ends


def test_behind_what_is_too_much_already_nothing_more_is_taken(serve, visit):
    service = Recorder()
    server = serve(RAW, service, max_queued=1 << 16)
    visit(server, RAW, receive_buffer=4096)
    peer = service.peer()
    peer.send(bytes(MUCH))
    until(lambda: peer.paused)
    peer.send(b"one too many")
    error = service.end()
    assert isinstance(error, Timeout)
    assert "more than 65536 bytes" in str(error)


@over("tcp", "unix")
def test_without_a_limit_a_peer_gets_all_that_others_sent(serve, visit):
    service = Recorder()
    server = serve(RAW, service, max_queued=None, slow_reader_timeout=None)
    stranger = visit(server, RAW, receive_buffer=4096)
    peer = service.peer()
    for number in range(100):
        peer.send(b"%d" % number + BLOCK)
    until(lambda: peer.paused)
    assert stranger.take(100) == [b"%d" % number + BLOCK for number in range(100)]
    assert not service.ends


@over("tcp", "unix")
def test_below_the_high_mark_a_peer_that_reads_nothing_is_read_from(serve, visit):
    """What one batch leaves behind does not hold up the next one."""
    service = Scripted(lambda peer, message: peer.send(bytes(100) if message == b"little" else BLOCK))
    server = serve(RAW, service, high_water=1 << 22, low_water=0, max_queued=None, slow_reader_timeout=0.3)
    stranger = visit(server, RAW, receive_buffer=4096)
    for _ in range(40):
        stranger.send(b"much")
    until(lambda: len(service.got) == 40)
    peer = service.peer()
    assert not peer.paused
    stranger.send(b"little")
    until(lambda: len(service.got) == 41)
    time.sleep(0.4)  # it is not slow either, for its time does not run
    assert not service.ends
    assert stranger.take(41) == [BLOCK] * 40 + [bytes(100)]


# ---------------------------------------------------------------------------------------- who still sends


@pytest.fixture
def patience(monkeypatch):
    """Time enough for a machine that has other things to do."""
    monkeypatch.setattr(limits, "QUIET", 10.0)
    monkeypatch.setattr(limits, "LINGER", 10.0)
    monkeypatch.setattr(limits, "LONGEST_LINGER", 10.0)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("how", ["stop", "close", "violation", "service"])
def test_who_still_sends_much_when_the_server_ends_reads_the_last_reply(serve, visit, how):
    """Were the socket closed with something unread in it, a reset would destroy what the peer had not taken by then."""

    def handle(peer, message):
        peer.send(b"r" * 30_000)
        if how == "close":
            peer.close()
        elif how == "service":
            raise ZeroDivisionError

    service = Scripted(handle)
    server = serve(RAW, service)
    stranger = visit(server, RAW, receive_buffer=4096)
    stranger.write(RAW.encode(b"a request") + (b"\xff" * 8 if how == "violation" else b""))
    until(lambda: service.got)
    if how == "stop":
        server.stop()
    else:
        until(lambda: service.ends)
    stranger.write(RAW.encode(bytes(MUCH + 1))[:-1])  # all but a frame
    assert stranger.rest() == [b"r" * 30_000]
    assert isinstance(service.end(), {"violation": FrameTooLarge, "service": ZeroDivisionError}.get(how, type(None)))
    stranger.sock.close()
    until(lambda: server.connections == 0)


@pytest.mark.usefixtures("patience")
def test_a_peer_that_another_thread_closes_may_still_send_and_reads_the_last_reply(serve, visit):
    service = Scripted(lambda peer, message: peer.send(b"r" * 30_000))
    server = serve(RAW, service)
    stranger = visit(server, RAW, receive_buffer=4096)
    stranger.send(b"a request")
    until(lambda: service.got)
    peer = service.peer()
    peer.send(b"last words")
    peer.close()
    stranger.write(RAW.encode(bytes(MUCH + 1))[:-1])
    assert stranger.rest() == [b"r" * 30_000, b"last words"]
    assert service.end() is None
    assert len(service.got) == 1


@over("tcp", "unix", "tls")
def test_who_sends_without_end_is_cut_off(serve, visit, monkeypatch):
    monkeypatch.setattr(limits, "LINGER_BYTES", 1 << 20)
    service = Scripted(lambda peer, message: peer.close())
    server = serve(RAW, service)
    stranger = visit(server, RAW)
    stranger.send(b"a request")
    until(lambda: service.got)
    with contextlib.suppress(OSError):
        while server.connections:
            stranger.write(BLOCK)
    until(lambda: server.connections == 0)
    assert service.ends == [None]


@over("tcp", "unix")
def test_stopping_does_not_wait_for_who_is_quiet_and_stays(serve, visit):
    service = Echo()
    server = serve(RAW, service)
    stranger = visit(server, RAW)
    stranger.send(b"hello")
    assert stranger.receive() == b"hello"
    before = time.monotonic()
    server.stop()
    assert stranger.rest() == []
    until(lambda: server.over)
    assert time.monotonic() - before < limits.LINGER
    assert service.ends == [None]


# ------------------------------------------------------------------------------------------- who goes meanwhile


@over("tcp", "tcp6")
def test_what_came_before_a_reset_that_a_reply_has_met_is_handled_first(serve, visit, server_driver):
    if server_driver == "uvloop":
        pytest.skip("uvloop has closed its socket by the time that it tells")
    gone = threading.Event()

    def handle(peer, message):
        if message == b"first":
            assert gone.wait(10)
            peer.send(b"into the void")

    service = Scripted(handle)
    stranger = visit(serve(RAW, service), RAW)
    stranger.send(b"first")
    until(lambda: service.got)
    stranger.write(RAW.encode(b"second") + RAW.encode(b"half")[:6])
    time.sleep(0.02)
    stranger.reset()
    time.sleep(0.02)
    gone.set()
    assert isinstance(service.end(), ConnectionReset)
    assert service.got == [b"first", b"second"]
