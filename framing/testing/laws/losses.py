"""Law 3: what was complete before a violation or refusal is delivered first; a violation stays, a refusal poisons nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from framing.errors import FramingError, Violation
from framing.framers import Framer
from framing.testing.laws.court import LONG, Court, limited
from framing.testing.laws.errors import useful_refusal
from framing.testing.laws.streams import refused_payloads
from framing.testing.runs import Refused, describe, run, same
from framing.testing.samples import accepts, corrupted
from framing.wire import Wire

__all__ = ["nothing_lost", "nothing_lost_to_the_limit", "refused_in_place"]


def nothing_lost(court: Court, items: Sequence[Any], known: list[bytes], rng: Random) -> None:
    """Good frames, then one that is corrupt: the good ones are delivered; the error stays, or was asked to be skipped."""
    frames = [court.encode(item) for item in items]
    for _ in range(4 * court.examples):
        chosen = [rng.randrange(len(items)) for _ in range(rng.randrange(4))]
        goods = [(items[index], frames[index]) for index in chosen]
        good = rng.randrange(len(items))
        _behind_goods(court, goods, corrupted(rng, rng.choice(frames), known), items[good], frames[good])


def nothing_lost_to_the_limit(court: Court, framer: Framer, payloads: Sequence[bytes]) -> None:
    """The same with a frame that is too large: with a limit such that one half of the payloads passes."""
    sizes = sorted({len(payload) for payload in payloads if len(payload) <= LONG})
    tight = limited(framer, sizes[(len(sizes) - 1) // 2]) if len(sizes) > 1 else None
    if tight is None:
        return
    below = [(payload, framer.encode(payload)) for payload in payloads if accepts(tight, payload)]
    above = [framer.encode(payload) for payload in payloads if len(payload) > tight.max_frame]
    narrow = replace(court, make=tight.decoder, subject=repr(tight))
    for index, bad in enumerate(above if below else ()):
        goods = [below[(index + more) % len(below)] for more in range(index % 3)]
        _behind_goods(narrow, goods, bad, *below[-1])


def _behind_goods(court: Court, goods: Sequence[tuple[Any, bytes]], bad: bytes, item: Any, frame: bytes) -> None:
    """Judge a bad frame behind good ones, each an item and its frame; ``item`` and ``frame`` are to come behind it."""
    items = [one for one, _ in goods]
    before = b"".join(one for _, one in goods)
    alone = court.make()
    try:
        delivered = alone.feed(bad)
    except Violation:
        delivered = []
    except FramingError:
        return
    except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
        court.broken(
            8, "a corrupt frame raises something outside the hierarchy", bad, (), "a Violation", describe(error)
        )
    if alone.error is None and alone.skipped:
        _goes_on(court, items, before + bad + frame * 2, item)
    elif alone.error is not None and not delivered:
        _stays(court, items, before, bad, frame, alone.error)


def _goes_on(court: Court, goods: list[Any], stream: bytes, last: Any) -> None:
    outcome = run(court.make, [stream]).outcome
    lost = not same(tuple(goods), outcome.events[: len(goods)])
    if lost or (outcome.error is None and not (outcome.events and same(last, outcome.events[-1]))):
        reason = "after a frame that was skipped, good frames are lost"
        court.broken(3, reason, stream, (), f"{goods!r}, …, {last!r}", outcome)
    court.holds(3)


def _stays(court: Court, goods: list[Any], before: bytes, bad: bytes, good: bytes, alone: Violation) -> None:
    decoder = court.make()
    stream = before + bad
    first: BaseException | None = None
    got: list[Any] = []
    try:
        got = decoder.feed(stream)
    except Violation as error:
        first = error
    if not same(goods, got):
        reason = "payloads completed before a violation are not delivered before it"
        court.broken(3, reason, stream, (), goods, got if first is None else describe(first))
    if bool(goods) == (first is not None) or decoder.error is None:
        reason = "the violation behind delivered payloads is to be latched; with none before it, raised at once"
        court.broken(3, reason, stream, (), describe(alone), (describe(first) if first else None, decoder.error))
    if type(decoder.error) is not type(alone):
        reason = "the error behind good frames is another than without them"
        court.broken(3, reason, stream, (), describe(alone), describe(decoder.error))
    if decoder.error.offset != len(before) + alone.offset:
        reason = "the error's offset does not count the good frames before it"
        court.broken(8, reason, stream, (), len(before) + alone.offset, decoder.error.offset)
    latched = decoder.error
    later: list[tuple[str, Callable[[], Any]]] = [
        ("feed(a good frame)", lambda: decoder.feed(good)),
        ("feed(b'')", lambda: decoder.feed(b"")),
        ("feed(a good frame, limit=1)", lambda: decoder.feed(good, 1)),
        ("get_buffer()", decoder.get_buffer),
        ("feed_eof()", decoder.feed_eof),
    ]
    for what, call in later:
        try:
            got = call()
        except Violation as error:
            if error is latched:
                court.holds(3)
                continue
            court.broken(3, f"{what} after a violation raises another", stream, (), describe(latched), describe(error))
        except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
            court.broken(3, f"{what} after a violation raises another", stream, (), describe(latched), describe(error))
        court.broken(3, f"{what} after a violation does not raise it again", stream, (), describe(latched), got)
    if decoder.pending or decoder.buffered:
        court.broken(3, "a poisoned decoder holds bytes, or says that it is pending", stream, (), 0, decoder.buffered)


def refused_in_place(
    court: Court, wire: Wire[Any], items: Sequence[Any], payloads: Sequence[bytes], rng: Random
) -> None:
    """A refused payload is raised at its place, once, and poisons nothing."""
    for payload in refused_payloads(wire, payloads, rng):
        frame = wire.framer.encode(payload)
        before, behind = rng.choice(items), rng.choice(items)
        head = court.encode(before)
        stream = head + frame + court.encode(behind) * 2
        outcome = run(court.make, [stream]).outcome
        events = outcome.events
        sound = (
            outcome.error is None
            and len(events) == 4
            and same(before, events[0])
            and isinstance(events[1], Refused)
            and same([behind, behind], list(events[2:]))
        )
        if not sound:
            expected = f"{before!r}, a DecodeError, {behind!r} twice, a clean end"
            court.broken(3, "a payload that is refused, between good ones", stream, (), expected, outcome)
        offset = events[1].numbers[1]
        if not isinstance(offset, int) or not len(head) <= offset < len(head) + len(frame):
            court.broken(8, "the DecodeError's offset is not where its frame begins", stream, (), len(head), offset)
        useful_refusal(court, wire, payload)
        court.holds(3)
        court.holds(8)
