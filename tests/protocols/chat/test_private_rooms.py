"""Rooms of two: who is in them is told, what was said in them and not read is kept, and strangers keep nobody out of them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protocols.chat import hub as server
from protocols.chat.hub import Options
from tests.protocols.chat.table import Table, come, resume, whisper

CALM: dict[str, Any] = {
    "newcomers": 0,
    "heartbeat": 1e6,
    "burst": 10_000,
    "move_burst": 10_000,
    "request_burst": 10_000,
}


def events(table: Table, name: str, room: str) -> list[tuple[str, str, str]]:
    return [(each["kind"], each["sender"], each["text"]) for each in told(table, name, "event", room)]


def told(table: Table, name: str, kind: str, room: str) -> list[Any]:
    return [{"text": "", **each} for each in table.of(name, kind) if each["room"] == room]


def heard(table: Table, name: str) -> None:
    """Time passes, and ``name`` is heard of: what it was told until then has come."""
    table.wait(0.1)
    table.send(name, {"type": "pong", "n": 0})


# ------------------------------------------------------------------- who is in them


def test_who_leaves_a_room_of_two_is_told_of_and_has_joined_by_the_next_post_between_them() -> None:
    table = Table()
    ann, ben = table.enter("ann"), table.enter("ben")
    room = whisper(table, "ann", ann, 1, "ben")["room"]
    assert told(table, "ann", "members", room)[-1] == {
        "type": "members", "room": room, "names": ["ann", "ben"], "at": 0, "text": ""
    }  # fmt: skip # as a map reads best
    table.send("ben", {"type": "leave", "id": [ben, 1], "room": room})
    assert events(table, "ann", room)[-1] == ("left", "ben", "")
    assert events(table, "ben", room)[-1] == ("say", "ann", "psst 1"), "whoever has left is told nothing more"
    before = len(table.told["ann"])
    whisper(table, "ann", ann, 2, "ben")
    assert events(table, "ann", room)[-2:] == [("joined", "ben", ""), ("say", "ann", "psst 2")]
    assert "members" not in [each["type"] for each in table.told["ann"][before:]]
    (members,) = told(table, "ben", "members", room)[1:]
    assert (members["names"], members["at"]) == (["ann", "ben"], 3)
    assert told(table, "ben", "reset", room)[-1]["seq"] == 3
    assert events(table, "ben", room)[-1] == ("say", "ann", "psst 2")


def test_whoever_has_left_comes_back_by_a_post_of_their_own() -> None:
    table = Table()
    ann, ben = table.enter("ann"), table.enter("ben")
    room = whisper(table, "ann", ann, 1, "ben")["room"]
    table.send("ben", {"type": "leave", "id": [ben, 1], "room": room})
    whisper(table, "ben", ben, 2, "ann")
    assert events(table, "ann", room)[-3:] == [("left", "ben", ""), ("joined", "ben", ""), ("say", "ben", "psst 2")]
    assert events(table, "ben", room)[-1] == ("say", "ben", "psst 2")


def test_the_end_of_a_session_is_told_in_its_rooms_of_two() -> None:
    table = Table(Options(grace=1.0, session_lifetime=100.0, heartbeat=1e6))
    ann = table.enter("ann")
    rooms = {}
    for number, name in enumerate(("ben", "cat")):
        table.enter(name)
        rooms[name] = whisper(table, "ann", ann, number + 1, name)["room"]
    table.send("ben", {"type": "bye", "reason": "tea"})
    assert events(table, "ann", rooms["ben"])[-1] == ("left", "ben", "tea")
    table.give(server.Closed("cat"))
    table.wait(2.0)
    assert events(table, "ann", rooms["cat"])[-1][0] == "say", "she may come back, and will read it then"
    table.wait(100.0)
    assert events(table, "ann", rooms["cat"])[-1] == ("left", "cat", "")


def test_a_room_that_both_have_left_goes_on_where_it_was() -> None:
    table = Table()
    ann, ben = table.enter("ann"), table.enter("ben")
    room = whisper(table, "ann", ann, 1, "ben")["room"]
    table.give(
        server.Received("ann", {"type": "leave", "id": [ann, 2], "room": room}),
        server.Received("ben", {"type": "leave", "id": [ben, 2], "room": room}),
    )
    assert events(table, "ann", room)[-1] == ("say", "ann", "psst 1")  # neither is told any more
    assert [event.kind for event in table.log.read(room, 0, 9)] == ["say", "left", "left"]
    whisper(table, "ben", ben, 3, "ann")
    kinds = ["say", "left", "left", "joined", "joined", "say"]
    assert [event.kind for event in table.log.read(room, 0, 9)] == kinds
    members = told(table, "ann", "members", room)[-1]
    assert (members["names"], members["at"]) == (["ann", "ben"], 5)


def test_members_and_the_events_behind_them_are_the_later_members_in_a_room_of_two_as_well() -> None:
    """Over posts, leaving, other names and connections that are lost, in batches: for each who is in it, at every step."""
    chance = random.Random(11)
    table = Table(Options(**CALM, grace=5.0))
    sessions = {name: table.enter(name, room=None) for name in ("ann", "ben")}
    names = dict(zip(sessions, sessions, strict=True))
    connections = {name: name for name in sessions}
    room = whisper(table, "ann", sessions["ann"], 1, "ben")["room"]
    numbers = iter(range(10, 10**6))
    known: dict[str, tuple[set[str], int]] = {}
    compared = 0
    for step in range(600):
        name = chance.choice(list(sessions))
        other = "ben" if name == "ann" else "ann"
        roll = chance.random()
        if roll < 0.1:
            table.give(server.Closed(connections[name]))
            table.wait(chance.choice([0.1, 8.0]))
            token = table.of(connections[name], "welcome")[0]["token"]
            connections[name] = f"{name}{step}"
            names[name] = resume(table, connections[name], token)["name"]
        elif roll < 0.3:
            table.send(connections[name], {"type": "leave", "id": [sessions[name], next(numbers)], "room": room})
        elif roll < 0.4:
            wanted = f"{name}{chance.randrange(9)}"
            answer = table.send(
                connections[name], {"type": "rename", "id": [sessions[name], next(numbers)], "name": wanted}
            )[-1]
            names[name] = wanted if answer["type"] == "ok" else names[name]
        else:
            whisper(table, connections[name], sessions[name], next(numbers), names[other])
        for each, connection in connections.items():
            asked = [sessions[each], next(numbers)]
            answers = table.send(connection, {"type": "who", "id": asked, "room": room})
            if answers[0]["type"] == "error":
                known.pop(connection, None)
                continue
            for message in table.told[connection]:
                if message.get("room") != room or "type" not in message:
                    continue
                known[connection] = counted(known.get(connection), message)
            table.told[connection] = [message for message in table.told[connection] if message["type"] == "welcome"]
            now = answers[0]
            assert known[connection] == (set(now["names"]), now["at"]), step
            compared += 1
    assert compared > 600


def counted(known: tuple[set[str], int] | None, message: Any) -> tuple[set[str], int]:
    """Who is in a room, by what was told: a list that is newer stands only where there is none; it must be equal then."""
    names, at = known or (set(), -1)
    if message["type"] == "members":
        if at == message["at"]:
            assert names == set(message["names"])
        if message["at"] >= at:
            return set(message["names"]), message["at"]
    if message["type"] == "event" and message["seq"] > at >= 0:
        names = set(names)
        names.discard(message["sender"] if message["kind"] in ("left", "renamed") else "")
        names |= {message["sender"]} if message["kind"] == "joined" else set()
        names |= {message["text"]} if message["kind"] == "renamed" else set()
        return names, message["seq"]
    return names, at


def test_a_new_name_is_told_in_rooms_of_two_and_costs_as_much_as_there_are() -> None:
    table = Table(Options(move_burst=3, move_rate=1.0))
    ann = table.enter("ann", room=None)
    rooms = []
    for number, other in enumerate(("ben", "cat", "dan")):
        table.enter(other, room=None)
        rooms.append(whisper(table, other, table.of(other, "welcome")[0]["session"], 1, "ann")["room"])
        assert number == len(rooms) - 1

    def rename(number: int, name: str) -> Any:
        return table.send("ann", {"type": "rename", "id": [ann, number], "name": name})[-1]

    assert rename(1, "Anna")["type"] == "ok"
    for other, room in zip(("ben", "cat", "dan"), rooms, strict=True):
        assert events(table, other, room)[-1] == ("renamed", "ann", "Anna")
    assert rename(2, "Annie")["retry_after"] == 1.0  # three rooms were told
    # Her own name costs nothing, and is no news.
    heads = [table.log.head(room) for room in rooms]
    assert rename(3, "Anna")["type"] == "ok"
    assert [table.log.head(room) for room in rooms] == heads


def test_nobody_takes_the_name_by_which_a_room_of_two_knows_the_other_one() -> None:
    table = Table(Options(grace=1.0, heartbeat=1e6))
    ann, ben = table.enter("ann"), table.enter("ben")
    whisper(table, "ann", ann, 1, "ben")
    table.give(server.Closed("ann"))
    table.wait(2.0)
    (answer,) = table.send("ben", {"type": "rename", "id": [ben, 1], "name": "Ann"})
    assert answer["code"] == "name-taken"


# ----------------------------------------------------------------------- opening them


def test_to_open_a_room_of_two_counts_as_a_join_does() -> None:
    table = Table(Options(move_burst=2, move_rate=0.5))
    eve = table.enter("eve", room=None)
    for name in ("ann", "ben", "cat"):
        table.enter(name, room=None)
    assert [whisper(table, "eve", eve, 1, "ann")["type"], whisper(table, "eve", eve, 2, "ben")["type"]] == ["ok"] * 2
    refused = whisper(table, "eve", eve, 3, "cat")
    assert (refused["code"], refused["retry_after"]) == ("rate", 2.0)
    assert not [each for each in table.told["cat"] if each.get("room", "").startswith("@")]
    assert whisper(table, "eve", eve, 4, "ann")["type"] == "ok", "what is open is open"
    table.wait(2.0)
    assert whisper(table, "eve", eve, 5, "cat")["type"] == "ok"


# ------------------------------------------------------------------ strangers who fill them


def test_strangers_who_whisper_and_vanish_without_a_word_keep_nobody_out() -> None:
    """Two hundred and fifty-six of nine addresses, as many as a person has places for; with what is the default."""
    table = Table(Options(newcomers=0, heartbeat=1e6))
    ann, ben = come(table, "ann", "10.0.0.1"), come(table, "ben", "10.0.0.2")
    first = whisper(table, "ben", ben, 1, "ann")["room"]
    for address in range(9):
        for number in range(128):
            name = f"e{address}.{number}"
            if whisper(table, name, come(table, name, f"6.6.6.{address}"), 1, "ann")["type"] != "ok":
                break
            table.give(server.Closed(name))
    heard(table, "ann")
    cat = come(table, "cat", "10.0.0.3")
    assert whisper(table, "cat", cat, 1, "ann")["code"] == "too-many-rooms", "it might come back, for now"
    dan = come(table, "dan", "10.0.0.4")
    assert whisper(table, "ann", ann, 1, "dan")["code"] == "too-many-rooms"
    table.wait(31.0)
    heard(table, "ann")
    assert whisper(table, "cat", cat, 2, "ann")["type"] == "ok"
    assert whisper(table, "ann", ann, 2, "dan")["type"] == "ok"
    assert whisper(table, "dan", dan, 1, "ann")["type"] == "ok"
    table.wait(1.0)
    assert whisper(table, "ben", ben, 2, "ann")["room"] == first, "what goes on is spared by nobody"
    assert [event[0] for event in events(table, "ann", first)] == ["say", "say"]


def test_strangers_who_fill_the_rooms_of_somebody_who_is_away_are_read_and_then_keep_nobody_out() -> None:
    table = Table(Options(newcomers=0, heartbeat=1e6, max_private_each=8))
    ann, ben = come(table, "ann", "10.0.0.1"), come(table, "ben", "10.0.0.2")
    table.give(server.Closed("ann"))
    said = 0
    for address in range(9):
        for number in range(8):
            name = f"e{address}.{number}"
            said += whisper(table, name, come(table, name, f"6.6.6.{address}"), 1, "ann")["type"] == "ok"
            table.give(server.Closed(name))
    assert said == 8
    table.wait(20.0)
    assert whisper(table, "ben", ben, 1, "ann")["code"] == "too-many-rooms", "nobody has read what is in them"
    resume(table, "again", table.of("ann", "welcome")[0]["token"])
    table.wait(11.0)
    assert sum(event["text"] == "psst 1" for event in table.of("again", "event")) == 8
    heard(table, "again")
    assert whisper(table, "ben", ben, 2, "ann")["type"] == "ok"
    assert whisper(table, "again", ann, 1, "ben")["type"] == "ok"


@pytest.mark.parametrize("how", ["away", "blocked", "deaf", "just back"])
def test_a_room_is_spared_only_where_what_was_said_in_it_has_come(how: str) -> None:
    table = Table(Options(**CALM, max_private_each=1))
    ann = come(table, "ann", "10.0.0.1")
    ben = come(table, "ben", "10.0.0.2")
    connection = "ann"
    if how == "blocked":
        table.give(server.Blocked("ann"))
    if how in ("away", "just back"):
        table.give(server.Closed("ann"))
    room = whisper(table, "ben", ben, 1, "ann")["room"]
    table.send("ben", {"type": "bye"})
    table.wait(1.0)
    if how == "blocked":
        table.send("ann", {"type": "pong", "n": 0})
    if how == "just back":
        connection = "back"
        resume(table, connection, table.of("ann", "welcome")[0]["token"])
        assert events(table, connection, room)
    cat = come(table, "cat", "10.0.0.3")
    assert whisper(table, "cat", cat, 1, "ann")["code"] == "too-many-rooms"
    # Its connection was dead perhaps; the next one is told all the same.
    table.give(server.Closed(connection))
    resume(table, "again", table.of(connection, "welcome")[0]["token"])
    assert events(table, "again", room) == [("say", "ben", "psst 1"), ("left", "ben", "bye")]
    heard(table, "again")
    assert whisper(table, "cat", cat, 2, "ann")["type"] == "ok"
    assert ann


def test_the_oldest_is_spared_first_also_behind_a_restart() -> None:
    options = Options(**CALM, max_private_each=3, grace=1.0)
    table = Table(options)
    downwards = iter(range(999, 0, -1))  # the order of their names is the other one
    table.hub = server.Hub(table.log, options, make_token=lambda size: f"t{next(downwards)}")
    come(table, "ann", "")
    rooms = []
    for name in ("zoe", "ben", "mia"):
        session = come(table, name, "")
        rooms.append(whisper(table, name, session, 1, "ann")["room"])
        table.give(server.Closed(name))
    table.give(server.Closed("ann"))
    assert rooms == sorted(rooms, reverse=True)
    again = Table(options, table.log)
    again.now = 10.0
    resume(again, "ann", table.of("ann", "welcome")[0]["token"])
    again.wait(2.0)
    for number, name in enumerate(("cat", "dan")):
        heard(again, "ann")
        assert whisper(again, name, come(again, name, ""), 1, "ann")["type"] == "ok"
        (record,) = [each for each in again.log.sessions() if each.name == "ann"]
        assert [room for room in record.private if room in rooms] == rooms[number + 1 :]


def test_a_room_that_the_other_one_has_left_is_spared_before_one_that_they_may_come_back_to() -> None:
    table = Table(Options(**CALM, max_private_each=2, grace=1.0))
    come(table, "ann", "")
    away = whisper(table, "ben", come(table, "ben", ""), 1, "ann")["room"]
    over = whisper(table, "cat", come(table, "cat", ""), 1, "ann")["room"]
    table.give(server.Closed("ben"))
    table.send("cat", {"type": "bye"})
    table.wait(2.0)
    heard(table, "ann")
    assert whisper(table, "dan", come(table, "dan", ""), 1, "ann")["type"] == "ok"
    (record,) = [each for each in table.log.sessions() if each.name == "ann"]
    assert away in record.private
    assert over not in record.private


def test_an_address_makes_room_for_itself_by_its_own_rooms_alone_while_there_are_places() -> None:
    table = Table(Options(**CALM, max_private_each=8, grace=1.0))
    come(table, "ann", "10.0.0.1")
    kept = []
    for number in range(2):
        name = f"f{number}"
        kept.append(whisper(table, name, come(table, name, "10.0.0.2"), 1, "ann")["room"])
        table.give(server.Closed(name))
    for number in range(30):
        name = f"e{number}"
        assert whisper(table, name, come(table, name, "6.6.6.6"), 1, "ann")["type"] == "ok"
        table.give(server.Closed(name))
        table.wait(2.0)
        heard(table, "ann")
    (record,) = [each for each in table.log.sessions() if each.name == "ann"]
    assert set(kept) <= set(record.private)
    assert len(record.private) < 8
    # Nor do those who stay there get the places of others, beyond their share.
    begun = []
    for number in range(30, 40):
        name = f"e{number}"
        begun.append(whisper(table, name, come(table, name, "6.6.6.6"), 1, "ann")["type"])
        table.wait(2.0)
        heard(table, "ann")
    assert begun == ["ok"] * 3 + ["error"] * 7
    (record,) = [each for each in table.log.sessions() if each.name == "ann"]
    assert set(kept) <= set(record.private)


def test_where_all_places_are_taken_an_address_makes_room_by_its_own_rooms_first() -> None:
    table = Table(Options(**CALM, max_private_each=3, grace=1.0))
    come(table, "ann", "10.0.0.1")
    rooms = {}
    for name, origin in (("ben", "10.0.0.2"), ("eve", "6.6.6.6"), ("cat", "10.0.0.3")):
        rooms[name] = whisper(table, name, come(table, name, origin), 1, "ann")["room"]
        if name != "cat":
            table.give(server.Closed(name))
    table.wait(2.0)
    heard(table, "ann")
    assert whisper(table, "eva", come(table, "eva", "6.6.6.6"), 1, "ann")["type"] == "ok"
    (record,) = [each for each in table.log.sessions() if each.name == "ann"]
    assert {rooms["ben"], rooms["cat"]} <= set(record.private)
    assert rooms["eve"] not in record.private


def test_what_was_said_to_somebody_who_is_away_comes_although_the_other_one_has_made_room_meanwhile() -> None:
    table = Table(Options(**CALM, max_private_each=1, grace=1.0))
    ann, ben = come(table, "ann", ""), come(table, "ben", "")
    room = whisper(table, "ann", ann, 1, "ben")["room"]
    table.give(server.Closed("ben"))
    table.send("ann", {"type": "post", "id": [ann, 2], "room": room, "text": "are you there?"})
    table.wait(2.0)
    heard(table, "ann")
    come(table, "cat", "")
    assert whisper(table, "ann", ann, 3, "cat")["type"] == "ok"
    resume(table, "again", table.of("ben", "welcome")[0]["token"])
    assert events(table, "again", room) == [
        ("say", "ann", "psst 1"),
        ("say", "ann", "are you there?"),
        ("left", "ann", ""),
    ]
    table.send("cat", {"type": "bye"})
    heard(table, "ann")
    # They find each other in the same room again, with all that was said there.
    assert whisper(table, "again", ben, 1, "ann")["room"] == room
    (page,) = table.send("ann", {"type": "history", "id": [ann, 9], "room": room})
    assert [event["kind"] for event in page["events"]] == ["say", "say", "left", "joined", "say"]


@pytest.mark.parametrize("blocked", [False, True])
def test_whoever_has_left_a_room_of_two_is_told_nothing_more_of_it_and_costs_nothing(blocked: bool) -> None:
    table = Table()
    ann, ben = table.enter("ann", room=None), table.enter("ben", room=None)
    before = table.hub.held
    room = whisper(table, "ann", ann, 1, "ben")["room"]
    if blocked:
        table.give(server.Blocked("ben"))
        table.send("ann", {"type": "post", "id": [ann, 2], "room": room, "text": "psst 2"})
    table.send("ben", {"type": "leave", "id": [ben, 1], "room": room})
    held = table.hub.held
    assert held["live"] == 2 - blocked + 1  # announcements, and ann in the room of the two
    assert held["behind"] == blocked  # announcements
    seen = len(table.told["ben"])
    table.send("ann", {"type": "leave", "id": [ann, 3], "room": room})
    table.give(server.Drained("ben"))
    assert [each for each in table.told["ben"][seen:] if each.get("room") == room] == []
    assert table.hub.held == before
