"""Buffers that are full: a peer that does not read for a while is sent to in bits, and gets everything, once and in order."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from framing import LengthPrefixed, Wire
from tests.drivers.every.registry import CLIENTS, SERVERS
from tests.drivers.every.services import Scripted, until

WIRE = Wire(LengthPrefixed(4, max_frame=1 << 20))
SMALL = 2048
"""Bytes of each buffer of the system's; it doubles them."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a socket is found by its name as Linux has it")


def payloads() -> list[bytes]:
    """Some 600 KB, many times what the buffers take; each says its number."""
    chance = Random(7)
    sizes = [*(chance.randrange(2000) for _ in range(300)), 300_000, 0, 1]
    return [struct.pack(">I", number) + chance.randbytes(size) for number, size in enumerate(sizes)]


def socket_of(fits: Callable[[socket.socket], bool]) -> socket.socket:
    """A twin of the open socket that ``fits``, whoever's it is in this process."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            number = os.dup(int(entry.name))
        except OSError:
            continue  # it was the directory's own
        try:
            twin = socket.socket(fileno=number)
        except OSError:
            os.close(number)  # it is no socket
            continue
        with contextlib.suppress(OSError):
            if twin.family == socket.AF_INET and fits(twin):
                return twin
        twin.close()
    raise AssertionError("there is no such socket")


def in_bits(sock: socket.socket) -> Iterator[bytes]:
    """What a reader gets that reads little at a time, with pauses, until the stream ends."""
    chance = Random(3)
    decoder = WIRE.decoder()
    reads = 0
    while chunk := sock.recv(chance.choice((1, 7, 700, 5000, 20_000))):
        reads += 1
        if reads % 50 == 0:
            time.sleep(0.001)
        yield from decoder.feed(chunk)
    assert decoder.feed_eof() == []


def is_stuck(sock: socket.socket) -> bool:
    """Whether its peer has stopped taking: bytes wait to be sent, and there is no room for more."""
    return not select.select([], [sock], [], 0)[1]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_whose_server_does_not_read_loses_and_repeats_nothing(name):
    messages = payloads()
    with CLIENTS[name].start() as connect, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        client = connect(listener.getsockname(), WIRE)
        server, there = listener.accept()
        with server, socket_of(lambda sock: sock.getsockname() == there) as own:
            server.settimeout(20)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)

            def send() -> None:
                for message in messages:
                    client.send(message)
                (client.close if CLIENTS[name].is_a_service else client.close_sending)()

            sender = threading.Thread(target=send)
            sender.start()
            until(lambda: is_stuck(own))
            assert list(in_bits(server)) == messages
            sender.join()
            server.close()
            client.close()


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_whose_client_does_not_read_loses_and_repeats_nothing(name):
    messages = payloads()

    def flood(peer: Any, message: bytes) -> None:
        for one in messages:
            peer.send(one)
        peer.close()

    with (
        SERVERS[name]("tcp://127.0.0.1:0", WIRE, Scripted(flood)) as server,
        closing(socket.socket()) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        client.settimeout(20)
        client.connect((server.address.host, server.address.port))
        until(lambda: server.connections)
        with socket_of(lambda sock: sock.getpeername() == client.getsockname()) as theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            client.sendall(WIRE.encode(b"go"))
            until(lambda: is_stuck(theirs))
            assert list(in_bits(client)) == messages
