"""The first hello: whoever loses its answer is the same person when they come again, and waits for none for ever."""

from __future__ import annotations

import pytest

from protocols.chat import client as person
from protocols.chat.client import Client
from protocols.chat.hub import Opened, Options, Verified
from tests.protocols.chat.table import Table
from tests.protocols.chat.world import World

OWN = "a token of its own"


def hello(name="ann", token=OWN, **others):
    return {"type": "hello", "version": 1, "name": name, "resume": {"token": token}, **others}


def test_whoever_loses_the_welcome_has_their_name_and_session_when_they_come_again():
    world = World(2)
    ann = world.people[0]
    world.tell(ann, person.Wake())
    world.connect(ann)
    assert ann.link is not None
    world.to_hub(ann.link)
    assert ann.link.to_client[0]["type"] == "welcome"
    world.cut(ann, to_hub=0, to_client=0)
    world.tell(world.people[1], person.Wake())
    world.settle()
    assert ann.client.online
    assert ann.client.name == "p0"
    assert world.hub.held["sessions"] == 2
    world.check_settled()


def test_the_own_token_is_good_until_the_one_of_the_welcome_is_used():
    table = Table()
    table.give(Opened("one"), Opened("two"), Opened("three"), Opened("four"))
    first = table.send("one", hello())[0]
    again = table.send("two", hello())[0]
    assert again["session"] == first["session"]
    assert again["resumed"]
    assert table.last("one")["code"] == "replaced"
    third = table.send("three", hello(token=again["token"]))[0]
    assert third["session"] == first["session"]
    assert table.send("four", hello())[0]["code"] == "name-taken"


def test_a_hello_that_was_overtaken_by_a_later_one_changes_nothing():
    """It comes over a connection that its client has left: neither the later connection nor its token may suffer."""
    table = Table()
    table.give(Opened("left"), Opened("here"), Opened("next"))

    def resume(attempt, token=OWN):
        return {"type": "hello", "version": 1, "name": "ann", "resume": {"token": token, "attempt": attempt}}

    welcome = table.send("here", resume(2))[0]
    assert table.send("left", resume(1))[0]["code"] == "overtaken"
    assert "left" in table.shut
    assert "here" not in table.shut
    again = table.send("next", resume(3, welcome["token"]))[0]
    assert again["session"] == welcome["session"]


@pytest.mark.parametrize("token", ["", "guess me", "x" * 15])
def test_an_own_token_that_may_be_guessed_is_none(token):
    table = Table()
    table.give(Opened("one"), Opened("two"))
    assert table.send("one", hello(token=token))[0]["type"] == "welcome"
    assert table.send("two", hello(token=token))[0]["code"] == "name-taken"


def test_an_own_token_outlives_the_server():
    before = Table()
    before.give(Opened("one"))
    welcome = before.send("one", hello())[0]
    after = Table(log=before.log)
    after.give(Opened("two"))
    assert after.send("two", hello())[0]["session"] == welcome["session"]


def test_where_there_are_passwords_an_own_token_is_worth_nothing_before_one_was_right():
    table = Table(Options(passwords=True))
    table.give(Opened("one", private=True), Opened("two", private=True))
    assert table.send("one", hello(password="wrong")) == []
    table.give(Verified("one", right=False))
    assert table.last("one")["code"] == "password"
    assert table.send("two", hello(password="wrong")) == []


def test_two_hellos_that_are_verified_at_one_time_are_one_session():
    """The first one's connection is lost, and the hub does not know that yet."""
    table = Table(Options(passwords=True))
    table.give(Opened("one", private=True), Opened("two", private=True))
    table.send("one", hello(password="right"))
    table.send("two", hello(password="right"))
    table.give(Verified("one", right=True))
    table.give(Verified("two", right=True))
    welcomes = [*table.of("one", "welcome"), *table.of("two", "welcome")]
    assert len(welcomes) == 2
    assert len({welcome["session"] for welcome in welcomes}) == 1


def test_a_server_that_does_not_answer_the_hello_is_given_up_for_another_try():
    client = Client("ann", chance=lambda: 0.5)
    client.handle(person.Wake(), 0.0)
    assert client.wake_at is None  # the connection is being made, which its driver bounds
    client.handle(person.Connected(), 1.0)
    assert client.wake_at == 16.0
    assert client.handle(person.Wake(), 15.9) == []
    assert person.Disconnect(final=False) in client.handle(person.Wake(), 16.0)
    assert client.wake_at is not None
    assert client.wake_at < 18.0
    assert person.Connect() in client.handle(person.Wake(), client.wake_at)


def test_whoever_has_said_good_bye_leaves_neither_token():
    table = Table()
    table.give(Opened("one"))
    before = table.hub.held
    table.send("one", hello())
    assert table.hub.held["tokens"] == 2
    table.send("one", {"type": "bye"})
    assert table.hub.held["tokens"] == table.hub.held["sessions"] == 0
    assert table.hub.held == {**before, "connections": 0}
