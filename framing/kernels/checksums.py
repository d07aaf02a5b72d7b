"""Checksums over a payload: one function an algorithm, bytes in, an unsigned number out.

What the standard library computes natively is taken from there: CRC-32 and Adler-32 from zlib, and every CRC of the
CCITT polynomial from ``binascii.crc_hqx``, the reflected ones through the mirror that `framing.kernels.stuffing` uses
for HDLC. CRC-32C and the CRC of Modbus no library gives: they are loops over a table, a byte at a time. The names and
parameters are those of the catalogue of parametrised CRC algorithms (reveng), and so are the check values of the tests.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Callable
from functools import cache

from framing.kernels.stuffing import fcs

__all__ = ["CHECKSUMS", "crc16_modbus", "crc32c"]

_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_CASTAGNOLI = 0x82F63B78  # 1EDC6F41 seen in a mirror
_MODBUS = 0xA001  # 8005 seen in a mirror


@cache
def _table(polynomial: int) -> tuple[int, ...]:
    """What each byte adds to the remainder, for a polynomial whose least significant bit goes first."""
    table: list[int] = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (polynomial if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


def crc32c(payload: bytes) -> int:
    """CRC-32C, the Castagnoli polynomial (RFC 3720, section 12.1)."""
    table = _table(_CASTAGNOLI)
    remainder = 0xFFFFFFFF
    for byte in payload:
        remainder = remainder >> 8 ^ table[(remainder ^ byte) & 0xFF]
    return remainder ^ 0xFFFFFFFF


def crc16_modbus(payload: bytes) -> int:
    """The CRC of Modbus over a serial line (Modbus over Serial Line, section 6.2.2)."""
    table = _table(_MODBUS)
    remainder = 0xFFFF
    for byte in payload:
        remainder = remainder >> 8 ^ table[(remainder ^ byte) & 0xFF]
    return remainder


def _xmodem(payload: bytes) -> int:
    return binascii.crc_hqx(payload, 0)


def _ccitt_false(payload: bytes) -> int:
    return binascii.crc_hqx(payload, 0xFFFF)


def _x25(payload: bytes) -> int:
    return int.from_bytes(fcs(16, payload), "little")


def _kermit(payload: bytes) -> int:
    mirrored = binascii.crc_hqx(payload.translate(_MIRROR), 0)
    return _MIRROR[mirrored & 0xFF] << 8 | _MIRROR[mirrored >> 8]


CHECKSUMS: dict[str, tuple[Callable[[bytes], int], int]] = {
    "crc32": (zlib.crc32, 4),
    "crc32c": (crc32c, 4),
    "adler32": (zlib.adler32, 4),
    "crc16-xmodem": (_xmodem, 2),
    "crc16-ccitt-false": (_ccitt_false, 2),
    "crc16-x25": (_x25, 2),
    "crc16-kermit": (_kermit, 2),
    "crc16-modbus": (crc16_modbus, 2),
}
"""The function of each name, and how many bytes its number takes."""
