"""The hub: rooms, sessions and who is told what. A state machine: inputs and the time go in, outputs come out.

    outputs = hub.handle([Received(connection, message)], now, time)

It holds no socket, no thread and no clock. ``now`` is seconds of a clock that does not jump (one that does go back is taken
to stand still); ``time`` is milliseconds since 1970, to be shown with events, and otherwise unused. A connection is whatever
its driver calls it by: any value that hashes. Outputs are carried out in their order.

What it keeps, whatever comes in:

- Nothing is told before it is stored. All that a batch of inputs adds goes to the log in one `append`, and only what `handle`
  returns behind that is sent: one commit for many posts, and no acknowledgement without a commit.
- An event is stored once for each id, and reaches each connection in the order of its room, without gap or repetition from
  the seq on that it was promised (`Reset`, or the cursor that it gave itself).
- A connection that does not take its events costs one bounded queue: it is told nothing more of its rooms until it has taken
  what waits, and then it is given the log from where it stopped.
- What a client says of itself is not believed: sender and session are those of the connection.

If the log fails, `handle` raises and the hub is of no more use: the server must end, and what was acknowledged is stored.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from protocols.chat.log import Log, SessionRecord
from protocols.chat.messages import (
    ANNOUNCEMENTS,
    VERSION,
    Bye,
    Close,
    Error,
    Event,
    EventKind,
    FromServer,
    Hello,
    History,
    Id,
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
    RoomList,
    Rooms,
    Welcome,
    Who,
    from_client,
)
from protocols.chat.safety import bad_name, clean, clean_line, key, suggest

__all__ = [
    "Announced",
    "Blocked",
    "Closed",
    "Drained",
    "Hub",
    "Input",
    "Opened",
    "Options",
    "Output",
    "Received",
    "Send",
    "Shut",
    "Stopped",
    "Verified",
    "Verify",
]

PAGE_BYTES: Final = 1 << 16
"""How much of the log one connection is given at a time; then it is looked at whether it takes it."""

HELLO_BYTES: Final = 1 << 12
RECENT: Final = 64
PATIENCE: Final = 50
"""How many refused messages a connection may send in a row before it is closed."""


# -------------------------------------------------------------------- inputs


@dataclass(frozen=True, slots=True)
class Opened:
    """``connection`` has been made; ``private``: nobody on the way reads it (TLS, or a unix socket)."""

    connection: Hashable
    private: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """``connection`` sent ``message``, as its codec gave it."""

    connection: Hashable
    message: Any


@dataclass(frozen=True, slots=True)
class Closed:
    """``connection`` has ended, however."""

    connection: Hashable


@dataclass(frozen=True, slots=True)
class Blocked:
    """More waits for ``connection`` than it takes."""

    connection: Hashable


@dataclass(frozen=True, slots=True)
class Drained:
    """``connection`` has taken what waited for it."""

    connection: Hashable


@dataclass(frozen=True, slots=True)
class Verified:
    """The answer to `Verify`."""

    connection: Hashable
    right: bool


@dataclass(frozen=True, slots=True)
class Announced:
    """The server's own people say ``text`` to everybody."""

    text: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The server ends; ``reconnect``: in how many seconds its clients shall try again, None for not at all."""

    reconnect: float | None = 1.0


Input: TypeAlias = Opened | Received | Closed | Blocked | Drained | Verified | Announced | Stopped


# ------------------------------------------------------------------- outputs


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``message`` to all of ``connections``, encoded once."""

    connections: tuple[Hashable, ...]
    message: FromServer


@dataclass(frozen=True, slots=True)
class Shut:
    """Close ``connection`` behind what it was sent. `Closed` need not come for it, and may."""

    connection: Hashable


@dataclass(frozen=True, slots=True)
class Verify:
    """Find out, beside the hub, whether ``password`` is that of ``name``; `Verified` is the answer."""

    connection: Hashable
    name: str
    password: str


Output: TypeAlias = Send | Shut | Verify


# ------------------------------------------------------------------- options


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the hub allows. Times are seconds, sizes bytes; bursts and rates are posts, and requests of other kinds."""

    max_text: int = 8 << 10
    max_lines: int = 100
    burst: int = 5
    rate: float = 2.0
    request_burst: int = 20
    request_rate: float = 10.0
    max_frame: int = 1 << 16
    max_rooms: int = 10_000
    max_rooms_each: int = 32
    max_sessions: int = 100_000
    history: int = 50
    heartbeat: float = 20.0
    hello_timeout: float = 10.0
    grace: float = 30.0
    slow_reader_timeout: float = 30.0
    session_lifetime: float = 86_400.0
    unicode_names: bool = False
    passwords: bool = False


class _Bucket:
    """So many at once, and so many a second."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: int, rate: float, now: float) -> None:
        self._burst = self._left = float(burst)
        self._rate = rate
        self._at = now

    def wait(self, now: float) -> float:
        """Take one, and return 0; or take none, and return the seconds until there is one."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1 - 1e-9:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection: who it is, and how far it has been told of each room that it is behind in."""

    name: Hashable
    private: bool
    since: float
    heard: float
    session: _Session | None = None
    hello: Hello | None = None  # while its password is being verified
    behind: dict[str, int] = field(default_factory=dict[str, int])
    blocked: float | None = None
    pinged: int = 0
    refused: int = 0
    closing: bool = False


@dataclass(slots=True, eq=False)
class _Session:
    """A person, for as long as their token is good."""

    id: str
    name: str
    posts: _Bucket
    requests: _Bucket
    tokens: tuple[str, ...] = ()
    rooms: set[str] = field(default_factory=set[str])  # those with joined and left, not private ones
    private: set[str] = field(default_factory=set[str])
    connection: _Connection | None = None
    named: bool = True  # whether the name is still theirs: it is free again behind the time of grace
    lost: float = 0.0
    seen: int = 0
    recent: dict[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])


@dataclass(slots=True, eq=False)
class _Room:
    """A log of events. ``live`` have been told of all up to ``head``."""

    name: str
    head: int = 0
    members: dict[str, _Session] = field(default_factory=dict[str, _Session])
    live: dict[Hashable, _Connection] = field(default_factory=dict[Hashable, _Connection])
    private: bool = False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _private_room(one: str, other: str) -> str:
    """The name of the room of two sessions; no room that people name begins so."""
    return "@" + "+".join(sorted((one, other)))


class Hub:
    """See the module's text. ``make_token(bytes)`` gives unguessable text, of URL-safe characters."""

    def __init__(
        self,
        log: Log,
        options: Options | None = None,
        *,
        make_token: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._log = log
        self._options = options or Options()
        self._make_token = make_token
        self._now = 0.0
        self._time = 0
        self._swept = float("-inf")
        self._stopped = False
        self._guests = 0
        self._connections: dict[Hashable, _Connection] = {}
        self._sessions: dict[str, _Session] = {}
        self._names: dict[str, _Session] = {}
        self._tokens: dict[str, _Session] = {}
        self._lost: dict[str, _Session] = {}  # those without a connection, the longest first
        self._rooms: dict[str, _Room] = {}
        self._paged: dict[Hashable, _Connection] = {}  # those that are behind, and take what they are given
        self._out: list[Output] = []
        self._staged: list[Event] = []
        self._changed: dict[str, _Session] = {}
        self._gone: set[str] = set()
        self._begun = False
        for name, head in log.rooms().items():
            self._rooms[name] = _Room(name, head, private=name.startswith("@"))
        self._rooms.setdefault(ANNOUNCEMENTS, _Room(ANNOUNCEMENTS))

    # ------------------------------------------------------------ what it shows

    @property
    def stopped(self) -> bool:
        """Whether it has said good-bye to all."""
        return self._stopped

    @property
    def wake_at(self) -> float | None:
        """When `handle` must be called again, with no input if there is none; None while nobody is there."""
        if self._stopped:
            return None
        if any(connection.blocked is None for connection in self._paged.values()):
            return self._now
        if not self._connections and not self._lost:
            return None
        return self._swept + 1.0

    def members(self, room: str) -> list[str]:
        """Who is in ``room``, sorted."""
        found = self._rooms.get(key(room))
        return sorted(session.name for session in found.members.values()) if found is not None else []

    @property
    def rooms(self) -> dict[str, int]:
        """The open rooms, and how many are in each."""
        return {room.name: len(room.members) for room in self._rooms.values() if room.members and not room.private}

    @property
    def held(self) -> dict[str, int]:
        """How much is kept in memory, in numbers of things: for those who watch it."""
        return {
            "connections": len(self._connections),
            "sessions": len(self._sessions),
            "names": len(self._names),
            "tokens": len(self._tokens),
            "lost": len(self._lost),
            "rooms": len(self._rooms),
            "live": sum(len(room.live) for room in self._rooms.values()),
            "behind": sum(len(connection.behind) for connection in self._connections.values()),
            "paged": len(self._paged),
        }

    # -------------------------------------------------------------- the one door

    def handle(self, inputs: Iterable[Input], now: float, time: int) -> list[Output]:
        """Take ``inputs`` in their order, and return what is to be done. Raises what the log raises: end the server then."""
        self._now = max(now, self._now) if self._begun else now
        self._time = time
        if not self._begun:
            self._begin()
        for given in inputs:
            self._take(given)
        if not self._stopped:
            self._sweep()
        if self._staged or self._changed or self._gone:
            self._log.append(self._staged, [self._record(each) for each in self._changed.values()], self._gone)
            self._staged, self._changed, self._gone = [], {}, set()
        # Behind the commit, so that the log has all that is read from it.
        for connection in list(self._paged.values()):
            if connection.blocked is None:
                self._page(connection)
        out, self._out = self._out, []
        return out

    def _take(self, given: Input) -> None:
        if isinstance(given, Announced):
            text = clean(given.text)
            if text and not self._stopped:
                self._publish(self._rooms[ANNOUNCEMENTS], "announce", ANNOUNCEMENTS, text)
        elif isinstance(given, Stopped):
            self._stop(given.reconnect)
        elif isinstance(given, Opened):
            self._opened(given)
        else:
            connection = self._connections.get(given.connection)
            if connection is None or connection.closing:
                if isinstance(given, Closed):
                    self._connections.pop(given.connection, None)
            elif isinstance(given, Received):
                self._received(connection, given.message)
            elif isinstance(given, Closed):
                self._detach(connection)
                del self._connections[connection.name]
            elif isinstance(given, Blocked):
                self._block(connection)
            elif isinstance(given, Drained):
                self._drain(connection)
            else:
                self._verified(connection, right=given.right)

    def _begin(self) -> None:
        """Take up the sessions of before: their connections are lost, and their time of grace begins now."""
        self._begun = True
        for record in self._log.sessions():
            session = _Session(record.id, record.name, *self._buckets(), record.tokens, seen=record.seen)
            session.rooms = set(record.rooms)
            for digest in record.tokens:
                self._tokens[digest] = session
            self._sessions[record.id] = session
            session.named = record.named
            if session.named:
                self._names[key(record.name)] = session
            for name in record.rooms:
                self._rooms.setdefault(name, _Room(name)).members[record.id] = session
            session.lost = self._now
            self._lost[record.id] = session
        for room in self._rooms.values():
            if room.private:
                for id_ in room.name[1:].split("+"):
                    if id_ in self._sessions:
                        room.members[id_] = self._sessions[id_]
                        self._sessions[id_].private.add(room.name)

    def _buckets(self) -> tuple[_Bucket, _Bucket]:
        options = self._options
        return (
            _Bucket(options.burst, options.rate, self._now),
            _Bucket(options.request_burst, options.request_rate, self._now),
        )

    def _record(self, session: _Session) -> SessionRecord:
        return SessionRecord(
            id=session.id,
            name=session.name,
            tokens=session.tokens,
            rooms=tuple(sorted(session.rooms)),
            seen=session.seen,
            named=session.named,
        )

    # --------------------------------------------------------------- connections

    def _opened(self, given: Opened) -> None:
        if self._stopped:
            self._out.append(Shut(given.connection))
            return
        self._connections[given.connection] = _Connection(given.connection, given.private, self._now, self._now)

    def _reply(self, connection: _Connection, message: FromServer) -> None:
        self._out.append(Send((connection.name,), message))

    def _close(self, connection: _Connection, code: str, text: str, reconnect: float | None = None) -> None:
        self._reply(connection, Close(code=code, text=text, reconnect=reconnect))
        self._detach(connection)
        connection.closing = True
        self._out.append(Shut(connection.name))
        self._connections.pop(connection.name, None)

    def _detach(self, connection: _Connection) -> None:
        """The connection carries its session no more; the session's time of grace begins."""
        session = connection.session
        self._paged.pop(connection.name, None)
        if session is None:
            return
        for name in (*session.rooms, *session.private, ANNOUNCEMENTS):
            self._rooms[name].live.pop(connection.name, None)
        connection.session = None
        connection.behind.clear()
        session.connection = None
        session.lost = self._now
        session.seen = self._time
        self._lost[session.id] = session
        self._changed[session.id] = session

    def _block(self, connection: _Connection) -> None:
        if connection.blocked is not None:
            return
        connection.blocked = self._now
        session = connection.session
        if session is None:
            return
        for name in (*session.rooms, *session.private, ANNOUNCEMENTS):
            room = self._rooms[name]
            if room.live.pop(connection.name, None) is not None:
                connection.behind[name] = room.head
        if connection.behind:
            self._paged[connection.name] = connection

    def _drain(self, connection: _Connection) -> None:
        if connection.blocked is None:
            return
        connection.blocked = None
        for name, seq in connection.behind.items():
            if self._rooms[name].head > seq:
                self._reply(connection, Lag(room=name, seq=seq))

    def _follow(self, connection: _Connection, room: _Room, after: int) -> None:
        """Tell ``connection`` of all events of ``room`` behind ``after``."""
        room.live.pop(connection.name, None)
        connection.behind[room.name] = after
        self._paged[connection.name] = connection

    def _page(self, connection: _Connection) -> None:
        """Give a connection that is behind the next of the log; it is live where it has caught up."""
        left = PAGE_BYTES
        for name, seq in list(connection.behind.items()):
            room = self._rooms[name]
            told = seq
            while told < room.head and left > 0:
                for event in self._log.read(name, told, 100):
                    self._reply(connection, event)
                    told = event.seq
                    left -= len(event.text) * 4 + 100
                    if left <= 0:
                        break
            if told == room.head:
                del connection.behind[name]
                room.live[connection.name] = connection
            else:
                connection.behind[name] = told
        if not connection.behind:
            del self._paged[connection.name]

    # ------------------------------------------------------------------ deadlines

    def _sweep(self) -> None:
        """What time alone brings about: once a second is often enough."""
        if self._now < self._swept + 1.0:
            return
        self._swept = self._now
        options = self._options
        for connection in list(self._connections.values()):
            if connection.session is None:
                if self._now - connection.since >= options.hello_timeout and connection.hello is None:
                    self._close(connection, "timeout", f"no hello in {options.hello_timeout:g} s", 5.0)
            elif connection.blocked is not None and self._now - connection.blocked >= options.slow_reader_timeout:
                text = f"you have read nothing for {options.slow_reader_timeout:g} s"
                self._close(connection, "slow", text, 1.0)
            elif self._now - connection.heard >= 2 * options.heartbeat:
                self._close(connection, "silent", "you have not answered", 1.0)
            elif not connection.pinged and self._now - connection.heard >= options.heartbeat:
                connection.pinged = 1
                self._reply(connection, Ping(n=int(self._now)))
        while self._lost:
            session = next(iter(self._lost.values()))
            if session.rooms or session.named:
                if self._now - session.lost < options.grace:
                    break
                self._leave_all(session, "connection lost")
                # It waits on, behind those that still have their time of grace.
                del self._lost[session.id]
                self._lost[session.id] = session
                continue
            break
        self._forget()

    def _forget(self) -> None:
        """Sessions that nobody came back for."""
        oldest = self._time - int(self._options.session_lifetime * 1000)
        crowd = len(self._sessions) - self._options.max_sessions
        for session in list(self._lost.values()) if crowd > 0 or self._stale(oldest) else ():
            if not session.rooms and not session.named and (crowd > 0 or session.seen < oldest):
                self._end_session(session)
                crowd -= 1

    def _stale(self, oldest: int) -> bool:
        return any(session.seen < oldest for session in self._lost.values() if not session.named)

    def _stop(self, reconnect: float | None) -> None:
        if self._stopped:
            return
        for connection in list(self._connections.values()):
            self._close(connection, "stopping", "the server ends", reconnect)
        self._stopped = True

    # ------------------------------------------------------------------- messages

    def _received(self, connection: _Connection, message: Any) -> None:
        connection.heard = self._now
        connection.pinged = 0
        session = connection.session
        if session is None and _size(message) > HELLO_BYTES:
            self._close(connection, "too-long", f"before the hello is answered, {HELLO_BYTES} bytes are the most")
            return
        try:
            asked = from_client(message)
        except Refused as error:
            self._refuse(connection, Error(code=error.code, text=clean_line(str(error)), id=error.id))
            return
        if isinstance(asked, Ping):
            if session is None or self._may_ask(connection, session, None):
                self._reply(connection, Pong(n=asked.n))
        elif isinstance(asked, Pong):
            pass
        elif isinstance(asked, Hello):
            self._hello(connection, asked)
        elif session is None:
            self._close(connection, "hello-first", "the first message is hello")
        elif isinstance(asked, Bye):
            reason = clean_line(asked.reason) or "bye"
            self._detach(connection)
            self._leave_all(session, reason)
            self._end_session(session)
            self._close(connection, "bye", "good-bye")
        else:
            self._asked(connection, session, asked)

    def _asked(
        self,
        connection: _Connection,
        session: _Session,
        asked: Join | Leave | Post | History | Rename | Who | Rooms,
    ) -> None:
        if asked.id[0] != session.id:
            self._refuse(connection, Error(code="forbidden", text="this id is of another session", id=asked.id))
        elif isinstance(asked, Post):
            self._post(connection, session, asked)
        elif self._may_ask(connection, session, asked.id):
            if isinstance(asked, Join):
                self._join(connection, session, asked)
            elif isinstance(asked, Leave):
                self._leave(connection, session, asked)
            elif isinstance(asked, History):
                self._history(connection, session, asked)
            elif isinstance(asked, Rename):
                self._rename(connection, session, asked)
            elif isinstance(asked, Who):
                self._who(connection, session, asked)
            else:
                self._reply(connection, RoomList(id=asked.id, rooms=self.rooms))

    def _refuse(self, connection: _Connection, error: Error) -> None:
        connection.refused += 1
        if connection.refused > PATIENCE:
            self._close(connection, "flood", "too much of what you send is refused", 10.0)
        else:
            self._reply(connection, error)

    def _may_ask(self, connection: _Connection, session: _Session, id_: Id | None) -> bool:
        wait = session.requests.wait(self._now)
        if wait:
            self._too_fast(connection, id_, wait)
            return False
        connection.refused = 0
        return True

    def _too_fast(self, connection: _Connection, id_: Id | None, wait: float) -> None:
        text = f"too fast; go on in {wait:.1f} s"
        self._refuse(connection, Error(code="rate", text=text, id=id_, retry_after=wait))

    # ------------------------------------------------------------- hello, resume

    def _hello(self, connection: _Connection, asked: Hello) -> None:
        if connection.session is not None or connection.hello is not None:
            self._refuse(connection, Error(code="already", text="you have said hello"))
            return
        if asked.version != VERSION:
            text = f"this server speaks version {VERSION}, not {asked.version}"
            self._close(connection, "version", text)
            return
        if asked.resume is not None and (session := self._tokens.get(_digest(asked.resume.token))) is not None:
            self._resume(connection, session, asked)
        elif self._options.passwords:
            self._verify(connection, asked)
        else:
            self._begin_session(connection, asked)

    def _verify(self, connection: _Connection, asked: Hello) -> None:
        if not connection.private:
            self._close(connection, "insecure", "passwords are taken over TLS or a unix socket only")
        elif asked.name is None or asked.password is None:
            self._refuse(connection, Error(code="password", text="this server asks for a name and its password"))
        else:
            connection.hello = asked
            self._out.append(Verify(connection.name, asked.name, asked.password))

    def _verified(self, connection: _Connection, *, right: bool) -> None:
        asked, connection.hello = connection.hello, None
        if asked is None:
            return
        connection.since = self._now
        if right:
            assert asked.name is not None
            holder = self._names.get(key(asked.name))
            if holder is not None and holder.connection is None:
                # Whoever knows the password is that person: their lost session need not be waited for.
                self._leave_all(holder, "connection lost")
            self._begin_session(connection, asked)
        else:
            connection.refused += PATIENCE // 4  # a few tries, not many
            self._refuse(connection, Error(code="password", text="this is not the password of this name"))

    def _begin_session(self, connection: _Connection, asked: Hello) -> None:
        name = asked.name
        if name is None:
            name = self._guest()
        elif (error := self._unfit(name, None)) is not None:
            self._refuse(connection, error)
            return
        session = _Session(self._make_token(9), name, *self._buckets())
        self._sessions[session.id] = session
        self._names[key(name)] = session
        self._welcome(connection, session, resumed=False)
        announcements = self._rooms[ANNOUNCEMENTS]
        self._reply(connection, Reset(room=ANNOUNCEMENTS, seq=announcements.head))
        self._follow(connection, announcements, announcements.head)

    def _resume(self, connection: _Connection, session: _Session, asked: Hello) -> None:
        assert asked.resume is not None
        if session.connection is not None:
            self._close(session.connection, "replaced", "you have connected anew from elsewhere")
        self._lost.pop(session.id, None)
        # The token that came is good until the next one is used: its Welcome may get lost.
        used = _digest(asked.resume.token)
        for digest in session.tokens:
            if digest != used:
                del self._tokens[digest]
        session.tokens = (used,)
        if not session.named:
            if key(session.name) in self._names:
                self._call(session, suggest(session.name, lambda name: key(name) in self._names))
            self._names[key(session.name)] = session
            session.named = True
        self._welcome(connection, session, resumed=True)
        cursors = asked.resume.cursors
        for name in (ANNOUNCEMENTS, *sorted(session.private), *sorted(session.rooms)):
            room = self._rooms[name]
            if name != ANNOUNCEMENTS:
                self._reply(connection, self._members(room))
            self._follow(connection, room, self._from(connection, room, cursors.get(name)))

    def _from(self, connection: _Connection, room: _Room, after: int | None) -> int:
        """From where on a connection is told of a room, whose last event it knows is ``after``."""
        if after is not None and after <= room.head:
            return after
        start = room.head if after is not None else max(0, room.head - self._options.history)
        self._reply(connection, Reset(room=room.name, seq=start))
        return start

    def _welcome(self, connection: _Connection, session: _Session, *, resumed: bool) -> None:
        token = self._make_token(18)
        session.tokens = (*session.tokens, _digest(token))
        self._tokens[_digest(token)] = session
        session.connection = connection
        connection.session = session
        connection.refused = 0
        session.seen = self._time
        self._changed[session.id] = session
        options = self._options
        self._reply(
            connection,
            Welcome(
                version=VERSION,
                session=session.id,
                token=token,
                name=session.name,
                resumed=resumed,
                rooms=sorted((*session.rooms, *session.private)),
                limits=Limits(
                    text=options.max_text,
                    lines=options.max_lines,
                    burst=options.burst,
                    rate=options.rate,
                    frame=options.max_frame,
                ),
                heartbeat=options.heartbeat,
            ),
        )

    def _guest(self) -> str:
        while True:
            self._guests += 1
            name = f"guest{self._guests}"
            if name not in self._names:
                return name

    def _unfit(self, name: str, session: _Session | None) -> Error | None:
        """Why a session cannot be called ``name``."""
        if (text := bad_name(name, allow_unicode=self._options.unicode_names)) is not None:
            return Error(code="bad-name", text=text)
        holder = self._names.get(key(name))
        if holder is not None and holder is not session:
            free = suggest(name, lambda other: key(other) in self._names)
            return Error(code="name-taken", text=f"this name is taken; {free} is free")
        return None

    def _end_session(self, session: _Session) -> None:
        """Forget a session that has left all rooms; nothing of it is kept but what it said."""
        for digest in session.tokens:
            self._tokens.pop(digest, None)
        for name in session.private:
            self._rooms[name].members.pop(session.id, None)
        self._sessions.pop(session.id, None)
        self._lost.pop(session.id, None)
        self._changed.pop(session.id, None)
        self._gone.add(session.id)

    def _leave_all(self, session: _Session, reason: str) -> None:
        """``session`` is in no open room any more, and its name is free."""
        for name in sorted(session.rooms):
            room = self._rooms[name]
            del room.members[session.id]
            self._publish(room, "left", session.name, reason)
        session.rooms.clear()
        if session.named:
            del self._names[key(session.name)]
            session.named = False
        self._changed[session.id] = session

    # ----------------------------------------------------------------------- rooms

    def _publish(self, room: _Room, kind: EventKind, sender: str, text: str = "", id_: Id | None = None) -> int:
        room.head += 1
        event = Event(room=room.name, seq=room.head, time=self._time, sender=sender, kind=kind, text=text, id=id_)
        self._staged.append(event)
        if room.live:
            self._out.append(Send(tuple(room.live), event))
        return room.head

    def _members(self, room: _Room) -> Members:
        return Members(room=room.name, names=sorted(session.name for session in room.members.values()), at=room.head)

    def _entered(self, session: _Session, name: str) -> _Room | None:
        """The room ``name``, where ``session`` is in it."""
        if name == ANNOUNCEMENTS:
            return self._rooms[ANNOUNCEMENTS]
        name = name if name.startswith("@") else key(name)
        return self._rooms[name] if name in session.rooms or name in session.private else None

    def _nowhere(self, connection: _Connection, id_: Id) -> None:
        # The same for a room that is not there: nobody learns which private rooms there are.
        self._refuse(connection, Error(code="not-in-room", text="you are not in such a room", id=id_))

    def _join(self, connection: _Connection, session: _Session, asked: Join) -> None:
        name = asked.room if asked.room.startswith("@") else key(asked.room)
        if name in session.private or name in session.rooms:
            room = self._rooms[name]
            told = room.head if connection.name in room.live else connection.behind.get(name)
            if told is None or asked.after is not None:
                told = self._from(connection, room, asked.after)
                self._follow(connection, room, told)
            self._reply(connection, Ok(id=asked.id, room=name, seq=told))
            self._reply(connection, self._members(room))
            return
        if name.startswith("@"):
            self._nowhere(connection, asked.id)
            return
        if (text := bad_name(asked.room, allow_unicode=self._options.unicode_names)) is not None:
            self._refuse(connection, Error(code="bad-name", text=text, id=asked.id))
            return
        found = self._rooms.get(name)
        if not self._room_left(session) or (found is None and len(self._rooms) >= self._options.max_rooms):
            self._refuse(connection, Error(code="too-many-rooms", text="there are too many rooms", id=asked.id))
            return
        room = self._rooms[name] = found or _Room(name)
        start = self._from(connection, room, asked.after)
        room.members[session.id] = session
        session.rooms.add(name)
        self._changed[session.id] = session
        self._publish(room, "joined", session.name)
        self._reply(connection, Ok(id=asked.id, room=name, seq=start))
        self._reply(connection, self._members(room))
        self._follow(connection, room, start)

    def _room_left(self, session: _Session) -> bool:
        return len(session.rooms) + len(session.private) < self._options.max_rooms_each

    def _leave(self, connection: _Connection, session: _Session, asked: Leave) -> None:
        room = self._entered(session, asked.room)
        if room is None or room.name == ANNOUNCEMENTS:
            self._nowhere(connection, asked.id)
            return
        room.live.pop(connection.name, None)
        connection.behind.pop(room.name, None)
        if not connection.behind:
            self._paged.pop(connection.name, None)
        del room.members[session.id]
        if room.private:
            session.private.discard(room.name)
        else:
            session.rooms.discard(room.name)
            self._publish(room, "left", session.name)
            self._changed[session.id] = session
        self._reply(connection, Ok(id=asked.id, room=room.name))

    def _who(self, connection: _Connection, session: _Session, asked: Who) -> None:
        room = self._entered(session, asked.room)
        if room is None or room.name == ANNOUNCEMENTS:
            self._nowhere(connection, asked.id)
            return
        self._reply(connection, self._members(room))
        self._reply(connection, Ok(id=asked.id, room=room.name))

    def _history(self, connection: _Connection, session: _Session, asked: History) -> None:
        room = self._entered(session, asked.room)
        if room is None:
            self._nowhere(connection, asked.id)
            return
        stored = room.head - sum(event.room == room.name for event in self._staged)
        before = min(stored + 1, asked.before if asked.before is not None else stored + 1)
        events = self._log.read(room.name, max(0, before - 1 - asked.limit), max(0, min(asked.limit, before - 1)))
        kept: list[Event] = []
        left = PAGE_BYTES
        for event in reversed(events):
            left -= len(event.text) * 4 + 100
            if left < 0 and kept:
                break
            kept.append(event)
        kept.reverse()
        self._reply(
            connection,
            Page(id=asked.id, room=room.name, events=kept, more=bool(kept) and kept[0].seq > 1),
        )

    def _rename(self, connection: _Connection, session: _Session, asked: Rename) -> None:
        if self._options.passwords:
            error: Error | None = Error(code="fixed-name", text="names belong to their passwords here")
        else:
            error = self._unfit(asked.name, session)
        if error is not None:
            self._refuse(connection, msgspec.structs.replace(error, id=asked.id))
            return
        if asked.name != session.name:
            del self._names[key(session.name)]
            self._call(session, asked.name)
            self._names[key(asked.name)] = session
        self._reply(connection, Ok(id=asked.id))

    def _call(self, session: _Session, name: str) -> None:
        """``session`` is called ``name`` from now on, and its rooms are told."""
        former, session.name = session.name, name
        self._changed[session.id] = session
        for room in sorted((*session.rooms, *session.private)):
            self._publish(self._rooms[room], "renamed", former, name)

    # ----------------------------------------------------------------------- posts

    def _post(self, connection: _Connection, session: _Session, asked: Post) -> None:
        number = asked.id[1]
        if number not in session.recent:
            stored = self._log.find(asked.id)
            if stored is not None:
                session.recent[number] = (stored.room, stored.seq)
        if number in session.recent:
            room, seq = session.recent[number]
            self._reply(connection, Ok(id=asked.id, room=room, seq=seq))
            return
        text = clean(asked.text)
        if not text.strip():
            self._refuse(connection, Error(code="empty", text="there is nothing to say in it", id=asked.id))
        elif len(text.encode()) > self._options.max_text or text.count("\n") >= self._options.max_lines:
            limits = f"{self._options.max_text} bytes and {self._options.max_lines} lines are the most"
            self._refuse(connection, Error(code="too-long", text=limits, id=asked.id))
        elif (asked.room is None) == (asked.to is None):
            self._refuse(connection, Error(code="malformed", text="give a room, or to, and not both", id=asked.id))
        elif asked.room == ANNOUNCEMENTS:
            self._refuse(connection, Error(code="forbidden", text="only the server speaks here", id=asked.id))
        elif wait := session.posts.wait(self._now):
            self._too_fast(connection, asked.id, wait)
        else:
            room_ = (
                self._entered(session, asked.room)
                if asked.room is not None
                else self._room_with(connection, session, asked)
            )
            if room_ is not None:
                connection.refused = 0
                self._store(connection, session, room_, asked, text)
            elif asked.room is not None:
                self._nowhere(connection, asked.id)

    def _store(self, connection: _Connection, session: _Session, room: _Room, asked: Post, text: str) -> None:
        if room.private and len(room.members) < 2:
            self._refuse(connection, Error(code="gone", text="the other one has gone", id=asked.id))
            return
        seq = self._publish(room, asked.kind, session.name, text, asked.id)
        session.recent[asked.id[1]] = (room.name, seq)
        if len(session.recent) > RECENT:
            del session.recent[next(iter(session.recent))]
        self._reply(connection, Ok(id=asked.id, room=room.name, seq=seq))

    def _room_with(self, connection: _Connection, session: _Session, asked: Post) -> _Room | None:
        """The room of two with the one whom a private post is for; where there is none, it is opened, and both are told."""
        assert asked.to is not None
        other = self._names.get(key(asked.to))
        if other is None or other is session:
            text = "nobody here has this name" if other is None else "this is you"
            self._refuse(connection, Error(code="no-such-name", text=text, id=asked.id))
            return None
        name = _private_room(session.id, other.id)
        if name in session.private and name in other.private:
            return self._rooms[name]
        known = name in self._rooms
        if not all(name in one.private or self._room_left(one) for one in (session, other)) or (
            not known and len(self._rooms) >= self._options.max_rooms
        ):
            self._refuse(connection, Error(code="too-many-rooms", text="there are too many rooms", id=asked.id))
            return None
        room = self._rooms.setdefault(name, _Room(name, private=True))
        for one in (session, other):
            room.members[one.id] = one
            one.private.add(name)
        for one in (session, other):
            if one.connection is not None and one.connection.name not in room.live:
                self._reply(one.connection, self._members(room))
                if name not in one.connection.behind:
                    self._reply(one.connection, Reset(room=name, seq=room.head))
                    self._follow(one.connection, room, room.head)
        return room


def _size(message: Any) -> int:
    """About how many bytes a message took on the wire."""
    try:
        return len(msgspec.msgpack.encode(message))
    except (TypeError, ValueError, RecursionError, OverflowError):
        return HELLO_BYTES + 1
