"""Those who are behind keep nobody waiting: they share pages, so many a second. And what one is told in a turn is one send."""

from __future__ import annotations

from typing import Any

import pytest

from framing.drivers.address import Address
from protocols.chat import hub as server
from protocols.chat.host import ChatService, Host
from protocols.chat.hub import Hub, Options
from protocols.chat.log import MemoryLog
from protocols.chat.messages import Event, Welcome
from tests.protocols.chat.house import WIRE

READERS = 20
POSTS = 60
TEXT = "x" * 1000
PAGE = 1 << 16
SIZE = 4 * (len(TEXT) + len("ann") + len("hall")) + 200
"""Bytes of one post, as any codec might write it."""

EVERY = 0.01
"""Seconds from one page to the next, while somebody talks."""


def turn(hub: Hub, now: float, *inputs: server.Input) -> tuple[dict[Any, list[int]], int]:
    """The seqs of the posts that each connection is told in one turn, and about how many bytes of text they are in all."""
    told: dict[Any, list[int]] = {}
    for output in hub.handle(inputs, now, 0):
        if isinstance(output, server.Send) and isinstance(output.message, Event) and output.message.kind == "say":
            for connection in output.connections:
                told.setdefault(connection, []).append(output.message.seq)
    return told, sum(map(len, told.values())) * len(TEXT)


def entered(hub: Hub, name: str) -> str:
    """The session of ``name``, who is in the hall from now on."""
    (welcome,) = (
        output.message
        for output in hub.handle(
            [server.Opened(name), server.Received(name, {"type": "hello", "version": 1, "name": name})], 0.0, 0
        )
        if isinstance(output, server.Send) and isinstance(output.message, Welcome)
    )
    hub.handle([server.Received(name, {"type": "join", "id": [welcome.session, 1], "room": "hall"})], 0.0, 0)
    return welcome.session


def post(session: str, number: int) -> dict[str, Any]:
    return {"type": "post", "id": [session, number], "room": "hall", "text": TEXT}


@pytest.mark.parametrize("said", [1, 10])
def test_many_who_are_behind_share_a_page_a_turn_and_all_get_everything(said: int) -> None:
    hub = Hub(MemoryLog(), Options(burst=10_000))
    ann = entered(hub, "ann")
    entered(hub, "ben")
    readers = [f"reader{number}" for number in range(READERS)]
    for reader in readers:
        entered(hub, reader)
    hub.handle([server.Blocked(reader) for reader in readers], 0.0, 0)
    for number in range(2, POSTS + 2):
        told, _ = turn(hub, 0.0, server.Received("ann", post(ann, number)))
        assert set(told) == {"ann", "ben"}
    got: dict[str, list[int]] = {reader: [] for reader in readers}
    number = POSTS + 2
    turns = 0
    inputs: list[server.Input] = [server.Drained(reader) for reader in readers]
    while inputs or hub.held["behind"]:
        # Somebody speaks in each turn, and is heard in it by all who are not behind.
        inputs += [server.Received("ann", post(ann, number + each)) for each in range(said)]
        told, size = turn(hub, turns * 2 * EVERY, *inputs)
        assert len(told["ben"]) == said
        assert size <= PAGE + (READERS + 2) * said * len(TEXT)
        for reader in readers:
            seqs = told.get(reader, [])
            got[reader] += seqs
            # What is added is always told. An event is taken to be as large as any codec could write it: four times its text.
            assert (len(seqs) - said - 1) * 4 * len(TEXT) <= PAGE
        inputs = []
        number += said
        turns += 1
        assert turns < 100
    assert turns > READERS * POSTS * len(TEXT) / PAGE / 2  # it was not all given at once
    for seqs in got.values():
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def behind(count: int, readers: int = 1) -> tuple[Hub, str, list[str]]:
    """A hub in which ann has said ``count`` things that some, who are blocked, have missed; her session, and the names."""
    hub = Hub(MemoryLog(), Options(burst=10_000))
    ann = entered(hub, "ann")
    names = [f"reader{number}" for number in range(readers)]
    for name in names:
        entered(hub, name)
    hub.handle([server.Blocked(name) for name in names], 0.0, 0)
    for number in range(2, count + 2):
        turn(hub, 0.0, server.Received("ann", post(ann, number)))
    return hub, ann, names


def test_while_somebody_talks_pages_come_at_their_rate_and_no_faster() -> None:
    hub, ann, (reader,) = behind(2000)
    hub.handle([server.Drained(reader)], 0.0, 0)
    now, got, looks = 0.0, 0, 0
    said = 10_000
    while now < 0.5:
        now = min(max(hub.wake_at or 0.0, now + 1e-6), now + 0.1)
        talking = now * 100 > said - 10_000
        said += talking
        told, _ = turn(hub, now, *([server.Received("ann", post(ann, said))] if talking else []))
        got += len(told.get(reader, []))
        looks += 1
        assert looks < 1000
    # Half a second's pages, two at most in the beginning, and what was said meanwhile; texts are taken for four times as long.
    most = (0.5 / EVERY + 2) * (PAGE / SIZE + 1) + said - 10_000
    assert most / 2 < got <= most


def test_where_nobody_talks_each_gets_pages_at_that_rate() -> None:
    hub, _, readers = behind(2000, readers=4)
    now, looks = 1.0, 0
    told, _ = turn(hub, now, *(server.Drained(reader) for reader in readers))
    got = {reader: len(told[reader]) for reader in readers}
    while now < 1.5:
        now = min(max(hub.wake_at or 0.0, now + 1e-6), now + 0.1)
        told, _ = turn(hub, now)
        for reader, seqs in told.items():
            got[reader] += len(seqs)
        looks += 1
        assert looks < 1000
    most = (0.5 / EVERY + 2) * (PAGE / SIZE + 1)
    assert all(most / 2 < count <= most for count in got.values()), got


def test_whoever_comes_while_a_crowd_is_behind_hears_at_once_what_is_said() -> None:
    hub, ann, readers = behind(2000, readers=100)
    now, number = 0.0, 10_000
    hub.handle([server.Drained(reader) for reader in readers], now, 0)
    for each in range(20):
        now += 0.05
        turn(hub, now, server.Received("ann", post(ann, number + each)))
    hub.handle(
        [server.Opened("late"), server.Received("late", {"type": "hello", "version": 1, "name": "late"})], now, 0
    )
    session = hub._connections["late"].session
    assert session is not None
    hub.handle([server.Received("late", {"type": "join", "id": [session.id, 1], "room": "quiet"})], now, 0)
    heard = None
    for each in range(20, 40):
        now += EVERY
        said: Any = {"type": "post", "id": [session.id, each], "room": "quiet", "text": "me"}
        outputs = hub.handle([server.Received("late", said), server.Received("ann", post(ann, number + each))], now, 0)
        if any(
            isinstance(output, server.Send)
            and isinstance(output.message, Event)
            and output.message.text == "me"
            and "late" in output.connections
            for output in outputs
        ):
            heard = each
            break
    assert heard is not None
    assert heard < 22
    assert hub.held["paged"] >= 100  # the crowd is behind still


def test_what_is_added_between_two_pages_is_given_beside_the_next_one() -> None:
    hub, ann, (reader,) = behind(2000)
    now = 0.0
    turn(hub, now, server.Drained(reader))
    while (hub.wake_at or 0.0) <= now + 0.005:
        now += 0.001
        turn(hub, now, server.Received("ann", post(ann, 5000 + int(now * 1000))))
    between = 0
    while now + 0.001 < (hub.wake_at or 0.0):
        now += 0.001
        told, _ = turn(hub, now, server.Received("ann", post(ann, 6000 + between)))
        between += 1
        assert reader not in told
    assert between >= 3
    told, _ = turn(hub, now + 0.002)
    assert PAGE / SIZE + between <= len(told[reader]) <= PAGE / SIZE + between + 1


def test_what_was_said_while_nobody_was_behind_makes_no_page_longer() -> None:
    hub = Hub(MemoryLog(), Options(burst=10_000))
    ann, ben = entered(hub, "ann"), entered(hub, "ben")
    for number in range(2, 1002):
        turn(hub, 0.0, server.Received("ann", post(ann, number)))
    asked: Any = {"type": "join", "id": [ben, 2], "room": "hall", "after": 1}
    told, _ = turn(hub, 1.0, server.Received("ben", asked))
    assert 0 < len(told["ben"]) <= PAGE / SIZE + 1


class Wired:
    """A peer by hand: what was sent to it, send by send."""

    def __init__(self) -> None:
        self.address = Address.parse("tcp://127.0.0.1:9")
        self.paused = False
        self.sent: list[bytes] = []

    def send_encoded(self, frames: bytes) -> None:
        assert frames
        self.sent.append(frames)

    def close(self) -> None:
        self.sent.append(b"closed")


def messages(sent: list[bytes]) -> list[list[str]]:
    """The types of the messages of each send."""
    return [
        ["closed"] if frames == b"closed" else [message["type"] for message in WIRE.decoder().feed(frames)]
        for frames in sent
    ]


def test_what_somebody_is_told_in_a_turn_leaves_in_one_piece_and_before_the_end() -> None:
    host = Host(Hub(MemoryLog()))
    service = ChatService(host, WIRE)
    ann, ben = Wired(), Wired()
    for peer, name in ((ann, "ann"), (ben, "ben")):
        service.opened(peer)  # type: ignore[arg-type] # as much of a peer as the host needs
        service.received(peer, {"type": "hello", "version": 1, "name": name})  # type: ignore[arg-type] # as above
    host._turn(host._gather())
    session = WIRE.decoder().feed(ann.sent[0])[0]["session"]
    assert messages(ben.sent) == [["welcome", "reset"]]
    ann.sent.clear()
    for number in range(1, 4):
        service.received(ann, {"type": "rooms", "id": [session, number]})  # type: ignore[arg-type] # as above
    service.received(ann, {"type": "bye"})  # type: ignore[arg-type] # as above
    host._turn(host._gather())
    assert messages(ann.sent) == [["roomlist"] * 3 + ["close"], ["closed"]]


def test_whoever_takes_nothing_is_told_no_more_and_forgotten_when_it_goes() -> None:
    host = Host(Hub(MemoryLog()))
    service = ChatService(host, WIRE)
    ann, ben, cid = Wired(), Wired(), Wired()
    for peer, name in ((ann, "ann"), (ben, "ben"), (cid, "cid")):
        service.opened(peer)  # type: ignore[arg-type] # as above
        service.received(peer, {"type": "hello", "version": 1, "name": name})  # type: ignore[arg-type] # as above
    host._turn(host._gather())
    ben.sent.clear()
    ben.paused = True
    host.announce("one")
    host._turn(host._gather())
    assert messages(ben.sent) == []  # it was told something in the turn before, and takes it no more
    assert len(host._slow) == 1
    cid.paused = True
    host.announce("two")
    host._turn(host._gather())
    assert len(host._slow) == 2
    service.closed(ben, None)  # type: ignore[arg-type] # as above
    host.announce("three")
    service.closed(ann, None)  # type: ignore[arg-type] # as above
    host._turn(host._gather())  # told, and gone
    ann.paused = True
    host._turn([])
    assert [str(line) for line in host._slow] == [str(cid.address)]
    host.stop()
    host._turn(host._gather())
    assert not host._slow
    assert not host._told


def test_whoever_is_always_behind_in_one_room_is_told_of_the_others_too() -> None:
    hub = Hub(MemoryLog(), Options(burst=10_000, request_burst=100))
    ann, ben = entered(hub, "ann"), entered(hub, "ben")
    hub.handle([server.Received("ben", {"type": "join", "id": [ben, 2], "room": "quiet"})], 0.0, 0)
    hub.handle([server.Received("ann", {"type": "join", "id": [ann, 2], "room": "quiet"})], 0.0, 0)
    hub.handle([server.Blocked("ben")], 0.0, 0)
    for number in range(3, 203):
        turn(hub, 0.0, server.Received("ann", post(ann, number)))
    hub.handle([server.Received("ann", {"type": "post", "id": [ann, 1000], "room": "quiet", "text": "psst"})], 0.0, 0)
    heard = 0
    for number in range(2000, 2006):
        # More is said than fits into a page.
        many: list[server.Input] = [server.Received("ann", post(ann, 1000 * number + each)) for each in range(30)]
        outputs = hub.handle([server.Drained("ben"), *many], (number - 2000) * EVERY, 0)
        heard += sum(
            isinstance(output, server.Send)
            and isinstance(output.message, Event)
            and output.message.text == "psst"
            and "ben" in output.connections
            for output in outputs
        )
    assert heard == 1
    assert hub.held["behind"] == 1  # of the other room


@pytest.mark.parametrize("posts", [1, 64])
def test_one_who_is_behind_gets_no_more_for_others_who_take_nothing(posts: int) -> None:
    hub = Hub(MemoryLog(), Options(burst=10_000))
    ann = entered(hub, "ann")
    deaf = [f"deaf{number}" for number in range(50)]
    for name in (*deaf, "ben"):
        entered(hub, name)
    hub.handle([server.Blocked(name) for name in (*deaf, "ben")], 0.0, 0)
    for number in range(2, 1002):
        turn(hub, 0.0, server.Received("ann", post(ann, number)))
    many = [server.Received("ann", post(ann, 5000 + each)) for each in range(posts)]
    told, _ = turn(hub, 3 * EVERY, server.Drained("ben"), *many)
    assert 0 < len(told["ben"]) * 4 * len(TEXT) <= PAGE + (posts + 1) * (4 * len(TEXT) + 300)
    assert not set(deaf) & told.keys()


def test_so_much_text_is_in_a_batch_and_no_more() -> None:
    host = Host(Hub(MemoryLog()))
    service = ChatService(host, WIRE)
    ann = Wired()
    service.opened(ann)  # type: ignore[arg-type] # as above
    for number in range(64):
        service.received(ann, {"type": "post", "id": ["s", number], "room": "hall", "text": "x" * 8192})  # type: ignore[arg-type] # as above
    sizes = []
    while not host._inputs.empty():
        sizes.append(len(host._gather()))
    assert sum(sizes) == 65
    assert max(sizes) <= 1 + PAGE // 8192
