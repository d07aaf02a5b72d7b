"""``framing demo``: the problem and the cure, beside each other, on real sockets.

    client ── frames ──▶ relay ──┬─ the same pieces ─▶ a naive loop: recv(1024)
                                 └─ the same pieces ─▶ a server with a wire

The relay takes the client's stream and passes it on in pieces of random sizes, as networks do. It sends the next piece
when the naive loop has read the last one, so that a seed shows the same cuts each time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table
from rich.text import Text as Styled

from framing.cli.parameters import read_wire
from framing.cli.screen import Console
from framing.codecs import Raw, Text
from framing.drivers import blocking
from framing.errors import EncodeError
from framing.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from framing.drivers.service import Peer

__all__ = ["Result", "conversation", "demo"]

SECONDS = 10.0
"""No socket of the demo waits longer for another one."""

ROWS = 40
"""The most reads that are shown."""

COLOURS = ("cyan", "yellow")
"""Neighbouring frames are coloured by turns, so that a glance shows where one ends."""


@dataclass(frozen=True, slots=True)
class Result:
    """What happened: the messages sent, their frames' sizes, the naive loop's reads, and what the wire delivered."""

    sent: list[Any]
    sizes: list[int]
    chunks: list[bytes]
    received: list[Any]

    @property
    def right(self) -> bool:
        """Whether every message came out of the wire, once, in order and equal."""
        return self.sent == self.received

    @property
    def lucky(self) -> int:
        """How many of the naive loop's reads were exactly one message."""
        return sum(kind == "one message" for kind, _, _ in self.reads())

    def reads(self) -> Iterator[tuple[str, list[tuple[int, bytes]], int]]:
        """For each read: what kind it was, its bytes by the frame that they belong to, and how many frames it completed."""
        ends = list(itertools.accumulate(self.sizes))
        frame = at = 0
        for chunk in self.chunks:
            parts: list[tuple[int, bytes]] = []
            before, whole, cut, begin = frame, 0, 0, 0
            while begin < len(chunk):
                fresh = at + begin == ends[frame] - self.sizes[frame]
                end = min(len(chunk), ends[frame] - at)
                parts.append((frame, chunk[begin:end]))
                if at + end == ends[frame]:
                    whole, cut = whole + fresh, cut + (not fresh)
                    frame += 1
                else:
                    cut += 1
                begin = end
            at += len(chunk)
            yield _kind(whole, cut), parts, frame - before


def _kind(whole: int, cut: int) -> str:
    """What a read is that holds so many whole frames, and so many that it has only a part of."""
    if whole + cut == 1:
        return "cut" if cut else "one message"
    return f"{whole + cut} glued, cut" if cut else f"{whole} glued"


class _Collect:
    """The service: keeps what comes."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.ended = threading.Event()

    def received(self, peer: Peer[Any], message: Any) -> None:  # noqa: ARG002 # there is one peer
        self.messages.append(message)

    def closed(self, peer: Peer[Any], error: Exception | None) -> None:  # noqa: ARG002 # what is missing shows it
        self.ended.set()


class _NaiveLoop:
    """What one writes first: each recv(1024) is taken for one message."""

    def __init__(self, sock: socket.socket) -> None:
        self.chunks: list[bytes] = []
        self._sock = sock
        self._has_read = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._loop, name="framing demo naive loop", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        with self._sock as sock:
            while chunk := sock.recv(1024):
                self.chunks.append(chunk)
                self._has_read.release()

    def wait(self) -> None:
        """Until one more read has returned."""
        self._has_read.acquire(timeout=SECONDS)

    def end(self) -> None:
        self._thread.join(SECONDS)


def _pieces(sizes: Sequence[int], chance: random.Random, stream: bytes) -> Iterator[bytes]:
    """Cut the stream at random: inside frames, or, as happens too, behind one or several of them."""
    ends = list(itertools.accumulate(sizes))
    at = 0
    while at < len(stream):
        low, high = chance.choice(((1, 8), (12, 48), (40, 100)))
        end = at + chance.randint(low, high)
        if chance.random() < 0.3:
            end = next((boundary for boundary in ends if boundary >= end), end)
        yield stream[at:end]
        at = end


def _relay(
    listener: socket.socket,
    targets: Sequence[socket.socket],
    naive: _NaiveLoop,
    cut: Callable[[bytes], Iterator[bytes]],
) -> None:
    # Ctrl-C closes the sockets under it; and whatever else may go wrong shows in what does not arrive.
    with contextlib.suppress(OSError):
        source, _ = listener.accept()
        with source:
            source.settimeout(SECONDS)
            stream = b"".join(iter(lambda: source.recv(1 << 16), b""))
        for piece in cut(stream):
            for target in targets:
                target.sendall(piece)
            naive.wait()
        for target in targets:
            target.shutdown(socket.SHUT_WR)


def _sample(count: int) -> list[Any]:
    """Dicts and lists such as programs send."""
    users = ("alice", "bob", "zoë", "李雷")
    made: list[Any] = []
    for index in range(count):
        user = users[index // 4 % len(users)]
        made.append(
            (
                {"op": "login", "user": user},
                [index, index + 1, [True, None]],
                {"op": "sum", "args": [index, 2.5, -1]},
                {"user": user, "tags": ["new", "vip"], "id": 1000 + index},
            )[index % 4]
        )
    return made


def messages_for(wire: Wire[Any], count: int) -> list[Any]:
    """The sample in what the wire carries: as it is, or as JSON text where the wire has no codec for objects."""
    sample = _sample(count)
    if isinstance(wire.codec, (Raw, Text)):
        texts = [json.dumps(message, ensure_ascii=False) for message in sample]
        return [text.encode() for text in texts] if isinstance(wire.codec, Raw) else list(texts)
    return sample


def conversation(wire: Wire[Any], messages: list[Any], seed: int) -> Result:
    """Send ``messages`` through the relay, and tell what both receivers got. Raises `framing.EncodeError`."""
    sizes = [len(wire.encode(message)) for message in messages]
    chance = random.Random(seed)  # noqa: S311 # cuts a demonstration's stream
    collect = _Collect()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(blocking.Server(("127.0.0.1", 0), wire, collect))
        naive_listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        relay_listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        to_naive = stack.enter_context(socket.create_connection(naive_listener.getsockname(), SECONDS))
        to_wire = stack.enter_context(socket.create_connection((server.address.host, server.address.port), SECONDS))
        for target in (to_naive, to_wire):
            target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        naive = _NaiveLoop(naive_listener.accept()[0])
        relay = threading.Thread(
            target=_relay,
            args=(relay_listener, (to_naive, to_wire), naive, partial(_pieces, sizes, chance)),
            name="framing demo relay",
            daemon=True,
        )
        relay.start()
        with blocking.connect(relay_listener.getsockname(), wire, timeout=SECONDS) as client:
            client.send_many(messages)
            client.close_sending()
            relay.join(SECONDS)
        naive.end()
        collect.ended.wait(SECONDS)
    return Result(messages, sizes, naive.chunks, collect.messages)


@click.command()
@click.option("--wire", callback=read_wire, default="u32+json", show_default=True, metavar="SPEC", help="The wire.")
@click.option(
    "--messages",
    "count",
    type=click.IntRange(1, 1000),
    default=12,
    show_default=True,
    metavar="N",
    help="How many messages to send.",
)
@click.option("--seed", type=int, metavar="S", help="Cut as in an earlier run; the seed is shown.")
def demo(wire: Wire[Any], count: int, seed: int | None) -> int:
    """Send dicts and lists over TCP connections that cut and glue the stream, and show what arrives.

    On the left what a loop around recv(1024) sees; on the right what comes out of the wire.
    """
    if seed is None:
        seed = random.SystemRandom().randrange(10_000)
    messages = messages_for(wire, count)
    try:
        result = conversation(wire, messages, seed)
    except EncodeError as error:
        raise click.UsageError(f"the wire {wire} cannot carry the demo's messages: {error}") from error
    show(Console(file=sys.stdout, highlight=False), result, str(wire), seed)
    return 0 if result.right else 1


def show(console: Console, result: Result, wire: str, seed: int) -> None:
    """Print the table and the verdict."""
    wide = console.width >= 100
    plain = console.options.ascii_only
    good, bad = ("ok", "WRONG") if plain else ("✓", "✗")
    console.print()
    console.print(
        Styled.assemble(
            (f"{len(result.sent)} messages", "bold"),
            f", {sum(result.sizes)} bytes, one TCP stream, cut and glued on its way. ",
            (f"Wire {wire}, seed {seed}.", "dim"),
        )
    )
    console.print()
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("read", justify="right", style="dim", no_wrap=True)
    table.add_column("a naive recv(1024) loop saw", ratio=12, overflow="fold")
    table.add_column("that is", no_wrap=True)
    table.add_column("the wire delivered", ratio=12, overflow="fold")
    delivered = iter(enumerate(result.received))
    for number, (kind, parts, completed) in enumerate(result.reads(), 1):
        arrived = list(itertools.islice(delivered, completed))
        if number > ROWS:
            continue
        raw = Styled()
        for frame, data in parts:
            raw.append(_printable(data), COLOURS[frame % 2])
        out = Table.grid(padding=(0, 1, 0, 0))
        out.add_column(no_wrap=True)
        out.add_column(overflow="fold")
        for index, message in arrived:
            right = index < len(result.sent) and message == result.sent[index]
            mark = Styled(good if right else bad, "green" if right else "bold red")
            out.add_row(mark, Styled(_readable(message, wide=wide), COLOURS[index % 2]))
        lucky = kind == "one message"
        table.add_row(str(number), raw, Styled(kind, "green" if lucky else "red"), out)
    console.print(table)
    if len(result.chunks) > ROWS:
        console.print(Styled(f"and {len(result.chunks) - ROWS} more reads", "dim"))
    console.print()
    reads, whole = len(result.chunks), result.lucky
    matches = sum(one == other for one, other in zip(result.sent, result.received, strict=False))
    console.print(
        Styled.assemble(
            (f"{bad} the naive loop  ", "bold red"),
            f"{reads} reads, {whole} of them exactly one message.",
        )
        if whole < reads or reads != len(result.sent)
        else Styled.assemble((f"{good} the naive loop  ", "bold green"), f"{reads} reads: lucky, this time.")
    )
    console.print(
        Styled.assemble(
            (f"{good if result.right else bad} the wire        ", "bold green" if result.right else "bold red"),
            f"{matches} of {len(result.sent)} messages, in order, equal to what was sent."
            if result.right
            else f"{matches} of {len(result.sent)} messages are equal to what was sent; {len(result.received)} came.",
        )
    )
    console.print()


def _printable(data: bytes) -> str:
    return repr(data)[2:-1]


def _readable(message: Any, *, wide: bool) -> str:
    if isinstance(message, bytes):
        return _printable(message)
    separators = (", ", ": ") if wide else (", ", ":")
    return json.dumps(message, ensure_ascii=False, default=repr, separators=separators)
