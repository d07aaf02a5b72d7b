"""dnsmasq met through `presets.dns`: DNS over TCP, messages without their two bytes of length."""

from __future__ import annotations

import getpass
import ipaddress
import random
from collections.abc import Iterator

import pytest

from framing import ConnectionClosed, CorruptFrame, Wire, presets
from framing.drivers import blocking

from .programs import LOOPBACK, SECONDS, directory, found, served

WIRE = Wire(presets.dns())
A, TXT, AAAA = 1, 16, 28
chance = random.Random(53)


def question(number: int, name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return number.to_bytes(2) + bytes.fromhex("0100 0001 0000 0000 0000") + labels + b"\0" + bytes([0, kind, 0, 1])


def answers(asked: bytes, answer: bytes) -> list[bytes]:
    """The data of the records in ``answer``, which must be one to the question ``asked``."""
    assert answer[:2] == asked[:2]
    assert answer[2] & 0x80
    assert answer[3] & 0x0F in (0, 3)
    assert answer[12 : len(asked)] == asked[12:]
    data, at = [], len(asked)
    for _ in range(int.from_bytes(answer[6:8])):
        assert answer[at] & 0xC0 == 0xC0  # the name, told by where it stood before
        size = int.from_bytes(answer[at + 10 : at + 12])
        data.append(answer[at + 12 : at + 12 + size])
        at += 12 + size
    return data


@pytest.fixture(scope="module")
def dnsmasq() -> Iterator[int]:
    program = found("dnsmasq", "dnsmasq-base")
    options = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        f"--listen-address={LOOPBACK}",
        f"--user={getpass.getuser()}",
        "--local=/test/",
        *(f"--host-record=n{number}.test,192.0.2.{number},2001:db8::{number:x}" for number in range(100)),
        *(f"--txt-record=long.test,{str(number) * 200}" for number in range(10)),
    ]
    with (
        directory() as place,
        served(lambda port: [program, f"--port={port}", *options], place / "log") as port,
    ):
        yield port


@pytest.fixture
def connection(dnsmasq) -> Iterator[blocking.Connection[bytes]]:
    with blocking.connect((LOOPBACK, dnsmasq), WIRE, timeout=SECONDS) as connection:
        yield connection


def test_addresses_are_told(connection):
    for kind, address in ((A, "192.0.2.7"), (AAAA, "2001:db8::7")):
        asked = question(kind, "n7.test", kind)
        connection.send(asked)
        assert answers(asked, connection.receive()) == [ipaddress.ip_address(address).packed]


def test_name_that_is_not_there_is_told_so(connection):
    asked = question(1, "nobody.test", A)
    connection.send(asked)
    answer = connection.receive()
    assert answers(asked, answer) == []
    assert answer[3] & 0x0F == 3


def test_hundred_questions_in_one_write_are_all_answered(connection):
    # RFC 7766 lets a server answer in any order: the number tells which question it was.
    asked = {number: question(number, f"n{number}.test", A) for number in range(100)}
    connection.send_many(asked.values())
    got = [connection.receive() for _ in asked]
    assert {int.from_bytes(answer[:2]) for answer in got} == set(asked)
    for answer in got:
        number = int.from_bytes(answer[:2])
        assert answers(asked[number], answer) == [bytes([192, 0, 2, number])]


def test_answer_that_no_datagram_of_plain_dns_could_carry_comes_whole(connection):
    asked = question(1, "long.test", TXT)
    connection.send(asked)
    answer = connection.receive()
    assert len(answer) > 2000
    assert sorted(answers(asked, answer)) == [bytes([200]) + str(number).encode() * 200 for number in range(10)]


def test_question_that_arrives_in_pieces_is_answered(dnsmasq):
    import socket

    asked = question(9, "n9.test", A)
    with socket.create_connection((LOOPBACK, dnsmasq), SECONDS) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in WIRE.encode(asked):
            sock.sendall(bytes([byte]))
        with blocking.Connection(sock, WIRE, timeout=SECONDS) as connection:
            assert answers(asked, connection.receive()) == [bytes([192, 0, 2, 9])]


def test_message_without_a_whole_header_is_refused_here_and_ends_the_connection_there(dnsmasq, connection):
    with pytest.raises(ValueError, match="12"):
        connection.send(b"\0" * 11)
    connection.send_encoded(b"\0\0")
    with pytest.raises(ConnectionClosed):
        connection.receive()
    with pytest.raises(CorruptFrame):
        WIRE.decoder().feed(b"\0\0")
