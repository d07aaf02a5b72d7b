"""Sessions: who begins one and how often, who may resume it, and how long it lasts, whatever the clock on the wall says."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.chat import hub as server
from protocols.chat.hub import Options
from tests.protocols.chat.table import Table, come, resume

HELLO = {"type": "hello", "version": 1}
DAY = 86_400.0


def token_of(table: Table, name: str) -> str:
    return str(table.of(name, "welcome")[-1]["token"])


def hello(table: Table, connection: str, /, origin: str = "", **fields: Any) -> Any:
    """``connection`` is made and says hello; the first answer."""
    table.give(server.Opened(connection, private=True, origin=origin))
    answers = table.send(connection, {**HELLO, **fields})
    return answers[0] if answers else None


def login(table: Table, connection: str, name: str, /, *, right: bool = True, **fields: Any) -> Any:
    """``connection`` says hello with a password, which is ``right``; the last answer."""
    assert hello(table, connection, name=name, password="p", **fields) is None
    table.give(server.Verified(connection, right=right))
    return next((each for each in table.told[connection] if each["type"] in ("welcome", "error")), None)


# ----------------------------------------------------------------------- lifetimes


NOON = 10**12  # some day, in milliseconds


def running(options: Options | None = None) -> Table:
    table = Table(options)
    table.wall = NOON
    return table


def restarted(table: Table, options: Options | None = None, *, behind: float = 0.0) -> Table:
    """A server on the same log, ``behind`` seconds later; its clock that does not jump begins anew."""
    again = Table(options, table.log)
    again.wall = table.wall + int((table.now + behind) * 1000)
    again.give()
    return again


@pytest.mark.parametrize("jump", [0, int(400 * DAY * 1000), -int(400 * DAY * 1000)])
def test_a_clock_on_the_wall_that_is_set_ends_nobodys_session_and_lengthens_none(jump: int) -> None:
    table = running(Options(heartbeat=1e6))
    table.enter("watcher")
    table.enter("ann")
    token = token_of(table, "ann")
    table.give(server.Closed("ann"))
    table.wait(31.0)
    table.wall += jump
    table.wait(DAY - 100.0)
    assert {each.name for each in table.log.sessions()} == {"watcher", "ann"}
    table.wait(100.0)
    assert [each.name for each in table.log.sessions()] == ["watcher"]
    assert not resume(table, "late", token)["resumed"]


def test_whoever_was_there_when_the_server_was_killed_has_the_whole_lifetime_from_its_restart_on() -> None:
    table = running(Options(heartbeat=1e9))
    for name in ("ann", "ben"):
        table.enter(name)
    for _ in range(3):
        table.wait(DAY)  # they stay for days
    again = restarted(table, behind=3600.0)
    again.wait(31.0)  # they have left; nobody has come back
    # A second restart, half a lifetime later: still counted from the first one on.
    third = restarted(again, behind=DAY / 2)
    assert {each.name for each in third.log.sessions()} == {"ann", "ben"}
    assert resume(third, "ann again", token_of(table, "ann"))["resumed"]
    third.wait(DAY / 2 - 120.0)
    assert {each.name for each in third.log.sessions()} == {"ann", "ben"}
    third.wait(120.0)
    assert {each.name for each in third.log.sessions()} == {"ann"}


def test_at_the_start_it_is_told_how_old_a_session_is() -> None:
    table = running(Options(heartbeat=1e6))
    for name in ("ann", "ben"):
        table.enter(name)
        table.give(server.Closed(name))
        table.wait(3600.0)
    again = restarted(table, behind=DAY - 7200.0 - 60.0)
    assert {each.name for each in again.log.sessions()} == {"ann", "ben"}
    again.wait(120.0)
    assert {each.name for each in again.log.sessions()} == {"ben"}
    again.wait(3600.0)
    assert again.log.sessions() == []


def test_a_start_before_the_clock_is_set_forgets_nobody_before_their_time_and_nobody_never() -> None:
    table = running()
    for name in ("ann", "ben"):
        table.enter(name)
        table.give(server.Closed(name))
    table.wait(31.0)
    again = Table(log=table.log)  # in 1970
    again.give()
    again.wait(DAY - 60.0)
    assert resume(again, "ann again", token_of(table, "ann"))["resumed"]
    again.wait(120.0)
    assert [each.name for each in again.log.sessions()] == ["ann"]


def test_a_session_of_no_lifetime_is_forgotten_with_the_time_of_grace() -> None:
    table = Table(Options(session_lifetime=0, grace=5.0))
    table.enter("ann")
    table.give(server.Closed("ann"))
    table.wait(4.0)
    assert len(table.log.sessions()) == 1
    table.wait(1.0)
    assert table.log.sessions() == []
    assert table.hub.held["tokens"] == 0


# ------------------------------------------------------------------------- passwords


def test_with_passwords_nobody_is_called_otherwise_by_coming_back() -> None:
    table = Table(Options(passwords=True))
    login(table, "phone", "ann")
    token = token_of(table, "phone")
    table.give(server.Closed("phone"))
    table.wait(31.0)
    login(table, "laptop", "ann")
    answer = resume(table, "phone2", token)
    assert (answer["type"], answer["code"]) == ("error", "password")
    assert login(table, "true one", "ann2")["name"] == "ann2"
    # Nothing of the one that may not go on is left.
    assert table.hub.held["sessions"] == 2
    assert table.hub.held["tokens"] == 2
    assert {each.name for each in table.log.sessions()} == {"ann", "ann2"}


def test_the_token_of_a_session_that_may_not_go_on_begins_a_new_one_by_the_password() -> None:
    table = Table(Options(passwords=True))
    own = "a-token-of-the-clients-own-0123"
    login(table, "phone", "ann", resume={"token": own})
    table.give(server.Closed("phone"))
    table.wait(31.0)
    login(table, "laptop", "ann")
    table.give(server.Closed("laptop"))  # its time of grace runs
    # The name is ann's by the password; the lost session on the laptop need not be waited for.
    welcome = login(table, "phone2", "ann", resume={"token": own})
    assert (welcome["name"], welcome["resumed"]) == ("ann", False)
    table.give(server.Closed("phone2"))
    again = resume(table, "phone3", own)
    assert (again["session"], again["resumed"]) == (welcome["session"], True)
    assert table.hub.held["tokens"] == 2 + 1  # the one that was used and its successor; the laptop's


def test_with_passwords_a_session_whose_name_is_free_goes_on_by_its_token_alone() -> None:
    table = Table(Options(passwords=True))
    login(table, "phone", "ann")
    token = token_of(table, "phone")
    table.give(server.Closed("phone"))
    table.wait(31.0)
    welcome = resume(table, "phone2", token)
    assert (welcome["name"], welcome["resumed"]) == ("ann", True)


def test_a_hello_that_comes_while_its_twin_is_verified_goes_on_with_the_session_that_the_twin_began() -> None:
    """The first connection was lost without a word; its password is right, and the second one's too."""
    table = Table(Options(passwords=True))
    own = {"token": "a-token-of-the-clients-own-0123", "attempt": 1}
    for name, attempt in (("lost", 1), ("next", 2)):
        assert hello(table, name, name="ann", password="p", resume={**own, "attempt": attempt}) is None
    table.give(server.Verified("lost", right=True))
    table.give(server.Verified("next", right=True))
    assert table.of("next", "welcome")[0]["resumed"]
    assert table.of("next", "welcome")[0]["session"] == table.of("lost", "welcome")[0]["session"]
    assert table.last("lost")["code"] == "replaced"


def test_the_time_for_a_hello_begins_anew_behind_each_answer_to_a_password() -> None:
    table = Table(Options(passwords=True))
    assert hello(table, "ann", name="ann", password="wrong") is None
    table.wait(60.0)  # as long as the verification takes
    table.give(server.Verified("ann", right=False))
    table.wait(9.0)
    assert "ann" not in table.shut
    table.wait(1.5)
    assert table.last("ann")["code"] == "timeout"


# -------------------------------------------------------------------------- newcomers


def test_a_hello_that_begins_no_session_is_no_newcomer() -> None:
    table = Table(Options(newcomers=2))
    assert hello(table, "ann", "10.0.0.1", name="ann")["type"] == "welcome"
    for number, name in enumerate(("ann", "!", "server")):
        assert hello(table, f"e{number}", "10.0.0.1", name=name)["code"] in ("name-taken", "bad-name")
    assert hello(table, "ben", "10.0.0.1", name="ben")["type"] == "welcome"
    assert hello(table, "cat", "10.0.0.1", name="cat")["code"] == "too-many-new"


def test_who_comes_back_is_no_newcomer() -> None:
    table = Table(Options(newcomers=2, newcomer_rate=0.001))
    come(table, "ann", "10.0.0.1")
    for number in range(5):
        table.give(server.Opened(f"again{number}", origin="10.0.0.1"))
        token = token_of(table, f"again{number - 1}" if number else "ann")
        assert table.send(f"again{number}", {**HELLO, "resume": {"token": token}})[0]["resumed"]
    assert come(table, "ben", "10.0.0.1")


def test_with_passwords_each_try_is_counted_for_it_costs_a_hash_and_no_try_costs_none() -> None:
    table = Table(Options(passwords=True, newcomers=2))
    for number in range(5):
        assert hello(table, f"no{number}", "10.0.0.1", name="ann")["code"] == "password"
    for number in range(2):
        assert hello(table, f"e{number}", "10.0.0.1", name="ann", password="guess") is None
        table.give(server.Verified(f"e{number}", right=False))
    assert hello(table, "e3", "10.0.0.1", name="ann", password="guess")["code"] == "too-many-new"
    assert len(table.asked) == 2
    table.wait(0.5)
    assert hello(table, "ann", "10.0.0.1", name="ann", password="right") is None
    table.give(server.Verified("ann", right=True))
    assert table.of("ann", "welcome"), "it was counted when it was tried, and not again"


def test_an_attempt_that_arrives_late_is_over_and_changes_nothing() -> None:
    table = Table()
    own = "a-token-of-the-clients-own-0123"
    welcome = hello(table, "second", name="ann", resume={"token": own, "attempt": 2})
    late = hello(table, "first", name="ann", resume={"token": own, "attempt": 1})
    assert (late["type"], late["code"]) == ("close", "overtaken")
    assert "first" in table.shut
    assert "second" not in table.shut
    assert hello(table, "third", name="ann", resume={"token": own, "attempt": 3})["session"] == welcome["session"]


@pytest.mark.parametrize(("token", "kept"), [("t" * 15, False), ("t" * 16, True)])
def test_a_token_of_the_clients_own_is_16_characters_or_none(token: str, kept: bool) -> None:
    table = Table()
    first = hello(table, "ann", name="ann", resume={"token": token})
    assert not first["resumed"]
    table.give(server.Closed("ann"))
    answer = hello(table, "again", name="ann", resume={"token": token})
    assert answer.get("resumed", False) is kept
    assert answer.get("code") == (None if kept else "name-taken")


# --------------------------------------------------------- connections that say nothing


def test_of_connections_in_no_session_an_address_has_so_many_and_the_newest_is_told_to_come_back() -> None:
    table = Table(Options(max_greeting=3, newcomers=0))
    mute = [f"mute{number}" for number in range(4)]
    table.give(*(server.Opened(name, origin="10.0.0.1") for name in mute))
    assert table.shut == {"mute3"}
    told = table.last("mute3")
    assert (told["code"], told["reconnect"]) == ("too-many-connections", 3.0)
    assert come(table, "ben", "10.0.0.2")
    table.give(*(server.Opened(f"u{number}") for number in range(9)))
    assert table.shut == {"mute3"}, "who has no address is not counted"
    # One of them says hello, or goes: there is a place again, and a session takes none.
    assert table.send("mute0", {**HELLO, "name": "ann"})[0]["type"] == "welcome"
    table.give(server.Opened("cat", origin="10.0.0.1"))
    table.give(server.Closed("mute1"), server.Opened("dan", origin="10.0.0.1"))
    assert table.shut == {"mute3"}
    table.give(server.Opened("eve", origin="10.0.0.1"))
    assert "eve" in table.shut
    table.wait(10.0)
    for number in range(20):
        assert come(table, f"p{number}", "10.0.0.1")
    for number in range(20):
        table.give(server.Closed(f"p{number}"))
    assert table.hub.held["greeting"] == 0


def test_a_class_that_comes_back_over_one_address_is_let_in() -> None:
    """Three hundred people: what a batch holds is let in at once, and who is told to come back does."""
    table = Table(Options(newcomers=0))
    class_ = [f"p{number}" for number in range(300)]
    tokens = {}
    for name in class_:
        come(table, name, "10.0.0.1")
        tokens[name] = token_of(table, name)
    again = Table(log=table.log)
    connects = list(class_)
    for _ in range(5):
        again.give(*(server.Opened(name, origin="10.0.0.1") for name in connects))
        again.give(*(server.Received(name, {**HELLO, "resume": {"token": tokens[name]}}) for name in connects))
        connects = [name for name in connects if not again.of(name, "welcome")]
        assert all(again.last(name)["reconnect"] == 3.0 for name in connects)
        again.wait(3.0)
    assert connects == []
    assert again.hub.held["sessions"] == 300


def test_a_connection_whose_password_is_verified_is_in_no_session_yet() -> None:
    table = Table(Options(passwords=True, max_greeting=1))
    assert hello(table, "ann", "10.0.0.1", name="ann", password="p") is None
    table.give(server.Opened("ben", private=True, origin="10.0.0.1"))
    assert table.last("ben")["code"] == "too-many-connections"
    table.give(server.Verified("ann", right=True))
    assert hello(table, "cat", "10.0.0.1", name="cat", password="p") is None


def test_where_any_number_may_all_connections_wait_for_their_hello() -> None:
    table = Table(Options(max_greeting=0))
    table.give(*(server.Opened(f"mute{number}", origin="10.0.0.1") for number in range(500)))
    assert table.shut == set()


def test_what_was_posted_again_and_again_is_remembered_in_so_many_places_only() -> None:
    table = Table(Options(burst=1000, max_sessions=10))
    ann = table.enter("ann")
    for again in range(2):
        for number in range(1, 301):
            (answer,) = [
                message
                for message in table.send("ann", {"type": "post", "id": [ann, number], "room": "lobby", "text": "x"})
                if message["type"] == "ok"
            ]
            assert answer["seq"] == number + 1, again  # behind her joining, and stored once
    (session,) = table.hub._sessions.values()
    assert len(session.recent) <= 64


def test_a_connection_that_ends_while_it_is_blocked_leaves_nothing() -> None:
    table = Table()
    ann = table.enter("ann")
    table.enter("ben")
    table.give(server.Blocked("ben"))
    table.send("ann", {"type": "post", "id": [ann, 1], "room": "lobby", "text": "x"})
    assert table.hub.held["paged"] == 1
    table.give(server.Closed("ben"))
    assert (table.hub.held["paged"], table.hub.held["behind"]) == (0, 0)
