"""Load: many members of one room, and how long after it was sent a post is at each of them; with slow readers, and without.

    figures = measure(directory, Shape(seconds=60))
    assert not figures.wrong, figures

The server is ``framing-chat serve`` on a file; the members are in processes of their own (`listeners`), the slow readers in
another one (`sluggards`), and so are those who come and go at the end (`visitors`). Everything that was acknowledged must
come, to every member, in order; how fast is told, and not judged.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.protocols.chat.serving import Serving, kept, sessions_kept
from tests.protocols.echo.processes import started
from tests.soak.samples import Sample, sample

__all__ = ["Figures", "Part", "Shape", "Visits", "as_dict", "measure", "table"]

EVERY = 0.2
"""Seconds between two looks at the server's process."""

SETTLED_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is done. ``rate``: posts a second, of all members together, of ``size`` characters; ``processes``: the members'."""

    driver: str = "selector"
    seconds: float = 60.0
    members: int = 200
    rate: float = 300.0
    size: int = 64
    processes: int = 2
    never: int = 1
    drip: int = 50
    visits: int = 10_000


@dataclass(slots=True)
class Part:
    """What one part came to: latencies in seconds, memory in bytes, both processors' shares of the posts' time."""

    posts: int = 0
    deliveries: int = 0
    delivery: dict[str, float] = field(default_factory=dict[str, float])
    acknowledgement: dict[str, float] = field(default_factory=dict[str, float])
    lags: int = 0
    """How often a member that reads was told that it does not read as fast as is spoken."""
    server_cpu: float = 0.0
    clients_cpu: float = 0.0
    memory_before: int = 0
    """… of the server, when all had joined and nothing had been said."""
    memory_most: int = 0
    machine_load: float = 0.0
    """How many processes wanted to run at its end, over a minute: above the number of cores, latencies are the machine's."""
    slow_closed: int = 0
    slow_read: int = 0
    """Bytes that they have read while others spoke."""
    slow_lagged: list[int] = field(default_factory=list[int])
    """How often each of them was told that it lags; where it was closed, the word may have been among what it never read."""
    slow_counts: list[int] = field(default_factory=list[int])
    """How many posts each of them has got when, at last, it read."""


@dataclass(slots=True)
class Visits:
    """What those who came and went have left. The first tenth of them is not judged: some things are opened once, for good."""

    made: int = 0
    seconds: float = 0.0
    memory: tuple[int, int, int] = (0, 0, 0)
    """Of the server: behind a tenth of them, behind half of the others, and behind all."""
    descriptors: tuple[int, int] = (0, 0)
    """Behind a tenth, and behind all."""
    threads: tuple[int, int] = (0, 0)
    sessions: int = 0


@dataclass(slots=True)
class Figures:
    """All of it, for one driver."""

    shape: Shape
    alone: Part = field(default_factory=Part)
    """Nobody else is there."""
    among: Part = field(default_factory=Part)
    """The same among as many more as there will be slow readers, who say nothing, and read: what so many cost anyway."""
    beside: Part = field(default_factory=Part)
    """The same beside slow readers."""
    visits: Visits = field(default_factory=Visits)
    wrong: list[str] = field(default_factory=list[str])

    @property
    def p99_ratios(self) -> tuple[float, float]:
        """How the 99th percentile beside slow readers is to that of members alone, and to that among as many who read."""
        slow, alone, among = (part.delivery.get("p99", 0.0) for part in (self.beside, self.alone, self.among))
        return slow / (alone or float("inf")), slow / (among or float("inf"))


def measure(place: Path, shape: Shape) -> Figures:
    """Measure one driver: members alone, among readers, beside slow ones, and who comes and goes; a server for each."""
    figures = Figures(shape)
    with _serving(place, "alone", figures) as server:
        _talk(server, figures, figures.alone)
    with _serving(place, "among", figures) as server:
        _talk(server, figures, figures.among, readers=shape.never + shape.drip)
    with _serving(place, "beside", figures) as server:
        _talk(server, figures, figures.beside, slow=True)
        _weigh(figures)
    with _serving(place, "visits", figures) as server:
        _visit(server, figures)
    return figures


@contextmanager
def _serving(place: Path, name: str, figures: Figures) -> Iterator[Serving]:
    with Serving(place / f"{figures.shape.driver}-{name}.db", driver=figures.shape.driver) as server:
        yield server
        status = server.stop()
        if status or server.said:
            figures.wrong.append(f"{name}: the server ended with status {status} and said: {server.said[-500:]}")


# ------------------------------------------------------------------------------------------------ talking


def _talk(server: Serving, figures: Figures, part: Part, *, readers: int = 0, slow: bool = False) -> None:
    """One part: ``readers`` more only listen, and ``slow`` ones do not even that."""
    shape = figures.shape
    with ExitStack() as stack:
        each = [len(range(number, shape.members, shape.processes)) for number in range(shape.processes)]
        listeners = [
            stack.enter_context(
                _child("listeners", server.address, "--first", str(sum(each[:number])), "--count", str(count))
            )
            for number, count in enumerate([*each, readers] if readers else each)
        ]
        for listener in listeners:
            _expect(listener, "ready")
        speakers = listeners[: len(each)]
        sluggards = None
        if slow:
            sluggards = stack.enter_context(
                _child("sluggards", server.address, "--never", str(shape.never), "--drip", str(shape.drip))
            )
            _expect(sluggards, "ready")
        part.memory_before = sample(server.pid).memory
        before = _cpu(server.pid)
        with _watched(server.pid) as samples:
            began = time.monotonic()
            for speaker in speakers:
                _tell(speaker, f"{shape.seconds} {shape.rate / shape.members} {shape.size}")
            part.posts = sum(int(_hear(speaker)) for speaker in speakers)
            seconds = time.monotonic() - began
            part.machine_load = os.getloadavg()[0]
            part.server_cpu = (_cpu(server.pid) - before) / seconds
            for listener in listeners:
                _tell(listener, str(part.posts))
            told = [json.loads(_hear(listener)) for listener in listeners]
        part.memory_most = max(one.memory for one in samples)
        if sluggards is not None:
            _tell(sluggards, str(part.posts))
            slow_told = json.loads(_hear(sluggards))
            part.slow_closed, part.slow_read = slow_told["closed"], slow_told["read"]
            part.slow_lagged, part.slow_counts = slow_told["lagged"], slow_told["counts"]
            if slow_told["gaps"] or set(part.slow_counts) != {part.posts}:
                figures.wrong.append(
                    f"slow readers: of {part.posts} posts {min(part.slow_counts)} to {max(part.slow_counts)} came to each "
                    f"when they read, with {slow_told['gaps']} gaps: {'; '.join(slow_told['short'][:5])}"
                )
    part.clients_cpu = sum(one["cpu"] for one in told) / seconds
    # Of those who are in every part.
    part.delivery = _percentiles([one["delivery"] for one in told[: len(each)]])
    part.acknowledgement = _percentiles([one["acknowledgement"] for one in told[: len(each)]])
    part.lags = sum(one["lags"] for one in told)
    counts = [count for one in told for count in one["counts"]]
    part.deliveries = sum(counts)
    name = "beside slow readers" if slow else f"among {readers} readers" if readers else "alone"
    if set(counts) != {part.posts}:
        figures.wrong.append(f"{name}: of {part.posts} posts {min(counts)} to {max(counts)} came to each member")
    figures.wrong += [f"{name}: {error}" for one in told for error in one["errors"]]
    stored = sum(event.kind == "say" for events in kept(server.database).values() for event in events)
    if stored != part.posts:
        figures.wrong.append(f"{name}: {part.posts} posts were acknowledged, and {stored} are stored")


def _weigh(figures: Figures) -> None:
    """Whether those who do not read have cost more than their queues."""
    queues = (figures.shape.never + figures.shape.drip) * QUEUE
    grown = figures.beside.memory_most - figures.beside.memory_before
    alone = figures.alone.memory_most - figures.alone.memory_before
    if grown > alone + queues + ROOM_TO_BREATHE:
        figures.wrong.append(
            f"beside slow readers memory grew by {grown} bytes, alone by {alone}, and {queues} are the slow readers' queues"
        )


QUEUE = (1 << 16) + (1 << 17)
"""Bytes that wait for one slow reader, at the most: the high-water mark, and what is added before it is looked at again."""

ROOM_TO_BREATHE = 6 << 20
"""What a server that talks to everybody else takes beside that: the database's cache, the allocator's reserves."""


def _percentiles(spreads: list[list[float]]) -> dict[str, float]:
    """Of all processes together: each has told as many points of its own, and measured about as much."""
    points = sorted(point for spread in spreads for point in spread)
    if not points:
        return {}
    return {
        f"p{percent}": points[min(int(len(points) * percent / 100), len(points) - 1)] for percent in (50, 90, 99, 99.9)
    }


# ------------------------------------------------------------------------------------------------ coming and going


def _visit(server: Serving, figures: Figures) -> None:
    visits = figures.visits
    wanted = figures.shape.visits
    first = max(wanted // 10, 1)
    half = (wanted - first) // 2
    began = time.monotonic()
    behind: list[Sample] = []
    for count in (first, half, wanted - first - half):
        with _child("visitors", server.address, "--count", str(count)) as child:
            visits.made += int(_hear(child))
        behind.append(_settled(server, behind[0] if behind else None))
    visits.seconds = time.monotonic() - began
    before, middle, after = behind
    visits.memory = before.memory, middle.memory, after.memory
    visits.descriptors = before.descriptors, after.descriptors
    visits.threads = before.threads, after.threads
    visits.sessions = sessions_kept(server.database)
    if visits.sessions or after.descriptors > before.descriptors or after.threads > before.threads:
        figures.wrong.append(f"{wanted} visits have left something behind: {visits}")
    if visits.made != wanted:
        figures.wrong.append(f"of {wanted} visits {visits.made} were made")
    if visits.memory[2] > visits.memory[1] + GROWTH:
        figures.wrong.append(
            f"memory has grown from {visits.memory[1]} to {visits.memory[2]} over the same visits again"
        )


def _settled(server: Serving, before: Sample | None) -> Sample:
    """The server as it is when the last of them has gone for it too, or as it is behind a while."""
    end = time.monotonic() + SETTLED_SECONDS
    while True:
        now = sample(server.pid)
        if before is None:
            busy = now.descriptors > EMPTY_DESCRIPTORS
        else:
            busy = now.descriptors > before.descriptors or now.threads > before.threads
        if (not busy and not sessions_kept(server.database)) or time.monotonic() > end:
            return now
        time.sleep(0.1)


EMPTY_DESCRIPTORS = 12
"""What a server has without a connection, and a few more."""

GROWTH = 2 << 20
"""Bytes by which memory may differ: the database's cache is as large."""


# ------------------------------------------------------------------------------------------------ processes


@contextmanager
def _child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"tests.protocols.chat.{module}", *arguments]
    with started(*command, stdin=subprocess.PIPE, stderr=None) as child:
        yield child
        if child.stdin is not None and not child.stdin.closed:
            child.stdin.close()
        child.wait(30)


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


def _hear(child: subprocess.Popen[str]) -> str:
    stream: IO[str] | None = child.stdout
    assert stream is not None
    line = stream.readline()
    assert line, f"{child.args} has ended with status {child.wait(10)}"
    return line


def _expect(child: subprocess.Popen[str], word: str) -> None:
    line = _hear(child).strip()
    assert line == word, f"{child.args} said {line!r}"


def _cpu(pid: int) -> float:
    """The processor's seconds that a process has used."""
    fields = Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _watched(pid: int) -> Iterator[list[Sample]]:
    samples = [sample(pid)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            samples.append(sample(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


# ------------------------------------------------------------------------------------------------ telling


def as_dict(figures: Figures) -> dict[str, Any]:
    """All of it, in what JSON has words for."""
    return {**asdict(figures), "p99_ratios": figures.p99_ratios, "right": not figures.wrong}


def table(all_: list[Figures]) -> str:
    """What is told of all drivers, in Markdown."""
    cells = [
        [
            "server",
            "machine's load",
            "others",
            "posts",
            "deliveries",
            "p50, ms",
            "p99, ms",
            "p99.9, ms",
            "acknowledged p50, p99, ms",
            "server's, clients' cores",
            "server's memory, MB: before, most",
            "p99 to that alone, among readers",
            "slow ones lagged, closed",
            "right",
        ],
    ]
    for figures in all_:
        shape = figures.shape
        more = shape.never + shape.drip
        for part, others in (
            (figures.alone, "none"),
            (figures.among, f"{more} read"),
            (figures.beside, f"{more} slow"),
        ):
            cells.append(
                [
                    shape.driver,
                    f"{part.machine_load:.1f}",
                    others,
                    f"{part.posts:,}",
                    f"{part.deliveries:,}",
                    _ms(part.delivery, 50),
                    _ms(part.delivery, 99),
                    _ms(part.delivery, 99.9),
                    f"{_ms(part.acknowledgement, 50)}, {_ms(part.acknowledgement, 99)}",
                    f"{part.server_cpu:.2f}, {part.clients_cpu:.2f}",
                    f"{part.memory_before / 1e6:.1f}, {part.memory_most / 1e6:.1f}",
                    "{:.2f}, {:.2f}".format(*figures.p99_ratios) if part is figures.beside else "",
                    f"{sum(map(bool, part.slow_lagged))}, {part.slow_closed}" if part is figures.beside else "",
                    "yes" if not figures.wrong else "NO",
                ]
            )
    lines = _markdown(cells)
    cells = [
        ["server", "visits", "seconds", "memory, MB: a tenth, half, all", "descriptors", "threads", "sessions left"]
    ]
    for figures in all_:
        visits = figures.visits
        cells.append(
            [
                figures.shape.driver,
                f"{visits.made:,}",
                f"{visits.seconds:.0f}",
                ", ".join(f"{memory / 1e6:.1f}" for memory in visits.memory),
                f"{visits.descriptors[0]}, {visits.descriptors[1]}",
                f"{visits.threads[0]}, {visits.threads[1]}",
                str(visits.sessions),
            ]
        )
    lines += ["", *_markdown(cells)]
    return "\n".join([*lines, *(f"{figures.shape.driver}: {wrong}" for figures in all_ for wrong in figures.wrong)])


def _ms(latencies: dict[str, float], percent: float) -> str:
    return f"{latencies.get(f'p{percent}', 0.0) * 1e3:.1f}"


def _markdown(cells: list[list[str]]) -> list[str]:
    rows = [f"| {' | '.join(row)} |" for row in cells]
    return [rows[0], "|" + "---|" * len(cells[0]), *rows[1:]]
