"""A compiled twin that was built of other sources than these: it does not run where it cannot, and is told from the others."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from functools import reduce
from pathlib import Path

import pytest

import framing.kernels
from tests.kernels.comparing import native, needs_twin

NATIVE = Path(framing.kernels.__file__).parent / "native"

STALE = """
import sys, types, warnings

class Finder:
    # A twin of an earlier version: it has all names but the last.
    def find_spec(self, name, path=None, target=None):
        if name == "framing.kernels._native":
            from importlib.machinery import ModuleSpec
            return ModuleSpec(name, self)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        for name in NAMES:
            setattr(module, name, None)

sys.meta_path.insert(0, Finder())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import framing.kernels
decoder = framing.LengthPrefixed(4).decoder()
assert decoder.feed(b"\\0\\0\\0\\1!") == [b"!"]
assert framing.compiled is False
for name in framing.kernels.__all__:
    assert getattr(framing.kernels, name) is not None, name
for warning in caught:
    print(warning.category.__name__, warning.message)
"""


def test_a_twin_that_lacks_a_name_does_not_run_and_a_warning_says_what_to_do() -> None:
    names = [name for name in framing.kernels.__all__ if name not in {"compiled", "write_varint", "stuff_slip"}]
    environment = {name: value for name, value in os.environ.items() if name != "FRAMING_PURE"}
    done = subprocess.run(
        [sys.executable, "-c", f"NAMES = {names!r}\n{STALE}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    [line] = done.stdout.splitlines()
    assert line.startswith("RuntimeWarning plain Python runs instead of the compiled twin")
    assert "'stuff_slip'" in line
    assert "build it anew: pip install" in line


@needs_twin
@pytest.mark.skipif(not NATIVE.is_dir(), reason="an installed package has no sources to compare with")
def test_the_twin_was_built_of_these_sources() -> None:
    stamp = getattr(native, "SOURCES", None)
    if stamp == 0:
        pytest.skip("whoever compiled this twin gave it no checksum of its sources")
    files = [*sorted(NATIVE.glob("*.c")), *sorted(NATIVE.glob("*.h"))]
    crc = reduce(lambda before, path: zlib.crc32(path.read_bytes(), before), files, 0)
    assert stamp == crc, "the compiled twin is older than its sources: build the twin anew: pip install -e ."
