r"""Real protocols' framers, one function each: ``presets.mqtt()``, and ``Wire.parse("mqtt")``.

A preset is a framer and no more: it says where the frames of a protocol are, and refuses what can be none. What is in
them, what is said before the first one (a greeting, a handshake) and what a header's other fields mean is its user's.

- Where the header is a length and nothing else, the payload comes without it. Where there is more in it, the frame is
  delivered, and sent, whole.
- ``max_frame`` bounds what is delivered, in bytes, inclusive: the whole frame where the frame is delivered whole. Its
  default is the protocol's own or its servers' usual limit; where the protocol allows more than is wise to hold for a
  peer that nobody knows yet, it is 64 MiB. To change it: ``presets.mqtt(max_frame=1 << 20)``, ``"mqtt(max_frame=1M)"``.
- Presets are values: two of one name compare equal, hash and pickle. construct is loaded only by those that need it.

`PRESETS` has every one of them by name. Protocols that have no preset, and why: ``docs/reference/presets.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from framing.framers import (
    COBS,
    DEFAULT_MAX_FRAME,
    HDLC,
    SLIP,
    ContentLength,
    Delimited,
    Framer,
    LengthField,
    LengthPrefixed,
    Lines,
    Netstring,
    OctetCounted,
    RecordMarked,
    StructHeader,
    VarintPrefixed,
)
from framing.framers.base import check_option

__all__ = [
    "PRESETS",
    "amqp",
    "amqp1",
    "ber",
    "bgp",
    "bitcoin",
    "bittorrent",
    "bson",
    "cobs",
    "dap",
    "diameter",
    "dns",
    "epp",
    "fastcgi",
    "grpc",
    "hdlc",
    "http2",
    "irc",
    "json_seq",
    "kafka",
    "ldap",
    "lsp",
    "mllp",
    "modbus_ascii",
    "modbus_tcp",
    "mongodb",
    "mqtt",
    "mysql",
    "ndjson",
    "netstring",
    "onc_rpc",
    "openflow",
    "postgres",
    "postgres_startup",
    "ppp",
    "protobuf",
    "radius",
    "rtsp",
    "scgi",
    "slip",
    "smpp",
    "smtp",
    "snmp",
    "ssh",
    "stomp",
    "syslog",
    "syslog_lines",
    "tds",
    "thrift",
    "tls",
    "tpkt",
    "websocket",
    "zmtp",
]

_WISE = 64 << 20
"""The default where the protocol has no limit, or one that no connection should be trusted with."""

_MOST_SIGNED = (1 << 31) - 1


def _signed(max_frame: int) -> int:
    """``max_frame``, below what a length with a sign can say: so that a negative length is above it, and refused."""
    check_option("max_frame", max_frame, 0, _MOST_SIGNED)
    return max_frame


def _construct() -> Any:
    """Load construct: only the presets whose header is a declaration need it, and only when they are made."""
    import construct  # noqa: PLC0415 -- loaded when it is used

    return construct


# A length in a header, and nothing else in it: the payload comes without.


def dns(*, max_frame: int = 0xFFFF) -> LengthPrefixed:
    """DNS over TCP and TLS: messages without their two bytes of length; many a connection, in any order.

    A message shorter than its header, 12 bytes, is corrupt: so is the length of zero that must not be sent.
    Source: RFC 1035, sections 4.1.1 and 4.2.2; RFC 7766, section 8; RFC 7858, section 3.3.
    """
    return LengthPrefixed(2, min_frame=12, max_frame=max_frame)


def kafka(*, max_frame: int = 100 << 20) -> LengthPrefixed:
    """Apache Kafka: requests and responses without their size. The limit is a broker's ``socket.request.max.bytes``.

    The size has a sign: a negative one is above any ``max_frame`` and refused (2 GiB less a byte is the most that may be
    given). A TLS alert reads as 352518912 bytes and ``HTTP`` as 1213486160: the error says whose bytes they are.
    Source: Kafka protocol guide, "Protocol Primitive Types" and "Common Request and Response Structure".
    """
    return LengthPrefixed(4, max_frame=_signed(max_frame))


def thrift(*, max_frame: int = 16_384_000) -> LengthPrefixed:
    """Apache Thrift's framed transport: messages without their size. The limit is Thrift's default, ``MaxFrameSize``.

    The size has a sign: a negative one is above any ``max_frame`` and refused. Unframed Thrift begins ``80 01``, which is
    such a size. Source: Thrift RPC specification, "Framed vs. unframed transport"; TConfiguration specification.
    """
    return LengthPrefixed(4, max_frame=_signed(max_frame))


def bittorrent(*, max_frame: int = DEFAULT_MAX_FRAME) -> LengthPrefixed:
    """BitTorrent's peer protocol: messages without their length; an empty payload is a keep-alive.

    Begins behind the handshake of 68 bytes: read that with ``FixedSize(68)`` and ``limit=1``. BEP 3 has no limit; blocks
    are 16 KiB, and 1 MiB is room for the bitfield of eight million pieces. Source: BEP 3, "peer protocol".
    """
    return LengthPrefixed(4, max_frame=max_frame)


def ssh(*, max_frame: int = 34_996) -> LengthPrefixed:
    """SSH's binary packets before encryption: padding length, payload and padding, without the packet length.

    Begins behind the identification line, ends with NEWKEYS: encrypted packets hide their length. 35,000 bytes of packet
    are what everybody takes. A packet below 16 bytes is corrupt; that it is a multiple of 8, and that its padding is 4
    bytes or more and fits, is not checked. Source: RFC 4253, sections 4.2, 6 and 6.1.
    """
    return LengthPrefixed(4, min_frame=12, max_frame=max_frame)


def epp(*, max_frame: int = DEFAULT_MAX_FRAME) -> LengthPrefixed:
    """EPP, how domain names are registered: XML documents without their length, which counts its own four bytes.

    A length of 4 or less is corrupt: an instance is never empty. EPP has no limit. Source: RFC 5734, section 4.
    """
    return LengthPrefixed(4, counts="frame", min_frame=1, max_frame=max_frame)


def protobuf(*, max_frame: int = _WISE) -> VarintPrefixed:
    """Delimited protobuf messages, without their length; an empty payload is a message with every field at its default.

    A length longer than ``max_frame`` needs, or with a needless last byte, is refused. 64 MiB was protobuf's own limit,
    now 2 GiB. Source: protobuf encoding guide, "Base 128 Varints"; ``MessageLite.writeDelimitedTo``.
    """
    return VarintPrefixed(max_frame=max_frame)


def onc_rpc(*, max_frame: int = 2 << 20) -> RecordMarked:
    """ONC RPC (Sun RPC, NFS): records, put together from their fragments.

    RPC has no limit; NFS reads and writes 1 MiB, and headers. 1024 fragments a record are the most, empty ones counted.
    Source: RFC 5531, section 11.
    """
    return RecordMarked(max_frame=max_frame)


# A length among other things in a header: the frame is delivered, and sent, whole.


def postgres(*, max_frame: int = _WISE) -> LengthField:
    """PostgreSQL 3: whole messages, type byte and length first. The protocol allows 1 GiB; 64 MiB is the default here.

    The first message of a client has no type byte: `postgres_startup`. The answer to an SSLRequest is one bare byte,
    ``FixedSize(1)``; what a decoder has in ``unconsumed`` when TLS begins came unprotected, and must never be read as if
    it had come behind it (CVE-2021-23214): end the connection. A length below 4 is corrupt.
    Source: PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats".
    """
    return LengthField(4, offset=1, adjust=-4, min_frame=5, max_frame=max_frame)


def postgres_startup(*, max_frame: int = 10_004) -> LengthField:
    """PostgreSQL's StartupMessage, SSLRequest, GSSENCRequest and CancelRequest: whole, and without a type byte.

    Take one with ``limit=1``, then go on with `postgres`. The limit is the server's. A length below 8 is corrupt.
    Source: PostgreSQL documentation, "Message Formats"; ``MAX_STARTUP_PACKET_LENGTH`` in its ``pqcomm.h``.
    """
    return LengthField(4, adjust=-4, min_frame=8, max_frame=max_frame)


def mysql(*, max_frame: int = 4 + 0xFF_FFFF) -> LengthField:
    """MySQL and MariaDB: whole packets; the sequence number is the fourth byte.

    A packet of 0xFFFFFF bytes of body is continued in the next one, which may be empty: put them together. Packets of a
    compressed session have another header. Source: MySQL source code documentation, "MySQL Packets".
    """
    return LengthField(3, "little", adjust=1, min_frame=4, max_frame=max_frame)


def mqtt(*, max_frame: int = _WISE) -> LengthField:
    """MQTT 3.1, 3.1.1 and 5: whole control packets. The protocol's most is 268,435,460 bytes; the default is 64 MiB.

    A Remaining Length of more than four bytes is refused, and so is one with a needless last byte, and one longer than
    ``max_frame`` needs. Source: MQTT 3.1.1, section 2.2.3; MQTT 5, sections 1.5.5 and 2.1.4.
    """
    check_option("max_frame", max_frame, 2, 268_435_460)
    return LengthField("varint", offset=1, min_frame=2, max_frame=max_frame)


def amqp(*, max_frame: int = 131_072) -> LengthField:
    """AMQP 0-9-1 (RabbitMQ): whole frames, from the type to the end octet CE; anything else there is corrupt.

    A client's first eight bytes, ``AMQP`` and 0 0 9 1, are no frame. Tune agrees on ``frame-max``, which counts what
    ``max_frame`` counts; the default is RabbitMQ's. Source: AMQP 0-9-1, sections 2.3.5, 4.2.2 and 4.2.3.
    """
    return LengthField(4, offset=3, adjust=1, trailer=b"\xce", min_frame=8, max_frame=max_frame)


def amqp1(*, max_frame: int = DEFAULT_MAX_FRAME) -> LengthField:
    """AMQP 1.0: whole frames. A size below 8 is corrupt; that the data offset fits is not checked.

    Each side's first eight bytes, ``AMQP``, an id and 1 0 0, are no frame, and come again behind SASL. ``open`` agrees on
    ``max-frame-size``, which counts what ``max_frame`` counts; it may not go below 512.
    Source: AMQP 1.0 (OASIS), part 2, sections 2.2, 2.3 and 2.7.1.
    """
    return LengthField(4, adjust=-4, min_frame=8, max_frame=max_frame)


def grpc(*, max_frame: int = 5 + (4 << 20)) -> LengthField:
    """Length-prefixed messages of gRPC, out of the DATA frames of one stream: whole, the compressed flag first.

    The limit is gRPC's usual 4 MiB and the five bytes before them; hold a compressed message to it again once it is
    inflated. A flag other than 0 or 1 is an error, which is not checked here: look at the first byte.
    Source: gRPC over HTTP2, "Length-Prefixed-Message".
    """
    return LengthField(4, offset=1, min_frame=5, max_frame=max_frame)


def http2(*, max_frame: int = 9 + 16_384) -> LengthField:
    """HTTP/2: whole frames, nine bytes of header first.

    The limit is the first SETTINGS_MAX_FRAME_SIZE, and the header. A client's first 24 bytes, its preface, are no frame.
    Source: RFC 9113, sections 3.4, 4.1 and 4.2.
    """
    return LengthField(3, adjust=6, min_frame=9, max_frame=max_frame)


def tpkt(*, max_frame: int = 0xFFFF) -> LengthField:
    """TPKT (ISO transport over TCP: RDP, S7, H.323): whole packets, 03 00 first; 7 bytes is the least.

    The second byte is reserved, and held to be the 0 that is sent. RDP's fast path has another header.
    Source: RFC 1006, section 6.
    """
    return LengthField(2, offset=2, adjust=-4, prefix=b"\x03\x00", min_frame=7, max_frame=max_frame)


def bitcoin(*, magic: bytes = b"\xf9\xbe\xb4\xd9", max_frame: int = 24 + 4_000_000) -> LengthField:
    """Bitcoin's version 1 transport: whole messages, of the network whose ``magic`` is given (the main one).

    The checksum, four bytes at 20, is the beginning of the double SHA-256 of what follows, and is not checked here.
    Source: Bitcoin developer reference, "Message Headers"; ``MAX_PROTOCOL_MESSAGE_LENGTH`` in Bitcoin Core.
    """
    return LengthField(4, "little", offset=16, adjust=4, prefix=magic, min_frame=24, max_frame=max_frame)


def mongodb(*, max_frame: int = 48_000_000) -> LengthField:
    """MongoDB's wire protocol: whole messages. The limit is a server's ``maxMessageSizeBytes``.

    A length below the header's 16 bytes is corrupt. The length has a sign: a negative one is above any ``max_frame``. An
    OP_COMPRESSED message says how large it becomes: hold that to the limit too (CVE-2025-14847).
    Source: MongoDB manual, "MongoDB Wire Protocol", "Standard Message Header".
    """
    return LengthField(4, "little", adjust=-4, min_frame=16, max_frame=_signed(max_frame))


def bson(*, max_frame: int = 16 << 20) -> LengthField:
    """BSON documents, one behind the other, as ``mongodump`` writes them: whole. The limit is MongoDB's.

    A length below 5, or a last byte that is not zero, is corrupt. The length has a sign: a negative one is above any
    ``max_frame``. Source: bsonspec.org, version 1.1, "document"; MongoDB manual, "MongoDB Limits and Thresholds".
    """
    return LengthField(4, "little", adjust=-4, trailer=b"\x00", min_frame=5, max_frame=_signed(max_frame))


def bgp(*, max_frame: int = 4096) -> LengthField:
    """BGP-4: whole messages, sixteen bytes FF first, 19 bytes the least. With extended messages ``max_frame`` is 65,535.

    Source: RFC 4271, section 4.1; RFC 8654.
    """
    return LengthField(2, offset=16, adjust=-18, prefix=b"\xff" * 16, min_frame=19, max_frame=max_frame)


def diameter(*, max_frame: int = 0xFF_FFFF) -> LengthField:
    """Diameter: whole messages, of version 1, 20 bytes the least. The limit is what the length can say.

    That a length is a multiple of 4 is not checked here: answer 5015 (DIAMETER_INVALID_MESSAGE_LENGTH) to one that is
    not. Source: RFC 6733, sections 3 and 7.1.5.
    """
    return LengthField(3, offset=1, adjust=-4, prefix=b"\x01", min_frame=20, max_frame=max_frame)


def rtsp(*, max_frame: int = 4 + 0xFFFF) -> LengthField:
    """RTSP's interleaved binary data: whole packets, ``$`` and the channel first.

    Only where nothing else is in the stream: a request or response in text between them is corrupt.
    Source: RFC 2326, section 10.12; RFC 7826, section 14.
    """
    return LengthField(2, offset=2, prefix=b"$", min_frame=4, max_frame=max_frame)


def smpp(*, max_frame: int = 128 << 10) -> LengthField:
    """SMPP (short messages): whole PDUs, 16 bytes the least.

    SMPP has no limit; its largest field takes 64 KiB. Source: SMPP 3.4, sections 3.1 and 3.2.
    """
    return LengthField(4, adjust=-4, min_frame=16, max_frame=max_frame)


def tds(*, max_frame: int = 32_767) -> LengthField:
    """TDS (Microsoft SQL Server): whole packets, 8 bytes the least; bit 0 of the second byte says that a message ends.

    4,096 is a packet's most until the login has agreed on more. TLS is carried inside packets during PRELOGIN.
    Source: MS-TDS, sections 2.2.3.1 and 2.2.3.1.3.
    """
    return LengthField(2, offset=2, adjust=-4, min_frame=8, max_frame=max_frame)


def radius(*, max_frame: int = 4096) -> LengthField:
    """RADIUS over TCP and TLS: whole packets, 20 to 4,096 bytes; with larger packets ``max_frame`` is 65,535.

    Source: RFC 2865, section 3; RFC 6613, section 2.6; RFC 7930.
    """
    return LengthField(2, offset=2, adjust=-4, min_frame=20, max_frame=max_frame)


def openflow(*, max_frame: int = 0xFFFF) -> LengthField:
    """OpenFlow, every version: whole messages, 8 bytes the least.

    Source: OpenFlow switch specification 1.3.5, "OpenFlow Header".
    """
    return LengthField(2, offset=2, adjust=-4, min_frame=8, max_frame=max_frame)


# A header that varies, or has constants behind its first bytes: declared. The frame is delivered, and sent, whole.


def modbus_tcp(*, max_frame: int = 260) -> StructHeader:
    """Modbus over TCP: whole units, the transaction first.

    The protocol must be 0, the length 2 at the least and 254 at the most.
    Source: MODBUS Messaging on TCP/IP Implementation Guide 1.0b, section 3.1.3; MODBUS Application Protocol
    Specification 1.1b3, section 4.1.
    """
    c = _construct()
    header = c.Struct(
        "transaction" / c.Int16ub,
        c.Const(b"\x00\x00"),
        "length" / c.Int16ub,
        "unit" / c.Int8ub,
        "function" / c.Int8ub,
    )
    return StructHeader(header, size=c.this.length - 2, max_frame=max_frame)


def tls(*, max_frame: int = 5 + (1 << 14) + 2048) -> StructHeader:
    """TLS and SSL 3: whole records. Anything but 3 as the first byte of the version is corrupt.

    The limit is TLS 1.2's of a record that is encrypted, and the header; TLS 1.3's is 16,645. To see records, not to
    speak TLS: what is in them is encrypted. Source: RFC 8446, sections 5.1 and 5.2; RFC 5246, section 6.2.
    """
    c = _construct()
    header = c.Struct("type" / c.Int8ub, c.Const(b"\x03"), "minor" / c.Int8ub, "length" / c.Int16ub)
    return StructHeader(header, size=c.this.length, max_frame=max_frame)


def fastcgi(*, max_frame: int = 8 + 0xFFFF + 0xFF) -> StructHeader:
    """FastCGI: whole records of version 1, padding included. Source: FastCGI specification 1.0, section 3.3."""
    c = _construct()
    header = c.Struct(
        c.Const(b"\x01"),
        "type" / c.Int8ub,
        "request_id" / c.Int16ub,
        "content_length" / c.Int16ub,
        "padding_length" / c.Int8ub,
        "reserved" / c.Int8ub,
    )
    return StructHeader(header, size=c.this.content_length + c.this.padding_length, max_frame=max_frame)


def websocket(*, max_frame: int = 14 + DEFAULT_MAX_FRAME) -> StructHeader:
    """WebSocket: whole frames, as they are: masked where they were masked. Begins behind the HTTP handshake.

    A length that is not written in the shortest way or has its top bit set, and a control frame that is fragmented or
    above 125 bytes, is corrupt. That a client masks and a server does not, reserved bits and opcodes, UTF-8 and the
    order of fragments are the user's to check; fragments are not put together. ``unpack`` gives the header's fields.
    The limit is the library's, and the longest header. Source: RFC 6455, sections 5.2 and 5.5.
    """
    c = _construct()
    first, second, length = c.this.first, c.this.second, c.this.length
    short = second & 0x7F
    header = c.Struct(
        "first" / c.Int8ub,
        "second" / c.Int8ub,
        c.Check(((first & 0x08) == 0) | ((first >= 0x80) & (short < 126))),
        "length" / c.Switch(short, {126: c.Int16ub, 127: c.Int64ub}, default=c.Computed(short)),
        c.Check((short != 126) | (length > 125)),
        c.Check((short != 127) | ((length > 0xFFFF) & (length < 1 << 63))),
        "mask" / c.Bytes((second >> 7) * 4),
    )
    return StructHeader(header, size=length, max_header=14, max_frame=max_frame)


def zmtp(*, max_frame: int = 9 + DEFAULT_MAX_FRAME) -> StructHeader:
    """ZMTP 3 (ZeroMQ): whole frames, the flags first: 1 says that more follow, 2 that the size has 8 bytes, 4 a command.

    Begins behind the greeting of 64 bytes: read that with ``FixedSize(64)`` and ``limit=1``. A reserved flag, a command
    of which more follows and a size with its top bit set are corrupt; a small size in 8 bytes is allowed. Frames of one
    message are not put together: bound their number. Source: ZeroMQ RFC 23/ZMTP 3.0 and 37/ZMTP 3.1, "Framing".
    """
    c = _construct()
    flags, length = c.this.flags, c.this.length
    header = c.Struct(
        "flags" / c.Int8ub,
        c.Check((flags < 5) | (flags == 6)),
        "length" / c.IfThenElse((flags & 2) == 2, c.Int64ub, c.Int8ub),
        c.Check(length < 1 << 63),
    )
    return StructHeader(header, size=length, max_header=9, max_frame=max_frame)


def ber(*, max_frame: int = DEFAULT_MAX_FRAME) -> StructHeader:
    """ASN.1 values in BER or DER, one behind the other: whole, with tags of any number and definite lengths.

    The indefinite form (80) is corrupt, for its end cannot be found without reading all that is inside; so is a length
    of more than eight bytes. A length need not be written in the shortest way, which is DER's rule and not BER's.
    Source: ITU-T X.690 (2021), sections 8.1.2 and 8.1.3.
    """
    c = _construct()
    # Not construct's If, which brings in its Pass, which does not pickle.
    more = c.RepeatUntil((c.obj_ & 0x80) == 0, c.Int8ub)
    number = c.IfThenElse((c.this.tag & 0x1F) == 0x1F, more, c.Computed(None))
    return _ber("tag" / c.Int8ub, "number" / number, max_header=32, max_frame=max_frame)


def ldap(*, max_frame: int = 4 << 20) -> StructHeader:
    """LDAP: whole LDAPMessages, each a SEQUENCE (30) of definite length; see `ber`. The limit is OpenLDAP's, of who has bound.

    Source: RFC 4511, sections 4.1.1 and 5.1.
    """
    return _ber(_construct().Const(b"\x30"), max_header=10, max_frame=max_frame)


def snmp(*, max_frame: int = 0xFFFF) -> StructHeader:
    """SNMP over TCP: whole messages, each a SEQUENCE (30) of definite length; see `ber`. Source: RFC 3430, section 2.1."""
    return _ber(_construct().Const(b"\x30"), max_header=10, max_frame=max_frame)


def _ber(*tag: Any, max_header: int, max_frame: int) -> StructHeader:
    c = _construct()
    octet = c.this.octet
    header = c.Struct(
        *tag,
        "octet" / c.Int8ub,
        c.Check((octet != 0x80) & (octet <= 0x88)),
        "length" / c.IfThenElse(octet < 0x80, c.Computed(octet), c.BytesInteger(octet & 0x7F)),
    )
    return StructHeader(header, size=c.this.length, max_header=max_header, max_frame=max_frame)


# A length as text.


def netstring(*, max_frame: int = DEFAULT_MAX_FRAME) -> Netstring:
    """Netstrings (QMQP, Mongrel2): payloads, nine digits of length at the most and no leading zero.

    Source: D. J. Bernstein, "Netstrings" (1997).
    """
    return Netstring(max_frame=max_frame)


def scgi(*, max_frame: int = 64 << 10) -> Netstring:
    """SCGI: the block of headers that a request begins with, NUL behind each name and value.

    The body behind it is CONTENT_LENGTH bytes and has no frame: take one block with ``limit=1``, then read the body
    from ``unconsumed`` and the connection, which carries one request. Source: N. Schemenauer, "SCGI" (2008).
    """
    return Netstring(max_frame=max_frame)


def syslog(*, max_frame: int = 8192) -> OctetCounted:
    """Syslog over TLS and TCP with octet counting: messages. 8,192 bytes are what receivers should take.

    A length of zero, a leading zero and more digits than the limit has are refused. A stream that begins with ``<`` is
    `syslog_lines`; a port that takes both must look at the first byte.
    Source: RFC 5425, sections 4.3 and 4.3.1; RFC 6587, section 3.4.1.
    """
    return OctetCounted(max_frame=max_frame)


def lsp(*, max_frame: int = DEFAULT_MAX_FRAME) -> ContentLength:
    """The Language Server Protocol: JSON texts without their header. The length counts bytes, not characters.

    A header without Content-Length, or with two, is corrupt. LSP has no limit: whole files are sent through it, so
    raise ``max_frame`` to what the largest may take. Source: Language Server Protocol 3.17, "Base Protocol".
    """
    return ContentLength(max_frame=max_frame)


def dap(*, max_frame: int = DEFAULT_MAX_FRAME) -> ContentLength:
    """The Debug Adapter Protocol: JSON texts without their header, as `lsp`.

    Source: Debug Adapter Protocol, overview, "Base protocol".
    """
    return ContentLength(max_frame=max_frame)


# Delimiters and byte stuffing.


def ndjson(*, max_frame: int = DEFAULT_MAX_FRAME) -> Lines:
    """Newline-delimited JSON (JSON Lines): one text a line, LF or CRLF; U+2028 and U+0085 end none.

    A last line without its newline is a TruncatedFrame, since half a number is a number too: where writers leave it
    out, ``Lines(final="optional")``. Source: "NDJSON specification 1.0", section 3.1.
    """
    return Lines(max_frame=max_frame)


def syslog_lines(*, max_frame: int = 8192) -> Lines:
    """Syslog over TCP with non-transparent framing: messages, each ended by LF (CRLF is taken for one).

    A message that holds LF arrives as two, which is why `syslog` is better. Source: RFC 6587, section 3.4.2.
    """
    return Lines(max_frame=max_frame)


def json_seq(*, max_frame: int = DEFAULT_MAX_FRAME) -> Delimited:
    r"""JSON text sequences: texts of one line, between 1E and LF.

    A 1E inside is a text that was cut off, and corrupt; ``dataclasses.replace(…, on_corrupt="skip")`` goes on at it, as the
    RFC has parsers do, and also passes over the repeated 1E that it allows. A text printed over several lines ends at
    its first LF here: write them in one. Source: RFC 7464, sections 2.1 and 2.3.
    """
    return Delimited(b"\n", start=b"\x1e", max_frame=max_frame)


def irc(*, max_frame: int = 510) -> Lines:
    """IRC: messages without their CRLF, 512 bytes with it. With IRCv3's message tags ``max_frame`` is 8,701.

    A bare CR or LF ends nothing here; some servers send LF alone: ``Lines()`` takes both.
    Source: RFC 2812, section 2.3; IRCv3, "Message Tags", "Size limit".
    """
    return Lines(newline=b"\r\n", max_frame=max_frame)


def smtp(*, max_frame: int = 998) -> Lines:
    """SMTP: commands, replies and lines of text without their CRLF, 1,000 bytes with it.

    A bare CR or LF never ends a line: who thinks it does can be sent a second message inside the first (SMTP smuggling,
    CVE-2023-51764). In mail data a line of ``.`` ends the message, and the first dot of any other that begins so is to be
    taken away: that is the user's. AUTH may take 12,288.
    Source: RFC 5321, sections 2.3.8, 4.5.2 and 4.5.3.1; RFC 4954, section 4.
    """
    return Lines(newline=b"\r\n", max_frame=max_frame)


def mllp(*, max_frame: int = DEFAULT_MAX_FRAME) -> Delimited:
    """MLLP (HL7 version 2): messages, between 0B and 1C 0D. Nothing is escaped, and junk between frames is corrupt.

    Source: HL7, "Transport Specification: MLLP, Release 1", section 2.
    """
    return Delimited(b"\x1c\r", start=b"\x0b", max_frame=max_frame)


def stomp(*, max_frame: int = DEFAULT_MAX_FRAME) -> Delimited:
    """STOMP as far as NUL frames it: command, headers and body, without the NUL.

    A body that its content-length lets hold NUL cannot be framed so: it arrives in pieces. The newlines that may stand
    between frames (heart-beats) come first in the payload behind them: strip them.
    Source: STOMP 1.2, "STOMP Frames" and "Heart-beating".
    """
    return Delimited(b"\x00", max_frame=max_frame)


def modbus_ascii(*, max_frame: int = 510) -> Delimited:
    r"""Modbus ASCII: what is between ``:`` and CRLF, hexadecimal digits, the last two of them the LRC.

    ``bytes.fromhex`` reads it, and the sum of all its bytes is 0 modulo 256: neither is checked here. A ``:`` inside is a
    frame that was cut off, and corrupt. 513 characters are a frame's most.
    Source: MODBUS over Serial Line 1.02, sections 2.5.2.1 and 6.2.1.
    """
    return Delimited(b"\r\n", start=b":", max_frame=max_frame)


def slip(*, max_frame: int = DEFAULT_MAX_FRAME) -> SLIP:
    """SLIP: packets. Empty frames are ignored, a bad escape is corrupt. RFC 1055 tells of 1,006 bytes, and sets no limit.

    Source: RFC 1055.
    """
    return SLIP(max_frame=max_frame)


def hdlc(*, max_frame: int = DEFAULT_MAX_FRAME) -> HDLC:
    """Frames as HDLC's asynchronous form has them: what is between flags, without escapes and the 16-bit FCS.

    Source: RFC 1662, section 4; ISO/IEC 13239.
    """
    return HDLC(max_frame=max_frame)


def ppp(*, max_frame: int = 4 + 1500) -> HDLC:
    """PPP on an asynchronous line: address (FF), control (03), protocol and information, without FCS-16 and escapes.

    The limit is the usual MRU, 1,500 bytes of information. What is escaped besides 7D and 7E (the control characters
    map) is taken, and not written: a line that eats control characters needs more.
    Source: RFC 1662, sections 3 and 4; RFC 1661, section 2.
    """
    return HDLC(max_frame=max_frame)


def cobs(*, max_frame: int = DEFAULT_MAX_FRAME) -> COBS:
    """COBS: packets, a zero behind each. Source: Cheshire and Baker, "Consistent Overhead Byte Stuffing" (1999)."""
    return COBS(max_frame=max_frame)


PRESETS: dict[str, Callable[..., Framer]] = {
    name: made
    for name, made in sorted(globals().items())
    if isinstance(made, FunctionType) and made.__module__ == __name__ and not name.startswith("_")
}
"""Every preset by name: every public function of this module, so that none can be forgotten here."""
