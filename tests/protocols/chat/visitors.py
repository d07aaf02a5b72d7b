"""People who come and go, in a process of their own: connect, join, leave, say good-bye.

    python -m tests.protocols.chat.visitors tcp://127.0.0.1:9009 --count 10000

So many visits, some at one time; each waits for its answers. It prints how many were made as they should be.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import count
from typing import Any

from framing.drivers import selector
from framing.drivers.address import Address
from protocols.chat.conversation import DEFAULT_WIRE
from protocols.echo.descriptors import allow

AT_ONCE = 20
ROOMS = 10


class Visits:
    """All of them."""

    def __init__(self, address: Address, wanted: int) -> None:
        self.address = address
        self.wanted = wanted
        self.made = 0
        self.numbers: Iterator[int] = count()
        self.under_way = 0
        self.loop = selector.Loop()

    def run(self) -> None:
        for _ in range(min(AT_ONCE, self.wanted)):
            self.begin()
        self.loop.run()

    def begin(self) -> None:
        number = next(self.numbers)
        if number < self.wanted:
            self.under_way += 1
            self.loop.connect(self.address, DEFAULT_WIRE, Visitor(self, number))
        elif not self.under_way:
            self.loop.stop()

    def ended(self, *, well: bool) -> None:
        self.under_way -= 1
        self.made += well
        self.begin()


class Visitor:
    """One visit; a service of its own connection."""

    def __init__(self, visits: Visits, number: int) -> None:
        self.visits = visits
        self.number = number
        self.session = ""
        self.bid_farewell = False

    def opened(self, peer: Any) -> None:
        peer.send({"type": "hello", "version": 1, "name": f"v{self.number}"})

    def received(self, peer: Any, message: dict[str, Any]) -> None:
        kind = message["type"]
        room = f"room{self.number % ROOMS}"
        if kind == "welcome":
            self.session = message["session"]
            peer.send({"type": "join", "id": (self.session, 1), "room": room})
        elif kind == "ok" and message["id"][1] == 1:
            peer.send({"type": "leave", "id": (self.session, 2), "room": room})
        elif kind == "ok":
            peer.send({"type": "bye"})
        elif kind == "close":
            self.bid_farewell = message["code"] == "bye"

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.visits.ended(well=self.bid_farewell and error is None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    allow(AT_ONCE)
    visits = Visits(Address.parse(options.address), options.count)
    visits.run()
    print(visits.made, flush=True)


if __name__ == "__main__":
    main()
