"""A world of one hub and many clients, without a socket: messages are delivered one by one, cut off, or lost with a crash.

What is said in both directions waits in queues, as in a network; a cut loses any tail of what is under way, in either
direction, and neither side is told when. The clock is a number. Everything that a client shows is kept, and `World.check`
holds it against the log: whatever happened, each client has seen a gapless piece of each room, in the log's order, and what
was acknowledged is stored once.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from protocols.chat import client as person
from protocols.chat import hub as server
from protocols.chat.log import LogError, MemoryLog
from protocols.chat.messages import ANNOUNCEMENTS, Event, to_map

OPTIONS = server.Options(
    burst=3,
    rate=2.0,
    request_burst=4,
    request_rate=4.0,
    move_burst=2,
    move_rate=0.5,
    grace=30.0,
    heartbeat=20.0,
    history=5,
    slow_reader_timeout=30.0,
)


def carried(message: Any) -> Any:
    """What the other side's codec makes of a message."""
    return msgspec.json.decode(msgspec.json.encode(to_map(message)))


def _killed(*given: Any) -> None:
    raise LogError("killed")


@dataclass
class Link:
    """One connection: what is under way in both directions."""

    number: int
    to_hub: deque[Any] = field(default_factory=deque)
    to_client: deque[Any] = field(default_factory=deque)
    hub_sees: bool = True
    closing: bool = False


@dataclass
class Person:
    client: person.Client
    link: Link | None = None
    connecting: bool = False
    seen: dict[str, list[Event]] = field(default_factory=dict)
    stored: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    wanted: set[str] = field(default_factory=lambda: {"lobby"})  # the rooms it has asked for last
    said: int = 0
    renamed: bool = False  # it has asked for another name, which may be taken, or be somebody's who comes later


class World:
    """See the module's text."""

    def __init__(self, people: int, *, log: Any = None) -> None:
        self.log: Any = log if log is not None else MemoryLog()
        self.now = 100.0
        self.slip = 0.0  # how far the hub's clock is behind
        self.wall = 0  # how far the clock on its wall is wrong
        self.tokens = itertools.count()
        self.links = itertools.count()
        self.hub = self.new_hub()
        self.open: dict[int, Link] = {}
        self.slow: set[int] = set()
        self.people = [Person(person.Client(f"p{number}", ("lobby",), chance=lambda: 0.5)) for number in range(people)]

    def new_hub(self) -> server.Hub:
        return server.Hub(self.log, OPTIONS, make_token=lambda size: f"t{next(self.tokens)}")

    # -------------------------------------------------------------------- events

    def tell_hub(self, *inputs: server.Input) -> None:
        outputs = self.hub.handle(inputs, self.now + self.slip, int((self.now + self.wall) * 1000))
        for output in outputs:
            if isinstance(output, server.Send):
                for number in output.connections:
                    if number in self.open:
                        self.open[number].to_client.append(carried(output.message))
            elif isinstance(output, server.Shut) and output.connection in self.open:
                self.open[output.connection].closing = True

    def tell(self, who: Person, given: person.Input) -> None:
        if isinstance(given, person.Ask) and given.what == "join":
            who.wanted.add(given.argument.lower())
        elif isinstance(given, person.Ask) and given.what == "leave":
            who.wanted.discard(given.argument.lower())
        for output in who.client.handle(given, self.now):
            if isinstance(output, person.Connect):
                who.connecting = True
            elif isinstance(output, person.Transmit):
                assert who.link is not None
                who.link.to_hub.append(carried(output.message))
            elif isinstance(output, person.Disconnect):
                self.hang_up(who)
            elif isinstance(output, person.Posted):
                if output.state == "stored":
                    who.stored.append(output.text)
                elif output.state == "failed":
                    who.failed.append(output.text)
            elif isinstance(output, person.Told) and isinstance(output.message, Event):
                who.seen.setdefault(output.message.room, []).append(output.message)
        for room in who.seen.keys() - set(who.client.rooms):
            del who.seen[room]  # it has left; what was said meanwhile is not for it

    def connect(self, who: Person) -> None:
        """The connection that ``who`` asked for is made."""
        if who.connecting:
            who.connecting = False
            who.link = Link(next(self.links))
            self.open[who.link.number] = who.link
            self.tell_hub(server.Opened(who.link.number))
            self.tell(who, person.Connected())

    def refuse(self, who: Person) -> None:
        """The connection that ``who`` asked for is not made."""
        if who.connecting:
            who.connecting = False
            self.tell(who, person.Lost("refused"))

    def hang_up(self, who: Person) -> None:
        """``who`` leaves the connection: what it sent still arrives, then the hub sees its end."""
        link, who.link = who.link, None
        who.connecting = False
        if link is not None:
            link.to_client.clear()
            link.closing = True

    def to_hub(self, link: Link) -> None:
        """The hub gets the next message of ``link``."""
        if link.number not in self.open:
            return
        if link.to_hub:
            self.tell_hub(server.Received(link.number, link.to_hub.popleft()))
        elif self.owner(link) is None:
            del self.open[link.number]
            self.slow.discard(link.number)
            self.tell_hub(server.Closed(link.number))

    def to_client(self, who: Person) -> None:
        """``who`` gets the next message."""
        link = who.link
        if link is None:
            return
        if link.to_client:
            self.tell(who, person.Received(link.to_client.popleft()))
        elif link.closing:
            who.link = None
            self.tell(who, person.Lost("closed"))

    def owner(self, link: Link) -> Person | None:
        return next((who for who in self.people if who.link is link), None)

    def cut(self, who: Person, to_hub: int, to_client: int) -> None:
        """The connection breaks: only so many of the messages under way arrive."""
        link = who.link
        if link is None:
            return
        for _ in range(min(to_client, len(link.to_client))):
            self.to_client(who)
            if who.link is not link:
                return
        who.link = None
        while len(link.to_hub) > to_hub:
            link.to_hub.pop()
        link.to_client.clear()
        self.tell(who, person.Lost("cut"))

    def crash(self, *, before_commit: bool = False) -> None:
        """The server is killed and started again on its log: all connections break, what was not committed is gone.

        ``before_commit``: it had taken what was under way to it, and was about to store that.
        """
        if before_commit:
            under_way = [server.Received(link.number, each) for link in self.open.values() for each in link.to_hub]
            append, self.log.append = self.log.append, _killed
            with contextlib.suppress(LogError):
                self.hub.handle(under_way, self.now + self.slip, int((self.now + self.wall) * 1000))
            self.log.append = append
        for who in self.people:
            if who.link is not None:
                who.link = None
                self.tell(who, person.Lost("reset"))
        self.open.clear()
        self.slow.clear()
        self.hub = self.new_hub()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.tell_hub()
        for who in self.people:
            if who.client.wake_at is not None and who.client.wake_at <= self.now:
                self.tell(who, person.Wake())

    def block(self, who: Person) -> None:
        if who.link is not None:
            self.slow.add(who.link.number)
            self.tell_hub(server.Blocked(who.link.number))

    def drain(self, who: Person) -> None:
        if who.link is not None and who.link.number in self.slow:
            self.slow.discard(who.link.number)
            self.tell_hub(server.Drained(who.link.number))

    def say(self, who: Person, room: str | None = "lobby", to: str | None = None) -> None:
        who.said += 1
        number = self.people.index(who)
        self.tell(who, person.Say(f"{number}:{who.said}", room=room, to=to))

    # ------------------------------------------------------------------- the end

    def settle(self) -> None:
        """Let everything that is under way arrive, and all come back, until nothing moves."""
        for who in self.people:
            self.drain(who)
        for _ in range(3000):
            moved = False
            for who in self.people:
                if who.connecting:
                    self.connect(who)
                    moved = True
            for link in list(self.open.values()):
                while link.to_hub and link.number in self.open:
                    self.to_hub(link)
                    moved = True
                if self.owner(link) is None:
                    self.to_hub(link)
                    moved = True
            for who in self.people:
                while who.link is not None and (who.link.to_client or who.link.closing):
                    self.to_client(who)
                    moved = True
            if not moved:
                if all(
                    (who.client.online and not who.client.pending and not who.client.asking) or who.client.ended
                    for who in self.people
                ):
                    self.tell_hub()
                    if self.hub.held["paged"]:
                        self.pass_time(0.01)  # so many pages a second
                    elif not any(link.to_client for link in self.open.values()):
                        return
                else:
                    self.pass_time(0.5)
        raise AssertionError("it does not settle")

    def check(self) -> None:
        """What must hold at any time."""
        stored: Counter[str] = Counter()
        for room, head in self.log.rooms().items():
            events = self.log.read(room, 0, head + 1)
            assert [event.seq for event in events] == list(range(1, head + 1))
            stored.update(event.text for event in events if event.kind == "say")
            for who in self.people:
                seen = who.seen.get(room, [])
                if seen:
                    first = seen[0].seq
                    assert seen == events[first - 1 : first - 1 + len(seen)], f"{who.client.name} in {room}"
        assert all(times == 1 for times in stored.values()), "a post was stored twice"
        for who in self.people:
            assert len(set(who.stored)) == len(who.stored)
            for text in who.stored:
                assert stored[text] == 1, f"{text} was acknowledged, and is not there"

    def check_settled(self) -> None:
        """What must hold when nothing is under way: all have seen all, and know who is there."""
        self.check()
        for who in self.people:
            if not who.client.online:
                assert any(each.renamed for each in self.people), f"{who.client.name} has given up"
                continue
            for room in who.client.rooms:
                head = self.log.rooms().get(room, 0)
                assert who.client.cursor(room) == head, f"{who.client.name} has not seen all of {room}"
                if room != ANNOUNCEMENTS:
                    assert who.client.members(room) == self.hub.members(room), f"{who.client.name} in {room}"
            entered = {room for room in self.hub.rooms if who.client.name in self.hub.members(room)}
            assert entered == who.wanted, f"{who.client.name} is elsewhere than it wants"
            order = [text for text in (event.text for event in who.seen.get("lobby", [])) if ":" in text]
            for number in range(len(self.people)):
                mine = [int(text.split(":")[1]) for text in order if text.startswith(f"{number}:")]
                assert mine == sorted(mine), "posts of one person have changed their order"
