"""The echo servers, each in a process of its own: ``python -m benchmarks.servers NAME`` prints ``ready PORT`` and serves.

All speak a u32 length and a payload over TCP with TCP_NODELAY, and give each payload back; those called raw know nothing of
frames and give the bytes back. Each is written as its library's documentation has it written.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

__all__ = ["SERVERS"]

HOST = "127.0.0.1"
READ_BYTES = 1 << 16


def _ready(port: int) -> None:
    print(f"ready {port}", flush=True)


def _listener() -> socket.socket:
    listener = socket.create_server((HOST, 0), backlog=1024)
    _ready(listener.getsockname()[1])
    return listener


def _no_delay(sock: socket.socket) -> socket.socket:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


# -------------------------------------------------------------------------------------------- raw


def _threaded(talk: Callable[[socket.socket], None]) -> None:
    listener = _listener()
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=talk, args=(_no_delay(sock),), daemon=True).start()


def raw_blocking() -> None:
    def talk(sock: socket.socket) -> None:
        with sock:
            while chunk := sock.recv(READ_BYTES):
                sock.sendall(chunk)

    _threaded(talk)


def raw_selectors() -> None:
    listener = _listener()
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    room = memoryview(bytearray(READ_BYTES))
    while True:
        for key, _ in selector.select():
            sock: Any = key.fileobj
            if sock is listener:
                sock, _ = listener.accept()
                sock.setblocking(False)
                selector.register(_no_delay(sock), selectors.EVENT_READ)
                continue
            count = sock.recv_into(room)
            done = sock.send(room[:count]) if count else 0
            if done < count:  # the load keeps less in flight than a socket takes, so this is rare
                sock.setblocking(True)
                sock.sendall(room[done:count])
                sock.setblocking(False)
            if not count:
                selector.unregister(sock)
                sock.close()


class _RawProtocol(asyncio.BufferedProtocol):
    """Reads into a buffer that is there: asyncio's plain Protocol makes one of 256 KiB for each read, and is slower for it."""

    room = memoryview(bytearray(READ_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.room[:nbytes]))


async def _raw_asyncio() -> None:
    server = await asyncio.get_running_loop().create_server(_RawProtocol, HOST, 0, backlog=1024)
    _ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


# ----------------------------------------------------------------------------------------- framing


class _Echo:
    def received(self, peer: Any, message: bytes) -> None:
        peer.send(message)


def _wire() -> Any:
    from framing import LengthPrefixed, Wire

    return Wire(LengthPrefixed(4))


def framing_connection() -> None:
    from framing.drivers import blocking

    wire = _wire()

    def talk(sock: socket.socket) -> None:
        with blocking.Connection(sock, wire) as connection:
            for message in connection:
                connection.send(message)

    _threaded(talk)


def framing_threads() -> None:
    from framing.drivers import blocking

    with blocking.Server((HOST, 0), _wire(), _Echo()) as server:
        _ready(server.address.port)
        server.run()


def framing_selector() -> None:
    from framing.drivers import selector

    with selector.Server((HOST, 0), _wire(), _Echo()) as server:
        _ready(server.address.port)
        server.run()


async def _framing_asyncio() -> None:
    from framing.drivers import aio

    async with aio.serve((HOST, 0), _wire(), _Echo()) as server:
        _ready(server.address.port)
        await asyncio.Event().wait()


# ------------------------------------------------------------------------------------------- peers


def twisted() -> None:
    from twisted.internet import reactor
    from twisted.internet.protocol import ServerFactory
    from twisted.protocols.basic import Int32StringReceiver

    class Echo(Int32StringReceiver):
        def connectionMade(self) -> None:  # noqa: N802 -- Twisted's name
            self.transport.setTcpNoDelay(True)

        def stringReceived(self, string: bytes) -> None:  # noqa: N802 -- Twisted's name
            self.sendString(string)

    loop: Any = reactor
    port = loop.listenTCP(0, ServerFactory.forProtocol(Echo), backlog=1024, interface=HOST)
    _ready(port.getHost().port)
    loop.run()


async def _asyncio_streams() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await reader.readexactly(4)
                payload = await reader.readexactly(int.from_bytes(header, "big"))
                writer.write(header + payload)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, HOST, 0, backlog=1024)
    _ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def easynetwork() -> None:
    import logging

    from easynetwork.protocol import StreamProtocol
    from easynetwork.servers import StandaloneTCPNetworkServer
    from easynetwork.servers.handlers import AsyncStreamRequestHandler

    from benchmarks.peers.decoders import easynetwork_prefixed

    class Echo(AsyncStreamRequestHandler[bytes, bytes]):
        async def service_init(self, _: Any, server: Any) -> None:
            _ready(server.get_addresses()[0].port)

        async def handle(self, client: Any) -> AsyncGenerator[None, bytes]:
            payload = yield
            await client.send_packet(payload)

    logging.disable()
    protocol = StreamProtocol(easynetwork_prefixed())
    StandaloneTCPNetworkServer(HOST, 0, protocol, Echo(), backlog=1024, log_client_connection=False).serve_forever()


def _in(module: str, main: Callable[[], Any]) -> Callable[[], None]:
    def serve() -> None:
        if module == "uvloop":
            import uvloop

            uvloop.run(main())
        else:
            asyncio.run(main())

    return serve


SERVERS: dict[str, Callable[[], None]] = {
    "raw-blocking": raw_blocking,
    "raw-selectors": raw_selectors,
    "raw-asyncio": _in("asyncio", _raw_asyncio),
    "framing-connection": framing_connection,
    "framing-threads": framing_threads,
    "framing-selector": framing_selector,
    "framing-asyncio": _in("asyncio", _framing_asyncio),
    "framing-uvloop": _in("uvloop", _framing_asyncio),
    "twisted": twisted,
    "asyncio-streams": _in("asyncio", _asyncio_streams),
    "uvloop-streams": _in("uvloop", _asyncio_streams),
    "easynetwork": easynetwork,
}


def main() -> None:
    try:
        SERVERS[sys.argv[1]]()
    except ImportError as error:
        print(f"skipped not installed: {error.name}", flush=True)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
