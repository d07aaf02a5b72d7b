"""The terminal client, driven through pseudo-terminals and tmux, and judged by what stands on their screens."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("it has no pseudo-terminals", allow_module_level=True)

import termios

from protocols.chat.terminal import colour_of
from protocols.chat.wires import DEFAULT_WIRE
from tests.protocols.chat.puppets import joined as answered
from tests.protocols.chat.puppets import puppet, unhurried, welcome
from tests.protocols.chat.screens import ENTER, JOIN, Screen, pasted
from tests.protocols.chat.serving import DRIVERS, Serving

TAB = "\t"
UP, DOWN, LEFT, HOME = "\x1b[A", "\x1b[B", "\x1b[D", "\x01"
CTRL_C, CTRL_D, CTRL_W = "\x03", "\x04", "\x17"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(tmp_path_factory.mktemp("chat") / "chat.db") as server:
        yield server


@contextlib.contextmanager
def joined(serving: Serving, *names: str, room: str) -> Iterator[list[Screen]]:
    """A screen for each of ``names``, each of whom is in ``room`` and sees the others."""
    with contextlib.ExitStack() as stack:
        screens = [
            stack.enter_context(Screen(*JOIN, serving.address, "--name", name, "--room", room)) for name in names
        ]
        for name, screen in zip(names, screens, strict=True):
            screen.wait(f"You are {name}.")
        for screen in screens:
            screen.wait(f"{len(names)} in {room}")  # in the toolbar
        yield screens


def prompt(screen: Screen) -> str:
    """The line that is being typed."""
    return next((line for line in reversed(screen.display) if "> " in line or line.endswith(">")), "")


# ---------------------------------------------------------------- typing, editing


def test_what_one_is_typing_is_kept_when_messages_arrive(serving: Serving) -> None:
    with joined(serving, "ann", "ben", room="typing") as (ann, ben):
        ann.type("half a li")
        ann.wait("typing> half a li")
        for number in range(5):
            ben.type(f"message {number}{ENTER}")
            ann.wait(f"ben: message {number}")
            ann.wait(lambda: prompt(ann) == "typing> half a li", "what was typed, behind the message")
        ann.wait(lambda: ann.display.index("typing> half a li") > ann.display.index(ann.line("ben: message 4")))
        ann.type("ne" + ENTER)
        ben.wait("ann: half a line")
        ann.wait("ann: half a line")
        assert b"\x1b[?2004l" not in ann.raw, "a paste is one, also while a message is drawn"


def test_keys_are_never_echoed_by_the_terminal_itself(serving: Serving) -> None:
    """Whenever they are pressed: while a message is drawn, or between two lines."""
    with joined(serving, "ann", "ben", room="keys") as (ann, ben):
        looks: list[int] = []
        ended = threading.Event()

        def look() -> None:
            while not ended.is_set():
                looks.append(termios.tcgetattr(ann.master)[3] & termios.ECHO)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            for number in range(5):
                ben.type(f"message {number}{ENTER}")
                ann.wait(f"ben: message {number}")
                ann.type(f"typed {number}{ENTER}")
                ben.wait(f"ann: typed {number}")
        finally:
            ended.set()
            looking.join()
        assert len(looks) > 1000
        assert not any(looks)


def test_a_line_is_edited_and_earlier_ones_are_recalled(serving: Serving) -> None:
    with joined(serving, "ann", room="editing") as (ann,):
        ann.type("helo world" + LEFT * 7 + "l" + HOME + "> " + ENTER)
        ann.wait("ann: > hello world")
        ann.type("second" + ENTER)
        ann.wait("ann: second")
        ann.type(UP + UP)
        ann.wait(lambda: prompt(ann) == "editing> > hello world")
        ann.type(DOWN)
        ann.wait(lambda: prompt(ann) == "editing> second")
        ann.type(CTRL_W + "third" + ENTER)
        ann.wait("ann: third")


def test_orders_and_names_are_completed(serving: Serving) -> None:
    with joined(serving, "ann", "Benedict", room="completing") as (ann, ben):
        ann.type("/hi" + TAB)
        ann.wait(lambda: prompt(ann) == "completing> /history")
        ann.type(CTRL_W + "/m" + TAB)
        ann.wait(lambda: any("/msg" in line and "/me" not in line for line in ann.display), "the choice")
        ann.type("\x1b\x7f\x7f\x7f\x7f\x7f")
        ann.wait(lambda: prompt(ann) == "completing>")
        ann.type("be" + TAB)
        ann.wait(lambda: prompt(ann) == "completing> Benedict:")
        ann.type("good morning" + ENTER)
        ben.wait("ann: Benedict: good morning")
        ann.type("/msg BEN" + TAB)
        ann.wait(lambda: prompt(ann) == "completing> /msg Benedict")
        ann.type("psst" + ENTER)
        ben.wait("[ann to you] psst")


def test_a_name_that_is_not_clean_is_not_completed() -> None:
    def answer(message: dict[str, Any]) -> list[Any]:
        if message["type"] == "hello":
            return [welcome()]
        return answered(message["id"], names=["ann", "be\x1b[31mn", "beta"]) if message["type"] == "join" else []

    with puppet(answer) as (_, address), Screen(*JOIN, address) as ann:
        ann.wait("3 in lobby")
        ann.type("be" + TAB)
        ann.wait(lambda: prompt(ann) == "lobby> beta:", "the only other one")
        ann.type(CTRL_C)
        assert ann.end() == 130


# ------------------------------------------------------------------- what is shown


def test_names_have_the_colour_of_their_hash_on_every_screen(serving: Serving) -> None:
    names = {"yellow": "brown"}  # the stranger's word for it
    with joined(serving, "ann", "ben", "carol", room="colours") as screens:
        for name, screen in zip(("ann", "ben", "carol"), screens, strict=True):
            screen.type(f"I am {name}{ENTER}")
            for each in screens:
                each.wait(f"{name}: I am {name}")
        for name in ("ann", "ben", "carol"):
            expected = colour_of(name).removeprefix("ansi")
            assert {each.colour(f"{name}: I am") for each in screens} == {names.get(expected, expected)}
    assert colour_of("ann") == colour_of("ANN") == colour_of("\uff41nn")
    assert len({colour_of(name) for name in ("ann", "ben", "carol", "dave", "eve", "fred")}) > 2
    assert (colour_of("ann"), colour_of("ben")) == ("ansibrightgreen", "ansiblue"), (
        "the colours of tomorrow are those of today"
    )


def test_the_time_and_the_change_of_the_day_are_shown(tmp_path: Path) -> None:
    import sqlite3

    with Serving(tmp_path / "chat.db") as serving:
        with joined(serving, "ann", room="days") as (ann,):
            ann.type("of yesterday" + ENTER)
            ann.wait("ann: of yesterday")
        serving.stop()
        with contextlib.closing(sqlite3.connect(tmp_path / "chat.db")) as log, log:
            log.execute("UPDATE events SET time = ?", (1_700_000_000_000,))
        serving.start()
        with Screen(*JOIN, serving.address, "--name", "ben", "--room", "days", TZ="UTC") as ben:
            ben.wait("ben joined")
            lines = ben.text.split("\n")
            assert "--- Tuesday, 14 November 2023 ---" in lines
            assert "22:13 ann: of yesterday" in lines
            days = [index for index, line in enumerate(lines) if line.startswith("--- ")]
            assert len(days) == 2, "one for each day"
            assert days[0] < lines.index("22:13 ann: of yesterday") < days[1] < lines.index(ben.line("ben joined"))
            assert re.fullmatch(r"\d\d:\d\d \* ben joined", ben.line("ben joined"))


def test_posts_are_marked_as_pending_then_stored_or_failed(serving: Serving) -> None:
    with joined(serving, "ann", "ben", room="marks") as (ann, ben):
        for number in range(8):  # more than the burst that the server takes
            ann.type(f"post {number}{ENTER}")
        ann.wait("\n … post ", "a post that waits")
        ann.wait("ann: post 7")
        ben.wait("ann: post 7")
        ann.wait(lambda: "2 in marks" in ann.text and "…" not in ann.text, "no post waits any more")
        ann.wait(lambda: [ann.count(f"post {number}") for number in range(8)] == [1] * 8, "each post, once")
        ann.type("/msg nobody are you there" + ENTER)
        ann.wait("✗ not said: are you there (nobody here has this name)")
        assert ann.colour("✗ not said") == "red"


def test_every_order_does_what_help_says(serving: Serving) -> None:
    with joined(serving, "ann", "ben", room="orders") as (ann, ben):
        ann.type("/help" + ENTER)
        for order in ("/join room", "/leave", "/msg name text", "/names", "/history", "/nick name", "/me", "/quit"):
            ann.wait(order)
        ann.type("/me waves" + ENTER)
        ben.wait("* ann waves")
        ann.type("/msg ben between us" + ENTER)
        ben.wait("[ann to you] between us")
        ann.wait("[you to ben] between us")
        ann.type("/nick anna" + ENTER)
        ben.wait("* ann is now called anna")
        ann.wait("You are anna.")
        ben.wait("2 in orders")
        ann.type("/names" + ENTER)
        ann.wait("In orders: anna, ben")
        ann.type("/history 3" + ENTER)
        ann.wait("What was before that: /history more")
        ann.wait(lambda: ann.count("* ann waves") == 2, "it, once more")
        ann.type("/history more" + ENTER)
        ann.wait(lambda: ann.count(" joined") == 4, "what was before it")
        ann.type("/history 1 @ben" + ENTER)
        ann.type("/history more @ben" + ENTER)
        ann.wait("What was before that: /history more @ben")
        ann.wait(lambda: ann.count("[you to ben] between us") == 2, "it, once more, though she had another name")
        ann.type("/join other" + ENTER)
        ann.wait("In other: anna")
        ann.wait(lambda: prompt(ann) == "other>")
        ben.type("still here" + ENTER)
        ann.wait("[orders] ben: still here")
        assert ben.count("* ann is now called anna") == 1, "not by the private room too"
        ann.type("/leave ORDERS" + ENTER)
        ann.wait(lambda: prompt(ann) == "other>")
        ann.type("/leave OTHER" + ENTER)
        ann.wait(lambda: prompt(ann) == "->")
        ann.type("into nowhere" + ENTER)
        ann.wait("You are in no room")
        ann.type("/join orders" + ENTER)
        ann.wait(lambda: prompt(ann) == "orders>")
        ann.type("//quit is how one goes" + ENTER)
        ben.wait("anna: /quit is how one goes")
        ann.type("/nonsense" + ENTER)
        ann.wait("There is no /nonsense")
        ann.type("/quit for today" + ENTER)
        assert ann.end() == 0
        ben.wait("* anna left (for today)")


def test_what_the_server_takes_later_only_is_told() -> None:
    with puppet(unhurried) as (_, address), Screen(*JOIN, address) as ann:
        ann.wait("1 in lobby")
        ann.type("/nick anna" + ENTER)
        ann.wait("The server is asked too much; /nick anna follows in ")
        ann.type(CTRL_C)
        assert ann.end() == 130


def test_a_room_that_is_refused_leaves_one_where_one_was(serving: Serving) -> None:
    with joined(serving, "ann", room="staying") as (ann,):
        ann.type("/join no room" + ENTER)
        ann.wait("a name has letters")
        ann.wait(lambda: prompt(ann) == "staying>")
        ann.type("here" + ENTER)
        ann.wait("ann: here")


# ---------------------------------------------------------------- pastes, and resizing


def test_a_paste_of_many_lines_is_one_post_which_no_line_of_it_can_pretend_not_to_be(serving: Serving) -> None:
    with joined(serving, "ann", "ben", room="pasting") as (ann, ben):
        ann.type(pasted("first\n/quit\n12:00 ben: I never said this"))
        ann.wait("I never said this")
        assert ben.count("ann: first") == 0, "it was not sent before Enter"
        ann.type(ENTER)
        for screen in (ann, ben):
            screen.wait("ann: first\n    /quit\n    12:00 ben: I never said this")


def test_a_paste_beyond_the_limits_is_refused_and_can_be_recalled(serving: Serving) -> None:
    with joined(serving, "ann", "ben", room="limits") as (ann, ben):
        ann.type(pasted("\n".join(f"line {number}" for number in range(100))) + ENTER)
        ben.wait("    line 99")
        ann.type(pasted("\n".join(f"more {number}" for number in range(101))) + ENTER)
        ann.wait("(8192 bytes and 100 lines are the most)")
        for part in range(3):
            ann.type(pasted("x" * 3000) if part else pasted("y"))
            ann.wait(lambda: True)
        ann.type(pasted("z" * 3000) + ENTER)
        ann.wait(lambda: ann.text.replace("\n", "").count("are the most)") == 2)
        ann.type("after it" + ENTER)
        ben.wait("ann: after it")
        assert ben.count("more 1") == 0
        ann.type(UP + UP)
        ann.wait("zzzz")


def test_a_resize_draws_the_line_that_is_typed_anew(serving: Serving) -> None:
    with joined(serving, "ann", "ben", room="resizing") as (ann, ben):
        ann.type("w " * 30)
        ann.wait("resizing> w w w")
        ann.resize(40, 12)
        ann.wait(lambda: sum(line.count("w ") + line.endswith("w") for line in ann.display[-12:]) >= 2)
        ben.type("in the small window" + ENTER)
        ann.wait("ben: in the small window")
        ann.resize(100, 30)
        ben.type("in the large window" + ENTER)
        ann.wait("ben: in the large window")
        ann.type("end" + ENTER)
        ben.wait("w w end")
        assert ben.line("w w end").count("w") <= 32


# ----------------------------------------------------------------- the connection


def test_it_counts_down_to_the_next_attempt_and_comes_back_by_itself(tmp_path: Path) -> None:
    with Serving(tmp_path / "chat.db") as serving, joined(serving, "ann", "ben", room="back") as (ann, ben):
        serving.kill()
        seen: list[int] = []

        def counted() -> bool:
            seen.extend(map(int, re.findall(r"no connection; next attempt in (\d+) s", ann.text)))
            # Each time it waits longer than before: where the number falls, it is counted down.
            return any(later < sooner for sooner, later in itertools.pairwise(seen))

        ann.wait(counted, "a countdown")
        ann.type("said meanwhile" + ENTER)
        ann.wait("… said meanwhile")
        serving.start()
        ann.wait("ann: said meanwhile")
        ben.wait("ann: said meanwhile")
        ann.wait(lambda: "…" not in ann.text and "2 in back" in ann.text)
        assert ann.count("said meanwhile") == ben.count("said meanwhile") == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_joins_talks_comes_back_and_goes_whatever_the_servers_driver(tmp_path: Path, driver: str) -> None:
    with (
        Serving(tmp_path / "chat.db", driver=driver) as serving,
        joined(serving, "ann", "ben", room="any") as (ann, ben),
    ):
        ann.type("before" + ENTER)
        ben.wait("ann: before")
        serving.kill()
        serving.start()
        ann.wait("The connection is back. You are ann.")
        ann.type("after" + ENTER)
        for screen in (ann, ben):
            screen.wait("ann: after")
            assert (screen.count("ann: before"), screen.count("ann: after")) == (1, 1)
        ben.type("/quit" + ENTER)
        assert ben.end() == 0
        ann.wait("* ben left (bye)")
        assert serving.stop() == 0
        ann.wait("No connection: the server ends")


def test_a_long_outage_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    hellos = 0

    def answer(message: dict[str, Any]) -> list[Any]:
        nonlocal hellos
        if message["type"] == "hello":
            hellos += 1
            if 1 < hellos < 5:
                return [{"type": "close", "code": "full", "text": "not \x1b[31mnow", "reconnect": 0.1}]
            return [welcome(resumed=hellos > 1)]
        if message["type"] == "join":
            return answered(message["id"])
        if message["type"] == "post" and hellos > 1:
            return [{"type": "ok", "id": message["id"], "room": "lobby", "seq": 0}]
        if message["type"] == "post":
            return [{"type": "close", "code": "stopping", "text": f"a \x1b[2J{SPOILT}", "reconnect": 0.1}]
        return []

    with puppet(answer) as (_, address), Screen(*JOIN, address, columns=150) as ann:
        ann.wait("You are ann.")
        ann.type("hi" + ENTER)
        ann.wait("The connection is back. You are ann.")
        ann.type(CTRL_C)
        ann.end()
    assert ann.count("No connection: ") == 1
    assert ann.count("You are ann.") == 2
    assert ann.line("No connection: ") == "No connection: " + f"a {CLEANED}".replace("\n", " ")
    assert "has closed the connection" not in ann.text
    assert_harmless(ann)


def test_one_can_go_while_there_is_no_connection(tmp_path: Path) -> None:
    with Serving(tmp_path / "chat.db") as serving, joined(serving, "ann", "ben", room="gone") as (ann, ben):
        serving.kill()
        for screen in (ann, ben):
            screen.wait("no connection; next attempt")
        ann.type("nobody will hear it" + ENTER)
        ann.wait("… nobody will hear it")
        ann.type(CTRL_C)
        ben.type("/quit" + ENTER)
        assert ann.end() == 130
        assert "✗ not said: nobody will hear it" in ann.text
        assert ben.end() == 0
        assert ann.restored
        assert ben.restored


def test_ctrl_c_waits_for_nothing_and_the_others_see_it(serving: Serving) -> None:
    with joined(serving, "ann", "ben", room="hurried") as (ann, ben):
        for number in range(9):
            ann.type(f"post {number}{ENTER}")
        ann.wait("ann: post 4")
        ann.type(CTRL_C)
        assert ann.end() == 130
        assert "✗ not said: post 8" in ann.text
        ben.wait("* ann left (bye)")


def test_a_server_that_ends_for_good_ends_it(tmp_path: Path) -> None:
    # Its console says QUIT, so it needs one.
    command = [sys.executable, "-m", "protocols.chat", "serve", "--listen", "tcp://127.0.0.1:0", "--db", ":memory:"]
    with Screen(*command) as server:
        server.wait("chat at ")
        address = re.search(r"chat at (\S+),", server.text)
        assert address is not None
        with Screen(*JOIN, address[1], "--name", "ann") as ann:
            ann.wait("1 in lobby")
            server.type("tea is ready\r")
            ann.wait("*** tea is ready")
            ann.type("half a li")
            server.type("QUIT\r")
            assert ann.end() == 3
            assert "The server has closed the connection: the server ends." in ann.text
            assert ann.restored
        assert server.end() == 0


def test_a_name_that_is_taken_ends_it_and_says_which_is_free(serving: Serving) -> None:
    with joined(serving, "ann", room="names"), Screen(*JOIN, serving.address, "--name", "Ann") as other:
        assert other.end() == 3
        assert "this name is taken; Ann2 is free" in other.text
        assert other.restored


# ------------------------------------------------------------------------ its end


@pytest.mark.parametrize(("keys", "status"), [(CTRL_C, 130), (CTRL_D, 0), ("/quit" + ENTER, 0), ("QUIT" + ENTER, 0)])
def test_it_ends_at_once_and_leaves_the_terminal_as_it_was(serving: Serving, keys: str, status: int) -> None:
    with joined(serving, "ann", "ben", room=f"ends{len(keys)}{status}") as (ann, ben):
        ann.type(keys if keys.endswith(ENTER) or keys == CTRL_D else "half a li" + keys)
        assert ann.end() == status
        assert ann.restored
        assert "Traceback" not in ann.text
        ben.wait("* ann left")


@pytest.mark.parametrize("number", [15, 1])
def test_a_signal_leaves_the_terminal_as_it_was(serving: Serving, number: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this run was started to ignore it, and so is all that it starts")
    with joined(serving, "ann", "ben", room=f"signal{number}") as (ann, ben):
        ann.type("half a li")
        ann.wait("half a li")
        os.kill(ann.process.pid, number)
        assert ann.end() == 128 + number
        assert ann.restored
        ben.wait("* ann left (bye)")


# ------------------------------------------------------------------------- hostility

NASTY = (
    "\x1b[31;45m", "\x1b[2J", "\x1b[3;3H", "\x1b]52;c;aGk=\x07", "\x1b]0;title\x1b\\", "\x1bPq#0\x1b\\", "\x1bc", "\x9b5A",
    "\x9d0;t\x9c", "\x07", "\x08", "\x00", "\x0e", "\x7f", "\x85", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff",
)  # fmt: skip # sequences read best in rows
SEQUENCE = re.compile(r"\x1b\[([0-?]*)[ -/]*([@-~])")
LIBRARY = {("", final) for final in "ABCDHJKmn"} | {("?", "h"), ("?", "l")}
"""The kinds of control sequences that the library draws with."""

SPOILT = "".join(f"{number % 10}{nasty}" for number, nasty in enumerate(NASTY))
CLEANED = "".join(f"{number % 10}" + "\n" * (nasty in "\x85\u2028") for number, nasty in enumerate(NASTY))


def act(nasty: str, nobody: str) -> Iterator[list[dict[str, Any]]]:
    """What a server says that has ``nasty`` wherever a text can be."""
    place = {"room": "lobby", "time": 1_700_000_000_000}
    event = {"type": "event", **place, "sender": f"e{nasty}", "text": f"x{nasty}y"}
    kinds = ["say", "act", "joined", "left", "renamed", "announce"]
    yield [{**event, "seq": number, "kind": kind} for number, kind in enumerate(kinds, 1)]
    other = {"type": "event", "time": place["time"], "sender": f"e{nasty}", "kind": "say", "text": "z", "seq": 1}
    yield [{"type": "reset", "room": room, "seq": 0} for room in (f"r{nasty}", f"@{nasty}", "server")]
    yield [{"type": "members", "room": f"@{nasty}", "names": ["ann", f"o{nasty}"], "at": 0}]
    yield [{**other, "room": f"r{nasty}"}, {**other, "room": f"@{nasty}"}, {**other, "room": "server"}]
    yield [{"type": "members", "room": f"r{nasty}", "names": ["ann", f"m{nasty}"], "at": 1}]
    yield [
        {"type": "page", "id": ["s", 9], "room": "lobby", "events": [{**event, "seq": 1, "kind": "say"}], "more": False}
    ]
    yield [{"type": "roomlist", "id": ["s", 9], "rooms": {f"l{nasty}": 3}}]
    yield [{"type": "error", "code": "x", "text": f"error {nasty}"}]
    # No calendar has these, and nobody this name.
    for number, moment in enumerate((1 << 62, -(1 << 62)), 7):
        yield [{**event, "seq": number, "kind": "say", "time": moment, "sender": nobody}]


def seen_through(script: list[dict[str, Any]], name: str, *command: str) -> Screen:
    """The screen of a client to whom a server has said ``script``, as it is when the server has closed the connection."""

    def answer(message: dict[str, Any]) -> list[Any]:
        if message["type"] == "hello":
            return [welcome(name=name)]
        if message["type"] == "join":
            return [
                *answered(message["id"]),
                *script,
                {
                    "type": "event",
                    "room": "lobby",
                    "seq": 9,
                    "time": 1_700_000_000_000,
                    "sender": "z",
                    "kind": "say",
                    "text": "the last",
                },
            ]
        if message["type"] == "post":
            return [
                {"type": "error", "id": message["id"], "code": "x", "text": script[-1]["text"]},
                {"type": "close", "code": "x", "text": script[-1]["text"]},
            ]
        return []

    with puppet(answer) as (_, address), Screen(*JOIN, address, *command, columns=150, lines=60, TZ="UTC") as screen:
        screen.wait("z: the last")
        screen.type(f"post{ENTER}")
        screen.end()
        assert "Traceback" not in screen.text, screen.text
    return screen


def assert_harmless(screen: Screen) -> None:
    """Nothing of `NASTY` is in the raw bytes, nor any control character but the ones that the library itself draws with."""
    drawn = screen.raw.decode()  # strictly: no half of a character either
    for nasty in NASTY:
        if nasty != "\b":  # which moves the library's cursor, too
            assert nasty not in drawn, ascii(nasty)
    assert {(found[1].strip("0123456789;"), found[2]) for found in SEQUENCE.finditer(drawn)} <= LIBRARY
    rest = SEQUENCE.sub("", drawn)
    assert not [each for each in rest if unicodedata.category(each) in ("Cc", "Cf") and each not in "\r\n\b"]


def test_no_control_character_of_a_hostile_server_reaches_the_terminal() -> None:
    hostile = [message for batch in act(SPOILT, "\x1b[m") for message in batch]
    harmless = [message for batch in act(CLEANED, "") for message in batch]
    spoilt = seen_through(hostile, "a" + SPOILT)
    plain = seen_through(harmless, "a" + CLEANED)
    assert spoilt.text.rstrip() == plain.text.rstrip()
    assert_harmless(spoilt)


def test_no_control_character_of_a_peer_reaches_the_terminal(serving: Serving) -> None:
    from framing.drivers import blocking

    with joined(serving, "ann", room="hostile") as (ann,):
        address = serving.address
        with blocking.connect(address, DEFAULT_WIRE, timeout=30) as peer:
            peer.send({"type": "hello", "version": 1, "name": "eve"})
            session = next(told["session"] for told in peer if told["type"] == "welcome")
            peer.send({"type": "join", "id": [session, 1], "room": "hostile"})
            post = {"type": "post", "id": [session, 2], "room": "hostile", "text": SPOILT}
            peer.send(post)
            peer.send({**post, "id": [session, 3], "kind": "act"})
            peer.send({"type": "post", "id": [session, 4], "to": "ann", "text": SPOILT})
            peer.send({"type": "rename", "id": [session, 5], "name": "e\x1b[31;45mv"})
            peer.send({"type": "join", "id": [session, 6], "room": "h\x07"})
            peer.send({"type": "bye", "reason": SPOILT[:150]})
            codes = [told["code"] for told in peer if told["type"] == "error"]
            assert codes == ["bad-name", "bad-name"]
        ann.wait("eve left (")
        lines = CLEANED.split("\n")
        ann.wait("\n    ".join([f"eve: {lines[0]}", *lines[1:]]))
        ann.wait(f"* eve {lines[0]}")
        ann.wait(f"[eve to you] {lines[0]}")
        ann.type(CTRL_D)
        assert ann.end() == 0
    assert_harmless(ann)


# ------------------------------------------------------------------------- a stranger


def test_in_tmux_it_is_typed_into_while_messages_arrive_and_resized() -> None:
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("tmux is not installed (apt-get install tmux)")
    with tempfile.TemporaryDirectory(prefix="framing-") as place, Serving(Path(place, "chat.db")) as serving:
        command = [tmux, "-L", f"framing-{os.getpid()}", "-f", "/dev/null"]

        def run(*words: str) -> str:
            return subprocess.run([*command, *words], check=True, capture_output=True, text=True, timeout=30).stdout

        def wait(fact: str, times: int = 1) -> str:
            end = time.monotonic() + 30
            while (screen := run("capture-pane", "-p", "-t", "chat")).count(fact) < times:
                assert time.monotonic() < end, f"{fact!r} did not come\n{screen}"
                time.sleep(0.05)
            return screen

        root = Path(__file__).parents[3]
        client = " ".join([*JOIN, serving.address, "--name", "ann"])
        run(
            "new-session", "-d", "-s", "chat", "-x", "70", "-y", "20", "-c", str(root), f"{client}; echo status $?; cat"
        )
        try:
            wait("1 in lobby")
            with Screen(*JOIN, serving.address, "--name", "ben") as ben:
                ben.wait("2 in lobby")
                run("send-keys", "-t", "chat", "-l", "half a li")
                wait("lobby> half a li")
                ben.type("good morning" + ENTER)
                wait("ben: good morning")
                wait("lobby> half a li")
                run("resize-window", "-t", "chat", "-x", "40", "-y", "10")
                ben.type("to a small window" + ENTER)
                wait("ben: to a small window")
                assert wait("lobby> half a li").count("half a li") == 1
                run("send-keys", "-t", "chat", "-l", "ne")
                run("send-keys", "-t", "chat", "Enter")
                ben.wait("ann: half a line")
                run("set-buffer", "pasted\nin two lines")
                run("paste-buffer", "-p", "-t", "chat")
                wait("in two lines")
                run("send-keys", "-t", "chat", "Enter")
                ben.wait("ann: pasted\n    in two lines")
                run("send-keys", "-t", "chat", "C-c")
                wait("status 130")
        finally:
            subprocess.run([*command, "kill-server"], capture_output=True, timeout=30)
