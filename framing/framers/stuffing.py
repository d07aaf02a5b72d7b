"""Framers with byte stuffing, for serial lines and whatever loses bytes: the end byte occurs nowhere inside a frame.

So the next frame can be found behind a bad one: ``on_corrupt="skip"`` passes over bad and oversized frames, counted in
``decoder.skipped``; ``"raise"`` (the default) raises at the first and stays there.
Frames of no bytes at all (end byte behind end byte) are ignored, as each of the specifications has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from framing.errors import EncodeError
from framing.framers.base import Buffer, Framer, check_choice
from framing.kernels import (
    join_cobs,
    join_hdlc,
    join_slip,
    split_cobs,
    split_hdlc,
    split_slip,
    stuff_cobs,
    stuff_hdlc,
    stuff_slip,
)
from framing.kernels.contract import Splitter

__all__ = ["COBS", "HDLC", "SLIP"]


@dataclass(frozen=True, slots=True)
class COBS(Framer):
    """Consistent overhead byte stuffing: one byte more in 254, a zero at the end.

    Both forms of a last full block are accepted, the short one is written.
    Source: Cheshire and Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking 7 (1999).
    """

    on_corrupt: Literal["raise", "skip"] = field(default="raise", kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_choice("on_corrupt", self.on_corrupt, "raise", "skip")

    def splitter(self) -> Splitter:
        return partial(split_cobs, self.max_frame, self.on_corrupt == "skip")

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        return self._encode_with(partial(join_cobs, self.max_frame), payloads)

    def wrap(self, payload: bytes) -> bytes:
        return stuff_cobs(payload) + b"\x00"


@dataclass(frozen=True, slots=True)
class SLIP(Framer):
    """Serial line IP: C0 on both sides; DB DC and DB DD inside, any other byte behind DB is corrupt.

    An empty payload is an `EncodeError`: empty frames are ignored. Source: RFC 1055.
    """

    on_corrupt: Literal["raise", "skip"] = field(default="raise", kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_choice("on_corrupt", self.on_corrupt, "raise", "skip")

    def splitter(self) -> Splitter:
        return partial(split_slip, self.max_frame, self.on_corrupt == "skip")

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        return self._encode_with(partial(join_slip, self.max_frame), payloads)

    def wrap(self, payload: bytes) -> bytes:
        if not payload:
            raise EncodeError("SLIP has no frame for an empty payload: its receivers ignore empty frames")
        return b"\xc0" + stuff_slip(payload) + b"\xc0"


@dataclass(frozen=True, slots=True)
class HDLC(Framer):
    """HDLC-like framing as PPP has it: 7E on both sides, 7D and the byte XOR 20 inside, a frame check sequence.

    ``fcs`` is 16, 32 or None (no check; then an empty payload is an `EncodeError`). A flag may be shared by two frames;
    7D 7E is the sender's abort, and corrupt. Source: RFC 1662, sections 3, 4 and appendix C.
    """

    fcs: Literal[16, 32] | None = field(default=16, kw_only=True)
    on_corrupt: Literal["raise", "skip"] = field(default="raise", kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        if self.fcs not in (16, 32, None):
            raise ValueError(f"fcs is {self.fcs!r}; it must be 16, 32 or None")
        check_choice("on_corrupt", self.on_corrupt, "raise", "skip")

    def splitter(self) -> Splitter:
        return partial(split_hdlc, self.fcs or 0, self.max_frame, self.on_corrupt == "skip")

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        return self._encode_with(partial(join_hdlc, self.fcs or 0, self.max_frame), payloads)

    def wrap(self, payload: bytes) -> bytes:
        if not payload and not self.fcs:
            raise EncodeError("HDLC without a check sequence has no frame for an empty payload")
        return b"\x7e" + stuff_hdlc(self.fcs or 0, payload) + b"\x7e"
