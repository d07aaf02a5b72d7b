"""Members of one room, in a process of their own, as light as can be: framing alone decodes for them.

    python -m tests.protocols.chat.listeners tcp://127.0.0.1:9009 --first 0 --count 100

They join and say "ready"; a line with seconds, posts a second of each of them, and characters of a post, makes them post;
when all of their own are acknowledged they say how many these were; a line with the number of all posts makes them wait until
each of them has got so many. Then they leave, and their figures come as JSON.

A post bears the time at which it was sent, by the clock that all processes of a system share. Of each member's events one in
`SAMPLED` is measured, and all are counted: their seqs must follow each other.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any

from framing.drivers import selector
from framing.drivers.address import Address
from protocols.chat.conversation import DEFAULT_WIRE
from protocols.echo.descriptors import allow
from protocols.echo.latencies import Latencies

__all__ = ["ROOM"]

ROOM = "hall"
SAMPLED = 10
DIALS = 32
"""Connections that are being made at one time."""

PATIENCE = 30.0
"""Seconds in which all must have come, when all is said."""


class Listeners:
    """All members of this process."""

    def __init__(self, address: Address, names: list[str]) -> None:
        self.address = address
        self.loop = selector.Loop()
        self.members = [Listener(self, name) for name in names]
        self.delivery = Latencies()
        self.acknowledgement = Latencies()
        self.errors: list[str] = []
        self._expected: int | None = None
        self._posting = 0

    def run(self) -> None:
        self.loop.add_reader(sys.stdin.fileno(), self._told)
        self._dial()
        self.loop.run()

    def _dial(self) -> None:
        under_way = sum(member.dialing and not member.joined for member in self.members)
        for member in [member for member in self.members if not member.dialing][: DIALS - under_way]:
            member.dialing = True
            self.loop.connect(self.address, DEFAULT_WIRE, member)

    def joined(self) -> None:
        if all(member.joined for member in self.members):
            print("ready", flush=True)
        else:
            self._dial()

    def _told(self) -> None:
        line = sys.stdin.readline().split()
        if len(line) == 3:
            self._post(float(line[0]), float(line[1]), int(line[2]))
        elif line:
            self._expected = int(line[0])
            self.loop.call_later(PATIENCE, self._finish)
            self.look()
        else:
            self._finish()

    def _post(self, seconds: float, rate: float, size: int) -> None:
        count = max(1, int(seconds * rate))
        self._posting = len(self.members)
        for number, member in enumerate(self.members):
            # Spread evenly, as those who know nothing of each other are.
            member.begin(count, 1 / rate, number / len(self.members) / rate, size)

    def posted(self) -> None:
        """A member has said all, and all was acknowledged."""
        self._posting -= 1
        if not self._posting:
            print(sum(member.acknowledged for member in self.members), flush=True)

    def look(self) -> None:
        if self._expected is not None and all(member.count >= self._expected for member in self.members):
            self._finish()

    @property
    def waits(self) -> bool:
        """Whether all is said, and only the last of it is to come."""
        return self._expected is not None

    def trouble(self, text: str) -> None:
        if len(self.errors) < 10:
            self.errors.append(text)

    def _finish(self) -> None:
        for member in self.members:
            member.leave()
        self.loop.stop()

    def figures(self) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "counts": [member.count for member in self.members],
            "lags": sum(member.lags for member in self.members),
            "delivery": spread(self.delivery),
            "acknowledgement": spread(self.acknowledgement),
            "errors": self.errors,
            "cpu": usage.ru_utime + usage.ru_stime,
        }


def spread(latencies: Latencies) -> list[float]:
    """So many percentiles that those of several processes can be told from them: at 0.05, 0.15 … 99.95 per cent."""
    return [latencies.percentile((place + 0.5) / 10) for place in range(1000)] if latencies.count else []


class Listener:
    """One member; a service of its own connection."""

    def __init__(self, all_: Listeners, name: str) -> None:
        self.all = all_
        self.name = name
        self.peer: Any = None
        self.dialing = False
        self.joined = False
        self.session = ""
        self.seq = 0
        self.count = 0
        self.lags = 0
        self.acknowledged = 0
        self._n = 1
        self._left = 0
        self._interval = 0.0
        self._size = 0
        self._next = 0.0
        self._sent: dict[int, float] = {}

    def opened(self, peer: Any) -> None:
        self.peer = peer
        peer.send({"type": "hello", "version": 1, "name": self.name})

    def received(self, peer: Any, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "event":
            if message["room"] == ROOM:
                self._event(message)
        elif kind == "ok":
            self._done(message)
        elif kind == "ping":
            peer.send({"type": "pong", "n": message["n"]})
        elif kind == "welcome":
            self.session = message["session"]
            peer.send({"type": "join", "id": (self.session, 1), "room": ROOM})
        elif kind == "reset":
            if message["room"] == ROOM:
                self.seq = message["seq"]
        elif kind == "lag":
            self.lags += 1
        elif kind in ("error", "close"):
            self.all.trouble(f"{self.name}: {message}")
            id_ = message.get("id")
            if id_ is not None and self._sent.pop(id_[1], None) is not None:
                self._look()  # refused, and no reason to wait for it

    def closed(self, peer: Any, error: Exception | None) -> None:
        if self.peer is not None or error is not None:
            self.all.trouble(f"{self.name} has lost its connection: {error}")

    def _event(self, event: dict[str, Any]) -> None:
        seq = event["seq"]
        if seq != self.seq + 1:
            self.all.trouble(f"{self.name} was told event {seq} behind {self.seq}")
        self.seq = seq
        if event["kind"] == "say":
            self.count += 1
            if seq % SAMPLED == 0:
                self.all.delivery.add(time.monotonic() - float(event["text"].split(" ", 1)[0]))
            if self.all.waits:
                self.all.look()

    def _done(self, message: dict[str, Any]) -> None:
        n = message["id"][1]
        if n == 1:
            self.joined = True
            self.all.joined()
            return
        self.all.acknowledgement.add(time.monotonic() - self._sent.pop(n))
        self.acknowledged += 1
        self._look()

    def _look(self) -> None:
        if not self._left and not self._sent:
            self.all.posted()

    def begin(self, count: int, interval: float, offset: float, size: int) -> None:
        self._left, self._interval, self._size = count, interval, size
        self._next = time.monotonic() + offset
        self.all.loop.call_later(offset, self._say)

    def _say(self) -> None:
        self._n += 1
        self._left -= 1
        now = time.monotonic()
        self._sent[self._n] = now
        text = f"{now:.6f} {self.name} ".ljust(self._size, ".")
        self.peer.send({"type": "post", "id": (self.session, self._n), "room": ROOM, "text": text})
        if self._left:
            # By the clock, not by the last one: whoever is late makes up for it.
            self._next += self._interval
            self.all.loop.call_later(max(self._next - now, 0.0), self._say)

    def leave(self) -> None:
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.send({"type": "bye"})
            peer.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    allow(options.count)
    names = [f"l{number:04}" for number in range(options.first, options.first + options.count)]
    listeners = Listeners(Address.parse(options.address), names)
    listeners.run()
    print(json.dumps(listeners.figures()), flush=True)


if __name__ == "__main__":
    main()
