"""Law 1: however a stream is cut into chunks, the same comes of it, at the same byte."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from framing.framers import Framer
from framing.testing.laws.court import LENT, LONG, Court
from framing.testing.runs import WAYS, Outcome, Run, chunked, run, same
from framing.testing.samples import of_size

__all__ = ["cuts", "large_frames"]


def cuts(court: Court, streams: Sequence[bytes], rng: Random) -> None:
    """Every stream whole, byte by byte, in two at each place, in several, and given in each way."""
    for stream in streams:
        whole = run(court.make, [stream])
        every = (
            range(1, len(stream)) if len(stream) <= 4 * LONG else sorted(rng.sample(range(1, len(stream)), 2 * LONG))
        )
        drip = run(court.make, chunked(stream, every))
        _agree(court, stream, every, whole, drip, None, "fed byte by byte")
        reached = dict(zip(every, drip.progress, strict=False))
        ends = reached[every[len(drip.progress) - 1]] if drip.progress and len(drip.progress) <= len(every) else None
        at_end = drip.progress[-1] if drip.progress else 0
        points = every if len(stream) <= LONG else sorted(rng.sample(every, 30))
        for at in points:
            split = run(court.make, chunked(stream, (at,)))
            _agree(court, stream, (at,), whole, split, [reached.get(at, ends or at_end)], "fed in two chunks")
        for way in WAYS:
            for cuts in (
                (),
                every if len(stream) <= LONG else points,
                _random_cuts(stream, rng),
                _random_cuts(stream, rng),
            ):
                other = run(court.make, chunked(stream, cuts), way)
                how = {"buffer": "received through get_buffer", "limit": "fed with limit=1"}.get(way, f"fed as {way}")
                _agree(court, stream, cuts, whole, other, None, how.replace("as feed", "in several chunks"))


def _random_cuts(stream: bytes, rng: Random) -> tuple[int, ...]:
    """Some cuts, some of them twice: that is an empty chunk."""
    return tuple(sorted(rng.choices(range(len(stream) + 1), k=rng.randrange(1, 8))))


def _agree(
    court: Court,
    stream: bytes,
    cuts: Sequence[int],
    whole: Run,
    other: Run,
    progress: list[int] | None,
    how: str,
) -> None:
    if not same(whole.outcome, other.outcome):
        court.broken(1, f"{how} the stream gives something else than whole", stream, cuts, whole.outcome, other.outcome)
    if progress is not None and list(other.progress[: len(progress)]) != progress:
        reason = f"{how}: events that the first chunk completes come at another byte than byte by byte"
        court.broken(1, reason, stream, cuts, progress, list(other.progress[: len(progress)]))
    court.holds(1)


def large_frames(court: Court, framer: Framer, rng: Random) -> None:
    """A frame larger than the buffer that a decoder lends, which is received in place."""
    payload = of_size(framer, min(framer.max_frame, 5 * LENT // 2))
    if payload is None or len(payload) < LENT:
        return
    stream = court.encode(payload) * 2
    whole = run(court.make, [stream])
    expected = Outcome((payload, payload), None, 0, b"")
    if not same(whole.outcome, expected):
        court.broken(2, "a large payload is sent twice", stream, (), "the same twice", "something else")
    for way in WAYS:
        cuts = sorted(rng.sample(range(1, len(stream)), 9))
        if not same(run(court.make, chunked(stream, cuts), way).outcome, expected):
            court.broken(
                1, f"a large frame, given by {way}, in ten chunks", stream, cuts, "the same twice", "something else"
            )
        court.holds(1)
