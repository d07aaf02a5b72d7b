"""Starting the servers of the end-to-end cases, and reading what CPU time they have used.

The load generator and the servers are kept on a core each, where the system lets us choose: so none is moved in the middle of
a slice, and the generator never takes a server's time. A server that waits costs nothing, so all of them run from the first
round to the last.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Running", "foreign", "on_core", "running", "tokio"]

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).with_name("peers")
BUILT = ROOT / "build" / "benchmarks"
CRATES = Path("/usr/share/cargo/registry")
"""Where Debian puts the sources of Rust's crates."""


@dataclass(slots=True)
class Running:
    """A server, and the connections to it."""

    process: subprocess.Popen[str]
    port: int
    sockets: list[socket.socket] = field(default_factory=list)

    def connect(self, count: int) -> list[int]:
        """The descriptors of ``count`` connections; those that there are are used again."""
        while len(self.sockets) < count:
            sock = socket.create_connection(("127.0.0.1", self.port), 20)
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets.append(sock)
        return [sock.fileno() for sock in self.sockets[:count]]

    def cpu_ns(self) -> int:
        """The CPU time that the process has used, all its threads together. Linux tells by a clock of the process."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2)

    def end(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def on_core(which: int) -> Iterator[None]:
    """Run on the first (0) or last (-1) core that this process may use; what is started meanwhile stays there."""
    cores = _cores()
    if cores:
        os.sched_setaffinity(0, {cores[which]})
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


def _start(command: Sequence[str], *, pure: bool) -> Running | str:
    """Start it and wait until it says that it is ready; or why it is not."""
    environment = {**os.environ, "FRAMING_PURE": "1" if pure else os.environ.get("FRAMING_PURE", "")}
    with on_core(-1):
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if said.startswith("ready "):
        return Running(process, int(said.split()[1]))
    process.kill()
    process.wait()
    process.stdout.close()
    if said.startswith("skipped "):
        return said.removeprefix("skipped ")
    why = f"{' '.join(command)} ended with {process.returncode} before it was ready"
    if command[-1].startswith("framing"):
        raise RuntimeError(why)  # it is what all of this is about: nothing may pass over it
    return why


def foreign(name: str, *, may_build: bool) -> list[str] | str:
    """The command of a server that is not Python's; or why there is none."""
    if name == "erlang":
        escript = shutil.which("escript")
        return [escript, str(PEERS / "echo.escript")] if escript else "no Erlang here: Debian's package is erlang-base"
    program = tokio(may_build=may_build)
    return program if program.startswith("no ") else [program, name.removeprefix("tokio-")]


def tokio(*, may_build: bool) -> str:
    """The path of the Rust echo server; or why there is none, beginning with "no "."""
    program = BUILT / "tokio" / "release" / "echo"
    source = PEERS / "tokio"
    if program.exists() and program.stat().st_mtime > (source / "src" / "main.rs").stat().st_mtime:
        return str(program)
    if not may_build:
        return "no Rust server built: the form without --quick builds it"
    cargo = shutil.which("cargo")
    if cargo is None:
        return "no cargo here: Debian's package is cargo"
    if not any(CRATES.glob("tokio-util-*")):
        return "no crates here: Debian's packages are librust-tokio-dev, librust-tokio-util-dev and librust-futures-dev"
    copy = BUILT / "tokio-source"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)  # cargo writes a lock file beside the sources
    command = [cargo, "build", "--release", "--offline", "--quiet", "--target-dir", str(BUILT / "tokio")]
    for setting in ('source.crates-io.replace-with="debian"', f'source.debian.directory="{CRATES}"'):
        command += ["--config", setting]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"no Rust server: cargo failed: {done.stderr.strip().splitlines()[0]}"
    return str(program)


@contextmanager
def running(
    wanted: dict[str, tuple[str, bool]], *, may_build: bool
) -> Iterator[tuple[dict[str, Running], dict[str, str]]]:
    """The servers of ``wanted`` (contender to server's name, and whether in plain Python), and why some are missing."""
    servers: dict[str, Running] = {}
    skipped: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for contender, (name, pure) in wanted.items():
            command: list[str] | str = [sys.executable, "-m", "benchmarks.servers", name]
            if name == "erlang" or name.startswith("tokio"):
                command = foreign(name, may_build=may_build)
            server = command if isinstance(command, str) else _start(command, pure=pure)
            if isinstance(server, str):
                skipped[contender] = server
            else:
                servers[contender] = server
                stack.callback(server.end)
        yield servers, skipped
