"""What people type, read; and what the chat tells, in words. Shared by the text port, the plain client and the terminal.

    /join room    /leave [room]    /msg name text    /me does this    /nick name    /names [room]
    /rooms        /history [n | more] [room | @name]           /help             /quit [reason]

A line that begins otherwise is said; ``//`` begins one that begins with a slash. The words of the classic select-driven chat
are understood too: ``QUIT`` alone on a line, and ``SECRECT name text`` (spelt so, or SECRET) for a private message.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from protocols.chat import client as person
from protocols.chat.messages import ANNOUNCEMENTS, Close, Event, Lag, Members, Page, RoomList
from protocols.chat.safety import clean, clean_line, key

__all__ = [
    "HELP",
    "ORDERS",
    "Order",
    "Place",
    "event_parts",
    "is_repeated",
    "moment_of",
    "phrase",
    "phrase_event",
    "phrase_wait",
    "read_line",
]

ORDERS: Final = ("/help", "/join", "/leave", "/msg", "/me", "/names", "/nick", "/history", "/rooms", "/quit")

HELP: Final = """/join room         enter a room; what you type is said there
/leave [room]      leave it
/msg name text     say something to one person only
/me does this      say what you do
/names             who is here
/rooms             which rooms there are
/nick name         be called something else
/history [n]       the last n things said here
/history more      what was said before those
                   of elsewhere: /history 50 room, /history 50 server
                   for the announcements, /history 50 @name in private
/quit              go
//text             say a line that begins with a slash"""


USUAL_HISTORY: Final = 20
MOST_HISTORY: Final = 200
"""As many as a page has."""

MOST_EARLIER: Final = 32
"""Rooms that somebody may want to go back to."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a line asks for. ``inputs`` are for the client; ``room`` is where what is typed next is said."""

    inputs: tuple[person.Input, ...] = ()
    room: str | None = None
    leaves: bool = False
    reply: str = ""


class Place:
    """Where somebody is who types: ``room`` is where the next line is said, None for nowhere."""

    def __init__(self, room: str | None) -> None:
        self.room = room
        self._earlier: deque[str] = deque(maxlen=MOST_EARLIER)

    def follow(self, order: Order) -> None:
        """Go where ``order`` leads."""
        if order.room is not None:
            if self.room is not None:
                self._earlier.append(self.room)
            self.room = order.room or None

    def take(self, trouble: person.Trouble, client: person.Client) -> None:
        """Go back to the latest room that ``client`` is in, where ``trouble`` is that it was not let into this one."""
        ask = trouble.ask
        if ask is not None and ask.what == "join" and _same(ask.argument, self.room):
            self.room = next((room for room in reversed(self._earlier) if key(room) in client.rooms), None)


def _same(one: str, other: str | None) -> bool:
    """Whether these are two ways to write one room's name."""
    return other is not None and key(one) == key(other)


def read_line(line: str, room: str | None) -> Order:
    """What ``line`` asks for, typed while in ``room``."""
    text = line.strip()
    if not text:
        return Order()
    if text == "QUIT":
        return Order(leaves=True, inputs=(person.Leaving(),))
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word in ("SECRECT", "SECRET"):
        word = "/msg"
    if not word.startswith("/"):
        return _say(text, room, "say")
    if word.startswith("//"):
        return _say(text[1:], room, "say")
    return _order(word, rest, room)


def _say(text: str, room: str | None, kind: Literal["say", "act"]) -> Order:
    if room is None:
        return Order(reply="You are in no room: /join one, or /msg somebody.")
    return Order(inputs=(person.Say(text, room=room, kind=kind),))


def _order(word: str, rest: str, room: str | None) -> Order:
    if word == "/me":
        return _say(rest, room, "act") if rest else Order(reply="/me does what?")
    if word == "/msg":
        name, _, text = rest.partition(" ")
        if not text.strip():
            return Order(reply="/msg name text")
        return Order(inputs=(person.Say(text.strip(), to=name),))
    if word == "/join":
        return Order(inputs=(person.Ask("join", rest),), room=rest) if rest else Order(reply="/join which room?")
    if word == "/nick":
        return Order(inputs=(person.Ask("rename", rest),)) if rest else Order(reply="/nick name")
    if word == "/rooms":
        return Order(inputs=(person.Ask("rooms"),))
    if word == "/quit":
        return Order(inputs=(person.Leaving(rest),), leaves=True)
    if word == "/help":
        return Order(reply=HELP)
    if word == "/history":
        return _history(rest, room)
    where = rest or room
    if word in ("/leave", "/names") and room is None and not rest:
        return Order(reply="You are in no room.")
    if word == "/leave" and where is not None:
        return Order(inputs=(person.Ask("leave", where),), room="" if _same(where, room) else None)
    if word == "/names" and where is not None:
        return Order(inputs=(person.Ask("who", where),))
    return Order(reply=f"There is no {clean_line(word)[:32]}; /help tells what there is.")


def _history(rest: str, room: str | None) -> Order:
    """``rest`` is a number, or "more", or neither; and behind it the place, where it is not ``room``."""
    first, _, where = rest.partition(" ")
    count = first.isascii() and first.isdigit()
    if not count and first != "more":
        first, where = "", rest
    where = where.strip() or room or ""
    if not where:
        return Order(reply="You are in no room.")
    if count and not 1 <= int(first[:9]) <= MOST_HISTORY:
        return Order(reply=f"/history takes a number from 1 to {MOST_HISTORY}.")
    limit = int(first) if count else USUAL_HISTORY
    return Order(inputs=(person.Ask("history", where, limit=limit, further=first == "more"),))


def phrase_wait(slowed: person.Slowed, now: float) -> str:
    """That the server takes something later only, in words; safe to be shown."""
    ask = slowed.ask
    words = {"join": "/join", "leave": "/leave", "rename": "/nick", "who": "/names"}
    what = " ".join(filter(None, (words.get(ask.what, f"/{ask.what}"), clean_line(ask.argument))))
    return f"The server is asked too much; {what} follows in {max(1, round(slowed.until - now))} s"


def moment_of(event: Event) -> dt.datetime:
    """When ``event`` happened, by the clock on the wall here; what no calendar has is its nearest end."""
    try:
        return dt.datetime.fromtimestamp(event.time / 1000).astimezone()
    except (ValueError, OverflowError, OSError):
        return dt.datetime(9999, 12, 31, tzinfo=dt.UTC) if event.time > 0 else dt.datetime(1, 1, 1, tzinfo=dt.UTC)


def event_parts(event: Event, client: person.Client, room: str | None) -> tuple[str, str, str]:
    """As `phrase_event`: what stands before the sender's name, the name, and what stands behind it."""
    # Lines of a text are indented, for else one could be made to look like what somebody else has said.
    sender, text = clean_line(event.sender), clean(event.text).replace("\n", "\n    ")
    if event.kind == "announce" or event.room == ANNOUNCEMENTS:
        return f"*** {text}", "", ""
    private = event.room.startswith("@")
    if event.kind == "renamed":
        where = "" if private or _same(event.room, room) else f"[{clean_line(event.room)}] "
        return f"{where}* ", sender, f" is now called {clean_line(event.text)}"
    if private and event.kind in ("say", "act"):
        other = clean_line(client.partner(event.room)) or "?"
        said = f"* {sender} {text}" if event.kind == "act" else text
        return ("[you to ", other, f"] {said}") if client.wrote(event) else ("[", sender, f" to you] {said}")
    where = "" if private or _same(event.room, room) else f"[{clean_line(event.room)}] "
    if event.kind == "say":
        return where, sender, f": {text}"
    if event.kind == "act":
        return f"{where}* ", sender, f" {text}"
    if event.kind == "joined":
        return f"{where}* ", sender, " joined"
    reason = clean_line(event.text)
    return f"{where}* ", sender, " left" + (f" ({reason})" if reason else "")


def phrase_event(event: Event, client: person.Client, room: str | None) -> str:
    """One event in words; the room is named where it is not the one that is looked at. Safe to be shown."""
    return "".join(event_parts(event, client, room))


def is_repeated(event: Event, client: person.Client) -> bool:
    """Whether ``event`` is one of a private room that need not be shown, for what is said there or elsewhere tells as much.

    Who comes and goes is told by the open rooms, and so is a new name, where one is in one of them with its bearer.
    """
    if not event.room.startswith("@") or event.kind in ("say", "act", "announce"):
        return False
    if event.kind != "renamed":
        return True
    names = {event.sender, event.text}  # what the open room tells may have been heard of, or not
    return any(not names.isdisjoint(client.members(room)) for room in client.rooms if not room.startswith("@"))


def _elsewhere(place: str, client: person.Client, room: str | None) -> str:
    """How `read_line` is told that ``place`` is meant, where one is in ``room``."""
    if _same(place, room):
        return ""
    if place.startswith("@"):
        place = f"@{client.partner(place)}" if client.partner(place) else place
    return f" {clean_line(place)}"


def phrase(told: Event | Members | Page | RoomList | Lag | Close, client: person.Client, room: str | None) -> str:
    """What the client was told, in words; empty where nothing need be said. Safe to be shown."""
    if isinstance(told, Event):
        return "" if is_repeated(told, client) else phrase_event(told, client, room)
    if isinstance(told, Members):
        if told.room.startswith("@"):
            return ""
        names = ", ".join(clean_line(name) for name in told.names)
        return f"In {clean_line(told.room)}: {names}"
    if isinstance(told, Page):
        lines = [f"{moment_of(event):%H:%M} {phrase_event(event, client, told.room)}" for event in told.events]
        more = [f"What was before that: /history more{_elsewhere(told.room, client, room)}"] if told.more else []
        return "\n".join(["--- earlier", *lines, "---", *more])
    if isinstance(told, RoomList):
        if not told.rooms:
            return "There are no rooms."
        return "\n".join(f"{clean_line(name)}: {count}" for name, count in sorted(told.rooms.items()))
    if isinstance(told, Lag):
        return ""
    return f"The server has closed the connection: {clean_line(told.text)}."
