"""``framing-chat join``: the client, in a terminal or, with ``--plain`` or in a pipe, line by line."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from framing import Wire
from framing.cli.parameters import client_tls, read_address, read_wire, tls_client_option
from protocols.chat.client import Client
from protocols.chat.conversation import INSECURE, Conversation, is_private
from protocols.chat.wires import check_wire

if TYPE_CHECKING:
    from framing.drivers.address import Address

__all__ = ["join"]

PATIENCE = 60.0
"""Seconds in which a script wants to know that there is no connection any more; people are told, and decide themselves."""


@click.command()
@click.argument("address", callback=read_address, metavar="URL")
@click.option("--name", help="What to be called; without it the server gives a name.")
@click.option("--room", default="lobby", show_default=True, help="The room to enter first.")
@click.option("--plain", is_flag=True, help="Lines in, lines out: for pipes, and for terminals that can do no more.")
@click.option(
    "--wire",
    callback=read_wire,
    default="u32+msgpack",
    show_default=True,
    metavar="SPEC",
    help="The server's wire.",
)
@click.option(
    "--password",
    is_flag=True,
    help="Ask for a password; FRAMING_CHAT_PASSWORD has it where nobody can be asked. Over tls:// and unix: only.",
)
@tls_client_option
def join(
    address: Address, name: str | None, room: str, *, plain: bool, wire: Wire[Any], password: bool, tls_ca: str | None
) -> int:
    """Join the chat at URL: tcp://host:port, tls://host:port or unix:/path.

    In a pipe each line of standard input is said, and its end ends the conversation. The exit status is 0 when all was said,
    1 when something was not, or what came could not be written, 3 when the server would not have us or has sent us away,
    4 when there was no connection any more, 130 behind Ctrl-C, 143 behind SIGTERM, and 141 when nobody reads the output.
    """
    try:
        check_wire(wire)
    except ValueError as error:
        raise click.UsageError(f"--wire {error}") from None
    address, context = client_tls(address, tls_ca)
    secret = os.environ.get("FRAMING_CHAT_PASSWORD") or None
    # Before anybody is asked for it: what was typed for nothing may be typed somewhere else next.
    if (password or secret is not None) and not is_private(address, context):
        raise click.UsageError(f"{address}: {INSECURE}; join by tls:// or unix:, or leave the password out")
    if password and secret is None:
        secret = click.prompt("Password", hide_input=True, err=True)
    plain = plain or not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb"
    client = Client(name, (room,), password=secret, patience=PATIENCE if plain else None)
    conversation = Conversation(address, client, wire=wire, ssl_context=context)
    if plain:
        from protocols.chat.plain import run_plain  # noqa: PLC0415 # one of the two is needed

        return asyncio.run(run_plain(conversation, room))
    from protocols.chat.terminal import run_terminal  # noqa: PLC0415 # as above

    return asyncio.run(run_terminal(conversation, room, str(address)))
