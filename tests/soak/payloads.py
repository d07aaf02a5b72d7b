"""Payloads that tell where they belong, so that whoever gets one can judge every byte of it.

A payload says its connection's key, its number there and its size, and the rest follows from these: a reply that is lost,
doubled, mixed up, cut or changed by one bit is told from the one that was due, on either side, without anything being kept.
"""

from __future__ import annotations

import struct
from random import Random

from framing import LengthPrefixed, Wire

__all__ = ["HEAD", "WIRE", "make", "misplaced"]

WIRE = Wire(LengthPrefixed(4, max_frame=1 << 20))

HEAD = struct.Struct(">QII")
"""The connection's key, the payload's number, and the size of its filling."""

_BLOCK_BYTES = 1 << 20
_BLOCK = Random(0).randbytes(_BLOCK_BYTES + (1 << 20))


def _filling(key: int, number: int, size: int) -> bytes:
    begin = (key * 2_654_435_761 + number * 40_503) % _BLOCK_BYTES
    return _BLOCK[begin : begin + size]


def make(key: int, number: int, size: int) -> bytes:
    """A payload with ``size`` bytes behind its head."""
    return HEAD.pack(key, number, size) + _filling(key, number, size)


def misplaced(payload: bytes, number: int, key: int | None = None) -> str | None:
    """What is wrong with ``payload``, which should be that ``number``, and of that connection; None if nothing is."""
    if len(payload) < HEAD.size:
        return f"{len(payload)} bytes are no payload"
    its_key, its_number, size = HEAD.unpack_from(payload)
    if key is not None and its_key != key:
        return f"it belongs to connection {its_key:#x}, and not to {key:#x}"
    if its_number != number:
        return f"it is number {its_number}, and number {number} was due: {'doubled' if its_number < number else 'lost'}"
    if payload[HEAD.size :] != _filling(its_key, its_number, size):
        return f"number {number} has other bytes than were sent"
    return None
