"""Latencies: any number of times in a few kilobytes, with percentiles that are right within one per cent.

Times fall into buckets that are a hundredth as wide as they are long, so a load that runs for days keeps as little as one that
runs for a second.
"""

from __future__ import annotations

__all__ = ["Latencies"]

PRECISION = 7
"""Bits of a time that tell its bucket: each is a 128th as wide as its times are long, or less."""


class Latencies:
    """Add times, in seconds, and ask for a percentile of them."""

    __slots__ = ("_buckets", "count", "longest")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one time."""
        nanoseconds = int(seconds * 1e9)
        shift = max(nanoseconds.bit_length() - PRECISION - 1, 0)
        bucket = (shift << PRECISION) + (nanoseconds >> shift)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def percentile(self, percent: float) -> float:
        """The time that so many per cent of all did not exceed, in seconds; 0.0 where there are none."""
        left = self.count * percent / 100
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                shift = max((bucket >> PRECISION) - 1, 0)
                upper = ((bucket - (shift << PRECISION) + 1) << shift) - 1
                return min(upper / 1e9, self.longest)
        return self.longest
