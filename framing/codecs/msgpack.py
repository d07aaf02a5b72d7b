"""MessagePack: messages in the MessagePack format, read and written by msgspec, and held to what goes in comes out."""

from __future__ import annotations

import builtins
import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, overload

from framing.codecs._typed import (
    encode_failures,
    encodes_to,
    not_what_was_sent,
    refuse_message,
    refuse_payload,
    repeated_key,
    too_deep_message,
    too_deep_payload,
    verify_typed,
)
from framing.codecs.base import DEFAULT_MAX_DEPTH, MOST_MAX_DEPTH, Codec
from framing.errors import HEAD_BYTES, DecodeError, EncodeError
from framing.framers.base import check_option
from framing.kernels.audit import count_keys, find_difference, msgpack_skeleton, nests_within, object_depth

__all__ = ["MessagePack"]

T = TypeVar("T")

_HINT = (
    "MessagePack has nil, booleans, 64-bit integers, floats, str, bytes, arrays, maps and times in UTC; give a type="
)
_CONTAINERS = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
# A NaN as it would stand as a key; in a payload that has floats it may also be found where it is none.
_NAN = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]|\xca[\x7f\xff][\x80-\xff]", re.DOTALL)


@functools.lru_cache(maxsize=256)
def _tools(kind: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """The encoder and the decoder of a type, which threads may share."""
    import msgspec.msgpack  # noqa: PLC0415 loaded when it is first needed

    return msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(kind).decode


@dataclass(frozen=True, slots=True, init=False)
class MessagePack(Codec[T]):
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

    type: Any = Any
    unique_keys: bool = field(default=True, kw_only=True)
    max_depth: int = field(default=DEFAULT_MAX_DEPTH, kw_only=True)
    verify: bool = field(default=True, kw_only=True)

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

    def encode(self, message: T) -> bytes:
        """The MessagePack bytes of ``message``, each value in its shortest form."""
        encode, decode = _tools(self.type)
        try:
            payload = encode(message)
        except encode_failures as error:
            refuse_message("MessagePack", error)
        if self._too_deep(payload):
            raise too_deep_message(self.max_depth)
        if self.verify:
            try:
                arrived = decode(payload)
            except encode_failures as error:
                raise EncodeError(f"the peer would refuse this message: {error}") from error
            if _has_nan_key(payload):
                raise EncodeError("NaN as a key of a map can never be found again")
            if self.type is not Any:
                verify_typed("MessagePack", message, arrived, payload, encode)
            elif arrived != message:
                path = find_difference(message, arrived)
                if path is not None:
                    raise not_what_was_sent("MessagePack", path, _HINT)
        return payload

    def decode(self, payload: bytes) -> T:
        """The message that the MessagePack bytes ``payload`` stand for."""
        encode, decode = _tools(self.type)
        try:
            message = decode(payload)
        except (ValueError, OverflowError, RecursionError) as error:
            refuse_payload("MessagePack", error, payload)
        if self._too_deep(payload) if self.type is not Any else self._too_deep_read(message, payload):
            raise too_deep_payload("MessagePack", self.max_depth, payload)
        if _has_nan_key(payload):
            raise DecodeError("the MessagePack has NaN as a key of a map", head=payload[:HEAD_BYTES])
        if self.type is not Any:
            self._check_skipped(message, payload, encode)
        elif self.unique_keys and type(message) in (dict, list) and not encodes_to(encode, message, payload):
            # An encoding that comes out the same was made of dicts, whose keys are unique. This one did not: it has a
            # longer form than need be. Then the entries that are declared must be as many as the keys that there are.
            self._check_unique(message, payload)
        return cast("T", message)

    def _too_deep(self, payload: bytes) -> bool:
        if len(payload) <= self.max_depth or len(payload) - len(payload.translate(None, _CONTAINERS)) <= self.max_depth:
            return False
        return msgpack_skeleton(payload, self.max_depth)[0] > self.max_depth

    def _too_deep_read(self, message: Any, payload: bytes) -> bool:
        if len(payload) <= self.max_depth or len(payload) - len(payload.translate(None, _CONTAINERS)) <= self.max_depth:
            return False
        # Of two values under one key the first is in the payload alone.
        return not nests_within(message, self.max_depth) or (not self.unique_keys and self._too_deep(payload))

    def _check_unique(self, message: Any, payload: bytes) -> None:
        if msgpack_skeleton(payload, self.max_depth)[1] != count_keys(message):
            raise repeated_key("MessagePack", payload)

    def _check_skipped(self, message: Any, payload: bytes, encode: Callable[[Any], bytes]) -> None:
        """Judge what the type skipped, unread: fields that it does not know."""
        if encodes_to(encode, message, payload):
            return
        try:
            untyped = _tools(Any)[1](payload)
        except (ValueError, OverflowError, RecursionError) as error:
            refuse_payload("MessagePack", error, payload)
        if self.unique_keys:
            self._check_unique(untyped, payload)


def _has_nan_key(payload: bytes) -> bool:
    """Whether a map of a payload that can be read has NaN for a key, on the outside or within a key that is an array."""
    if (b"\xcb" not in payload and b"\xca" not in payload) or _NAN.search(payload) is None:
        return False
    found: list[str] = []

    def inspect(value: Any, path: str, is_key: bool) -> None:
        if is_key and isinstance(value, float) and math.isnan(value):
            found.append(path)

    object_depth(_tools(Any)[1](payload), MOST_MAX_DEPTH, inspect)
    return bool(found)
