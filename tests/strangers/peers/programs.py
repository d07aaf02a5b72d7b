"""What the tests of this directory share: programs found, started, waited for and ended, and our echo server for them."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from framing import Wire
from framing.drivers import blocking
from framing.drivers.service import Service
from protocols.echo import Echo
from tests.drivers.every.registry import SERVERS

T = TypeVar("T")

SECONDS = 5.0
"""How long anything here may take before it has failed."""

START_SECONDS = 20.0
"""… but for a program's start, which a machine with other things to do may delay."""

ROOT = Path(__file__).parents[3]
LOOPBACK = "127.0.0.1"


def found(command: str, package: str, *folders: Path) -> str:
    """The path of ``command``; skips the test where it is not installed."""
    # Debian's servers are in directories that are not on everybody's PATH.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders), "/usr/local/sbin", "/usr/sbin"])
    where = shutil.which(command, path=path)
    if where is None:
        pytest.skip(f"{command} is not installed (apt-get install {package})")
    return where


@contextmanager
def directory() -> Iterator[Path]:
    """A directory with a short name, since a unix socket's may not be long, that every user may look into."""
    with tempfile.TemporaryDirectory(prefix="framing-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextmanager
def started(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` until the end of the block; what it says goes into the file ``log``."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        end(process)


@contextmanager
def piped(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` until the end of the block, with a pipe to what it reads and from what it writes."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    try:
        yield process
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def listening() -> socket.socket:
    """A listening socket, for looking at what a client sends."""
    sock = socket.create_server((LOOPBACK, 0))
    sock.settimeout(SECONDS)
    return sock


def accepted(listener: socket.socket) -> socket.socket:
    """The next connection to ``listener``."""
    sock, _ = listener.accept()
    sock.settimeout(SECONDS)
    return sock


def all_of(sock: socket.socket) -> bytes:
    """What comes over ``sock`` until its end."""
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(happened: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """What ``happened`` returns, as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return result


def _free_port() -> int:
    # Below the range that the system takes ports for connections from: nobody is given it before the server has it.
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until somebody listens at ``port``, or ``process`` has ended: whether it lives."""

    def answers() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((LOOPBACK, port)) == 0

    wait_until(lambda: process.poll() is not None or answers(), f"port {port} answers", START_SECONDS)
    return process.poll() is None


@contextmanager
def served(command: Callable[[int], Sequence[str]], log: Path, **options: Any) -> Iterator[int]:
    """Run the server that ``command`` makes for a port, until the end of the block; the port, once it listens there."""
    for attempt in range(3):
        port = _free_port()
        with started(command(port), log, **options) as process:
            if _listens(process, port):
                yield port
                assert process.poll() is None, f"the server has ended: {log.read_text()}"
                return
        # Somebody else may have been faster at this port; a server that cannot start at all says so in its log.
        assert attempt < 2, log.read_text()


def announced(log: Path, pattern: str) -> re.Match[str]:
    """What a program says when it is ready, such as the port that it was given."""
    said_so = wait_until(lambda: re.search(pattern, log.read_text()), f"{pattern!r} is said", START_SECONDS)
    assert said_so is not None
    return said_so


def said(command: Sequence[str], stdin: bytes = b"", **options: Any) -> bytes:
    """What ``command`` writes when it is given ``stdin``; it must end by itself, in time, and well."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        command, input=stdin, capture_output=True, timeout=START_SECONDS, **options
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


every_driver = pytest.mark.parametrize("driver", SERVERS)
"""For the tests in which their client meets our server."""


@contextmanager
def _ours(spec: str, driver: str, service: Service[Any]) -> Iterator[int]:
    """Run ``service`` with the server driver of that name; the port."""
    with SERVERS[driver]((LOOPBACK, 0), Wire.parse(spec), service, drain_timeout=1) as server:
        yield server.address.port


def our_echo(spec: str, driver: str) -> AbstractContextManager[int]:
    """The port of an echo server of ours."""
    return _ours(spec, driver, Echo())


@contextmanager
def framing_echo(spec: str, *options: str, listen: str = f"tcp://{LOOPBACK}:0") -> Iterator[int]:
    """The port of ``framing-echo serve``, in a process of its own."""
    command = [sys.executable, "-m", "protocols.echo", "serve", "--listen", listen, "--wire", spec, *options]
    with directory() as place, started(command, place / "log", cwd=ROOT):
        yield int(announced(place / "log", r"echo at \w+://[\d.]+:(\d+)")[1])


class Recorder:
    """A service that keeps what it received, and why each connection ended."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.ends: list[Exception | None] = []

    def received(self, peer: Any, message: Any) -> None:
        self.got.append(message)

    def closed(self, peer: Any, error: Exception | None) -> None:
        self.ends.append(error)


@contextmanager
def our_recorder(spec: str, driver: str) -> Iterator[tuple[int, Recorder]]:
    """The port of a server of ours, and what it received."""
    recorder = Recorder()
    with _ours(spec, driver, recorder) as port:
        yield port, recorder


def connected(port: int, spec: str) -> blocking.Connection[Any]:
    """Our client."""
    return blocking.connect((LOOPBACK, port), Wire.parse(spec), timeout=SECONDS)
