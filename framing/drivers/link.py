"""Link: a channel on a stream, for drivers with threads. Reading and writing each wait for themselves.

Three locks, always taken in this order: one a direction, held while its I/O is done, so that frames of many sending
threads never interleave; and ``lock``, held only while the channel is touched, which never blocks.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, NoReturn, TypeVar

from framing.channel import Channel
from framing.drivers.failures import translate, was_reset
from framing.drivers.scratch import thread_scratch
from framing.drivers.stream import WRITE, Stream, time_left
from framing.drivers.tls import judge_upgrade
from framing.errors import ConnectionClosed, ConnectionFailed, CorruptFrame, FramingError, Timeout

__all__ = ["Link"]

T = TypeVar("T")


class Link(Generic[T]):
    """What a connection and a server's session have in common."""

    __slots__ = (
        "_midway",
        "_most",
        "_written",
        "channel",
        "eof",
        "lock",
        "receiver",
        "receiving",
        "send_error",
        "sender",
        "sending",
        "stream",
    )

    def __init__(self, stream: Stream, channel: Channel[T]) -> None:
        self.stream = stream
        self.channel = channel
        self.receiving = threading.Lock()
        self.sending = threading.Lock()
        self.lock = threading.Lock()
        # The thread that waits in a receive, and the one in a send: a signal handler may be above them.
        self.receiver = 0
        self.sender = 0
        self.eof = False  # the peer's stream has ended
        self.send_error: FramingError | None = None  # why nothing can be written any more
        self._written = 0
        self._midway = False  # in a write whose outcome is not noted yet
        self._most: int | None = None  # how many bytes may be written, while TLS begins

    # --------------------------------------------------------------- receiving

    def read(self, end: float | None) -> list[T]:
        """The next messages, one at least. ``receiving`` is held.

        Raises `ConnectionClosed` at a clean end, `Timeout` past ``end`` with nothing lost, `DecodeError` and `Violation` at
        their place in the order, `ConnectionReset` where the connection broke.
        """
        channel = self.channel
        while True:
            in_place = False
            if channel.idle and not self.eof:
                buffer = thread_scratch()
            else:
                with self.lock:
                    messages = self._waiting()
                    if messages:
                        return messages
                    in_place = channel.in_place
                    # Where nothing more can be received it says so.
                    buffer = channel.get_buffer() if in_place or not channel.may_receive else thread_scratch()
            count = self._read_some(buffer, end)
            if count is None:
                continue
            now = time.monotonic() if channel.timed else None
            with self.lock:
                if count == 0:
                    # Where this side has closed, that is what ended the wait, and the peer has said nothing.
                    self.eof = channel.may_receive
                    continue
                messages = channel.buffer_updated(count, now) if in_place else channel.receive(buffer[:count], now)
                if not messages and now is not None:
                    channel.expire(now)
            if channel.heartbeat is not None:
                self.try_flush()  # the peer's ping has been answered, or one of ours was due
            if messages:
                return messages

    def _waiting(self) -> list[T]:
        """The messages that need no further bytes; raises `ConnectionClosed` when there will never be more."""
        channel = self.channel
        messages: list[T] = []
        cut_short = self.eof and was_reset(self.send_error)
        ended = self.eof and not cut_short
        if ended:
            messages = channel.receive_eof()
            if not messages and not channel.pending:
                raise ConnectionClosed(
                    f"{self.stream.address or 'the peer'} has ended the stream; all of it was received"
                )
        while not messages and channel.pending:
            messages = channel.receive_eof() if ended else channel.receive(b"")
        if cut_short and not messages:
            assert self.send_error is not None
            channel.lost(self.send_error)
            raise self.send_error.with_traceback(None)
        return messages

    def _read_some(self, buffer: memoryview, end: float | None) -> int | None:
        """Wait for bytes and read them: how many, 0 at EOF, None where it is to be tried again."""
        channel, stream = self.channel, self.stream
        deadline = channel.deadline if channel.timed else None
        try:
            if end is None and deadline is None and stream.blocks and not channel.queued:
                return stream.read(buffer, block=True)
            until = end if deadline is None else deadline if end is None else min(end, deadline)
            # What a send that timed out has left is written while we wait: the reply may depend on it.
            also_writable = bool(channel.queued) and not self.sending.locked()
            ready = stream.wait(until, also_writable=also_writable)
            if ready & WRITE:
                self.try_flush()
            if ready:
                return stream.read(buffer)
        except FramingError as error:
            with self.lock:
                self.channel.lost(error)
            raise
        now = time.monotonic()
        with self.lock:
            channel.expire(now)
        if channel.heartbeat is not None:
            self.try_flush()
        if end is not None and now >= end:
            raise Timeout("no message came in the time given; what has come of one is kept: receive again")
        return None

    # --------------------------------------------------------------------- TLS

    def start_tls(self, wrap: Callable[[socket.socket], socket.socket], end: float | None, unhandled: int) -> None:
        """Go on with TLS, from the handshake on, until ``end``; `receiving` is held, by nobody who reads.

        `judge_upgrade` says what is raised instead, and of whom: ``unhandled`` messages were received and not handled yet.
        """
        left = time_left(end)
        if not self.sending.acquire(timeout=-1 if left is None else left):
            raise self._too_slow()
        try:
            with self.lock:
                self._most = self.channel.queued  # what other threads queue from here on goes encrypted
            while self._write_some(None):
                if not self.stream.wait_writable(end):
                    raise self._too_slow()
            with self.lock:
                if self.send_error is not None:
                    raise self.send_error.with_traceback(None)
                try:
                    judge_upgrade(self.channel, secure=self.stream.secure, eof=self.eof, unhandled=unhandled)
                except CorruptFrame:
                    self.stream.shutdown(socket.SHUT_RDWR)
                    raise
            try:
                self.stream = Stream(wrap(self.stream.sock), self.stream.address)
                self.stream.handshake(end)
            except FramingError as error:
                self._fail(error)
                raise
            except OSError as error:
                failure = translate(error, self.stream.address, "starting TLS with")
                self._fail(failure)
                raise failure from error
            except BaseException:
                self._fail(ConnectionFailed("the TLS handshake was interrupted; connect again"))
                raise
        finally:
            self._most = None
            self.sending.release()

    def _fail(self, error: FramingError) -> None:
        with self.lock:
            self.channel.lost(error)
        self.stream.shutdown(socket.SHUT_RDWR)

    # ----------------------------------------------------------------- sending

    def send(self, frames: Sequence[bytes], end: float | None) -> None:
        """Queue encoded frames, and write until they are written; raises as `queue` and `flush`."""
        if not self.sending.acquire(False):
            self.flush(end, self.queue(*frames))
            return
        self.sender = threading.get_ident()
        try:
            upto = self._begin(frames)
            while self._written < upto and self._write_some(upto):
                if not self.stream.wait_writable(end):
                    raise self._too_slow()
        finally:
            self.sender = 0
            self.sending.release()

    def try_send(self, *frames: bytes) -> bool:
        """Queue encoded frames, and write what the socket takes of all that is queued; as `queue` and `try_flush`."""
        if not self.sending.acquire(False):
            self.queue(*frames)
            return self.try_flush()
        try:
            self._begin(frames)
        finally:
            self.sending.release()
        return self.try_flush()

    def _begin(self, frames: Sequence[bytes]) -> int:
        """`queue`, and write at once what is behind nothing else, as in most sends. ``sending`` is held."""
        channel = self.channel
        with self.lock:
            if self.send_error is not None:
                raise self.send_error.with_traceback(None)
            alone = not (channel.queued or self._midway)
            channel.send_encoded(*frames)
            upto = self._written + channel.queued
        if alone and upto > self._written:
            self._write(frames)
        return upto

    def queue(self, *frames: bytes) -> int:
        """Queue encoded frames; returns the position in the stream at which they end, for `flush`."""
        with self.lock:
            if self.send_error is not None:
                raise self.send_error.with_traceback(None)
            self.channel.send_encoded(*frames)
            return self._written + self.channel.queued

    def flush(self, end: float | None, upto: int | None = None) -> None:
        """Write until the stream's position ``upto``, or all that is queued.

        Raises `Timeout` past ``end``: what is left stays queued, in order, so that no frame is ever cut. Raises
        `ConnectionReset` where the connection broke.
        """
        while True:
            if not self.sending.acquire(False):
                left = time_left(end)
                if not self.sending.acquire(timeout=-1 if left is None else left):
                    raise self._too_slow()
            self.sender = threading.get_ident()
            try:
                while self._write_some(upto):
                    if not self.stream.wait_writable(end):
                        raise self._too_slow()
            finally:
                self.sender = 0
                self.sending.release()
            # A thread that found `sending` taken has left its frames to us, perhaps behind our last look.
            if upto is not None or not self.channel.queued:
                return

    def try_flush(self) -> bool:
        """Write what the socket takes just now; whether that was all, or another thread is at it. Never blocks."""
        while self.channel.queued and self.sending.acquire(False):
            try:
                if self._write_some(None):
                    return False
            except FramingError:
                return True
            finally:
                self.sending.release()
        return True

    def push(self, end: float | None) -> None:
        """Write what the socket takes, and, where something is left, wait until it takes more, or until ``end``.

        Raises as `flush`, but for the time.
        """
        with self.sending:
            if self._write_some(None):
                self.stream.wait_writable(end)

    @property
    def written(self) -> int:
        """How many bytes the system has taken since the beginning."""
        return self._written

    def _write_some(self, upto: int | None) -> bool:
        """Write until the socket takes no more, or all is written; True where something is left. ``sending`` is held."""
        if self._midway:
            # An exception out of a signal handler hit between a write and its note: nobody knows what was written.
            self._give_up(
                ConnectionFailed("a write was interrupted; where the stream stands is not known: connect again")
            )
        while True:
            with self.lock:
                buffers = self.channel.outgoing(self._most)
                reached = upto is None or self._written >= upto
                if not buffers and not reached:
                    # Queued once, and dropped since: by a write that failed, or because the connection was closed.
                    raise self._dropped()
                if not buffers or (upto is not None and reached):
                    return False
            if not self._write(buffers):
                return True
            if self._written >= upto if upto is not None else not self.channel.queued:
                return False

    def _write(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Write what the socket takes of what is queued first, which ``buffers`` are: how many bytes. ``sending`` is held."""
        channel = self.channel
        self._midway = True
        try:
            count = self.stream.write(buffers)
        except FramingError as error:
            self._midway = False
            self._give_up(error)
        if count:
            now = time.monotonic() if channel.paced else None
            with self.lock:
                if channel.queued:  # nothing is any more where the channel was lost meanwhile
                    channel.sent(count, now)
                self._written += count
                if self._most is not None:
                    self._most -= count
        self._midway = False
        return count

    def _give_up(self, error: FramingError) -> NoReturn:
        """Writing failed. Reading goes on: what the peer said before it went, often why, is still to be received."""
        with self.lock:
            self.send_error = error
            self.channel.send_eof()
            self.channel.drop()
        raise error

    def _dropped(self) -> FramingError:
        if self.send_error is not None:
            return self.send_error.with_traceback(None)
        return self.channel.error or ConnectionClosed("the connection was closed before all of the message was written")

    def _too_slow(self) -> Timeout:
        left = self.channel.queued
        return Timeout(
            f"the peer did not take all in time: {left} bytes stay queued, in order; "
            "call flush() to go on with them, and do not send the same message again",
            queued=left,
        )
