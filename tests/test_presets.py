"""Every preset against frames of its protocol, byte for byte, and against what its protocol forbids."""

from __future__ import annotations

import hashlib
import inspect
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from framing import Wire, presets
from framing.errors import CorruptFrame, EncodeError, FrameTooLarge, TruncatedFrame, Violation
from framing.framers import Framer

REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "presets.md"
NAMES = sorted(presets.PRESETS)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


# Frames that arrive whole: what is delivered is what was sent. Name: frames, and where they are from.
WHOLE: dict[str, list[bytes]] = {
    # PostgreSQL documentation, "Message Formats": ReadyForQuery (idle), AuthenticationOk, Terminate.
    "postgres": [unhex("5a 00000005 49"), unhex("52 00000008 00000000"), unhex("58 00000004")],
    # The same: SSLRequest (80877103), CancelRequest (80877102).
    "postgres_startup": [unhex("00000008 04d2162f"), unhex("00000010 04d2162e 00000001 00000002")],
    # MySQL source code documentation: OK_Packet and COM_QUIT, and the empty packet behind a full one.
    "mysql": [unhex("07000002 00000002000000"), unhex("01000000 01"), unhex("00000003")],
    # MQTT 3.1.1: PINGREQ (3.12), a PUBLISH of QoS 1 to a/b with packet identifier 10 (3.3.2.3); a length of 321 (2.2.3).
    "mqtt": [unhex("c000"), unhex("32 07 0003612f62 000a"), unhex("30 c102") + unhex("0003612f62") + bytes(316)],
    # AMQP 0-9-1, 4.2.7: heartbeat. A method frame: connection.close-ok (10, 51).
    "amqp": [unhex("08 0000 00000000 ce"), unhex("01 0000 00000004 000a0033 ce")],
    # AMQP 1.0, 2.4.5: an empty frame, which keeps the connection alive.
    "amqp1": [unhex("00000008 02000000")],
    # HelloRequest(name="foo") of gRPC's helloworld.proto, and a message of no bytes.
    "grpc": [unhex("00 00000005 0a03666f6f"), unhex("00 00000000")],
    # RFC 9113, 6.5: SETTINGS without a setting, its acknowledgement; 6.7: PING.
    "http2": [
        unhex("000000 04 00 00000000"),
        unhex("000000 04 01 00000000"),
        unhex("000008 06 00 00000000") + b"deadbeef",
    ],
    # MS-RDPBCGR, 4.1.1: Client X.224 Connection Request PDU.
    "tpkt": [unhex("0300002c 27e00000000000") + b"Cookie: mstshash=eltons\r\n" + unhex("0100080000000000")],
    # MODBUS Messaging on TCP/IP Implementation Guide, 3.1.3: read register 5 at transaction 0x1501; an exception.
    "modbus_tcp": [unhex("1501 0000 0006 ff 03 0004 0001"), unhex("1501 0000 0003 ff 83 02")],
    # Bitcoin protocol documentation: verack of the main network.
    "bitcoin": [unhex("f9beb4d9 76657261636b000000000000 00000000 5df6e0e2")],
    # RFC 5246, 7.1: change_cipher_spec; 7.2: a close_notify alert.
    "tls": [unhex("14 0303 0001 01"), unhex("15 0303 0002 0100")],
    # OP_MSG with one section of kind 0: {"ping": 1}.
    "mongodb": [unhex("24000000 01000000 00000000 dd070000 00000000 00 0f000000 10 70696e6700 01000000 00")],
    # bsonspec.org, FAQ: {"hello": "world"}; the empty document.
    "bson": [unhex("16000000 02 68656c6c6f00 06000000 776f726c6400 00"), unhex("05000000 00")],
    # FastCGI specification, appendix B: BEGIN_REQUEST; a record of 3 bytes padded to 8.
    "fastcgi": [unhex("01 01 0001 0008 00 00 0001000000000000"), unhex("01 05 0001 0003 05 00 616263 0000000000")],
    # RFC 4271, 4.4: KEEPALIVE.
    "bgp": [b"\xff" * 16 + unhex("0013 04")],
    # RFC 6733, 3: a header without AVPs (Device-Watchdog-Request, 280).
    "diameter": [unhex("01 000014 80 000118 00000000 00000001 00000002")],
    # RFC 2326, 10.12: $, channel 0, two bytes of length.
    "rtsp": [b"$\x00\x00\x04RTP!", b"$\x01\x00\x00"],
    # SMPP 3.4, 4.11.1: enquire_link.
    "smpp": [unhex("00000010 00000015 00000000 00000001")],
    # MS-TDS, 4.1: Pre-Login Request.
    "tds": [
        unhex(
            "1201002f00000100 00001a0006 0100200001 0200210001 0300220004 0400260001 ff 090000000000 01 00 b80d0000 01"
        )
    ],
    # RFC 2865, 7.1: Access-Request of user nemo.
    "radius": [
        unhex(
            "01000038 0f403f9473978057bd83d5cb98f4227a 01066e656d6f 02120dbe708d93d413ce3196e43f782a0aee "
            "0406c0a80110 050600000003"
        )
    ],
    # OpenFlow 1.3, HELLO and ECHO_REQUEST.
    "openflow": [unhex("04 00 0008 00000001"), unhex("04 02 000a 00000002 6869")],
    # RFC 6455, 5.7: a text, masked, a fragment, a ping, 256 bytes in 16 bits, 64 KiB in 64.
    "websocket": [
        unhex("8105 48656c6c6f"),
        unhex("8185 37fa213d 7f9f4d5158"),
        unhex("0103 48656c"),
        unhex("8905 48656c6c6f"),
        unhex("827e0100") + bytes(256),
        unhex("827f0000000000010000") + bytes(65536),
    ],
    # ZMTP 3.0: a last frame, one with more to follow, a command, a long frame.
    "zmtp": [b"\x00\x05hello", b"\x01\x00", b"\x04\x06\x05READY", unhex("02 0000000000000100") + bytes(256)],
    # X.690: INTEGER 5 (8.3), a length in the long form (8.1.3.5), tag 31 in the high-tag form (8.1.2.4), 84 as Windows has it.
    "ber": [
        unhex("020105"),
        unhex("308180") + bytes(128),
        unhex("9f1f0100"),
        unhex("bf81480101"),
        unhex("308400000003 020105"),
    ],
    # RFC 4511, 4.3: UnbindRequest, message 3.
    "ldap": [unhex("3005 020103 4200")],
    # SNMPv1 GetRequest of sysDescr.0, community public.
    "snmp": [
        unhex("3026 020100 0406 7075626c6963 a019 020101 020100 020100 300e 300c 0608 2b06010201010100 0500"),
    ],
}

# Frames whose payload is delivered without what is around it. Name: pairs of frame and payload, and where they are from.
INNER: dict[str, list[tuple[bytes, bytes]]] = {
    # RFC 1035, 4.1: a query for the A record of example.com.
    "dns": [
        (
            unhex("001d 1234 0100 0001 0000 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001"),
            unhex("1234 0100 0001 0000 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001"),
        )
    ],
    # ApiVersions (18), version 0, correlation 1, client rdkafka.
    "kafka": [(unhex("00000011 0012 0000 00000001 0007 72646b61666b61"), unhex("0012000000000001000772646b61666b61"))],
    # Thrift binary protocol, strict: a call of ping without arguments, sequence 0.
    "thrift": [
        (unhex("00000011 80010001 00000004 70696e67 00000000 00"), unhex("80010001 00000004 70696e67 00000000 00"))
    ],
    # BEP 3: keep-alive, interested, have 7.
    "bittorrent": [
        (bytes(4), b""),
        (unhex("00000001 02"), b"\x02"),
        (unhex("00000005 04 00000007"), unhex("0400000007")),
    ],
    # RFC 4253, 6 and 7.3: SSH_MSG_NEWKEYS (21), ten bytes of padding.
    "ssh": [(unhex("0000000c 0a 15") + bytes(10), b"\x0a\x15" + bytes(10))],
    # RFC 5734, 4: the total length, header included.
    "epp": [
        (b"\x00\x00\x00\x4d" + xml, xml)
        for xml in [b'<epp xmlns="urn:ietf:params:xml:ns:epp-1.0"><!-- hello --><hello/></epp>\n']
    ],
    # protobuf encoding guide: message Test1 with a = 150; a message of defaults.
    "protobuf": [(unhex("03 089601"), unhex("089601")), (b"\x00", b"")],
    # RFC 5531, 9 and 11: a call of NFS 3's NULL in one fragment; a record of no bytes.
    "onc_rpc": [
        (unhex("80000028") + call, call)
        for call in [unhex("00000001 00000000 00000002 000186a3 00000003 00000000 0000000000000000 0000000000000000")]
    ]
    + [(unhex("80000000"), b"")],
    # D. J. Bernstein, "Netstrings".
    "netstring": [(unhex("31323a68656c6c6f20776f726c64212c"), b"hello world!"), (b"0:,", b"")],
    # SCGI specification, the example.
    "scgi": [
        (b"70:" + block + b",", block)
        for block in [b"CONTENT_LENGTH\x0027\x00SCGI\x001\x00REQUEST_METHOD\x00POST\x00REQUEST_URI\x00/deepthought\x00"]
    ],
    # RFC 6587, 3.4.1.
    "syslog": [(b"20 <34>1 - - - - - - su", b"<34>1 - - - - - - su")],
    "syslog_lines": [(b"<34>1 - - - - - - su\n", b"<34>1 - - - - - - su")],
    # Language Server Protocol, "Base Protocol": a body counted in bytes; U+00E9 has two.
    "lsp": [(b'Content-Length: 16\r\n\r\n{"method":"\xc3\xa9x"}', b'{"method":"\xc3\xa9x"}')],
    # Debug Adapter Protocol, overview: the next request.
    "dap": [
        (b"Content-Length: 119\r\n\r\n" + body, body)
        for body in [
            (
                b'{\r\n    "seq": 153,\r\n    "type": "request",\r\n    "command": "next",\r\n'
                b'    "arguments": {\r\n        "threadId": 3\r\n    }\r\n}'
            )
        ]
    ],
    # NDJSON specification, 2; U+2028 inside.
    "ndjson": [(b'{"some":"thing"}\n', b'{"some":"thing"}'), ('"\u2028"\n'.encode(), '"\u2028"'.encode())],
    # RFC 7464, 2.2.
    "json_seq": [(b'\x1e{"a":1}\n', b'{"a":1}'), (b"\x1etrue\n", b"true")],
    # RFC 2812, 3.1.2.
    "irc": [
        (b"NICK Wiz\r\n", b"NICK Wiz"),
        (b":WiZ!jto@tolsun.oulu.fi NICK Kilroy\r\n", b":WiZ!jto@tolsun.oulu.fi NICK Kilroy"),
    ],
    # RFC 5321, D.1.
    "smtp": [(b"EHLO bar.com\r\n", b"EHLO bar.com"), (b"250 OK\r\n", b"250 OK"), (b".\r\n", b".")],
    # MLLP: an acknowledgement.
    "mllp": [(b"\x0bMSH|^~\\&|\rMSA|AA|1\r\x1c\r", b"MSH|^~\\&|\rMSA|AA|1\r")],
    # STOMP 1.2, "Connecting".
    "stomp": [
        (
            b"CONNECT\naccept-version:1.2\nhost:stomp.github.org\n\n\x00",
            b"CONNECT\naccept-version:1.2\nhost:stomp.github.org\n\n",
        )
    ],
    # Read registers 40108 to 40110 of slave 17, LRC 7E.
    "modbus_ascii": [(b":1103006B00037E\r\n", b"1103006B00037E")],
    # RFC 1055.
    "slip": [(unhex("c0 01 dbdc 02 dbdd 03 c0"), unhex("01 c0 02 db 03"))],
    # The X-25 check of 123456789 is 906E, sent least significant byte first.
    "hdlc": [(unhex("7e 313233343536373839 6e90 7e"), b"123456789")],
    # Cheshire and Baker; the encoding of a lone zero, and of a run of 254.
    "cobs": [(unhex("031122023300"), unhex("11220033")), (unhex("010100"), b"\x00")],
}


def fcs16(data: bytes) -> bytes:
    """FCS-16 bit by bit, as RFC 1662 defines it, to judge by."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return (value ^ 0xFFFF).to_bytes(2, "little")


# RFC 1661, 5.5: Terminate-Request, id 1, length 4, with the address, control and protocol before it.
TERMINATE = unhex("ff03 c021 05010004")
assert not {0x7D, 0x7E} & set(fcs16(TERMINATE))
INNER["ppp"] = [(b"\x7e" + TERMINATE + fcs16(TERMINATE) + b"\x7e", TERMINATE)]

FRAMES: dict[str, list[tuple[bytes, bytes]]] = {
    name: [(one, one) for one in frames] for name, frames in WHOLE.items()
} | INNER


def decode(framer: Framer, data: bytes) -> list[bytes]:
    decoder = framer.decoder()
    payloads = decoder.feed(data)
    assert decoder.error is None
    assert decoder.feed_eof() == []
    return payloads


def drip(framer: Framer, data: bytes) -> list[bytes]:
    decoder = framer.decoder()
    payloads = [payload for at in range(len(data)) for payload in decoder.feed(data[at : at + 1])]
    return payloads + decoder.feed_eof()


def violation(framer: Framer, data: bytes) -> Violation:
    """What is raised for ``data``: the same, told whole and byte by byte."""
    with pytest.raises(Violation) as whole:
        framer.decoder().feed(data)
    with pytest.raises(Violation) as dripped:
        drip(framer, data)
    assert (type(dripped.value), str(dripped.value)) == (type(whole.value), str(whole.value))
    return whole.value


def test_every_preset_has_a_frame_here_and_the_other_way_round() -> None:
    assert sorted(FRAMES) == NAMES


def test_presets_are_all_the_public_functions_and_all_of_them_are_exported() -> None:
    functions = {
        name
        for name, value in vars(presets).items()
        if inspect.isfunction(value) and value.__module__ == presets.__name__ and not name.startswith("_")
    }
    assert set(presets.PRESETS) == functions
    assert presets.__all__ == ["PRESETS", *NAMES]
    assert all(presets.PRESETS[name] is getattr(presets, name) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_decoded_whole_byte_by_byte_and_glued(name: str) -> None:
    framer = presets.PRESETS[name]()
    stream = b"".join(frame for frame, _ in FRAMES[name])
    expected = [payload for _, payload in FRAMES[name]]
    for frame, payload in FRAMES[name]:
        assert decode(framer, frame) == [payload]
    assert decode(framer, stream + stream) == expected + expected
    assert drip(framer, stream) == expected


@pytest.mark.parametrize("name", NAMES)
def test_payloads_are_encoded_to_the_same_frames(name: str) -> None:
    framer = presets.PRESETS[name]()
    for frame, payload in FRAMES[name]:
        assert framer.encode(payload) == frame


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_that_is_cut_off_is_truncated(name: str) -> None:
    frame = FRAMES[name][0][0]
    decoder = presets.PRESETS[name]().decoder()
    assert decoder.feed(frame[:-1]) == []
    with pytest.raises(TruncatedFrame):
        decoder.feed_eof()


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_at_the_limit_passes_and_one_above_it_does_not(name: str) -> None:
    frame, payload = max(FRAMES[name], key=lambda pair: len(pair[1]))
    framer = replace(presets.PRESETS[name](), max_frame=len(payload))
    assert decode(framer, frame) == [payload]
    assert framer.encode(payload) == frame
    if getattr(framer, "min_frame", 0) < len(payload):
        smaller = replace(framer, max_frame=len(payload) - 1)
        with pytest.raises(FrameTooLarge):
            smaller.decoder().feed(frame)
        with pytest.raises(EncodeError):
            smaller.encode(payload)


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_values(name: str) -> None:
    framer = presets.PRESETS[name]()
    again = presets.PRESETS[name]()
    assert framer == again
    assert hash(framer) == hash(again)
    copy = pickle.loads(pickle.dumps(framer))
    assert copy == framer
    assert decode(copy, FRAMES[name][0][0]) == [FRAMES[name][0][1]]
    assert replace(framer, max_frame=framer.max_frame - 1) != framer


@pytest.mark.parametrize("name", NAMES)
def test_max_frame_is_an_option_of_every_preset_and_its_default_is_safe(name: str) -> None:
    framer = presets.PRESETS[name]()
    assert 256 <= framer.max_frame <= 128 << 20
    assert presets.PRESETS[name](max_frame=200) == replace(framer, max_frame=200)  # type: ignore[call-arg] # all take it


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_words_of_the_spec_string(name: str) -> None:
    wire = Wire.parse(name)
    assert wire.framer == presets.PRESETS[name]()
    assert Wire.parse(str(wire)) == wire
    assert Wire.parse(name.replace("_", "-")) == wire
    assert Wire.parse(f"{name}(max_frame=300)+json").framer == replace(wire.framer, max_frame=300)


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_name_a_source_and_the_table_has_them(name: str) -> None:
    assert re.search(r"\bSource: .|Cheshire and Baker", inspect.getdoc(presets.PRESETS[name]) or "")


def test_the_reference_page_lists_every_preset_once() -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == NAMES


def test_the_reference_page_states_the_defaults() -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    for name, cell in re.findall(r"^\| `(\w+)` \|[^|]*\| ([\d,]+) \|", page, re.MULTILINE):
        assert int(cell.replace(",", "")) == presets.PRESETS[name]().max_frame, name


def test_importing_the_presets_imports_no_construct() -> None:
    code = (
        "import sys; from framing import presets; presets.mqtt(); assert 'construct' not in sys.modules; presets.tls()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What each protocol forbids.

FORBIDDEN: list[tuple[str, str, type[Violation]]] = [
    ("dns", "0000", CorruptFrame),
    ("dns", "000b", CorruptFrame),
    ("kafka", "ffffffff", FrameTooLarge),
    ("kafka", "80000000", FrameTooLarge),
    ("thrift", "80010001", FrameTooLarge),
    ("mongodb", "0f000000", CorruptFrame),
    ("mongodb", "ffffffff", FrameTooLarge),
    ("bson", "04000000", CorruptFrame),
    ("bson", "00000080", FrameTooLarge),
    ("bson", "05000000 01", CorruptFrame),
    ("postgres", "5a 00000003", CorruptFrame),
    ("postgres", "5a 7fffffff", FrameTooLarge),
    ("postgres_startup", "00000007", CorruptFrame),
    ("postgres_startup", "00003000", FrameTooLarge),
    ("mqtt", "30 80808080", FrameTooLarge),
    ("mqtt", "30 ffffffff", FrameTooLarge),
    ("mqtt", "30 8000", CorruptFrame),
    ("mqtt", "30 81808000", CorruptFrame),
    ("mqtt", "30 ffffff7f", FrameTooLarge),
    ("amqp", "08 0000 00000000 cf", CorruptFrame),
    ("amqp", "41 4d51 50000009 01", FrameTooLarge),
    ("amqp1", "00000007", CorruptFrame),
    ("amqp1", "414d5150", FrameTooLarge),
    ("grpc", "00 ffffffff", FrameTooLarge),
    ("http2", "004001 00 00 00000001", FrameTooLarge),
    ("http2", "505249 20 2a 20485454", FrameTooLarge),
    ("tpkt", "03000003", CorruptFrame),
    ("tpkt", "03000006", CorruptFrame),
    ("tpkt", "02", CorruptFrame),
    ("tpkt", "0301", CorruptFrame),
    ("modbus_tcp", "0001 0001 0006 ff 03", CorruptFrame),
    ("modbus_tcp", "0001 0000 0001 ff 03", CorruptFrame),
    ("modbus_tcp", "0001 0000 0000 ff 03", CorruptFrame),
    ("modbus_tcp", "0001 0000 00ff ff 03", FrameTooLarge),
    ("bitcoin", "0b110907", CorruptFrame),
    ("bitcoin", "f9beb4d9 626c6f636b00000000000000 01093d00", FrameTooLarge),
    ("tls", "485454502f", CorruptFrame),
    ("tls", "17 0303 4801", FrameTooLarge),
    ("fastcgi", "02", CorruptFrame),
    ("ssh", "0000000b", CorruptFrame),
    ("ssh", "000088b5", FrameTooLarge),
    ("bgp", "ff" * 16 + "0012", CorruptFrame),
    ("bgp", "ff" * 16 + "1001", FrameTooLarge),
    ("bgp", "ff" * 15 + "fe", CorruptFrame),
    ("diameter", "02", CorruptFrame),
    ("diameter", "01 000013", CorruptFrame),
    ("rtsp", "52", CorruptFrame),
    ("smpp", "0000000f", CorruptFrame),
    ("epp", "00000004", CorruptFrame),
    ("epp", "00000003", CorruptFrame),
    ("tds", "12 01 0007", CorruptFrame),
    ("tds", "12 01 8000", FrameTooLarge),
    ("radius", "01 00 0013", CorruptFrame),
    ("radius", "01 00 1001", FrameTooLarge),
    ("openflow", "04 00 0007", CorruptFrame),
    ("websocket", "82 7e 007d", CorruptFrame),
    ("websocket", "82 7f 000000000000ffff", CorruptFrame),
    ("websocket", "82 7f 8000000000000000", CorruptFrame),
    ("websocket", "89 7e", CorruptFrame),
    ("websocket", "09 00", CorruptFrame),
    ("websocket", "82 7f 0000000000200000", FrameTooLarge),
    ("zmtp", "08", CorruptFrame),
    ("zmtp", "05", CorruptFrame),
    ("zmtp", "07", CorruptFrame),
    ("zmtp", "ff", CorruptFrame),
    ("zmtp", "02 8000000000000000", CorruptFrame),
    ("zmtp", "02 0000000000200000", FrameTooLarge),
    ("ber", "30 80", CorruptFrame),
    ("ber", "30 ff", CorruptFrame),
    ("ber", "30 89", CorruptFrame),
    ("ber", "30 84 ffffffff", FrameTooLarge),
    ("ber", "1f" + "80" * 32, CorruptFrame),
    ("ldap", "31", CorruptFrame),
    ("ldap", "30 80", CorruptFrame),
    ("snmp", "30 83 010000", FrameTooLarge),
    ("protobuf", "8000", CorruptFrame),
    ("protobuf", "80808080", FrameTooLarge),
    ("onc_rpc", "ffffffff", FrameTooLarge),
    ("netstring", b"01:".hex(), CorruptFrame),
    ("netstring", b"00:".hex(), CorruptFrame),
    ("netstring", b"+".hex(), CorruptFrame),
    ("netstring", b"1:ab".hex(), CorruptFrame),
    ("netstring", b"9999999999".hex(), FrameTooLarge),
    ("scgi", b"65537:".hex(), FrameTooLarge),
    ("syslog", b"0".hex(), CorruptFrame),
    ("syslog", b"<".hex(), CorruptFrame),
    ("syslog", b"99999".hex(), FrameTooLarge),
    ("lsp", b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n".hex(), CorruptFrame),
    ("lsp", b"Content-Length: +1\r\n\r\n".hex(), CorruptFrame),
    ("dap", b"Content-Type: x\r\n\r\n".hex(), CorruptFrame),
    ("lsp", (b"x" * 4096).hex(), CorruptFrame),
    ("json_seq", b"{}".hex()[:2], CorruptFrame),
    ("json_seq", b'\x1e{"a"\x1e{}\n'.hex(), CorruptFrame),
    ("mllp", b"M".hex(), CorruptFrame),
    ("modbus_ascii", b":1103:11\r\n".hex(), CorruptFrame),
    ("modbus_ascii", (b":" + b"0" * 513).hex(), FrameTooLarge),
    ("irc", (b"x" * 513).hex(), FrameTooLarge),
    ("smtp", (b"x" * 1001).hex(), FrameTooLarge),
    ("slip", "c0 01 db 02 c0", CorruptFrame),
    ("hdlc", "7e 313233343536373839 6e91 7e", CorruptFrame),
    ("ppp", "7e ff 7d 7e", CorruptFrame),
    ("cobs", "05 11 00", CorruptFrame),
]


@pytest.mark.parametrize(
    ("name", "stream", "kind"), FORBIDDEN, ids=[f"{name}-{stream[:24]}" for name, stream, _ in FORBIDDEN]
)
def test_what_the_protocol_forbids_is_refused(name: str, stream: str, kind: type[Violation]) -> None:
    assert type(violation(presets.PRESETS[name](), unhex(stream))) is kind


@pytest.mark.parametrize("max_frame", [presets.mqtt().max_frame, 268_435_460])
def test_mqtt_has_four_bytes_of_length_and_no_fifth(max_frame: int) -> None:
    framer = presets.mqtt(max_frame=max_frame)
    for fifth in (b"\x01", b"\x7f", b"\x80", b"\xff"):
        assert type(violation(framer, b"\x30\xff\xff\xff\xff" + fifth)) is FrameTooLarge
    with pytest.raises(ValueError, match="max_frame"):
        presets.mqtt(max_frame=268_435_461)


def test_mqtt_takes_the_largest_packet_where_it_is_allowed() -> None:
    decoder = presets.mqtt(max_frame=268_435_460).decoder()
    assert decoder.feed(b"\x30\xff\xff\xff\x7f") == []
    assert decoder.error is None
    assert len(decoder.get_buffer()) < 1 << 20  # what is announced is not allocated


@pytest.mark.parametrize("name", ["kafka", "thrift", "mongodb", "bson"])
def test_a_length_with_a_sign_can_never_be_read_without_it(name: str) -> None:
    made = presets.PRESETS[name]
    made(max_frame=(1 << 31) - 1)  # type: ignore[call-arg] # all take it
    with pytest.raises(ValueError, match="max_frame"):
        made(max_frame=1 << 31)  # type: ignore[call-arg] # all take it


@pytest.mark.parametrize(
    ("first", "length", "words"),
    [(b"HTTP/1.1 400", 1213486160, "an HTTP response"), (b"\x15\x03\x03\x00\x02", 352518912, "a TLS alert")],
)
def test_kafka_says_whose_bytes_it_read(first: bytes, length: int, words: str) -> None:
    error = violation(presets.kafka(), first[:4])
    assert (error.got, error.head, error.expected) == (length, first[:4], 104857600)
    assert words in str(error)


def test_the_answer_to_an_ssl_request_is_one_bare_byte_and_nothing_may_be_behind_it() -> None:
    from framing import FixedSize

    decoder = FixedSize(1).decoder()
    assert decoder.feed(b"S" + FRAMES["postgres"][0][0], limit=1) == [b"S"]
    assert decoder.unconsumed == FRAMES["postgres"][0][0]  # an attacker's: not to be read behind TLS


def test_a_startup_packet_hands_over_to_the_messages_behind_it() -> None:
    first = presets.postgres_startup().decoder()
    assert first.feed(FRAMES["postgres_startup"][0][0] + FRAMES["postgres"][0][0], limit=1) == [
        FRAMES["postgres_startup"][0][0]
    ]
    assert decode(presets.postgres(), first.unconsumed) == [FRAMES["postgres"][0][0]]


def test_a_full_mysql_packet_and_the_one_that_continues_it_both_arrive() -> None:
    full = b"\xff\xff\xff\x00" + bytes(0xFFFFFF)
    assert list(map(len, decode(presets.mysql(), full + b"\x01\x00\x00\x01!"))) == [0x1000003, 5]


def test_onc_rpc_puts_fragments_together_and_bounds_empty_ones() -> None:
    assert decode(presets.onc_rpc(), unhex("00000002 6162 00000000 80000001 63")) == [b"abc"]
    assert type(violation(presets.onc_rpc(), bytes(4) * 1025)) is CorruptFrame


def test_websocket_unpacks_the_header() -> None:
    header, body = presets.websocket().unpack(unhex("8185 37fa213d 7f9f4d5158"))
    assert (header.first, header.length, header.mask) == (0x81, 5, unhex("37fa213d"))
    assert bytes(byte ^ header.mask[at % 4] for at, byte in enumerate(body)) == b"Hello"


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("websocket", unhex("827e0005") + b"Hello"),
        ("websocket", unhex("8105") + b"Hell"),
        ("zmtp", b"\x00\x05hell"),
        ("tls", unhex("15 0303 0003 0100")),
        ("modbus_tcp", unhex("1501 0001 0006 ff 03 0004 0001")),
        ("amqp", unhex("08 0000 00000000 00")),
        ("bson", unhex("0500000001")),
        ("bgp", bytes(16) + unhex("0013 04")),
        ("mqtt", unhex("c001")),
        ("mqtt", unhex("c08000")),
        ("bitcoin", unhex("0b110907 76657261636b000000000000 00000000 5df6e0e2")),
        ("dns", bytes(11)),
        ("syslog", b""),
        ("irc", b"PRIVMSG #a :hi\r\nQUIT"),
        ("stomp", b"SEND\n\na\x00b"),
        ("json_seq", b'{\n"a": 1}'),
        ("mllp", b"a\x1c\rb"),
        ("modbus_ascii", b":"),
    ],
)
def test_a_frame_that_the_peer_would_refuse_is_not_sent(name: str, payload: bytes) -> None:
    with pytest.raises(EncodeError):
        presets.PRESETS[name]().encode(payload)


def test_a_testnet_is_another_magic() -> None:
    frame = unhex("0b110907 76657261636b000000000000 00000000 5df6e0e2")
    assert decode(presets.bitcoin(magic=unhex("0b110907")), frame) == [frame]


@pytest.mark.parametrize(
    ("name", "frame", "payload"),
    [
        ("dns", "000c 1234 8182 0000 0000 0000 0000", "1234 8182 0000 0000 0000 0000"),
        ("epp", "00000005 78", "78"),
        ("tpkt", "03000007 02f080", "03000007 02f080"),
        ("mongodb", "10000000 01000000 00000000 dd070000", "10000000 01000000 00000000 dd070000"),
        ("tds", "04 01 0008 0000 01 00", "04 01 0008 0000 01 00"),
        ("radius", "02000014" + "00" * 16, "02000014" + "00" * 16),
    ],
)
def test_the_least_frame_passes(name: str, frame: str, payload: str) -> None:
    framer = presets.PRESETS[name]()
    assert decode(framer, unhex(frame)) == [unhex(payload)]
    assert framer.encode(unhex(payload)) == unhex(frame)


@pytest.mark.parametrize(
    ("name", "header", "body"),
    [
        ("websocket", "82ff 0000000000010000 37fa213d", 65536),
        ("zmtp", "02 0000000000010000", 65536),
        ("ber", "1f" + "81" * 21 + "01 88 0000000000000005", 5),
        ("ldap", "30 88 0000000000000005", 5),
        ("snmp", "30 88 0000000000000005", 5),
    ],
)
def test_the_longest_header_passes(name: str, header: str, body: int) -> None:
    frame = unhex(header) + bytes(body)
    assert decode(presets.PRESETS[name](), frame) == [frame]


def test_a_bitcoin_message_with_a_payload_arrives_whole_and_its_checksum_is_where_the_docstring_says() -> None:
    nonce = bytes(range(8))
    checksum = hashlib.sha256(hashlib.sha256(nonce).digest()).digest()[:4]
    frame = unhex("f9beb4d9 70696e670000000000000000 08000000") + checksum + nonce
    assert decode(presets.bitcoin(), frame) == [frame]
    assert frame[20:24] == checksum


def test_irc_and_smtp_lines_end_at_crlf_and_nowhere_else() -> None:
    for framer in (presets.irc(), presets.smtp()):
        assert decode(framer, b"a\nb\rc\n\r.\r\n") == [b"a\nb\rc\n\r."]


def test_stomp_heart_beats_come_before_the_next_frame() -> None:
    assert decode(presets.stomp(), b"\n\nRECEIPT\nreceipt-id:1\n\n\x00") == [b"\n\nRECEIPT\nreceipt-id:1\n\n"]


def test_json_sequences_can_go_on_behind_a_text_that_was_cut_off() -> None:
    framer = replace(presets.json_seq(), on_corrupt="skip")
    decoder = framer.decoder()
    assert decoder.feed(b'\x1e{"a":\x1e\x1e{"b":2}\n') == [b'{"b":2}']
    assert decoder.skipped == 1


def test_ppp_takes_what_a_control_character_map_has_escaped() -> None:
    body = TERMINATE + fcs16(TERMINATE)
    escaped = b"".join(bytes((0x7D, byte ^ 0x20)) if byte < 0x20 else bytes((byte,)) for byte in body)
    assert decode(presets.ppp(), b"\x7e" + escaped + b"\x7e") == [TERMINATE]


def test_scgi_leaves_the_body_to_its_reader() -> None:
    decoder = presets.scgi().decoder()
    frame, block = FRAMES["scgi"][0]
    assert decoder.feed(frame + b"What is the answer to life?", limit=1) == [block]
    assert decoder.unconsumed == b"What is the answer to life?"
