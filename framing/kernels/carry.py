"""The carry: what is kept of a stream between one chunk and the next, and the kernel that is run over both.

The state around a kernel, which has none: the bytes received that are no part of a payload yet, how many the kernel needs
to learn more, its memo, and where in the stream they begin. A decoder has one; what it decides (errors, EOF, what a
message is) is not known here.

It guarantees that the cost is linear in the bytes received: a large chunk is not copied for the sake of the few bytes that
end the frame before it, and a frame whose end is searched for is searched where it grows. What is held never exceeds what was
received by more than the room of one read.
"""

from __future__ import annotations

from operator import index
from typing import Any

from framing.errors import HEAD_BYTES
from framing.kernels.contract import Data, Fault, Memo, Splitter

__all__ = ["LENT_BYTES", "Carry", "carry_for", "frame_start"]

SEARCHED_BYTES = 1 << 9
"""How much of a chunk is first searched for the end of a frame that began in an earlier one; doubled until it is found."""

JOINED_BYTES = 1 << 13
"""A chunk of so many bytes is sooner copied than its first frame is looked at by itself."""

LENT_BYTES = 1 << 16
"""The room for a read: large enough that system calls are few."""


class Carry:
    """What is held of one direction of one stream, around the kernel ``split``."""

    __slots__ = (
        "_filled",
        "_finished",
        "_held",
        "_joined",
        "_split",
        "_taken",
        "fault",
        "head",
        "in_place",
        "memo",
        "need",
        "offset",
        "skipped",
    )

    def __init__(self, split: Splitter) -> None:
        self._split = split
        self._held = bytearray()
        self._filled = 0
        self._finished: tuple[Data, int, Memo] | None = None
        self._joined: tuple[bytes, int, Memo, int, int] | None = None
        self._taken: tuple[int, int, int, int] | None = None
        self.need = 0
        """How many bytes must be held before the kernel can learn anything more."""
        self.memo: Memo = None
        """What the kernel wants to be told again about the frame it is in."""
        self.offset = 0
        """Where in the stream the held bytes begin; at a fault, where the frame begins that shows it."""
        self.skipped = 0
        self.fault: Fault | None = None
        """The fault that ended it all: nothing is held any more, and nothing is to be given."""
        self.head = b""
        """The first bytes of the frame at fault, as far as they show it."""
        self.in_place = False
        """Whether room was lent behind the held bytes, and the frame that is received there is not complete."""

    @property
    def buffered(self) -> int:
        """How many bytes are held."""
        return self._filled if self.in_place else len(self._held)

    @property
    def taken(self) -> tuple[int, int, int, int] | None:
        """Where in the chunk taken last the frames begin that it holds whole; None where there was no such place.

        And where in the stream that is, and how many payloads came, and frames were skipped, before.
        """
        self._look_back()
        return self._taken

    def held(self) -> bytes:
        """A copy of the bytes held."""
        return bytes(self._held[: self._filled] if self.in_place else self._held)

    def take(self, data: Data | memoryview, limit: int = 0) -> list[Any]:  # of bytes, which may be messages
        """Take in a chunk; return the payloads that it completes, ``limit`` at the most (0: all).

        What is behind the last of them is held. Behind a fault, which is then in `fault`, nothing is.
        """
        limit = index(limit)
        chunk = data if type(data) is bytes else bytes(memoryview(data))
        if self.in_place:
            self._land()
        self._finished = self._joined = self._taken = None
        held, need = self._held, self.need
        had, come = len(held), len(chunk)
        if not (had or limit):
            self._taken = (0, self.offset, 0, self.skipped)
            return self._take_chunk(chunk, 0, [])
        if had + come < need:
            held += chunk
            return []
        if limit or had >= need:
            held += chunk
            return self._take_held(limit)
        if had <= come <= JOINED_BYTES:
            # To copy them both costs no more than to copy the chunk twice.
            self._held = bytearray()
            joined = b"".join((held, chunk))
            self._joined = (joined, self.offset, self.memo, self.skipped, had)
            return self._take_chunk(joined, 0, [])
        return self._finish(chunk)

    def settle(self) -> bool:
        """All that was taken is as it should be: `begun` and `taken` will not be asked for.

        Returns whether nothing is held, and the kernel is in no frame: the next byte begins one.
        """
        # Else a connection that has nothing to say would keep all of its last frame.
        self._finished = self._joined = self._taken = None
        return self.memo is None and not (self._filled if self.in_place else self._held)

    def keep(self, data: Data | memoryview) -> None:
        """Take in a chunk, and look for nothing in it."""
        if self.in_place:
            self._land()
        self._held += data if type(data) is bytes else bytes(memoryview(data))

    def begun(self) -> int:
        """Where in the stream the frame of the first payload begins that was taken last, where it was begun before."""
        self._look_back()
        assert self._finished is not None
        frame, offset, memo = self._finished
        return offset + frame_start(self._split, frame, memo)

    def go_back(self, offset: int, skipped: int, data: Data) -> None:
        """Be as if ``data`` alone were held, and begin at ``offset``; ``skipped`` frames were passed over before."""
        self._held = bytearray(data)
        self.need, self.memo, self.offset, self.skipped = 0, None, offset, skipped
        self.fault = None

    def drop(self) -> None:
        """Hold nothing."""
        self._held = bytearray()
        self.need, self.memo, self.in_place = 0, None, False

    def lend(self) -> memoryview:
        """Room behind the held bytes, some of what is needed: it grows with what has arrived, never by what was announced.

        `fill` says how much of it was read into, behind the release of the view; nothing else is called before.
        """
        if not self.in_place:
            self.in_place, self._filled = True, len(self._held)
        if self._filled == len(self._held):
            self._held += bytes(min(self.need - self._filled, max(self._filled, LENT_BYTES)))
        return memoryview(self._held)[self._filled :]

    def fill(self, count: int) -> None:
        """Hold ``count`` bytes more: they are in the room that was lent."""
        if not self.in_place or not 0 <= count <= len(self._held) - self._filled:
            raise ValueError("more bytes than the room that was lent")
        self._filled += count
        if self._filled >= self.need:
            self._land()

    def _land(self) -> None:
        del self._held[self._filled :]
        self.in_place = False

    def _take_held(self, limit: int) -> list[bytes]:
        if not limit:
            data = bytes(self._held)
            self._held = bytearray()
            return self._take_chunk(data, 0, [])
        held, offset, memo = self._held, self.offset, self.memo
        payloads, used = self._split_held(limit)
        if payloads:
            self._finished = (held[:used], offset, memo)
        del held[:used]
        return payloads

    def _split_held(self, limit: int) -> tuple[list[bytes], int]:
        """The payloads, and how many of the held bytes are behind them: those are for the caller to drop."""
        held = self._held
        try:
            found, used, self.need, self.memo, skipped, fault = self._split(held, 0, self.memo, limit)
        except Exception:
            # A framer of a user's own, with a mistake in it: nothing is lost, and the next call meets the mistake again.
            self.need = 0
            raise
        self.offset += used
        self.skipped += skipped
        if fault is not None:
            self._break(fault, held, used)
        return list(map(bytes, found)), used

    def _look_back(self) -> None:
        """Find where the first frame of what was joined ended. Few ask, so it was not looked for when it was taken."""
        if self._joined is None:
            return
        joined, offset, memo, skipped, held = self._joined
        self._joined = None
        payloads, used, _, _, passed, _ = self._split(joined, 0, memo, 1)
        if payloads:
            self._finished = (joined[:used], offset, memo)
            self._taken = (used - held, offset + used, 1, skipped + passed)

    def _finish(self, chunk: bytes) -> list[bytes]:
        """Add to the held bytes no more of the chunk than the frame under way needs; the rest is taken where it is."""
        held = self._held
        step = SEARCHED_BYTES
        at, size = 0, len(chunk)
        view = memoryview(chunk)
        while at < size:
            part = self.need - len(held)
            if self.memo is not None:
                part = max(part, step)
                step *= 2
            held += view[at : at + part]
            at = min(at + part, size)
            if len(held) < self.need:
                return []
            offset, memo = self.offset, self.memo
            try:
                payloads, used = self._split_held(1)
            except Exception:
                held += view[at:]
                raise
            if payloads:
                # What is held behind the frame came out of the chunk: there it is taken from again.
                at -= len(held) - used
                del held[used:]
                self._finished = (held, offset, memo)
                self._held = bytearray()
                self._taken = (at, self.offset, 1, self.skipped)
                return payloads if at == size else self._take_chunk(chunk, at, payloads)
            if self.fault is not None:
                return []
            del held[:used]
        return []

    def _take_chunk(self, chunk: bytes, start: int, payloads: list[bytes]) -> list[bytes]:
        """Run the kernel over the chunk from ``start``, where nothing is held; adds to ``payloads``."""
        try:
            found, used, self.need, self.memo, skipped, fault = self._split(chunk, start, self.memo, 0)
        except Exception:
            self._held += chunk[start:]
            self.need = 0
            if payloads:
                return payloads  # the next call meets the mistake again
            raise
        self.offset += used - start
        self.skipped += skipped
        if fault is not None:
            self._break(fault, chunk, used)
        elif used < len(chunk):
            # A view spares a copy, and costs more than a small one.
            self._held += chunk[used:] if len(chunk) - used <= JOINED_BYTES else memoryview(chunk)[used:]
        if payloads:
            found[:0] = payloads
        return found

    def _break(self, fault: Fault, data: Data, at: int) -> None:
        self.head = bytes(data[at : at + min(fault[4], HEAD_BYTES)])
        self.drop()
        self.fault = fault


def frame_start(split: Splitter, data: Data, memo: Memo) -> int:
    """Where the frame begins that ends where ``data`` ends, behind what was passed over before it."""
    # Without its last byte the frame is incomplete, and then the kernel says where it begins …
    start = split(data[:-1], 0, memo, 1)[1]
    if not split(data[start:], 0, None, 1)[4]:
        return start
    # … or where one begins that is cut off by this one's mark, for it is passed over only when this one is whole. From its
    # own mark on a frame is found, and from no place behind that.
    behind = len(data)
    while behind - start > 1:
        middle = (start + behind) // 2
        if split(data[middle:], 0, None, 1)[0]:
            start = middle
        else:
            behind = middle
    return start


def carry_for(split: Splitter) -> Carry:
    """A new carry around a kernel with its options bound."""
    return Carry(split)
