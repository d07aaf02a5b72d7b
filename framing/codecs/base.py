"""Codec: payload to message and back, as an immutable value that any number of threads share.

A codec sees whole payloads, one at a time. It is strict in both directions: it sends nothing that would arrive as
something else, and it takes nothing that it could only guess at. What it refuses is one payload
(`framing.errors.DecodeError`) or one message (`framing.errors.EncodeError`); the stream goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["DEFAULT_MAX_DEPTH", "MOST_MAX_DEPTH", "Codec"]

DEFAULT_MAX_DEPTH = 64
"""How deep arrays and maps may nest unless told otherwise."""

MOST_MAX_DEPTH = 256
"""The largest ``max_depth``: well within the stack of every interpreter, so that the limit is ours and not its."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How a message of type ``T`` becomes a payload, and a payload a message.

    Write your own as a frozen dataclass with slots that has these two methods, such that
    ``codec.decode(codec.encode(message)) == message`` for every message that `encode` accepts.

    `encode_many` and `decode_many` are these for batches. A codec that can do better than a loop has its own, which
    give and refuse the same; a subclass with an `encode` or `decode` of its own has the loop over it again.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Let no batch be handled by methods other than those that handle one."""
        # By name, for dataclass(slots=True) made this class anew, and super() alone means the one before.
        super(Codec, cls).__init_subclass__(**options)
        for one, many in (("encode", "encode_many"), ("decode", "decode_many")):
            if one in cls.__dict__ and many not in cls.__dict__:
                setattr(cls, many, Codec.__dict__[many])

    def encode(self, message: T) -> bytes:
        """The payload that stands for ``message``; raises `EncodeError` for one that would not arrive as it is."""
        raise NotImplementedError(f"{type(self).__name__} has no encode()")

    def decode(self, payload: bytes) -> T:
        """The message that ``payload`` stands for; raises `DecodeError` where it stands for none."""
        raise NotImplementedError(f"{type(self).__name__} has no decode()")

    def encode_many(self, messages: Iterable[T]) -> list[bytes]:
        """The payload of each message; raises as `encode` does for the first that it refuses."""
        return list(map(self.encode, messages))

    def decode_many(self, payloads: list[bytes]) -> list[T]:
        """The message of each payload; raises as `decode` does for the first that it refuses."""
        return list(map(self.decode, payloads))
