"""JSON: messages as JSON text (RFC 8259), read and written by msgspec, and held to what goes in comes out."""

from __future__ import annotations

import builtins
import functools
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, overload

from framing.codecs._typed import Format, Tools, Typed, encode_failures, refuse_payload, repeated_key
from framing.codecs.base import DEFAULT_MAX_DEPTH, MOST_MAX_DEPTH
from framing.errors import HEAD_BYTES, DecodeError
from framing.framers.base import check_option
from framing.kernels import json_sound, json_within
from framing.kernels.audit import find_lossy_float

__all__ = ["JSON"]

T = TypeVar("T")


@functools.lru_cache(maxsize=256)
def _tools(kind: Any) -> Tools:
    import msgspec.json  # noqa: PLC0415 loaded when it is first needed

    encoder = msgspec.json.Encoder()

    def same(payloads: list[bytes], messages: list[Any]) -> bool:
        # A payload that has a newline inside comes out without it: so each is held to its own.
        try:
            return encoder.encode_lines(messages) == b"\n".join(payloads) + b"\n"
        except encode_failures:
            return False

    return Tools(encoder.encode, msgspec.json.Decoder(kind).decode, same)


_FORMAT = Format(
    "JSON",
    "JSON has null, true, false, numbers, strings, arrays and objects with string keys; give a type= for others",
    True,
    _tools,
    json_within,
    json_sound,
)


@dataclass(frozen=True, slots=True, init=False)
class JSON(Typed[T]):
    """Messages as JSON text in UTF-8 (RFC 8259), one value a payload.

    Without ``type`` a message is None, a bool, an int, a float, a str, a list or a dict with str keys; a tuple is sent
    as a list and arrives as one. With ``type`` (a dataclass, a TypedDict, a NamedTuple, a ``msgspec.Struct``, or any type
    built of these, of enums, dates, UUIDs, Decimals, bytes, sets …) the payload is read straight into it, and checked.

    What goes in comes out: NaN and infinities, int keys, and anything else that JSON would turn into something else are
    `EncodeError`. To prove that, `encode` reads back what it wrote; ``verify=False`` saves that time, where the
    messages are known to be fit, and then only msgspec's own refusals are left: NaN is sent as null.

    `decode` raises `DecodeError`, with ``path`` where it is known, for what is not JSON, for invalid UTF-8 and lone
    surrogates, for NaN, Infinity and numbers beyond a float's range, for integers of more than 4,300 digits, for bytes
    behind the value, for a value that is not of the type; unless ``unique_keys=False`` for an object with a name
    twice (names that the type ignores included); and for arrays and objects that nest deeper than ``max_depth`` (1 to 256).
    """

    _format: ClassVar[Format] = _FORMAT

    @overload
    def __init__(
        self: JSON[Any], *, unique_keys: bool = True, max_depth: int = DEFAULT_MAX_DEPTH, verify: bool = True
    ) -> None: ...
    @overload
    def __init__(
        self,
        type: builtins.type[T],
        *,
        unique_keys: bool = True,
        max_depth: int = DEFAULT_MAX_DEPTH,
        verify: bool = True,
    ) -> None: ...
    @overload
    def __init__(
        self: JSON[Any],
        type: Any,
        *,
        unique_keys: bool = True,
        max_depth: int = DEFAULT_MAX_DEPTH,
        verify: bool = True,
    ) -> None: ...
    def __init__(
        self,
        type: Any = Any,  # noqa: A002 the word for it
        *,
        unique_keys: bool = True,
        max_depth: int = DEFAULT_MAX_DEPTH,
        verify: bool = True,
    ) -> None:
        check_option("max_depth", max_depth, 1, MOST_MAX_DEPTH)
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "unique_keys", unique_keys)
        object.__setattr__(self, "max_depth", max_depth)
        object.__setattr__(self, "verify", verify)

    def _suspect(self, payload: bytes) -> bool:
        return self.type is not Any and b"null" in payload

    def _lost(self, message: T, payload: bytes) -> str | None:  # noqa: ARG002 -- MessagePack reads it
        import msgspec  # noqa: PLC0415 loaded when it is first needed

        return find_lossy_float(msgspec.to_builtins(message), self.max_depth)

    def _blame(self, payload: bytes) -> None:
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            refuse_payload("JSON", error, payload)
        try:
            _tools(Any).decode(payload)
        except (ValueError, RecursionError) as error:
            # A Decimal, which the type may well declare, can be larger than any float.
            if "out of range" not in str(error):
                refuse_payload("JSON", error, payload)
        if self.unique_keys:
            _check_unique(payload)


def _check_unique(payload: bytes) -> None:
    """Raise `DecodeError` for an object that has a name twice."""

    def inspect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    raise repeated_key("JSON", payload, name)
                seen.add(name)
        return names

    import json  # noqa: PLC0415 needed where a name may be there twice

    try:
        json.loads(payload, object_pairs_hook=inspect, parse_int=str, parse_float=str)
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not the JSON that is expected: {error}", head=payload[:HEAD_BYTES]) from error
