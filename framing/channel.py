"""Channel: a connection without I/O. Both directions, their buffers, their limits, their deadlines and their states.

A driver is what is left when everything else is here: it reads bytes and gives them to `Channel.receive`, writes what
`Channel.outgoing` holds, looks at a clock and calls `Channel.expire`. A channel has no socket, starts no thread and
knows no time but what it is told, so that whatever happens on a connection can be replayed in a test.

It guarantees that

- only what `TRANSITIONS` has a row for can be done; everything else raises, and changes nothing;
- what was received before a violation is returned first, and the violation then raised, by every later call;
- sending is all or nothing: a message that cannot be encoded queues no byte;
- what is queued leaves in the order in which it was sent, also where frames are made later, many at once (`Channel.gather`);
- a frame that was begun is complete before ``frame_timeout`` has passed, however its bytes drip, or `expire` raises.

One thread at a time uses a channel; which, is the driver's business.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from framing.errors import ConnectionClosed, DecodeError, FramingError, Timeout, Violation
from framing.framers import Decoder
from framing.wire import Wire

__all__ = ["TRANSITIONS", "Channel", "Event", "Heartbeat", "State"]

T = TypeVar("T")

JOINED_BYTES = 1 << 14
"""Frames below this size are joined before they are written; larger ones are handed over as they are, uncopied."""

GATHERED = 64
"""The most buffers that `Channel.outgoing` gives at once: far below any system's IOV_MAX."""


class State(enum.Enum):
    """What a channel may still do. *Local* is this side's stream, *remote* the peer's."""

    OPEN = "open"
    HALF_CLOSED_LOCAL = "half-closed (local)"
    HALF_CLOSED_REMOTE = "half-closed (remote)"
    CLOSED = "closed"
    FAILED = "failed"


class Event(enum.Enum):
    """What happens to a channel."""

    SEND = "send"
    RECEIVE = "receive"
    SEND_EOF = "send EOF"
    RECEIVE_EOF = "receive EOF"
    VIOLATION = "violation"
    TIMEOUT = "timeout"
    LOST = "lost"
    CLOSE = "close"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.OPEN, Event.SEND): State.OPEN,
        (State.OPEN, Event.RECEIVE): State.OPEN,
        (State.OPEN, Event.SEND_EOF): State.HALF_CLOSED_LOCAL,
        (State.OPEN, Event.RECEIVE_EOF): State.HALF_CLOSED_REMOTE,
        (State.OPEN, Event.VIOLATION): State.FAILED,
        (State.OPEN, Event.TIMEOUT): State.FAILED,
        (State.OPEN, Event.LOST): State.FAILED,
        (State.OPEN, Event.CLOSE): State.CLOSED,
        # This side has said all; it still listens.
        (State.HALF_CLOSED_LOCAL, Event.RECEIVE): State.HALF_CLOSED_LOCAL,
        (State.HALF_CLOSED_LOCAL, Event.SEND_EOF): State.HALF_CLOSED_LOCAL,
        (State.HALF_CLOSED_LOCAL, Event.RECEIVE_EOF): State.CLOSED,
        (State.HALF_CLOSED_LOCAL, Event.VIOLATION): State.FAILED,
        (State.HALF_CLOSED_LOCAL, Event.TIMEOUT): State.FAILED,
        (State.HALF_CLOSED_LOCAL, Event.LOST): State.FAILED,
        (State.HALF_CLOSED_LOCAL, Event.CLOSE): State.CLOSED,
        # The peer has said all; the replies still go out.
        (State.HALF_CLOSED_REMOTE, Event.SEND): State.HALF_CLOSED_REMOTE,
        (State.HALF_CLOSED_REMOTE, Event.SEND_EOF): State.CLOSED,
        (State.HALF_CLOSED_REMOTE, Event.RECEIVE_EOF): State.HALF_CLOSED_REMOTE,
        (State.HALF_CLOSED_REMOTE, Event.TIMEOUT): State.FAILED,
        (State.HALF_CLOSED_REMOTE, Event.LOST): State.FAILED,
        (State.HALF_CLOSED_REMOTE, Event.CLOSE): State.CLOSED,
        # Ends are final. To end once more changes nothing, so that whoever cleans up need not ask first.
        (State.CLOSED, Event.SEND_EOF): State.CLOSED,
        (State.CLOSED, Event.RECEIVE_EOF): State.CLOSED,
        (State.CLOSED, Event.LOST): State.CLOSED,
        (State.CLOSED, Event.CLOSE): State.CLOSED,
        (State.FAILED, Event.SEND_EOF): State.FAILED,
        (State.FAILED, Event.LOST): State.FAILED,
        (State.FAILED, Event.CLOSE): State.FAILED,
    }
)
"""Every event that a state allows, and the state that it leads to. What is not here is refused with an exception."""


@dataclass(frozen=True, slots=True)
class Heartbeat(Generic[T]):
    """An application's keep-alive, on any wire: it finds the peer that is gone without a word.

    When this side has written nothing for ``interval`` seconds it sends the message ``ping``. When nothing at all was
    received for ``timeout`` seconds (None: twice the interval), the connection fails with `framing.Timeout`. A ``ping``
    that is received is answered with ``pong``, where there is one; neither reaches the caller.

    Two peers with the same heartbeat keep each other informed, with or without a ``pong``. A peer that knows nothing of
    heartbeats sees ``ping`` as a message: choose one that it answers, and give its answer as ``pong``; or one that it
    ignores, with a ``timeout`` of ``math.inf``, or one that its own messages keep.
    """

    ping: T
    pong: T | None = None
    interval: float = 15.0
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in (("interval", self.interval), ("timeout", self.silence)):
            if not seconds > 0:
                raise ValueError(f"{name} is {seconds!r}; give seconds above 0")

    @property
    def silence(self) -> float:
        """How many seconds of silence make the peer count as gone."""
        return 2 * self.interval if self.timeout is None else self.timeout

    def takes(self, message: T) -> bool:
        """Whether ``message`` is one of the heartbeat's own."""
        return _same(message, self.ping) or (self.pong is not None and _same(message, self.pong))


def _same(message: object, own: object) -> bool:
    # By type too: a ping of 1 must not swallow a message of True.
    return type(message) is type(own) and message == own


class Channel(Generic[T]):
    """Both directions of one connection over ``wire``.

    ``high_water`` and ``low_water`` are bytes: `paused` is True from the moment when more than ``high_water`` of them
    wait to be written until no more than ``low_water`` do. ``frame_timeout`` and ``idle_timeout`` are seconds, or None
    for no limit; ``now`` is the time of the caller's clock, any clock that does not go back.
    """

    __slots__ = (
        "_beat",
        "_began",
        "_decoder",
        "_error",
        "_fresh",
        "_heard",
        "_machine",
        "_moved",
        "_now",
        "_queued",
        "_ready",
        "_spoke",
        "_state",
        "_unframed",
        "frame_timeout",
        "heartbeat",
        "high_water",
        "idle",
        "idle_timeout",
        "low_water",
        "may_receive",
        "may_send",
        "paced",
        "paused",
        "timed",
        "wire",
        "written",
    )

    def __init__(
        self,
        wire: Wire[T],
        *,
        high_water: int = 1 << 16,
        low_water: int = 1 << 14,
        frame_timeout: float | None = None,
        idle_timeout: float | None = None,
        heartbeat: Heartbeat[T] | None = None,
        now: float = 0.0,
    ) -> None:
        if not 0 <= low_water <= high_water:
            raise ValueError(f"low_water={low_water} and high_water={high_water}: give 0 <= low_water <= high_water")
        for name, seconds in (("frame_timeout", frame_timeout), ("idle_timeout", idle_timeout)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds!r}; give seconds above 0, or None for no limit")
        self.wire = wire
        self._machine = wire.machine
        self.high_water = high_water
        self.low_water = low_water
        self.frame_timeout = frame_timeout
        self.idle_timeout = idle_timeout
        self.heartbeat = heartbeat
        # Encoded once, and now: a ping that cannot be encoded is found before anything is sent.
        self._beat = b"" if heartbeat is None else wire.encode(heartbeat.ping)
        self.paced = idle_timeout is not None or heartbeat is not None
        """Whether it matters when bytes were last received and written, so that `receive` and `sent` must be told."""
        self.timed = frame_timeout is not None or self.paced
        """Whether there is any deadline, so that `receive` must be told the time."""
        self._decoder: Decoder[T] = wire.decoder()
        self._state = State.OPEN
        self.may_send = True
        """Whether `send` is allowed; false once this side has ended its stream, or the channel has failed."""
        self.may_receive = True
        """Whether more may come from the peer; while it is true, a driver goes on reading."""
        self.idle = True
        """Whether the next byte that is received begins a frame; until then there is nothing to return, and nothing to raise.

        False may be said in doubt: `pending`, `inside` and `in_place` tell.
        """
        self.paused = False
        """Whether the peer takes less than it is sent: above ``high_water``, until ``low_water``. Stop making more."""
        self._error: FramingError | None = None
        # Lists are made when they are needed, for most connections of a crowd have nothing to say.
        self.written = 0
        """How many bytes were written since the beginning."""
        self._ready: list[bytes | memoryview] | None = None  # what outgoing() gives, in order
        self._fresh: list[bytes] | None = None  # small frames behind it, not yet joined
        self._unframed: list[bytes] | None = None  # payloads behind these, whose frames are still to be made
        self._queued = 0  # bytes of all but the last
        self._now = now
        self._moved = now  # when bytes were last received or written
        self._heard = now  # when bytes were last received
        self._spoke = now  # when bytes were last written, or a ping was queued
        self._began: float | None = None  # when the first byte of the frame under way was received

    def __repr__(self) -> str:
        return f"<Channel {self._state.value}, {self._decoder.buffered} bytes held, {self._queued} to be written>"

    # ------------------------------------------------------------------ states

    @property
    def state(self) -> State:
        """What this channel may still do."""
        return self._state

    @property
    def error(self) -> FramingError | None:
        """Why the channel failed: the violation, the timeout, or what was given to `lost`; None while it has not."""
        return self._error

    def _move(self, event: Event) -> None:
        """Follow the table. The callers have asked `may_send` or `may_receive`, so there is a row."""
        if self._unframed:
            self._frame()  # they were sent while that was allowed
        self._state = state = TRANSITIONS[self._state, event]
        self.may_send = (state, Event.SEND) in TRANSITIONS
        self.may_receive = (state, Event.RECEIVE) in TRANSITIONS
        self.idle = self.idle and self.may_receive

    def _fail(self, event: Event, error: FramingError) -> None:
        self._move(event)
        if self._state is State.FAILED and self._error is None:
            self._error = error

    def _refusal(self, what: str) -> FramingError:
        """What a call raises that the state has no row for."""
        return ConnectionClosed(f"{what}: the channel is {self._state.value}")

    def _no_receiving(self) -> FramingError:
        if self._error is not None:
            # Without the traceback of the last time, which would grow with each call.
            return self._error.with_traceback(None)
        return self._refusal("there is nothing more to receive")

    # --------------------------------------------------------------- receiving

    def receive(self, chunk: bytes | bytearray | memoryview, now: float | None = None) -> list[T]:
        """Take in a chunk; return the messages that it completes, in order.

        Messages before a violation are returned, and the violation is raised by the next call; a refused payload
        raises `DecodeError` at its place, once, and the next call goes on behind it: while `pending` is true,
        ``receive(b"")`` has more to say. Raises `ConnectionClosed` when the peer's stream, or the channel, has ended.
        """
        if not self.may_receive:
            raise self._no_receiving()
        decoder = self._decoder
        self.idle = False
        try:
            messages = decoder.feed(chunk)
        except DecodeError:
            self._watch(now, whole=True, moved=bool(chunk))
            raise
        except Violation as error:
            self._fail(Event.VIOLATION, error)
            raise
        self.idle = decoder.idle
        if self.paced or not self.idle:
            self._watch(now, whole=bool(messages), moved=bool(chunk))
        else:
            self._began = None
            if now is not None:
                self._now = now
        return messages if self.heartbeat is None else self._without_beats(self.heartbeat, messages)

    def get_buffer(self, sizehint: int = -1) -> memoryview:
        """Lend a buffer to read into, as ``asyncio.BufferedProtocol`` does; `buffer_updated` says how much was read."""
        if not self.may_receive:
            raise self._no_receiving()
        self.idle = False
        return self._decoder.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int, now: float | None = None) -> list[T]:
        """The first ``nbytes`` of the lent buffer were filled: return and raise as `receive` does for them."""
        if not self.may_receive:
            raise self._no_receiving()
        try:
            messages = self._decoder.buffer_updated(nbytes)
        except DecodeError:
            self._watch(now, whole=True, moved=nbytes > 0)
            raise
        except Violation as error:
            self._fail(Event.VIOLATION, error)
            raise
        self.idle = self._decoder.idle
        if self.timed:
            self._watch(now, whole=bool(messages), moved=nbytes > 0)
        return messages if self.heartbeat is None else self._without_beats(self.heartbeat, messages)

    def _without_beats(self, heartbeat: Heartbeat[T], messages: list[T]) -> list[T]:
        """The messages that are the caller's; a ping among the others is answered, once however many there are."""
        own = [message for message in messages if heartbeat.takes(message)]
        if not own:
            return messages
        if heartbeat.pong is not None and self.may_send and any(_same(message, heartbeat.ping) for message in own):
            self.send_encoded(self.wire.encode(heartbeat.pong))
        return [message for message in messages if not heartbeat.takes(message)]

    def receive_eof(self, now: float | None = None) -> list[T]:
        """The peer's stream has ended. Return what was still waiting; call it until it returns nothing.

        Raises `TruncatedFrame` where the stream ended inside a frame, and what `receive` raises. A clean end leaves the
        sending side as it is: replies still go out.
        """
        if not self.may_receive:
            if (self._state, Event.RECEIVE_EOF) in TRANSITIONS:
                return []
            raise self._no_receiving()
        self.idle = False
        try:
            messages = self._decoder.feed_eof()
        except Violation as error:
            self._fail(Event.VIOLATION, error)
            raise
        if self._decoder.error is None and not self._decoder.pending:
            self._move(Event.RECEIVE_EOF)
            self._began = None
            if now is not None:
                self._now = self._moved = now
        return messages

    @property
    def pending(self) -> bool:
        """Whether ``receive(b"")`` may return or raise something without any new bytes."""
        return self.may_receive and (self._decoder.pending or self._decoder.error is not None)

    @property
    def buffered(self) -> int:
        """How many received bytes are held: the beginning of a frame."""
        return self._decoder.buffered

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and is not complete, also where it is being skipped, and nothing of it is held."""
        return self._decoder.inside

    @property
    def in_place(self) -> bool:
        """Whether a large frame is under way, so that `get_buffer` lends that frame's own place; else any buffer will do."""
        return self._decoder.in_place

    @property
    def unconsumed(self) -> bytes:
        """The received bytes that belong to no message yet: what an upgrade in mid-stream must hand over, or refuse."""
        return self._decoder.unconsumed

    # ----------------------------------------------------------------- sending

    def send(self, message: T) -> None:
        """Queue one message. Raises `EncodeError`, and queues nothing, or `ConnectionClosed` when sending has ended."""
        if not self.may_send:
            raise self._no_sending()
        self.send_encoded(*self.wire.pieces(message))

    def send_many(self, messages: Iterable[T]) -> None:
        """Queue all of ``messages``, or, where one of them cannot be encoded, none; raises as `send`."""
        if not self.may_send:
            raise self._no_sending()
        self.send_encoded(self.wire.encode_many(messages))

    def send_encoded(self, *frames: bytes) -> None:
        """Queue what ``wire.encode``, ``encode_many`` or ``pieces`` returned: a message for many channels is encoded once."""
        if not self.may_send:
            raise self._no_sending()
        if self._unframed:
            self._frame()
        for frame in frames:
            if frame:
                self._add(bytes(frame))  # the same object, unless it is one that the caller could change meanwhile

    def gather(self) -> tuple[list[bytes] | None, int]:
        """A list into which a driver may put payloads, rather than have each framed by `send`; and the room that it has.

        Any ``bytes`` will do, while their sizes, with `framing.kernels.outbox.OVERHEAD` for each, are no more than the room
        together: they can be sent, and `paused` stays as it is. They are queued in their place as soon as any other method of
        the channel is called that queues, or asks for what is queued. A room of 0 or less: call `send`.
        """
        machine = self._machine
        if machine.join is None or not self.may_send:
            return None, 0
        if self._unframed:
            self._frame()
        elif self._unframed is None:
            self._unframed = []
        return self._unframed, min(self.high_water - self._queued, machine.most)

    def _frame(self) -> None:
        """Queue what was gathered; or forget it, where that came when nothing may be sent any more."""
        if self.may_send:
            self._add(self._joined())
        elif self._unframed is not None:
            self._unframed.clear()

    def _joined(self) -> bytes:
        """The frames of what was gathered, which is forgotten: also where this raises, or each later call would too."""
        payloads = self._unframed
        assert payloads is not None
        assert self._machine.join is not None
        try:
            # None is for a rule that does not keep its word; then the other raises.
            return self._machine.join(payloads) or self.wire.framer.encode_many(payloads)
        finally:
            payloads.clear()

    def send_eof(self) -> None:
        """End this side's stream behind what is queued; receiving goes on. Where it has ended, nothing happens."""
        self._move(Event.SEND_EOF)

    def close(self) -> None:
        """End both directions. What is queued stays so: the driver writes it, or drops it."""
        self._move(Event.CLOSE)

    def lost(self, error: FramingError) -> None:
        """The transport broke: nothing more is received or written, and ``error`` is raised by every later call."""
        self._fail(Event.LOST, error)
        self.drop()

    def drop(self) -> int:
        """Forget what is queued, where nobody will ever read it; returns how many bytes that were."""
        dropped, self._queued = self.queued, 0
        self._ready = self._fresh = None
        self.paused = False
        return dropped

    def _no_sending(self) -> FramingError:
        refusal = self._refusal("nothing more can be sent")
        refusal.__cause__ = self._error
        return refusal

    def _add(self, frames: bytes) -> None:
        size = len(frames)
        if size >= JOINED_BYTES:
            self._join()
            self._append(frames)
        elif self._fresh is None:
            self._fresh = [frames]
        else:
            self._fresh.append(frames)
        self._queued = queued = self._queued + size
        if queued > self.high_water:
            self.paused = True

    def _join(self) -> None:
        fresh, self._fresh = self._fresh, None
        if fresh is not None:
            self._append(fresh[0] if len(fresh) == 1 else b"".join(fresh))

    def _append(self, frames: bytes) -> None:
        if self._ready is None:
            self._ready = [frames]
        else:
            self._ready.append(frames)

    @property
    def queued(self) -> int:
        """How many bytes wait to be written."""
        if self._unframed:
            self._frame()
        return self._queued

    @property
    def eof_due(self) -> bool:
        """Whether everything is written and this side's stream has ended: time to shut the socket's sending side."""
        return not self.may_send and not self.queued

    def outgoing(self, most: int | None = None) -> list[bytes | memoryview]:
        """The bytes to be written next, as buffers for ``sendmsg`` or ``writelines``; empty where there are none.

        They stay queued until `sent` says how many were written. There may be more behind them than one call gives;
        ``most`` is how many bytes it gives at the most, None for no limit.
        """
        if self._unframed:
            self._frame()
        if self._fresh is not None:
            self._join()
        if self._ready is None:
            return []
        buffers = self._ready[:GATHERED]
        if most is None:
            return buffers
        first: list[bytes | memoryview] = []
        for buffer in buffers:
            if not most:
                break
            first.append(buffer if len(buffer) <= most else memoryview(buffer)[:most])
            most -= len(first[-1])
        return first

    def push(
        self,
        write: Callable[[Sequence[bytes | memoryview]], int],
        most: int | None = None,
        now: float | None = None,
    ) -> int:
        """Have ``write`` write what `outgoing` would give, once; returns how many bytes are queued then.

        ``write`` returns how many bytes it has written; where it raises, it has written none.
        """
        if self._unframed and not self._queued and most is None and self.may_send:
            # As in most turns: nothing is left of the one before, and what was gathered in this one leaves at once.
            frames = self._joined()
            try:
                count = write((frames,))
            except BaseException:
                self._add(frames)
                raise
            if count < len(frames):
                if self._state is State.FAILED:
                    return 0  # meanwhile, and so nothing is queued any more
                self._add(frames)
                self.sent(count, now)
            else:
                self.written += count
                if now is not None:
                    self._now = self._moved = self._spoke = now
            return self._queued
        fresh = self._fresh
        if fresh is not None and len(fresh) == 1 and self._ready is None and most is None and not self._unframed:
            buffers: Sequence[bytes | memoryview] = fresh  # as in a broadcast
        else:
            buffers = self.outgoing(most)
        if not buffers:
            return self._queued
        count = write(buffers)
        if count != self._queued or self._ready is not None:
            self.sent(count, now)
            return self._queued
        # All of it, as nearly always.
        self._fresh = None
        self._queued = 0
        self.written += count
        self.paused = False
        if now is not None:
            self._now = self._moved = self._spoke = now
        return 0

    def sent(self, nbytes: int, now: float | None = None) -> None:
        """The first ``nbytes`` of what `outgoing` gave were written. Raises ValueError for more than there are."""
        left = self._queued - nbytes
        if nbytes < 0 or left < 0:
            raise ValueError(f"{nbytes} bytes were written of {self._queued}")
        self._queued = left
        self.written += nbytes
        if left <= self.low_water:
            self.paused = False
        if nbytes and now is not None:
            self._now = self._moved = self._spoke = now
        if not left:
            self._ready = self._fresh = None
        elif nbytes:
            self._trim(nbytes)

    def _trim(self, nbytes: int) -> None:
        """Drop the first bytes of what `outgoing` gives; there are more."""
        self._join()
        ready = self._ready
        assert ready is not None
        written = 0
        while nbytes >= len(ready[written]):
            nbytes -= len(ready[written])
            written += 1
        del ready[:written]
        if nbytes:
            ready[0] = memoryview(ready[0])[nbytes:]

    # --------------------------------------------------------------- deadlines

    def _watch(self, now: float | None, *, whole: bool, moved: bool) -> None:
        """Note the time. Only a whole frame starts the next one's time anew: bytes alone, however they drip, do not."""
        if now is None:
            now = self._now
        self._now = now
        if moved:
            self._moved = self._heard = now
        if not self._decoder.inside:
            # Bytes that are pending are whole frames that wait for us, not for the peer.
            self._began = None
        elif whole or self._began is None:
            self._began = now

    @property
    def deadline(self) -> float | None:
        """The time at which `expire` has something to do: a frame, idleness or silence is too long, or a ping is due."""
        ends: list[float] = []
        if self.may_receive and self.frame_timeout is not None and self._began is not None:
            ends.append(self._began + self.frame_timeout)
        if self.idle_timeout is not None and (self.may_receive or self.may_send):
            ends.append(self._moved + self.idle_timeout)
        if self.heartbeat is not None:
            if self.may_receive:
                ends.append(self._heard + self.heartbeat.silence)
            if self.may_send:
                ends.append(self._spoke + self.heartbeat.interval)
        return min(ends, default=None)

    def expire(self, now: float) -> None:
        """Raise `Timeout`, and fail, when a deadline has passed; a driver calls it behind `receive`, never before.

        Every later `receive` raises it again. What is queued can still be written; behind `expire` that may be a ping.
        """
        self._now = now
        beat = self.heartbeat
        if beat is not None and self.may_send and now >= self._spoke + beat.interval:
            # Nobody looked meanwhile, so the peer was not asked: only from here on is its silence its own.
            self._heard = min(self._heard + now - (self._spoke + beat.interval), now)
            self._spoke = now
            # Behind bytes that still wait for the peer a ping would tell it nothing, and one a second would pile up.
            if not self.queued:
                self.send_encoded(self._beat)
        error = self._overdue(now)
        if error is not None:
            self._fail(Event.TIMEOUT, error)
            raise error

    def _overdue(self, now: float) -> Timeout | None:
        """What has taken too long, or None."""
        if (
            self.may_receive
            and self.frame_timeout is not None
            and self._began is not None
            and now >= self._began + self.frame_timeout
        ):
            return Timeout(
                f"the peer began a frame and did not complete it in {self.frame_timeout:g} s: "
                f"{self._decoder.buffered} bytes of it came",
                seconds=self.frame_timeout,
            )
        if (
            self.idle_timeout is not None
            and (self.may_receive or self.may_send)
            and now >= self._moved + self.idle_timeout
        ):
            return Timeout(
                f"nothing was received or written for {self.idle_timeout:g} s; "
                "the peer is gone, or has nothing to say: connect again when needed",
                seconds=self.idle_timeout,
            )
        beat = self.heartbeat
        if beat is not None and self.may_receive and now >= self._heard + beat.silence:
            return Timeout(
                f"nothing was heard from the peer for {beat.silence:g} s, not even a heartbeat; "
                "it is gone, or the path to it is: connect again",
                seconds=beat.silence,
            )
        return None
