"""Signals in the midst of everything (EINTR): whatever call a thread waits in, an interruption loses and repeats nothing."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from random import Random

import pytest

from framing import LengthPrefixed, Wire
from tests.drivers.every.registry import CLIENTS, SERVERS
from tests.drivers.every.services import Echo

WIRE = Wire(LengthPrefixed(4, max_frame=1 << 20))

ENOUGH = 100
"""Interruptions that a conversation must have gone through."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")


@contextmanager
def harassed(threads: list[threading.Thread]) -> Iterator[list[int]]:
    """Interrupt ``threads``, which outlive the block, again and again; how often a handler ran is written down."""
    hits: list[int] = []
    over = threading.Event()

    def harass() -> None:
        while not over.wait(0.0005):
            for thread in threads:
                assert thread.ident is not None
                signal.pthread_kill(thread.ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))
    tormentor = threading.Thread(target=harass)
    tormentor.start()
    try:
        yield hits
    finally:
        over.set()
        tormentor.join()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # which forgets those under way
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("server_name", SERVERS)
@pytest.mark.parametrize("client_name", CLIENTS)
def test_interruptions_of_every_thread_change_nothing(server_name, client_name):
    chance = Random(5)
    batches = [[chance.randbytes(chance.randrange(300)) for _ in range(5)] for _ in range(10)]
    batches.append([chance.randbytes(200_000)] * 3)
    before = set(threading.enumerate())
    with (
        SERVERS[server_name]("tcp://127.0.0.1:0", WIRE, Echo()) as server,
        CLIENTS[client_name].start() as connect,
        closing(connect(server.address, WIRE)) as client,
    ):
        client.send(b"first")
        assert client.receive() == b"first"
        # All that serve and drive this conversation, and the one that talks.
        with harassed([*set(threading.enumerate()) - before, threading.current_thread()]) as hits:
            for _ in range(100):
                for batch in batches:
                    for message in batch:
                        client.send(message)
                    assert [client.receive() for _ in batch] == batch
                if len(hits) >= ENOUGH:
                    break
        assert len(hits) >= ENOUGH
