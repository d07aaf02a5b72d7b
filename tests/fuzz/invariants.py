"""What must hold for any bytes at all. Each function takes a fuzzer's input and raises where the library breaks its word.

The fuzzer looks for inputs that reach new code; the corpus of such inputs is in the repository, and `test_corpus` runs it
through the same functions as ordinary tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framing import DecodeError, EncodeError, Framer, SpecError, Violation, Wire
from framing.framers import Decoder
from tests.conformance.registry import FRAMERS, WIRES
from tests.kernels.comparing import HOWS, compare_call, compare_decoders, compare_splitter, native
from tests.kernels.twins import FUNCTIONS, SPLITTERS

Outcome = tuple[list[Any], tuple[type[Exception], str, dict[str, Any]] | None, int]


def receive(decoder: Decoder[Any], chunks: Sequence[bytes], limit: int = 0) -> Outcome:
    """All that comes of a stream cut so: what was delivered (refusals in their places), the violation, what was skipped."""
    events: list[Any] = []
    received = 0

    def turn(step: Callable[[], list[Any]]) -> bool:
        try:
            got = step()
        except DecodeError as error:
            events.append((type(error), str(error), error.offset))
            return True
        events.extend(got)
        assert decoder.buffered == len(decoder.unconsumed) <= received
        if decoder.error is not None:
            raise decoder.error
        return bool(got)

    try:
        for chunk in chunks:
            received += len(chunk)
            turn(lambda chunk=chunk: decoder.feed(chunk, limit))
            while decoder.pending:
                turn(lambda: decoder.feed(b"", limit))
        while turn(decoder.feed_eof):
            pass
    except Violation as error:
        assert decoder.error is error
        return events, (type(error), str(error), dict(vars(error))), decoder.skipped
    return events, None, decoder.skipped


def cut(stream: bytes, positions: Sequence[int]) -> list[bytes]:
    marks = [0, *sorted(position % (len(stream) + 1) for position in positions), len(stream)]
    return [stream[a:b] for a, b in pairwise(marks)]


def framers(data: bytes) -> None:
    """Cuts change nothing, nothing above the limit is delivered, and what an encoder takes comes back."""
    if len(data) < 2:
        return
    framer: Framer = FRAMERS[data[0] % len(FRAMERS)]
    count = data[1] % 9
    positions = [int.from_bytes(data[2 + 2 * i : 4 + 2 * i], "big") for i in range(count)]
    stream = data[2 + 2 * count :]
    whole = receive(framer.decoder(), [stream])
    assert all(len(payload) <= framer.max_frame for payload in whole[0])
    assert receive(framer.decoder(), cut(stream, positions)) == whole
    assert receive(framer.decoder(), [stream[i : i + 1] for i in range(len(stream))]) == whole
    assert receive(framer.decoder(), cut(stream, positions), limit=1) == whole
    carried = []
    for payload in (stream, *whole[0]):
        try:
            frame = framer.encode(payload)
        except EncodeError:
            continue
        assert receive(framer.decoder(), [frame]) == ([payload], None, 0)
        carried.append(payload)
    assert receive(framer.decoder(), [framer.encode_many(carried)]) == (carried, None, 0)


def same(one: Any, other: Any) -> bool:
    """Equal in value and type, where a NaN equals itself."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def wires(data: bytes) -> None:
    """A layer or codec opens a payload or refuses it, nothing else; and what it opened it can send again."""
    if not data:
        return
    wire: Wire[Any] = WIRES[data[0] % len(WIRES)]
    try:
        message = wire.opener()(data[1:])
    except DecodeError:
        return
    try:
        frame = wire.encode(message)
    except EncodeError:
        return
    (back,) = wire.decoder().feed(frame)
    assert same(back, message), (wire, message, back)


def spec(data: bytes) -> None:
    """Any text is a wire or a `SpecError`; a wire that has a spelling is spelt so that it is read back the same."""
    try:
        wire = Wire.parse(data.decode("utf-8", "replace"))
    except SpecError as error:
        assert str(error)
        return
    assert Wire.parse(wire.spec) == wire


def kernels(data: bytes) -> None:
    """A compiled kernel, and a decoder around it, say what the reference says."""
    if native is not None:
        _twins.hypothesis.fuzz_one_input(data)


@settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def _twins(data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(SPLITTERS) + len(FUNCTIONS) + len(FRAMERS) - 1))
    if which < len(SPLITTERS):
        compare_splitter(SPLITTERS[which], data)
        return
    which -= len(SPLITTERS)
    if which < len(FUNCTIONS):
        compare_call(FUNCTIONS[which], *data.draw(FUNCTIONS[which].arguments))
        return
    framer: Framer = FRAMERS[which - len(FUNCTIONS)]
    stream = b""
    for payload in data.draw(st.lists(st.binary(max_size=80), max_size=5)):
        try:
            stream += framer.encode(payload)
        except EncodeError:
            stream += payload[:10]
    plan = data.draw(st.lists(st.tuples(st.sampled_from(HOWS), st.integers(0, 40)), max_size=12))
    compare_decoders(framer, data.draw(st.booleans()), stream + data.draw(st.binary(max_size=8)), plan)


TARGETS: dict[str, Callable[[bytes], None]] = {"framers": framers, "wires": wires, "spec": spec, "kernels": kernels}
