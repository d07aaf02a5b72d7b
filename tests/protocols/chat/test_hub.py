"""The hub against hostile and mistaken peers: what is refused, what is cleaned, and what nobody else notices."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocols.chat import hub as server
from protocols.chat.hub import Hub, Options
from protocols.chat.log import MemoryLog
from protocols.chat.sqlite_log import SQLiteLog
from tests.protocols.chat.table import Table, come, whisper

HELLO = {"type": "hello", "version": 1, "name": "ann"}


@pytest.mark.parametrize(
    "message",
    [
        None,
        7,
        [],
        "hello",
        {},
        {"type": 5},
        {"type": "post"},
        {"type": "join", "id": "x", "room": "a"},
        {"type": "join", "id": ["s", 0], "room": "a"},
        {"type": "join", "id": ["s", -1], "room": "a"},
        {"type": "join", "id": ["s", 1.5], "room": "a"},
        {"type": "join", "id": ["s", 1 << 63], "room": "a"},
        {"type": "join", "id": ["s", 1], "room": 5},
        {"type": "join", "id": ["s", 1], "room": ""},
        {"type": "join", "id": ["s", 1], "room": "a" * 1000},
        {"type": "join", "id": ["s", 1], "room": "a", "after": -1},
        {"type": "post", "id": ["s", 1], "room": "a", "text": 5},
        {"type": "post", "id": ["s", 1], "room": "a", "text": "a", "kind": "announce"},
        {"type": "post", "id": ["s", 1], "room": "a", "text": b"bytes"},
        {"type": "history", "id": ["s", 1], "room": "a", "limit": 10**9},
        {"type": "hello", "version": "1"},
        {"type": "ping", "n": "1"},
    ],
)
def test_fields_of_wrong_types_are_refused_and_the_connection_goes_on(message: Any) -> None:
    table = Table()
    table.enter("ann")
    (answer,) = table.send("ann", message)
    assert (answer["type"], answer["code"]) == ("error", "malformed")
    assert table.send("ann", {"type": "ping", "n": 3}) == [{"type": "pong", "n": 3}]


def test_an_unknown_type_is_unsupported_and_unknown_fields_are_ignored() -> None:
    table = Table()
    session = table.enter("ann")
    (answer,) = table.send("ann", {"type": "teleport", "id": [session, 9]})
    assert (answer["code"], answer["id"]) == ("unsupported", [session, 9]) or answer["id"] == (session, 9)
    assert table.send("ann", {"type": "ping", "n": 3, "later": {"x": 1}}) == [{"type": "pong", "n": 3}]


def test_whoever_is_refused_again_and_again_is_closed() -> None:
    table = Table()
    table.enter("ann")
    for _ in range(server.PATIENCE + 1):
        table.send("ann", {"type": "nonsense"})
    assert table.last("ann")["code"] == "flood"
    assert "ann" in table.shut


def test_nothing_but_hello_is_taken_first_and_it_has_ten_seconds_and_4_kib() -> None:
    table = Table()
    for name in ("a", "b", "c"):
        table.give(server.Opened(name))
    table.send("a", {"type": "rooms", "id": ["x", 1]})
    assert table.last("a")["code"] == "hello-first"
    table.send("b", {**HELLO, "password": "x" * 5000})
    assert table.last("b")["code"] == "too-long"
    table.wait(9)
    assert "c" not in table.shut
    table.wait(2)
    assert table.last("c")["code"] == "timeout"
    assert table.shut == {"a", "b", "c"}
    assert table.hub.held["connections"] == 0


def test_another_version_is_told_and_closed() -> None:
    table = Table()
    table.give(server.Opened("a"))
    table.send("a", {"type": "hello", "version": 2})
    assert (table.last("a")["code"], table.last("a").get("reconnect")) == ("version", None)


def test_ids_of_another_session_are_forbidden() -> None:
    table = Table()
    ann, ben = table.enter("ann"), table.enter("ben")
    assert ann != ben
    (answer,) = table.send("ben", {"type": "post", "id": [ann, 1], "room": "lobby", "text": "I am ann"})
    assert answer["code"] == "forbidden"
    assert all(event.kind == "joined" for event in table.log.read("lobby", 0, 100))


def test_the_sender_is_the_connections_whatever_the_message_says() -> None:
    table = Table()
    table.enter("ann")
    ben = table.enter("ben")
    forged = {"type": "post", "id": [ben, 1], "room": "lobby", "text": "hi", "sender": "ann", "seq": 1, "time": 0}
    table.send("ben", forged)
    event = table.of("ann", "event")[-1]
    assert (event["sender"], event["text"], event["seq"]) == ("ben", "hi", 3)


def test_a_guessed_token_resumes_nothing() -> None:
    table = Table()
    session = table.enter("ann")
    table.give(server.Opened("thief"))
    answer = table.send("thief", {"type": "hello", "version": 1, "name": "thief", "resume": {"token": session}})
    assert answer[0]["resumed"] is False
    assert answer[0]["session"] != session
    assert "ann" not in table.shut


def test_a_token_is_good_until_its_successor_is_used() -> None:
    table = Table()
    table.enter("ann")
    first = table.of("ann", "welcome")[0]["token"]

    def resume(name: str, token: str) -> Any:
        table.give(server.Opened(name))
        return table.send(name, {"type": "hello", "version": 1, "resume": {"token": token}})[0]

    second = resume("b", first)
    assert second["resumed"]
    assert table.last("ann")["code"] == "replaced"
    again = resume("c", first)  # its welcome got lost
    assert again["resumed"]
    assert not resume("d", second["token"])["resumed"]
    third = resume("e", again["token"])
    assert third["resumed"]
    assert not resume("f", first)["resumed"]


def test_a_third_person_reads_no_private_room() -> None:
    table = Table()
    ann, ben, eve = table.enter("ann"), table.enter("ben"), table.enter("eve")
    table.send("ann", {"type": "post", "id": [ann, 1], "to": "Ben", "text": "psst"})
    room = table.of("ben", "event")[-1]["room"]
    assert room.startswith("@")
    assert table.of("ben", "event")[-1]["text"] == "psst"
    for message in (
        {"type": "history", "room": room},
        {"type": "join", "room": room, "after": 0},
        {"type": "who", "room": room},
        {"type": "post", "room": room, "text": "me too"},
        {"type": "leave", "room": room},
        {"type": "history", "room": "@no+such"},
    ):
        (answer,) = table.send("eve", {**message, "id": [eve, 5]})
        assert answer["code"] == "not-in-room"
    assert not any("psst" in str(message) for message in table.told["eve"])
    (page,) = table.send("ben", {"type": "history", "room": room, "id": [ben, 9]})
    assert [event["text"] for event in page["events"]] == ["psst"]


@pytest.mark.parametrize(
    "name",
    [
        "Ann",
        "ANN",
        "\uff41\uff4e\uff4e",
        "a nn",
        "ann\u200b",
        "\u0430nn",
        "server",
        "Server",
        "",
        "x" * 33,
        "a\x1b[0m",
        "-x",
    ],
)
def test_names_that_look_like_others_or_are_none_are_refused(name: str) -> None:
    table = Table()
    table.enter("ann")
    table.give(server.Opened("b"))
    (answer,) = table.send("b", {"type": "hello", "version": 1, "name": name})
    assert answer["code"] in ("name-taken", "bad-name", "malformed")
    assert table.send("b", {"type": "hello", "version": 1, "name": "ben"})[0]["type"] == "welcome"


def test_a_taken_name_comes_with_a_free_one() -> None:
    table = Table()
    table.enter("ann")
    table.give(server.Opened("b"))
    (answer,) = table.send("b", HELLO)
    assert "ann2" in answer["text"]
    assert table.send("b", {**HELLO, "name": "ann2"})[0]["name"] == "ann2"


def test_texts_are_cleaned_before_they_are_stored() -> None:
    table = Table()
    session = table.enter("ann")
    nasty = "a\x1b[31mb\x1b]52;c;aGk=\x07c\x9b2Jd\x07e\u202ef\u2066g\rh\x00i"
    table.send("ann", {"type": "post", "id": [session, 1], "room": "lobby", "text": nasty})
    (event,) = [event for event in table.log.read("lobby", 0, 10) if event.kind == "say"]
    assert event.text == "abcdefg\nhi"


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "empty"), ("\x1b[2J \n", "empty"), ("x" * 8193, "too-long"), ("\n.".join("x" * 101), "too-long")],
)
def test_texts_have_limits(text: str, code: str) -> None:
    table = Table()
    session = table.enter("ann")
    (answer,) = table.send("ann", {"type": "post", "id": [session, 1], "room": "lobby", "text": text})
    assert answer["code"] == code


def test_floods_are_told_when_to_go_on() -> None:
    table = Table(Options(burst=2, rate=1.0))
    session = table.enter("ann")

    def post(number: int) -> Any:
        message = {"type": "post", "id": [session, number], "room": "lobby", "text": str(number)}
        return next(told for told in table.send("ann", message) if told["type"] in ("ok", "error"))

    assert [post(1)["type"], post(2)["type"]] == ["ok", "ok"]
    refused = post(3)
    assert (refused["code"], refused["retry_after"]) == ("rate", 1.0)
    assert post(2)["seq"] == 3  # a repetition is answered, and costs nothing
    table.wait(1.0)
    assert post(3)["type"] == "ok"


def test_a_post_that_comes_twice_is_stored_once_even_behind_a_restart() -> None:
    table = Table()
    session = table.enter("ann")
    token = table.of("ann", "welcome")[0]["token"]
    message = {"type": "post", "id": [session, 1], "room": "lobby", "text": "once"}
    first = [told for told in table.send("ann", message) if told["type"] == "ok"]
    again = Table(log=table.log)
    again.give(server.Opened("ann"))
    assert again.send("ann", {"type": "hello", "version": 1, "resume": {"token": token}})[0]["resumed"]
    second = [told for told in again.send("ann", message) if told["type"] == "ok"]
    assert first == second
    assert sum(event.text == "once" for event in table.log.read("lobby", 0, 100)) == 1


def test_whoever_reads_nothing_is_given_the_log_later_and_closed_when_it_takes_too_long() -> None:
    table = Table(Options(burst=1000, rate=1000.0))
    table.enter("slow")
    session = table.enter("ann")
    table.give(server.Blocked("slow"))
    before = len(table.told["slow"])
    for number in range(1, 200):
        table.send("ann", {"type": "post", "id": [session, number], "room": "lobby", "text": "x" * 1000})
    assert len(table.told["slow"]) == before
    table.give(server.Drained("slow"))
    caught = table.told["slow"][before:]
    assert caught[0]["type"] == "lag"
    assert 0 < len(caught) < 30  # a bounded piece; then it is looked at whether it takes it
    while (wake := table.hub.wake_at) is not None and wake < table.now + 0.015:
        table.wait(max(wake - table.now, 0.0))
    texts = [message for message in table.told["slow"] if message["type"] == "event"]
    assert [event["seq"] for event in texts] == list(range(texts[0]["seq"], texts[0]["seq"] + len(texts)))
    assert texts[-1]["seq"] == table.log.rooms()["lobby"]
    table.give(server.Blocked("slow"))
    for _ in range(8):
        table.send("slow", {"type": "ping", "n": 1})
        table.wait(4.0)
    assert table.last("slow")["code"] == "slow"
    assert "ann" not in table.shut


def test_half_open_peers_are_gone_in_two_intervals() -> None:
    table = Table(Options(heartbeat=20.0, grace=30.0))
    table.enter("ann")
    table.enter("ben")
    for _ in range(9):
        table.wait(5.0)
        table.send("ann", {"type": "pong", "n": 0})
    assert table.of("ben", "ping")
    assert table.last("ben")["code"] == "silent"
    assert table.of("ann", "event")[-1]["kind"] != "left"  # the time of grace
    for _ in range(8):
        table.wait(5.0)
        table.send("ann", {"type": "pong", "n": 0})
    assert (table.of("ann", "event")[-1]["kind"], table.of("ann", "event")[-1]["sender"]) == ("left", "ben")


def test_whoever_was_blocked_when_a_sign_of_life_was_due_has_time_to_give_it() -> None:
    table = Table(Options(heartbeat=20.0, slow_reader_timeout=100.0))
    table.enter("ann")
    table.wait(21.0)
    assert table.last("ann")["type"] == "ping"
    table.give(server.Blocked("ann"))  # a driver does not read from it meanwhile
    table.wait(30.0)
    table.give(server.Drained("ann"))
    table.wait(19.0)
    assert "ann" not in table.shut
    table.wait(2.0)
    assert table.last("ann")["code"] == "silent"


def test_whoever_says_nothing_is_closed_though_it_is_blocked_now_and_then() -> None:
    table = Table(Options(heartbeat=20.0))
    table.enter("ann")
    for _ in range(10):
        table.wait(9.0)
        table.give(server.Blocked("ann"))
        table.wait(1.0)
        table.give(server.Drained("ann"))
    assert table.last("ann")["code"] == "silent"


def test_clocks_that_jump_change_nothing() -> None:
    table = Table()
    session = table.enter("ann")
    table.now = 10_000.0
    table.give()
    table.now = -5.0
    table.hub.handle([], -5.0, -1)
    assert "ann" not in table.shut  # a leap forward is no silence of hers
    assert table.last("ann")["type"] == "ping"
    table.give(server.Opened("ben"))
    assert table.send("ben", {"type": "hello", "version": 1, "name": "ben"})[0]["type"] == "welcome"
    (ok,) = [told for told in table.send("ann", {"type": "rooms", "id": [session, 9]}) if told["type"] == "roomlist"]
    assert ok["rooms"] == {"lobby": 1}


def test_passwords_need_a_private_connection_and_are_verified_outside() -> None:
    table = Table(Options(passwords=True))
    table.give(server.Opened("open"), server.Opened("safe", private=True))
    table.send("open", {**HELLO, "password": "x"})
    assert table.last("open")["code"] == "insecure"
    assert table.send("safe", HELLO)[0]["code"] == "password"
    assert table.send("safe", {**HELLO, "password": "wrong"}) == []
    assert [(asked.name, asked.password) for asked in table.asked] == [("ann", "wrong")]
    table.give(server.Verified("safe", right=False))
    assert table.last("safe")["code"] == "password"
    table.send("safe", {**HELLO, "password": "right"})
    table.give(server.Verified("safe", right=True))
    assert table.of("safe", "welcome")[0]["name"] == "ann"
    session = table.of("safe", "welcome")[0]["session"]
    (answer,) = table.send("safe", {"type": "rename", "id": [session, 1], "name": "root2"})
    assert answer["code"] == "fixed-name"


def test_a_few_wrong_passwords_close_the_connection() -> None:
    table = Table(Options(passwords=True))
    table.give(server.Opened("safe", private=True))
    for _ in range(6):
        table.send("safe", {**HELLO, "password": "wrong"})
        table.give(server.Verified("safe", right=False))
    assert "safe" in table.shut


def test_a_stop_says_good_bye_and_sessions_go_on_behind_it() -> None:
    table = Table()
    table.enter("ann")
    token = table.of("ann", "welcome")[0]["token"]
    table.give(server.Stopped(2.0))
    assert (table.last("ann")["code"], table.last("ann")["reconnect"]) == ("stopping", 2.0)
    assert table.hub.stopped
    again = Table(log=table.log)
    again.give(server.Opened("ann"))
    welcome = again.send("ann", {"type": "hello", "version": 1, "resume": {"token": token, "cursors": {"lobby": 1}}})[0]
    assert (welcome["resumed"], welcome["rooms"]) == (True, ["lobby"])


def test_a_cursor_beyond_the_log_is_reset() -> None:
    table = Table()
    session = table.enter("ann", room=None)
    answers = table.send("ann", {"type": "join", "id": [session, 1], "room": "lobby", "after": 500})
    assert answers[0] == {"type": "reset", "room": "lobby", "seq": 0}


def test_ten_thousand_joins_and_leaves_leave_nothing_behind() -> None:
    table = Table(Options(max_sessions=100))
    watcher = table.enter("watcher")
    for number in range(10_000):
        name = f"p{number}"
        table.enter(name)
        if number % 2:
            table.send(name, {"type": "bye"})
        else:
            table.give(server.Closed(name))
        table.told.clear()
        if number % 100 == 0:
            table.wait(40.0)
            table.send("watcher", {"type": "pong", "n": 0})
            if "watcher" in table.shut:  # it was silent for too long, as far as the hub can see
                table.shut.clear()
                watcher = table.enter(f"watcher{number}")
    for _ in range(3):
        table.wait(40.0)
    held = table.hub.held
    assert held["connections"] <= 1
    assert held["sessions"] <= 101
    assert held["rooms"] == 1  # the announcements
    assert held["live"] + held["behind"] <= 2
    assert watcher


def test_each_lost_connection_has_its_own_time_of_grace() -> None:
    table = Table(Options(grace=30.0, heartbeat=1000.0))
    for name in ("ann", "ben", "cat", "dan"):
        table.enter(name)
    left = []
    for name in ("ben", "cat", "dan"):
        table.give(server.Closed(name))
        table.wait(20.0)
        left.append(table.hub.members("lobby"))
    assert left == [["ann", "ben", "cat", "dan"], ["ann", "cat", "dan"], ["ann", "dan"]]
    table.wait(20.0)
    assert table.hub.members("lobby") == ["ann"]
    assert [event["sender"] for event in table.of("ann", "event") if event["kind"] == "left"] == ["ben", "cat", "dan"]


def test_a_hub_that_stood_still_asks_before_it_calls_anybody_silent() -> None:
    table = Table(Options(heartbeat=20.0))
    table.enter("ann")
    table.enter("ben")
    table.wait(500.0)  # a disk that was slow, a machine that slept
    assert not table.shut
    table.send("ann", {"type": "pong", "n": 0})
    table.wait(10.0)
    assert not table.shut
    table.wait(10.0)
    assert table.shut == {"ben"}


def test_a_room_that_everybody_has_left_is_forgotten_and_goes_on_where_it_was() -> None:
    table = Table(Options(request_burst=10_000, move_burst=10_000, max_rooms=3))
    session = table.enter("ann", room=None)

    def ask(kind: str, number: int, room: str) -> Any:
        answers = table.send("ann", {"type": kind, "id": [session, number], "room": room})
        return next(answer for answer in answers if answer["type"] in ("ok", "error"))

    for number in range(1, 200, 2):
        assert ask("join", number, f"r{number}")["type"] == "ok"
        assert ask("leave", number + 1, f"r{number}")["type"] == "ok"
        assert table.hub.held["rooms"] == 1  # the announcements
    assert [ask("join", 300 + number, f"r{number}")["type"] for number in (1, 3, 5)] == ["ok"] * 3
    assert ask("join", 306, "r7")["code"] == "too-many-rooms"
    assert [(event.seq, event.kind) for event in table.log.read("r1", 0, 9)] == [
        (1, "joined"),
        (2, "left"),
        (3, "joined"),
    ]
    # Left and entered again in one batch: the log does not have it yet.
    table.give(
        server.Received("ann", {"type": "leave", "id": [session, 400], "room": "r1"}),
        server.Received("ann", {"type": "join", "id": [session, 401], "room": "r1"}),
    )
    assert [event.seq for event in table.log.read("r1", 0, 9)] == [1, 2, 3, 4, 5]


def test_private_rooms_go_with_the_people_and_take_no_room_from_others() -> None:
    table = Table(Options(max_rooms_each=2, max_rooms=2, burst=1000))
    sessions = {name: table.enter(name) for name in ("ann", "ben", "cat", "dan")}
    for number, other in enumerate(("ben", "cat", "dan")):
        message = {"type": "post", "id": [sessions["ann"], number + 1], "to": other, "text": "psst"}
        assert any(answer["type"] == "ok" for answer in table.send("ann", message))
    assert table.hub.held["rooms"] == 1 + 1 + 3
    (answer,) = table.send("ann", {"type": "rooms", "id": [sessions["ann"], 50]})
    assert answer["rooms"] == {"lobby": 4}
    answers = table.send("ann", {"type": "join", "id": [sessions["ann"], 51], "room": "attic"})
    assert any(answer["type"] == "ok" for answer in answers)
    again = Table(log=table.log)
    again.give()
    assert again.hub.held["rooms"] == 1 + 2 + 3
    for name in sessions:
        table.send(name, {"type": "bye"})
    assert (table.hub.held["rooms"], table.hub.held["sessions"]) == (1, 0)
    later = Table(log=table.log)
    later.give()
    assert later.hub.held["rooms"] == 1


def test_so_many_people_are_in_a_room_and_so_many_talk_to_one() -> None:
    table = Table(Options(max_members=2, max_private_each=1, burst=1000))
    ann, ben = table.enter("ann"), table.enter("ben")
    cat = table.enter("cat", room=None)
    (answer,) = table.send("cat", {"type": "join", "id": [cat, 1], "room": "lobby"})
    assert answer["code"] == "room-full"

    def whisper(name: str, session: str, to: str) -> list[str]:
        answers = table.send(name, {"type": "post", "id": [session, 9], "to": to, "text": "psst"})
        return [answer.get("code", "ok") for answer in answers if answer["type"] in ("ok", "error")]

    assert whisper("ann", ann, "ben") == ["ok"]
    assert whisper("cat", cat, "ben") == ["too-many-rooms"]
    assert ben


def test_an_announcement_fits_into_a_frame() -> None:
    table = Table()
    table.enter("ann")
    table.give(server.Announced("é" * 100_000))
    assert table.last("ann")["text"] == "é" * 4096


def test_the_hello_of_somebody_who_comes_back_may_have_many_cursors() -> None:
    table = Table()
    table.enter("ann")
    token = table.of("ann", "welcome")[0]["token"]
    cursors = {f"@{number:020}": number for number in range(300)}
    table.give(server.Opened("again"))
    answers = table.send("again", {"type": "hello", "version": 1, "resume": {"token": token, "cursors": cursors}})
    assert answers[0]["resumed"]


def test_sessions_that_nobody_came_back_for_are_forgotten_the_oldest_first() -> None:
    table = Table(Options(grace=1.0, session_lifetime=150.0, heartbeat=1000.0))
    table.enter("watcher")
    for name in ("ann", "ben"):
        table.enter(name)
        table.give(server.Closed(name))
        table.wait(60.0)
    assert [record.name for record in table.log.sessions()] == ["watcher", "ann", "ben"]
    table.wait(60.0)
    assert [record.name for record in table.log.sessions()] == ["watcher", "ben"]
    table.wait(60.0)
    assert [record.name for record in table.log.sessions()] == ["watcher"]


# ------------------------------------------------------------ rooms of two, to their end


def test_strangers_who_come_and_go_do_not_end_somebodys_private_messages() -> None:
    table = Table(Options(max_private_each=3, burst=1000))
    victim, friend = table.enter("victim"), table.enter("friend")
    for number in range(10):
        stranger = table.enter(f"e{number}", room=None)
        assert whisper(table, f"e{number}", stranger, 1, "victim")["type"] == "ok"
        table.send(f"e{number}", {"type": "bye"})
        table.wait(0.1)
        table.send("victim", {"type": "pong", "n": 0})  # she has heard it
    assert whisper(table, "friend", friend, 1, "victim")["type"] == "ok"
    assert whisper(table, "victim", victim, 1, "friend")["type"] == "ok"
    assert len(table.of("victim", "event")) >= 12  # all of them have come


@pytest.mark.parametrize("away", [False, True])
def test_who_floods_somebody_with_private_rooms_from_one_address_leaves_room_for_others(away: bool) -> None:
    table = Table(Options(max_private_each=8, newcomers=0, grace=1000.0, heartbeat=1000.0))
    come(table, "victim", "10.0.0.1")
    friend = come(table, "friend", "10.0.0.1")
    first = whisper(table, "friend", friend, 1, "victim")["room"]
    if away:
        table.give(server.Closed("victim"))
    begun = []
    for number in range(20):
        name = f"e{number}"
        begun.append(whisper(table, name, come(table, name, "10.9.9.9"), 1, "victim")["type"])
    assert begun == ["ok"] * 4 + ["error"] * 16
    # Others come in, from another address, from that of the victim, and from none; what was begun goes on.
    for name, origin in (("ben", "10.0.0.2"), ("cat", "10.0.0.1"), ("dan", "")):
        assert whisper(table, name, come(table, name, origin), 1, "victim")["type"] == "ok", name
    assert whisper(table, "friend", friend, 2, "victim")["type"] == "ok"
    resume = {"token": table.of("victim", "welcome")[0]["token"]}
    table.give(server.Opened("again", origin="10.0.0.1"))
    table.send("again", {"type": "hello", "version": 1, "resume": resume})
    told = [event["text"] for event in table.of("again", "event") if event["room"] == first]
    assert told == ["psst 1", "psst 2"], "nothing was pushed out"


def test_whom_one_has_written_to_first_does_not_count_for_their_address() -> None:
    table = Table(Options(max_private_each=8, burst=100, newcomers=0))
    ann = come(table, "ann", "10.0.0.1")
    for number in range(6):
        come(table, f"p{number}", "10.0.0.1")
        assert whisper(table, "ann", ann, 1 + number, f"p{number}")["type"] == "ok"
    ben = come(table, "ben", "10.0.0.1")
    assert whisper(table, "ben", ben, 1, "ann")["type"] == "ok"


def test_rooms_that_an_address_has_begun_and_left_are_spared_before_it_is_refused() -> None:
    table = Table(Options(max_private_each=4, newcomers=0))
    come(table, "victim", "10.0.0.1")
    for number in range(10):
        name = f"e{number}"
        assert whisper(table, name, come(table, name, "10.9.9.9"), 1, "victim")["type"] == "ok"
        table.send(name, {"type": "bye"})
        table.wait(0.1)
        table.send("victim", {"type": "pong", "n": 0})


def test_what_was_said_before_a_good_bye_comes_to_whoever_was_away_and_then_the_room_is_over() -> None:
    table = Table()
    table.enter("ann")
    ben = table.enter("ben")
    token = table.of("ann", "welcome")[0]["token"]
    table.give(server.Closed("ann"))
    room = whisper(table, "ben", ben, 1, "ann")["room"]
    table.send("ben", {"type": "bye"})

    def back(name: str, token: str, cursors: dict[str, int]) -> Any:
        table.give(server.Opened(name))
        resume = {"token": token, "cursors": cursors}
        return table.send(name, {"type": "hello", "version": 1, "resume": resume})[0]

    welcome = back("again", token, {})
    assert room in welcome["rooms"]
    told = [(event["kind"], event["text"]) for event in table.of("again", "event") if event["room"] == room]
    assert told == [("say", "psst 1"), ("left", "bye")]
    assert room in back("in between", welcome["token"], {room: 1, "lobby": 3})["rooms"]
    welcome = back("later", table.of("in between", "welcome")[0]["token"], {room: 2, "lobby": 3})
    assert welcome["rooms"] == ["lobby"]
    assert not [told for told in table.told["later"] if told.get("room") == room]
    (answer,) = table.send("later", {"type": "post", "id": [welcome["session"], 2], "room": room, "text": "hello?"})
    assert answer["code"] == "gone"


def test_nobody_posts_to_somebody_who_has_left() -> None:
    table = Table()
    ann, ben = table.enter("ann"), table.enter("ben")
    room = whisper(table, "ann", ann, 1, "ben")["room"]
    table.send("ben", {"type": "leave", "id": [ben, 1], "room": room})
    (answer,) = table.send("ann", {"type": "post", "id": [ann, 2], "room": room, "text": "hello?"})
    assert answer["code"] == "gone"
    assert [event.kind for event in table.log.read(room, 0, 9)] == ["say", "left"]


def test_a_private_room_that_was_left_stays_left_behind_a_restart() -> None:
    table = Table()
    ann, ben = table.enter("ann"), table.enter("ben")
    room = whisper(table, "ann", ann, 1, "ben")["room"]
    table.send("ben", {"type": "leave", "id": [ben, 1], "room": room})
    again = Table(log=table.log)
    rooms = {}
    for name in ("ann", "ben"):
        again.give(server.Opened(name))
        resume = {"token": table.of(name, "welcome")[0]["token"]}
        rooms[name] = again.send(name, {"type": "hello", "version": 1, "resume": resume})[0]["rooms"]
    assert rooms == {"ann": [room, "lobby"], "ben": ["lobby"]}


# -------------------------------------------------------------------- who floods by moving


def test_an_address_has_so_many_new_sessions_and_comes_back_freely() -> None:
    table = Table(Options(newcomers=3, newcomer_rate=0.5))

    def come(name: str, origin: str, **hello: Any) -> Any:
        table.give(server.Opened(name, origin=origin))
        return table.send(name, {"type": "hello", "version": 1, **hello})[0]

    first = [come(f"a{number}", "10.0.0.1") for number in range(3)]
    assert [answer["type"] for answer in first] == ["welcome"] * 3
    refused = come("a3", "10.0.0.1")
    assert (refused["code"], refused["reconnect"]) == ("too-many-new", 2.0)
    assert "a3" in table.shut
    assert come("b", "10.0.0.2")["type"] == "welcome"
    assert [come(f"u{number}", "")["type"] for number in range(5)] == ["welcome"] * 5
    assert come("a0 again", "10.0.0.1", resume={"token": first[0]["token"]})["resumed"]
    table.wait(2.0)
    assert come("a4", "10.0.0.1")["type"] == "welcome"
    assert come("a5", "10.0.0.1")["code"] == "too-many-new"
    assert table.hub.held["origins"] == 1  # the other one is as if it had never come
    table.wait(6.0)
    assert table.hub.held["origins"] == 0


def test_joins_are_counted_and_leaving_is_always_allowed() -> None:
    table = Table(Options(request_burst=10_000, move_burst=4, move_rate=1.0))
    session = table.enter("ann", room=None)

    def ask(kind: str, number: int, room: str) -> Any:
        answers = table.send("ann", {"type": kind, "id": [session, number], "room": room})
        return next(answer for answer in answers if answer["type"] in ("ok", "error"))

    assert [ask("join", number, f"r{number}")["type"] for number in range(1, 5)] == ["ok"] * 4
    assert (ask("join", 5, "r5")["code"], ask("join", 5, "r5")["retry_after"]) == ("rate", 1.0)
    assert ask("leave", 6, "r1")["type"] == "ok"
    table.wait(1.0)
    assert ask("join", 7, "r1")["code"] == "rate"  # to have left has its price
    table.wait(1.0)
    assert ask("join", 8, "r1")["type"] == "ok"


def test_a_new_name_costs_as_much_as_there_are_rooms_that_are_told_of_it() -> None:
    table = Table(Options(move_burst=12, move_rate=2.0))
    session = table.enter("ann", room=None)
    for number in range(1, 11):
        table.send("ann", {"type": "join", "id": [session, number], "room": f"r{number}"})
    stored = 0
    for step in range(100):  # ten seconds
        answer = table.send("ann", {"type": "rename", "id": [session, 100 + step], "name": f"ann{step}"})[-1]
        stored += 10 * (answer["type"] == "ok")
        table.wait(0.1)
    assert 20 <= stored <= 2 + 10 * 2.0 + 10


@pytest.mark.parametrize("first", [None, "lobby"])
def test_the_lobby_can_be_joined_when_all_rooms_are_taken_and_takes_none(first: str | None) -> None:
    table = Table(Options(max_rooms=2, move_burst=100))
    eve = table.enter("eve", room=first)
    for number in (1, 2):
        table.send("eve", {"type": "join", "id": [eve, number], "room": f"r{number}"})
    assert set(table.hub.rooms) >= {"r1", "r2"}
    ann = table.enter("ann", room=None)

    def join(number: int, room: str) -> str:
        answers = table.send("ann", {"type": "join", "id": [ann, number], "room": room})
        return next(str(answer.get("code", "ok")) for answer in answers if answer["type"] in ("ok", "error"))

    assert (join(1, "attic"), join(2, "Lobby"), join(3, "r1")) == ("too-many-rooms", "ok", "ok")


def test_the_reason_of_a_good_bye_is_short_and_clean() -> None:
    table = Table()
    table.enter("ann")
    table.enter("ben")
    table.send("ben", {"type": "bye", "reason": "\x1b[31mBUY BUY\n" * 15})
    text = table.of("ann", "event")[-1]["text"]
    assert text.startswith("BUY BUY")
    assert len(text) <= server.MAX_REASON
    assert table.log.read("lobby", 2, 1)[0].text == text


def test_idle_time_saves_up_no_posts() -> None:
    table = Table(Options(burst=3, rate=1.0, heartbeat=10_000.0))
    session = table.enter("ann")
    table.wait(1000.0)

    def post(number: int) -> str:
        answers = table.send("ann", {"type": "post", "id": [session, number], "room": "lobby", "text": "x"})
        return next(str(answer.get("code", "ok")) for answer in answers if answer["type"] in ("ok", "error"))

    assert [post(number) for number in range(1, 6)] == ["ok", "ok", "ok", "rate", "rate"]


def test_who_connects_anew_has_no_more_posts_than_before() -> None:
    table = Table(Options(burst=2, rate=0.1))
    session = table.enter("ann")
    token = table.of("ann", "welcome")[0]["token"]

    def post(name: str, number: int) -> str:
        answers = table.send(name, {"type": "post", "id": [session, number], "room": "lobby", "text": "x"})
        return next(str(answer.get("code", "ok")) for answer in answers if answer["type"] in ("ok", "error"))

    assert [post("ann", number) for number in (1, 2, 3)] == ["ok", "ok", "rate"]
    table.give(server.Opened("again"))
    assert table.send("again", {"type": "hello", "version": 1, "resume": {"token": token}})[0]["resumed"]
    assert post("again", 3) == "rate"


# -------------------------------------------------------------------- posts, pages, rooms


@pytest.mark.parametrize("kept", ["memory", "file"])
def test_a_post_that_is_repeated_within_a_batch_is_stored_once(kept: str, tmp_path: Path) -> None:
    log: Any = MemoryLog() if kept == "memory" else SQLiteLog(tmp_path / "chat.db")
    table = Table(Options(burst=1000), log)
    session = table.enter("ann")

    def post(number: int) -> server.Received:
        message = {"type": "post", "id": [session, number], "room": "lobby", "text": str(number)}
        return server.Received("ann", message)

    table.give(*(post(number) for number in range(1, server.RECENT + 2)), post(1))
    answers = [told["seq"] for told in table.of("ann", "ok") if tuple(told["id"]) == (session, 1)]
    assert answers == [2, 2]
    assert sum(event.text == "1" for event in log.read("lobby", 0, 1000)) == 1


def test_a_page_of_history_has_as_much_as_fits_into_a_frame() -> None:
    table = Table(Options(burst=1000))
    session = table.enter("ann")
    for number in range(1, 61):
        table.send("ann", {"type": "post", "id": [session, number], "room": "lobby", "text": "x" * 500})
    (page,) = table.send("ann", {"type": "history", "id": [session, 100], "room": "lobby", "limit": 50})
    assert (len(page["events"]), page["more"]) == (50, True)
    for number in range(61, 81):
        table.send("ann", {"type": "post", "id": [session, number], "room": "lobby", "text": '"' * 4000})
    (page,) = table.send("ann", {"type": "history", "id": [session, 101], "room": "lobby", "limit": 50})
    assert 60_000 - 9000 < len(msgspec.json.encode(page)) <= 1 << 16


@pytest.mark.parametrize(("limit", "more"), [(1, True), (2, True), (3, False), (4, False)])
def test_a_page_tells_whether_there_is_more(limit: int, more: bool) -> None:
    table = Table()
    session = table.enter("ann")
    for number in (1, 2):
        table.send("ann", {"type": "post", "id": [session, number], "room": "lobby", "text": "x"})
    (page,) = table.send("ann", {"type": "history", "id": [session, 9], "room": "lobby", "limit": limit})
    assert page["more"] is more


@pytest.mark.parametrize("kind", ["post", "history", "who", "leave"])
def test_an_open_room_that_one_is_not_in_is_asked_in_vain(kind: str) -> None:
    table = Table()
    table.enter("ann", room="attic")
    ben = table.enter("ben")
    more = {"text": "hi"} if kind == "post" else {}
    (answer,) = table.send("ben", {"type": kind, "id": [ben, 1], "room": "attic", **more})
    assert answer["code"] == "not-in-room"
    assert table.log.head("attic") == 1


def test_whoever_has_left_is_told_nothing_more_of_the_room() -> None:
    table = Table()
    ann, ben = table.enter("ann"), table.enter("ben")
    table.send("ann", {"type": "leave", "id": [ann, 1], "room": "lobby"})
    before = len(table.told["ann"])
    table.send("ben", {"type": "post", "id": [ben, 1], "room": "lobby", "text": "is she gone?"})
    assert table.told["ann"][before:] == []
    assert table.hub.held["live"] == 2 + 1  # the announcements, and ben in the lobby


def test_tokens_are_not_stored_in_clear(tmp_path: Path) -> None:
    log: Any = SQLiteLog(tmp_path / "chat.db")
    table = Table(log=log)
    table.hub = Hub(log)
    own = "made-up-by-the-client-0123456789"
    table.enter("ann", resume={"token": own})
    token = table.of("ann", "welcome")[0]["token"]
    log.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"ann" in stored
    assert token.encode() not in stored
    assert own.encode() not in stored


def test_what_is_refused_is_told_without_what_a_terminal_obeys() -> None:
    table = Table()
    table.enter("ann")
    (answer,) = table.send("ann", {"type": "\x9b31mred"})
    assert answer["code"] == "unsupported"
    (malformed,) = table.send("ann", {"type": "post", "kind": "\x1b[31m\x07"})
    assert all(each["text"].isprintable() for each in (answer, malformed))


def test_members_and_the_events_behind_them_are_the_later_members() -> None:
    """At every step of people who come, go and take other names, for each who watches, in batches."""
    chance = random.Random(7)
    fast: dict[str, Any] = {"request_burst": 10**6, "move_burst": 10**6, "burst": 10**6}
    table = Table(Options(**fast))
    sessions = {name: table.enter(name) for name in ("ann", "ben", "cat", "dan")}
    numbers = iter(range(2000, 10**6))
    for _ in range(300):
        batch: list[server.Input] = []
        for _ in range(chance.randrange(1, 5)):
            name = chance.choice(list(sessions))
            kind = chance.choice(["join", "leave", "rename", "who", "post"])
            fields = {"rename": {"name": f"{name}{chance.randrange(9)}"}, "post": {"room": "lobby", "text": "x"}}
            message = {"type": kind, "id": [sessions[name], next(numbers)], **fields.get(kind, {"room": "lobby"})}
            batch.append(server.Received(name, message))
        table.give(*batch)
    compared = 0
    for name in sessions:
        known: set[str] | None = None
        at = 0
        for told in table.told[name]:
            if told.get("room") != "lobby":
                continue
            if told["type"] == "members":
                if known is not None and told["at"] == at:
                    assert set(told["names"]) == known
                    compared += 1
                if told["at"] >= at:
                    known, at = set(told["names"]), told["at"]
            elif told["type"] == "ok" and "seq" not in told:
                known = None if at == 0 else known
            elif told["type"] == "event" and known is not None and told["seq"] > at:
                if told["seq"] != at + 1:
                    known = None  # it was away meanwhile
                    continue
                at = told["seq"]
                if told["kind"] == "joined":
                    known.add(told["sender"])
                elif told["kind"] == "left":
                    known.discard(told["sender"])
                elif told["kind"] == "renamed":
                    known.discard(told["sender"])
                    known.add(told["text"])
    assert compared > 50


def test_ten_thousand_joins_and_leaves_of_those_who_stay_leave_no_tables_behind() -> None:
    fast: dict[str, Any] = {"request_burst": 10**6, "move_burst": 10**6, "burst": 10**6}
    table = Table(Options(**fast))
    people = {name: table.enter(name, room=None) for name in ("ann", "ben")}
    before = table.hub.held
    for number in range(1, 10_001):
        name = "ann" if number % 2 else "ben"
        room = f"r{number % 77}"
        table.give(
            server.Received(name, {"type": "join", "id": [people[name], 2 * number], "room": room}),
            server.Received(name, {"type": "leave", "id": [people[name], 2 * number + 1], "room": room}),
        )
        table.told.clear()
    assert table.hub.held == before
    assert table.hub.rooms == {}
    for name in people:
        table.send(name, {"type": "bye"})
    held = table.hub.held
    assert {what for what, count in held.items() if count} == {"rooms"}
    assert held["rooms"] == 1  # the announcements


def test_of_very_many_rooms_the_fullest_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(Options(move_burst=100))
    people = {name: table.enter(name, room=None) for name in ("ann", "ben", "cat")}
    for room, names in (("a", ["ann"]), ("b", ["ann", "ben"]), ("c", ["ann", "ben", "cat"]), ("d", ["cat"])):
        for number, name in enumerate(names):
            table.send(name, {"type": "join", "id": [people[name], 10 + number], "room": room})
    (answer,) = table.send("ann", {"type": "rooms", "id": [people["ann"], 20]})
    assert list(answer["rooms"].items()) == [("c", 3), ("b", 2), ("a", 1), ("d", 1)]
    monkeypatch.setattr(server, "REPLY_BYTES", 40)
    (answer,) = table.send("ann", {"type": "rooms", "id": [people["ann"], 21]})
    assert answer["rooms"] == {"c": 3, "b": 2}


def test_a_page_has_what_is_stored_and_nothing_that_may_not_come_to_be() -> None:
    """Asked for in one batch with a post, which is in no log yet: the page ends before it."""
    table = Table()
    session = table.enter("ann")
    post = {"type": "post", "id": [session, 1], "room": "lobby", "text": "now"}
    history = {"type": "history", "id": [session, 2], "room": "lobby", "limit": 1}
    table.give(server.Received("ann", post), server.Received("ann", history))
    (page,) = table.of("ann", "page")
    assert [(event["seq"], event["kind"]) for event in page["events"]] == [(1, "joined")]
    (page,) = table.send("ann", {**history, "id": [session, 3]})
    assert [(event["seq"], event["kind"]) for event in page["events"]] == [(2, "say")]


def test_pings_are_counted_as_requests_are() -> None:
    table = Table(Options(request_burst=3, request_rate=1.0))
    table.enter("ann", room=None)
    answers = [table.send("ann", {"type": "ping", "n": number})[0] for number in range(1, 6)]
    assert [answer["type"] for answer in answers] == ["pong"] * 3 + ["error"] * 2
    assert (answers[3]["code"], answers[3]["retry_after"]) == ("rate", 1.0)


def test_who_has_missed_nothing_while_it_read_nothing_is_told_of_no_lag() -> None:
    table = Table()
    ann = table.enter("ann", room="attic")
    ben = table.enter("ben")
    table.send("ann", {"type": "join", "id": [ann, 1], "room": "lobby"})
    table.give(server.Blocked("ann"))
    table.send("ben", {"type": "post", "id": [ben, 1], "room": "lobby", "text": "hi"})
    table.give(server.Drained("ann"))
    assert [told["room"] for told in table.of("ann", "lag")] == ["lobby"]


HALF = "\ud800"  # of a surrogate pair


@pytest.mark.parametrize("introduced", [False, True])
@pytest.mark.parametrize(
    "message",
    [
        {"type": HALF},
        {"type": "hello", "version": 1, "name": HALF},
        {"type": "hello", "version": HALF},
        {"type": "hello", "version": 1, "password": HALF},
        {"type": "hello", "version": 1, "resume": {"token": HALF * 20}},
        {"type": "hello", "version": 1, "resume": {"token": "t" * 20, "cursors": {HALF: 1}}},
        {"type": "join", "id": ["s", 1], "room": HALF},
        {"type": "join", "id": [HALF, 1], "room": "a"},
        {"type": "join", "id": [HALF, 1], "room": 7},
        {"type": "post", "id": ["s", 1], "room": "lobby", "text": f"x{HALF}"},
        {"type": "post", "id": ["s", 1], "to": HALF, "text": "x"},
        {"type": "rename", "id": ["s", 1], "name": HALF},
        {"type": "bye", "reason": HALF},
        {"type": "ping", "n": HALF},
    ],
)
def test_halves_of_surrogate_pairs_are_refused_as_malformed(message: Any, introduced: bool, tmp_path: Path) -> None:
    """No codec of the library gives them; a program that hands the hub what it has read elsewhere may."""
    with SQLiteLog(tmp_path / "chat.db") as log:
        table = Table(Options(passwords=True), log)  # type: ignore[arg-type] # any log will do
        table.give(server.Opened("ann", private=True))
        if introduced:
            table.send("ann", {**HELLO, "password": "p"})
            table.give(server.Verified("ann", right=True))
        (answer,) = table.send("ann", message)
        refused = "unsupported" if message["type"] == HALF else "malformed"
        # Nobody can tell how long it is; a stranger must be brief.
        assert answer["code"] == (refused if introduced else "too-long")
        msgspec.json.encode(table.told["ann"])
        assert len(table.asked) == introduced, "nothing was done"
        table.give(server.Announced(f"tea{HALF} is ready"))
        if introduced:
            assert table.send("ann", {"type": "ping", "n": 3})[-1] == {"type": "pong", "n": 3}
        assert [event.text for event in log.read("server", 0, 9)] == ["tea is ready"]
