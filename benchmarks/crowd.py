"""Many connections: what a broadcast costs, and what an idle connection holds. Each is measured in a process of its own.

``python -m benchmarks.crowd broadcast|idle KIND COUNT ROUNDS`` prints JSON; the benchmarks start it, for each
build of framing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.builds import COMPILED, PLAIN, builds
from benchmarks.fleet import ROOT
from benchmarks.results import Benchmark, Goal, Result, Settings, at_most
from benchmarks.timing import Samples

__all__ = ["BENCHMARKS"]

HOST = "127.0.0.1"
SECONDS = 60.0
"""Nothing here waits longer for anything."""

MESSAGE = {"from": "alice", "text": "hello, everybody"}
LARGE = 60_000


def _wire() -> Any:
    from framing import LengthPrefixed, MessagePack, Wire

    return Wire(LengthPrefixed(4), MessagePack())


class _Hub:
    """Collects its peers, and sends back what they say."""

    def __init__(self, expected: int) -> None:
        self.peers: list[Any] = []
        self.expected = expected
        self.complete = threading.Event()

    def opened(self, peer: Any) -> None:
        self.peers.append(peer)
        if len(self.peers) == self.expected:
            self.complete.set()

    def received(self, peer: Any, message: Any) -> None:
        peer.send(message)


def _room_for(descriptors: int) -> None:
    """Raise the soft limit of descriptors; raises OSError where the hard one is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < descriptors:
        if hard != resource.RLIM_INFINITY and hard < descriptors:
            raise OSError(f"{descriptors} descriptors are needed, and {hard} allowed (ulimit -n)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))


# ---------------------------------------------------------------------------------------- broadcast


class _Crowd:
    """The clients of both sides: of our server's peers, and of bare sockets that get the same."""

    def __init__(self, port: int, count: int) -> None:
        self.ours = [self._client((HOST, port)) for _ in range(count)]
        with socket.create_server((HOST, 0), backlog=1024) as listener:
            self.bare: list[socket.socket] = []
            self.others: list[socket.socket] = []
            for _ in range(count):
                self.others.append(self._client(listener.getsockname()))
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.bare.append(sock)

    @staticmethod
    def _client(address: tuple[str, int]) -> socket.socket:
        sock = socket.create_connection(address, SECONDS)
        sock.settimeout(SECONDS)
        return sock

    @staticmethod
    def drain(clients: list[socket.socket], frame: bytes) -> None:
        for client in clients:
            got = client.recv(1 << 16)
            while len(got) < len(frame):
                got += client.recv(1 << 16)
            assert got == frame, "not everybody got the message, whole and once"

    def bare_round(self, wire: Any) -> float:
        begin = time.thread_time_ns()
        frame = wire.encode(MESSAGE)
        for sock in self.bare:
            sock.send(frame)
        took = time.thread_time_ns() - begin
        self.drain(self.others, frame)
        return took / len(self.bare)

    def close(self) -> None:
        for sock in (*self.ours, *self.bare, *self.others):
            sock.close()


def _tell(hub: _Hub, wire: Any) -> None:
    frame = wire.encode(MESSAGE)
    for peer in hub.peers:
        peer.send_encoded(frame)


def _broadcast_selector(count: int, rounds: int) -> Samples:
    from framing.drivers import selector

    wire, hub = _wire(), _Hub(count)
    frame = wire.encode(MESSAGE)
    samples: Samples = {"ours": [], "bare": []}
    with selector.Server((HOST, 0), wire, hub) as server:
        crowd = None

        def begin() -> None:
            started = time.thread_time_ns()
            _tell(hub, wire)
            # Behind the end of this round, in which all is written.
            server.call_soon_threadsafe(lambda: end(started))

        def end(started: int) -> None:
            samples["ours"].append((time.thread_time_ns() - started) / count)
            assert crowd is not None
            crowd.drain(crowd.ours, frame)
            samples["bare"].append(crowd.bare_round(wire))
            if len(samples["ours"]) < rounds:
                server.call_soon_threadsafe(begin)
            else:
                crowd.close()
                server.stop()

        thread = threading.Thread(target=server.run)
        thread.start()
        crowd = _Crowd(server.address.port, count)
        assert hub.complete.wait(SECONDS)
        server.call_soon_threadsafe(begin)
        thread.join(SECONDS)
    return samples


def _broadcast_threads(count: int, rounds: int) -> Samples:
    from framing.drivers import blocking

    wire, hub = _wire(), _Hub(count)
    frame = wire.encode(MESSAGE)
    samples: Samples = {"ours": [], "bare": []}
    with blocking.Server((HOST, 0), wire, hub) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        crowd = _Crowd(server.address.port, count)
        assert hub.complete.wait(SECONDS)
        for _ in range(rounds):
            begin = time.thread_time_ns()
            _tell(hub, wire)
            samples["ours"].append((time.thread_time_ns() - begin) / count)
            crowd.drain(crowd.ours, frame)
            samples["bare"].append(crowd.bare_round(wire))
        crowd.close()
        server.stop()
        thread.join(SECONDS)
    return samples


def _broadcast_asyncio(count: int, rounds: int) -> Samples:
    from framing.drivers import aio

    async def run() -> Samples:
        wire, hub = _wire(), _Hub(count)
        frame = wire.encode(MESSAGE)
        samples: Samples = {"ours": [], "bare": []}
        async with aio.serve((HOST, 0), wire, hub) as server:
            crowd = await asyncio.to_thread(_Crowd, server.address.port, count)
            assert await asyncio.to_thread(hub.complete.wait, SECONDS)
            for _ in range(rounds):
                begin = time.thread_time_ns()
                _tell(hub, wire)
                await asyncio.sleep(0)  # in this turn of the loop all is written
                samples["ours"].append((time.thread_time_ns() - begin) / count)
                crowd.drain(crowd.ours, frame)
                samples["bare"].append(crowd.bare_round(wire))
            crowd.close()
        return samples

    return asyncio.run(run())


# --------------------------------------------------------------------------------- idle connections


def _clients(port: int) -> None:
    """In a process of its own: connect as many as each line of standard input says, and have each say a large thing and a
    small one.
    """
    wire = _wire()
    frame = wire.encode(MESSAGE)
    large = wire.encode(bytes(LARGE))
    kept = []
    for line in sys.stdin:
        for _ in range(int(line)):
            sock = socket.create_connection((HOST, port), SECONDS)
            sock.settimeout(SECONDS)
            for part in (large[: LARGE // 2], large[LARGE // 2 :]):
                sock.sendall(part)
            _Crowd.drain([sock], large)
            sock.sendall(frame)
            _Crowd.drain([sock], frame)
            kept.append(sock)
        print("connected", flush=True)


class _Slope:
    """Traced bytes before and after ``count`` more connections, behind the first few: what is shared does not count."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.crowd", "clients", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def more(self, count: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "connected\n", "the clients could not connect"

    def measure(self, count: int) -> float:
        self.more(20)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        self.more(count)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return (after - before) / count

    def end(self) -> None:
        self.process.communicate(timeout=SECONDS)


def _idle_bare(count: int, _: int) -> float:
    """The socket objects alone: accepted, and kept in a list."""
    kept = []
    wire = _wire()
    size = len(wire.encode(bytes(LARGE)) + wire.encode(MESSAGE))
    with socket.create_server((HOST, 0), backlog=1024) as listener:

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                left = size
                while left > 0:
                    chunk = sock.recv(1 << 16)
                    sock.sendall(chunk)
                    left -= len(chunk)
                kept.append(sock)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        slope = _Slope(listener.getsockname()[1])
        figure = slope.measure(count)
        slope.end()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)
    for sock in kept:
        sock.close()
    return figure


def _idle_selector(count: int, _: int) -> float:
    from framing.drivers import selector

    with selector.Server((HOST, 0), _wire(), _Quiet()) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        slope = _Slope(server.address.port)
        figure = slope.measure(count)
        slope.end()
        server.stop()
        thread.join(SECONDS)
    return figure


def _idle_asyncio(count: int, _: int) -> float:
    from framing.drivers import aio

    async def run() -> float:
        async with aio.serve((HOST, 0), _wire(), _Quiet()) as server:
            slope = _Slope(server.address.port)
            figure = await asyncio.to_thread(slope.measure, count)
            await asyncio.to_thread(slope.end)
        return figure

    return asyncio.run(run())


class _Quiet:
    """Answers, and keeps nothing."""

    def received(self, peer: Any, message: Any) -> None:
        peer.send(message)


JOBS: dict[str, Callable[[int, int], Any]] = {
    "broadcast selector": _broadcast_selector,
    "broadcast asyncio": _broadcast_asyncio,
    "broadcast threads": _broadcast_threads,
    "idle bare": _idle_bare,
    "idle selector": _idle_selector,
    "idle asyncio": _idle_asyncio,
}


def _job(what: str, kind: str, count: int, rounds: int, *, pure: bool) -> Any:
    """Its figures. Raises RuntimeError where it fails: it is framing itself, which nothing may pass over."""
    environment = {**os.environ, "FRAMING_PURE": "1" if pure else os.environ.get("FRAMING_PURE", "")}
    command = [sys.executable, "-m", "benchmarks.crowd", what, kind, str(count), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} has ended with status {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def _built() -> list[str]:
    return [build.name for build in builds()]


def _broadcast(settings: Settings) -> Iterator[Result]:
    """CPU time of the sending thread for one message to 1,000 TCP connections, encoded once, until all of it is
    written; beside `sock.send` of the same frame on 1,000 bare sockets of the same process, by turns. All receivers
    are read out between the turns, and each must have got the message whole and once. Unfair would be: to send to
    sockets that are full, or to stop the clock when all is queued.
    """
    count = settings.scaled(1_000, 20)
    for kind in ("selector", "asyncio", "threads"):
        samples: Samples = {}
        goals: list[Goal] = []
        for name in _built():
            figures = _job("broadcast", kind, count, settings.scaled(30, 2), pure=name == PLAIN)
            samples[name] = figures["ours"]
            bare = f"bare sends{'' if name == COMPILED else ', in the process of ' + PLAIN}"
            samples[bare] = figures["bare"]
            bounds = (1.2, None) if name == COMPILED else (None, 1.4)
            case = f"broadcast of one message to 1,000 connections: {kind}"
            goals += at_most(case, {name: samples[name], bare: samples[bare]}, bare, bounds, "the bare send calls")
        title = f"broadcast of one message to {count:,} connections, {kind}"
        yield Result(title=title, unit="ns a connection", samples=samples, goals=goals)


def _idle(settings: Settings) -> Iterator[Result]:
    """Bytes of Python objects (tracemalloc) for each of 1,000 connections, behind 20 that pay for what is shared, less
    what a bare socket object takes. Each connection has sent a message of 60,000 bytes, in two pieces, and a small
    one, and has had them back, so what such a use leaves behind counts. Not counted is the system's memory for the
    socket, nor what a C extension takes past Python's allocator.
    """
    count = settings.scaled(1_000, 50)
    rounds = settings.scaled(3, 1)
    samples: Samples = {}
    goals = []
    bare = [_job("idle", "bare", count, 1, pure=False) for _ in range(rounds)]
    for kind, most in (("selector", 2048), ("asyncio", 4096)):
        for name in _built():
            ours = f"{name}, {kind}"
            figures = [_job("idle", kind, count, 1, pure=name == PLAIN) for _ in range(rounds)]
            samples[ours] = [figure - socket for figure, socket in zip(figures, bare, strict=True)]
            reached = sorted(samples[ours])[rounds // 2]
            case = f"an idle connection: {kind}"
            goals.append(
                Goal(
                    case,
                    name,
                    f"≤ {most:,} B of Python objects beyond the socket",
                    most,
                    reached,
                    at_most=True,
                    unit="B",
                )
            )
    title = "an idle connection, which has said something before"
    yield Result(title=title, unit="bytes of Python objects beyond the socket", samples=samples, goals=goals)


BENCHMARKS = [
    Benchmark(name="broadcast", run=_broadcast),
    Benchmark(name="idle", run=_idle),
]


def main() -> None:
    what, kind, *numbers = sys.argv[1:]
    if what == "clients":
        _clients(int(kind))
        return
    count, rounds = map(int, numbers)
    _room_for(4 * count + 200)
    print(json.dumps(JOBS[f"{what} {kind}"](count, rounds)))


if __name__ == "__main__":
    main()
