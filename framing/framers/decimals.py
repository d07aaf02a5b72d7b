"""Framers with a length written as text: netstrings, octet counting, Content-Length headers.

The number must be written the one way that every peer reads alike: digits only, no leading zero, no sign, no space.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from framing.errors import EncodeError
from framing.framers.base import Framer, check_option
from framing.kernels import split_content_length, split_decimal
from framing.kernels.contract import Splitter

__all__ = ["ContentLength", "Netstring", "OctetCounted"]

_MOST_DIGITS = 9
_MOST_PAYLOAD = 10**_MOST_DIGITS - 1


def _max_digits(max_frame: int) -> int:
    return min(_MOST_DIGITS, len(str(max_frame)))


@dataclass(frozen=True, slots=True)
class Netstring(Framer):
    """``12:hello world!,``: the length in decimal digits, a colon, the payload, a comma.

    Nine digits at the most, no leading zero but in ``0:,``. Source: D. J. Bernstein, "Netstrings" (1997).
    """

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_option("max_frame", self.max_frame, 0, _MOST_PAYLOAD)

    def splitter(self) -> Splitter:
        return partial(split_decimal, b":", b",", True, _max_digits(self.max_frame), self.max_frame)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        return b"%d:" % len(payload), b","


@dataclass(frozen=True, slots=True)
class OctetCounted(Framer):
    """``12 <34>1 hello…``: the length in decimal digits, a space, the payload: syslog over TCP and TLS.

    The grammar has no length of zero, so an empty payload is an `EncodeError`. Nine digits at the most.
    Source: RFC 6587, section 3.4.1; RFC 5425, section 4.3.
    """

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_option("max_frame", self.max_frame, 1, _MOST_PAYLOAD)

    def splitter(self) -> Splitter:
        return partial(split_decimal, b" ", b"", False, _max_digits(self.max_frame), self.max_frame)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        if not payload:
            raise EncodeError("octet counting has no frame for an empty payload (RFC 6587: the length has no zero)")
        return b"%d " % len(payload), b""


@dataclass(frozen=True, slots=True)
class ContentLength(Framer):
    r"""``Content-Length: 12\r\n\r\n`` and the payload: the base protocol of LSP and DAP.

    Other header lines are accepted and ignored. A header without Content-Length, with two, with a line that does not
    end in CRLF, or of more than ``max_header`` bytes (blank line included) is a `CorruptFrame`. The length counts
    bytes. Source: Language Server Protocol 3.17, "Base Protocol".
    """

    max_header: int = field(default=4096, kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_option("max_header", self.max_header, 64, 1 << 20)

    def splitter(self) -> Splitter:
        return partial(split_content_length, self.max_header, self.max_frame)

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        return b"Content-Length: %d\r\n\r\n" % len(payload), b""
