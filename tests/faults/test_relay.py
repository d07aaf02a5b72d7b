"""The relay does what its plans say, to the byte, and nothing else: what is judged through it depends on that."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.drivers.every.services import descriptors
from tests.faults.relay import (
    Crawl,
    Pause,
    Plan,
    Relay,
    crawl,
    cut,
    delay,
    glue,
    half_close,
    hold,
    reset,
)

WORDS = b"abcdefghijklmnopqrstuvwxyz"


@contextmanager
def through(plan: Plan, kind: str, tmp_path) -> Iterator[tuple[socket.socket, socket.socket, object]]:
    """A client's socket and the server's, with the relay between them, and the passage."""
    if kind == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "server"))
        listener.listen()
        target, outer = f"unix:{tmp_path / 'server'}", f"unix:{tmp_path / 'relay'}"
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        target, outer = listener.getsockname(), ("127.0.0.1", 0)
    with listener, Relay(target) as relay:
        door = relay.listen(plan, address=outer)
        client = socket.socket(listener.family)
        with client:
            client.settimeout(5)
            client.connect(door.address.path if kind == "unix" else (door.address.host, door.address.port))
            server, _ = listener.accept()
            with server:
                server.settimeout(5)
                yield client, server, door.passages[0]


def read(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    data = b""
    while chunk := sock.recv(1 << 16):
        data += chunk
    return data


def wait_for(fact) -> None:
    end = time.monotonic() + 5
    while not fact():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


KINDS = pytest.mark.parametrize("kind", ["tcp", "unix"])


@KINDS
def test_without_a_plan_bytes_and_ends_pass_in_both_directions(kind, tmp_path):
    much = random.Random(1).randbytes(1 << 20)
    with through(Plan(), kind, tmp_path) as (client, server, passage):
        sender = threading.Thread(target=lambda: (client.sendall(much), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read(server) == much
        sender.join()
        server.sendall(WORDS)
        server.shutdown(socket.SHUT_WR)
        assert read(client) == WORDS
        assert passage.over.wait(5)
        assert (passage.up, passage.down, passage.broken) == (len(much), len(WORDS), False)


@KINDS
@pytest.mark.parametrize("way", ["up", "down"])
def test_cuts_are_seen_where_they_were_asked_for(kind, way, tmp_path):
    steps = cut(1, 5, 6, pause=0.05)
    with through(Plan(**{way: steps}), kind, tmp_path) as (client, server, _):
        source, sink = (client, server) if way == "up" else (server, client)
        source.sendall(WORDS[:10])
        assert [sink.recv(100) for _ in range(4)] == [b"a", b"bcde", b"f", b"ghij"]


@KINDS
def test_what_is_glued_comes_in_one_piece(kind, tmp_path):
    with through(Plan(up=glue(6)), kind, tmp_path) as (client, server, passage):
        for byte in WORDS[:5]:
            client.sendall(bytes([byte]))
            time.sleep(0.005)
        assert passage.up == 0
        client.sendall(WORDS[5:6])
        assert server.recv(100) == WORDS[:6]


def test_patience_ends_a_glueing_that_waits_for_more_than_comes(tmp_path):
    with through(Plan(up=glue(1000, patience=0.02)), "tcp", tmp_path) as (client, server, _):
        client.sendall(WORDS)
        assert server.recv(100) == WORDS


@KINDS
def test_a_stream_that_ends_before_the_place_of_a_step_just_ends(kind, tmp_path):
    for steps in (reset(after=100), half_close(after=100), hold(after=100), glue(100), cut(50, 100), crawl(after=100)):
        with through(Plan(up=steps), kind, tmp_path) as (client, server, passage):
            client.sendall(WORDS)
            client.shutdown(socket.SHUT_WR)
            assert read(server) == WORDS, steps
            server.close()
            assert passage.over.wait(5)
            assert not passage.broken
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_delay_holds_up_what_is_behind_it(tmp_path):
    with through(Plan(up=delay(after=3, seconds=0.1)), "tcp", tmp_path) as (client, server, _):
        begun = time.monotonic()
        client.sendall(WORDS)
        assert server.recv(100) == WORDS[:3]
        assert server.recv(100) == WORDS[3:]
        assert time.monotonic() - begun >= 0.1


def test_a_crawl_is_as_slow_as_it_was_asked_to_be(tmp_path):
    with through(Plan(up=crawl(after=20, size=2, pause=0.02)), "tcp", tmp_path) as (client, server, _):
        client.sendall(WORDS)
        assert server.recv(20, socket.MSG_WAITALL) == WORDS[:20]
        assert [server.recv(100) for _ in range(3)] == [b"uv", b"wx", b"yz"]


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("after", [1, 25, 26])
def test_a_reset_comes_behind_so_many_bytes_and_both_sides_see_it(way, after, tmp_path):
    with through(Plan(**{way: reset(after=after)}), "tcp", tmp_path) as (client, server, passage):
        source, sink = (client, server) if way == "up" else (server, client)
        source.sendall(WORDS)
        assert passage.over.wait(5)
        assert sink.recv(after, socket.MSG_WAITALL) == WORDS[:after]
        for sock in (source, sink):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert passage.broken
        assert getattr(passage, way) == after


@pytest.mark.parametrize("by", ["client", "server"])
def test_a_reset_by_one_side_is_passed_on_behind_what_it_said(by, tmp_path):
    with through(Plan(), "tcp", tmp_path) as (client, server, passage):
        source, sink = (client, server) if by == "client" else (server, client)
        source.sendall(WORDS)
        wait_for(lambda: max(passage.up, passage.down) == len(WORDS))
        source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        source.close()
        assert sink.recv(100) == WORDS
        with pytest.raises(ConnectionResetError):
            sink.recv(1)
        assert passage.broken


@KINDS
@pytest.mark.parametrize("after", [0, 13, 26])
def test_half_a_connection_ends_and_the_other_half_goes_on(kind, after, tmp_path):
    with through(Plan(up=half_close(after=after)), kind, tmp_path) as (client, server, _):
        client.sendall(WORDS)
        assert read(server) == WORDS[:after]
        client.sendall(WORDS)
        server.sendall(b"still")
        assert client.recv(100) == b"still"


def test_behind_a_hold_nothing_passes_and_no_end_either(tmp_path):
    with through(Plan(up=hold(after=4), down=hold(after=0)), "tcp", tmp_path) as (client, server, passage):
        client.sendall(WORDS)
        assert server.recv(100) == WORDS[:4]
        client.close()
        server.sendall(WORDS)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.recv(1)
        assert (passage.up, passage.down, passage.broken) == (4, 0, False)


def test_a_hold_may_have_an_end_and_that_is_a_reset(tmp_path):
    with through(Plan(up=hold(after=4, seconds=0.02)), "tcp", tmp_path) as (client, server, passage):
        client.sendall(WORDS)
        assert server.recv(100) == WORDS[:4]
        with pytest.raises(ConnectionResetError):
            server.recv(1)
        assert passage.broken


def test_each_connection_has_the_plan_of_its_number():
    with socket.create_server(("127.0.0.1", 0)) as listener, Relay(listener.getsockname()) as relay:
        door = relay.listen(lambda number: Plan(up=(Crawl(1, 0.0, number), Pause(60.0))))
        where = (door.address.host, door.address.port)
        for number in range(3):
            with socket.create_connection(where) as client, listener.accept()[0] as server:
                client.sendall(WORDS)
                wait_for(lambda number=number: door.passages[number].up == number)
                server.setblocking(False)
                if number:
                    assert server.recv(100) == WORDS[:number]
                with pytest.raises(BlockingIOError):
                    server.recv(100)


def test_a_reset_behind_nothing_comes_as_early_as_it_can(tmp_path):
    # The client may still be in its connect().
    with pytest.raises(ConnectionResetError), through(Plan(up=reset(after=0)), "tcp", tmp_path) as (client, _, _):
        client.recv(1)


def test_a_server_that_is_not_there_is_a_reset():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound, so that nobody else gets the port, and not listening
        with Relay(deaf.getsockname()) as relay:
            door = relay.listen()
            where = (door.address.host, door.address.port)
            with pytest.raises(ConnectionResetError), socket.create_connection(where, 5) as client:
                client.recv(1)


def test_closing_leaves_no_thread_socket_or_file(tmp_path):
    def held() -> tuple[int, int]:
        return threading.active_count(), descriptors()

    before = held()
    with through(Plan(up=hold(after=0)), "unix", tmp_path) as (client, _, _):
        client.sendall(WORDS)
    assert not (tmp_path / "relay").exists()
    assert held() == before
