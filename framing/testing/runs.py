"""Run a stream through a decoder in one way or another, and note all that came of it.

The ways differ only in what the first law says must not matter: where the stream is cut, what type the chunks have,
whether they are fed or read into the decoder's own buffer, and whether a limit stops each call after one message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

from framing.errors import DecodeError, FramingError
from framing.framers import Decoder

__all__ = ["WAYS", "MakeDecoder", "Outcome", "Refused", "Run", "chunked", "describe", "run", "same"]

MakeDecoder: TypeAlias = Callable[[], Decoder[Any]]

WAYS = ("feed", "bytearray", "memoryview", "buffer", "limit")
"""How chunks are given: as bytes, as other buffers, through `get_buffer`, or with ``limit=1``."""

_MOST_CALLS = 1 << 20


@dataclass(frozen=True, slots=True)
class Refused:
    """A payload that a layer or codec refused, at its place among the messages."""

    numbers: tuple[Any, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """What a whole stream came to.

    ``events`` are the messages, with `Refused` between them; ``error`` is what ended it, None for a clean end;
    ``skipped`` how many frames were; ``residue`` the bytes that were held when the stream ended.
    """

    events: tuple[Any, ...]
    error: tuple[Any, ...] | None
    skipped: int
    residue: bytes

    def __repr__(self) -> str:
        shown = list(self.events)
        end = "a clean end" if self.error is None else f"{self.error[0]}({', '.join(map(repr, self.error[1:]))})"
        return f"{shown!r}, then {end}; skipped {self.skipped}, held {self.residue!r}"


@dataclass(frozen=True, slots=True)
class Run:
    """An outcome, and how far it had come behind each chunk: the number of events, and one more for an error."""

    outcome: Outcome
    progress: tuple[int, ...]


def chunked(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """``stream`` cut at the offsets ``cuts``, which are in order; the same offset twice makes an empty chunk."""
    edges = [0, *cuts, len(stream)]
    return [stream[begin:end] for begin, end in pairwise(edges)]


def describe(error: BaseException) -> tuple[Any, ...]:
    """All that an error says, so that two can be compared whole."""
    numbers = tuple(getattr(error, name, None) for name in ("offset", "expected", "got", "head"))
    return (type(error).__name__, *numbers, str(error))


def same(one: Any, other: Any) -> bool:
    """Whether two messages are equal and of the same types all through; NaN is the same as NaN.

    A tuple may arrive as a list, as the codecs document it: that is the one thing which is not asked.
    """
    if _is(one, list, tuple) and _is(other, list, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is not type(other):
        return False
    if _is(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if _is(one, float):
        return repr(one) == repr(other)
    named = _named(one)
    if named:
        return all(same(getattr(one, name), getattr(other, name)) for name in named)
    return bool(one == other)


def _named(value: Any) -> tuple[str, ...]:
    """The fields of a dataclass or a msgspec.Struct that are compared, for each of them may hold a NaN."""
    if is_dataclass(value):
        return tuple(one.name for one in fields(value) if one.compare)
    return tuple(getattr(value, "__struct_fields__", ()))


def _is(value: Any, *kinds: type) -> bool:
    """As isinstance, which would leave a type checker with a value that is half known."""
    return isinstance(value, kinds)


def run(make: MakeDecoder, chunks: Sequence[bytes], way: str = "feed") -> Run:
    """Feed ``chunks``, then the end of the stream; note what comes. An error outside the hierarchy is noted as well."""
    decoder = make()
    events: list[Any] = []
    error: tuple[Any, ...] | None = None
    progress: list[int] = []

    def take(call: Callable[[], list[Any]]) -> bool:
        """Whether the stream goes on."""
        nonlocal error
        try:
            events.extend(call())
        except DecodeError as refused:
            events.append(Refused(describe(refused)))
        except FramingError as violation:
            error = describe(violation)
        except MemoryError:
            raise
        except Exception as crash:  # noqa: BLE001 -- whatever a framer of somebody's raises is what is looked for
            error = describe(crash)
        if error is None and decoder.error is not None:
            error = describe(decoder.error)
        return error is None

    def drain(limit: int) -> None:
        calls = 0
        while error is None and decoder.pending and calls < _MOST_CALLS:
            calls += 1
            take(partial(decoder.feed, b"", limit))

    limit = 1 if way == "limit" else 0
    for chunk in chunks:
        if way == "buffer":
            _fill(decoder, chunk, take)
        else:
            take(partial(decoder.feed, _given(chunk, way), limit))
        drain(limit)
        progress.append(len(events) + (error is not None))
        if error is not None:
            break
    residue = decoder.unconsumed if error is None else b""
    calls = 0
    while error is None and calls < _MOST_CALLS:
        before = len(events)
        take(decoder.feed_eof)
        if len(events) == before:
            break
        calls += 1
    return Run(Outcome(tuple(events), error, decoder.skipped, residue), tuple(progress))


def _given(chunk: bytes, way: str) -> bytes | bytearray | memoryview:
    if way == "bytearray":
        return bytearray(chunk)
    return memoryview(chunk) if way == "memoryview" else chunk


def _fill(decoder: Decoder[Any], chunk: bytes, take: Callable[[Callable[[], list[Any]]], bool]) -> None:
    """Give a chunk as a driver does: into the buffer that the decoder lends, as much at a time as it holds."""
    at = 0
    while True:
        if decoder.error is not None:
            return
        lent = decoder.get_buffer()
        part = chunk[at : at + len(lent)]
        lent[: len(part)] = part
        at += len(part)
        if not take(partial(decoder.buffer_updated, len(part))) or at >= len(chunk):
            return
