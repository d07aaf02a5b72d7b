"""Judges every framer by bytes that its specification prints, or that follow from what it prints; each names its source."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from framing import (
    COBS,
    HDLC,
    SLIP,
    ContentLength,
    CorruptFrame,
    Delimited,
    FixedSize,
    Framer,
    FrameTooLarge,
    LengthField,
    LengthPrefixed,
    Lines,
    Netstring,
    OctetCounted,
    RecordMarked,
    TruncatedFrame,
    VarintPrefixed,
    Violation,
)

from .feeding import received, verdict


class Vector(NamedTuple):
    """A stream and the payloads that its source says are in it; ``written``: ours is the same, byte for byte."""

    source: str
    framer: Framer
    stream: bytes
    payloads: list[bytes]
    written: bool = True


def span(first: int, last: int) -> bytes:
    return bytes(range(first, last + 1))


def cobs(payload: bytes, stream: bytes) -> Vector:
    return Vector("Wikipedia, Consistent Overhead Byte Stuffing, encoding examples", COBS(), stream, [payload])


def mqtt(header: str, size: int) -> Vector:
    """A PUBLISH whose remaining length is ``size``, in the bytes that the specification's table gives for it."""
    frame = b"\x30" + bytes.fromhex(header) + bytes(size)
    return Vector(
        "MQTT 3.1.1, section 2.2.3, table 2.4", LengthField("varint", offset=1, max_frame=1 << 22), frame, [frame]
    )


MQTT = LengthField("varint", offset=1)
SYSLOG = (
    b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - "
    b"\xef\xbb\xbf'su root' failed for lonvick on /dev/pts/8"
)
# Printed on lines of their own; 119 is right where they end in CRLF, which the page does not show.
DAP = b"""{
    "seq": 153,
    "type": "request",
    "command": "next",
    "arguments": {
        "threadId": 3
    }
}""".replace(b"\n", b"\r\n")
LSP = b'{"jsonrpc": "2.0", "id": 1, "method": "textDocument/completion", "params": {}}'
RDP = bytes.fromhex("0300002c27e00000000000436f6f6b69653a206d737473686173683d656c746f6e730d0a0100080000000000")
MODBUS = bytes.fromhex("150100000006ff0300040001")
BGP = b"\xff" * 16 + b"\x00\x13\x04"

VECTORS = [
    # --- byte stuffing
    Vector("RFC 1055: END DB DC in place of END", SLIP(), bytes.fromhex("c0 61dbdc62 c0"), [b"a\xc0b"]),
    Vector("RFC 1055: ESC DB DD in place of ESC", SLIP(), bytes.fromhex("c0 61dbdd62 c0"), [b"a\xdbb"]),
    Vector("RFC 1055: DC and DD by themselves are data", SLIP(), bytes.fromhex("c0 dcdd c0"), [b"\xdc\xdd"]),
    Vector(
        "RFC 1055: an END in front flushes line noise, empty packets are dropped",
        SLIP(),
        bytes.fromhex("c0c0 61 c0c0 62 c0"),
        [b"a", b"b"],
        written=False,
    ),
    Vector(
        "RFC 1055: a sender may leave the first END out",
        SLIP(),
        bytes.fromhex("61 c0 62 c0"),
        [b"a", b"b"],
        written=False,
    ),
    Vector(
        "RFC 1662, section 4.2: 7E is encoded as 7D 5E, 7D as 7D 5D",
        HDLC(fcs=None),
        bytes.fromhex("7e 7d5e 7d5d 7e"),
        [b"\x7e\x7d"],
    ),
    Vector(
        "RFC 1662, section 4.2: 03 is encoded as 7D 23, 11 as 7D 31, 13 as 7D 33",
        HDLC(fcs=None),
        bytes.fromhex("7e 7d23 7d31 7d33 7e"),
        [b"\x03\x11\x13"],
        written=False,
    ),
    Vector("RFC 1662, section 3.1: one flag between two frames", HDLC(fcs=None), b"~a~b~", [b"a", b"b"], written=False),
    Vector(
        "reveng catalogue: CRC-16/IBM-SDLC of 123456789 is 906E, sent least significant byte first (RFC 1662, section 3.1)",
        HDLC(),
        b"~123456789\x6e\x90~",
        [b"123456789"],
    ),
    Vector(
        "reveng catalogue: CRC-32/ISO-HDLC of 123456789 is CBF43926",
        HDLC(fcs=32),
        b"~123456789\x26\x39\xf4\xcb~",
        [b"123456789"],
    ),
    Vector(
        "Cheshire and Baker 1999: the example of an IP header",
        COBS(),
        bytes.fromhex("0245 01 042c4c79 01 0540064f37 00"),
        [bytes.fromhex("4500002c4c79000040064f37")],
    ),
    cobs(b"", b"\x01\x00"),
    cobs(b"\x00", b"\x01\x01\x00"),
    cobs(b"\x00\x00", b"\x01\x01\x01\x00"),
    cobs(b"\x00\x11\x00", b"\x01\x02\x11\x01\x00"),
    cobs(b"\x11\x22\x00\x33", b"\x03\x11\x22\x02\x33\x00"),
    cobs(b"\x11\x22\x33\x44", b"\x05\x11\x22\x33\x44\x00"),
    cobs(b"\x11\x00\x00\x00", b"\x02\x11\x01\x01\x01\x00"),
    cobs(span(1, 254), b"\xff" + span(1, 254) + b"\x00"),
    cobs(b"\x00" + span(1, 254), b"\x01\xff" + span(1, 254) + b"\x00"),
    cobs(span(1, 255), b"\xff" + span(1, 254) + b"\x02\xff\x00"),
    cobs(span(2, 255) + b"\x00", b"\xff" + span(2, 255) + b"\x01\x01\x00"),
    cobs(span(3, 255) + b"\x00\x01", b"\xfe" + span(3, 255) + b"\x02\x01\x00"),
    # --- a length in digits
    Vector(
        "Bernstein 1997, Netstrings: hello world!",
        Netstring(),
        bytes.fromhex("31323a68656c6c6f20776f726c64212c"),
        [b"hello world!"],
    ),
    Vector("Bernstein 1997, Netstrings: the empty string", Netstring(), b"0:,", [b""]),
    Vector(
        "RFC 6587, section 3.4.1, around example 1 of RFC 5424, section 6.5", OctetCounted(), b"110 " + SYSLOG, [SYSLOG]
    ),
    Vector(
        "RFC 5425, section 4.3: no delimiter between two frames",
        OctetCounted(),
        b"1 a10 0123456789",
        [b"a", b"0123456789"],
    ),
    Vector(
        "LSP 3.17, base protocol: header part and content part",
        ContentLength(),
        b"Content-Length: 78\r\n\r\n" + LSP,
        [LSP],
    ),
    Vector(
        "LSP 3.17, header part: both fields, the content type in its default",
        ContentLength(),
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 78\r\n\r\n" + LSP,
        [LSP],
        written=False,
    ),
    Vector(
        "Debug Adapter Protocol, overview: the request next",
        ContentLength(),
        b"Content-Length: 119\r\n\r\n" + DAP,
        [DAP],
    ),
    # --- a length in binary
    Vector("protobuf, encoding: 150 is 96 01", VarintPrefixed(), b"\x96\x01" + bytes(150), [bytes(150)]),
    Vector("protobuf, encoding: 300 is AC 02", VarintPrefixed(), b"\xac\x02" + bytes(300), [bytes(300)]),
    mqtt("00", 0),
    mqtt("7f", 127),
    mqtt("8001", 128),
    mqtt("c102", 321),
    mqtt("ff7f", 16_383),
    mqtt("808001", 16_384),
    mqtt("ffff7f", 2_097_151),
    mqtt("80808001", 2_097_152),
    Vector("RFC 5531, section 11: the high bit marks the last fragment", RecordMarked(), b"\x80\0\0\4abcd", [b"abcd"]),
    Vector(
        "RFC 5531, section 11: a record in fragments",
        RecordMarked(),
        b"\0\0\0\2ab\x80\0\0\2cd\x80\0\0\0",
        [b"abcd", b""],
        written=False,
    ),
    Vector(
        "RFC 1035, section 4.2.2: DNS over TCP, two bytes that do not count themselves",
        LengthPrefixed(2),
        b"\0\x0c" + bytes(12),
        [bytes(12)],
    ),
    Vector(
        "RFC 1006, section 6: TPKT counts its header; the packet is MS-RDPBCGR 4.1.1",
        LengthField(2, offset=2, adjust=-4, prefix=b"\3"),
        RDP,
        [RDP],
    ),
    Vector("Modbus Messaging on TCP/IP, section 3.1.3: MBAP header", LengthField(2, offset=4), MODBUS, [MODBUS]),
    Vector(
        "RFC 4271, sections 4.1 and 4.4: KEEPALIVE is 19 bytes",
        LengthField(2, offset=16, adjust=-18, prefix=b"\xff" * 16),
        BGP,
        [BGP],
    ),
    Vector(
        "RFC 9113, sections 4.1 and 6.5: SETTINGS with ACK",
        LengthField(3, offset=0, adjust=6),
        bytes.fromhex("000000 04 01 00000000"),
        [bytes.fromhex("000000040100000000")],
    ),
    Vector(
        "PostgreSQL protocol 3.0, message formats: Query, its length counts itself",
        LengthField(4, offset=1, adjust=-4),
        b"Q\0\0\0\x0dSELECT 1\0",
        [b"Q\0\0\0\x0dSELECT 1\0"],
    ),
    # --- delimiters and fixed sizes
    Vector(
        "RFC 5321, section 2.3.8: CRLF ends a line, a bare CR or LF does not",
        Lines(newline=b"\r\n"),
        b"a\rb\nc\r\nQUIT\r\n",
        [b"a\rb\nc", b"QUIT"],
    ),
    Vector(
        "RFC 7464, section 2.2: RS, text, LF",
        Delimited(b"\n", start=b"\x1e"),
        b'\x1e{"a":1}\n\x1e[]\n',
        [b'{"a":1}', b"[]"],
    ),
    Vector(
        "HL7, transport specification: MLLP, release 1",
        Delimited(b"\x1c\r", start=b"\x0b"),
        b"\x0bMSH|^~\\&|\r\x1c\r",
        [b"MSH|^~\\&|\r"],
    ),
    Vector(
        "ISO 13818-1, section 2.4.3.2: transport packets of 188 bytes, sync byte 47",
        FixedSize(188),
        (b"\x47" + bytes(187)) * 2,
        [b"\x47" + bytes(187)] * 2,
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.source[:60])
@pytest.mark.parametrize("cut", [1 << 30, 1])
def test_printed_stream_gives_its_payloads(vector, cut):
    if cut == 1 and len(vector.stream) > 1 << 16:
        cut = 65_521  # a prime: some million single bytes show nothing more and take a second
    assert received(vector.framer, vector.stream, [cut]) == vector.payloads


@pytest.mark.parametrize("vector", [one for one in VECTORS if one.written], ids=lambda vector: vector.source[:60])
def test_payloads_are_written_as_printed(vector):
    assert vector.framer.encode_many(vector.payloads) == vector.stream


class Refused(NamedTuple):
    """A stream that its source forbids, the payloads before the fault, and the violation."""

    source: str
    framer: Framer
    stream: bytes
    payloads: list[bytes]
    error: type[Violation]


REFUSED = [
    Refused(
        "Bernstein 1997: the first digit is not zero unless the length is",
        Netstring(),
        b"1:a,012:hello world!,",
        [b"a"],
        CorruptFrame,
    ),
    Refused("Bernstein 1997: the comma is there", Netstring(), b"12:hello world!.", [], CorruptFrame),
    Refused(
        "RFC 6587, section 3.4.1: MSG-LEN begins with a digit that is not zero", OctetCounted(), b"0 ", [], CorruptFrame
    ),
    Refused(
        "RFC 6587, section 3.4.2: the other way to frame begins with <", OctetCounted(), b"<34>1 2003", [], CorruptFrame
    ),
    Refused(
        "RFC 1055: its reader calls any other byte behind ESC a protocol violation",
        SLIP(),
        b"\xc0a\xdbb\xc0",
        [],
        CorruptFrame,
    ),
    Refused("RFC 1662, section 4.3: escape and flag abort a frame", HDLC(fcs=None), b"~a~b}~", [b"a"], CorruptFrame),
    Refused("RFC 1662, appendix C: a wrong check sequence", HDLC(), b"~123456789\x6e\x91~", [], CorruptFrame),
    Refused("Cheshire and Baker 1999: a code that reaches past the end", COBS(), b"\x05\x11\x22\x00", [], CorruptFrame),
    Refused(
        "MQTT 3.1.1, section 2.2.3: four bytes at the most",
        LengthField("varint", offset=1, max_frame=(1 << 28) - 1),
        b"\x30\xff\xff\xff\xff\x01",
        [],
        FrameTooLarge,
    ),
    Refused("MQTT 5.0, section 1.5.5: the fewest bytes that hold the value", MQTT, b"\x30\x80\x00", [], CorruptFrame),
    Refused(
        "RFC 1006, section 6: the version is 3",
        LengthField(2, offset=2, adjust=-4, prefix=b"\3"),
        b"\4\0\0\7abc",
        [],
        CorruptFrame,
    ),
    Refused(
        "RFC 1006, section 6: the least length is 7",
        LengthField(2, offset=2, adjust=-4, min_frame=7),
        b"\3\0\0\6ab",
        [],
        CorruptFrame,
    ),
    Refused(
        "RFC 4271, section 4.1: the least length is 19",
        LengthField(2, offset=16, adjust=-18, min_frame=19),
        b"\xff" * 16 + b"\0\x12",
        [],
        CorruptFrame,
    ),
    Refused(
        "RFC 7464, section 2.4: a number without its line feed may be cut off",
        Delimited(b"\n", start=b"\x1e"),
        b"\x1e123",
        [],
        TruncatedFrame,
    ),
    Refused(
        "RFC 5321, section 2.3.8: a bare LF ends no line",
        Lines(newline=b"\r\n"),
        b"QUIT\r\nDATA\n",
        [b"QUIT"],
        TruncatedFrame,
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.source[:60])
@pytest.mark.parametrize("cut", [1 << 30, 1])
def test_forbidden_stream_is_refused_behind_what_was_good(case, cut):
    assert verdict(case.framer, case.stream, [cut]) == (case.payloads, case.error)


def bitwise(payload: bytes, polynomial: int, initial: int) -> int:
    """The remainder of RFC 1662, appendix C, a bit at a time: no table, no library, no mirror."""
    remainder = initial
    for byte in payload:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (polynomial if remainder & 1 else 0)
    return remainder


@pytest.mark.parametrize(
    ("width", "polynomial", "initial", "good"),
    [(16, 0x8408, 0xFFFF, 0xF0B8), (32, 0xEDB88320, 0xFFFFFFFF, 0xDEBB20E3)],
)
@pytest.mark.parametrize("payload", [b"", b"a", b"123456789", span(0, 255)])
def test_check_sequence_leaves_the_good_remainder_of_rfc_1662_appendix_c(width, polynomial, initial, good, payload):
    body = HDLC(fcs=width).encode(payload)[1:-1]
    clear = body.replace(b"\x7d\x5e", b"\x7e").replace(b"\x7d\x5d", b"\x7d")
    assert clear[: -width // 8] == payload
    assert bitwise(clear, polynomial, initial) == good


@pytest.mark.parametrize(("header", "size"), [("80808001", 2_097_152), ("ffffff7f", 268_435_455)])
def test_largest_lengths_of_mqtt_are_understood_before_their_bytes_come(header, size):
    decoder = LengthField("varint", offset=1, max_frame=1 << 29).decoder()
    assert decoder.feed(b"\x30" + bytes.fromhex(header)) == []
    with pytest.raises(TruncatedFrame) as caught:
        decoder.feed_eof()
    assert caught.value.expected == 5 + size
