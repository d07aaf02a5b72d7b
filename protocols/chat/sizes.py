"""How many bytes messages take, where the hub goes by that."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from protocols.chat.messages import Event

__all__ = ["event_size", "message_size", "written_size"]

EVENT_BYTES: Final = 200
"""Bytes of an event besides its texts, at most."""

MOST: Final = 1 << 32
"""What a message takes that cannot be measured."""


def event_size(event: Event) -> int:
    """How many bytes an event takes, at most, as every codec that carries maps writes it."""
    texts = len(event.text) + len(event.sender) + len(event.room)
    return texts * 4 + EVENT_BYTES


def written_size(event: Event) -> int:
    """How many bytes an event takes in a page, at most: JSON is the longest of the codecs that carry maps."""
    return len(msgspec.json.encode(event)) + 8


def message_size(message: Any) -> int:
    """About how many bytes a message took on the wire."""
    try:
        return len(msgspec.msgpack.encode(message))
    except (TypeError, ValueError, RecursionError, OverflowError):
        return MOST
