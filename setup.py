"""The compiled twin of the kernels; all else about the package is in pyproject.toml.

Nothing here can make an installation fail: without a compiler, or with ``FRAMING_PURE=1`` in the environment, the package is
the same without the twin, and `framing.compiled` is false.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import zlib
from functools import reduce
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("framing", "kernels", "native")

# One binary for CPython 3.11 and later; free-threaded builds have no stable ABI, PyPy has none at all.
stable_abi = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
wanted = os.environ.get("FRAMING_PURE", "0") in {"", "0"}

if stable_abi and wanted:
    sources, headers = sorted(NATIVE.glob("*.c")), sorted(NATIVE.glob("*.h"))
    # What it was built from, so that tests/kernels/test_built.py can tell a twin that is older than its sources.
    stamp = reduce(lambda crc, path: zlib.crc32(path.read_bytes(), crc), [*sources, *headers], 0)
    twin = Extension(
        "framing.kernels._native",
        sources=[path.as_posix() for path in sources],
        depends=[path.as_posix() for path in headers],
        define_macros=[("FRAMING_SOURCES", str(stamp))],
        extra_compile_args=[] if os.name == "nt" else ["-O3"],  # some Pythons are built with less
        py_limited_api=True,
        optional=True,
    )
    setup(ext_modules=[twin], options={"bdist_wheel": {"py_limited_api": "cp311"}})
else:
    setup()
