"""The chat through a relay that breaks connections: the same transcript wherever it did, and each post stored once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.protocols.chat.crowd import Crowd, Member, judge, until
from tests.protocols.chat.cuts import cut_everywhere
from tests.protocols.chat.forgetful import Forgetful
from tests.protocols.chat.serving import DRIVERS, Serving, kept


def test_wherever_the_connection_is_cut_the_transcript_is_the_same(tmp_path):
    with Serving(tmp_path / "chat.db") as server:
        figures = asyncio.run(cut_everywhere(server.address, step=13, faults=("reset", "end"), again=40))
        assert not figures.wrong, "\n".join(figures.wrong)
        assert figures.reconnected > 300
        assert figures.up > 300
        assert figures.down > 1000
        assert server.stop() == 0
        assert not server.said


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_post_whose_acknowledgement_is_lost_is_stored_once(tmp_path, driver):
    """Each one is, once: so each post is sent twice. Who has joined learns it from the next welcome."""
    with Serving(tmp_path / "chat.db", driver=driver) as server:
        posts, lost, passed, wrong = asyncio.run(_talk_through_a_forgetful_relay(server))
        assert not wrong, "\n".join(wrong)
        assert len(passed) == passed.total() == posts
        assert passed <= lost
        assert len(lost) == lost.total() == posts + PEOPLE
        assert server.stop() == 0


PEOPLE = 10


async def _talk_through_a_forgetful_relay(server):
    async with Forgetful(server.address) as relay:
        crowd = Crowd(Member(f"p{number}", ("lobby",), relay.address, chance=lambda: 0.0) for number in range(PEOPLE))
        async with crowd:
            members = crowd.members
            await until(lambda: all(len(each.client.members("lobby")) == PEOPLE for each in members), crowd.trouble)
            for number, member in enumerate(members):
                for count in range(3):
                    member.say(f"{number} says {count}", room="lobby")
                member.say(f"{number} whispers", to=members[number - 1].name)
            await until(lambda: not crowd.waiting, crowd.trouble)
            await until(lambda: all(each.client.online for each in members), crowd.trouble)
            rooms = kept(server.database)
            await until(
                lambda: all(each.client.cursor(room) == len(rooms[room]) for each in members for room in each.events),
                crowd.trouble,
            )
            wrong = judge(members, rooms, "lobby")
    return sum(len(each.said) for each in members), Counter(relay.lost), Counter(relay.passed), wrong
