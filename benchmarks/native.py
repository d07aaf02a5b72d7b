"""The benchmarks' own compiled helpers, built on the fly from ``native.c`` with the system's C compiler.

They are the floor that decoding is held against, and the load generator of the end-to-end cases: never a part of what is
measured as framing. Where they cannot be built, `build` says why, the floor is the standard library's compiled loop that
comes nearest (`struct`), and the end-to-end cases are skipped: a load generator in Python would be their bottleneck.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise, repeat
from pathlib import Path
from struct import Struct
from types import ModuleType
from typing import Any

__all__ = ["build", "floor", "floor_kind"]

NAME = "framing_benchmarks_native"


@cache
def build() -> ModuleType | str:
    """The compiled module, or why there is none."""
    compiler = shutil.which("cc")
    include = sysconfig.get_paths()["include"]
    if compiler is None:
        return "no C compiler (cc) here"
    if not (Path(include) / "Python.h").exists():
        return "no Python.h here: install Python's headers"
    folder = Path(tempfile.mkdtemp(prefix="framing-benchmarks-"))
    try:
        target = folder / f"{NAME}.so"
        source = Path(__file__).with_name("native.c")
        command = [compiler, "-O2", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"cc failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
        spec = importlib.util.spec_from_file_location(NAME, target)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a module that is loaded needs its file no more


def floor_kind() -> str:
    """What the floor is here."""
    native = build()
    return f"struct.unpack ({native})" if isinstance(native, str) else "a C loop built for this run"


def floor(stream: bytes, spans: Sequence[tuple[int, int]], counts: Sequence[int]) -> Any:
    """A function without arguments: each call gives an iterator over lists, ``counts[i]`` of the payloads in each.

    ``spans`` are the payloads' (begin, size) in ``stream``. Nothing is looked for: the places are known.
    """
    bounds = [0]
    for count in counts:
        bounds.append(bounds[-1] + count)
    native = build()
    if isinstance(native, str):
        formats = list(_structs(stream, [spans[a:b] for a, b in pairwise(bounds)]))
        return lambda: (one.unpack_from(stream, at) for one, at in formats)
    table = array("q", [number for span in spans for number in span]).tobytes()
    return lambda: map(native.objects, repeat(stream), repeat(table), bounds[:-1], bounds[1:])


def _structs(stream: bytes, batches: Iterable[Sequence[tuple[int, int]]]) -> Iterator[tuple[Struct, int]]:
    for batch in batches:
        start = at = batch[0][0] if batch else 0
        codes = []
        for begin, size in batch:
            codes.append(f"{begin - at}x{size}s")
            at = begin + size
        assert at <= len(stream)
        yield Struct("".join(codes)), start
