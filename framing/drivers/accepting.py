"""Accepting: what a server does at its listening socket, whatever its driver."""

from __future__ import annotations

from collections.abc import Iterator
from socket import socket
from typing import Any, Final

from framing.drivers.failures import OUT_OF_RESOURCES

__all__ = ["ACCEPTED_AT_ONCE", "ACCEPT_PAUSE", "accept_some"]

ACCEPT_PAUSE: Final = 0.25
"""Seconds for which nothing is accepted when the system has no descriptors left."""

ACCEPTED_AT_ONCE: Final = 64
"""Connections accepted before the connections that there are get their turn."""


def accept_some(listener: socket, most: int) -> Iterator[tuple[socket, Any]]:
    """Those who wait at ``listener``, which does not block, ``most`` of them at the most: their sockets and addresses.

    Raises OSError where the system has no room for one more (`OUT_OF_RESOURCES`): the rest waits in the queue.
    """
    for _ in range(min(most, ACCEPTED_AT_ONCE)):
        try:
            yield listener.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                raise
            # This one went before it was accepted.
