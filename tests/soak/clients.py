"""The clients of a soak, in a process of their own: every client driver, straight and through a relay with faults.

    python -m tests.soak.clients tcp://127.0.0.1:9000 --seconds 60 --seed 1 --clients 20

Each client holds one conversation after the other: it sends numbered payloads, some at a time, and judges every byte that
comes back. Without a fatal fault all of them must come, in order, and then a clean end. With one, what came must be the
beginning of what was sent, and the end be told as what it was. It says when it is ready, and at the end its figures, as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any

from framing import ConnectionClosed, ConnectionReset, FramingError, TruncatedFrame
from framing.drivers.address import AddressLike
from tests.drivers.every.registry import CLIENTS, Client, Connect
from tests.faults.relay import Crawl, Pass, Pause, Plan, Relay, Steps, half_close, hold, reset
from tests.soak.payloads import HEAD, WIRE, make, misplaced

__all__ = ["Conversation", "Figures", "converse", "run", "script"]

PATIENCE = 60.0
"""Seconds in which a reply must come, where nothing holds it up for ever."""

SHORT_PATIENCE = 1.0
"""… and where something does."""

HELD_SECONDS = 30.0
"""How long the relay holds a connection for ever: longer than both sides wait."""

WINDOW = 48 << 10
"""Bytes under way at one time, but for a larger payload: so nobody waits for somebody who waits."""

MISTAKES_KEPT = 10

FATAL = ("reset", "half-close", "hold")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is said on one connection, and what happens to it. ``sizes``: of the payloads' fillings."""

    key: int
    sizes: tuple[int, ...]
    fault: str
    plan: Plan
    way: str = ""


@dataclass
class Figures:
    """What came out, of all the clients together."""

    conversations: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    replies: int = 0
    bytes: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    mistakes: list[str] = field(default_factory=list)
    mistaken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, mistake: str) -> None:
        with self.lock:
            self.mistaken += 1
            if len(self.mistakes) < MISTAKES_KEPT:
                self.mistakes.append(mistake)


# ----------------------------------------------------------------------------------------------- what is to happen


def script(seed: int, client: int, number: int) -> Conversation:
    """The ``number``th conversation of a client: the same for the same seed."""
    chance = Random(f"{seed} {client} {number}")
    sizes = tuple(_size(chance) for _ in range(chance.choice((1, 3, 10, 30, 100))))
    stream = sum(4 + HEAD.size + size for size in sizes)
    key = chance.getrandbits(64)
    fault = chance.choices(("none", "harmless", *FATAL), (40, 30, 12, 12, 2))[0]
    if fault == "none":
        return Conversation(key, sizes, fault, Plan())
    if fault == "harmless":
        return Conversation(key, sizes, fault, Plan(_harmless(chance, stream), _harmless(chance, stream)))
    way = chance.choice(("up", "down"))
    after = chance.choice((chance.randrange(40), chance.randrange(stream + 1)))
    after = min(after, stream)
    fatal = {
        "reset": reset(after=after),
        "half-close": half_close(after=after),
        "hold": hold(after=after, seconds=HELD_SECONDS),
    }[fault]
    return Conversation(key, sizes, fault, Plan(up=fatal) if way == "up" else Plan(down=fatal), way)


def _size(chance: Random) -> int:
    return chance.choices(
        (chance.randrange(64), chance.randrange(2048), chance.randrange(1 << 14), chance.randrange(1 << 17)),
        (60, 30, 9, 1),
    )[0]


def _harmless(chance: Random, stream: int) -> Steps:
    """Some seconds' worth of trouble at the most."""
    steps: list[Any] = []
    for _ in range(chance.randrange(1, 6)):
        steps.append(Pass(chance.randrange(1, min(stream, 5000) + 1), patience=0.02))
        steps.append(
            chance.choice(
                (
                    Pause(chance.random() * 0.2),
                    Pause(0.001),
                    Crawl(1, 0.0, chance.randrange(500)),
                    Crawl(chance.randrange(1, 20), 0.001, chance.randrange(300)),
                )
            )
        )
    return tuple(steps)


# -------------------------------------------------------------------------------------------------- what happens


def converse(
    connect: Connect, address: AddressLike, talk: Conversation, figures: Figures, *, ends_itself: bool
) -> None:
    """Hold one conversation and judge it."""
    talking = _Talking(talk, figures)
    end: Exception | None = None
    try:
        client = connect(address, WIRE)
    except FramingError as error:
        talking.judge(error, ends_itself=ends_itself)
        return
    try:
        talking.exchange(client)
        if not ends_itself:
            client.close_sending()
            client.receive(timeout=talking.patience)
            figures.note(f"{talk.fault} {talk.way}: there was a reply too many")
    except (FramingError, TimeoutError) as error:
        end = error
    finally:
        client.close()
    talking.judge(end, ends_itself=ends_itself)


class _Talking:
    """A conversation under way."""

    def __init__(self, talk: Conversation, figures: Figures) -> None:
        self.talk = talk
        self.figures = figures
        self.replies = 0
        self.patience = SHORT_PATIENCE if talk.fault == "hold" else PATIENCE

    def exchange(self, client: Client) -> None:
        """Send all, some at a time, and judge each reply; raises what the connection raises."""
        sizes, figures = self.talk.sizes, self.figures
        sent = under_way = 0
        broken = False
        while self.replies < len(sizes):
            while sent < len(sizes) and not broken and (not under_way or under_way + sizes[sent] <= WINDOW):
                try:
                    client.send(make(self.talk.key, sent, sizes[sent]))
                except FramingError:
                    broken = True  # receive() tells why, behind what had come before
                else:
                    under_way += sizes[sent] + HEAD.size
                    sent += 1
                    with figures.lock:
                        figures.sent += 1
            payload = client.receive(timeout=self.patience)
            mistake = misplaced(payload, self.replies, self.talk.key)
            if mistake is not None:
                figures.note(f"{self.talk.fault} {self.talk.way}: a reply: {mistake}")
            under_way -= sizes[self.replies] + HEAD.size
            self.replies += 1
            with figures.lock:
                figures.replies += 1
                figures.bytes += len(payload)

    def judge(self, end: Exception | None, *, ends_itself: bool) -> None:
        """Hold what the client was told against what happened."""
        fault, way = self.talk.fault, self.talk.way
        came = f"{self.replies} of {len(self.talk.sizes)} replies"
        complete = self.replies == len(self.talk.sizes)
        if fault not in FATAL and not complete:
            self.figures.note(f"{fault}: {came} came, and then {end!r}")
        elif end is None:
            if not (ends_itself and complete):
                self.figures.note(f"{fault} {way}: no end was told, behind {came}")
        elif not isinstance(end, ALLOWED[fault]):
            self.figures.note(f"{fault} {way}: behind {came} came {end!r}")
        with self.figures.lock:
            self.figures.conversations[fault] += 1
            self.figures.ends["its own" if end is None else type(end).__name__] += 1


ALLOWED: dict[str, tuple[type[Exception], ...]] = {
    "none": (ConnectionClosed,),
    "harmless": (ConnectionClosed,),
    "reset": (ConnectionReset,),
    "half-close": (ConnectionClosed, TruncatedFrame),
    "hold": (TimeoutError,),
}
"""What a client may be told of each."""


# -------------------------------------------------------------------------------------------------------- all of it


class _Steady(threading.Thread):
    """One connection for all of the time, without faults: in the midst of the others it must not notice them."""

    def __init__(
        self, connect: Connect, address: AddressLike, key: int, over: threading.Event, figures: Figures
    ) -> None:
        super().__init__(name="steady client")
        self._connect = connect
        self._address = address
        self._key = key
        self._over = over
        self._figures = figures

    def run(self) -> None:
        chance = Random(self._key)
        number = 0
        try:
            client = self._connect(self._address, WIRE)
            try:
                while not self._over.wait(0.05):
                    batch = [chance.randrange(2000) for _ in range(chance.randrange(1, 20))]
                    client.send_many(make(self._key, number + place, size) for place, size in enumerate(batch))
                    for _ in batch:
                        payload = client.receive(timeout=PATIENCE)
                        mistake = misplaced(payload, number, self._key)
                        if mistake is not None:
                            self._figures.note(f"steady: a reply: {mistake}")
                        number += 1
                        with self._figures.lock:
                            self._figures.sent += 1
                            self._figures.replies += 1
                            self._figures.bytes += len(payload)
            finally:
                client.close()
        except (FramingError, TimeoutError) as error:
            self._figures.note(f"steady: behind {number} replies came {error!r}")
        with self._figures.lock:
            self._figures.conversations["steady"] += 1


class _Restless(threading.Thread):
    """One conversation after the other, through the relay."""

    def __init__(
        self,
        name: str,
        connect: Connect,
        relay: Relay,
        options: Options,
        index: int,
        over: threading.Event,
        figures: Figures,
    ) -> None:
        super().__init__(name=f"client {index}, {name}")
        self._ends_itself = CLIENTS[name].is_a_service
        self._connect = connect
        self._options = options
        self._index = index
        self._over = over
        self._figures = figures
        self._door = relay.listen(lambda number: script(options.seed, index, number).plan, keep=1)

    def run(self) -> None:
        chance = Random(self._index)
        number = 0
        while not self._over.wait(chance.random() * 2 * self._options.pause):
            talk = script(self._options.seed, self._index, number)
            try:
                converse(self._connect, self._door.address, talk, self._figures, ends_itself=self._ends_itself)
            except Exception as error:
                self._figures.note(f"{self.name}: {error!r}")
                return
            number += 1


@dataclass(frozen=True, slots=True)
class Options:
    """How much of everything."""

    seconds: float
    seed: int = 0
    clients: int = 20
    pause: float = 0.3


def run(
    address: AddressLike,
    options: Options,
    over: threading.Event | None = None,
    ready: Callable[[], object] = lambda: None,
) -> Figures:
    """Talk to the server at ``address`` for so long; returns when the last conversation has ended.

    ``ready`` is called when all have begun; setting ``over`` ends it early.
    """
    figures = Figures()
    over = over or threading.Event()
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(address))
        connects = {name: stack.enter_context(driver.start()) for name, driver in CLIENTS.items()}
        threads: list[threading.Thread] = [
            _Steady(connect, address, options.seed * 1000 + index, over, figures)
            for index, connect in enumerate(connects.values())
        ]
        names = list(connects)
        for index in range(options.clients):
            name = names[index % len(names)]
            threads.append(_Restless(name, connects[name], relay, options, index, over, figures))
        for thread in threads:
            thread.start()
        ready()
        over.wait(options.seconds)
        over.set()
        for thread in threads:
            thread.join()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.clients")
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--pause", type=float, required=True)
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this gets Ctrl-C too, and closes the input
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()  # until whoever started this has had enough, or is gone
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    began = time.monotonic()
    options = Options(given.seconds, given.seed, given.clients, given.pause)
    figures = run(given.address, options, over, lambda: print("ready", flush=True))
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - began,
                "conversations": dict(figures.conversations),
                "sent": figures.sent,
                "replies": figures.replies,
                "bytes": figures.bytes,
                "ends": dict(figures.ends),
                "mistaken": figures.mistaken,
                "mistakes": figures.mistakes,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
