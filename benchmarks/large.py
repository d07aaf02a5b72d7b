"""Large frames in small pieces: whether the cost is linear, and against whom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from benchmarks.builds import COMPILED, PLAIN, builds
from benchmarks.peers import decoders
from benchmarks.peers.decoders import Decode
from benchmarks.results import Benchmark, Goal, Result, Settings, at_least
from benchmarks.streams import WORD, chunked
from benchmarks.timing import Samples

__all__ = ["BENCHMARKS"]

GROWTH = 2
"""How much larger the large frame is than the small one: little enough that both are as far beyond the caches."""

STEP = 4
"""How much larger a frame a peer is given next."""

LINEAR = 1.5
"""Cost a byte may grow so much from the small frame to the large one: a quadratic cost would grow by `GROWTH`."""


QUADRATIC = 3
"""Whose cost a byte grows so much in two steps, one after the other, is quadratic: it would be `STEP` times in each."""

MOST_NS = 2e9
"""Who would take longer for a larger frame is timed with no larger one."""


def _timed(call: Callable[[], int], size: int) -> float:
    """CPU nanoseconds a byte, where the call gave all of them."""
    begin = time.process_time_ns()
    given = call()
    took = time.process_time_ns() - begin
    assert given == size, f"{given} bytes instead of {size}"
    return took / size


def _ours(framer: Any, chunks: Any) -> int:
    return sum(len(one) for batch in map(framer.decoder().feed, chunks) for one in batch)


def _theirs(decode: Decode, chunks: list[bytes]) -> int:
    return sum(len(one) for batch in decode(chunks) for one in batch)


def _climbed(decode: Decode, chunks: Callable[[int], list[bytes]], size: int) -> int | str:
    """The largest frame, up to ``size``, that a peer takes in time; or that it is quadratic, and how much so."""
    before = grown = math.inf
    for step in (size // STEP**power for power in range(4, -1, -1)):
        pieces = chunks(step)
        after = _timed(lambda pieces=pieces: _theirs(decode, pieces), step)
        # Twice, for once may be the end of a cache; and not below some milliseconds, which may be noise.
        if after > QUADRATIC * before and before > QUADRATIC * grown and after * step > 1e7:
            return f"quadratic: {before:.3g} ns a byte of {step // STEP:,} B, {after:.3g} of {step:,} B"
        grown, before = before, after
        if after * step * STEP > MOST_NS:
            return step
    return size


def _measure(
    settings: Settings,
    title: str,
    size: int,
    mine: Callable[[Any], Any],
    chunks: Callable[[int], list[bytes]],
    peers: dict[str, Decode],
    rounds: int,
) -> Result:
    small = size // GROWTH
    few, many = chunks(small), chunks(size)
    calls: dict[str, tuple[Callable[[], int], int]] = {}
    halves: dict[str, Callable[[], int]] = {}
    skipped: dict[str, str] = {}
    notes: list[str] = []
    for build in builds():
        framer = mine(build.framing)
        calls[build.name] = (lambda framer=framer: _ours(framer, many)), size
        halves[build.name] = lambda framer=framer: _ours(framer, few)
    for name, decode in peers.items():
        try:
            _theirs(decode, chunks(1))  # what is imported when it is first called is not a byte's cost
        except ImportError as error:
            skipped[name] = f"not installed: {error.name}"
            continue
        reached = _climbed(decode, chunks, size)
        if isinstance(reached, str):
            skipped[name] = reached
            continue
        pieces = many if reached == size else chunks(reached)
        calls[name] = (lambda decode=decode, pieces=pieces: _theirs(decode, pieces)), reached
        if reached < size:
            notes.append(f"{name} was timed with {reached:,} B, for more would take too long.")
    samples: Samples = {name: [] for name in calls}
    little: Samples = {name: [] for name in halves}
    order = list(calls.items())
    for _ in range(1 if settings.quick else rounds):
        for name, (call, length) in order:
            samples[name].append(_timed(call, length))
            if name in halves:
                little[name].append(_timed(halves[name], small))
        order.reverse()
    growth = {name: min(samples[name]) / min(little[name]) for name in halves}
    case = title
    goals = [
        Goal(
            case,
            build,
            f"linear: a byte costs ≤ {LINEAR} × as much in a frame twice as large",
            LINEAR,
            reached,
            True,
        )
        for build, reached in growth.items()
    ]
    goals += at_least(
        case, samples, [name for name in samples if name not in (COMPILED, PLAIN)], (1, None), "the fastest peer"
    )
    return Result(title=title, unit="ns a byte", samples=samples, goals=goals, skipped=skipped, note=" ".join(notes))


def _frame(settings: Settings) -> Iterator[Result]:
    """CPU time a byte for one frame of 16 MiB that comes in 16,384 pieces, and whether a frame half as large
    costs as much a byte. construct is left out: it parses only what is whole. Peers climb to that size in steps of
    four: one whose cost a byte triples in two steps in a row is called quadratic, and one that would take seconds stays below,
    which is said then.
    """
    size = settings.scaled(16 << 20, 1 << 16)

    def stream(size: int) -> list[bytes]:
        return chunked(size.to_bytes(4, "big") + WORD * (size // len(WORD)) + WORD[: size % len(WORD)], 1 << 10)

    peers = {name: peer for name, peer in decoders.U32.items() if name != "construct"}
    yield _measure(
        settings,
        "one 16 MiB frame in 1 KiB chunks",
        size,
        lambda framing: framing.LengthPrefixed(4, max_frame=1 << 30),
        stream,
        peers,
        rounds=3,
    )


def _line(settings: Settings) -> Iterator[Result]:
    """CPU time a byte for one line of 10 MiB that comes byte by byte: the call is all there is. asyncio's, anyio's and
    tornado's streams pay for a turn of the event loop for each byte, as they would on a socket.
    """
    size = settings.scaled(10 << 20, 1 << 12)
    yield _measure(
        settings,
        "a 10 MiB line byte by byte",
        size,
        lambda framing: framing.Lines(max_frame=1 << 30),
        lambda size: [*repeat(b"x", size), b"\n"],
        {name: peer for name, peer in decoders.LINES.items() if name != "Twisted LineReceiver"},
        rounds=3,
    )


BENCHMARKS = [
    Benchmark(name="large-frame", run=_frame),
    Benchmark(name="dripped-line", run=_line),
]
