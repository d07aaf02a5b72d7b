"""JSON: messages as JSON text (RFC 8259), read and written by msgspec, and held to what goes in comes out."""

from __future__ import annotations

import builtins
import functools
import json
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
from framing.kernels.audit import count_keys, find_difference, find_lossy_float, json_depth, nests_within

__all__ = ["JSON"]

T = TypeVar("T")

_HINT = "JSON has null, true, false, numbers, strings, arrays and objects with string keys; give a type= for others"


@functools.lru_cache(maxsize=256)
def _tools(kind: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """The encoder and the decoder of a type, which threads may share."""
    import msgspec.json  # noqa: PLC0415 loaded when it is first needed

    return msgspec.json.Encoder().encode, msgspec.json.Decoder(kind).decode


@dataclass(frozen=True, slots=True, init=False)
class JSON(Codec[T]):
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

    type: Any = Any
    unique_keys: bool = field(default=True, kw_only=True)
    max_depth: int = field(default=DEFAULT_MAX_DEPTH, kw_only=True)
    verify: bool = field(default=True, kw_only=True)

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

    def encode(self, message: T) -> bytes:
        """The JSON text of ``message``, without white space."""
        encode, decode = _tools(self.type)
        try:
            payload = encode(message)
        except encode_failures as error:
            refuse_message("JSON", error)
        if self._too_deep(payload):
            raise too_deep_message(self.max_depth)
        if self.verify:
            try:
                arrived = decode(payload)
            except encode_failures as error:
                raise EncodeError(f"the peer would refuse this message: {error}") from error
            if self.type is not Any:
                self._verify_typed(message, arrived, payload, encode)
            elif arrived != message:
                path = find_difference(message, arrived)
                if path is not None:
                    raise not_what_was_sent("JSON", path, _HINT)
        return payload

    def decode(self, payload: bytes) -> T:
        """The message that the JSON text ``payload`` stands for."""
        encode, decode = _tools(self.type)
        try:
            message = decode(payload)
        except (ValueError, RecursionError) as error:
            refuse_payload("JSON", error, payload)
        if self._too_deep(payload) if self.type is not Any else self._too_deep_read(message, payload):
            raise too_deep_payload("JSON", self.max_depth, payload)
        if self.type is not Any:
            self._check_skipped(message, payload, encode)
        elif self.unique_keys and type(message) in (dict, list) and not encodes_to(encode, message, payload):
            # An encoding that comes out the same was made of dicts, whose keys are unique. This one did not: it has
            # white space, or escapes. Each entry has its colon, so as many colons as keys prove the same.
            _check_unique(message, payload)
        return cast("T", message)

    def _too_deep(self, payload: bytes) -> bool:
        opened = payload.count(b"[") + payload.count(b"{")
        return opened > self.max_depth and json_depth(payload) > self.max_depth

    def _too_deep_read(self, message: Any, payload: bytes) -> bool:
        opened = payload.count(b"[") + payload.count(b"{")
        # Of two values under one name the first is in the payload alone.
        return opened > self.max_depth and (
            not nests_within(message, self.max_depth) or (not self.unique_keys and self._too_deep(payload))
        )

    def _verify_typed(self, message: Any, arrived: Any, payload: bytes, encode: Callable[[Any], bytes]) -> None:
        if b"null" in payload:
            import msgspec  # noqa: PLC0415 loaded when it is first needed

            path = find_lossy_float(msgspec.to_builtins(message), self.max_depth)
            if path is not None:
                raise not_what_was_sent("JSON", path, "it has no NaN and no infinities")
        verify_typed("JSON", message, arrived, payload, encode)

    def _check_skipped(self, message: Any, payload: bytes, encode: Callable[[Any], bytes]) -> None:
        """Judge what the type skipped, unread: fields that it does not know."""
        if encodes_to(encode, message, payload):
            return
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            refuse_payload("JSON", error, payload)
        try:
            untyped = _tools(Any)[1](payload)
        except (ValueError, RecursionError) as error:
            # A Decimal, which the type may well declare, can be larger than any float.
            if "out of range" not in str(error):
                refuse_payload("JSON", error, payload)
            untyped = None
        if self.unique_keys:
            _check_unique(untyped, payload)


def _check_unique(message: Any, payload: bytes) -> None:
    """Raise `DecodeError` for an object that has a name twice; ``message`` is the payload read without a type."""
    if message is not None and payload.count(b":") == count_keys(message):
        return

    def inspect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    raise repeated_key("JSON", payload, name)
                seen.add(name)
        return names

    try:
        json.loads(payload, object_pairs_hook=inspect, parse_int=str, parse_float=str)
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not the JSON that is expected: {error}", head=payload[:HEAD_BYTES]) from error
