"""Members of the listeners' room who do not read as fast as is spoken there, in a process of their own.

    python -m tests.protocols.chat.sluggards tcp://127.0.0.1:9009 --never 1 --drip 50

The first never read, the others read one byte a second; all of them ask for a sign of life now and then, so that nobody takes
them for dead. Their buffers in the system are as small as they get, so that what they do not read stays with the server. Who
is closed comes back, with its session, and goes on from where it was. They say "ready" when all have joined. A line with the
number of all posts makes them read, at last, as fast as comes, until each of them has got so many; then, or when that takes
too long, their figures come as JSON: how often they were told that they lag, and how many posts each has got, in order.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from framing.drivers.address import Address
from protocols.chat.conversation import DEFAULT_WIRE
from protocols.echo.descriptors import allow
from tests.protocols.chat.listeners import ROOM

LEAST_BUFFER = 1 << 12
SMALL_SEGMENT = 536
"""Bytes: the server's system sizes its own buffer by it."""

SIGN_OF_LIFE = 10.0
AGAIN = 1.0
"""Seconds until one that was closed comes back."""

PATIENCE = 60.0
"""Seconds in which all must have been read, at last."""


class Sluggard:
    """One of them."""

    def __init__(self, address: Address, name: str, *, drips: bool) -> None:
        self.address = address
        self.name = name
        self.drips = drips
        self.sock: socket.socket | None = None
        self.token: str | None = None
        self.cursor = 0
        self.decoder: Any = None
        self.count = 0
        self.lags = 0
        self.gaps = 0
        self.closed = 0
        self.read = 0
        self.again = 0.0
        self.signed = 0.0

    def state(self) -> str:
        """How it is with it, for whoever looks for a fault."""
        connected = self.sock is not None
        return f"{self.name}: {self.count} posts, last event {self.cursor}, closed {self.closed} times, {connected=}"

    def join(self) -> None:
        """Connect, and read for the last time what comes as fast as it does."""
        sock = socket.socket()
        sock.settimeout(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LEAST_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        sock.connect((self.address.host, self.address.port))
        hello: dict[str, Any] = {"type": "hello", "version": 1, "name": self.name}
        if self.token is not None:
            hello["resume"] = {"token": self.token, "cursors": {ROOM: self.cursor}}
        sock.sendall(DEFAULT_WIRE.encode(hello))
        self.decoder = DEFAULT_WIRE.decoder()
        joined = False
        while not joined:
            data = sock.recv(1 << 12)
            if not data:
                raise ConnectionError(f"{self.name} was not let in")
            for message in self.decoder.feed(data):
                self.take(message)
                if message["type"] == "welcome":
                    self.token = message["token"]
                    joined = ROOM in message["rooms"]
                    if not joined:
                        # Not for the first time where it has noticed its end behind its time of grace: it goes on then.
                        id_, after = (message["session"], 1 + self.closed), self.cursor or None
                        join = {"type": "join", "id": id_, "room": ROOM, "after": after}
                        sock.sendall(DEFAULT_WIRE.encode(join))
                elif message["type"] == "ok":
                    joined = True
        sock.setblocking(False)
        self.sock = sock
        self.signed = time.monotonic()

    def take(self, message: dict[str, Any]) -> None:
        """One message of the server's."""
        kind = message["type"]
        if kind in ("reset", "lag") and message["room"] == ROOM:
            self.lags += kind == "lag"
            self.cursor = message["seq"] if kind == "reset" else self.cursor
        elif kind == "event" and message["room"] == ROOM:
            self.gaps += message["seq"] != self.cursor + 1
            self.cursor = message["seq"]
            self.count += message["kind"] == "say"

    def drain(self, posts: int, end: float) -> None:
        """Read all that waits, until all posts have come."""
        while self.count < posts and time.monotonic() < end:
            try:
                if self.sock is None:
                    self.join()
                assert self.sock is not None
                self.sock.settimeout(1.0)
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                self.sock.send(DEFAULT_WIRE.encode({"type": "ping", "n": 1})) if self.sock is not None else None
                continue
            except OSError:
                data = b""
            if data:
                for message in self.decoder.feed(data):
                    self.take(message)
                    if message["type"] == "ping" and self.sock is not None:
                        self.sock.send(DEFAULT_WIRE.encode({"type": "pong", "n": message["n"]}))
            elif self.sock is not None:
                self.sock.close()
                self.sock = None
                self.closed += 1
                time.sleep(AGAIN)

    def tick(self, now: float) -> None:
        """Once a second."""
        if self.sock is None:
            if now >= self.again:
                try:
                    self.join()
                except OSError:
                    self.again = now + AGAIN
            return
        try:
            if now >= self.signed + SIGN_OF_LIFE:
                self.sock.send(DEFAULT_WIRE.encode({"type": "ping", "n": 1}))
                self.signed = now
            if self.drips:
                data = self.sock.recv(1)
                self.read += len(data)
                over = not data
                for message in self.decoder.feed(data) if data else ():
                    self.take(message)
            else:
                poll = select.poll()
                poll.register(self.sock, 0)
                over = bool(poll.poll(0))
        except BlockingIOError:
            over = False
        except OSError:
            over = True
        if over:
            self.sock.close()
            self.sock = None
            self.closed += 1
            self.again = now + AGAIN


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--never", type=int, default=1)
    parser.add_argument("--drip", type=int, default=50)
    options = parser.parse_args()
    count = options.never + options.drip
    allow(count)
    address = Address.parse(options.address)
    them = [Sluggard(address, f"s{number:04}", drips=number >= options.never) for number in range(count)]
    for one in them:
        one.join()
    print("ready", flush=True)
    following = time.monotonic()
    while not select.select([sys.stdin], [], [], max(following - time.monotonic(), 0.0))[0]:
        following += 1.0
        for one in them:
            one.tick(time.monotonic())
    posts, end = int(sys.stdin.readline() or 0), time.monotonic() + PATIENCE
    with ThreadPoolExecutor(count) as pool:  # all at once: whoever had to wait for the others would be closed meanwhile
        list(pool.map(lambda one: one.drain(posts, end), them))
    figures = {
        "closed": sum(one.closed for one in them),
        "read": sum(one.read for one in them),
        "lagged": [one.lags for one in them],
        "counts": [one.count for one in them],
        "gaps": sum(one.gaps for one in them),
        "short": [one.state() for one in them if one.count != posts],
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
