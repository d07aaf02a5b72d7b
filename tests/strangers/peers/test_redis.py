r"""Redis met with `Lines`, and with a framer of one's own for RESP, in which a bulk string may hold anything.

RESP has no preset: a reply is a line, and a ``$`` line tells how many bytes follow it. That is one method that finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from framing import CorruptFrame, EncodeError, Framer, Lines, Wire
from framing.drivers import blocking
from framing.testing import verify_framer

from .programs import LOOPBACK, SECONDS, connected, directory, found, served

CRLF = b"\r\n"
LENGTH = re.compile(rb"\$(-1|0|[1-9][0-9]{0,9})")
LONGEST = len(b"$1234567890" + CRLF)


@dataclass(frozen=True, slots=True)
class Resp(Framer):
    """RESP 2: a line whole, without its CRLF; a bulk string with the line that told its length."""

    def find(self, data: Any, start: int, seen: int) -> tuple[int, int, int] | int:
        if data[start] == ord("$"):
            return self._bulk(data, start)
        if data[start] not in b"+-:*":
            raise CorruptFrame("this is no reply of RESP 2")
        bound = start + self.max_frame
        end = data.find(CRLF, max(start, seen - 1), bound + 2)
        if end >= 0:
            return start, end, end + 2
        return 1 if len(data) < bound + 2 else (start, bound + 1, bound + 1)

    def _bulk(self, data: Any, start: int) -> tuple[int, int, int] | int:
        line = data.find(CRLF, start, start + LONGEST)
        if line < 0 and len(data) < start + LONGEST:
            return 1
        length = LENGTH.fullmatch(bytes(data[start:line])) if line > 0 else None
        if length is None:
            raise CorruptFrame("a bulk string begins with its length")
        end = line if length[1] == b"-1" else line + 2 + int(length[1])
        if end - start <= self.max_frame:
            if len(data) < end + 2:
                return end + 2 - len(data)
            if data[end : end + 2] != CRLF:
                raise CorruptFrame("a bulk string ends with CRLF")
        return start, end, end + 2

    def wrap(self, payload: bytes) -> bytes:
        frame = payload + CRLF
        try:
            whole = self.find(frame, 0, 0) == (0, len(payload), len(frame))
        except (CorruptFrame, IndexError):
            whole = False
        if not whole:
            raise EncodeError(f"{payload[:20]!r} is not one reply")
        return frame


def command(*words: bytes) -> bytes:
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])


def reply(connection: blocking.Connection[bytes]) -> Any:
    """The next reply, arrays put together; what the server calls an error is returned as one."""
    line = connection.receive()
    kind, rest = line[:1], line[1:]
    if kind == b"$":
        return None if rest == b"-1" else rest.partition(CRLF)[2]
    if kind == b"*":
        return [reply(connection) for _ in range(int(rest))]
    return {b"+": bytes, b":": int, b"-": RuntimeError}[kind](rest)


@pytest.fixture(scope="module")
def redis() -> Iterator[tuple[int, str]]:
    """The port, and the unix socket, of a Redis that keeps nothing on disk."""
    program = found("redis-server", "redis-server")
    with directory() as place:
        path = str(place / "socket")
        options = ["--bind", LOOPBACK, "--save", "", "--dir", str(place), "--unixsocket", path]
        with served(lambda port: [program, "--port", str(port), *options], place / "log") as port:
            yield port, path


@pytest.fixture(params=["tcp", "unix"])
def connection(request, redis) -> Iterator[blocking.Connection[bytes]]:
    where = (LOOPBACK, redis[0]) if request.param == "tcp" else f"unix:{redis[1]}"
    with blocking.connect(where, Wire(Resp(max_frame=16 << 20)), timeout=SECONDS) as connection:
        connection.send_encoded(command(b"FLUSHALL"))
        assert reply(connection) == b"OK"
        yield connection


def test_framer_of_this_module_keeps_the_laws():
    verify_framer(Resp(), payloads=[b"+OK", b":-1", b"$-1", b"$0\r\n", b"$4\r\n\r\n\r\n", b"*3"], examples=20)


def test_redis_answers_inline_commands_sent_as_lines(redis):
    with connected(redis[0], "crlf+text") as connection:
        connection.send_many(["PING", "SET greeting hello", "GET greeting", "INCR n", "NONSENSE"])
        got = [connection.receive() for _ in range(6)]
        assert got[:5] == ["+PONG", "+OK", "$5", "hello", ":1"]
        assert got[5].startswith("-ERR unknown command")


def test_value_that_holds_crlf_is_torn_by_lines_and_whole_in_resp(redis, connection):
    value = b"one\r\ntwo\r\n\r\n+OK\r\n\0\xff"
    connection.send_encoded(command(b"SET", b"torn", value) + command(b"GET", b"torn"))
    assert [reply(connection), reply(connection)] == [b"OK", value]
    with connected(redis[0], "crlf") as by_lines:
        by_lines.send(b"GET torn")
        assert [by_lines.receive() for _ in range(4)] == [b"$%d" % len(value), b"one", b"two", b""]
        # The next line reads as a reply of the server's, and is a piece of somebody's value.
        assert by_lines.receive() == b"+OK"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1 << 20, 5_000_000])
def test_bulk_string_of_any_size_comes_back(connection, size):
    value = bytes(range(256)) * (size // 256) + b"\r" * (size % 256)
    connection.send_encoded(command(b"SET", b"big", value))
    assert reply(connection) == b"OK"
    connection.send_encoded(command(b"GET", b"big"))
    assert reply(connection) == value


def test_ten_thousand_commands_in_one_write_are_answered_in_order(connection):
    connection.send_encoded(b"".join(command(b"ECHO", b"%d" % number) for number in range(10_000)))
    assert [reply(connection) for _ in range(10_000)] == [b"%d" % number for number in range(10_000)]


def test_nested_arrays_nothing_and_errors_are_told_apart(connection):
    connection.send_encoded(
        command(b"RPUSH", b"list", b"a", b"", b"\r\n")
        + command(b"LRANGE", b"list", b"0", b"-1")
        + command(b"GET", b"missing")
        + command(b"EVAL", b"return {1, {'two', {}}}", b"0")
        + command(b"INCR", b"list")
    )
    got = [reply(connection) for _ in range(5)]
    assert got[:4] == [3, [b"a", b"", b"\r\n"], None, [1, [b"two", []]]]
    assert got[4].args[0].startswith(b"WRONGTYPE")


def test_what_one_publishes_another_receives(redis, connection):
    with blocking.connect((LOOPBACK, redis[0]), Wire(Resp()), timeout=SECONDS) as subscriber:
        subscriber.send_encoded(command(b"SUBSCRIBE", b"news"))
        assert reply(subscriber) == [b"subscribe", b"news", 1]
        for number in range(100):
            connection.send_encoded(command(b"PUBLISH", b"news", b"%d\r\n" % number))
            assert reply(connection) == 1
        for number in range(100):
            assert reply(subscriber) == [b"message", b"news", b"%d\r\n" % number]


def test_server_that_is_told_to_quit_ends_the_stream_cleanly(connection):
    connection.send_encoded(command(b"QUIT"))
    assert list(connection) == [b"+OK"]


def test_what_redis_says_of_a_length_that_it_refuses_is_received_before_the_end(redis):
    with blocking.connect((LOOPBACK, redis[0]), Wire(Lines(newline=CRLF)), timeout=SECONDS) as connection:
        connection.send_encoded(b"*1\r\n$-5\r\nPING\r\n")
        assert list(connection) == [b"-ERR Protocol error: invalid bulk length"]
