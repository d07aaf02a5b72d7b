"""The client: one person's side of the chat. A state machine: inputs and the time go in, outputs come out.

    outputs = client.handle(Received(message), now)

It holds no socket, no thread and no clock; the driver carries out what comes out, and the terminal, or a bot, is told by
`Told`, `Posted`, `Changed` and `Trouble`. It connects again by itself, for as long as it is wanted, and goes on where it was.

What it keeps, whatever the connection does:

- each event of a room is told once, in order, without a gap: where one is seen, it connects anew and goes on from its cursor;
- a post is sent again, by the same id, until the server has said what became of it; posts are stored in the order in which
  they were typed, for there is one at a time under way;
- nothing is sent faster than the server said.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from protocols.chat.messages import (
    ANNOUNCEMENTS,
    VERSION,
    Bye,
    Close,
    Error,
    Event,
    FromClient,
    FromServer,
    Hello,
    History,
    Join,
    Lag,
    Leave,
    Members,
    Ok,
    Page,
    Ping,
    Pong,
    Post,
    Refused,
    Rename,
    Reset,
    Resume,
    RoomList,
    Rooms,
    Welcome,
    Who,
    from_server,
)
from protocols.chat.safety import key

__all__ = [
    "Ask",
    "Changed",
    "Client",
    "Connect",
    "Connected",
    "Disconnect",
    "Input",
    "Leaving",
    "Lost",
    "Output",
    "Posted",
    "Received",
    "Say",
    "Told",
    "Transmit",
    "Trouble",
    "Wake",
]

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0


# -------------------------------------------------------------------- inputs


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection that was asked for by `Connect` is made."""


@dataclass(frozen=True, slots=True)
class Received:
    """The server sent ``message``, as the codec gave it."""

    message: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection could not be made, or has ended; ``reason`` is for people."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """The user says ``text``: in ``room``, or to the one called ``to``."""

    text: str
    room: str | None = None
    to: str | None = None
    kind: Literal["say", "act"] = "say"


@dataclass(frozen=True, slots=True)
class Ask:
    """The user wants something else; ``before`` and ``limit`` are for history, ``argument`` is the room, or the new name."""

    what: Literal["join", "leave", "rename", "who", "rooms", "history"]
    argument: str = ""
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Leaving:
    """The user goes: posts under way are waited for, then it says good-bye."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wake:
    """Time has passed: given when `Client.wake_at` has come."""


Input: TypeAlias = Connected | Received | Lost | Say | Ask | Leaving | Wake


# ------------------------------------------------------------------- outputs


@dataclass(frozen=True, slots=True)
class Connect:
    """Make a connection now; the answer is `Connected` or `Lost`."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send ``message``."""

    message: FromClient


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection, behind what was sent; `Lost` need not be given for it, and may. ``final``: it is over."""

    final: bool


@dataclass(frozen=True, slots=True)
class Told:
    """Show this: an event (once, in order), an answer, or that the server has closed the connection."""

    message: Event | Members | Page | RoomList | Lag | Close


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a post: it waits, it is stored, or it was refused, and why. ``number`` counts the posts from 1."""

    number: int
    state: Literal["pending", "stored", "failed"]
    text: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """The connection's state; ``retry_at`` is when the next attempt is made, by the clock of ``now``."""

    state: Literal["connecting", "online", "waiting", "ended"]
    name: str = ""
    retry_at: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The server did not do what was asked for."""

    error: Error


Output: TypeAlias = Connect | Transmit | Disconnect | Told | Posted | Changed | Trouble


@dataclass(slots=True)
class _Waiting:
    """A post that the server has not answered yet. ``n`` is its id's number, 0 until it was sent for the first time."""

    number: int
    post: Say
    n: int = 0


@dataclass(slots=True)
class _Room:
    cursor: int | None = None
    members: set[str] = field(default_factory=set[str])
    at: int = 0  # the seq that ``members`` is true for


class Client:
    """See the module's text.

    ``patience``: seconds without a connection, behind which it gives up (before the first welcome, one failed attempt is
    enough); None for never. ``chance`` gives numbers from 0 to 1, and spreads the clients that lost one server.

    The first thing that `handle` returns, whatever it is given, is `Connect`.
    """

    def __init__(
        self,
        name: str | None = None,
        rooms: tuple[str, ...] = (),
        *,
        password: str | None = None,
        patience: float | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._wanted_name = name
        self._password = password
        self._patience = patience
        self._last_online: float | None = None
        self._chance = chance
        self._wanted = {key(room): room for room in rooms}
        self._rooms: dict[str, _Room] = {}
        self._asked: dict[int, Ask] = {}  # requests under way, by number
        self._posts: deque[_Waiting] = deque()
        self._under_way: _Waiting | None = None
        self._hold_until = 0.0  # the server said: not before
        self._count = 0
        self._n = 0
        self._session = ""
        self._token: str | None = None
        self._state: Literal["new", "connecting", "greeting", "online", "waiting", "ended"] = "new"
        self._retry_at: float | None = None
        self._delay = FIRST_DELAY
        self._heartbeat = 20.0
        self._heard = 0.0
        self._pinged = False
        self._leaving: Leaving | None = None
        self._now = 0.0
        self._out: list[Output] = []

    # ------------------------------------------------------------ what it shows

    @property
    def name(self) -> str:
        """What the server calls this client; what was asked for, until it has answered."""
        return self._wanted_name or ""

    @property
    def online(self) -> bool:
        """Whether the server has welcomed this connection."""
        return self._state == "online"

    @property
    def ended(self) -> bool:
        """Whether it is over, and nothing will be tried again."""
        return self._state == "ended"

    @property
    def pending(self) -> int:
        """How many posts have not been answered."""
        return len(self._posts)

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that it knows its place in."""
        return tuple(self._rooms)

    def cursor(self, room: str) -> int | None:
        """The seq of the last event that was told of ``room``."""
        known = self._rooms.get(room)
        return known.cursor if known is not None else None

    def members(self, room: str) -> list[str]:
        """Who is in ``room``, as far as has been told."""
        known = self._rooms.get(room)
        return sorted(known.members) if known is not None else []

    @property
    def wake_at(self) -> float | None:
        """When `Wake` must be given; None for not at all."""
        if self._state == "waiting":
            return self._retry_at
        if self._state == "online":
            due = self._heard + (2 if self._pinged else 1) * self._heartbeat * 1.5
            return min(due, self._hold_until) if self._posts and self._under_way is None else due
        return None

    # -------------------------------------------------------------- the one door

    def handle(self, given: Input, now: float) -> list[Output]:
        """Take one input, and return what is to be done and shown."""
        self._now = max(self._now, now)
        if self._state == "new":
            self._connect()
        if self._state == "ended":
            pass
        elif isinstance(given, Received):
            if self._state in ("greeting", "online"):
                self._received(given.message)
        elif isinstance(given, Connected):
            if self._state == "connecting":
                self._greet()
        elif isinstance(given, Lost):
            self._lost(given.reason)
        elif isinstance(given, Say):
            self._say(given)
        elif isinstance(given, Ask):
            self._ask(given)
        elif isinstance(given, Leaving):
            self._leaving = given
            if self._state == "waiting":
                self._connect() if self._posts else self._end("left")
        elif self._state == "waiting" and self._retry_at is not None and self._now >= self._retry_at:
            self._connect()
        elif self._state == "online":
            self._beat()
        if self._state == "online":
            self._flush()
        out, self._out = self._out, []
        return out

    # --------------------------------------------------------------- connections

    def _connect(self) -> None:
        self._state = "connecting"
        self._out += [Changed("connecting"), Connect()]

    def _greet(self) -> None:
        self._state = "greeting"
        self._heard = self._now
        self._pinged = False
        resume = None
        if self._token is not None:
            cursors = {name: room.cursor for name, room in self._rooms.items() if room.cursor is not None}
            resume = Resume(token=self._token, cursors=cursors)
        hello = Hello(version=VERSION, name=self._wanted_name, resume=resume, password=self._password)
        self._out.append(Transmit(hello))

    def _lost(self, reason: str, *, after: float = 0.0) -> None:
        if self._state == "waiting":
            return
        if self._leaving is not None and not self._posts:
            self._end("left")
            return
        if self._patience is not None and (
            self._last_online is None or self._now - self._last_online >= self._patience
        ):
            self._end(reason)
            return
        self._under_way = None
        self._asked.clear()
        # Half of it by chance: those who lost the same server do not come back all at once.
        delay = max(after, self._delay * (0.5 + self._chance() / 2))
        self._delay = min(self._delay * 2, LONGEST_DELAY)
        self._state = "waiting"
        self._retry_at = self._now + delay
        self._out.append(Changed("waiting", retry_at=self._retry_at, reason=reason))

    def _drop(self, reason: str) -> None:
        """Give this connection up, and go on with another one."""
        self._out.append(Disconnect(final=False))
        self._lost(reason)

    def _end(self, reason: str) -> None:
        self._state = "ended"
        for waiting in self._posts:
            self._out.append(Posted(waiting.number, "failed", waiting.post.text, reason))
        self._posts.clear()
        self._under_way = None
        self._out += [Disconnect(final=True), Changed("ended", reason=reason)]

    def _beat(self) -> None:
        silence = self._now - self._heard
        if silence >= 3 * self._heartbeat:
            self._drop("the server has fallen silent")
        elif silence >= 1.5 * self._heartbeat and not self._pinged:
            self._pinged = True
            self._out.append(Transmit(Ping(n=0)))

    # ------------------------------------------------------------------ the user

    def _say(self, post: Say) -> None:
        self._count += 1
        self._posts.append(_Waiting(self._count, post))
        self._out.append(Posted(self._count, "pending", post.text))

    def _ask(self, ask: Ask) -> None:
        if ask.what == "join":
            self._wanted[key(ask.argument)] = ask.argument
        elif ask.what == "leave":
            self._wanted.pop(key(ask.argument), None)
        elif ask.what == "rename" and self._state != "online":
            self._wanted_name = ask.argument
            return
        if self._state == "online":
            self._request(ask)

    def _request(self, ask: Ask) -> None:
        self._n += 1
        id_ = (self._session, self._n)
        self._asked[self._n] = ask
        message: FromClient
        if ask.what == "join":
            known = self._rooms.get(ask.argument) or self._rooms.get(key(ask.argument))
            message = Join(id=id_, room=ask.argument, after=known.cursor if known is not None else None)
        elif ask.what == "leave":
            message = Leave(id=id_, room=ask.argument)
        elif ask.what == "rename":
            message = Rename(id=id_, name=ask.argument)
        elif ask.what == "who":
            message = Who(id=id_, room=ask.argument)
        elif ask.what == "history":
            message = History(id=id_, room=ask.argument, before=ask.before, limit=ask.limit)
        else:
            message = Rooms(id=id_)
        self._out.append(Transmit(message))

    def _flush(self) -> None:
        """Send the next post, where none is under way; say good-bye behind the last one."""
        if not self._posts:
            if self._leaving is not None:
                self._out.append(Transmit(Bye(reason=self._leaving.reason[:200])))
                self._end("left")
            return
        if self._under_way is not None or self._now < self._hold_until:
            return
        waiting = self._under_way = self._posts[0]
        if not waiting.n:
            self._n += 1
            waiting.n = self._n
        post = waiting.post
        self._out.append(
            Transmit(Post(id=(self._session, waiting.n), text=post.text, room=post.room, to=post.to, kind=post.kind))
        )

    # ---------------------------------------------------------------- the server

    def _received(self, message: Any) -> None:
        self._heard = self._now
        self._pinged = False
        if self._state == "online":
            self._last_online = self._now
        try:
            told = from_server(message)
        except Refused as error:
            self._drop(f"the server sent what is no message of the chat: {error}")
            return
        if told is not None:
            self._take(told)

    def _take(self, told: FromServer) -> None:
        if isinstance(told, Ping):
            self._out.append(Transmit(Pong(n=told.n)))
        elif isinstance(told, Close):
            self._closed(told)
        elif isinstance(told, Error):
            self._refused(told)
        elif isinstance(told, Welcome):
            self._welcomed(told)
        elif self._state != "online":
            self._drop("the server did not welcome us first")
        elif isinstance(told, Event):
            self._event(told)
        elif isinstance(told, Ok):
            self._done(told)
        elif isinstance(told, Reset):
            self._rooms.setdefault(told.room, _Room()).cursor = told.seq
        elif isinstance(told, Members):
            room = self._rooms.setdefault(told.room, _Room())
            room.members, room.at = set(told.names), told.at
            self._out.append(Told(told))
        elif isinstance(told, (Page, RoomList, Lag)):
            if not isinstance(told, Lag):
                self._asked.pop(told.id[1], None)
            self._out.append(Told(told))

    def _welcomed(self, told: Welcome) -> None:
        if told.session != self._session:
            self._renumber()
        self._session = told.session
        self._token = told.token
        self._wanted_name = told.name
        self._heartbeat = told.heartbeat
        self._state = "online"
        self._last_online = self._now
        self._delay = FIRST_DELAY
        self._retry_at = None
        self._hold_until = self._now
        self._out.append(Changed("online", name=told.name))
        # What was asked for while there was no connection, or got lost with it, is made up for here.
        entered = {room for room in told.rooms if not room.startswith("@")}
        for room in entered:
            if room not in self._wanted:
                self._request(Ask("leave", room))
        for wanted, room in self._wanted.items():
            if wanted not in entered:
                self._request(Ask("join", room))
        for room in [room for room in self._rooms if not room.startswith("@") and room != ANNOUNCEMENTS]:
            if room not in entered and room not in self._wanted:
                del self._rooms[room]

    def _renumber(self) -> None:
        """Another session than before: ids of the old one mean nothing to the server any more.

        What was sent and not answered may be stored or not; to send it again could double it, so the user is asked.
        """
        kept: deque[_Waiting] = deque()
        for waiting in self._posts:
            if waiting.n:
                why = "the server has forgotten this session; whether it was stored is not known"
                self._out.append(Posted(waiting.number, "failed", waiting.post.text, why))
            else:
                kept.append(waiting)
        self._posts = kept
        self._n = 0
        for name in [name for name in self._rooms if name.startswith("@")]:
            del self._rooms[name]

    def _closed(self, told: Close) -> None:
        self._out.append(Told(told))
        if told.reconnect is None:
            self._end(told.text)
        else:
            self._out.append(Disconnect(final=False))
            self._lost(told.text, after=told.reconnect)

    def _event(self, event: Event) -> None:
        room = self._rooms.setdefault(event.room, _Room())
        if room.cursor is None or event.seq > room.cursor + 1:
            self._drop("events are missing")
            return
        if event.seq <= room.cursor:
            return
        room.cursor = event.seq
        if event.seq > room.at:
            self._count_members(room, event)
        self._out.append(Told(event))

    @staticmethod
    def _count_members(room: _Room, event: Event) -> None:
        if event.kind == "joined":
            room.members.add(event.sender)
        elif event.kind == "left":
            room.members.discard(event.sender)
        elif event.kind == "renamed":
            room.members.discard(event.sender)
            room.members.add(event.text)
        room.at = event.seq

    def _done(self, told: Ok) -> None:
        waiting = self._under_way
        if waiting is not None and told.id == (self._session, waiting.n):
            self._answered(waiting, "stored")
            return
        ask = self._asked.pop(told.id[1], None)
        if ask is None:
            return
        if ask.what == "join" and told.room is not None:
            room = self._rooms.setdefault(told.room, _Room())
            if room.cursor is None:
                room.cursor = told.seq
        elif ask.what == "leave" and told.room is not None:
            self._rooms.pop(told.room, None)
        elif ask.what == "rename":
            self._wanted_name = ask.argument
            self._out.append(Changed("online", name=ask.argument))

    def _refused(self, error: Error) -> None:
        if self._state != "online":
            # The name is taken, or the password is wrong: only the user can know better.
            self._out.append(Trouble(error))
            self._end(error.text)
            return
        waiting = self._under_way
        if waiting is not None and error.id == (self._session, waiting.n):
            if error.retry_after is not None:
                self._under_way = None
                self._hold_until = self._now + error.retry_after
            else:
                self._answered(waiting, "failed", error.text)
            return
        asked = self._asked.pop(error.id[1], None) if error.id is not None else None
        if asked is not None and asked.what == "join" and error.retry_after is None:
            self._wanted.pop(key(asked.argument), None)
        self._out.append(Trouble(error))

    def _answered(self, waiting: _Waiting, state: Literal["stored", "failed"], why: str = "") -> None:
        self._under_way = None
        self._posts.popleft()
        self._out.append(Posted(waiting.number, state, waiting.post.text, why))
