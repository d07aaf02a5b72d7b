"""The blocking driver on real sockets: nothing lost by timeouts, nothing interleaved, nobody harmed, nothing leaked."""

# ruff: noqa: SIM117 # the server's block around its clients' reads as what it is

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import framing
from framing import (
    ConnectionClosed,
    ConnectionReset,
    DecodeError,
    EncodeError,
    FrameTooLarge,
    LengthPrefixed,
    Timeout,
    TruncatedFrame,
    Wire,
)
from framing.drivers import blocking

WIRE = Wire.parse("u32+json")
RAW = Wire(LengthPrefixed(4, max_frame=1 << 25))


def descriptors():
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.is_dir() else 0


@pytest.fixture(autouse=True)
def _nothing_is_leaked():
    gc.collect()
    threads, files = threading.active_count(), descriptors()
    yield
    end = time.monotonic() + 2
    while time.monotonic() < end and (threading.active_count() > threads or descriptors() > files):
        time.sleep(0.005)
    assert threading.active_count() == threads, threading.enumerate()
    assert descriptors() == files


@pytest.fixture
def pair():
    """A connection, and the plain socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    with theirs, blocking.Connection(ours, WIRE, timeout=5) as connection:
        yield connection, theirs


def until(condition, seconds=2.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def read_all(sock):
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def fill(sock):
    """Send requests and read no reply, until nothing more goes in."""
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(RAW.encode(b"x" * 500_000))


def reset(sock):
    """Close so that the peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Echo:
    def received(self, peer, message):
        peer.send(message)


class Recorder(Echo):
    """Echoes, and keeps what it was called with."""

    def __init__(self):
        self.calls = []
        self.ends = []
        self.peers = []

    def opened(self, peer):
        self.peers.append(peer)
        self.calls.append("opened")

    def received(self, peer, message):
        self.calls.append(message)
        super().received(peer, message)

    def closed(self, peer, error):
        self.calls.append("closed")
        self.ends.append(error)


# ------------------------------------------------------------------ connection


def test_messages_go_both_ways_over_any_stream_socket(pair):
    connection, theirs = pair
    connection.send({"a": [1, None]})
    assert theirs.recv(100) == WIRE.encode({"a": [1, None]})
    theirs.sendall(WIRE.encode_many([1, "two", [3]]))
    theirs.shutdown(socket.SHUT_WR)
    assert list(connection) == [1, "two", [3]]
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            connection.receive()
    connection.send("a reply behind the peer's EOF")
    assert theirs.recv(100) == WIRE.encode("a reply behind the peer's EOF")


def test_a_batch_is_all_that_is_there(pair):
    connection, theirs = pair
    theirs.sendall(WIRE.encode_many(range(10)) + WIRE.encode("late")[:3])
    assert connection.receive() == 0
    assert connection.receive_batch() == list(range(1, 10))
    theirs.sendall(WIRE.encode("late")[3:])
    assert connection.receive_batch() == ["late"]


@pytest.mark.parametrize("size", range(len(WIRE.encode({"k": "v"}))))
def test_a_receive_that_timed_out_anywhere_can_be_repeated(pair, size):
    connection, theirs = pair
    frame = WIRE.encode({"k": "v"})
    theirs.sendall(frame[:size])
    for timeout in (0, 0.001):
        with pytest.raises(TimeoutError) as caught:
            connection.receive(timeout=timeout)
        assert isinstance(caught.value, Timeout)
    theirs.sendall(frame[size:])
    assert connection.receive() == {"k": "v"}


def test_a_timeout_is_kept_to():
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, WIRE, timeout=0.05) as connection:
        before = time.monotonic()
        with pytest.raises(Timeout):
            connection.receive()
        assert 0.045 < time.monotonic() - before < 0.5
        before = time.monotonic()
        with pytest.raises(Timeout):
            connection.receive(timeout=0.1)
        assert 0.095 < time.monotonic() - before < 0.6


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_is_none_is_refused(pair, timeout):
    with pytest.raises(ValueError, match="timeout is"):
        pair[0].receive(timeout=timeout)


@pytest.mark.parametrize("size", range(1, len(WIRE.encode([1, 2]))))
def test_eof_at_every_byte_inside_a_frame_is_truncation_behind_what_was_whole(pair, size):
    connection, theirs = pair
    theirs.sendall(WIRE.encode("whole") + WIRE.encode([1, 2])[:size])
    theirs.shutdown(socket.SHUT_WR)
    assert connection.receive() == "whole"
    for _ in range(2):
        with pytest.raises(TruncatedFrame):
            connection.receive()


@pytest.mark.parametrize("size", range(len(WIRE.encode([1, 2])) + 1))
def test_a_reset_at_every_byte_is_told_behind_what_was_whole(size):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with blocking.connect(listener.getsockname(), WIRE, timeout=5) as connection:
            theirs, _ = listener.accept()
            theirs.sendall(WIRE.encode("whole") + WIRE.encode([1, 2])[:size])
            assert connection.receive() == "whole"
            reset(theirs)
            if size == len(WIRE.encode([1, 2])):
                assert connection.receive() == [1, 2]
            for _ in range(2):
                with pytest.raises(ConnectionResetError) as caught:
                    connection.receive()
                assert isinstance(caught.value, ConnectionReset)
                assert caught.value.address == connection.address
            with pytest.raises(ConnectionError):
                connection.send("into the void")


def reset_has_come(sock):
    """Wait until the system knows of the reset, and leave it to the next call to be told."""
    poll = select.poll()
    poll.register(sock, 0)
    assert poll.poll(5000)


@pytest.mark.parametrize("size", range(len(WIRE.encode([1, 2])) + 1))
def test_a_reset_that_a_send_has_met_is_told_behind_what_was_whole_and_is_no_truncation(size):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with blocking.connect(listener.getsockname(), WIRE, timeout=5) as connection:
            theirs, _ = listener.accept()
            theirs.sendall(WIRE.encode("whole") + WIRE.encode([1, 2])[:size])
            reset(theirs)
            reset_has_come(connection)
            with pytest.raises(ConnectionReset):
                connection.send("the system tells the reset once, and to this")
            assert connection.receive() == "whole"
            if size == len(WIRE.encode([1, 2])):
                assert connection.receive() == [1, 2]
            for _ in range(2):
                with pytest.raises(ConnectionReset) as caught:
                    connection.receive()
                assert caught.value.errno == errno.ECONNRESET
            assert connection.error is caught.value


@pytest.mark.parametrize("size", range(1, len(WIRE.encode([1, 2]))))
def test_an_end_inside_a_frame_is_truncation_although_a_send_has_met_it_first(size):
    ours, theirs = socket.socketpair()
    with blocking.Connection(ours, WIRE, timeout=5) as connection:
        theirs.sendall(WIRE.encode("whole") + WIRE.encode([1, 2])[:size])
        theirs.close()
        with pytest.raises(ConnectionReset) as caught:
            connection.send("nobody is there")
        assert caught.value.errno == errno.EPIPE
        assert connection.receive() == "whole"
        for _ in range(2):
            with pytest.raises(TruncatedFrame):
                connection.receive()


def test_half_a_last_line_is_no_line_where_a_reset_cut_it():
    lines = framing.Wire(framing.Lines(final="optional"), framing.Text())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with blocking.connect(listener.getsockname(), lines, timeout=5) as connection:
            theirs, _ = listener.accept()
            theirs.sendall(b"a line\nhalf a li")
            reset(theirs)
            reset_has_come(connection)
            with pytest.raises(ConnectionReset):
                connection.send("x")
            assert connection.receive() == "a line"
            with pytest.raises(ConnectionReset):
                connection.receive()


def test_a_violation_comes_behind_what_was_whole_and_stays(pair):
    connection, theirs = pair
    theirs.sendall(WIRE.encode(1) + b"\xff\xff\xff\xff")
    assert connection.receive() == 1
    for _ in range(2):
        with pytest.raises(FrameTooLarge):
            connection.receive()
    with pytest.raises(FrameTooLarge):
        list(connection)


def test_a_refused_payload_is_raised_in_its_place_and_the_next_call_goes_on(pair):
    connection, theirs = pair
    theirs.sendall(WIRE.encode(1) + LengthPrefixed(4).encode(b"{") + WIRE.encode(2))
    assert connection.receive() == 1
    with pytest.raises(DecodeError) as caught:
        connection.receive()
    assert caught.value.offset == 5
    assert connection.receive() == 2


def test_what_cannot_be_encoded_sends_nothing(pair):
    connection, theirs = pair
    with pytest.raises(EncodeError):
        connection.send(object())
    with pytest.raises(EncodeError):
        connection.send_many([1, 2, object()])
    connection.send("next")
    assert theirs.recv(1000) == WIRE.encode("next")


def test_a_send_that_timed_out_leaves_the_rest_queued_and_no_frame_is_cut():
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, RAW) as connection:
        big = random.Random(1).randbytes(4_000_000)
        with pytest.raises(Timeout, match="flush") as caught:
            connection.send(big, timeout=0.02)
        assert 0 < caught.value.queued == connection.queued < len(big)
        reader = threading.Thread(target=lambda: received.extend(read_all(theirs)))
        received = bytearray()
        with pytest.raises(Timeout):
            connection.send(b"behind", timeout=0)
        reader.start()
        connection.flush(timeout=5)
        assert connection.queued == 0
        connection.send(b"last", timeout=5)
        connection.close_sending()
        reader.join()
        assert received == RAW.encode_many([big, b"behind", b"last"])


def test_what_a_timeout_left_is_written_while_a_receive_waits():
    ours, theirs = socket.socketpair()
    with blocking.Connection(ours, RAW) as ours, blocking.Connection(theirs, RAW) as theirs:
        with pytest.raises(Timeout):
            ours.send(b"x" * 3_000_000, timeout=0.02)
        thread = threading.Thread(target=lambda: theirs.send(theirs.receive()[:5]))
        thread.start()
        assert ours.receive(timeout=5) == b"xxxxx"
        thread.join()


def test_a_large_frame_comes_through_a_full_socket_buffer(pair):
    connection, theirs = pair
    message = ["x" * 500_000, "ü" * 100_000]
    thread = threading.Thread(target=connection.send, args=(message,))
    thread.start()
    expected, got = WIRE.encode(message), b""
    while len(got) < len(expected):
        got += theirs.recv(50_000)
    thread.join()
    assert got == expected


def test_frames_of_many_sending_threads_never_interleave_while_one_receives():
    ours, theirs = socket.socketpair()
    with blocking.Connection(ours, WIRE, timeout=5) as ours, blocking.Connection(theirs, WIRE, timeout=5) as theirs:
        count, each = 8, 150

        def send(number):
            for index in range(each):
                ours.send([number, index, "x" * ((number * index) % 3000)])

        def answer():
            for message in theirs:
                theirs.send(message[:2])

        threads = [threading.Thread(target=send, args=(number,)) for number in range(count)]
        threads.append(threading.Thread(target=answer))
        for thread in threads:
            thread.start()
        replies = [ours.receive() for _ in range(count * each)]
        ours.close_sending()
        for thread in threads:
            thread.join()
        for number in range(count):
            assert [index for n, index in replies if n == number] == list(range(each))


def test_receiving_threads_share_the_messages_out(pair):
    connection, theirs = pair
    got = []

    def receive():
        try:
            while True:
                got.append(connection.receive())
        except ConnectionClosed:
            pass

    threads = [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for index in range(200):
        theirs.sendall(WIRE.encode(index))
    theirs.shutdown(socket.SHUT_WR)
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(200))


def test_a_send_with_a_timeout_does_not_change_a_receive_that_waits(pair):
    connection, theirs = pair
    got = []
    thread = threading.Thread(target=lambda: got.append(connection.receive(timeout=None)))
    thread.start()
    for _ in range(5):
        connection.send("x", timeout=0.01)
        time.sleep(0.01)
    assert thread.is_alive()
    theirs.sendall(WIRE.encode("now"))
    thread.join(2)
    assert got == ["now"]


@pytest.mark.parametrize("timeout", [None, 5])
def test_close_wakes_whoever_waits(pair, timeout):
    connection, _ = pair
    errors = []

    def receive():
        try:
            connection.receive(timeout=timeout)
        except ConnectionClosed as error:
            errors.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    time.sleep(0.02)
    connection.close()
    thread.join(1)
    assert [str(error) for error in errors] == ["there is nothing more to receive: the channel is closed"]
    assert connection.fileno() == -1
    connection.close()
    for call in (connection.receive, lambda: connection.send(1), connection.receive_batch):
        with pytest.raises(ConnectionClosed):
            call()


def test_close_wakes_a_send_that_waits():
    ours, theirs = socket.socketpair()
    with theirs:
        connection = blocking.Connection(ours, RAW)
        errors = []

        def send():
            try:
                connection.send(b"x" * 5_000_000)
            except ConnectionError as error:
                errors.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(0.05)
        connection.close()
        thread.join(1)
        assert len(errors) == 1
        assert connection.fileno() == -1


def test_closing_with_unread_replies_does_not_destroy_what_was_sent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Most of what is sent still waits in this side's kernel when the connection is closed.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        ours.connect(listener.getsockname())
        connection = blocking.Connection(ours, RAW, timeout=5)
        theirs, _ = listener.accept()
        with theirs:
            theirs.sendall(RAW.encode(b"unread"))
            time.sleep(0.01)
            connection.send(b"x" * 100_000)
            connection.close()
            assert read_all(theirs) == RAW.encode(b"x" * 100_000)


def test_frame_timeout_fails_the_connection_against_a_drip(pair):
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, WIRE, frame_timeout=0.06) as connection:
        stop = threading.Event()

        def drip():
            frame = WIRE.encode("x" * 1000)
            for index in range(len(frame)):
                if stop.wait(0.01):
                    return
                try:
                    theirs.send(frame[index : index + 1])
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        for _ in range(2):
            with pytest.raises(Timeout, match="did not complete it"):
                connection.receive()
        stop.set()
        thread.join()
        assert connection.error is not None


def test_frame_timeout_holds_when_there_is_always_one_more_byte_to_read(monkeypatch):
    plain = blocking.Stream.read

    def drip(stream, buffer, *, block=False):
        time.sleep(0.002)
        return plain(stream, buffer[:1], block=block)

    monkeypatch.setattr(blocking.Stream, "read", drip)
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, WIRE, frame_timeout=0.05) as connection:
        theirs.sendall(WIRE.encode("x" * 3000))
        with pytest.raises(Timeout, match="did not complete it"):
            connection.receive()
        monkeypatch.undo()
        assert connection.error is not None


def test_a_signal_in_the_middle_of_a_wait_changes_nothing(pair):
    connection, theirs = pair
    hits = []
    before = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    thread = threading.Timer(0.08, theirs.sendall, [WIRE.encode("late")])
    thread.start()
    try:
        assert connection.receive(timeout=2) == "late"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        thread.join()
    assert len(hits) > 2


def test_close_from_a_signal_handler_ends_the_receive_under_it(pair):
    connection, _ = pair
    before = signal.signal(signal.SIGALRM, lambda *_: connection.close())
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with pytest.raises(ConnectionClosed):
            connection.receive()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_exception_out_of_a_signal_handler_loses_nothing_that_came(pair):
    connection, theirs = pair
    theirs.sendall(WIRE.encode("kept")[:4])

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with pytest.raises(KeyboardInterrupt):
            connection.receive(timeout=None)
    finally:
        signal.signal(signal.SIGALRM, before)
    theirs.sendall(WIRE.encode("kept")[4:])
    assert connection.receive() == "kept"


def test_a_tls_socket_is_a_stream_socket_too(contexts):
    server_side, client_side = contexts
    plain, theirs = socket.socketpair()
    got = []

    def serve():
        with blocking.Connection(server_side.wrap_socket(theirs, server_side=True), RAW, timeout=5) as connection:
            for message in connection:
                got.append(message)
                connection.send(message)

    thread = threading.Thread(target=serve)
    thread.start()
    secure = client_side.wrap_socket(plain, server_hostname="localhost")
    messages = [b"x" * size for size in (0, 1, 20_000, 1_000_000, 16_384)]
    with blocking.Connection(secure, RAW, timeout=5) as connection:
        sender = threading.Thread(target=connection.send_many, args=(messages,))
        sender.start()
        assert [connection.receive() for _ in messages] == messages
        sender.join()
        with pytest.raises(Timeout):
            connection.receive(timeout=0.01)
        with pytest.raises(framing.FramingError, match="TLS"):
            connection.close_sending()
    thread.join()
    assert got == messages


# ---------------------------------------------------------------------- server


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_service_sees_opened_then_messages_then_closed(tmp_path, kind):
    service = Recorder()
    with blocking.Server(("127.0.0.1", 0) if kind == "tcp" else f"unix:{tmp_path}/s", WIRE, service) as server:
        with blocking.connect(server.address, WIRE, timeout=5) as connection:
            connection.send_many([1, [2], {"three": 3}])
            connection.close_sending()
            assert list(connection) == [1, [2], {"three": 3}]
        until(lambda: service.ends)
    assert service.calls == ["opened", 1, [2], {"three": 3}, "closed"]
    assert service.ends == [None]
    assert not (tmp_path / "s").exists()


def test_received_is_all_that_a_service_must_have():
    class OnlyReceived:
        def received(self, peer, message):
            peer.send([message])
            peer.close()

    with blocking.Server(("127.0.0.1", 0), WIRE, OnlyReceived()) as server:
        with blocking.connect(server.address, WIRE, timeout=5) as connection:
            connection.send_many([1, 2])
            assert list(connection) == [[1]]
    for wrong in (object(), Echo, 5):
        with pytest.raises(TypeError, match=r"received|instance"):
            blocking.Server(("127.0.0.1", 0), WIRE, wrong)


def test_what_is_sent_while_a_batch_is_handled_leaves_in_one_write(monkeypatch):
    writes = []
    plain = framing.drivers.stream.Stream.write

    def write(stream, buffers):
        count = plain(stream, buffers)
        if threading.current_thread().name.startswith("framing peer"):
            writes.append(count)
        return count

    monkeypatch.setattr("framing.drivers.stream.Stream.write", write)
    with blocking.Server(("127.0.0.1", 0), WIRE, Echo()) as server:
        with blocking.connect(server.address, WIRE, timeout=5) as connection:
            connection.send_many(range(1000))
            assert [connection.receive() for _ in range(1000)] == list(range(1000))
    assert sum(writes) == len(WIRE.encode_many(range(1000)))
    assert len(writes) <= 3


def test_a_service_that_raises_ends_that_connection_only_and_is_logged_with_the_peer(caplog):
    class Fragile(Recorder):
        def received(self, peer, message):
            super().received(peer, message)
            if message == "bad":
                raise ZeroDivisionError("oops")

    service = Fragile()
    with blocking.Server(("127.0.0.1", 0), WIRE, service) as server:
        with (
            blocking.connect(server.address, WIRE, timeout=5) as good,
            blocking.connect(server.address, WIRE, timeout=5) as bad,
        ):
            bad.send_many([1, "bad", "never handled"])
            assert list(bad) == [1, "bad"]  # what was sent before it raised still leaves
            good.send("still here")
            assert good.receive() == "still here"
        until(lambda: len(service.ends) == 2)
    assert sorted(map(repr, service.ends)) == sorted(["None", "ZeroDivisionError('oops')"])
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "127.0.0.1" in record.message
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("method", ["opened", "closed"])
def test_a_service_that_raises_elsewhere_harms_nobody_either(caplog, method):
    def fail(*_):
        raise RuntimeError(method)

    service = Recorder()
    setattr(service, method, fail)
    with blocking.Server(("127.0.0.1", 0), WIRE, service) as server:
        for _ in range(2):
            with blocking.connect(server.address, WIRE, timeout=5) as connection:
                connection.close_sending()
                assert list(connection) == []
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 2


def test_each_end_is_told_to_the_service():
    service = Recorder()
    with blocking.Server(("127.0.0.1", 0), WIRE, service, frame_timeout=0.05) as server:

        def end_of(talk):
            before = len(service.ends)
            with socket.create_connection((server.address.host, server.address.port)) as sock:
                talk(sock)
                until(lambda: len(service.ends) > before)
            return service.ends[-1]

        assert isinstance(end_of(lambda sock: sock.sendall(b"GET / HTTP/1.1\r\n\r\n")), FrameTooLarge)
        assert isinstance(end_of(lambda sock: (sock.sendall(b"\0\0"), sock.shutdown(socket.SHUT_WR))), TruncatedFrame)
        assert isinstance(end_of(lambda sock: sock.sendall(LengthPrefixed(4).encode(b"{"))), DecodeError)
        assert isinstance(end_of(lambda sock: sock.sendall(b"\0")), Timeout)
        assert end_of(lambda sock: sock.shutdown(socket.SHUT_WR)) is None

        def vanish(sock):
            sock.sendall(WIRE.encode(1))
            assert sock.recv(100)
            reset(sock)

        assert isinstance(end_of(vanish), ConnectionReset)


@pytest.mark.parametrize("size", range(1, len(WIRE.encode([1, 2]))))
def test_resets_and_ends_at_every_byte_leave_the_server_whole(size):
    service = Recorder()
    with blocking.Server(("127.0.0.1", 0), WIRE, service) as server:
        for end in (reset, socket.socket.close):
            sock = socket.create_connection((server.address.host, server.address.port))
            sock.sendall(WIRE.encode([1, 2])[:size])
            end(sock)
        until(lambda: len(service.ends) == 2)
        with blocking.connect(server.address, WIRE, timeout=5) as connection:
            connection.send("fine")
            assert connection.receive() == "fine"
    assert {type(error) for error in service.ends[:2]} <= {ConnectionReset, TruncatedFrame}


def test_messages_before_a_violation_are_answered():
    with blocking.Server(("127.0.0.1", 0), WIRE, Echo()) as server:
        with socket.create_connection((server.address.host, server.address.port)) as sock:
            sock.settimeout(5)
            sock.sendall(WIRE.encode_many([1, 2]) + b"\xff\xff\xff\xff" + b"x" * 900_000)
            assert read_all(sock) == WIRE.encode_many([1, 2])


def test_the_last_reply_arrives_although_much_of_what_came_is_never_read():
    reply = RAW.encode(b"r" * 60_000)
    with blocking.Server(("127.0.0.1", 0), RAW, Echo()) as server:
        with socket.socket() as sock:
            # A small window: most of the reply still waits in the server's kernel when the server closes.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(5)
            sock.connect((server.address.host, server.address.port))
            junk = threading.Thread(target=sock.sendall, args=(reply + b"\xff\xff\xff\xff" + b"x" * 900_000,))
            junk.start()
            time.sleep(0.1)
            assert read_all(sock) == reply
            junk.join()


def test_slow_loris_is_closed_by_the_frame_deadline_and_others_do_not_notice():
    with blocking.Server(("127.0.0.1", 0), WIRE, Echo(), frame_timeout=0.1) as server:
        with (
            socket.create_connection((server.address.host, server.address.port)) as loris,
            blocking.connect(server.address, WIRE, timeout=5) as good,
        ):
            began = time.monotonic()
            closed = False
            drip = iter(RAW.encode(b"x" * 10_000))
            while not closed and time.monotonic() < began + 2:
                try:
                    loris.sendall(bytes([next(drip)]))
                    loris.settimeout(0.01)
                    closed = loris.recv(1) == b""
                except TimeoutError:
                    good.send("quick")
                    assert good.receive() == "quick"
                except OSError:
                    closed = True
            assert closed
            assert 0.08 < time.monotonic() - began < 1


def test_idle_peers_are_closed_and_busy_ones_are_not():
    service = Recorder()
    with blocking.Server(("127.0.0.1", 0), WIRE, service, idle_timeout=0.4) as server:
        with (
            blocking.connect(server.address, WIRE, timeout=5) as idle,
            blocking.connect(server.address, WIRE, timeout=5) as busy,
        ):
            while not service.ends:
                busy.send(1)
                assert busy.receive() == 1
            assert list(idle) == []
            with pytest.raises(ConnectionClosed):
                busy.receive()


def test_a_peer_that_never_reads_is_closed_and_nobody_waits_for_it():
    class Broadcast(Recorder):
        def received(self, peer, message):
            frames = RAW.encode(message)
            for one in self.peers:
                one.send_encoded(frames)

    service = Broadcast()
    with blocking.Server(("127.0.0.1", 0), RAW, service, max_queued=1 << 18, slow_reader_timeout=5) as server:
        with (
            blocking.connect(server.address, RAW, timeout=5) as sleeper,
            blocking.connect(server.address, RAW, timeout=5) as good,
        ):
            until(lambda: len(service.peers) == 2)
            block, sent = b"x" * 100_000, 0
            while not service.ends and sent < 300:
                good.send(block)
                assert good.receive() == block
                sent += 1
            assert service.ends, "the sleeper's queue has no bound"
            assert isinstance(service.ends[0], Timeout)
            assert "does not read" in str(service.ends[0])
            good.send(b"still here")
            assert good.receive() == b"still here"
            assert sleeper.fileno() >= 0


def test_a_slow_reader_gets_all_that_others_sent_to_it():
    class Broadcast(Recorder):
        def received(self, peer, message):
            for one in self.peers:
                one.send(message)

    service = Broadcast()
    with blocking.Server(("127.0.0.1", 0), RAW, service, max_queued=1 << 26) as server:
        with (
            blocking.connect(server.address, RAW, timeout=5) as slow,
            blocking.connect(server.address, RAW, timeout=5) as good,
        ):
            until(lambda: len(service.peers) == 2)
            blocks = [bytes([index]) * 100_000 for index in range(100)]
            for block in blocks:
                good.send(block)
                assert good.receive() == block
            assert any(peer.paused for peer in service.peers)
            assert [slow.receive() for _ in blocks] == blocks


def test_a_peer_that_takes_nothing_is_closed_after_its_deadline():
    service = Recorder()
    with blocking.Server(("127.0.0.1", 0), RAW, service, slow_reader_timeout=0.1) as server:
        with socket.create_connection((server.address.host, server.address.port)) as sock:
            sock.settimeout(0.05)
            fill(sock)
            until(lambda: service.ends)
    assert isinstance(service.ends[0], Timeout)


def test_sending_to_a_peer_that_is_gone_is_no_error():
    service = Recorder()
    with blocking.Server(("127.0.0.1", 0), WIRE, service) as server:
        with blocking.connect(server.address, WIRE, timeout=5):
            until(lambda: service.peers)
        until(lambda: service.ends)
        service.peers[0].send("too late")
        service.peers[0].close()
        with pytest.raises(EncodeError):
            service.peers[0].send(object())


def test_a_peer_can_be_sent_to_and_closed_from_any_thread():
    service = Recorder()
    with blocking.Server(("127.0.0.1", 0), WIRE, service) as server:
        with blocking.connect(server.address, WIRE, timeout=5) as connection:
            until(lambda: service.peers)
            service.peers[0].send("out of the blue")
            assert connection.receive() == "out of the blue"
            service.peers[0].send_many(["last", "words"])
            service.peers[0].close()
            assert list(connection) == ["last", "words"]
    assert service.ends == [None]


def test_above_max_connections_nobody_is_accepted_until_somebody_leaves():
    with blocking.Server(("127.0.0.1", 0), WIRE, Echo(), max_connections=2) as server:
        first, second, third = (blocking.connect(server.address, WIRE, timeout=5) for _ in range(3))
        with first, second, third:
            for connection in (first, second, third):
                connection.send("hello")
            assert first.receive() == second.receive() == "hello"
            with pytest.raises(Timeout):
                third.receive(timeout=0.05)
            assert server.connections == 2
            first.close()
            assert third.receive() == "hello"


def test_stop_answers_what_is_being_handled_and_is_quick_with_idle_clients():
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def received(self, peer, message):
            begun.set()
            go_on.wait(2)
            peer.send(message)

    server = blocking.Server(("127.0.0.1", 0), WIRE, Slow())
    with server, blocking.connect(server.address, WIRE, timeout=5) as busy, blocking.connect(server.address, WIRE):
        busy.send("in the middle")
        begun.wait(2)
        server.stop()
        go_on.set()
        assert list(busy) == ["in the middle"]
        before = time.monotonic()
        server.close()
        assert time.monotonic() - before < 0.5
    with pytest.raises(ConnectionError):
        blocking.connect(server.address, WIRE, timeout=1)
    with pytest.raises(ConnectionClosed):
        blocking.Server.run(_stopped := _closed_server())
    assert _stopped.connections == 0


def _closed_server():
    server = blocking.Server(("127.0.0.1", 0), WIRE, Echo())
    server.close()
    server.close()
    return server


def test_stop_is_bounded_when_a_peer_does_not_read():
    with blocking.Server(("127.0.0.1", 0), RAW, Recorder(), drain_timeout=0.1, slow_reader_timeout=None) as server:
        with socket.create_connection((server.address.host, server.address.port)) as sock:
            sock.settimeout(0.05)
            fill(sock)
            before = time.monotonic()
            server.close()
            assert time.monotonic() - before < 1


def test_a_service_that_never_returns_does_not_hold_up_the_end(caplog):
    go_on, begun = threading.Event(), threading.Event()

    class Stuck:
        def received(self, peer, message):
            begun.set()
            go_on.wait(5)

    with blocking.Server(("127.0.0.1", 0), WIRE, Stuck(), drain_timeout=0.05) as server:
        with blocking.connect(server.address, WIRE, timeout=5) as connection:
            connection.send(1)
            begun.wait(2)
            server.close()
    assert "has not returned" in caplog.text
    go_on.set()


def test_run_blocks_until_stop_from_another_thread():
    server = blocking.Server(("127.0.0.1", 0), WIRE, Echo())
    thread = threading.Thread(target=server.run)
    thread.start()
    with blocking.connect(server.address, WIRE, timeout=5) as connection:
        connection.send(1)
        assert connection.receive() == 1
    server.stop()
    thread.join(2)
    assert not thread.is_alive()


def test_a_service_may_stop_its_server():
    class Quit:
        def received(self, peer, message):
            peer.send("bye")
            server.stop()

    server = blocking.Server(("127.0.0.1", 0), WIRE, Quit())
    with server, blocking.connect(server.address, WIRE, timeout=5) as connection:
        connection.send("quit")
        assert list(connection) == ["bye"]
        server.run()


def test_many_clients_at_once_each_get_their_own():
    with blocking.Server(("127.0.0.1", 0), WIRE, Echo()) as server:
        wrong = []

        def talk(number):
            with blocking.connect(server.address, WIRE, timeout=5) as connection:
                for index in range(30):
                    connection.send([number, index])
                    if connection.receive() != [number, index]:
                        wrong.append(number)

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_accept_survives_emfile_and_goes_on():
    """A row of the hardening list: descriptors run out; accepting pauses, without a spin, and resumes."""
    program = textwrap.dedent(
        """
        import os, resource, socket, time
        from framing import Wire
        from framing.drivers import blocking
        class Echo:
            def received(self, peer, message):
                peer.send(message)
        wire = Wire.parse("u32+json")
        with blocking.Server(("127.0.0.1", 0), wire, Echo()) as server:
            place = (server.address.host, server.address.port)
            early = blocking.connect(place, wire, timeout=5)
            early.send(1); assert early.receive() == 1
            late = socket.socket()
            hoard = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            try:
                while True:
                    hoard.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
            late.connect(place)
            late = blocking.Connection(late, wire, timeout=5)
            late.send("late")
            before = time.process_time()
            time.sleep(0.3)
            assert time.process_time() - before < 0.1, "it spins"
            early.send(2); assert early.receive() == 2
            for one in hoard:
                os.close(one)
            assert late.receive() == "late"
            late.close(); early.close()
        print("fine")
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "fine\n", done.stderr
    assert "accepts nobody" in done.stderr
