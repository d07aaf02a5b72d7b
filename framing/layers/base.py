"""Layer: payload to payload, between the codec and the framer.

A layer is an immutable, hashable, picklable value without state: the same payload always gives the same verdict, in
any thread. It sees one payload at a time and never the stream, so it cannot desynchronise anything: what it refuses is
one payload (`framing.errors.DecodeError`), and the stream goes on behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Layer"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What is done to a payload on its way out, and undone on its way in.

    Write your own as a frozen dataclass with slots that has these two methods, such that
    ``layer.decode(layer.encode(payload), len(payload)) == payload`` for every payload that `encode` accepts.
    """

    def encode(self, payload: bytes) -> bytes:
        """What is sent in place of ``payload``; raises `EncodeError` where the payload cannot be carried."""
        raise NotImplementedError(f"{type(self).__name__} has no encode()")

    def decode(self, payload: bytes, max_size: int) -> bytes:
        """The payload that `encode` was given: ``max_size`` bytes at the most.

        Raises `DecodeError` for bytes that `encode` cannot have made, and before the output grows beyond ``max_size``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decode()")
