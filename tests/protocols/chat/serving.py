"""The chat's server as a real process, on one file and one port: killed, and started again where it was."""

from __future__ import annotations

import contextlib
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import copyfile
from typing import NamedTuple, Self

from tests.protocols.echo.processes import started

__all__ = ["DRIVERS", "Kept", "Serving", "kept"]

# All that its clients do comes from one address.
COMMAND = [sys.executable, "-m", "protocols.chat", "serve", "--newcomers", "0"]

DRIVERS = ["selector", "threads", "asyncio"]

AT_REST = 0.03
"""Seconds without a write, in which a file's time shows the next one."""

AT_REST_WITHIN = 20.0

HOST = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Where clients do not come from: while the server is away none of them can be given its port, or connect to itself."""


class Serving:
    """``framing-chat serve`` on ``database``, once it listens, until the end of the block. `kill` and `start` it at will."""

    def __init__(self, database: Path, *options: str, driver: str = "selector") -> None:
        self.database = database
        self.driver = driver
        self._options = options
        self._stack = ExitStack()
        self._errors = database.with_suffix(".stderr")
        self._process: subprocess.Popen[str] | None = None
        self.address = f"tcp://{HOST}:0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """What it has written to its standard error, in all its lives."""
        return self._errors.read_text()

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it listens."""
        command = [*COMMAND, "--listen", self.address, "--db", str(self.database), "--driver", self.driver]
        errors = self._stack.enter_context(self._errors.open("a"))
        process = self._stack.enter_context(started(*command, *self._options, stdin=subprocess.DEVNULL, stderr=errors))
        assert process.stdout is not None
        line = process.stdout.readline()
        place = re.match(r"chat at (\S+), wire \S+\n", line)
        assert place is not None, line + self.said
        self._process, self.address = process, place[1]

    def kill(self) -> None:
        """As a power cut does it: SIGKILL, and it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)


class Kept(NamedTuple):
    """One event, as the file has it, but for its time."""

    room: str
    seq: int
    sender: str
    kind: str
    text: str
    id: tuple[str, int] | None


def kept(database: Path) -> dict[str, list[Kept]]:
    """The events of each room, read from a copy of the file: a server may be using it, or have been killed over it."""
    with _copied(database) as copy, contextlib.closing(sqlite3.connect(copy)) as connection:
        rows = connection.execute("SELECT room, seq, sender, kind, text, session, n FROM events ORDER BY room, seq")
        rooms: dict[str, list[Kept]] = {}
        for room, seq, sender, kind, text, session, n in rows:
            id_ = None if session is None else (session, n)
            rooms.setdefault(room, []).append(Kept(room, seq, sender, kind, text, id_))
        return rooms


def sessions_kept(database: Path) -> int:
    """How many sessions the file has."""
    with _copied(database) as copy, contextlib.closing(sqlite3.connect(copy)) as connection:
        return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])


@contextlib.contextmanager
def _copied(database: Path) -> Iterator[Path]:
    """The two files as they are together: taken when nobody has written for a moment, and while nobody does."""
    sources = {name: database.with_name(database.name + name[4:]) for name in ("copy", "copy-wal")}
    end = time.monotonic() + AT_REST_WITHIN
    with tempfile.TemporaryDirectory() as place:
        while True:
            before = _written(*sources.values())
            at_rest = time.time() - max((when for _, when in before), default=0.0) > AT_REST
            if at_rest:
                for name, source in sources.items():
                    Path(place, name).unlink(missing_ok=True)
                    if source.exists():
                        copyfile(source, Path(place, name))
                if _written(*sources.values()) == before:
                    break
            assert time.monotonic() < end, f"{database} is written all the time"
            time.sleep(AT_REST / 2)
        yield Path(place, "copy")


def _written(*files: Path) -> list[tuple[int, float]]:
    states = [file.stat() for file in files if file.exists()]
    return [(state.st_size, state.st_mtime) for state in states]
