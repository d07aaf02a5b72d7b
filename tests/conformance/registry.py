"""Every framer, layer and codec, with several option sets each: what the laws are held over.

`FRAMERS` and `WIRES` are flat, so that whoever fuzzes may choose by number. What is registered nowhere fails a test.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypedDict

import construct as c
import msgspec
from construct import this

from framing import (
    CBOR,
    COBS,
    HDLC,
    JSON,
    SLIP,
    Checksum,
    Compressed,
    ContentLength,
    Delimited,
    FixedSize,
    Framer,
    LengthField,
    LengthPrefixed,
    Lines,
    MessagePack,
    Netstring,
    OctetCounted,
    Raw,
    RecordMarked,
    Signed,
    Struct,
    StructHeader,
    Text,
    VarintPrefixed,
    Wire,
    presets,
)
from framing.layers import CHECKSUMS

PLAIN_HEADER = c.Struct("kind" / c.Byte, "length" / c.Int16ub)
MAGIC_HEADER = c.Struct("magic" / c.Const(b"\xca\xfe"), "version" / c.Byte, "length" / c.Int32ul)
VARYING_HEADER = c.Struct("flags" / c.Byte, "length" / c.IfThenElse(this.flags & 1, c.Int64ub, c.Int8ub))
TAGGED_HEADER = c.Struct("tag" / c.Enum(c.Byte, ping=1, data=2), "id" / c.VarInt, "length" / c.Int8ub)

FRAMERS: tuple[Framer, ...] = (
    LengthPrefixed(1),
    LengthPrefixed(2),
    LengthPrefixed(2, "little", max_frame=300),
    LengthPrefixed(3, counts="frame"),
    LengthPrefixed(4),
    LengthPrefixed(4, "little", counts="frame", max_frame=1000),
    LengthPrefixed(5, "little"),
    LengthPrefixed(8, min_frame=3, max_frame=500),
    VarintPrefixed(),
    VarintPrefixed(min_frame=2, max_frame=300),
    LengthField(2, offset=1),
    LengthField(4, offset=1, adjust=-4),
    LengthField(4, "little", adjust=-4, min_frame=5, max_frame=1000),
    LengthField("varint", offset=1),
    LengthField(1, offset=2, prefix=b"\x03\x00", trailer=b"\xce"),
    LengthField(3, "little", adjust=1, max_frame=300),
    StructHeader(PLAIN_HEADER, size=this.length),
    StructHeader(MAGIC_HEADER, size=this.length, max_frame=1000),
    StructHeader(VARYING_HEADER, size=this.length),
    StructHeader(TAGGED_HEADER, size=this.length + 1, max_header=16),
    Netstring(),
    Netstring(max_frame=99),
    OctetCounted(),
    OctetCounted(max_frame=300),
    ContentLength(),
    ContentLength(max_header=64, max_frame=300),
    Delimited(b"\x00"),
    Delimited(b"\r\n", b"\n"),
    Delimited(b"abc", b"bd"),
    Delimited(b"aab", max_frame=300),
    Delimited(b"\r\n", on_oversize="skip", max_frame=40),
    Delimited(b"\x1c\r", start=b"\x0b"),
    Delimited(b"\n", start=b"\x1e", on_corrupt="skip"),
    Delimited(b"ab", b"cd", start=b"<<<", on_corrupt="skip", on_oversize="skip", max_frame=40),
    Lines(),
    Lines(final="optional", max_frame=300),
    Lines(on_oversize="skip", max_frame=40),
    Lines(newline=b"\r\n"),
    Lines(newline=b"\r\n", final="optional", on_oversize="skip", max_frame=40),
    Lines(newline=b"\r"),
    FixedSize(1),
    FixedSize(7),
    FixedSize(300),
    COBS(),
    COBS(on_corrupt="skip", max_frame=300),
    SLIP(),
    SLIP(on_corrupt="skip", max_frame=300),
    HDLC(),
    HDLC(fcs=32, on_corrupt="skip", max_frame=300),
    HDLC(fcs=None),
    RecordMarked(),
    RecordMarked(max_fragments=2, max_frame=300),
)

PRESETS: dict[str, Framer] = {name: make() for name, make in presets.PRESETS.items()}


class Mood(enum.Enum):
    CALM = "calm"
    CROSS = "cross"


@dataclass(frozen=True)
class Point:
    x: int
    y: float
    name: str = ""


class Move(msgspec.Struct, frozen=True):
    to: Point
    mood: Mood
    tags: list[str]


class Note(TypedDict):
    text: str
    at: int


RECORD = c.Struct(
    "id" / c.Int16ub,
    "kind" / c.Enum(c.Byte, ping=1, data=2),
    "values" / c.Array(3, c.Int32sl),
    "name" / c.PascalString(c.Byte, "utf8"),
)

KEY = bytes(range(32))

WIRES: tuple[Wire[Any], ...] = (
    Wire(LengthPrefixed(4)),
    Wire(Lines(), Text()),
    Wire(Netstring(), Text("latin-1")),
    Wire(Lines(), JSON()),
    Wire(LengthPrefixed(2), JSON(Point)),
    Wire(ContentLength(), JSON(list[Move])),
    Wire(LengthPrefixed(4), MessagePack()),
    Wire(LengthPrefixed(4, "little"), MessagePack(Move)),
    Wire(VarintPrefixed(), MessagePack(Note)),
    Wire(VarintPrefixed(), CBOR()),
    Wire(HDLC(), Struct(RECORD)),
    Wire(LengthPrefixed(2), Struct(c.Struct("x" / c.Int32sb, "y" / c.Float64b))),
    *(Wire(LengthPrefixed(4), Checksum(name), Raw()) for name in CHECKSUMS),
    Wire(COBS(on_corrupt="skip"), Checksum("crc16-modbus", byteorder="little"), MessagePack()),
    Wire(LengthPrefixed(4), Compressed("zlib"), JSON()),
    Wire(LengthPrefixed(4), Compressed("gzip", level=1), Text()),
    Wire(LengthPrefixed(4), Compressed("zstd"), Raw()),
    Wire(LengthPrefixed(4), Signed(KEY), MessagePack()),
    Wire(LengthPrefixed(4), Checksum("crc32"), Compressed("zlib", level=9), Signed(KEY), CBOR()),
    Wire(SLIP(), Checksum("crc32c"), JSON()),
    Wire(RecordMarked(), Signed(KEY), Raw()),
)
