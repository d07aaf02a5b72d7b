"""The non-blocking driver: you own the loop, a `Connection` does everything else.

    selector.register(connection, connection.interest, connection)
    for key, events in selector.select(timeout):
        for message in connection.handle(events):
            connection.send(reply_to(message))
        selector.modify(connection, connection.interest, connection)

No call ever waits. `Connection.handle` reads and writes as far as the socket goes, but not without bound: a peer that is
faster than this process gets its turn, and the others theirs. Messages are delivered first, and only then is raised what
came behind them. Any level-triggered selector will do: select, poll, epoll, kqueue, or the loop of a toolkit.

One thread at a time uses a connection. The connections of one thread share one receive buffer.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from framing.channel import Channel, Heartbeat, State
from framing.drivers.address import Address, AddressLike, no_delay, peer_of
from framing.drivers.failures import translate, was_reset
from framing.drivers.scratch import thread_scratch
from framing.drivers.stream import Stream, tls_wants
from framing.drivers.tls import judge_upgrade, shaken_late, upgrade_tls, wrap_client, wrap_server
from framing.errors import ConnectionClosed, CorruptFrame, FramingError
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection"]

T = TypeVar("T")

READ_TURN = 1 << 18
"""Bytes of a frame that is not whole yet, read in one turn before the others get theirs."""

WRITE_TURN = 1 << 20
"""Bytes written in one turn before the others get theirs."""


class _NonBlockingStream(Stream):
    """A `Stream` that somebody else waits for, and so tells what it waits for."""

    __slots__ = ()

    def __init__(self, sock: socket.socket, address: Address | None) -> None:
        super().__init__(sock, address)
        if not self.shaken:
            # Whose turn it is in a handshake depends on the role; the first try finds it out.
            self._want_read = EVENT_READ | EVENT_WRITE

    @property
    def read_wants(self) -> int:
        """The direction that the next read waits for: only TLS ever needs the other one."""
        return self._want_read

    @property
    def write_wants(self) -> int:
        """The direction that the next write waits for."""
        return self._want_write

    @property
    def held_by_tls(self) -> bool:
        """Whether bytes are decrypted already, so that the descriptor will not announce them."""
        return self.secure and self._pending_tls()

    @property
    def shaken(self) -> bool:
        """Whether there is no handshake left to be done."""
        sock: Any = self.sock
        return not self.secure or sock.version() is not None

    def shake(self) -> bool:
        """Go on with the TLS handshake; True when it is done."""
        sock: Any = self.sock
        try:
            sock.do_handshake()
        except (OSError, ValueError) as error:
            wanted = tls_wants(error)
            if not wanted:
                raise self._broken(error, "shaking hands (TLS) with") from error
            self._want_read = wanted
            return False
        self._want_read = EVENT_READ
        return True


class Connection(Generic[T]):
    """Messages over ``sock``, any connected stream socket (TCP, unix, one of a pair, TLS), which it owns from now on.

    ``frame_timeout`` is how long a frame may take from its first byte to its last, ``idle_timeout`` how long nothing may
    move, ``handshake_timeout`` how long TLS may take to begin, in seconds, None for no limit; ``heartbeat`` finds the peer
    that is gone without a word: `deadline` says when `expire` is to be called for them. ``high_water`` and ``low_water``
    are bytes: see `paused`. ``scratch`` is the receive buffer, 64 KiB or so, for a loop that lends its own.

    A TLS socket need not have done its handshake: it is part of the first turns. Wrap it with
    ``do_handshake_on_connect=False``. `start_tls` begins TLS in mid-stream.
    """

    __slots__ = (
        "_eof",
        "_handshake_timeout",
        "_handshaking",
        "_inbox",
        "_lost",
        "_plain",
        "_scratch",
        "_send_error",
        "_shake_by",
        "_shut",
        "_singly",
        "_special",
        "_stream",
        "_told",
        "_wrap",
        "address",
        "channel",
        "reading",
        "wire",
    )

    def __init__(
        self,
        sock: socket.socket,
        wire: Wire[T],
        *,
        high_water: int = 1 << 16,
        low_water: int = 1 << 14,
        frame_timeout: float | None = None,
        idle_timeout: float | None = None,
        handshake_timeout: float | None = 10.0,
        heartbeat: Heartbeat[T] | None = None,
        scratch: memoryview | bytearray | None = None,
        address: AddressLike | None = None,
    ) -> None:
        if handshake_timeout is not None and not handshake_timeout > 0:
            raise ValueError(f"handshake_timeout is {handshake_timeout!r}; give seconds above 0, or None for no limit")
        self.wire = wire
        self.channel: Channel[T] = Channel(
            wire,
            high_water=high_water,
            low_water=low_water,
            frame_timeout=frame_timeout,
            idle_timeout=idle_timeout,
            heartbeat=heartbeat,
            now=time.monotonic(),
        )
        """The connection without its socket. What is queued here, rather than by `send`, leaves with the next `flush`."""
        self.address: Address | None = Address.parse(address) if address is not None else peer_of(sock)
        self.reading = True
        """Set it to False to take nothing from the peer for a while: TCP then slows it down."""
        self._scratch = memoryview(scratch) if isinstance(scratch, bytearray) else scratch
        no_delay(sock)
        self._stream = _NonBlockingStream(sock, self.address)
        self._inbox: list[T] | None = None  # messages beyond the limit of a turn
        self._singly = True  # whether the turn that returned messages was limited to one
        self._special = heartbeat is not None  # whether a turn is more than to read whole messages, and to write
        self._handshake_timeout = handshake_timeout
        self._handshaking = False
        self._shake_by: float | None = None
        self._wrap: Callable[[socket.socket], socket.socket] | None = None  # makes TLS of the socket …
        self._plain = 0  # … when so many bytes of what is queued are written
        if self._stream.secure:
            self._special = True
            if not self._stream.shaken:
                self._begin_shaking()
        self._send_error: FramingError | None = None  # why nothing can be written any more
        self._lost = False  # the socket failed while it was read
        self._eof = False  # the peer's stream has ended
        self._told = False  # that nothing more will come
        self._shut = False

    def __repr__(self) -> str:
        return f"<Connection {self.address or 'of a pair'}, {self.state.value}>"

    # ------------------------------------------------------- what to wait for

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""
        return self._stream.fileno()

    @property
    def interest(self) -> int:
        """What to wait for: a mask of `selectors.EVENT_READ` and ``EVENT_WRITE``.

        Reading, unless the peer's stream has ended or `reading` is off; writing, while bytes are queued. 0 when there is
        nothing to wait for: a selector refuses to register that, so unregister, and close the connection when it `ended`.
        """
        stream, channel = self._stream, self.channel
        if self._handshaking:
            return stream.read_wants if self._wrap is None else EVENT_WRITE
        mask = 0
        if channel.queued:
            mask = stream.write_wants
        if channel.may_receive and (self.reading or self._send_error is not None):
            mask |= EVENT_READ | (stream.read_wants if stream.secure else 0)
        # The descriptor does not know of what is held here already. One that can be written to is ready at once.
        return mask | EVENT_WRITE if self.pending else mask

    @property
    def pending(self) -> bool:
        """Whether ``handle(0)`` has more to return or to raise, without the socket having anything to say."""
        if self._inbox:
            return self.reading
        if self._handshaking or not self.reading or not self.channel.may_receive:
            return self._untold and not self.channel.may_receive
        return self.channel.pending or self._eof or self._stream.held_by_tls

    @property
    def deadline(self) -> float | None:
        """When `expire` is to be called, on the clock of ``time.monotonic``; None where there is no limit."""
        deadline, shake_by = self.channel.deadline, self._shake_by
        return deadline if shake_by is None else shake_by if deadline is None else min(deadline, shake_by)

    def expire(self, now: float | None = None) -> None:
        """Raise `framing.Timeout` where a deadline has passed, and send the heartbeat where one is due.

        Call it behind `handle`: what came in time counts.
        """
        if now is None:
            now = time.monotonic()
        if self._shake_by is not None and now >= self._shake_by:
            assert self._handshake_timeout is not None
            error = shaken_late(self.address, self._handshake_timeout)
            self._give_up(error)
            raise error
        self.channel.expire(now)
        if self.channel.queued:
            self.flush()

    # ------------------------------------------------------------------ states

    @property
    def handshaking(self) -> bool:
        """Whether a TLS handshake is still to be done."""
        return self._handshaking

    @property
    def state(self) -> State:
        """What may still be done: both directions open, one, or none."""
        return self.channel.state

    @property
    def error(self) -> FramingError | None:
        """Why the connection failed; None while it has not."""
        return self.channel.error

    @property
    def ended(self) -> bool:
        """Whether nothing more will be received. What is queued still goes out."""
        return not self.channel.may_receive and not self._inbox

    @property
    def eof(self) -> bool:
        """Whether the peer has ended its stream; messages of it may still be `pending`."""
        return self._eof

    @property
    def broken(self) -> bool:
        """Whether the socket itself has failed: nobody is there any more."""
        return self._lost or self._send_error is not None

    @property
    def queued(self) -> int:
        """How many bytes wait to be written."""
        return self.channel.queued

    @property
    def written(self) -> int:
        """How many bytes the system has taken since the beginning."""
        return self.channel.written

    @property
    def paused(self) -> bool:
        """Whether the peer takes less than it is sent: above ``high_water``, until ``low_water``.

        A server then turns `reading` off until it is over, so that the peer cannot ask for more than it takes.
        """
        return self.channel.paused

    @property
    def unconsumed(self) -> bytes:
        """The received bytes that belong to no message yet: what an upgrade in mid-stream must hand over, or refuse."""
        return self.channel.unconsumed

    # ------------------------------------------------------------------ a turn

    def handle(self, events: int, limit: int = 0) -> list[T]:
        """One turn: write what is queued, read, and return the messages that are whole. ``events`` is what is ready.

        ``limit`` is how many messages are returned at the most, 0 for all. What comes behind them is left for the next
        call, and `pending` until then. Raises `framing.ConnectionClosed`
        at a clean end (once; replies may still be sent), `framing.DecodeError` for one refused payload (the next call
        goes on behind it), and `framing.Violation`, `framing.ConnectionReset` or
        `framing.Timeout` where the connection has failed.
        """
        channel = self.channel
        if (
            events == EVENT_READ
            and channel.idle
            and self.reading
            and not (limit or self._special or self._inbox or self._send_error)
        ):
            return self._read_plainly(channel)
        if self._handshaking:
            if not self._shake():
                return []
            events = EVENT_READ | EVENT_WRITE
        stream = self._stream
        if (events & EVENT_WRITE or stream.secure) and channel.queued:
            self.flush()
        messages: list[T] = []
        if self._inbox:
            if not self.reading:
                return messages
            messages, self._inbox = self._inbox, None
        elif not channel.may_receive:
            if events & EVENT_READ or self._untold:
                raise self._over()
        elif self.reading or self._send_error is not None:
            messages = self._read(from_socket=bool(events & EVENT_READ) or stream.secure)
            if channel.heartbeat is not None and channel.queued:
                self.flush()  # the peer's ping has been answered
        if messages:
            self._singly = limit == 1
            if limit and len(messages) > limit:
                self._inbox = messages[limit:]
                del messages[limit:]
        return messages

    def _read_plainly(self, channel: Channel[T]) -> list[T]:
        """What `_read` does, in a turn as nearly all are: there is nothing at hand, and one read gives whole messages."""
        buffer = self._scratch or thread_scratch()
        try:
            count = self._stream.read(buffer)
        except FramingError as error:
            channel.lost(error)
            self._lost = self._told = True
            raise
        if not count:
            if count is None:
                return []
            self._eof = True
            return self._read(from_socket=False)
        self._singly = False
        messages = channel.receive(buffer[:count], time.monotonic() if channel.timed else None)
        if not messages and count == len(buffer):
            return self._read(from_socket=True)
        return messages

    def _read(self, *, from_socket: bool) -> list[T]:
        """The next messages, of one read at the most, or none; raises where there are none, and what is next is no message.

        What comes behind messages is not looked at before they are handled: a violation would fail the channel, and take
        their replies with it.
        """
        stream, channel = self._stream, self.channel
        now = time.monotonic() if channel.timed else None
        taken = 0
        messages: list[T] = []
        while not messages:
            if self._eof and not was_reset(self._send_error):
                messages = channel.receive_eof(now)
                if not messages and not channel.pending:
                    raise self._over()
            elif not channel.idle and channel.pending:
                messages = channel.receive(b"", now)
            elif self._eof:
                raise self._over()
            elif from_socket and taken < READ_TURN:
                in_place = not channel.idle and channel.in_place
                buffer = channel.get_buffer() if in_place else self._scratch or thread_scratch()
                size = len(buffer)
                try:
                    count = stream.read(buffer)
                except FramingError as error:
                    channel.lost(error)
                    self._lost = self._told = True
                    raise
                if count is None:
                    break
                taken += count
                self._eof = count == 0
                # A plain socket that gave less than asked is empty: to ask again would cost a call for nothing.
                from_socket = count == size or stream.secure
                if in_place:
                    messages = channel.buffer_updated(count, now)
                elif count:
                    messages = channel.receive(bytes(buffer[:count]), now)
            else:
                break
        return messages

    @property
    def _untold(self) -> bool:
        """Whether a write has failed, and nothing yet was raised that says why this is the end."""
        return self._send_error is not None and not self._told and self.channel.error is None

    def _over(self) -> FramingError:
        """Why nothing more will be received."""
        self._told = True
        if self._send_error is not None:
            self.channel.lost(self._send_error)
        error = self.channel.error or self._send_error
        if error is not None:
            return error.with_traceback(None)
        where = self.address or "the peer"
        if self._eof:
            return ConnectionClosed(f"{where} has ended the stream; all of it was received")
        return ConnectionClosed(f"receiving from {where}: the connection was closed on this side")

    # --------------------------------------------------------------------- TLS

    def start_tls(
        self, ssl_context: ssl.SSLContext, *, server_hostname: str | None = None, server_side: bool = False
    ) -> None:
        """Go on with TLS in mid-stream, when both sides have agreed to; the next turns shake hands.

        What was sent before leaves in plain text, before the handshake; what is sent after it goes encrypted, behind it.
        ``server_side`` says who shows the certificate; a client holds it against ``server_hostname``, or else the host of
        `address`. `handshaking` is true until it is done, `interest` says what it waits for, and `deadline` when
        ``handshake_timeout`` is over.

        Nothing may have come behind the peer's agreement: what has, came in plain text, perhaps from somebody in between, and
        fails the connection with `framing.CorruptFrame`. So that this is known, take the agreement with
        ``handle(events, limit=1)``. A handshake that fails is raised by `handle`, one that takes too long by `expire`.

        Raises ValueError, and nothing has happened, for a context that does not fit; `framing.FramingError`, and nothing has
        happened, where the last turn was not so limited, or TLS is there already; `framing.ConnectionClosed` behind the end.
        """
        context, name = upgrade_tls(self.address, ssl_context, server_hostname, server_side=server_side)
        if not (self._singly or self._secure):
            raise FramingError(
                "start_tls(): the last messages were taken all at once, and which of them came behind the agreement, in plain "
                "text, is not known; take it with handle(events, limit=1)"
            )
        self.begin_tls(
            partial(wrap_server, context=context)
            if server_side
            else partial(wrap_client, context=context, server_hostname=name),
            len(self._inbox or ()),
        )

    def begin_tls(self, wrap: Callable[[socket.socket], socket.socket], unhandled: int) -> None:
        """`start_tls` for a driver that knows how many messages it has not handled: ``wrap`` makes TLS of the socket."""
        self.flush()
        if self._send_error is not None:
            raise self._send_error.with_traceback(None)
        try:
            judge_upgrade(self.channel, secure=self._secure, eof=self._eof, unhandled=unhandled)
        except CorruptFrame:
            self._inbox = None
            self._told = True
            self._stream.shutdown(socket.SHUT_RDWR)
            raise
        self._wrap = wrap
        self._plain = self.channel.queued
        self._begin_shaking()

    @property
    def _secure(self) -> bool:
        """Whether this is TLS, or about to be."""
        return self._stream.secure or self._handshaking

    def _begin_shaking(self) -> None:
        self._handshaking = self._special = True
        if self._handshake_timeout is not None:
            self._shake_by = time.monotonic() + self._handshake_timeout

    def _shake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            if self._wrap is not None and not self._wrapped(self._wrap):
                return False
            done = self._stream.shake()
        except FramingError as error:
            self._give_up(error)
            raise
        if done:
            self._handshaking = False
            self._shake_by = None
        return done

    def _wrapped(self, wrap: Callable[[socket.socket], socket.socket]) -> bool:
        """Write what is to leave in plain text, and then make TLS of the socket; whether that is done."""
        self.flush()
        if self._send_error is not None:
            raise self._send_error.with_traceback(None)
        if self._plain:
            return False
        self._wrap = None
        try:
            self._stream = _NonBlockingStream(wrap(self._stream.sock), self.address)
        except OSError as error:
            raise translate(error, self.address, "starting TLS with") from error
        return True

    def _give_up(self, error: FramingError) -> None:
        """There will be no TLS, and so no connection."""
        self._handshaking = False
        self._shake_by = self._wrap = None
        self._lost = self._told = True
        self.channel.lost(error)

    # ----------------------------------------------------------------- sending

    def send(self, message: T) -> None:
        """Send one message: written at once as far as the socket takes it, the rest queued.

        Raises `framing.EncodeError`, and sends nothing, or `framing.ConnectionClosed` when sending is over. A connection
        that turns out to be broken is told by `handle`, behind what the peer said before.
        """
        self._send(*self.wire.pieces(message))

    def send_many(self, messages: Iterable[T]) -> None:
        """Send all of ``messages`` in as few writes as it takes, or, where one cannot be encoded, none; else as `send`."""
        self._send(self.wire.encode_many(messages))

    def send_encoded(self, *frames: bytes) -> None:
        """Send what ``wire.encode``, or ``wire.pieces``, returned: for many peers it is encoded once; raises as `send`."""
        self._send(*frames)

    def _send(self, *frames: bytes) -> None:
        if self._send_error is not None:
            raise self._send_error.with_traceback(None)
        waiting = self.channel.queued
        self.channel.send_encoded(*frames)
        if not waiting:
            self.flush()

    def flush(self) -> bool:
        """Write what the socket takes just now; whether nothing is left. Never raises: see `send`."""
        channel = self.channel
        begun = before = channel.written
        while True:
            now = time.monotonic() if channel.paced else None
            try:
                # Only what was sent before start_tls() leaves before hands are shaken.
                left = channel.push(self._stream.write, self._plain if self._handshaking else None, now)
            except FramingError as error:
                # Reading goes on: what the peer said before it went, often why, is still to be received.
                self._send_error = error
                self._told = False
                self._shut = True
                self._plain = 0
                channel.send_eof()
                channel.drop()
                return True
            if self._plain:
                self._plain -= channel.written - before
            if not left:
                break
            written = channel.written
            if written == before or written - begun >= WRITE_TURN:
                return False
            before = written
        if not channel.may_send and not self._shut:
            self._shut = True
            self._stream.end_sending()
        return True

    def close_sending(self) -> None:
        """End this side's stream behind what is queued; receiving goes on, so that the last replies still come.

        Raises `framing.FramingError` over TLS, which the ssl module cannot half-close: use `close` there.
        """
        if self._secure:
            raise FramingError("a TLS connection cannot end one direction alone; use close()")
        self.channel.send_eof()
        self.flush()

    # ------------------------------------------------------------------ ending

    def finish(self) -> None:
        """End both directions behind what is queued: nothing more is received, and the peer sees the end of the stream.

        Where the peer may still be sending, `discard` for a while before `close`: a socket that is closed with something
        unread in it resets the connection, and the last replies are lost with it.
        """
        self.channel.close()
        self.flush()

    def discard(self) -> int | None:
        """Throw away what the peer still sends: how many bytes, 0 where there are none now, None when its stream ended."""
        buffer = self._scratch or thread_scratch()
        thrown = 0
        while thrown < READ_TURN:
            count = self._stream.read_raw(buffer)
            if count is None:
                return thrown
            if not count:
                return None
            thrown += count
        return thrown

    def close(self) -> None:
        """End both directions and give the descriptor back. What the socket does not take at once is dropped.

        Unregister the connection before. To close twice is no error.
        """
        if self.fileno() < 0:
            return
        self.finish()
        self.channel.drop()
        self._inbox = None
        if not self._shut:
            self._stream.end_sending()
        self.discard()
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
