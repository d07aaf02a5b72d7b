"""Kernels for byte stuffing: COBS, SLIP and HDLC, whose end byte can appear nowhere inside a frame.

That is what makes them able to prove where the next frame starts after a bad one, and so to skip. The loop around
them is one; what differs is how a body is turned back into the payload, and that leans on ``bytes.replace``,
``zlib.crc32`` and ``binascii.crc_hqx``, which are native code everywhere.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Callable
from typing import Any

from framing.kernels.contract import CORRUPT, DISCARDING, TOO_LARGE, Data, Fault, Memo, Split

__all__ = [
    "fcs",
    "join_cobs",
    "join_hdlc",
    "join_slip",
    "split_cobs",
    "split_hdlc",
    "split_slip",
    "stuff_cobs",
    "stuff_hdlc",
    "stuff_slip",
]

_COBS_END = b"\x00"
_SLIP_END, _SLIP_ESC, _SLIP_ESC_END, _SLIP_ESC_ESC = b"\xc0", b"\xdb", b"\xdb\xdc", b"\xdb\xdd"
_HDLC_FLAG, _HDLC_ESC, _HDLC_ESC_FLAG, _HDLC_ESC_ESC = b"\x7e", b"\x7d", b"\x7d\x5e", b"\x7d\x5d"
_HDLC_ESCAPED = re.compile(rb"\x7d(.)", re.DOTALL)

# binascii has the CCITT polynomial most significant bit first; HDLC sends least significant first. The one is the
# other seen in a mirror: mirror each byte going in and the sum coming out.
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


# What comes of a sum over a payload and its check sequence together, whatever the payload is (RFC 1662, appendix C), in that
# mirror where there is one.
_GOOD_16, _GOOD_32 = 0x1D0F, 0x2144DF1C


def fcs(width: int, payload: Data) -> bytes:
    """The frame check sequence of ``width`` bits (16, 32 or 0) in the order in which it is sent (RFC 1662, appendix C)."""
    if width == 16:
        mirrored = binascii.crc_hqx(payload.translate(_MIRROR), 0xFFFF)
        return bytes((_MIRROR[mirrored >> 8] ^ 0xFF, _MIRROR[mirrored & 0xFF] ^ 0xFF))
    if width == 32:
        return zlib.crc32(payload).to_bytes(4, "little")
    return b""


def stuff_cobs(payload: bytes) -> bytes:
    """COBS without its end byte; a final block of 254 bytes in the short form."""
    out = bytearray()
    runs = payload.split(b"\x00")
    last = len(runs) - 1
    for index, run in enumerate(runs):
        at = 0
        while len(run) - at >= 254:
            out.append(255)
            out += run[at : at + 254]
            at += 254
            if at == len(run) and index == last:
                return bytes(out)
        out.append(len(run) - at + 1)
        out += run[at:]
    return bytes(out)


def stuff_slip(payload: bytes) -> bytes:
    """SLIP without its end bytes (RFC 1055)."""
    return payload.replace(_SLIP_ESC, _SLIP_ESC_ESC).replace(_SLIP_END, _SLIP_ESC_END)


def stuff_hdlc(width: int, payload: bytes) -> bytes:
    """The payload and its FCS, escaped, without flags (RFC 1662, section 4.2)."""
    body = payload + fcs(width, payload)
    return body.replace(_HDLC_ESC, _HDLC_ESC_ESC).replace(_HDLC_FLAG, _HDLC_ESC_FLAG)


def join_cobs(max_frame: int, payloads: list[Any]) -> bytes | None:
    """The frames of all payloads, as `split_cobs` takes them apart, in one bytes object.

    None where one of them is no ``bytes``, too large, or cannot be carried: what is wrong, encoding it by itself tells.
    """
    if not _can_be_joined(0, max_frame, payloads):
        return None
    return b"".join([stuff_cobs(payload) + _COBS_END for payload in payloads])


def join_slip(max_frame: int, payloads: list[Any]) -> bytes | None:
    """The same for `split_slip`."""
    if not _can_be_joined(1, max_frame, payloads):
        return None
    return b"".join([_SLIP_END + stuff_slip(payload) + _SLIP_END for payload in payloads])


def join_hdlc(width: int, max_frame: int, payloads: list[Any]) -> bytes | None:
    """The same for `split_hdlc`."""
    if not _can_be_joined(0 if width else 1, max_frame, payloads):
        return None
    return b"".join([_HDLC_FLAG + stuff_hdlc(width, payload) + _HDLC_FLAG for payload in payloads])


def _can_be_joined(least: int, most: int, payloads: list[Any]) -> bool:
    return list(map(type, payloads)).count(bytes) == len(payloads) and all(
        least <= size <= most for size in set(map(len, payloads))
    )


def _unstuff_cobs(body: Data) -> Data | str:
    size = len(body)
    if body[0] == size:
        return body[1:]  # it has no zero
    parts: list[Any] = []
    at = 0
    while True:
        code = body[at]
        end = at + code
        if end > size or not code:  # a zero can be here only where a memo passed over it
            return "a COBS block reaches past the end of its frame"
        parts.append(body[at + 1 : end])
        if end == size:
            return body[:0].join(parts)  # bytes or bytearray, as the body is
        if code < 255:
            parts.append(b"\x00")
        at = end


def _unstuff_slip(body: Data) -> Data | str:
    escapes = body.count(_SLIP_ESC)
    if not escapes:
        return body
    if escapes != body.count(_SLIP_ESC_END) + body.count(_SLIP_ESC_ESC):
        return "an escape byte is followed by neither DC nor DD"
    # The order matters: an escape that the second replacement makes must not meet the first.
    return body.replace(_SLIP_ESC_END, _SLIP_END).replace(_SLIP_ESC_ESC, _SLIP_ESC)


def _unstuff_hdlc(width: int, body: Data) -> Data | str:
    escapes = body.count(_HDLC_ESC)
    if escapes:
        if body.endswith(_HDLC_ESC) and _HDLC_ESCAPED.sub(b"", body).endswith(_HDLC_ESC):
            return "the sender aborted it (escape, then flag)"
        if escapes == body.count(_HDLC_ESC_FLAG) + body.count(_HDLC_ESC_ESC):
            body = body.replace(_HDLC_ESC_FLAG, _HDLC_FLAG).replace(_HDLC_ESC_ESC, _HDLC_ESC)
        else:
            body = body[:0] + _HDLC_ESCAPED.sub(lambda found: bytes((found[1][0] ^ 0x20,)), body)
    if not width:
        return body
    split_at = len(body) - width // 8
    if split_at < 0:
        return "it is shorter than its frame check sequence"
    good = (
        binascii.crc_hqx(body.translate(_MIRROR), 0xFFFF) == _GOOD_16 if width == 16 else zlib.crc32(body) == _GOOD_32
    )
    return body[:split_at] if good else "its frame check sequence does not match"


def _split_stuffed(
    end: bytes,
    bound: int,
    unstuff: Callable[[Data], Data | str],
    max_frame: int,
    skip: bool,
    data: Data,
    start: int,
    memo: Memo,
    limit: int,
) -> Split:
    """Bodies between ``end`` bytes, empty ones ignored; a body of more than ``bound`` bytes is too large unread."""
    payloads: list[Any] = []
    size = len(data)
    skipped = 0
    at = start
    scanned = memo or 0
    while True:
        if scanned == DISCARDING:
            stop = data.find(end, at)
            if stop < 0:
                return payloads, size, 1, DISCARDING, skipped, None
            at = stop + 1
            scanned = 0
        stop = data.find(end, at + scanned, at + bound + 1)
        if stop < 0 and size - at <= bound:
            held = size - at
            return payloads, at, held + 1, held or None, skipped, None
        if stop == at:
            at += 1
            continue
        scanned = 0
        payload: Data | str | None = unstuff(data[at:stop]) if stop >= 0 else None
        if payload is None or (not isinstance(payload, str) and len(payload) > max_frame):
            if not skip:
                # How many bytes of the payload came is known for a whole frame only: say the least that it can be.
                fault: Fault = (TOO_LARGE, "no end byte came within that", max_frame, max_frame + 1, max_frame + 1)
                return payloads, at, 0, None, skipped, fault
        elif isinstance(payload, str):
            if not skip:
                return payloads, at, 0, None, skipped, (CORRUPT, payload, None, None, stop - at)
        else:
            payloads.append(payload)
            at = stop + 1
            if limit and len(payloads) == limit:
                return payloads, at, 0, None, skipped, None
            continue
        skipped += 1
        if stop < 0:
            at += bound
            scanned = DISCARDING
        else:
            at = stop + 1


def split_cobs(max_frame: int, skip: bool, data: Data, start: int, memo: Memo, limit: int) -> Split:
    """Consistent overhead byte stuffing: blocks of up to 254 bytes, a zero at the end."""
    bound = max_frame + max_frame // 254 + 1
    return _split_stuffed(_COBS_END, bound, _unstuff_cobs, max_frame, skip, data, start, memo, limit)


def split_slip(max_frame: int, skip: bool, data: Data, start: int, memo: Memo, limit: int) -> Split:
    """RFC 1055: C0 at the end; DB DC and DB DD for C0 and DB."""
    return _split_stuffed(_SLIP_END, 2 * max_frame, _unstuff_slip, max_frame, skip, data, start, memo, limit)


def split_hdlc(width: int, max_frame: int, skip: bool, data: Data, start: int, memo: Memo, limit: int) -> Split:
    """RFC 1662: 7E around, 7D and XOR 20 inside, a frame check sequence of ``width`` bits behind the payload."""

    def unstuff(body: Data) -> Data | str:
        return _unstuff_hdlc(width, body)

    bound = 2 * (max_frame + width // 8)
    return _split_stuffed(_HDLC_FLAG, bound, unstuff, max_frame, skip, data, start, memo, limit)
