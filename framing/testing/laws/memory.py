"""Law 6: what is announced costs nothing until it comes; and a payload opens to no more than its limit (law 5 again)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from framing.errors import EncodeError, FramingError
from framing.framers import Framer
from framing.testing.laws.court import MEMORY, Court, limited, peak_of
from framing.testing.runs import Refused, run
from framing.wire import Wire

__all__ = ["layers_bounded", "memory", "payload_memory"]


class _Announced(bytes):
    """A payload that says it is longer than it is: what is encoded of it is a header, and nothing behind."""

    size: int

    def __len__(self) -> int:
        return self.size


def memory(court: Court, framer: Framer, payloads: Sequence[bytes], rng: Random) -> None:
    """Headers that announce as much as they can, from 64 MiB up: they may be refused, or waited for, not allocated for."""
    for bits in (26, 31):
        size = (1 << bits) - 1
        limits = ((1 << 63) - 1, (1 << 62), (1 << 31) - 1, 10**9 - 1)
        generous = next(
            (one for limit in limits if limit >= size and (one := limited(framer, limit)) is not None), framer
        )
        heads = list(_announcing(generous, size))
        for payload in payloads[: max(4, court.examples // 4)]:
            frame = framer.encode(payload)
            for _ in range(8):
                at, width = rng.randrange(min(len(frame), 16)), rng.randrange(1, 5)
                run_of = rng.choice((b"\x7f", b"\xff", b"9")) * width
                heads.append(frame[:at] + (b"\x03" + run_of[1:] if bits == 26 else run_of) + frame[at + width :][:8])
        for head in heads:
            peak, _ = peak_of(partial(_receive_some, generous, head))
            if peak > MEMORY + 16 * len(head):
                reason = f"{len(head) + 16} bytes were received, and {peak} bytes of memory are used"
                court.broken(6, reason, head, (), f"{MEMORY} at the most", peak)
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


def payload_memory(court: Court, wire: Wire[Any], payloads: Sequence[bytes], rng: Random) -> None:
    """A number inside a payload allocates nothing either."""
    opener = wire.opener()
    for payload in sorted(set(payloads), key=len)[:8]:
        for at, width in ((at, width) for at in range(min(len(payload), 24)) for width in (1, 2, 4)):
            bad = payload[:at] + rng.choice((b"\x03", b"\x7f", b"\xff")) + b"\xff" * (width - 1) + payload[at + width :]

            def attempt(bad: bytes = bad) -> None:
                with suppress(FramingError):
                    opener(bad)

            peak, _ = peak_of(attempt)
            if peak > 2 * MEMORY + 64 * len(bad):
                reason = f"a payload of {len(bad)} bytes makes a layer or the codec use {peak} bytes of memory"
                court.broken(6, reason, bad, (), f"{2 * MEMORY} at the most", peak)
            court.holds(6)


def layers_bounded(court: Court, wire: Wire[Any]) -> None:
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
            court.broken(
                5, "a message above max_frame is encoded", small.encode(message)[:64], (), "EncodeError", "a frame"
            )
        if len(payload) > 4096:
            # Nothing made it smaller: that it is refused is the framer's business.
            return
        peak, opened = peak_of(partial(run, small.decoder, [frame]))
        if any(not isinstance(event, Refused) for event in opened.outcome.events):
            reason = f"a payload of {len(payload)} bytes that opens to {size} passes max_frame=4096"
            court.broken(5, reason, frame, (), "DecodeError", f"a message of {size} bytes")
        if peak > MEMORY:
            reason = f"a payload of {len(payload)} bytes that opens to {size} is opened before it is refused"
            court.broken(6, reason, frame, (), f"{MEMORY} bytes of memory at the most", peak)
        court.holds(5)
        return
