"""The commands of ``framing-chat``."""

from __future__ import annotations

import getpass
import sys

import click

from protocols.chat.command_join import join
from protocols.chat.command_serve import serve
from protocols.chat.passwords import make_line

__all__ = ["chat"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def chat() -> None:
    """A chat for a team: rooms, private messages, history; nothing lost when a connection is."""


chat.add_command(serve)
chat.add_command(join)


@chat.command()
@click.argument("name")
def password(name: str) -> None:
    """Ask for the password of NAME (or read it as a line from a pipe), and print its line for --password-file."""
    if sys.stdin.isatty():
        given = getpass.getpass(f"Password of {name}: ")
        if getpass.getpass("Again: ") != given:
            raise click.ClickException("these two are not the same")
    else:
        given = sys.stdin.readline().rstrip("\n")
    if not given:
        raise click.ClickException("an empty password protects nothing")
    try:
        click.echo(make_line(name, given))
    except ValueError as error:
        raise click.UsageError(f"{name!r}: {error}") from None
