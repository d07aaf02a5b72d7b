"""Tunnel: the TLS of one connection without I/O. What the network gave goes in, what it is to get comes out.

For the transports of asyncio. That has a TLS of its own, but its loops and versions do not agree on what happens at the end
of a stream, or where it begins in mid-stream. This one is the same on all of them: it tells an end from a cut, and goes on
writing behind the peer's end.

The errors are those of the ssl module: an OSError, or a ValueError for a host name that is none.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any

__all__ = ["Tunnel"]


class Tunnel:
    """One side of TLS, hands not shaken yet. Behind every call, what `outgoing` gives is to be written."""

    __slots__ = ("_in", "_out", "_tls")

    def __init__(
        self, context: ssl.SSLContext, *, server_hostname: str | None = None, server_side: bool = False
    ) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side, server_hostname)

    def extra_info(self, name: str) -> Any:
        """What asyncio knows of its own TLS under this name; None for what is no such name."""
        ask: dict[str, Callable[[], object]] = {
            "ssl_object": lambda: self._tls,
            "sslcontext": lambda: self._tls.context,
            "peercert": self._tls.getpeercert,
            "cipher": self._tls.cipher,
            "compression": self._tls.compression,
        }
        return ask[name]() if name in ask else None

    def feed(self, data: bytes | memoryview) -> None:
        """``data`` came from the network."""
        self._in.write(data)

    def feed_eof(self) -> None:
        """The network gives no more: TLS has ended by its own word, or it was cut."""
        self._in.write_eof()

    def outgoing(self) -> bytes:
        """What the network is to get."""
        return self._out.read()

    def shake(self) -> bool:
        """Go on with the handshake; True when it is done, False where the peer has to say something."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self, buffer: memoryview) -> int | None:
        """Decrypt into ``buffer``: how many bytes, 0 where the peer's stream has ended, None where more has to come."""
        if not (self._in.pending or self._in.eof or self._tls.pending()):
            return None  # as the next line would find out, by an exception
        try:
            # Called with a buffer it gives a number, whatever the type checkers have been told.
            return int(self._tls.read(len(buffer), buffer))
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return 0  # as it is called where this side has ended too

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt ``data``: how many bytes of it, 0 where the peer has to say something first."""
        try:
            return self._tls.write(data)
        except ssl.SSLWantReadError:
            return 0

    def end(self) -> None:
        """Say that this side has said all."""
        # It asks for the peer's own end too, which nobody waits for; where TLS has failed it ends nothing.
        with contextlib.suppress(OSError, ValueError):
            self._tls.unwrap()
