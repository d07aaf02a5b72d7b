"""PostgreSQL met through `presets.postgres_startup` and `presets.postgres`: whole messages, read and written here."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framing import ConnectionClosed, FixedSize, FrameTooLarge, Wire, presets
from framing.drivers import blocking

from .programs import LOOPBACK, SECONDS, announced, directory, found, said, served

WIRE = Wire(presets.postgres())
startup = presets.postgres_startup()
VERSION_3 = 3 << 16
SSL_REQUEST = 80_877_103


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


def first(code: int, body: bytes = b"") -> bytes:
    """A client's first message, which has no type."""
    return (len(body) + 8).to_bytes(4) + code.to_bytes(4) + body


def columns(row: bytes) -> list[str | None]:
    """The values of a DataRow as text; None for NULL."""
    values: list[str | None] = []
    at = 7
    for _ in range(int.from_bytes(row[5:7])):
        size = int.from_bytes(row[at : at + 4], signed=True)
        values.append(None if size < 0 else row[at + 4 : at + 4 + size].decode())
        at += 4 + max(size, 0)
    assert at == len(row)
    return values


def until_ready(connection: blocking.Connection[bytes]) -> list[bytes]:
    """The messages up to ReadyForQuery, which comes last and is left out."""
    got = []
    while (frame := connection.receive())[:1] != b"Z":
        got.append(frame)
    return got


def rows(connection: blocking.Connection[bytes], query: str) -> list[list[str | None]]:
    connection.send(message(b"Q", query.encode() + b"\0"))
    got = until_ready(connection)
    assert (got[0][:1], got[-1][:1]) == (b"T", b"C"), got
    return [columns(frame) for frame in got[1:-1]]


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: as its own user, then."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("root cannot run PostgreSQL, and there is no user postgres (apt-get install postgresql)")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def postgresql() -> Iterator[tuple[int, str]]:
    """The port, and the unix socket, of a database of its own that trusts whoever comes."""
    # Debian keeps the programs of each version apart, and none of them on PATH.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    initdb, postgres = (found(name, "postgresql", *folders) for name in ("initdb", "postgres"))
    user = _user()
    with directory() as place:
        data = place / "data"
        data.mkdir(0o700)
        if user:
            for path in (place, data):
                os.chown(path, user["user"], user["group"])
        options = ["--auth=trust", "--username=judge", "--no-sync", "--encoding=UTF8", "--locale=C"]
        said([initdb, "--pgdata", str(data), *options], cwd=place, **user)
        settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": place,
            "fsync": "off",
            "shared_buffers": "16MB",
            "ssl": "off",
        }
        command = [postgres, "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]
        with served(lambda port: [*command, f"--port={port}"], place / "log", cwd=place, **user) as port:
            announced(place / "log", "ready to accept connections")  # it listens before that, and refuses everybody
            yield port, str(place / f".s.PGSQL.{port}")
        shutil.rmtree(data)


@pytest.fixture(params=["tcp", "unix"])
def connection(request, postgresql) -> Iterator[blocking.Connection[bytes]]:
    where = (LOOPBACK, postgresql[0]) if request.param == "tcp" else f"unix:{postgresql[1]}"
    with blocking.connect(where, WIRE, timeout=SECONDS) as connection:
        connection.send_encoded(startup.encode(first(VERSION_3, b"user\0judge\0database\0postgres\0\0")))
        got = until_ready(connection)
        assert got[0] == message(b"R", bytes(4))  # AuthenticationOk
        assert {b"S", b"K"} == {frame[:1] for frame in got[1:]}
        yield connection


def test_rows_of_a_query_are_read(connection):
    query = "SELECT n, 'row ' || n, NULL, '' FROM generate_series(1, 3) AS n"
    assert rows(connection, query) == [[str(n), f"row {n}", None, ""] for n in (1, 2, 3)]


def test_ten_thousand_rows_come_in_order(connection):
    got = rows(connection, "SELECT n, repeat('x', n % 300) FROM generate_series(1, 10000) AS n")
    assert got == [[str(n), "x" * (n % 300)] for n in range(1, 10_001)]


def test_value_of_five_million_bytes_comes_whole(connection):
    assert rows(connection, "SELECT repeat('abcde', 1000000)") == [["abcde" * 1_000_000]]


def test_value_goes_there_and_comes_back(connection):
    text = "naïve ☃ 🙂\r\n\t" * 100_000
    assert rows(connection, f"SELECT '{text}'") == [[text]]


def test_queries_sent_in_one_write_are_answered_in_order(connection):
    connection.send_many(message(b"Q", b"SELECT %d\0" % number) for number in range(300))
    for number in range(300):
        assert [columns(frame) for frame in until_ready(connection) if frame[:1] == b"D"] == [[str(number)]]


def test_connection_goes_on_behind_an_error(connection):
    connection.send(message(b"Q", b"SELECT 1 / 0\0"))
    (error,) = until_ready(connection)
    assert error[:1] == b"E"
    assert b"C22012\0" in error  # division_by_zero
    assert rows(connection, "SELECT 1") == [["1"]]


def test_table_is_copied_in_and_out(connection):
    assert b"CREATE" in until_ready_of(connection, b"CREATE TEMP TABLE words (n int, word text)")[0]
    connection.send(message(b"Q", b"COPY words FROM STDIN\0"))
    assert connection.receive()[:1] == b"G"
    connection.send_many(message(b"d", b"%d\tword %d\n" % (n, n)) for n in range(5000))
    connection.send(message(b"c"))
    assert until_ready(connection) == [message(b"C", b"COPY 5000\0")]
    copied = until_ready_of(connection, b"COPY words TO STDOUT")
    assert [frame for frame in copied if frame[:1] == b"d"] == [
        message(b"d", b"%d\tword %d\n" % (n, n)) for n in range(5000)
    ]


def until_ready_of(connection: blocking.Connection[bytes], query: bytes) -> list[bytes]:
    connection.send(message(b"Q", query + b"\0"))
    return until_ready(connection)


def test_row_above_the_limit_is_refused_behind_all_that_was_whole(postgresql):
    with blocking.connect(
        (LOOPBACK, postgresql[0]), Wire(presets.postgres(max_frame=1000)), timeout=SECONDS
    ) as connection:
        connection.send_encoded(startup.encode(first(VERSION_3, b"user\0judge\0database\0postgres\0\0")))
        until_ready(connection)
        connection.send(message(b"Q", b"SELECT repeat('x', n * 400) FROM generate_series(1, 3) AS n\0"))
        assert [connection.receive()[:1] for _ in range(3)] == [b"T", b"D", b"D"]
        with pytest.raises(FrameTooLarge):
            connection.receive()


def test_terminate_ends_the_stream_cleanly(connection):
    connection.send(message(b"X"))
    with pytest.raises(ConnectionClosed):
        connection.receive()


def test_answer_to_a_request_for_tls_is_one_bare_byte_and_the_session_begins_behind_it(postgresql):
    with socket.create_connection((LOOPBACK, postgresql[0]), SECONDS) as sock:
        sock.sendall(startup.encode(first(SSL_REQUEST)))
        answer = FixedSize(1).decoder()
        assert answer.feed(sock.recv(100), limit=1) == [b"N"]  # this server has no certificate
        assert answer.unconsumed == b""
        with blocking.Connection(sock, WIRE, timeout=SECONDS) as connection:
            connection.send_encoded(startup.encode(first(VERSION_3, b"user\0judge\0database\0postgres\0\0")))
            assert until_ready(connection)[0] == message(b"R", bytes(4))


def test_first_message_with_a_type_is_refused_there_as_the_preset_for_it_refuses_it_here(postgresql):
    query = message(b"Q", b"SELECT 1\0")
    with pytest.raises(FrameTooLarge):
        startup.decoder().feed(query)
    with blocking.connect((LOOPBACK, postgresql[0]), WIRE, timeout=SECONDS) as connection:
        connection.send(query)
        with pytest.raises(ConnectionClosed):
            connection.receive()
