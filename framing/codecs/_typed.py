"""What JSON and MessagePack share: the tools of msgspec, made once a type, and its errors in our words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from framing.errors import HEAD_BYTES, DecodeError, EncodeError

__all__ = [
    "encode_failures",
    "encodes_to",
    "not_what_was_sent",
    "refuse_message",
    "refuse_payload",
    "repeated_key",
    "too_deep_message",
    "too_deep_payload",
    "verify_typed",
]

# msgspec ends its text with the place, where it knows one: "Expected `int`, got `str` - at `$.users[0].age`".
_PLACE = re.compile(r" - at `(.+)`$")

encode_failures: tuple[type[Exception], ...] = (TypeError, ValueError, OverflowError, AttributeError, RecursionError)
"""What msgspec raises for a message that it cannot encode; its own errors are ValueErrors."""


def encodes_to(encode: Callable[[Any], bytes], message: Any, payload: bytes) -> bool:
    """Whether ``message`` encodes to just ``payload``; False also where it does not encode at all."""
    try:
        return encode(message) == payload
    except encode_failures:
        return False


def refuse_payload(word: str, error: Exception, payload: bytes) -> NoReturn:
    """Raise what the parser said about ``payload`` as `DecodeError`, with the path apart."""
    if isinstance(error, RecursionError):
        raise too_deep_payload(word, None, payload) from None
    text = str(error)
    place = _PLACE.search(text)
    path = place[1] if place else None
    raise DecodeError(f"not the {word} that is expected: {text}", path=path, head=payload[:HEAD_BYTES]) from error


def refuse_message(word: str, error: Exception) -> NoReturn:
    """Raise what the encoder said about a message as `EncodeError`."""
    if isinstance(error, RecursionError):
        raise EncodeError("the message nests too deeply to be sent, or holds itself") from None
    raise EncodeError(f"this message has no {word}: {error}") from error


def too_deep_payload(word: str, max_depth: int | None, payload: bytes) -> DecodeError:
    """The error for a payload that nests deeper than ``max_depth``."""
    limit = "anything that can be read" if max_depth is None else f"max_depth={max_depth}"
    return DecodeError(f"the {word} nests deeper than {limit}", expected=max_depth, head=payload[:HEAD_BYTES])


def too_deep_message(max_depth: int) -> EncodeError:
    """The error for a message that nests deeper than ``max_depth``."""
    return EncodeError(f"the message nests deeper than max_depth={max_depth}, or holds itself", expected=max_depth)


def repeated_key(word: str, payload: bytes, key: str | None = None) -> DecodeError:
    """The error for a map that has one key twice."""
    which = "a key" if key is None else f"the key {key!r}"
    return DecodeError(
        f"the {word} has {which} twice in one map: which value counts cannot be known "
        "(unique_keys=False takes the last one)",
        head=payload[:HEAD_BYTES],
    )


def not_what_was_sent(word: str, path: str, hint: str) -> EncodeError:
    """The error for a message that would arrive as another one."""
    return EncodeError(f"{word} would carry what is at {path} as something else; {hint}")


def verify_typed(word: str, message: Any, arrived: Any, payload: bytes, encode: Callable[[Any], bytes]) -> None:
    """Raise `EncodeError` unless a typed message came back as itself.

    Types may compare by identity, and a list may have been sent where a tuple is declared; so what is not equal must be
    of the same type and encode the same.
    """
    if arrived == message:
        return
    kinds: list[type] = [type(arrived), type(message)]
    same = kinds[0] is kinds[1] or issubclass(kinds[1], (list, tuple, set, frozenset))
    if not same or encode(arrived) != payload:
        raise EncodeError(f"as {word} this {kinds[1].__name__} would arrive as another {kinds[0].__name__}")
