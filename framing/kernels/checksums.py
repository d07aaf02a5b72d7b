"""Checksums that the standard library has not: one function an algorithm, bytes in, an unsigned number out.

The CRCs of the CCITT polynomial that take the least significant bit first are ``binascii.crc_hqx`` seen in a mirror, as
`framing.kernels.stuffing` has it for HDLC. CRC-32C and the CRC of Modbus are loops over a table, a byte at a time. The
names and parameters are those of the catalogue of parametrised CRC algorithms (reveng), and so are the tests' check values.
"""

from __future__ import annotations

import binascii
from functools import cache

from framing.kernels.stuffing import fcs

__all__ = ["crc16_kermit", "crc16_modbus", "crc16_x25", "crc32c"]

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


def crc16_x25(payload: bytes) -> int:
    """The CRC of X.25, HDLC and PPP (RFC 1662, appendix C)."""
    return int.from_bytes(fcs(16, payload), "little")


def crc16_kermit(payload: bytes) -> int:
    """The CRC of Kermit."""
    mirrored = binascii.crc_hqx(payload.translate(_MIRROR), 0)
    return _MIRROR[mirrored & 0xFF] << 8 | _MIRROR[mirrored >> 8]
