"""Limits: what a server bears with, the same on every server driver.

`Limits` are the options of one connection. `SlowReader` judges a peer that does not take what is sent to it, `Linger` one that
still sends when all is said. None of them has a clock: the caller says what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

from framing.channel import Channel, Heartbeat
from framing.drivers.address import Address
from framing.errors import Timeout
from framing.wire import Wire

__all__ = ["NEVER", "QUIET", "Limits", "Linger", "SlowReader", "check_server"]

T = TypeVar("T")

NEVER: Final = float("inf")
"""A time that does not come."""

LEAST_PROGRESS: Final = 1 << 12
"""Bytes below which nothing counts as progress, however low the water marks are: whoever drips does not read."""

QUIET: Final = 0.2
"""Seconds for which a quiet peer is waited for behind the last reply, where somebody waits for the end."""

LINGER: Final = 1.0
"""The same where nobody does; and where somebody does, the longest for which a peer may still send."""

LONGEST_LINGER: Final = 5.0
"""Seconds for which a peer may still send behind the last reply, where nobody waits for the end."""

LINGER_BYTES: Final = 1 << 26
"""Bytes that are thrown away behind the last reply: more than any peer has under way, so that one without end costs little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may take, in bytes, and how long, in seconds; None for no limit."""

    frame_timeout: float | None = 30.0
    idle_timeout: float | None = None
    handshake_timeout: float | None = 10.0
    slow_reader_timeout: float | None = 30.0
    high_water: int = 1 << 16
    low_water: int = 1 << 14
    max_queued: int | None = 1 << 20
    heartbeat: Heartbeat[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("frame_timeout", "idle_timeout", "handshake_timeout", "slow_reader_timeout"):
            seconds: float | None = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds!r}; give seconds above 0, or None for no limit")
        if not 0 <= self.low_water <= self.high_water:
            raise ValueError(
                f"low_water={self.low_water} and high_water={self.high_water}: give 0 <= low_water <= high_water"
            )
        if self.max_queued is not None and self.max_queued < self.high_water:
            raise ValueError(f"max_queued={self.max_queued} is below high_water={self.high_water}")

    def channel(self, wire: Wire[T], now: float) -> Channel[T]:
        """A channel that keeps to them; raises `framing.EncodeError` for a heartbeat that ``wire`` does not carry."""
        return Channel(
            wire,
            high_water=self.high_water,
            low_water=self.low_water,
            frame_timeout=self.frame_timeout,
            idle_timeout=self.idle_timeout,
            heartbeat=self.heartbeat,
            now=now,
        )

    def overrun(self, address: Address) -> Timeout:
        """Why a peer is closed for whom more than ``max_queued`` bytes wait."""
        return Timeout(f"{address} does not read: more than {self.max_queued} bytes wait for it", address=address)

    @property
    def period(self) -> float | None:
        """How often a connection must be looked at, so that no deadline is missed.

        A deadline is never nearer, when it is set, than the shortest of these; so to look that often is enough, and
        nothing has to be done about deadlines when bytes come.
        """
        beat = (None, None) if self.heartbeat is None else (self.heartbeat.interval, self.heartbeat.silence)
        limits = (self.frame_timeout, self.idle_timeout, self.slow_reader_timeout, *beat)
        return min((seconds for seconds in limits if seconds is not None), default=None)


def check_server(*, max_connections: int = 1, drain_timeout: float = 0.0) -> None:
    """Raise ValueError for options of a whole server that are none."""
    if max_connections < 1:
        raise ValueError(f"max_connections is {max_connections}; give 1 at least")
    if not drain_timeout >= 0:
        raise ValueError(f"drain_timeout is {drain_timeout!r}; give seconds, 0 or more")


class SlowReader:
    """Tells when a peer is no longer waited for to take what was sent to it.

    It is slow while more than ``high_water`` bytes wait for it, until it is down at the low-water mark, and at the end of a
    connection while any do. Then it has to take ``high_water`` bytes in each ``seconds``, or all that it has to: one that
    takes a few now and then, so that nobody can say it took none, is not waited for.
    """

    __slots__ = ("_enough", "_from", "_seconds", "due")

    def __init__(self, seconds: float | None, high_water: int) -> None:
        self._seconds = seconds
        self._enough = max(high_water, LEAST_PROGRESS)
        self._from = 0  # how much it had taken when its time began
        self.due = NEVER
        """When to look again."""

    def look(self, now: float, taken: int, *, slow: bool) -> bool:
        """Whether its time is over; ``taken`` is how many bytes it has taken since the beginning."""
        if not slow or self._seconds is None:
            self.due = NEVER
            return False
        if self.due == NEVER or taken - self._from >= self._enough:
            self.due = now + self._seconds
            self._from = taken
        return now >= self.due

    def verdict(self, address: Address, queued: int) -> Timeout:
        """Why a peer is closed whose time is over, while ``queued`` bytes wait for it."""
        assert self._seconds is not None
        return Timeout(
            f"{address} does not read: in {self._seconds:g} s it took next to nothing of what waits for it, "
            f"and {queued} bytes are left",
            address=address,
            seconds=self._seconds,
            queued=queued,
        )


class Linger:
    """Tells how long what a peer still sends is thrown away, when all is said to it.

    A socket that is closed with something unread in it resets the connection, and what the peer has not taken by then, the
    last replies, is lost with it. So the end is said first, and the peer's waited for: while it sends, within bounds, and a
    moment longer. ``hurried`` makes both short, for somebody waits: a server that stops, a client that closes. It may
    become so at any time.
    """

    __slots__ = ("_began", "_heard", "_left", "hurried")

    def __init__(self, now: float, *, hurried: bool) -> None:
        self._began = self._heard = now
        self._left = LINGER_BYTES
        self.hurried = hurried

    def threw(self, nbytes: int, now: float) -> None:
        """``nbytes`` of the peer's were thrown away."""
        if nbytes:
            self._heard = now
            self._left -= nbytes

    @property
    def due(self) -> float:
        """When to close."""
        if self._left < 0:
            return 0.0
        if self.hurried:
            return min(self._began + LINGER, self._heard + QUIET)
        return min(self._began + LONGEST_LINGER, self._heard + LINGER)
