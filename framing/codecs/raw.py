"""Raw: the payload is the message."""

from __future__ import annotations

from dataclasses import dataclass

from framing.codecs.base import Codec
from framing.framers.base import as_bytes

__all__ = ["Raw"]


@dataclass(frozen=True, slots=True)
class Raw(Codec[bytes]):
    """Bytes in, the same bytes out; a bytearray or memoryview arrives as bytes.

    `encode` raises `EncodeError` for what is not bytes-like; `decode` takes everything.
    """

    def encode(self, message: bytes) -> bytes:
        """The message itself, as bytes."""
        return as_bytes(message)

    def decode(self, payload: bytes) -> bytes:
        """The payload itself."""
        return payload
