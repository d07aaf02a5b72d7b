"""Decoding: from chunks to payloads, without sockets."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

from benchmarks.builds import builds
from benchmarks.native import floor
from benchmarks.peers import decoders
from benchmarks.peers.decoders import Decode
from benchmarks.results import Benchmark, Goal, Result, Settings, at_least, at_most
from benchmarks.streams import Stream, chunked, payloads
from benchmarks.timing import Samples, interleaved

__all__ = ["BENCHMARKS"]

FLOOR = "floor"
IN_PLACE_FLOOR = "floor, received in place"


def _drain(batches: Iterable[object]) -> None:
    deque(batches, maxlen=0)


def _ours(framer: Any, chunks: list[bytes]) -> Callable[[], None]:
    return lambda: _drain(map(framer.decoder().feed, chunks))


def _flat(batches: Iterable[Iterable[Any]]) -> list[bytes]:
    return [bytes(one) for batch in batches for one in batch]


def checked(
    mine: Callable[[Any], Any],
    chunks: list[bytes],
    expected: list[bytes],
    peers: Mapping[str, tuple[Decode, list[bytes]]],
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Our contenders and the peers', each of which gave exactly ``expected``; and who is skipped, and why.

    ``mine`` makes the framer from a build's ``framing``. Raises AssertionError where a contender gives anything else: what
    does less than the others is not faster than they are.
    """
    contenders: dict[str, Callable[[], object]] = {}
    skipped: dict[str, str] = {}
    for build in builds():
        framer = mine(build.framing)
        assert _flat(map(framer.decoder().feed, chunks)) == expected, f"{build.name} does not give the payloads"
        contenders[build.name] = _ours(framer, chunks)
    for name, (decode, stream) in peers.items():
        try:
            given = _flat(decode(stream))
        except ImportError as error:
            skipped[name] = f"not installed: {error.name}"
            continue
        assert given == expected, f"{name} does not give the payloads"
        contenders[name] = lambda decode=decode, stream=stream: _drain(decode(stream))
    return contenders, skipped


# -------------------------------------------------------------------------------------------- u32


def _msgpack_stream(expected: list[bytes], chunk: int) -> list[bytes]:
    """The same payloads as MessagePack's bin 8, bin 16 or bin 32."""
    frames = []
    for payload in expected:
        size = len(payload)
        if size < 256:
            frames.append(b"\xc4%c" % size + payload)
        else:
            frames.append(b"\xc6" + size.to_bytes(4, "big") + payload)
    return chunked(b"".join(frames), chunk)


def _u32(least: int, most: int, chunk: int, count: int, rounds: int) -> tuple[Samples, dict[str, str]]:
    stream = _u32_stream(least, most, chunk, count)
    peers = {name: (decode, stream.chunks) for name, decode in decoders.U32.items()}
    peers["msgpack's Unpacker"] = (decoders.msgpack_unpacker, _msgpack_stream(stream.payloads, chunk))
    contenders, skipped = checked(lambda framing: framing.LengthPrefixed(4), stream.chunks, stream.payloads, peers)
    make = floor(stream.data, stream.spans, stream.counts())
    assert _flat(make()) == stream.payloads
    contenders = {FLOOR: lambda: _drain(make()), **contenders}
    return interleaved(contenders, count, rounds), skipped


def _u32_stream(least: int, most: int, chunk: int, count: int) -> Stream:
    expected = payloads(least, most, count)
    frames = [len(payload).to_bytes(4, "big") + payload for payload in expected]
    return Stream.of(expected, frames, 4, chunk)


def _small(settings: Settings, case: str, chunk: int, sizes: tuple[tuple[int, int], ...]) -> Iterator[Result]:
    for least, most in sizes:
        samples, skipped = _u32(least, most, chunk, settings.scaled(20_000, 300), settings.rounds)
        size = f"{least} B" if least == most else f"{least} to {most} B"
        bound = 1.4 if chunk == 1 << 16 else 1.6
        goals: list[Goal] = list(at_most(case, samples, FLOOR, (bound, None), "the floor"))
        if chunk == 1 << 16:
            goals += at_least(case, samples, ["Twisted"], (15, 2.5), "Twisted")
            goals += at_least(case, samples, ["asyncio readexactly"], (40, None), "asyncio readexactly")
            goals += at_least(case, samples, ["construct"], (60, None), "construct")
        else:
            goals += at_least(case, samples, ["Twisted"], (None, 2), "Twisted")
        title = f"decode u32, {size} payloads, {chunk:,} B chunks"
        yield Result(title=title, unit="ns a frame", samples=samples, goals=goals, skipped=skipped)


SMALL = ((16, 16), (64, 64), (16, 64))


def _bulk(settings: Settings) -> Iterator[Result]:
    """CPU time from a chunk to a list of its payloads, each a `bytes` object; the lists are dropped as a batch is
    handled. All get the same stream in the same chunks, and all must give exactly the same payloads: that is
    checked before anything is timed. The *floor* is a compiled loop: it makes the same objects at places known
    beforehand, and does nothing else.

    Unfair would be: to time a peer with its logging or its event loop's start (there is one for the 20,000 frames of a
    call), to keep every payload until the end (then everybody's figure is the page faults'; asyncio's, anyio's,
    tornado's and construct's loops do, for nobody outside them can take the payloads sooner: it is some nanoseconds
    of their hundreds), to give a peer one byte at a time where it reads 64 KiB. asyncio's, anyio's and tornado's
    streams, construct and the readers of websockets cost a call a frame or two by their design, and are timed as
    their users call them.
    msgpack's Unpacker reads its own frames, not u32.
    """
    return _small(settings, "decode u32, 16–64 B payloads, 64 KiB chunks", 1 << 16, SMALL)


def _packets(settings: Settings) -> Iterator[Result]:
    """As `decode`, in chunks of the size of a network packet: now frames span chunks, and what is carried over counts."""
    return _small(settings, "decode u32, 16–64 B payloads, 1,400 B chunks", 1400, SMALL)


def _large(settings: Settings) -> Iterator[Result]:
    """As `decode`, with payloads as large as a read: copies count. Our contender reads into the buffer that the
    decoder lends, as the drivers do; a read is a copy out of a BytesIO here, for the floor as for us. Unfair would
    be: a floor that need not read. So the peers' figures, which have no such read in them, are lower than they
    should be.
    """
    size = 1 << 16
    count = settings.scaled(256, 4)
    stream = _u32_stream(size, size, 1 << 16, count)
    expected = stream.payloads
    make = floor(stream.data, stream.spans, stream.counts())
    room = memoryview(bytearray(1 << 16))

    def received_then_made() -> None:
        readinto = io.BytesIO(stream.data).readinto
        for _ in make():
            readinto(room)

    def in_place(framer: Any) -> Iterator[list[bytes]]:
        decoder = framer.decoder()
        readinto = io.BytesIO(stream.data).readinto
        lend, take = decoder.get_buffer, decoder.buffer_updated
        while got := readinto(lend()):
            yield take(got)

    peers = {name: (decode, stream.chunks) for name, decode in decoders.U32.items()}
    peers["msgpack's Unpacker"] = (decoders.msgpack_unpacker, _msgpack_stream(expected, 1 << 16))
    fed, skipped = checked(lambda framing: framing.LengthPrefixed(4), stream.chunks, expected, peers)
    contenders: dict[str, Callable[[], object]] = {
        FLOOR: received_then_made,
        IN_PLACE_FLOOR: lambda: _drain(make()),
    }
    for build in builds():
        framer = build.framing.LengthPrefixed(4)
        assert _flat(in_place(framer)) == expected
        contenders[build.name] = lambda framer=framer: _drain(in_place(framer))
        contenders[f"{build.name}, fed"] = fed.pop(build.name)
    samples = interleaved(contenders | fed, count, settings.rounds)
    case = "decode u32, 64 KiB payloads"
    yield Result(
        title="decode u32, 64 KiB payloads, read into the lent buffer",
        unit="ns a frame",
        samples=samples,
        goals=list(at_most(case, samples, FLOOR, (1.3, 1.6), "the floor through get_buffer")),
        skipped=skipped,
        note="The floor copies each byte twice: into a buffer, as a read does, and out of it into its payload. The floor that "
        "receives in place copies it once; the peers, and framing where it is fed, get their chunks without that read.",
    )


# ------------------------------------------------------------------------------------------ lines

SPLIT = "bytes.split"


def _aligned(stream: Stream, size: int) -> list[bytes]:
    """The stream in chunks of about ``size`` bytes that end with a line each: nothing to carry over."""
    chunks = []
    begin = 0
    while begin < len(stream.data):
        end = stream.data.find(b"\n", begin + size) + 1 or len(stream.data)
        chunks.append(stream.data[begin:end])
        begin = end
    return chunks


def _lines(settings: Settings, case: str, least: int, most: int, bound: tuple[float, float], twisted: bool) -> Result:
    count = settings.scaled(20_000 if most < 1000 else 4_000, 300)
    expected = payloads(least, most, count)
    stream = Stream.of(expected, [payload + b"\n" for payload in expected], 0, 1 << 16)
    peers = {name: (decode, stream.chunks) for name, decode in decoders.LINES.items()}
    contenders, skipped = checked(lambda framing: framing.Lines(), stream.chunks, expected, peers)
    aligned = _aligned(stream, 1 << 16)
    make = floor(stream.data, stream.spans, stream.counts(1))
    contenders = {
        FLOOR: lambda: _drain(make()),
        SPLIT: lambda: _drain(map(bytes.split, aligned, repeat(b"\n"))),
        **contenders,
    }
    samples = interleaved(contenders, count, settings.rounds)
    goals: list[Goal] = list(at_most(case, samples, SPLIT, bound, "bytes.split"))
    if twisted:
        goals += at_least(case, samples, ["Twisted LineOnlyReceiver"], (3, 3), "Twisted's LineOnlyReceiver")
    size = f"{least} B" if least == most else f"{least} to {most} B"
    return Result(
        title=f"lines of {size}, 65,536 B chunks", unit="ns a line", samples=samples, goals=goals, skipped=skipped
    )


def _short_lines(settings: Settings) -> Iterator[Result]:
    r"""As `decode`, with lines. `bytes.split` gets chunks that end where a line ends, so it carries nothing over; it
    knows no limit and no `\r\n`.
    """
    for least, most in SMALL:
        yield _lines(settings, "lines, 16–64 B", least, most, (1.2, 1.2), twisted=True)


def _long_lines(settings: Settings) -> Iterator[Result]:
    """As `lines`, where the scan costs more than the objects: `bytes.split` looks at each byte, memchr does not."""
    yield _lines(settings, "lines, 1 KiB", 1024, 1024, (0.6, 1.1), twisted=False)


# ---------------------------------------------------------------------------------- other framers


def _protobuf_stream(expected: list[bytes], chunk: int) -> list[bytes] | str:
    try:
        from google.protobuf.proto import serialize_length_prefixed
        from google.protobuf.wrappers_pb2 import BytesValue
    except ImportError as error:
        return f"not installed: {error.name}"
    out = io.BytesIO()
    for payload in expected:
        serialize_length_prefixed(BytesValue(value=payload), out)
    return chunked(out.getvalue(), chunk)


def _yahdlc_stream(expected: list[bytes], chunk: int) -> list[bytes] | str:
    try:
        import yahdlc
    except ImportError as error:
        return f"not installed: {error.name}"
    return chunked(b"".join(map(yahdlc.frame_data, expected)), chunk)


def _others(settings: Settings) -> Iterator[Result]:
    """As `decode`, for the other framers, beside the Python peers that have them. Not quite alike: protobuf's readers
    give a message (a BytesValue) instead of bytes, and read their own stream of them; the cobs package decodes
    frames that its caller has found; yahdlc and the cobs package are C, and count as Python peers because Python
    calls them. Plain Python is held against them, too, and besides against the fastest peer that is plain Python.
    """
    case = "varint, netstring, LengthField, COBS, SLIP, HDLC"
    chunk = 1 << 16
    count = settings.scaled(10_000, 200)
    expected = payloads(16, 64, count)
    whole = [b"T" + len(payload).to_bytes(4, "big") + payload for payload in expected]
    own: dict[str, list[bytes] | str] = {
        "protobuf": _protobuf_stream(expected, chunk),
        "delimited-protobuf": _protobuf_stream(expected, chunk),
        "yahdlc": _yahdlc_stream(expected, chunk),
    }
    table: list[tuple[str, Callable[[Any], Any], list[bytes], dict[str, Decode]]] = [
        ("varint", lambda framing: framing.VarintPrefixed(), expected, decoders.VARINTS),
        ("netstring", lambda framing: framing.Netstring(), expected, decoders.NETSTRINGS),
        ("LengthField", lambda framing: framing.LengthField(4, offset=1), whole, decoders.LENGTH_FIELD),
        ("COBS", lambda framing: framing.COBS(), expected, decoders.STUFFED["COBS"]),
        ("SLIP", lambda framing: framing.SLIP(), expected, decoders.STUFFED["SLIP"]),
        ("HDLC", lambda framing: framing.HDLC(), expected, decoders.STUFFED["HDLC"]),
    ]
    for name, mine, given, peers in table:
        frames = list(map(mine(builds()[0].framing).encode, given))
        data = b"".join(frames)
        chunks = chunked(data, chunk)
        streams = {peer: own.get(peer, chunks) for peer in peers}
        ready = {peer: (peers[peer], stream) for peer, stream in streams.items() if not isinstance(stream, str)}
        contenders, skipped = checked(mine, chunks, given, ready)
        skipped |= {peer: stream for peer, stream in streams.items() if isinstance(stream, str)}
        # The objects alone: of the same payloads, side by side, whatever was around them on the wire.
        bare = Stream.of(given, given, 0, chunk)
        make = floor(bare.data, bare.spans, bare.counts())
        contenders = {FLOOR: lambda make=make: _drain(make()), **contenders}
        samples = interleaved(contenders, count, settings.rounds)
        plain = [peer for peer in peers if peer not in decoders.NATIVE]
        goals = [
            *at_least(f"{case}: {name}", samples, list(peers), (5, 1), "the fastest Python peer that has it"),
            *at_least(f"{case}: {name}", samples, plain, (None, 1), "the fastest that is plain Python itself"),
        ]
        title = f"decode {name}, 16 to 64 B payloads, 65,536 B chunks"
        yield Result(title=title, unit="ns a frame", samples=samples, goals=goals, skipped=skipped)


BENCHMARKS = [
    Benchmark(name="decode", run=_bulk),
    Benchmark(name="decode-packets", run=_packets),
    Benchmark(name="decode-large", run=_large),
    Benchmark(name="lines", run=_short_lines),
    Benchmark(name="lines-long", run=_long_lines),
    Benchmark(name="framers", run=_others),
]
