"""The compiled carry behaves as the reference does, under a decoder, whatever is done to it in whatever order."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import framing
from framing import FixedSize, Framer, FramingError, LengthField, LengthPrefixed, Netstring, Text, VarintPrefixed, Wire
from framing.kernels import carry_for
from framing.kernels.carry import LENT_BYTES, Carry
from tests.conformance.registry import FRAMERS
from tests.kernels.comparing import HOWS, compare_decoders, native, needs_twin

UNTIMED = settings(deadline=None)
LARGE = [
    LengthPrefixed(4),
    LengthPrefixed(8, "little", max_frame=(1 << 63) - 1),
    VarintPrefixed(),
    LengthField(4, offset=1, trailer=b"\xfe"),
    Netstring(),
    FixedSize(70_000),
]


def plans(most: int) -> st.SearchStrategy[list[tuple[str, int]]]:
    """How the stream is given, and in chunks of what size; what is left of it is fed at once."""
    return st.lists(st.tuples(st.sampled_from(HOWS), st.integers(0, most) | st.just(1)), max_size=12)


@needs_twin
@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_what_is_done_to_a_compiled_decoder_comes_to_what_the_reference_makes_of_it(framer: Framer) -> None:
    small = st.binary(max_size=12) | st.binary(min_size=60, max_size=80)

    @UNTIMED
    @given(st.lists(small, max_size=5), st.binary(max_size=8), st.booleans(), plans(30))
    def held(payloads: list[bytes], tail: bytes, refusing: bool, plan: list[tuple[str, int]]) -> None:
        frames = []
        for payload in payloads:
            try:
                frames.append(framer.encode(payload))
            except FramingError:
                frames.append(payload[:10])
        compare_decoders(framer, refusing, b"".join(frames) + tail, plan)

    held()


def large_frame(framer: Framer, size: int, first: int) -> bytes:
    payload = bytes((first,)) * size
    if isinstance(framer, FixedSize):
        payload = payload[: framer.size].ljust(framer.size)
    if isinstance(framer, LengthField):
        payload = b"\x02" + (size + 1).to_bytes(4) + payload + b"\xfe"
    return framer.encode(payload)


@needs_twin
@pytest.mark.parametrize("framer", LARGE, ids=repr)
def test_large_frames_land_where_the_reference_has_them(framer: Framer) -> None:
    sizes = st.sampled_from([3, 4095, 5000, 65_536, 66_000, 140_000])
    tails = st.sampled_from([b"", b"\x7f" * 8, b"\x00\x01"])

    @UNTIMED
    @given(st.lists(sizes, min_size=1, max_size=3), tails, st.integers(0, 7), plans(70_000))
    def held(sizes: list[int], tail: bytes, odds: int, plan: list[tuple[str, int]]) -> None:
        stream = b"".join(large_frame(framer, size, odds & 1) for size in sizes)
        if odds & 2:
            stream = stream[:-1] + b";"  # the trailer of the last one, where there is one
        compare_decoders(framer, bool(odds & 4), stream + tail, plan)

    held()


@needs_twin
def test_a_kernel_that_is_not_compiled_gets_the_carry_that_is_not() -> None:
    assert type(native.carry_for(FRAMERS[0].splitter())).__name__ == "Carry"
    assert type(native.carry_for(lambda *_: None)) is Carry
    assert type(native.carry_for(partial(print, 1))) is Carry
    kernel = native.split_prefixed
    assert type(native.carry_for(partial(kernel, 4, "big", 0, 0, 1 << 20))) is not Carry
    for odd in (
        partial(kernel),
        partial(kernel, 4, "big", 0, 0, 1 << 70),
        partial(kernel, 4, "big", 0, 0, 1, 2),
        partial(kernel, 4, "big", 0, 0, 9, data=b""),
    ):
        assert type(native.carry_for(odd)) is Carry


@pytest.fixture(params=["reference", pytest.param("compiled", marks=needs_twin)])
def carry(request: pytest.FixtureRequest) -> Any:
    """A carry of u32 frames, each of the two."""
    split = LengthPrefixed(4).splitter()
    return (
        Carry(split) if request.param == "reference" else native.carry_for(partial(native.split_prefixed, *split.args))
    )


def test_a_view_that_was_kept_is_not_written_over(carry: Any) -> None:
    carry.take((200_000).to_bytes(4) + bytes(150_000))
    view = carry.lend()
    kept = view[:10]
    view.release()
    carry.fill(0)
    with pytest.raises(BufferError):
        carry.take(bytes(50_000))
    kept.release()
    assert [len(payload) for payload in carry.take(bytes(50_000))] == [200_000]


def test_room_is_lent_for_what_is_needed_and_no_more(carry: Any) -> None:
    carry.take((100_000).to_bytes(4))
    with carry.lend() as view:
        assert 0 < len(view) <= 100_000
        assert len(view) >= LENT_BYTES
        size = len(view)
        view[:5] = b"hello"
    carry.fill(5)
    assert (carry.buffered, carry.held()[4:]) == (9, b"hello")
    with carry.lend() as view:
        assert len(view) <= max(size, 100_000)
    with pytest.raises(ValueError, match="lent"):
        carry.fill(1 << 20)


def test_what_was_lent_is_filled_once(carry: Any) -> None:
    carry.take((1_000_000).to_bytes(4) + b"abcd")
    with carry.lend() as view:
        room = len(view)
    carry.fill(room - 1)
    with pytest.raises(ValueError, match="lent"):
        carry.fill(2)
    carry.fill(1)
    with pytest.raises(ValueError, match="lent"):
        carry.fill(1)
    assert carry.buffered == len(carry.held()) == 8 + room


def test_it_is_idle_where_the_next_byte_begins_a_frame(carry: Any) -> None:
    assert carry.settle() is True
    carry.take(b"\0\0\0\2ab")
    assert carry.settle() is True
    carry.take(b"\0")
    assert carry.settle() is False
    carry.take(b"\0\0\1x")
    assert carry.settle() is True
    carry.keep(b"\0\0\0\1")
    assert carry.settle() is False
    carry.drop()
    assert carry.settle() is True
    carry.go_back(0, 0, b"\0")
    assert carry.settle() is False


@pytest.mark.parametrize("wrong", ["text", 5, None, [1]])
def test_a_chunk_is_bytes_like(carry: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="bytes-like object is required"):
        carry.take(wrong)


def test_a_limit_is_a_number(carry: Any) -> None:
    for wrong in (None, "1", 1.0):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            carry.take(b"\0\0\0\1x", wrong)
    assert carry.take(b"\0\0\0\1x" * 3, 1 << 70) == [b"x"] * 3
    assert carry.offset == 15


@pytest.mark.parametrize("give", [LengthPrefixed(4), Wire(LengthPrefixed(4), Text())], ids=["framer", "wire"])
def test_so_is_a_decoders(give: Any) -> None:
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        give.decoder().feed(b"\0\0\0\1x", None)


def test_the_carry_of_a_framer_is_the_chosen_one() -> None:
    assert (type(carry_for(LengthPrefixed(4).splitter())) is not Carry) == framing.compiled
