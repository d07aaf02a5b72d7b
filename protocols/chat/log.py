"""The chat's log: what was said, and who may come back. `Log` is what the hub asks of it; `MemoryLog` keeps it for tests.

The promise that all others stand on: when `append` has returned, everything given to it is kept, all of it or none;
the hub tells nobody of an event before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocols.chat.messages import Event, Id

__all__ = ["Log", "LogError", "MemoryLog", "SessionRecord"]


class LogError(Exception):
    """The log cannot be read or written; its text says which file and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What is kept of a session, so that it can go on behind a restart.

    ``tokens`` are digests: of the token in use and of the one that was issued last, for the client may not have got it.
    ``rooms`` are the open ones, ``private`` those of two, the oldest first. ``named`` tells whether the name is still theirs:
    then they were there, or had just lost the connection. ``seen``, milliseconds since 1970, is when its last connection
    began or ended; of those who were there at a restart and have not come back, when that was.
    """

    id: str
    name: str
    tokens: tuple[str, ...]
    rooms: tuple[str, ...]
    seen: int
    named: bool = True
    private: tuple[str, ...] = ()


class Log(Protocol):
    """Where events and sessions are kept. Calls come from one thread, one at a time."""

    def append(self, events: Sequence[Event], sessions: Iterable[SessionRecord] = (), gone: Iterable[str] = ()) -> None:
        """Keep ``events`` and ``sessions`` (the newer of an id stands), forget the sessions ``gone``: all of it or nothing."""
        ...

    def read(self, room: str, after: int, limit: int) -> list[Event]:
        """The first ``limit`` events of ``room`` with a seq above ``after``, in order."""
        ...

    def find(self, id: Id) -> Event | None:  # noqa: A002 # the field's name
        """The event that was posted with ``id``."""
        ...

    def head(self, room: str) -> int:
        """The seq of the last event of ``room``; 0 where there is none."""
        ...

    def rooms(self) -> dict[str, int]:
        """The seq of each room's last event."""
        ...

    def sessions(self) -> list[SessionRecord]:
        """All sessions kept."""
        ...


class MemoryLog:
    """A log that ends with the program."""

    def __init__(self) -> None:
        self._rooms: dict[str, list[Event]] = {}
        self._posts: dict[Id, Event] = {}
        self._sessions: dict[str, SessionRecord] = {}

    def append(self, events: Sequence[Event], sessions: Iterable[SessionRecord] = (), gone: Iterable[str] = ()) -> None:
        for event in events:
            self._rooms.setdefault(event.room, []).append(event)
            if event.id is not None:
                self._posts[event.id] = event
        for session in sessions:
            self._sessions[session.id] = session
        for name in gone:
            self._sessions.pop(name, None)

    def read(self, room: str, after: int, limit: int) -> list[Event]:
        return self._rooms.get(room, [])[after : after + limit]

    def find(self, id: Id) -> Event | None:  # noqa: A002 # the field's name
        return self._posts.get(id)

    def head(self, room: str) -> int:
        return len(self._rooms.get(room, ()))

    def rooms(self) -> dict[str, int]:
        return {room: len(events) for room, events in self._rooms.items()}

    def sessions(self) -> list[SessionRecord]:
        return list(self._sessions.values())
