"""The client: one person's side of the chat. A state machine: inputs and the time go in, outputs come out.

    outputs = client.handle(Received(message), now)

It holds no socket, no thread and no clock; the driver carries out what comes out, and the terminal, or a bot, is told by
`Told`, `Posted`, `Changed` and `Trouble`. It connects again by itself, for as long as it is wanted, and goes on where it was.

What it keeps, whatever the connection does:

- each event of a room is told once, in order, without a gap: where one is seen, it connects anew and goes on from its cursor;
- a post is sent again, by the same id, until the server has said what became of it; posts are stored in the order in which
  they were typed, for there is one at a time under way;
- nothing is sent faster than the server said, nor anything that it must refuse, or end the connection for;
- what was asked for without a connection, or lost with one, is asked for when there is one again; what was asked for too soon
  for the server, when it has said: behind that one by one, so that whoever wants many rooms gets into all of them;
- a server that breaks the protocol, or says nothing, costs bounded memory, and is left for a while.
"""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

import msgspec

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
    Limits,
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
    from_client,
    from_server,
    to_map,
)
from protocols.chat.safety import MAX_NAME, clean, key

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
    "Slowed",
    "Told",
    "Transmit",
    "Trouble",
    "Wake",
]

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0

DISTRUST: Final = 60.0
"""Seconds for which a server that broke the protocol is not tried again as fast as one that was merely lost."""

LAST_LOOK: Final = 2.0
"""Seconds for which whoever leaves waits for answers, and for what they said to be told to them too."""

MOST_ROOMS: Final = 1024
"""As many as `Resume` carries cursors for."""

MOST_MEMBERS: Final = 200_000
"""Names that are kept, of all rooms together."""

MOST_OWED: Final = 16
"""Questions that may wait, and requests that may be under way."""

LONGEST_WAIT: Final = 3600.0
NOTED_WAIT: Final = 2.0
"""Seconds that a request may wait without a word."""

GREETING_TIMEOUT: Final = 15.0
"""Seconds in which the server must answer the hello; it has a password to verify, perhaps."""


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
    """The user wants something else; ``argument`` is the room, or the new name.

    The others are for history: its last ``limit`` events, or those below ``before``; where ``further``, those before the last
    page of the room, as many as were asked for then. ``@name`` is there the private conversation with that person.
    ``behind`` is for the client itself: how many things had been said before.
    """

    what: Literal["join", "leave", "rename", "who", "rooms", "history"]
    argument: str = ""
    before: int | None = None
    limit: int = 50
    further: bool = False
    behind: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Leaving:
    """The user goes: what waits is waited for, unless it is ``at_once``, then it says good-bye."""

    reason: str = ""
    at_once: bool = False


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
    """The connection's state; ``retry_at`` is when the next attempt is made, by the clock of ``now``.

    ``end``, where the state is "ended": the user has left, the server would not have us or sent us away, or the connection
    was lost and not found again. ``reason`` is for people.
    """

    state: Literal["connecting", "online", "waiting", "ended"]
    name: str = ""
    retry_at: float | None = None
    reason: str = ""
    end: Literal["left", "closed", "lost"] | None = None


@dataclass(frozen=True, slots=True)
class Slowed:
    """The server takes ``ask`` later only: it is made again by itself at ``until``, by the clock of ``now``, or soon after."""

    ask: Ask
    until: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """The server did not do what was asked for: ``ask``, where it was something like that."""

    error: Error
    ask: Ask | None = None


Output: TypeAlias = Connect | Transmit | Disconnect | Told | Posted | Changed | Slowed | Trouble


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
    partner: str = ""  # of a private one: who it is with, whether they are in it or have left
    oldest: int | None = None  # the seq at which the last page of history began; 1 where nothing is before it
    limit: int = 50  # how many were asked for then


_QUESTIONS: Final = ("who", "rooms", "history")


def _within(seconds: float, least: float, most: float) -> float:
    """What a server said, as a time that can be waited for: its infinities and NaNs are not."""
    return min(seconds, most) if seconds >= least else least


def _flaw(message: FromClient) -> str | None:
    """Why a server must refuse ``message``; None where it need not."""
    try:
        msgspec.json.encode(message)
        from_client(to_map(message))
    except UnicodeEncodeError:
        return "this holds what is no text"
    except Refused as error:
        return _in_words(message) or str(error)
    return None


def _in_words(message: FromClient) -> str | None:
    """What is wrong with a name that is refused, or a password, for people; None where it is something else."""
    names = [getattr(message, each, None) for each in ("name", "to", "room")]
    if any(name is not None and not 1 <= len(name) <= MAX_NAME for name in names):
        return f"a name has 1 to {MAX_NAME} characters"
    if isinstance(message, Hello) and message.password is not None:
        return "this password is longer than any is"
    return None


class Client:
    """See the module's text.

    ``patience``: seconds without a connection, behind which it gives up; None for never. Until a server has answered, by a
    welcome or by saying when to come back, one failed attempt is enough. ``chance`` gives numbers from 0 to 1, and spreads
    the clients that lost one server. ``token`` is what it is known again by where the first welcome gets lost: text that
    nobody can guess, or, without it, made here.

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
        token: str | None = None,
    ) -> None:
        self._wanted_name = name
        self._password = password
        self._patience = patience
        self._patient_since: float | None = None  # when it was online last, or began to want to be
        self._answered_to = False  # there is a server: it has let us in, or said when it would
        self._chance = chance
        self._wanted = {key(room): room for room in rooms}
        self._rooms: dict[str, _Room] = {}
        self._asked: dict[int, Ask] = {}  # requests under way, by number
        self._again: list[Ask] = []  # requests that came too soon
        self._owed: list[Ask] = []  # those to be made behind them
        self._again_at = 0.0  # the server said: not before
        self._one_by_one = False  # for it takes no more of them at once
        self._renaming: Ask | None = None
        self._left: dict[str, Ask] = {}  # rooms that the user has left, as far as the server may not know of it
        self._limits: Limits | None = None
        self._posts: deque[_Waiting] = deque()
        self._under_way: _Waiting | None = None
        self._hold_until = 0.0  # the server said: not before
        self._count = 0
        self._n = 0
        self._session = ""
        self._attempt = 0
        self._token = token if token is not None else secrets.token_urlsafe(18)
        self._state: Literal["new", "connecting", "greeting", "online", "waiting", "ended"] = "new"
        self._retry_at: float | None = None
        self._delay = FIRST_DELAY
        self._distrusted_until = float("-inf")
        self._greeted = 0.0
        self._heartbeat = 20.0
        self._heard = 0.0
        self._pinged = False
        self._leaving: Leaving | None = None
        self._good_bye_at: float | None = None
        self._unseen: dict[str, int] = {}  # the seq of the last post that is stored, by its room
        self._now = 0.0
        self._out: list[Output] = []

    # ------------------------------------------------------------ what it shows

    @property
    def name(self) -> str:
        """What the server calls this client; what was asked for, until it has answered."""
        return self._wanted_name or ""

    @property
    def has_password(self) -> bool:
        """Whether its hello bears a password, which only a connection that nobody listens to may carry."""
        return self._password is not None

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
    def asking(self) -> int:
        """How many requests of other kinds have not been answered, or not been made."""
        return len(self._asked) + len(self._again) + len(self._owed)

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

    def partner(self, room: str) -> str:
        """Who the private ``room`` is with, also where they have left it; empty where that is not known."""
        known = self._rooms.get(room)
        return known.partner if known is not None else ""

    def wrote(self, event: Event) -> bool:
        """Whether ``event`` is a post of this client's, by whatever name it was said: a session keeps its ids."""
        return event.id is not None and event.id[0] == self._session

    @property
    def wake_at(self) -> float | None:
        """When `Wake` must be given; None for not at all."""
        if self._state == "waiting":
            return self._retry_at
        if self._state == "online":
            due = self._heard + (2 if self._pinged else 1) * self._heartbeat * 1.5
            if self._good_bye_at is not None:
                due = min(due, self._good_bye_at)
            # What waits though its time has come, waits for an answer.
            if self._posts and self._under_way is None and self._hold_until > self._now:
                due = min(due, self._hold_until)
            if (self._again or self._owed) and self._again_at > self._now:
                due = min(due, self._again_at)
            return due
        if self._state == "greeting":
            return self._greeted + GREETING_TIMEOUT
        return None

    # -------------------------------------------------------------- the one door

    def handle(self, given: Input, now: float) -> list[Output]:
        """Take one input, and return what is to be done and shown."""
        self._now = max(self._now, now)
        if self._state == "new":
            self._connect()
        if self._state == "ended":
            if isinstance(given, Say):
                self._count += 1
                self._out.append(Posted(self._count, "failed", given.text, "the conversation has ended"))
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
            if given.at_once:
                self._go()
            elif self._state == "waiting":
                self._connect() if self._posts else self._end("left", "left")
        elif self._state == "waiting" and self._retry_at is not None and self._now >= self._retry_at:
            self._connect()
        elif self._state == "online":
            self._beat()
        elif self._state == "greeting" and self._now >= self._greeted + GREETING_TIMEOUT:
            self._drop("the server does not answer")
        if self._state == "online":
            self._ask_owed()
            self._flush()
        out, self._out = self._out, []
        return out

    # --------------------------------------------------------------- connections

    def _connect(self) -> None:
        if self._patient_since is None:
            self._patient_since = self._now
        self._state = "connecting"
        self._out += [Changed("connecting"), Connect()]

    def _greet(self) -> None:
        self._state = "greeting"
        self._heard = self._greeted = self._now
        self._pinged = False
        cursors = {name: room.cursor for name, room in self._rooms.items() if room.cursor is not None}
        self._attempt += 1
        resume = Resume(token=self._token, cursors=cursors, attempt=self._attempt)
        hello = Hello(version=VERSION, name=self._wanted_name, resume=resume, password=self._password)
        if (flaw := _flaw(hello)) is not None:
            self._refuse(flaw)
            self._end(flaw, "closed")
        else:
            self._out.append(Transmit(hello))

    def _lost(self, reason: str, *, after: float = 0.0) -> None:
        if self._state == "waiting":
            return
        if self._leaving is not None and not self._posts:
            self._end("left", "left")
            return
        if self._patience is not None and self._patient_since is not None:
            waited = self._now + after - self._patient_since  # by when there may be another attempt
            if waited >= self._patience or not self._answered_to:
                self._end(reason, "lost")
                return
        self._under_way = None
        # Rooms and the name are made up for by what the next welcome says of them.
        unanswered = (*self._again, *self._asked.values(), *self._owed)
        questions = [ask for ask in unanswered if ask.what in _QUESTIONS]
        self._owed = questions[:MOST_OWED]
        self._again.clear()
        self._asked.clear()
        for ask in questions[MOST_OWED:]:
            self._refuse("there is no connection", ask)
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

    def _distrust(self, reason: str) -> None:
        self._distrusted_until = self._now + DISTRUST
        self._drop(reason)

    def _refuse(self, text: str, ask: Ask | None = None) -> None:
        self._out.append(Trouble(Error(code="refused", text=text), ask))

    def _end(self, reason: str, end: Literal["left", "closed", "lost"]) -> None:
        self._state = "ended"
        for waiting in self._posts:
            why = "nobody waited for the answer" if end == "left" else reason
            self._out.append(Posted(waiting.number, "failed", waiting.post.text, why))
        self._posts.clear()
        self._under_way = None
        self._out += [Disconnect(final=True), Changed("ended", reason=reason, end=end)]

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
        ask = replace(ask, behind=self._count)
        question = ask.what in _QUESTIONS
        others = self._wanted if ask.what == "join" and not self.online else self._again + self._owed
        if question:
            others = [each for each in self._again + self._owed if each.what in _QUESTIONS]
        if len(others) >= (MOST_OWED if question else MOST_ROOMS):
            self._refuse("too much waits for an answer" if self.online else "there is no connection", ask)
            return
        if ask.what == "join":
            self._wanted[key(ask.argument)] = ask.argument
            self._left.pop(key(ask.argument), None)
        elif ask.what == "leave":
            self._left[key(ask.argument)] = ask
            if not self._unsaid(ask):
                self._wanted.pop(key(ask.argument), None)
        elif ask.what == "rename":
            self._renaming = ask
        if question or self.online:
            self._owed.append(ask)

    def _ask_owed(self) -> None:
        """Make the requests that wait, as many as may be under way; those that came too soon first, and in their order."""
        if self._now < self._again_at:
            return
        if self._again and not self._asked:  # else more of them may have come too soon
            self._owed[:0] = self._again
            self._again = []
        owed, self._owed = self._owed, []
        for ask in owed:
            most = 1 if self._one_by_one else MOST_OWED
            if self._again or len(self._asked) >= most or self._hangs(ask):
                self._owed.append(ask)
            else:
                self._request(ask)
        self._one_by_one = self._one_by_one and bool(self._again or self._owed)

    def _hangs(self, ask: Ask) -> bool:
        """Whether what ``ask`` comes to depends on an answer that has not come: of another name, a room, a page, or a post.

        What was said before somebody left, or had another name, is said there, and by the former one.
        """
        if ask.what in ("leave", "rename") and self._unsaid(ask):
            return True
        before = [*self._asked.values(), *self._owed]
        if ask.what == "history" and ask.further:
            room = self._meant(ask.argument)
            if any(each.what == "history" and self._meant(each.argument) == room for each in before):
                return True
        if ask.what == "rename":
            return any(each.what == "rename" for each in before)
        return ask.what != "rooms" and self._moves(ask.argument, before)

    def _unsaid(self, ask: Ask) -> bool:
        """Whether something has not been said yet that was typed before ``ask``: of a room, if it is to leave one."""
        rooms = {key(waiting.post.room or "") for waiting in self._posts if waiting.number <= ask.behind}
        return bool(rooms) if ask.what == "rename" else key(ask.argument) in rooms

    @staticmethod
    def _moves(room: str, asks: Iterable[Ask]) -> bool:
        """Whether one of ``asks`` is to enter ``room``, or to leave it."""
        return any(each.what in ("join", "leave") and key(each.argument) == key(room) for each in asks)

    def _request(self, ask: Ask) -> None:
        if ask.what == "history":
            self._request_history(ask)
            return
        self._n += 1
        id_ = (self._session, self._n)
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
        else:
            message = Rooms(id=id_)
        self._send(message, ask)

    def _request_history(self, ask: Ask) -> None:
        name = self._meant(ask.argument)
        known = self._rooms.get(name) if name is not None else None
        before, limit = ask.before, ask.limit
        if name is None:
            self._refuse(f"there is no conversation with {ask.argument[1:]}", ask)
            return
        if ask.further:
            if known is not None and known.oldest is not None:
                before, limit = known.oldest, known.limit
            if before is not None and before <= 1:
                self._refuse("there is nothing before that", ask)
                return
        if known is not None:
            known.limit = limit
        self._n += 1
        self._send(History(id=(self._session, self._n), room=name, before=before, limit=limit), ask)

    def _meant(self, room: str) -> str | None:
        """The room that somebody calls ``room``; None for a private conversation that there is none of."""
        if not room.startswith("@") or room in self._rooms:
            return room if room.startswith("@") else key(room)
        other = key(room[1:])
        # The latest first: who has come back as somebody else has a room of their own.
        private = [name for name in reversed(self._rooms) if name.startswith("@")]
        return next((name for name in private if other == key(self._rooms[name].partner)), None)

    def _send(self, message: FromClient, ask: Ask) -> None:
        if (flaw := _flaw(message)) is not None:
            self._given_up(ask)
            self._refuse(flaw, ask)
            return
        self._asked[self._n] = ask
        self._out.append(Transmit(message))

    def _given_up(self, ask: Ask) -> None:
        """``ask`` cannot be had: it is not to be asked for again."""
        if ask.what == "join":
            self._wanted.pop(key(ask.argument), None)
        elif ask.what == "leave":
            room = key(ask.argument)
            if self._left.get(room) is ask:  # else the user has come back since, and has perhaps left again
                del self._left[room]
                self._wanted.pop(room, None)
        elif ask.what == "rename" and self._renaming == ask:
            self._renaming = None

    def _flush(self) -> None:
        """Send the next post, where none is under way; say good-bye behind the last one."""
        while self._posts and self._under_way is None and self._now >= self._hold_until:
            waiting = self._posts[0]
            room = waiting.post.room
            before = [ask for ask in (*self._asked.values(), *self._again, *self._owed) if ask.behind < waiting.number]
            if (room is not None and self._moves(room, before)) or any(ask.what == "rename" for ask in before):
                break  # it cannot be said there yet, or by this name, or is not to be
            n = waiting.n or self._n + 1
            post = waiting.post
            text = clean(post.text)
            message = Post(id=(self._session, n), text=text, room=post.room, to=post.to, kind=post.kind)
            # What was sent before may be stored, and only the server knows.
            if not waiting.n and (why := self._unsayable(message)) is not None:
                self._answered(waiting, "failed", why)
                continue
            self._n = max(self._n, n)
            waiting.n = n
            self._under_way = waiting
            self._out.append(Transmit(message))
        if not self._posts and self._leaving is not None and self._may_leave():
            self._go()

    def _go(self) -> None:
        """Say good-bye, where there is somebody to say it to; posts that have no answer are told of as such."""
        assert self._leaving is not None
        if self._state == "online":
            self._out.append(Transmit(Bye(reason=clean(self._leaving.reason)[:200])))
        self._end("left", "left")

    def _may_leave(self) -> bool:
        """Whether all that was asked for is answered, and what was said has been told; or whether that takes too long."""
        if self._good_bye_at is None:
            self._good_bye_at = self._now + LAST_LOOK
        told = all(
            (known := self._rooms.get(room)) is None or (known.cursor or 0) >= seq for room, seq in self._unseen.items()
        )
        return self._now >= self._good_bye_at or (told and not self.asking)

    def _unsayable(self, post: Post) -> str | None:
        """Why the server must refuse ``post``, or end the connection for it; None where it need not."""
        limits = self._limits
        if not post.text.strip():
            return "there is nothing to say in it"
        if limits is not None and (len(post.text.encode()) > limits.text or post.text.count("\n") >= limits.lines):
            return f"{limits.text} bytes and {limits.lines} lines are the most"
        return _flaw(post)

    # ---------------------------------------------------------------- the server

    def _received(self, message: Any) -> None:
        self._heard = self._now
        self._pinged = False
        if self._state == "online":
            self._patient_since = self._now
        try:
            told = from_server(message)
            if told is not None:
                self._take(told)
        except Refused as error:
            self._distrust(f"the server sent what is no message of the chat: {error}")

    def _place(self, name: str) -> _Room:
        """The room called ``name``, known from now on."""
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= MOST_ROOMS:
                # Where it needs the place, the hub has us leave a private one, without a word to us. Should that not have been
                # the one that was known first, it tells of it anew.
                ended = next((known for known in self._rooms if known.startswith("@")), None)
                if ended is None:
                    raise Refused("malformed", "nobody is in so many rooms")
                del self._rooms[ended]
            room = self._rooms[name] = _Room()
        return room

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
            self._distrust("the server did not welcome us first")
        elif isinstance(told, Event):
            self._event(told)
        elif isinstance(told, Ok):
            self._done(told)
        elif isinstance(told, Reset):
            self._place(told.room).cursor = told.seq
        elif isinstance(told, Members):
            room = self._place(told.room)
            room.members, room.at = set(told.names), told.at
            if sum(len(known.members) for known in self._rooms.values()) > MOST_MEMBERS:
                room.members.clear()
                raise Refused("malformed", "nobody is in rooms with so many people")
            self._note_partner(room)
            self._out.append(Told(told))
        elif isinstance(told, (Page, RoomList, Lag)):
            ask = self._asked.pop(told.id[1], None) if not isinstance(told, Lag) else None
            self._out.append(Told(told))
            if isinstance(told, Page) and ask is not None:
                self._turned(told)

    def _turned(self, page: Page) -> None:
        """A page of history has come: what is further back is before it."""
        known = self._rooms.get(page.room)
        if known is not None:
            known.oldest = page.events[0].seq if page.events and page.more else 1

    def _welcomed(self, told: Welcome) -> None:
        if told.session != self._session:
            self._renumber()
        self._session = told.session
        self._token = told.token
        self._wanted_name = told.name
        self._limits = told.limits
        self._heartbeat = _within(told.heartbeat, 1.0, LONGEST_WAIT)
        self._state = "online"
        self._patient_since = self._now
        self._answered_to = True
        if self._now >= self._distrusted_until:
            self._delay = FIRST_DELAY
        self._retry_at = None
        self._hold_until = self._now
        self._out.append(Changed("online", name=told.name))
        self._again_at = self._now
        self._one_by_one = False
        # What was asked for while there was no connection, or got lost with it, is made up for here.
        entered = {room for room in told.rooms if not room.startswith("@")}
        parted = [room for room in told.rooms if room in entered and room not in self._wanted]
        asks = [self._left.get(room, Ask("leave", room)) for room in parted]
        asks += [Ask("join", room) for wanted, room in self._wanted.items() if wanted not in entered]
        # Where something is still to be said there, behind that.
        asks += [ask for room, ask in self._left.items() if room in self._wanted]
        self._left = {key(ask.argument): ask for ask in asks if ask.what == "leave"}
        known = {*told.rooms, *self._wanted, ANNOUNCEMENTS}
        for room in self._rooms.keys() - known:
            del self._rooms[room]
        if self._renaming is not None and self._renaming.argument != told.name:
            asks.append(self._renaming)
        else:
            self._renaming = None
        self._owed[:0] = asks

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

    def _closed(self, told: Close) -> None:
        self._out.append(Told(told))
        if told.reconnect is None:
            self._end(told.text, "closed")
        else:
            self._answered_to = True
            self._out.append(Disconnect(final=False))
            self._lost(told.text, after=_within(told.reconnect, 0.0, LONGEST_WAIT))

    def _event(self, event: Event) -> None:
        room = self._place(event.room)
        if room.cursor is None or event.seq > room.cursor + 1:
            self._distrust("events are missing")
            return
        if event.seq <= room.cursor:
            return
        room.cursor = event.seq
        if event.seq > room.at:
            self._count_members(room, event)
            if event.sender != self.name:
                self._note_partner(room)
        self._out.append(Told(event))

    def _note_partner(self, room: _Room) -> None:
        """Keep the name of the one other member of ``room``, where there is one."""
        others = room.members - {self.name}
        if len(others) == 1:
            room.partner = others.pop()

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
            if told.room is not None and told.seq is not None:
                self._unseen[told.room] = told.seq
            self._answered(waiting, "stored")
            return
        ask = self._asked.pop(told.id[1], None)
        if ask is None:
            return
        if ask.what == "join" and told.room is not None:
            room = self._place(told.room)
            if room.cursor is None:
                room.cursor = told.seq
        elif ask.what == "leave" and told.room is not None:
            self._rooms.pop(told.room, None)
            self._given_up(ask)  # for it is done
        elif ask.what == "rename":
            self._wanted_name = ask.argument
            self._given_up(ask)  # for it is done
            self._out.append(Changed("online", name=ask.argument))

    def _refused(self, error: Error) -> None:
        if self._state != "online":
            # The name is taken, or the password is wrong: only the user can know better.
            self._out.append(Trouble(error))
            self._end(error.text, "closed")
            return
        waiting = self._under_way
        if waiting is not None and error.id == (self._session, waiting.n):
            if error.retry_after is not None:
                self._under_way = None
                self._hold_until = self._now + _within(error.retry_after, 0.05, LONGEST_WAIT)
            else:
                self._answered(waiting, "failed", error.text)
            return
        asked = self._asked.pop(error.id[1], None) if error.id is not None else None
        if asked is not None and error.retry_after is not None:
            self._too_soon(asked, _within(error.retry_after, 0.05, LONGEST_WAIT))
            return
        if asked is not None:
            self._given_up(asked)
        self._out.append(Trouble(error, asked))

    def _too_soon(self, asked: Ask, wait: float) -> None:
        """``asked`` may be asked for in ``wait`` seconds."""
        self._again.append(asked)
        self._one_by_one = True
        until = self._now + wait
        if wait >= NOTED_WAIT and until > self._again_at + 1.0:
            self._out.append(Slowed(asked, until))
        self._again_at = max(self._again_at, until)

    def _answered(self, waiting: _Waiting, state: Literal["stored", "failed"], why: str = "") -> None:
        self._under_way = None
        self._posts.popleft()
        self._out.append(Posted(waiting.number, state, waiting.post.text, why))
