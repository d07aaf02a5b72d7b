"""``framing-echo``: the group that its commands belong to."""

from __future__ import annotations

import click

from protocols.echo.command_load import load
from protocols.echo.command_send import send
from protocols.echo.command_serve import serve

__all__ = ["echo"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def echo() -> None:
    """Every message comes back, as it came and in its order."""


for command in (serve, send, load):
    echo.add_command(command)
