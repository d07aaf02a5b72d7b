"""The outbox: payloads that one thread sends to one peer while it handles that peer's messages, to be framed in one call.

To make a frame for each message costs more than all else that is done for a small one. So a driver opens its peer's outbox
before a batch of messages is handled: `Outbox.send` then does no more than to check a message and keep it, and its frame is
made with those of all the others, behind the batch (`framing.Channel.gather`).

It guarantees that what it keeps can be framed: ``bytes``, which nobody can change any more, no more of them than there was
room for. Everything else it gives to `Outbox._send` at once, as it was called.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any, Final

__all__ = ["OVERHEAD", "Outbox"]

OVERHEAD: Final = 16
"""What each payload takes of the room besides its bytes: no less than what is around it in a frame."""


class Outbox:
    """Part of a peer. ``_send`` is the subclass's: it sends a message that is not to be kept, or raises."""

    __slots__ = ("_payloads", "_room", "_thread")

    def __init__(self) -> None:
        self._payloads: list[bytes] | None = None
        """Where payloads are kept; a list, while there is room."""
        self._room = 0
        """How many bytes may still be kept; below 1, the outbox is closed."""
        self._thread = 0
        """The thread whose messages are payloads already, and kept as they are."""

    def send(self, message: Any) -> None:
        """Keep the message, or have it sent."""
        if type(message) is bytes and get_ident() == self._thread:
            # As in `_keep`: to call it would be a large part of what this costs.
            room = self._room - len(message) - OVERHEAD
            if room >= 0 and self._payloads is not None:
                self._room = room
                self._payloads.append(message)
                return
        self._send(message)

    def _keep(self, payload: bytes) -> bool:
        """Keep a payload, where it is one and there is room for it; whether it was kept."""
        room = self._room - len(payload) - OVERHEAD
        if room < 0 or self._payloads is None or type(payload) is not bytes:
            return False
        self._room = room
        self._payloads.append(payload)
        return True

    def _send(self, message: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no _send()")
