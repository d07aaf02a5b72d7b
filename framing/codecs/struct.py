"""Struct: dicts as the binary layout that a construct declaration describes, held to what goes in comes out."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from framing.codecs.base import Codec
from framing.declaration import declaration_key, dump_declaration, load_declaration
from framing.errors import HEAD_BYTES, DecodeError, EncodeError

__all__ = ["Struct"]

_BUDGET = "_framing_budget"
# How many array elements a payload may have: an element can be of one bit, and an array of arrays counts both.
_ITEMS_A_BYTE = 16
_LEAST_ITEMS = 1024
# What construct, and the expressions and adapters in a declaration, raise for values that do not fit.
_FAILURES = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
# A half precision float keeps 11 bits, and its smallest step is 2**-24.
_FLOAT_STEP = 2.0**-10
_FLOAT_LEAST = 2.0**-24


@dataclass(frozen=True, slots=True)
class Struct(Codec[Any]):
    """Messages as the binary that ``declaration``, an object of construct's, declares (construct.readthedocs.io).

    A message is what the declaration describes, in plain dicts, lists and values: Container and ListContainer arrive as
    dict and list, the names of an Enum as str. Two codecs of equal declarations are equal (`framing.declaration`).

    What goes in comes out, except that a float is rounded to the width that is declared for it, and that fields which
    the declaration computes (Const, Rebuild, Default …) arrive in addition: a dict with a key that is not declared, a
    value that contradicts a computed one, a string cut by its terminator are `EncodeError`, and so are missing fields and
    values out of range. To prove that, `encode` reads back what it wrote; ``verify=False`` saves that time.

    `decode` raises `DecodeError`, with ``path`` where construct tells it, for a payload that the declaration does not
    describe to its last byte. Arrays hold 1,024 elements and 16 for each byte of the payload at the most, nested ones
    counted too, since elements of no bytes would cost the peer nothing. A declaration that recurses as deep as the
    payload says ends in `DecodeError` at the interpreter's recursion limit. A compiled declaration is run as the one that
    it was compiled from.

    Raises TypeError for what is no construct declaration, and ValueError for one that holds construct's Pickled: to read
    a pickle is to run its sender's program. It pickles unless the declaration holds lambdas; ``this.field`` is fine.
    """

    declaration: Any = field(compare=False)
    verify: bool = field(default=True, kw_only=True)
    _key: Hashable = field(init=False, repr=False)
    _guarded: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the options; prepare the declaration."""
        if not isinstance(self.declaration, _construct().Construct):
            raise TypeError(f"Struct takes a declaration made with construct, not {self.declaration!r}")
        object.__setattr__(self, "_key", declaration_key(self.declaration))
        object.__setattr__(self, "_guarded", _guard(self.declaration, {}))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the declaration alone; what is made of it is made again."""
        return (_restore, (dump_declaration(self.declaration), self.verify))

    def encode(self, message: Any) -> bytes:
        """The binary of ``message``."""
        try:
            payload: bytes = self.declaration.build(message)
        except Exception as error:
            raise _encode_error(error) from error
        if self.verify:
            try:
                arrived = self.decode(payload)
            except DecodeError as error:
                raise EncodeError(f"the peer would refuse this message: {error}") from error
            path = _find_lost(message, arrived)
            if path is not None:
                raise EncodeError(
                    f"the declaration would carry what is at {path} as something else, or not at all; "
                    "send what it declares, and leave out what it computes"
                )
        return payload

    def decode(self, payload: bytes) -> Any:
        """The message that ``payload`` stands for, in plain dicts, lists and values."""
        stream = io.BytesIO(payload)
        try:
            message = _plain(
                self._guarded.parse_stream(stream, **{_BUDGET: [_LEAST_ITEMS + _ITEMS_A_BYTE * len(payload)]})
            )
        except Exception as error:
            raise _decode_error(error, payload) from error
        used = stream.tell()
        if used != len(payload):
            raise DecodeError(
                f"the declaration describes {used} bytes, and the payload has {len(payload)}",
                expected=used,
                got=len(payload),
                head=payload[:HEAD_BYTES],
            )
        return message


def _restore(dumped: bytes, verify: bool) -> Struct:
    return Struct(load_declaration(dumped), verify=verify)


def _is_declared(error: Exception) -> bool:
    """Whether an error speaks of the values, and not of the machine (memory that ran out, an interrupt)."""
    return isinstance(error, _FAILURES) or any(base.__module__ == "construct.core" for base in type(error).__mro__)


def _reason(error: Exception) -> tuple[str, str | None]:
    """What construct said, on one line, and the path: ``$.header.length``."""
    if isinstance(error, RecursionError):
        return "it recurses deeper than the interpreter can", None
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        text = f"the field {text} is missing"
    where = getattr(error, "path", None)
    if not isinstance(where, str) or " -> " not in where:
        return text or type(error).__name__, None
    return text, "$." + ".".join(where.split(" -> ")[1:])


def _encode_error(error: Exception) -> Exception:
    if not _is_declared(error):
        return error
    return EncodeError(f"the declaration cannot carry this message: {_reason(error)[0]}")


def _decode_error(error: Exception, payload: bytes) -> Exception:
    if not _is_declared(error):
        return error
    text, path = _reason(error)
    return DecodeError(f"the payload is not what is declared: {text}", path=path, head=payload[:HEAD_BYTES])


def _construct() -> Any:
    """The library of the declarations; whoever has one has loaded it already."""
    return importlib.import_module("construct")


def _guard(declaration: Any, made: dict[int, Any]) -> Any:
    """A copy of the declaration whose arrays draw their elements from the budget of the payload that is parsed."""
    library = _construct()
    if id(declaration) in made:
        return made[id(declaration)]
    if isinstance(declaration, type(library.Pickled)):
        text = "a declaration with Pickled runs whatever program its sender likes: declare the fields instead"
        raise ValueError(text)  # noqa: TRY004 the type is right, what it does is not
    if isinstance(declaration, library.core.Compiled):
        return _guard(declaration.__dict__["defersubcon"], made)
    copy: Any = object.__new__(declaration.__class__)
    made[id(declaration)] = copy
    for name, value in declaration.__dict__.items():
        kept: Any = value
        if isinstance(value, library.Construct):
            kept = _guard(value, made)
            if name == "subcon" and isinstance(declaration, (library.GreedyRange, library.RepeatUntil)):
                kept = _counted(kept)
        elif isinstance(value, list):
            items = cast("Sequence[Any]", value)
            kept = [_guard(one, made) if isinstance(one, library.Construct) else one for one in items]
        elif name == "cases":
            kept = {key: _guard(one, made) for key, one in value.items()}
        elif name == "count" and isinstance(declaration, (library.Array, library.LazyArray)):
            kept = _budgeted(value)
        elif name == "subconfunc" and isinstance(declaration, library.LazyBound):
            kept = _deferred(value, made)
        copy.__dict__[name] = kept
    return copy


def _draw(context: Any, wanted: int) -> None:
    budget: list[int] = context["_params"][_BUDGET]
    budget[0] -= max(wanted, 0)
    if budget[0] < 0:
        # The one error that no Select, Optional or GreedyRange takes for "try something else".
        raise _construct().ExplicitError("it announces more array elements than a payload of its size can hold")


def _budgeted(count: Any) -> Callable[[Any], Any]:
    def draw(context: Any) -> Any:
        wanted: Any = cast("Any", count)(context) if callable(count) else count
        _draw(context, wanted)
        return wanted

    return draw


def _counted(declaration: Any) -> Any:
    """A copy of what a range repeats, which draws one element from the budget each time that it is parsed."""
    parse = declaration._parsereport  # noqa: SLF001 what construct's own ranges call

    def counted(stream: Any, context: Any, path: Any) -> Any:
        _draw(context, 1)
        return parse(stream, context, path)

    copy: Any = object.__new__(declaration.__class__)
    copy.__dict__.update(declaration.__dict__, _parsereport=counted)
    return copy


def _deferred(make: Any, made: dict[int, Any]) -> Callable[[], Any]:
    return lambda: _guard(make(), made)


def _plain(value: Any) -> Any:
    """A parsed value in plain types: no Container, no ListContainer, no string or number that only looks like one."""
    if isinstance(value, dict):
        pairs = cast("Mapping[Any, Any]", value)
        return {key: _plain(pairs[key]) for key in pairs if not str(key).startswith("_io")}
    if isinstance(value, list):
        items = cast("Sequence[Any]", value)
        return [_plain(items[index]) for index in range(len(items))]
    if value.__class__.__module__.startswith("construct"):
        if isinstance(value, str):
            return "".join(value)
        if isinstance(value, bytes):
            return b"".join((value,))
        if isinstance(value, int):
            return int(value)
    return value


def _find_lost(sent: Any, arrived: Any) -> str | None:
    """The path of what was sent and did not arrive as it was; what arrives in addition is the declaration's."""
    waiting: list[tuple[Any, Any, str]] = [(sent, arrived, "$")]
    while waiting:
        one, other, path = waiting.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            pairs, theirs = cast("Mapping[Any, Any]", one), cast("Mapping[Any, Any]", other)
            for key in pairs:
                if key not in theirs:
                    return f"{path}.{key}"
                waiting.append((pairs[key], theirs[key], f"{path}.{key}"))
        elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
            ours, those = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
            if len(ours) != len(those):
                return path
            waiting.extend(
                (mine, that, f"{path}[{at}]") for at, (mine, that) in enumerate(zip(ours, those, strict=True))
            )
        elif isinstance(one, float) and isinstance(other, float):
            both_nan = math.isnan(one) and math.isnan(other)
            if not both_nan and not math.isclose(one, other, rel_tol=_FLOAT_STEP, abs_tol=_FLOAT_LEAST):
                return path
        elif one != other:
            return path
    return None
