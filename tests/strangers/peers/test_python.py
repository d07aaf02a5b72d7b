"""What Python itself frames with: asyncio's streams, ``multiprocessing.connection``, and logging's SocketHandler."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import pickle
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Listener
from typing import Any

import pytest

from framing import ConnectionClosed, TruncatedFrame, Wire
from framing.drivers import blocking

from .programs import LOOPBACK, SECONDS, connected, every_driver, our_echo, our_recorder, wait_until

PAYLOADS = [b"", b"a", bytes(range(256)), *(b"%d" % number * (number % 50) for number in range(2000)), bytes(500_000)]
LINES = [b"", b"a", "naïve ☃".encode(), *(b"%d" % number * (number % 50) for number in range(2000))]


# asyncio


async def read_u32(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))


async def read_line(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\n"))[:-1]


STREAMS: dict[
    str, tuple[Callable[[asyncio.StreamReader], Coroutine[Any, Any, bytes]], Callable[[bytes], bytes], Any]
] = {
    "u32": (read_u32, lambda payload: len(payload).to_bytes(4) + payload, PAYLOADS),
    "lines": (read_line, lambda payload: payload + b"\n", LINES),
}


@contextmanager
def asyncio_echo(spec: str) -> Iterator[int]:
    """An echo server in asyncio's words, in a thread of its own."""
    read, frame, _ = STREAMS[spec]
    ready: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(frame(await read(reader)))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()
            await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(serve, LOOPBACK, 0)
        async with server:
            over = asyncio.Event()
            ready.append((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    port, loop, over = wait_until(lambda: ready, "asyncio listens")[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


@pytest.mark.parametrize("spec", STREAMS)
def test_server_with_streams_answers_our_client(spec):
    payloads = STREAMS[spec][2]
    with asyncio_echo(spec) as port, connected(port, spec) as connection:
        sending = threading.Thread(target=connection.send_many, args=(payloads,))
        sending.start()
        assert [connection.receive() for _ in payloads] == payloads
        sending.join()
        connection.close_sending()
        with pytest.raises(ConnectionClosed):
            connection.receive()


@pytest.mark.parametrize("spec", STREAMS)
@every_driver
def test_client_with_streams_is_answered_by_our_server(spec, driver):
    read, frame, payloads = STREAMS[spec]

    async def main(port: int) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.writelines(map(frame, payloads))
        assert [await read(reader) for _ in payloads] == payloads
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    with our_echo(spec, driver) as port:
        asyncio.run(asyncio.wait_for(main(port), SECONDS))


# multiprocessing.connection: a u32, and no handshake where there is no key


def test_listener_of_multiprocessing_answers_our_client():
    def serve() -> None:
        with listener.accept() as peer:
            try:
                while True:
                    peer.send_bytes(peer.recv_bytes())
            except EOFError:
                pass

    with Listener((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with connected(listener.address[1], "u32") as connection:
            for payload in PAYLOADS:
                connection.send(payload)
                assert connection.receive() == payload
        thread.join()


@every_driver
def test_client_of_multiprocessing_is_answered_by_our_server(driver):
    with our_echo("u32", driver) as port, Client((LOOPBACK, port)) as client:
        for payload in PAYLOADS:
            client.send_bytes(payload)
            assert client.poll(SECONDS)
            assert client.recv_bytes() == payload


@pytest.mark.parametrize(
    ("stream", "ending"), [(b"", EOFError), (b"\0\0\0\x05", EOFError), (b"\0\0\0\x05hal", OSError), (b"\0\0", OSError)]
)
def test_end_behind_a_header_is_a_clean_end_to_multiprocessing_and_truncated_here(stream, ending):
    with (
        Listener((LOOPBACK, 0)) as listener,
        socket.create_connection(listener.address) as sock,
        listener.accept() as peer,
    ):
        sock.sendall(stream)
        sock.close()
        with pytest.raises(ending) as caught:
            peer.recv_bytes()
        assert caught.type is ending
    left, right = socket.socketpair()
    with blocking.Connection(right, Wire.parse("u32"), timeout=SECONDS) as connection:
        left.sendall(stream)
        left.close()
        with pytest.raises(TruncatedFrame if stream else ConnectionClosed):
            connection.receive()


@every_driver
def test_records_of_a_socket_handler_are_received_by_our_server(driver):
    with our_recorder("u32", driver) as (port, recorder):
        handler = logging.handlers.SocketHandler(LOOPBACK, port)
        for number in range(500):
            handler.handle(logging.makeLogRecord({"msg": "%d %s", "args": (number, "☃" * (number % 50))}))
        handler.close()
        wait_until(lambda: recorder.ends, "the connection has ended")
    assert [pickle.loads(record)["msg"] for record in recorder.got] == [f"{n} {'☃' * (n % 50)}" for n in range(500)]
    assert recorder.ends == [None]
