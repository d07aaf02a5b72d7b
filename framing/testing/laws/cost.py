"""Law 7: twice the bytes cost about twice the work, counted in bytes, not in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from framing.errors import DecodeError, Violation
from framing.framers import Decoder, Framer
from framing.testing.counting import Spied, Tally
from framing.testing.laws.court import Court, limited
from framing.testing.laws.streams import refused_payloads
from framing.testing.runs import chunked
from framing.testing.samples import accepts, grown, of_size
from framing.wire import Wire

__all__ = ["linear", "refusals_linear"]


def linear(court: Court, framer: Framer, known: list[bytes]) -> None:
    """Twice the bytes, about twice the work: one long frame in single bytes, many frames at once, no frame at all."""
    ample = limited(framer, 1 << 20) or framer

    def long_frame(size: int) -> bytes | None:
        payload = of_size(ample, size)
        return None if payload is None else ample.encode(payload)

    def many_frames(size: int) -> bytes | None:
        payload = of_size(ample, 8) or grown(ample, Random(court.seed), 64)  # noqa: S311 -- to be repeated, not to be secret
        return None if payload is None or not accepts(ample, payload) else ample.encode(payload) * (size // 16)

    _doubled(court, ample, long_frame, 2048, 1, "one frame, byte by byte")
    _doubled(court, ample, many_frames, 32768, 0, "many frames in one chunk")
    _doubled(court, ample, many_frames, 4096, 7, "many frames in small chunks")
    opening = _opening(ample)
    ends = {token for token in known if len(token) <= 4}
    for letter in {b"a", b"\r", *(token[:1] for token in known)}:

        def repeated(size: int, letter: bytes = letter) -> bytes:
            return opening + letter * size

        _doubled(court, ample, repeated, 1024, 1, f"{letter!r} over and over, byte by byte", ends)


def _opening(framer: Framer) -> bytes:
    """What stands before a payload, for framers that begin a frame with a mark."""
    payload = of_size(framer, 3)
    if payload is None:
        return b""
    before, found, _ = framer.encode(payload).partition(payload)
    return before if found and len(before) <= 4 else b""


def _doubled(
    court: Court,
    framer: Framer,
    stream_of: Callable[[int], bytes | None],
    size: int,
    chunk: int,
    what: str,
    plants: Iterable[bytes] = (b"",),
) -> None:
    costs: list[int] = []
    stream, cuts = b"", range(0)
    for one in (size, 2 * size):
        made = stream_of(one)
        if made is None:
            return
        stream = made
        cuts = range(chunk, len(stream), chunk) if chunk else range(0)
        tally = Tally()
        _feed_all(Spied(framer, tally), chunked(stream, cuts))
        costs.append(tally.touched)
    if costs[1] > 3 * costs[0] + 4096:
        reason = f"{what}: twice the stream makes the framer go over {costs[1] / max(1, costs[0]):.1f} times the bytes"
        court.broken(7, reason, stream, cuts, f"about {2 * costs[0]} bytes", costs[1])
    for plant in plants if chunk == 1 else ():
        tally = Tally()
        _feed_all(Spied(framer, tally, plant), chunked(stream, cuts))
        if tally.looked_again is not None:
            reason = f"{what}: bytes that were searched before are searched again with each chunk"
            court.broken(
                7, reason, stream, cuts, "to go on where the last search ended", f"{plant!r} is found behind it"
            )
    court.holds(7)


def _feed_all(framer: Framer, chunks: Sequence[bytes]) -> None:
    decoder: Decoder[Any] = Decoder(framer)
    with suppress(Violation):
        for chunk in chunks:
            decoder.feed(chunk)


def refusals_linear(court: Court, wire: Wire[Any], payloads: Sequence[bytes], rng: Random) -> None:
    """Many refused payloads in one chunk: each is found without going over those before it."""
    refused = refused_payloads(wire, payloads, rng)
    if not refused:
        return
    frame = wire.framer.encode(refused[0])
    count = max(4, 8192 // len(frame))
    costs: list[int] = []
    for one in (count, 2 * count):
        tally = Tally()
        decoder: Decoder[Any] = Decoder(Spied(wire.framer, tally), wire.opener())
        found = 0
        chunk = frame * one
        while chunk or decoder.pending:
            try:
                decoder.feed(chunk)
            except DecodeError:
                found += 1
            chunk = b""
        if found != one:
            court.broken(3, f"{one} refused payloads in one chunk", frame * one, (), one, found)
        costs.append(tally.touched)
    if costs[1] > 3 * costs[0] + 4096:
        court.broken(
            7, "refused payloads in one chunk are looked for again and again", frame * count, (), 2 * costs[0], costs[1]
        )
    court.holds(7)
