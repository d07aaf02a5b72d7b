"""The plain client in pipes: lines in, lines out, and an exit status that tells how it ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protocols.chat import client as person
from protocols.chat.client import Ask
from protocols.chat.messages import Error, Event
from protocols.chat.phrases import Place, is_repeated, phrase_event, read_line
from protocols.chat.plain import LONGEST_LINE, MOST_LINES, MOST_PENDING, lines_of
from tests.protocols.chat.puppets import joined, puppet, unhurried, welcome
from tests.protocols.chat.serving import DRIVERS, Serving, kept
from tests.protocols.echo.processes import started

JOIN = [sys.executable, "-m", "protocols.chat", "join"]
WAIT = 30.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its signals and pipes are others")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(tmp_path_factory.mktemp("chat") / "chat.db") as server:
        yield server


def told(address: str, name: str, given: bytes, *options: str, **environment: str) -> tuple[int, list[str], str]:
    """What comes of ``given`` in a pipe: the exit status, the lines, and what was complained of."""
    ended = subprocess.run(
        [*JOIN, address, "--name", name, *options],
        input=given,
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert b"Traceback" not in ended.stderr, ended.stderr.decode()
    return ended.returncode, ended.stdout.decode().splitlines(), ended.stderr.decode()


class Talker:
    """A plain client whose input stays open, and whose lines are waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # it was closed
            for line in self.process.stdout:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()

    def wait(self, line: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: line in self.lines, WAIT), self.lines

    def say(self, *lines: str) -> None:
        assert self.process.stdin is not None
        for line in lines:
            self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Wait for its end, by a signal or by that of its input: the exit status, and what it complained of."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        if number is None:
            self.process.stdin.close()
        else:
            os.killpg(self.process.pid, number)
        status = self.process.wait(WAIT)
        complaints = self.process.stderr.read()
        assert "Traceback" not in complaints, complaints
        return status, complaints


@contextlib.contextmanager
def talking(address: str, name: str, *options: str) -> Iterator[Talker]:
    with started(*JOIN, address, "--name", name, "--plain", *options, stdin=subprocess.PIPE) as process:
        talker = Talker(process)
        try:
            yield talker
        finally:
            # Asked first: who is killed without a word keeps its name for the server's time of grace.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.send_signal(signal.SIGINT)
                process.wait(5)


# ------------------------------------------------------------------------ lines


def test_lines_are_said_and_what_happens_comes_out_as_lines(serving: Serving) -> None:
    with talking(serving.address, "listener", "--room", "pipe") as listener:
        listener.wait("In pipe: listener")
        status, lines, complaints = told(serving.address, "ann", b"hello\n/me waves\n//done", "--room", "pipe")
        assert (status, complaints) == (0, "")
        assert lines[0] == "You are ann."
        assert lines[-3:] == ["ann: hello", "* ann waves", "ann: /done"]
        for line in ("* ann joined", "ann: hello", "* ann waves", "ann: /done", "* ann left (bye)"):
            listener.wait(line)
        assert [line for line in listener.lines if "ann" in line][-5:] == listener.lines[-5:]


def test_the_end_of_the_input_waits_for_every_acknowledgement_at_the_servers_pace(serving: Serving) -> None:
    given = b"".join(b"post %d\n" % number for number in range(9))
    began = time.monotonic()
    status, lines, complaints = told(serving.address, "ann", given, "--room", "pace")
    took = time.monotonic() - began
    assert (status, lines[-9:]) == (0, [f"ann: post {number}" for number in range(9)])
    assert took > 1.5, "five at once, then two a second"
    assert re.fullmatch(r"framing-chat: \d lines are still to be said, as fast as the server lets us\n", complaints)


def test_where_nothing_waits_it_ends_at_once(serving: Serving) -> None:
    for given in (b"", b"hello\n"):
        began = time.monotonic()
        assert told(serving.address, "quick", given, "--room", "quick")[0] == 0
        assert time.monotonic() - began < 4


def test_it_leaves_by_an_order_though_the_input_is_open(serving: Serving) -> None:
    with talking(serving.address, "ann", "--room", "orders") as ann:
        ann.wait("In orders: ann")
        ann.say("/help", "/quit")
        ann.wait("/quit              go")
        assert ann.process.wait(WAIT) == 0


def test_a_text_of_many_lines_comes_out_with_the_further_ones_indented(serving: Serving) -> None:
    from framing.drivers import blocking
    from protocols.chat.wires import DEFAULT_WIRE

    with talking(serving.address, "ann", "--room", "many") as ann:
        ann.wait("In many: ann")
        with blocking.connect(serving.address, DEFAULT_WIRE, timeout=WAIT) as peer:
            peer.send({"type": "hello", "version": 1, "name": "eve"})
            session = next(told["session"] for told in peer if told["type"] == "welcome")
            peer.send({"type": "join", "id": [session, 1], "room": "many"})
            text = "one\r\nann: I never said this\x1b[2J\x07"
            peer.send({"type": "post", "id": [session, 2], "room": "many", "text": text})
            ann.wait("    ann: I never said this")
            assert ann.lines[-2] == "eve: one"


def test_bytes_that_are_no_text_are_replaced_and_what_cannot_be_written_too(serving: Serving) -> None:
    status, lines, _ = told(
        serving.address, "ann", b"a\xffb\n\xe2\x82\xac", "--room", "bytes", PYTHONIOENCODING="latin-1"
    )
    assert status == 0
    assert lines[-2:] == ["ann: a?b", "ann: ?"]


def test_lines_are_found_however_they_are_cut_and_bounded() -> None:
    reading, writing = os.pipe()
    text = "one\n\n\u20ac two\n".encode() + b"x" * (5 * LONGEST_LINE) + b"\nlast"

    def write() -> None:
        for at in range(20):
            os.write(writing, text[at : at + 1])
            time.sleep(0.001)
        os.write(writing, text[20:])
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    lines = list(lines_of(reading))
    thread.join()
    os.close(reading)
    assert [line if len(line) < 20 else line[0] for line in lines] == ["one", "", "\u20ac two", "x", "last"]
    assert len(lines[3]) <= 2 * LONGEST_LINE + (1 << 16)


def test_no_more_is_read_than_can_be_said(serving: Serving) -> None:
    with talking(serving.address, "ann", "--room", "flood") as ann:
        ann.wait("In flood: ann")
        assert ann.process.stdin is not None
        descriptor = ann.process.stdin.fileno()
        os.set_blocking(descriptor, False)
        line, written, idle = b"y" * 1000 + b"\n", 0, time.monotonic()
        while time.monotonic() - idle < 1.5:
            try:
                written += os.write(descriptor, line)
                idle = time.monotonic()
            except BlockingIOError:
                time.sleep(0.02)
            assert written < 10_000_000, "it reads without end"
        status, complaints = ann.end(signal.SIGINT)
        assert (status, complaints.count("not said: yyy")) == (130, complaints.count("\n"))
        assert MOST_PENDING <= complaints.count("\n") <= MOST_PENDING + 1
        pipe, chunk = 1 << 16, 1 << 16
        assert written < (MOST_PENDING + MOST_LINES + 20) * len(line) + pipe + 2 * chunk


def test_history_goes_back_page_by_page_here_elsewhere_and_in_private() -> None:
    command = [sys.executable, "-m", "protocols.chat", "serve", "--listen", "tcp://127.0.0.1:0", "--db", ":memory:"]
    with started(*command, stdin=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        address = server.stdout.readline().split()[2].rstrip(",")
        with contextlib.ExitStack() as stack:
            # One after the other: who is there first is told of the other, and not in the list of who is here.
            ben = stack.enter_context(talking(address, "ben"))
            ben.wait("In lobby: ben")
            ann = stack.enter_context(talking(address, "ann"))
            ann.wait("In lobby: ann, ben")
            for number in range(3):
                server.stdin.write(f"tea {number}\n")
                server.stdin.flush()
                ann.wait(f"*** tea {number}")
            ann.say("one", "/msg ben two", "/msg ben three")
            ann.wait("[you to ben] three")

            def history(*orders: str, name: str = "ann") -> list[str]:
                before, end = len(ann.lines), time.monotonic() + WAIT
                ann.say(*orders)
                while ann.lines[before:].count("---") < len(orders):
                    assert time.monotonic() < end, ann.lines
                    time.sleep(0.01)
                ann.say(f"/me is at {before}")
                ann.wait(f"* {name} is at {before}")
                return [re.sub(r"^\d\d:\d\d ", "", line) for line in ann.lines[before:-1]]

            server_room = history("/history 2 server", "/history more server")
            assert server_room == [
                "--- earlier", "*** tea 1", "*** tea 2", "---", "What was before that: /history more server",
                "--- earlier", "*** tea 0", "---",
            ]  # fmt: skip # a page each
            private = history("/history 1 @BEN", "/history more @ben")
            assert private == [
                "--- earlier", "[you to ben] three", "---", "What was before that: /history more @ben",
                "--- earlier", "[you to ben] two", "---",
            ]  # fmt: skip # as above
            assert history("/history 1")[-1] == "What was before that: /history more"
            ann.say("/nick anna", "I am anna")
            ben.wait("anna: I am anna")
            assert ben.lines.count("* ann is now called anna") == 1, "not by the private room too"
            ben.say("/msg anna four")
            ann.wait("[ben to you] four")
            renamed = history("/history 3 @ben", name="anna")
            assert renamed[1:-2] == ["[you to ben] three", "* ann is now called anna", "[ben to you] four"]
        server.stdin.close()


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("/history", ("here", 20, False)),
        ("/history 7", ("here", 7, False)),
        ("/history more", ("here", 20, True)),
        ("/history kitchen", ("kitchen", 20, False)),
        ("/history 7 kitchen", ("kitchen", 7, False)),
        ("/history more @ben", ("@ben", 20, True)),
        ("/history 7 7", ("7", 7, False)),
        ("/history 0", None),
        ("/history 201", None),
        ("/history 99999999999999999999999 kitchen", None),
    ],
)
def test_history_takes_a_number_or_more_and_a_place(line: str, asked: tuple[str, int, bool] | None) -> None:
    order = read_line(line, "here")
    assert [(ask.argument, ask.limit, ask.further) for ask in order.inputs if isinstance(ask, Ask)] == (
        [asked] if asked else []
    )
    assert order.reply == ("" if asked else "/history takes a number from 1 to 200.")
    if asked and asked[0] == "here":
        assert read_line(line, None).reply == "You are in no room."


@pytest.mark.parametrize(
    ("kind", "text", "words", "repeated"),
    [
        ("say", "x", "[ben to you] x", False),
        ("act", "x", "[ben to you] * ben x", False),
        ("joined", "", "* ben joined", True),
        ("left", "bye", "* ben left (bye)", True),
        ("renamed", "bert", "* ben is now called bert", False),
    ],
)
def test_what_happens_in_a_private_room_is_not_taken_for_what_is_said(
    kind: Any, text: str, words: str, repeated: bool
) -> None:
    client = person.Client("ann")
    event = Event(room="@a+b", seq=1, time=0, sender="ben", kind=kind, text=text)
    assert phrase_event(event, client, "lobby") == words
    assert is_repeated(event, client) is repeated


def test_a_place_is_left_for_the_latest_one_that_one_is_in() -> None:
    client: Any = SimpleNamespace(rooms=("lobby", "attic", "cellar"))
    place = Place("Lobby")
    for line in ("/join Attic", "/join no room", "/join neither"):
        place.follow(read_line(line, place.room))
    assert place.room == "neither"
    trouble = person.Trouble(Error(code="refused", text="no"), person.Ask("join", "no room"))
    place.take(trouble, client)
    assert place.room == "neither", "that was another one"
    place.take(replace(trouble, ask=person.Ask("join", "NEITHER")), client)
    assert place.room == "Attic"
    place.follow(read_line("/leave cellar", place.room))
    assert place.room == "Attic"
    place.follow(read_line("/leave ATTIC", place.room))
    assert place.room is None
    place.follow(read_line("/join neither", place.room))
    client.rooms = ("cellar",)
    place.take(replace(trouble, ask=person.Ask("join", "neither")), client)
    assert place.room is None


# ------------------------------------------------------------------- exit statuses


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (b"/msg nobody hi\n", "not said: hi: nobody here has this name"),
        (b"x" * 9000 + b"\n", "8192 bytes and 100 lines are the most"),
        (b"/nick server\n", "this name is reserved"),
        (b"/frobnicate\n", "There is no /frobnicate"),
        (b"/leave\nhello?\n", "You are in no room"),
        (b"/leave WRONG\nhello?\n", "You are in no room"),
    ],
)
def test_what_is_not_said_or_done_is_told_and_the_status_is_1(serving: Serving, given: bytes, complaint: str) -> None:
    status, _, complaints = told(serving.address, "ann", given, "--room", "wrong")
    assert (status, complaint in complaints) == (1, True), complaints


def test_what_the_server_takes_later_only_is_told_and_is_no_failure() -> None:
    with puppet(unhurried) as (service, address), talking(address, "ann") as ann:
        ann.wait("In lobby: ann")
        ann.say("/nick anna", "/quit")
        assert ann.process.wait(WAIT) == 0
        assert ann.process.stderr is not None
        complaints = ann.process.stderr.read()
    told = r"framing-chat: The server is asked too much; /nick anna follows in (\d\d) s\n"
    assert re.fullmatch(told, complaints), complaints
    assert [message["type"] for message in service.heard] == ["hello", "join", "rename", "bye"]


def test_a_server_that_would_not_have_us_makes_it_3(serving: Serving) -> None:
    with talking(serving.address, "holder") as holder:
        holder.wait("In lobby: holder")
        status, lines, complaints = told(serving.address, "Holder", b"hello\n")
    assert (status, lines) == (3, [])
    assert "this name is taken; Holder2 is free" in complaints


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_ends_for_good_makes_it_3(driver: str) -> None:
    command = [sys.executable, "-m", "protocols.chat", "serve", "--listen", "tcp://127.0.0.1:0", "--db", ":memory:"]
    with started(*command, "--driver", driver, stdin=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        address = server.stdout.readline().split()[2].rstrip(",")
        with talking(address, "ann") as ann:
            ann.wait("In lobby: ann")
            server.stdin.write("QUIT\n")
            server.stdin.flush()
            assert ann.process.wait(WAIT) == 3
            ann.wait("The server has closed the connection: the server ends.")
        assert server.wait(WAIT) == 0


def test_whoever_is_not_let_in_is_told_why_once_and_what_was_not_said(serving: Serving) -> None:
    with talking(serving.address, "keeper") as keeper:
        keeper.wait("In lobby: keeper")
        status, lines, complaints = told(serving.address, "Keeper", b"one\ntwo\n")
    assert (status, lines) == (3, [])
    first, *others = complaints.splitlines()
    assert first == "framing-chat: this name is taken; Keeper2 is free"
    assert {*others} <= {"framing-chat: not said: one", "framing-chat: not said: two"}


def test_a_crowd_behind_one_address_is_let_in_one_by_one(tmp_path: Path) -> None:
    with Serving(tmp_path / "chat.db", "--newcomers", "1") as serving:
        given = [
            subprocess.Popen(
                [*JOIN, serving.address, "--name", f"p{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for number in range(3)
        ]
        for number, process in enumerate(given):
            output, _ = process.communicate(b"I am %d\n" % number, timeout=60)
            assert b"closed" not in output, "it is no end"
        assert [process.returncode for process in given] == [0] * 3
        assert serving.stop() == 0
        said = {event.text for event in kept(serving.database)["lobby"] if event.kind == "say"}
    assert said == {f"I am {number}" for number in range(3)}


def test_nobody_there_makes_it_4(serving: Serving) -> None:
    import socket

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        status, lines, complaints = told(f"tcp://127.0.0.1:{nobody.getsockname()[1]}", "ann", b"hello\n")
    assert (status, lines) == (4, [])
    assert "nobody listens there" in complaints


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_connection_that_is_lost_is_made_anew(tmp_path: Path, driver: str) -> None:
    with Serving(tmp_path / "chat.db", driver=driver) as serving, talking(serving.address, "ann") as ann:
        ann.wait("In lobby: ann")
        serving.kill()
        ann.say("said meanwhile")
        serving.start()
        ann.wait("ann: said meanwhile")
        ann.say("and after")
        ann.wait("ann: and after")
        status, complaints = ann.end()
        assert status == 0
        assert "no connection: " in complaints
        assert [line for line in ann.lines if line.startswith("ann: ")] == ["ann: said meanwhile", "ann: and after"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("connected", [True, False])
def test_a_signal_ends_it_with_its_number_and_the_others_see_it_go(
    serving: Serving, number: signal.Signals, connected: bool
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"this run was started to ignore {number.name}, and so is all that it starts")
    with talking(serving.address, "watcher", "--room", number.name) as watcher:
        watcher.wait(f"In {number.name.lower()}: watcher")
        if connected:
            with talking(serving.address, "ann", "--room", number.name) as ann:
                watcher.wait("* ann joined")
                status, err = ann.end(number)
            watcher.wait("* ann left (bye)")
        else:
            with puppet(lambda message: []) as (service, address), talking(address, "ann") as ann:
                end = time.monotonic() + WAIT
                while not service.heard:
                    assert time.monotonic() < end
                    time.sleep(0.01)
                status, err = ann.end(number)
        assert (status, err) == (128 + number, "")


def test_a_signal_that_it_was_started_to_ignore_is_ignored(serving: Serving) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", ignoring, *JOIN, serving.address, "--name", "ann", "--room", "nohup"]
    with started(*command, stdin=subprocess.PIPE) as process:
        ann = Talker(process)
        ann.wait("In nohup: ann")
        process.send_signal(signal.SIGHUP)
        ann.say("still here")
        ann.wait("ann: still here")
        assert ann.end() == (0, "")


def test_a_reader_that_goes_ends_it_without_a_traceback(serving: Serving) -> None:
    with started(*JOIN, serving.address, "--name", "ann", "--room", "gone", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "You are ann.\n"
        process.stdout.close()
        for number in range(3):
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"post {number}\n")
                process.stdin.flush()
        assert process.wait(WAIT) == 141
        assert process.stderr is not None
        assert process.stderr.read() == "", "it ends as quietly as other programs"


@pytest.mark.parametrize(
    ("closed", "given", "complaint"),
    [
        ("<&-", "", "framing-chat: standard input: Bad file descriptor\n"),
        (">&-", "x\n", "framing-chat: the output cannot be written: Bad file descriptor\n"),
        (">/dev/full", "x\n", "framing-chat: the output cannot be written: No space left on device\n"),
        ("2>&-", "/frob\n", ""),
    ],
)
def test_streams_that_are_closed_or_full_are_told_of_and_the_others_see_it_go(
    serving: Serving, closed: str, given: str, complaint: str
) -> None:
    room = f"streams{len(closed)}{len(given)}"
    with talking(serving.address, "watcher", "--room", room) as watcher:
        watcher.wait(f"In {room}: watcher")
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *JOIN, serving.address, "--name", "ann", "--room", room]
        ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
        watcher.wait("* ann left (bye)")
    assert (ended.returncode, ended.stderr) == (1, complaint)
    assert "frob" not in ended.stdout, "what is complained of is no output"


# ------------------------------------------------------------------------ options


@pytest.mark.parametrize("wire", ["u32+json", "netstring+cbor", "lines+json"])
def test_other_wires_carry_it(tmp_path: Path, wire: str) -> None:
    with Serving(tmp_path / "chat.db", "--wire", wire) as serving:
        status, lines, _ = told(serving.address, "ann", b"over %s\n" % wire.encode(), "--wire", wire)
    assert (status, lines[-1]) == (0, f"ann: over {wire}")


@pytest.mark.parametrize("wire", ["u32", "u32+text", "u8+msgpack", "u32(max_frame=1K)+msgpack"])
def test_wires_that_cannot_carry_it_are_misuse(wire: str) -> None:
    status, _, complaints = told("tcp://127.0.0.1:1", "ann", b"", "--wire", wire)
    assert status == 2
    assert "--wire" in complaints


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
@pytest.mark.parametrize("options", [(), ("--password",)])
def test_a_password_over_a_connection_that_anybody_can_read_is_misuse_and_nothing_is_sent(
    scheme: str, options: tuple[str, ...]
) -> None:
    environment = {} if options else {"FRAMING_CHAT_PASSWORD": "hunter2"}
    with puppet(lambda message: []) as (service, address):
        where = address.replace("tcp", scheme)
        status, lines, complaints = told(where, "ann", b"", *options, **environment)
    assert (status, lines, service.connections) == (2, [], 0)
    assert complaints.count("\n") == 1
    assert f"{where}: passwords are sent over TLS or a unix socket only; join by tls:// or unix:" in complaints


def test_a_password_goes_over_a_unix_socket(tmp_path: Path) -> None:
    heard: list[Any] = []

    def answer(message: dict[str, Any]) -> list[Any]:
        heard.append(message)
        return [{"type": "close", "code": "x", "text": "enough"}]

    with puppet(answer, f"unix:{tmp_path / 's'}") as (_, address):
        assert told(address, "ann", b"", FRAMING_CHAT_PASSWORD="hunter2")[0] == 3
    assert heard[0]["password"] == "hunter2"


def test_a_hostile_server_gets_no_control_character_into_the_output() -> None:
    nasty = "a\x1b[31mb\x1b]52;c;aGk=\x07c\x9b2J\u202ed\x85e"

    def answer(message: dict[str, Any]) -> list[Any]:
        if message["type"] == "hello":
            return [welcome(name=nasty)]
        if message["type"] != "join":
            return []
        event = {"type": "event", "room": "lobby", "time": 1 << 62, "sender": nasty, "text": nasty}
        kinds = ["say", "act", "joined", "left", "renamed", "announce"]
        return [
            *joined(message["id"], names=[nasty]),
            *({**event, "seq": number, "kind": kind} for number, kind in enumerate(kinds, 1)),
            {
                "type": "page",
                "id": ["s", 9],
                "room": "lobby",
                "events": [{**event, "seq": 1, "kind": "say"}],
                "more": False,
            },
            {"type": "roomlist", "id": ["s", 9], "rooms": {nasty: 1}},
            {"type": "error", "code": "x", "text": nasty},
            {"type": "close", "code": "x", "text": nasty},
        ]

    with puppet(answer) as (_, address), talking(address, "ann") as ann:
        assert ann.process.wait(WAIT) == 3
        ann.wait("The server has closed the connection: abcd e.")
        assert ann.process.stderr is not None
        complaints = ann.process.stderr.read()
    assert ann.lines[:3] == ["You are abcd e.", "In lobby: abcd e", "abcd e: abcd"]
    assert len(ann.lines) == 17
    assert complaints == "framing-chat: abcd e\n" * 2
    assert all(line.isprintable() for line in [*ann.lines, *complaints.splitlines()])
