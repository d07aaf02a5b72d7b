"""``framing bench``: what a wire of your own costs here, for a message of your own, beside what it costs at the least.

The least is twofold. The *floor* is what making the bytes objects costs, and nothing else: ``b"".join`` of the payloads for
encoding, ``struct.unpack`` at places known beforehand, which is a compiled loop, for decoding. And the library that reads and
writes the codec's format is timed alone, a call a message. So is the codec (with the layers, where there are any), which
also proves that a message arrives as it was sent, on a batch as the wire gives it one; where there is no such library, or
there are layers, the ratio is to that.

All take turns, round after round, in CPU time of this process; what is shown is the median of the rounds. No socket is
involved.
"""

from __future__ import annotations

import platform
import statistics
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table
from rich.text import Text as Styled

import framing as package
from framing.cli.parameters import read_message, read_seconds, read_wire
from framing.cli.screen import Console
from framing.codecs import CBOR, JSON, MessagePack, Raw, Text
from framing.errors import EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from framing.wire import Wire

__all__ = ["Figure", "bench", "measure"]

CHUNKS = {"64 KiB chunks": 1 << 16, "1,400 B chunks": 1400}
"""A read of a busy connection, and a packet of a network."""

STREAM_BYTES = 1 << 20
MOST_MESSAGES = 10_000
LEAST_MESSAGES = 4
ROUNDS = 5
"""The fewest rounds, however long they take."""

TURNS = 60
"""One contender's turn takes about this part of all the time, at the most."""

WIRE, FLOOR = "wire", "floor"
LIBRARIES = "cbor2", "msgspec"


@dataclass(frozen=True, slots=True)
class Figure:
    """Nanoseconds of CPU time a message; for the wire also how often that is what it is held against, all together."""

    what: str
    name: str
    ns: float
    ratio: float | None = None


def sample_message(wire: Wire[Any]) -> Any:
    """A message for whoever gives none: an object, or text where the wire has no codec for objects.

    The text is as long as a wire of fixed size, or with a small limit, has it; else it may be that the wire cannot carry what
    is made up.
    """
    if not isinstance(wire.codec, (Raw, Text)):
        return {"id": 17, "user": "alice", "tags": ["new", "vip"], "score": 0.5}
    text = "hello, world"
    try:
        wire.encode(read_message(wire, text, "it"))
    except EncodeError as error:
        if error.expected is not None and error.got is not None:
            size = max(0, len(text) + error.expected - error.got)
            text = (text * (size // len(text) + 1))[:size]
    return read_message(wire, text, "it")


def measure(wire: Wire[Any], message: Any, seconds: float) -> list[Figure]:
    """The figures of ``wire`` for ``message``, after ``seconds`` of measuring or a little more.

    Raises `framing.EncodeError` where the wire cannot carry it, and `framing.DecodeError` where it does not take it back.
    """
    begin = time.perf_counter()
    frame = wire.encode(message)
    wire.decoder().feed(frame)
    once = time.perf_counter() - begin
    count = min(MOST_MESSAGES, STREAM_BYTES // len(frame), int(seconds / TURNS / once))
    count = max(count, LEAST_MESSAGES)
    payload = wire.payload(message)
    cases = {"encode": _encoding(wire, message, payload, count)}
    for name, size in CHUNKS.items():
        cases[f"decode, {name}"] = _decoding(wire, frame, payload, count, size)
    return _figures(_interleaved(cases, count, seconds))


Contenders = dict[str, "Callable[[], object]"]
"""By name: the wire, then what it is held against."""


def _alone(wire: Wire[Any]) -> tuple[str, Callable[[list[Any]], object], Callable[[list[bytes]], object]] | None:
    """What a batch goes through besides the framer, both ways, and what it is called; None where that is nothing."""
    codec, layers, most = wire.codec, wire.layers, wire.framer.max_frame
    if isinstance(codec, Raw) and not layers:
        return None

    def encode(messages: list[Any]) -> object:
        payloads = codec.encode_many(messages)
        for layer in reversed(layers):
            payloads = [layer.encode(payload) for payload in payloads]
        return payloads

    def decode(payloads: list[bytes]) -> object:
        for layer in layers:
            payloads = [layer.decode(payload, most) for payload in payloads]
        return codec.decode_many(payloads)

    return "layers and codec" if layers else "codec", encode, decode


def _library(wire: Wire[Any]) -> tuple[str, Callable[[Any], bytes], Callable[[bytes], Any]] | None:
    """The library under the wire's codec, by name, and how it writes and reads; None where there is none, or are layers."""
    codec: Any = wire.codec
    if wire.layers or type(codec) not in (JSON, MessagePack, CBOR):
        return None
    if isinstance(codec, CBOR):
        import cbor2  # noqa: PLC0415 # one of the three is needed

        return LIBRARIES[0], cbor2.dumps, cbor2.loads
    import msgspec  # noqa: PLC0415 # as above

    tools: Any = msgspec.json if isinstance(codec, JSON) else msgspec.msgpack
    return LIBRARIES[1], tools.Encoder().encode, tools.Decoder(codec.type).decode


def _besides(wire: Wire[Any], given: list[Any], *, encode: bool) -> Contenders:
    """Who is held against the wire besides the floor: they get all of ``given``, messages or payloads."""
    made: Contenders = {}
    if (library := _library(wire)) is not None:
        name, write, read = library
        single: Callable[[Any], object] = write if encode else read
        made[name] = lambda: list(map(single, given))
    if (alone := _alone(wire)) is not None:
        name, write_many, read_many = alone
        batch: Callable[[list[Any]], object] = write_many if encode else read_many
        made[name] = lambda: batch(given)
    return made


def _encoding(wire: Wire[Any], message: Any, payload: bytes, count: int) -> Contenders:
    messages, payloads = [message] * count, [payload] * count
    made: Contenders = {WIRE: lambda: wire.encode_many(messages), FLOOR: lambda: b"".join(payloads)}
    return made | _besides(wire, messages, encode=True)


def _decoding(wire: Wire[Any], frame: bytes, payload: bytes, count: int, size: int) -> Contenders:
    stream = frame * count
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    width = min(len(payload), len(frame))
    code = f"{width}s{len(frame) - width}x"
    each = max(1, size // len(frame))
    sizes = [each] * (count // each) + [count % each] * (count % each > 0)
    structs = {batch: struct.Struct(code * batch) for batch in set(sizes)}
    batches = [(structs[batch].unpack_from, each * len(frame) * index) for index, batch in enumerate(sizes)]

    def make() -> None:
        for objects, at in batches:
            objects(stream, at)

    made: Contenders = {WIRE: lambda: deque(map(wire.decoder().feed, chunks), maxlen=0), FLOOR: make}
    return made | _besides(wire, [payload] * count, encode=False)


def _interleaved(cases: Mapping[str, Contenders], count: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    samples: dict[str, dict[str, list[float]]] = {what: {name: [] for name in case} for what, case in cases.items()}
    for case in cases.values():
        for contender in case.values():
            contender()
    until = time.perf_counter() + seconds
    rounds = 0
    while rounds < ROUNDS or time.perf_counter() < until:
        for what, case in cases.items():
            for name, contender in case.items():
                begin = time.process_time_ns()
                contender()
                samples[what][name].append((time.process_time_ns() - begin) / count)
        rounds += 1
    return samples


def _figures(samples: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Figure]:
    """The wire's ratio is the median of the rounds' ratios: what disturbed a round has disturbed all of it."""
    found: list[Figure] = []
    for what, case in samples.items():
        bare = [name for name in case if name != WIRE][:2]  # the floor, and what stands first behind it
        least = [sum(parts) for parts in zip(*(case[name] for name in bare), strict=True)]
        ratios = [ours / alone if alone else float("inf") for ours, alone in zip(case[WIRE], least, strict=True)]
        for name, values in case.items():
            found.append(
                Figure(what, name, statistics.median(values), statistics.median(ratios) if name == WIRE else None)
            )
    return found


@click.command()
@click.argument("wire", callback=read_wire, metavar="SPEC")
@click.option(
    "--message",
    "text",
    metavar="MESSAGE",
    help="JSON where the wire has a codec for objects, else plain text. Without it, a small one is made up.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600),
    callback=read_seconds,
    default=3.0,
    show_default=True,
    metavar="S",
    help="How long to measure.",
)
def bench(wire: Wire[Any], text: str | None, seconds: float) -> None:
    """Measure what the wire SPEC costs for one message: encoded and decoded, beside the least that it could cost."""
    message = sample_message(wire) if text is None else read_message(wire, text, "--message")
    try:
        size = len(wire.encode(message))
    except EncodeError as error:
        if text is None:
            raise click.UsageError(
                f"give one of your messages with --message: the wire {wire} cannot carry the one that is made up: {error}"
            ) from error
        raise click.UsageError(f"--message: the wire {wire} cannot carry it: {error}") from error
    show(Console(file=sys.stdout, highlight=False), measure(wire, message, seconds), str(wire), size)


def show(console: Console, figures: Sequence[Figure], wire: str, size: int) -> None:
    """Print the table, and what was measured with what."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    for title in ("ns a message", "messages/s", "MB/s", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for figure in figures:
        if figure.name == WIRE:
            if table.row_count:
                table.add_row()
            name, style = Styled(figure.what), "bold"
        else:
            article = "" if figure.name in LIBRARIES else "the "
            name, style = Styled(f"  {article}{figure.name} alone"), "dim"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        rate = 1e9 / figure.ns if figure.ns else float("inf")
        speed = f"{rate * size / 1e6:,.0f}" if figure.name == WIRE else ""
        table.add_row(name, f"{figure.ns:,.0f}", f"{rate:,.0f}", speed, ratio, style=style)
    console.print()
    console.print(Styled.assemble((f"Wire {wire}", "bold"), f", a message that is {size} bytes on the wire."))
    console.print()
    console.print(table)
    kernels = "compiled kernels" if package.compiled else "plain Python kernels"
    console.print()
    console.print(
        Styled(
            f"ratio: to the first two below it, together; the floor is making the bytes objects. CPU time, medians. "
            f"framing {package.__version__}, {kernels}, {platform.python_implementation()} {platform.python_version()}.",
            "dim",
        )
    )
    console.print()
