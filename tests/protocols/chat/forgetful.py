"""A relay that reads along, by framing's own decoder: each acknowledgement is lost once, and the connection with it.

    async with Forgetful(server.address) as relay:
        …                                     # connect to relay.address instead of the server's

The server has done what was asked for, has said so, and nobody has heard it: what it says behind that is lost as well, and
both sides meet a reset. The next time the same thing is acknowledged it comes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any, Self

from framing import Wire
from framing.drivers.address import Address, AddressLike
from protocols.chat.conversation import DEFAULT_WIRE

__all__ = ["Forgetful"]

READ = 1 << 16


class Forgetful:
    """See the module's text. ``lost`` has the id of each acknowledgement that was lost, ``passed`` of each that was not."""

    def __init__(self, target: AddressLike, wire: Wire[Any] = DEFAULT_WIRE) -> None:
        self._target = Address.parse(target)
        self._wire = wire
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.lost: list[tuple[str, int]] = []
        self.passed: list[tuple[str, int]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> AddressLike:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return host, port

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        self._tasks.add(this)
        outs = [client_out]
        try:
            server_in, server_out = await asyncio.open_connection(self._target.host, self._target.port)
            outs.append(server_out)
            ways = [
                asyncio.create_task(self._up(client_in, server_out)),
                asyncio.create_task(self._down(server_in, client_out)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for out in outs:
                _reset(out)
            self._tasks.discard(this)

    @staticmethod
    async def _up(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(READ):
            sink.write(data)
            await sink.drain()

    async def _down(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        decoder = self._wire.decoder()
        while data := await source.read(READ):
            for message in decoder.feed(data):
                if message["type"] == "ok":
                    id_ = (message["id"][0], message["id"][1])
                    if id_ not in self.lost:
                        self.lost.append(id_)
                        return
                    self.passed.append(id_)
                sink.write(self._wire.encode(message))
            await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
