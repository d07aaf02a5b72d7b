"""Stream: one stream socket, read and written with a deadline in each direction of its own.

``socket.settimeout`` belongs to the socket, so a timeout given to a send would change a concurrent receive's. Here each
direction waits for itself, with poll, and the socket's own timeout is never touched again. A plain socket stays a
blocking one, so that reading without a deadline costs one system call; TLS sockets, and systems without MSG_DONTWAIT,
are made non-blocking and waited for.

One thread may read while another writes; two that do the same are kept apart by the caller. What the system reports is
raised in this library's words.
"""

from __future__ import annotations

import contextlib
import errno
import math
import select
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from framing.drivers.failures import translate
from framing.drivers.limits import LINGER_BYTES, QUIET, Linger
from framing.errors import ConnectionClosed

if sys.platform != "win32":
    import fcntl
    import termios

if TYPE_CHECKING:
    from collections.abc import Sequence

    from framing.drivers.address import Address

__all__ = ["READ", "WRITE", "Poll", "Stream", "end_of", "time_left", "tls_wants"]

_DONTWAIT: Final[int | None] = getattr(socket, "MSG_DONTWAIT", None)
_HAS_POLL = hasattr(select, "poll")
READ, WRITE = 1, 2


def end_of(timeout: float | None) -> float | None:
    """The time at which ``timeout`` seconds from now are over; None for no limit."""
    if timeout is None:
        return None
    if not timeout >= 0:
        raise ValueError(f"timeout is {timeout!r}; give seconds, 0 to look only, or None to wait as long as it takes")
    return time.monotonic() + timeout


def time_left(end: float | None) -> float | None:
    """Seconds until ``end``, 0 when it has passed; None for no limit."""
    return None if end is None else max(end - time.monotonic(), 0.0)


class Poll:
    """Waits for one descriptor; a poll object may serve one thread at a time, so each direction has its own."""

    __slots__ = ("_fd", "_mask", "_poll")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mask = 0
        self._poll: Any = select.poll() if _HAS_POLL else None

    def wait(self, mask: int, seconds: float | None) -> int:
        """The directions of ``mask`` that are ready, 0 when ``seconds`` are over. An error makes all of them ready."""
        if self._poll is None:
            ready = select.select([self._fd] if mask & READ else [], [self._fd] if mask & WRITE else [], [], seconds)
            return (READ if ready[0] else 0) | (WRITE if ready[1] else 0)
        if mask != self._mask:
            flags = (select.POLLIN if mask & READ else 0) | (select.POLLOUT if mask & WRITE else 0)
            self._poll.register(self._fd, flags)
            self._mask = mask
        # Rounded up: a wait that ends a millisecond early would spin until its deadline.
        found = self._poll.poll(None if seconds is None else math.ceil(seconds * 1000))
        if not found:
            return 0
        event = found[0][1]
        if event & ~(select.POLLIN | select.POLLOUT):
            return mask
        return (READ if event & select.POLLIN else 0) | (WRITE if event & select.POLLOUT else 0)


class Stream:
    """A connected stream socket, owned from now on: a TCP or unix socket, one of a pair, or an ``ssl.SSLSocket``."""

    __slots__ = (
        "_closed",
        "_deaf",
        "_flags",
        "_gather",
        "_reading",
        "_tls_lock",
        "_want_read",
        "_want_write",
        "_writing",
        "address",
        "blocks",
        "secure",
        "sock",
    )

    def __init__(self, sock: socket.socket, address: Address | None) -> None:
        # Asked by a method of it, for to import ssl costs what most programs do not need.
        self.secure = hasattr(sock, "selected_alpn_protocol")
        """Whether this is TLS."""
        self.sock = sock
        self.address = address
        self._closed = False
        self._deaf = False  # this side reads no more
        if self.secure:
            # A stream that TLS did not end may have been cut by anybody: that is to be an error, and no end.
            tls: Any = sock
            tls.suppress_ragged_eofs = False
        blocking = _DONTWAIT is not None and not self.secure
        sock.setblocking(blocking)
        self.blocks = blocking
        """Whether `read` without a deadline may simply be a blocking call."""
        self._flags = _DONTWAIT if blocking and _DONTWAIT is not None else 0
        self._gather = hasattr(sock, "sendmsg") and not self.secure
        # Made when there is something to wait for: a loop that waits for all of its sockets never needs them.
        self._reading: Poll | None = None
        self._writing: Poll | None = None
        self._want_read = READ  # what a TLS read, or write, is waiting for: either may need the other direction
        self._want_write = WRITE
        # OpenSSL's state serves one call at a time; the calls do not block, so nobody waits long.
        self._tls_lock = threading.Lock() if self.secure else None

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""
        return self.sock.fileno()

    def wait(self, end: float | None, *, also_writable: bool = False) -> int:
        """Wait until there may be something to read (or to write, where that is asked too); 0 past ``end``."""
        if self.secure and self._pending_tls():
            return READ
        try:
            if self._reading is None:
                self._reading = Poll(self.sock.fileno())
            return self._reading.wait(self._want_read | (WRITE if also_writable else 0), time_left(end))
        except (OSError, ValueError) as error:
            raise self._broken(error, "receiving from") from error

    def wait_writable(self, end: float | None) -> bool:
        """Wait until something may be written; False past ``end``."""
        try:
            if self._writing is None:
                self._writing = Poll(self.sock.fileno())
            return bool(self._writing.wait(self._want_write, time_left(end)))
        except (OSError, ValueError) as error:
            raise self._broken(error, "sending to") from error

    def _pending_tls(self) -> bool:
        assert self._tls_lock is not None
        with self._tls_lock:
            return bool(self.sock.pending())  # type: ignore[attr-defined] # only asked of TLS sockets

    def read(self, buffer: memoryview, *, block: bool = False) -> int | None:
        """Read into ``buffer``: how many bytes, 0 at EOF, None where there is nothing to be read just now."""
        lock = self._tls_lock
        try:
            if lock is None:
                return self.sock.recv_into(buffer, 0, 0 if block else self._flags)
            if self._deaf:
                # As a plain socket says it. OpenSSL would take this side's own end for an attack, and tell the peer so.
                return 0
            with lock:
                return self.sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            self._want_read = READ
            return None
        except (OSError, ValueError) as error:
            if self.secure and (wanted := tls_wants(error)):
                self._want_read = wanted
                return None
            if self.secure and self._deaf:
                return 0  # this side has ended it meanwhile, in another thread
            raise self._broken(error, "receiving from") from error

    def write(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Write what the socket takes just now of ``buffers``: how many bytes, 0 where it takes none. Never blocks."""
        try:
            if len(buffers) > 1 and self._gather:
                return self.sock.sendmsg(buffers, (), self._flags)
            if self._tls_lock is None:
                return self.sock.send(buffers[0], self._flags)
            with self._tls_lock:
                return self.sock.send(buffers[0])
        except (BlockingIOError, InterruptedError):
            self._want_write = WRITE
            return 0
        except (OSError, ValueError) as error:
            if self.secure and (wanted := tls_wants(error)):
                self._want_write = wanted
                return 0
            raise self._broken(error, "sending to") from error

    def _broken(self, error: Exception, doing: str) -> Exception:
        if self._closed or self.sock.fileno() < 0 or not isinstance(error, OSError):
            closed = ConnectionClosed(
                f"{doing} {self.address or 'the peer'}: the connection was closed on this side; connect again",
                address=self.address,
                errno=errno.EBADF,
            )
            closed.__cause__ = error
            return closed
        return translate(error, self.address, doing)

    def handshake(self, end: float | None) -> None:
        """Do the TLS handshake, all of it, until ``end``; before anything is read or written.

        Raises `Timeout`, `ConnectionReset`, or `ConnectionFailed`, which says what the peer, or its certificate, lacks.
        """
        tls: Any = self.sock
        left = time_left(end)
        try:
            # The ssl module holds the whole handshake against the timeout, however its bytes drip.
            tls.settimeout(None if left is None else max(left, 0.001))
            tls.do_handshake()
        except (OSError, ValueError) as error:
            raise self._broken(error, "shaking hands (TLS) with") from error
        finally:
            with contextlib.suppress(OSError):
                tls.setblocking(False)

    def end_sending(self, *, wait: bool = False) -> None:
        """Say that this side sends no more: TLS's close_notify, where it is TLS, and the end of the stream.

        The close_notify is left out where another call is at the TLS just now, for a signal handler may be above it. ``wait``
        is for who is in none: those calls do not block.
        """
        if self.secure:
            self._deaf = True  # before: what another thread reads from now on is this side's own end
            tls: Any = self.sock
            assert self._tls_lock is not None
            if self._tls_lock.acquire(blocking=wait):
                try:
                    # It asks for the peer's answer too, which nobody waits for; where TLS has failed it ends nothing.
                    with contextlib.suppress(OSError, ValueError):
                        tls.unwrap()
                finally:
                    self._tls_lock.release()
        self.shutdown(socket.SHUT_WR)

    def shutdown(self, how: int) -> None:
        """End one direction or both, for this side and for every thread that waits; nothing happens where it is done."""
        self._deaf = self._deaf or how != socket.SHUT_WR
        with contextlib.suppress(OSError):
            # The plain socket's method: SSLSocket's own forgets its TLS state and would go on in the clear.
            socket.socket.shutdown(self.sock, how)

    @property
    def can_half_close(self) -> bool:
        """Whether one direction can end alone; TLS, as the ssl module speaks it, cannot."""
        return not self.secure

    def read_raw(self, buffer: memoryview) -> int | None:
        """Read what comes, past TLS, which may be over: how many bytes, 0 at the end, None where there are none now."""
        try:
            return socket.socket.recv_into(self.sock, buffer, 0, self._flags)
        except (BlockingIOError, InterruptedError):
            return None
        except (OSError, ValueError):
            return 0

    def _untaken(self) -> int:
        """How many bytes the peer's system has not taken yet; 0 where this one does not tell."""
        if sys.platform == "win32" or self.sock.family not in (socket.AF_INET, socket.AF_INET6):
            return 0  # what was written to a unix socket is the peer's already
        try:
            return int.from_bytes(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, ValueError):
            return 0

    def discard_until_taken(self, seconds: float) -> None:
        """Throw away what is there and, as `Linger` explains, what comes until the peer has taken what was written.

        For TLS, whose server says something (session tickets) that a client need never read.
        """
        end = time.monotonic() + seconds
        # Where the peer's stream has ended, nothing can come that would be answered with a reset.
        while not self.discard() and self._untaken() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.002))

    def discard(self, linger: Linger | None = None) -> bool:
        """Throw away what the peer still sends: what is there, or what comes while ``linger`` lasts; whether it has ended."""
        scratch = memoryview(bytearray(1 << 16))
        left = LINGER_BYTES
        with contextlib.suppress(OSError, ValueError):
            while left > 0:
                count = self.read_raw(scratch)
                if count == 0:
                    return True
                left -= count or 0
                if linger is not None:
                    now = time.monotonic()
                    linger.threw(count or 0, now)
                    if now >= linger.due:
                        return False
                    if count is None:
                        # Not longer, for another thread may make it short meanwhile.
                        if self._reading is None:
                            self._reading = Poll(self.sock.fileno())
                        self._reading.wait(READ, min(linger.due - now, QUIET))
                elif count is None:
                    return False
        return False

    def close(self) -> None:
        """Give the descriptor back. No other thread may be in a call of this stream: wake it with `shutdown` before."""
        self._closed = True
        with contextlib.suppress(OSError):
            self.sock.close()


def tls_wants(error: Exception) -> int:
    """The direction that a TLS call waits for, 0 where ``error`` is none of those."""
    return {"SSLWantReadError": READ, "SSLWantWriteError": WRITE}.get(type(error).__name__, 0)
