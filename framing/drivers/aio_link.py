"""AsyncLink: a channel on an asyncio transport; what the connections and the servers of the asyncio driver have in common.

All connections of a thread read into one buffer, one after the other, but for a large frame, which is read where it will
stay. What is queued stays in the channel, uncopied, until the transport has room. One timer looks at every deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from typing import Generic, TypeVar, cast

from framing.channel import Channel
from framing.drivers.accepting import LINGER
from framing.drivers.address import Address
from framing.drivers.failures import translate
from framing.errors import ConnectionFailed, ConnectionReset, FramingError, Timeout

__all__ = ["DRAIN_SECONDS", "SHORT_LINGER", "AsyncLink"]

T = TypeVar("T")

RECEIVE_BYTES = 1 << 16
"""The size of the buffer that all connections of a thread read into."""

PIECE_BYTES = 1 << 18
"""The most that a transport is given at once: what it cannot write it copies, and what it does not have it cannot copy."""

SHORT_LINGER = 0.2
"""`LINGER` where somebody waits for it: a client that closes, a server that stops."""

LINGER_BYTES = 1 << 20
"""How much is thrown away before a close, at the most."""

DRAIN_SECONDS = 5.0
"""How long a connection that is closed may take to write what is queued."""

_NEVER = float("inf")


class _Lent(threading.local):
    """The buffer that every connection of a thread reads into, one after the other: a thread runs one loop at a time."""

    def __init__(self) -> None:
        self.room = bytearray(RECEIVE_BYTES)
        self.view = memoryview(self.room)


_lent = _Lent()


class AsyncLink(asyncio.BufferedProtocol, Generic[T]):
    """A channel on a transport: what a connection and a server's peer have in common."""

    __slots__ = (
        "_asked",
        "_blocked",
        "_close_at",
        "_deaf",
        "_due",
        "_end_by",
        "_ending",
        "_grace",
        "_handed",
        "_in_place",
        "_landing",
        "_linger",
        "_probe",
        "_scheduled",
        "_secure",
        "_shared",
        "_slow_from",
        "_slow_until",
        "_thrown",
        "_timer",
        "address",
        "channel",
        "eof",
        "failure",
        "loop",
        "lost",
        "slow_timeout",
        "transport",
        "writers",
    )

    def __init__(self, channel: Channel[T], address: Address, slow_timeout: float | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.channel = channel
        self.address = address
        self.slow_timeout = slow_timeout
        self.transport: asyncio.Transport | None = None
        self.failure: Exception | None = None  # why the connection ends, where that is not clean
        self.eof = False  # the peer's stream has ended
        self.lost = False  # the transport is gone
        self.writers: list[asyncio.Future[None]] = []  # who waits until less is queued
        self._shared = _lent.view
        self._probe: memoryview | None = memoryview(_lent.room)
        self._in_place = False  # whether the loop lets go of a buffer before it says how much was read
        self._landing = False  # the buffer handed out is the channel's own
        self._secure = False
        self._deaf = False  # reading is paused
        self._blocked = False  # the transport has enough
        self._scheduled = False  # a flush is due in this turn of the loop
        self._ending = False
        self._asked = False  # the transport was told that there is no more to write
        self._linger = 0.0
        self._close_at = _NEVER  # when to close, if all is written
        self._end_by = _NEVER  # … and if it is not
        self._thrown = 0
        self._handed = 0  # bytes given to the transport so far
        self._slow_from = 0  # … and how many of them the peer had taken when it was last looked at
        self._slow_until = _NEVER
        self._grace = 0.0  # until then no deadline has passed, for nothing was read before
        self._timer: asyncio.TimerHandle | None = None
        self._due = _NEVER

    # ------------------------------------------------------------- what a subclass does with it

    def delivered(self, messages: list[T]) -> None:
        """Messages came, in order."""
        raise NotImplementedError

    def troubled(self, error: FramingError) -> None:
        """Behind what was delivered, something is wrong: a payload was refused, the stream broken, a time is over."""
        raise NotImplementedError

    def ended(self) -> None:
        """Behind what was delivered, the peer's stream has ended cleanly."""
        raise NotImplementedError

    def writable(self) -> None:
        """The peer takes more again."""

    # ----------------------------------------------------------------------------- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._secure = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=self.channel.high_water, low=self.channel.low_water)
        self._arm(self.channel.deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone: with what may have come, and then with why."""
        if self.lost:
            return
        if not self._ending and not self.eof and self.failure is None:
            if exc is None and self._secure:
                exc = self._cut_off()
            elif exc is None:
                self._take_eof()
            else:
                self._rescue()
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if exc is None:
            self.channel.close()
            self.channel.drop()
        else:
            if isinstance(exc, FramingError):
                error = exc
            elif isinstance(exc, OSError):
                error = translate(exc, self.address, "talking to")
            else:
                error = ConnectionFailed(f"talking to {self.address}: {exc!r}", address=self.address)
                error.__cause__ = exc
            self.channel.lost(error)
            self.failure = self.failure or error
        self._blocked = False
        self._wake(self.writers)

    def _rescue(self) -> None:
        """Read what the peer said before it went: a transport that fails to write forgets what is there to be read."""
        sock = cast("socket.socket | None", self.transport and self.transport.get_extra_info("socket"))
        if self._secure or sock is None or not self.channel.may_receive:
            return
        # The transport's socket does not let itself be read; its twin does.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as twin:
            twin.setblocking(False)
            while self.channel.may_receive and (chunk := twin.recv(RECEIVE_BYTES)):
                self._take(chunk)

    @property
    def _drained(self) -> bool:
        """Whether all that was queued has been written."""
        return not self.channel.queued and (self.transport is None or not self.transport.get_write_buffer_size())

    @staticmethod
    def _wake(waiters: list[asyncio.Future[None]]) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        waiters.clear()

    async def wait(self, waiters: list[asyncio.Future[None]]) -> None:
        """Wait until ``waiters`` are woken, all at once, to see for themselves: so nothing is handed to one that is gone."""
        waiter = self.loop.create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                waiters.remove(waiter)
            raise

    # --------------------------------------------------------------------------------- receiving

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the thread's buffer; or, while a large frame is under way, that frame's own place."""
        if self._probe is not None:
            return self._probe
        self._landing = self._in_place and self.channel.may_receive and self.channel.buffered >= RECEIVE_BYTES
        return self.channel.get_buffer(sizehint) if self._landing else self._shared

    def buffer_updated(self, nbytes: int) -> None:
        """``nbytes`` were read; they are taken out before this returns, for the next read belongs to somebody else."""
        if self._probe is not None:
            # uvloop holds on to the buffer until this call has returned. A decoder must not lend its own then, for it
            # could neither grow nor cut it.
            with contextlib.suppress(BufferError):
                self._probe.release()
                self._in_place = True
            self._probe = None
        if self._ending or not self.channel.may_receive:
            self._throw_away(nbytes)
        else:
            self._take(None if self._landing else self._shared[:nbytes], nbytes)

    def _take(self, chunk: bytes | memoryview | None, nbytes: int = 0) -> None:
        """Have the channel take what was read; None stands for ``nbytes`` in the buffer that it lent itself."""
        channel = self.channel
        now = self.loop.time()
        try:
            messages = channel.buffer_updated(nbytes, now) if chunk is None else channel.receive(chunk, now)
            if messages:
                self.delivered(messages)
        except FramingError as error:
            self.troubled(error)
        while channel.pending and not self._ending:
            try:
                if messages := channel.receive(b"", now):
                    self.delivered(messages)
            except FramingError as error:
                self.troubled(error)
        if channel.frame_timeout is not None and channel.may_receive and channel.buffered:
            self._arm(now + channel.frame_timeout)
        if channel.heartbeat is not None and channel.queued:
            self.schedule()  # the answer to a ping

    def _throw_away(self, nbytes: int) -> None:
        self._thrown += nbytes
        if self._thrown > LINGER_BYTES and self._ending and self._drained and self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool:
        """The peer has said all. What it asked for is still answered, so the transport stays, where it can: TLS cannot."""
        if self._ending:
            self.eof = True
            # Nothing more is to come from either: the transport writes what it has, and closes itself.
            return bool(self.channel.queued) and not self._secure
        if self._secure and not self._heard_the_end():
            self.eof = True
            self.troubled(self._cut_off())
            return False
        self._take_eof()
        return not self._secure

    def _heard_the_end(self) -> bool:
        """Whether TLS has ended by its own word: asyncio tells us no difference, but the TLS object, asked for more, does."""
        assert self.transport is not None
        try:
            self.transport.get_extra_info("ssl_object").read(1)
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError):
            return True
        return True

    def _cut_off(self) -> ConnectionReset:
        return ConnectionReset(
            f"{self.address}: the connection ended without TLS's own end (close_notify): the peer broke off, or "
            "somebody between cut it short; what came is whole, but more may have been meant to come: connect again",
            address=self.address,
        )

    def _take_eof(self) -> None:
        channel = self.channel
        self.eof = True
        while channel.may_receive and not self._ending:
            try:
                messages = channel.receive_eof(self.loop.time())
            except FramingError as error:
                self.troubled(error)
                continue
            if messages:
                self.delivered(messages)
            elif not channel.pending:
                self.ended()
                return

    def pause(self) -> None:
        """Read no more for a while."""
        if not self._deaf and self.transport is not None and not self.transport.is_closing():
            self._deaf = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._deaf and self.transport is not None and not self.transport.is_closing():
            self._deaf = False
            beat = self.channel.heartbeat
            interval = None if beat is None else beat.interval
            limits = [
                limit
                for limit in (self.channel.frame_timeout, self.channel.idle_timeout, interval)
                if limit is not None
            ]
            if limits:
                self._grace = self.loop.time() + min(limits)
                self._arm(self._grace)
            self.transport.resume_reading()

    # ----------------------------------------------------------------------------------- sending

    @property
    def full(self) -> bool:
        """Whether more waits to be written than the high-water mark allows."""
        return self._blocked or self.channel.paused

    @property
    def queued(self) -> int:
        """How many bytes wait to be written, here and in the transport."""
        return self.channel.queued + (0 if self.transport is None else self.transport.get_write_buffer_size())

    def schedule(self) -> None:
        """Write what is queued before the loop waits again, with what others queue until then."""
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Give the transport what is queued, until it has enough: what is left waits here, and is not copied."""
        self._scheduled = False
        channel, transport = self.channel, self.transport
        if transport is None or transport.is_closing():
            channel.drop()
            return
        now = self.loop.time()
        while not self._blocked and (buffers := channel.outgoing()):
            # One by one: some versions' writelines() has no regard for the water marks.
            for buffer in buffers:
                piece = buffer if len(buffer) <= PIECE_BYTES else memoryview(buffer)[:PIECE_BYTES]
                transport.write(piece)
                self._handed += len(piece)
                channel.sent(len(piece), now)
                if transport.is_closing():
                    channel.drop()
                if self._blocked or piece is not buffer or not channel.queued:
                    break
        if self.writers and not self.full:
            self._wake(self.writers)
        if not channel.queued:
            if self._ending:
                self._part()
            elif channel.eof_due:
                self._say_eof()

    def _say_eof(self) -> None:
        if not self._asked and self.transport is not None and not self._secure and not self.transport.is_closing():
            self._asked = True
            with contextlib.suppress(OSError):  # a peer that is gone already; the next read tells it
                self.transport.write_eof()

    def pause_writing(self) -> None:
        """The transport has more than the high-water mark."""
        self._blocked = True
        if self.slow_timeout is not None:
            self._slow_from = self._taken
            self._slow_until = self.loop.time() + self.slow_timeout
            self._arm(self._slow_until)

    def resume_writing(self) -> None:
        """The transport is down at the low-water mark."""
        self._blocked = False
        self._slow_until = _NEVER
        self.flush()
        if not self.full:
            self.writable()

    @property
    def _taken(self) -> int:
        """How many bytes the system has taken."""
        return self._handed - (0 if self.transport is None else self.transport.get_write_buffer_size())

    # ----------------------------------------------------------------------------------- the end

    def finish(self, error: Exception | None, *, linger: float, drain: float = DRAIN_SECONDS) -> None:
        """End both directions: write what is queued, within ``drain`` seconds, and close; what still comes is dropped.

        A socket that is closed with something unread in it resets the connection, and what the peer has not read by then,
        the last replies, is lost with it. So the end is said first, and for ``linger`` seconds the peer's is waited for.
        """
        now = self.loop.time()
        if self._ending:
            self._end_by = min(self._end_by, now + drain)
            self._close_at = min(self._close_at, now + linger)
            self._arm(min(self._end_by, self._close_at))
            return
        self._ending = True
        self.failure = self.failure or error
        self._linger = linger
        self._end_by = now + drain
        if not self.lost:
            self.channel.close()
            self._arm(self._end_by)
            self.flush()

    def _part(self) -> None:
        """All is with the transport: say the end, and wait for the peer's, or close where it has said it already."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self._close_at = self.loop.time() + (LINGER if self._secure else self._linger)
        if self.eof or self._secure:
            # It writes what it has before it closes; and the end of TLS is an exchange of its own.
            transport.close()
        else:
            self._say_eof()
            self.resume()
        self._arm(self._close_at)

    def abort(self, error: Exception | None = None) -> None:
        """End now: what is queued is dropped."""
        self._ending = True
        self.failure = self.failure or error
        self.channel.close()
        self.channel.drop()
        if self.transport is not None:
            self.transport.abort()

    # ------------------------------------------------------------------------------- the one timer

    def _arm(self, when: float | None) -> None:
        """Look at the clock at ``when``; a timer that is due earlier stays, for to look once too often costs the least."""
        if when is not None and when < self._due and not self.lost:
            if self._timer is not None:
                self._timer.cancel()
            self._due = when
            self._timer = self.loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer, self._due = None, _NEVER
        now = self.loop.time()
        if self._ending:
            self._look_at_end(now)
            return
        if now >= self._slow_until:
            assert self.slow_timeout is not None
            # So little that it would take for ever is nothing: a peer that drips is as slow as one that stopped.
            if self._taken - self._slow_from < max(self.channel.low_water, 1):
                seconds = self.slow_timeout
                text = f"{self.address} does not read: it took next to nothing of what waits for it in {seconds:g} s"
                self.abort(Timeout(text, seconds=seconds))
                return
            self._slow_from = self._taken
            self._slow_until = now + self.slow_timeout
        if self._deaf:
            # A frame whose rest is not read by us is not late, nor is a peer silent whom we do not hear.
            deadline = self._beat(now)
        elif (deadline := self.channel.deadline) is not None and now >= (deadline := max(deadline, self._grace)):
            try:
                self.channel.expire(now)
            except FramingError as error:
                self.troubled(error)
                return
            self.flush()
            deadline = self.channel.deadline
        if deadline is not None or self._slow_until != _NEVER:
            self._arm(min(_NEVER if deadline is None else deadline, self._slow_until))

    def _beat(self, now: float) -> float | None:
        """Send the heartbeat while nothing is read, for the peer hears us still; when to do so again."""
        beat = self.channel.heartbeat
        if beat is None or not self.channel.may_send:
            return None
        if not self.queued:
            self.channel.send(beat.ping)
            self.flush()
        return now + beat.interval

    def _look_at_end(self, now: float) -> None:
        assert self.transport is not None
        if now >= self._end_by or (now >= self._close_at and self._drained):
            self.transport.abort()
        else:
            again = self._close_at if now < self._close_at else now + max(self._linger, SHORT_LINGER)
            self._arm(min(self._end_by, again))
