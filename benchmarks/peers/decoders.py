"""Decoders of other people's: chunks in, lists of payloads out.

Each is written as its own documentation has its users write it, and on the fastest path that it has: no sockets, no
logging, limits out of the way. A peer of asyncio's, anyio's or tornado's gets its chunks without a wait, from inside the
running loop, so that the loop's start is paid once a stream and not once a frame.
"""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

__all__ = [
    "LENGTH_FIELD",
    "LINES",
    "NATIVE",
    "NETSTRINGS",
    "STUFFED",
    "U32",
    "VARINTS",
    "Decode",
    "easynetwork_prefixed",
    "msgpack_unpacker",
]

Batches = Iterable[Sequence[Any]]
Decode = Callable[[list[bytes]], Batches]

NO_LIMIT = 1 << 30


# ----------------------------------------------------------------------------------------- by hand


def by_hand(chunks: list[bytes]) -> Iterator[list[bytes]]:
    """The loop that everybody writes, without its worst mistake: the buffer is cut once a chunk."""
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        out = []
        at = 0
        while len(buffer) - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if len(buffer) - at - 4 < size:
                break
            out.append(buffer[at + 4 : at + 4 + size])
            at += 4 + size
        buffer = buffer[at:]
        yield out


# ----------------------------------------------------------------------------------------- Twisted


def twisted(receiver: str, **options: Any) -> Decode:
    """A receiver of ``twisted.protocols.basic``, with a transport that goes nowhere."""

    def decode(chunks: list[bytes]) -> Iterator[list[bytes]]:
        from twisted.internet.testing import StringTransport
        from twisted.protocols import basic

        out: list[bytes] = []
        received = "lineReceived" if "Line" in receiver else "stringReceived"

        def take(_: object, payload: bytes) -> None:
            out.append(payload)

        kind = type("Receiver", (getattr(basic, receiver),), {received: take, "MAX_LENGTH": NO_LIMIT, **options})
        protocol: Any = kind()
        protocol.makeConnection(StringTransport())
        for chunk in chunks:
            protocol.dataReceived(chunk)
            yield out[:]
            out.clear()

    return decode


# ----------------------------------------------------------------------------------------- asyncio


def in_asyncio(loop: Callable[[asyncio.StreamReader], Awaitable[list[bytes]]]) -> Decode:
    """``loop`` over an ``asyncio.StreamReader`` that is fed as a transport feeds it."""

    def decode(chunks: list[bytes]) -> Batches:
        async def run() -> list[bytes]:
            reader = asyncio.StreamReader(limit=NO_LIMIT)
            reading = asyncio.ensure_future(loop(reader))
            for chunk in chunks:
                reader.feed_data(chunk)
                await asyncio.sleep(0)  # the reader takes what there is
            reader.feed_eof()
            return await reading

        return [asyncio.run(run())]

    return decode


async def _exactly(reader: asyncio.StreamReader) -> list[bytes]:
    out = []
    try:
        while True:
            size = int.from_bytes(await reader.readexactly(4), "big")
            out.append(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return out


async def _lines(reader: asyncio.StreamReader) -> list[bytes]:
    out = []
    while line := await reader.readline():
        out.append(line[:-1])
    return out


async def _length_field(reader: asyncio.StreamReader) -> list[bytes]:
    out = []
    try:
        while True:
            header = await reader.readexactly(5)
            out.append(header + await reader.readexactly(int.from_bytes(header[1:], "big")))
    except asyncio.IncompleteReadError:
        return out


# -------------------------------------------------------------------------------------------- anyio


def in_anyio(step: Callable[[Any], Awaitable[bytes]]) -> Decode:
    """``step`` over an anyio ``BufferedByteReceiveStream``."""

    def decode(chunks: list[bytes]) -> Batches:
        import anyio
        from anyio.abc import ByteReceiveStream
        from anyio.streams.buffered import BufferedByteReceiveStream

        class Source(ByteReceiveStream):
            def __init__(self) -> None:
                self.chunks = iter(chunks)

            async def receive(self, max_bytes: int = 65536) -> bytes:
                del max_bytes
                for chunk in self.chunks:
                    return chunk
                raise anyio.EndOfStream

            async def aclose(self) -> None:
                pass

        async def run() -> list[bytes]:
            stream = BufferedByteReceiveStream(Source())
            out = []
            try:
                while True:
                    out.append(await step(stream))
            except (anyio.EndOfStream, anyio.IncompleteRead):
                return out

        return [anyio.run(run)]

    return decode


async def _anyio_exactly(stream: Any) -> bytes:
    return await stream.receive_exactly(int.from_bytes(await stream.receive_exactly(4), "big"))


async def _anyio_line(stream: Any) -> bytes:
    return await stream.receive_until(b"\n", NO_LIMIT)


# ------------------------------------------------------------------------------------------ tornado


def in_tornado(step: Callable[[Any], Awaitable[bytes]]) -> Decode:
    """``step`` over a tornado ``BaseIOStream`` whose descriptor is the list of chunks."""

    def decode(chunks: list[bytes]) -> Batches:
        from tornado.iostream import BaseIOStream, StreamClosedError

        class Source(BaseIOStream):
            def __init__(self) -> None:
                super().__init__(max_buffer_size=NO_LIMIT, read_chunk_size=max(map(len, chunks)))
                self.chunks = iter(chunks)

            def fileno(self) -> int:
                return -1

            def close_fd(self) -> None:
                pass

            def write_to_fd(self, data: memoryview) -> int:
                return len(data)

            def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
                for chunk in self.chunks:
                    buf[: len(chunk)] = chunk
                    return len(chunk)
                self.close()
                return None

        async def run() -> list[bytes]:
            stream = Source()
            out = []
            try:
                while True:
                    out.append(await step(stream))
            except StreamClosedError:
                return out

        return [asyncio.run(run())]

    return decode


async def _tornado_exactly(stream: Any) -> bytes:
    return await stream.read_bytes(int.from_bytes(await stream.read_bytes(4), "big"))


async def _tornado_line(stream: Any) -> bytes:
    return (await stream.read_until(b"\n"))[:-1]


# ------------------------------------------------------------------------------------- websockets


def in_websockets(step: Callable[[Any], Generator[None, None, Any]]) -> Decode:
    """``step`` over the reader of websockets' sans-I/O core, the generator that its own frame parser is made of."""

    def decode(chunks: list[bytes]) -> Iterator[list[Any]]:
        from websockets.streams import StreamReader

        reader = StreamReader()
        out: list[Any] = []

        def parse() -> Generator[None, None, None]:
            while True:
                out.append((yield from step(reader)))

        parser = parse()
        for chunk in chunks:
            reader.feed_data(chunk)
            next(parser)
            yield out[:]
            out.clear()

    return decode


def _websockets_exactly(reader: Any) -> Generator[None, None, Any]:
    header = yield from reader.read_exact(4)
    return (yield from reader.read_exact(int.from_bytes(header, "big")))


def _websockets_line(reader: Any) -> Generator[None, None, Any]:
    line = yield from reader.read_line(NO_LIMIT)
    return line[:-1]


# ------------------------------------------------------------------------------------ easynetwork


def in_easynetwork(serializer: Callable[[], Any]) -> Decode:
    """A serializer of easynetwork's, in the consumer that its own servers use."""

    def decode(chunks: list[bytes]) -> Iterator[list[Any]]:
        from easynetwork.lowlevel._stream import StreamDataConsumer
        from easynetwork.protocol import StreamProtocol

        consumer: Any = StreamDataConsumer(StreamProtocol(serializer()))
        for chunk in chunks:
            out = []
            more: bytes | None = chunk
            while True:
                try:
                    out.append(consumer.next(more))
                except StopIteration:
                    break
                more = None
            yield out

    return decode


def easynetwork_prefixed() -> Any:
    from easynetwork.serializers.abc import AbstractIncrementalPacketSerializer
    from easynetwork.serializers.tools import GeneratorStreamReader

    class Prefixed(AbstractIncrementalPacketSerializer[bytes, bytes]):
        def serialize(self, packet: bytes) -> bytes:
            return packet

        def deserialize(self, data: bytes) -> bytes:
            return data

        def incremental_serialize(self, packet: bytes) -> Generator[bytes, None, None]:
            yield len(packet).to_bytes(4, "big") + packet

        def incremental_deserialize(self) -> Generator[None, bytes, tuple[bytes, bytes]]:
            reader = GeneratorStreamReader()
            size = int.from_bytes((yield from reader.read_exactly(4)), "big")
            payload = yield from reader.read_exactly(size)
            return payload, reader.read_all()

    return Prefixed()


def _easynetwork_lines() -> Any:
    from easynetwork.serializers.base_stream import AutoSeparatedPacketSerializer

    class Line(AutoSeparatedPacketSerializer[bytes, bytes]):
        def __init__(self) -> None:
            super().__init__(b"\n", limit=NO_LIMIT)

        def serialize(self, packet: bytes) -> bytes:
            return packet

        def deserialize(self, data: bytes) -> bytes:
            return bytes(data)

    return Line()


# ---------------------------------------------------------------------------------- the declarative


def construct(chunks: list[bytes]) -> Batches:
    """It parses what is whole: the chunks are put together for it."""
    import construct as declared

    return [declared.GreedyRange(declared.Prefixed(declared.Int32ub, declared.GreedyBytes)).parse(b"".join(chunks))]


def construct_length_field(chunks: list[bytes]) -> Batches:
    import construct as declared

    frame = declared.Struct("kind" / declared.Byte, "body" / declared.Prefixed(declared.Int32ub, declared.GreedyBytes))
    parsed = declared.GreedyRange(frame).parse(b"".join(chunks))
    return [[b"%c%b%b" % (one.kind, struct.pack(">I", len(one.body)), one.body) for one in parsed]]


# ---------------------------------------------------------------------- frames of their own making


def msgpack_unpacker(chunks: list[bytes]) -> Iterator[list[bytes]]:
    """MessagePack's own framing: each message says where it ends. Its chunks are bin objects, not u32 frames."""
    import msgpack

    unpacker = msgpack.Unpacker(max_buffer_size=NO_LIMIT)
    for chunk in chunks:
        unpacker.feed(chunk)
        yield list(unpacker)


def protobuf_delimited(chunks: list[bytes]) -> Batches:
    """Google's own reader of delimited messages; a BytesValue is as near to a bare payload as it gets."""
    from google.protobuf.proto import parse_length_prefixed
    from google.protobuf.wrappers_pb2 import BytesValue

    source = io.BytesIO(b"".join(chunks))
    out = []
    while (message := parse_length_prefixed(BytesValue, source)) is not None:
        out.append(message.value)
    return [out]


def delimited_protobuf(chunks: list[bytes]) -> Batches:
    import delimited_protobuf
    from google.protobuf.wrappers_pb2 import BytesValue

    source = io.BytesIO(b"".join(chunks))
    out = []
    while (message := delimited_protobuf.read(source, BytesValue)) is not None:
        out.append(message.value)
    return [out]


def leb128_reader(chunks: list[bytes]) -> Batches:
    """The leb128 package's reader, and a read of so many bytes."""
    import leb128

    source = io.BytesIO(b"".join(chunks))
    out = []
    end = source.getbuffer().nbytes
    while source.tell() < end:
        size, _ = leb128.u.decode_reader(source)
        out.append(source.read(size))
    return [out]


def pynetstring_decoder(chunks: list[bytes]) -> Iterator[list[bytes]]:
    import pynetstring

    return map(pynetstring.Decoder().feed, chunks)


def cobs_and_split(chunks: list[bytes]) -> Iterator[list[bytes]]:
    """The cobs package decodes one frame, in C; to find the frames is its user's business, here a split at zeros."""
    from cobs import cobs

    rest = b""
    decode = cobs.decode
    for chunk in chunks:
        *frames, rest = (rest + chunk).split(b"\0")
        yield list(map(decode, frames))


def cobs_in_python(chunks: list[bytes]) -> Iterator[list[bytes]]:
    """The same with that package's own plain Python, which is there for where its C is not."""
    from cobs.cobs import _cobs_py

    rest = b""
    decode = _cobs_py.decode
    for chunk in chunks:
        *frames, rest = (rest + chunk).split(b"\0")
        yield list(map(decode, frames))


def sliplib_driver(chunks: list[bytes]) -> Iterator[list[bytes]]:
    import sliplib

    driver = sliplib.Driver()
    for chunk in chunks:
        driver.receive(chunk)
        out = []
        while (message := driver.get(block=False)) is not None:
            out.append(message)
        yield out


def yahdlc(chunks: list[bytes]) -> Iterator[list[bytes]]:
    """A C library, called once a frame."""
    import yahdlc as library

    library.get_data_reset()
    rest = b""
    for chunk in chunks:
        # It forgets what is behind a frame, so it is given one at a time.
        *frames, rest = (rest + chunk).split(b"~")
        yield [library.get_data(b"~" + frame + b"~")[0] for frame in frames if frame]


def pyspinel_hdlc(chunks: list[bytes]) -> Batches:
    """OpenThread's: it reads a stream byte by byte."""
    import spinel.hdlc

    source = iter(b"".join(chunks))
    stream = type("Source", (), {"read": staticmethod(lambda size=1: next(source))})()  # noqa: ARG005 -- its signature
    frames = spinel.hdlc.Hdlc(stream)
    out = []
    try:
        while True:
            out.append(bytes(frames.collect()))
    except StopIteration:
        return [out]


U32: dict[str, Decode] = {
    "by hand": by_hand,
    "Twisted": twisted("Int32StringReceiver"),
    "asyncio readexactly": in_asyncio(_exactly),
    "anyio": in_anyio(_anyio_exactly),
    "tornado": in_tornado(_tornado_exactly),
    "websockets' reader": in_websockets(_websockets_exactly),
    "easynetwork": in_easynetwork(easynetwork_prefixed),
    "construct": construct,
}
LINES: dict[str, Decode] = {
    "Twisted LineOnlyReceiver": twisted("LineOnlyReceiver", delimiter=b"\n"),
    "Twisted LineReceiver": twisted("LineReceiver", delimiter=b"\n"),
    "asyncio readline": in_asyncio(_lines),
    "anyio": in_anyio(_anyio_line),
    "tornado": in_tornado(_tornado_line),
    "websockets' reader": in_websockets(_websockets_line),
    "easynetwork": in_easynetwork(_easynetwork_lines),
}
LENGTH_FIELD: dict[str, Decode] = {
    "asyncio readexactly": in_asyncio(_length_field),
    "construct": construct_length_field,
}
VARINTS: dict[str, Decode] = {
    "protobuf": protobuf_delimited,
    "delimited-protobuf": delimited_protobuf,
    "leb128": leb128_reader,
}
NETSTRINGS: dict[str, Decode] = {
    "Twisted": twisted("NetstringReceiver"),
    "pynetstring": pynetstring_decoder,
}
NATIVE = ("cobs", "protobuf", "delimited-protobuf", "yahdlc")
"""Those whose work is done by C, or another compiled language."""
STUFFED: dict[str, dict[str, Decode]] = {
    "COBS": {"cobs": cobs_and_split, "cobs, its plain Python": cobs_in_python},
    "SLIP": {"sliplib": sliplib_driver},
    "HDLC": {"pyspinel": pyspinel_hdlc, "yahdlc": yahdlc},
}
