"""What a benchmark gives: figures, and the goals that they are held against.

A benchmark may hold one goal against several comparisons (payloads of 16 B, of 64 B, mixed): what counts is the worst.
"""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.builds import COMPILED, PLAIN
from benchmarks.timing import Samples, paired

__all__ = ["Benchmark", "Goal", "Result", "Settings", "at_least", "at_most", "fastest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long to measure. ``quick`` proves that everything works; its figures mean nothing."""

    quick: bool = False
    rounds: int = 11

    def scaled(self, count: int, quick: int) -> int:
        """``count`` of something, or ``quick`` of it."""
        return quick if self.quick else count


@dataclass(frozen=True, slots=True)
class Goal:
    """A target of one build and what was reached; ``bound`` is the most or the least that ``reached`` may be."""

    case: str
    build: str
    text: str
    bound: float
    reached: float
    at_most: bool
    unit: str = "×"

    @property
    def met(self) -> bool:
        return self.reached <= self.bound if self.at_most else self.reached >= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One comparison: figures by contender, one a round, smaller is better; who was skipped and why."""

    title: str
    unit: str
    samples: Samples
    goals: Sequence[Goal] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    note: str = ""
    also: tuple[str, dict[str, str]] | None = None  # one more column: its title, and what is in it by contender


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark: ``run``'s docstring says what is measured, and what would make it unfair."""

    name: str
    run: Callable[[Settings], Iterator[Result]]

    @property
    def explain(self) -> str:
        """That docstring, in paragraphs of one line each."""
        text = inspect.getdoc(self.run) or ""
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def fastest(samples: Samples, names: Iterable[str]) -> str | None:
    """Who of ``names`` has the lowest median; None where none of them ran."""
    return min(
        (name for name in names if name in samples), key=lambda name: statistics.median(samples[name]), default=None
    )


def at_most(
    case: str, samples: Samples, over: str, bounds: tuple[float | None, float | None], text: str
) -> Iterator[Goal]:
    """Ours is at most ``bound`` times ``over``; ``bounds`` are those of the compiled build and of plain Python."""
    for build, bound in zip((COMPILED, PLAIN), bounds, strict=True):
        if bound is not None and build in samples and over in samples:
            reached = paired(samples[build], samples[over])
            yield Goal(case, build, f"≤ {bound:g} × {text}", bound, reached, at_most=True)


def at_least(
    case: str,
    samples: Samples,
    over: Sequence[str],
    bounds: tuple[float | None, float | None],
    text: str,
) -> Iterator[Goal]:
    """Ours is ``bound`` times as fast as the fastest of ``over``, at the least."""
    peer = fastest(samples, over)
    for build, bound in zip((COMPILED, PLAIN), bounds, strict=True):
        if bound is not None and peer is not None and build in samples:
            reached = paired(samples[peer], samples[build])
            yield Goal(case, build, f"≥ {bound:g} × {text}", bound, reached, at_most=False)
