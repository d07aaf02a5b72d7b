"""Messages: a wire's framer and codec together, beside the codec alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from benchmarks.builds import builds
from benchmarks.native import floor
from benchmarks.results import Benchmark, Goal, Result, Settings, at_most
from benchmarks.streams import Stream
from benchmarks.timing import interleaved

__all__ = ["BENCHMARKS"]

ALONE = "floor + msgspec alone"


def _messages(count: int) -> list[dict[str, Any]]:
    return [{"id": index, "user": "alice", "tags": ["new", "vip"], "score": 0.5} for index in range(count)]


def _codecs(settings: Settings) -> Iterator[Result]:
    """CPU time from chunks of 64 KiB to dicts, and from dicts to one `bytes`. The floor is what msgspec costs by
    itself, with one Encoder or Decoder kept and called from C (`map`), behind the floor that makes its payloads, or
    before `b"".join`. Unfair would be: another library for the floor, or a typed Struct on one side only.
    """
    case = "u32 + MessagePack or JSON of a small dict"
    given = _messages(settings.scaled(10_000, 100))
    modules: dict[str, Any] = {"MessagePack": msgspec.msgpack, "JSON": msgspec.json}
    for name, module in modules.items():
        encode, decode = module.Encoder().encode, module.Decoder().decode
        bodies = list(map(encode, given))
        frames = [len(body).to_bytes(4, "big") + body for body in bodies]
        stream = Stream.of(bodies, frames, 4, 1 << 16)
        make = floor(stream.data, stream.spans, stream.counts())

        def decode_alone(make: Any = make, decode: Any = decode) -> None:
            deque((list(map(decode, batch)) for batch in make()), maxlen=0)

        def encode_alone(encode: Any = encode) -> bytes:
            return b"".join(map(encode, given))

        decoding: dict[str, Callable[[], object]] = {ALONE: decode_alone}
        encoding: dict[str, Callable[[], object]] = {ALONE: encode_alone}
        for build in builds():
            wire = build.framing.Wire(build.framing.LengthPrefixed(4), getattr(build.framing, name)())
            assert [one for batch in map(wire.decoder().feed, stream.chunks) for one in batch] == given
            assert wire.encode_many(given) == stream.data
            decoding[build.name] = lambda wire=wire, chunks=stream.chunks: deque(
                map(wire.decoder().feed, chunks), maxlen=0
            )
            encoding[build.name] = lambda wire=wire: wire.encode_many(given)
        for doing, contenders in (("decode", decoding), ("encode", encoding)):
            samples = interleaved(contenders, len(given), settings.rounds)
            goals: list[Goal] = list(
                at_most(f"{case}: {doing}", samples, ALONE, (1.25, 1.8), "(floor + msgspec alone)")
            )
            size = round(len(stream.data) / len(given)) - 4
            title = f"{doing} u32 + {name}, a dict of {size} B"
            yield Result(title=title, unit="ns a message", samples=samples, goals=goals)


BENCHMARKS = [
    Benchmark(name="messages", run=_codecs),
]
