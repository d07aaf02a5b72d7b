"""Encoding: from payloads to one bytes object with all their frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.builds import builds
from benchmarks.peers import encoders
from benchmarks.results import Benchmark, Result, Settings, at_least, at_most
from benchmarks.streams import payloads
from benchmarks.timing import interleaved

__all__ = ["BENCHMARKS"]

JOIN = 'b"".join of the payloads'


def _many(settings: Settings) -> Iterator[Result]:
    """CPU time from a list of 10,000 payloads to one `bytes` with all their frames, ready for one write. All must give
    the same bytes; msgpack's Packer gives its own frames. The floor is `b"".join` of the payloads alone: C, and
    without headers. Unfair would be: to hold it against a peer that writes to a socket for each frame; Twisted's
    transport here only collects.
    """
    case = "encode_many, 16–64 B payloads"
    for least, most in ((16, 16), (64, 64), (16, 64)):
        given = payloads(least, most, settings.scaled(10_000, 200))
        expected = encoders.by_hand(given)
        contenders: dict[str, Callable[[], object]] = {JOIN: lambda given=given: b"".join(given)}
        skipped = {}
        for build in builds():
            framer = build.framing.LengthPrefixed(4)
            assert framer.encode_many(given) == expected
            contenders[build.name] = lambda framer=framer, given=given: framer.encode_many(given)
        for name, encode in (encoders.U32 | encoders.OWN).items():
            try:
                made = encode(given)
            except ImportError as error:
                skipped[name] = f"not installed: {error.name}"
                continue
            assert name in encoders.OWN or made == expected, f"{name} gives other frames"
            contenders[name] = lambda encode=encode, given=given: encode(given)
        samples = interleaved(contenders, len(given), settings.rounds)
        goals = [
            *at_most(case, samples, JOIN, (2.5, 10), JOIN),
            *at_least(case, samples, list(encoders.U32), (8, None), "the best plain Python peer"),
        ]
        size = f"{least} B" if least == most else f"{least} to {most} B"
        title = f"encode u32, a batch of {size} payloads"
        yield Result(title=title, unit="ns a frame", samples=samples, goals=goals, skipped=skipped)


BENCHMARKS = [
    Benchmark(name="encode", run=_many),
]
