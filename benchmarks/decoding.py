"""Decoding: how long one frame takes from the chunk to a ``bytes`` object in a list.

Each contender gets the same stream in the same chunks and must end up with the same payloads in a list; that is checked
before anything is timed. The *floor* makes the same objects and does nothing else: slices at offsets known beforehand
(``bytes.split`` for lines). What would make it unfair: a peer that is given one call a frame by its own design (asyncio's
streams, construct) is timed as its users call it, event loop included.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from framing import COBS, HDLC, SLIP, Framer, LengthField, LengthPrefixed, Lines, Netstring, VarintPrefixed

__all__ = ["Case", "cases"]


@dataclass(frozen=True, slots=True)
class Case:
    """One stream, and everybody who can take it apart."""

    name: str
    frames: int
    contenders: dict[str, Callable[[], list[bytes]]]


def _payloads(size: int, count: int) -> list[bytes]:
    # Varied, and free of newlines, NULs and escape bytes, so that every framer can carry them.
    return [bytes(97 + (index * 7 + place) % 26 for place in range(size)) for index in range(count)]


def _chunks(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def _ours(framer: Framer, chunks: list[bytes]) -> list[bytes]:
    decoder = framer.decoder()
    out: list[bytes] = []
    for chunk in chunks:
        out += decoder.feed(chunk)
    return out


def _floor(stream: bytes, spans: list[tuple[int, int]]) -> list[bytes]:
    return [stream[begin:end] for begin, end in spans]


def _spans(stream: bytes, payloads: list[bytes]) -> list[tuple[int, int]]:
    spans = []
    at = 0
    for payload in payloads:
        begin = stream.index(payload, at)
        at = begin + len(payload)
        spans.append((begin, at))
    return spans


def _asyncio_exactly(stream: bytes) -> list[bytes]:
    async def run() -> list[bytes]:
        reader = asyncio.StreamReader(limit=1 << 24)
        reader.feed_data(stream)
        reader.feed_eof()
        out = []
        try:
            while True:
                (size,) = struct.unpack(">I", await reader.readexactly(4))
                out.append(await reader.readexactly(size))
        except asyncio.IncompleteReadError:
            return out

    return asyncio.run(run())


def _asyncio_lines(stream: bytes) -> list[bytes]:
    async def run() -> list[bytes]:
        reader = asyncio.StreamReader(limit=1 << 24)
        reader.feed_data(stream)
        reader.feed_eof()
        out = []
        while line := await reader.readline():
            out.append(line[:-1])
        return out

    return asyncio.run(run())


def _twisted(kind: str, chunks: list[bytes]) -> list[bytes]:
    from twisted.internet.testing import StringTransport
    from twisted.protocols import basic

    out: list[bytes] = []
    base = getattr(basic, kind)
    received = "lineReceived" if "Line" in kind else "stringReceived"
    protocol = type(
        "Receiver", (base,), {received: lambda _, one: out.append(one), "delimiter": b"\n", "MAX_LENGTH": 1 << 24}
    )()
    protocol.makeConnection(StringTransport())
    for chunk in chunks:
        protocol.dataReceived(chunk)
    return out


def _construct(stream: bytes) -> list[bytes]:
    import construct

    return list(construct.GreedyRange(construct.Prefixed(construct.Int32ub, construct.GreedyBytes)).parse(stream))


def _hand_written(chunks: list[bytes]) -> list[bytes]:
    """The loop that everybody writes."""
    buffer = b""
    out = []
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if len(buffer) < 4 + size:
                break
            out.append(buffer[4 : 4 + size])
            buffer = buffer[4 + size :]
    return out


def cases(frames: int) -> Iterator[Case]:
    """The cases, each made when it is asked for; ``frames`` scales them all."""
    for size, chunk_size in ((16, 65536), (64, 65536), (64, 1400), (1024, 65536), (65536, 65536)):
        count = max(20, min(frames, (16 << 20) // size))
        payloads = _payloads(size, count)
        framer = LengthPrefixed(4)
        stream = framer.encode_many(payloads)
        chunks = _chunks(stream, chunk_size)
        spans = _spans(stream, payloads)
        yield Case(
            f"u32, {size} B payloads, {chunk_size} B chunks",
            count,
            {
                "floor": lambda stream=stream, spans=spans: _floor(stream, spans),
                "framing": lambda chunks=chunks: _ours(LengthPrefixed(4), chunks),
                "hand-written": lambda chunks=chunks: _hand_written(chunks),
                "twisted": lambda chunks=chunks: _twisted("Int32StringReceiver", chunks),
                "asyncio": lambda stream=stream: _asyncio_exactly(stream),
                "construct": lambda stream=stream: _construct(stream),
            },
        )
    for size in (16, 1024):
        payloads = _payloads(size, max(20, min(frames, (16 << 20) // size)))
        stream = Lines().encode_many(payloads)
        chunks = _chunks(stream, 65536)
        yield Case(
            f"lines, {size} B, 65536 B chunks",
            len(payloads),
            {
                "floor": lambda stream=stream: stream.split(b"\n")[:-1],
                "framing": lambda chunks=chunks: _ours(Lines(), chunks),
                "twisted": lambda chunks=chunks: _twisted("LineOnlyReceiver", chunks),
                "asyncio": lambda stream=stream: _asyncio_lines(stream),
            },
        )
    payloads = _payloads(64, frames)
    for name, framer in (
        ("varint", VarintPrefixed()),
        ("netstring", Netstring()),
        ("COBS", COBS()),
        ("SLIP", SLIP()),
        ("HDLC", HDLC()),
    ):
        stream = framer.encode_many(payloads)
        chunks = _chunks(stream, 65536)
        contenders: dict[str, Callable[[], list[bytes]]] = {
            "floor": lambda payloads=payloads: [bytes(bytearray(payload)) for payload in payloads],
            "framing": lambda framer=framer, chunks=chunks: _ours(framer, chunks),
        }
        if name == "netstring":
            contenders["twisted"] = lambda chunks=chunks: _twisted("NetstringReceiver", chunks)
        yield Case(f"{name}, 64 B, 65536 B chunks", len(payloads), contenders)
    field = LengthField(4, offset=1)
    whole = [b"T" + len(payload).to_bytes(4, "big") + payload for payload in payloads]
    stream = field.encode_many(whole)
    spans = _spans(stream, whole)
    chunks = _chunks(stream, 65536)
    yield Case(
        "length field at 1, 64 B, 65536 B chunks",
        len(whole),
        {
            "floor": lambda: _floor(stream, spans),
            "framing": lambda: _ours(field, chunks),
        },
    )
