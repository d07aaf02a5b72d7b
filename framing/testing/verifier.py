"""verify_framer and verify_wire: all laws that apply, over one framer or wire; free of any test runner.

Every law is judged by bytes and operations, never by seconds, on streams made from a seed: the same arguments give the
same verdict on every machine. The first law that is found broken is raised as `LawBroken`; they are tried in the order in
which one failure explains the next (what does not survive encoding cannot be cut), and short streams come first.

What a verification cannot see: a framer that is consistent and wrong. Hold it against known vectors of its protocol too.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from random import Random
from typing import Any

from framing.errors import EncodeError
from framing.framers import Framer
from framing.testing.laws.cost import linear, refusals_linear
from framing.testing.laws.court import Court
from framing.testing.laws.cuts import cuts, large_frames
from framing.testing.laws.ends import ends
from framing.testing.laws.errors import foreign_streams, useful_errors
from framing.testing.laws.limits import limits
from framing.testing.laws.losses import nothing_lost, nothing_lost_to_the_limit, refused_in_place
from framing.testing.laws.memory import layers_bounded, memory, payload_memory
from framing.testing.laws.round_trips import in_pieces, opens_apart, refusals, round_trips
from framing.testing.laws.streams import good_streams, mixed_streams, refused_payloads
from framing.testing.laws.values import shared, values
from framing.testing.samples import accepted, hostile, tokens
from framing.testing.verdict import LawBroken, Verdict
from framing.wire import Wire

__all__ = ["verify_framer", "verify_wire"]


def verify_framer(
    framer: Framer, *, payloads: Iterable[bytes] | None = None, seed: int = 0, examples: int = 50
) -> Verdict:
    """Hold ``framer`` against every law; return the verdict, or raise `LawBroken` for the first that does not hold.

    ``payloads`` are some that the framer must carry; made up where none are given, which needs help only for a
    framer that accepts few. ``examples`` is about how many payloads and streams each law is judged by; the same
    ``seed`` makes the same ones.
    """
    rng = Random(seed)  # noqa: S311 -- to be repeated, not to be secret
    court = Court(repr(framer), framer.decoder, framer.encode, framer.encode_many, seed, examples)
    values(court, framer)
    given = list(payloads) if payloads is not None else accepted(framer, rng, examples)
    strange = hostile(framer, rng, examples)
    round_trips(court, given, strange, required=payloads is not None)
    in_pieces(court, framer, given, strange)
    if not given:
        court.broken(2, "no payload was found that the framer accepts: give some in payloads=")
    refusals(court, framer)
    known = tokens(framer)
    streams = mixed_streams(court, given, known, rng, framer)
    cuts(court, good_streams(court, given), rng)
    useful_errors(court, streams)
    nothing_lost(court, given, known, rng)
    cuts(court, streams, rng)
    large_frames(court, framer, rng)
    nothing_lost_to_the_limit(court, framer, given)
    ends(court, given, framer.final_delimiter)
    limits(court, framer, given)
    memory(court, framer, given, rng)
    linear(court, framer, known)
    foreign_streams(court)
    shared(court, given)
    return court.verdict()


def verify_wire(
    wire: Wire[Any], *, messages: Iterable[Any] | None = None, seed: int = 0, examples: int = 30
) -> Verdict:
    """Hold ``wire`` against every law; return the verdict, or raise `LawBroken` for the first that does not hold.

    Its framer is judged by `verify_framer`, over the payloads that the messages make. ``messages`` are some that the
    wire must carry; where none are given they come from `framing.testing.messages`, which needs ``framing[testing]``.
    """
    rng = Random(seed)  # noqa: S311 -- to be repeated, not to be secret
    court = Court(str(wire), wire.decoder, wire.encode, wire.encode_many, seed, examples)
    values(court, wire)
    for part in (wire.framer, *wire.layers, wire.codec):
        values(court, part)
    given = list(messages) if messages is not None else _drawn(wire, seed, examples)
    opens_apart(court, wire, given)
    round_trips(court, given, [], required=True)
    if not given:
        court.broken(2, "no message was found that the wire accepts: give some in messages=")
    payloads = [wire.payload(message) for message in given]
    layers_bounded(court, wire)
    known = tokens(wire.framer)
    streams = mixed_streams(court, given, known, rng, wire.framer, refused_payloads(wire, payloads, rng))
    cuts(court, good_streams(court, given), rng)
    useful_errors(court, streams)
    refused_in_place(court, wire, given, payloads, rng)
    nothing_lost(court, given, known, rng)
    cuts(court, streams, rng)
    ends(court, given, wire.framer.final_delimiter)
    payload_memory(court, wire, payloads, rng)
    refusals_linear(court, wire, payloads, rng)
    shared(court, given)
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
