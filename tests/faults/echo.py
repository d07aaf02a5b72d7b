"""An echo server in a process of its own: ``python -m tests.faults.echo selector 5000``. It ends with its standard input."""

from __future__ import annotations

import resource
import sys
from typing import Any

from framing import Wire
from tests.drivers.every.registry import SERVERS


class Echo:
    """Keeps nothing, so that what the process keeps is the driver's."""

    def received(self, peer: Any, message: bytes) -> None:
        peer.send(message)


def main() -> None:
    driver, most = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with SERVERS[driver]("tcp://127.0.0.1:0", Wire.parse("u32+raw"), Echo(), max_connections=int(most)) as server:
        print(server.address, flush=True)
        sys.stdin.read()
    print("ended well", flush=True)


if __name__ == "__main__":
    main()
