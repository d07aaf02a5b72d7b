"""What the compiled twin makes it gives back, on every path: good frames, bad ones, refused arguments, lent buffers."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from random import Random

import pytest

from framing import Framer, StructHeader
from framing.testing.samples import accepted, corrupted, tokens
from tests.conformance.registry import FRAMERS
from tests.kernels.comparing import compare_decoders, decoders, native, needs_twin, outcome
from tests.kernels.twins import SPLITTERS, Splitter

ROUNDS = 30
LEAST = 1500
"""Less than this in so many rounds is nothing that grows: caches of the interpreter, a counter that became an object."""


def hold_level(work: Callable[[], object]) -> None:
    """Memory is the same behind many rounds as behind a few."""
    for _ in range(3):
        work()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(ROUNDS):
            work()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < LEAST


@needs_twin
@pytest.mark.parametrize("framer", [one for one in FRAMERS if not isinstance(one, StructHeader)], ids=repr)
def test_a_decoder_leaves_nothing_behind(framer: Framer) -> None:
    rng = Random(3)
    frames = [framer.encode(payload) for payload in accepted(framer, rng, 6)[:6]]
    bad = corrupted(rng, frames[0], tokens(framer))
    plan = [("feed", 3), ("read", 5), ("limit", 9), ("memoryview", 2), ("strided", 4), ("read", 70_000)]

    def work() -> None:
        for refusing in (False, True):
            compare_decoders(framer, refusing, b"".join(frames)[:400], plan)
            compare_decoders(framer, refusing, frames[-1] + bad + frames[0], plan)
            compiled, _ = decoders(framer, refusing)
            compiled.feed(frames[-1][:-1])
            compiled.get_buffer()

    hold_level(work)


@needs_twin
@pytest.mark.parametrize("twin", SPLITTERS, ids=lambda twin: twin.name)
def test_a_kernel_that_refuses_leaves_nothing_behind(twin: Splitter) -> None:
    compiled = getattr(native, twin.name)

    def work() -> None:
        for count in range(16):
            outcome(compiled, *[None] * count)
            outcome(compiled, *[b"x"] * count)

    hold_level(work)
