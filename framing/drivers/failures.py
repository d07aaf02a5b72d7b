"""What the system says, in this library's words: an OSError becomes the `FramingError` that is the same builtin too.

Every text names the address and says what to do next; every error keeps the system's number in ``errno`` and the system's
own error as its cause.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from framing.errors import ConnectionClosed, ConnectionFailed, ConnectionRefused, ConnectionReset, FramingError, Timeout

if TYPE_CHECKING:
    from framing.drivers.address import Address

__all__ = ["OUT_OF_RESOURCES", "translate"]

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""The system has no room for one more connection just now: a reason to wait, and none to give up."""

_ADVICE = {
    errno.EADDRINUSE: "something listens there already; stop it, or choose another address (port 0 takes any free port)",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one of its own, 127.0.0.1 or ::1",
    errno.EACCES: "this user may not; ports below 1024 and other people's files need rights",
    errno.EPERM: "this user may not; ports below 1024 and other people's files need rights",
    errno.EMFILE: "this process has too many files open; close connections, or raise its limit (ulimit -n)",
    errno.ENFILE: "the system has too many files open",
    errno.ENOENT: "there is no such socket file; start the server first, or mend the path",
    errno.ENETUNREACH: "there is no route to that network; check the address and the network",
    errno.EHOSTUNREACH: "there is no route to that host; check the address and the network",
    errno.ENOTSOCK: "that is no socket",
    errno.ENOTCONN: "the socket is not connected; connect it before it is given to a connection",
    errno.EAGAIN: "the server's queue of connections is full; try again later",
}


def translate(error: OSError, address: Address | None, doing: str) -> FramingError:
    """The error that stands for ``error``, which happened when this side was ``doing`` something with ``address``."""
    place = f" {address}" if address is not None else ""
    reason = error.strerror or str(error) or type(error).__name__
    numbers = {"address": address, "errno": error.errno}
    made: FramingError
    if isinstance(error, ConnectionRefusedError):
        made = ConnectionRefused(
            f"{doing}{place}: nobody listens there; start the server, or mend the address ({reason})", **numbers
        )
    elif isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        made = ConnectionReset(
            f"{doing}{place}: the peer dropped the connection; connect again, and look into the peer's log ({reason})",
            **numbers,
        )
    elif isinstance(error, TimeoutError):
        made = Timeout(f"{doing}{place}: no answer came in time; try again, or give a longer timeout", **numbers)
    elif isinstance(error, socket.gaierror):
        made = ConnectionFailed(f"{doing}{place}: the host name cannot be resolved ({reason})", **numbers)
    elif error.errno == errno.EBADF:
        made = ConnectionClosed(f"{doing}{place}: the socket has been closed on this side", **numbers)
    else:
        advice = _ADVICE.get(error.errno or 0)
        made = ConnectionFailed(f"{doing}{place}: {reason}{f'; {advice}' if advice else ''}", **numbers)
    made.__cause__ = error
    return made
