"""Which wires carry the chat: what its two commands, and every `Conversation`, agree on."""

from __future__ import annotations

from typing import Any, Final

from framing import CBOR, JSON, EncodeError, LengthPrefixed, MessagePack, Wire

__all__ = ["DEFAULT_WIRE", "LEAST_FRAME", "check_wire"]

DEFAULT_WIRE: Final[Wire[Any]] = Wire(LengthPrefixed(4), MessagePack())

LEAST_FRAME: Final = 60_000
"""Bytes of a message that a wire must carry: two bytes for a length are enough."""


def check_wire(wire: Wire[Any]) -> None:
    """Raise ValueError, with what to do, where ``wire`` cannot carry the chat."""
    if not isinstance(wire.codec, (MessagePack, JSON, CBOR)):
        raise ValueError(f"{wire}: the chat's messages are maps; take a codec for them, as u32+msgpack has")  # noqa: TRY004 # a wire is given, and it is not one for maps
    try:
        # Every small number and a large text: what a delimiter, a fixed size or a short length would not carry.
        wire.encode({"type": "post", "numbers": list(range(128)), "text": "x" * LEAST_FRAME})
        wire.encode({"type": "ping", "n": 1})
    except EncodeError as error:
        raise ValueError(f"{wire}: it does not carry all messages of the chat, as u32+msgpack does: {error}") from error
