"""The chat over real sockets: the same suite over every server driver, and over a second wire."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from framing import LengthPrefixed, Wire
from framing.drivers.address import Address
from protocols.chat.host import Host, origin_of
from protocols.chat.hub import Hub, Options
from protocols.chat.log import LogError, MemoryLog
from protocols.chat.messages import to_map
from protocols.chat.sqlite_log import SQLiteLog
from tests.drivers.every.registry import SERVERS
from tests.protocols.chat.house import DRIVERS, LOCAL, SECONDS, WIRE, Guest, House, house, until

WIRES = {"msgpack": WIRE, "json": Wire.parse("netstring+json")}


@pytest.fixture(params=[(driver, wire) for driver in DRIVERS for wire in WIRES], ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, Wire[Any]]:
    driver, wire = request.param
    return driver, WIRES[wire]


@pytest.fixture
def chat(kind: tuple[str, Wire[Any]]) -> Iterator[House]:
    with house(*kind) as made:
        yield made


# -------------------------------------------------------------- what people do


def test_who_comes_is_welcomed_and_everybody_is_told_of_it(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as ben:
        welcome = ann.hello("ann")
        assert (welcome["name"], welcome["resumed"], welcome["rooms"]) == ("ann", False, [])
        assert welcome["limits"] == {"text": 8192, "lines": 100, "burst": 5, "rate": 2.0, "frame": 65536}
        ann.done("join", room="Lobby")
        assert ann.get("members")["names"] == ["ann"]
        ben.enter("ben")
        assert ben.get("members") == {"type": "members", "room": "lobby", "names": ["ann", "ben"], "at": 2}
        assert ann.get("event", kind="joined", sender="ben")["seq"] == 2
        ben.send(type="bye", reason="tea")
        assert ann.get("event", kind="left", sender="ben")["text"] == "tea"
        assert ben.ended()["code"] == "bye"


def test_who_gives_no_name_is_given_one(chat: House) -> None:
    with chat.guest() as one, chat.guest() as other:
        names = {one.hello()["name"], other.hello()["name"]}
        assert len(names) == 2
        assert all(name.startswith("guest") for name in names)


def test_a_post_is_acknowledged_and_reaches_all_in_the_same_order(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as ben, chat.guest() as cat:
        for guest, name in ((ann, "ann"), (ben, "ben"), (cat, "cat")):
            guest.enter(name)
        for number in range(4):
            assert ann.say(f"a{number}")["type"] == "ok"
            assert ben.say(f"b{number}", kind="act")["type"] == "ok"
        orders = []
        for guest in (ann, ben, cat):
            if "b3" not in guest.events("act"):
                guest.hears("b3")
            orders.append([(each["seq"], each["text"]) for each in guest.told if each.get("kind") in ("say", "act")])
        assert orders[0] == orders[1] == orders[2]
        assert [text for _, text in orders[0]] == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3"]


def test_history_comes_on_joining_and_in_pages(chat: House) -> None:
    log: Any = chat.log
    with chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        for number in range(5):
            ann.say(str(number))
        ben.enter("ben")
        ben.hears("4")
        assert ben.events() == ["0", "1", "2", "3", "4"]
        first = ben.done("history", room="lobby", limit=3)
        assert [each["kind"] for each in first["events"]] == ["say", "say", "joined"]
        assert first["more"]
        second = ben.done("history", room="lobby", limit=3, before=first["events"][0]["seq"])
        assert [each["text"] for each in second["events"]] == ["0", "1", "2"]
        last = ben.done("history", room="lobby", limit=3, before=2)
        assert ([each["kind"] for each in last["events"]], last["more"]) == (["joined"], False)
        assert log.head("lobby") == 7


def test_rename_who_rooms_and_leave(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        ben.enter("ben")
        ben.done("join", room="attic")
        assert ben.done("rename", name="Benjamin")["type"] == "ok"
        assert ann.get("event", kind="renamed")["text"] == "Benjamin"
        ann.ask("who", room="lobby")
        assert ann.get("members")["names"] == ["Benjamin", "ann"]
        assert ann.done("rooms")["rooms"] == {"lobby": 2, "attic": 1}
        assert ben.done("leave", room="attic")["type"] == "ok"
        assert ann.done("rooms")["rooms"] == {"lobby": 2}
        assert ben.done("who", room="attic")["code"] == "not-in-room"


def test_a_private_post_reaches_one_person_alone(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as ben, chat.guest() as cat:
        for guest, name in ((ann, "ann"), (ben, "ben"), (cat, "cat")):
            guest.enter(name)
        stored = ann.say("psst", to="BEN")
        heard = ben.hears("psst")
        assert heard["room"] == stored["room"]
        assert heard["room"].startswith("@")
        assert ben.say("what?", to="ann")["room"] == stored["room"]
        assert ann.hears("what?")["seq"] == 2
        assert cat.still_there()
        assert "psst" not in str(cat.told)
        assert ann.say("x", to="nobody1")["code"] == "no-such-name"


def test_announcements_reach_everybody_in_every_room(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        ben.enter("ben", room=None)
        chat.host.announce("tea \x1b[31mis ready")
        for guest in (ann, ben):
            event = guest.get("event", kind="announce")
            assert (event["room"], event["sender"], event["text"]) == ("server", "server", "tea is ready")
        assert ann.say("me too", room="server")["code"] == "forbidden"


def test_a_lost_connection_is_resumed_without_gap_or_repetition(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        ben.enter("ben")
        ben.say("one")
        ann.hears("one")
        ann.connection.close()
        ben.say("two")
        ben.say("psst", to="ann")
        with chat.guest() as again:
            cursors = {"lobby": 3, "server": 0}
            welcome = again.hello(resume={"token": ann.token, "cursors": cursors})
            assert (welcome["resumed"], welcome["session"], welcome["name"]) == (True, ann.session, "ann")
            assert welcome["rooms"][-1] == "lobby"
            again.hears("two")
            assert again.still_there()
            assert [each["seq"] for each in again.told if each.get("room") == "lobby" and each["type"] == "event"] == [
                4
            ]
            assert "psst" in again.events()
        assert not [each for each in ben.told if each.get("kind") == "left"]


def test_a_post_that_is_repeated_is_stored_once(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        ben.enter("ben")
        id_ = ann.ask("post", room="lobby", text="once")
        first = ann.get("ok", id=id_)
        ann.connection.close()
        with chat.guest() as again:
            again.hello(resume={"token": ann.token, "cursors": {}})
            again.send(type="post", id=id_, room="lobby", text="once")
            assert again.get("ok", id=id_) == first
        assert ben.say("end")["seq"] == first["seq"] + 1


def test_floods_are_told_when_to_go_on(chat: House) -> None:
    with chat.guest() as ann:
        ann.enter("ann")
        answers = [ann.say(str(number)) for number in range(7)]
        kinds = [answer["type"] for answer in answers]
        assert kinds[:5] == ["ok"] * 5
        refused = next(answer for answer in answers if answer["type"] == "error")
        assert refused["code"] == "rate"
        assert 0 < refused["retry_after"] <= 0.5
        time.sleep(refused["retry_after"])
        assert ann.say("now")["type"] == "ok"


# ------------------------------------------------------------- the server's end


def test_a_stop_says_good_bye_drains_and_stores_everything(kind: tuple[str, Wire[Any]]) -> None:
    log = MemoryLog()
    with house(*kind, log=log) as chat, chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        ben.enter("ben")
        for number in range(5):
            ann.ask("post", room="lobby", text=str(number))
        ann.get("ok")
        chat.host.stop(reconnect=3.0)
        assert chat.host.join(SECONDS)
        assert ben.ended() == {"type": "close", "code": "stopping", "text": "the server ends", "reconnect": 3.0}
        assert ann.ended()["code"] == "stopping"
        acknowledged = [each["seq"] for each in ann.told if each["type"] == "ok" and each["id"][1] > 1]
        assert ben.events() == [event.text for event in log.read("lobby", 0, 100) if event.kind == "say"]
        assert len(acknowledged) == len(ben.events())
    with house(*kind, log=log) as chat, chat.guest() as again:
        welcome = again.hello(resume={"token": ann.token, "cursors": {"lobby": 2}})
        assert (welcome["resumed"], welcome["rooms"]) == (True, ["lobby"])


def test_the_console_says_do_not_come_back(kind: tuple[str, Wire[Any]]) -> None:
    with house(*kind) as chat, chat.guest() as ann:
        ann.enter("ann")
        chat.host.stop(reconnect=None)
        last = ann.ended()
        assert (last["type"], last.get("reconnect")) == ("close", None)


# --------------------------------------------------- time: every driver, one wire

QUICK = Options(heartbeat=0.5, grace=0.5, hello_timeout=0.5, slow_reader_timeout=1.0, burst=10_000, rate=10_000.0)


@pytest.fixture(params=DRIVERS)
def quick(request: pytest.FixtureRequest) -> Iterator[House]:
    with house(request.param, options=QUICK) as made:
        yield made


def test_a_half_open_peer_is_found_by_the_heartbeat_and_left_behind_its_grace(quick: House) -> None:
    with quick.guest() as ann, quick.guest() as ben:
        ann.enter("ann")
        ben.enter("ben")
        begun = time.monotonic()

        def wanted(message: Any) -> bool:
            if message["type"] == "ping":
                ann.send(type="pong", n=message["n"])
            return message.get("kind") == "left"

        left = ann.meet(wanted)
        assert (left["sender"], left["text"]) == ("ben", "connection lost")
        assert time.monotonic() - begun >= 1.0  # two intervals without a word, and the time of grace
        assert ann.still_there()
        assert ben.ended()["code"] == "silent"
        assert "ping" in [each["type"] for each in ben.told]


def test_whoever_says_nothing_is_sent_away(quick: House) -> None:
    with quick.guest() as mute, quick.guest() as half:
        half.connection.send_encoded(b"\0\0\0\x10half")
        assert mute.ended()["code"] == "timeout"
        assert half.ended()["code"] == "timeout"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_slow_reader_is_paged_when_it_reads_on_and_nobody_else_waits(driver: str) -> None:
    options = Options(burst=10_000, rate=10_000.0, slow_reader_timeout=SECONDS, heartbeat=60.0)
    with house(driver, options=options) as chat, chat.guest() as ann, chat.guest(narrow=True) as slow:
        slow.enter("slow")
        ann.enter("ann")
        text = "x" * 8000
        for number in range(400):  # 3 MB: far more than the system holds for it
            assert ann.say(f"{number} {text}")["type"] == "ok"
        until(lambda: chat.host._hub.held["behind"], "the slow reader is behind")
        assert next(peer for peer in chat.host._slow).paused
        slow.hears(f"399 {text}")
        seqs = [each["seq"] for each in slow.told if each["type"] == "event" and each["room"] == "lobby"]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert [each["seq"] for each in slow.told if each["type"] == "lag" and each["room"] == "lobby"]
        assert slow.still_there()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_reader_that_never_reads_is_closed_and_costs_a_bounded_queue(driver: str) -> None:
    options = Options(burst=10_000, rate=10_000.0, slow_reader_timeout=1.0, grace=0.5, heartbeat=60.0)
    with house(driver, options=options) as chat, chat.guest() as ann, chat.guest(narrow=True) as slow:
        slow.enter("slow")
        ann.enter("ann")
        most = 0
        for number in range(400):
            assert ann.say(f"{number} " + "x" * 8000)["type"] == "ok"
            most = max(most, *(queued(line) for line in list(chat.host._lines)))
        assert 1 << 16 < most < 1 << 17, "the high-water mark, and what was being sent when it was reached"
        left = ann.has("event", kind="left")
        assert left["sender"] == "slow"
        assert ann.still_there()


def queued(line: Any) -> int:
    """How many bytes wait for somebody; each driver keeps them elsewhere."""
    peer = line._peer
    if hasattr(peer, "queued"):
        return int(peer.queued)
    keeper = getattr(peer, "link", None) or peer._connection
    return int(keeper.channel.queued)


def test_the_defaults_are_those_that_are_promised() -> None:
    options = Options()
    assert (options.max_text, options.max_lines, options.max_frame) == (8 << 10, 100, 64 << 10)
    assert (options.burst, options.rate) == (5, 2.0)
    assert (options.hello_timeout, options.grace, options.slow_reader_timeout) == (10.0, 30.0, 30.0)
    assert not options.unicode_names


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_log_that_fails_ends_the_chat_as_a_crash_would(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    class Full(MemoryLog):
        full = False

        def append(self, *given: Any) -> None:
            if self.full:
                raise LogError("chat.db: database or disk is full")
            super().append(*given)

    log = Full()
    with house(driver, log=log) as chat, chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        ben.enter("ben")
        ann.say("kept")
        log.full = True
        ann.ask("post", room="lobby", text="lost")
        for guest in (ann, ben):
            last = guest.ended()
            assert last["type"] != "close"
        assert "lost" not in ann.events() + ben.events()
        assert chat.host.join(SECONDS)
        assert isinstance(chat.host.error, LogError)
    assert [event.text for event in log.read("lobby", 0, 9) if event.kind == "say"] == ["kept"]
    assert "disk is full" in caplog.text
    assert "Traceback" not in caplog.text


def test_whoever_cannot_be_told_something_is_closed_alone(caplog: pytest.LogCaptureFixture) -> None:
    narrow: Wire[Any] = Wire(LengthPrefixed(4, max_frame=1000), WIRE.codec)
    host = Host(Hub(MemoryLog()))
    with (
        SERVERS["selector"](LOCAL, WIRE, host.service(WIRE)) as wide,
        SERVERS["selector"](LOCAL, narrow, host.service(narrow)) as small,
        host,
        Guest(wide.address) as ann,
        Guest(wide.address) as ben,
        Guest(small.address) as cat,
    ):
        for guest, name in ((ann, "ann"), (ben, "ben"), (cat, "cat")):
            guest.enter(name)
        assert ann.say("x" * 2000)["type"] == "ok"
        assert ben.hears("x" * 2000)
        assert "x" * 2000 not in cat.events()
        assert cat.ended()["type"] != "close"
        assert ann.say("go on")["type"] == "ok"
        assert ben.hears("go on")
    assert "cannot be told" in caplog.text


@pytest.mark.parametrize("wire", WIRES)
def test_the_largest_answers_fit_into_a_frame_of_64_kib(wire: str) -> None:
    bounded = replace(WIRES[wire], framer=replace(WIRES[wire].framer, max_frame=1 << 16))  # type: ignore[type-var] # all are dataclasses
    fast: dict[str, Any] = {"burst": 10_000, "rate": 10_000.0, "request_burst": 10_000, "request_rate": 10_000.0}
    fast["move_burst"] = 10_000
    options = Options(**fast, max_rooms_each=10_000, unicode_names=True)
    with house(wire=bounded, options=options) as chat, chat.guest() as ann:
        ann.enter("日" * 32, room="山" * 32)
        for text in ("🙂" * 110, '"\\' * 60, "x\n" * 40):
            for number in range(140):
                assert ann.say(f"{text}{number}", room="山" * 32)["type"] == "ok"
            page = ann.done("history", room="山" * 32, limit=200)
            assert page["type"] == "page"
            assert page["more"]
            assert len(page["events"]) > 50
        for number in range(800):
            assert ann.done("join", room=f"{number:03}-{'川' * 28}")["type"] == "ok"
        listed = ann.done("rooms")["rooms"]
        assert 300 < len(listed) < 800
        assert ann.still_there()


def test_any_thread_may_announce_while_people_talk() -> None:
    with house(options=QUICK) as chat, chat.guest() as ann:
        ann.enter("ann")
        threads = [threading.Thread(target=chat.host.announce, args=(f"tea {number}",)) for number in range(20)]
        for thread in threads:
            thread.start()
        heard = {ann.get("event", kind="announce")["text"] for _ in threads}
        assert heard == {f"tea {number}" for number in range(20)}


def test_a_chat_in_a_file_goes_on_where_it_was(tmp_path: Any) -> None:
    with SQLiteLog(tmp_path / "chat.db") as log, house(log=log) as chat, chat.guest() as ann:
        ann.enter("ann")
        ann.say("before")
    with SQLiteLog(tmp_path / "chat.db") as log, house(log=log) as chat, chat.guest() as again, chat.guest() as ben:
        assert again.hello(resume={"token": ann.token, "cursors": {"lobby": 1}})["resumed"]
        assert again.hears("before")["seq"] == 2
        ben.enter("ben")
        assert ben.hears("before")
        assert again.say("behind")["seq"] == 4


@pytest.mark.parametrize("driver", DRIVERS)
def test_who_comes_when_the_host_has_ended_is_sent_away_at_once(driver: str) -> None:
    with house(driver) as chat:
        chat.host.stop()
        assert chat.host.join(SECONDS)
        with chat.guest() as late:
            assert late.ended() is None


class Told:
    """A line by hand: what it was told, in order."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.paused = False
        self.shut = threading.Event()

    def tell(self, message: Any, encoded: dict[Any, bytes]) -> None:
        self.messages.append(to_map(message))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.shut.set()


def test_what_is_for_all_and_what_is_for_one_come_in_the_order_in_which_they_happened() -> None:
    ann, ben, cat = Told(), Told(), Told()
    host = Host(Hub(MemoryLog(), make_token=one_by_one()))
    for line, name in ((ann, "ann"), (ben, "ben"), (cat, "cat")):
        host.opened(line, private=False)
        host.received(line, {"type": "hello", "version": 1, "name": name})
    host._turn(host._gather())
    sessions = {line: line.messages[0]["session"] for line in (ann, ben, cat)}
    for number in range(1, 4):
        for line in (ann, ben, cat):
            kind = "leave" if number == 2 else "join"
            host.received(line, {"type": kind, "id": [sessions[line], number], "room": "lobby"})
    host.received(ann, {"type": "who", "id": [sessions[ann], 4], "room": "lobby"})
    host._turn(host._gather())  # all of it in one batch
    host.received(ben, {"type": "leave", "id": [sessions[ben], 5], "room": "lobby"})
    host.received(ann, {"type": "who", "id": [sessions[ann], 5], "room": "lobby"})
    seen = len(ann.messages)
    host._turn(host._gather())
    last = [(each["type"], each.get("seq", each.get("at"))) for each in ann.messages[seen:-1]]
    assert last == [("event", 10), ("members", 10)]
    host.stop()


def one_by_one() -> Any:
    numbers = iter(range(10**6))
    return lambda size: f"t{next(numbers)}"


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("tcp://10.0.0.1:5", "10.0.0.1"),
        ("tls://10.0.0.1:6", "10.0.0.1"),
        ("tcp://[::ffff:10.0.0.1]:5", "10.0.0.1"),
        ("tcp://[2001:db8:1:2:3:4:5:6]:5", "2001:db8:1:2::/64"),
        ("tcp://[2001:db8:1:2:ffff::1]:5", "2001:db8:1:2::/64"),
        ("unix:/tmp/s", ""),
    ],
)
def test_people_of_one_address_are_counted_together(address: str, origin: str) -> None:
    assert origin_of(Address.parse(address)) == origin


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_address_has_so_many_new_sessions_on_both_ports(driver: str) -> None:
    options = Options(newcomers=2, newcomer_rate=0.001)
    with house(driver, options=options, text=True) as chat, chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        with socket.create_connection((chat.text.host, chat.text.port)) as cat:
            cat.sendall(b"cat\n")
            assert ann.get("event", kind="joined", sender="cat")
            assert ben.hello("ben")["code"] == "too-many-new"
            with chat.guest() as again:
                assert again.hello(resume={"token": ann.token})["resumed"]


def test_each_connection_that_the_hub_ends_is_logged_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "protocols.chat")
    options = Options(hello_timeout=0.3)
    with house(options=options) as chat:
        codes = []
        for code, message in (
            ("hello-first", {"type": "rooms", "id": ["x", 1]}),
            ("version", {"type": "hello", "version": 9}),
            ("timeout", None),
        ):
            with chat.guest() as eve:
                if message is not None:
                    eve.send(**message)
                assert eve.ended()["code"] == code
            codes.append(code)
        with chat.guest() as eve:
            eve.enter("eve")
            for _ in range(60):
                eve.send(type="nonsense")
            assert eve.ended()["code"] == "flood"
    lines = [record.getMessage() for record in caplog.records]
    for code in (*codes, "flood"):
        (line,) = [line for line in lines if f": {code}: " in line]
        assert line.startswith("tcp://127.0.0.1:")
    assert len(lines) == 4, lines


@pytest.mark.parametrize("driver", DRIVERS)
def test_each_connections_end_is_logged_once_whoever_ended_it(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    """A failure by the driver, all else by the chat."""
    caplog.set_level("INFO")
    ends = (
        ("closes", False, "its client has closed the connection"),
        ("closes", True, "its client has closed the connection"),
        ("says good-bye", True, "bye: good-bye"),
        ("sends rubbish", True, "the connection is closed: not the MessagePack"),
        ("says nothing", False, "timeout: no hello"),
    )
    with house(driver, options=Options(hello_timeout=1.0)) as chat:
        for what, introduced, _ in ends:
            with chat.guest() as guest:
                if introduced:
                    guest.enter(room=None)
                    guest.still_there()  # all has been read: to close it now is no reset
                until(lambda: chat.host._lines, "the connection has been made")
                if what == "says good-bye":
                    guest.send(type="bye")
                elif what == "sends rubbish":
                    guest.connection.send_encoded(b"\0\0\0\4\xc1\xc1\xc1\xc1")
                if what != "closes":
                    guest.ended()
            until(lambda: not chat.host._lines, "the connection has ended")
    lines = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
    assert len(lines) == len(ends), lines
    for line, (_, _, reason) in zip(lines, ends, strict=True):
        address, _, why = line.partition(": ")
        assert address.startswith("tcp://127.0.0.1:")
        assert why.startswith(reason)
