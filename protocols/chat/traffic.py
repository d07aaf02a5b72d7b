"""What goes into the hub, and what comes out of it: all that its driver has to do with."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

from protocols.chat.messages import FromServer

__all__ = [
    "Announced",
    "Blocked",
    "Closed",
    "Drained",
    "Input",
    "Opened",
    "Output",
    "Received",
    "Send",
    "Shut",
    "Stopped",
    "Verified",
    "Verify",
]

# -------------------------------------------------------------------- inputs


@dataclass(frozen=True, slots=True)
class Opened:
    """``connection`` has been made; ``private``: nobody on the way reads it (TLS, or a unix socket).

    ``origin`` is where it comes from: its address, without the port. New sessions of one origin are counted together, and so
    are the private rooms that they begin with somebody. Those of the origin "" are not counted.
    """

    connection: Hashable
    private: bool = False
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """``connection`` sent ``message``, as its codec gave it."""

    connection: Hashable
    message: Any


@dataclass(frozen=True, slots=True)
class Closed:
    """``connection`` has ended, however."""

    connection: Hashable


@dataclass(frozen=True, slots=True)
class Blocked:
    """More waits for ``connection`` than it takes."""

    connection: Hashable


@dataclass(frozen=True, slots=True)
class Drained:
    """``connection`` has taken what waited for it."""

    connection: Hashable


@dataclass(frozen=True, slots=True)
class Verified:
    """The answer to `Verify`."""

    connection: Hashable
    right: bool


@dataclass(frozen=True, slots=True)
class Announced:
    """The server's own people say ``text`` to everybody."""

    text: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The server ends; ``reconnect``: in how many seconds its clients shall try again, None for not at all."""

    reconnect: float | None = 1.0


Input: TypeAlias = Opened | Received | Closed | Blocked | Drained | Verified | Announced | Stopped


# ------------------------------------------------------------------- outputs


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``message`` to all of ``connections``, encoded once."""

    connections: tuple[Hashable, ...]
    message: FromServer


@dataclass(frozen=True, slots=True)
class Shut:
    """Close ``connection`` behind what it was sent. `Closed` need not come for it, and may."""

    connection: Hashable


@dataclass(frozen=True, slots=True)
class Verify:
    """Find out, beside the hub, whether ``password`` is that of ``name``; `Verified` is the answer."""

    connection: Hashable
    name: str
    password: str


Output: TypeAlias = Send | Shut | Verify
