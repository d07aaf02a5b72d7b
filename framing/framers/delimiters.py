"""Framers whose payload ends at a delimiter. Where one begins can be proved, so a frame that is too large can be skipped.

Nothing is escaped: a payload that holds the delimiter cannot be sent, and encoding it raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from framing.errors import EncodeError
from framing.framers.base import Buffer, Framer, as_bytes, check_choice
from framing.kernels import join_delimited, split_delimited, split_marked
from framing.kernels.contract import Splitter
from framing.kernels.delimiters import pattern_of

__all__ = ["Delimited", "Lines"]

_SHOWN_BYTES = 32


@dataclass(frozen=True, slots=True, init=False)
class Delimited(Framer):
    r"""The payload, then a delimiter of one byte or more; frames are written with the first one given.

    With several, the one that ends first ends the frame; none may hold another except at its end, for it could never
    be found. ``start``, where given, is a mark before each payload (MLLP's ``0B``, the ``1E`` of JSON text sequences):
    bytes between frames, and a mark inside one (its sender was cut off and began anew), are `CorruptFrame`.

    ``on_oversize="skip"`` passes over a frame above ``max_frame``, and goes on behind its delimiter; ``on_corrupt="skip"``
    passes over what is no frame, and goes on at the next start mark. Both are counted in ``decoder.skipped``.
    """

    delimiters: tuple[bytes, ...]
    start: bytes = field(default=b"", kw_only=True)
    on_oversize: Literal["raise", "skip"] = field(default="raise", kw_only=True)
    on_corrupt: Literal["raise", "skip"] = field(default="raise", kw_only=True)

    def __init__(
        self,
        *delimiter: bytes,
        delimiters: tuple[bytes, ...] = (),
        start: bytes = b"",
        on_oversize: Literal["raise", "skip"] = "raise",
        on_corrupt: Literal["raise", "skip"] = "raise",
        max_frame: int = 1 << 20,
    ) -> None:
        """Take the delimiters by position; ``delimiters=`` is for ``dataclasses.replace``."""
        given = tuple(map(as_bytes, (*delimiter, *delimiters)))
        for name, value in (
            ("delimiters", given),
            ("start", as_bytes(start)),
            ("on_oversize", on_oversize),
            ("on_corrupt", on_corrupt),
            ("max_frame", max_frame),
        ):
            object.__setattr__(self, name, value)
        Framer.__post_init__(self)
        if not given or not all(given) or len(set(given)) < len(given):
            raise ValueError(f"the delimiters are {given!r}; give one or more, none of them empty or twice")
        for one in given:
            for other in given:
                if one != other and one in other[:-1]:
                    raise ValueError(f"delimiter {other!r} holds {one!r} before its end: it could never be found")
        check_choice("on_oversize", on_oversize, "raise", "skip")
        check_choice("on_corrupt", on_corrupt, "raise", "skip")
        if on_corrupt == "skip" and not start:
            raise ValueError("on_corrupt='skip' needs a start mark: without one every byte belongs to a frame")

    def splitter(self) -> Splitter:
        skip = self.on_oversize == "skip"
        if len(self.delimiters) == 1 and not self.start:
            return partial(split_delimited, self.delimiters[0], False, self.max_frame, skip)
        return partial(split_marked, self.delimiters, self.start, self.max_frame, skip, self.on_corrupt == "skip")

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        if len(self.delimiters) != 1 or self.start:
            return Framer.encode_many(self, payloads)
        return self._encode_with(partial(join_delimited, self.delimiters[0], False, self.max_frame), payloads)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        search = pattern_of(self.delimiters).search
        # The end of the payload and the beginning of the delimiter may make one too.
        last = max(len(payload) - max(map(len, self.delimiters)) + 1, 0)
        places = [found.start() for found in (search(payload),) if found is not None]
        places += [
            last + found.start() for found in (search(payload[last:] + self.delimiters[0]),) if found is not None
        ]
        at = min(places, default=0)
        if at != len(payload):
            raise EncodeError(
                f"the payload would end at byte {at}, where a delimiter is, or begins: {payload[at : at + _SHOWN_BYTES]!r}; "
                "take it out, or use a framer with a length",
                got=at,
            )
        if self.start and self.start in payload:
            raise EncodeError(f"the payload holds the start mark {self.start!r} at byte {payload.index(self.start)}")
        return self.start, self.delimiters[0]


@dataclass(frozen=True, slots=True)
class Lines(Framer):
    r"""Lines of text or bytes. ``newline`` ends each; where it is LF, CRLF is accepted too and LF is written.

    With ``newline=b"\r\n"`` only CRLF ends a line: a bare CR or LF is part of it (RFC 5321, section 2.3.8, is strict
    for a reason: two readers that differ about it can be played off against each other).
    ``final="optional"`` takes a last line without its newline as a line; ``"required"`` as a `TruncatedFrame`.
    ``on_oversize="skip"`` passes over a line above ``max_frame``.

    Raises `EncodeError` for a payload that holds the newline, or that ends in CR where CRLF would be taken for its end.
    """

    newline: bytes = field(default=b"\n", kw_only=True)
    final: Literal["required", "optional"] = field(default="required", kw_only=True)
    on_oversize: Literal["raise", "skip"] = field(default="raise", kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        if self.newline not in (b"\n", b"\r\n", b"\r"):
            raise ValueError(
                f"newline is {self.newline!r}; it must be b'\\n', b'\\r\\n' or b'\\r': Delimited takes others"
            )
        check_choice("final", self.final, "required", "optional")
        check_choice("on_oversize", self.on_oversize, "raise", "skip")

    def splitter(self) -> Splitter:
        return partial(split_delimited, self.newline, self.newline == b"\n", self.max_frame, self.on_oversize == "skip")

    @property
    def final_delimiter(self) -> bytes:
        return self.newline if self.final == "optional" else b""

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        return self._encode_with(partial(join_delimited, self.newline, self.newline == b"\n", self.max_frame), payloads)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        if self.newline in payload:
            at = payload.index(self.newline)
            raise EncodeError(
                f"the payload holds a newline at byte {at}: it would arrive as two; "
                "send its lines one by one, or use a framer with a length",
                got=at,
            )
        if self.newline == b"\n" and payload.endswith(b"\r"):
            raise EncodeError("the payload ends in CR, which would arrive as a part of its newline")
        return b"", self.newline
