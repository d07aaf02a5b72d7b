"""What is compiled costs no more than it must: memory that follows what was received, and looks that are few.

And memory that is there as long as it is used, whoever is called in between. Of carries both are asked, reference and twin.
"""

from __future__ import annotations

import gc
import importlib.util
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from sys import getrefcount
from typing import Any

import pytest

from framing import LengthPrefixed, Lines, VarintPrefixed
from framing.kernels import lengths
from framing.kernels.carry import LENT_BYTES, SEARCHED_BYTES, Carry
from tests.kernels.comparing import native, needs_twin
from tests.kernels.test_leaks import hold_level

ANNOUNCED = 1 << 28


@pytest.fixture(params=["reference", pytest.param("compiled", marks=needs_twin)])
def carry_of(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """What makes a carry, of each of the two, for a framer or for the name and the options of a kernel of `lengths`."""

    def make(framer: Any, *options: Any) -> Any:
        name, options = (framer, options) if isinstance(framer, str) else _kernel_of(framer)
        if request.param == "reference":
            # Looked up when it is called, as the twin does: a test may have put another in its place.
            return Carry(lambda *rest: _reference(name)(*options, *rest))
        return native.carry_for(partial(getattr(native, name), *options))

    return make


def _kernel_of(framer: Any) -> tuple[str, tuple[Any, ...]]:
    split = framer.splitter()
    return split.func.__name__, split.args


def _reference(name: str) -> Any:
    from framing.kernels import delimiters

    return getattr(lengths if hasattr(lengths, name) else delimiters, name)


@contextmanager
def traced() -> Iterator[Callable[[], tuple[int, int]]]:
    """How many bytes are held more than at the beginning, now and at the most; of the kernels' memory, too."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()

        def more() -> tuple[int, int]:
            gc.collect()
            held, most = tracemalloc.get_traced_memory()
            return held - before, most - before

        yield more
    finally:
        tracemalloc.stop()


def test_nothing_is_kept_of_a_large_frame_that_was_taken(carry_of: Any) -> None:
    line = b"a" * (1 << 20) + b"\n"
    carry = carry_of(Lines(max_frame=1 << 21))
    with traced() as more:
        carry.take(line[: 1 << 19])
        assert len(carry.take(line[1 << 19 :])) == 1
        assert carry.settle() is True
        held, most = more()
    assert most > 1 << 19
    assert held < 6000


def test_what_is_held_is_moved_to_the_front_when_much_was_taken_before_it(carry_of: Any) -> None:
    frame = b"\0\0\3\xe8" + bytes(1000)
    carry = carry_of(LengthPrefixed(4))
    carry.take(frame[:1])
    with traced() as more:
        for _ in range(1000):  # so that it never holds nothing
            assert len(carry.take(frame[1:] + frame[:1], 1)) == 1
            assert carry.buffered == 1
        _, most = more()
    assert most < 30_000


def test_memory_follows_what_was_received_and_not_what_was_announced(carry_of: Any) -> None:
    carry = carry_of(LengthPrefixed(4, max_frame=ANNOUNCED))
    with traced() as more:
        carry.take(ANNOUNCED.to_bytes(4) + b"some")
        assert more()[1] < LENT_BYTES
        carry.lend().release()
        carry.fill(0)
        assert more()[1] < 4 * LENT_BYTES
        for _ in range(100):
            carry.take(bytes(10_000))
        carry.lend().release()
        assert carry.buffered == 8 + 1_000_000
        assert more()[1] < 5_000_000


def test_no_more_is_lent_than_a_read_takes_or_than_was_received(carry_of: Any) -> None:
    carry = carry_of(LengthPrefixed(4, max_frame=ANNOUNCED))
    carry.take(ANNOUNCED.to_bytes(4))
    with carry.lend() as view:
        assert len(view) <= LENT_BYTES
    carry.fill(0)
    carry.take(bytes(1_000_000))
    with carry.lend() as view:
        assert len(view) <= 1_000_004


@contextmanager
def judged_by(monkeypatch: pytest.MonkeyPatch, judge: Callable[..., Any]) -> Iterator[tuple[Any, ...]]:
    """Options of ``split_prefixed`` with which the twin, too, leaves a frame of more than no bytes to ``judge``."""
    with monkeypatch.context() as patched:
        patched.setattr(lengths, "split_prefixed", judge)
        yield ("split_prefixed", 4, "big", 0, 0, 0)


def test_the_end_of_a_frame_is_searched_for_in_few_looks(carry_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def endless(*arguments: Any) -> Any:
        data = arguments[5]
        seen.append(len(data))
        return [], 0, len(data) + 1, len(data), 0, None

    size = 1 << 18
    with judged_by(monkeypatch, endless) as options:
        carry = carry_of(*options)
        carry.take(b"\xff" * 9)
        seen.clear()
        carry.take(b"\xff" * size)
    assert seen[0] <= 9 + SEARCHED_BYTES
    assert seen[-1] == 9 + size
    assert len(seen) <= 11


@needs_twin
def test_who_is_called_in_a_carrys_work_cannot_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def meddling(*arguments: Any) -> Any:
        for work in (
            lambda: carry.take(b"x"),
            lambda: carry.keep(b"x"),
            lambda: carry.go_back(0, 0, b"x"),
            carry.drop,
            carry.lend,
        ):
            with pytest.raises(RuntimeError, match="a decoder serves one thread at a time"):
                work()
            said.append("refused")
        return [b"one"], len(arguments[5]), 0, None, 0, None

    with judged_by(monkeypatch, meddling) as (name, *options):
        carry = native.carry_for(partial(getattr(native, name), *options))
        assert carry.take(b"\xff" * 9) == [b"one"]
    assert len(said) == 5
    assert carry.take(b"\0\0\0\0") == [b""]


@needs_twin
@pytest.mark.parametrize(
    "framer", [LengthPrefixed(8, max_frame=(1 << 63) - 1), VarintPrefixed(max_frame=(1 << 63) - 1)]
)
def test_a_need_that_is_no_c_integer_is_told_and_leaves_nothing_behind(framer: Any) -> None:
    name, options = _kernel_of(framer)
    compiled = partial(getattr(native, name), *options)
    header = ((1 << 63) - 1).to_bytes(8) if name == "split_prefixed" else lengths.write_varint((1 << 63) - 1)
    need = len(header) + (1 << 63) - 1
    answer = [], 0, need, None, 0, None
    assert compiled(header + b"x", 0, None, 0) == _reference(name)(*options, header + b"x", 0, None, 0) == answer

    def work() -> None:
        for _ in range(20):
            compiled(header + b"x", 0, None, 0)
            carry = native.carry_for(compiled)
            for byte in header + b"x":
                carry.take(bytes([byte]))
            assert carry.need == need
            carry.drop()
            assert carry.need == 0

    hold_level(work)


@needs_twin
def test_a_module_that_is_gone_has_let_its_last_options_go() -> None:
    spec = importlib.util.find_spec("framing.kernels._native")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    split = partial(module.split_prefixed, 4, "big", 0, 0, 12345)
    options = split.args
    gone = weakref.ref(module)
    before = getrefcount(options)
    carry: Any = module.carry_for(split)
    assert carry.take(b"\0\0\0\1!") == [b"!"]
    assert getrefcount(options) > before
    del carry, split, module
    gc.collect()
    assert gone() is None
    assert getrefcount(options) == before - 1  # nor has the partial


@needs_twin
def test_a_message_that_is_taken_out_of_its_list_while_it_is_compared_lives_on() -> None:
    class Message:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment] # as for whatever compares by what it holds

    messages: list[Any] = [Message()]
    payload = bytes(100)
    before = getrefcount(payload)
    payloads = [payload]
    alive = weakref.ref(messages[0])
    seen: list[object] = []

    def decode(given: bytes) -> object:
        messages.clear()
        payloads.clear()
        seen.append(alive())
        assert given is payload
        if alive() is None:
            raise ValueError("the message is gone that this is to be compared with")
        return Message()

    assert native.arrives(messages, payloads, decode, False, 64) is True
    assert isinstance(seen[0], Message)
    seen.clear()
    gc.collect()
    assert alive() is None
    assert getrefcount(payload) == before
