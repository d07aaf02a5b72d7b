"""Law 5: ``max_frame`` is inclusive, the same in both directions, and held before bytes are kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from framing.errors import EncodeError, FramingError
from framing.framers import Framer
from framing.testing.laws.court import HELD, LENT, LONG, Court, limited
from framing.testing.runs import Outcome, chunked, run, same
from framing.testing.samples import of_size

_SMALL_FRAMES = 1000

__all__ = ["limits"]


def limits(court: Court, framer: Framer, payloads: Sequence[bytes]) -> None:
    """A payload of just ``max_frame`` bytes passes, one byte more does not, however it is cut; and nothing piles up."""
    chosen = [payload for payload in payloads if 0 < len(payload) <= LONG]
    sizes: dict[int, bytes] = {len(payload): payload for payload in chosen}
    for payload in list(sizes.values())[: max(4, court.examples // 4)]:
        fits, tight = limited(framer, len(payload)), limited(framer, len(payload) - 1)
        frame = framer.encode(payload)
        cuts: list[Sequence[int]] = [(), range(1, len(frame)), *((at,) for at in range(1, len(frame)))]
        if fits is not None:
            _expect(
                court,
                fits,
                frame,
                cuts,
                Outcome((payload,), None, 0, b""),
                "a payload of just max_frame bytes is refused",
            )
        if tight is None:
            continue
        with suppress(EncodeError):
            court.broken(
                5, "a payload of max_frame + 1 bytes is encoded", tight.encode(payload), (), "EncodeError", payload
            )
        whole = run(tight.decoder, [frame]).outcome
        refused = whole.error is not None and whole.error[0] == "FrameTooLarge"
        if whole.events or not (refused or (whole.error is None and whole.skipped)):
            court.broken(5, "a payload of max_frame + 1 bytes is not refused", frame, (), "FrameTooLarge", whole)
        if whole.error is not None and (whole.error[2] != tight.max_frame or whole.error[3] <= tight.max_frame):
            reason = "FrameTooLarge has the limit as expected, and more than that as got"
            court.broken(8, reason, frame, (), (tight.max_frame, len(payload)), whole.error)
        _expect(court, tight, frame, cuts, whole, "a payload of max_frame + 1 bytes is judged by how it is cut")
    _piles_up(court, framer, payloads)


def _expect(
    court: Court, framer: Framer, stream: bytes, cuts: list[Sequence[int]], expected: Outcome, reason: str
) -> None:
    for cut in cuts:
        got = run(framer.decoder, chunked(stream, cut)).outcome
        if not same(expected, got):
            court.broken(5, f"{reason}, with max_frame={framer.max_frame}", stream, cut, expected, got)
        court.holds(5)


def _piles_up(court: Court, framer: Framer, payloads: Sequence[bytes]) -> None:
    """A frame far above the limit, and bytes in which no frame ends, are refused or passed over before they are kept."""
    small = next((one for size in (64, 512, 4096) if (one := limited(framer, size)) is not None), None)
    if small is None:
        return
    size = 4 * LENT
    streams = [letter * size for letter in (b"a", b"\x00", b"\xff", b"1", b"\r")]
    streams += [framer.encode(payload)[:2] + b"a" * size for payload in payloads[:4]]
    big = limited(framer, 2 * size)
    payload = None if big is None else of_size(big, size)
    if big is not None and payload is not None:
        streams.append(big.encode(payload))
    most = 2 * small.max_frame + HELD
    for stream in streams:
        decoder = small.decoder()
        delivered = 0
        with suppress(FramingError):
            for at in range(0, len(stream), 512):
                delivered += len(decoder.feed(stream[at : at + 512]))
                if delivered > _SMALL_FRAMES:
                    break  # these bytes are small frames, which pile up nowhere
                if decoder.buffered > most:
                    reason = (
                        f"with max_frame={small.max_frame}, {decoder.buffered} bytes are held and nothing is refused"
                    )
                    court.broken(
                        5,
                        reason,
                        stream[: at + 512],
                        range(512, at + 512, 512),
                        f"{most} at the most",
                        decoder.buffered,
                    )
        if delivered > _SMALL_FRAMES:
            continue
        whole, parts = run(small.decoder, [stream]), run(small.decoder, chunked(stream, range(4096, len(stream), 4096)))
        if not same(whole.outcome, parts.outcome):
            reason = f"with max_frame={small.max_frame}, in one read it gives something else than in several"
            court.broken(5, reason, stream, range(4096, len(stream), 4096), whole.outcome, parts.outcome)
        court.holds(5)
