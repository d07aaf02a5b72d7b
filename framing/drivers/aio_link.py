"""AsyncLink: a channel on an asyncio transport; what the connections and the servers of the asyncio driver have in common.

All connections of a thread read into one buffer, one after the other, but for a large frame, which is read where it will
stay. What is queued stays in the channel, uncopied, until the transport has room. One timer looks at every deadline.

TLS is a `Tunnel` between the channel and the transport, which is a plain one always: so it may begin at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from typing import Generic, TypeVar, cast

from framing.channel import Channel
from framing.drivers.address import Address
from framing.drivers.failures import translate
from framing.drivers.limits import NEVER, QUIET, Linger, SlowReader
from framing.drivers.scratch import SCRATCH_BYTES, thread_scratch
from framing.drivers.tls import judge_upgrade, shaken_late
from framing.drivers.tunnel import Tunnel
from framing.errors import ConnectionClosed, ConnectionFailed, CorruptFrame, FramingError
from framing.kernels import Outbox

__all__ = ["DRAIN_SECONDS", "AsyncLink"]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")

PIECE_BYTES = 1 << 18
"""The most that a transport is given at once: what it cannot write it copies, and what it does not have it cannot copy."""

DRAIN_SECONDS = 5.0
"""How long a client that is closed may take to write what is queued."""

_SENDING_FAILED = "%s: sending failed; the connection is closed"


class AsyncLink(Outbox, asyncio.BufferedProtocol, Generic[T]):
    """A channel on a transport: what a connection and a server's peer have in common."""

    __slots__ = (
        "_asked",
        "_blocked",
        "_deaf",
        "_due",
        "_end_by",
        "_ending",
        "_grace",
        "_handed",
        "_hurried",
        "_in_place",
        "_landing",
        "_lingering",
        "_probe",
        "_scheduled",
        "_settled",
        "_shake_by",
        "_shake_seconds",
        "_shared",
        "_slowness",
        "_timer",
        "address",
        "channel",
        "eof",
        "failure",
        "loop",
        "lost",
        "secured",
        "shaking",
        "transport",
        "tunnel",
        "writers",
    )

    def __init__(self, channel: Channel[T], address: Address, slow_timeout: float | None) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.channel = channel
        self.address = address
        self.transport: asyncio.Transport | None = None
        self.failure: Exception | None = None  # why the connection ends, where that is not clean
        self.eof = False  # the peer's stream has ended
        self.lost = False  # the transport is gone
        self.writers: list[asyncio.Future[None]] = []  # who waits until less is queued
        self.tunnel: Tunnel | None = None  # TLS, where it is spoken
        self.shaking = False  # … and not spoken yet
        self.secured = False  # hands were shaken
        self._shake_by = NEVER
        self._shake_seconds = 0.0
        self._shared = thread_scratch()  # a thread runs one loop at a time
        self._probe: memoryview | None = self._shared[:]
        self._in_place = False  # whether the loop lets go of a buffer before it says how much was read
        self._landing = False  # the buffer handed out is the channel's own
        self._deaf = False  # reading is paused
        self._blocked = False  # the transport has enough
        self._scheduled = False  # a flush is due in this turn of the loop
        self._ending = False
        self._settled = False  # the system has all that was queued, and there will be no more
        self._asked = False  # the transport was told that there is no more to write
        self._hurried = False  # somebody waits for the end
        self._lingering: Linger | None = None
        self._end_by = NEVER  # when to close, though not all is written
        self._handed = 0  # bytes given to the transport so far
        self._slowness = SlowReader(slow_timeout, channel.high_water)
        self._grace = 0.0  # until then no deadline has passed, for nothing was read before
        self._timer: asyncio.TimerHandle | None = None
        self._due = NEVER

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

    def shaken(self) -> None:
        """TLS is spoken from now on."""
        raise NotImplementedError

    def refused(self, error: CorruptFrame) -> None:
        """TLS was to begin, behind something that is not trusted: this is the end."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=self.channel.high_water, low=self.channel.low_water)
        self._arm(self.channel.deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone: with what may have come, and then with why."""
        if self.lost:
            return
        try:
            if not self._ending and not self.eof and self.failure is None:
                if exc is None:
                    self._hear_eof()
                else:
                    self._rescue(exc)
        finally:
            self._lose(exc)

    def _lose(self, exc: Exception | None) -> None:
        self.lost = True
        self._forget_payloads()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # A peer that has ended its side of TLS takes nothing more, not even the answer to its good-bye: no harm is done.
        if exc is None or self._settled or (self.secured and self.eof and isinstance(exc, OSError)):
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

    def _rescue(self, exc: Exception) -> None:
        """Read what the peer said before it went: a transport that fails to write forgets what is there to be read."""
        sock = cast("socket.socket | None", self.transport and self.transport.get_extra_info("socket"))
        if sock is None or not self.channel.may_receive:
            return
        # The transport's socket does not let itself be read; its twin does.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as twin:
            twin.setblocking(False)
            while self.channel.may_receive and (chunk := twin.recv(SCRATCH_BYTES)):
                self._hear(chunk)
            if isinstance(exc, BrokenPipeError) and self.channel.inside and self.tunnel is None:
                self._take_eof()  # the peer has ended its stream, inside a frame, which says more

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
        channel = self.channel
        if channel.idle:
            self._landing = False
            return self._shared
        self._landing = self._in_place and self.tunnel is None and channel.may_receive and channel.in_place
        return channel.get_buffer(sizehint) if self._landing else self._shared

    def buffer_updated(self, nbytes: int) -> None:
        """``nbytes`` were read; they are taken out before this returns, for the next read belongs to somebody else."""
        if self._probe is not None:
            # uvloop holds on to the buffer until this call has returned. A decoder must not lend its own then, for it
            # could neither grow nor cut it.
            with contextlib.suppress(BufferError):
                self._probe.release()
                self._in_place = True
            self._probe = None
        if (self._ending or not self.channel.may_receive) and not self.shaking:
            self._throw_away(nbytes)
        elif self._landing:
            self._take(None, nbytes)
        elif self.tunnel is None:
            self._take(self._shared[:nbytes], nbytes)
        else:
            self._hear(self._shared[:nbytes])

    def _hear(self, chunk: bytes | memoryview) -> None:
        """``chunk`` came from the network."""
        if self.tunnel is None:
            self._take(chunk, len(chunk))
        else:
            self.tunnel.feed(chunk)
            self._decrypt(self.tunnel)

    def _hear_eof(self) -> None:
        """The network gives no more."""
        if self.tunnel is None:
            self._take_eof()
        elif not self.eof:
            self.tunnel.feed_eof()
            self._decrypt(self.tunnel)
            self.eof = True

    def _take(self, chunk: bytes | memoryview | None, nbytes: int = 0) -> None:
        """Have the channel take what was read; None stands for ``nbytes`` in the buffer that it lent itself."""
        channel = self.channel
        now = self.loop.time() if channel.timed else None
        try:
            messages = channel.buffer_updated(nbytes, now) if chunk is None else channel.receive(chunk, now)
            if messages:
                self.delivered(messages)
        except FramingError as error:
            self.troubled(error)
        if not channel.idle:
            while channel.pending and not self._ending:
                try:
                    if messages := channel.receive(b"", now):
                        self.delivered(messages)
                except FramingError as error:
                    self.troubled(error)
            if now is not None and channel.frame_timeout is not None and channel.may_receive and channel.buffered:
                self._arm(now + channel.frame_timeout)
        if channel.heartbeat is not None and channel.queued:
            self.schedule()  # the answer to a ping

    def _throw_away(self, nbytes: int) -> None:
        if self._lingering is not None and self.transport is not None:
            now = self.loop.time()
            self._lingering.threw(nbytes, now)
            if now >= self._lingering.due:
                self.transport.abort()

    def eof_received(self) -> bool:
        """The peer has said all. What it asked for is still answered, so the transport stays."""
        if self._ending and not self.shaking:
            self.eof = True
            # Nothing more is to come from either: the transport writes what it has, and closes itself.
            return bool(self.channel.queued)
        self._hear_eof()
        return True

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
        """Read no more for a while; but a handshake goes on."""
        if not self._deaf and not self.shaking and self.transport is not None and not self.transport.is_closing():
            self._deaf = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._deaf and self.transport is not None and not self.transport.is_closing():
            self._deaf = False
            self._be_patient()
            self.transport.resume_reading()

    def _be_patient(self) -> None:
        """Nothing was heard of the peer for a while, and that was not its fault: its time begins anew."""
        beat = self.channel.heartbeat
        interval = None if beat is None else beat.interval
        limits = [
            limit for limit in (self.channel.frame_timeout, self.channel.idle_timeout, interval) if limit is not None
        ]
        if limits:
            self._grace = self.loop.time() + min(limits)
            self._arm(self._grace)

    # --------------------------------------------------------------------------------------- TLS

    def upgrade(self, tunnel: Tunnel, seconds: float | None, unhandled: int) -> None:
        """Go on with TLS in mid-stream; `judge_upgrade` says what is raised, and that nothing has happened then."""
        self.flush(everything=True)
        try:
            judge_upgrade(self.channel, secure=self.tunnel is not None, eof=self.eof, unhandled=unhandled)
        except CorruptFrame as error:
            self.refused(error)
            raise
        self.begin_tls(tunnel, seconds)

    def begin_tls(self, tunnel: Tunnel, seconds: float | None) -> None:
        """Shake hands, within ``seconds``; what is sent from here on is encrypted."""
        self.tunnel = tunnel
        self.resume()
        self.shaking = True
        if seconds is not None:
            self._shake_seconds = seconds
            self._shake_by = self.loop.time() + seconds
            self._arm(self._shake_by)
        self._shake(tunnel)

    def _shake(self, tunnel: Tunnel) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            done = tunnel.shake()
        except (OSError, ValueError) as error:
            self._tls_broke(error, "shaking hands (TLS) with")
            return False
        self._pass_on(tunnel)
        if done:
            self.shaking = False
            self.secured = True
            self._shake_by = NEVER
            self._be_patient()
            self.shaken()
        return done

    def _decrypt(self, tunnel: Tunnel) -> None:
        """Take all that the tunnel gives: the handshake, what is read, the peer's end."""
        channel = self.channel
        if self.shaking and not self._shake(tunnel):
            return
        while channel.may_receive and not self._ending and not self.eof:
            landing = channel.in_place
            buffer = channel.get_buffer() if landing else self._shared
            try:
                count = tunnel.read(buffer)
            except (OSError, ValueError) as error:
                self._tls_broke(error, "receiving from")
                return
            if count is None:
                break
            if count:
                self._take(None if landing else buffer[:count], count)
            else:
                self._take_eof()
        self._pass_on(tunnel)
        if channel.queued and not self._blocked:
            self.schedule()  # TLS may have had to hear this first

    def _pass_on(self, tunnel: Tunnel) -> None:
        """Have the transport write what TLS has to say."""
        data = tunnel.outgoing()
        if data and not self._asked and self.transport is not None and not self.transport.is_closing():
            self._handed += len(data)
            self.transport.write(data)

    def _tls_broke(self, error: OSError | ValueError, doing: str) -> None:
        if self.tunnel is not None:
            self._pass_on(self.tunnel)  # it tells the peer why
        if isinstance(error, OSError):
            self._fail(translate(error, self.address, doing))
        else:
            self._fail(ConnectionFailed(f"{doing} {self.address}: {error}", address=self.address))

    def _fail(self, error: FramingError) -> None:
        """Nothing more can be read or written."""
        self.shaking = False
        self._shake_by = NEVER
        self.channel.lost(error)
        if self._ending:
            self.failure = self.failure or error
            self.flush()  # for the end
        else:
            self.troubled(error)

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

    def flush(self, *, everything: bool = False) -> None:
        """Give the transport what is queued, until it has enough: what is left waits here, and is not copied.

        ``everything`` gives it more than enough, to come before what is not the channel's.
        """
        self._scheduled = False
        channel, transport = self.channel, self.transport
        try:
            if transport is None or transport.is_closing():
                channel.drop()
                return
            left = 1
            while left and not self.shaking and (everything or not self._blocked):
                written = channel.written
                left = channel.push(self._put, None, self.loop.time() if channel.paced else None)
                if left and transport.is_closing():
                    channel.drop()
                if channel.written == written:
                    break
            if self.writers and not self.full:
                self._wake(self.writers)
            if not left or not channel.queued:
                if self._ending:
                    self._part()
                elif not channel.may_send:
                    self._say_eof()
        except Exception as error:  # such as MemoryError, over what is sent to this one peer
            logger.exception(_SENDING_FAILED, self.address)
            self.abort(error)

    def _forget_payloads(self) -> None:
        """Drop what is not framed yet; else the channel, before it does anything, would frame it, which can fail."""
        self._room = 0
        if self._payloads:
            self._payloads.clear()

    def _put(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Have the transport write the first of ``buffers``, or what it may be given of it at once: how many bytes."""
        # One by one: some versions' writelines() has no regard for the water marks.
        piece, transport = buffers[0], self.transport
        assert transport is not None
        count = len(piece)
        if count > PIECE_BYTES:
            piece, count = memoryview(piece)[:PIECE_BYTES], PIECE_BYTES
        if self.tunnel is not None:
            return self._encrypt(self.tunnel, piece)
        self._handed += count
        transport.write(piece)
        return count

    def _encrypt(self, tunnel: Tunnel, piece: bytes | memoryview) -> int:
        """Send ``piece`` through the tunnel: how many bytes of it, 0 where TLS has to hear from the peer first."""
        try:
            count = tunnel.write(piece)
        except (OSError, ValueError) as error:
            self._tls_broke(error, "sending to")
            return 0
        self._pass_on(tunnel)
        return count

    def _say_eof(self) -> None:
        if not self._asked and self.transport is not None and not self.transport.is_closing():
            if self.tunnel is not None:
                self.tunnel.end()
                self._pass_on(self.tunnel)
            self._asked = True
            with contextlib.suppress(OSError):  # a peer that is gone already; the next read tells it
                self.transport.write_eof()

    def pause_writing(self) -> None:
        """The transport has more than the high-water mark."""
        self._blocked = True
        self._is_too_slow(self.loop.time())
        self._arm(self._slowness.due)

    def resume_writing(self) -> None:
        """The transport is down at the low-water mark."""
        self._blocked = False
        self._is_too_slow(self.loop.time())
        self.flush()
        if not self.full:
            self.writable()

    @property
    def _taken(self) -> int:
        """How many bytes the system has taken."""
        return self._handed - (0 if self.transport is None else self.transport.get_write_buffer_size())

    # ----------------------------------------------------------------------------------- the end

    def finish(self, error: Exception | None, *, hurried: bool, drain: float | None = DRAIN_SECONDS) -> None:
        """End both directions: write what is queued, within ``drain`` seconds, or while the peer takes it where that is None.

        Then `Linger` says when the transport is closed; ``hurried``, for it, whether somebody waits.
        """
        now = self.loop.time()
        if drain is not None:
            self._end_by = min(self._end_by, now + drain)
        self._hurried = self._hurried or hurried
        if self._lingering is not None:
            self._lingering.hurried = self._hurried
        if not self._ending:
            self._ending = True
            self.failure = self.failure or error
            if not self.lost:
                try:
                    self.channel.close()
                except Exception as broken:  # it makes frames first of what was sent before
                    logger.exception(_SENDING_FAILED, self.address)
                    self.abort(broken)
                else:
                    self.flush()
        self._arm(now)

    def _part(self) -> None:
        """All is with the transport: say the end, and wait for the peer's, or close where it has said it already."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        # What breaks behind that takes nothing with it, be it TLS's own goodbye to a peer that does not wait for it.
        self._settled = self._settled or self._drained
        self._say_eof()
        if self.eof:
            transport.close()  # which writes what it has before
        else:
            self.resume()
        self._arm(self.loop.time())

    def abort(self, error: Exception | None = None) -> None:
        """End now: what is queued is dropped."""
        self._ending = True
        self.failure = self.failure or error
        self._forget_payloads()
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
        self._timer, self._due = None, NEVER
        now = self.loop.time()
        if now >= self._shake_by:
            self._fail(shaken_late(self.address, self._shake_seconds))
            return
        if self._ending:
            self._look_at_end(now)
            return
        if self._is_too_slow(now):
            self.abort(self._slowness.verdict(self.address, self.queued))
            return
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
        following = min(NEVER if deadline is None else deadline, self._slowness.due, self._shake_by)
        if following != NEVER:
            self._arm(following)

    def _beat(self, now: float) -> float | None:
        """Send the heartbeat while nothing is read, for the peer hears us still; when to do so again."""
        beat = self.channel.heartbeat
        if beat is None or not self.channel.may_send:
            return None
        if not self.queued:
            self.channel.send(beat.ping)
            self.flush()
        return now + beat.interval

    def _is_too_slow(self, now: float) -> bool:
        slow = self._blocked or (self._ending and not self._drained)
        return self._slowness.look(now, self._taken, slow=slow)

    def _look_at_end(self, now: float) -> None:
        if self.transport is None:
            return  # it ends before it has begun
        if now >= self._end_by and not self._drained:
            late = ConnectionClosed(f"{self.address} did not take in time what was left to be written")
            self.abort(late)
        elif self._is_too_slow(now):
            self.abort(self._slowness.verdict(self.address, self.queued))
        elif self._drained:
            if self._lingering is None:
                self._lingering = Linger(now, hurried=self._hurried)
            if now >= min(self._lingering.due, self._end_by):
                self.transport.abort()
            else:
                self._arm(min(self._lingering.due, self._end_by))
        else:
            # Nobody tells when the transport has written all.
            self._arm(min(now + QUIET, self._slowness.due, self._end_by))
