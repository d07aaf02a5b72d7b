"""``framing-echo serve`` and ``framing-echo send``: an echo server for any wire, and a client that asks it."""

from __future__ import annotations

import json
import logging
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from framing import ConnectionClosed, FramingError, Raw, Text, Timeout, Wire
from framing.cli.parameters import read_address, read_wire
from framing.drivers import blocking
from framing.drivers.workers import run_workers
from protocols.echo import Echo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from framing.drivers.address import Address

__all__ = ["echo"]

WIRE_HELP = "What both sides agree on, as a spec: u32+msgpack, lines+text, netstring+json, …"


_wire_option = click.option(
    "--wire", callback=read_wire, default="u32+json", show_default=True, metavar="SPEC", help=WIRE_HELP
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def echo() -> None:
    """Every message comes back, as it came and in its order."""


@echo.command()
@click.option(
    "--listen",
    callback=read_address,
    default="tcp://127.0.0.1:9000",
    show_default=True,
    metavar="URL",
    help="tcp://host:port (port 0: any free one) or unix:/path.",
)
@_wire_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that share the port, each with connections of its own.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log why each connection was closed.")
def serve(listen: Address, wire: Wire[Any], *, workers: int, verbose: bool) -> int:
    """Serve until Ctrl-C (exit status 130) or SIGTERM (0)."""
    logging.basicConfig(
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.INFO if verbose else logging.WARNING,
    )
    if workers > 1:
        return _serve_in_processes(listen, wire, workers)
    try:
        server = blocking.Server(listen, wire, Echo())
    except ValueError as error:
        raise click.UsageError(f"--listen: {error}") from None
    caught: list[int] = []
    try:
        # Ctrl-C too: KeyboardInterrupt could strike anywhere in the server, and stop() is made for a signal's handler.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, partial(_stop, server, caught))
        click.echo(f"echo at {server.address}, wire {wire}")
        sys.stdout.flush()
        server.run()
    finally:
        server.close()
    return 128 + signal.SIGINT if signal.SIGINT in caught else 0


def _serve_in_processes(listen: Address, wire: Wire[Any], workers: int) -> int:
    def make(address: Address) -> blocking.Server[Any]:
        return blocking.Server(address, wire, Echo(), reuse_port=True)

    def ready(address: Address) -> None:
        click.echo(f"echo at {address}, wire {wire}, {workers} workers")
        sys.stdout.flush()

    try:
        outcome = run_workers(workers, listen, make, ready=ready)
    except ValueError as error:
        raise click.UsageError(f"--workers: {error}") from None
    if outcome.signal == signal.SIGINT:
        return 128 + signal.SIGINT
    return 1 if any(outcome.exits) else 0


def _stop(server: blocking.Server[Any], caught: list[int], signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 # a handler's shape
    caught.append(signum)
    # Whoever presses Ctrl-C again does not want to wait for the end of what is being drained.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    server.stop()


@echo.command()
@click.argument("address", callback=read_address, metavar="URL")
@click.argument("messages", nargs=-1, metavar="[MESSAGE]...")
@_wire_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the connection, and for each reply.",
)
def send(address: Address, messages: tuple[str, ...], wire: Wire[Any], timeout: float) -> int:
    """Send each MESSAGE, or each line of standard input, and print each reply as a line of JSON.

    A MESSAGE is JSON text ('{"n": [1, 2]}') where the wire has a codec for objects, and plain text where it has not.
    The exit status is 1 when a reply is missing, or is not what was sent.
    """
    # Arguments are read before anything is sent: a typing error in the last one leaves no half of a conversation.
    ready = [_read(text, wire, f"message {number}") for number, text in enumerate(messages, 1)]
    changed = 0
    try:
        opened = blocking.connect(address, wire, timeout=timeout)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with opened as connection:
        for message in ready if messages else _lines(wire):
            connection.send(message)
            try:
                reply = connection.receive()
            except Timeout as error:
                raise FramingError(f"{address} gave no answer in {timeout:g} s; does it speak {wire}?") from error
            except ConnectionClosed as error:
                raise FramingError(
                    f"{address} closed the connection before it had answered {_show(message)}"
                ) from error
            click.echo(_show(reply))
            if reply != message:
                click.echo(f"framing-echo: this is not what was sent, {_show(message)}", err=True)
                changed = 1
    return changed


def _lines(wire: Wire[Any]) -> Iterable[Any]:
    for number, line in enumerate(sys.stdin, 1):
        text = line.removesuffix("\n")
        if text.strip() or isinstance(wire.codec, (Raw, Text)):
            yield _read(text, wire, f"line {number} of standard input")


def _read(text: str, wire: Wire[Any], what: str) -> Any:
    """The message that ``text`` stands for."""
    if isinstance(wire.codec, Raw):
        return text.encode("utf-8", "surrogateescape")
    if isinstance(wire.codec, Text):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{what} is no JSON: {error} (text is written '\"so\"')") from None
    except RecursionError:
        raise click.UsageError(f"{what} is nested too deeply") from None


def _show(message: Any) -> str:
    return json.dumps(message, ensure_ascii=False, default=_as_text)


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else repr(value)
