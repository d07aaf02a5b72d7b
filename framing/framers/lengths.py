"""Framers with a binary length before the payload, and those whose length is known beforehand.

They cannot find the next frame behind a bad header, for nothing marks it: a violation poisons the decoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

from framing.errors import EncodeError
from framing.framers.base import Buffer, Framer, Join, as_bytes, check_option
from framing.kernels import (
    join_prefixed,
    join_varint,
    read_unsigned,
    read_varint,
    split_field,
    split_fixed,
    split_prefixed,
    split_records,
    split_varint,
    varint_size,
    write_varint,
)
from framing.kernels.contract import Splitter

__all__ = ["ByteOrder", "FixedSize", "LengthField", "LengthPrefixed", "RecordMarked", "VarintPrefixed"]

ByteOrder: TypeAlias = Literal["big", "little"]


def _check_byteorder(byteorder: object) -> None:
    if byteorder not in ("big", "little"):
        raise ValueError(f"byteorder is {byteorder!r}; it must be 'big' or 'little'")


def _check_min_frame(framer: LengthPrefixed | VarintPrefixed | LengthField) -> None:
    check_option("min_frame", framer.min_frame, 0, framer.max_frame)


def _too_small(payload: bytes, min_frame: int) -> EncodeError:
    return EncodeError(
        f"a payload of {len(payload)} bytes is below min_frame={min_frame}; the peer would refuse it",
        expected=min_frame,
        got=len(payload),
    )


@dataclass(frozen=True, slots=True)
class LengthPrefixed(Framer):
    """A length of ``width`` bytes, 1 to 8, then the payload.

    ``byteorder`` is ``"big"`` (network order) or ``"little"``, as in ``int.to_bytes``. ``counts`` says what the length
    counts: the ``"payload"``, or the whole ``"frame"``, its own ``width`` bytes included. ``min_frame`` and
    ``max_frame`` bound the payload, in bytes, inclusive.

    Raises `EncodeError` for a payload whose length the field cannot hold: it never wraps around.
    """

    width: int
    byteorder: ByteOrder = "big"
    counts: Literal["payload", "frame"] = field(default="payload", kw_only=True)
    min_frame: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_option("width", self.width, 1, 8)
        _check_byteorder(self.byteorder)
        if self.counts not in ("payload", "frame"):
            raise ValueError(f"counts is {self.counts!r}; it must be 'payload' or 'frame'")
        _check_min_frame(self)

    def splitter(self) -> Splitter:
        return partial(split_prefixed, self.width, self.byteorder, self._counted, self.min_frame, self.max_frame)

    @property
    def _counted(self) -> int:
        return self.width if self.counts == "frame" else 0

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        return self._encode_with(
            partial(join_prefixed, self.width, self.byteorder, self._counted, self.min_frame, self.max_frame), payloads
        )

    def joiner(self) -> tuple[Join, int] | None:
        if self.min_frame:
            return None
        join = partial(join_prefixed, self.width, self.byteorder, self._counted, 0, self.max_frame)
        return join, min(self.max_frame, (1 << 8 * self.width) - 1 - self._counted)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        size = len(payload)
        if size < self.min_frame:
            raise _too_small(payload, self.min_frame)
        length = size + self._counted
        try:
            return length.to_bytes(self.width, self.byteorder), b""
        except OverflowError:
            most = (1 << 8 * self.width) - 1 - (length - size)
            raise EncodeError(
                f"a payload of {size} bytes does not fit a length of {self.width} bytes ({most} at the most); "
                "use a wider length, or send it in parts",
                expected=most,
                got=size,
            ) from None


@dataclass(frozen=True, slots=True)
class VarintPrefixed(Framer):
    """A length as LEB128 varint, then the payload: protobuf's delimited streams.

    A length takes as many bytes as ``max_frame`` takes, at the most, and no needless ones: a second spelling of the
    same length is refused.
    Source: protobuf's encoding reference, "Base 128 Varints"; ``writeDelimitedTo`` in its Java library.
    """

    min_frame: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        _check_min_frame(self)

    def splitter(self) -> Splitter:
        return partial(split_varint, self.min_frame, self.max_frame)

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        return self._encode_with(partial(join_varint, self.min_frame, self.max_frame), payloads)

    def joiner(self) -> tuple[Join, int] | None:
        return None if self.min_frame else (partial(join_varint, 0, self.max_frame), self.max_frame)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        if len(payload) < self.min_frame:
            raise _too_small(payload, self.min_frame)
        return write_varint(len(payload)), b""


@dataclass(frozen=True, slots=True)
class LengthField(Framer):
    """A length that sits somewhere in a header; the payload is the whole frame, header and trailer included.

    The field is ``width`` bytes (1 to 8) in ``byteorder``, or a ``"varint"``, ``offset`` bytes behind the frame's
    start. Behind it come its value plus ``adjust`` bytes: 0 where it counts what follows, ``-(offset + width)`` where it
    counts the whole frame. The last of those bytes are ``trailer``, and the frame's first bytes are ``prefix``, where
    the protocol has such. ``min_frame`` and ``max_frame`` bound the whole frame, in bytes, inclusive.

    To encode is to check: the frame's own field, prefix and trailer must agree with its size, or `EncodeError` is raised.
    """

    width: int | Literal["varint"]
    byteorder: ByteOrder = "big"
    offset: int = field(default=0, kw_only=True)
    adjust: int = field(default=0, kw_only=True)
    prefix: bytes = field(default=b"", kw_only=True)
    trailer: bytes = field(default=b"", kw_only=True)
    min_frame: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        if self.width != "varint":
            check_option("width", self.width, 1, 8)
        _check_byteorder(self.byteorder)
        check_option("offset", self.offset, 0, 255)
        check_option("adjust", self.adjust, -(1 << 31), 1 << 31)
        object.__setattr__(self, "prefix", as_bytes(self.prefix))
        object.__setattr__(self, "trailer", as_bytes(self.trailer))
        if len(self.prefix) > self.offset:
            raise ValueError(f"a prefix of {len(self.prefix)} bytes reaches into the length field at {self.offset}")
        _check_min_frame(self)

    def splitter(self) -> Splitter:
        width = 0 if self.width == "varint" else self.width
        return partial(
            split_field,
            width,
            self.byteorder,
            self.offset,
            self.adjust,
            self.prefix,
            self.trailer,
            self.min_frame,
            self.max_frame,
        )

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        size = len(payload)
        if size < self.min_frame:
            raise _too_small(payload, self.min_frame)
        if self.width == "varint":
            number = read_varint(payload, self.offset, varint_size(self.max_frame - min(self.adjust, 0)))
            value, body = number if isinstance(number, tuple) else (None, 0)
        else:
            body = self.offset + self.width
            value = read_unsigned(payload, self.offset, self.width, self.byteorder) if size >= body else None
        if value is None:
            raise EncodeError(
                f"a frame of {size} bytes has no length field at offset {self.offset}; give the whole frame, header included",
                got=size,
            )
        total = body + value + self.adjust
        if total != size or size - body < len(self.trailer):
            raise EncodeError(
                f"the length field at offset {self.offset} says {value}, for a frame of {total} bytes, but it has {size}; "
                "give the whole frame, header included, with its length filled in",
                expected=total,
                got=size,
            )
        if not payload.startswith(self.prefix) or not payload.endswith(self.trailer):
            raise EncodeError(f"the frame does not begin with {self.prefix!r} and end with {self.trailer!r}")
        return b"", b""


@dataclass(frozen=True, slots=True)
class FixedSize(Framer):
    """Frames of ``size`` bytes each, 1 or more, and nothing between them."""

    size: int

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_option("size", self.size, 1, self.max_frame)

    def splitter(self) -> Splitter:
        return partial(split_fixed, self.size)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        if len(payload) != self.size:
            raise EncodeError(
                f"a payload of {len(payload)} bytes is not of the fixed size, {self.size} bytes",
                expected=self.size,
                got=len(payload),
            )
        return b"", b""


@dataclass(frozen=True, slots=True)
class RecordMarked(Framer):
    """ONC RPC's record marking: fragments with 31 bits of length, reassembled; the high bit marks a record's last.

    A record is sent in one fragment. It is received in ``max_fragments`` at the most, which bounds what a flood of
    empty fragments can cost; ``max_frame`` bounds the record. Source: RFC 5531, section 11.
    """

    max_fragments: int = field(default=1024, kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_option("max_frame", self.max_frame, 0, 0x7FFF_FFFF)
        check_option("max_fragments", self.max_fragments, 1, 1 << 20)

    def splitter(self) -> Splitter:
        return partial(split_records, self.max_frame, self.max_fragments)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        return (len(payload) | 0x8000_0000).to_bytes(4, "big"), b""
