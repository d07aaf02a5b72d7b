"""Thousands of connections open, nearly all of them idle, while 64 talk: they are not slowed, and the idle ones still answer.

The server runs in a process of its own, with one thread for all (selector, asyncio, uvloop) and 5,000 connections, or with a
thread each and 1,000, which is its own limit unless told otherwise: so many threads are what one would still want.
"""

from __future__ import annotations

import resource
import selectors
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from framing import Wire
from framing.drivers import nonblocking
from tests.drivers.every.registry import SERVERS

ROOT = Path(__file__).parents[2]
WIRE = Wire.parse("u32+raw")
TALKING = 64
ROUNDS = 20
PIPELINED = 10
OTHERS = 64
"""Descriptors that are needed besides."""

MEMORY_EACH = 8 << 10
MEMORY_EACH_THREAD = 128 << 10
"""Bytes that an idle connection may cost its server: objects. A thread has its stack besides, and the buffer it reads into."""


def total(driver: str) -> int:
    return 1000 if driver == "threads" else 5000


@pytest.fixture
def room():
    """Descriptors for all the clients; the server gets the same limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(map(total, SERVERS)) + OTHERS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"RLIMIT_NOFILE: the hard limit is {hard}, and {wanted} descriptors are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory_of(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


def payload(number: int, turn: int, place: int) -> bytes:
    return struct.pack(">III", number, turn, place) + bytes([number % 256]) * (number * turn % 700)


class Talker:
    """One of those who talk: ten messages, their ten replies, and so on."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        sock.setblocking(False)
        self.connection = nonblocking.Connection(sock, WIRE)
        self.number = number
        self.turn = 0
        self.due: list[bytes] = []

    def begin(self) -> None:
        self.due = [payload(self.number, self.turn, place) for place in range(PIPELINED)]
        self.connection.send_many(self.due)

    def handle(self, events: int) -> bool:
        """Whether all has been said and answered."""
        for message in self.connection.handle(events):
            assert message == self.due.pop(0)
        if not self.due:
            self.turn += 1
            if self.turn == ROUNDS:
                return True
            self.begin()
        return False


def talk(socks: list[socket.socket]) -> None:
    """All of them at the same time, until each has all of its replies."""
    with selectors.DefaultSelector() as selector:
        talkers = [Talker(sock, number) for number, sock in enumerate(socks)]
        for talker in talkers:
            talker.begin()
            selector.register(talker.connection, talker.connection.interest, talker)
        end = time.monotonic() + 20
        while selector.get_map():
            assert time.monotonic() < end, f"{len(selector.get_map())} have not all of their replies"
            for key, events in selector.select(1):
                if key.data.handle(events):
                    selector.unregister(key.fileobj)
                else:
                    selector.modify(key.fileobj, key.data.connection.interest, key.data)


def ask(sock: socket.socket, message: bytes) -> None:
    """One message and its reply, over a plain socket."""
    frame = WIRE.encode(message)
    sock.sendall(frame)
    assert sock.recv(len(frame), socket.MSG_WAITALL) == frame


@pytest.mark.skipif(sys.platform != "linux", reason="the server's memory is looked up as Linux has it")
@pytest.mark.parametrize("driver", SERVERS)
def test_64_talk_among_thousands_who_are_idle(driver: str, room: Any) -> None:
    count = total(driver)
    with (
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.echo", driver, str(count + 1)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
        ExitStack() as stack,
    ):
        assert server.stdout is not None
        host, port = server.stdout.readline().strip().removeprefix("tcp://").rsplit(":", 1)

        def visit() -> socket.socket:
            return stack.enter_context(socket.create_connection((host, int(port)), 20))

        talking = [visit() for _ in range(TALKING)]
        talk(talking)
        alone = memory_of(server)
        idle = [visit() for _ in range(count - TALKING)]
        ask(idle[-1], b"the last one")  # so all of them were accepted
        crowded = memory_of(server)
        assert crowded - alone < len(idle) * (MEMORY_EACH_THREAD if driver == "threads" else MEMORY_EACH)
        for sock in talking:
            sock.setblocking(True)
        talk(talking)
        assert memory_of(server) - crowded < 4 << 20
        for number, sock in enumerate(idle):
            ask(sock, b"still there %d" % number)
        for sock in idle:
            sock.close()
        ended, _ = server.communicate(timeout=20)
        assert ended == "ended well\n"
        assert server.returncode == 0
