"""What runs beside a test, in a thread of its own: a server's run, whatever comes of it, and a peer's flood."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from tests.drivers.every.registry import SECONDS

__all__ = ["Run", "flooding"]


class Run:
    """A server's run, and what it raised, if anything."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.raised: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.server.run()
        except BaseException as error:
            self.raised = error

    @property
    def returned(self) -> bool:
        return not self.thread.is_alive()

    def over(self) -> BaseException | None:
        """What it raised, as soon as it has ended."""
        self.thread.join(SECONDS)
        assert self.returned, "the server did not end"
        return self.raised


@contextlib.contextmanager
def flooding(peer: socket.socket, frame: bytes) -> Iterator[None]:
    """Requests without end, whose replies the block does not read, or hardly; so they have no place to go."""

    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer.sendall(frame)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)
        assert not thread.is_alive()
