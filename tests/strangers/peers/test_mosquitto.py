"""mosquitto met through `presets.mqtt`: whole control packets of MQTT 3.1.1, whose contents are written here."""

from __future__ import annotations

import getpass
from collections.abc import Iterator

import pytest

from framing import ConnectionClosed, ConnectionReset, VarintPrefixed, Wire, presets
from framing.drivers import blocking

from .programs import LOOPBACK, SECONDS, directory, found, served

WIRE = Wire(presets.mqtt())
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    kind << 4 for kind in (1, 2, 3, 4, 8, 9, 12, 13, 14)
)
remaining = VarintPrefixed(max_frame=268_435_455)
"""The Remaining Length and what it counts: the same varint, by another framer of ours."""


def packet(first: int, *parts: bytes) -> bytes:
    return bytes([first]) + remaining.encode(b"".join(parts))


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2) + value.encode()


def published(frame: bytes) -> tuple[str, bytes]:
    """The topic and the message of a PUBLISH of quality 0."""
    assert frame[0] == PUBLISH
    (body,) = remaining.decoder().feed(frame[1:])
    size = int.from_bytes(body[:2])
    return body[2 : 2 + size].decode(), body[2 + size :]


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[int]:
    program = found("mosquitto", "mosquitto")
    with directory() as place:
        config = place / "conf"

        def command(port: int) -> list[str]:
            config.write_text(f"listener {port} {LOOPBACK}\nallow_anonymous true\nuser {getpass.getuser()}\n")
            return [program, "-c", str(config)]

        with served(command, place / "log") as port:
            yield port


def opened(port: int, name: str) -> blocking.Connection[bytes]:
    connection = blocking.connect((LOOPBACK, port), WIRE, timeout=SECONDS)
    connection.send(packet(CONNECT, text("MQTT"), b"\x04\x02\x00\x3c", text(name)))
    assert connection.receive() == packet(CONNACK, b"\0\0")
    return connection


@pytest.fixture
def connection(mosquitto) -> Iterator[blocking.Connection[bytes]]:
    with opened(mosquitto, "one") as connection:
        yield connection


def subscribe(connection: blocking.Connection[bytes], topic: str) -> None:
    connection.send(packet(SUBSCRIBE | 2, b"\0\1", text(topic), b"\0"))
    assert connection.receive() == packet(SUBACK, b"\0\1\0")


@pytest.mark.parametrize(
    "size", [0, 124, 125, 16_380, 16_381, 2_097_148, 2_097_149], ids=lambda size: f"{size + 3} bytes remain"
)
def test_message_comes_back_whose_remaining_length_takes_one_to_four_bytes(connection, size):
    message = b"\x30" * size
    frame = packet(PUBLISH, text("t"), message)
    subscribe(connection, "t")
    connection.send(frame)
    assert connection.receive() == frame
    assert published(frame) == ("t", message)


def test_subscriber_receives_all_that_another_connection_publishes_in_order(mosquitto, connection):
    subscribe(connection, "news/+")
    with opened(mosquitto, "two") as publisher:
        publisher.send_many(packet(PUBLISH, text(f"news/{number % 7}"), b"%d" % number) for number in range(500))
        got = [published(connection.receive()) for _ in range(500)]
    assert got == [(f"news/{number % 7}", b"%d" % number) for number in range(500)]


def test_acknowledgements_come_between_the_messages_and_none_is_lost(connection):
    subscribe(connection, "t")
    connection.send_many(packet(PUBLISH | 2, text("t"), number.to_bytes(2), b"x" * number) for number in range(1, 101))
    got = [connection.receive() for _ in range(200)]
    assert [frame for frame in got if frame[0] == PUBACK] == [packet(PUBACK, n.to_bytes(2)) for n in range(1, 101)]
    assert [published(frame)[1] for frame in got if frame[0] != PUBACK] == [b"x" * n for n in range(1, 101)]


def test_ping_is_answered_and_disconnect_ends_the_stream_cleanly(connection):
    connection.send(packet(PINGREQ))
    assert connection.receive() == packet(PINGRESP)
    connection.send(packet(DISCONNECT))
    with pytest.raises(ConnectionClosed):
        connection.receive()


def test_needless_last_byte_of_a_length_is_refused_here_where_mosquitto_takes_it(mosquitto):
    with opened(mosquitto, "three") as connection:
        connection.send_encoded(bytes([PINGREQ, 0x80, 0x00]))
        assert connection.receive() == packet(PINGRESP)
    with pytest.raises(ValueError, match="length"):
        WIRE.encode(bytes([PINGREQ, 0x80, 0x00]))


def test_packet_that_mosquitto_refuses_ends_the_connection_and_nothing_else(mosquitto, connection):
    with blocking.connect((LOOPBACK, mosquitto), WIRE, timeout=SECONDS) as rude:
        rude.send(packet(PINGREQ))  # before CONNECT
        with pytest.raises((ConnectionClosed, ConnectionReset)):
            rude.receive()
    connection.send(packet(PINGREQ))
    assert connection.receive() == packet(PINGRESP)
