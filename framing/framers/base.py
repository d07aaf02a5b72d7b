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
from framing.kernels import carry_for, split_found
from framing.kernels.carry import LENT_BYTES, frame_start
from framing.kernels.contract import HUNTING, TOO_LARGE, Data, Memo, Splitter

__all__ = ["DEFAULT_MAX_FRAME", "Buffer", "Decoder", "Framer", "as_bytes", "check_choice", "check_option"]

DEFAULT_MAX_FRAME = 1 << 20
"""The ``max_frame`` of every framer unless told otherwise: 1 MiB."""

PIECE_BYTES = 1 << 16
"""A payload of so many bytes is written from where it is, rather than copied into a frame."""

SPARE_BUFFERS = 4
"""How many lent buffers are kept, for the next decoder that lends one."""

Buffer: TypeAlias = bytes | bytearray | memoryview
Join: TypeAlias = Callable[[list[Any]], bytes | None]
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

    def __init_subclass__(cls, **options: Any) -> None:
        """Let no batch be encoded by another rule than one payload is."""
        # By name, for dataclass(slots=True) made this class anew, and super() alone means the one before.
        super(Framer, cls).__init_subclass__(**options)
        own = cls.__dict__
        if not {"encode", "wrap", "surround"}.isdisjoint(own) and "encode_many" not in own:
            cls.encode_many = Framer.encode_many  # type: ignore[method-assign]  # the inherited one bypasses them
        if not {"encode", "wrap"}.isdisjoint(own) and "surround" not in own:
            cls.surround = Framer.surround  # type: ignore[method-assign]  # the same
        if "surround" in own and "wrap" not in own:
            cls.wrap = Framer.wrap  # type: ignore[method-assign]  # the same, the other way round
        if not {"encode", "wrap", "surround", "encode_many"}.isdisjoint(own) and "joiner" not in own:
            cls.joiner = Framer.joiner  # type: ignore[method-assign]  # the same

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
        around = self.surround(payload)
        if around is None:
            raise NotImplementedError(f"{type(self).__name__} has no wrap()")
        before, behind = around
        return b"".join((before, payload, behind)) if behind else before + payload

    def surround(self, payload: bytes) -> tuple[bytes, bytes] | None:
        """What a frame has before ``payload`` and behind it; None where it does not carry the payload as it is.

        A framer that has this needs no `wrap`, and its large payloads are sent without being copied. Raises as `wrap`.
        """
        return None

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

    def pieces(self, payload: Buffer) -> tuple[bytes, ...]:
        """The frame that carries ``payload``, to be written piece by piece; raises as `encode`.

        A payload of `PIECE_BYTES` or more is a piece by itself, where the frame carries it as it is: the same object, and no
        copy, unless it is one that could change.
        """
        data = payload if type(payload) is bytes else as_bytes(payload)
        if len(data) < PIECE_BYTES:
            return (self.encode(data),)
        if len(data) > self.max_frame:
            raise self._too_large(data)
        around = self.surround(data)
        if around is None:
            return (self.encode(data),)
        before, behind = around
        return tuple(piece for piece in (before, data, behind) if piece)

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        """The frames of all ``payloads`` in one bytes object, to be written at once; raises as `encode`."""
        return b"".join(map(self.encode, payloads))

    def _encode_with(self, join: Join, payloads: Iterable[Buffer]) -> bytes:
        """What the kernel ``join`` makes of all ``payloads``; one by one where it does not, which also tells why it cannot."""
        given = list(payloads)
        joined = join(given)
        return Framer.encode_many(self, given) if joined is None else joined

    def joiner(self) -> tuple[Join, int] | None:
        """A kernel with the options bound, which makes the frames of many payloads, and how many bytes a payload may have.

        None unless *every* payload of 0 to that many bytes is carried, whatever they are, by a frame with
        `framing.kernels.outbox.OVERHEAD` bytes more at the most: then it is known that a payload can be carried before its
        frame is made, and many may be made in one call.
        """
        return None

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


_spare: list[bytearray] = []


def _spare_buffer() -> bytearray:
    try:
        return _spare.pop()
    except IndexError:
        return bytearray(LENT_BYTES)


class Decoder(Generic[M]):
    """Chunks in, messages out: one direction of one stream.

    Made by ``framer.decoder()`` (it yields payloads) or ``wire.decoder()`` (messages). ``unwrap``, where given, turns
    a payload into a message and raises `DecodeError` for one that it refuses; ``unwrap_many``, where given besides, does the
    same for all payloads of a chunk, and is faster: it appends the messages to a list, up to the one that is refused.
    ``split`` is ``framer.splitter()``, where that has been made already.
    """

    __slots__ = (
        "_carry",
        "_eof",
        "_error",
        "_framer",
        "_lent",
        "_plain",
        "_refused",
        "_split",
        "_unwrap",
        "_unwrap_many",
        "idle",
    )

    def __init__(
        self,
        framer: Framer,
        unwrap: Callable[[bytes], M] | None = None,
        *,
        unwrap_many: Callable[[list[bytes], list[M]], None] | None = None,
        split: Splitter | None = None,
    ) -> None:
        self._framer = framer
        self._split = framer.splitter() if split is None else split
        self._carry = carry_for(self._split)
        self._unwrap = unwrap
        self._unwrap_many = unwrap_many
        self._error: Violation | None = None
        self._refused: DecodeError | None = None  # to be raised by the next call: messages came before it
        self._eof = False
        self._lent: memoryview | None = None
        self._plain = unwrap is None  # whether nothing above stands between a chunk and its payloads
        self.idle = True
        """Whether nothing is held, and nothing waits to be returned or raised: the next byte begins a frame.

        False may be said in doubt: ask the others then.
        """

    @property
    def error(self) -> Violation | None:
        """The violation that poisoned this decoder, once one has; every call raises it from then on."""
        return self._error

    @property
    def buffered(self) -> int:
        """How many bytes are held: received, and not part of anything that was returned."""
        return self._carry.buffered

    @property
    def unconsumed(self) -> bytes:
        """The bytes held. After ``feed(data, limit=1)`` they begin right behind the payload that was returned.

        Whoever changes the framer in mid-stream hands them to the new decoder, or refuses them: bytes that came
        before an upgrade to TLS must never be read as if they had come behind it.
        """
        return self._carry.held()

    @property
    def pending(self) -> bool:
        """Whether ``feed(b"")`` may return or raise something, without any new bytes.

        So after ``limit=`` left bytes behind, and where a payload was refused behind messages that were returned.
        """
        if self._error is not None:
            return False
        buffered = self._carry.buffered
        return self._refused is not None or (buffered > 0 and buffered >= self._carry.need)

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and is not complete, also where it is being skipped, and nothing of it is held."""
        return not self.pending and (self._carry.buffered > 0 or _goes_on(self._carry.memo))

    @property
    def in_place(self) -> bool:
        """Whether a large frame is under way, so that `get_buffer` lends that frame's own place.

        Otherwise any buffer is as good: a driver that has one reads there, and calls `feed` with what came.
        """
        carry = self._carry
        # A frame that began to be received in its place goes on so: its last bytes are fewer than a buffer.
        return carry.in_place or (carry.need - carry.buffered > LENT_BYTES and self._refused is None)

    @property
    def skipped(self) -> int:
        """How many bad frames were passed over (``on_oversize="skip"``, ``on_corrupt="skip"``)."""
        return self._carry.skipped

    def feed(self, data: Buffer, limit: int = 0) -> list[M]:
        """Take in a chunk; return the messages that it completes, in order, ``limit`` at the most (0: all).

        A violation behind completed messages is put into `error` and raised by the next call; where there are none it is
        raised at once. A payload that a layer or codec refuses is raised at its place in the order, as `DecodeError`,
        once: the next call goes on behind it. No bytes are lost by either; see `pending`.

        Raises `Violation` (poisoned), `DecodeError` (goes on), `ConnectionClosed` (after `feed_eof`); and `MemoryError`, where
        what came did not fit: poisoned, for some of it is lost.
        """
        carry = self._carry
        if self._plain:
            # Without unwrap the messages are the payloads themselves.
            self.idle = False
            try:
                messages = carry.take(data, limit)
            except MemoryError:
                self._lose()
                raise
            if carry.fault is not None:
                return self._fail(self._violation(), messages)
            self.idle = carry.settle()
            return messages
        self.idle = False
        if self._error is not None:
            raise self._error
        if self._eof and data:
            raise ConnectionClosed("this decoder was told that its stream has ended: it takes no more bytes")
        if self._lent is not None:
            self._take_back()
        if self._refused is not None:
            carry.keep(data)
            error, self._refused = self._refused, None
            raise error
        try:
            messages = self._open(data, limit, [])
        except MemoryError:
            self._lose()
            raise
        self.idle = self._refused is None and self._error is None and carry.settle() and not self._eof
        return messages

    def feed_eof(self) -> list[M]:
        """The stream has ended. Return what was still waiting; raise `TruncatedFrame` where it ended inside a frame.

        Call it until it returns nothing: like `feed` it stops before a refused payload, or before the violation,
        when there are messages to return first.
        """
        if self._error is not None:
            raise self._error
        self._eof, self._plain = True, False
        messages = self.feed(b"")
        if self._stopped():
            return messages
        carry = self._carry
        final = self._framer.final_delimiter
        if final and (carry.buffered or carry.memo is not None):
            messages = self._open(final, 0, messages)
            if self._stopped():
                return messages
        if carry.buffered or _goes_on(carry.memo):
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
            self.idle = False
            if self.in_place:
                self._lent = self._carry.lend()
                self._plain = False
            else:
                self._lent = memoryview(_spare_buffer())
        return self._lent

    def buffer_updated(self, nbytes: int, limit: int = 0) -> list[M]:
        """The first ``nbytes`` of the lent buffer were filled: return and raise as `feed` does for them."""
        lent = self._lent
        if lent is None or not 0 <= nbytes <= len(lent):
            raise ValueError(f"{nbytes} bytes were read into a buffer of {0 if lent is None else len(lent)}")
        carry = self._carry
        if carry.in_place:
            self._take_back()
            carry.fill(nbytes)
            return self.feed(b"", limit) if carry.buffered >= carry.need else []
        self._lent = None
        try:
            return self.feed(lent[:nbytes], limit)
        finally:
            if len(_spare) < SPARE_BUFFERS:
                _spare.append(cast("bytearray", lent.obj))

    def _take_back(self) -> None:
        """End the loan of a large frame's own place."""
        assert self._lent is not None
        if self._carry.in_place:
            self._lent.release()
            self._lent = None
            self._plain = self._unwrap is None and not self._eof

    def _stopped(self) -> bool:
        """Whether the next call raises something, behind messages that this one returns."""
        return self._refused is not None or self._error is not None

    def _open(self, data: Buffer, limit: int, messages: list[M]) -> list[M]:
        """Take in a chunk; add to ``messages`` what it gives, up to a refused payload, or to a violation."""
        carry, unwrap = self._carry, self._unwrap
        if unwrap is None:
            messages += carry.take(data, limit)
        elif limit or self.pending:
            # Singly, so that what is behind a refused payload has not been touched.
            payloads = carry.take(data, 1)
            while payloads:
                try:
                    messages.append(unwrap(payloads[0]))
                except DecodeError as error:
                    return self._refuse(error, carry.begun(), messages)
                if limit and len(messages) == limit:
                    break
                payloads = carry.take(b"", 1)
        else:
            memo, before = carry.memo, len(messages)
            payloads = carry.take(data, limit)
            try:
                # Those before a refused one are in the list when it is raised.
                if self._unwrap_many is not None:
                    self._unwrap_many(payloads, messages)
                else:
                    messages.extend(map(unwrap, payloads))
            except DecodeError as error:
                return self._refuse(error, self._go_back(data, memo, len(messages) - before), messages)
        return messages if carry.fault is None else self._fail(self._violation(), messages)

    def _refuse(self, error: DecodeError, offset: int, messages: list[M]) -> list[M]:
        error.located(offset)
        if not messages:
            raise error
        self._refused = error
        return messages

    def _go_back(self, data: Buffer, memo: Memo, index: int) -> int:
        """Hold again what came behind payload ``index`` of the chunk; return where in the stream its frame begins."""
        carry, split = self._carry, self._split
        assert carry.taken is not None
        at, offset, count, skipped = carry.taken
        chunk = data if isinstance(data, bytes) else bytes(memoryview(data))
        if index < count:
            begun = carry.begun()
            carry.go_back(offset, skipped, chunk[at:])
            return begun
        if count:
            index, memo = index - count, None
        before, passed = at, 0
        if index:
            _, before, _, _, passed, _ = split(chunk, at, memo, index)
            memo = None
        _, behind, _, _, more, _ = split(chunk, before, memo, 1)
        begin = frame_start(split, chunk[before:behind], memo)
        carry.go_back(offset + behind - at, skipped + passed + more, chunk[behind:])
        return offset + before + begin - at

    def _fail(self, error: Violation, messages: list[M]) -> list[M]:
        """Poison the decoder, and drop what it holds: nothing of it will ever be a frame."""
        self._error = error
        self._plain = False
        self._carry.drop()
        if not messages:
            raise error
        return messages

    def _lose(self) -> None:
        """There was no memory for all that came: what comes next may begin in the middle of a frame."""
        self._plain = False
        self._error = CorruptFrame(
            f"the frame at byte {self._carry.offset} is lost, for there was no memory for it; close the connection",
            offset=self._carry.offset,
        )
        self._carry.drop()

    def _violation(self) -> Violation:
        fault, head = self._carry.fault, self._carry.head
        assert fault is not None
        kind, reason, expected, got, _ = fault
        begins = guess_protocol(head)
        hint = f"; its bytes begin {head!r}: is the peer sending {begins}?" if begins is not None else ""
        if kind == TOO_LARGE:
            # One byte more than the limit is what is said where no more is known.
            size = f" ({got} bytes)" if expected is not None and got != expected + 1 else ""
            text = f"the frame at byte {self._carry.offset} is above max_frame={expected}: {reason}{size}"
            advice = "; close the connection, or raise max_frame if such frames are right"
            return FrameTooLarge(
                text + (hint or advice), offset=self._carry.offset, expected=expected, got=got, head=head
            )
        numbers = f" (got {got})" if expected is None and got is not None else ""
        if expected is not None:
            numbers = f" (expected {expected}, got {got})"
        text = f"the frame at byte {self._carry.offset} is corrupt: {reason}{numbers}"
        return CorruptFrame(
            text + (hint or "; close the connection: where the next frame begins cannot be known"),
            offset=self._carry.offset,
            expected=expected,
            got=got,
            head=head,
        )

    def _truncated(self) -> TruncatedFrame:
        carry = self._carry
        got = carry.buffered
        expected = carry.need if carry.memo is None and carry.need > got else None
        least = f" of {expected} or more" if expected is not None else ""
        return TruncatedFrame(
            f"the stream ended inside the frame at byte {carry.offset}: {got} bytes of it came{least}; "
            "the peer stopped, or the connection broke, before it was whole",
            offset=carry.offset,
            expected=expected,
            got=got,
            head=carry.held()[:HEAD_BYTES],
        )
