"""Payloads to try a framer with, made from a seed: those that it accepts, and those that are meant to trip it up.

What is hostile differs from framer to framer, and can be read off the framer itself: the bytes that it writes around a
payload, and the byte strings among its options. A payload made of these, of their halves and of sizes at the edge of a
length field is where encoders and decoders disagree.

Framers that deliver the frame whole, header included, accept only payloads that are frames already. These are built
from the options where they say enough, and else *grown*: bytes are added until the framer's own kernel says that a frame
is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from random import Random
from typing import Any

from framing.framers import FixedSize, Framer, LengthField, StructHeader
from framing.kernels import write_varint

__all__ = [
    "EDGE_SIZES",
    "accepted",
    "accepts",
    "corrupted",
    "field_frame",
    "grown",
    "hostile",
    "of_size",
    "shaped",
    "tokens",
]

EDGE_SIZES = (0, 1, 2, 9, 10, 11, 99, 100, 127, 128, 253, 254, 255, 256, 257, 507, 508, 509, 510)
"""Sizes at which a length field, a varint, a decimal number or a COBS block changes its shape."""

_SPECIAL: tuple[bytes, ...] = (
    b"\x00",
    b"\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b"\x1e",
    b"\xc0",
    b"\xdb",
    b"\xdb\xdc",
    b"\xdb\xdd",
    b"\x7e",
    b"\x7d",
    b"\x7d\x5e",
    b"\xff",
    b",",
    b":",
    b"0",
    b" ",
    b"\x80",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
)
_GROWTH = 256
_TRIES = 24
_RESTARTS = 12


def accepts(framer: Framer, payload: bytes) -> bool:
    """Whether ``framer`` encodes ``payload``; an encoder that crashes does not accept."""
    try:
        framer.encode(payload)
    except Exception:  # noqa: BLE001 -- what a crash is worth, the second law judges
        return False
    return True


def tokens(framer: Framer) -> list[bytes]:
    """The byte strings that mean something to ``framer``: its options, and what it writes around a payload."""
    found: dict[bytes, None] = {}
    for one in fields(framer):
        value: Any = getattr(framer, one.name)
        parts: list[Any] = [*value] if isinstance(value, tuple) else [value]
        for part in parts:
            if isinstance(part, bytes) and 0 < len(part) <= _GROWTH:
                found[part] = None
    for declaration in ("declaration", "subcons"):
        for constant in _constants(getattr(framer, declaration, None), 0):
            found[constant] = None
    for letter in (b"a", b"\xa5"):
        for payload in (letter, letter * 3):
            if accepts(framer, payload):
                before, _, behind = framer.encode(payload).partition(payload)
                for part in (before[:16], behind[:16]):
                    if part:
                        found[part] = None
    return list(found)


def _constants(declaration: Any, depth: int) -> Iterator[bytes]:
    """The constants in a construct declaration: its magic numbers, as bytes."""
    if depth > 8 or declaration is None:
        return
    if type(declaration).__name__ == "Const":
        built = declaration.build(None)
        if built:
            yield built
        return
    for name in ("subcon", "thensubcon", "elsesubcon"):
        yield from _constants(getattr(declaration, name, None), depth + 1)
    several: list[Any] = getattr(declaration, "subcons", None) or []
    for part in several:
        yield from _constants(part, depth + 1)


def field_frame(framer: LengthField, header: bytes, body: bytes) -> bytes | None:
    """The whole frame that `LengthField` delivers for ``body``, with ``header`` before its length; None where none fits."""
    header = (framer.prefix + header + bytes(framer.offset))[: framer.offset]
    width = framer.width
    room = framer.min_frame - framer.offset - (1 if width == "varint" else width) - len(framer.trailer)
    value = max(len(body), room) + len(framer.trailer) - framer.adjust
    if value < 0:
        body += bytes(-value)
        value = 0
    body = body.ljust(room, b"\x00")
    try:
        length = write_varint(value) if width == "varint" else value.to_bytes(width, framer.byteorder)
    except OverflowError:
        return None
    frame = header + length + body + framer.trailer
    return frame if accepts(framer, frame) else None


def grown(framer: Framer, rng: Random, most: int = _GROWTH) -> bytes | None:
    """A payload that ``framer``'s own kernel finds in random bytes, steered towards short frames; None where none comes."""
    split = framer.splitter()
    known = tokens(framer)
    for _ in range(_RESTARTS):
        data = b""
        need = 1
        while need:
            missing = need - len(data)
            step = need
            for _ in range(_TRIES):
                further = data + _piece(rng, missing, known if not data else ())
                try:
                    payloads, used, need, _, _, fault = split(further, 0, None, 0)
                except Exception:  # noqa: BLE001 -- what a crash is worth, the eighth law judges
                    return None
                if payloads:
                    return bytes(payloads[0])
                if fault is None and not used and len(further) < need <= most:
                    data = further
                    break
                need = step
            else:
                break
    return None


def _piece(rng: Random, size: int, known: list[bytes] | tuple[()]) -> bytes:
    """Bytes for the place that a framer asks to be filled: often a small number in one byte order or the other."""
    choice = rng.randrange(6)
    small = bytes((rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 12, 20, 40)),))
    if choice == 0 and known:
        return rng.choice(known).ljust(size, b"\x00")
    if choice <= 2:
        return small.rjust(size, b"\x00")
    return small.ljust(size, b"\x00") if choice == 3 else rng.randbytes(size)


def of_size(framer: Framer, size: int) -> bytes | None:
    """A payload of ``size`` plain bytes that ``framer`` accepts, or as near to that as a whole frame comes; or None."""
    if isinstance(framer, LengthField):
        width = len(write_varint(size)) if framer.width == "varint" else framer.width
        return field_frame(framer, b"", b"a" * max(0, size - framer.offset - width - len(framer.trailer)))
    for letter in (b"a", b"1", b"\x00", b"\x01", b" "):
        if accepts(framer, letter * size):
            return letter * size
    return None


def shaped(framer: Framer, rng: Random, body: bytes) -> bytes | None:
    """A payload made of ``body`` that ``framer`` accepts: ``body`` itself where it can be, or a frame around it, or None."""
    if isinstance(framer, LengthField):
        return field_frame(framer, rng.randbytes(framer.offset), body)
    if isinstance(framer, StructHeader):
        return grown(framer, rng)
    if isinstance(framer, FixedSize):
        return (body * (framer.size // max(1, len(body)) + 1) if body else bytes(framer.size))[: framer.size]
    least = getattr(framer, "min_frame", 0)
    if isinstance(least, int) and len(body) < least:
        body = body.ljust(least, b"a")
    return body if accepts(framer, body) else None


def hostile(framer: Framer, rng: Random, count: int) -> list[bytes]:
    """Payloads meant to trip ``framer`` up, accepted or not: its own tokens, whole and halved, and sizes at the edges."""
    known = [*tokens(framer), *_SPECIAL]
    parts = list(known)
    for token in known:
        parts += [token[:cut] for cut in range(1, len(token))] + [token[cut:] for cut in range(1, len(token))]
    own = tokens(framer)
    out: dict[bytes, None] = {b"": None}
    for token in own:
        for payload in (token, b"a" + token, token + b"a", token[:-1], token[1:], token + token, b"a" + token[:1]):
            out[payload] = None
    for token in parts[:64]:
        out[token] = None
        out[b"ab" + token] = None
    for size in EDGE_SIZES:
        for fill in (b"a", b"\x00", b"\xff", b"1"):
            out[fill * size] = None
        out[rng.randbytes(size)] = None
    for _ in range(count):
        pieces = [
            rng.choice(parts) if rng.random() < 0.6 else rng.randbytes(rng.randrange(4))
            for _ in range(rng.randrange(1, 6))
        ]
        out[b"".join(pieces)] = None
    return list(out)


def accepted(framer: Framer, rng: Random, count: int) -> list[bytes]:
    """About ``count`` different payloads that ``framer`` accepts, short ones first."""
    found: dict[bytes, None] = {}
    plain = [b"a", b"", b"ab", b"hello", b"{}", b"\x00", b"\xff\x00\xff"]
    candidates = plain + hostile(framer, rng, 2 * count)
    if isinstance(framer, StructHeader):
        # Grown from random bytes whatever the body: a few of them are as good as many.
        candidates = candidates[: 2 * count]
    for body in candidates:
        payload = shaped(framer, rng, body)
        if payload is not None and accepts(framer, payload):
            found[payload] = None
    if not found:
        found = _stubborn(framer, rng, count)
    short = sorted(found, key=len)
    keep = max(1, count)
    if len(short) <= keep:
        return short
    # All sizes stay represented: every so many-th, and the longest.
    return [short[index * (len(short) - 1) // max(1, keep - 1)] for index in range(keep)]


def _stubborn(framer: Framer, rng: Random, count: int) -> dict[bytes, None]:
    """For a framer that accepts none of the usual: try every small size, then let its kernel lead."""
    found: dict[bytes, None] = {}
    for size in range(_GROWTH):
        payload = of_size(framer, size)
        if payload is not None:
            found[payload] = None
            for _ in range(4):
                other = rng.randbytes(size)
                if accepts(framer, other):
                    found[other] = None
    for _ in range(count if not found else 0):
        payload = grown(framer, rng)
        if payload is not None and accepts(framer, payload):
            found[payload] = None
    return found


def corrupted(rng: Random, frame: bytes, known: list[bytes]) -> bytes:
    """``frame`` with one thing wrong: a byte changed, lost, doubled or added, a run overwritten, or a token put in."""
    if not frame:
        return rng.randbytes(3)
    at = rng.randrange(min(len(frame), 24)) if rng.random() < 0.7 else rng.randrange(len(frame))
    choice = rng.randrange(8)
    if choice == 0:
        return frame[:at] + bytes((frame[at] ^ (1 << rng.randrange(8)),)) + frame[at + 1 :]
    if choice == 1:
        return frame[:at] + rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80", b"0", b"9", b"-", b" ")) + frame[at + 1 :]
    if choice == 2:
        return frame[:at] + frame[at + 1 :]
    if choice == 3:
        return frame[: at + 1] + frame[at:]
    if choice == 4:
        return frame[:at] + rng.randbytes(rng.randrange(1, 4)) + frame[at:]
    if choice == 5:
        width = rng.randrange(1, 6)
        return frame[:at] + rng.choice((b"\x00", b"\xff", b"\x7f", b"9")) * width + frame[at + width :]
    if choice == 6 and known:
        return frame[:at] + rng.choice(known) + frame[at:]
    return frame[:at] + frame[len(frame) - at // 2 :]
