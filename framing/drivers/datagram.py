"""The datagram driver: one message a packet, over UDP and unix datagrams, blocking and on asyncio.

    with datagram.bind(("127.0.0.1", 9000), wire) as endpoint:
        message, sender = endpoint.receive()
        endpoint.send({"got": message}, sender)

    async with datagram.async_connect(("127.0.0.1", 9000), wire) as endpoint:
        await endpoint.send({"op": "sum", "args": [1, 2]})
        print((await endpoint.receive()).message)

A packet has its own bounds, so it holds what a wire's layers and codec make of a message, and none of the framer's bytes; of
the framer, ``max_frame`` counts. It guarantees that

- a message that is too large for a packet raises `framing.EncodeError`, and no part of it is sent;
- a packet that was cut short, is above ``max_frame``, or is refused by a layer or the codec raises `BadPacket`, which is a
  `framing.DecodeError` that knows the sender; the packets behind it come as if nothing had been;
- a time that is over, and a cancelled call, lose no packet.

What datagrams are stays so: they may be lost, doubled and overtaken, and nobody tells. Whoever says that nobody listens
at an address (ICMP) is heard by a connected endpoint alone, and late: `framing.ConnectionRefused` then comes out of whichever
call is next, and stands for an earlier packet.

The asynchronous half needs a loop with ``add_reader``: all but Windows' proactor loop have it.
"""

from framing.drivers.datagram_aio import AsyncEndpoint, AsyncServer, async_bind, async_connect
from framing.drivers.datagram_blocking import Endpoint, Server, bind, connect
from framing.drivers.datagram_mailbox import BadPacket, Packet

__all__ = [
    "AsyncEndpoint",
    "AsyncServer",
    "BadPacket",
    "Endpoint",
    "Packet",
    "Server",
    "async_bind",
    "async_connect",
    "bind",
    "connect",
]
