"""Judges `LengthPrefixed`, `Lines` and `Delimited` by asyncio's StreamReader, fed by hand, and the struct module.

``readexactly`` for the header and again for the body, and ``readuntil`` or ``readline``, are what asyncio programs are
written with; where the loop around them must be careful, a test shows what happens to one that is not.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing import Delimited, FrameTooLarge, LengthPrefixed, Lines, TruncatedFrame

from .feeding import chunk_sizes, chunked, judged, payload_lists, received, verdict

HEADER = struct.Struct("!I")
texts = st.binary(max_size=60) | st.lists(st.sampled_from([b"\r", b"a"]), max_size=8).map(b"".join)
lines = st.lists(texts.filter(lambda line: b"\n" not in line and not line.endswith(b"\r")), max_size=8)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


async def feed(reader: asyncio.StreamReader, stream: bytes, sizes: Sequence[int]) -> None:
    for chunk in chunked(stream, sizes):
        reader.feed_data(chunk)
        await asyncio.sleep(0)
    reader.feed_eof()


def read_frames(loop: asyncio.AbstractEventLoop, stream: bytes, sizes: Sequence[int]) -> list[bytes]:
    async def main() -> list[bytes]:
        reader = asyncio.StreamReader(loop=loop)
        feeding = asyncio.ensure_future(feed(reader, stream, sizes))
        got: list[bytes] = []
        try:
            while True:
                (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
                got.append(await reader.readexactly(size))
        except asyncio.IncompleteReadError:
            await feeding
            return got

    return loop.run_until_complete(main())


def read_lines(
    loop: asyncio.AbstractEventLoop, stream: bytes, *, limit: int = 1 << 16, cut: int = 1 << 30
) -> list[Any]:
    """What three calls of ``readline`` give, or the type of what they raise; bytes behind ``cut`` come after the first."""

    async def main() -> list[Any]:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        reader.feed_data(stream[:cut])
        got: list[Any] = []
        for _ in range(3):
            try:
                got.append(await reader.readline())
            except ValueError as error:
                got.append(type(error))
            if len(got) == 1:
                reader.feed_data(stream[cut:])
                reader.feed_eof()
        return got

    return loop.run_until_complete(main())


@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_readexactly_reads_what_length_prefixed_writes(loop, payloads, sizes):
    assert read_frames(loop, LengthPrefixed(4).encode_many(payloads), sizes) == payloads


@judged
@given(payloads=payload_lists, sizes=chunk_sizes)
def test_length_prefixed_reads_what_struct_packs(payloads, sizes):
    for width, byteorder, form in [
        (1, "big", "!B"),
        (2, "big", "!H"),
        (2, "little", "<H"),
        (4, "little", "<I"),
        (8, "big", "!Q"),
    ]:
        stream = b"".join(struct.pack(form, len(payload)) + payload for payload in payloads)
        assert received(LengthPrefixed(width, byteorder), stream, sizes) == payloads
        assert LengthPrefixed(width, byteorder).encode_many(payloads) == stream


@pytest.mark.parametrize("size", [127, 128, 255, 256, 32_767, 32_768, 65_535])
def test_length_is_unsigned_as_struct_packs_it(size):
    for width, form, signed in [(1, "!B", "!b"), (2, "!H", "!h")]:
        if size >= 1 << 8 * width:
            continue
        header = struct.pack(form, size)
        assert LengthPrefixed(width).encode(bytes(size)) == header + bytes(size)
        if size >= 1 << 8 * width - 1:
            assert struct.unpack(signed, header)[0] < 0  # what a reader with the wrong letter makes of it


@judged
@given(payloads=lines)
def test_readuntil_reads_what_lines_writes(loop, payloads):
    async def main() -> list[bytes]:
        reader = asyncio.StreamReader(loop=loop)
        reader.feed_data(Lines().encode_many(payloads))
        reader.feed_eof()
        return [(await reader.readuntil(b"\n"))[:-1] for _ in payloads]

    assert loop.run_until_complete(main()) == payloads


def test_end_inside_a_frame_looks_like_a_clean_end_to_a_loop_of_readexactly(loop):
    # The body's error has no partial bytes either, so a loop cannot tell the two by them.
    async def partial(stream: bytes) -> bytes:
        reader = asyncio.StreamReader(loop=loop)
        reader.feed_data(stream)
        reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(HEADER.unpack(await reader.readexactly(HEADER.size))[0])
        return caught.value.partial

    assert loop.run_until_complete(partial(b"\0\0\0\5")) == loop.run_until_complete(partial(b"")) == b""
    assert verdict(LengthPrefixed(4), b"\0\0\0\5") == ([], TruncatedFrame)
    assert verdict(LengthPrefixed(4), b"") == ([], None)


def test_readexactly_has_no_limit(loop):
    async def main() -> int:
        reader = asyncio.StreamReader(limit=10, loop=loop)
        reader.feed_data(bytes(100))
        return len(await reader.readexactly(100))

    assert loop.run_until_complete(main()) == 100


def test_readline_gives_an_unterminated_line_as_if_it_were_one(loop):
    assert read_lines(loop, b"a\nhal") == [b"a\n", b"hal", b""]
    assert verdict(Lines(), b"a\nhal") == ([b"a"], TruncatedFrame)
    assert received(Lines(final="optional"), b"a\nhal") == [b"a", b"hal"]


def test_readline_delivers_the_tail_of_an_oversized_line_as_a_line_where_it_was_cut(loop):
    stream = b"x" * 40 + b"tail\nnext\n"
    assert read_lines(loop, stream, limit=20) == [ValueError, b"next\n", b""]
    assert read_lines(loop, stream, limit=20, cut=40) == [ValueError, b"tail\n", b"next\n"]
    framer = Lines(max_frame=20)
    assert verdict(framer, stream) == verdict(framer, stream, [40]) == ([], FrameTooLarge)
    skipping = Lines(max_frame=20, on_oversize="skip")
    assert received(skipping, stream) == received(skipping, stream, [40]) == [b"next"]


def test_readuntil_refuses_at_the_limit_as_delimited_does_however_the_stream_is_cut(loop):
    async def outcome(size: int, cut: int) -> Any:
        stream = b"x" * size + b"\r\n"
        reader = asyncio.StreamReader(limit=20, loop=loop)
        reader.feed_data(stream[:cut])
        reading = asyncio.ensure_future(reader.readuntil(b"\r\n"))
        await asyncio.sleep(0)
        reader.feed_data(stream[cut:])
        try:
            return len(await reading) - 2
        except asyncio.LimitOverrunError:
            return FrameTooLarge

    for size in (19, 20, 21):
        for cut in range(1, size + 3):
            theirs = loop.run_until_complete(outcome(size, cut))
            payloads, error = verdict(Delimited(b"\r\n", max_frame=20), b"x" * size + b"\r\n", [cut])
            assert (error or len(payloads[0])) == theirs
