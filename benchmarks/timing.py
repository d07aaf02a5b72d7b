"""Timing that can be compared: every contender in turn, round after round, in CPU time of this process; medians.

A machine that is shared drifts. Because the contenders take turns within each round, the drift hits all alike, and the
*ratio* of two medians stays; the nanoseconds are this machine's and this hour's.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "interleaved"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds of CPU time for one item: the median of the rounds, and the fastest and slowest round."""

    median: float
    least: float
    most: float


def interleaved(contenders: Mapping[str, Callable[[], object]], items: int, rounds: int) -> dict[str, Timing]:
    """Time each contender once in each of ``rounds`` rounds; each call handles ``items`` items."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, contender in contenders.items():
                begin = time.process_time_ns()
                contender()
                samples[name].append((time.process_time_ns() - begin) / items)
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return {name: Timing(statistics.median(values), min(values), max(values)) for name, values in samples.items()}
