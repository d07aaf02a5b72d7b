"""Figures for people: the comparisons, and the table of targets with what was reached beside each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from benchmarks.builds import COMPILED, PLAIN
from benchmarks.results import Goal, Result
from benchmarks.timing import spread

__all__ = ["Row", "comparison", "number", "rows", "table"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a case, and a goal of each build; None where it has none, or was not measured."""

    case: str
    compiled: Goal | None
    plain: Goal | None


def _worse(one: Goal, other: Goal) -> Goal:
    return max(one, other, key=lambda goal: goal.reached if goal.at_most else -goal.reached)


def rows(results: Iterable[Result]) -> list[Row]:
    """Every goal of every case, once, with the worst that was reached."""
    worst: dict[tuple[str, str, str], Goal] = {}
    for result in results:
        for goal in result.goals:
            key = (goal.case, goal.build, goal.text)
            worst[key] = _worse(worst[key], goal) if key in worst else goal
    made = []
    for case in dict.fromkeys(case for case, _, _ in worst):
        compiled = [goal for goal in worst.values() if (goal.case, goal.build) == (case, COMPILED)]
        plain = [goal for goal in worst.values() if (goal.case, goal.build) == (case, PLAIN)]
        made += [Row(case, one, other) for one, other in zip_longest(compiled, plain)]
    return made


def number(value: float) -> str:
    """Three digits that matter."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cells(row: Row) -> list[str]:
    made = [row.case]
    for goal in (row.compiled, row.plain):
        if goal is None:
            made += ["", ""]
        else:
            made += [goal.text, f"{number(goal.reached)} {goal.unit}{'' if goal.met else ' MISSED'}"]
    return made


def _columns(lines: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        parts = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(parts).rstrip()


def table(found: Sequence[Row]) -> str:
    """The table of targets: each with what was reached, and MISSED where that is not enough."""
    head = ["case", "target, compiled", "reached", "target, plain Python", "reached"]
    lines = [head]
    before = None
    for row in found:
        shown = cells(row)
        lines.append([shown[0] if row.case != before else "", *shown[1:]])
        before = row.case
    goals = [goal for row in found for goal in (row.compiled, row.plain) if goal is not None]
    missed = sum(not goal.met for goal in goals)
    return "\n".join([*_columns(lines), "", f"{len(goals)} targets, {len(goals) - missed} met, {missed} missed"])


def comparison(result: Result) -> str:
    """One comparison: median, quartiles, and the ratio to the first of ours."""
    lines = [f"\n{result.title}: {result.unit}"]
    ours = next((name for name in result.samples if name.startswith(COMPILED)), None)
    if result.samples:
        extra = [result.also[0]] if result.also else []
        body = [["", "median", "quartiles", f"× {ours}" if ours else "", *extra]]
        for name, values in result.samples.items():
            median, low, high = spread(values)
            ratio = number(median / spread(result.samples[ours])[0]) if ours else ""
            column = [result.also[1].get(name, "")] if result.also else []
            body.append([name, number(median), f"{number(low)} to {number(high)}", ratio, *column])
        lines += [f"  {line}" for line in _columns(body, frozenset({1, 3, 4}))]
    lines += [f"  skipped: {name}: {reason}" for name, reason in result.skipped.items()]
    if result.note:
        lines.append(f"  {result.note}")
    return "\n".join(lines)
