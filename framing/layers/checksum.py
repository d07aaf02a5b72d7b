"""Checksum: a number behind the payload that says whether the payload came as it was sent."""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from framing.errors import HEAD_BYTES, DecodeError
from framing.kernels import crc16_kermit, crc16_modbus, crc16_x25, crc32c
from framing.layers.base import Layer

__all__ = ["CHECKSUMS", "Checksum"]


def _xmodem(payload: bytes) -> int:
    return binascii.crc_hqx(payload, 0)


def _ccitt_false(payload: bytes) -> int:
    return binascii.crc_hqx(payload, 0xFFFF)


CHECKSUMS: dict[str, tuple[Callable[[bytes], int], int]] = {
    "crc32": (zlib.crc32, 4),
    "crc32c": (crc32c, 4),
    "adler32": (zlib.adler32, 4),
    "crc16-xmodem": (_xmodem, 2),
    "crc16-ccitt-false": (_ccitt_false, 2),
    "crc16-x25": (crc16_x25, 2),
    "crc16-kermit": (crc16_kermit, 2),
    "crc16-modbus": (crc16_modbus, 2),
}
"""The function of each name, and how many bytes its number takes."""


@dataclass(frozen=True, slots=True)
class Checksum(Layer):
    """The checksum ``name`` of the payload, in ``byteorder``, behind the payload.

    Names: ``crc32`` (ISO-HDLC, as in Ethernet, zlib and PNG), ``crc32c`` (RFC 3720), ``adler32`` (RFC 1950), of 4
    bytes; ``crc16-xmodem``, ``crc16-ccitt-false``, ``crc16-x25`` (RFC 1662), ``crc16-kermit``, ``crc16-modbus``, of 2
    bytes. Serial protocols often send theirs least significant byte first: ``byteorder="little"``.

    It finds accidents, not attackers: whoever can change the payload can change the number. `Signed` stands against
    that.

    Raises ValueError for an unknown name or byte order; `decode` raises `DecodeError` where the numbers differ
    (``expected`` is the payload's, ``got`` the one that came) or where the payload is shorter than its checksum.
    """

    name: str
    byteorder: Literal["big", "little"] = field(default="big", kw_only=True)

    def __post_init__(self) -> None:
        """Check the name and the byte order."""
        if self.name not in CHECKSUMS:
            import difflib  # noqa: PLC0415 needed for errors alone

            # A name that is no string at all is unknown too, and near to nothing.
            nearest = difflib.get_close_matches(str(self.name).lower().replace("_", "-"), CHECKSUMS, 1, 0.4)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
            raise ValueError(f"no checksum is named {self.name!r}{hint} There are: {', '.join(CHECKSUMS)}")
        if self.byteorder not in ("big", "little"):
            raise ValueError(f'byteorder is {self.byteorder!r}; it must be "big" or "little"')

    def encode(self, payload: bytes) -> bytes:
        """The payload with its checksum behind it."""
        compute, width = CHECKSUMS[self.name]
        return payload + compute(payload).to_bytes(width, self.byteorder)

    def decode(self, payload: bytes, max_size: int) -> bytes:
        """The payload without its checksum; raises `DecodeError` where that is not its checksum."""
        compute, width = CHECKSUMS[self.name]
        size = len(payload) - width
        if size < 0:
            raise DecodeError(
                f"a payload of {len(payload)} bytes is shorter than its {self.name} of {width}; "
                "does the peer send the same layers?",
                expected=width,
                got=len(payload),
                head=payload[:HEAD_BYTES],
            )
        if size > max_size:
            raise DecodeError(
                f"a payload of {size} bytes without its {self.name} is above max_frame={max_size}",
                expected=max_size,
                got=size,
                head=payload[:HEAD_BYTES],
            )
        body = payload[:size]
        expected = compute(body)
        got = int.from_bytes(payload[size:], self.byteorder)
        if got != expected:
            other: Literal["big", "little"] = "little" if self.byteorder == "big" else "big"
            swapped = got == int.from_bytes(expected.to_bytes(width, self.byteorder), other)
            hint = f'it is right in the other order: byteorder="{other}"' if swapped else "the payload was damaged"
            raise DecodeError(
                f"the {self.name} of the payload is {expected:#x}, and {got:#x} came with it; {hint}",
                expected=expected,
                got=got,
                head=payload[:HEAD_BYTES],
            )
        return body
