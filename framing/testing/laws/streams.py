"""The streams that the laws are judged by: good ones, cut off, corrupt, and plain junk; and payloads that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from framing.errors import DecodeError
from framing.framers import Framer
from framing.testing.laws.court import LONG, Court
from framing.testing.samples import accepts, corrupted
from framing.wire import Wire

__all__ = ["good_streams", "mixed_streams", "refused_payloads"]


def mixed_streams(
    court: Court,
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
        soup = [
            rng.choice(known) if known and rng.random() < 0.6 else rng.randbytes(1) for _ in range(rng.randrange(1, 12))
        ]
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


def good_streams(court: Court, items: Sequence[Any]) -> list[bytes]:
    """Good streams alone: where a cut makes trouble in these, it is the cut."""
    frames = [court.encode(item) for item in items]
    short = [frame for frame in frames if len(frame) <= LONG][:12]
    return [*short, b"".join(short[:3]), b"".join(short[-3:])]


def refused_payloads(wire: Wire[Any], payloads: Sequence[bytes], rng: Random) -> list[bytes]:
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
