"""What a hub allows, and how long it waits."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Final

from protocols.chat.safety import bad_name

__all__ = ["Options"]

_MAY_BE_ZERO: Final = frozenset(
    {
        "newcomers",
        "max_greeting",
        "max_rooms",
        "max_rooms_each",
        "max_private_each",
        "history",
        "grace",
        "session_lifetime",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the hub allows. Times are seconds, sizes bytes; bursts and rates are posts, and requests of other kinds.

    All numbers are finite and above 0; ``max_rooms``, ``max_rooms_each``, ``max_private_each``, ``history``, ``grace`` (who
    loses the connection has left at once) and ``session_lifetime`` (and is forgotten with that) may be 0.

    ``move_burst`` and ``move_rate`` are of what others see of somebody's ways: a join counts once, as does a private room that
    is opened, and a new name once for each room that is told of it; to leave is always allowed, and counts too.

    ``newcomers`` and ``newcomer_rate`` are of sessions that one address begins, at once and a second (``newcomers=0``: any
    number); who comes back by a token is not counted. With ``passwords`` each try counts, for each is a hash to compute.
    ``max_greeting`` is of connections of one address that are in no session yet (0: any number): the next one is closed, and
    told to come back.

    ``max_rooms`` is of open rooms that somebody is in, besides the ``lobby``; ``max_members`` of people in one of them.

    ``max_private_each`` is of private rooms. Of somebody's, one origin may begin as many as are left for all others: so the
    first address that floods them has half, the next one a quarter, and so on. Where there are too many, those are left that
    they have read and whose other one is behind the time of grace: the next private post between the two opens it again.

    ``session_lifetime`` is of sessions behind the time of grace: for so long they can be resumed.
    """

    max_text: int = 8 << 10
    max_lines: int = 100
    burst: int = 5
    rate: float = 2.0
    request_burst: int = 20
    request_rate: float = 10.0
    move_burst: int = 32
    move_rate: float = 2.0
    newcomers: int = 64
    newcomer_rate: float = 2.0
    max_greeting: int = 128
    max_frame: int = 1 << 16
    max_rooms: int = 10_000
    lobby: str = "lobby"
    max_rooms_each: int = 32
    max_private_each: int = 256
    max_members: int = 5_000
    max_sessions: int = 100_000
    history: int = 50
    heartbeat: float = 20.0
    hello_timeout: float = 10.0
    grace: float = 30.0
    slow_reader_timeout: float = 30.0
    session_lifetime: float = 86_400.0
    unicode_names: bool = False
    passwords: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if isinstance(value, (bool, str)):
                continue
            least = "0 or more" if field.name in _MAY_BE_ZERO else "above 0"
            if not (value > 0 or (value == 0 and field.name in _MAY_BE_ZERO)) or not math.isfinite(value):
                raise ValueError(f"{field.name} must be a finite number, {least}: not {value!r}")
        if (text := bad_name(self.lobby, allow_unicode=self.unicode_names)) is not None:
            raise ValueError(f"lobby must be the name of a room: {text}")
