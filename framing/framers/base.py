"""Framer, the rule, and Decoder, one direction of one stream.

This is the loop that everybody writes by hand:

    buffer = b""
    while True:
        buffer += sock.recv(4096)                  # quadratic in the size of a frame
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4])      # 4 GiB, if the peer says so
            if len(buffer) < 4 + size:
                break
            handle(buffer[4 : 4 + size])           # what it raises loses the rest
            buffer = buffer[4 + size :]            # quadratic again
                                                   # and at EOF half a frame vanishes without a word

A *framer* is an immutable value that says where payloads begin and end. A *decoder* holds the bytes of a frame that
is not complete, and guarantees, for every framer:

- however the stream is cut into chunks, the payloads, the error, its offset and the verdict at EOF are the same;
- payloads completed before a violation are returned first; the violation then stays;
- a frame above ``max_frame`` is refused before its bytes are kept, and a header allocates nothing by itself;
- the cost is linear in the bytes received, whatever their cuts.

It does no I/O, starts no thread and knows no clock. One decoder serves one stream, and one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, cast

from framing.errors import (
    HEAD_BYTES,
    ConnectionClosed,
    CorruptFrame,
    DecodeError,
    EncodeError,
    FrameTooLarge,
    TruncatedFrame,
    Violation,
    guess_protocol,
)
from framing.kernels import split_found
from framing.kernels.contract import HUNTING, TOO_LARGE, Data, Fault, Memo, Splitter

__all__ = ["DEFAULT_MAX_FRAME", "Buffer", "Decoder", "Framer", "as_bytes", "check_choice", "check_option"]

DEFAULT_MAX_FRAME = 1 << 20
"""The ``max_frame`` of every framer unless told otherwise: 1 MiB."""

SEARCHED_BYTES = 1 << 9
"""How much of a chunk is first searched for the end of a frame that began in an earlier one; doubled until it is found."""

LENT_BYTES = 1 << 16
"""The size of the buffer that a decoder lends for a read: large enough that system calls are few."""

Buffer: TypeAlias = bytes | bytearray | memoryview
M = TypeVar("M")


def as_bytes(payload: object) -> bytes:
    """``payload`` as bytes; raises `EncodeError` for what is not bytes-like.

    Asked by type, for ``bytes(5)`` is five zeros and ``bytes("x")`` a TypeError of somebody else's words.
    """
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(cast("Buffer", payload))
    raise EncodeError(
        f"a payload is bytes, bytearray or memoryview, not {type(payload).__name__}; "
        "put a codec behind the framer to send other objects: Wire(framer, JSON())"
    )


def check_option(name: str, value: object, least: int, most: int) -> None:
    """Raise ValueError (TypeError for what is no int) unless ``least <= value <= most``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; it must be {least} to {most}")


def check_choice(name: str, value: object, *choices: str) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be {' or '.join(map(repr, choices))}")


@dataclass(frozen=True, slots=True)
class Framer:
    """The rule that finds payloads in a stream, and wraps them: an immutable, hashable, picklable value.

    Write your own as a frozen dataclass with one method that finds and one that wraps:

        @dataclass(frozen=True, slots=True)
        class Pascal(Framer):
            def find(self, data, start, seen):
                begin = start + 1
                end = begin + data[start]
                return begin, end, end

            def wrap(self, payload):
                if len(payload) > 255:
                    raise EncodeError("a Pascal string has 255 bytes at the most")
                return bytes([len(payload)]) + payload

    Limits, EOF, cuts and errors are the decoder's business. `framing.testing.verify_framer` then says whether the
    laws hold.

    ``max_frame`` is the most payload bytes of a frame, inclusive, in both directions.
    """

    max_frame: int = field(default=DEFAULT_MAX_FRAME, kw_only=True)

    def __post_init__(self) -> None:
        """Check the options; a subclass that has its own calls this first."""
        check_option("max_frame", self.max_frame, 0, (1 << 63) - 1)

    def find(self, data: Data, start: int, seen: int) -> tuple[int, int, int] | int:
        """Where the payload of the frame at ``start`` begins and ends, and where the next frame begins.

        ``data[start]`` is there. Returns ``(begin, end, next)`` as soon as the three are known, also when not all of
        the bytes have come; or an int: how many bytes more it takes to know. Bytes before ``seen`` were there at an
        earlier call for this frame: a search for a delimiter need not begin before it. Depend on nothing but the bytes
        from ``start`` on. Raises `CorruptFrame` where the bytes break the rule; its ``head`` may be the frame's first bytes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no find()")

    def wrap(self, payload: bytes) -> bytes:
        """The frame that carries ``payload``, which is within ``max_frame``; raises `EncodeError` where none can."""
        raise NotImplementedError(f"{type(self).__name__} has no wrap()")

    def splitter(self) -> Splitter:
        """The kernel of this framer with its options bound (`framing.kernels.contract`); made from `find` by default."""
        return cast("Splitter", partial(split_found, self.find, self.max_frame))

    @property
    def final_delimiter(self) -> bytes:
        """What EOF stands for where a last frame may lack its delimiter; empty where EOF in a frame is an error."""
        return b""

    def encode(self, payload: Buffer) -> bytes:
        """The frame that carries ``payload``; raises `EncodeError`, and no part of a frame, where it cannot be carried."""
        data = payload if type(payload) is bytes else as_bytes(payload)
        if len(data) > self.max_frame:
            raise self._too_large(data)
        return self.wrap(data)

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        """The frames of all ``payloads`` in one bytes object, to be written at once; raises as `encode`."""
        return b"".join(map(self.encode, payloads))

    def decoder(self) -> Decoder[bytes]:
        """A new decoder, for one direction of one stream."""
        return Decoder(self)

    def _too_large(self, payload: bytes) -> EncodeError:
        return EncodeError(
            f"a payload of {len(payload)} bytes is above max_frame={self.max_frame}; "
            "send less, or raise max_frame on both sides",
            expected=self.max_frame,
            got=len(payload),
        )


def _goes_on(memo: Memo) -> bool:
    """Whether a kernel that said ``memo`` is inside a frame."""
    # Asked by identity and equality, for a memo need not hash.
    return memo is not None and memo != HUNTING


class Decoder(Generic[M]):
    """Chunks in, messages out: one direction of one stream.

    Made by ``framer.decoder()`` (it yields payloads) or ``wire.decoder()`` (messages). ``unwrap``, where given, turns
    a payload into a message and raises `DecodeError` for one that it refuses.
    """

    __slots__ = (
        "_eof",
        "_error",
        "_filled",
        "_framer",
        "_held",
        "_landing",
        "_lent",
        "_memo",
        "_need",
        "_offset",
        "_one_by_one",
        "_refused",
        "_skipped",
        "_split",
        "_unwrap",
    )

    def __init__(self, framer: Framer, unwrap: Callable[[bytes], M] | None = None) -> None:
        self._framer = framer
        self._split = framer.splitter()
        self._unwrap = unwrap
        self._held = bytearray()  # received, not yet part of a payload that was returned
        self._need = 0  # how many bytes must be held before the kernel can learn anything more
        self._memo: Memo = None  # what the kernel wants to be told again about the frame it is in
        self._offset = 0  # where in the stream the held bytes begin
        self._skipped = 0
        self._error: Violation | None = None
        self._refused: DecodeError | None = None  # to be raised by the next call: messages came before it
        self._one_by_one = False  # behind a refused payload, frames are taken singly until the held bytes are used up
        self._eof = False
        self._landing: bytearray | None = None  # a large frame, received in place
        self._filled = 0  # how much of the landing has been received
        self._lent: memoryview | None = None

    @property
    def error(self) -> Violation | None:
        """The violation that poisoned this decoder, once one has; every call raises it from then on."""
        return self._error

    @property
    def buffered(self) -> int:
        """How many bytes are held: received, and not part of anything that was returned."""
        return self._filled if self._landing is not None else len(self._held)

    @property
    def unconsumed(self) -> bytes:
        """The bytes held. After ``feed(data, limit=1)`` they begin right behind the payload that was returned.

        Whoever changes the framer in mid-stream hands them to the new decoder, or refuses them: bytes that came
        before an upgrade to TLS must never be read as if they had come behind it.
        """
        return bytes(self._held if self._landing is None else self._landing[: self._filled])

    @property
    def pending(self) -> bool:
        """Whether ``feed(b"")`` may return or raise something, without any new bytes.

        So after ``limit=`` left bytes behind, and where a payload was refused behind messages that were returned.
        """
        if self._error is not None:
            return False
        return self._refused is not None or (bool(self._held) and len(self._held) >= self._need)

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and is not complete, also where it is being skipped, and nothing of it is held."""
        return not self.pending and (self.buffered > 0 or _goes_on(self._memo))

    @property
    def skipped(self) -> int:
        """How many bad frames were passed over (``on_oversize="skip"``, ``on_corrupt="skip"``)."""
        return self._skipped

    def feed(self, data: Buffer, limit: int = 0) -> list[M]:
        """Take in a chunk; return the messages that it completes, in order, ``limit`` at the most (0: all).

        A violation behind completed messages is put into `error` and raised by the next call; where there are none it is
        raised at once. A payload that a layer or codec refuses is raised at its place in the order, as `DecodeError`,
        once: the next call goes on behind it. No bytes are lost by either; see `pending`.

        Raises `Violation` (poisoned), `DecodeError` (goes on), `ConnectionClosed` (after `feed_eof`).
        """
        if self._error is not None:
            raise self._error
        if self._eof and data:
            raise ConnectionClosed("this decoder was told that its stream has ended: it takes no more bytes")
        if self._landing is not None:
            self._land()
        held = self._held
        if self._refused is not None:
            held += data
            error, self._refused = self._refused, None
            raise error
        if not held:
            return self._take(data if type(data) is bytes else bytes(memoryview(data)), 0, limit, [])
        if limit or len(held) >= self._need:
            held += data
            return [] if len(held) < self._need else self._go_on(limit)
        return self._complete(data)

    def feed_eof(self) -> list[M]:
        """The stream has ended. Return what was still waiting; raise `TruncatedFrame` where it ended inside a frame.

        Call it until it returns nothing: like `feed` it stops before a refused payload, or before the violation,
        when there are messages to return first.
        """
        if self._error is not None:
            raise self._error
        self._eof = True
        messages = self.feed(b"")
        if self._stopped():
            return messages
        final = self._framer.final_delimiter
        if final and (self._held or self._memo is not None):
            self._held += final
            messages = self._take(self._release(), 0, 0, messages)
            if self._stopped():
                return messages
        if self._held or _goes_on(self._memo):
            return self._fail(self._truncated(), messages)
        return messages

    def get_buffer(self, sizehint: int = -1) -> memoryview:
        """Lend a buffer to read into; `buffer_updated` says how much was read.

        The words are ``asyncio.BufferedProtocol``'s. Where a large frame is under way the buffer is the frame's own
        place, so that it is received where it stays; it grows with what has arrived, never by what was announced.
        ``sizehint`` is ignored, as it may be. Keep no slice of the buffer beyond
        `buffer_updated`, and call nothing else in between.
        """
        if self._error is not None:
            raise self._error
        if self._eof:
            raise ConnectionClosed("this decoder was told that its stream has ended: it takes no more bytes")
        if self._lent is None:
            missing = self._need - self.buffered
            # A frame that began to be received in its place goes on so: its last bytes are fewer than a buffer.
            if self._landing is not None or (missing > LENT_BYTES and self._refused is None):
                if self._landing is None:
                    self._landing, self._held, self._filled = self._held, bytearray(), len(self._held)
                if self._filled == len(self._landing):
                    self._landing += bytes(min(missing, max(self._filled, LENT_BYTES)))
                self._lent = memoryview(self._landing)[self._filled :]
            else:
                self._lent = memoryview(bytearray(LENT_BYTES))
        return self._lent

    def buffer_updated(self, nbytes: int, limit: int = 0) -> list[M]:
        """The first ``nbytes`` of the lent buffer were filled: return and raise as `feed` does for them."""
        lent = self._lent
        if lent is None or not 0 <= nbytes <= len(lent):
            raise ValueError(f"{nbytes} bytes were read into a buffer of {0 if lent is None else len(lent)}")
        self._lent = None
        if self._landing is None:
            return self.feed(bytes(lent[:nbytes]), limit)
        lent.release()
        self._filled += nbytes
        return [] if self._filled < self._need else self.feed(b"", limit)

    def _stopped(self) -> bool:
        """Whether the next call raises something, behind messages that this one returns."""
        return self._refused is not None or self._error is not None

    def _land(self) -> None:
        """Make the bytes received in place the held bytes again, without the room behind them."""
        assert self._landing is not None
        if self._lent is not None:
            self._lent.release()
            self._lent = None
        del self._landing[self._filled :]
        self._held, self._landing, self._filled = self._landing, None, 0

    def _release(self) -> bytes:
        data = bytes(self._held)
        self._held = bytearray()
        return data

    def _go_on(self, limit: int) -> list[M]:
        """Take what the held bytes give, when there are enough of them to learn something."""
        messages: list[M] = []
        if limit:
            return self._take(self._held, 0, limit, messages)
        while self._one_by_one:
            count = len(messages)
            messages = self._take(self._held, 0, 1, messages)
            if self._stopped():
                return messages
            self._one_by_one = bool(self._held) and len(messages) > count
            if not self._one_by_one:
                return messages
        if self._memo is not None:
            messages = self._take(self._held, 0, 1, messages)
            if not messages or not self._held or self._stopped():
                return messages
        return self._take(self._release(), 0, 0, messages)

    def _complete(self, data: Buffer) -> list[M]:
        """Add to the held bytes no more of ``data`` than the frame under way needs; the rest is taken where it is.

        So the bytes of a chunk are not copied for the sake of the few that end the frame before them, and a frame
        whose end is searched for is searched where it grows: joined anew for each chunk, it would cost its square.
        """
        held = self._held
        step = SEARCHED_BYTES
        at, size = 0, len(data)
        view = memoryview(data)
        while at < size:
            take = self._need - len(held)
            if self._memo is not None:
                take = max(take, step)
                step *= 2
            held += view[at : at + take]
            at = min(at + take, size)
            if len(held) < self._need:
                return []
            try:
                messages = self._take(held, 0, 1, [])
            except DecodeError:
                held += view[at:]
                self._one_by_one = bool(held)
                raise
            if messages:
                if self._error is not None:
                    return messages
                # What is held behind the frame came out of ``data``: there it is taken from again.
                at -= len(held)
                held.clear()
                if at == size:
                    return messages
                return self._take(data if type(data) is bytes else bytes(view), at, 0, messages)
        return []

    def _take(self, data: Data, start: int, limit: int, messages: list[M]) -> list[M]:
        """Run the kernel over ``data`` from ``start``: the held bytes, or all that there are. Adds to ``messages``."""
        memo = self._memo
        try:
            found, used, need, self._memo, skipped, fault = self._split(data, start, memo, limit)
        except Exception:
            # A framer of a user's own, with a mistake in it: nothing is lost, and the next call meets the mistake again.
            if data is not self._held:
                self._held += data[start:]
            self._need = 0
            raise
        payloads: list[Any] = list(map(bytes, found)) if data is self._held else found
        refused: DecodeError | None = None
        if self._unwrap is None:
            # Without unwrap the messages are the payloads themselves.
            messages = messages + payloads if messages else payloads
        else:
            unwrap = self._unwrap
            append = messages.append
            before = len(messages)
            try:
                for payload in payloads:
                    append(unwrap(payload))
            except DecodeError as error:
                refused = error
                used, begin, skipped = self._locate(data, start, memo, len(messages) - before)
                need, self._memo, fault = 0, None, None
                refused.located(self._offset + begin - start)
        self._skipped += skipped
        head = bytes(data[used : used + min(fault[4], HEAD_BYTES)]) if fault is not None else b""
        self._offset += used - start
        if data is self._held:
            del self._held[:used]
        elif used < len(data):
            self._held += data[used:]
        self._need = need
        if refused is not None:
            self._one_by_one = bool(self._held)
            if not messages:
                raise refused
            self._refused = refused
        elif fault is not None:
            return self._fail(self._violation(fault, head), messages)
        return messages

    def _locate(self, data: Data, start: int, memo: Memo, index: int) -> tuple[int, int, int]:
        """Where the frame of payload ``index`` ends and begins in ``data``, and what was skipped before its end."""
        before, skipped = start, 0
        if index:
            _, before, _, _, skipped, _ = self._split(data, start, memo, index)
            memo = None
        _, behind, _, _, more, _ = self._split(data, before, memo, 1)
        # Without its last byte the frame is incomplete, and then the kernel says where it begins.
        _, begin, _, _, _, _ = self._split(data[before : behind - 1], 0, memo, 1)
        return behind, before + begin, skipped + more

    def _fail(self, error: Violation, messages: list[M]) -> list[M]:
        """Poison the decoder, and drop what it holds: nothing of it will ever be a frame."""
        self._error = error
        self._held = bytearray()
        self._memo = None
        self._need = 0
        if not messages:
            raise error
        return messages

    def _violation(self, fault: Fault, head: bytes) -> Violation:
        kind, reason, expected, got, _ = fault
        begins = guess_protocol(head)
        hint = f"; its bytes begin {head!r}: is the peer sending {begins}?" if begins is not None else ""
        if kind == TOO_LARGE:
            # One byte more than the limit is what is said where no more is known.
            size = f" ({got} bytes)" if expected is not None and got != expected + 1 else ""
            text = f"the frame at byte {self._offset} is above max_frame={expected}: {reason}{size}"
            advice = "; close the connection, or raise max_frame if such frames are right"
            return FrameTooLarge(text + (hint or advice), offset=self._offset, expected=expected, got=got, head=head)
        numbers = f" (got {got})" if expected is None and got is not None else ""
        if expected is not None:
            numbers = f" (expected {expected}, got {got})"
        text = f"the frame at byte {self._offset} is corrupt: {reason}{numbers}"
        return CorruptFrame(
            text + (hint or "; close the connection: where the next frame begins cannot be known"),
            offset=self._offset,
            expected=expected,
            got=got,
            head=head,
        )

    def _truncated(self) -> TruncatedFrame:
        got = len(self._held)
        expected = self._need if self._memo is None and self._need > got else None
        least = f" of {expected} or more" if expected is not None else ""
        return TruncatedFrame(
            f"the stream ended inside the frame at byte {self._offset}: {got} bytes of it came{least}; "
            "the peer stopped, or the connection broke, before it was whole",
            offset=self._offset,
            expected=expected,
            got=got,
            head=bytes(self._held[:HEAD_BYTES]),
        )
