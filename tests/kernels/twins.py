"""The table of compiled twins: each with its reference, its options, and what its streams are made of.

Whoever writes a twin adds it to `SPLITTERS` (the kernels of `framing.kernels.contract`) or to `FUNCTIONS` (all others);
`test_twins`, the sanitizer's run and the fuzzer take it from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from framing.kernels import audit, checksums, decimals, delimiters, lengths, stuffing
from tests.kernels.audited import ARRIVES, CBOR_SOUND, IS_PLAIN, JSON_SOUND, MSGPACK_SOUND, WITHIN

__all__ = ["FUNCTIONS", "SAMPLES", "SPLITTERS", "Function", "Splitter"]

Options = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Splitter:
    """A kernel that finds payloads; its twin has the same name."""

    reference: Callable[..., Any]
    options: st.SearchStrategy[Options]
    frame: Callable[[Options, bytes], bytes]
    """A frame of a payload under these options; it need not be right, only near to it."""
    tokens: tuple[bytes, ...] = ()
    """Bytes that mean something."""
    memos: st.SearchStrategy[Any] = field(default_factory=st.none)
    """Memos beside those that the kernel itself gives; none of them may make the reference hang."""
    usual: tuple[Options, ...] = ()
    """Options under which every run has frames of the `SAMPLES`, however few examples it draws."""

    @property
    def name(self) -> str:
        return self.reference.__name__


@dataclass(frozen=True, slots=True)
class Function:
    """Any other function with a twin; ``arguments`` are tuples."""

    reference: Callable[..., Any]
    arguments: st.SearchStrategy[tuple[Any, ...]]
    usual: tuple[Options, ...] = ()
    """Arguments that every run has, however few examples it draws."""

    @property
    def name(self) -> str:
        return self.reference.__name__


WIDTHS = st.integers(1, 8) | st.sampled_from([9, 20, True])  # 0 and less never come to an end
ORDERS = st.sampled_from(["big", "little"])
LIMITS = st.sampled_from(
    [1 << 20] * 4 + [0, 1, 2, 3, 5, 9, 20, 40, 127, 128, 300, (1 << 31) - 1, (1 << 63) - 1, 1 << 63, 1 << 80]
)
SMALL = st.sampled_from([0] * 16 + [1, 2, 3, 5, 8, 12, 1 << 63, 1 << 70])


def _number(value: int, width: int, order: Any) -> bytes:
    return (value % (1 << 8 * width)).to_bytes(width, order) if width > 0 else b""


def _prefixed(options: Options, payload: bytes) -> bytes:
    width, order, counted = options[:3]
    return _number(len(payload) + counted, width, order) + payload


def _varint(options: Options, payload: bytes) -> bytes:
    return lengths.write_varint(len(payload)) + payload


def _field(options: Options, payload: bytes) -> bytes:
    width, order, offset, adjust, prefix, trailer = options[:6]
    size = max(0, len(payload) + len(trailer) - adjust)
    number = _number(size, width, order) if width else lengths.write_varint(size)
    return prefix + b"h" * (offset - len(prefix)) + number + payload + trailer


def _fragments(options: Options, payload: bytes) -> bytes:
    """Several, where the payload is long enough to have a fragment for each of its first bytes."""
    parts = [payload[:1], payload[1:4], payload[4:]] if payload[:1] < b"P" else [payload]
    heads = [len(part) for part in parts]
    heads[-1] |= 0x8000_0000
    return b"".join(head.to_bytes(4, "big") + part for head, part in zip(heads, parts, strict=True))


def _decimal(options: Options, payload: bytes) -> bytes:
    return b"%d%b%b%b" % (len(payload), options[0], payload, options[1])


def _content_length(options: Options, payload: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(payload), payload)


_fields = st.tuples(
    st.integers(0, 8) | st.just(11),
    ORDERS,
    st.integers(0, 6),
    st.integers(-12, 12) | st.sampled_from([-(1 << 31), 1 << 31, 1 << 63, -(1 << 63)]),
    st.sampled_from([b"", b"", b"P", b"PQ"]),
    st.sampled_from([b"", b"", b"\n", b"\xfe\xff"]),
    SMALL,
    LIMITS,
).filter(lambda options: len(options[4]) <= options[2])


def _delimited(options: Options, payload: bytes) -> bytes:
    return payload + options[0]


def _marked(options: Options, payload: bytes) -> bytes:
    return options[1] + payload + options[0][len(payload) % len(options[0])]


def _cobs(options: Options, payload: bytes) -> bytes:
    return stuffing.stuff_cobs(payload) + b"\0"


def _slip(options: Options, payload: bytes) -> bytes:
    return stuffing.stuff_slip(payload) + b"\xc0"


def _hdlc(options: Options, payload: bytes) -> bytes:
    return stuffing.stuff_hdlc(options[0], payload) + b"\x7e"


COUNTS = st.integers(-4, 40) | st.sampled_from([(1 << 63) - 1, 1 << 63])
STUFFED = b"\0\1\xff\xc0\xdb\xdc\xdd\x7e\x7d\x5e\x5d"
SAMPLES = (
    b"",
    b"a",
    STUFFED,
    STUFFED[::-1],
    STUFFED + b"ab",
    b"\0\0",
    *(b"a" * size + b"\xdb\x7d\0" for size in (251, 254, 300)),
)
"""Payloads short and long, that end in what means something in byte stuffing, and in what does not."""
contents = (
    st.binary(max_size=40)
    | st.lists(st.sampled_from(STUFFED)).map(bytes)
    | st.lists(st.sampled_from([b"\0", b"a" * 253, b"b" * 254, b"c" * 255]), max_size=4).map(b"".join)
)
contents = contents | contents | contents.map(bytearray) | st.sampled_from([None, "text", 5])

SPLITTERS = [
    Splitter(
        lengths.split_prefixed,
        st.tuples(WIDTHS, ORDERS, SMALL, SMALL, LIMITS),
        _prefixed,
        (b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\x00" * 7),
        usual=(
            (1, "big", 0, 0, 255),
            (4, "big", 0, 0, 1 << 20),
            (3, "little", 3, 0, 1 << 20),
            (8, "big", 0, 0, (1 << 63) - 1),
        ),
    ),
    Splitter(
        lengths.split_varint,
        st.tuples(SMALL, LIMITS),
        _varint,
        (b"\xff" * 10, b"\xff" * 8 + b"\x7f", b"\xff" * 9 + b"\x01", b"\x80", b"\x80\x00", b"\x81\x80\x00"),
        usual=((0, 1 << 20), (0, (1 << 63) - 1)),
    ),
    Splitter(
        lengths.split_field,
        _fields,
        _field,
        (
            b"P",
            b"Phh",
            b"\x00" * 8,
            b"\xff" * 8,
            b"\xff" * 10,
            b"\x7f" + b"\xff" * 7,
            b"\xff" * 7 + b"\x7f",
            b"\x80\x00",
        ),
        usual=((2, "big", 1, 0, b"P", b"\n", 0, 1 << 20), (0, "big", 0, 0, b"", b"", 0, (1 << 63) - 1)),
    ),
    Splitter(
        lengths.split_fixed,
        st.tuples(st.integers(1, 20) | st.just(1 << 70)),
        lambda _, payload: payload,
        usual=((7,),),
    ),
    Splitter(
        lengths.split_records,
        st.tuples(LIMITS, st.integers(0, 5)),
        _fragments,
        (b"\xff" * 4, b"\x80\x00\x00\x00", b"\x00\x00\x00\x00" * 3, b"\x7f\xff\xff\xff"),
        st.tuples(*[st.integers(0, 30) | st.sampled_from([-1, 1 << 62, (1 << 63) - 1, 1 << 63])] * 3) | st.just(7),
        usual=((1 << 20, 5),),
    ),
    Splitter(
        decimals.split_decimal,
        st.tuples(
            st.sampled_from([b":", b" ", b"1"]),
            st.sampled_from([b",", b""]),
            st.booleans(),
            st.integers(1, 9) | st.sampled_from([0, 17, 18, 40, 1 << 64]),
            LIMITS,
        ),
        _decimal,
        (b"0", b"00", b"1", b"9" * 12, b"9" * 20, b"+", b" ", b":", b",", b"a:"),
        usual=((b":", b",", True, 9, 1 << 20), (b" ", b"", False, 9, 1 << 20)),
    ),
    Splitter(
        decimals.split_content_length,
        st.tuples(st.sampled_from([0, 3, 18, 21, 24, 30, 64, 4096, 1 << 70]), LIMITS),
        _content_length,
        (
            b"Content-Type: a\r\n",
            b"content-length: 3\r\n\r\n",
            b"Content-Length: ",
            b"\r",
            b"\r\n",
            b"\r\n\r\n",
            b"9" * 20,
        ),
        st.integers(0, 40) | st.sampled_from([(1 << 63) - 1, 1 << 63]),
        usual=((4096, 1 << 20),),
    ),
    Splitter(
        delimiters.split_delimited,
        st.tuples(
            st.sampled_from([b"\n", b"\r\n", b"aba", b"aab", b"bb", b"\0", b"--boundary--"]),
            st.booleans(),
            LIMITS,
            st.booleans(),
        ),
        _delimited,
        (b"\r", b"\n", b"\r\r\n", b"a", b"ab", b"aa", b"b", b"--bound"),
        COUNTS,
        usual=((b"\n", True, 1 << 20, False), (b"aab", False, 290, True)),
    ),
    Splitter(
        delimiters.split_marked,
        st.tuples(
            st.sampled_from(
                [
                    (b"\n",),
                    (b"\r\n", b"\n"),
                    (b"\x1c\r",),
                    (b"ba", b"aba"),
                    (b"b", b"\n", b"c\r"),
                    tuple(bytes([digit]) for digit in b"123456789"),
                ]
            ),
            st.sampled_from([b"", b"", b"\x0b", b"aa", b"ab", b"aba"]),
            LIMITS,
            st.booleans(),
            st.booleans(),
        ),
        _marked,
        (b"\x0b", b"\r", b"\n", b"a", b"aa", b"ab", b"b", b"\x1c", b"123"),
        COUNTS,
        usual=(((b"\r\n", b"\n"), b"\x0b", 1 << 20, True, True), ((b"\n",), b"", 290, False, False)),
    ),
    Splitter(
        stuffing.split_cobs,
        st.tuples(LIMITS, st.booleans()),
        _cobs,
        (b"\0", b"\1", b"\2", b"\xff", b"\xff" + b"a" * 254, b"\xfe" + b"a" * 253),
        COUNTS,
        usual=((1 << 20, False), (290, True)),
    ),
    Splitter(
        stuffing.split_slip,
        st.tuples(LIMITS, st.booleans()),
        _slip,
        (b"\xc0", b"\xdb", b"\xdb\xdc", b"\xdd"),
        COUNTS,
        usual=((1 << 20, False), (290, True)),
    ),
    Splitter(
        stuffing.split_hdlc,
        st.tuples(st.sampled_from([0, 0, 16, 32, 8, False]), LIMITS, st.booleans()),
        _hdlc,
        (b"\x7e", b"\x7d", b"\x7d\x7d", b"\x7d\x5e", b"\x7d\x5d\x7e"),
        COUNTS,
        usual=((0, 1 << 20, False), (16, 1 << 20, False), (32, 290, True)),
    ),
]

PAYLOADS = st.lists(
    st.binary(max_size=9) | st.sampled_from([b"a" * 127, b"a" * 128, b"a" * 255, b"a" * 256, b"a" * 16384]),
    max_size=200,
) | st.lists(st.sampled_from([b"a", bytearray(b"a"), memoryview(b"a"), "a", None]), max_size=3)

some = st.lists(st.binary(max_size=40) | contents, max_size=5) | PAYLOADS
lines = st.lists(st.sampled_from([b"a", b"b", b"ab", b"\r", b"\n", b"xab", b"line", b"bab"]), max_size=5)

ALONE = tuple((payload,) for payload in SAMPLES)
CHECKED = tuple((width, payload) for width in (0, 16, 32) for payload in SAMPLES)

FUNCTIONS = [
    Function(
        lengths.join_prefixed,
        st.tuples(WIDTHS, ORDERS, SMALL, SMALL, LIMITS, PAYLOADS),
        ((4, "big", 0, 0, 1 << 20, [*SAMPLES]),),
    ),
    Function(lengths.join_varint, st.tuples(SMALL, LIMITS, PAYLOADS), ((0, 1 << 20, [*SAMPLES]),)),
    Function(stuffing.join_cobs, st.tuples(LIMITS, some), ((1 << 20, [*SAMPLES]),)),
    Function(stuffing.join_slip, st.tuples(LIMITS, some), ((1 << 20, [*SAMPLES]),)),
    Function(
        stuffing.join_hdlc,
        st.tuples(st.sampled_from([0, 16, 32, 8]), LIMITS, some),
        tuple((width, 1 << 20, [*SAMPLES]) for width in (0, 16, 32)),
    ),
    Function(
        delimiters.join_delimited,
        st.tuples(st.sampled_from([b"\n", b"\r\n", b"ab", b"aba", b"\0"]), st.booleans(), LIMITS, some | lines),
        ((b"\n", True, 1 << 20, [*SAMPLES]), (b"ab", False, 1 << 20, [b"a", b"", b"b" * 300])),
    ),
    Function(stuffing.stuff_cobs, st.tuples(contents), ALONE),
    Function(stuffing.stuff_slip, st.tuples(contents), ALONE),
    Function(stuffing.stuff_hdlc, st.tuples(st.sampled_from([0, 16, 32, 8, True, -1]), contents), CHECKED),
    Function(stuffing.fcs, st.tuples(st.sampled_from([0, 16, 32, 8, "16"]), contents), CHECKED),
    Function(checksums.crc32c, st.tuples(contents)),
    Function(checksums.crc16_modbus, st.tuples(contents)),
    Function(checksums.crc16_x25, st.tuples(contents)),
    Function(checksums.crc16_kermit, st.tuples(contents)),
    Function(audit.json_within, WITHIN),
    Function(audit.json_sound, JSON_SOUND),
    Function(audit.msgpack_within, WITHIN),
    Function(audit.msgpack_sound, MSGPACK_SOUND),
    Function(audit.cbor_sound, CBOR_SOUND),
    Function(audit.is_plain, IS_PLAIN),
    Function(audit.arrives, ARRIVES),
]
