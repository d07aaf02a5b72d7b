"""A crowd: many conversations in one process, which keep all that they are told; and the judge of what they were told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from framing.drivers.address import AddressLike
from protocols.chat.client import Changed, Client, Posted, Told, Trouble
from protocols.chat.conversation import Conversation
from protocols.chat.messages import ANNOUNCEMENTS, Event
from tests.protocols.chat.serving import Kept

__all__ = ["Crowd", "Member", "judge", "until"]


async def until(happened: Callable[[], Any], what: str | Callable[[], str], seconds: float = 60.0) -> None:
    """Wait until ``happened()`` is true."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise AssertionError(what if isinstance(what, str) else what())
        await asyncio.sleep(0.01)


class Member:
    """One client, and all that it was told."""

    def __init__(self, name: str, rooms: tuple[str, ...], address: AddressLike, **options: Any) -> None:
        self.name = name
        self.client = Client(name, rooms, **options)
        self.chat = Conversation(address, self.client)
        self.said: list[str] = []
        self.stored: list[str] = []
        self.failed = 0
        self.troubles: list[str] = []
        self.losses = 0
        self.notice: Callable[[], object] = lambda: None
        """Called at once when a post is acknowledged."""
        self.events: dict[str, list[Event]] = {}

    def say(self, text: str, **where: Any) -> None:
        """As `Conversation.say`."""
        self.said.append(text)
        self.chat.say(text, **where)

    def told(self, room: str) -> list[Event]:
        return self.events.get(room, [])

    @property
    def private(self) -> list[Event]:
        """What was said in its rooms of two."""
        return [event for room, events in self.events.items() if room.startswith("@") for event in events]

    async def listen(self) -> None:
        async for output in self.chat.outputs():
            if isinstance(output, Told):
                if isinstance(output.message, Event):
                    self.events.setdefault(output.message.room, []).append(output.message)
            elif isinstance(output, Posted):
                if output.state == "stored":
                    self.stored.append(output.text)
                    self.notice()
                elif output.state == "failed":
                    self.failed += 1
                    self.troubles.append(f"{output.text} failed: {output.why}")
            elif isinstance(output, Trouble):
                self.troubles.append(f"{output.error.code}: {output.error.text}")
            elif isinstance(output, Changed) and output.state == "waiting":
                self.losses += 1
            elif isinstance(output, Changed) and output.state == "ended" and output.reason != "left":
                self.troubles.append(f"ended: {output.reason}")


class Crowd:
    """``members``, in the chat until the end of the block."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = list(members)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for member in self.members:
            await member.chat.__aenter__()
            self._tasks.append(asyncio.create_task(member.listen()))
        return self

    async def __aexit__(self, *exception: object) -> None:
        # All at once: each may wait a while for a server that is gone.
        await asyncio.gather(*(member.chat.__aexit__(None, None, None) for member in self.members))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def stored(self) -> int:
        """How many posts have been acknowledged."""
        return sum(len(member.stored) for member in self.members)

    @property
    def waiting(self) -> int:
        """How many posts have not been answered, whether they are on their way already or not."""
        return sum(len(member.said) - len(member.stored) - member.failed for member in self.members)

    def trouble(self) -> str:
        """What members complain of, in short."""
        troubles = [f"{member.name}: {each}" for member in self.members for each in member.troubles]
        offline = [member.name for member in self.members if not member.client.online]
        return f"{self.stored} stored, {self.waiting} waiting, offline: {offline[:5]}, troubles: {troubles[:5]}"


def as_kept(event: Event) -> Kept:
    return Kept(event.room, event.seq, event.sender, event.kind, event.text, event.id)


def judge(members: Sequence[Member], rooms: dict[str, list[Kept]], room: str) -> list[str]:
    """What is wrong: nothing, where everybody was told just what the file has, and it has once what was acknowledged.

    All ``members`` are in ``room``, and were before anything was said there.
    """
    wrong: list[str] = []
    for name, events in rooms.items():
        if [event.seq for event in events] != list(range(1, len(events) + 1)):
            wrong.append(f"the seqs of {name} have gaps, or repeat")
    posts = Counter(event.text for events in rooms.values() for event in events if event.kind in ("say", "act"))
    for member in members:
        wrong += [f"{member.name}: {trouble}" for trouble in member.troubles]
        lost = [text for text in member.stored if not posts[text]]
        if lost:
            wrong.append(f"{member.name}: {len(lost)} acknowledged posts are lost: {lost[:5]}")
        if (unanswered := len(member.said) - len(member.stored)) or len(set(member.stored)) != len(member.stored):
            wrong.append(f"{member.name}: {unanswered} posts without an answer, or with two")
    if doubled := [text for text, times in posts.items() if times > 1]:
        wrong.append(f"{len(doubled)} posts are stored twice: {doubled[:5]}")
    if strange := sorted(posts.keys() - {text for member in members for text in member.said}):
        wrong.append(f"nobody has said {strange[:5]}")
    for member in members:
        for name, told in member.events.items():
            wrong += _differences(member, name, [as_kept(event) for event in told], rooms.get(name, []))
        spoken = [event.text for event in rooms.get(room, []) if event.sender == member.name and event.kind == "say"]
        if spoken != [text for text in member.said if text in set(spoken)]:
            wrong.append(f"what {member.name} said has changed its order")
    transcripts = {tuple(as_kept(event) for event in member.told(room) if event.kind == "say") for member in members}
    if len(transcripts) != 1:
        wrong.append(f"there are {len(transcripts)} different transcripts of {room}")
    for name in rooms:
        if name.startswith("@") and (count := sum(name in member.events for member in members)) != 2:
            wrong.append(f"{count} members were told of a conversation of two")
    return wrong


def _differences(member: Member, name: str, told: list[Kept], stored: list[Kept]) -> list[str]:
    if name == ANNOUNCEMENTS:
        return []
    first = told[0].seq
    if told != stored[first - 1 :]:
        return [f"{member.name} was told {len(told)} events of {name} from {first} on, and the file has others"]
    if name.startswith("@") and first != 1:
        return [f"{member.name} was not told the beginning of a conversation of two"]
    return []
