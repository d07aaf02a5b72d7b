"""Twisted with its reactor, in a process of its own: its receivers serve our client, and ask our server."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from framing import ConnectionClosed, ConnectionReset, TruncatedFrame
from framing.drivers import blocking

from .programs import announced, connected, directory, every_driver, our_echo, said, started

PEER = [sys.executable, str(Path(__file__).with_name("twisted_peer.py"))]
SPECS = {"int8": "u8", "int16": "u16", "int32": "u32", "netstring": "netstring", "line": "crlf"}
PAYLOADS = [b"%d " % number + b"\xff" * (number % 200) for number in range(2000)]

pytest.importorskip("twisted", reason="Twisted is not installed (pip install twisted)")


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    with directory() as place, started(PEER, place / "log"):
        yield {name: int(announced(place / "log", rf"{name} at (\d+)\.")[1]) for name in SPECS}


@pytest.mark.parametrize("name", SPECS)
def test_receiver_answers_our_client(servers, name):
    with connected(servers[name], SPECS[name]) as connection:
        connection.send_many(PAYLOADS)
        assert [connection.receive() for _ in PAYLOADS] == PAYLOADS


@pytest.mark.parametrize("name", SPECS)
@every_driver
def test_our_server_answers_a_receiver_that_asks(name, driver):
    with our_echo(SPECS[name], driver) as port:
        assert said([*PEER, name, str(port), "2000"]) == b"True\n"


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [("int32", 99_999, 100_000), ("netstring", 99_999, 100_000), ("line", 16_383, 16_385)],
)
def test_frame_above_the_limit_of_a_receiver_ends_the_connection_without_a_word(servers, name, taken, refused):
    with connected(servers[name], SPECS[name]) as connection:
        connection.send(b"x" * taken)
        assert connection.receive() == b"x" * taken
        connection.send(b"x" * refused)
        with pytest.raises((ConnectionClosed, ConnectionReset)):
            connection.receive()


@pytest.mark.parametrize(("name", "half"), [("int32", b"\0\0\0\x05hal"), ("netstring", b"5:hal"), ("line", b"hal")])
def test_half_frame_at_the_end_is_no_reason_to_complain_there(servers, name, half):
    with connected(servers[name], SPECS[name]) as connection:
        connection.send(b"whole")
        assert connection.receive() == b"whole"
        connection.send_encoded(half)
        connection.close_sending()
        with pytest.raises(ConnectionClosed):
            connection.receive()


@every_driver
def test_replies_that_wait_are_thrown_away_there_when_the_peer_ends_its_stream_and_delivered_here(servers, driver):
    payloads = [b"%d" % number + b"x" * 50_000 for number in range(400)]  # more than the system's buffers take

    def send(connection: blocking.Connection[bytes]) -> None:
        connection.send_many(payloads)
        connection.close_sending()

    def replies(port: int, *, read_late: bool) -> list[bytes]:
        got: list[bytes] = []
        with connected(port, "u32") as connection:
            sending = threading.Thread(target=send, args=(connection,))
            sending.start()
            if read_late:  # our server would not take more meanwhile
                sending.join()
            with suppress(ConnectionReset, TruncatedFrame):
                got.extend(connection)
            sending.join()
        return got

    there = replies(servers["int32"], read_late=True)
    assert there == payloads[: len(there)]
    assert len(there) < len(payloads)
    with our_echo("u32", driver) as port:
        assert replies(port, read_late=False) == payloads
