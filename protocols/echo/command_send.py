"""``framing-echo send``: ask an echo server, and look at what comes back."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from framing import ConnectionClosed, FramingError, Raw, Text, Timeout, Wire
from framing.cli.parameters import client_tls, read_address, read_message, read_seconds, tls_client_option, wire_option
from framing.drivers import blocking, datagram

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterable

    from framing.drivers.address import Address

__all__ = ["send"]


@click.command()
@click.argument("address", callback=read_address, metavar="URL")
@click.argument("messages", nargs=-1, metavar="[MESSAGE]...")
@wire_option
@tls_client_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    callback=read_seconds,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the connection, and for each reply.",
)
def send(address: Address, messages: tuple[str, ...], wire: Wire[Any], *, tls_ca: str | None, timeout: float) -> int:
    """Send each MESSAGE, or each line of standard input, and print each reply as a line of JSON.

    URL is tcp://host:port, tls://host:port, unix:/path or udp://host:port.

    A MESSAGE is JSON text ('{"n": [1, 2]}') where the wire has a codec for objects, and plain text where it has not.
    The exit status is 1 when a reply is missing, or is not what was sent.
    """
    # Arguments are read before anything is sent: a typing error in the last one leaves no half of a conversation.
    ready = [read_message(wire, text, f"message {number}") for number, text in enumerate(messages, 1)]
    address, context = client_tls(address, tls_ca)
    changed = 0
    with _conversation(address, wire, timeout, context) as ask:
        for message in ready if messages else _lines(wire):
            try:
                reply = ask(message)
            except Timeout as error:
                raise FramingError(f"{address} gave no answer in {timeout:g} s; does it speak {wire}?") from error
            except ConnectionClosed as error:
                raise FramingError(
                    f"{address} closed the connection before it had answered {_show(message)}"
                ) from error
            click.echo(_show(reply))
            # Python takes True for 1, and 1 for 1.0; who reads the two does not.
            if reply != message or _show(reply) != _show(message):
                click.echo(f"framing-echo: this is not what was sent, {_show(message)}", err=True)
                changed = 1
    return changed


@contextmanager
def _conversation(
    address: Address, wire: Wire[Any], timeout: float, context: ssl.SSLContext | None
) -> Generator[Callable[[Any], Any]]:
    """What sends a message and returns the reply to it."""
    if address.scheme == "udp":
        with datagram.connect(address, wire, timeout=timeout) as endpoint:

            def ask_by_packet(message: Any) -> Any:
                endpoint.send(message)
                return endpoint.receive().message

            yield ask_by_packet
        return
    with blocking.connect(address, wire, timeout=timeout, ssl_context=context) as connection:

        def ask(message: Any) -> Any:
            connection.send(message)
            return connection.receive()

        yield ask


def _lines(wire: Wire[Any]) -> Iterable[Any]:
    for number, line in enumerate(sys.stdin, 1):
        text = line.removesuffix("\n")
        if text.strip() or isinstance(wire.codec, (Raw, Text)):
            yield read_message(wire, text, f"line {number} of standard input")


def _show(message: Any) -> str:
    return json.dumps(message, ensure_ascii=False, default=_as_text)


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else repr(value)
