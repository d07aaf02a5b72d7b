"""Frames made by libraries that nobody here wrote, split by the presets; and the reverse where they read streams too."""

from __future__ import annotations

import io
import ssl
import struct
from collections.abc import Callable
from typing import Any

import bson
import pytest
from google.protobuf import proto, wrappers_pb2
from pika import frame as pika_frame
from pika import spec as pika_spec
from scapy.contrib.bgp import BGPHeader, BGPKeepAlive, BGPOpen
from scapy.contrib.diameter import AVP, DiamReq
from scapy.contrib.http2 import H2Frame, H2PingFrame, H2Setting, H2SettingsFrame
from scapy.contrib.modbus import ModbusADURequest, ModbusPDU03ReadHoldingRegistersRequest
from scapy.contrib.mqtt import MQTT, MQTTPublish
from scapy.contrib.oncrpc import RPC, RM_Header, RPC_Call
from scapy.contrib.openflow import OFPTEchoRequest, OFPTHello
from scapy.contrib.postgres import Startup
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.ldap import LDAP, LDAP_UnbindRequest
from scapy.layers.radius import Radius, RadiusAttr_User_Name
from scapy.layers.snmp import SNMP, SNMPget, SNMPvarbind
from wsproto.frame_protocol import FrameProtocol

from framing import presets
from framing.framers import Framer


def split(framer: Framer, stream: bytes) -> list[bytes]:
    """The payloads of ``stream``: the same whole and byte by byte, with nothing left over."""
    whole = framer.decoder()
    payloads = whole.feed(stream)
    assert whole.feed_eof() == []
    drip = framer.decoder()
    assert [payload for at in range(len(stream)) for payload in drip.feed(stream[at : at + 1])] == payloads
    assert drip.feed_eof() == []
    return payloads


def frames_of_scapy() -> dict[str, list[bytes]]:
    packets: dict[str, list[Any]] = {
        "bgp": [BGPHeader() / BGPOpen(my_as=65000, hold_time=180, bgp_id="192.0.2.1"), BGPHeader() / BGPKeepAlive()],
        "diameter": [DiamReq("Device-Watchdog", drHbHId=1, drEtEId=2, avpList=[AVP("Origin-Host", val="a.example")])],
        "http2": [
            H2Frame() / H2SettingsFrame(settings=[H2Setting(id=3, value=100)]),
            H2Frame(stream_id=0) / H2PingFrame(b"12345678"),
        ],
        "ldap": [LDAP(messageID=3, protocolOp=LDAP_UnbindRequest())],
        "modbus_tcp": [
            ModbusADURequest(transId=7) / ModbusPDU03ReadHoldingRegistersRequest(startAddr=1, quantity=2),
            ModbusADURequest(transId=8) / ModbusPDU03ReadHoldingRegistersRequest(startAddr=1, quantity=125),
        ],
        "mqtt": [
            MQTT(QOS=1) / MQTTPublish(topic="a/b", msgid=10, value=b"x"),
            MQTT() / MQTTPublish(topic="a/b", value=b"x" * 200),
            MQTT() / MQTTPublish(topic="a/b", value=b"x" * 20_000),
        ],
        "openflow": [OFPTHello(), OFPTEchoRequest(xid=2)],
        "postgres_startup": [Startup(options=b"user\x00me\x00")],
        "radius": [Radius(code=1, id=3, authenticator=b"a" * 16, attributes=[RadiusAttr_User_Name(value=b"nemo")])],
        "snmp": [SNMP(community="public", PDU=SNMPget(varbindlist=[SNMPvarbind(oid="1.3.6.1.2.1.1.1.0")]))],
    }
    return {name: [bytes(packet) for packet in made] for name, made in packets.items()}


@pytest.mark.parametrize(("name", "frames"), frames_of_scapy().items())
def test_scapys_frames_are_split_as_they_were_joined(name: str, frames: list[bytes]) -> None:
    framer = presets.PRESETS[name]()
    assert split(framer, b"".join(frames)) == frames
    assert framer.encode_many(frames) == b"".join(frames)


def test_scapys_ldap_and_snmp_are_ber() -> None:
    made = frames_of_scapy()
    frames = [*made["ldap"], *made["snmp"]]
    assert split(presets.ber(), b"".join(frames)) == frames


def test_scapys_dns_message_arrives_without_its_length() -> None:
    message = bytes(DNS(id=1, qd=DNSQR(qname="example.com")))
    assert split(presets.dns(), (struct.pack("!H", len(message)) + message) * 2) == [message] * 2
    assert DNS(split(presets.dns(), presets.dns().encode(message))[0]).qd[0].qname == b"example.com."


def test_scapys_rpc_call_arrives_without_its_record_mark() -> None:
    record = bytes(RM_Header() / RPC(xid=1, mtype=0) / RPC_Call(program=100003, pversion=3, procedure=0))
    assert split(presets.onc_rpc(), record) == [record[4:]]
    assert presets.onc_rpc().encode(record[4:]) == record


def test_pikas_frames_are_split_and_pika_reads_ours() -> None:
    made = [
        pika_frame.Method(1, pika_spec.Channel.Open()),
        pika_frame.Header(1, 2, pika_spec.BasicProperties(content_type="text/plain")),
        pika_frame.Body(1, b"\xce\xce"),
        pika_frame.Heartbeat(),
    ]
    frames = [one.marshal() for one in made]
    assert split(presets.amqp(), b"".join(frames)) == frames
    used, read = pika_frame.decode_frame(presets.amqp().encode(frames[2]))
    assert (used, read.fragment) == (len(frames[2]), b"\xce\xce")


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_wsprotos_frames_are_split_and_wsproto_reads_ours(client: bool, size: int) -> None:
    maker = FrameProtocol(client=client, extensions=[])
    frames = [bytes(maker.send_data(b"x" * size)), bytes(maker.ping(b"y")), bytes(maker.send_data("é", fin=False))]
    framer = presets.websocket()
    assert framer.decoder().feed(b"".join(frames)) == frames
    header, body = framer.unpack(frames[0])
    assert header.length == size
    assert len(header.mask) == (4 if client else 0)
    assert len(body) == size
    reader = FrameProtocol(client=not client, extensions=[])
    reader.receive_bytes(framer.encode(frames[0]))
    assert b"".join(bytes(part.payload) for part in reader.received_frames()) == b"x" * size


def test_bsons_documents_are_split_and_bson_reads_ours() -> None:
    documents: list[dict[str, Any]] = [{}, {"a": [1, 2.5, None]}, {"é": b"\x00" * 300}]
    stream = b"".join(map(bson.encode, documents))
    frames = split(presets.bson(), stream)
    assert list(map(bson.decode, frames)) == documents
    assert bson.decode_all(presets.bson().encode_many(frames)) == documents


def test_mongodbs_message_with_bsons_document_is_split() -> None:
    body = struct.pack("<iB", 0, 0) + bson.encode({"ping": 1, "$db": "admin"})
    message = struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body
    assert split(presets.mongodb(), message * 2) == [message] * 2


def test_protobufs_delimited_messages_are_split_and_protobuf_reads_ours() -> None:
    messages = [wrappers_pb2.StringValue(value=text) for text in ("", "a", "x" * 200, "y" * 20_000)]
    stream = io.BytesIO()
    for message in messages:
        proto.serialize_length_prefixed(message, stream)
    payloads = split(presets.protobuf(), stream.getvalue())
    assert [wrappers_pb2.StringValue.FromString(payload) for payload in payloads] == messages
    ours = io.BytesIO(presets.protobuf().encode_many(payloads))
    read: Callable[[], Any] = lambda: proto.parse_length_prefixed(wrappers_pb2.StringValue, ours)  # noqa: E731 -- bound to ours
    assert [read() for _ in messages] == messages


def test_openssls_records_are_split() -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(to_client, to_server, server_hostname="example.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = to_server.read()
    assert split(presets.tls(), hello) == [hello]
    to_server.write(hello)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLError):
        server.do_handshake()  # it has no certificate
    alert = to_client.read()
    assert split(presets.tls(), alert) == [alert]
    assert (alert[0], alert[5:]) == (21, b"\x02\x28")
