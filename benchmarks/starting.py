"""What ``import framing`` adds to the start of the interpreter."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.builds import COMPILED, PLAIN, builds
from benchmarks.fleet import ROOT
from benchmarks.results import Benchmark, Goal, Result, Settings

__all__ = ["BENCHMARKS"]

BARE = "the interpreter's own start"
FIRST_LINE = "from framing import LengthPrefixed, MessagePack, Wire"


def _start(code: str, *, pure: bool) -> float:
    """CPU milliseconds of one start."""
    environment = {**os.environ, "FRAMING_PURE": "1" if pure else os.environ.get("FRAMING_PURE", "")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # With -S and the import of site no .pth file is read: what an editable installation loads by one is no part of this.
    subprocess.run([sys.executable, "-S", "-c", f"import site; {code}"], cwd=ROOT, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1000


def _import(settings: Settings) -> Iterator[Result]:
    """CPU time of `python -c 'import framing'` less that of `python -c pass`, each thirty times in turn, with all that
    is compiled to bytecode there already. The import itself loads nothing: names are loaded when they are first asked
    for, so beside it stand a program's first line, with the names that it uses, and what dataclasses and typing take of
    that. Unfair would be: to time the import inside an interpreter that has loaded typing, dataclasses or enum for
    something else, as a .pth file of an editable installation does; none is read here.
    """
    codes = {BARE: ("pass", True)}
    for build in builds():
        codes[build.name] = ("import framing", not build.compiled)
    codes[FIRST_LINE] = (FIRST_LINE, False)
    codes["import dataclasses, typing"] = ("import dataclasses, typing", False)
    codes["import framing.drivers.selector"] = ("import framing.drivers.selector", False)
    codes["import framing.drivers.aio"] = ("import framing.drivers.aio", False)
    codes["import asyncio"] = ("import asyncio", False)
    starts: dict[str, list[float]] = {name: [] for name in codes}
    for number in range(settings.scaled(31, 1)):
        for name, (code, pure) in codes.items():
            took = _start(code, pure=pure)
            if number or settings.quick:  # the first one may compile and read from the disk
                starts[name].append(took)
    beyond = {
        name: [one - bare for one, bare in zip(values, starts[BARE], strict=True)]
        for name, values in starts.items()
        if name != BARE
    }
    goals = [
        Goal(
            "import framing",
            name,
            "≤ 15 ms beyond the interpreter's own start",
            15,
            statistics.median(beyond[name]),
            at_most=True,
            unit="ms",
        )
        for name in (COMPILED, PLAIN)
        if name in beyond
    ]
    note = f"{BARE}: {statistics.median(starts[BARE]):.1f} ms."
    yield Result(
        title="import framing",
        unit="ms of CPU time beyond the interpreter's own start",
        samples=beyond,
        goals=goals,
        note=note,
    )


BENCHMARKS = [
    Benchmark(name="import", run=_import),
]
