"""What the strangers' tests share: random payloads and cuts, our side of a conversation, and a count of bytes copied.

Independent of `framing.testing` on purpose: a kit that were wrong could not be found out by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from framing import Framer, Violation

judged = settings(deadline=None, max_examples=60)
"""Enough examples to meet the edges, few enough that the whole directory takes seconds; clocks are not judged here."""

chunk_sizes = st.lists(st.integers(1, 48), min_size=1, max_size=6)
"""How a stream is cut: the sizes are used over and over."""

payload_lists = st.lists(st.binary(max_size=200), max_size=8)


def chunked(stream: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = index = 0
    while at < len(stream):
        size = sizes[index % len(sizes)]
        yield stream[at : at + size]
        at += size
        index += 1


def verdict(
    framer: Framer, stream: bytes, sizes: Sequence[int] = (1 << 30,)
) -> tuple[list[bytes], type[Violation] | None]:
    """What our decoder makes of the whole stream and its end: the payloads, and the violation behind them."""
    decoder = framer.decoder()
    payloads: list[bytes] = []
    try:
        for chunk in chunked(stream, sizes):
            payloads += decoder.feed(chunk)
        payloads += decoder.feed_eof()
        assert decoder.feed_eof() == []
    except Violation as error:
        return payloads, type(error)
    return payloads, None


def received(framer: Framer, stream: bytes, sizes: Sequence[int] = (1 << 30,)) -> list[bytes]:
    """The payloads of a stream that must be right to its end."""
    payloads, error = verdict(framer, stream, sizes)
    assert error is None, error
    return payloads


class Tally(bytes):
    """Bytes that count how many of them are copied or searched by ``+``, slices and ``split``, by whoever holds them."""

    copied = 0

    def __add__(self, other: bytes) -> Tally:
        Tally.copied += len(self) + len(other)
        return Tally(bytes(self) + bytes(other))

    def __radd__(self, other: bytes) -> Tally:
        Tally.copied += len(self) + len(other)
        return Tally(bytes(other) + bytes(self))

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        part = Tally(super().__getitem__(key))
        Tally.copied += len(part)
        return part

    def split(self, *args: Any) -> list[bytes]:
        Tally.copied += len(self)
        return [Tally(part) for part in super().split(*args)]


def growth(
    feed_to_new: Callable[[bytes], Callable[[bytes], object]], stream: Callable[[int], bytes], size: int, chunk: int
) -> float:
    """How many times more bytes a peer copies for a stream of twice the size: 2 where its cost is linear, 4 where square.

    ``feed_to_new`` makes a new peer (it is told the stream, for limits) and returns its feed.
    """
    counts = []
    for length in (size, 2 * size):
        data = stream(length)
        feed = feed_to_new(data)
        Tally.copied = 0
        for part in chunked(data, [chunk]):
            feed(Tally(part))
        counts.append(Tally.copied)
    return counts[1] / counts[0]
