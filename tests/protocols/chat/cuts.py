"""Cuts: one conversation, again and again, with its connection cut behind another byte each time.

    figures = asyncio.run(cut_everywhere(server.address, step=1))
    assert not figures.wrong, figures

*a* talks through a relay, *b* straight to the server: they join, speak, act and whisper, each behind what the other said, so
that there is one right order of it all. The relay breaks *a*'s first connection behind so many bytes, up or down, and leaves
those that follow alone; or it breaks the first few, behind bytes that a seed tells. Whatever was under way then, both have
the same transcript in the end as when nothing is cut.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from random import Random

from framing.drivers.address import AddressLike
from tests.faults.relay import Passage, Plan, Relay, half_close, reset
from tests.protocols.chat.crowd import Crowd, Member, until

__all__ = ["Figures", "cut_everywhere"]

AT_ONCE = 32
"""Conversations at one time: each waits a quarter of a second before it connects anew."""

MISTAKES_KEPT = 10

FAULTS = {"reset": reset, "end": half_close}

Transcript = list[tuple[str, int, str, str, str]]


@dataclass(slots=True)
class Figures:
    """What all conversations came to. ``up`` and ``down``: bytes of one that is not cut."""

    up: int = 0
    down: int = 0
    conversations: int = 0
    reconnected: int = 0
    """… of which so many had to connect anew."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list[str])


class _Seat:
    """One door of the relay, where one conversation is held after the other."""

    def __init__(self, relay: Relay) -> None:
        self.plans: deque[Plan] = deque()
        """What happens to the next connections; those behind them are left alone."""
        self.door = relay.listen(lambda _: self.plans.popleft() if self.plans else Plan())

    @property
    def last(self) -> Passage:
        return self.door.passages[-1]


async def cut_everywhere(
    address: AddressLike,
    *,
    step: int = 1,
    faults: tuple[str, ...] = ("reset",),
    again: int = 0,
    seed: int = 1,
) -> Figures:
    """Hold a conversation for each ``step``-th byte, in both directions, for each of ``faults``: "reset" and "end".

    And ``again`` ones more, each with three connections that break at any place, as ``seed`` tells.
    """
    chance = Random(seed)
    figures = Figures()
    began = time.monotonic()
    numbers = count()
    with Relay(address) as relay:
        first = _Seat(relay)
        right = await _converse(address, first, next(numbers), figures)
        figures.up, figures.down = first.last.up, first.last.down
        lengths = {"up": figures.up, "down": figures.down}
        cuts = deque(
            [(fault, way, offset)]
            for fault in faults
            for way, length in lengths.items()
            for offset in range(0, length + 1, step)
        )
        cuts += [
            [(chance.choice(faults), way, chance.randint(0, lengths[way])) for way in chance.choices([*lengths], k=3)]
            for _ in range(again)
        ]

        async def sit() -> None:
            seat = _Seat(relay)
            while cuts:
                name = cuts.popleft()
                # What the last one has left over, for it was done before, goes with it.
                seat.plans = deque(Plan(**{way: FAULTS[fault](after=offset)}) for fault, way, offset in name)
                try:
                    told = await _converse(address, seat, next(numbers), figures)
                except AssertionError as error:
                    figures.wrong.append(f"{name}: {error}")
                else:
                    if told != right:
                        figures.wrong.append(f"{name}: {told}, where {right} is right")
                if len(figures.wrong) >= MISTAKES_KEPT:
                    return

        await asyncio.gather(*(sit() for _ in range(AT_ONCE)))
    figures.seconds = time.monotonic() - began
    return figures


async def _converse(address: AddressLike, seat: _Seat, number: int, figures: Figures) -> tuple[Transcript, Transcript]:
    """What *a* and *b* were told, of all that is said between them."""
    room = f"r{number:05}"
    a = Member(f"a{number:05}", (room,), seat.door.address, chance=lambda: 0.0)
    b = Member(f"b{number:05}", (room,), address)

    async def heard(who: Member, text: str) -> None:
        await until(
            lambda: any(event.text == text for events in who.events.values() for event in events),
            lambda: f"{who.name} never heard {text!r}; {', '.join([*a.troubles, *b.troubles])}",
            20.0,
        )

    async with Crowd([b]):
        await until(lambda: b.told(room), "nobody has joined")
        async with Crowd([a]):
            await until(lambda: len(b.client.members(room)) == 2, lambda: f"a has not joined: {a.troubles}", 20.0)
            a.say("one", room=room)
            a.say("two", room=room)
            await heard(b, "two")
            b.say("three", room=room)
            await heard(a, "three")
            a.say("psst", to=b.name)
            await heard(b, "psst")
            b.say("what?", to=a.name)
            await heard(a, "what?")
            a.say("waves", room=room, kind="act")
            await heard(b, "waves")
            b.say("end", room=room)
            await heard(a, "end")
            await heard(b, "end")
            await until(lambda: not a.client.pending and a.client.online, "a post was not acknowledged", 20.0)
            told = _transcript(a, a, b), _transcript(b, a, b)
    assert not a.troubles, a.troubles
    assert not b.troubles, b.troubles
    figures.conversations += 1
    figures.reconnected += bool(a.losses)
    return told


def _transcript(who: Member, a: Member, b: Member) -> Transcript:
    """What ``who`` was told, in an order and in words that are the same for each conversation."""
    names = {a.name: "a", b.name: "b"}
    return [
        ("two" if room.startswith("@") else "room", event.seq, names[event.sender], event.kind, event.text)
        for room, events in sorted(who.events.items())
        for event in events
    ]
