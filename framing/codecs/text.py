"""Text: a string in one encoding, strictly."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from framing.codecs.base import Codec
from framing.errors import HEAD_BYTES, DecodeError, EncodeError

__all__ = ["Text"]


@dataclass(frozen=True, slots=True)
class Text(Codec[str]):
    """Strings as text in ``encoding``: any text encoding of Python's, by any of its names; UTF-8 unless told otherwise.

    `encode` raises `EncodeError` for what is no str, for a character that the encoding has not (a lone surrogate, in
    UTF-8), and for a string that would come back as another, as under an encoding that drops a byte order mark.
    `decode` raises `DecodeError`, with the position of the first wrong byte as ``got``. Nothing is replaced or ignored.

    Raises LookupError for an unknown encoding, ValueError for a codec that is not one of text, such as ``rot13``.
    """

    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        """Check that the encoding is there and is one of text."""
        codecs.lookup(self.encoding)
        try:
            # str.encode refuses Python's codecs between bytes and bytes, or str and str, by a LookupError.
            "".encode(self.encoding)
        except LookupError as error:
            raise ValueError(f"{self.encoding!r} is no encoding of text") from error

    def encode(self, message: str) -> bytes:
        """The string in the encoding."""
        if not isinstance(message, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers need not be typed
            raise EncodeError(f"Text sends str, not {type(message).__name__}")
        try:
            payload = message.encode(self.encoding)
            if self.encoding != "utf-8" and payload.decode(self.encoding) != message:
                raise EncodeError(f"in {self.encoding} this string would arrive as another")
        except UnicodeError as error:
            raise EncodeError(f"no {self.encoding} for this string: {error}") from error
        return payload

    def decode(self, payload: bytes) -> str:
        """The string that the payload spells."""
        try:
            return payload.decode(self.encoding)
        except UnicodeError as error:
            raise DecodeError(
                f"not {self.encoding}: {error}", got=getattr(error, "start", None), head=payload[:HEAD_BYTES]
            ) from error
