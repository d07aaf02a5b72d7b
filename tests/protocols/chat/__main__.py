"""The long forms of the chat's proofs: ``python -m tests.protocols.chat properties``, ``kill``, ``relay`` or ``load``.

Each prints what it has done and ends with status 1 where anything was lost, doubled, told wrong or left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import framing
from tests.protocols.chat import load as loading
from tests.protocols.chat.cuts import FAULTS, cut_everywhere
from tests.protocols.chat.kills import survive
from tests.protocols.chat.properties import walk
from tests.protocols.chat.serving import DRIVERS, Serving


def properties(options: argparse.Namespace) -> bool:
    """Random steps of many clients in a world without sockets."""
    figures = walk(steps=options.steps, number=options.seed, long_steps=options.long_steps)
    print(
        f"seeds from {figures.seed}: {figures.steps:,} steps in {figures.lives:,} lives, "
        f"and {options.long_steps:,} in one more; {figures.seconds:.0f} s; nothing wrong"
    )
    return True


def kill(options: argparse.Namespace) -> bool:
    """The server killed in the middle of many clients that post."""
    right = True
    sums = {"posts": 0, "kills": 0, "lost": 0, "wrong": 0}
    for driver in options.driver or DRIVERS:
        for seed in range(options.seed, options.seed + options.seeds):
            with tempfile.TemporaryDirectory() as place:
                figures = asyncio.run(
                    survive(
                        Path(place),
                        seed=seed,
                        driver=driver,
                        clients=options.clients,
                        posts=options.posts,
                        kills=options.kills,
                    )
                )
            print(
                f"{driver}, seed {seed}: {figures.posts} posts, killed behind {figures.kills} of them, "
                f"{figures.waiting} were waiting, {figures.lost} connections lost, {figures.seconds:.1f} s, "
                f"{'right' if not figures.wrong else 'WRONG'}",
                *figures.wrong,
                sep="\n  ",
                flush=True,
            )
            sums["posts"] += figures.posts
            sums["kills"] += len(figures.kills)
            sums["lost"] += figures.lost
            sums["wrong"] += len(figures.wrong)
            right = right and not figures.wrong
    print(", ".join(f"{name}: {value:,}" for name, value in sums.items()))
    return right


def relay(options: argparse.Namespace) -> bool:
    """One conversation, cut at every byte."""
    right = True
    for driver in options.driver or DRIVERS:
        with tempfile.TemporaryDirectory() as place, Serving(Path(place, "chat.db"), driver=driver) as server:
            figures = asyncio.run(
                cut_everywhere(
                    server.address,
                    step=options.step,
                    faults=tuple(options.fault or FAULTS),
                    again=options.again,
                    seed=options.seed,
                )
            )
            status = server.stop()
            if status or server.said:
                figures.wrong.append(f"the server ended with status {status} and said: {server.said[-500:]}")
        print(
            f"{driver}: {figures.up} bytes up and {figures.down} down, {figures.conversations:,} conversations, "
            f"{figures.reconnected:,} of them connected anew, {figures.seconds:.0f} s, "
            f"{'right' if not figures.wrong else 'WRONG'}",
            *figures.wrong,
            sep="\n  ",
            flush=True,
        )
        right = right and not figures.wrong
    return right


def load(options: argparse.Namespace) -> bool:
    """Many members of one room, with slow readers and without."""
    all_: list[loading.Figures] = []
    for driver in options.driver or DRIVERS:
        shape = loading.Shape(
            driver=driver,
            seconds=options.seconds,
            members=options.members,
            rate=options.rate,
            size=options.size,
            processes=options.processes,
            never=options.never,
            drip=options.drip,
            visits=options.visits,
        )
        with tempfile.TemporaryDirectory() as place:
            all_.append(loading.measure(Path(place), shape))
    told: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "compiled": framing.compiled,
        "drivers": [loading.as_dict(figures) for figures in all_],
    }
    print(loading.table(all_))
    print(json.dumps(told, indent=None if not options.indent else 1))
    return not any(figures.wrong for figures in all_)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.protocols.chat", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)

    def command(does: Any) -> argparse.ArgumentParser:
        one = commands.add_parser(
            does.__name__, help=does.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        one.set_defaults(does=does)
        one.add_argument("--seed", type=int, default=1, help="the first, or only one")
        return one

    def of_drivers(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
        one.add_argument("--driver", choices=DRIVERS, action="append", help="the server's; all, where none is given")
        return one

    one = command(properties)
    one.add_argument("--steps", type=int, default=100_000)
    one.add_argument("--long-steps", type=int, default=20_000, help="of one world beside them")
    one = of_drivers(command(kill))
    one.add_argument("--seeds", type=int, default=20)
    one.add_argument("--clients", type=int, default=100)
    one.add_argument("--posts", type=int, default=10, help="of each client")
    one.add_argument("--kills", type=int, default=3)
    one = of_drivers(command(relay))
    one.add_argument("--step", type=int, default=1, help="bytes between two cuts")
    one.add_argument("--fault", choices=FAULTS, action="append", help="all, where none is given")
    one.add_argument("--again", type=int, default=500, help="conversations that are cut three times")
    one = of_drivers(command(load))
    one.add_argument("--seconds", type=float, default=60.0)
    one.add_argument("--members", type=int, default=200)
    one.add_argument("--rate", type=float, default=300.0, help="posts a second, of all members")
    one.add_argument("--size", type=int, default=64, help="characters of a post")
    one.add_argument("--processes", type=int, default=2, help="that the members are in")
    one.add_argument("--never", type=int, default=1, help="members that never read")
    one.add_argument("--drip", type=int, default=50, help="members that read a byte a second")
    one.add_argument("--visits", type=int, default=10_000)
    one.add_argument("--indent", action="store_true", help="for people")
    options = parser.parse_args()
    began = time.monotonic()
    right = options.does(options)
    print(f"{time.monotonic() - began:.0f} s, {'right' if right else 'WRONG'}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
