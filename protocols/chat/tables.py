"""What the hub knows of connections, sessions and rooms while they are there; only the hub changes it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from protocols.chat.messages import Hello
from protocols.chat.rates import Bucket

__all__ = ["Connection", "Room", "Session"]


@dataclass(slots=True, eq=False)
class Connection:
    """One connection: who it is, and how far it has been told of each room that it is behind in."""

    name: Hashable
    private: bool
    origin: str
    since: float
    heard: float
    session: Session | None = None
    hello: Hello | None = None  # while its password is being verified
    behind: dict[str, int] = field(default_factory=dict[str, int])
    blocked: float | None = None
    pinged: float | None = None  # since when an answer is waited for
    refused: int = 0
    early: int = 0  # bytes that it sent before it was let in
    greeting: bool = False  # counted among those of its origin that are in no session
    closing: bool = False


@dataclass(slots=True, eq=False)
class Session:
    """A person, for as long as their token is good."""

    id: str
    name: str
    posts: Bucket
    requests: Bucket
    moves: Bucket
    tokens: tuple[str, ...] = ()
    rooms: set[str] = field(default_factory=set[str])  # those with joined and left, not private ones
    private: dict[str, str] = field(default_factory=dict[str, str])  # and the origin of the other one, who began it
    connection: Connection | None = None
    named: bool = True  # whether the name is still theirs: it is free again behind the time of grace
    lost: float = 0.0  # since when it has no connection
    seen: int = 0  # the same, or since when it has one, by the clock on the wall: for the next start
    attempt: int = 0  # of its connection: those with a lower one are over, for their client
    recent: dict[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])


@dataclass(slots=True, eq=False)
class Room:
    """A log of events. ``live`` have been told of all up to ``head``."""

    name: str
    head: int = 0
    told: float = float("-inf")  # when somebody was told an event of it last
    members: dict[str, Session] = field(default_factory=dict[str, Session])
    live: dict[Hashable, Connection] = field(default_factory=dict[Hashable, Connection])
    private: bool = False
