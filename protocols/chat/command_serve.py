"""``framing-chat serve``: the server, with its console on standard input."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from framing import EncodeError, Wire
from framing.cli.parameters import read_address, read_wire, server_tls, tls_server_options
from framing.drivers import aio, blocking, selector
from protocols.chat.host import Host
from protocols.chat.hub import Hub, Options
from protocols.chat.log import LogError
from protocols.chat.messages import Members, to_map
from protocols.chat.passwords import PasswordFileError, Passwords
from protocols.chat.safety import MAX_NAME
from protocols.chat.sqlite_log import SQLiteLog
from protocols.chat.text import TEXT_WIRE, TextService
from protocols.chat.wires import check_wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import RawIOBase
    from types import FrameType

    from framing.drivers.address import Address

__all__ = ["serve"]

SERVERS: dict[str, Any] = {"selector": selector.Server, "threads": blocking.Server, "asyncio": aio.StandaloneServer}

MAX_FRAME = 1 << 16
"""Bytes of a frame: no message that a client has reason to send is larger, and no answer either, but the names of a crowd."""

HALF_A_LINE = 300.0
"""Seconds in which a line that was begun on the text port must be finished: people type."""

DEFAULTS = Options()

LOOK_EVERY = 0.5
"""Seconds between two looks at whether the server is in the foreground of its terminal."""

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
@click.option(
    "--newcomers",
    type=click.IntRange(0),
    default=DEFAULTS.newcomers,
    show_default=True,
    metavar="N",
    help=f"New people from one address at once, and then {DEFAULTS.newcomer_rate:g} a second; 0: any number.",
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
    newcomers: int,
    unicode_names: bool,
    verbose: bool,
) -> int:
    """Serve until QUIT or SIGTERM (exit status 0), or Ctrl-C (130; a second one does not wait for those who read slowly).

    A line typed here is announced to everybody.
    """
    logging.basicConfig(
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.INFO if verbose else logging.WARNING,
    )
    try:
        check_wire(wire)
    except ValueError as error:
        raise click.UsageError(f"--wire {error}") from error
    read_with = _bounded(wire)
    listen, context = server_tls(listen, tls_cert, tls_key)
    for option, address in (("--listen", listen), ("--text-listen", text_listen)):
        if address is not None and address.scheme == "udp":
            raise click.UsageError(f"{option} {address}: the chat needs streams; write tcp://, tls:// or unix:")
    if text_listen is not None and text_listen.scheme == "tls" and context is None:
        raise click.UsageError(f"--text-listen {text_listen} needs a certificate; give --tls-cert FILE")
    verify = _verifier(password_file, listen, text_listen, unicode_names=unicode_names)
    _allow_descriptors()
    with ExitStack() as stack:
        try:
            log = stack.enter_context(SQLiteLog(db))
            options = Options(
                passwords=verify is not None,
                unicode_names=unicode_names,
                newcomers=newcomers,
                max_frame=MAX_FRAME,
                max_members=min(DEFAULTS.max_members, _most_members(wire, unicode_names=unicode_names)),
            )
            hub = Hub(log, options)
        except LogError as error:
            raise click.ClickException(f"--db: {error}") from error
        return _serve(stack, hub, verify, driver, (wire, read_with), listen, context, text_listen)


def _allow_descriptors() -> None:
    """Take as many descriptors as the system would give: each connection is one, and the usual limit is for other programs."""
    try:
        import resource  # noqa: PLC0415 # not on Windows
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:  # which some systems say, and do not mean
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _bounded(wire: Wire[Any]) -> Wire[Any]:
    """``wire`` as the server reads it: with frames no larger than what a client has reason to send."""
    framer: Any = wire.framer
    return replace(wire, framer=replace(framer, max_frame=min(framer.max_frame, MAX_FRAME)))


def _most_members(wire: Wire[Any], *, unicode_names: bool) -> int:
    """Of how many people ``wire`` carries the names, whatever they are called: no more are let into a room."""
    name = ("\U00010000" if unicode_names else "n") * MAX_NAME
    most = DEFAULTS.max_members
    while most > 1:
        try:
            wire.encode(to_map(Members(room=name * 2, names=[name] * most, at=1 << 53)))
        except EncodeError:
            most = most * 3 // 4
        else:
            break
    return most


def _verifier(
    password_file: str | None, listen: Address, text_listen: Address | None, *, unicode_names: bool
) -> Callable[[str, str], bool] | None:
    if password_file is None:
        return None
    if listen.scheme not in ("tls", "unix"):
        raise click.UsageError("--password-file: passwords need TLS (--tls-cert) or a unix socket")
    if text_listen is not None:
        raise click.UsageError("--password-file: the text port asks for no passwords; leave out --text-listen")
    try:
        return Passwords(password_file, allow_unicode=unicode_names).verify
    except OSError as error:
        raise click.ClickException(f"--password-file: {password_file}: {error.strerror or error}") from error
    except PasswordFileError as error:
        raise click.ClickException(f"--password-file: {error}") from error


def _serve(
    stack: ExitStack,
    hub: Hub,
    verify: Callable[[str, str], bool] | None,
    driver: str,
    wires: tuple[Wire[Any], Wire[Any]],
    listen: Address,
    context: Any,
    text_listen: Address | None,
) -> int:
    wire, read_with = wires
    servers: list[Any] = []

    def stop_servers() -> None:
        for server in servers:
            server.stop()

    host = Host(hub, verify=verify, on_end=stop_servers)
    make = SERVERS[driver]
    main = stack.enter_context(make(listen, read_with, host.service(wire), ssl_context=context))
    servers.append(main)
    if text_listen is not None:
        text = stack.enter_context(TextService(host))
        # There is no other way to find out that one of them has gone without a word.
        options = {"keep_alive": True, "frame_timeout": HALF_A_LINE}
        secure = context if text_listen.scheme == "tls" else None
        servers.append(stack.enter_context(make(text_listen, TEXT_WIRE, text, ssl_context=secure, **options)))
    caught: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, partial(_stop, host, caught))
    if hasattr(signal, "SIGTTIN"):
        # In the background of a shell, reading the terminal fails then, instead of stopping the whole server.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    stack.enter_context(host)
    threads = [threading.Thread(target=server.run, name="framing chat text port") for server in servers[1:]]
    for thread in threads:
        thread.start()
    try:
        # Not before: whoever reads this may send a signal.
        click.echo(f"chat at {main.address}, wire {wire}")
        if text_listen is not None:
            click.echo(f"text at {servers[1].address}")
        threading.Thread(target=_console, args=(host,), name="framing chat console", daemon=True).start()
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
    if signal.SIGINT in caught and signum == signal.SIGINT:
        # Nothing is raised: it would come up anywhere. What was acknowledged is stored, whatever is interrupted.
        os._exit(128 + signum)
    caught.append(signum)
    host.stop()


def _console(host: Host) -> None:
    """What is typed at the server: announcements, and QUIT."""
    # Not through sys.stdin: who waits in there holds its lock, and the interpreter cannot end without it.
    try:
        with open(os.dup(sys.stdin.fileno()), "rb", buffering=0) as console:  # noqa: PTH123 # a descriptor has no path
            held = b""
            while chunk := _read(console):
                *lines, held = (held + chunk).split(b"\n")
                if not all(_typed(host, line) for line in lines):
                    return
            _typed(host, held)
    except OSError:
        return  # there is none


def _read(console: RawIOBase) -> bytes:
    """What was typed, waiting for it; nothing is ours to read while the server is in the background of its terminal."""
    while True:
        try:
            return console.read(1 << 12) or b""
        except OSError as error:
            if error.errno != errno.EIO or not _in_background(console.fileno()):
                raise
        time.sleep(LOOK_EVERY)


def _in_background(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        return False  # it is no terminal, or it has been hung up


def _typed(host: Host, line: bytes) -> bool:
    """Do what a line says; False where nothing more will be."""
    text = line.decode("utf-8", "replace").strip()
    if text in ("QUIT", "/quit"):
        host.stop(reconnect=None)
        return False
    if text:
        host.announce(text)
    return True
