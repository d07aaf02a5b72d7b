"""Kills: a hundred clients post, the server is killed with SIGKILL, and started again on its file and port.

    figures = asyncio.run(survive(directory, seed=1))
    assert not figures.wrong, figures

When a post was acknowledged it is in the file, also where the server died the moment after; clients come back by
themselves, and say again what was not acknowledged. When all is said there is one more post, which nothing follows that
could bring it to the disk: as soon as it is acknowledged the server is killed once more. At the end the file has each post
once, and everybody has been told just what the file has.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.protocols.chat.crowd import Crowd, Member, judge, until
from tests.protocols.chat.serving import Serving, kept

__all__ = ["Figures", "survive"]

ROOM = "lobby"
LAST_WORDS = "last words"


@dataclass(slots=True)
class Figures:
    """What one run came to. ``waiting``: posts that had not been acknowledged when the server was killed, in all kills."""

    seed: int
    driver: str
    posts: int = 0
    kills: list[int] = field(default_factory=list[int])
    """How many posts had been acknowledged at each."""
    lost: int = 0
    """Connections that were lost, and made again."""
    waiting: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list[str])


async def survive(
    place: Path, *, seed: int, driver: str = "selector", clients: int = 100, posts: int = 5, kills: int = 1
) -> Figures:
    """Each of ``clients`` says ``posts`` texts, most of them to all; the server is killed ``kills`` times, and at the end.

    When it is killed is told by how many posts have been acknowledged, as ``seed`` says.
    """
    chance = Random(seed)
    figures = Figures(seed, driver, posts=clients * posts + 1)
    began = time.monotonic()
    marks = sorted(chance.sample(range(figures.posts // 10, figures.posts * 8 // 10), kills))
    with Serving(place / "chat.db", driver=driver) as server:
        crowd = Crowd(Member(f"p{number:03}", (ROOM,), server.address) for number in range(clients))
        async with crowd:
            members = crowd.members
            await until(lambda: all(len(each.client.members(ROOM)) == clients for each in members), crowd.trouble)
            private = 0
            for number, member in enumerate(members):
                for count in range(posts):
                    if chance.random() < 0.2:
                        member.say(
                            f"{number} whispers {count}",
                            to=chance.choice(members[:number] + members[number + 1 :]).name,
                        )
                        private += 1
                    else:
                        member.say(f"{number} says {count}", room=ROOM)
            spoken = figures.posts - private - 1
            for number, mark in enumerate(marks):
                await _kill_at(mark, server, crowd, figures, delay=chance.random() * 0.02 if number % 2 == 0 else None)
                if figures.wrong:
                    return figures
                await asyncio.sleep(chance.random() * 0.3)
                server.start()
            try:
                await until(lambda: not crowd.waiting, crowd.trouble)
                await until(lambda: all(_said(each) >= spoken for each in members), crowd.trouble)
                await until(lambda: sum(len(each.private) for each in members) >= 2 * private, crowd.trouble)
                members[0].say(LAST_WORDS, room=ROOM)
                await _kill_at(figures.posts, server, crowd, figures)
                server.start()
                await until(lambda: all(each.client.online for each in members), crowd.trouble)
                await until(lambda: all(_said(each) > spoken for each in members), crowd.trouble)
            except AssertionError as error:
                figures.wrong.append(f"it does not come to rest: {error}")
            status = server.stop()
            figures.lost = sum(each.losses for each in members)
            figures.wrong += judge(members, kept(server.database), ROOM)
        if status or server.said:
            figures.wrong.append(f"the server ended with status {status} and said: {server.said[-500:]}")
    if figures.lost < clients or not figures.waiting:
        figures.wrong.append("nobody was waiting for anything: the server was not killed in the middle")
    figures.seconds = time.monotonic() - began
    return figures


def _said(member: Member) -> int:
    """How much it was told that was said to all."""
    return sum(event.kind == "say" for event in member.told(ROOM))


async def _kill_at(mark: int, server: Serving, crowd: Crowd, figures: Figures, *, delay: float | None = None) -> None:
    """Kill the server when so many posts have been acknowledged, and look at what it leaves.

    In that moment, which is the one for an acknowledgement that comes too early; or with a ``delay``, which finds more posts
    that are stored, and not acknowledged.
    """
    reached = False

    def notice() -> None:
        nonlocal reached
        if not reached and crowd.stored >= mark:
            reached = True
            if delay is None:
                server.kill()

    for member in crowd.members:
        member.notice = notice
    await until(lambda: reached, crowd.trouble)
    if delay is not None:
        await asyncio.sleep(delay)
        server.kill()
    figures.kills.append(crowd.stored)
    await until(lambda: not any(each.client.online for each in crowd.members), crowd.trouble)
    figures.wrong += _missing(server, crowd.members)
    figures.waiting += crowd.waiting


def _missing(server: Serving, members: list[Member]) -> list[str]:
    """Acknowledged posts that the file of a server just killed has not."""
    there = {event.text for events in kept(server.database).values() for event in events}
    missing = [text for member in members for text in member.stored if text not in there]
    return [f"{len(missing)} posts were acknowledged before they were stored: {missing[:5]}"] if missing else []
