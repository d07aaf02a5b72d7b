"""``framing``: the group that the commands belong to."""

from __future__ import annotations

import click

import framing as package
from framing.cli.bench import bench
from framing.cli.demo import demo

__all__ = ["framing"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__, prog_name="framing")
def framing() -> None:
    """Message framing: whole messages over a byte stream that cuts and glues them."""


framing.add_command(bench)
framing.add_command(demo)
