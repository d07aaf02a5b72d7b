"""The link: what two threads that write at the same time leave to each other is written."""

from __future__ import annotations

import socket
import threading

import pytest

from framing import Channel, Heartbeat, LengthPrefixed, Wire
from framing.drivers.link import Link
from framing.drivers.stream import Stream

WIRE = Wire(LengthPrefixed(2))


@pytest.fixture
def pair():
    """A link, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    link = Link(Stream(ours, None), Channel(WIRE))
    with theirs:
        theirs.settimeout(5)
        yield link, theirs
        link.stream.close()


class LetGoLate:
    """The lock of those who write. When it is let go for the first time, another thread has looked already, and gone."""

    def __init__(self, leave_behind):
        self._lock = threading.Lock()
        self._leave_behind = leave_behind

    def acquire(self, blocking=True, timeout=-1):
        return self._lock.acquire(blocking, timeout)

    def release(self):
        leave_behind, self._leave_behind = self._leave_behind, lambda: None
        leave_behind()
        self._lock.release()


@pytest.mark.parametrize("write", [Link.try_flush, lambda link: link.flush(None)], ids=["try_flush", "flush"])
def test_what_another_thread_has_left_behind_the_last_look_is_written_too(pair, write):
    link, theirs = pair

    def leave_behind():
        link.queue(WIRE.encode(b"second"))
        assert link.try_flush()  # somebody is at it, so it is left to them

    link.sending = LetGoLate(leave_behind)
    link.queue(WIRE.encode(b"first"))
    write(link)
    assert link.channel.queued == 0
    assert theirs.recv(100) == WIRE.encode_many([b"first", b"second"])


def test_a_flush_up_to_a_position_leaves_what_is_behind_it(pair):
    link, theirs = pair
    upto = link.queue(WIRE.encode(b"first"))
    link.queue(bytes(1 << 24))  # more than any socket takes at once
    link.flush(None, upto)
    assert link.written >= upto
    assert link.channel.queued > 0
    assert theirs.recv(7) == WIRE.encode(b"first")


def test_what_the_system_has_taken_is_counted(pair):
    link, theirs = pair
    link.queue(WIRE.encode(b"first"))
    assert link.try_flush()
    assert link.written == 7
    assert theirs.recv(100) == WIRE.encode(b"first")


def test_a_send_is_written_and_counted(pair):
    link, theirs = pair
    link.send([WIRE.encode(b"first")], None)
    assert (link.written, link.channel.queued) == (7, 0)
    assert theirs.recv(100) == WIRE.encode(b"first")


@pytest.mark.parametrize(
    "send", [lambda link, frames: link.send([frames], None), Link.try_send], ids=["send", "try_send"]
)
def test_a_send_comes_behind_what_is_queued(pair, send):
    link, theirs = pair
    link.queue(WIRE.encode(b"first"))
    send(link, WIRE.encode(b"second"))
    assert theirs.recv(100) == WIRE.encode_many([b"first", b"second"])


def test_a_send_that_does_not_wait_writes_what_another_thread_has_left_too(pair):
    link, theirs = pair

    def leave_behind():
        assert link.try_send(WIRE.encode(b"second"))  # somebody is at it, so it is left to them

    link.sending = LetGoLate(leave_behind)
    assert link.try_send(WIRE.encode(b"first"))
    assert link.channel.queued == 0
    assert theirs.recv(100) == WIRE.encode_many([b"first", b"second"])


def test_a_send_that_does_not_wait_says_what_the_socket_did_not_take(pair):
    link, _ = pair
    assert not link.try_send(bytes(1 << 24))
    assert 0 < link.written < 1 << 24
    assert link.written + link.channel.queued == 1 << 24


def test_a_heartbeat_that_was_written_is_not_taken_for_the_message_behind_it():
    ours, theirs = socket.socketpair()
    link = Link(Stream(ours, None), Channel(WIRE, heartbeat=Heartbeat(ping=b"still there?", interval=1)))
    with theirs:
        link.channel.expire(1.5)
        assert link.try_flush()
        link.flush(None, link.queue(WIRE.encode(b"first")))
        assert link.channel.queued == 0
        assert theirs.recv(100) == WIRE.encode_many([b"still there?", b"first"])
        link.stream.close()
