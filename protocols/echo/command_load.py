"""``framing-echo load``: put an echo server under load, and tell how it bore it."""

from __future__ import annotations

import json
import re
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from framing import Wire
from framing.cli.parameters import client_tls, read_address, read_seconds, tls_client_option, wire_option
from protocols.echo.descriptors import allow
from protocols.echo.load import Figures, Load

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from framing.drivers.address import Address

__all__ = ["load"]

MESSAGES = 10_000
"""How many messages are sent where nothing is said about it."""


def _read_size(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", value, re.ASCII)
    smallest = int(found[1]) if found else 1
    largest = int(found[2] or found[1]) if found else 0
    if smallest > largest:
        raise click.BadParameter(f"{value!r} is no size; write 64, or 1-4096 for random sizes", ctx, param)
    return smallest, largest


@click.command()
@click.argument("address", callback=read_address, metavar="URL")
@wire_option
@tls_client_option
@click.option(
    "--connections", type=click.IntRange(min=1), default=8, show_default=True, metavar="N", help="Connections at once."
)
@click.option(
    "--pipeline",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="Messages that each connection has under way.",
)
@click.option(
    "--messages",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"How many, of all connections together.  [default: {MESSAGES}, where no --seconds are given]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    callback=read_seconds,
    metavar="S",
    help="How long to go on sending, instead.",
)
@click.option(
    "--size",
    callback=_read_size,
    default="64",
    show_default=True,
    metavar="BYTES",
    help="Of each message; about so many for objects. 1-4096 makes random sizes.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    callback=read_seconds,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a connection, and for a reply.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def load(
    address: Address,
    wire: Wire[Any],
    *,
    tls_ca: str | None,
    connections: int,
    pipeline: int,
    messages: int | None,
    seconds: float | None,
    size: tuple[int, int],
    timeout: float,
    as_json: bool,
) -> int:
    """Send random messages over many connections, and hold every byte of every reply against what was sent.

    URL is tcp://host:port, tls://host:port, unix:/path or udp://host:port.

    The exit status is 1 when anything was lost, doubled or changed, came out of order (but for udp://), or a connection
    failed; 130 when Ctrl-C ended it: the figures are those so far.
    """
    if messages is not None and seconds is not None:
        raise click.UsageError("--messages and --seconds both say when it ends; give one of them")
    address, context = client_tls(address, tls_ca)
    if allow(connections) < connections:
        raise click.ClickException(f"this process may not have {connections} connections; raise its limit (ulimit -Hn)")
    try:
        running = Load(
            address,
            wire,
            connections=connections,
            pipeline=pipeline,
            messages=MESSAGES if messages is None and seconds is None else messages,
            seconds=seconds,
            size=size,
            timeout=timeout,
            ssl_context=context,
        )
    except ValueError as wrong:
        raise click.UsageError(str(wrong)) from None
    figures = _run(running)
    if figures.errors and not (figures.replies or figures.changed or as_json):
        raise figures.errors[0]  # nothing has come, and this is why: there are no figures
    if as_json:
        made = {"address": str(address), "wire": str(wire), "pipeline": pipeline, "size": _size(running)}
        click.echo(json.dumps({**made, **figures.as_dict()}, indent=2))
    else:
        _show(running, figures)
    for error in figures.errors:
        click.echo(f"framing-echo: a connection failed: {' '.join(str(error).split())}", err=True)
    if figures.stopped:
        return 128 + signal.SIGINT
    return 0 if figures.right else 1


def _run(running: Load) -> Figures:
    """Run it, with a progress bar where somebody watches, until its end or Ctrl-C."""

    def stop(number: int, frame: object) -> None:  # noqa: ARG001 # a handler's shape
        # Whoever presses Ctrl-C again does not want to wait for the connections' end.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        running.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        with _bar(running) as progress:
            return running.run(progress)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(running: Load) -> Generator[Callable[[Figures], object] | None]:
    if not sys.stderr.isatty():
        yield None
        return
    # Drawn by the load's own ticks: a thread that draws would take the time of those that work.
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
    ) as bar:
        total = running.seconds if running.messages is None else running.messages
        task = bar.add_task("connecting", total=total, rate="")

        def draw(figures: Figures) -> None:
            if figures.sent:
                done = figures.seconds if running.messages is None else figures.replies
                faults = "" if figures.right else ", and faults"
                rate = f"{figures.messages_per_second:,.0f} messages/s{faults}"
                bar.update(task, description=f"{figures.connections} connections", completed=done, rate=rate)
            bar.refresh()

        yield draw


def _size(running: Load) -> str:
    smallest, largest = running.samples.smallest, running.samples.largest
    return str(largest) if smallest == largest else f"{smallest}-{largest}"


def _show(running: Load, figures: Figures) -> None:
    latencies = figures.latencies
    times = {f"p{percent}": latencies.percentile(percent) for percent in (50, 90, 99)} | {"max": latencies.longest}
    moved = f"{figures.bytes_per_second / 1e6:,.1f} MB/s each way"
    disorder = f"{figures.out_of_order:,} out of order"
    lines = [
        (running.address, f"wire {running.wire}, {_size(running)} bytes, {running.pipeline} under way a connection"),
        ("connections", f"{figures.connections:,}, {figures.failed:,} failed"),
        ("messages", f"{figures.sent:,} sent, {figures.replies:,} came back as they went, byte for byte"),
        ("throughput", f"{figures.messages_per_second:,.0f} messages/s, {moved}, in {figures.seconds:.2f} s"),
        ("latency", ", ".join(f"{name} {time * 1e3:.3g} ms" for name, time in times.items())),
        (
            "faults",
            f"{figures.lost:,} lost, {figures.doubled:,} doubled, {figures.changed:,} changed, {disorder}",
        ),
    ]
    if figures.stopped:
        lines.append(("stopped", f"{figures.unanswered:,} were still under way"))
    width = max(len(str(name)) for name, _ in lines[1:])
    click.echo(f"{lines[0][0]}, {lines[0][1]}")
    for name, text in lines[1:]:
        click.echo(f"{name!s:<{width}}  {text}")
