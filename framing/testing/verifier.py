"""verify_framer and verify_wire: all laws that apply, over one framer or wire; free of any test runner.

Every law is judged by bytes and operations, never by seconds, on streams made from a seed: the same arguments give the
same verdict on every machine. The first law that is found broken is raised as `LawBroken`; they are tried in the order in
which one failure explains the next (what does not survive encoding cannot be cut), and short streams come first.

What a verification cannot see: a framer that is consistent and wrong. Hold it against known vectors of its protocol too.
"""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from random import Random
from typing import Any, NoReturn

from framing.errors import DecodeError, EncodeError, FramingError, Violation, guess_protocol
from framing.framers import Decoder, Framer
from framing.testing.counting import Spied, Tally
from framing.testing.runs import WAYS, MakeDecoder, Outcome, Refused, Run, chunked, describe, run, same
from framing.testing.samples import accepted, accepts, corrupted, grown, hostile, of_size, tokens
from framing.testing.verdict import LawBroken, Verdict
from framing.wire import Wire

__all__ = ["verify_framer", "verify_wire"]

_LONG = 200
"""Streams above this size are not cut at each of their offsets, but at some, and around their frames."""

_LENT = 1 << 16
"""The size of the buffer that a decoder lends, above which a frame is received in place."""

_HELD = 1 << 17
"""Bytes that a decoder may hold whatever its limit: headers, trailers and escapes."""

_MEMORY = 1 << 20
_PLAIN_ERRORS = ("FrameTooLarge", "CorruptFrame", "TruncatedFrame")


def verify_framer(
    framer: Framer, *, payloads: Iterable[bytes] | None = None, seed: int = 0, examples: int = 50
) -> Verdict:
    """Hold ``framer`` against every law; return the verdict, or raise `LawBroken` for the first that does not hold.

    ``payloads`` are some that the framer must carry; made up where none are given, which needs help only for a
    framer that accepts few. ``examples`` is about how many payloads and streams each law is judged by; the same
    ``seed`` makes the same ones.
    """
    rng = Random(seed)  # noqa: S311 -- to be repeated, not to be secret
    court = _Court(repr(framer), framer.decoder, framer.encode, framer.encode_many, seed, examples)
    _values(court, framer)
    given = list(payloads) if payloads is not None else accepted(framer, rng, examples)
    _round_trips(court, given, [] if payloads is not None else hostile(framer, rng, examples), required=payloads is not None)
    if not given:
        court.broken(2, "no payload was found that the framer accepts: give some in payloads=")
    _refusals(court, framer)
    known = tokens(framer)
    streams = _streams(court, given, known, rng, framer)
    _cuts(court, _frames(court, given), rng)
    _useful_errors(court, streams)
    _nothing_lost(court, given, known, rng)
    _cuts(court, streams, rng)
    _large(court, framer, rng)
    _nothing_lost_to_the_limit(court, framer, given)
    _eof(court, given, framer.final_delimiter)
    _limits(court, framer, given)
    _memory(court, framer, given, rng)
    _linear(court, framer, known)
    _foreign(court)
    _shared(court, given)
    return court.verdict()


def verify_wire(wire: Wire[Any], *, messages: Iterable[Any] | None = None, seed: int = 0, examples: int = 30) -> Verdict:
    """Hold ``wire`` against every law; return the verdict, or raise `LawBroken` for the first that does not hold.

    Its framer is judged by `verify_framer`, over the payloads that the messages make. ``messages`` are some that the
    wire must carry; where none are given they come from `framing.testing.messages`, which needs ``framing[testing]``.
    """
    rng = Random(seed)  # noqa: S311 -- to be repeated, not to be secret
    court = _Court(str(wire), wire.decoder, wire.encode, wire.encode_many, seed, examples)
    _values(court, wire)
    for part in (wire.framer, *wire.layers, wire.codec):
        _values(court, part)
    given = list(messages) if messages is not None else _drawn(wire, seed, examples)
    _opens_apart(court, wire, given)
    _round_trips(court, given, [], required=True)
    if not given:
        court.broken(2, "no message was found that the wire accepts: give some in messages=")
    payloads = [wire.payload(message) for message in given]
    _layers_bounded(court, wire)
    known = tokens(wire.framer)
    streams = _streams(court, given, known, rng, wire.framer, _refused_payloads(wire, payloads, rng))
    _cuts(court, _frames(court, given), rng)
    _useful_errors(court, streams)
    _refused_in_place(court, wire, given, payloads, rng)
    _nothing_lost(court, given, known, rng)
    _cuts(court, streams, rng)
    _eof(court, given, wire.framer.final_delimiter)
    _payload_memory(court, wire, payloads, rng)
    _refusals_linear(court, wire, payloads, rng)
    _shared(court, given)
    try:
        verdict = verify_framer(wire.framer, payloads=sorted(set(payloads), key=len), seed=seed, examples=examples)
    except LawBroken as broken:
        broken.add_note(f"found in the framer of {court.subject}")
        raise
    for law, count in verdict.checks.items():
        court.checks[law] = court.checks.get(law, 0) + count
    return court.verdict()


def _drawn(wire: Wire[Any], seed: int, count: int) -> list[Any]:
    from framing.testing.strategies import draw, messages  # noqa: PLC0415 -- Hypothesis is optional, and slow to load

    out: list[Any] = []
    for message in draw(messages(wire.codec), seed=seed, count=2 * count):
        with suppress(EncodeError):
            wire.encode(message)
            out.append(message)
            if len(out) == count:
                break
    return out


@dataclass(slots=True)
class _Court:
    """What is judged, by which numbers, and what has been judged so far."""

    subject: str
    make: MakeDecoder
    encode: Callable[[Any], bytes]
    encode_many: Callable[[Any], bytes]
    seed: int
    examples: int
    checks: dict[int, int] = field(default_factory=dict)

    def verdict(self) -> Verdict:
        return Verdict(self.subject, self.seed, self.examples, dict(sorted(self.checks.items())))

    def holds(self, law: int) -> None:
        self.checks[law] = self.checks.get(law, 0) + 1

    def broken(
        self,
        law: int,
        reason: str,
        stream: bytes = b"",
        cuts: Iterable[int] = (),
        expected: Any = None,
        got: Any = None,
    ) -> NoReturn:
        raise LawBroken(
            law,
            reason,
            subject=self.subject,
            stream=stream,
            cuts=tuple(cuts),
            expected=expected,
            got=got,
            seed=self.seed,
            examples=self.examples,
        )


# ------------------------------------------------------------------------------------------ law 9: values


def _values(court: _Court, value: Any) -> None:
    """Frozen, hashable, equal, picklable, replaceable."""
    name = type(value).__name__
    if not is_dataclass(value):
        court.broken(9, f"{name} is no dataclass")
    for one in fields(value):
        before = getattr(value, one.name)
        try:
            setattr(value, one.name, before)
        except (AttributeError, TypeError):
            continue
        court.broken(9, f"{name}.{one.name} can be assigned to: it is not frozen")
    try:
        hash(value)
    except TypeError as error:
        court.broken(9, f"{name} cannot be hashed", got=describe(error))
    options = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
    try:
        twins = [("dataclasses.replace", replace(value)), ("copy.copy", copy.copy(value))]
        if _importable(type(value)):
            twins.append(("pickle", pickle.loads(pickle.dumps(value))))  # noqa: S301 -- it was pickled one call before
        else:
            pickle.dumps(options)
    except Exception as error:  # noqa: BLE001 -- whatever it raises, the value cannot be copied
        court.broken(9, f"{name} cannot be replaced, copied or pickled", expected=value, got=describe(error))
    for how, twin in twins:
        if twin != value or hash(twin) != hash(value):
            court.broken(9, f"{how} gives a value that is not equal, or has another hash", expected=value, got=twin)
        court.holds(9)
    if isinstance(value, Framer):
        with suppress(ValueError):
            other = replace(value, max_frame=value.max_frame + 1)
            if other.max_frame != value.max_frame + 1 or other == value:
                court.broken(9, "dataclasses.replace(framer, max_frame=…) changes nothing", got=other)


def _importable(kind: type) -> bool:
    """Whether pickle finds the class by its name; a class inside a function has none."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def _shared(court: _Court, items: Sequence[Any]) -> None:
    """Two decoders in step, then threads: one value serves them all, and they do not meet."""
    short = [item for item in items if len(court.encode(item)) <= 64][-10:] or list(items[:2])
    stream, other = court.encode_many(short), court.encode_many(short[::-1])
    expected = run(court.make, [stream]).outcome
    for lag in range(4):
        decoders = (court.make(), court.make())
        events: list[Any] = []
        with suppress(FramingError):
            for at in range(len(stream)):
                events.extend(decoders[0].feed(stream[at : at + 1]))
                decoders[1].feed(other[max(0, at - lag) : max(0, at - lag + 1)])
        if not same(tuple(events), expected.events):
            reason = "two decoders of one value, fed in turn, disturb each other"
            court.broken(9, reason, stream, range(1, len(stream)), expected.events, events)
        court.holds(9)
    outcomes: list[Outcome] = []

    def use() -> None:
        outcomes.append(run(court.make, [court.encode_many(short)]).outcome)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(outcomes) != len(threads) or not all(same(one, expected) for one in outcomes):
        court.broken(9, "threads that share the value get something else", stream, (), expected, outcomes)
    court.holds(9)


# --------------------------------------------------------------------------------- law 2: what goes in


def _round_trips(court: _Court, items: Sequence[Any], hostile_items: Sequence[Any], *, required: bool) -> None:
    """Each is refused with `EncodeError` and nothing else, or comes out exactly; also one behind the other."""
    carried: list[tuple[Any, bytes]] = []
    for index, item in enumerate((*items, *hostile_items)):
        try:
            frame = court.encode(item)
        except EncodeError as error:
            if index < len(items) and required:
                court.broken(2, "an item that was given is refused", expected=item, got=describe(error))
            if not str(error):
                court.broken(8, "the EncodeError says nothing", got=item)
            court.holds(2)
            continue
        except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
            court.broken(2, "encoding raises something other than EncodeError", expected=item, got=describe(error))
        if type(frame) is not bytes:
            court.broken(2, "encoding gives something other than bytes", expected=item, got=frame)
        _comes_out(court, "an item is encoded and decoded", frame, [item])
        if isinstance(item, bytes) and (court.encode(memoryview(item)) != frame or court.encode(bytearray(item)) != frame):
            court.broken(2, "the frame differs where the payload is a bytearray or memoryview", frame, got=item)
        carried.append((item, frame))
    group: list[Any] = []
    for one in range(0, len(carried), 5):
        group = [item for item, _ in carried[one : one + 5]]
        _comes_out(court, "items are encoded by encode_many and decoded", court.encode_many(group), group)
        _comes_out(court, "frames are joined and decoded", b"".join(frame for _, frame in carried[one : one + 5]), group)


def _comes_out(court: _Court, what: str, stream: bytes, items: list[Any]) -> None:
    expected = Outcome(tuple(items), None, 0, b"")
    got = run(court.make, [stream]).outcome
    if not same(expected, got):
        law = 8 if got.error is not None and _crashed(got.error) else 2
        court.broken(law, what, stream, (), expected, got)
    court.holds(2)


def _crashed(error: tuple[Any, ...]) -> bool:
    return error[0] not in _PLAIN_ERRORS


def _refusals(court: _Court, framer: Framer) -> None:
    """What must be refused: what is not bytes, and one byte above the limit; in encode_many too."""
    for strange in ("text", 5, None, ["a"], 1.5):
        for call, argument in ((court.encode, strange), (court.encode_many, [strange])):
            try:
                written = call(argument)
            except EncodeError:
                court.holds(2)
            except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
                court.broken(2, f"encoding {strange!r} raises something other than EncodeError", got=describe(error))
            else:
                court.broken(2, f"{strange!r} is no payload, and is encoded", written)
    small = _limited(framer, 300)
    if small is not None and small.max_frame == 300:
        for letter in (b"a", b"\x00", b"\xff"):
            with suppress(EncodeError):
                court.broken(5, "a payload of max_frame + 1 bytes is encoded", small.encode(letter * 301))
            court.holds(5)


def _opens_apart(court: _Court, wire: Wire[Any], items: Sequence[Any]) -> None:
    """Layers and codec have no state: the same again the second time."""
    for item in items:
        try:
            payload = wire.payload(item)
            opened = wire.opener()(payload)
        except FramingError:
            continue  # the second law judges it
        try:
            again, payload_again = wire.opener()(payload), wire.payload(item)
        except FramingError as error:
            court.broken(9, "the same again is refused the second time", payload, (), opened, describe(error))
        if not same(opened, again):
            court.broken(9, "the same payload, opened twice, gives something else", payload, (), opened, again)
        if payload != payload_again:
            court.broken(9, "the same message, encoded twice, gives something else", payload, (), payload, payload_again)
        court.holds(9)


# ---------------------------------------------------------------------------------- law 1: cuts


def _streams(
    court: _Court,
    items: Sequence[Any],
    known: list[bytes],
    rng: Random,
    framer: Framer,
    refused: Sequence[bytes] = (),
) -> list[bytes]:
    """Streams good and bad, short ones first: frames alone and together, cut off, corrupt, too large, and plain junk."""
    frames = [court.encode(item) for item in items]
    streams: dict[bytes, None] = dict.fromkeys(frames)
    for _ in range(court.examples):
        streams[b"".join(rng.choices(frames, k=rng.randrange(2, 5)))] = None
        frame = rng.choice(frames)
        bad = corrupted(rng, frame, known)
        streams[bad] = None
        streams[rng.choice(frames) + bad + rng.choice(frames)] = None
        streams[corrupted(rng, bad, known) + frame] = None
        streams[frame + rng.randbytes(rng.randrange(1, 8))] = None
        streams[frame[: rng.randrange(len(frame))]] = None
        soup = [rng.choice(known) if known and rng.random() < 0.6 else rng.randbytes(1) for _ in range(rng.randrange(1, 12))]
        streams[b"".join(soup)] = None
    for payload in refused:
        frame = framer.encode(payload)
        streams[frame] = None
        streams[rng.choice(frames) + frame + rng.choice(frames)] = None
        streams[rng.choice(frames) + frame + frame + corrupted(rng, rng.choice(frames), known)] = None
    for first in (b"\x00", b"\xff", b"\x7f", b"\x80", b"9", b"a", *(token[:1] for token in known)):
        streams[first * 40] = None
    streams[b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"] = None
    return sorted(streams, key=len)


def _frames(court: _Court, items: Sequence[Any]) -> list[bytes]:
    """Good streams alone: where a cut makes trouble in these, it is the cut."""
    frames = [court.encode(item) for item in items]
    short = [frame for frame in frames if len(frame) <= _LONG][:12]
    return [*short, b"".join(short[:3]), b"".join(short[-3:])]


def _cuts(court: _Court, streams: Sequence[bytes], rng: Random) -> None:
    for stream in streams:
        whole = run(court.make, [stream])
        every = range(1, len(stream)) if len(stream) <= 4 * _LONG else sorted(rng.sample(range(1, len(stream)), 2 * _LONG))
        drip = run(court.make, chunked(stream, every))
        _agree(court, stream, every, whole, drip, None, "fed byte by byte")
        reached = dict(zip(every, drip.progress, strict=False))
        ends = reached[every[len(drip.progress) - 1]] if drip.progress and len(drip.progress) <= len(every) else None
        at_end = drip.progress[-1] if drip.progress else 0
        points = every if len(stream) <= _LONG else sorted(rng.sample(every, 30))
        for at in points:
            split = run(court.make, chunked(stream, (at,)))
            _agree(court, stream, (at,), whole, split, [reached.get(at, ends or at_end)], "fed in two chunks")
        for way in WAYS:
            for cuts in ((), every if len(stream) <= _LONG else points, _random_cuts(stream, rng), _random_cuts(stream, rng)):
                other = run(court.make, chunked(stream, cuts), way)
                how = {"buffer": "received through get_buffer", "limit": "fed with limit=1"}.get(way, f"fed as {way}")
                _agree(court, stream, cuts, whole, other, None, how.replace("as feed", "in several chunks"))


def _random_cuts(stream: bytes, rng: Random) -> tuple[int, ...]:
    """Some cuts, some of them twice: that is an empty chunk."""
    return tuple(sorted(rng.choices(range(len(stream) + 1), k=rng.randrange(1, 8))))


def _agree(
    court: _Court,
    stream: bytes,
    cuts: Sequence[int],
    whole: Run,
    other: Run,
    progress: list[int] | None,
    how: str,
) -> None:
    if not same(whole.outcome, other.outcome):
        court.broken(1, f"{how} the stream gives something else than whole", stream, cuts, whole.outcome, other.outcome)
    if progress is not None and list(other.progress[: len(progress)]) != progress:
        reason = f"{how}: events that the first chunk completes come at another byte than byte by byte"
        court.broken(1, reason, stream, cuts, progress, list(other.progress[: len(progress)]))
    court.holds(1)


def _large(court: _Court, framer: Framer, rng: Random) -> None:
    """A frame larger than the buffer that a decoder lends, which is received in place."""
    payload = of_size(framer, min(framer.max_frame, 5 * _LENT // 2))
    if payload is None or len(payload) < _LENT:
        return
    stream = court.encode(payload) * 2
    whole = run(court.make, [stream])
    expected = Outcome((payload, payload), None, 0, b"")
    if not same(whole.outcome, expected):
        court.broken(2, "a large payload is sent twice", stream, (), "the same twice", "something else")
    for way in WAYS:
        cuts = sorted(rng.sample(range(1, len(stream)), 9))
        if not same(run(court.make, chunked(stream, cuts), way).outcome, expected):
            court.broken(1, f"a large frame, given by {way}, in ten chunks", stream, cuts, "the same twice", "something else")
        court.holds(1)


# ----------------------------------------------------------------------- law 3: nothing good is lost


def _nothing_lost(court: _Court, items: Sequence[Any], known: list[bytes], rng: Random) -> None:
    """Good frames, then one that is corrupt: the good ones are delivered; the error stays, or was asked to be skipped."""
    frames = [court.encode(item) for item in items]
    for _ in range(4 * court.examples):
        chosen = [rng.randrange(len(items)) for _ in range(rng.randrange(4))]
        goods = [(items[index], frames[index]) for index in chosen]
        good = rng.randrange(len(items))
        _behind_goods(court, goods, corrupted(rng, rng.choice(frames), known), items[good], frames[good])


def _nothing_lost_to_the_limit(court: _Court, framer: Framer, payloads: Sequence[bytes]) -> None:
    """The same with a frame that is too large: with a limit such that one half of the payloads passes."""
    sizes = sorted({len(payload) for payload in payloads if len(payload) <= _LONG})
    tight = _limited(framer, sizes[(len(sizes) - 1) // 2]) if len(sizes) > 1 else None
    if tight is None:
        return
    below = [(payload, framer.encode(payload)) for payload in payloads if accepts(tight, payload)]
    above = [framer.encode(payload) for payload in payloads if len(payload) > tight.max_frame]
    narrow = replace(court, make=tight.decoder, subject=repr(tight))
    for index, bad in enumerate(above if below else ()):
        goods = [below[(index + more) % len(below)] for more in range(index % 3)]
        _behind_goods(narrow, goods, bad, *below[-1])


def _behind_goods(court: _Court, goods: Sequence[tuple[Any, bytes]], bad: bytes, item: Any, frame: bytes) -> None:
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
        court.broken(8, "a corrupt frame raises something outside the hierarchy", bad, (), "a Violation", describe(error))
    if alone.error is None and alone.skipped:
        _goes_on(court, items, before + bad + frame * 2, item)
    elif alone.error is not None and not delivered:
        _stays(court, items, before, bad, frame, alone.error)


def _goes_on(court: _Court, goods: list[Any], stream: bytes, last: Any) -> None:
    outcome = run(court.make, [stream]).outcome
    lost = not same(tuple(goods), outcome.events[: len(goods)])
    if lost or (outcome.error is None and not (outcome.events and same(last, outcome.events[-1]))):
        reason = "after a frame that was skipped, good frames are lost"
        court.broken(3, reason, stream, (), f"{goods!r}, …, {last!r}", outcome)
    court.holds(3)


def _stays(court: _Court, goods: list[Any], before: bytes, bad: bytes, good: bytes, alone: Violation) -> None:
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


def _refused_payloads(wire: Wire[Any], payloads: Sequence[bytes], rng: Random) -> list[bytes]:
    """Payloads that the framer carries and a layer or the codec refuses."""
    opener = wire.opener()
    found: dict[bytes, None] = {}
    for _ in range(8 * max(4, len(payloads))):
        payload = corrupted(rng, rng.choice(payloads), [])
        if accepts(wire.framer, payload):
            try:
                opener(payload)
            except DecodeError:
                found[payload] = None
            except Exception:  # noqa: BLE001, S112 -- the eighth law judges it, in a stream
                continue
        if len(found) == 12:
            break
    return sorted(found, key=len)


def _refused_in_place(court: _Court, wire: Wire[Any], items: Sequence[Any], payloads: Sequence[bytes], rng: Random) -> None:
    """A refused payload is raised at its place, once, and poisons nothing."""
    for payload in _refused_payloads(wire, payloads, rng):
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
        _useful_refusal(court, wire, payload)
        court.holds(3)
        court.holds(8)


def _useful_refusal(court: _Court, wire: Wire[Any], payload: bytes) -> None:
    try:
        wire.opener()(payload)
    except DecodeError as error:
        if not str(error).strip():
            court.broken(8, "the DecodeError says nothing", payload)
        try:
            again = describe(pickle.loads(pickle.dumps(error)))  # noqa: S301 -- it was pickled in the same call
        except Exception as failure:  # noqa: BLE001 -- whatever it raises, the error does not travel
            court.broken(8, "the DecodeError cannot be pickled", payload, (), describe(error), describe(failure))
        if again != describe(error):
            court.broken(8, "the DecodeError loses its numbers when pickled", payload, (), describe(error), again)


# ------------------------------------------------------------------------------------ law 4: half frames


def _eof(court: _Court, items: Sequence[Any], final: bytes) -> None:
    """EOF at every offset: clean between frames, and inside one a `TruncatedFrame`.

    Bytes between frames that mean nothing (a leading flag) may be lost at EOF. What means nothing can be told without
    knowing the framer: in front of a whole frame it changes nothing.
    """
    chosen = [item for item in items if len(court.encode(item)) <= 2 * _LONG] or list(items[:1])
    for first, second in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        frames = [court.encode(first), court.encode(second)]
        stream = frames[0] + frames[1]
        boundaries = {0: 0, len(frames[0]): 1, len(stream): 2}
        offsets = range(len(stream) + 1) if len(stream) <= 2 * _LONG else sorted({*range(0, len(stream), 37), *boundaries})
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


def _ends_cleanly(court: _Court, stream: bytes, expected: Outcome, got: Outcome) -> None:
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
        court.broken(4, "after the end of the stream the decoder takes more bytes", stream, (), "ConnectionClosed", "nothing")


def _idle(court: _Court, residue: bytes, items: Sequence[Any]) -> bool:
    """Whether ``residue`` means nothing in front of a frame."""
    for item in items[:3]:
        outcome = run(court.make, [residue + court.encode(item)]).outcome
        if not same(outcome, Outcome((item,), None, 0, b"")):
            return False
    return True


def _is_truncated(court: _Court, stream: bytes, begin: int, whole: tuple[Any, ...], outcome: Outcome) -> None:
    assert outcome.error is not None
    kind, offset, expected, got, head, _ = outcome.error
    if kind != "TruncatedFrame" or not same(whole, outcome.events):
        court.broken(4, "EOF in a frame is something else than TruncatedFrame", stream, (), "TruncatedFrame", outcome)
    if not begin <= offset <= len(stream) or got != len(stream) - offset or not stream[offset:].startswith(head):
        reason = "TruncatedFrame says where the frame began, and how much of it came"
        court.broken(8, reason, stream, (), {"offset": begin, "got": len(stream) - begin}, outcome)
    if expected is not None and expected <= got:
        court.broken(8, "TruncatedFrame expects no more than it got", stream, (), f"more than {got}", expected)


# ----------------------------------------------------------------------------------------- law 5: limits


def _limited(framer: Framer, max_frame: int) -> Framer | None:
    """The framer with another limit; None where its other options do not allow it."""
    try:
        return replace(framer, max_frame=max_frame)
    except (ValueError, TypeError):
        return None


def _limits(court: _Court, framer: Framer, payloads: Sequence[bytes]) -> None:
    """A payload of just ``max_frame`` bytes passes, one byte more does not, however it is cut; and nothing piles up."""
    chosen = [payload for payload in payloads if 0 < len(payload) <= _LONG]
    sizes: dict[int, bytes] = {len(payload): payload for payload in chosen}
    for payload in list(sizes.values())[: max(4, court.examples // 4)]:
        fits, tight = _limited(framer, len(payload)), _limited(framer, len(payload) - 1)
        frame = framer.encode(payload)
        cuts: list[Sequence[int]] = [(), range(1, len(frame)), *((at,) for at in range(1, len(frame)))]
        if fits is not None:
            _expect(court, fits, frame, cuts, Outcome((payload,), None, 0, b""), "a payload of just max_frame bytes is refused")
        if tight is None:
            continue
        with suppress(EncodeError):
            court.broken(5, "a payload of max_frame + 1 bytes is encoded", tight.encode(payload), (), "EncodeError", payload)
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
    court: _Court, framer: Framer, stream: bytes, cuts: list[Sequence[int]], expected: Outcome, reason: str
) -> None:
    for cut in cuts:
        got = run(framer.decoder, chunked(stream, cut)).outcome
        if not same(expected, got):
            court.broken(5, f"{reason}, with max_frame={framer.max_frame}", stream, cut, expected, got)
        court.holds(5)


def _piles_up(court: _Court, framer: Framer, payloads: Sequence[bytes]) -> None:
    """A frame far above the limit, and bytes in which no frame ends, are refused or passed over before they are kept."""
    small = next((one for size in (64, 512, 4096) if (one := _limited(framer, size)) is not None), None)
    if small is None:
        return
    size = 4 * _LENT
    streams = [letter * size for letter in (b"a", b"\x00", b"\xff", b"1", b"\r")]
    streams += [framer.encode(payload)[:2] + b"a" * size for payload in payloads[:4]]
    big = _limited(framer, 2 * size)
    payload = None if big is None else of_size(big, size)
    if big is not None and payload is not None:
        streams.append(big.encode(payload))
    most = 2 * small.max_frame + _HELD
    for stream in streams:
        decoder = small.decoder()
        with suppress(FramingError):
            for at in range(0, len(stream), 512):
                decoder.feed(stream[at : at + 512])
                if decoder.buffered > most:
                    reason = f"with max_frame={small.max_frame}, {decoder.buffered} bytes are held and nothing is refused"
                    court.broken(5, reason, stream[: at + 512], range(512, at + 512, 512), f"{most} at the most", decoder.buffered)
        court.holds(5)


def _layers_bounded(court: _Court, wire: Wire[Any]) -> None:
    """The limit holds for what a layer makes of a payload, while it makes it."""
    size = 1 << 22
    for message in (b"\x00" * size, "a" * size, ["a" * size], {"a": "a" * size}):
        try:
            small = replace(wire, framer=replace(wire.framer, max_frame=4096))
            large = replace(wire, framer=replace(wire.framer, max_frame=2 * size))
            payload = large.payload(message)
            frame = large.encode(message)
        except (ValueError, TypeError):
            continue
        with suppress(EncodeError):
            court.broken(5, "a message above max_frame is encoded", small.encode(message)[:64], (), "EncodeError", "a frame")
        if len(payload) > 4096:
            # Nothing made it smaller: that it is refused is the framer's business.
            return
        peak, outcome = _peak(lambda: run(small.decoder, [frame]).outcome)
        if any(not isinstance(event, Refused) for event in outcome.events):
            reason = f"a payload of {len(payload)} bytes that opens to {size} passes max_frame=4096"
            court.broken(5, reason, frame, (), "DecodeError", f"a message of {size} bytes")
        if peak > _MEMORY:
            reason = f"a payload of {len(payload)} bytes that opens to {size} is opened before it is refused"
            court.broken(6, reason, frame, (), f"{_MEMORY} bytes of memory at the most", peak)
        court.holds(5)
        return


# ----------------------------------------------------------------------------------------- law 6: memory


class _Announced(bytes):
    """A payload that says it is longer than it is: what is encoded of it is a header, and nothing behind."""

    size: int

    def __len__(self) -> int:
        return self.size


def _peak(call: Callable[[], Any]) -> tuple[int, Any]:
    """The most memory that ``call`` held at a time, in bytes, and what it returned."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        result = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not running:
            tracemalloc.stop()
    return peak - before, result


def _memory(court: _Court, framer: Framer, payloads: Sequence[bytes], rng: Random) -> None:
    """Headers that announce as much as they can, from 64 MiB up: they may be refused, or waited for, not allocated for."""
    for bits in (26, 31):
        size = (1 << bits) - 1
        limits = ((1 << 63) - 1, (1 << 62), (1 << 31) - 1, 10**9 - 1)
        generous = next((one for limit in limits if limit >= size and (one := _limited(framer, limit)) is not None), framer)
        heads = list(_announcing(generous, size))
        for payload in payloads[: max(4, court.examples // 4)]:
            frame = framer.encode(payload)
            for _ in range(8):
                at, width = rng.randrange(min(len(frame), 16)), rng.randrange(1, 5)
                run_of = rng.choice((b"\x7f", b"\xff", b"9")) * width
                heads.append(frame[:at] + (b"\x03" + run_of[1:] if bits == 26 else run_of) + frame[at + width :][:8])
        for head in heads:
            peak, _ = _peak(lambda head=head: _receive_some(generous, head))
            if peak > _MEMORY + 16 * len(head):
                reason = f"{len(head) + 16} bytes were received, and {peak} bytes of memory are used"
                court.broken(6, reason, head, (), f"{_MEMORY} at the most", peak)
            court.holds(6)


def _announcing(framer: Framer, size: int) -> Iterator[bytes]:
    for announced in (size, (1 << 24) - 1, (1 << 16) - 1):
        payload = _Announced(b"")
        payload.size = min(announced, framer.max_frame)
        try:
            frame = framer.encode(payload)
        except Exception:  # noqa: BLE001, S112 -- an encoder may well not take a payload that lies
            continue
        if frame:
            yield bytes(frame)


def _receive_some(framer: Framer, head: bytes) -> None:
    decoder = framer.decoder()
    with suppress(FramingError):
        decoder.feed(head)
        decoder.feed(b"ab")
        for _ in range(3):
            lent = decoder.get_buffer()
            lent[:4] = b"abcd"
            decoder.buffer_updated(4)
        decoder.feed(b"cd")


def _payload_memory(court: _Court, wire: Wire[Any], payloads: Sequence[bytes], rng: Random) -> None:
    """A number inside a payload allocates nothing either."""
    opener = wire.opener()
    for payload in sorted(set(payloads), key=len)[:8]:
        for at, width in ((at, width) for at in range(min(len(payload), 24)) for width in (1, 2, 4)):
            bad = payload[:at] + rng.choice((b"\x03", b"\x7f", b"\xff")) + b"\xff" * (width - 1) + payload[at + width :]

            def attempt(bad: bytes = bad) -> None:
                with suppress(FramingError):
                    opener(bad)

            peak, _ = _peak(attempt)
            if peak > 2 * _MEMORY + 64 * len(bad):
                reason = f"a payload of {len(bad)} bytes makes a layer or the codec use {peak} bytes of memory"
                court.broken(6, reason, bad, (), f"{2 * _MEMORY} at the most", peak)
            court.holds(6)


# ------------------------------------------------------------------------------------ law 7: linear cost


def _linear(court: _Court, framer: Framer, known: list[bytes]) -> None:
    """Twice the bytes, about twice the work: one long frame in single bytes, many frames at once, no frame at all."""
    ample = _limited(framer, 1 << 20) or framer

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
    court: _Court,
    framer: Framer,
    stream_of: Callable[[int], bytes | None],
    size: int,
    chunk: int,
    what: str,
    plants: Iterable[bytes] = (b"",),
) -> None:
    costs: list[int] = []
    for one in (size, 2 * size):
        stream = stream_of(one)
        if stream is None:
            return
        cuts = range(chunk, len(stream), chunk) if chunk else ()
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
            court.broken(7, reason, stream, cuts, "to go on where the last search ended", f"{plant!r} is found behind it")
    court.holds(7)


def _feed_all(framer: Framer, chunks: Sequence[bytes]) -> None:
    decoder: Decoder[Any] = Decoder(framer)
    with suppress(Violation):
        for chunk in chunks:
            decoder.feed(chunk)


def _refusals_linear(court: _Court, wire: Wire[Any], payloads: Sequence[bytes], rng: Random) -> None:
    """Many refused payloads in one chunk: each is found without going over those before it."""
    refused = _refused_payloads(wire, payloads, rng)
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
        court.broken(7, "refused payloads in one chunk are looked for again and again", frame * count, (), 2 * costs[0], costs[1])
    court.holds(7)


# --------------------------------------------------------------------------------- law 8: useful errors


def _useful_errors(court: _Court, streams: Iterable[bytes]) -> None:
    """Of the hierarchy, with a text, and with numbers that are true of the stream."""
    for stream in streams:
        decoder = court.make()
        try:
            decoder.feed(stream)
            while decoder.pending:
                decoder.feed(b"")
        except DecodeError:
            continue
        except Violation:
            pass
        except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
            court.broken(8, "a stream raises something outside the hierarchy", stream, (), "a Violation", describe(error))
        if decoder.error is not None:
            _useful(court, stream, decoder.error)


def _useful(court: _Court, stream: bytes, error: Violation) -> None:
    said = describe(error)
    text = str(error)
    if type(error).__name__ not in _PLAIN_ERRORS:
        court.broken(8, "the violation is none of FrameTooLarge, CorruptFrame, TruncatedFrame", stream, (), _PLAIN_ERRORS, said)
    if not 0 <= error.offset < len(stream):
        court.broken(8, "the offset is not in the stream", stream, (), f"0 to {len(stream) - 1}", error.offset)
    if len(error.head) > 16 or not stream[error.offset :].startswith(error.head):
        court.broken(8, "head is not the first bytes of the offending frame", stream, (), stream[error.offset :][:16], error.head)
    if not text.strip() or str(error.offset) not in text:
        court.broken(8, "the text does not say where", stream, (), f"byte {error.offset}", text)
    begins = guess_protocol(error.head)
    if begins is not None and begins not in text:
        court.broken(8, "the bytes are another protocol's, and the text does not say so", stream, (), begins, text)
    try:
        again = describe(pickle.loads(pickle.dumps(error)))  # noqa: S301 -- it was pickled in the same call
    except Exception as failure:  # noqa: BLE001 -- whatever it raises, the error does not travel
        court.broken(8, "the error cannot be pickled", stream, (), said, describe(failure))
    if again != said:
        court.broken(8, "the error loses its numbers when pickled", stream, (), said, again)
    court.holds(8)


def _foreign(court: _Court) -> None:
    """Streams of other protocols, from the first byte: whatever is refused of them is refused usefully."""
    for stream in (
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4,
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b'{"a": 1}' * 4,
    ):
        _useful_errors(court, [stream])
