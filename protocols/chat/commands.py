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
@click.option("--unicode-names", is_flag=True, help="Allow names beyond ASCII, as serve --unicode-names does.")
def password(name: str, *, unicode_names: bool) -> None:
    """Ask for the password of NAME (or read it as a line from a pipe), and print its line for --password-file."""
    given = _typed(name) if sys.stdin.isatty() else _piped()
    if not given:
        raise click.ClickException("an empty password protects nothing")
    try:
        line = make_line(name, given, allow_unicode=unicode_names)
    except ValueError as error:
        raise click.UsageError(f"{name!r}: {error}") from None
    click.echo(line)


def _typed(name: str) -> str:
    try:
        given = getpass.getpass(f"Password of {name}: ")
        again = getpass.getpass("Again: ")
    except EOFError:
        raise click.Abort from None
    if again != given:
        raise click.ClickException("these two are not the same")
    return given


def _piped() -> str:
    """A line of standard input, without its end, CRLF or LF."""
    try:
        line = sys.stdin.buffer.readline().decode()
    except UnicodeDecodeError:
        raise click.ClickException("the password is no text (UTF-8)") from None
    except OSError as error:
        raise click.ClickException(f"standard input: {error.strerror}") from None
    return line.removesuffix("\n").removesuffix("\r")
