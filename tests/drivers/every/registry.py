"""Every driver and every transport, each behind one shape: what is registered here, all tests of this directory run over.

A server driver serves until the end of a block:

    with SERVERS["threads"](address, wire, service, **options) as server:
        server.address, server.connections, server.stop(), server.over

A client driver is what its connections need, a loop in a thread or nothing, until the end of a block:

    with CLIENTS["asyncio"].start() as connect:
        client = connect(address, wire, **options)
        client.send(message), client.receive(timeout=1), client.close_sending(), client.close()

The calls of a client raise what the driver raises. A transport is where a server listens, and what both sides need for it.
To register another one is all that it takes; what a driver cannot do by its nature, it says in its registration.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.drivers.every import clients, datagrams, servers
from tests.drivers.every.clients import Client, ClientDriver, Connect
from tests.drivers.every.loops import LOOPS, SECONDS
from tests.drivers.every.servers import ServerDriver, Serving
from tests.drivers.every.transports import Transport, has_ipv6

__all__ = [
    "CLIENTS",
    "DATAGRAM_CLIENTS",
    "DATAGRAM_SERVERS",
    "DATAGRAM_TRANSPORTS",
    "SECONDS",
    "SERVERS",
    "TRANSPORTS",
    "Client",
    "ClientDriver",
    "Connect",
    "ServerDriver",
    "Serving",
    "Transport",
    "half_closing",
    "over",
]

SERVERS: dict[str, ServerDriver] = {
    "threads": servers.in_threads,
    "selector": servers.in_the_selectors_loop,
    **{name: servers.on_loop(make_loop) for name, make_loop in LOOPS.items()},
}
"""Every server driver of streams."""

CLIENTS: dict[str, ClientDriver] = {
    "blocking": ClientDriver(clients.in_any_thread),
    "nonblocking": ClientDriver(clients.in_a_select_loop),
    "loop": ClientDriver(clients.in_the_selectors_loop, is_a_service=True),
    **{name: ClientDriver(clients.on_loop(make_loop)) for name, make_loop in LOOPS.items()},
}
"""Every client driver of streams."""

TRANSPORTS: dict[str, Transport] = {
    "tcp": Transport("tcp://127.0.0.1:0"),
    "tls": Transport("tls://127.0.0.1:0"),
    **({"tcp6": Transport("tcp://[::1]:0", socket.AF_INET6)} if has_ipv6() else {}),
    **({"unix": Transport("unix:{path}", socket.AF_UNIX)} if hasattr(socket, "AF_UNIX") else {}),
}
"""Every transport of streams."""

DATAGRAM_SERVERS: dict[str, ServerDriver] = {
    "threads": datagrams.in_threads,
    **{name: datagrams.on_loop(make_loop) for name, make_loop in LOOPS.items()},
}
"""Every server driver of datagrams."""

DATAGRAM_CLIENTS: dict[str, Callable[[], AbstractContextManager[Connect]]] = {
    "blocking": datagrams.endpoints,
    **{name: datagrams.endpoints_on_loop(make_loop) for name, make_loop in LOOPS.items()},
}
"""Every client driver of datagrams: connected endpoints."""

DATAGRAM_TRANSPORTS: dict[str, Transport] = {
    "udp": Transport("udp://127.0.0.1:0"),
    **({"udp6": Transport("udp://[::1]:0", socket.AF_INET6)} if "tcp6" in TRANSPORTS else {}),
    **({"unix": TRANSPORTS["unix"]} if "unix" in TRANSPORTS else {}),
}
"""Every transport of datagrams."""


def over(*names: str) -> pytest.MarkDecorator:
    """Run a test over these transports alone, those of them that there are."""
    return pytest.mark.parametrize("transport", [name for name in names if name in TRANSPORTS], indirect=True)


half_closing = pytest.mark.parametrize(
    "client_driver", [name for name, driver in CLIENTS.items() if not driver.is_a_service], indirect=True
)
"""For the tests whose client ends its stream, and goes on receiving, or goes on behind a refused payload."""
