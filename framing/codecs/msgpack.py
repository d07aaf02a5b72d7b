"""MessagePack: messages in the MessagePack format, read and written by msgspec, and held to what goes in comes out."""

from __future__ import annotations

import builtins
import functools
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, overload

from framing.codecs._typed import Format, Tools, Typed, encode_failures, refuse_payload, repeated_key
from framing.codecs.base import DEFAULT_MAX_DEPTH, MOST_MAX_DEPTH
from framing.errors import HEAD_BYTES, DecodeError
from framing.framers.base import check_option
from framing.kernels import msgpack_sound, msgpack_within
from framing.kernels.audit import count_keys, find_nan_key, msgpack_may_have_nan, msgpack_skeleton

__all__ = ["MessagePack"]

T = TypeVar("T")


@functools.lru_cache(maxsize=256)
def _tools(kind: Any) -> Tools:
    import msgspec.msgpack  # noqa: PLC0415 loaded when it is first needed

    encode = msgspec.msgpack.Encoder().encode

    def same(payloads: list[bytes], messages: list[Any]) -> bool:
        # No payload is the beginning of another one: so each is held to its own, behind the header of the array.
        try:
            return encode(messages)[_header_size(len(messages)) :] == b"".join(payloads)
        except encode_failures:
            return False

    return Tools(encode, msgspec.msgpack.Decoder(kind).decode, same)


def _header_size(count: int) -> int:
    """How many bytes come before the items of an array of so many."""
    return 1 if count < 16 else 3 if count < 1 << 16 else 5


_FORMAT = Format(
    "MessagePack",
    "it has nil, booleans, 64-bit integers, floats, str, bytes, arrays, maps of any keys but NaN and times in UTC; "
    "give a type= for others",
    False,
    _tools,
    msgpack_within,
    msgpack_sound,
)


@dataclass(frozen=True, slots=True, init=False)
class MessagePack(Typed[T]):
    """Messages in the MessagePack format (github.com/msgpack/msgpack, spec.md), one value a payload.

    Without ``type`` a message is None, a bool, an int of 64 bits (-2**63 to 2**64 - 1), a float (NaN and infinities
    are values here), a str, bytes, a list, a dict (of any keys that hash, except NaN), a datetime with a time zone
    (it arrives in UTC) or a ``msgspec.msgpack.Ext``; a tuple is sent as a list and arrives as one, except in a key.
    With ``type`` (a dataclass, a TypedDict, a NamedTuple, a ``msgspec.Struct``, or any type built of these, of enums,
    dates, UUIDs, Decimals, sets …) the payload is read straight into it, and checked.

    What goes in comes out: a set, a UUID or anything else that would arrive as something else is `EncodeError`. To
    prove that, `encode` reads back what it wrote; ``verify=False`` saves that time, where the messages are known to be fit.

    `decode` raises `DecodeError`, with ``path`` where it is known, for what is not MessagePack, for invalid UTF-8, for
    bytes behind the value, for a value that is not of the type; unless ``unique_keys=False`` for a map with a key twice, or
    with two that Python takes for equal (1 and 1.0 and true); for NaN as a key; and for arrays and maps that nest deeper than
    ``max_depth`` (1 to 256). A time's nanoseconds arrive cut to microseconds, which is all that a datetime holds.
    """

    _format: ClassVar[Format] = _FORMAT

    @overload
    def __init__(
        self: MessagePack[Any], *, unique_keys: bool = True, max_depth: int = DEFAULT_MAX_DEPTH, verify: bool = True
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
        self: MessagePack[Any],
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
        return msgpack_may_have_nan(payload)

    def _lost(self, message: T, payload: bytes) -> str | None:  # noqa: ARG002 -- JSON reads it
        return find_nan_key(_tools(Any).decode(payload))

    def _blame(self, payload: bytes) -> None:
        try:
            untyped = _tools(Any).decode(payload)
        except (ValueError, OverflowError, RecursionError) as error:
            refuse_payload("MessagePack", error, payload)
        path = find_nan_key(untyped)
        if path is not None:
            raise DecodeError("the MessagePack has NaN as a key of a map", path=path, head=payload[:HEAD_BYTES])
        if self.unique_keys and msgpack_skeleton(payload, self.max_depth)[1] != count_keys(untyped):
            raise repeated_key("MessagePack", payload)
