"""The client by itself: what it sends and shows, given what a server says. (Its promises: test_promises.)"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from protocols.chat import client as person
from protocols.chat.messages import Error, to_map
from tests.protocols.chat.puppets import LIMITS, welcome


class Desk:
    """A client and its outputs, by hand; the time is a number."""

    def __init__(self, *rooms: str, **options: Any) -> None:
        self.now = 1000.0
        self.client = person.Client(rooms=rooms, chance=lambda: 1.0, **{"name": "ann", **options})
        self.sent: list[dict[str, Any]] = []
        self.shown: list[Any] = []
        self.give(person.Wake())

    def give(self, given: person.Input, *, after: float = 0.0) -> list[Any]:
        self.now += after
        outputs = self.client.handle(given, self.now)
        self.sent += [to_map(output.message) for output in outputs if isinstance(output, person.Transmit)]
        self.shown += [output for output in outputs if not isinstance(output, person.Transmit)]
        return outputs

    def tell(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            self.give(person.Received(message))

    def enter(self, **options: Any) -> None:
        self.give(person.Connected())
        self.tell(welcome(**options))

    def last(self, kind: str) -> dict[str, Any]:
        return next(message for message in reversed(self.sent) if message["type"] == kind)

    def of(self, kind: type) -> list[Any]:
        return [output for output in self.shown if isinstance(output, kind)]

    @property
    def state(self) -> person.Changed:
        changed: person.Changed = self.of(person.Changed)[-1]
        return changed


def ok(id_: Any, **more: Any) -> dict[str, Any]:
    return {"type": "ok", "id": id_, **more}


# ------------------------------------------------------------------------- posts


def test_posts_are_sent_one_by_one_and_told_of_as_pending_and_stored() -> None:
    desk = Desk()
    desk.give(person.Say("before there is a connection", room="a"))
    desk.enter()
    desk.give(person.Say("second", to="ben"))
    assert [post.state for post in desk.of(person.Posted)] == ["pending", "pending"]
    assert (desk.last("post")["text"], desk.client.pending) == ("before there is a connection", 2)
    desk.tell(ok(desk.last("post")["id"]))
    assert (desk.last("post")["text"], desk.last("post")["to"]) == ("second", "ben")
    desk.tell({"type": "error", "code": "no-such-name", "text": "nobody", "id": desk.last("post")["id"]})
    assert [(post.number, post.state, post.why) for post in desk.of(person.Posted)[2:]] == [
        (1, "stored", ""),
        (2, "failed", "nobody"),
    ]


def test_a_post_that_came_too_soon_is_sent_again_when_the_server_has_said() -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Say("a", room="r"))
    first = desk.last("post")
    desk.tell({"type": "error", "code": "rate", "text": "slower", "id": first["id"], "retry_after": 2.5})
    assert desk.client.wake_at == desk.now + 2.5
    desk.give(person.Wake(), after=2.4)
    assert sum(message["type"] == "post" for message in desk.sent) == 1
    desk.give(person.Wake(), after=0.2)
    assert desk.last("post") == first
    assert sum(message["type"] == "post" for message in desk.sent) == 2


def test_posts_without_an_answer_are_sent_again_by_the_same_id() -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Say("a", room="r"))
    first = desk.last("post")
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    desk.enter(resumed=True)
    assert desk.last("post") == first


def test_a_post_that_may_be_stored_is_sent_again_though_the_server_has_narrower_limits_now() -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Say("x" * 100, room="r"))
    first = desk.last("post")
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    before = len(desk.sent)
    desk.enter(resumed=True, limits={**LIMITS, "text": 10})
    assert desk.sent[before + 1 :] == [first]


def test_where_the_session_is_forgotten_it_is_not_guessed_whether_a_post_was_stored() -> None:
    desk = Desk()
    desk.enter()
    for text in ("sent", "not sent"):
        desk.give(person.Say(text, room="r"))
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    desk.enter(session="another")
    failed = [post for post in desk.of(person.Posted) if post.state == "failed"]
    assert [(post.text, "not known" in post.why) for post in failed] == [("sent", True)]
    assert (desk.last("post")["text"], desk.last("post")["id"]) == ("not sent", ("another", 1))


@pytest.mark.parametrize(
    ("say", "why"),
    [
        (person.Say("x" * 8193, room="r"), "8192 bytes"),
        (person.Say("\u20ac" * 2731, room="r"), "8192 bytes"),
        (person.Say("\n".join("x" * 101), room="r"), "100 lines"),
        (person.Say("x" * (1 << 20), room="r"), "8192 bytes"),
        (person.Say(" \x1b[2J\n", room="r"), "nothing to say"),
        (person.Say("a", room="r" * 200), "a name has 1 to 32 characters"),
        (person.Say("a", room="\udcff"), "no text"),
        (person.Say("a", to="t" * 65), "a name has 1 to 32 characters"),
    ],
)
def test_what_the_server_must_refuse_or_end_the_connection_for_is_not_sent(say: person.Say, why: str) -> None:
    desk = Desk()
    desk.enter()
    desk.give(say)
    desk.give(person.Say("after", room="r"))
    failed = desk.of(person.Posted)[1]
    assert (failed.state, why in failed.why) == ("failed", True), failed
    assert [message["text"] for message in desk.sent if message["type"] == "post"] == ["after"]


def test_what_is_sent_is_clean() -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Say("a\x1b[31mb\udcff\x07c" + "\x00" * 100_000, room="r"))
    assert desk.last("post")["text"] == "abc"


def test_who_speaks_behind_the_end_is_told_that_nobody_hears() -> None:
    desk = Desk()
    desk.enter()
    desk.tell({"type": "close", "code": "stopping", "text": "the server ends"})
    assert (desk.state.state, desk.state.end, desk.client.ended) == ("ended", "closed", True)
    desk.give(person.Say("hello?", room="r"))
    assert desk.of(person.Posted)[-1].state == "failed"


# ---------------------------------------------------------- what is asked for otherwise


def test_what_was_asked_for_without_a_connection_is_asked_for_with_one() -> None:
    desk = Desk("lobby")
    desk.enter(rooms=["lobby"])
    desk.give(person.Lost("cut"))
    for what, argument in (("join", "attic"), ("leave", "lobby"), ("rename", "anna"), ("who", "attic"), ("rooms", "")):
        desk.give(person.Ask(what, argument))  # type: ignore[arg-type]
    before = len(desk.sent)
    desk.give(person.Wake(), after=1)
    desk.enter(resumed=True, rooms=["lobby"])
    asked = {message["type"] for message in desk.sent[before:]}
    assert asked == {"hello", "join", "leave", "rename", "rooms"}
    assert (desk.last("join")["room"], desk.last("rename")["name"]) == ("attic", "anna")
    desk.tell(ok(desk.last("join")["id"], room="attic", seq=0))
    assert desk.last("who")["room"] == "attic"  # now one is in it


def test_what_was_lost_with_a_connection_is_asked_for_again() -> None:
    desk = Desk()
    desk.enter()
    for what, argument in (("history", "r"), ("rename", "anna")):
        desk.give(person.Ask(what, argument))  # type: ignore[arg-type]
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    before = len(desk.sent)
    desk.enter(resumed=True)
    assert [message["type"] for message in desk.sent[before + 1 :]] == ["rename", "history"]
    desk.tell(ok(desk.last("rename")["id"]))
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    before = len(desk.sent)
    desk.enter(resumed=True, name="anna2")  # somebody else has that name now
    assert "rename" not in [message["type"] for message in desk.sent[before:]], "it is done"


def test_a_name_that_was_refused_is_not_asked_for_again() -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Ask("rename", "ben"))
    desk.tell({"type": "error", "code": "name-taken", "text": "taken", "id": desk.last("rename")["id"]})
    trouble = desk.of(person.Trouble)[-1]
    assert (trouble.error.text, trouble.ask) == ("taken", person.Ask("rename", "ben"))
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    before = len(desk.sent)
    desk.enter(resumed=True)
    assert "rename" not in [message["type"] for message in desk.sent[before:]]


@pytest.mark.parametrize("room", ["r" * 100_000, "\udcff", ""])
def test_a_room_that_cannot_be_asked_for_is_refused_here_once(room: str) -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Ask("join", room))
    trouble = desk.of(person.Trouble)[-1]
    assert trouble.ask == person.Ask("join", room)
    assert trouble.error.text in ("a name has 1 to 32 characters", "this holds what is no text")
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    desk.enter(resumed=True)
    assert len(desk.of(person.Trouble)) == 1
    assert not [message for message in desk.sent if message["type"] == "join"]


def test_questions_that_wait_for_a_connection_are_bounded() -> None:
    desk = Desk()
    for _ in range(person.MOST_OWED + 5):
        desk.give(person.Ask("rooms"))
    assert len(desk.of(person.Trouble)) == 5
    desk.enter()
    assert sum(message["type"] == "rooms" for message in desk.sent) == person.MOST_OWED
    for _ in range(5):
        desk.give(person.Ask("rooms"))
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    assert len(desk.of(person.Trouble)) == 10, "those that are given up are told of"
    assert desk.of(person.Trouble)[-1] == person.Trouble(
        Error(code="refused", text="there is no connection"), person.Ask("rooms")
    )
    before = len(desk.sent)
    desk.enter(resumed=True)
    assert len(desk.sent) - before == 1 + person.MOST_OWED


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"password": "\udcff"}, "this holds what is no text"),
        ({"password": "x" * 5000}, "this password is longer than any is"),
        ({"name": "x" * 65}, "a name has 1 to 32 characters"),
        ({"name": ""}, "a name has 1 to 32 characters"),
    ],
)
def test_a_hello_that_cannot_be_sent_ends_it_and_says_why_in_words(options: dict[str, Any], why: str) -> None:
    desk = Desk(**options)
    desk.give(person.Connected())
    assert (desk.state.end, desk.sent) == ("closed", [])
    assert [trouble.error.text for trouble in desk.of(person.Trouble)] == [why]


# ------------------------------------------------------------- what comes too soon for the server


def too_soon(desk: Desk, message: dict[str, Any], wait: float) -> None:
    desk.tell({"type": "error", "code": "rate", "text": "slower", "id": message["id"], "retry_after": wait})


def iter_sent(desk: Desk, first: int) -> Iterator[dict[str, Any]]:
    """What was sent, and what is sent meanwhile."""
    while first < len(desk.sent):
        yield desk.sent[first]
        first += 1


def count(desk: Desk, kind: str) -> int:
    return sum(message["type"] == kind for message in desk.sent)


@pytest.mark.parametrize(("what", "argument"), [("join", "r"), ("leave", "r"), ("rename", "anna"), ("who", "r")])
def test_what_was_asked_too_soon_is_asked_again_when_the_server_has_said(what: Any, argument: str) -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Ask(what, argument))
    too_soon(desk, desk.last(what), 1.5)
    assert desk.client.wake_at == desk.now + 1.5
    desk.give(person.Wake(), after=1.4)
    assert count(desk, what) == 1
    desk.give(person.Wake(), after=0.2)
    assert count(desk, what) == 2
    desk.tell(ok(desk.last(what)["id"], room="r", seq=0))
    desk.give(person.Wake(), after=5)
    assert (count(desk, what), desk.client.asking, desk.of(person.Trouble)) == (2, 0, [])


def test_behind_a_refusal_they_are_asked_one_by_one_in_their_order_and_not_before_the_time() -> None:
    rooms = [f"r{number}" for number in range(40)]
    desk = Desk(*rooms)
    desk.enter()
    assert [message["room"] for message in desk.sent[1:]] == rooms[: person.MOST_OWED]
    entered: list[str] = []
    for message in iter_sent(desk, 1):  # four are taken, and those behind them came too soon
        if len(entered) < 4:
            entered.append(message["room"])
            desk.tell(ok(message["id"], room=message["room"], seq=0))
        else:
            too_soon(desk, message, 0.5)
    under_way = [message["room"] for message in desk.sent[1:]]
    assert under_way == rooms[: person.MOST_OWED + 4]
    asks = 0
    while len(entered) < len(rooms):
        asks += 1
        assert asks < 200
        before, wake = len(desk.sent), desk.client.wake_at
        assert wake is not None
        assert wake > desk.now, "it would spin"
        desk.give(person.Wake(), after=wake - desk.now)
        (message,) = desk.sent[before:]
        if asks % 3:
            too_soon(desk, message, 0.5)
        else:
            entered.append(message["room"])
            desk.tell(ok(message["id"], room=message["room"], seq=0))
            for following in iter_sent(desk, before + 1):
                too_soon(desk, following, 0.5)
    assert entered == rooms
    assert desk.client.asking == 0
    desk.give(person.Ask("rooms"))
    desk.give(person.Ask("rooms"))
    assert count(desk, "rooms") == 2, "those were the refusals of then"


def test_what_concerns_a_room_waits_until_it_is_known_whether_one_is_in_it() -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Ask("join", "Attic"))
    for ask in (person.Ask("who", "attic"), person.Ask("leave", "attic"), person.Ask("join", "attic")):
        desk.give(ask)
    desk.give(person.Say("hello", room="attic"))
    desk.give(person.Ask("who", "elsewhere"))
    assert [message["type"] for message in desk.sent[1:]] == ["join", "who"]
    too_soon(desk, desk.last("join"), 1.0)
    desk.give(person.Wake(), after=1)
    wake = desk.client.wake_at
    assert wake is not None
    assert wake > desk.now, "there is nothing to do but to wait for an answer"
    expected = ["join", "who", "leave", "join"]
    desk.tell(ok(next(message["id"] for message in desk.sent if message["type"] == "who")))
    for place, kind in enumerate(expected, 3):
        assert desk.sent[place]["type"] == kind, desk.sent[place:]
        desk.tell(ok(desk.sent[place]["id"], room="attic", seq=0))
    assert desk.sent[7]["text"] == "hello"


def test_of_two_names_the_later_one_stays_though_the_first_came_too_soon() -> None:
    desk = Desk()
    desk.enter()
    for name in ("anna", "annette"):
        desk.give(person.Ask("rename", name))
    too_soon(desk, desk.last("rename"), 1.0)
    desk.give(person.Wake(), after=1.0)
    for name in ("anna", "annette"):
        assert desk.last("rename")["name"] == name
        desk.tell(ok(desk.last("rename")["id"]))
    assert (desk.client.name, count(desk, "rename")) == ("annette", 3)


def test_rooms_that_were_asked_for_too_soon_are_asked_for_over_the_next_connection() -> None:
    desk = Desk("a", "b", "c")
    desk.enter()
    desk.give(person.Ask("who", "d"))
    for message in desk.sent[1:]:
        too_soon(desk, message, 600.0)
    desk.give(person.Ask("rooms"))
    desk.give(person.Ask("leave", "b"))
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    before = len(desk.sent)
    desk.enter(resumed=True)
    assert [(each["type"], each.get("room")) for each in desk.sent[before + 1 :]] == [
        ("join", "a"),
        ("join", "c"),
        ("who", "d"),
        ("rooms", None),
    ]


def test_a_long_wait_is_told_of_once() -> None:
    desk = Desk("a", "b", "c")
    desk.enter()
    for message in desk.sent[1:]:
        too_soon(desk, message, 30.0)
    assert desk.of(person.Slowed) == [person.Slowed(person.Ask("join", "a"), desk.now + 30.0)]
    desk.give(person.Wake(), after=30)
    too_soon(desk, desk.last("join"), 0.5)
    assert len(desk.of(person.Slowed)) == 1


def test_who_leaves_waits_a_little_for_what_came_too_soon() -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Ask("who", "r"))
    too_soon(desk, desk.last("who"), 0.5)
    desk.give(person.Leaving())
    assert not desk.client.ended
    desk.give(person.Wake(), after=0.5)
    assert count(desk, "who") == 2
    desk.tell(ok(desk.last("who")["id"]))
    assert (desk.state.end, count(desk, "bye")) == ("left", 1)


def test_requests_that_wait_are_bounded_whatever_the_server_does_not_answer() -> None:
    desk = Desk()
    desk.enter()
    for number in range(2 * person.MOST_ROOMS):
        desk.give(person.Ask("join", f"r{number}"))
        desk.give(person.Ask("leave", f"r{number}"))
    assert desk.client.asking <= person.MOST_OWED + person.MOST_ROOMS
    assert desk.of(person.Trouble)
    assert len(desk.sent) <= 1 + person.MOST_OWED


# ------------------------------------------------------------------------ history


def page(desk: Desk, first: int, last: int, *, more: bool, room: str = "r") -> None:
    event = {"type": "event", "room": room, "time": 0, "sender": "x", "kind": "say", "text": "y"}
    events = [{**event, "seq": seq} for seq in range(first, last + 1)]
    desk.tell({"type": "page", "id": desk.last("history")["id"], "room": room, "events": events, "more": more})


def asked(desk: Desk) -> list[tuple[Any, ...]]:
    return [
        (each["room"], each.get("before"), each.get("limit", 50)) for each in desk.sent if each["type"] == "history"
    ]


def test_history_goes_on_further_back_up_to_the_beginning_and_then_anew() -> None:
    desk = Desk()
    desk.enter()
    desk.tell({"type": "reset", "room": "r", "seq": 40})
    further = person.Ask("history", "R", limit=20, further=True)
    desk.give(person.Ask("history", "r", limit=15))
    desk.give(further)  # its answer has not come, and only that tells from where on
    assert asked(desk) == [("r", None, 15)]
    page(desk, 30, 40, more=True)
    assert asked(desk)[1:] == [("r", 30, 15)]
    page(desk, 20, 29, more=True)
    desk.give(further)
    assert asked(desk)[2:] == [("r", 20, 15)]
    page(desk, 1, 19, more=False)
    desk.give(further)
    assert [trouble.error.text for trouble in desk.of(person.Trouble)] == ["there is nothing before that"]
    desk.give(person.Ask("history", "r"))
    assert asked(desk)[3:] == [("r", None, 50)]


def test_a_page_with_nothing_before_it_is_the_last_wherever_it_begins() -> None:
    desk = Desk()
    desk.enter()
    desk.tell({"type": "reset", "room": "r", "seq": 40})
    desk.give(person.Ask("history", "r", limit=15))
    page(desk, 30, 40, more=False)  # what was before them is kept no more
    desk.give(person.Ask("history", "r", further=True))
    assert asked(desk) == [("r", None, 15)]
    assert [trouble.error.text for trouble in desk.of(person.Trouble)] == ["there is nothing before that"]


def test_history_that_was_lost_with_a_connection_keeps_its_order() -> None:
    desk = Desk("r")
    desk.enter(rooms=["r"])
    desk.tell({"type": "reset", "room": "r", "seq": 40})
    desk.give(person.Ask("history", "r", limit=5))
    desk.give(person.Ask("history", "r", further=True))
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=1)
    desk.enter(resumed=True, rooms=["r"])
    assert asked(desk) == [("r", None, 5)] * 2
    page(desk, 36, 40, more=True)
    assert asked(desk)[2:] == [("r", 36, 5)]


def test_history_behind_one_that_is_refused_is_asked_for_all_the_same() -> None:
    desk = Desk()
    desk.enter()
    desk.give(person.Ask("history", "r", limit=5))
    desk.give(person.Ask("history", "r", further=True))
    desk.tell({"type": "error", "code": "not-in-room", "text": "no", "id": desk.last("history")["id"]})
    assert asked(desk) == [("r", None, 5), ("r", None, 50)]


def test_history_that_was_asked_for_too_soon_keeps_its_order() -> None:
    desk = Desk()
    desk.enter()
    desk.tell({"type": "reset", "room": "r", "seq": 40})
    desk.give(person.Ask("history", "r", limit=5))
    desk.give(person.Ask("history", "r", further=True))
    too_soon(desk, desk.last("history"), 1.0)
    desk.give(person.Wake(), after=1.0)
    assert asked(desk) == [("r", None, 5)] * 2
    page(desk, 36, 40, more=True)
    assert asked(desk)[2:] == [("r", 36, 5)]


def test_history_of_a_private_conversation_is_that_with_the_one_who_is_named() -> None:
    desk = Desk()
    desk.enter()
    for room, other in (("@a+s", "Ben"), ("@b+s", "carol")):
        desk.tell({"type": "members", "room": room, "names": ["ann", other], "at": 0})
    desk.give(person.Ask("history", "@ben"))
    desk.give(person.Ask("history", "@b+s"))
    assert asked(desk) == [("@a+s", None, 50), ("@b+s", None, 50)]
    desk.give(person.Ask("history", "@dave"))
    assert desk.of(person.Trouble)[-1].error.text == "there is no conversation with dave"
    desk.tell({"type": "members", "room": "@c+s", "names": ["ann", "Ben"], "at": 0})
    desk.give(person.Ask("history", "@ben"))
    assert asked(desk)[-1] == ("@c+s", None, 50)  # of whoever has the name now


def test_history_of_a_private_conversation_is_there_when_the_other_one_has_left_and_both_had_other_names() -> None:
    desk = Desk()
    desk.enter()
    event = {"type": "event", "room": "@a+s", "time": 0, "text": ""}
    desk.tell({"type": "reset", "room": "@a+s", "seq": 0})
    desk.tell({"type": "members", "room": "@a+s", "names": ["ann", "Ben"], "at": 0})
    desk.tell({**event, "seq": 1, "sender": "Ben", "kind": "renamed", "text": "Bert"})
    desk.tell({**event, "seq": 2, "sender": "Bert", "kind": "left"})
    desk.give(person.Ask("rename", "anna"))
    desk.tell({**event, "seq": 3, "sender": "ann", "kind": "renamed", "text": "anna"}, ok(desk.last("rename")["id"]))
    assert (desk.client.partner("@a+s"), desk.client.members("@a+s")) == ("Bert", ["anna"])
    desk.give(person.Ask("history", "@bert"))
    assert asked(desk) == [("@a+s", None, 50)]
    assert desk.client.partner("@nobody") == ""


# ------------------------------------------------------------------------- events


def test_an_event_is_told_once_and_one_that_is_missing_is_asked_for_over_another_connection() -> None:
    desk = Desk()
    desk.enter()
    event = {"type": "event", "room": "r", "time": 0, "sender": "x", "kind": "say", "text": "y"}
    desk.tell({"type": "reset", "room": "r", "seq": 4})
    desk.tell(*({**event, "seq": seq} for seq in (5, 5, 4, 6, 5)))
    assert [told.message.seq for told in desk.of(person.Told)] == [5, 6]
    assert desk.client.online
    desk.tell({**event, "seq": 8})
    assert [told.message.seq for told in desk.of(person.Told)] == [5, 6]
    assert (desk.state.state, desk.state.reason) == ("waiting", "events are missing")
    desk.give(person.Wake(), after=1)
    desk.enter(resumed=True)
    assert desk.last("hello")["resume"]["cursors"] == {"r": 6}


def test_private_rooms_of_a_session_that_is_over_are_forgotten() -> None:
    desk = Desk("lobby")
    desk.enter()
    desk.tell({"type": "reset", "room": "lobby", "seq": 3}, {"type": "reset", "room": "@a+s", "seq": 4})
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=40)
    desk.enter(session="another")
    assert desk.client.rooms == ("lobby",)


def test_who_leaves_waits_until_what_they_said_last_is_told_to_them_too() -> None:
    desk = Desk("r")
    desk.enter(rooms=["r"])
    desk.tell({"type": "reset", "room": "r", "seq": 0})
    desk.give(person.Say("good night", room="r"))
    desk.give(person.Leaving())
    desk.tell(ok(desk.last("post")["id"], room="r", seq=1))
    assert (desk.client.ended, count(desk, "bye")) == (False, 0)
    event = {"type": "event", "room": "r", "seq": 1, "time": 0, "sender": "ann", "kind": "say", "text": "good night"}
    desk.tell(event)
    assert (desk.state.end, count(desk, "bye")) == ("left", 1)
    assert [told.message.text for told in desk.of(person.Told)] == ["good night"]


# -------------------------------------------------------------------- connections


def come_later(wait: float) -> dict[str, Any]:
    return {"type": "close", "code": "too-many-new", "text": "later", "reconnect": wait}


def test_a_server_that_says_when_to_come_is_come_back_to_while_there_is_patience() -> None:
    desk = Desk(patience=60.0)
    began = desk.now
    for _ in range(3):
        desk.give(person.Connected())
        desk.tell(come_later(2.0))
        assert (desk.state.state, desk.state.reason) == ("waiting", "later")
        assert desk.client.wake_at is not None
        assert desk.client.wake_at >= desk.now + 2.0
        desk.give(person.Wake(), after=desk.client.wake_at - desk.now)
    desk.give(person.Lost("it starts anew"))
    assert desk.state.state == "waiting", "there is a server, though it has let nobody in"
    desk.give(person.Wake(), after=began + 59 - desk.now)
    desk.give(person.Lost("cut"), after=1)
    assert (desk.state.state, desk.state.end) == ("ended", "lost")


def test_who_would_have_to_wait_for_longer_than_there_is_patience_does_not_wait() -> None:
    desk = Desk(patience=60.0)
    desk.give(person.Connected())
    desk.tell(come_later(61.0))
    assert (desk.state.state, desk.state.end) == ("ended", "lost")


def test_where_nobody_answers_one_attempt_is_enough_for_who_has_patience() -> None:
    desk = Desk(patience=60.0)
    desk.give(person.Lost("refused"))
    assert (desk.state.state, desk.state.end) == ("ended", "lost")


def test_it_waits_twice_as_long_each_time_and_half_a_minute_at_most() -> None:
    desk = Desk()
    waits = []
    for _ in range(10):
        desk.give(person.Lost("refused"))
        assert desk.state.retry_at is not None
        waits.append(desk.state.retry_at - desk.now)
        desk.give(person.Wake(), after=waits[-1])
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    desk.enter()
    desk.give(person.Lost("cut"))
    assert desk.state.retry_at == desk.now + 0.5


def test_a_server_that_says_nothing_is_left() -> None:
    desk = Desk()
    desk.give(person.Connected())
    for _ in range(10):  # a sign of life is no welcome
        desk.give(person.Received({"type": "ping", "n": 1}), after=1)
    assert desk.client.wake_at == desk.now + 5
    desk.give(person.Wake(), after=5)
    assert (desk.state.state, desk.state.reason) == ("waiting", "the server does not answer")


def test_a_server_that_falls_silent_is_asked_and_then_left() -> None:
    desk = Desk()
    desk.enter(heartbeat=10.0)
    assert desk.client.wake_at == desk.now + 15
    desk.give(person.Wake(), after=15)
    assert desk.last("ping")
    assert desk.client.wake_at == desk.now + 15
    desk.give(person.Wake(), after=14)
    assert desk.client.online
    desk.give(person.Wake(), after=1)
    assert desk.state.state == "waiting"


def test_a_server_that_breaks_the_protocol_again_and_again_is_asked_ever_more_seldom() -> None:
    desk = Desk()
    waits = []
    for _ in range(4):
        desk.enter()
        desk.tell({"type": "event", "room": "r", "seq": 5, "time": 0, "sender": "x", "kind": "say"})
        assert desk.state.retry_at is not None
        waits.append(desk.state.retry_at - desk.now)
        desk.give(person.Wake(), after=waits[-1])
    assert waits == [0.5, 1, 2, 4]
    desk.enter()
    desk.give(person.Lost("cut"), after=100)
    desk.give(person.Wake(), after=8)
    desk.enter()
    desk.give(person.Lost("cut"))
    assert desk.state.retry_at == desk.now + 0.5


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])
def test_no_number_of_a_server_makes_it_spin_or_sleep_for_ever(number: float) -> None:
    desk = Desk()
    desk.enter(heartbeat=number)
    assert desk.now + 1 < (desk.client.wake_at or 0) <= desk.now + 6000
    desk.give(person.Say("a", room="r"))
    desk.tell({"type": "error", "code": "rate", "text": "", "id": desk.last("post")["id"], "retry_after": number})
    assert desk.now < (desk.client.wake_at or 0) <= desk.now + 3600
    desk.tell({"type": "close", "code": "x", "text": "", "reconnect": number})
    assert desk.now + 0.5 <= (desk.state.retry_at or 0) <= desk.now + 3600


def test_a_server_cannot_make_it_remember_rooms_without_end() -> None:
    desk = Desk()
    desk.enter()
    for number in range(person.MOST_ROOMS):
        desk.tell({"type": "reset", "room": f"r{number}", "seq": 0})
    assert desk.client.online
    desk.tell({"type": "reset", "room": "one more", "seq": 0})
    assert desk.state.state == "waiting"
    assert len(desk.client.rooms) == person.MOST_ROOMS


def test_private_rooms_that_ended_without_a_word_make_place_for_others() -> None:
    desk = Desk("lobby")
    desk.enter()
    desk.tell({"type": "reset", "room": "lobby", "seq": 0})
    for number in range(person.MOST_ROOMS + 5):
        desk.tell({"type": "reset", "room": f"@{number}", "seq": 0})
    assert desk.client.online
    assert len(desk.client.rooms) == person.MOST_ROOMS
    assert {"lobby", f"@{person.MOST_ROOMS + 4}"} <= set(desk.client.rooms)
    assert "@0" not in desk.client.rooms


def test_private_rooms_that_the_server_has_ended_are_forgotten_with_the_next_connection() -> None:
    desk = Desk()
    desk.enter()
    desk.tell({"type": "reset", "room": "@a", "seq": 3}, {"type": "reset", "room": "@b", "seq": 4})
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=40)
    desk.enter(resumed=True, rooms=["@b"])
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=40)
    desk.give(person.Connected())
    assert desk.last("hello")["resume"]["cursors"] == {"@b": 4}


@pytest.mark.parametrize("leaving", [True, False])
def test_its_end_says_how_it_ended(leaving: bool) -> None:
    desk = Desk(patience=60.0)
    desk.enter()
    if leaving:
        desk.give(person.Leaving("tea"))
        assert desk.last("bye")["reason"] == "tea"
    else:
        desk.give(person.Lost("cut"), after=1)
        desk.give(person.Wake(), after=1)
        desk.give(person.Lost("no route"), after=60)
    assert (desk.state.state, desk.state.end) == ("ended", "left" if leaving else "lost")


# -------------------------------------------------------------- the order of what was typed


def granted(desk: Desk, seen: int) -> list[tuple[str, str]]:
    """What was sent from the message ``seen`` on, each granted before the next one comes."""
    came: list[tuple[str, str]] = []
    while seen < len(desk.sent):
        message = desk.sent[seen]
        seen += 1
        came.append((message["type"], str(message.get("text") or message.get("room") or message.get("name"))))
        desk.tell(ok(message["id"], room=message.get("room"), **({"seq": 9} if message["type"] != "rename" else {})))
    return came


@pytest.mark.parametrize("online", [True, False])
def test_what_was_said_before_somebody_left_or_had_another_name_is_said_there_and_by_the_former_one(
    online: bool,
) -> None:
    desk = Desk("kitchen")
    if online:
        desk.enter(rooms=["kitchen"])
    seen = len(desk.sent)
    desk.give(person.Say("one", room="kitchen"))
    desk.give(person.Say("two", room="kitchen"))
    desk.give(person.Ask("leave", "Kitchen"))
    desk.give(person.Say("three", to="ben"))
    desk.give(person.Ask("rename", "rob"))
    if not online:
        desk.enter(rooms=["kitchen"])
        seen = 1
    came = granted(desk, seen)
    assert [each for each in came if each[0] != "leave"] == [
        ("post", "one"),
        ("post", "two"),
        ("post", "three"),
        ("rename", "rob"),
    ]
    assert came.index(("leave", "Kitchen")) >= 2
    assert desk.client.asking == desk.client.pending == 0


def test_what_is_typed_behind_another_name_is_said_by_it() -> None:
    desk = Desk("kitchen")
    desk.enter(rooms=["kitchen"])
    desk.give(person.Ask("rename", "rob"))
    desk.give(person.Say("one", room="kitchen"))
    rename = desk.last("rename")
    desk.tell({"type": "error", "code": "rate", "text": "slower", "id": rename["id"], "retry_after": 1.0})
    assert desk.sent[-1]["type"] == "rename"
    desk.give(person.Wake(), after=1.5)
    assert desk.sent[-1]["type"] == "rename"
    assert [kind for kind, _ in granted(desk, len(desk.sent) - 1)] == ["rename", "post"]


def test_a_room_that_was_left_twice_is_left_once_more_behind_a_lost_connection() -> None:
    desk = Desk("kitchen")
    desk.enter(rooms=["kitchen"])
    desk.give(person.Ask("leave", "kitchen"))
    first = desk.last("leave")
    desk.give(person.Ask("join", "kitchen"))
    desk.give(person.Say("one", room="kitchen"))
    desk.give(person.Ask("leave", "kitchen"))
    desk.tell(ok(first["id"], room="kitchen"))
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=60.0)
    seen = len(desk.sent) + 1
    desk.enter(resumed=True)
    assert [kind for kind, _ in granted(desk, seen)] == ["join", "post", "leave"]


def test_what_is_typed_behind_a_move_waits_for_it() -> None:
    desk = Desk()
    desk.enter()
    seen = len(desk.sent)
    desk.give(person.Ask("join", "kitchen"))
    desk.give(person.Say("one", room="kitchen"))
    desk.give(person.Ask("leave", "kitchen"))
    desk.give(person.Ask("join", "kitchen"))
    desk.give(person.Say("two", room="kitchen"))
    assert [kind for kind, _ in granted(desk, seen)] == ["join", "post", "leave", "join", "post"]


@pytest.mark.parametrize("forgotten", [True, False])
def test_what_was_typed_without_a_connection_is_done_in_its_order(forgotten: bool) -> None:
    desk = Desk()
    if forgotten:
        desk.enter()
        desk.give(person.Lost("cut"))
    desk.give(person.Ask("join", "kitchen"))
    desk.give(person.Say("one", room="kitchen"))
    desk.give(person.Ask("leave", "kitchen"))
    desk.give(person.Wake(), after=60.0)
    seen = len(desk.sent) + 1
    desk.enter(session="another")
    assert [kind for kind, _ in granted(desk, seen)] == ["join", "post", "leave"]
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=60.0)
    seen = len(desk.sent) + 1
    desk.enter(session="another", resumed=True)
    assert granted(desk, seen) == []


def test_a_rename_that_waits_for_posts_is_made_behind_a_lost_connection_too() -> None:
    desk = Desk("kitchen")
    desk.enter(rooms=["kitchen"])
    desk.give(person.Say("one", room="kitchen"))
    desk.give(person.Ask("rename", "rob"))
    desk.give(person.Ask("leave", "kitchen"))
    desk.give(person.Lost("cut"))
    desk.give(person.Wake(), after=60.0)
    seen = len(desk.sent) + 1
    desk.enter(rooms=["kitchen"], resumed=True)
    assert sorted(granted(desk, seen)[1:]) == [("leave", "kitchen"), ("rename", "rob")]
    assert desk.sent[seen]["type"] == "post"


def test_a_server_cannot_make_it_remember_people_without_end() -> None:
    desk = Desk()
    desk.enter()
    for number in range(40):
        names = [f"{number}.{each}" for each in range(10_000)]
        desk.tell({"type": "members", "room": f"r{number}", "names": names, "at": 0})
        if desk.state.state != "online":
            break
    assert desk.state.state == "waiting"
    assert sum(len(desk.client.members(room)) for room in desk.client.rooms) <= 200_000
