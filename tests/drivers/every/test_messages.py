"""Messages there and back, over every server driver, every client driver and every transport."""

from __future__ import annotations

import threading
from random import Random
from typing import Any

import pytest

from framing import Wire
from tests.drivers.every.registry import over
from tests.drivers.every.services import RAW, Echo, take, until

OBJECTS = [{"op": "sum", "args": [1, 2.5, -3]}, [], {}, "", "ä\n\0", None, True, 0, [[["deep"]]], "x" * 3000]
BYTES = [b"", b"\0", b"~}\x7e\x7d\r\n\0", bytes(range(256)), b"\0" * 300, b"a" * 3000]

WIRES: dict[str, list[Any]] = {
    "u32+msgpack": [*OBJECTS, b"\0\xff"],
    "lines+text": ["a line", "", "ä€𐍈", "x" * 3000, " ", "\t"],
    "netstring+json": OBJECTS,
    "cobs+crc32+cbor": [*OBJECTS, b"\0" * 600],
    "varint+raw": BYTES,
    "hdlc": BYTES,
}
"""Wires of every kind (counted, varying, delimited, stuffed; text, binary, checked) and messages that each finds hard."""

wires = pytest.mark.parametrize("spec", WIRES)


@wires
def test_messages_come_back_in_order(serve, connect, spec):
    wire = Wire.parse(spec)
    service = Echo()
    server = serve(wire, service)
    client = connect(server.address, wire)
    messages = WIRES[spec] * 3
    for message in messages:
        client.send(message)
    assert take(client, len(messages)) == messages
    client.send_many(messages)
    assert take(client, len(messages)) == messages
    client.send_encoded(wire.encode_many(messages))
    assert take(client, len(messages)) == messages
    assert service.got == messages * 3
    assert not service.overlaps


@pytest.mark.parametrize(
    ("spec", "empty"),
    [("u32", b""), ("varint", b""), ("netstring", b""), ("lines+text", ""), ("cobs", b""), ("hdlc", b"")],
)
@over("tcp")
def test_empty_messages_are_messages(serve, connect, spec, empty):
    wire = Wire.parse(spec)
    server = serve(wire, Echo())
    client = connect(server.address, wire)
    client.send(empty)
    assert client.receive() == empty
    client.send_many([empty] * 1000)
    assert take(client, 1000) == [empty] * 1000


def test_messages_of_any_size_come_back(serve, connect):
    server = serve(RAW, Echo())
    client = connect(server.address, RAW)
    noise = Random(1).randbytes(1 << 22)
    for size in (1, 2, 127, 4096, (1 << 16) - 4, 1 << 16, (1 << 18) + 1, 1 << 22, 3):
        message = noise[:size]
        thread = threading.Thread(target=client.send, args=(message,))
        thread.start()
        assert client.receive() == message
        thread.join()


def test_thousands_of_messages_are_pipelined(serve, connect):
    wire = Wire.parse("u32+msgpack")
    server = serve(wire, Echo())
    client = connect(server.address, wire)
    messages = [[number, "x" * (number % 50)] for number in range(4000)]

    def send() -> None:
        for begin in range(0, len(messages), 100):
            client.send_many(messages[begin : begin + 100])

    thread = threading.Thread(target=send)
    thread.start()
    assert take(client, len(messages)) == messages
    thread.join()


def test_a_client_that_sends_without_reading_is_waited_for_and_nothing_deadlocks(serve, connect):
    """The client sends 8 MiB before it reads anything: the server holds what its peer does not take, and stops reading."""
    server = serve(RAW, Echo())
    client = connect(server.address, RAW)
    block = Random(2).randbytes(1 << 16)
    thread = threading.Thread(target=lambda: [client.send(block) for _ in range(128)])
    thread.start()
    until(lambda: server.connections)
    for message in take(client, 128):
        assert message == block
    thread.join()


@over("tcp", "tls")
def test_many_connections_keep_their_messages_apart(serve, connect):
    wire = Wire.parse("u32+msgpack")
    server = serve(wire, Echo())
    clients = [connect(server.address, wire) for _ in range(20)]
    for _ in range(5):
        for number, client in enumerate(clients):
            client.send_many([[number, "x" * number]] * 10)
        for number, client in enumerate(clients):
            assert take(client, 10) == [[number, "x" * number]] * 10
