"""StructHeader: a framer whose header is declared with construct, for headers that vary (WebSocket, ZMTP, BER).

The header is parsed from the bytes held; a read that goes beyond them means "wait for so many more", whatever the
declaration makes of it. That is the one rule that keeps an optional field from being decided by how the stream was cut.
A header of fixed size made of plain numbers does not go through construct at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from struct import Struct as Packed
from typing import Any, cast

from framing.declaration import declaration_key, dump_declaration, load_declaration
from framing.errors import HEAD_BYTES, CorruptFrame, EncodeError
from framing.framers.base import Framer, check_option
from framing.kernels import split_found
from framing.kernels.contract import Data, Splitter

__all__ = ["StructHeader"]


class _Held:
    """The bytes held, as the stream that construct reads from; it notes what was asked for and is not there."""

    __slots__ = ("_data", "_most", "_start", "at", "missing", "too_long")

    def __init__(self, data: Data, start: int, most: int) -> None:
        self._data = data
        self._start = start
        self._most = most
        self.at = start
        self.missing = 0
        self.too_long = False

    def read(self, size: int | None = None) -> bytes:
        if size is None or size < 0:
            self.too_long = True  # to the end of the stream: no header does that
            return b""
        end = self.at + size
        if end - self._start > self._most:
            self.too_long = True
            return b""
        if end > len(self._data):
            self.missing = max(self.missing, end - len(self._data))
            return b""
        chunk = bytes(self._data[self.at : end])
        self.at = end
        return chunk

    def tell(self) -> int:
        return self.at - self._start

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2:
            self.too_long = True
            return self.tell()
        self.at = (self._start if whence == 0 else self.at) + offset
        return self.tell()


@dataclass(frozen=True, slots=True, eq=False)
class StructHeader(Framer):
    """A header declared with construct, then as many bytes as ``size`` makes of its fields; the frame is delivered whole.

    ``declaration`` is a construct ``Struct`` that says by itself where it ends; ``size`` an expression of its fields
    (``this.length - 4``) or a function of the parsed header: how many bytes follow it. A header may take ``max_header``
    bytes. ``max_frame`` bounds the whole frame.

    To encode is to check: the payload is the whole frame, and its header must agree with its size.
    A header that does not parse, or gives a size that is none, is a `CorruptFrame`.
    """

    declaration: Any
    size: Any = field(kw_only=True)
    max_header: int = field(default=256, kw_only=True)

    def __post_init__(self) -> None:
        Framer.__post_init__(self)
        check_option("max_header", self.max_header, 1, 1 << 16)
        if not hasattr(self.declaration, "parse_stream"):
            raise TypeError(f"the header is a construct declaration, not {type(self.declaration).__name__}")
        if not callable(self.size):
            raise TypeError(
                f"size is an expression of the header's fields (this.length) or a function, not {self.size!r}"
            )

    def _key(self) -> tuple[Any, ...]:
        return (declaration_key(self.declaration), declaration_key(self.size), self.max_header, self.max_frame)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, StructHeader) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the declaration's own pickle, which construct's objects need."""
        dumped = dump_declaration((self.declaration, self.size))
        return (_restore, (dumped, self.max_header, self.max_frame))

    def splitter(self) -> Splitter:
        find = self.find
        quick = _plain_header(self.declaration, self.size)
        if quick is not None and quick[0] <= self.max_header:
            find = partial(_find_plain, *quick, self.find)
        return cast("Splitter", partial(split_found, find, self.max_frame))

    def find(self, data: Data, start: int, seen: int) -> tuple[int, int, int] | int:
        parsed = self._parse(data, start)
        if isinstance(parsed, int):
            return parsed
        _, body, size = parsed
        return start, body + size, body + size

    def unpack(self, payload: bytes) -> tuple[Any, bytes]:
        """The parsed header of a whole frame, and the bytes behind it; raises `CorruptFrame` as decoding does."""
        parsed = self._parse(payload, 0)
        if isinstance(parsed, int):
            raise CorruptFrame(f"the frame ends {parsed} bytes before its header does", got=len(payload))
        return parsed[0], payload[parsed[1] :]

    def surround(self, payload: bytes) -> tuple[bytes, bytes]:
        try:
            parsed = self._parse(payload, 0)
        except CorruptFrame as error:
            raise EncodeError(f"the frame's header is wrong: {error}") from error
        total = len(payload) + parsed if isinstance(parsed, int) else parsed[1] + parsed[2]
        if total != len(payload):
            raise EncodeError(
                f"the header says a frame of {total} bytes, but it has {len(payload)}; give the whole frame, header included",
                expected=total,
                got=len(payload),
            )
        return b"", b""

    def _parse(self, data: Data, start: int) -> tuple[Any, int, int] | int:
        """The header, where it ends, and the size of what follows; or how many bytes are missing."""
        from construct import ConstructError  # noqa: PLC0415 -- construct is loaded when it is used

        held = _Held(data, start, self.max_header)
        header: Any = None
        failure: Exception | None = None
        try:
            header = self.declaration.parse_stream(held)
        except (ConstructError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            failure = error
        if held.missing:
            return held.missing
        head = bytes(data[start : min(held.at, start + HEAD_BYTES)])
        if held.too_long:
            reason = f"its header does not end within max_header={self.max_header}"
            raise CorruptFrame(reason, expected=self.max_header, head=head)
        if failure is not None:
            reason = " ".join(str(failure).split())
            raise CorruptFrame(f"its header does not parse: {reason}", head=head) from failure
        return header, held.at, _evaluate(self.size, header, head)


def _restore(dumped: bytes, max_header: int, max_frame: int) -> StructHeader:
    declaration, size = load_declaration(dumped)
    return StructHeader(declaration, size=size, max_header=max_header, max_frame=max_frame)


def _evaluate(size: Any, header: Any, head: bytes) -> int:
    try:
        value = size(header)
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFrame(f"its size cannot be computed from its header: {error!r}", head=head) from error
    if not isinstance(value, int) or value < 0:
        raise CorruptFrame(f"its header gives a size of {value!r}", head=head)
    return value


def _plain_header(
    declaration: Any, size: Any
) -> tuple[int, Packed, tuple[str, ...], tuple[tuple[int, bytes], ...], Any] | None:
    """How to read the header without construct, where it is only named numbers and constants of one byte order."""
    import construct  # noqa: PLC0415 -- loaded when it is used

    kinds: Any = construct  # its objects are looked into, and have no types
    if type(declaration) is not kinds.Struct or not isinstance(size, kinds.expr.ExprMixin):
        return None
    orders: set[str] = set()
    form = ""
    names: list[str] = []
    constants: list[tuple[int, bytes]] = []
    for part in declaration.subcons:
        inner = part.subcon if type(part) is kinds.Renamed else part
        if type(inner) is kinds.FormatField and part.name and inner.fmtstr[0] in "<>":
            if inner.length > 1:
                orders.add(inner.fmtstr[0])
            form += inner.fmtstr[1]
        elif type(inner) is kinds.Const and isinstance(inner.value, bytes) and type(inner.subcon) is kinds.Bytes:
            constants.append((len(names), inner.value))
            form += f"{len(inner.value)}s"
        else:
            return None
        names.append(part.name or "")
    if len(orders) > 1 or not names:
        return None
    packed = Packed((orders.pop() if orders else ">") + form)
    return packed.size, packed, tuple(names), tuple(constants), size


def _find_plain(
    width: int,
    packed: Packed,
    names: tuple[str, ...],
    constants: tuple[tuple[int, bytes], ...],
    size: Any,
    careful: Callable[[Data, int, int], tuple[int, int, int] | int],
    data: Data,
    start: int,
    seen: int,
) -> tuple[int, int, int] | int:
    body = start + width
    if body > len(data):
        # What is wrong with a header that is not whole (a constant), construct says at the byte where it shows.
        return careful(data, start, seen) if constants else body - len(data)
    values = packed.unpack_from(data, start)
    for index, constant in constants:
        if values[index] != constant:
            return careful(data, start, seen)
    try:
        end = body + size(dict(zip(names, values, strict=True)))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return careful(data, start, seen)
    return (start, end, end) if type(end) is int and end >= body else careful(data, start, seen)
