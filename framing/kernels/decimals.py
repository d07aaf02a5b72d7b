"""Kernels for a length written as text: netstrings, octet counting, Content-Length headers.

Digits are where lenient parsers differ, and where they differ streams are smuggled: no sign, no space, no leading
zero, no more digits than the limit has. What is wrong with a number is judged byte by byte from its first digit, so
that a number which arrives in pieces is refused at the same byte, for the same reason.
"""

from __future__ import annotations

from typing import Any

from framing.kernels.contract import CORRUPT, TOO_LARGE, Data, Fault, Memo, Split

__all__ = ["parse_content_length", "split_content_length", "split_decimal"]

_ZERO = 0x30
_DIGITS = b"0123456789"
_BLANK_LINE = b"\r\n\r\n"
_FIELD = b"Content-Length: "


def split_decimal(
    terminator: bytes,
    trailer: bytes,
    zero_allowed: bool,
    max_digits: int,
    max_frame: int,
    data: Data,
    start: int,
    memo: Memo,
    limit: int,
) -> Split:
    """Decimal digits, one byte of ``terminator``, the payload, and ``trailer`` (none or one byte)."""
    payloads: list[Any] = []
    append = payloads.append
    size = len(data)
    tail = len(trailer)
    at = start
    while True:
        stop = data.find(terminator, at, at + max_digits + 1)
        digits = data[at : stop if stop >= 0 else min(size, at + max_digits + 1)]
        # A first digit of zero is right only where it is the whole number and a zero is allowed.
        if stop < 0 or not digits.isdigit() or digits[0] == _ZERO:
            fault = _digits_fault(digits, stop >= 0, zero_allowed, max_digits, max_frame)
            if fault is not None:
                return payloads, at, 0, None, 0, fault
            if stop < 0:
                return payloads, at, size - at + 1, None, 0, None
        length = int(digits)
        begin = stop + 1
        end = begin + length
        if length > max_frame:
            fault = (TOO_LARGE, "its length announces more than that", max_frame, length, begin - at)
            return payloads, at, 0, None, 0, fault
        if end + tail > size:
            return payloads, at, end + tail - at, None, 0, None
        if tail and data[end] != trailer[0]:
            reason = f"byte {trailer!r} is not behind the payload"
            return payloads, at, 0, None, 0, (CORRUPT, reason, trailer[0], data[end], begin - at)
        append(data[begin:end])
        at = end + tail
        if limit and len(payloads) == limit:
            return payloads, at, 0, None, 0, None


def _digits_fault(digits: Data, ended: bool, zero_allowed: bool, max_digits: int, max_frame: int) -> Fault | None:
    """The first thing wrong with a number, judged from its first byte on, or None where nothing is wrong so far."""
    for index, byte in enumerate(digits):
        if byte not in _DIGITS:
            return (CORRUPT, "its length is not written in decimal digits", None, byte, index + 1)
        if byte == _ZERO and index == 0 and not zero_allowed:
            return (CORRUPT, "its length begins with a zero", None, byte, 1)
        if index == 1 and digits[0] == _ZERO:
            return (CORRUPT, "its length has a leading zero", None, byte, 2)
        if index == max_digits:
            return (
                TOO_LARGE,
                "its length has more digits than that, at the least",
                max_frame,
                10**max_digits,
                index + 1,
            )
    if ended and not digits:
        return (CORRUPT, "its length has no digit", None, None, 1)
    return None


def split_content_length(max_header: int, max_frame: int, data: Data, start: int, memo: Memo, limit: int) -> Split:
    """Header lines in CRLF with one Content-Length among them, a blank line, the payload.

    The memo is how many bytes of the header hold no blank line's start.
    """
    payloads: list[Any] = []
    size = len(data)
    at = start
    scanned = memo or 0
    while True:
        stop = data.find(_BLANK_LINE, at + scanned, at + max_header)
        if stop < 0:
            held = size - at
            if held >= max_header:
                reason = "its header is longer than max_header"
                return payloads, at, 0, None, 0, (CORRUPT, reason, max_header, None, max_header)
            return payloads, at, held + 1, max(0, held - 3) if held else None, 0, None
        begin = stop + 4
        length = parse_content_length(bytes(data[at:stop]), max_frame)
        if isinstance(length, str):
            return payloads, at, 0, None, 0, (CORRUPT, length, None, None, begin - at)
        if length > max_frame:
            fault = (TOO_LARGE, "its Content-Length announces more than that", max_frame, length, begin - at)
            return payloads, at, 0, None, 0, fault
        end = begin + length
        if end > size:
            return payloads, at, end - at, None, 0, None
        payloads.append(data[begin:end])
        at = end
        scanned = 0
        if limit and len(payloads) == limit:
            return payloads, at, 0, None, 0, None


def parse_content_length(header: bytes, max_frame: int) -> int | str:
    """The length that a header block (without its blank line) gives, or what is wrong with the block.

    A number of too many digits comes back as ten times the largest of as many digits as ``max_frame`` has, which is
    above any limit: ``int()`` of a hostile number of digits costs more than it is worth.
    """
    value: bytes | None = header[len(_FIELD) :] if header.startswith(_FIELD) else None
    if value is None or not value.isdigit():
        value = None
        for line in header.split(b"\r\n"):
            name, colon, content = line.partition(b":")
            if not colon or not name or name.strip(b" \t") != name or b"\n" in line or b"\r" in line:
                return "its header has a line that is not 'Name: value'"
            if name.lower() == b"content-length":
                if value is not None:
                    return "its header has more than one Content-Length"
                value = content.strip(b" \t")
        if value is None:
            return "its header has no Content-Length"
    if not value.isdigit() or (len(value) > 1 and value[0] == _ZERO):
        return "its Content-Length is not a plain decimal number"
    most = len(str(max_frame))
    return int(value) if len(value) <= most else 10**most
