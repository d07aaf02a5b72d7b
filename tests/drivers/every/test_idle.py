"""A connection that has nothing to say costs next to nothing, whatever it has said before."""

from __future__ import annotations

import gc
import socket
import time
import tracemalloc

from framing import LengthPrefixed, Wire
from tests.drivers.every.registry import SECONDS, over

WIRE: Wire[bytes] = Wire(LengthPrefixed(4))
LARGE = 60_000
PEERS = 8
MOST = 16_000
"""Bytes that may be held for each: what Python's allocators round up to, and nothing like a message."""


class Thanks:
    """Says a word to each message, and keeps none."""

    def received(self, peer, message):
        peer.send(b"ok")


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@over("tcp")
def test_a_connection_that_has_sent_a_large_message_does_not_hold_it(serve):
    server = serve(WIRE, Thanks())
    frame = WIRE.encode(bytes(LARGE))
    peers = [
        socket.create_connection((server.address.host, server.address.port), timeout=SECONDS) for _ in range(PEERS)
    ]

    def speak(*parts: bytes) -> None:
        for peer in peers:
            peer.sendall(parts[0])
        for part in parts[1:]:
            time.sleep(0.05)  # so that it is another read
            for peer in peers:
                peer.sendall(part)
        for peer in peers:
            assert peer.recv(6, socket.MSG_WAITALL) == WIRE.encode(b"ok")

    try:
        speak(WIRE.encode(b"a"))
        tracemalloc.start()
        before = held()
        speak(frame[:30_000], frame[30_000:])
        speak(frame[:-5], frame[-5:])
        end = time.monotonic() + SECONDS
        while held() - before > PEERS * MOST:
            assert time.monotonic() < end, f"{(held() - before) // PEERS} bytes are held for each"
            time.sleep(0.01)
    finally:
        tracemalloc.stop()
        for peer in peers:
            peer.close()
