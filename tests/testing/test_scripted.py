"""A scripted socket does what its script says, and is a socket otherwise."""

from __future__ import annotations

import selectors
import socket

import pytest

from framing.testing import EOF, ScriptedSocket


@pytest.fixture
def scripted():
    made = []

    def make(*args, **options):
        made.append(ScriptedSocket(*args, **options))
        return made[-1]

    yield make
    for sock in made:
        sock.close()


def test_reads_are_as_short_as_the_script_says_and_as_the_reader_asks(scripted):
    sock = scripted([b"ab", b"cdef"])
    assert [sock.recv(100), sock.recv(3), sock.recv(3), sock.recv(3)] == [b"ab", b"cde", b"f", EOF]


def test_errors_come_at_their_place_once(scripted):
    sock = scripted([b"a", BlockingIOError, InterruptedError(), b"b", ConnectionResetError("gone")])
    got = []
    for _ in range(5):
        try:
            got.append(sock.recv(10))
        except OSError as error:
            got.append(type(error))
    assert got == [b"a", BlockingIOError, InterruptedError, b"b", ConnectionResetError]


def test_eof_anywhere_stays(scripted):
    sock = scripted([b"a", EOF, b"never"])
    assert [sock.recv(9), sock.recv(9), sock.recv(9)] == [b"a", EOF, EOF]


def test_reads_go_into_a_buffer_too(scripted):
    sock = scripted([b"abc", b"def"])
    buffer = bytearray(8)
    assert (sock.recv_into(buffer, 2), bytes(buffer[:2])) == (2, b"ab")
    assert (sock.recv_into(memoryview(buffer)[2:]), bytes(buffer[:3])) == (1, b"abc")


def test_a_peek_takes_nothing(scripted):
    sock = scripted([b"abc"])
    assert (sock.recv(2, socket.MSG_PEEK), sock.recv(9)) == (b"ab", b"abc")


def test_a_script_may_end_in_silence_instead_of_eof(scripted):
    sock = scripted([b"a"], then_block=True)
    assert sock.recv(9) == b"a"
    with pytest.raises(BlockingIOError):
        sock.recv(9)
    sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        sock.recv(9)


def test_writes_are_as_short_as_the_script_says(scripted):
    sock = scripted(outgoing=[1, BlockingIOError, 2, InterruptedError])
    assert sock.send(b"abc") == 1
    with pytest.raises(BlockingIOError):
        sock.send(b"bc")
    assert sock.sendmsg([b"b", memoryview(b"cd")]) == 2
    with pytest.raises(InterruptedError):
        sock.send(b"d")
    assert sock.send(b"d") == 1
    assert sock.sent == b"abcd"


def test_sendall_goes_on_behind_short_writes_and_an_error_leaves_a_part_sent(scripted):
    sock = scripted(outgoing=[1, 1, ConnectionResetError])
    with pytest.raises(ConnectionResetError):
        sock.sendall(b"abc")
    assert sock.sent == b"ab"
    sock.sendall(b"c")
    assert sock.sent == b"abc"


def test_a_selector_sees_it_readable_while_there_is_something_to_read(scripted):
    sock = scripted([b"a", BlockingIOError, b"b"], then_block=True)
    sock.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        ready = []
        for _ in range(3):
            ready.append(bool(selector.select(0)))
            try:
                sock.recv(10)
            except BlockingIOError:
                ready.append("again")
        ready.append(bool(selector.select(0)))
    assert ready == [True, True, "again", True, False]


def test_it_notes_what_was_done_to_it_and_closes_as_a_socket(scripted):
    with scripted([b"a"]) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.recv(1)
        sock.shutdown(socket.SHUT_WR)
    assert sock.calls == ["recv", "shutdown", "close"]
    assert sock.shut == [socket.SHUT_WR]
    assert sock.closed
    with pytest.raises(OSError, match="closed"):
        sock.recv(1)
