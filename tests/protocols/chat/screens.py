"""A program in a terminal of its own: a pseudo-terminal whose every byte is kept, and drawn by a stranger, pyte."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pyte

__all__ = ["ENTER", "JOIN", "Screen", "pasted"]

ROOT = Path(__file__).parents[3]

JOIN = [sys.executable, "-m", "protocols.chat", "join"]

OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)

ENTER = "\r"
WAIT = 30.0


def pasted(text: str) -> str:
    """What a terminal sends when ``text`` is pasted into a program that wants to know."""
    return "\x1b[200~" + text.replace("\n", "\r") + "\x1b[201~"


class Screen:
    """``command`` in a terminal, until the end of the block."""

    def __init__(self, *command: str, columns: int = 80, lines: int = 24, **environment: str) -> None:
        self.raw = bytearray()
        self._screen: Any = pyte.HistoryScreen(columns, lines, history=2000, ratio=1.0)
        self._stream: Any = pyte.ByteStream(self._screen)
        self.master, self._slave = pty.openpty()
        self._screen.write_process_input = self.type  # where the cursor is, when the program asks
        self._set_size(columns, lines)
        self.before = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", OWN_TERMINAL, *command],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )

        self._left = False
        self._changed = threading.Condition(threading.RLock())
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # Asked first: who is killed without a word keeps its name for the server's time of grace.
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._left = True
        os.close(self._slave)
        self._thread.join()
        os.close(self.master)

    # ------------------------------------------------------------------- the user

    def type(self, keys: str) -> None:
        """Press ``keys``."""
        os.write(self.master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Pull at the window's corner."""
        with self._changed:
            self._screen.resize(lines, columns)
        self._set_size(columns, lines)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    # ----------------------------------------------------------------- what is seen

    def _read(self) -> None:
        # In a thread: a program that asks its terminal something waits for the answer.
        while True:
            if not select.select([self.master], [], [], 0.2)[0]:
                if self._left:
                    return
                continue
            try:
                chunk = os.read(self.master, 1 << 16)
            except OSError:  # the last one has closed its terminal
                return
            with self._changed:
                self.raw += chunk
                self._stream.feed(chunk)
                self._changed.notify_all()

    @property
    def display(self) -> list[str]:
        """What stands on the screen, line for line."""
        with self._changed:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """What stands on the screen, and what has scrolled out above it."""
        with self._changed:
            above = ["".join(line[at].data for at in range(self._screen.columns)) for line in self._screen.history.top]
            return "\n".join([*(line.rstrip() for line in above), *self.display])

    def count(self, text: str) -> int:
        return self.text.count(text)

    def line(self, part: str) -> str:
        """The last line with ``part`` in it; empty where there is none."""
        return next((line for line in reversed(self.text.split("\n")) if part in line), "")

    def colour(self, part: str) -> str:
        """The colour that ``part`` is drawn in, where it stands on the screen last."""
        for row in reversed(range(self._screen.lines)):
            at = self._screen.display[row].find(part)
            if at >= 0:
                return str(self._screen.buffer[row][at].fg)
        raise AssertionError(f"{part!r} is not on the screen:\n{self.text}")

    def wait(self, fact: str | Callable[[], Any], what: str = "") -> None:
        """Wait until ``fact`` is so; a text is waited for anywhere on the screen."""
        happened = (lambda: fact in self.text) if isinstance(fact, str) else fact
        end = time.monotonic() + WAIT
        with self._changed:
            while not happened():
                if time.monotonic() > end or (self.process.poll() is not None and not self._changed.wait(1)):
                    raise AssertionError(f"{what or repr(fact)} did not come; the screen is\n{self.text}")
                self._changed.wait(0.1)

    def end(self) -> int:
        """Wait for the program's end; its exit status."""
        try:
            status = self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end; the screen is\n{self.text}") from None
        with self._changed:
            while self._changed.wait(0.1):  # its last words
                pass
        return status

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was found: its modes, the cursor, and the marks around pastes."""
        marks = [self.raw.rfind(mark) for mark in (b"\x1b[?2004h", b"\x1b[?2004l")]
        hidden = [self.raw.rfind(mark) for mark in (b"\x1b[?25l", b"\x1b[?25h")]
        return termios.tcgetattr(self._slave) == self.before and marks[0] <= marks[1] and hidden[0] <= hidden[1]
