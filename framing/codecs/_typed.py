"""What JSON and MessagePack share: the way of a message and of a payload through msgspec, and its errors in our words.

A batch is encoded, or decoded, by msgspec alone, one call a message; then it is asked as a whole whether every message
arrives as it was sent, and whether every payload is sound (`framing.kernels.audit`). Only where the answer is no are they
taken one by one, and the one to blame is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar, cast

from framing.codecs.base import DEFAULT_MAX_DEPTH, Codec
from framing.errors import HEAD_BYTES, DecodeError, EncodeError
from framing.kernels import arrives
from framing.kernels.audit import Same, find_difference

__all__ = ["Format", "Tools", "Typed", "encode_failures", "refuse_payload", "repeated_key"]

T = TypeVar("T")

# msgspec ends its text with the place, where it knows one: "Expected `int`, got `str` - at `$.users[0].age`".
_PLACE = re.compile(r" - at `(.+)`$")

encode_failures: tuple[type[Exception], ...] = (TypeError, ValueError, OverflowError, AttributeError, RecursionError)
"""What msgspec raises for a message that it cannot encode; its own errors are ValueErrors."""

_decode_failures: tuple[type[Exception], ...] = (ValueError, OverflowError, RecursionError)


class Tools(NamedTuple):
    """The tools of msgspec for one type, which threads may share."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    same: Same


class Format(NamedTuple):
    """What makes JSON and MessagePack two."""

    word: str
    hint: str
    """What can be sent, and what to do about other things."""
    is_json: bool
    tools: Callable[[Any], Tools]
    within: Callable[[list[bytes], int], bool]
    """Whether no payload nests deeper than so many levels."""
    sound: Callable[[list[bytes], list[Any], int, bool, Same], bool]
    """Whether no payload nests deeper, nor has a key that it must not have; of what they were read as without a type."""


@dataclass(frozen=True, slots=True, init=False)
class Typed(Codec[T]):
    """A codec that msgspec does the work of, straight into a type where one is given."""

    type: Any = Any
    unique_keys: bool = field(default=True, kw_only=True)
    max_depth: int = field(default=DEFAULT_MAX_DEPTH, kw_only=True)
    verify: bool = field(default=True, kw_only=True)

    _format: ClassVar[Format]

    def encode(self, message: T) -> bytes:
        form = self._format
        tools = form.tools(self.type)
        try:
            payload = tools.encode(message)
        except encode_failures as error:
            _refuse_message(form.word, error)
        if not self._arrive([message], [payload], tools):
            self._check_sent(message, payload, tools)
        return payload

    def encode_many(self, messages: Iterable[T]) -> list[bytes]:
        tools = self._format.tools(self.type)
        given = messages if isinstance(messages, list) else list(messages)
        try:
            payloads = list(map(tools.encode, given))
        except encode_failures:
            payloads = []
        if len(payloads) == len(given) and self._arrive(given, payloads, tools):
            return payloads
        return list(map(self.encode, given))

    def decode(self, payload: bytes) -> T:
        form = self._format
        tools = form.tools(self.type)
        try:
            message = tools.decode(payload)
        except _decode_failures as error:
            refuse_payload(form.word, error, payload)
        if not self._sound([payload], [message], tools):
            if not form.within([payload], self.max_depth):
                raise _too_deep_payload(form.word, self.max_depth, payload)
            self._blame(payload)
        return cast("T", message)

    def decode_many(self, payloads: list[bytes]) -> list[T]:
        tools = self._format.tools(self.type)
        try:
            messages = list(map(tools.decode, payloads))
        except _decode_failures:
            messages = []
        if len(messages) == len(payloads) and self._sound(payloads, messages, tools):
            return messages
        return list(map(self.decode, payloads))

    def _arrive(self, messages: list[T], payloads: list[bytes], tools: Tools) -> bool:
        """Whether it is certain that no payload nests too deep and, where that is verified, each arrives as it was sent."""
        form = self._format
        try:
            if not self.verify:
                return form.within(payloads, self.max_depth)
            if self.type is Any:
                return arrives(messages, payloads, tools.decode, form.is_json, self.max_depth)
            return (
                form.within(payloads, self.max_depth)
                and not any(map(self._suspect, payloads))
                and list(map(tools.decode, payloads)) == messages
            )
        except encode_failures:
            return False  # the peer would refuse one of them

    def _check_sent(self, message: T, payload: bytes, tools: Tools) -> None:
        """Raise `EncodeError` unless the payload does not nest too deep, and arrives as the message."""
        word = self._format.word
        if not self._format.within([payload], self.max_depth):
            raise EncodeError(
                f"the message nests deeper than max_depth={self.max_depth}, or holds itself", expected=self.max_depth
            )
        try:
            arrived = tools.decode(payload)
        except encode_failures as error:
            raise EncodeError(f"the peer would refuse this message: {error}") from error
        path = self._lost(message, payload) if self._suspect(payload) else None
        if path is None and self.type is Any:
            path = find_difference(message, arrived)
        if path is not None:
            raise EncodeError(f"{word} would carry what is at {path} as something else; {self._format.hint}")
        if self.type is not Any:
            _verify_typed(word, message, arrived, payload, tools.encode)

    def _sound(self, payloads: list[bytes], messages: list[Any], tools: Tools) -> bool:
        """Whether it is certain that nothing is wrong with payloads that were read as ``messages``."""
        form = self._format
        if self.type is not Any:
            if not form.within(payloads, self.max_depth):
                return False
            if tools.same(payloads, messages) and not any(map(self._suspect, payloads)):
                return True
            try:
                # What a type does not know it skips, unread.
                messages = list(map(form.tools(Any).decode, payloads))
            except _decode_failures:
                return False
        return form.sound(payloads, messages, self.max_depth, self.unique_keys, tools.same)

    def _suspect(self, payload: bytes) -> bool:
        """Whether there may be something in a payload that msgspec carries, in one direction or both, and we do not."""
        raise NotImplementedError

    def _lost(self, message: T, payload: bytes) -> str | None:
        """The path of what a suspect payload does not carry of its message, or None."""
        raise NotImplementedError

    def _blame(self, payload: bytes) -> None:
        """Raise `DecodeError` for what is wrong, if anything is, with a payload that was read and is not too deep."""
        raise NotImplementedError


def refuse_payload(word: str, error: Exception, payload: bytes) -> NoReturn:
    """Raise what the parser said about ``payload`` as `DecodeError`, with the path apart."""
    if isinstance(error, RecursionError):
        raise _too_deep_payload(word, None, payload) from None
    text = str(error)
    place = _PLACE.search(text)
    path = place[1] if place else None
    raise DecodeError(f"not the {word} that is expected: {text}", path=path, head=payload[:HEAD_BYTES]) from error


def _refuse_message(word: str, error: Exception) -> NoReturn:
    """Raise what the encoder said about a message as `EncodeError`."""
    if isinstance(error, RecursionError):
        raise EncodeError("the message nests too deeply to be sent, or holds itself") from None
    raise EncodeError(f"this message has no {word}: {error}") from error


def _too_deep_payload(word: str, max_depth: int | None, payload: bytes) -> DecodeError:
    """The error for a payload that nests deeper than ``max_depth``."""
    limit = "anything that can be read" if max_depth is None else f"max_depth={max_depth}"
    return DecodeError(f"the {word} nests deeper than {limit}", expected=max_depth, head=payload[:HEAD_BYTES])


def repeated_key(word: str, payload: bytes, key: str | None = None) -> DecodeError:
    """The error for a map that has one key twice."""
    which = "a key" if key is None else f"the key {key!r}"
    return DecodeError(
        f"the {word} has {which} twice in one map: which value counts cannot be known "
        "(unique_keys=False takes the last one)",
        head=payload[:HEAD_BYTES],
    )


def _verify_typed(word: str, message: Any, arrived: Any, payload: bytes, encode: Callable[[Any], bytes]) -> None:
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
