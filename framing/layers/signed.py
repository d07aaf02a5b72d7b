"""Signed: a payload that only a holder of the key can have sent."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from framing.errors import HEAD_BYTES, DecodeError
from framing.layers.base import Layer

__all__ = ["Signed"]

_SIGNATURE_BYTES = 32
_LEAST_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Signed(Layer):
    """HMAC-SHA256 of the payload (RFC 2104, FIPS 180-4), 32 bytes, behind it.

    ``key`` is the secret that both peers hold: 16 bytes at least, 32 from ``secrets.token_bytes`` at best. The repr
    does not show it; a pickle contains it.

    It proves that a holder of the key made this payload. It hides nothing, and a payload that is sent twice is right
    twice: where a replay does harm, put a number or a time into the message.

    Raises TypeError for a key that is not bytes, ValueError for one of fewer than 16; `decode` raises `DecodeError`
    where the signature is missing or wrong.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Check the key."""
        if not isinstance(self.key, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] callers need not be typed
            raise TypeError(f"a key is bytes, not {type(self.key).__name__}")
        if len(self.key) < _LEAST_KEY_BYTES:
            raise ValueError(
                f"a key of {len(self.key)} bytes can be guessed; take {_LEAST_KEY_BYTES} at least, "
                "from secrets.token_bytes(32)"
            )

    def encode(self, payload: bytes) -> bytes:
        """The payload with its signature behind it."""
        return payload + hmac.digest(self.key, payload, "sha256")

    def decode(self, payload: bytes, max_size: int) -> bytes:
        """The payload without its signature; raises `DecodeError` where no holder of the key made it."""
        size = len(payload) - _SIGNATURE_BYTES
        if size < 0:
            raise DecodeError(
                f"a payload of {len(payload)} bytes is shorter than its signature of {_SIGNATURE_BYTES}; "
                "does the peer send the same layers?",
                expected=_SIGNATURE_BYTES,
                got=len(payload),
                head=payload[:HEAD_BYTES],
            )
        if size > max_size:
            raise DecodeError(
                f"a payload of {size} bytes without its signature is above max_frame={max_size}",
                expected=max_size,
                got=size,
                head=payload[:HEAD_BYTES],
            )
        body = payload[:size]
        # The time that the comparison takes must not tell how much of the signature was right, nor may the error.
        if not hmac.compare_digest(hmac.digest(self.key, body, "sha256"), payload[size:]):
            raise DecodeError(
                "the signature is wrong: the payload was changed on its way, or the peer holds another key",
                head=payload[:HEAD_BYTES],
            )
        return body
