"""``framing-chat serve``: the server, with its console on standard input."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from framing import CBOR, JSON, MessagePack, Wire
from framing.cli.parameters import read_address, read_wire, server_tls, tls_server_options
from framing.drivers import aio, blocking, selector
from protocols.chat.host import Host
from protocols.chat.hub import Hub, Options
from protocols.chat.passwords import PasswordFileError, Passwords
from protocols.chat.sqlite_log import LogError, SQLiteLog
from protocols.chat.text import TEXT_WIRE, TextService

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from framing.drivers.address import Address

__all__ = ["serve"]

SERVERS: dict[str, Any] = {"selector": selector.Server, "threads": blocking.Server, "asyncio": aio.StandaloneServer}

MAX_FRAME = 1 << 16
HALF_A_LINE = 300.0
"""Seconds in which a line that was begun on the text port must be finished: people type."""

logger = logging.getLogger("protocols.chat")


@click.command()
@click.option(
    "--listen",
    callback=read_address,
    default="tcp://127.0.0.1:9009",
    show_default=True,
    metavar="URL",
    help="tcp://host:port (port 0: any free one), tls://host:port or unix:/path.",
)
@click.option("--text-listen", callback=read_address, metavar="URL", help="Where people with nc or telnet are served.")
@click.option("--db", default="chat.db", show_default=True, metavar="FILE", help="The log (SQLite); :memory: for none.")
@click.option(
    "--driver",
    type=click.Choice(list(SERVERS)),
    default="selector",
    show_default=True,
    help="One thread for all connections, a thread for each, or asyncio.",
)
@click.option(
    "--wire",
    callback=read_wire,
    default="u32+msgpack",
    show_default=True,
    metavar="SPEC",
    help="How messages are framed and written; its codec carries maps: msgpack, json or cbor.",
)
@tls_server_options
@click.option(
    "--password-file",
    metavar="FILE",
    help="Let in only who knows a password in it (framing-chat password NAME makes its lines).",
)
@click.option("--unicode-names", is_flag=True, help="Allow names beyond ASCII, except those that look like others.")
@click.option("-v", "--verbose", is_flag=True, help="Log why each connection was closed.")
def serve(
    listen: Address,
    text_listen: Address | None,
    db: str,
    driver: str,
    wire: Wire[Any],
    *,
    tls_cert: str | None,
    tls_key: str | None,
    password_file: str | None,
    unicode_names: bool,
    verbose: bool,
) -> int:
    """Serve until QUIT or SIGTERM (exit status 0), or Ctrl-C (130). A line typed here is announced to everybody."""
    logging.basicConfig(
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.INFO if verbose else logging.WARNING,
    )
    if not isinstance(wire.codec, (MessagePack, JSON, CBOR)):
        raise click.UsageError(
            f"--wire {wire}: the chat's messages are maps; take a codec for them, as u32+msgpack has"
        )
    listen, context = server_tls(listen, tls_cert, tls_key)
    verify = _verifier(password_file, listen, text_listen)
    with ExitStack() as stack:
        try:
            log = stack.enter_context(SQLiteLog(db))
            hub = Hub(log, Options(passwords=verify is not None, unicode_names=unicode_names, max_frame=MAX_FRAME))
        except LogError as error:
            raise click.ClickException(f"--db: {error}") from error
        return _serve(stack, hub, verify, driver, _bounded(wire), listen, context, text_listen)


def _bounded(wire: Wire[Any]) -> Wire[Any]:
    """``wire`` with frames no larger than the chat's messages."""
    from dataclasses import replace  # noqa: PLC0415 # for this one line

    framer: Any = wire.framer
    return replace(wire, framer=replace(framer, max_frame=MAX_FRAME))


def _verifier(
    password_file: str | None, listen: Address, text_listen: Address | None
) -> Callable[[str, str], bool] | None:
    if password_file is None:
        return None
    if listen.scheme not in ("tls", "unix"):
        raise click.UsageError("--password-file: passwords need TLS (--tls-cert) or a unix socket")
    if text_listen is not None:
        raise click.UsageError("--password-file: the text port asks for no passwords; leave out --text-listen")
    try:
        return Passwords(password_file).verify
    except (OSError, PasswordFileError) as error:
        raise click.ClickException(f"--password-file: {error}") from error


def _serve(
    stack: ExitStack,
    hub: Hub,
    verify: Callable[[str, str], bool] | None,
    driver: str,
    wire: Wire[Any],
    listen: Address,
    context: Any,
    text_listen: Address | None,
) -> int:
    servers: list[Any] = []

    def stop_servers() -> None:
        for server in servers:
            server.stop()

    host = Host(hub, verify=verify, on_end=stop_servers)
    make = SERVERS[driver]
    main = stack.enter_context(make(listen, wire, host.service(wire), ssl_context=context))
    servers.append(main)
    click.echo(f"chat at {main.address}, wire {wire}")
    if text_listen is not None:
        text = stack.enter_context(TextService(host))
        port = stack.enter_context(make(text_listen, TEXT_WIRE, text, frame_timeout=HALF_A_LINE))
        servers.append(port)
        click.echo(f"text at {port.address}")
    sys.stdout.flush()
    caught: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, partial(_stop, host, caught))
    stack.enter_context(host)
    threads = [threading.Thread(target=server.run, name="framing chat text port") for server in servers[1:]]
    for thread in threads:
        thread.start()
    threading.Thread(target=_console, args=(host,), name="framing chat console", daemon=True).start()
    try:
        main.run()
    finally:
        host.stop()
        host.join()
        stop_servers()
        for thread in threads:
            thread.join()
    if host.error is not None:
        raise click.ClickException(f"the chat has ended: {host.error}")
    return 128 + signal.SIGINT if signal.SIGINT in caught else 0


def _stop(host: Host, caught: list[int], signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 # a handler's shape
    caught.append(signum)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    host.stop()


def _console(host: Host) -> None:
    """What is typed at the server: announcements, and QUIT."""
    for line in sys.stdin:
        text = line.strip()
        if text in ("QUIT", "/quit"):
            host.stop(reconnect=None)
            return
        if text:
            host.announce(text)
