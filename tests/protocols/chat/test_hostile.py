# ruff: noqa: RUF001 # letters that look like others are a part of this
"""Hostile peers over real sockets: what they send is refused, cleaned, or ends their connection, and nobody else notices."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framing import Wire
from protocols.chat import hub as server
from protocols.chat.hub import Hub, Options
from protocols.chat.log import MemoryLog
from tests.protocols.chat.house import DRIVERS, SECONDS, WIRE, Guest, House, house

WIRES = {"msgpack": WIRE, "json": Wire.parse("u32+json"), "cbor": Wire.parse("u32+cbor")}

FAST = Options(burst=10_000, rate=10_000.0, request_burst=10_000, request_rate=10_000.0)


@contextlib.contextmanager
def unnoticed(chat: House) -> Iterator[None]:
    """Two people who talk before, and behind; they see nothing of what happens between, but who came and went."""
    with chat.guest() as ann, chat.guest() as ben:
        ann.enter("ann")
        ben.enter("ben")
        assert ann.say("before")["type"] == "ok"
        ben.hears("before")
        seen = len(ben.told)
        yield
        assert ann.say("behind")["type"] == "ok"
        ben.hears("behind")
        between = [each for each in ben.told[seen:-1] if each.get("kind") not in ("joined", "left")]
        assert between == [], "they were told something"


@pytest.fixture
def chat() -> Iterator[House]:
    with house(options=FAST) as made:
        yield made


@pytest.fixture
def eve(chat: House) -> Iterator[Guest]:
    with unnoticed(chat), chat.guest() as made:
        yield made.enter("eve")


# -------------------------------------------------------------- what is no message


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"\xff" * 5000,
        (1 << 16 | 1).to_bytes(4, "big") + b"x",
        (1 << 30).to_bytes(4, "big"),
        b"\0\0\0\4\xc1\xc1\xc1\xc1",
    ],
    ids=["HTTP", "TLS", "all ones", "a byte too large", "announced 1 GiB", "no MessagePack"],
)
def test_bytes_that_are_no_messages_end_their_own_connection(driver: str, sent: bytes) -> None:
    with house(driver) as chat, unnoticed(chat):
        for introduced in (False, True):
            with chat.guest() as eve:
                if introduced:
                    eve.enter("eve")
                eve.connection.send_encoded(sent)
                eve.ended()


def test_a_frame_may_come_in_pieces_but_not_for_ever() -> None:
    with house(frame_timeout=0.3) as chat, unnoticed(chat), chat.guest() as eve:
        eve.enter("eve")
        frame = WIRE.encode({"type": "ping", "n": 5})
        for byte in frame:
            eve.connection.send_encoded(bytes((byte,)))
        assert eve.get("pong", n=5)
        eve.connection.send_encoded(frame[:5])
        eve.ended()


# ---------------------------------------------------------------- before the hello


def test_before_the_hello_there_are_4_kib_whatever_they_are_spent_on(chat: House) -> None:
    with unnoticed(chat):
        for message in (
            {"type": "hello", "version": 1, "name": "eve", "password": "x" * 4096},
            {"type": "hello", "version": 1, "name": "eve", "ignored": "x" * 4096},
            {"type": "later", "ignored": "x" * 4096},
            {
                "type": "hello",
                "version": 1,
                "resume": {"token": "t" * 20, "cursors": {f"room{n}": n for n in range(500)}},
            },
        ):
            with chat.guest() as eve:
                eve.send(**message)
                assert eve.ended()["code"] == "too-long"
        with chat.guest() as eve:
            eve.send(type="ping", n=1)
            while eve.meet(lambda message: True)["type"] == "pong":
                eve.send(type="ping", n=1)
            assert eve.told[-1]["code"] == "too-long"
            assert len(eve.told) - 1 == 4096 // len(WIRE.encode({"type": "ping", "n": 1})[4:])
        with chat.guest() as eve:
            assert eve.hello("eve", password="x" * 1000)["type"] == "welcome"


def test_before_the_hello_there_are_ten_seconds() -> None:
    assert Options().hello_timeout == 10.0
    with house(options=Options(hello_timeout=1.0)) as chat, unnoticed(chat), chat.guest() as eve:
        begun = time.monotonic()
        while time.monotonic() < begun + 0.8:
            eve.send(type="ping", n=1)
            assert eve.get("pong")
            time.sleep(0.1)
        assert eve.ended()["code"] == "timeout"
        assert time.monotonic() - begun < SECONDS


def test_nothing_but_hello_comes_first(chat: House) -> None:
    with unnoticed(chat):
        for message in (
            {"type": "join", "id": ["x", 1], "room": "lobby"},
            {"type": "post", "id": ["x", 1], "room": "lobby", "text": "hi"},
            {"type": "rooms", "id": ["x", 1]},
            {"type": "bye"},
        ):
            with chat.guest() as early:
                early.send(**message)
                last = early.ended()
                assert (last["type"], last["code"]) == ("close", "hello-first")
        with chat.guest() as old:
            old.send(type="hello", version=99, name="eve")
            last = old.ended()
            assert (last["code"], last.get("reconnect")) == ("version", None)


# ------------------------------------------------------ messages of the wrong shape

STRANGE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.binary(max_size=8)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["", "lobby", "server", "@a+b", "x" * 200, "\x1b[2J", "s1", "ann"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KINDS = [
    "hello",
    "join",
    "leave",
    "post",
    "history",
    "rename",
    "who",
    "rooms",
    "bye",
    "ping",
    "pong",
    "welcome",
    "event",
    "close",
    "",
]
FIELDS = [
    "id",
    "room",
    "text",
    "to",
    "kind",
    "after",
    "before",
    "limit",
    "name",
    "version",
    "resume",
    "password",
    "reason",
    "n",
    "seq",
    "sender",
]
IDS = st.tuples(st.sampled_from(["t1", "t2", "", "x"]), st.integers(0, 5)).map(list)
MESSAGES = st.one_of(
    STRANGE,
    st.builds(
        lambda kind, fields, id_: {"type": kind, "id": id_, **fields},
        st.sampled_from(KINDS),
        st.dictionaries(st.sampled_from(FIELDS), STRANGE, max_size=5),
        IDS,
    ),
)
OF_CBOR = st.sampled_from(
    [
        cbor2.CBORTag(4000, "x"),
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        decimal.Decimal("1e999"),
        float("nan"),
        1 << 200,
        cbor2.undefined,
        frozenset({1, 2}),
        {1: 2, None: 3, (1, 2): 4},
    ]
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        MESSAGES | OF_CBOR | st.builds(lambda value: {"type": "post", "id": value, "room": value}, OF_CBOR), max_size=20
    )
)
def test_the_hub_bears_whatever_a_codec_can_give_it(messages: list[Any]) -> None:
    numbers = iter(range(10**9))
    log = MemoryLog()
    hub = Hub(log, FAST, make_token=lambda size: f"t{next(numbers)}")

    def give(*inputs: server.Input) -> list[Any]:
        return [
            each.message
            for each in hub.handle(inputs, 1.0, 1)
            if isinstance(each, server.Send) and 1 in each.connections
        ]

    give(server.Opened(1), server.Received(1, {"type": "hello", "version": 1, "name": "ann"}))
    give(server.Opened(2), server.Received(2, {"type": "hello", "version": 1, "name": "eve"}))
    give(server.Received(1, {"type": "join", "id": ["t0", 1], "room": "lobby"}))
    for message in messages:
        hub.handle([server.Received(2, message)], 1.0, 1)
    pong = give(server.Received(1, {"type": "ping", "n": 9}))
    assert [type(each).__name__ for each in pong][-1] == "Pong"
    assert not [event for event in log.read("lobby", 0, 99) if event.sender == "ann" and event.kind != "joined"]


@settings(deadline=None, max_examples=10)
@given(st.lists(MESSAGES, min_size=5, max_size=25), st.sampled_from(sorted(WIRES)))
def test_over_a_socket_each_message_of_a_wrong_shape_is_answered_and_the_connection_goes_on(
    messages: list[Any], codec: str
) -> None:
    with house(wire=WIRES[codec], options=FAST) as chat, chat.guest() as eve, chat.guest() as ann:
        ann.enter("ann")
        eve.enter("eve")
        for message in messages:
            if isinstance(message, dict) and message.get("type") in ("bye", "rename", "leave"):
                continue
            with contextlib.suppress(Exception):  # what cannot be encoded cannot be sent
                eve.connection.send(message)
        assert eve.still_there()
        assert ann.say("and so on")["type"] == "ok"


@pytest.mark.parametrize("codec", WIRES)
def test_unknown_types_are_unsupported_and_unknown_fields_ignored(codec: str) -> None:
    with house(wire=WIRES[codec]) as chat, chat.guest() as eve:
        eve.enter("eve", since="the future")
        answer = eve.done("teleport", to="mars")
        assert (answer["type"], answer["code"]) == ("error", "unsupported")
        eve.send(type="telepathy")
        assert eve.get("error", code="unsupported")
        assert eve.say("hi", mood={"deep": ["very"]})["type"] == "ok"
        assert "mood" not in eve.has("event", text="hi")
        assert eve.done("post", room="lobby")["code"] == "malformed"
        assert eve.done("post", room="lobby", to="eve", text="both")["code"] == "malformed"
        assert eve.done("post", text="neither")["code"] == "malformed"


def test_whoever_is_refused_again_and_again_is_closed_and_told_when_to_come_back(chat: House) -> None:
    with unnoticed(chat), chat.guest() as eve:
        eve.enter("eve")
        for _ in range(200):
            eve.send(type="nonsense")
        last = eve.ended()
        assert (last["code"], last["reconnect"]) == ("flood", 10.0)
        assert [each["code"] for each in eve.told if each["type"] == "error"] == ["unsupported"] * server.PATIENCE


# ------------------------------------------------------------------------ forgeries


def test_a_sender_is_who_the_connection_is(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as eve:
        ann.enter("ann")
        eve.enter("eve")
        eve.say("it is me, ann", sender="ann", session=ann.session, seq=1, time=0)
        event = ann.hears("it is me, ann")
        assert event["sender"] == "eve"
        assert event["time"] > 0
        assert event["id"][0] == eve.session
        for kind in ("joined", "left", "renamed", "announce"):
            assert eve.say("x", kind=kind)["code"] == "malformed"


def test_ids_of_others_are_forbidden(eve: Guest, chat: House) -> None:
    with chat.guest() as cat:
        cat.enter("cat")
        for kind, fields in (
            ("post", {"room": "lobby", "text": "forged"}),
            ("leave", {"room": "lobby"}),
            ("rename", {"name": "fool"}),
            ("history", {"room": "lobby"}),
        ):
            eve.send(type=kind, id=[cat.session, 77], **fields)
            assert eve.get("error", id=[cat.session, 77])["code"] == "forbidden"
        assert cat.still_there()


@pytest.mark.parametrize("kind", ["session", "name", "guess", "used", "digest"])
def test_another_ones_session_cannot_be_taken(chat: House, kind: str) -> None:
    import hashlib

    with chat.guest() as ann, chat.guest() as eve:
        ann.enter(f"a-{kind}")
        token = {
            "session": ann.session,
            "name": ann.name,
            "guess": "A" * 24,
            "used": ann.token[:-1] + ("A" if ann.token[-1] != "A" else "B"),
            "digest": hashlib.sha256(ann.token.encode()).hexdigest(),
        }[kind]
        answer = eve.hello(f"e-{kind}", resume={"token": token, "cursors": {"lobby": 0}})
        assert answer["type"] == "error" or (not answer["resumed"] and answer["session"] != ann.session)
        assert ann.still_there()


def test_a_token_is_used_up_by_the_next_one(chat: House) -> None:
    with chat.guest() as first:
        first.enter("fay")
    used = [first.token]
    for _ in range(4):
        with chat.guest() as again:
            assert again.hello(resume={"token": used[-1]})["resumed"]
            assert (again.session, again.name) == (first.session, "fay")
            assert again.token not in used
            for old in used[:-1]:
                with chat.guest() as thief:
                    assert thief.hello(resume={"token": old})["session"] != first.session
            assert again.still_there()
            used.append(again.token)
    (kept,) = [record.tokens for record in chat.log.sessions() if record.id == first.session]
    assert len(kept) == 2, "the one in use, and the one that was issued last"


def test_a_private_room_is_closed_to_a_third_person(chat: House) -> None:
    with chat.guest() as gil, chat.guest() as hal, chat.guest() as eve:
        for guest, name in ((gil, "gil"), (hal, "hal"), (eve, "eve2")):
            guest.enter(name)
        room = gil.say("our secret", to="hal")["room"]
        assert set(room[1:].split("+")) == {gil.session, hal.session}
        for kind, fields in (
            ("history", {}),
            ("join", {"after": 0}),
            ("join", {}),
            ("who", {}),
            ("post", {"text": "let me in"}),
            ("leave", {}),
        ):
            for name in (room, room.upper(), "@" + "+".join(reversed(room[1:].split("+"))), "@no+such"):
                answer = eve.done(kind, room=name, **fields)
                assert (answer["type"], answer["code"]) == ("error", "not-in-room")
        assert room not in eve.done("rooms")["rooms"]
        with chat.guest() as again:
            again.hello(resume={"token": eve.token, "cursors": {room: 0}})
            assert again.still_there()
            assert "secret" not in str(again.told) + str(eve.told)
        assert [each["text"] for each in hal.done("history", room=room)["events"]] == ["our secret"]


# ---------------------------------------------------------------- names and texts


@pytest.mark.parametrize("allowed", [False, True], ids=["ascii", "unicode"])
def test_names_that_look_like_hers_are_refused_and_a_free_one_is_suggested(allowed: bool) -> None:
    with house(options=Options(unicode_names=allowed)) as chat, chat.guest() as ann:
        ann.enter("coco")
        for name in (
            "coco",
            "COCO",
            "Coco",
            "ｃｏｃｏ",
            "сосо",
            "cосо",
            "coco\u200b",
            "c\u00adoco",
            "co\u2060co",
            "coco\u0336",
            "сосо",
        ):
            with chat.guest() as eve:
                answer = eve.hello(name)
                assert answer["type"] == "error", name
                assert answer["code"] in ("name-taken", "bad-name")
                if answer["code"] == "name-taken":
                    free = answer["text"].split()[-3]
                    assert eve.hello(free)["type"] == "welcome"
                    assert eve.done("rename", name=name)["code"] in ("name-taken", "bad-name")
        for name in (
            "server",
            "SERVER",
            "ѕегvег",
            "admin",
            "ａｄｍｉｎ",
            "\x1b[31mx",
            "a\u202eb",
            "a b",
            "a\nb",
            "@a",
            "\u3164",
        ):
            with chat.guest() as eve:
                assert eve.hello(name)["code"] == "bad-name", name
                assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in str(eve.told[-1]["text"]))
        assert ann.done("rename", name="Coco")["type"] == "ok"  # her own, spelt otherwise


def test_whoever_takes_a_cyrillic_name_keeps_its_latin_likeness_from_others() -> None:
    with house(options=Options(unicode_names=True)) as chat, chat.guest() as ann, chat.guest() as eve:
        assert ann.hello("сосо")["name"] == "сосо"
        assert eve.hello("coco")["code"] == "name-taken"
        assert eve.hello("Борис")["type"] == "welcome"


@pytest.mark.parametrize("room", ["а\x1b[2J", "#x", "@a+b", "server", "a\u202e", "x" * 33, " ", "lоbby", "\u200b"])
def test_rooms_have_names_as_people_have(eve: Guest, room: str) -> None:
    answer = eve.done("join", room=room)
    assert (answer["type"], answer["code"]) in {("error", "bad-name"), ("error", "not-in-room")}


NASTY = {
    "a\x1b[31mred\x1b[0m": "ared",
    "\x1b]52;c;aGFja2Vk\x07clip": "clip",
    "\x9d52;c;aGFja2Vk\x9cclip1": "clip1",
    "bell\x07 \x08\x7f\x00.": "bell .",
    "c1\x9b2J\x85next": "c1\nnext",
    "over\u202eride\u2066d\u2069\u200f": "overrided",
    "zero\u200bwidth\ufeff": "zerowidth",
    "<b>markup</b> &amp; [url](x)": "<b>markup</b> &amp; [url](x)",
    "line\r\nend\rmore": "line\nend\nmore",
    "astral 🙂 \U000e0041\ufffe": "astral 🙂 ",
}


def test_texts_are_cleaned_before_anybody_is_told_or_they_are_stored(chat: House) -> None:
    with chat.guest() as ann, chat.guest() as eve:
        ann.enter("ida")
        eve.enter("eve3")
        for sent, shown in NASTY.items():
            assert eve.say(sent)["type"] == "ok"
            ann.hears(shown)
        private = eve.say("psst\x1b[2J", to="ida")
        assert ann.hears("psst")["room"] == private["room"]
        eve.send(type="bye", reason="so\x1b[31m long\u202e\n")
        assert ann.get("event", kind="left", sender="eve3")["text"] == "so long"
    stored = "".join(event.text for event in chat.log.read("lobby", 0, 10_000))
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in stored.replace("\n", ""))


def test_texts_of_8_kib_and_100_lines_are_the_most(chat: House) -> None:
    with chat.guest() as eve:
        limits_of(eve.enter("eve"))


def limits_of(eve: Guest) -> None:
    assert eve.say("x" * 8192)["type"] == "ok"
    assert eve.say("x" * 8193)["code"] == "too-long"
    assert eve.say("é" * 4096)["type"] == "ok"
    assert eve.say("é" * 4097)["code"] == "too-long"
    assert eve.say("\n".join("x" * 100))["type"] == "ok"
    assert eve.say("\n".join("x" * 101))["code"] == "too-long"
    assert eve.say("x" * 40_000)["code"] == "malformed"
    for nothing in ("", " ", "\n\n", "\x1b[2J", "\u200b"):
        assert eve.say(nothing)["code"] == "empty"


# ------------------------------------------------------------------------- floods


@pytest.mark.parametrize("driver", DRIVERS)
def test_floods_of_every_kind_are_told_when_to_go_on_and_nobody_else_waits(driver: str) -> None:
    with house(driver) as chat, unnoticed_slowly(chat), chat.guest() as eve:
        eve.enter("eve")
        ids = [eve.ask("post", room="lobby", text=f"spam {number}") for number in range(30)]
        answers = [eve.has("error", id=id_) for id_ in ids[10:]]
        assert all(answer["code"] == "rate" and 0 < answer["retry_after"] <= 0.5 for answer in answers)
        assert eve.events().count("spam 29") == 0
        for request in ("who", "history", "join"):
            ids = [eve.ask(request, room="lobby") for _ in range(40)]
            answer = eve.has("error", id=ids[-1])
            assert answer["code"] == "rate"
            assert 0 < answer["retry_after"] <= 0.1
            time.sleep(1.0)  # twenty at once, ten a second


@contextlib.contextmanager
def unnoticed_slowly(chat: House) -> Iterator[None]:
    """As `unnoticed`, where the posts of others are allowed."""
    with chat.guest() as ann:
        ann.enter("ann")
        yield
        begun = time.monotonic()
        assert ann.say("behind")["type"] == "ok"
        assert time.monotonic() - begun < SECONDS / 4


@pytest.mark.parametrize("driver", DRIVERS)
def test_whoever_fills_the_queue_alone_is_closed(driver: str) -> None:
    with house(driver, options=FAST) as chat, unnoticed(chat), chat.guest() as eve:
        eve.enter("eve")
        frames = WIRE.encode_many([{"type": "pong", "n": 1}] * 20_000)
        with contextlib.suppress(OSError):
            eve.connection.send_encoded(frames)
            eve.connection.send_encoded(frames)
        eve.ended()


def test_hundreds_of_connections_that_say_nothing_keep_nobody_out() -> None:
    with house(options=Options(hello_timeout=2.0)) as chat, unnoticed(chat), contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(chat.guest()) for _ in range(200)]
        with chat.guest(source="127.0.0.2") as cat:
            cat.enter("cat")
        codes = Counter(guest.ended()["code"] for guest in crowd)
        assert codes["too-many-connections"] >= 200 - Options().max_greeting  # at once, and the others in a while
        assert codes.keys() <= {"too-many-connections", "timeout"}
        with chat.guest() as dan:
            dan.enter("dan")
