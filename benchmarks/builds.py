"""Both builds of framing in one process: with the compiled kernels, and in plain Python, so that they take turns.

Which kernels run is decided when framing is imported. So it is imported once more, with ``FRAMING_PURE`` set, and that set of
modules is put aside. The two know nothing of each other; whatever else is imported they share.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

__all__ = ["COMPILED", "PLAIN", "Build", "builds"]

COMPILED, PLAIN = "framing", "framing, plain Python"
"""What the two are called as contenders."""


@dataclass(frozen=True, slots=True)
class Build:
    """One of the two: its name as a contender, and its ``framing``."""

    name: str
    framing: Any

    @property
    def compiled(self) -> bool:
        return self.name == COMPILED


def _plain() -> ModuleType:
    """A second ``framing``, in plain Python; the one that is imported stays as it is."""

    def take() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name == "framing" or name.startswith("framing.")]
        return {name: sys.modules.pop(name) for name in names}

    kept = take()
    before = os.environ.get("FRAMING_PURE")
    os.environ["FRAMING_PURE"] = "1"
    try:
        plain = importlib.import_module("framing")
        # Every name is asked for here, so that it is loaded now, and not later as the other one's.
        assert not any(getattr(plain, name) is None for name in plain.__all__)
        assert not plain.compiled
        return plain
    finally:
        take()
        sys.modules.update(kept)
        if before is None:
            del os.environ["FRAMING_PURE"]
        else:
            os.environ["FRAMING_PURE"] = before


@cache
def builds() -> tuple[Build, ...]:
    """The compiled one first, where it is built and not forbidden by ``FRAMING_PURE``; then plain Python."""
    imported = importlib.import_module("framing")
    if not imported.compiled:
        return (Build(PLAIN, imported),)
    return (Build(COMPILED, imported), Build(PLAIN, _plain()))
