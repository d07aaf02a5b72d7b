"""What commands take in common: wires, addresses, certificates. A wrong one is told in one line, before anything is opened.

A spec, an address and options that do not fit together are errors of the command line (status 2); a file that cannot be read,
or holds something else, is a failure (status 1).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from framing.codecs import Raw, Text
from framing.drivers.address import Address
from framing.wire import Wire

if TYPE_CHECKING:
    import ssl

__all__ = [
    "client_tls",
    "read_address",
    "read_message",
    "read_seconds",
    "read_wire",
    "server_tls",
    "tls_client_option",
    "tls_server_options",
    "wire_option",
]

F = TypeVar("F", bound=Callable[..., Any])


def read_wire(ctx: click.Context, param: click.Parameter, value: str) -> Wire[Any]:
    """The wire that a spec string names."""
    try:
        return Wire.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def read_message(wire: Wire[Any], text: str, what: str) -> Any:
    """The message that ``text`` stands for: JSON where the wire has a codec for objects; text, or its bytes, where not.

    ``what`` names it in the error.
    """
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


def read_address(ctx: click.Context, param: click.Parameter, value: str | None) -> Address | None:
    """The address that a URL names; None where an option was left out."""
    try:
        return None if value is None else Address.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def read_seconds(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A number of seconds: click's ranges let "nan" pass, and "inf" where they have no upper end."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no time", ctx, param)
    return value


def wire_option(command: F) -> F:
    """Add ``--wire SPEC``: the command gets ``wire``, a `Wire`."""
    return click.option(
        "--wire",
        callback=read_wire,
        default="u32+json",
        show_default=True,
        metavar="SPEC",
        help="What both sides agree on, as a spec: u32+msgpack, lines+text, netstring+json, …",
    )(command)


def tls_server_options(command: F) -> F:
    """Add ``--tls-cert FILE`` and ``--tls-key FILE``: give both, and the address, to `server_tls`."""
    for decorate in (
        click.option(
            "--tls-key", metavar="FILE", help="The certificate's key, where it is in a file of its own (PEM)."
        ),
        click.option("--tls-cert", metavar="FILE", help="Speak TLS with this certificate (PEM, the chain behind it)."),
    ):
        command = decorate(command)
    return command


def tls_client_option(command: F) -> F:
    """Add ``--tls-ca FILE``: give it, and the address, to `client_tls`."""
    return click.option(
        "--tls-ca", metavar="FILE", help="Trust this authority (PEM), and not those that the system trusts. Speaks TLS."
    )(command)


def server_tls(address: Address, certificate: str | None, key: str | None) -> tuple[Address, ssl.SSLContext | None]:
    """Where to listen, ``tls://`` if so, and the context that speaks TLS there; None for plain text."""
    if certificate is None:
        if key is not None:
            raise click.UsageError("--tls-key is the key of a certificate; give --tls-cert too")
        if address.scheme == "tls":
            raise click.UsageError(
                f"a server at {address} needs a certificate; give --tls-cert FILE and --tls-key FILE"
            )
        return address, None
    address = _secured(address, "--tls-cert")
    import ssl  # noqa: PLC0415 # imported where it is used: it costs what most commands do not need

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise click.ClickException(_trouble(error, certificate, key)) from error
    return address, context


def client_tls(address: Address, authority: str | None) -> tuple[Address, ssl.SSLContext | None]:
    """Whom to connect to, ``tls://`` if so, and the context that trusts ``authority``; None where none was given."""
    if authority is None:
        return address, None
    address = _secured(address, "--tls-ca")
    import ssl  # noqa: PLC0415 # as above

    try:
        return address, ssl.create_default_context(cafile=authority)
    except OSError as error:
        _check_readable("--tls-ca", authority)
        raise click.ClickException(f"--tls-ca: {authority} holds no certificate (PEM)") from error


def _secured(address: Address, option: str) -> Address:
    if address.scheme not in {"tcp", "tls"}:
        raise click.UsageError(f"{option} is for tls://host:port, and {address} is none")
    return replace(address, scheme="tls")


def _no_passphrase() -> str:
    raise ValueError(
        "the key has a passphrase, and nobody is asked for it here; take it off: openssl pkey -in … -out …"
    )


def _check_readable(option: str, file: str) -> None:
    try:
        with Path(file).open("rb"):
            pass
    except OSError as error:
        raise click.ClickException(f"{option}: {file}: {error.strerror or error}") from error


def _trouble(error: Exception, certificate: str, key: str | None) -> str:
    """Which of the two files is wrong, and what is: the error itself names neither."""
    import ssl  # noqa: PLC0415 # as above

    _check_readable("--tls-cert", certificate)
    if key is not None:
        _check_readable("--tls-key", key)
    if not isinstance(error, OSError):
        return f"{'--tls-cert' if key is None else '--tls-key'}: {key or certificate}: {error}"
    if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
        return f"the key in {key or certificate} does not fit the certificate in {certificate}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except OSError:
        return f"--tls-cert: {certificate} holds no certificate (PEM)"
    if key is None:
        return f"--tls-cert: {certificate} holds no key; give --tls-key FILE too"
    return f"--tls-key: {key} holds no key (PEM)"
