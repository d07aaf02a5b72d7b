"""Timing that can be compared: every contender in turn, round after round, in CPU time of this process.

A machine that is shared drifts. Because the contenders take turns within each round, the drift hits all alike: so what is
held against a target is the median of the rounds' *ratios*, and the nanoseconds are this machine's and this hour's. The
order is turned around in every other round, so that nobody always comes behind the one who leaves the cache as it likes.
The garbage collector runs between the rounds.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Samples", "interleaved", "paired", "spread"]

Samples = dict[str, list[float]]
"""For each contender one figure a round."""

LEAST_NS = 3_000_000
"""A contender is called so often in a round that its sample takes this long at the least."""


def interleaved(contenders: Mapping[str, Callable[[], object]], items: int, rounds: int) -> Samples:
    """Nanoseconds of CPU time for one item: each contender once in each round; each call handles ``items`` items."""
    samples: Samples = {name: [] for name in contenders}
    repeats: dict[str, int] = {}
    for name, contender in contenders.items():
        contender()
        begin = time.process_time_ns()
        contender()
        took = time.process_time_ns() - begin
        repeats[name] = 1 if rounds == 1 else max(1, -(-LEAST_NS // max(took, 1)))
    order = list(contenders.items())
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, contender in order:
                calls = range(repeats[name])
                begin = time.process_time_ns()
                for _ in calls:
                    contender()
                samples[name].append((time.process_time_ns() - begin) / (items * repeats[name]))
            order.reverse()
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return samples


def paired(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b if b else float("inf") for a, b in zip(above, below, strict=True))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(values) < 3:
        return statistics.median(values), min(values), max(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high
