"""A server that has hardly any descriptors, in a process of its own: ``python -m tests.drivers.every.starved threads 40``.

It says where it listens, echoes, and answers ``"cpu"`` with the seconds of processor time that it has used, ``"open"`` with
how many connections it has. It ends with its standard input.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

from framing import Wire
from tests.drivers.every.registry import SERVERS, Serving


class Answers:
    """Says how its process fares."""

    server: Serving

    def received(self, peer: Any, message: Any) -> None:
        answers = {"cpu": time.process_time, "open": lambda: self.server.connections}
        peer.send(answers[message]() if message in answers else message)


def main() -> None:
    driver, most = sys.argv[1:]
    service = Answers()
    with SERVERS[driver]("tcp://127.0.0.1:0", Wire.parse("u32+json"), service) as server:
        service.server = server
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(most), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        print(server.address, flush=True)
        sys.stdin.read()
    print("ended well", flush=True)


if __name__ == "__main__":
    main()
