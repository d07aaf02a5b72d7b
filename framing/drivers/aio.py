"""The asyncio driver: clients and servers on the running loop, asyncio's own or uvloop's.

    async with aio.connect(("127.0.0.1", 9000), wire) as connection:
        await connection.send({"op": "sum", "args": [1, 2]})
        print(await connection.receive())

    async with aio.serve(("127.0.0.1", 9000), wire, Echo()) as server:
        await server.run()                       # until server.stop(), from any thread, task or signal handler

It guarantees that

- a call that is cancelled, by ``asyncio.timeout`` for instance, has taken no message and sent none: make it again;
- what was received before an error is delivered before it, and the error then raised by every call that follows;
- what is sent in one go, while a batch is handled or by tasks that run in one turn of the loop, leaves in one write;
- every connection has one timer at the most, and no task.

A service is the same plain object as for every other driver. Its methods are plain functions: one that waited would hold back
the messages behind it, so coroutine functions are refused; start a task where something must be awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from framing.channel import Channel, State
from framing.drivers.address import (
    Address,
    AddressLike,
    close_listener,
    listen,
    local_address,
    no_delay,
    peer_address,
    resolve,
)
from framing.drivers.failures import translate
from framing.drivers.opening import Opening
from framing.drivers.service import Handlers, Service
from framing.errors import ConnectionClosed, ConnectionFailed, DecodeError, FramingError, Timeout
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection", "Server", "connect", "serve"]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")

RECEIVE_BYTES = 1 << 16
"""The size of the buffer that all connections of a thread read into."""

PIECE_BYTES = 1 << 18
"""The most that a transport is given at once: what it cannot write it copies, and what it does not have it cannot copy."""

ACCEPT_PAUSE = 0.25
"""Seconds for which nothing is accepted when the system has no descriptors left."""

ACCEPTED_AT_ONCE = 64
"""Connections accepted in one turn of the loop."""

LINGER = 1.0
"""Seconds for which what a peer still sends is thrown away behind the last reply, so that no reset destroys it."""

SHORT_LINGER = 0.2
"""The same where somebody waits for it: a client that closes, a server that stops."""

LINGER_BYTES = 1 << 20
"""How much is thrown away before a close, at the most."""

DRAIN_SECONDS = 5.0
"""How long a connection that is closed may take to write what is queued."""

_NEVER = float("inf")

_RAISED = (Exception, asyncio.CancelledError)
"""What a service may raise so that only its own connection ends; CancelledError is no Exception, and no end of the server."""


class _Lent(threading.local):
    """The buffer that every connection of a thread reads into, one after the other: a thread runs one loop at a time."""

    def __init__(self) -> None:
        self.room = bytearray(RECEIVE_BYTES)
        self.view = memoryview(self.room)


_lent = _Lent()


class _Link(asyncio.BufferedProtocol, Generic[T]):
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
            if exc is None:
                self._take_eof()  # TLS can end without a word
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
            error = (
                translate(exc, self.address, "talking to")
                if isinstance(exc, OSError)
                else ConnectionFailed(f"talking to {self.address}: {exc!r}", address=self.address)
            )
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
        self._take_eof()
        return not self._secure

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
            limits = [limit for limit in (self.channel.frame_timeout, self.channel.idle_timeout) if limit is not None]
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
        # A frame whose rest is not read by us is not late, nor is a peer idle who waits for us.
        deadline = None if self._deaf else self.channel.deadline
        if deadline is not None and now >= (deadline := max(deadline, self._grace)):
            try:
                self.channel.expire(now)
            except FramingError as error:
                self.troubled(error)
                return
        if deadline is not None or self._slow_until != _NEVER:
            self._arm(min(_NEVER if deadline is None else deadline, self._slow_until))

    def _look_at_end(self, now: float) -> None:
        assert self.transport is not None
        if now >= self._end_by or (now >= self._close_at and self._drained):
            self.transport.abort()
        else:
            again = self._close_at if now < self._close_at else now + max(self._linger, SHORT_LINGER)
            self._arm(min(self._end_by, again))


class _Refused:
    """Stands among received messages for a payload that was refused, until its turn to be raised has come."""

    __slots__ = ("error",)

    def __init__(self, error: DecodeError) -> None:
        self.error = error


class _Inbox(_Link[T]):
    """The link of a client: what was received waits here, in order, until it is asked for."""

    __slots__ = ("_unread", "end", "items", "leavers", "readers", "refused")

    def __init__(self, channel: Channel[T], address: Address) -> None:
        super().__init__(channel, address, None)
        self.items: deque[T | _Refused] = deque()
        self.refused = 0  # how many of the items are none
        self.end: FramingError | None = None  # what is raised behind them
        self.readers: list[asyncio.Future[None]] = []
        self.leavers: list[asyncio.Future[None]] = []  # who waits for the transport's end
        self._unread = 0  # bytes read since the inbox was empty

    def _take(self, chunk: bytes | memoryview | None, nbytes: int = 0) -> None:
        super()._take(chunk, nbytes)
        if self.items:
            self._unread += nbytes
            if self._unread > self.channel.high_water:
                self.pause()

    def delivered(self, messages: list[T]) -> None:
        self.items.extend(messages)
        self._wake(self.readers)

    def troubled(self, error: FramingError) -> None:
        if isinstance(error, DecodeError):
            self.items.append(_Refused(error))
            self.refused += 1
        elif self.end is None:
            self.end = self.failure = error
            self.pause()
            self._wake(self.writers)
        self._wake(self.readers)

    def ended(self) -> None:
        self.end = ConnectionClosed(f"{self.address} has ended the stream; all of it was received")
        self._wake(self.readers)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.end is None:
            closed = ConnectionClosed(f"the connection with {self.address} is closed")
            self.end = self.failure if isinstance(self.failure, FramingError) else closed
        self._wake(self.readers)
        self._wake(self.leavers)

    def writable(self) -> None:
        self._wake(self.writers)

    def emptied(self) -> None:
        """All the items have been taken: read on."""
        self._unread = 0
        if self._deaf and self.end is None:
            self.resume()

    def leave(self) -> None:
        """Tell whoever waits that this side closes, and drop what was not asked for."""
        self.end = ConnectionClosed(f"the connection with {self.address} was closed on this side")
        self.items.clear()
        self.refused = 0
        self._wake(self.readers)
        self._wake(self.writers)


class Connection(Generic[T]):
    """Messages over one connection, made by `connect`; full duplex: any tasks send while others receive.

    An ``async with`` block closes it at its end. All methods belong to the loop's thread.
    """

    __slots__ = ("_link", "address", "wire")

    def __init__(self, link: _Inbox[T]) -> None:
        self._link = link
        self.wire = link.channel.wire
        self.address = link.address

    def __repr__(self) -> str:
        return f"<Connection {self.address}, {self.state.value}>"

    @property
    def state(self) -> State:
        """What may still be done: both directions open, one, or none."""
        return self._link.channel.state

    @property
    def error(self) -> FramingError | None:
        """Why the connection failed; None while it has not."""
        return self._link.channel.error

    @property
    def queued(self) -> int:
        """How many bytes of messages sent wait to be taken by the system."""
        return self._link.queued

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport knows, by asyncio's names: ``"socket"``, ``"ssl_object"``, ``"peercert"`` …"""
        transport = self._link.transport
        return default if transport is None else transport.get_extra_info(name, default)

    # ----------------------------------------------------------------- sending

    async def send(self, message: T) -> None:
        """Send one message: returns when it is queued, for which it waits while too much is (``high_water``).

        When it is cancelled, nothing was sent. Raises `framing.EncodeError` (nothing was sent), `framing.ConnectionReset`,
        and `framing.ConnectionClosed` where the connection was closed.
        """
        await self._send(self.wire.encode(message))

    async def send_many(self, messages: Iterable[T]) -> None:
        """Send all of ``messages`` at once, or, where one cannot be encoded, none; waits and raises as `send`."""
        await self._send(self.wire.encode_many(messages))

    async def send_encoded(self, frames: bytes) -> None:
        """Send what ``wire.encode`` returned: a message for many peers is encoded once; waits and raises as `send`."""
        await self._send(frames)

    async def _send(self, frames: bytes) -> None:
        link = self._link
        # The wait comes first and the queueing last: who is cancelled while waiting has sent nothing.
        while link.channel.may_send and link.full:
            await link.wait(link.writers)
        transport = link.transport
        if not link.channel.may_send or transport is None or transport.is_closing():
            raise self._no_sending()
        link.channel.send_encoded(frames)
        link.schedule()

    def _no_sending(self) -> FramingError:
        link = self._link
        if isinstance(link.failure, ConnectionFailed):
            return link.failure.with_traceback(None)
        error = ConnectionClosed(f"nothing more can be sent to {self.address}: the connection is {self.state.value}")
        error.__cause__ = link.failure
        return error

    def close_sending(self) -> None:
        """End this side's stream behind all that was sent; receiving goes on, so that the last replies still come.

        Raises `framing.FramingError` over TLS, which asyncio cannot half-close: use `close` there.
        """
        link = self._link
        if link.transport is not None and not link.transport.can_write_eof():
            raise FramingError("a TLS connection cannot end one direction alone; use close()")
        link.channel.send_eof()
        link.flush()

    # --------------------------------------------------------------- receiving

    async def receive(self) -> T:
        """The next message. When it is cancelled, none was taken: ``asyncio.timeout`` around it loses nothing.

        Raises `framing.ConnectionClosed` at the end of the peer's stream. `framing.DecodeError` stands for one refused
        payload, in its place; the next call goes on behind it. A `framing.Violation` (so `framing.TruncatedFrame`, where the
        stream ended inside a frame) and a `framing.ConnectionReset` come behind all that was whole before them, and from
        then on always.
        """
        link = self._link
        items = link.items
        while not items:
            await self._wait()
        item = items.popleft()
        if not items:
            link.emptied()
        if type(item) is _Refused:
            link.refused -= 1
            raise item.error
        return cast("T", item)

    async def receive_batch(self) -> list[T]:
        """All the messages that are there, one at least: waits, and raises, as `receive` does. The fastest way."""
        link = self._link
        items = link.items
        while not items:
            await self._wait()
        if link.refused:
            if type(items[0]) is _Refused:
                return [await self.receive()]
            batch: list[T | _Refused] = []
            while type(items[0]) is not _Refused:
                batch.append(items.popleft())
            return cast("list[T]", batch)
        batch = list(items)
        items.clear()
        link.emptied()
        return cast("list[T]", batch)

    async def _wait(self) -> None:
        link = self._link
        if link.end is not None:
            # Without the traceback of the last time, which would grow with each call.
            raise link.end.with_traceback(None)
        if link.channel.queued:
            link.flush()  # the reply depends on it
        await link.wait(link.readers)

    def __aiter__(self) -> AsyncIterator[T]:
        """Give the messages until the peer's stream ends; raises as `receive` does, but for the clean end."""
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    # ------------------------------------------------------------------ ending

    def close(self) -> None:
        """End both directions behind what was sent; tasks that wait in a call get `framing.ConnectionClosed`.

        Messages that were not received are dropped. `wait_closed` waits for it. To close twice is no error.
        """
        link = self._link
        link.leave()
        link.finish(None, linger=SHORT_LINGER)

    async def wait_closed(self) -> None:
        """Wait until all is written, the descriptor given back, and the connection gone: a few seconds at the most."""
        link = self._link
        while not link.lost:
            await link.wait(link.leavers)

    async def aclose(self) -> None:
        """`close` and `wait_closed`; where this is cancelled, what is not written yet is dropped."""
        self.close()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self._link.abort()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def connect(
    address: AddressLike,
    wire: Wire[T],
    *,
    timeout: float | None = None,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    frame_timeout: float | None = None,
    idle_timeout: float | None = None,
    high_water: int = 1 << 16,
    low_water: int = 1 << 14,
) -> Opening[Connection[T]]:
    """Connect to ``address``: ``(host, port)``, ``"tcp://host:port"`` or ``"unix:/path"``. Every address is tried.

    ``async with`` it, or await it. ``timeout``, in seconds, is for looking up the name, connecting and the TLS handshake
    together. With ``ssl_context`` it speaks TLS; the certificate is held against ``server_hostname``, or else the host of
    ``address``. ``frame_timeout`` and ``idle_timeout`` fail the connection as `framing.Channel` says; the water marks,
    in bytes, bound what waits in each direction.

    Raises `framing.ConnectionRefused`, `framing.ConnectionFailed` or `framing.Timeout`.
    """
    where = Address.parse(address)
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout is {timeout!r}; give seconds, or None to wait as long as it takes")
    if server_hostname is not None and ssl_context is None:
        raise ValueError("server_hostname is for TLS; give an ssl_context too")
    options: dict[str, Any] = {
        "frame_timeout": frame_timeout,
        "idle_timeout": idle_timeout,
        "high_water": high_water,
        "low_water": low_water,
    }
    Channel(wire, **options)  # wrong options are told here

    async def make() -> Connection[T]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                sock = await _connected(where)
                link = _Inbox(Channel(wire, now=loop.time(), **options), where)
                tls: dict[str, Any] = {}
                if ssl_context is not None:
                    tls = {
                        "ssl": ssl_context,
                        "server_hostname": where.host if server_hostname is None else server_hostname,
                        "ssl_shutdown_timeout": DRAIN_SECONDS,
                    }
                opener = loop.create_unix_connection if where.scheme == "unix" else loop.create_connection
                try:
                    await opener(lambda: link, sock=sock, **tls)
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError as error:
            raise translate(error, where, "connecting to") from error
        except FramingError:
            raise
        except OSError as error:
            raise translate(error, where, "connecting to") from error
        return Connection(link)

    return Opening(make)


async def _connected(address: Address) -> socket.socket:
    """Connect a socket; all the addresses of a name are tried. Raises the last one's error, with the others as notes."""
    loop = asyncio.get_running_loop()
    if address.scheme == "unix" or _is_number(address.host):
        targets = resolve(address)
    else:
        targets = await loop.run_in_executor(None, resolve, address)
    failures: list[str] = []
    last: OSError = OSError("no address")
    for family, kind, proto, target in targets:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            no_delay(sock)
            await loop.sock_connect(sock, target)
        except OSError as error:
            sock.close()
            last = error
            failures.append(f"{target[0] if isinstance(target, tuple) else address}: {error}")
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    failure = translate(last, address, "connecting to")
    if len(failures) > 1:
        failure.add_note("tried " + "; ".join(failures))
    raise failure


def _is_number(host: str) -> bool:
    """Whether ``host`` is an IP address, for which nobody need be asked."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host.partition("%")[0])
            return True
    return False


class _Session(_Link[T]):
    """The link of a server: messages go to the service as they come, and this is the `Peer` that it sees."""

    __slots__ = ("_handling", "_received", "_reported", "_server", "_trouble", "_waiting")

    def __init__(self, server: Server[T], channel: Channel[T], address: Address) -> None:
        super().__init__(channel, address, server.slow_reader_timeout)
        self._server = server
        self._received = server.handlers.received
        self._waiting: deque[T] = deque()  # messages that are handled when the peer has taken the replies to others
        self._trouble: Exception | None = None  # what ends the connection behind them
        self._handling = False
        self._reported = True  # whether closed() has been called; it is not for who was never opened

    def __repr__(self) -> str:
        return f"<Peer {self.address}>"

    # ------------------------------------------------------ the service's view

    @property
    def paused(self) -> bool:
        return self.full

    def send(self, message: T) -> None:
        if not self._ending:
            self.send_encoded(self._server.wire.encode(message))

    def send_many(self, messages: Iterable[T]) -> None:
        if not self._ending:
            self.send_encoded(self._server.wire.encode_many(messages))

    def send_encoded(self, frames: bytes) -> None:
        if threading.get_ident() != self._server.thread:
            self._server.call(self.send_encoded, frames)
        elif not self._ending and self.channel.may_send:
            if not self._handling:
                # Sent by somebody else, who is not slowed by this peer's slowness: there must be an end to it.
                if self.queued > self._server.max_queued:
                    text = f"{self.address} does not read: more than {self._server.max_queued} bytes wait for it"
                    self.abort(Timeout(text))
                    return
                self.schedule()
            self.channel.send_encoded(frames)

    def close(self) -> None:
        if threading.get_ident() != self._server.thread:
            self._server.call(self.close)
        else:
            self.part(None)

    # ----------------------------------------------------------- what happens

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._server.stopping:
            self.abort()
            return
        self._reported = False
        self._handling = True
        try:
            self._server.handlers.opened(self)
        except _RAISED as error:
            logger.exception("%s: the service raised in opened(); the connection is closed", self.address)
            self.part(cast("Exception", error))
        finally:
            self._handling = False
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._waiting.clear()
        self._report()
        self._server.finished(self)

    def delivered(self, messages: list[T]) -> None:
        if self._trouble is not None:
            return  # they came behind what ends the connection
        if self._waiting or self._handling:
            self._waiting.extend(messages)
        else:
            self._handle(messages)

    def troubled(self, error: FramingError) -> None:
        self._trouble = self._trouble or error
        self._settle()

    def ended(self) -> None:
        self._settle()

    def writable(self) -> None:
        while self._waiting and not self.full and not self._ending:
            messages = list(self._waiting)
            self._waiting.clear()
            self._handle(messages)
        if not self._waiting and not self.full:
            self.resume()
            self._settle()

    def pause_writing(self) -> None:
        super().pause_writing()
        # Who does not read is not read from: what it asks for would have no place to go.
        if not self._ending:
            self.pause()

    def _handle(self, messages: Iterable[T]) -> None:
        """Have the service handle ``messages``, in one write; those for which the peer has no room wait."""
        received, channel = self._received, self.channel
        left = iter(messages)
        more = True
        while more and not self._ending:
            more = False
            self._handling = True
            try:
                for message in left:
                    received(self, message)
                    if channel.paused or self._ending:
                        more = True
                        break
            except _RAISED as error:
                logger.exception("%s: the service raised in received(); the connection is closed", self.address)
                self.part(cast("Exception", error))
            finally:
                self._handling = False
            if channel.queued:
                self.flush()
            if more and self.full:
                self._waiting.extend(left)
                break

    def _settle(self) -> None:
        """Behind the last message: end, where there is a reason to."""
        if self._waiting or self._ending:
            return
        if self._trouble is not None:
            self.part(self._trouble)
        elif self.eof:
            self.part(None)

    def part(self, error: Exception | None, linger: float = LINGER) -> None:
        """End the connection behind what has been sent; messages that have not been handled are dropped."""
        self._waiting.clear()
        self.finish(error, linger=linger, drain=self._server.drain_timeout)
        if not self._reported:
            self.loop.call_soon(self._report_early)

    def _report_early(self) -> None:
        """Nothing more can happen that the service would learn of, though the socket lingers."""
        if self._drained:
            self._report()

    def _report(self) -> None:
        if self._reported:
            return
        self._reported = True
        if isinstance(self.failure, FramingError):
            logger.info("%s: the connection is closed: %s", self.address, self.failure)
        try:
            self._server.handlers.closed(self, self.failure)
        except _RAISED:
            logger.exception("%s: the service raised in closed()", self.address)


class Server(Generic[T]):
    """Runs a service for everybody who connects; made by `serve`, which says what the options mean.

    It accepts inside its ``async with`` block, at the end of which it is stopped and every connection has ended. `address`
    says where it listens, with the port that the system chose for port 0.
    """

    def __init__(
        self,
        address: AddressLike,
        wire: Wire[T],
        service: Service[T],
        *,
        max_connections: int = 1000,
        frame_timeout: float | None = 30.0,
        idle_timeout: float | None = None,
        handshake_timeout: float = 10.0,
        slow_reader_timeout: float | None = 30.0,
        max_queued: int = 1 << 20,
        drain_timeout: float = DRAIN_SECONDS,
        high_water: int = 1 << 16,
        low_water: int = 1 << 14,
        ssl_context: ssl.SSLContext | None = None,
        reuse_port: bool = False,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections is {max_connections}; give 1 at least")
        for name, seconds in (
            ("handshake_timeout", handshake_timeout),
            ("slow_reader_timeout", slow_reader_timeout),
            ("drain_timeout", drain_timeout),
        ):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds!r}; give seconds above 0")
        self.handlers = Handlers[T].of(service)
        for name in ("opened", "received", "closed"):
            if inspect.iscoroutinefunction(getattr(self.handlers, name)):
                raise TypeError(
                    f"{type(service).__name__}.{name}() is a coroutine function; a service's methods are plain functions, "
                    "the same for every driver: where something must be awaited, start a task with asyncio.create_task()"
                )
        self.wire = wire
        self.address = Address.parse(address)
        self.max_connections = max_connections
        self.handshake_timeout = handshake_timeout
        self.slow_reader_timeout = slow_reader_timeout
        self.max_queued = max_queued
        self.drain_timeout = drain_timeout
        self.stopping = False
        self.thread = 0
        self._channel_options: dict[str, Any] = {
            "frame_timeout": frame_timeout,
            "idle_timeout": idle_timeout,
            "high_water": high_water,
            "low_water": low_water,
        }
        Channel(wire, **self._channel_options)  # wrong options are told here, not to the first client
        self._ssl_context = ssl_context
        self._reuse_port = reuse_port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._accepting = False
        self._starved = False  # the system has no descriptors left, and that was logged
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: set[_Session[T]] = set()
        self._waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<Server at {self.address}, {len(self._sessions)} connections>"

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._sessions)

    # -------------------------------------------------------- start and stop

    def _start(self) -> None:
        if self._loop is not None:
            raise ConnectionClosed(f"the server at {self.address} has been started once; make a new one")
        self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        asked = self.address
        self._listener = listen(asked, reuse_port=self._reuse_port)
        self.address = local_address(self._listener, asked)
        self._accept_again()
        if self.stopping:
            self._stop()

    async def run(self) -> None:
        """Serve until `stop` is called; returns when every connection has ended. Outside of a ``with`` block it starts first.

        Where this is cancelled, the server stops too.
        """
        if self._loop is None:
            async with self:
                await self._ended()
        else:
            await self._ended()

    def stop(self) -> None:
        """Ask the server to end, from any thread, task or signal handler; returns at once.

        It accepts no more, writes what is queued within ``drain_timeout`` seconds, and closes every connection.
        """
        if self._loop is None:
            self.stopping = True
        else:
            self.call(self._stop)

    async def aclose(self) -> None:
        """Stop, and wait until every connection has ended and every descriptor is given back."""
        if self._loop is None:
            return
        self._stop()
        try:
            await self._ended()
        except asyncio.CancelledError:
            for session in list(self._sessions):
                session.abort()
            raise

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ended(self) -> None:
        while self._listener is not None or self._sessions or self._tasks:
            waiter = cast("asyncio.AbstractEventLoop", self._loop).create_future()
            self._waiters.append(waiter)
            await waiter

    def _stop(self) -> None:
        self.stopping = True
        if self._listener is None:
            return
        self._pause_accepting()
        close_listener(self._listener, self.address)
        self._listener = None
        for task in self._tasks:
            task.cancel()
        for session in list(self._sessions):
            session.part(None, SHORT_LINGER)
        self._look()

    def call(self, function: Any, *args: Any) -> None:
        """Call ``function`` in the loop's thread; where the loop is gone, so is whom it was for."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def _look(self) -> None:
        if self._listener is None and not self._sessions and not self._tasks:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    # --------------------------------------------------------------- accepting

    def _accept_again(self) -> None:
        if not self._accepting and self._listener is not None and len(self._sessions) < self.max_connections:
            assert self._loop is not None
            self._accepting = True
            self._loop.add_reader(self._listener, self._accept)

    def _pause_accepting(self) -> None:
        if self._accepting and self._listener is not None:
            assert self._loop is not None
            self._accepting = False
            self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        """Accept who is waiting; above ``max_connections`` they wait on, in the system's queue."""
        assert self._loop is not None
        for _ in range(ACCEPTED_AT_ONCE):
            if self._listener is None:
                return
            if len(self._sessions) >= self.max_connections:
                self._pause_accepting()
                return
            try:
                sock, raw = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue  # this one has gone again
            except OSError as error:
                # Mostly EMFILE: whoever waits would make the loop spin. Try again later, or when somebody leaves.
                if not self._starved:
                    logger.warning("%s: nobody is accepted for a while: %s", self.address, error)
                self._starved = True
                self._pause_accepting()
                self._loop.call_later(ACCEPT_PAUSE, self._accept_again)
                return
            self._starved = False
            self._admit(sock, raw)

    def _admit(self, sock: socket.socket, raw: Any) -> None:
        assert self._loop is not None
        sock.setblocking(False)
        no_delay(sock)
        channel = Channel(self.wire, now=self._loop.time(), **self._channel_options)
        session = _Session(self, channel, peer_address(raw, self.address))
        self._sessions.add(session)
        task = self._loop.create_task(self._greet(sock, session))
        self._tasks.add(task)
        task.add_done_callback(self._greeted)

    async def _greet(self, sock: socket.socket, session: _Session[T]) -> None:
        """Make the transport; with TLS, shake hands."""
        assert self._loop is not None
        tls: dict[str, Any] = {}
        if self._ssl_context is not None:
            tls = {
                "ssl": self._ssl_context,
                "ssl_handshake_timeout": self.handshake_timeout,
                "ssl_shutdown_timeout": self.drain_timeout,
            }
        try:
            await self._loop.connect_accepted_socket(lambda: session, sock, **tls)
        except _RAISED as error:  # TLS has many ways to fail
            logger.info("%s: the connection is closed: %r", session.address, error)
            session.abort()
            if session.transport is None:
                sock.close()
                self.finished(session)

    def _greeted(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._look()

    def finished(self, session: _Session[T]) -> None:
        """The session's transport is gone."""
        self._sessions.discard(session)
        self._accept_again()
        self._look()


def serve(
    address: AddressLike,
    wire: Wire[T],
    service: Service[T],
    *,
    max_connections: int = 1000,
    frame_timeout: float | None = 30.0,
    idle_timeout: float | None = None,
    handshake_timeout: float = 10.0,
    slow_reader_timeout: float | None = 30.0,
    max_queued: int = 1 << 20,
    drain_timeout: float = DRAIN_SECONDS,
    high_water: int = 1 << 16,
    low_water: int = 1 << 14,
    ssl_context: ssl.SSLContext | None = None,
    reuse_port: bool = False,
) -> Server[T]:
    """A server that runs ``service`` for everybody who connects to ``address``, on the running loop; ``async with`` it.

    ``max_connections``: above it, nobody is accepted until somebody leaves. Seconds, None for no limit: ``frame_timeout``
    from a frame's first byte to its last; ``idle_timeout`` without a byte in either direction; ``handshake_timeout``
    for TLS, which ``ssl_context`` switches on; ``slow_reader_timeout`` for which a peer may take next to nothing of what
    waits for it; ``drain_timeout`` for which a connection that ends may take to write what is queued.

    Bytes: above ``high_water`` of them a peer that does not read is not read from, and its messages wait, until it is down at
    ``low_water``; ``max_queued`` is the most that others may leave waiting for one peer before it is closed.

    ``reuse_port`` lets several processes listen at the same port. Raises TypeError for a service whose methods are coroutine
    functions.
    """
    return Server(
        address,
        wire,
        service,
        max_connections=max_connections,
        frame_timeout=frame_timeout,
        idle_timeout=idle_timeout,
        handshake_timeout=handshake_timeout,
        slow_reader_timeout=slow_reader_timeout,
        max_queued=max_queued,
        drain_timeout=drain_timeout,
        high_water=high_water,
        low_water=low_water,
        ssl_context=ssl_context,
        reuse_port=reuse_port,
    )
