"""Construct declarations as values: two that declare the same compare equal.

A declaration made with construct is a tree of objects that compare by identity, so what holds one (a codec, a framer)
could neither be compared nor hashed, nor be equal to its own pickle. `declaration_key` turns the tree into a hashable
that does; `dump_declaration` and `load_declaration` pickle it. This module does not import construct: whoever has a
declaration has imported it already.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Hashable, Iterable
from typing import Any, cast

__all__ = ["declaration_key", "dump_declaration", "load_declaration"]

# Not part of what is declared: the cache of a parse hook's target, and closures made again for each object.
_INCIDENTAL = frozenset({"docs", "_subcons"})


def declaration_key(declaration: object) -> Hashable:
    """A hashable that is equal for two declarations of the same structure, and differs for two that differ.

    Construct objects are compared by type and attributes, expressions such as ``this.length - 4`` by their text,
    functions by identity (those of a module, which a pickle refers to by name, are identical again after it) and
    anything else by value, or by repr where it cannot be hashed. A declaration that refers to itself is fine.
    """
    return _key(declaration, {})


def _key(value: Any, seen: dict[int, int]) -> Hashable:
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType] the type of anything
    if value is None or kind in (bool, int, float, complex, str, bytes):
        # The type goes along, for 1 == 1.0 == True, but Const(1) and Const(True) are not the same declaration.
        return (kind, value)
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)):
        return _function_key(value, seen)
    if id(value) in seen:
        return ("again", seen[id(value)])
    if isinstance(value, dict):
        return (kind, tuple((_key(key, seen), _key(value[key], seen)) for key in cast("Iterable[Any]", value)))
    if isinstance(value, (list, tuple)):
        return (kind, tuple(_key(item, seen) for item in cast("list[Any]", value)))
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset(_key(item, seen) for item in cast("set[Any]", value)))
    module = kind.__module__
    if module.startswith("construct.expr"):
        # Its attributes cannot be asked for: any name that a Path does not know is one more step of the path.
        return (kind, repr(value))
    attributes: dict[str, Any] | None = getattr(value, "__dict__", None)
    if attributes is not None and _is_construct(kind):
        seen[id(value)] = len(seen)
        return (
            kind,
            tuple(
                (name, _key(attributes[name], seen))
                for name in sorted(attributes)
                if name not in _INCIDENTAL and not name.startswith("_emit")
            ),
        )
    try:
        hash(value)
    except TypeError:
        return (kind, repr(value))
    return (kind, cast("Hashable", value))


def _is_construct(kind: type) -> bool:
    return any(base.__module__ == "construct.core" and base.__name__ == "Construct" for base in kind.__mro__)


def _function_key(function: Any, seen: dict[int, int]) -> Hashable:
    if isinstance(function, types.MethodType):
        return ("method", _key(function.__func__, seen), _key(function.__self__, seen))
    if isinstance(function, types.FunctionType) and function.__module__.startswith("construct."):
        # Construct makes some functions anew for each object: the code is one, what it closes over tells them apart.
        cells = tuple(_key(cell.cell_contents, seen) for cell in function.__closure__ or ())
        return (function.__module__, function.__qualname__, cells)
    return (getattr(function, "__module__", ""), getattr(function, "__qualname__", ""), function)


def dump_declaration(declaration: object) -> bytes:
    """A pickle of the declaration, for `load_declaration`; raises as pickle does for a lambda, or a class in a function.

    By itself pickle fails for half of construct: GreedyBytes, Flag, VarInt and others are objects that bear the name of
    their class, so that the class is found nowhere; and some carry functions, made in a function, that only compile() needs.
    """
    out = io.BytesIO()
    _Pickler(out).dump(declaration)
    return out.getvalue()


def load_declaration(dumped: bytes) -> Any:
    """The declaration that `dump_declaration` was given; for one's own pickles only, as with pickle itself."""
    return pickle.loads(dumped)  # noqa: S301 called where a pickle that holds it is read already


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType):
            if obj.__module__.startswith("construct.") and obj.__name__.startswith("_emit"):
                return (_restore_emitter, ())
            return NotImplemented
        kind: Any = obj if isinstance(obj, type) else obj.__class__
        if kind.__module__ != "construct.core":
            return NotImplemented
        single: Any = getattr(sys.modules["construct.core"], kind.__name__, None)
        if single is None or single.__class__ is not kind:
            return NotImplemented
        if obj is kind:
            return (type, (single,))
        return kind.__name__ if obj is single else NotImplemented


def _restore_emitter() -> Any:
    return _no_compiling


def _no_compiling(*_arguments: object) -> None:
    raise NotImplementedError("a declaration that was pickled is not compiled again: compile it where it is made")
