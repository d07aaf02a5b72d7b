"""A network of one's own to break: what runs in a namespace that ``unshare -rn`` makes, where nobody else is harmed.

    python -m tests.faults.namespace loss 10         # each tenth packet is lost
    python -m tests.faults.namespace vanish drop     # all packets are, from some moment on
    python -m tests.faults.namespace vanish link     # the interface goes down
    python -m tests.faults.namespace outage          # all packets are lost, for a moment
    python -m tests.faults.namespace scope           # an address that means something on one interface alone

Each runs every server driver with every client driver over the namespace's loopback, and ends with status 0 where all that
must hold did. Status `UNABLE` means that this machine has no means to do it; the output says which commands failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from framing import FramingError, Heartbeat, LengthPrefixed, Timeout, Wire
from tests.drivers.every.registry import CLIENTS, SERVERS, Client
from tests.drivers.every.services import Echo, until

UNABLE = 77

WIRE = Wire(LengthPrefixed(4, max_frame=1 << 20))

PATIENCE = 90.0
"""Seconds for a reply: a segment that is lost five times in a row is sent again after six seconds, and more."""


class UnableError(Exception):
    """This machine has not what it takes."""


def tell(*commands: str) -> None:
    """Run the first of ``commands`` that works; each may be several, with ``&&`` between them."""
    failed = []
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    for command in commands:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
        if done.returncode == 0:
            return
        failed.append(f"{command}: {(done.stderr or done.stdout).strip()}")
    raise UnableError("\n".join(failed))


def prepare() -> None:
    # Segments as small as on a real network: on loopback one would carry a whole conversation.
    tell("ip link set lo up && ip link set lo mtu 1500")


NFT = "nft add table inet faults && nft 'add chain inet faults input { type filter hook input priority 0; }' && nft "


def lose(percent: int) -> None:
    """Lose so many packets in a hundred, at random."""
    tell(
        f"tc qdisc add dev lo root netem loss {percent}%",
        f"{NFT} add rule inet faults input numgen random mod 100 '<' {percent} drop",
        f"iptables -A INPUT -m statistic --mode random --probability {percent / 100} -j DROP",
    )


def cut(way: str) -> None:
    """Let no packet through any more."""
    if way == "link":
        tell("ip link set lo down")
    else:
        tell(f"{NFT} add rule inet faults input drop", "iptables -A INPUT -j DROP")


def mend() -> None:
    tell("nft delete table inet faults", "iptables -F INPUT")


def sent_again() -> int:
    """How many segments the system has sent again in this namespace."""
    names, values = [
        line.split()[1:] for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    ]
    return int(dict(zip(names, values, strict=True))["RetransSegs"])


# ------------------------------------------------------------------------------------------------- what is tried


class Meeting:
    """A client of every driver at a server of every driver, all connected."""

    def __init__(self, stack: ExitStack, url: str = "tcp://127.0.0.1:0", **options: Any) -> None:
        self.clients: dict[str, Client] = {}
        self.services: dict[str, Echo] = {}
        for server_name, driver in SERVERS.items():
            self.services[server_name] = service = Echo()
            server = stack.enter_context(driver(url, WIRE, service, **options))
            for client_name, client_driver in CLIENTS.items():
                connect = stack.enter_context(client_driver.start())
                client = connect(server.address, WIRE, **options)
                stack.callback(client.close)
                self.clients[f"{client_name} at {server_name}"] = client

    def each(self, do: Callable[[str, Client], None]) -> None:
        """Do it with all of them, at the same time."""
        with ThreadPoolExecutor(len(self.clients)) as pool:
            list(pool.map(do, self.clients, self.clients.values()))


def talk(name: str, client: Client, count: int = 40) -> None:
    """All replies come, each once and in order."""
    chance = Random(name)
    messages = [chance.randbytes(chance.randrange(2000)) for _ in range(count)]
    sender = threading.Thread(target=lambda: [client.send(message) for message in messages])
    sender.start()
    for place, message in enumerate(messages):
        assert client.receive(timeout=PATIENCE) == message, f"{name}: reply {place} is another"
    sender.join()
    try:
        extra = client.receive(timeout=0.05)
    except TimeoutError:
        return
    raise AssertionError(f"{name}: one more came: {extra!r}")


def loss(percent: str) -> None:
    prepare()
    with ExitStack() as stack:
        meeting = Meeting(stack)
        lose(int(percent))
        # The more is lost, the longer it takes.
        meeting.each(lambda name, client: talk(name, client, 400 // int(percent)))
        assert sent_again() > 10, "hardly anything was lost"
        for name, service in meeting.services.items():
            assert not service.ends, f"{name}: {service.ends}"
        print(f"{sent_again()} segments were sent again")


BEAT: Heartbeat[bytes] = Heartbeat(b"ping", interval=0.5, timeout=2.0)
SLACK = 5.0
"""A machine with other things to do is slow; never may it be early."""


def vanish(way: str) -> None:
    prepare()
    with ExitStack() as stack:
        meeting = Meeting(stack, heartbeat=BEAT)
        meeting.each(lambda name, client: talk(name, client, 2))
        cut(way)
        begun = time.monotonic()

        def find_out(name: str, client: Client) -> None:
            try:
                client.receive(timeout=BEAT.silence + SLACK)
            except FramingError as error:
                assert isinstance(error, Timeout), f"{name} was told {error!r}"
                assert "nothing was heard" in str(error), f"{name} was told {error!r}"
            took = time.monotonic() - begun
            # What it heard last may be as old as an interval, and a little older where the machine is slow.
            assert BEAT.silence / 2 < took, f"{name} knew after {took:.2f} s already"
            assert took < BEAT.silence + SLACK, f"{name} knew after {took:.2f} s only"

        meeting.each(find_out)
        for name, service in meeting.services.items():
            until(lambda service=service: len(service.ends) == len(CLIENTS), f"{name} has not found out", SLACK)
            assert all(isinstance(end, Timeout) for end in service.ends), f"{name} was told {service.ends}"
        print(f"all had found out after {time.monotonic() - begun:.2f} s")


def outage() -> None:
    prepare()
    with ExitStack() as stack:
        meeting = Meeting(stack, heartbeat=Heartbeat(b"ping", interval=1.0, timeout=30.0))
        meeting.each(lambda name, client: talk(name, client, 2))
        again = sent_again()
        cut("drop")
        mending = threading.Timer(0.7, mend)
        mending.start()
        meeting.each(talk)
        mending.join()
        assert sent_again() > again, "nothing was lost"
        for name, service in meeting.services.items():
            assert not service.ends, f"{name}: {service.ends}"


def scope() -> None:
    prepare()
    tell("ip -6 addr add fe80::1/64 dev lo nodad")
    with ExitStack() as stack:
        meeting = Meeting(stack, "tcp://[fe80::1%lo]:0")
        meeting.each(lambda name, client: talk(name, client, 2))
        for name, service in meeting.services.items():
            assert not service.ends, f"{name}: {service.ends}"


def main() -> int:
    what, *arguments = sys.argv[1:]
    tries: dict[str, Callable[..., None]] = {"loss": loss, "vanish": vanish, "outage": outage, "scope": scope}
    try:
        tries[what](*arguments)
    except UnableError as error:
        print(error)
        return UNABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
