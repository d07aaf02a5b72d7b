"""Encoders of other people's: payloads in, the bytes of all their u32 frames out."""

from __future__ import annotations

import struct
from collections.abc import Callable

from benchmarks.peers.decoders import easynetwork_prefixed

__all__ = ["OWN", "U32"]

Encode = Callable[[list[bytes]], bytes]


def by_hand(payloads: list[bytes]) -> bytes:
    """The loop that everybody writes."""
    return b"".join([len(payload).to_bytes(4, "big") + payload for payload in payloads])


def by_hand_appending(payloads: list[bytes]) -> bytes:
    """The fastest loop of its kind: headers and payloads side by side, joined once."""
    pack = struct.Struct(">I").pack
    parts = [b""] * (2 * len(payloads))
    parts[::2] = map(pack, map(len, payloads))
    parts[1::2] = payloads
    return b"".join(parts)


def twisted(payloads: list[bytes]) -> bytes:
    from twisted.internet.testing import StringTransport
    from twisted.protocols.basic import Int32StringReceiver

    transport = StringTransport()
    protocol = Int32StringReceiver()
    protocol.makeConnection(transport)
    for payload in payloads:
        protocol.sendString(payload)
    return transport.value()


def easynetwork(payloads: list[bytes]) -> bytes:
    from easynetwork.lowlevel._stream import StreamDataProducer
    from easynetwork.protocol import StreamProtocol

    producer = StreamDataProducer(StreamProtocol(easynetwork_prefixed()))
    return b"".join([chunk for payload in payloads for chunk in producer.generate(payload)])


def construct(payloads: list[bytes]) -> bytes:
    import construct as declared

    frame = declared.Prefixed(declared.Int32ub, declared.GreedyBytes)
    return b"".join([frame.build(payload) for payload in payloads])


def msgpack_packer(payloads: list[bytes]) -> bytes:
    """MessagePack's own framing, not u32."""
    import msgpack

    packer = msgpack.Packer(autoreset=False)
    for payload in payloads:
        packer.pack(payload)
    return bytes(packer.bytes())


U32: dict[str, Encode] = {
    "by hand": by_hand,
    "by hand, parts joined once": by_hand_appending,
    "Twisted": twisted,
    "easynetwork": easynetwork,
    "construct": construct,
}
OWN: dict[str, Encode] = {"msgpack's Packer": msgpack_packer}
