"""End to end over loopback: servers in processes of their own, one load generator for all."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.builds import COMPILED, PLAIN, builds
from benchmarks.fleet import on_core, running
from benchmarks.native import build
from benchmarks.results import Benchmark, Goal, Result, Settings
from benchmarks.streams import payloads
from benchmarks.timing import Samples, paired

__all__ = ["BENCHMARKS"]

PAYLOAD = 64
FRAME = PAYLOAD + 4
KINDS = {"selector": "selector", "asyncio": "asyncio", "uvloop": "uvloop", "threads": "threads"}
PEERS = {
    "raw sockets, selectors: no framing, the ceiling": "raw-selectors",
    "Rust tokio-util, frame by frame": "tokio-each",
    "Rust tokio-util, flushing when idle": "tokio-idle",
    "Erlang {packet, 4}": "erlang",
    "Twisted": "twisted",
    "asyncio streams": "asyncio-streams",
    "asyncio streams on uvloop": "uvloop-streams",
    "easynetwork": "easynetwork",
}


def _own(kinds: dict[str, str]) -> dict[str, tuple[str, bool]]:
    """Our servers: on each driver, compiled where that is built, and in plain Python."""
    names = {}
    for kind, server in kinds.items():
        if builds()[0].compiled:
            names[f"{COMPILED}, {kind}"] = (f"framing-{server}", False)
        names[f"{PLAIN}, {kind}"] = (f"framing-{server}", True)
    return names


def _echo(settings: Settings) -> Iterator[Result]:
    """CPU time of the server's process (all its threads, the kernel's part included) for a message received and sent
    back, over TCP on loopback. The load generator is compiled, the same for all, on a core of its own; it keeps a
    window of frames in flight and compares every byte that comes back. The messages a second beside it are by the
    wall clock. What is held against the target is CPU time: what else runs on the machine takes wall-clock time
    from one server and not from the next. Unfair would be: to let a server use more cores than the others (tokio
    and Erlang run with one scheduler), to leave Nagle's algorithm on, or to write a peer's echo in another way than
    its documentation. tokio-util is there twice: `send`, which flushes each frame, is what its documentation shows;
    flushing when no whole frame is left is what its experts write. The raw sockets know no frames: they only give
    bytes back.
    """
    native = build()
    if isinstance(native, str):
        yield Result(title="echo server, pipelined 64 B frames", unit="", samples={}, skipped={"all": native})
        return
    frames = [len(payload).to_bytes(4, "big") + payload for payload in payloads(PAYLOAD, PAYLOAD, 1024)]
    pattern = b"".join(frames)
    wanted = {**_own(KINDS), **{name: (server, False) for name, server in PEERS.items()}}
    seconds = 0.02 if settings.quick else 0.25
    with running(wanted, may_build=not settings.quick) as (servers, skipped):
        for connections, window in ((1, 960), (64, 32)):
            cpu: Samples = {name: [] for name in servers}
            wall: Samples = {name: [] for name in servers}
            order = list(servers.items())
            for number in range(settings.rounds + 1):
                for name, server in order:
                    descriptors = server.connect(connections)
                    before = server.cpu_ns()
                    with on_core(0):
                        echoed, took = native.flood(descriptors, pattern, FRAME, window * FRAME, seconds)
                    if number or settings.quick:  # the first round warms up
                        cpu[name].append((server.cpu_ns() - before) / echoed)
                        wall[name].append(took / echoed)
                order.reverse()
                if settings.quick:
                    break
            rates = {name: f"{1e9 / statistics.median(values):,.0f}" for name, values in wall.items()}
            many = f"{connections} connection{'s' * (connections > 1)}, {window} frames in flight{' each' * (connections > 1)}"
            yield Result(
                title=f"echo server over loopback, 64 B frames, {many}",
                unit="ns of the server's CPU time a message",
                samples=cpu,
                goals=list(_echo_goals(cpu, connections)),
                skipped=skipped,
                also=("messages/s", rates),
            )


def _echo_goals(cpu: Samples, connections: int) -> Iterator[Goal]:
    for kind in ("selector", "asyncio"):
        case = f"echo server over loopback, pipelined 64 B frames: {kind}, {connections} connection{'s' * (connections > 1)}"
        for build_name, peer, bound, text in (
            (COMPILED, "Twisted", 5, "Twisted"),
            (PLAIN, "Twisted", 2, "Twisted"),
            (COMPILED, "asyncio streams", 15, "asyncio streams"),
            (COMPILED, "Rust tokio-util, frame by frame", 1, "Rust tokio-util, frame by frame"),
            (COMPILED, "Rust tokio-util, flushing when idle", 0.7, "Rust tokio-util, flushing when idle"),
        ):
            ours = f"{build_name}, {kind}"
            if ours in cpu and peer in cpu:
                reached = paired(cpu[peer], cpu[ours])
                yield Goal(case, build_name, f"≥ {bound:g} × {text}", bound, reached, at_most=False)


# --------------------------------------------------------------------------------------- round trip

LOOPS = {"blocking": "connection", "selectors": "selector", "asyncio": "asyncio"}
RAW = {f"raw sockets, {kind}": f"raw-{kind}" for kind in LOOPS}


def _round_trip(settings: Settings) -> Iterator[Result]:
    """The median time from sending one frame to having it back, one in flight, a compiled client for all. Both ends
    are on one core, so that the time is the work of both and not that of waking up another core. The raw loops do
    the same system calls without knowing frames: `recv` and `sendall` in a thread; `selectors`; an asyncio
    BufferedProtocol. Unfair would be: a raw loop without an event loop beside a driver with one; so each driver has
    its own.
    """
    native = build()
    if isinstance(native, str):
        yield Result(title="echo round trip", unit="", samples={}, skipped={"all": native})
        return
    payload = payloads(PAYLOAD, PAYLOAD, 1)[0]
    frame = len(payload).to_bytes(4, "big") + payload
    wanted = {**{name: (server, False) for name, server in RAW.items()}, **_own(LOOPS)}
    wanted |= _own({"blocking, a server's thread": "threads"})
    wanted["asyncio streams"] = ("asyncio-streams", False)
    wanted["Twisted"] = ("twisted", False)
    count = settings.scaled(2_000, 20)
    samples: Samples = {}
    with running(wanted, may_build=False) as (servers, skipped):
        order = list(servers.items())
        for _ in range(settings.rounds):
            for name, server in order:
                descriptor = server.connect(1)[0]
                with on_core(-1):  # the servers' core
                    times = native.ping(descriptor, frame, count)
                samples.setdefault(name, []).append(statistics.median(times) / 1000)
            order.reverse()
    goals = []
    for kind in LOOPS:
        for build_name, bound in ((COMPILED, 1.15), (PLAIN, 1.3)):
            ours = f"{build_name}, {kind}"
            if ours in samples:
                reached = paired(samples[ours], samples[f"raw sockets, {kind}"])
                text = f"≤ {bound:g} × a raw-socket loop of the same kind"
                goals.append(Goal(f"echo round trip, p50: {kind}", build_name, text, bound, reached, at_most=True))
    yield Result(
        title="echo round trip of a 64 B frame, p50, both ends on one core",
        unit="µs",
        samples={name: samples[name] for name in wanted if name in samples},
        goals=goals,
        skipped=skipped,
    )


BENCHMARKS = [
    Benchmark(name="echo", run=_echo),
    Benchmark(name="round-trip", run=_round_trip),
]
