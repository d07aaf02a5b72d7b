"""``framing-echo serve``: an echo server for any wire, over every driver, in one process or several."""

from __future__ import annotations

import logging
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from framing import Wire
from framing.cli.parameters import read_address, server_tls, tls_server_options, wire_option
from framing.drivers import aio, blocking, datagram, selector
from framing.drivers.workers import WorkerServer, run_workers
from protocols.echo import Echo
from protocols.echo.descriptors import allow

if TYPE_CHECKING:
    import ssl
    from types import FrameType

    from framing.drivers.address import Address

__all__ = ["serve"]

SERVERS: dict[str, Any] = {"selector": selector.Server, "threads": blocking.Server, "asyncio": aio.StandaloneServer}
"""The servers of streams, by the name of their driver: one shape, so that one piece of code runs them all."""

CONNECTIONS = 10_000
"""For so many there is room in the process, if the system lets it."""


@click.command()
@click.option(
    "--driver",
    type=click.Choice(list(SERVERS)),
    help="What serves streams: one thread for all, a thread for each, or asyncio.  [default: selector]",
)
@click.option(
    "--listen",
    callback=read_address,
    default="tcp://127.0.0.1:9000",
    show_default=True,
    metavar="URL",
    help="tcp://host:port (port 0: any free one), tls://host:port, unix:/path or udp://host:port.",
)
@wire_option
@tls_server_options
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that share the port, each with connections of its own.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log why each connection was closed.")
def serve(
    driver: str | None,
    listen: Address,
    wire: Wire[Any],
    *,
    tls_cert: str | None,
    tls_key: str | None,
    workers: int,
    verbose: bool,
) -> int:
    """Serve until Ctrl-C (exit status 130) or SIGTERM (0)."""
    logging.basicConfig(
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.INFO if verbose else logging.WARNING,
    )
    listen, context = server_tls(listen, tls_cert, tls_key)
    if listen.scheme == "udp" and driver is not None:
        raise click.UsageError("--driver is for streams; datagrams have a server of their own: leave it out")
    make = partial(_make, driver or "selector", wire, context)
    allow(CONNECTIONS)
    if workers > 1:
        return _serve_in_processes(workers, listen, wire, partial(make, reuse_port=True))
    return _serve_here(make(listen), wire)


def _make(
    driver: str, wire: Wire[Any], context: ssl.SSLContext | None, address: Address, *, reuse_port: bool = False
) -> Any:
    """The server: what runs in this process, or in each of several."""
    if address.scheme == "udp":
        return datagram.Server(address, wire, Echo())
    return SERVERS[driver](address, wire, Echo(), ssl_context=context, reuse_port=reuse_port)


def _serve_here(server: Any, wire: Wire[Any]) -> int:
    caught: list[int] = []
    try:
        # Ctrl-C too: KeyboardInterrupt could strike anywhere in the server, and stop() is made for a signal's handler.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, partial(_stop, server, caught))
        _say(f"echo at {server.address}, wire {wire}")
        server.run()
    finally:
        server.close()
    return 128 + signal.SIGINT if signal.SIGINT in caught else 0


def _stop(server: WorkerServer, caught: list[int], signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 # a handler's shape
    caught.append(signum)
    # Whoever presses Ctrl-C again does not want to wait for the end of what is being drained.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    server.stop()


def _serve_in_processes(workers: int, listen: Address, wire: Wire[Any], make: Any) -> int:
    try:
        outcome = run_workers(
            workers, listen, make, ready=lambda address: _say(f"echo at {address}, wire {wire}, {workers} workers")
        )
    except ValueError as error:
        raise click.UsageError(f"--workers: {error}") from None
    if outcome.signal == signal.SIGINT:
        return 128 + signal.SIGINT
    return 1 if any(outcome.exits) else 0


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()
