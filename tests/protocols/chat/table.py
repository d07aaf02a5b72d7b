"""A hub and its connections, by hand, without a socket: what it is given, and what each connection is told."""

from __future__ import annotations

from typing import Any

from protocols.chat import hub as server
from protocols.chat.hub import Hub, Options
from protocols.chat.log import MemoryLog
from protocols.chat.messages import to_map

__all__ = ["Table", "come", "resume", "whisper"]


class Table:
    """A hub and its connections, by hand: each keeps what it was told, as maps."""

    def __init__(self, options: Options | None = None, log: MemoryLog | None = None) -> None:
        numbers = iter(range(10**9))
        self.log = log or MemoryLog()
        self.hub = Hub(self.log, options, make_token=lambda size: f"t{next(numbers)}")
        self.now = 0.0
        self.wall = 0  # how far the clock on its wall is ahead, in milliseconds
        self.told: dict[str, list[Any]] = {}
        self.shut: set[str] = set()
        self.asked: list[server.Verify] = []

    def give(self, *inputs: server.Input) -> None:
        for output in self.hub.handle(inputs, self.now, int(self.now * 1000) + self.wall):
            if isinstance(output, server.Send):
                message = to_map(output.message)
                for name in output.connections:
                    self.told.setdefault(str(name), []).append(message)
            elif isinstance(output, server.Shut):
                self.shut.add(str(output.connection))
            else:
                self.asked.append(output)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.give()

    def send(self, name: str, message: Any) -> list[Any]:
        """What ``name`` is told in answer to ``message``."""
        before = len(self.told.get(name, []))
        self.give(server.Received(name, message))
        return self.told.get(name, [])[before:]

    def enter(self, name: str, *, room: str | None = "lobby", private: bool = False, **hello: Any) -> str:
        """``name`` connects, says hello and joins; the session."""
        self.give(server.Opened(name, private))
        welcome = self.send(name, {"type": "hello", "version": 1, "name": name, **hello})[0]
        assert welcome["type"] == "welcome", welcome
        if room is not None:
            self.send(name, {"type": "join", "id": [welcome["session"], 1000], "room": room})
        return str(welcome["session"])

    def of(self, name: str, kind: str) -> list[Any]:
        return [message for message in self.told.get(name, []) if message["type"] == kind]

    def last(self, name: str) -> Any:
        return self.told[name][-1]


def whisper(table: Table, name: str, session: str, number: int, to: str) -> Any:
    """The answer to a private post."""
    answers = table.send(name, {"type": "post", "id": [session, number], "to": to, "text": f"psst {number}"})
    return next(answer for answer in answers if answer["type"] in ("ok", "error"))


def come(table: Table, name: str, origin: str) -> str:
    """``name`` comes from ``origin``; the session."""
    table.give(server.Opened(name, origin=origin))
    (welcome,) = table.send(name, {"type": "hello", "version": 1, "name": name})[:1]
    return str(welcome["session"])


def resume(table: Table, name: str, token: str, **cursors: int) -> Any:
    """``name`` connects and shows ``token``; the answer."""
    table.give(server.Opened(name, private=True))
    answers = table.send(name, {"type": "hello", "version": 1, "resume": {"token": token, "cursors": cursors}})
    return answers[0]
