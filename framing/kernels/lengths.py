"""Kernels for a binary length before the payload: fixed width, varint, a field inside a header, fixed size, records.

Plain Python, and the reference for any faster twin. Each loop leaves the common path first: a whole frame costs one
read of the length, one slice and one append; what is wrong with a frame is worked out only behind the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from framing.kernels.contract import CORRUPT, TOO_LARGE, Data, Fault, Memo, Split

__all__ = [
    "join_prefixed",
    "join_varint",
    "read_unsigned",
    "read_varint",
    "split_field",
    "split_fixed",
    "split_prefixed",
    "split_records",
    "split_varint",
    "varint_size",
    "write_varint",
]

_FORMATS = {
    order: {width: Struct(sign + letter) for width, letter in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))}
    for order, sign in (("big", ">"), ("little", "<"))
}
_WORD = Struct(">I")
_LAST_FRAGMENT = 0x8000_0000


def read_unsigned(data: Data, at: int, width: int, byteorder: Any) -> int:
    """The unsigned number of ``width`` bytes at ``at``."""
    return int.from_bytes(data[at : at + width], byteorder)


def write_varint(value: int) -> bytes:
    """``value`` as LEB128: seven bits a byte, the least significant first, in as few bytes as it takes."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_size(value: int) -> int:
    """How many bytes ``value`` takes as a varint."""
    return max(1, (value.bit_length() + 6) // 7)


def read_varint(data: Data, at: int, most: int) -> tuple[int, int] | str | None:
    """Read the varint at ``at``, of ``most`` bytes at the most.

    Returns ``(value, end)``; None where bytes are missing; or why it is none: `TOO_LARGE` (its value needs more than
    ``most`` bytes) or `CORRUPT` (it ends in a zero byte: a shorter spelling of the same number exists, and two
    spellings of one stream are what a smuggler needs).
    """
    value = shift = 0
    for index in range(at, min(at + most, len(data))):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return CORRUPT if byte == 0 and shift else (value, index + 1)
        shift += 7
    return None if len(data) - at < most else TOO_LARGE


def join_prefixed(
    width: int, byteorder: Any, counted: int, min_frame: int, max_frame: int, payloads: list[Any]
) -> bytes | None:
    """The frames of all payloads, as `split_prefixed` takes them apart, in one bytes object.

    None where one of them is no ``bytes``, too small or too large: what is wrong with it, encoding it by itself tells.
    """
    most = min(max_frame, (1 << 8 * width) - 1 - counted)

    def header(size: int) -> bytes:
        return (size + counted).to_bytes(width, byteorder)

    return _join(header, min_frame, most, payloads)


def join_varint(min_frame: int, max_frame: int, payloads: list[Any]) -> bytes | None:
    """The same for `split_varint`."""
    return _join(write_varint, min_frame, max_frame, payloads)


def _join(header: Callable[[int], bytes], least: int, most: int, payloads: list[Any]) -> bytes | None:
    if len(payloads) == 1:
        (payload,) = payloads
        return header(len(payload)) + payload if type(payload) is bytes and least <= len(payload) <= most else None
    if list(map(type, payloads)).count(bytes) < len(payloads):
        return None
    sizes = list(map(len, payloads))
    distinct = set(sizes)  # few, among many payloads
    if not all(least <= size <= most for size in distinct):
        return None
    headers = {size: header(size) for size in distinct}
    if len(headers) == 1:
        return headers[sizes[0]].join([b"", *payloads])
    parts = [b""] * (2 * len(payloads))
    parts[::2] = [headers[size] for size in sizes]
    parts[1::2] = payloads
    return b"".join(parts)


def split_prefixed(
    width: int,
    byteorder: Any,
    counted: int,
    min_frame: int,
    max_frame: int,
    data: Data,
    start: int,
    memo: Memo,
    limit: int,
) -> Split:
    """A length of ``width`` bytes, then the payload; the length counts ``counted`` bytes besides the payload."""
    payloads: list[Any] = []
    append = payloads.append
    size = len(data)
    at = start
    form = _FORMATS[byteorder].get(width)
    read = form.unpack_from if form is not None else None
    if read is not None and not (limit or counted or min_frame) and size - start <= max_frame:
        # What is there whole is within the limit, then, and need not be judged.
        last = size - width
        while at <= last:
            begin = at + width
            (length,) = read(data, at)
            end = begin + length
            if end > size:
                break
            append(data[begin:end])
            at = end
        else:
            return payloads, at, width, None, 0, None
    else:
        while True:
            begin = at + width
            if begin > size:
                return payloads, at, width, None, 0, None
            value = read(data, at)[0] if read is not None else int.from_bytes(data[at:begin], byteorder)
            length = value - counted
            end = begin + length
            if end > size or length > max_frame or length < min_frame:
                break
            append(data[begin:end])
            at = end
            if limit and len(payloads) == limit:
                return payloads, at, 0, None, 0, None
    fault: Fault | None = None
    if length > max_frame:
        fault = (TOO_LARGE, "its length field announces more than that", max_frame, length, width)
    elif length < min_frame:
        reason = "the length field is less than the least that a frame can have"
        fault = (CORRUPT, reason, min_frame + counted, length + counted, width)
    return payloads, at, width + length, None, 0, fault


def split_varint(min_frame: int, max_frame: int, data: Data, start: int, memo: Memo, limit: int) -> Split:
    """A LEB128 length, then the payload (protobuf's delimited streams)."""
    payloads: list[Any] = []
    append = payloads.append
    size = len(data)
    most = varint_size(max_frame)
    at = start
    while at < size:
        length = data[at]
        begin = at + 1
        if length > 0x7F:
            number = read_varint(data, at, most)
            if number is None:
                return payloads, at, size - at + 1, None, 0, None
            if isinstance(number, str):
                return payloads, at, 0, None, 0, _varint_fault(number, max_frame, most, data, at, 0)
            length, begin = number
        end = begin + length
        if length > max_frame:
            fault = (TOO_LARGE, "its length announces more than that", max_frame, length, begin - at)
            return payloads, at, 0, None, 0, fault
        if length < min_frame:
            fault = (CORRUPT, "the length is less than the least that a frame can have", min_frame, length, begin - at)
            return payloads, at, 0, None, 0, fault
        if end > size:
            return payloads, at, end - at, None, 0, None
        append(data[begin:end])
        at = end
        if limit and len(payloads) == limit:
            return payloads, at, 0, None, 0, None
    return payloads, at, 1, None, 0, None


def _varint_fault(kind: str, max_frame: int, most: int, data: Data, at: int, offset: int) -> Fault:
    if kind == TOO_LARGE:
        return (TOO_LARGE, "its length announces more than that, at the least", max_frame, 1 << 7 * most, offset + most)
    end = at + offset
    while data[end] > 0x7F:
        end += 1
    return (CORRUPT, "its length is a varint with a needless last byte of zero", None, None, end + 1 - at)


def split_field(
    width: int,
    byteorder: Any,
    offset: int,
    adjust: int,
    prefix: bytes,
    trailer: bytes,
    min_frame: int,
    max_frame: int,
    data: Data,
    start: int,
    memo: Memo,
    limit: int,
) -> Split:
    """A length somewhere in a header; the frame is returned whole. ``width`` 0 is a varint.

    Behind the field come its value plus ``adjust`` bytes, the last of which are ``trailer``.
    """
    payloads: list[Any] = []
    append = payloads.append
    size = len(data)
    at = start
    form = _FORMATS[byteorder].get(width)
    read = form.unpack_from if form is not None else None
    behind = offset + width
    tail = len(trailer)
    lead = len(prefix)  # until it is whole, each byte that comes may be the wrong one
    # What the field counts besides what follows it makes its value larger than the frame may be.
    most = varint_size(max_frame - min(adjust, 0))
    while True:
        if prefix and (fault := _prefix_fault(prefix, data, at)) is not None:
            return payloads, at, 0, None, 0, fault
        field = at + offset
        if width:
            body = at + behind
            if body > size:
                return payloads, at, behind if size - at >= lead else size - at + 1, None, 0, None
            value = read(data, field)[0] if read is not None else int.from_bytes(data[field:body], byteorder)
        else:
            if field >= size:
                return payloads, at, offset + 1 if size - at >= lead else size - at + 1, None, 0, None
            number = read_varint(data, field, most)
            if number is None:
                return payloads, at, size - at + 1, None, 0, None
            if isinstance(number, str):
                return payloads, at, 0, None, 0, _varint_fault(number, max_frame, most, data, at, offset)
            value, body = number
        end = body + value + adjust
        total = end - at
        if total > max_frame:
            fault = (TOO_LARGE, "its length field announces more than that", max_frame, total, body - at)
            return payloads, at, 0, None, 0, fault
        if end < body + tail or total < min_frame:
            least = max(tail - adjust, min_frame - (body - at) - adjust)
            reason = "the length field is less than the least that a frame can have"
            return payloads, at, 0, None, 0, (CORRUPT, reason, least, value, body - at)
        if end > size:
            return payloads, at, total, None, 0, None
        if tail and data[end - tail : end] != trailer:
            return payloads, at, 0, None, 0, (CORRUPT, "the trailer is not behind the body", None, None, body - at)
        append(data[at:end])
        at = end
        if limit and len(payloads) == limit:
            return payloads, at, 0, None, 0, None


def _prefix_fault(prefix: bytes, data: Data, at: int) -> Fault | None:
    """Why the bytes at ``at`` do not begin with ``prefix``, judged as far as they have come."""
    here = data[at : at + len(prefix)]
    if prefix.startswith(bytes(here)):
        return None
    wrong = next(index for index, byte in enumerate(here) if byte != prefix[index])
    return (
        CORRUPT,
        "it does not begin with the bytes that every frame begins with",
        prefix[wrong],
        here[wrong],
        wrong + 1,
    )


def split_fixed(width: int, data: Data, start: int, memo: Memo, limit: int) -> Split:
    """Frames of ``width`` bytes, nothing between them."""
    count = (len(data) - start) // width
    if limit:
        count = min(count, limit)
    used = start + count * width
    payloads: list[Any] = [data[at : at + width] for at in range(start, used, width)]
    return payloads, used, 0 if limit and count == limit else width, None, 0, None


def split_records(max_frame: int, max_fragments: int, data: Data, start: int, memo: Memo, limit: int) -> Split:
    """RFC 5531, section 11: fragments of 31 bits of length, the high bit on the last; returned put together.

    The memo is where the next fragment's header is, how much payload came before it and in how many fragments.
    """
    payloads: list[Any] = []
    size = len(data)
    at = start
    position, total, count = memo or (0, 0, 0)
    while True:
        here = at + position
        if here + 4 > size:
            return payloads, at, position + 4, (position, total, count) if position else None, 0, None
        word = _WORD.unpack_from(data, here)[0]
        length = word & 0x7FFF_FFFF
        if total + length > max_frame:
            reason = "its fragments announce more than that"
            return payloads, at, 0, None, 0, (TOO_LARGE, reason, max_frame, total + length, position + 4)
        if count == max_fragments:
            reason = "it comes in more fragments than are allowed"
            return payloads, at, 0, None, 0, (CORRUPT, reason, max_fragments, count + 1, position + 4)
        end = here + 4 + length
        if end > size:
            return payloads, at, end - at, (position, total, count) if position else None, 0, None
        position, total, count = end - at, total + length, count + 1
        if word >= _LAST_FRAGMENT:
            payloads.append(data[here + 4 : end] if count == 1 else _reassemble(data, at, end))
            at = end
            position = total = count = 0
            if limit and len(payloads) == limit:
                return payloads, at, 0, None, 0, None


def _reassemble(data: Data, at: int, end: int) -> bytes:
    parts: list[Data] = []
    while at < end:
        behind = at + 4 + (_WORD.unpack_from(data, at)[0] & 0x7FFF_FFFF)
        parts.append(data[at + 4 : behind])
        at = behind
    return b"".join(parts)
