"""Payloads and streams: the same for every contender, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Stream", "chunked", "payloads"]

WORD = bytes(range(97, 123))


def payloads(least: int, most: int, count: int) -> list[bytes]:
    """Lower-case letters, which every framer can carry, of ``least`` to ``most`` bytes."""
    chance = random.Random(most * 1_000_003 + least)
    letters = WORD * (most // len(WORD) + 2)
    made = []
    for _ in range(count):
        size = chance.randint(least, most)
        begin = chance.randrange(len(WORD))
        made.append(letters[begin : begin + size])
    return made


def chunked(stream: bytes, size: int) -> list[bytes]:
    """``stream`` cut at every ``size`` bytes, wherever that is in a frame."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream, its chunks, and where its payloads are."""

    data: bytes
    chunks: list[bytes]
    payloads: list[bytes]
    spans: list[tuple[int, int]]

    @classmethod
    def of(cls, payloads: list[bytes], frames: Sequence[bytes], header: int, chunk: int) -> Stream:
        """``frames`` hold ``payloads`` behind ``header`` bytes each."""
        data = b"".join(frames)
        spans = []
        at = 0
        for payload, frame in zip(payloads, frames, strict=True):
            spans.append((at + header, len(payload)))
            at += len(frame)
        return cls(data, chunked(data, chunk), payloads, spans)

    def counts(self, trailer: int = 0) -> list[int]:
        """How many frames, of ``trailer`` bytes behind the payload, each chunk completes."""
        counts = [0] * len(self.chunks)
        size = len(self.chunks[0])
        for begin, length in self.spans:
            counts[(begin + length + trailer - 1) // size] += 1
        return counts
