"""CBOR: messages in the Concise Binary Object Representation (RFC 8949), by cbor2, with the tags that are harmless."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NoReturn

from framing.codecs.base import DEFAULT_MAX_DEPTH, MOST_MAX_DEPTH, Codec
from framing.errors import HEAD_BYTES, DecodeError, EncodeError
from framing.framers.base import check_option
from framing.kernels import cbor_sound, is_plain
from framing.kernels.audit import find_difference, find_nan_key, object_depth

__all__ = ["CBOR"]

_TAGS = frozenset({0, 1, 2, 3, 4, 37, 100, 258, 1004, 55799})
# Shared values can hold themselves, and names given to strings can multiply them: no option allows these.
_NEVER = frozenset({25, 28, 29, 256})
# Every tag that cbor2 gives a meaning of its own; a test asks it for each other one.
_MEANINGS = frozenset({*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799})
_SCALARS = (type(None), bool, int, float, str, bytes, bytearray)


def _cbor2() -> ModuleType:
    """The module that speaks CBOR, loaded when it is first needed."""
    try:
        import cbor2  # noqa: PLC0415 an optional dependency
    except ImportError as error:
        raise ImportError("CBOR needs cbor2: pip install 'framing[cbor]'") from error
    return cbor2


@functools.cache
def _tagged() -> Mapping[type, tuple[int, ...]]:
    """The tags by which values of a type are sent, the first one by us."""
    from datetime import date, datetime  # noqa: PLC0415 loaded when it is first needed
    from decimal import Decimal  # noqa: PLC0415 …
    from uuid import UUID  # noqa: PLC0415 …

    return {datetime: (0, 1), date: (1004,), Decimal: (4,), UUID: (37,)}


class _RefusedTagError(Exception):
    """Raised inside cbor2, which makes it the cause of its own error."""


def _refuse(tag: int) -> Any:
    def refuse(_value: Any, _immutable: bool) -> NoReturn:
        raise _RefusedTagError(tag)

    return refuse


@functools.lru_cache(maxsize=64)
def _options(tags: frozenset[int], unique_keys: bool, max_depth: int) -> Mapping[str, Any]:
    """What cbor2's decoder is told."""

    def tag_hook(tag: Any, _immutable: bool) -> Any:
        if tag.tag in tags:
            return tag
        raise _RefusedTagError(tag.tag)

    return {
        "semantic_decoders": {tag: _refuse(tag) for tag in _MEANINGS - tags},
        "tag_hook": tag_hook,
        "allow_duplicate_keys": not unique_keys,
        "max_depth": max_depth,
    }


@dataclass(frozen=True, slots=True)
class CBOR(Codec[Any]):
    """Messages in CBOR (RFC 8949), one data item a payload; cbor2 reads and writes it: install ``framing[cbor]``.

    A message is None, a bool, an int of any size, a float (NaN and infinities are values here), a str, bytes, a list, a
    dict (of any keys that hash, except NaN), a set, a datetime with a time zone, a date, a Decimal or a UUID; a tuple is
    sent as a list and arrives as one, except in a key; a bytearray arrives as bytes.

    ``tags`` are the tags that may come: those of times (0, 1), big integers (2, 3), decimal fractions (4), UUIDs
    (37), dates (100, 1004), sets (258) and of CBOR itself (55799), unless told otherwise; a tag beyond these that you
    add arrives as what cbor2 makes of it (a ``CBORTag``, where it knows no better). Think before you add 35: a
    regular expression from a stranger is a program. Shared values and named strings (25, 28, 29, 256) are never
    taken. A Decimal may have a huge exponent: do not turn one from a stranger into an int.

    `encode` raises `EncodeError` for any other message, and for one that would arrive as another; to prove that, it reads
    back what it wrote, unless ``verify=False``. `decode` raises `DecodeError` for what is not CBOR, for invalid UTF-8, for
    bytes behind the item, for a tag that is not allowed; unless ``unique_keys=False`` for a map with a key twice, or with
    two that Python takes for equal (1 and 1.0 and true); for NaN as a key; and for arrays, maps and tags that nest deeper than
    ``max_depth`` (1 to 256). Both raise ImportError where cbor2 is not installed.
    """

    tags: frozenset[int] = field(default=_TAGS, kw_only=True)
    unique_keys: bool = field(default=True, kw_only=True)
    max_depth: int = field(default=DEFAULT_MAX_DEPTH, kw_only=True)
    verify: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Check the options."""
        object.__setattr__(self, "tags", frozenset(self.tags))
        never = sorted(self.tags & _NEVER)
        if never:
            raise ValueError(f"tags {never} let a payload hold itself or multiply itself: they cannot be allowed")
        check_option("max_depth", self.max_depth, 1, MOST_MAX_DEPTH)

    def encode(self, message: Any) -> bytes:
        """The CBOR bytes of ``message``, each value in its shortest form except floats."""
        cbor2 = _cbor2()
        plain = is_plain(message, self.max_depth)
        # First, for the encoder itself has no limit: what nests a hundred thousand deep ends the process.
        if not plain and object_depth(message, self.max_depth, self._inspect) > self.max_depth:
            raise EncodeError(
                f"the message nests deeper than max_depth={self.max_depth}, or holds itself", expected=self.max_depth
            )
        try:
            payload: bytes = cbor2.dumps(message)
        except (cbor2.CBOREncodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"this message has no CBOR: {error}") from error
        if self.verify and not plain:
            try:
                arrived = self.decode(payload)
            except DecodeError as error:
                raise EncodeError(f"the peer would refuse this message: {error}") from error
            if arrived != message:
                path = find_difference(message, arrived)
                # Inside a CBORTag a list arrives as a tuple: what is sent the same is the same.
                if path is not None and cbor2.dumps(arrived) != payload:
                    raise EncodeError(f"CBOR would carry what is at {path} as something else")
        return payload

    def decode(self, payload: bytes) -> Any:
        """The message that the CBOR bytes ``payload`` stand for."""
        cbor2 = _cbor2()
        stream = io.BytesIO(payload)
        decoder = cbor2.CBORDecoder(stream, **_options(self.tags, self.unique_keys, self.max_depth))
        try:
            message: Any = decoder.decode()
        except (cbor2.CBORDecodeError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
            raise self._refused(error, payload) from error
        # It reads ahead, and goes back to where the item ended.
        if stream.tell() != len(payload):
            raise DecodeError("bytes follow the end of the CBOR item", head=payload[:HEAD_BYTES])
        if not cbor_sound(payload, message, self.max_depth):
            path = find_nan_key(message)
            if path is not None:
                raise DecodeError("the CBOR has NaN as a key of a map", path=path, head=payload[:HEAD_BYTES])
            # Its own limit keeps cbor2 from nesting without end, but lets the innermost map through if it is empty.
            raise DecodeError(
                f"the CBOR nests deeper than max_depth={self.max_depth}",
                expected=self.max_depth,
                head=payload[:HEAD_BYTES],
            )
        return message

    def _inspect(self, value: Any, path: str, is_key: bool) -> tuple[Any, ...] | None:
        kind: type[Any] = value.__class__
        if isinstance(value, _SCALARS):
            if is_key and isinstance(value, float) and math.isnan(value):
                raise EncodeError(f"NaN as a key of a map ({path}) can never be found again")
            return None
        needed = _tagged().get(kind)
        if needed is None:
            if kind.__module__.startswith("cbor2") and kind.__name__ != "CBORTag":
                return None  # undefined, and simple values
            if kind.__name__ == "CBORTag" and value.tag in self.tags:
                return (value.value,)
            raise EncodeError(f"CBOR here has no {kind.__name__} (at {path})")
        if not self.tags.issuperset(needed[:1]):
            raise EncodeError(f"{kind.__name__} (at {path}) takes tag {needed[0]}, which is not among the tags allowed")
        return None

    def _refused(self, error: Exception, payload: bytes) -> DecodeError:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, _RefusedTagError):
            cause = cause.__cause__
        if cause is not None:
            text = f"the CBOR has tag {cause.args[0]}, which is not among the tags allowed"
        elif error.__cause__ is not None:
            text = f"not sound CBOR: {error}: {error.__cause__}"
        else:
            text = f"not sound CBOR: {error}"
        return DecodeError(text, head=payload[:HEAD_BYTES])
