"""The hub's options: what is no sensible number is refused with its name, and the zeros that mean something do."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from protocols.chat import hub as server
from protocols.chat.hub import Hub, Options
from protocols.chat.log import MemoryLog
from protocols.chat.rates import Bucket
from tests.protocols.chat.table import Table, come

MAY_BE_ZERO = {
    "newcomers",
    "max_greeting",
    "max_rooms",
    "max_rooms_each",
    "max_private_each",
    "history",
    "grace",
    "session_lifetime",
}
NUMBERS = [field.name for field in fields(Options) if isinstance(field.default, (int, float)) and field.default > 1]


def test_all_numbers_are_looked_at() -> None:
    assert len(NUMBERS) == len(fields(Options)) - len({"lobby", "unicode_names", "passwords"})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, -0.001, 0, float("nan"), float("inf")])
def test_a_number_that_would_divide_by_zero_or_spin_is_refused_by_its_name(name: str, value: Any) -> None:
    given: dict[str, Any] = {name: value}
    if value == 0 and name in MAY_BE_ZERO:
        assert getattr(Options(**given), name) == 0
    else:
        with pytest.raises(ValueError, match=f"{name} must be .*{'0 or more' if name in MAY_BE_ZERO else 'above 0'}"):
            Options(**given)


@pytest.mark.parametrize("lobby", ["", "server", "@a+b", "a b", "日本"])
def test_the_lobby_is_a_room_that_may_be_joined(lobby: str) -> None:
    with pytest.raises(ValueError, match="lobby must be the name of a room"):
        Options(lobby=lobby)
    assert Options(lobby="日本", unicode_names=True)


@pytest.mark.parametrize(
    "options",
    [
        Options(grace=0),
        Options(grace=1e-9),
        Options(heartbeat=1e-9),
        Options(hello_timeout=1e-9),
        Options(slow_reader_timeout=1e-9),
    ],
)
def test_no_option_has_the_hub_called_again_and_again(options: Options) -> None:
    """Each call is at the time that was asked for; a second has room for a hundred of them."""
    hub = Hub(MemoryLog(), options)
    hello = {"type": "hello", "version": 1, "name": "ann"}
    hub.handle([server.Opened("ann"), server.Received("ann", hello), server.Opened("mute")], 0.0, 0)
    hub.handle([server.Blocked("ann")], 0.0, 0)
    now, calls = 0.0, 0
    while (wake := hub.wake_at) is not None and wake < 1.0:
        now, calls = max(now, wake), calls + 1
        assert calls < 100
        hub.handle([], now, 0)


def test_without_a_time_of_grace_whoever_loses_the_connection_has_left_at_once() -> None:
    table = Table(Options(grace=0))
    table.enter("ann")
    table.enter("ben")
    token = table.of("ben", "welcome")[0]["token"]
    table.give(server.Closed("ben"))
    left = table.of("ann", "event")[-1]
    assert (left["kind"], left["sender"], left["text"]) == ("left", "ben", "connection lost")
    table.give(server.Opened("again"))
    welcome = table.send("again", {"type": "hello", "version": 1, "resume": {"token": token}})[0]
    assert (welcome["resumed"], welcome["rooms"]) == (True, [])


def test_the_time_of_grace_ends_when_it_does_and_the_hub_asks_to_be_woken_then() -> None:
    table = Table(Options(grace=0.3, heartbeat=1000.0, hello_timeout=1000.0, slow_reader_timeout=1000.0))
    table.enter("ann")
    table.enter("ben")
    table.wait(0.5)
    table.give(server.Closed("ben"))
    wake = table.hub.wake_at
    assert wake is not None
    assert wake == pytest.approx(0.8)
    table.now = wake
    table.give()
    assert table.hub.members("lobby") == ["ann"]


def test_without_history_whoever_joins_is_told_of_what_happens_from_then_on() -> None:
    table = Table(Options(history=0))
    table.enter("ann")
    table.enter("ben")
    assert [event["sender"] for event in table.of("ben", "event")] == ["ben"]
    assert table.of("ben", "reset")[-1]["seq"] == 1


def test_without_places_for_private_rooms_nobody_whispers() -> None:
    table = Table(Options(max_private_each=0))
    ann = table.enter("ann")
    table.enter("ben")
    (answer,) = table.send("ann", {"type": "post", "id": [ann, 1], "to": "ben", "text": "psst"})
    assert answer["code"] == "too-many-rooms"


def test_a_thousand_newcomers_come_where_any_number_may() -> None:
    table = Table(Options(newcomers=0, max_greeting=1))
    for number in range(1000):
        assert come(table, f"p{number}", "10.0.0.1")
    assert table.hub.held["sessions"] == 1000


def test_a_bucket_has_so_much_at_once_and_so_much_a_second() -> None:
    bucket = Bucket(2, 4.0, 0.0)
    assert [bucket.wait(0.0) for _ in range(3)] == [0.0, 0.0, 0.25]
    assert bucket.wait(0.25, cost=3) == 0.0
    assert bucket.wait(0.25) == 0.75  # what was taken beyond the one that there was is waited for by the next
    assert not bucket.full(1.2)
    assert bucket.full(1.25)
    bucket.owe(1.25)
    assert [bucket.wait(1.25), bucket.wait(1.25)] == [0.0, 0.25]
