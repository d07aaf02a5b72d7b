"""A server on strings: it welcomes whoever comes, and then says what the test has given it to say, true or not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from framing.drivers import blocking
from protocols.chat.wires import DEFAULT_WIRE

__all__ = ["LIMITS", "Puppet", "joined", "puppet", "unhurried", "welcome"]

LIMITS = {"text": 8192, "lines": 100, "burst": 5, "rate": 2.0, "frame": 1 << 16}


def welcome(**other: Any) -> dict[str, Any]:
    """A welcome to nowhere."""
    usual: dict[str, Any] = {
        "version": 1,
        "session": "s",
        "token": "t" * 20,
        "name": "ann",
        "resumed": False,
        "rooms": [],
    }
    return {"type": "welcome", **usual, "limits": LIMITS, "heartbeat": 20.0, **other}


def joined(id_: Any, room: str = "lobby", *, names: list[str] | None = None) -> list[dict[str, Any]]:
    """What answers a join, where nothing was said before."""
    return [
        {"type": "reset", "room": room, "seq": 0},
        {"type": "ok", "id": id_, "room": room, "seq": 0},
        {"type": "members", "room": room, "names": names or ["ann"], "at": 0},
    ]


def unhurried(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Answers of a server that lets whoever comes into each room, and to another name in a minute at the earliest."""
    if message["type"] == "hello":
        return [welcome()]
    if message["type"] == "join":
        return joined(message["id"], message["room"])
    if message["type"] == "rename":
        return [{"type": "error", "code": "rate", "text": "slower", "id": message["id"], "retry_after": 60.0}]
    return []


class Puppet:
    """A service: ``answer(message)`` gives what is sent back; None closes the connection."""

    def __init__(self, answer: Callable[[dict[str, Any]], list[Any] | None]) -> None:
        self._answer = answer
        self.heard: list[dict[str, Any]] = []
        self.connections = 0

    def opened(self, peer: Any) -> None:
        self.connections += 1

    def received(self, peer: Any, message: Any) -> None:
        self.heard.append(message)
        answer = self._answer(message)
        if answer is None:
            peer.close()
        else:
            for each in answer:
                peer.send(each)


@contextlib.contextmanager
def puppet(
    answer: Callable[[dict[str, Any]], list[Any] | None], listen: str = "tcp://127.0.0.1:0"
) -> Iterator[tuple[Puppet, str]]:
    """A puppet that listens, and where, until the end of the block."""
    service = Puppet(answer)
    with blocking.Server(listen, DEFAULT_WIRE, service) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield service, str(server.address)
        finally:
            server.stop()
            thread.join()
