"""Samples of a process: its memory, descriptors and threads; and whether they stayed flat."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

__all__ = ["Sample", "long_enough", "sample", "thirds", "unsteady"]

PAGE = os.sysconf("SC_PAGE_SIZE")

MEMORY_GROWTH, MEMORY_GROWTH_BYTES = 0.05, 2 << 20
"""What the last third's memory may be above the middle third's: allocators breathe."""

OTHERS_GROWTH, OTHERS_GROWTH_COUNT = 0.25, 10
"""… and its descriptors and threads, whose number is that of the connections that happen to be open."""


LEAST_SAMPLES, LEAST_SECONDS = 9, 20.0
"""Less says nothing of growth: everything grows when it begins."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one moment: resident bytes, open descriptors, threads."""

    at: float
    memory: int
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    """How the process is just now."""
    root = Path("/proc", str(pid))
    return Sample(
        time.monotonic(),
        int((root / "statm").read_text().split()[1]) * PAGE,
        sum(1 for _ in (root / "fd").iterdir()),
        sum(1 for _ in (root / "task").iterdir()),
    )


def thirds(values: list[int]) -> tuple[float, float, float]:
    """The medians of the first, the middle and the last third."""
    third = len(values) // 3
    return median(values[:third]), median(values[third:-third]), median(values[-third:])


def long_enough(samples: list[Sample]) -> bool:
    """Whether there are samples enough, over time enough, to judge by."""
    return len(samples) >= LEAST_SAMPLES and samples[-1].at - samples[0].at >= LEAST_SECONDS


def unsteady(samples: list[Sample]) -> list[str]:
    """What has grown from the middle third to the last, while the first one warms up; nothing where it was too short."""
    if not long_enough(samples):
        return []
    grown = []
    for name, share, least in (
        ("memory", MEMORY_GROWTH, MEMORY_GROWTH_BYTES),
        ("descriptors", OTHERS_GROWTH, OTHERS_GROWTH_COUNT),
        ("threads", OTHERS_GROWTH, OTHERS_GROWTH_COUNT),
    ):
        _, middle, last = thirds([getattr(one, name) for one in samples])
        if last > middle * (1 + share) + least:
            grown.append(f"{name} grew from {middle:.0f} in the middle third to {last:.0f} in the last")
    return grown
