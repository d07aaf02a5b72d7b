"""The server of the asyncio driver with a loop of its own: for programs that have none, and want nothing but to serve.

    with aio.StandaloneServer(("127.0.0.1", 9000), wire, Echo()) as server:
        server.run()                      # until server.stop(), from any thread or a signal handler

It has the shape of `blocking.Server` and `selector.Server`: it listens from the beginning, `run` serves in the calling thread,
`stop` may be called from anywhere. So one piece of code runs any of the three, in `framing.drivers.workers` for instance.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from framing.channel import Heartbeat
from framing.drivers.address import Address, AddressLike, close_listener
from framing.drivers.aio_server import Server
from framing.drivers.service import Service
from framing.errors import ConnectionClosed
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["StandaloneServer"]

T = TypeVar("T")


class _EarlyServer(Server[T]):
    """A server that has its socket before it has a loop, and gives it back where it never has one."""

    def listen(self) -> None:
        self._listen()

    def abort(self) -> None:
        for session in list(self._sessions):
            session.abort()

    def hang_up(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            close_listener(listener, self.address)


class StandaloneServer(Generic[T]):
    """Runs ``service`` for everybody who connects to ``address``, on an asyncio loop that `run` makes and closes.

    `address` says where it listens, with the port that the system chose for port 0; it does so from the beginning, so that
    clients can connect before `run` is called.

    ``loop_factory`` makes the loop; without it, asyncio chooses: ``loop_factory=uvloop.new_event_loop``. The service's methods
    may start tasks on it; those that are left when the server has ended are cancelled. All other options are `Server`'s,
    which is the one to take where a loop is running already.

    `stop` and `close` may be called from any thread and from a signal handler.
    """

    def __init__(
        self,
        address: AddressLike,
        wire: Wire[T],
        service: Service[T],
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        max_connections: int = 10_000,
        frame_timeout: float | None = 30.0,
        idle_timeout: float | None = None,
        handshake_timeout: float | None = 10.0,
        slow_reader_timeout: float | None = 30.0,
        drain_timeout: float = 5.0,
        high_water: int = 1 << 16,
        low_water: int = 1 << 14,
        max_queued: int | None = 1 << 20,
        ssl_context: ssl.SSLContext | None = None,
        heartbeat: Heartbeat[T] | None = None,
        keep_alive: bool = False,
        reuse_port: bool = False,
        backlog: int = socket.SOMAXCONN,
    ) -> None:
        self._server = _EarlyServer(
            address,
            wire,
            service,
            max_connections=max_connections,
            frame_timeout=frame_timeout,
            idle_timeout=idle_timeout,
            handshake_timeout=handshake_timeout,
            slow_reader_timeout=slow_reader_timeout,
            drain_timeout=drain_timeout,
            high_water=high_water,
            low_water=low_water,
            max_queued=max_queued,
            ssl_context=ssl_context,
            heartbeat=heartbeat,
            keep_alive=keep_alive,
            reuse_port=reuse_port,
            backlog=backlog,
        )
        self._loop_factory = loop_factory
        self._stop_asked = False
        self._lock = threading.RLock()  # may be taken again by a signal handler that closes
        self._owner: int | None = None
        self._ended = False
        self._done = threading.Event()
        self._server.listen()

    def __repr__(self) -> str:
        return f"<StandaloneServer at {self.address}, {self.connections} connections>"

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._server.address

    @property
    def wire(self) -> Wire[T]:
        """What it speaks."""
        return self._server.wire

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return self._server.connections

    def run(self) -> None:
        """Serve until `stop` is called; returns when every connection has ended.

        Ctrl-C ends it as `stop` does, and is then raised; a second one, or one behind `stop`, ends it at once. Raises
        RuntimeError where a loop is running already: `Server` serves there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("a loop is running in this thread already; serve on it: async with aio.serve(…)")
        with self._lock:
            if self._ended:
                raise ConnectionClosed(f"the server at {self.address} has been stopped; make a new one")
            if self._owner is not None:
                raise RuntimeError("the server is running already")
            self._owner = threading.get_ident()
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._serve())
        finally:
            self._end()

    async def _serve(self) -> None:
        async with self._server:
            # Looked at behind the start, from which on the server passes it on itself: so none is overlooked.
            if self._stop_asked:
                self._server.stop()
            try:
                await self._server.run()
            except asyncio.CancelledError:
                # Ctrl-C. Whoever has asked for the end before does not want to wait for what is being drained.
                if self._stop_asked:
                    self._server.abort()
                raise

    def stop(self) -> None:
        """Ask the server to end, from any thread or signal handler; returns at once.

        It accepts no more, writes what is queued within ``drain_timeout`` seconds, and closes every connection.
        """
        self._stop_asked = True
        self._server.stop()

    def close(self) -> None:
        """Stop, wait until `run` has returned in its thread, and give every descriptor back. To close twice is no error."""
        with self._lock:
            owner = self._owner
            if owner is None:
                self._end()
        if owner is not None:
            self.stop()
            if owner != threading.get_ident():  # inside a callback: run() does the rest
                self._done.wait()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            self._owner = None
            self._server.hang_up()
        self._done.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
