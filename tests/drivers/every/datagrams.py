"""Server and client drivers of datagrams, in the shape of those of streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from framing import Wire
from framing.drivers import datagram
from framing.drivers.address import AddressLike
from framing.drivers.service import Service
from tests.drivers.every.clients import Connect
from tests.drivers.every.loops import SECONDS, loop_beside, within
from tests.drivers.every.servers import ServerDriver, Serving, running, running_on

R = TypeVar("R")


@contextmanager
def in_threads(address: AddressLike, wire: Wire[Any], service: Service[Any]) -> Iterator[Serving]:
    server = datagram.Server(address, wire, service)
    with running(server, server.run) as serving:
        yield serving


def on_loop(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> ServerDriver:
    @contextmanager
    def serve(address: AddressLike, wire: Wire[Any], service: Service[Any]) -> Iterator[Serving]:
        server = datagram.AsyncServer(address, wire, service)
        with running_on(make_loop, server) as serving:
            yield serving

    return serve


class _AwaitedEndpoint:
    """An endpoint of a loop that runs in another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: datagram.AsyncEndpoint[Any]) -> None:
        self.loop = loop
        self.endpoint = endpoint
        self.address = endpoint.address

    def _do(self, call: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(SECONDS)

    def send(self, message: Any) -> None:
        self._do(self.endpoint.send(message))

    def receive(self, *, timeout: float = SECONDS) -> Any:
        return self._do(within(timeout, self.endpoint.receive()))

    def close(self) -> None:
        self._do(self.endpoint.aclose())


@contextmanager
def endpoints() -> Iterator[Connect]:
    def connect(address: AddressLike, wire: Wire[Any]) -> Any:
        return datagram.connect(address, wire, timeout=SECONDS)

    yield connect


def endpoints_on_loop(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[], AbstractContextManager[Connect]]:
    @contextmanager
    def endpoints() -> Iterator[Connect]:
        with loop_beside(make_loop) as loop:

            async def opened(address: AddressLike, wire: Wire[Any]) -> Any:
                return _AwaitedEndpoint(loop, await datagram.async_connect(address, wire))

            def connect(address: AddressLike, wire: Wire[Any]) -> Any:
                return asyncio.run_coroutine_threadsafe(opened(address, wire), loop).result(SECONDS)

            yield connect

    return endpoints
