"""Server drivers of streams, each run in a thread beside a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from framing import Wire
from framing.drivers import aio, blocking, selector
from framing.drivers.address import Address, AddressLike
from framing.drivers.service import Service
from tests.drivers.every.loops import SECONDS, run_tidily


@dataclass
class Serving:
    """A server that runs in a thread of its own."""

    server: Any
    thread: threading.Thread

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self.server.address  # type: ignore[no-any-return] # each driver has a server of its own

    @property
    def connections(self) -> int:
        """How many peers it has; servers of datagrams have none."""
        return self.server.connections  # type: ignore[no-any-return] # as above

    def stop(self) -> None:
        """Ask it to end, and return at once."""
        self.server.stop()

    @property
    def over(self) -> bool:
        """Whether it has ended, and every connection with it."""
        return not self.thread.is_alive()


ServerDriver = Callable[..., AbstractContextManager[Serving]]


@contextmanager
def running(server: Any, run: Callable[[], object]) -> Iterator[Serving]:
    """Call ``run`` in a thread, and have the server stop at the end of the block; what ``run`` raises is raised there."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded, name="the server of a test", daemon=True)
    thread.start()
    try:
        yield Serving(server, thread)
    finally:
        server.stop()
        thread.join(SECONDS)
        assert not thread.is_alive(), "the server did not end"
        if failures:
            raise failures[0]


@contextmanager
def in_threads(address: AddressLike, wire: Wire[Any], service: Service[Any], **options: Any) -> Iterator[Serving]:
    server = blocking.Server(address, wire, service, **options)
    with running(server, server.run) as serving:
        yield serving


@contextmanager
def in_the_selectors_loop(
    address: AddressLike, wire: Wire[Any], service: Service[Any], **options: Any
) -> Iterator[Serving]:
    with (
        selector.Server(address, wire, service, **options) as server,
        running(server, server.run) as serving,
    ):
        yield serving


@contextmanager
def running_on(make_loop: Callable[[], asyncio.AbstractEventLoop], server: Any) -> Iterator[Serving]:
    """Run a server of asyncio's on a loop of its own."""
    listens: Future[None] = Future()

    async def main() -> None:
        try:
            async with server:
                listens.set_result(None)
                await server.run()
        except BaseException as error:
            if listens.done():
                raise
            listens.set_exception(error)

    with running(server, lambda: run_tidily(make_loop, main())) as serving:
        listens.result(SECONDS)
        yield serving


def on_loop(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> ServerDriver:
    @contextmanager
    def serve(address: AddressLike, wire: Wire[Any], service: Service[Any], **options: Any) -> Iterator[Serving]:
        with running_on(make_loop, aio.serve(address, wire, service, **options)) as serving:
            yield serving

    return serve
