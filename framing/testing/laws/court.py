"""What the laws are judged before: the decoder and the encoder under trial, and what has been found about them so far."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from framing.framers import Framer
from framing.testing.runs import MakeDecoder
from framing.testing.verdict import LawBroken, Verdict

__all__ = ["HELD", "LENT", "LONG", "MEMORY", "PLAIN_ERRORS", "Court", "crashed", "limited", "peak_of"]

LONG = 200
"""Streams above this size are not cut at each of their offsets, but at some of them."""

LENT = 1 << 16
"""The size of the buffer that a decoder lends, above which a frame is received in place."""

HELD = 1 << 17
"""Bytes that a decoder may hold whatever its limit: headers, trailers and escapes."""

MEMORY = 1 << 20
"""Bytes of memory that a decoder may use whatever it is told: the buffer that it lends, and errors."""

PLAIN_ERRORS = ("FrameTooLarge", "CorruptFrame", "TruncatedFrame")
"""The violations there are, by name."""


@dataclass(slots=True)
class Court:
    """What is judged, by which numbers, and what has been judged so far."""

    subject: str
    make: MakeDecoder
    encode: Callable[[Any], bytes]
    encode_many: Callable[[Any], bytes]
    seed: int
    examples: int
    checks: dict[int, int] = field(default_factory=dict[int, int])

    def verdict(self) -> Verdict:
        return Verdict(self.subject, self.seed, self.examples, dict(sorted(self.checks.items())))

    def holds(self, law: int) -> None:
        self.checks[law] = self.checks.get(law, 0) + 1

    def broken(
        self,
        law: int,
        reason: str,
        stream: bytes = b"",
        cuts: Iterable[int] = (),
        expected: Any = None,
        got: Any = None,
    ) -> NoReturn:
        raise LawBroken(
            law,
            reason,
            subject=self.subject,
            stream=stream,
            cuts=tuple(cuts),
            expected=expected,
            got=got,
            seed=self.seed,
            examples=self.examples,
        )


def crashed(error: tuple[Any, ...]) -> bool:
    """Whether what ended a stream is none of the violations there are."""
    return error[0] not in PLAIN_ERRORS


def limited(framer: Framer, max_frame: int) -> Framer | None:
    """The framer with another limit; None where its other options do not allow it."""
    try:
        return replace(framer, max_frame=max_frame)
    except (ValueError, TypeError):
        return None


def peak_of(call: Callable[[], Any]) -> tuple[int, Any]:
    """The most memory that ``call`` held at a time, in bytes, and what it returned."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        result = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not running:
            tracemalloc.stop()
    return peak - before, result
