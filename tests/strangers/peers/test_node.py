"""Node's own framings over sockets: readline's lines, the messages of its child processes, and HTTP/2.

Nothing comes from npm. A parent and a child speak JSON lines, or a u32 and V8's serialization, over a pair of sockets: with
ours at the other end, we are the parent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from framing import ConnectionClosed, TruncatedFrame, Wire, presets
from framing.drivers import blocking

from .programs import (
    LOOPBACK,
    SECONDS,
    announced,
    connected,
    directory,
    every_driver,
    found,
    our_echo,
    our_recorder,
    said,
    started,
    wait_until,
)

SERVER = """
const readline = require("readline");
const lines = require("net").createServer({allowHalfOpen: true}, socket =>
  readline.createInterface({input: socket, crlfDelay: Infinity})
    .on("line", line => socket.write(line + "\\n"))
    .on("close", () => socket.end()));
const http2 = require("http2").createServer().on("stream", stream => {
  const parts = [];
  stream.on("data", part => parts.push(part)).on("end", () => { stream.respond(); stream.end(Buffer.concat(parts)); });
});
for (const [name, server] of Object.entries({lines, http2}))
  server.listen(0, "127.0.0.1", () => console.log(`${name} at ${server.address().port}.`));
"""
CLIENT = """
const [port, count] = process.argv.slice(1).map(Number);
const socket = require("net").connect(port, "127.0.0.1");
const sent = Array.from({length: count}, (_, n) => `${n} ` + "☃".repeat(n % 50)), got = [];
socket.end(sent.map(line => line + "\\n").join(""));
require("readline").createInterface({input: socket, crlfDelay: Infinity})
  .on("line", line => got.push(line))
  .on("close", () => console.log(JSON.stringify(got) === JSON.stringify(sent)));
"""
CHILD = """
process.on("message", message => process.send(message));
"""
ASKING_CHILD = """
const asked = {n: 10n, when: new Date(0), data: new Uint8Array(100000).fill(7), map: new Map([["a", [1, undefined]]])};
process.on("message", answer => {
  require("assert").deepStrictEqual(answer, asked);
  process.disconnect();
});
process.send(asked);
"""
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4


@pytest.fixture(scope="module")
def node() -> str:
    return found("node", "nodejs")


@pytest.fixture(scope="module")
def servers(node) -> Iterator[dict[str, int]]:
    with directory() as place, started([node, "-e", SERVER], place / "log"):
        yield {name: int(announced(place / "log", rf"{name} at (\d+)\.")[1]) for name in ("lines", "http2")}


@contextmanager
def parent(node: str, code: str, spec: str, mode: str) -> Iterator[tuple[blocking.Connection[Any], Any]]:
    """Our end of the pair of sockets over which a child process of Node's talks to its parent."""
    ours, its = socket.socketpair()
    environment = {**os.environ, "NODE_CHANNEL_FD": str(its.fileno()), "NODE_CHANNEL_SERIALIZATION_MODE": mode}
    with (
        directory() as place,
        blocking.Connection(ours, Wire.parse(spec), timeout=SECONDS) as connection,
        its,
        started([node, "-e", code], place / "log", pass_fds=[its.fileno()], env=environment) as process,
    ):
        its.close()
        yield connection, process


def test_our_client_is_answered_by_readline_and_sees_its_end(servers):
    texts = [f"{number} {'☃' * (number % 50)}" for number in range(2000)]
    with connected(servers["lines"], "lines+text") as connection:
        connection.send_many(texts)
        connection.close_sending()
        assert list(connection) == texts


@every_driver
def test_client_with_readline_is_answered_by_our_server(node, driver):
    with our_echo("lines+text", driver) as port:
        assert said([node, "-e", CLIENT, str(port), "2000"]) == b"true\n"


@every_driver
def test_line_without_its_end_is_a_line_there_and_truncated_here(servers, node, driver):
    with connected(servers["lines"], "lines+text") as connection:
        connection.send_encoded(b"whole\nhal")
        connection.close_sending()
        assert list(connection) == ["whole", "hal"]
    with our_recorder("lines+text", driver) as (port, recorder):
        said([node, "-e", f'require("net").connect({port}, "127.0.0.1").end("whole\\nhal")'])
        wait_until(lambda: recorder.ends, "the connection has ended")
    assert recorder.got == ["whole"]
    assert [type(error) for error in recorder.ends] == [TruncatedFrame]


def test_one_line_with_a_carriage_return_comes_back_as_two(servers):
    with connected(servers["lines"], "lines+text") as connection:
        connection.send("one\rtwo")
        assert [connection.receive(), connection.receive()] == ["one", "two"]


@pytest.mark.parametrize("spec", ["lines+json", "ndjson+json"])
def test_child_process_answers_our_messages_as_it_answers_its_parent(node, spec):
    messages = [{"n": number, "text": "\u2028\u0085\r\n☃" * (number % 30)} for number in range(500)]
    with parent(node, CHILD, spec, "json") as (connection, process):
        connection.send_many(messages)
        assert [connection.receive() for _ in messages] == messages
        connection.close()
        assert process.wait(SECONDS) == 0


def test_child_process_knows_its_message_again_that_we_framed(node):
    with parent(node, ASKING_CHILD, "u32", "advanced") as (connection, process):
        asked = connection.receive()
        assert len(asked) > 100_000
        connection.send(asked)
        with pytest.raises(ConnectionClosed):
            connection.receive()
        assert process.wait(SECONDS) == 0


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


def test_http2_server_answers_through_the_preset(servers):
    body = bytes(range(250)) * 240  # within the window that both sides begin with
    # From HPACK's static table: POST, http, /; and the authority as text.
    headers = b"\x83\x86\x84\x41\x09localhost"
    with blocking.connect((LOOPBACK, servers["http2"]), Wire(presets.http2()), timeout=SECONDS) as connection:
        connection.send_encoded(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        connection.send_many([frame(SETTINGS, 0, 0), frame(PING, 0, 0, b"12345678")])
        connection.send(frame(HEADERS, END_HEADERS, 1, headers))
        parts = [body[at : at + 16_384] for at in range(0, len(body), 16_384)]
        connection.send_many(frame(DATA, END_STREAM * (part is parts[-1]), 1, part) for part in parts)
        got: list[bytes] = []
        while not (got and got[-1][3] == DATA and got[-1][4] & END_STREAM):
            got.append(connection.receive())
    assert got[0][3] == SETTINGS
    assert frame(PING, ACK, 0, b"12345678") in got
    (answer,) = [one for one in got if one[3] == HEADERS]
    assert answer[9] == 0x88  # :status 200
    assert b"".join(one[9:] for one in got if one[3] == DATA) == body
