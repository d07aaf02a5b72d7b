"""Law 8: errors are of the hierarchy, and what they say is true of the stream."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

from framing.errors import DecodeError, Violation, guess_protocol
from framing.testing.laws.court import PLAIN_ERRORS, Court
from framing.testing.runs import describe
from framing.wire import Wire

__all__ = ["foreign_streams", "useful_errors", "useful_refusal"]


def useful_errors(court: Court, streams: Iterable[bytes]) -> None:
    """Of the hierarchy, with a text, and with numbers that are true of the stream."""
    for stream in streams:
        decoder = court.make()
        try:
            decoder.feed(stream)
            while decoder.pending:
                decoder.feed(b"")
        except DecodeError:
            continue
        except Violation:
            pass
        except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
            court.broken(
                8, "a stream raises something outside the hierarchy", stream, (), "a Violation", describe(error)
            )
        if decoder.error is not None:
            _useful(court, stream, decoder.error)


def _useful(court: Court, stream: bytes, error: Violation) -> None:
    said = describe(error)
    text = str(error)
    if type(error).__name__ not in PLAIN_ERRORS:
        court.broken(
            8, "the violation is none of FrameTooLarge, CorruptFrame, TruncatedFrame", stream, (), PLAIN_ERRORS, said
        )
    if not 0 <= error.offset < len(stream):
        court.broken(8, "the offset is not in the stream", stream, (), f"0 to {len(stream) - 1}", error.offset)
    if len(error.head) > 16 or not stream[error.offset :].startswith(error.head):
        court.broken(
            8, "head is not the first bytes of the offending frame", stream, (), stream[error.offset :][:16], error.head
        )
    if not text.strip() or str(error.offset) not in text:
        court.broken(8, "the text does not say where", stream, (), f"byte {error.offset}", text)
    begins = guess_protocol(error.head)
    if begins is not None and begins not in text:
        court.broken(8, "the bytes are another protocol's, and the text does not say so", stream, (), begins, text)
    try:
        again = describe(pickle.loads(pickle.dumps(error)))  # noqa: S301 -- it was pickled in the same call
    except Exception as failure:  # noqa: BLE001 -- whatever it raises, the error does not travel
        court.broken(8, "the error cannot be pickled", stream, (), said, describe(failure))
    if again != said:
        court.broken(8, "the error loses its numbers when pickled", stream, (), said, again)
    court.holds(8)


def foreign_streams(court: Court) -> None:
    """Streams of other protocols, from the first byte: whatever is refused of them is refused usefully."""
    for stream in (
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4,
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b'{"a": 1}' * 4,
    ):
        useful_errors(court, [stream])


def useful_refusal(court: Court, wire: Wire[Any], payload: bytes) -> None:
    """A refusal has a text, and travels."""
    try:
        wire.opener()(payload)
    except DecodeError as error:
        if not str(error).strip():
            court.broken(8, "the DecodeError says nothing", payload)
        try:
            again = describe(pickle.loads(pickle.dumps(error)))  # noqa: S301 -- it was pickled in the same call
        except Exception as failure:  # noqa: BLE001 -- whatever it raises, the error does not travel
            court.broken(8, "the DecodeError cannot be pickled", payload, (), describe(error), describe(failure))
        if again != describe(error):
            court.broken(8, "the DecodeError loses its numbers when pickled", payload, (), describe(error), again)
