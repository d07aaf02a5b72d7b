"""The non-blocking driver: `handle`, `send` and `interest`, on real sockets and to the byte."""

from __future__ import annotations

import contextlib
import os
import random
import select
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framing import (
    JSON,
    ConnectionClosed,
    ConnectionReset,
    CorruptFrame,
    DecodeError,
    EncodeError,
    FrameTooLarge,
    FramingError,
    LengthPrefixed,
    Lines,
    Netstring,
    Text,
    Timeout,
    TruncatedFrame,
    Wire,
)
from framing.channel import Heartbeat, State
from framing.drivers import nonblocking
from framing.drivers.nonblocking import READ_TURN, WRITE_TURN, Connection
from framing.testing import ScriptedSocket

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
WIRE = Wire(LengthPrefixed(4), JSON())
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def descriptors() -> int:
    opened = Path("/proc/self/fd")
    return len(list(opened.iterdir())) if opened.exists() else 0


@pytest.fixture(autouse=True)
def _no_descriptor_is_leaked() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


@contextlib.contextmanager
def joined(wire: Wire[Any] = WIRE, **options: Any) -> Iterator[tuple[Connection[Any], socket.socket]]:
    """A connection, and the plain socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(2)
    with theirs, Connection(ours, wire, **options) as connection:
        yield connection, theirs


@contextlib.contextmanager
def tcp(wire: Wire[Any] = WIRE, **options: Any) -> Iterator[tuple[Connection[Any], socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    theirs.settimeout(2)
    with theirs, Connection(ours, wire, **options) as connection:
        yield connection, theirs


def ready(connection: Connection[Any], seconds: float = 1.0) -> int:
    """What ``select`` says of a connection that is waited for as it asks; 0 when it stays silent."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, connection.interest)
        return next((events for _, events in selector.select(seconds)), 0)


def turns(connection: Connection[Any], until: int | None = None, seconds: float = 1.0) -> tuple[list[Any], list[Any]]:
    """Drive the connection as a loop does: its messages, and what was raised, until it ends or falls silent."""
    messages: list[Any] = []
    raised: list[Any] = []
    end = time.monotonic() + seconds
    while (until is None or len(messages) < until) and connection.interest and time.monotonic() < end:
        events = ready(connection, 0.05)
        if not events:
            break
        try:
            messages += connection.handle(events)
        except FramingError as error:
            raised.append(error)
    return messages, raised


# ------------------------------------------------------------------------------------------------ receiving


def test_handle_returns_the_messages_that_are_whole_and_keeps_the_rest() -> None:
    with joined() as (connection, peer):
        assert connection.interest == READ
        stream = WIRE.encode_many(["a", {"b": 1}, [2]])
        peer.sendall(stream[:-1])
        assert connection.handle(READ) == ["a", {"b": 1}]
        assert connection.handle(READ) == []
        peer.sendall(stream[-1:])
        assert connection.handle(READ) == [[2]]


def test_handle_never_waits() -> None:
    with joined() as (connection, _):
        began = time.monotonic()
        assert connection.handle(READ | WRITE) == []
        assert connection.handle(0) == []
        assert time.monotonic() - began < 0.1


@pytest.mark.parametrize("size", [1, 7, 1000, 65536])
def test_cuts_change_nothing(size: int) -> None:
    expected = [{"n": number, "pad": "x" * (number % 50)} for number in range(200)]
    stream = WIRE.encode_many(expected)[: 3000 if size == 1 else None]
    whole = WIRE.decoder().feed(stream)
    got: list[Any] = []
    with joined() as (connection, peer):
        for start in range(0, len(stream), size):
            peer.sendall(stream[start : start + size])
            got += connection.handle(READ)
    assert got == whole


def test_a_large_frame_is_received_in_its_own_place() -> None:
    message = random.Random(1).randbytes(900_000)
    wire = Wire(LengthPrefixed(4))
    with joined(wire) as (connection, peer):
        stream = memoryview(wire.encode(message) + wire.encode(b"behind"))
        peer.setblocking(False)
        lent: list[int] = []
        got: list[bytes] = []
        while len(got) < 2:
            if stream:
                with contextlib.suppress(BlockingIOError):
                    stream = stream[peer.send(stream) :]
            got += connection.handle(READ)
            lent.append(connection.channel.buffered)
    assert got == [message, b"behind"]
    assert max(lent) > 200_000


def test_a_frame_that_only_announces_itself_costs_no_memory() -> None:
    wire = Wire(LengthPrefixed(4, max_frame=1 << 31))
    with joined(wire) as (connection, peer):
        peer.sendall(struct.pack(">I", (1 << 31) - 1) + bytes(100))
        assert connection.handle(READ) == []
        assert connection.channel.buffered == 104
        assert len(connection.channel.get_buffer()) <= 1 << 17


def test_one_turn_is_bounded_so_that_others_get_theirs() -> None:
    wire = Wire(LengthPrefixed(4))
    frame = wire.encode(b"x" * 1020)
    sock = ScriptedSocket([frame * 64] * 20, then_block=True)
    with Connection(sock, wire) as connection:
        for _ in range(20):
            assert len(connection.handle(READ)) == 64
        assert connection.handle(READ) == []
    # A frame that is not whole yet, of a peer that is always faster: every read fills its buffer.
    sock = ScriptedSocket([bytes([0, 15, 255, 255]) + bytes(1_000_000)], then_block=True)
    with Connection(sock, wire) as connection:
        assert connection.handle(READ) == []
        assert READ_TURN <= connection.channel.buffered < 1_000_000


def test_the_connections_of_a_thread_share_one_buffer() -> None:
    with joined() as (one, peer), joined() as (two, other):
        peer.sendall(WIRE.encode("to one")[:-1])
        other.sendall(WIRE.encode("to two")[:-1])
        assert one.handle(READ) == two.handle(READ) == []
        peer.sendall(b'"')
        other.sendall(b'"')
        assert (one.handle(READ), two.handle(READ)) == (["to one"], ["to two"])


def test_the_loop_can_lend_its_own_buffer() -> None:
    scratch = bytearray(16)
    with joined(scratch=scratch) as (connection, peer):
        peer.sendall(WIRE.encode("much longer than the buffer is, so read in parts"))
        assert turns(connection, 1)[0] == ["much longer than the buffer is, so read in parts"]
        assert any(scratch)


def test_reading_can_be_turned_off_and_on() -> None:
    with joined() as (connection, peer):
        peer.sendall(WIRE.encode(1))
        connection.reading = False
        assert connection.interest == 0
        assert connection.handle(READ) == []
        connection.reading = True
        assert connection.interest == READ
        assert connection.handle(READ) == [1]


# ---------------------------------------------------------------------------------------------- what goes wrong


def test_a_clean_end_is_raised_behind_the_messages_and_once() -> None:
    with joined() as (connection, peer):
        peer.sendall(WIRE.encode(1))
        peer.shutdown(socket.SHUT_WR)
        messages, raised = turns(connection)
        assert messages == [1]
        assert [type(error) for error in raised] == [ConnectionClosed]
        assert connection.ended
        assert connection.eof
        assert connection.interest == 0
        assert connection.handle(WRITE) == []
        with pytest.raises(ConnectionClosed):
            connection.handle(READ)


def test_replies_still_go_out_behind_the_peers_end() -> None:
    with joined() as (connection, peer):
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionClosed):
            connection.handle(READ)
        assert connection.state is State.HALF_CLOSED_REMOTE
        connection.send("still")
        connection.close_sending()
        assert peer.recv(100) == WIRE.encode("still")
        assert peer.recv(100) == b""
        assert connection.state is State.CLOSED


@pytest.mark.parametrize("kept", range(len(WIRE.encode([1])) * 2 + 1))
def test_an_end_at_every_byte_is_judged_like_the_decoder_judges_it(kept: int) -> None:
    stream = WIRE.encode_many([[1], [2]])[:kept]
    frame = len(WIRE.encode([1]))
    with joined() as (connection, peer):
        peer.sendall(stream)
        peer.close()
        messages, raised = turns(connection)
    assert messages == [[1], [2]][: kept // frame]
    assert [type(error) for error in raised] == [TruncatedFrame if kept % frame else ConnectionClosed]
    if kept % frame:
        assert (raised[0].offset, raised[0].got) == (kept // frame * frame, kept % frame)


@pytest.mark.parametrize("kept", range(len(WIRE.encode([1])) * 2 + 1))
def test_a_reset_at_every_byte_comes_behind_what_was_received(kept: int) -> None:
    stream = WIRE.encode_many([[1], [2]])[:kept]
    frame = len(WIRE.encode([1]))
    with tcp() as (connection, peer):
        peer.sendall(stream)
        time.sleep(0.001)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        messages, raised = turns(connection)
        assert messages == [[1], [2]][: kept // frame]
        assert [type(error) for error in raised] == [ConnectionReset]
        assert isinstance(raised[0], ConnectionResetError)
        assert connection.state is State.FAILED
        assert connection.broken
        assert connection.interest == 0
        with pytest.raises(ConnectionReset):
            connection.handle(READ)


def test_a_violation_comes_behind_the_messages_before_it_and_stays() -> None:
    wire = Wire(Netstring(), Text())
    with joined(wire) as (connection, peer):
        peer.sendall(b"2:ab,1:c,oops")
        assert connection.handle(READ) == ["ab", "c"]
        assert connection.pending
        assert ready(connection)  # a loop that only waits gets there as well
        for _ in range(3):
            with pytest.raises(CorruptFrame) as caught:
                connection.handle(READ)
            assert caught.value.offset == 9
        assert connection.ended
        assert connection.error is caught.value


def test_what_is_queued_goes_out_behind_a_violation() -> None:
    with joined(Wire(LengthPrefixed(4, max_frame=10))) as (connection, peer):
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(FrameTooLarge, match="an HTTP request"):
            connection.handle(READ)
        connection.close()
        assert peer.recv(10) == b""


def test_a_refused_payload_is_raised_at_its_place_and_the_stream_goes_on() -> None:
    raw = LengthPrefixed(4)
    stream = b"".join(map(raw.encode, [b"1", b"{", b"3", b"}", b"5"]))
    with joined() as (connection, peer):
        peer.sendall(stream)
        said: list[Any] = []
        while len(said) < 5:
            try:
                said += connection.handle(READ if not said else 0)
            except DecodeError as error:
                said.append(error.offset)
        assert said == [1, 5, 3, 15, 5]
        assert not connection.pending


def test_a_loop_that_only_waits_gets_all_there_is_to_say() -> None:
    raw = LengthPrefixed(4)
    with joined() as (connection, peer):
        peer.sendall(b"".join(map(raw.encode, [b"1", b"{", b"3", b"}", b"5"])))
        messages, raised = turns(connection)
        assert messages == [1, 3, 5]
        assert [type(error) for error in raised] == [DecodeError, DecodeError]


def test_what_a_peer_said_before_it_vanished_is_received_though_writing_fails() -> None:
    with tcp() as (connection, peer):
        peer.sendall(WIRE.encode("goodbye, because …"))
        time.sleep(0.01)
        peer.close()
        for _ in range(50):
            with contextlib.suppress(FramingError):
                connection.send("x" * 1000)
            time.sleep(0.001)
            if connection.broken:
                break
        assert connection.broken
        messages, raised = turns(connection)
        assert messages == ["goodbye, because …"]
        assert [type(error) for error in raised] == [ConnectionReset]
        with pytest.raises(ConnectionReset):
            connection.send(1)


def test_a_write_that_fails_behind_the_peers_end_is_raised_too() -> None:
    sock = ScriptedSocket([b""], [BlockingIOError, ConnectionResetError(104, "reset")])
    with Connection(sock, WIRE) as connection:
        with pytest.raises(ConnectionClosed):
            connection.handle(READ)
        connection.send("late")
        assert connection.queued
        with pytest.raises(ConnectionReset):
            connection.handle(WRITE)
        assert connection.interest == 0


@pytest.mark.parametrize("kept", range(1, len(WIRE.encode([1]))))
def test_a_reset_that_a_write_has_met_is_no_end_inside_a_frame(kept: int) -> None:
    with tcp() as (connection, peer):
        peer.sendall(WIRE.encode("whole") + WIRE.encode([1])[:kept])
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        known = select.poll()
        known.register(connection, 0)
        assert known.poll(2000)  # the system knows of the reset, and tells it once: to the write
        connection.send("x")
        assert connection.broken
        messages, raised = turns(connection)
        assert messages == ["whole"]
        assert [type(error) for error in raised] == [ConnectionReset]
        with pytest.raises(ConnectionReset):
            connection.handle(READ)


@pytest.mark.parametrize("kept", range(1, len(WIRE.encode([1]))))
def test_an_end_inside_a_frame_is_truncation_although_a_write_has_met_it_first(kept: int) -> None:
    with joined() as (connection, peer):
        peer.sendall(WIRE.encode("whole") + WIRE.encode([1])[:kept])
        peer.close()
        connection.send("x")
        assert connection.broken
        messages, raised = turns(connection)
        assert messages == ["whole"]
        assert [type(error) for error in raised] == [TruncatedFrame]
        with pytest.raises(TruncatedFrame):
            connection.handle(READ)


@pytest.mark.parametrize("hiccup", [InterruptedError, BlockingIOError])
def test_interruptions_lose_and_repeat_nothing(hiccup: type[Exception]) -> None:
    stream = WIRE.encode_many(["abc", "def"])
    incoming: list[Any] = []
    for index in range(len(stream)):
        incoming += [hiccup, stream[index : index + 1]]
    sock = ScriptedSocket(incoming, [hiccup, 1, hiccup, 2, hiccup, 3], then_block=True)
    with Connection(sock, WIRE) as connection:
        connection.send_many([1, 2, 3])
        got: list[Any] = []
        for _ in range(2 * len(stream) + 5):
            got += connection.handle(READ | WRITE)
        assert got == ["abc", "def"]
        assert bytes(sock.sent) == WIRE.encode_many([1, 2, 3])
        assert not connection.queued


# ------------------------------------------------------------------------------------------------------ sending


def test_send_writes_at_once_and_queues_what_the_socket_does_not_take() -> None:
    with joined(Wire(LengthPrefixed(4))) as (connection, peer):
        connection.send(b"small")
        assert connection.queued == 0
        assert connection.interest == READ
        assert peer.recv(100) == b"\0\0\0\5small"
        sent = 0
        while not connection.queued:
            connection.send(b"x" * 100_000)
            sent += 100_004
        assert connection.interest == READ | WRITE
        connection.send(b"behind")  # in order, without another attempt
        assert connection.written + connection.queued == sent + 9 + 10
        got = bytearray()
        while connection.queued:
            got += peer.recv(1 << 20)
            connection.handle(WRITE)
        while len(got) < sent + 10:
            got += peer.recv(1 << 20)
        assert got[-10:] == b"\0\0\0\6behind"
        assert connection.interest == READ


def test_what_is_queued_at_the_channel_leaves_in_one_write() -> None:
    sock = ScriptedSocket(then_block=True)
    with Connection(sock, WIRE) as connection:
        for number in range(100):
            connection.channel.send(number)
        assert connection.interest & WRITE
        assert connection.flush()
        assert bytes(sock.sent) == WIRE.encode_many(range(100))
        assert sum(name.startswith("send") for name in sock.calls) == 1


def test_a_message_that_cannot_be_encoded_sends_nothing() -> None:
    with joined() as (connection, peer):
        with pytest.raises(EncodeError):
            connection.send_many([1, object()])
        connection.send(2)
        assert peer.recv(100) == WIRE.encode(2)


def test_send_encoded_sends_what_was_encoded_once_for_many() -> None:
    frames = WIRE.encode("to all")
    with joined() as (one, first), joined() as (two, second):
        for connection in (one, two):
            connection.send_encoded(frames)
        assert first.recv(100) == second.recv(100) == frames


def test_paused_is_between_the_water_marks() -> None:
    with joined(Wire(LengthPrefixed(4)), high_water=1000, low_water=10) as (connection, peer):
        connection.send(b"x" * 4_00_000)
        assert connection.paused
        while connection.queued > 10:
            assert connection.paused
            peer.recv(1 << 16)
            connection.handle(WRITE)
        assert not connection.paused


def test_one_turn_of_writing_is_bounded() -> None:
    wire = Wire(LengthPrefixed(4, max_frame=1 << 23))
    sock = ScriptedSocket(outgoing=[1 << 17] * 100, then_block=True)
    with Connection(sock, wire) as connection:
        connection.channel.send(bytes(1 << 22))
        connection.flush()
        assert connection.written == WRITE_TURN
        assert connection.interest & WRITE


def test_close_sending_ends_the_stream_behind_what_is_queued() -> None:
    with joined(Wire(LengthPrefixed(4))) as (connection, peer):
        connection.send(b"x" * 1_000_000)
        connection.close_sending()
        with pytest.raises(ConnectionClosed):
            connection.send(b"more")
        total = 0
        while chunk := (connection.handle(WRITE), peer.recv(1 << 20))[1]:
            total += len(chunk)
        assert total == 1_000_004
        peer.sendall(b"\0\0\0\2ok")
        assert connection.handle(READ) == [b"ok"]


def test_close_sends_what_the_socket_takes_and_closes_twice() -> None:
    with joined() as (connection, peer):
        connection.channel.send("last words")
        connection.close()
        connection.close()
        assert connection.fileno() == -1
        assert peer.recv(100) == WIRE.encode("last words")
        assert peer.recv(100) == b""
        for call in (lambda: connection.handle(READ), lambda: connection.send(1)):
            with pytest.raises(ConnectionClosed):
                call()


def test_discard_throws_away_what_the_peer_still_sends() -> None:
    with joined() as (connection, peer):
        connection.finish()
        assert connection.discard() == 0
        peer.sendall(b"x" * 1000)
        assert connection.discard() == 1000
        peer.shutdown(socket.SHUT_WR)
        assert connection.discard() is None


# ---------------------------------------------------------------------------------------------------- deadlines


def test_a_frame_that_drips_is_over_at_its_deadline() -> None:
    with joined(frame_timeout=0.1) as (connection, peer):
        assert connection.deadline is None
        frame = WIRE.encode("x" * 50)
        began = time.monotonic()

        def drip() -> None:
            for index in range(50):
                peer.sendall(frame[index : index + 1])
                connection.handle(READ)
                connection.expire()
                time.sleep(0.01)

        with pytest.raises(Timeout, match=r"did not complete it in 0\.1 s"):
            drip()
        assert 0.09 < time.monotonic() - began < 0.4
        with pytest.raises(Timeout):
            connection.handle(READ)


def test_idleness_has_a_deadline_that_moves_with_each_byte() -> None:
    with joined(idle_timeout=0.1) as (connection, peer):
        first = connection.deadline
        time.sleep(0.02)
        peer.sendall(WIRE.encode(1))
        connection.handle(READ)
        second = connection.deadline
        time.sleep(0.02)
        connection.send(1)
        third = connection.deadline
        assert first is not None
        assert second is not None
        assert third is not None
        assert first < second < third
        connection.expire(third - 0.01)
        with pytest.raises(Timeout, match="nothing was received or written"):
            connection.expire(third)


def test_a_heartbeat_is_sent_answered_and_missed() -> None:
    beat = Heartbeat("ping", "pong", interval=0.05)
    with joined(heartbeat=beat) as (connection, peer):
        peer.sendall(WIRE.encode_many(["ping", 1]))
        assert connection.handle(READ) == [1]
        assert peer.recv(100) == WIRE.encode("pong")

        def listen() -> None:
            while True:
                assert connection.deadline is not None
                time.sleep(max(connection.deadline - time.monotonic(), 0))
                connection.expire()

        began = time.monotonic()
        with pytest.raises(Timeout, match="nothing was heard"):
            listen()
        assert 0.09 < time.monotonic() - began < 0.3
        assert peer.recv(100).startswith(WIRE.encode("ping"))  # one at least, before it gave up


# ---------------------------------------------------------------------------------------------------------- TLS


@contextlib.contextmanager
def secured(contexts: Contexts, wire: Wire[Any]) -> Iterator[tuple[Connection[Any], Connection[Any]]]:
    server, client = contexts
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    one = client.wrap_socket(near, server_hostname="localhost", do_handshake_on_connect=False)
    two = server.wrap_socket(far, server_side=True, do_handshake_on_connect=False)
    with Connection(one, wire) as asking, Connection(two, wire) as answering:
        yield asking, answering


def drive(connections: dict[Connection[Any], list[Any]], done: Any) -> None:
    """A loop over several connections, each with the list of what it received."""
    end = time.monotonic() + 3
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, connection.interest or READ, connection)
        while not done():
            assert time.monotonic() < end
            for key, events in selector.select(0.5):
                connections[key.data] += key.data.handle(events)
            for connection in connections:
                selector.modify(connection, connection.interest or READ, connection)


def test_tls_shakes_hands_in_the_first_turns_and_then_carries_messages(contexts: Contexts) -> None:
    with secured(contexts, WIRE) as (asking, answering):
        assert asking.handshaking
        assert answering.handshaking
        asking.send("before the handshake is done")
        assert asking.queued
        got: dict[Connection[Any], list[Any]] = {asking: [], answering: []}
        drive(got, lambda: got[answering])
        assert got[answering] == ["before the handshake is done"]
        assert not asking.handshaking
        with pytest.raises(FramingError, match="TLS"):
            asking.close_sending()


def test_tls_carries_large_messages_both_ways_at_once(contexts: Contexts) -> None:
    wire = Wire(LengthPrefixed(4))
    there, back = random.Random(2).randbytes(700_000), random.Random(3).randbytes(900_000)
    with secured(contexts, wire) as (asking, answering):
        got: dict[Connection[Any], list[Any]] = {asking: [], answering: []}
        asking.send_many([there] * 2)
        answering.send_many([back] * 2)
        drive(got, lambda: len(got[asking]) + len(got[answering]) == 4)
        assert got[asking] == [back] * 2
        assert got[answering] == [there] * 2


def test_what_tls_has_decrypted_already_is_not_forgotten(contexts: Contexts) -> None:
    wire = Wire(LengthPrefixed(1))
    with secured(contexts, wire) as (asking, answering):
        got: dict[Connection[Any], list[Any]] = {asking: [], answering: []}
        asking.send_many([b"x"] * 300_000)
        drive(got, lambda: len(got[answering]) == 300_000)
        assert set(got[answering]) == {b"x"}


def test_the_end_of_a_tls_stream_is_a_clean_end(contexts: Contexts) -> None:
    with secured(contexts, WIRE) as (asking, answering):
        got: dict[Connection[Any], list[Any]] = {asking: [], answering: []}
        asking.send(1)
        drive(got, lambda: got[answering])
        asking.close()
        messages, raised = turns(answering)
        assert messages == []
        assert [type(error) for error in raised] == [ConnectionClosed]


def test_a_peer_that_does_not_speak_tls_is_told_apart(contexts: Contexts) -> None:
    server, _ = contexts
    near, far = socket.socketpair()
    near.setblocking(False)
    with far, Connection(server.wrap_socket(near, server_side=True, do_handshake_on_connect=False), WIRE) as connection:
        far.sendall(WIRE.encode("plain text") * 20)
        _, raised = turns(connection)
        assert ["shaking hands" in str(error) for error in raised] == [True]
        assert connection.interest == 0


# --------------------------------------------------------------------------------------------- TLS in mid-stream


TEXT = Wire(Lines(), Text())


def turn(connection: Connection[Any], limit: int = 0) -> list[Any]:
    """One turn, when there is something to do."""
    events = ready(connection)
    assert events
    return connection.handle(events, limit=limit)


def test_a_turn_can_be_limited_and_the_rest_is_pending() -> None:
    with joined() as (connection, peer):
        peer.sendall(WIRE.encode_many([1, 2, 3, 4]) + b"\0\0\0\1{")
        peer.shutdown(socket.SHUT_WR)
        assert turn(connection, limit=1) == [1]
        assert turn(connection, limit=2) == [2, 3]
        assert connection.pending
        assert not connection.ended
        connection.reading = False
        assert not connection.pending
        assert connection.handle(READ) == []
        connection.reading = True
        assert turn(connection) == [4]
        with pytest.raises(DecodeError):
            turn(connection)
        with pytest.raises(ConnectionClosed):
            turn(connection)
        assert connection.ended


def test_messages_beyond_the_limit_outlive_a_broken_socket() -> None:
    sock = ScriptedSocket([WIRE.encode_many([1, 2, 3])], [ConnectionResetError(104, "reset")])
    with Connection(sock, WIRE) as connection:
        assert connection.handle(READ, limit=1) == [1]
        connection.send("anything")
        assert connection.broken
        assert not connection.ended
        assert connection.handle(READ) == [2, 3]
        with pytest.raises(ConnectionReset):
            connection.handle(READ)


def test_tls_begins_in_mid_stream_behind_what_the_socket_has_not_taken_yet(contexts: Contexts) -> None:
    near, far = socket.socketpair()
    with Connection(near, TEXT) as asking, Connection(far, TEXT) as answering:
        asking.send("STARTTLS")
        assert turn(answering, limit=1) == ["STARTTLS"]
        answering.send("x" * 900_000)
        answering.send("go ahead")
        assert answering.queued
        plain = answering.queued
        answering.start_tls(contexts[0], server_side=True)
        answering.send("a secret")
        assert answering.handshaking
        assert answering.interest == WRITE  # what was sent before comes first, and nothing is read meanwhile
        got: list[Any] = []
        while len(got) < 2:
            if answering.queued > len("a secret\n"):
                assert answering.queued <= plain + 9
                answering.handle(WRITE)
            got += turn(asking, limit=1)
        assert [len(line) for line in got] == [900_000, 8]
        asking.start_tls(contexts[1], server_hostname="localhost")
        asking.send("secret too")
        heard: dict[Connection[Any], list[Any]] = {asking: [], answering: []}
        drive(heard, lambda: heard[asking] and heard[answering])
        assert heard == {asking: ["a secret"], answering: ["secret too"]}
        with pytest.raises(FramingError, match="already"):
            asking.start_tls(contexts[1], server_hostname="localhost")
        with pytest.raises(FramingError, match="use close"):
            asking.close_sending()


@pytest.mark.parametrize("injected", [b"e", b"evil\n", b"evil\nev"])
def test_plain_text_behind_the_agreement_fails_the_connection(contexts: Contexts, injected: bytes) -> None:
    with joined(TEXT) as (connection, peer):
        peer.sendall(b"go ahead\n" + injected)
        assert turn(connection, limit=1) == ["go ahead"]
        with pytest.raises(CorruptFrame, match="came in plain text") as caught:
            connection.start_tls(contexts[1], server_hostname="localhost")
        assert connection.state is State.FAILED
        assert connection.error is caught.value
        assert connection.interest == 0
        assert peer.recv(100) == b""
        for call in (lambda: connection.handle(READ), lambda: connection.send("x")):
            with pytest.raises(FramingError):
                call()


def test_what_was_taken_all_at_once_is_no_agreement_to_tls(contexts: Contexts) -> None:
    with joined(TEXT) as (connection, peer):
        for chunk in (b"go ahead\n", b"go ahead\nevil\n"):
            peer.sendall(chunk)
            assert turn(connection)[0] == "go ahead"
            with pytest.raises(FramingError, match=r"handle\(events, limit=1\)"):
                connection.start_tls(contexts[1], server_hostname="localhost")
        peer.sendall(b"unharmed\n")
        assert turn(connection, limit=1) == ["unharmed"]
        connection.start_tls(contexts[1], server_hostname="localhost")
        assert connection.handshaking


def test_an_upgrade_has_a_deadline(contexts: Contexts) -> None:
    with joined(TEXT, handshake_timeout=0.05) as (connection, _):
        assert connection.deadline is None
        connection.start_tls(contexts[1], server_hostname="localhost")
        assert connection.deadline is not None
        assert 0 < connection.deadline - time.monotonic() <= 0.05
        connection.expire()
        while time.monotonic() < connection.deadline:
            connection.handle(READ)
        with pytest.raises(Timeout, match=r"shaking hands .* not done in 0\.05 s"):
            connection.expire()
        assert connection.state is State.FAILED
        assert connection.interest == 0
        with pytest.raises(Timeout):
            connection.handle(READ)


def test_a_handshake_from_the_beginning_has_the_same_deadline(contexts: Contexts) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    secure = contexts[1].wrap_socket(near, server_hostname="localhost", do_handshake_on_connect=False)
    with far, Connection(secure, TEXT, handshake_timeout=0.01) as connection:
        assert connection.deadline is not None
        connection.handle(WRITE)
        time.sleep(0.02)
        with pytest.raises(Timeout, match="shaking hands"):
            connection.expire()
    with pytest.raises(ValueError, match="handshake_timeout"):
        Connection(near, TEXT, handshake_timeout=0)


def test_options_that_do_not_fit_change_nothing(contexts: Contexts) -> None:
    with joined(TEXT) as (connection, peer):
        for context, options in (
            (contexts[0], {}),
            (contexts[1], {}),
            (contexts[1], {"server_side": True}),
            (contexts[0], {"server_side": True, "server_hostname": "localhost"}),
            (contexts[1], {"server_hostname": ".example"}),
            (contexts[1], {"server_hostname": "nul\0"}),
        ):
            with pytest.raises(ValueError, match="server"):
                connection.start_tls(context, **options)
        peer.sendall(b"unharmed\n")
        assert turn(connection) == ["unharmed"]


def test_behind_the_end_there_is_no_upgrade(contexts: Contexts) -> None:
    with joined(TEXT) as (connection, peer):
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionClosed):
            turn(connection)
        with pytest.raises(ConnectionClosed):
            connection.start_tls(contexts[1], server_hostname="localhost")
        connection.send("still here")
        assert peer.recv(100) == b"still here\n"


def test_a_peer_that_vanishes_before_the_handshake_is_told(contexts: Contexts) -> None:
    with tcp(TEXT) as (connection, peer):
        connection.start_tls(contexts[0], server_side=True)
        peer.close()
        _, raised = turns(connection)
        assert [type(error) for error in raised] == [ConnectionReset]
        assert connection.broken


def test_a_connection_closed_before_its_handshake_says_the_end(contexts: Contexts) -> None:
    with joined(TEXT) as (connection, peer):
        connection.send("go ahead")
        connection.start_tls(contexts[0], server_side=True)
        connection.send("never to be read by anybody")
        connection.close()
        assert peer.recv(100) == b"go ahead\n"
        assert peer.recv(100) == b""


# ------------------------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize(
    "kind", [name for name in ("SelectSelector", "PollSelector", "EpollSelector") if hasattr(selectors, name)]
)
def test_an_echo_loop_works_with_every_selector(kind: str) -> None:
    wire = Wire(Lines(), Text())
    with getattr(selectors, kind)() as selector, joined(wire) as (server, _one), joined(wire) as (_other, _two):
        ours, theirs = socket.socketpair()
        with Connection(ours, wire) as asking, Connection(theirs, wire) as answering:
            for connection in (asking, answering):
                selector.register(connection, connection.interest, connection)
            got: list[str] = []
            expected = [f"line {number}" for number in range(5000)]
            asking.send_many(expected)
            while len(got) < 5000:
                for key, events in selector.select(1):
                    messages = key.data.handle(events)
                    if key.data is asking:
                        got += messages
                    elif messages:
                        key.data.send_many(messages)
                    key.data.reading = not (key.data is answering and key.data.paused)
                for connection in (asking, answering):
                    selector.modify(connection, connection.interest, connection)
            assert got == expected
        assert server.interest == READ


def test_the_address_is_the_peers_unless_it_is_given() -> None:
    with tcp() as (connection, peer):
        assert (connection.address.host, connection.address.port) == peer.getsockname()
        assert "127.0.0.1" in repr(connection)
    with joined() as (connection, _):
        assert connection.address is None
        assert repr(connection) == "<Connection of a pair, open>"
    with joined(address="unix:/run/x.sock") as (connection, _):
        assert str(connection.address) == "unix:/run/x.sock"


def test_tcp_sockets_get_no_delay() -> None:
    with tcp() as (connection, _):
        with socket.socket(fileno=os.dup(connection.fileno())) as twin:
            assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert nonblocking.__doc__
