"""Session: one connection of a loop, and the `Peer` that its service sees.

It keeps the promises of `framing.drivers.service` on a `nonblocking.Connection`, without ever waiting:

- messages are handled only while the peer takes the replies: above the high-water mark the rest of a batch waits, and
  nothing more is read; so what one peer may make this process hold is bounded by one batch and one reply;
- what is sent in a round leaves at its end, in one write;
- a service is never called inside another call of it for the same peer, and not inside `send` for another one;
- the end always comes in this order: what is queued is written, ``closed`` is called, the peer sees the end of the stream,
  what it still sends is thrown away for a moment, so that no reset destroys the last replies, and the socket is closed.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from socket import socket
from threading import get_ident
from typing import Any, Generic, TypeVar

from framing.channel import Heartbeat
from framing.drivers.accepting import LINGER
from framing.drivers.address import Address
from framing.drivers.nonblocking import Connection
from framing.drivers.reactor import Reactor, Timer
from framing.drivers.service import Handlers
from framing.errors import ConnectionClosed, FramingError, Timeout
from framing.wire import Wire

__all__ = ["Limits", "Session"]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may take, in bytes, and how long, in seconds; None for no limit."""

    high_water: int = 1 << 16
    low_water: int = 1 << 14
    frame_timeout: float | None = 30.0
    idle_timeout: float | None = None
    handshake_timeout: float | None = 10.0
    slow_reader_timeout: float | None = 30.0
    max_queued: int | None = 1 << 20
    heartbeat: Heartbeat[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("frame_timeout", "idle_timeout", "handshake_timeout", "slow_reader_timeout"):
            seconds: float | None = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds!r}; give seconds above 0, or None for no limit")
        if not 0 <= self.low_water <= self.high_water:
            raise ValueError(
                f"low_water={self.low_water} and high_water={self.high_water}: give 0 <= low_water <= high_water"
            )
        if self.max_queued is not None and self.max_queued < self.high_water:
            raise ValueError(f"max_queued={self.max_queued} is below high_water={self.high_water}")

    @property
    def period(self) -> float | None:
        """How often a connection must be looked at, so that no deadline is missed.

        A deadline is never nearer, when it is set, than the shortest of these; so to look that often is enough, and
        nothing has to be done about deadlines when bytes come.
        """
        beat = (None, None) if self.heartbeat is None else (self.heartbeat.interval, self.heartbeat.silence)
        limits = (self.frame_timeout, self.idle_timeout, self.slow_reader_timeout, *beat)
        return min((seconds for seconds in limits if seconds is not None), default=None)


class _Stage(enum.Enum):
    CONNECTING = "connecting"
    SHAKING = "shaking hands"
    OPEN = "open"
    ENDING = "ending"  # the last replies are being written
    LINGERING = "lingering"  # closed() was called; what still comes is thrown away
    GONE = "gone"


class Session(Generic[T]):
    """One connection. ``patient`` says whether it stops reading while its peer does not: a server's does.

    A client's reads on: it is the one who asked, and if both sides waited for each other to read, neither would.
    """

    __slots__ = (
        "_address",
        "_at_once",
        "_attending",
        "_batch",
        "_changed",
        "_connection",
        "_early",
        "_gone",
        "_halted",
        "_handlers",
        "_handling",
        "_limits",
        "_mark",
        "_mask",
        "_overflow",
        "_patient",
        "_reactor",
        "_reason",
        "_resumed",
        "_secure",
        "_stage",
        "_stopping",
        "_thrown",
        "_timer",
        "_wire",
        "cancel_connecting",
    )

    def __init__(
        self,
        reactor: Reactor,
        wire: Wire[T],
        handlers: Handlers[T],
        limits: Limits,
        address: Address,
        *,
        patient: bool,
        gone: Callable[[Session[T]], object],
    ) -> None:
        self._reactor = reactor
        self._wire = wire
        self._handlers = handlers
        self._limits = limits
        self._address = address
        self._patient = patient
        self._gone = gone
        self._stage = _Stage.CONNECTING
        self._connection: Connection[T] | None = None
        self._early: list[bytes] = []  # sent before there was a connection
        self._batch: Iterator[T] | None = None  # messages that wait until the peer has taken the replies before them
        self._halted = False  # the service is to get no more messages just now
        self._handling = False  # the service is being called for this very peer
        self._attending = False
        self._changed = False  # what is waited for may not be what is to be waited for now
        self._mask = 0
        self._reason: Exception | None = None
        self._overflow: Timeout | None = None
        self._stopping = False
        self._timer: Timer | None = None
        self._mark: tuple[float, int] | None = None  # since when the peer is slow, and what it had taken by then
        self._resumed = 0.0  # when reading was turned on last
        self._thrown = 0
        self._secure = False  # TLS: what it waits for may change at any time
        self._at_once = False  # there is nobody to linger for
        self.cancel_connecting: Callable[[], object] | None = None

    def __repr__(self) -> str:
        return f"<Peer {self._address}, {self._stage.value}>"

    # ---------------------------------------------------- the service's view

    @property
    def address(self) -> Address:
        return self._address

    @property
    def paused(self) -> bool:
        connection = self._connection
        return connection is not None and connection.paused

    def send(self, message: T) -> None:
        self.send_encoded(self._wire.encode(message))

    def send_many(self, messages: Iterable[T]) -> None:
        self.send_encoded(self._wire.encode_many(messages))

    def send_encoded(self, frames: bytes) -> None:
        if get_ident() == self._reactor.owner:
            self._queue(frames)
        else:
            self._reactor.call_soon_threadsafe(partial(self._queue, frames))

    def close(self) -> None:
        if get_ident() == self._reactor.owner:
            self._close()
        else:
            self._reactor.call_soon_threadsafe(self._close)

    # --------------------------------------------------------------- sending

    def _queue(self, frames: bytes) -> None:
        connection = self._connection
        if connection is None:
            if self._stage is _Stage.CONNECTING:
                self._early.append(frames)
            return
        if self._stage is not _Stage.OPEN and self._stage is not _Stage.SHAKING:
            return  # gone, or closing
        channel = connection.channel
        backlog = channel.queued
        if not channel.may_send:
            return
        channel.send_encoded(frames)
        if not self._attending:
            self._attend()
        if channel.paused:
            self._relieve(connection, backlog)

    def _relieve(self, connection: Connection[T], backlog: int) -> None:
        """More waits than should: write now; and where the peer does not take it, stop asking for more."""
        connection.flush()
        if not connection.paused:
            return
        if self._mark is None:
            self._mark = (time.monotonic(), connection.written)
        if self._handling:
            self._halted = self._patient
        elif self._limits.max_queued is not None and backlog > self._limits.max_queued:
            # One message is always taken, of whatever size; so it is what waited before it that counts.
            self._changed = True
            self._overflow = Timeout(
                f"{self._address} does not read: more than {self._limits.max_queued} bytes wait for it"
            )

    def _attend(self) -> None:
        self._attending = True
        self._reactor.attend(self)

    def _close(self) -> None:
        if self._stage is _Stage.OPEN:
            self._end(None)
        elif self._stage in (_Stage.CONNECTING, _Stage.SHAKING):
            self.fail(None)

    # ----------------------------------------------------------- the beginning

    def start(self, sock: socket) -> None:
        """The socket is connected. Raises OSError where the system cannot wait for it: `fail` then."""
        limits = self._limits
        try:
            self._connection = connection = Connection(
                sock,
                self._wire,
                high_water=limits.high_water,
                low_water=limits.low_water,
                frame_timeout=limits.frame_timeout,
                idle_timeout=limits.idle_timeout,
                heartbeat=limits.heartbeat,
                scratch=self._reactor.scratch,
                address=self._address,
            )
            mask = connection.interest
            self._reactor.watch(connection, mask, self.ready)
        except BaseException:
            sock.close()
            raise
        self._mask = mask
        self._secure = connection.handshaking
        self._stage = _Stage.SHAKING
        if self._early:
            connection.channel.send_encoded(b"".join(self._early))
            self._early.clear()
            self._attend()
        if not connection.handshaking:
            self._open()
        elif limits.handshake_timeout is not None:
            self._timer = self._reactor.call_later(limits.handshake_timeout, self._shaken_late)

    def _shaken_late(self) -> None:
        if self._stage is _Stage.SHAKING:
            self.fail(Timeout(f"shaking hands with {self._address}: not done in {self._limits.handshake_timeout:g} s"))

    def fail(self, error: Exception | None) -> None:
        """There will be no connection: none was made, or the handshake failed. Only who asked for it is told."""
        if self._stage not in (_Stage.CONNECTING, _Stage.SHAKING):
            return
        if self.cancel_connecting is not None:
            self.cancel_connecting()
        if error is not None:
            logger.info("%s: no connection: %s", self._address, error)
        if not self._patient:
            self._tell_closed(error)
        self._go()

    def _open(self) -> None:
        self._stage = _Stage.OPEN
        self._cancel_timer()
        period = self._limits.period
        if period is not None:
            self._timer = self._reactor.call_later(period, self._check)
        self._handling = True
        try:
            self._handlers.opened(self)
        except Exception as error:
            logger.exception("%s: the service raised in opened(); the connection is closed", self._address)
            self._end(error, logged=True)
        finally:
            self._handling = False
        if not self._attending:
            self._attend()

    # ------------------------------------------------------------- a round

    def ready(self, events: int) -> None:
        """The socket is ready, or something is at hand already."""
        connection = self._connection
        stage = self._stage
        if connection is None or stage is _Stage.GONE:
            return  # closed by another event of this round
        if stage is _Stage.LINGERING:
            self._linger(connection)
            return
        try:
            messages = connection.handle(events)
        except FramingError as error:
            self._failed(connection, error)
            return
        except Exception as error:  # such as MemoryError, over what this one peer has sent
            logger.exception("%s: receiving failed; the connection is closed", self._address)
            if stage is _Stage.SHAKING:
                self.fail(error)
            else:
                self._end(error, logged=True)
            return
        if stage is _Stage.SHAKING and not connection.handshaking:
            self._open()
        if messages and self._stage is _Stage.OPEN:
            self._batch = iter(messages)
            self._deliver()
        if self._secure or events & EVENT_WRITE or connection.pending:
            self._changed = True
            self._attend_once()

    def _failed(self, connection: Connection[T], error: FramingError) -> None:
        """Reading has come to an end, good or bad."""
        if self._stage is _Stage.SHAKING and connection.error is not None:
            self.fail(error)
            return
        if self._stage is _Stage.SHAKING:
            self._open()  # the peer shook hands, and said no more
        if self._stage is _Stage.ENDING:
            # Only writing was left, and it broke.
            self._reason = self._reason or error
            self._attend_once()
        elif isinstance(error, ConnectionClosed):
            self._end(None)
        else:
            self._end(error)

    def _deliver(self) -> bool:
        """Give the batch to the service; whether all of it was handled, or never will be."""
        batch = self._batch
        assert batch is not None
        received = self._handlers.received
        self._halted = False
        self._handling = True
        try:
            for message in batch:
                received(self, message)
                if self._halted:
                    self._changed = True
                    return self._batch is None
            self._batch = None
        except Exception as error:
            logger.exception("%s: the service raised in received(); the connection is closed", self._address)
            self._end(error, logged=True)
        finally:
            self._handling = False
        return True

    def settle(self) -> None:
        """The round's events are handled: write, go on with what waited, end what is over, and wait for the rest."""
        self._attending = False
        connection = self._connection
        if connection is None or self._stage in (_Stage.GONE, _Stage.LINGERING):
            return
        if connection.flush() and not self._changed and self._mask == EVENT_READ and self._stage is _Stage.OPEN:
            return  # as nearly always: the replies are written, and there is nothing but to read on
        self._changed = False
        if self._overflow is not None and self._stage is _Stage.OPEN:
            self._abort(self._overflow)
        elif self._stage is _Stage.OPEN:
            self._go_on(connection)
        if self._stage is _Stage.ENDING and not connection.queued:
            self._conclude(connection)
        elif self._stage in (_Stage.SHAKING, _Stage.OPEN, _Stage.ENDING):
            self._wait(connection)

    def _go_on(self, connection: Connection[T]) -> None:
        """Handle what waited for the peer to read; or what is at hand without the socket having anything to say."""
        if self._patient and connection.paused:
            return
        if self._batch is not None and not self._deliver():
            if not connection.paused:
                self._attend_once()
            return
        if self._stage is not _Stage.OPEN:
            return
        if self._stopping:
            self._end(None)
        elif connection.pending:
            self.ready(0)
            self._attend_once()

    def _attend_once(self) -> None:
        if not self._attending:
            self._attend()

    def _wait(self, connection: Connection[T]) -> None:
        """Say what to wait for, where that has changed."""
        if self._stage is _Stage.OPEN:
            reading = self._batch is None and not self._stopping and not (self._patient and connection.paused)
            if reading and not connection.reading:
                self._resumed = time.monotonic()
            connection.reading = reading
        self._watch(connection.interest)

    def _watch(self, mask: int) -> None:
        connection = self._connection
        before, self._mask = self._mask, mask
        if mask == before or connection is None:
            return
        if not mask:
            self._reactor.unwatch(connection)
        elif before:
            self._reactor.rewatch(connection, mask, self.ready)
        else:
            self._reactor.watch(connection, mask, self.ready)

    # -------------------------------------------------------------- deadlines

    def _check(self) -> None:
        """Look at every deadline; once in a period, and not for each event."""
        connection, period = self._connection, self._limits.period
        assert connection is not None
        assert period is not None
        now = time.monotonic()
        following = now + period
        self._timer = None
        if self._stage is _Stage.OPEN and connection.reading and not self._stopping:
            deadline = connection.deadline
            if deadline is not None and now >= max(deadline, self._resumed + period):
                self.ready(EVENT_READ)  # what has come in time counts
                deadline = self._expire(connection, now)
            if deadline is not None:
                following = min(following, max(deadline, self._resumed + period))
        if self._stage in (_Stage.OPEN, _Stage.ENDING):
            following = min(following, self._look_for_slowness(connection, now))
        if self._stage in (_Stage.OPEN, _Stage.ENDING):
            self._timer = self._reactor.call_later(max(following - now, 0.0), self._check)

    def _expire(self, connection: Connection[T], now: float) -> float | None:
        if self._stage is not _Stage.OPEN or not connection.reading:
            return None
        try:
            connection.expire(now)
        except Timeout as error:
            self._end(error)
        if connection.queued:
            self._changed = True  # a heartbeat that the socket did not take
            self._attend_once()
        return connection.deadline

    def _look_for_slowness(self, connection: Connection[T], now: float) -> float:
        """Close a peer that does not take what waits for it; returns when to look again.

        In each ``slow_reader_timeout`` it has to take as much as lies between the water marks, or all: a drip is no
        progress.
        """
        progress = max(self._limits.high_water - self._limits.low_water, 1)
        limit = self._limits.slow_reader_timeout
        slow = connection.paused or (self._stage is _Stage.ENDING and connection.queued > 0)
        if limit is None or not slow:
            self._mark = None
            return float("inf")
        written = connection.written
        if self._mark is None or written - self._mark[1] >= progress:
            self._mark = (now, written)
        elif now >= self._mark[0] + limit:
            self._abort(
                Timeout(
                    f"{self._address} does not read: {connection.queued} bytes wait for it, for {limit:g} s and more"
                )
            )
            return float("inf")
        return self._mark[0] + limit

    # ---------------------------------------------------------------- the end

    def _end(self, error: Exception | None, *, logged: bool = False) -> None:
        """Handle no more messages; write what is queued, and then close."""
        connection = self._connection
        assert connection is not None
        if isinstance(error, FramingError) and not logged:
            logger.info("%s: the connection is closed: %s", self._address, error)
        self._stage = _Stage.ENDING
        self._reason = error
        self._halted = True
        self._batch = None
        connection.reading = False
        self._mark = (time.monotonic(), connection.written)
        self._attend_once()

    def _abort(self, error: FramingError) -> None:
        """End at once: what is queued will never be taken."""
        connection = self._connection
        assert connection is not None
        if self._stage is _Stage.OPEN:
            self._end(error)
        connection.channel.lost(error)
        self._at_once = True
        self._reason = self._reason or error
        self._attend_once()

    def _tell_closed(self, error: Exception | None) -> None:
        try:
            self._handlers.closed(self, error)
        except Exception:
            logger.exception("%s: the service raised in closed()", self._address)

    def _conclude(self, connection: Connection[T]) -> None:
        """All is written, or never will be."""
        self._stage = _Stage.LINGERING
        self._cancel_timer()
        self._tell_closed(self._reason)
        connection.finish()
        if self._at_once or connection.broken or connection.eof:
            self._go()
            return
        connection.reading = False
        self._watch(EVENT_READ)
        self._timer = self._reactor.call_later(LINGER, self._go)
        self._linger(connection)
        if self._stopping and not self._thrown:
            self._go()  # a quiet peer loses nothing

    def _linger(self, connection: Connection[T]) -> None:
        thrown = connection.discard()
        if thrown is None:
            self._go()
        else:
            self._thrown += thrown

    def _go(self) -> None:
        """Give everything back."""
        if self._stage is _Stage.GONE:
            return
        self._stage = _Stage.GONE
        self._cancel_timer()
        self._watch(0)
        if self._connection is not None:
            self._connection.close()
        self._early.clear()
        self._batch = None
        self._gone(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --------------------------------------------------- the loop's own calls

    def stop(self) -> None:
        """Handle what was received, write what is queued, and end."""
        self._stopping = self._changed = True
        if self._stage is _Stage.LINGERING:
            self._go()
        elif self._stage is _Stage.OPEN:
            # Where a batch is waiting, the end comes behind it.
            if self._batch is None:
                self._end(None)
        elif self._stage is not _Stage.ENDING:
            self.fail(None)

    def kill(self, error: FramingError) -> None:
        """End now; the time for draining is over."""
        if self._stage in (_Stage.CONNECTING, _Stage.SHAKING):
            self.fail(error)
            return
        if self._stage in (_Stage.OPEN, _Stage.ENDING):
            assert self._connection is not None
            self._abort(error)
            self._stage = _Stage.LINGERING
            self._tell_closed(self._reason)
        self._go()
