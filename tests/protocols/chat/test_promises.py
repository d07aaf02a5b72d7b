"""The promises of the chat, held by a state machine: many clients, cut and lost connections, restarts, slow readers."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocols.chat import client as person
from protocols.chat import hub as server
from tests.protocols.chat.world import Person, World

PEOPLE = 4
who = st.integers(0, PEOPLE - 1)
room = st.sampled_from(["lobby", "Attic", "cellar"])


class Chat(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(PEOPLE)
        for each in self.world.people:
            self.world.tell(each, person.Wake())

    def person(self, number: int) -> Person:
        return self.world.people[number]

    @rule(number=who)
    def connect(self, number: int) -> None:
        self.world.connect(self.person(number))

    @rule(number=who)
    def refuse(self, number: int) -> None:
        self.world.refuse(self.person(number))

    @rule(number=who, private=st.booleans(), to=who)
    def say(self, number: int, private: bool, to: int) -> None:
        if private:
            self.world.say(self.person(number), None, f"p{to}")
        else:
            self.world.say(self.person(number))

    @rule(number=who, count=st.integers(1, 9))
    def deliver_to_hub(self, number: int, count: int) -> None:
        link = self.person(number).link
        for _ in range(count):
            if link is not None:
                self.world.to_hub(link)

    @rule(number=who, count=st.integers(1, 20))
    def deliver_to_client(self, number: int, count: int) -> None:
        for _ in range(count):
            self.world.to_client(self.person(number))

    @rule()
    def deliver_the_orphans(self) -> None:
        """What was sent over connections that their clients have left."""
        for link in list(self.world.open.values()):
            if self.world.owner(link) is None:
                self.world.to_hub(link)

    @rule(number=who, to_hub=st.integers(0, 3), to_client=st.integers(0, 3))
    def cut(self, number: int, to_hub: int, to_client: int) -> None:
        self.world.cut(self.person(number), to_hub, to_client)

    @rule(before_commit=st.booleans())
    def crash(self, before_commit: bool) -> None:
        self.world.crash(before_commit=before_commit)

    @rule(slip=st.sampled_from([0.0, -3.0, -10.0]), wall=st.sampled_from([-40_000, 0, 40_000]))
    def jump(self, slip: float, wall: int) -> None:
        """The hub's clock goes back or catches up, that on the wall is set."""
        self.world.slip, self.world.wall = slip, wall

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0, 25.0, 45.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(number=who)
    def block(self, number: int) -> None:
        self.world.block(self.person(number))

    @rule(number=who)
    def drain(self, number: int) -> None:
        self.world.drain(self.person(number))

    @rule(number=who, name=st.sampled_from(["ann", "Ben", "p0", "q"]))
    def rename(self, number: int, name: str) -> None:
        self.person(number).renamed = True
        self.world.tell(self.person(number), person.Ask("rename", name))

    @rule(number=who, moves=st.lists(st.tuples(st.sampled_from(["join", "leave"]), room), min_size=1, max_size=4))
    def move(self, number: int, moves: list[tuple[Any, str]]) -> None:
        for what, where in moves:  # more than may be made at once
            self.world.tell(self.person(number), person.Ask(what, where))

    @rule(number=who, which=st.integers(0, PEOPLE))
    def leave_a_room_of_two(self, number: int, which: int) -> None:
        leave_private(self.world, self.person(number), which)

    @rule()
    def announce(self) -> None:
        self.world.tell_hub(server.Announced("tea is ready"))

    @precondition(lambda self: self.world.log.rooms())
    @rule()
    def settle(self) -> None:
        self.world.settle()
        self.world.check_settled()

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.settle()
        self.world.check_settled()


TestPromises = Chat.TestCase
TestPromises.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)


def leave_private(world: World, each: Person, which: int) -> None:
    """One of the rooms of two that ``each`` is in, where there is one."""
    rooms = [room for room in each.client.rooms if room.startswith("@")]
    if rooms:
        world.tell(each, person.Ask("leave", rooms[which % len(rooms)]))


@pytest.mark.parametrize("seed", range(3))
def test_promises_hold_over_a_long_life(seed: int) -> None:
    """Thousands of steps of one world, which the short lives above do not reach."""
    live(random.Random(seed), steps=1500)


def live(chance: random.Random, *, steps: int) -> World:
    world = World(6)
    for each in world.people:
        world.tell(each, person.Wake())
    for step in range(steps):
        each = chance.choice(world.people)
        roll = chance.random()
        if roll < 0.12:
            world.say(each)
        elif roll < 0.15:
            world.say(each, None, f"p{chance.randrange(6)}")
        elif roll < 0.45:
            if each.link is not None:
                world.to_hub(each.link)
            else:
                world.connect(each)
        elif roll < 0.85:
            for _ in range(chance.randrange(8)):
                world.to_client(each)
        elif roll < 0.88:
            world.cut(each, chance.randrange(3), chance.randrange(3))
        elif roll < 0.885:
            world.crash(before_commit=chance.random() < 0.5)
        elif roll < 0.89:
            world.pass_time(40)
        elif roll < 0.95:
            world.pass_time(chance.choice([0.1, 0.6]))
        elif roll < 0.96:
            world.block(each)
        elif roll < 0.98:
            world.drain(each)
        elif roll < 0.985:
            leave_private(world, each, chance.randrange(6))
        elif roll < 0.993:
            for _ in range(chance.randrange(1, 5)):  # more than may be made at once
                what = chance.choice(["join", "leave"])
                world.tell(each, person.Ask(what, chance.choice(["attic", "cellar", "loft", "lobby"])))
        else:
            for link in list(world.open.values()):
                if world.owner(link) is None:
                    world.to_hub(link)
        if step % 100 == 0:
            world.check()
    world.settle()
    world.check_settled()
    return world
