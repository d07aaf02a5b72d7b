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
from functools import partial
from operator import length_hint
from selectors import EVENT_READ, EVENT_WRITE
from socket import socket
from threading import get_ident
from typing import TYPE_CHECKING, Generic, TypeVar

from framing.drivers.address import Address
from framing.drivers.limits import NEVER, Limits, Linger, SlowReader
from framing.drivers.nonblocking import Connection
from framing.drivers.reactor import Reactor, Timer
from framing.drivers.scratch import thread_scratch
from framing.drivers.service import Handlers
from framing.drivers.tls import upgrade_tls, wrap_client, wrap_server
from framing.errors import ConnectionClosed, FramingError, Timeout
from framing.kernels import Outbox
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Session"]

T = TypeVar("T")

logger = logging.getLogger("framing.drivers")


class _Stage(enum.Enum):
    CONNECTING = "connecting"
    SHAKING = "shaking hands"
    OPEN = "open"
    ENDING = "ending"  # the last replies are being written
    LINGERING = "lingering"  # closed() was called; what still comes is thrown away
    GONE = "gone"


# An enumeration's members are looked up slowly by their names; these are asked for with each message.
_CONNECTING, _SHAKING, _OPEN, _ENDING, _LINGERING, _GONE = _Stage


class Session(Outbox, Generic[T]):
    """One connection. ``serving`` says whether this side accepted it: then it stops reading while its peer does not.

    A client reads on: it is the one who asked, and if both sides waited for each other to read, neither would.
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
        "_lingering",
        "_mask",
        "_reactor",
        "_reason",
        "_resumed",
        "_secure",
        "_shaking",
        "_slowness",
        "_stage",
        "_stopping",
        "_timer",
        "_wire",
        "cancel_connecting",
        "serving",
    )

    def __init__(
        self,
        reactor: Reactor,
        wire: Wire[T],
        handlers: Handlers[T],
        limits: Limits,
        address: Address,
        *,
        serving: bool,
        gone: Callable[[Session[T]], object],
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._wire = wire
        self._handlers = handlers
        self._limits = limits
        self._address = address
        self.serving = serving
        self._gone = gone
        self._stage = _CONNECTING
        self._connection: Connection[T] | None = None
        self._early: list[bytes] | None = None  # sent before there was a connection
        self._batch: Iterator[T] | None = None  # messages that wait until the peer has taken the replies before them
        self._halted = False  # the service is to get no more messages just now
        self._handling = False  # the service is being called for this very peer
        self._attending = False
        self._changed = False  # what is waited for may not be what is to be waited for now
        self._mask = 0
        self._reason: Exception | None = None
        self._stopping = False
        self._timer: Timer | None = None
        self._shaking: Timer | None = None  # runs while hands are shaken
        self._slowness: SlowReader | None = None  # made when there is something to judge
        self._resumed = 0.0  # when reading was turned on last
        self._lingering: Linger | None = None
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

    def _send(self, message: T) -> None:
        if self._room > 0 and get_ident() == self._reactor.owner:
            payload = self._wire.payload(message)
            if not self._keep(payload):
                self.send_encoded(*self._wire.framer.pieces(payload))
        else:
            self.send_encoded(*self._wire.pieces(message))

    def send_many(self, messages: Iterable[T]) -> None:
        self.send_encoded(self._wire.encode_many(messages))

    def send_encoded(self, *frames: bytes) -> None:
        if get_ident() != self._reactor.owner:
            self._reactor.call_soon_threadsafe(partial(self.send_encoded, *map(bytes, frames)))
            return
        connection = self._connection
        if connection is None:
            if self._stage is _CONNECTING:
                if self._early is None:
                    self._early = []
                self._early += map(bytes, frames)
            return
        channel = connection.channel
        if (self._stage is not _OPEN and self._stage is not _SHAKING) or not channel.may_send:
            return  # gone, or closing
        channel.send_encoded(*frames)
        if not self._attending:
            self._attending = True
            self._reactor.attend(self)
        if channel.paused:
            self._relieve(connection, channel.queued - sum(map(len, frames)))
        if self._handling:
            self._payloads, self._room = channel.gather()

    def close(self) -> None:
        if get_ident() == self._reactor.owner:
            self._close()
        else:
            self._reactor.call_soon_threadsafe(self._close)

    def start_tls(self, ssl_context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        context, name = upgrade_tls(self._address, ssl_context, server_hostname, server_side=self.serving)
        if get_ident() != self._reactor.owner:
            raise FramingError("start_tls() belongs into the service's own methods, which the loop's thread calls")
        connection = self._connection
        if connection is None or self._stage is not _OPEN:
            raise ConnectionClosed("start_tls(): there is no connection, or it has ended")
        try:
            connection.begin_tls(
                partial(wrap_server, context=context)
                if self.serving
                else partial(wrap_client, context=context, server_hostname=name),
                0 if self._batch is None else length_hint(self._batch),
            )
        except FramingError as error:
            if error is connection.error:
                self._end(error)
            raise
        self._secure = self._changed = True
        self._hurry()
        self._attend_once()

    # --------------------------------------------------------------- sending

    def _relieve(self, connection: Connection[T], backlog: int) -> None:
        """More waits than should: write now; and where the peer does not take it, stop asking for more."""
        connection.flush()
        if not connection.paused:
            return
        self._is_too_slow(connection, time.monotonic(), slow=True)
        if self._handling:
            self._halted = self.serving
        elif self._limits.max_queued is not None and backlog > self._limits.max_queued:
            # One message is always taken, of whatever size; so it is what waited before it that counts. Now, and not when
            # this round is over: there is no end to what may be sent until then.
            overrun = self._limits.overrun(self._address)
            if self._stage is _SHAKING:
                self.fail(overrun)
            else:
                self._abort(overrun)

    def _close(self) -> None:
        if self._stage is _OPEN:
            self._end(None)
        elif self._stage in (_CONNECTING, _SHAKING):
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
                handshake_timeout=limits.handshake_timeout,
                heartbeat=limits.heartbeat,
                address=self._address,
                scratch=thread_scratch(),
            )
            mask = connection.interest
            self._reactor.watch(connection, mask, self.ready)
        except BaseException:
            sock.close()
            raise
        self._mask = mask
        if self._wire.machine.raw:
            self._thread = get_ident()
        self._secure = connection.handshaking
        self._stage = _SHAKING
        if self._early:
            connection.channel.send_encoded(*self._early)
            self._early = None
            self._attend_once()
        if connection.handshaking:
            self._hurry()
        else:
            self._open()

    def _hurry(self) -> None:
        """Bound the time of the handshake that has begun."""
        if self._limits.handshake_timeout is not None:
            self._shaking = self._reactor.call_later(self._limits.handshake_timeout, self._shaken_late)

    def _shaken_late(self) -> None:
        self._shaking = None
        assert self._connection is not None
        try:
            self._connection.expire()
        except Timeout as error:
            if self._stage is _SHAKING:
                self.fail(error)
            elif self._stage in (_OPEN, _ENDING):
                self._abort(error)

    def fail(self, error: Exception | None) -> None:
        """There will be no connection: none was made, or the handshake failed. Only who asked for it is told."""
        if self._stage not in (_CONNECTING, _SHAKING):
            return
        if self.cancel_connecting is not None:
            self.cancel_connecting()
        if error is not None:
            logger.info("%s: no connection: %s", self._address, error)
        self._stage = _LINGERING
        try:
            if not self.serving:
                self._tell_closed(error)
        finally:
            self._go()

    def _open(self) -> None:
        self._stage = _OPEN
        self._cancel_timer()
        period = self._limits.period
        if period is not None:
            self._timer = self._reactor.call_later(period, self._check)
        assert self._connection is not None
        self._handling = True
        self._payloads, self._room = self._connection.channel.gather()
        try:
            self._handlers.opened(self)
        except Exception as error:
            if error is not self._reason:
                logger.exception("%s: the service raised in opened(); the connection is closed", self._address)
                self._end(error, logged=True)
        finally:
            self._end_handling()
        self._attend_once()

    def _end_handling(self) -> None:
        """The service was called, and what it has sent to this peer was kept, to be framed at once."""
        self._handling = False
        self._room = 0
        if self._payloads and not self._attending:
            self._attending = True
            self._reactor.attend(self)

    # ------------------------------------------------------------- a round

    def ready(self, events: int) -> None:
        """The socket is ready, or something is at hand already."""
        connection = self._connection
        stage = self._stage
        if connection is None or stage is _GONE:
            return  # closed by another event of this round
        if stage is _LINGERING:
            self._linger(connection)
            return
        try:
            messages = connection.handle(events)
        except FramingError as error:
            self._failed(connection, error)
            return
        except Exception as error:  # such as MemoryError, over what this one peer has sent
            logger.exception("%s: receiving failed; the connection is closed", self._address)
            if stage is _SHAKING:
                self.fail(error)
            else:
                self._end(error, logged=True)
            return
        if self._secure and not connection.handshaking:
            self._shaken(stage)
        if messages and self._stage is _OPEN:
            self._batch = iter(messages)
            self._deliver(connection, self._batch)
        if self._secure or events & EVENT_WRITE or (not connection.channel.idle and connection.pending):
            self._changed = True
            self._attend_once()

    def _shaken(self, before: _Stage) -> None:
        """Hands are shaken, now or long since."""
        if self._shaking is not None:
            self._shaking.cancel()
            self._shaking = None
        if before is _SHAKING:
            self._open()

    def _failed(self, connection: Connection[T], error: FramingError) -> None:
        """Reading has come to an end, good or bad."""
        if self._stage is _SHAKING and connection.broken:
            self.fail(error)
            return
        if self._stage is _SHAKING:
            self._open()  # the peer shook hands, and said no more, or nothing good
        if self._stage is _ENDING:
            # Only writing was left, and it broke.
            self._reason = self._reason or error
            self._attend_once()
        elif isinstance(error, ConnectionClosed):
            self._end(None)
        else:
            self._end(error)

    def _deliver(self, connection: Connection[T], batch: Iterator[T]) -> bool:
        """Give the batch to the service; whether all of it was handled, or never will be."""
        received = self._handlers.received
        self._halted = False
        self._handling = True
        self._payloads, self._room = connection.channel.gather()
        try:
            for message in batch:
                received(self, message)
                if self._halted:
                    self._changed = True
                    return self._batch is None
            self._batch = None
        except Exception as error:
            if error is not self._reason:  # which start_tls() has raised, and which is the peer's doing
                logger.exception("%s: the service raised in received(); the connection is closed", self._address)
                self._end(error, logged=True)
        finally:
            self._end_handling()
        return True

    def settle(self) -> None:
        """The round's events are handled: write, go on with what waited, end what is over, and wait for the rest."""
        self._attending = False
        connection = self._connection
        stage = self._stage
        if connection is None or stage is _GONE or stage is _LINGERING:
            return
        try:
            if connection.flush() and stage is _OPEN and not self._changed and self._mask == EVENT_READ:
                return  # as nearly always: the replies are written, and there is nothing but to read on
            self._changed = False
            if self._stage is _OPEN:
                self._go_on(connection)
            if self._stage is _ENDING and not connection.queued:
                self._conclude(connection)
            elif self._stage in (_SHAKING, _OPEN, _ENDING):
                self._wait(connection)
        except Exception as error:  # such as MemoryError, over what is sent to this one peer
            logger.exception("%s: sending failed; the connection is closed", self._address)
            self._break(error)

    def _go_on(self, connection: Connection[T]) -> None:
        """Handle what waited for the peer to read; or what is at hand without the socket having anything to say."""
        if self.serving and connection.paused:
            return
        if self._batch is not None and not self._deliver(connection, self._batch):
            if not connection.paused:
                self._attend_once()
            return
        if self._stage is not _OPEN:
            return
        if self._stopping:
            self._end(None)
        elif connection.pending:
            self.ready(0)
            self._attend_once()

    def _attend_once(self) -> None:
        if not self._attending:
            self._attending = True
            self._reactor.attend(self)

    def _wait(self, connection: Connection[T]) -> None:
        """Say what to wait for, where that has changed."""
        if self._stage is _OPEN:
            reading = self._batch is None and not self._stopping and not (self.serving and connection.paused)
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
        if self._stage is _OPEN and connection.reading and not self._stopping:
            deadline = connection.deadline
            if deadline is not None and now >= max(deadline, self._resumed + period):
                self.ready(EVENT_READ)  # what has come in time counts
                deadline = self._expire(connection, now)
            if deadline is not None:
                following = min(following, max(deadline, self._resumed + period))
        if self._stage in (_OPEN, _ENDING):
            following = min(following, self._look_for_slowness(connection, now))
        if self._stage in (_OPEN, _ENDING):
            self._timer = self._reactor.call_later(max(following - now, 0.0), self._check)

    def _expire(self, connection: Connection[T], now: float) -> float | None:
        if self._stage is not _OPEN or not connection.reading:
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
        """Close a peer that does not take what waits for it; returns when to look again."""
        slow = connection.paused or (self._stage is _ENDING and connection.queued > 0)
        late = self._is_too_slow(connection, now, slow=slow)
        if late is not None:
            self._abort(late)
        return NEVER if late is not None or self._slowness is None else self._slowness.due

    def _is_too_slow(self, connection: Connection[T], now: float, *, slow: bool) -> Timeout | None:
        """Why the peer is not waited for any more, None where it is."""
        if self._slowness is None:
            if not slow:
                return None
            self._slowness = SlowReader(self._limits.slow_reader_timeout, self._limits.high_water)
        if self._slowness.look(now, connection.written, slow=slow):
            return self._slowness.verdict(self._address, connection.queued)
        return None

    # ---------------------------------------------------------------- the end

    def _end(self, error: Exception | None, *, logged: bool = False) -> None:
        """Handle no more messages; write what is queued, and then close."""
        connection = self._connection
        assert connection is not None
        if isinstance(error, FramingError) and not logged:
            logger.info("%s: the connection is closed: %s", self._address, error)
        self._stage = _ENDING
        self._reason = error
        self._halted = True
        self._room = 0
        self._batch = None
        connection.reading = False
        self._is_too_slow(connection, time.monotonic(), slow=connection.queued > 0)
        self._attend_once()

    def _abort(self, error: FramingError) -> None:
        """End at once: what is queued will never be taken."""
        connection = self._connection
        assert connection is not None
        if self._stage is _OPEN:
            self._end(error)
        connection.channel.lost(error)
        self._at_once = True
        self._reason = self._reason or error
        self._attend_once()

    def _break(self, error: Exception) -> None:
        """End now, where even ending in order cannot be trusted to succeed."""
        if self._stage in (_CONNECTING, _SHAKING):
            self.fail(error)
            return
        ending, self._stage = self._stage, _LINGERING
        try:
            if ending in (_OPEN, _ENDING):
                self._tell_closed(self._reason or error)
        finally:
            self._go()

    def _tell_closed(self, error: Exception | None) -> None:
        try:
            self._handlers.closed(self, error)
        except Exception:
            logger.exception("%s: the service raised in closed()", self._address)

    def _conclude(self, connection: Connection[T]) -> None:
        """All is written, or never will be."""
        self._lingering = Linger(time.monotonic(), hurried=self._stopping)
        self._stage = _LINGERING
        self._cancel_timer()
        try:
            self._tell_closed(self._reason)
        finally:
            self._part(connection)

    def _part(self, connection: Connection[T]) -> None:
        """Say that no more comes, and take what the peer still says."""
        connection.finish()
        if self._at_once or connection.broken or connection.eof:
            self._go()
            return
        connection.reading = False
        self._watch(EVENT_READ)
        self._linger_on()
        self._linger(connection)

    def _linger_on(self) -> None:
        """Close, where it is time to; else look again then."""
        assert self._lingering is not None
        self._cancel_timer()
        left = self._lingering.due - time.monotonic()
        if left > 0:
            self._timer = self._reactor.call_later(left, self._linger_on)
        else:
            self._go()

    def _linger(self, connection: Connection[T]) -> None:
        thrown = connection.discard()
        if thrown is None:
            self._go()
        else:
            assert self._lingering is not None
            now = time.monotonic()
            self._lingering.threw(thrown, now)
            if now >= self._lingering.due:
                self._go()

    def _go(self) -> None:
        """Give everything back."""
        if self._stage is _GONE:
            return
        self._stage = _GONE
        self._cancel_timer()
        self._watch(0)
        if self._connection is not None:
            self._connection.close()
        self._early = self._batch = None
        self._gone(self)

    def _cancel_timer(self) -> None:
        for timer in (self._timer, self._shaking):
            if timer is not None:
                timer.cancel()
        self._timer = self._shaking = None

    # --------------------------------------------------- the loop's own calls

    def stop(self) -> None:
        """Handle what was received, write what is queued, and end."""
        self._stopping = self._changed = True
        if self._stage is _LINGERING:
            if self._lingering is not None:
                self._lingering.hurried = True
                self._linger_on()
        elif self._stage is _OPEN:
            # Where a batch is waiting, the end comes behind it; where Ctrl-C has interrupted it, it waits for nothing.
            if self._batch is None:
                self._end(None)
            else:
                assert self._connection is not None
                self._wait(self._connection)
                self._attend_once()
        elif self._stage is not _ENDING:
            self.fail(None)

    def kill(self, error: FramingError) -> None:
        """End now; the time for draining is over."""
        if self._stage in (_CONNECTING, _SHAKING):
            self.fail(error)
            return
        if self._stage in (_OPEN, _ENDING):
            assert self._connection is not None
            self._abort(error)
            self._break(error)
        else:
            self._go()
