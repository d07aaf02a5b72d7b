"""The soak: ``python -m tests.soak --seconds 900``.

For each server driver a server and its clients run, in a process each, for so long: many clients through a relay with
faults (cuts, pauses, crawls, resets, half-closes, held paths), many without, and some that hold one connection for all of
the time. Both sides judge every byte. Memory, descriptors and threads of each process are looked at now and then. It prints
a table, or JSON, and ends with status 1 where anything was lost, doubled, changed or told wrong, or has kept growing.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import IO, Any

import framing
from tests.drivers.every.registry import SERVERS
from tests.soak.clients import FATAL
from tests.soak.samples import Sample, long_enough, sample, thirds, unsteady

READY_SECONDS = 60.0
SETTLING_SECONDS = 60.0
"""How long the server may take to give everything back when the last client has gone."""


@dataclass
class Pair:
    """One server and its clients."""

    driver: str
    server: subprocess.Popen[str]
    clients: subprocess.Popen[str]
    rest: Sample
    """The server before anybody had come, but for one who had gone again."""
    server_samples: list[Sample] = field(default_factory=list)
    client_samples: list[Sample] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def look(self) -> None:
        for process, samples in ((self.server, self.server_samples), (self.clients, self.client_samples)):
            if process.poll() is None:
                samples.append(sample(process.pid))

    def finish(self, grace: float) -> None:
        """Wait for the clients, have the server's figures, see whether it has given everything back, and judge."""
        try:
            out, _ = self.clients.communicate(timeout=grace)
            self.figures["clients"] = clients = json.loads(out)
        except (subprocess.TimeoutExpired, ValueError) as error:
            self.trouble.append(f"the clients did not end as they should: {error!r}")
            return
        if clients["mistaken"]:
            self.trouble += [f"{clients['mistaken']} mistakes, the first of them:", *clients["mistakes"]]
        if not clients["replies"]:
            self.trouble.append("nothing was said")
        try:
            self._settle()
        except (OSError, ValueError) as error:
            self.trouble.append(f"the server has gone: {error!r}")
            return
        self.trouble += [f"the server's {growth}" for growth in unsteady(self.server_samples)]
        self.trouble += [f"its clients' {growth}" for growth in unsteady(self.client_samples)]

    def _settle(self) -> None:
        end = time.monotonic() + SETTLING_SECONDS
        while True:
            figures = ask(self.server)
            now = sample(self.server.pid)
            left = figures["open"] or now.descriptors > self.rest.descriptors or now.threads > self.rest.threads
            if not left or time.monotonic() > end:
                break
            time.sleep(0.2)
        self.figures["server"] = figures
        if left:
            self.trouble.append(
                f"when all had gone the server kept {figures['open']} connections, "
                f"{now.descriptors - self.rest.descriptors} descriptors and {now.threads - self.rest.threads} threads"
            )
        self.trouble += figures["mistakes"]
        if figures["messages"] < self.figures["clients"]["replies"]:
            self.trouble.append("there were more replies than messages")

    def end(self) -> None:
        for process in (self.clients, self.server):
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()
        for process in (self.clients, self.server):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                self.trouble.append(f"process {process.pid} had to be killed")
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self.server.returncode:
            self.trouble.append(f"the server ended with status {self.server.returncode}")


def child(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.soak.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(server: subprocess.Popen[str]) -> dict[str, Any]:
    """The server's figures."""
    assert server.stdin is not None
    server.stdin.write("\n")
    server.stdin.flush()
    answer: dict[str, Any] = json.loads(_line(server.stdout))
    return answer


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def start(driver: str, options: argparse.Namespace) -> Pair:
    server = child("server", driver)
    address = _line(server.stdout).strip()

    def clients(seconds: float, count: int) -> subprocess.Popen[str]:
        settings = {"seconds": seconds, "seed": options.seed, "clients": count, "pause": options.pause}
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return child("clients", address, *words)

    # Somebody comes and goes first: what a server opens once, for good, is no leak.
    clients(0.2, 0).communicate(timeout=READY_SECONDS)
    end = time.monotonic() + READY_SECONDS
    while ask(server)["open"] and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    rest = sample(server.pid)
    talking = clients(options.seconds, options.clients)
    _line(talking.stdout)  # they are ready
    return Pair(driver, server, talking, rest)


def soak(options: argparse.Namespace) -> list[Pair]:
    pairs: list[Pair] = []
    try:
        pairs += [start(driver, options) for driver in options.driver or SERVERS]
        end = time.monotonic() + options.seconds
        every = options.every or max(min(options.seconds / 100, 5.0), 0.1)
        while time.monotonic() < end and all(pair.clients.poll() is None for pair in pairs):
            for pair in pairs:
                pair.look()
            time.sleep(min(every, max(end - time.monotonic(), 0.0)))
        for pair in pairs:
            pair.finish(90.0)
    finally:
        for pair in pairs:
            pair.end()
    return pairs


# ------------------------------------------------------------------------------------------------------------- output


def row(pair: Pair) -> dict[str, Any]:
    """What is said of one pair."""
    told: dict[str, Any] = {"driver": pair.driver, "right": not pair.trouble, "trouble": pair.trouble, **pair.figures}
    for name, samples in (("server_process", pair.server_samples), ("client_process", pair.client_samples)):
        if long_enough(samples):
            told[name] = {
                kind: dict(
                    zip(("first", "middle", "last"), thirds([getattr(one, kind) for one in samples]), strict=True)
                )
                for kind in ("memory", "descriptors", "threads")
            }
    return told


def table(rows: list[dict[str, Any]]) -> str:
    """The figures for people."""
    cells = [
        ["driver", "connections", "messages", "MB each way", *FATAL, "memory, MB, by thirds", "descriptors", "right"]
    ]
    for told in rows:
        clients, server, flat = (told.get(name, {}) for name in ("clients", "server", "server_process"))
        talks = clients.get("conversations", {})
        cells.append(
            [
                told["driver"],
                str(server.get("connections", 0)),
                str(clients.get("replies", 0)),
                f"{clients.get('bytes', 0) / 1e6:.0f}",
                *(str(talks.get(fault, 0)) for fault in FATAL),
                " ".join(f"{value / 1e6:.1f}" for value in flat.get("memory", {}).values()) or "too short",
                " ".join(f"{value:.0f}" for value in flat.get("descriptors", {}).values()) or "too short",
                "yes" if told["right"] else "NO",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([*lines, *(f"{told['driver']}: {trouble}" for told in rows for trouble in told["trouble"])])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--driver", choices=tuple(SERVERS), action="append", help="the server's; default: all, at once")
    parser.add_argument("--seed", type=int, default=1, help="the same conversations and faults again (default: 1)")
    parser.add_argument("--clients", type=int, default=20, help="with faults, for each server (default: 20)")
    parser.add_argument(
        "--pause", type=float, default=0.3, help="seconds between two of their conversations (default: 0.3)"
    )
    parser.add_argument("--every", type=float, help="seconds between two samples (default: a hundredth, 5 at the most)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        rows = [row(pair) for pair in soak(options)]
    except KeyboardInterrupt:
        return 130
    told = {
        "seconds": time.monotonic() - began,
        "seed": options.seed,
        "python": platform.python_version(),
        "system": platform.platform(),
        "compiled": framing.compiled,
        "drivers": rows,
    }
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        print(f"{told['seconds']:.0f} s, seed {options.seed}, Python {told['python']}, {told['system']}")
        print(table(rows))
    return 0 if rows and all(one["right"] for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
