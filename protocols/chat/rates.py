"""How often somebody may do something: so much at once, and so much a second."""

from __future__ import annotations

__all__ = ["Bucket"]


class Bucket:
    """So many at once, and so many a second."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: int, rate: float, now: float) -> None:
        self._burst = self._left = float(burst)
        self._rate = rate
        self._at = now

    def wait(self, now: float, cost: int = 1) -> float:
        """Take ``cost``, and return 0; or take none, and return the seconds until there is one.

        Where there is one, more than there are may be taken: the next taker waits so much longer.
        """
        if (wait := self._until_one(now)) == 0.0:
            self._left -= cost
        return wait

    def owe(self, now: float, cost: int = 1) -> None:
        """Take ``cost``, whether there is one or not."""
        self._until_one(now)
        self._left -= cost

    def full(self, now: float) -> bool:
        """Whether it is as it was in the beginning."""
        self._until_one(now)
        return self._left >= self._burst

    def _until_one(self, now: float) -> float:
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._left >= 1 - 1e-9 else (1 - self._left) / self._rate
