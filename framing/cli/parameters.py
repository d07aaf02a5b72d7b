"""What commands take in common, read by click callbacks: a wrong spec or address is an error of the command line."""

from __future__ import annotations

from typing import Any

import click

from framing.drivers.address import Address
from framing.wire import Wire

__all__ = ["read_address", "read_wire"]


def read_wire(ctx: click.Context, param: click.Parameter, value: str) -> Wire[Any]:
    """The wire that a spec string names."""
    try:
        return Wire.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def read_address(ctx: click.Context, param: click.Parameter, value: str) -> Address:
    """The address that a URL names."""
    try:
        return Address.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error
