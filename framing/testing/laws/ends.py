"""Law 4: the stream may end between two frames, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from framing.errors import FramingError
from framing.testing.laws.court import LONG, Court
from framing.testing.runs import Outcome, run, same

__all__ = ["ends"]


def ends(court: Court, items: Sequence[Any], final: bytes) -> None:
    """EOF at every offset: clean between frames, and inside one a `TruncatedFrame`.

    Bytes between frames that mean nothing (a leading flag) may be lost at EOF. What means nothing can be told without
    knowing the framer: in front of a whole frame it changes nothing.
    """
    chosen = [item for item in items if len(court.encode(item)) <= 2 * LONG] or list(items[:1])
    for first, second in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        frames = [court.encode(first), court.encode(second)]
        stream = frames[0] + frames[1]
        boundaries = {0: 0, len(frames[0]): 1, len(stream): 2}
        offsets = (
            range(len(stream) + 1) if len(stream) <= 2 * LONG else sorted({*range(0, len(stream), 37), *boundaries})
        )
        for at in offsets:
            outcome = run(court.make, [stream[:at]]).outcome
            begin = max(boundary for boundary in boundaries if boundary <= at)
            whole = (first, second)[: boundaries[begin]]
            if at in boundaries:
                _ends_cleanly(court, stream[:at], Outcome(tuple(whole), None, 0, b""), outcome)
            elif final:
                completed = run(court.make, [stream[:at] + final]).outcome
                if not same(completed.events, outcome.events) or (completed.error is None) != (outcome.error is None):
                    reason = "EOF in a frame whose delimiter is optional does not end it"
                    court.broken(4, reason, stream[:at], (), completed, outcome)
            elif outcome.error is None:
                if not same(tuple(whole), outcome.events) or not _idle(court, stream[begin:at], chosen):
                    reason = f"EOF {at - begin} bytes into a frame is taken for a clean end"
                    court.broken(4, reason, stream[:at], (), "TruncatedFrame", outcome)
            else:
                _is_truncated(court, stream[:at], begin, tuple(whole), outcome)
            court.holds(4)


def _ends_cleanly(court: Court, stream: bytes, expected: Outcome, got: Outcome) -> None:
    if not same(expected, got):
        court.broken(4, "EOF between two frames is no clean end", stream, (), expected, got)
    decoder = court.make()
    with suppress(FramingError):
        decoder.feed(stream)
        if decoder.feed_eof() or decoder.feed_eof():
            court.broken(4, "feed_eof returns something out of nothing", stream)
        try:
            decoder.feed(b"\x00")
        except FramingError:
            return
        court.broken(
            4, "after the end of the stream the decoder takes more bytes", stream, (), "ConnectionClosed", "nothing"
        )


def _idle(court: Court, residue: bytes, items: Sequence[Any]) -> bool:
    """Whether ``residue`` means nothing in front of a frame."""
    for item in items[:3]:
        outcome = run(court.make, [residue + court.encode(item)]).outcome
        if not same(outcome, Outcome((item,), None, 0, b"")):
            return False
    return True


def _is_truncated(court: Court, stream: bytes, begin: int, whole: tuple[Any, ...], outcome: Outcome) -> None:
    assert outcome.error is not None
    kind, offset, expected, got, head, _ = outcome.error
    if kind != "TruncatedFrame" or not same(whole, outcome.events):
        court.broken(4, "EOF in a frame is something else than TruncatedFrame", stream, (), "TruncatedFrame", outcome)
    if not begin <= offset <= len(stream) or got != len(stream) - offset or not stream[offset:].startswith(head):
        reason = "TruncatedFrame says where the frame began, and how much of it came"
        court.broken(8, reason, stream, (), {"offset": begin, "got": len(stream) - begin}, outcome)
    if expected is not None and expected <= got:
        court.broken(8, "TruncatedFrame expects no more than it got", stream, (), f"more than {got}", expected)
