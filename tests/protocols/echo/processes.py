"""Echo servers as real processes, in a group of their own: what a terminal's Ctrl-C reaches, and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["COMMAND", "DRIVERS", "interrupt", "serving", "started"]

COMMAND = [sys.executable, "-m", "protocols.echo"]

DRIVERS = ["selector", "threads", "asyncio"]


@contextlib.contextmanager
def started(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run ``command`` in a process group of its own until the end of the block; nothing of it is left behind."""
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with subprocess.Popen(command, start_new_session=True, **given) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def serving(*options: str, listen: str = "tcp://127.0.0.1:0") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``framing-echo serve``, once it serves: the process, and the URL that it says it is at."""
    with started(*COMMAND, "serve", "--listen", listen, *options) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        place = re.match(r"echo at (\S+), wire \S+?(, \d+ workers)?\n", line)
        if place is None:
            process.kill()
            assert process.stderr is not None
            raise AssertionError(line + process.stderr.read())
        yield process, place[1]


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str, str]:
    """Send the signal to the whole group, as a terminal does: the status, and what was written to both outputs."""
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    return process.returncode, out, err
