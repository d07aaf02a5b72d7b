"""Programs as users write them. Nothing here runs: mypy and pyright, both strict, check what the types promise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, assert_type

from framing import (
    JSON,
    Checksum,
    Compressed,
    Decoder,
    Delimited,
    EncodeError,
    Framer,
    LengthPrefixed,
    Lines,
    MessagePack,
    Raw,
    Text,
    Wire,
)


@dataclass(frozen=True)
class Point:
    x: int
    y: int


def framers_carry_bytes() -> None:
    framer = LengthPrefixed(4, "little", max_frame=1 << 16)
    assert_type(framer.encode(b"hello"), bytes)
    decoder = framer.decoder()
    assert_type(decoder, Decoder[bytes])
    assert_type(decoder.feed(memoryview(b"x"), limit=1), list[bytes])
    assert_type(decoder.unconsumed, bytes)
    assert_type(replace(framer, max_frame=5), LengthPrefixed)
    assert_type(Delimited(b"\r\n", b"\n", start=b"\x02"), Delimited)


def wires_carry_what_their_codec_carries() -> None:
    assert_type(Wire(Lines()), Wire[bytes])
    assert_type(Wire(Lines(), Checksum("crc32")), Wire[bytes])
    assert_type(Wire(Lines(), Text()), Wire[str])
    assert_type(Wire(Lines(), Raw()), Wire[bytes])
    typed = Wire(LengthPrefixed(4), Checksum("crc32"), Compressed("zlib"), JSON(type=Point))
    assert_type(typed, Wire[Point])
    assert_type(typed.encode(Point(1, 2)), bytes)
    assert_type(typed.decoder().feed(b""), list[Point])
    assert_type(Wire(Lines(), MessagePack(type=list[int])), Wire[list[int]])
    assert_type(Wire(Lines(), JSON()), Wire[Any])
    assert_type(Wire.parse("u32+json"), Wire[Any])


@dataclass(frozen=True, slots=True)
class Pascal(Framer):
    """A framer of one's own."""

    def find(self, data: bytes | bytearray, start: int, seen: int) -> tuple[int, int, int] | int:
        begin = start + 1
        end = begin + data[start]
        return begin, end, end

    def wrap(self, payload: bytes) -> bytes:
        if len(payload) > 255:
            raise EncodeError("a Pascal string has 255 bytes at the most")
        return bytes([len(payload)]) + payload


def ones_own_framer_is_a_framer() -> None:
    assert_type(Wire(Pascal(max_frame=200), Text()), Wire[str])
    assert_type(Pascal().decoder().feed(b"\x01a"), list[bytes])
