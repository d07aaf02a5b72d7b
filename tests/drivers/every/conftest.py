"""Parameters and fixtures: a test that asks for `serve` runs over every server driver, one that asks for `connect` over every
client driver, and both over every transport. Whatever it did, nothing of it may be left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from framing import Wire
from framing.drivers.address import Address
from tests.drivers.every.registry import CLIENTS, SERVERS, TRANSPORTS, Client, ClientDriver, Connect, Serving, Transport
from tests.drivers.every.services import descriptors, until
from tests.drivers.every.strangers import Listener, Stranger, dial

_numbers = count()


@pytest.fixture(params=SERVERS)
def server_driver(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=CLIENTS)
def client_driver(request: pytest.FixtureRequest) -> ClientDriver:
    return CLIENTS[request.param]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    return TRANSPORTS[request.param]


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    files, threads = descriptors(), threading.active_count()
    yield
    until(lambda: threading.active_count() <= threads, "threads are left behind")
    until(lambda: descriptors() <= files, "descriptors are left behind")


@pytest.fixture(scope="session")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where socket files are; its path is short, for theirs may not be long."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def serve(server_driver: str, transport: Transport, contexts: Any, sockets: Path) -> Iterator[Callable[..., Serving]]:
    """Start a server of ours: ``serve(wire, service, **options)``; it is stopped at the end of the test."""
    with ExitStack() as stack:

        def start(wire: Wire[Any], service: Any, **options: Any) -> Serving:
            if transport.secure:
                options.setdefault("ssl_context", contexts[0])
            url = transport.url.format(path=sockets / str(next(_numbers)))
            return stack.enter_context(SERVERS[server_driver](url, wire, service, **options))

        yield start


@pytest.fixture
def connect(client_driver: ClientDriver, transport: Transport, contexts: Any) -> Iterator[Connect]:
    """Connect a client of ours: ``connect(address, wire, **options)``; it is closed at the end of the test."""
    with client_driver.start() as begin, ExitStack() as stack:

        def connected(address: Address, wire: Wire[Any], **options: Any) -> Client:
            if transport.secure:
                options.setdefault("ssl_context", contexts[1])
            client = begin(address, wire, **options)
            stack.callback(client.close)
            return client

        yield connected


@pytest.fixture
def visit(transport: Transport, contexts: Any) -> Iterator[Callable[..., Stranger]]:
    """Connect a plain socket to a server of ours: ``visit(server, wire)``."""
    with ExitStack() as stack:

        def visited(server: Serving, wire: Wire[Any], **options: Any) -> Stranger:
            return stack.enter_context(Stranger(dial(server.address, transport, contexts[1], **options), wire))

        yield visited


@pytest.fixture
def meet(connect: Connect, transport: Transport, contexts: Any, sockets: Path) -> Iterator[Callable[..., Any]]:
    """Connect a client of ours to a plain socket: ``client, stranger = meet(wire, **options)``."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as beside:

        def met(wire: Wire[Any], **options: Any) -> tuple[Client, Stranger]:
            listener = Listener(transport, str(sockets / str(next(_numbers))), contexts[0])
            with listener.sock:
                # With TLS both sides have to be at it.
                connecting = beside.submit(connect, listener.address, wire, **options)
                stranger = stack.enter_context(Stranger(listener.accept(), wire))
                return connecting.result(), stranger

        yield met
