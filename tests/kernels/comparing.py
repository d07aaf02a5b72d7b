"""Hold a compiled twin against its reference: the same answers and the same errors, of one call and of a whole stream.

What is compared here is drawn by the tests, and by the fuzzer.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest
from hypothesis import strategies as st

from framing import DecodeError, Framer, FramingError
from framing.framers import Decoder
from framing.kernels.carry import Carry
from framing.testing.runs import describe
from tests.kernels.twins import SPLITTERS, Function, Splitter

__all__ = [
    "HOWS",
    "REQUIRED",
    "compare_call",
    "compare_carry",
    "compare_decoders",
    "compare_splitter",
    "exact",
    "native",
    "needs_twin",
    "outcome",
]

native: ModuleType | None
try:
    from framing.kernels import _native as native
except ImportError:
    native = None

REQUIRED = os.environ.get("FRAMING_REQUIRE_COMPILED") == "1"
"""Whether the twin has to be there: then a test that needs it is not skipped, but fails."""

needs_twin = pytest.mark.skipif(native is None and not REQUIRED, reason="the compiled twin is not built")

REFERENCES = {twin.name: twin.reference for twin in SPLITTERS}


class Odd(bytes):
    """A subclass: what is cut out of it is plain bytes."""


class OddArray(bytearray):
    """The same of a bytearray."""


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, with the types of the payloads, or what it raises."""
    try:
        answer = function(*arguments)
    except Exception as error:  # whatever it is, the twin has to raise the same
        return type(error), str(error)
    if isinstance(answer, tuple) and answer and isinstance(answer[0], list):
        return answer, list(map(type, answer[0])), list(map(type, answer))
    return answer, type(answer)


def compare_call(twin: Function | Splitter, *arguments: Any) -> None:
    """Under valgrind this is where each byte of an answer is looked at: one that was never written is an error then."""
    compiled, reference = outcome(getattr(native, twin.name), *arguments), outcome(twin.reference, *arguments)
    assert compiled == reference, f"{twin.name}{arguments!r}: {compiled!r}, and the reference: {reference!r}"


def compare_splitter(twin: Splitter, data: st.DataObject) -> None:
    """One stream of frames, good and bad, under some options; then as a decoder goes on, with the memo of fewer bytes."""
    options = data.draw(twin.options)
    # Where an option is a number, sizes around it are where the verdicts change.
    bounds = sorted({size + by for size in options if type(size) is int and 0 < size < 400 for by in (-1, 0, 1)})
    payloads = st.binary(max_size=20) | st.sampled_from([*bounds, 0, 200, 300]).map(lambda size: b"a" * size)
    frames = payloads.map(lambda payload: twin.frame(options, payload))
    pieces = frames | frames | frames | st.sampled_from(twin.tokens or (b"",)) | st.binary(max_size=6)
    stream = b"".join(data.draw(st.lists(pieces, max_size=8)))
    stream = stream[: max(0, len(stream) - data.draw(st.sampled_from([0, 0, 0, 1, 2, 5, 20])))]
    kind = data.draw(st.sampled_from([bytes, bytes, bytearray, Odd, OddArray]))
    limit = data.draw(st.sampled_from([0, 0, 0, 1, 2, 3, 1 << 70, -1]))
    start = data.draw(st.sampled_from([0, 0, 0, 1, 3, len(stream), len(stream) + 1, -1, 1 << 70]))
    memo = data.draw(st.none() | twin.memos)
    compare_call(twin, *options, kind(stream), start, memo, limit)
    size = data.draw(st.integers(0, len(stream)))
    compare_carry(twin, options, [stream[:size], stream[size:]])
    try:
        _, at, _, memo, _, fault = twin.reference(*options, stream[:size], 0, None, 0)
    except Exception:  # options that the reference refuses; that was compared above
        return
    if fault is None:
        compare_call(twin, *options, kind(stream), at, memo, limit)


def compare_carry(twin: Splitter, options: tuple[Any, ...], chunks: list[bytes]) -> None:
    """The kernel around which a carry is, where its input ends exactly where the memory does: one byte more is a wrong one."""
    assert native is not None
    compiled = native.carry_for(partial(getattr(native, twin.name), *options))
    reference = Carry(partial(twin.reference, *options))
    for chunk in chunks:
        expected = outcome(reference.take, exact(chunk))
        assert outcome(compiled.take, exact(chunk)) == expected, f"{twin.name}{options!r} of {chunk!r}"
        assert _state(compiled) == _state(reference), f"{twin.name}{options!r} of {chunk!r}"
        if reference.fault is not None:
            return


def _state(carry: Any) -> tuple[Any, ...]:
    held = carry.held()
    need = carry.need if held else 0  # of no bytes: nobody asks how many more there must be
    return held, need, carry.memo, carry.offset, carry.skipped, carry.fault, carry.head


# ---------------------------------------------------------------------------------------------- a whole stream

HOWS = ("feed", "exact", "exact", "bytearray", "memoryview", "strided", "read", "limit", "empty")
"""How a chunk is given to a decoder."""


def refuse(payload: bytes) -> bytes:
    """An unwrap that refuses some payloads: those of an odd first byte, and the empty one."""
    if not payload or payload[0] % 2:
        raise DecodeError("it is odd")
    return payload


def decoders(framer: Framer, refusing: bool) -> tuple[Decoder[bytes], Decoder[bytes]]:
    """A decoder with the compiled carry and kernel, where there are such, and one with the references."""
    assert native is not None
    unwrap = refuse if refusing else None
    compiled, reference = Decoder(framer, unwrap), Decoder(framer, unwrap)
    split: Any = reference._split
    if isinstance(split, partial) and split.func.__name__ in REFERENCES:
        name = sys.intern(split.func.__name__)  # a new string each time would stay in the interpreter's caches
        compiled._split = partial(getattr(native, name), *split.args)
        reference._split = partial(REFERENCES[name], *split.args)
    compiled._carry = native.carry_for(compiled._split)
    reference._carry = Carry(reference._split)
    return compiled, reference


def compare_decoders(framer: Framer, refusing: bool, stream: bytes, plan: list[tuple[str, int]]) -> None:
    """Give the stream to both as the plan says, (how, how much) again and again, and what is left of it at once."""
    compiled, reference = decoders(framer, refusing)
    for how, size in [*plan, ("feed", len(stream))]:
        chunk = b"" if how == "empty" else stream[:size]
        stream = stream[len(chunk) :]
        if how == "read":
            assert _read(compiled, chunk) == _read(reference, chunk)
        else:
            limit = 1 + size % 3 if how == "limit" else 0
            expected = _attempt(reference.feed, _given_as(how, chunk), limit)
            assert _attempt(compiled.feed, _given_as(how, chunk), limit) == expected
        assert _observed(compiled) == _observed(reference)
    for _ in range(4):
        assert _attempt(compiled.feed_eof) == _attempt(reference.feed_eof)
        assert _observed(compiled) == _observed(reference)


def _observed(decoder: Decoder[bytes]) -> tuple[Any, ...]:
    error = describe(decoder.error) if decoder.error is not None else None
    return decoder.idle, decoder.buffered, decoder.unconsumed, decoder.pending, decoder.inside, decoder.skipped, error


def _attempt(function: Any, *arguments: Any) -> Any:
    try:
        got = function(*arguments)
    except (FramingError, ValueError) as error:
        return describe(error)
    assert all(type(payload) is bytes for payload in got)
    return got


def _read(decoder: Decoder[bytes], chunk: bytes) -> Any:
    """Receive a chunk into the lent buffers. How much is lent each time is the carry's own business."""
    results: list[Any] = []
    while chunk:
        try:
            lent = decoder.get_buffer()
        except FramingError as error:
            return [*results, *describe(error)]
        part, chunk = chunk[: len(lent)], chunk[len(lent) :]
        lent[: len(part)] = part
        results += _attempt(decoder.buffer_updated, len(part))
    return results


def exact(chunk: bytes) -> array[int]:
    """The chunk in memory of its own that ends where it does; bytes and bytearray have a byte behind their last."""
    return array("B", chunk)[:]  # the slice: what is made of bytes has room to grow


def _given_as(how: str, chunk: bytes) -> Any:
    if how == "exact":
        return exact(chunk)
    if how == "bytearray":
        return bytearray(chunk)
    if how == "memoryview":
        return memoryview(chunk)
    if how == "strided":
        return memoryview(bytes(byte for byte in chunk for _ in range(2)))[::2]
    return chunk
