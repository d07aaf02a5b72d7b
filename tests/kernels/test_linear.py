"""What a compiled decoder costs is linear: the laws count bytes in Python, where native code goes past the counting.

So here it is measured, in CPU time, with sizes so far apart that a quadratic cost would stand out on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from framing import (
    COBS,
    HDLC,
    SLIP,
    ContentLength,
    Delimited,
    FixedSize,
    Framer,
    FramingError,
    LengthField,
    LengthPrefixed,
    Lines,
    Netstring,
    RecordMarked,
    VarintPrefixed,
)
from tests.kernels.comparing import needs_twin

LIMIT = 1 << 24
TIMES = 16
"""How much larger the larger stream is: a linear cost is so much more, a quadratic one the square of it."""

FRAMERS = [
    LengthPrefixed(4, max_frame=LIMIT),
    VarintPrefixed(max_frame=LIMIT),
    LengthField(4, max_frame=LIMIT),
    RecordMarked(max_frame=LIMIT),
    Netstring(max_frame=LIMIT),
    ContentLength(max_frame=LIMIT),
    Lines(max_frame=LIMIT),
    Lines(newline=b"\r\n", max_frame=LIMIT),
    Delimited(b"\r\n.\r\n", max_frame=LIMIT),
    Delimited(b"\x1c\r", b"\x1d", start=b"\x0b", max_frame=LIMIT),
    COBS(max_frame=LIMIT),
    SLIP(max_frame=LIMIT),
    HDLC(max_frame=LIMIT),
]


def cost(framer: Framer, chunks: Sequence[bytes]) -> int:
    """The least CPU time of a few tries, in nanoseconds."""
    tries = []
    for _ in range(3):
        decoder = framer.decoder()
        begin = time.process_time_ns()
        try:
            for chunk in chunks:
                decoder.feed(chunk)
        except FramingError:
            pass
        tries.append(time.process_time_ns() - begin)
    return min(tries)


def chunked(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def hold_linear(framer: Framer, few: Sequence[bytes], many: Sequence[bytes]) -> None:
    small, large = cost(framer, few), cost(framer, many)
    # The clock of some systems is coarse: what takes no time at all is linear, too.
    assert large < max(4 * TIMES * small, 20_000_000), f"{small} ns, and {large} for {TIMES} times as much"


def framed(framer: Framer, size: int) -> bytes:
    if isinstance(framer, LengthField):
        return framer.encode(size.to_bytes(4) + b"a" * size)
    return framer.encode(b"a" * size)


@needs_twin
@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_many_frames_in_one_chunk(framer: Framer) -> None:
    stream = framed(framer, 8) * 1000
    hold_linear(framer, [stream], [stream * TIMES])


@needs_twin
@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
@pytest.mark.parametrize(("chunk", "size"), [(7, 7000), (1000, 250_000)])  # all of it within the processor's caches
def test_one_frame_in_small_chunks(framer: Framer, chunk: int, size: int) -> None:
    hold_linear(framer, chunked(framed(framer, size), chunk), chunked(framed(framer, TIMES * size), chunk))


@needs_twin
@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
@pytest.mark.parametrize("letter", [b"\r", b"\n", b"\x00", b"\x0b", b"\x1c", b"\x7d", b"\xdb", b"\x01"])
def test_one_byte_over_and_over(framer: Framer, letter: bytes) -> None:
    opening = framed(framer, 3)[:1]
    stream = opening + letter * 4000
    hold_linear(framer, chunked(stream, 3), chunked(stream * TIMES, 3))
    hold_linear(framer, [stream], [opening + letter * (4000 * TIMES)])


@needs_twin
def test_frames_of_fixed_size_in_small_chunks() -> None:
    framer = FixedSize(64)
    stream = bytes(64 * 500)
    hold_linear(framer, chunked(stream, 5), chunked(stream * TIMES, 5))
