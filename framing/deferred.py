"""The names of a package, each loaded from its module when it is first asked for (PEP 562).

So importing a package costs next to nothing, and a program pays for the modules whose names it uses: what most of them need
(dataclasses, and what that loads) takes longer than all else in the package. Type checkers read ordinary imports beside the
table, under ``TYPE_CHECKING``; a test holds the two equal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["deferred"]


def deferred(
    package: str, homes: Mapping[str, str], modules: str = ""
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of ``package``: ``homes`` has, by module, the names that come from there.

    ``modules`` are the submodules that are attributes of the package without an import of their own. Names are parted by
    spaces.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}
    submodules = modules.split()
    namespace = vars(sys.modules[package])

    def load(name: str) -> object:
        if name in home_of:
            # Kept, so that a name is asked for here once.
            value = namespace[name] = getattr(import_module(home_of[name]), name)
            return value
        if name in submodules:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*namespace, *home_of, *submodules})

    return load, names
