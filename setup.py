"""The compiled twin of the kernels; all else about the package is in pyproject.toml.

Nothing here can make an installation fail: without a compiler, or with ``FRAMING_PURE=1`` in the environment, the package is
the same without the twin, and `framing.compiled` is false.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("framing", "kernels", "native")

# One binary for CPython 3.11 and later; free-threaded builds have no stable ABI, PyPy has none at all.
stable_abi = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
wanted = os.environ.get("FRAMING_PURE", "0") in {"", "0"}

if stable_abi and wanted:
    twin = Extension(
        "framing.kernels._native",
        sources=sorted(path.as_posix() for path in NATIVE.glob("*.c")),
        depends=sorted(path.as_posix() for path in NATIVE.glob("*.h")),
        extra_compile_args=[] if os.name == "nt" else ["-O3"],  # some Pythons are built with less
        py_limited_api=True,
        optional=True,
    )
    setup(ext_modules=[twin], options={"bdist_wheel": {"py_limited_api": "cp311"}})
else:
    setup()
