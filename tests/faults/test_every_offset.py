"""Every fault, at every byte offset of a conversation, between every server driver and every client driver.

What must hold, wherever it strikes: what came whole before it is delivered, in order, and nothing else; both sides are told
the end as it was, clean only between two frames; a bystander at the same server notices nothing; nothing is left behind.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from framing import ConnectionClosed, ConnectionReset, FramingError, TruncatedFrame, Wire
from tests.drivers.every.registry import CLIENTS, SERVERS, Connect
from tests.drivers.every.services import Echo, descriptors, until
from tests.faults.relay import Door, Passage, Plan, Relay, crawl, cut, delay, glue, half_close, reset

WIRE = Wire.parse("u32+json")
MESSAGES: list[Any] = ["", {"op": "sum", "args": [1, 2]}, 7, ["żółw", None, True, -1.5]]
ENDS = list(itertools.accumulate(len(WIRE.encode(message)) for message in MESSAGES))
OFFSETS = range(ENDS[-1] + 1)

AT_ONCE = 16
"""Conversations at one time: enough that those who wait for a pause do not add up."""


def whole(count: int) -> list[Any]:
    """The messages that are whole in the first ``count`` bytes."""
    return MESSAGES[: sum(end <= count for end in ENDS)]


def end_at(count: int) -> type[FramingError] | None:
    """How a stream ends that ends behind ``count`` bytes; None stands for a clean end."""
    return None if count in (0, *ENDS) else TruncatedFrame


def test_the_conversation_is_long_enough_to_be_hit_anywhere():
    assert 60 <= ENDS[-1] <= 120
    assert b"".join(WIRE.encode(message) for message in MESSAGES) == WIRE.encode_many(MESSAGES)


# ------------------------------------------------------------------------------------------------- what is told


@dataclass
class Told:
    """What a client was told: the replies, and the end; None where it ended by itself, having all of them."""

    replies: list[Any]
    end: FramingError | None


def converse(connect: Connect, door: Door, ends_itself: bool) -> Told:
    """Say all, hear all, say the end, hear the end."""
    told = Told([], None)
    try:
        client = connect(door.address, WIRE)
    except FramingError as error:
        told.end = error
        return told
    try:
        try:
            for message in MESSAGES:
                client.send(message)
        except FramingError:
            pass  # to be told by receive() too, behind what came before
        while len(told.replies) < len(MESSAGES):
            told.replies.append(client.receive())
        if not ends_itself:
            client.close_sending()
            client.receive()
    except FramingError as error:
        told.end = error
    finally:
        client.close()
    return told


class Others:
    """Somebody else at the same server, who must not notice."""

    def __init__(self, connect: Connect, address: Any) -> None:
        self.client = connect(address, WIRE)
        self.count = 0

    def talk(self) -> None:
        self.count += 1
        self.client.send(["unharmed", self.count])
        assert self.client.receive() == ["unharmed", self.count]

    def close(self) -> None:
        self.client.close()


class Heard:
    """What the server's service was told of each connection that came through the relay."""

    def __init__(self, service: Echo, doors: Iterable[Door]) -> None:
        self.service = service
        self.doors = doors

    def peer(self, passage: Passage) -> Any:
        """Who came through ``passage``; None who has not been opened yet."""
        host, port = passage.name
        peers = [peer for peer in self.service.peers if (peer.address.host, peer.address.port) == (host, port)]
        # A port that was given back may have been given to another one since: the first peer was the first passage.
        passages = [other for door in self.doors for other in list(door.passages) if other.name == passage.name]
        place = sorted(passages, key=lambda other: other.connected).index(passage)
        return peers[place] if place < len(peers) else None

    def of(self, passage: Passage) -> tuple[list[Any], Exception | None]:
        """The messages and the end; waits for it."""

        def calls() -> list[tuple[str, Any]]:
            peer = self.peer(passage)
            found = [(name, value) for name, one, value in list(self.service.calls) if one is peer]
            return found if found and found[-1][0] == "closed" else []

        told = until(calls, "the server was not told the end")
        assert [name for name, _ in told] == ["opened", *["received"] * (len(told) - 2), "closed"]
        return [value for _, value in told[1:-1]], told[-1][1]


def held() -> tuple[int, int]:
    """The threads and descriptors of this process."""
    return threading.active_count(), descriptors()


@contextmanager
def talking(at_once: int) -> Iterator[ThreadPoolExecutor]:
    """Threads to talk in; where a test has failed, those who have not begun never do."""
    pool = ThreadPoolExecutor(at_once)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


Judge = Callable[[str, Told, list[Any], Exception | None, Passage], None]


def strike(server_name: str, client_name: str, plans: dict[str, Plan], judge: Judge) -> None:
    """One conversation for each plan, all with one server; ``judge`` gets what both sides were told of it."""
    driver = CLIENTS[client_name]
    before = held()
    service = Echo()
    with (
        SERVERS[server_name]("tcp://127.0.0.1:0", WIRE, service) as server,
        Relay(server.address) as relay,
        driver.start() as connect,
        closing(Others(connect, server.address)) as others,
        talking(AT_ONCE) as pool,
    ):
        doors = {name: relay.listen(plan) for name, plan in plans.items()}
        heard = Heard(service, doors.values())
        futures = {
            pool.submit(converse, connect, door, driver.is_a_service): (name, door) for name, door in doors.items()
        }
        for future in as_completed(futures):
            name, door = futures[future]
            told = future.result()
            assert len(door.passages) == 1, f"{name}: {told} {door.passages}"
            [passage] = door.passages
            assert passage.over.wait(10), f"{name}: the connection is still open"
            try:
                received, error = heard.of(passage)
            except AssertionError as missing:
                raise AssertionError(f"{name}: {missing}; {told}, {passage}") from missing
            judge(name, told, received, error, passage)
            others.talk()
        until(lambda: server.connections == 1, "connections are left behind")
        assert not service.overlaps
    until(
        lambda: all(now <= then for now, then in zip(held(), before, strict=True)),
        f"left behind: more than {before}",
        5,
    )


EVERY = pytest.mark.parametrize(("server_name", "client_name"), list(itertools.product(SERVERS, CLIENTS)))


# --------------------------------------------------------------------------------------- faults that change nothing


def nothing_happened(name: str, told: Told, received: list[Any], error: Exception | None, passage: Passage) -> None:
    assert received == MESSAGES, name
    assert error is None, f"{name}: {error!r}"
    assert told.replies == MESSAGES, name
    assert told.end is None or type(told.end) is ConnectionClosed, f"{name}: {told.end!r}"
    assert (passage.up, passage.down, passage.broken) == (ENDS[-1], ENDS[-1], False), name


HARMLESS = {
    "cut": cut,
    "glue": glue,
    "delay": lambda offset: delay(after=offset, seconds=0.002),
    "crawl": lambda offset: crawl(after=offset),
}


@EVERY
@pytest.mark.parametrize("fault", HARMLESS)
def test_what_only_changes_the_pieces_and_the_time_changes_nothing(fault, server_name, client_name):
    """At the same offset in both directions."""
    steps = HARMLESS[fault]
    plans = {f"{fault} at {offset}": Plan(up=steps(offset), down=steps(offset)) for offset in OFFSETS}
    strike(server_name, client_name, plans, nothing_happened)


# ------------------------------------------------------------------------------------------------- faults that end it


@EVERY
@pytest.mark.skipif(sys.platform != "linux", reason="other systems may drop what was not read before the reset")
def test_a_reset_ends_one_connection_behind_what_was_whole(server_name, client_name):
    service = CLIENTS[client_name].is_a_service

    def judge(name: str, told: Told, received: list[Any], error: Exception | None, passage: Passage) -> None:
        assert passage.broken, name
        assert received == whole(passage.up), name
        assert isinstance(error, ConnectionReset), f"{name}: the server was told {error!r}"
        assert told.replies == whole(passage.down), name
        if told.end is None:
            assert service, name  # which has all it wants, and ends by itself
            assert told.replies == MESSAGES, name
        else:
            assert isinstance(told.end, ConnectionReset), f"{name}: the client was told {told.end!r}"

    plans = {f"reset at {offset}, up": Plan(up=reset(after=offset)) for offset in OFFSETS}
    plans |= {f"reset at {offset}, down": Plan(down=reset(after=offset)) for offset in OFFSETS}
    strike(server_name, client_name, plans, judge)


@EVERY
def test_an_end_of_the_stream_is_clean_only_between_two_frames(server_name, client_name):
    service = CLIENTS[client_name].is_a_service

    def judge(name: str, told: Told, received: list[Any], error: Exception | None, passage: Passage) -> None:
        assert not passage.broken, name
        assert received == whole(passage.up), name
        assert told.replies == whole(passage.down), name
        at_server = at_client = None
        if name.endswith("up"):
            assert passage.down == max([0, *[end for end in ENDS if end <= passage.up]]), f"{name}: replies are missing"
            at_server = end_at(passage.up)
        else:
            at_client = end_at(passage.down)
        assert type(error) is (at_server or type(None)), f"{name}: the server was told {error!r}"
        if told.end is None:
            assert service, name  # which has all it wants, and ends by itself
            assert told.replies == MESSAGES, name
        else:
            assert type(told.end) is (at_client or ConnectionClosed), f"{name}: the client was told {told.end!r}"

    plans = {f"the end at {offset}, up": Plan(up=half_close(after=offset)) for offset in OFFSETS}
    plans |= {f"the end at {offset}, down": Plan(down=half_close(after=offset)) for offset in OFFSETS}
    strike(server_name, client_name, plans, judge)
