"""The server that is soaked, in a process of its own: ``python -m tests.soak.server selector``.

It echoes, and judges what it gets: each connection's payloads must come whole, in order, none left out and none twice. It
says where it listens, and then answers each line of its standard input with its figures; the end of the input ends it.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
from collections import Counter
from typing import Any

from framing import ConnectionReset, Timeout, TruncatedFrame
from tests.drivers.every.registry import SERVERS
from tests.soak.payloads import WIRE, misplaced

IDLE_SECONDS = 20.0
"""After so much silence a peer is given up: behind a path that holds everything, nothing else tells."""

ENDS = (type(None), ConnectionReset, TruncatedFrame, Timeout)
"""What faults of the network are to a server; anything else is its own."""

MISTAKES_KEPT = 10


class Judge:
    """The echo service, which looks at what it sends back."""

    def __init__(self) -> None:
        self.due: dict[Any, int] = {}
        self.messages = 0
        self.bytes = 0
        self.opened_count = 0
        self.ends: Counter[str] = Counter()
        self.mistakes: list[str] = []
        self._lock = threading.Lock()

    def opened(self, peer: Any) -> None:
        with self._lock:
            self.due[peer] = 0
            self.opened_count += 1

    def received(self, peer: Any, payload: bytes) -> None:
        number = self.due[peer]
        mistake = misplaced(payload, number)
        if mistake is not None:
            self.note(f"the server got a payload: {mistake}")
        self.due[peer] = number + 1
        with self._lock:
            self.messages += 1
            self.bytes += len(payload)
        peer.send(payload)

    def closed(self, peer: Any, error: Exception | None) -> None:
        with self._lock:
            if self.due.pop(peer, None) is None:
                self.mistakes.append("closed() was called twice, or without opened()")
            self.ends["clean" if error is None else type(error).__name__] += 1
        if not isinstance(error, ENDS):
            self.note(f"the server ended a connection with {error!r}")

    def note(self, mistake: str) -> None:
        with self._lock:
            if len(self.mistakes) < MISTAKES_KEPT:
                self.mistakes.append(mistake)


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this gets Ctrl-C too, and closes the input
    service = Judge()
    with SERVERS[sys.argv[1]]("tcp://127.0.0.1:0", WIRE, service, idle_timeout=IDLE_SECONDS) as server:
        print(server.address, flush=True)
        for _ in sys.stdin:
            figures = {
                "open": server.connections,
                "connections": service.opened_count,
                "messages": service.messages,
                "bytes": service.bytes,
                "ends": dict(service.ends),
                "mistakes": service.mistakes,
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
