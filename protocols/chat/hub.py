"""The hub: rooms, sessions and who is told what. A state machine: inputs and the time go in, outputs come out.

    outputs = hub.handle([Received(connection, message)], now, time)

It holds no socket, no thread and no clock. ``now`` is seconds of a clock that does not jump (one that does go back is taken
to stand still); ``time`` is milliseconds since 1970, to be shown with events: only at the start does the hub go by it, for how
long ago the sessions of before were seen. A connection is whatever its driver calls it by: any value that hashes. Outputs are
carried out in their order.

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
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final

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
    Resume,
    RoomList,
    Rooms,
    Welcome,
    Who,
    from_client,
)
from protocols.chat.names import Names
from protocols.chat.options import Options
from protocols.chat.rates import Bucket
from protocols.chat.safety import bad_name, clean, clean_line, key, suggest
from protocols.chat.sizes import event_size, message_size, written_size
from protocols.chat.tables import Connection, Room, Session
from protocols.chat.traffic import (
    Announced,
    Blocked,
    Closed,
    Drained,
    Input,
    Opened,
    Output,
    Received,
    Send,
    Shut,
    Stopped,
    Verified,
    Verify,
)

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
"""How much of the log one who is behind is given at a time; then it is looked at whether it takes it, and what others say."""

PAGE_RATE: Final = PAGE_BYTES * 100
"""Bytes a second that are given beyond what is added: to one who is behind, and, while somebody talks, to all of them.

A crowd that comes back would else slow down those who talk; and one that is given more may have too much waiting for it before
its driver says so.
"""

SILENT_PAGES: Final = 8
"""How many are given a page at a time while nobody talks."""

SILENCE: Final = 0.05
"""Seconds behind the last event, from which on nobody talks."""

REPLY_BYTES: Final = 48 << 10
"""How large the list of rooms grows: it fits into a frame of 64 KiB, however its codec writes it."""

PAGE_HEAD: Final = 512
"""Bytes of a page of history besides its events, at most; with these it fits into a frame of ``max_frame``."""

HELLO_BYTES: Final = 1 << 12
LEAST_TOKEN: Final = 16
"""Characters that a client's own token must have: shorter ones might be guessed."""

MAX_REASON: Final = 80
"""Characters of the reason of a good-bye that others are told."""

GREETING_WAIT: Final = 3.0
"""Seconds in which a connection that was one too many of its address shall come back."""

LEAST_LOOK: Final = 0.02
"""Seconds between two looks at all connections, at least."""

RECENT: Final = 64
PATIENCE: Final = 50
"""How many refused messages a connection may send in a row before it is closed."""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


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
        self._options = options = options or Options()
        times = (options.heartbeat, options.hello_timeout, options.slow_reader_timeout)
        self._look_every = max(LEAST_LOOK, min(1.0, min(times) / 4))
        self._make_token = make_token
        self._now = 0.0
        self._time = 0
        self._swept = float("-inf")
        self._stopped = False
        self._guests = 0
        self._connections: dict[Hashable, Connection] = {}
        self._sessions: dict[str, Session] = {}
        self._names: Names[Session] = Names(faces=options.unicode_names)
        self._room_names: Names[Room] = Names(faces=options.unicode_names)  # of the open ones
        self._tokens: dict[str, Session] = {}
        self._lost: dict[str, Session] = {}  # those in their time of grace, the longest first
        self._absent: dict[str, Session] = {}  # those behind it, who have left and may come back
        self._rooms: dict[str, Room] = {}  # those that somebody is in
        self._left: set[str] = set()  # those that somebody has left
        self._paged: dict[Hashable, Connection] = {}  # those that are behind
        self._pages = Bucket(PAGE_BYTES, PAGE_RATE, 0.0)
        self._page_at = 0.0  # when those of them who take it are given more
        self._added = 0  # bytes that were added to the log since they were
        self._said_at = float("-inf")  # when the last event was
        self._out: list[Output] = []
        self._staged: list[Event] = []
        self._posted: dict[Id, Event] = {}  # the posts among them
        self._origins: dict[str, Bucket] = {}  # the new sessions of those who have lately begun some
        self._greeting: Counter[str] = Counter()  # the connections of each that are in no session
        self._changed: dict[str, Session] = {}
        self._gone: set[str] = set()
        self._begun = False
        self._room(ANNOUNCEMENTS)

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
            return self._page_at
        if self._lost:
            next_to_leave = next(iter(self._lost.values())).lost + self._options.grace
            return min(next_to_leave, self._swept + self._look_every)
        if self._connections:
            return self._swept + self._look_every
        return self._swept + 60.0 if self._absent else None

    def members(self, room: str) -> list[str]:
        """Who is in ``room``, sorted."""
        found = self._rooms.get(key(room))
        return sorted(session.name for session in found.members.values()) if found is not None else []

    @property
    def rooms(self) -> dict[str, int]:
        """The open rooms, and how many are in each."""
        return {room.name: len(room.members) for room in self._rooms.values() if room.members and not room.private}

    def _fullest(self) -> dict[str, int]:
        """The open rooms, as many as one answer holds: those with the most people."""
        fullest: dict[str, int] = {}
        left = REPLY_BYTES
        for name, count in sorted(self.rooms.items(), key=lambda room: (-room[1], room[0])):
            left -= len(name.encode()) + 16
            if left < 0:
                break
            fullest[name] = count
        return fullest

    @property
    def held(self) -> dict[str, int]:
        """How much is kept in memory, in numbers of things: for those who watch it."""
        return {
            "connections": len(self._connections),
            "sessions": len(self._sessions),
            "names": len(self._names),
            "tokens": len(self._tokens),
            "lost": len(self._lost) + len(self._absent),
            "rooms": len(self._rooms),
            "live": sum(len(room.live) for room in self._rooms.values()),
            "behind": sum(len(connection.behind) for connection in self._connections.values()),
            "paged": len(self._paged),
            "origins": len(self._origins),
            "greeting": len(self._greeting),
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
            self._let_go()
            self._sweep()
        if self._staged:
            self._said_at = self._now
            self._added += sum(map(event_size, self._staged)) if self._paged else 0
        if self._staged or self._changed or self._gone:
            self._log.append(self._staged, [self._record(each) for each in self._changed.values()], self._gone)
            self._staged, self._posted, self._changed, self._gone = [], {}, {}, set()
        # Not before: a room that is entered again goes on behind what the log has of it.
        self._drop_empty()
        # Behind the commit, so that the log has all that is read from it.
        if self._paged:
            self._catch_up()
        out, self._out = self._out, []
        return out

    def _take(self, given: Input) -> None:
        if isinstance(given, Announced):
            # Longer ones would fit into nobody's frame.
            text = clean(given.text).encode()[: self._options.max_text].decode(errors="ignore")
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
        for record in sorted(self._log.sessions(), key=lambda record: record.seen):
            there = record.named or bool(record.rooms)
            # Of those who were there, it is told since when, which may be long ago: their lifetime begins now.
            seen = self._time if there else record.seen
            session = Session(record.id, record.name, *self._buckets(), record.tokens, seen=seen)
            session.lost = self._now - max(0, self._time - seen) / 1000
            session.rooms = set(record.rooms)
            for digest in record.tokens:
                self._tokens[digest] = session
            self._sessions[record.id] = session
            session.named = record.named
            if session.named:
                self._names.add(session)
            session.private = dict.fromkeys(record.private, "")
            for name in (*record.rooms, *record.private):
                self._room(name).members[record.id] = session
            (self._lost if there else self._absent)[record.id] = session

    def _room(self, name: str) -> Room:
        """The room ``name``; it need not be known yet."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name, self._log.head(name), private=name.startswith("@"))
            if not room.private:
                self._room_names.add(room)
        return room

    def _drop_empty(self) -> None:
        """Forget the rooms that everybody has left: the log has what is to be known of them."""
        for name in self._left:
            room = self._rooms.get(name)
            if room is not None and not room.members:
                del self._rooms[name]
                if not room.private:
                    self._room_names.remove(room)
        self._left.clear()

    def _buckets(self) -> tuple[Bucket, Bucket, Bucket]:
        options = self._options
        return (
            Bucket(options.burst, options.rate, self._now),
            Bucket(options.request_burst, options.request_rate, self._now),
            Bucket(options.move_burst, options.move_rate, self._now),
        )

    def _record(self, session: Session) -> SessionRecord:
        return SessionRecord(
            id=session.id,
            name=session.name,
            tokens=session.tokens,
            rooms=tuple(sorted(session.rooms)),
            private=tuple(session.private),
            seen=session.seen,
            named=session.named,
        )

    # --------------------------------------------------------------- connections

    def _opened(self, given: Opened) -> None:
        if self._stopped:
            self._out.append(Shut(given.connection))
            return
        connection = Connection(given.connection, given.private, given.origin, self._now, self._now)
        self._connections[given.connection] = connection
        if given.origin:
            connection.greeting = True
            self._greeting[given.origin] += 1
            if 0 < self._options.max_greeting < self._greeting[given.origin]:
                text = f"too many connections from your address are in no session; try again in {GREETING_WAIT:g} s"
                self._close(connection, "too-many-connections", text, GREETING_WAIT)

    def _greeted(self, connection: Connection) -> None:
        """It is in a session, or over."""
        if connection.greeting:
            connection.greeting = False
            self._greeting[connection.origin] -= 1
            if not self._greeting[connection.origin]:
                del self._greeting[connection.origin]

    def _reply(self, connection: Connection, message: FromServer) -> None:
        self._out.append(Send((connection.name,), message))

    def _close(self, connection: Connection, code: str, text: str, reconnect: float | None = None) -> None:
        self._reply(connection, Close(code=code, text=text, reconnect=reconnect))
        self._detach(connection)
        connection.closing = True
        self._out.append(Shut(connection.name))
        self._connections.pop(connection.name, None)

    def _detach(self, connection: Connection) -> None:
        """The connection carries its session no more; the session's time of grace begins."""
        session = connection.session
        self._paged.pop(connection.name, None)
        self._greeted(connection)
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

    def _block(self, connection: Connection) -> None:
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

    def _drain(self, connection: Connection) -> None:
        if connection.blocked is None:
            return
        if connection.pinged is not None:
            connection.pinged += self._now - connection.blocked  # what it has answered meanwhile comes only now
        connection.blocked = None
        for name, seq in connection.behind.items():
            if self._rooms[name].head > seq:
                self._reply(connection, Lag(room=name, seq=seq))

    def _unfollow(self, connection: Connection, room: Room) -> None:
        """Tell ``connection`` nothing more of ``room``."""
        room.live.pop(connection.name, None)
        connection.behind.pop(room.name, None)

    def _follow(self, connection: Connection, room: Room, after: int) -> None:
        """Tell ``connection`` of all events of ``room`` behind ``after``."""
        room.live.pop(connection.name, None)
        connection.behind[room.name] = after
        self._paged[connection.name] = connection

    def _catch_up(self) -> None:
        """Give those that are behind the next of the log: as much as was added to it, and a page, or a few where nobody talks.

        Not a page each, nor one behind the other without a pause, or nobody else would be heard meanwhile; and not less, or
        they would never catch up with a crowd. Nor is one of them given more than a page beyond what was added.
        """
        behind = [connection for connection in self._paged.values() if connection.blocked is None]
        if not behind:
            self._added = 0
            return
        if self._now < self._page_at:
            return
        added, self._added = self._added, 0
        talking = self._now < self._said_at + SILENCE
        most = PAGE_BYTES + added
        left = PAGE_BYTES * (1 if talking else SILENT_PAGES) + added * len(behind)
        given: dict[Hashable, int] = {}
        # Half of it is for those who have missed least, or whoever has just come would hear nothing new behind a crowd.
        for waiting, end in ((sorted(behind, key=self._missed), left // 2 if len(behind) > 1 else 0), (behind, 0)):
            for connection in waiting:
                if left <= end:
                    break
                if connection.name not in given:
                    given[connection.name] = size = self._page(connection, min(left - end, most))
                    left -= size
        cost = sum(given.values()) - added * len(behind) if talking else max(given.values()) - added
        self._pages.owe(self._now, max(cost, 0))
        self._page_at = self._now + self._pages.wait(self._now, 0)

    def _missed(self, connection: Connection) -> int:
        """How many events a connection has not been told yet."""
        return sum(self._rooms[name].head - seq for name, seq in connection.behind.items())

    def _page(self, connection: Connection, most: int) -> int:
        """Give a connection that is behind ``most`` bytes of the log, or the next event: how many it was given.

        It is live where it has caught up, and the last of those that are behind where it has not.
        """
        left = most
        del self._paged[connection.name]
        for name, seq in list(connection.behind.items()):
            if left <= 0:
                break
            room = self._rooms[name]
            told = seq
            while told < room.head and left > 0:
                for event in self._log.read(name, told, 100):
                    self._reply(connection, event)
                    told = event.seq
                    left -= event_size(event)
                    if left <= 0:
                        break
            if told > seq:
                room.told = self._now
            # The rooms take turns too, or whoever is always behind in one would never be told of another.
            del connection.behind[name]
            if told == room.head:
                room.live[connection.name] = connection
            else:
                connection.behind[name] = told
        if connection.behind:
            self._paged[connection.name] = connection
        return most - left

    # ------------------------------------------------------------------ deadlines

    def _sweep(self) -> None:
        """What time alone brings about."""
        if self._now < self._swept + self._look_every:
            return
        self._swept = self._now
        options = self._options
        for connection in list(self._connections.values()):
            if connection.session is None:
                if self._now - connection.since >= options.hello_timeout and connection.hello is None:
                    self._close(connection, "timeout", f"no hello in {options.hello_timeout:g} s", 5.0)
            elif connection.blocked is not None:
                # It may not be read from either, so its silence says nothing.
                if self._now - connection.blocked >= options.slow_reader_timeout:
                    text = f"too much has waited for you for {options.slow_reader_timeout:g} s"
                    self._close(connection, "slow", text, 1.0)
            elif connection.pinged is not None:
                # Not by how long it was silent: a hub that stood still itself has heard nobody.
                if self._now - connection.pinged >= options.heartbeat:
                    self._close(connection, "silent", "you have not answered", 1.0)
            elif self._now - connection.heard >= options.heartbeat:
                connection.pinged = self._now
                self._reply(connection, Ping(n=int(self._now)))
        for origin in [origin for origin, bucket in self._origins.items() if bucket.full(self._now)]:
            del self._origins[origin]
        self._forget()

    def _let_go(self) -> None:
        """Those whose time of grace is over have left."""
        while self._lost:
            session = next(iter(self._lost.values()))
            if self._now < session.lost + self._options.grace:
                break
            self._leave_all(session, "connection lost")

    def _forget(self) -> None:
        """Sessions that nobody came back for."""
        oldest = self._now - self._options.session_lifetime
        crowd = len(self._sessions) - self._options.max_sessions
        forgotten: list[Session] = []
        for session in self._absent.values():
            if len(forgotten) >= crowd and session.lost > oldest:
                # Those behind it were lost later; or a password has cut this one's time of grace, and they wait for the rest.
                break
            forgotten.append(session)
        for session in forgotten:
            self._end_session(session)

    def _stop(self, reconnect: float | None) -> None:
        if self._stopped:
            return
        for connection in list(self._connections.values()):
            self._close(connection, "stopping", "the server ends", reconnect)
        self._stopped = True

    # ------------------------------------------------------------------- messages

    def _received(self, connection: Connection, message: Any) -> None:
        connection.heard = self._now
        connection.pinged = None
        session = connection.session
        if session is None and not self._known(message):
            connection.early += message_size(message)
            if connection.early > HELLO_BYTES:
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
            reason = clean_line(asked.reason)[:MAX_REASON].strip() or "bye"
            self._detach(connection)
            self._leave_all(session, reason)
            self._end_session(session, reason)
            self._close(connection, "bye", "good-bye")
        else:
            self._asked(connection, session, asked)

    def _known(self, message: Any) -> bool:
        """Whether it is the hello of somebody who comes back: the cursors of many rooms may be long."""
        resume: Any = message.get("resume") if isinstance(message, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] # of whatever
        token: Any = resume.get("token") if isinstance(resume, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] # as above
        return isinstance(token, str) and len(token) <= 64 and _digest(token) in self._tokens

    def _asked(
        self,
        connection: Connection,
        session: Session,
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
                self._reply(connection, RoomList(id=asked.id, rooms=self._fullest()))

    def _refuse(self, connection: Connection, error: Error) -> None:
        connection.refused += 1
        if connection.refused > PATIENCE:
            self._close(connection, "flood", "too much of what you send is refused", 10.0)
        else:
            self._reply(connection, error)

    def _may_ask(self, connection: Connection, session: Session, id_: Id | None) -> bool:
        wait = session.requests.wait(self._now)
        if wait:
            self._too_fast(connection, id_, wait)
            return False
        connection.refused = 0
        return True

    def _too_fast(self, connection: Connection, id_: Id | None, wait: float) -> None:
        text = f"too fast; go on in {wait:.1f} s"
        self._refuse(connection, Error(code="rate", text=text, id=id_, retry_after=wait))

    # ------------------------------------------------------------- hello, resume

    def _hello(self, connection: Connection, asked: Hello) -> None:
        if connection.session is not None or connection.hello is not None:
            self._refuse(connection, Error(code="already", text="you have said hello"))
            return
        if asked.version != VERSION:
            text = f"this server speaks version {VERSION}, not {asked.version}"
            self._close(connection, "version", text)
            return
        if self._resumed(connection, asked):
            return
        if self._options.passwords:
            self._verify(connection, asked)
        elif asked.name is not None and (error := self._unfit(asked.name, None)) is not None:
            self._refuse(connection, error)
        elif not self._too_many_new(connection):
            self._begin_session(connection, asked)

    def _resumed(self, connection: Connection, asked: Hello) -> bool:
        """Answer a hello that has the token of a session: mostly, by going on with that."""
        resume = asked.resume
        if resume is None or (session := self._tokens.get(_digest(resume.token))) is None:
            return False
        if 0 < resume.attempt < session.attempt:
            self._close(connection, "overtaken", "you have connected anew since")
            return True
        if self._options.passwords and not session.named and self._taken(session.name):
            # It would have to be called something else, whose password nobody has shown.
            self._end_session(session)
            return False
        self._resume(connection, session, resume)
        return True

    def _too_many_new(self, connection: Connection) -> bool:
        """Count one more session of those at its origin; where there may be none, close the connection."""
        options, origin = self._options, connection.origin
        if not origin or not options.newcomers:
            return False
        bucket = self._origins.get(origin)
        if bucket is None:
            bucket = self._origins[origin] = Bucket(options.newcomers, options.newcomer_rate, self._now)
        if wait := bucket.wait(self._now):
            text = f"too many have come from your address; try again in {wait:.1f} s"
            self._close(connection, "too-many-new", text, wait)
        return wait > 0

    def _verify(self, connection: Connection, asked: Hello) -> None:
        if not connection.private:
            self._close(connection, "insecure", "passwords are taken over TLS or a unix socket only")
        elif asked.name is None or asked.password is None:
            self._refuse(connection, Error(code="password", text="this server asks for a name and its password"))
        elif not self._too_many_new(connection):
            connection.hello = asked
            self._out.append(Verify(connection.name, asked.name, asked.password))

    def _verified(self, connection: Connection, *, right: bool) -> None:
        asked, connection.hello = connection.hello, None
        if asked is None:
            return
        connection.since = self._now
        if right and self._resumed(connection, asked):
            pass  # begun meanwhile, over a connection that is lost without a word
        elif right:
            assert asked.name is not None
            holder = self._names.get(asked.name)
            if holder is not None and holder.connection is None:
                # Whoever knows the password is that person: their lost session need not be waited for.
                self._leave_all(holder, "connection lost")
            if (error := self._unfit(asked.name, None)) is not None:
                self._refuse(connection, error)
            else:
                self._begin_session(connection, asked)
        else:
            connection.refused += PATIENCE // 4  # a few tries, not many
            self._refuse(connection, Error(code="password", text="this is not the password of this name"))

    def _begin_session(self, connection: Connection, asked: Hello) -> None:
        """Begin a session with a name that is fit."""
        name = self._guest() if asked.name is None else asked.name
        session = Session(self._make_token(9), name, *self._buckets())
        self._sessions[session.id] = session
        self._names.add(session)
        if asked.resume is not None and len(asked.resume.token) >= LEAST_TOKEN:
            # Known from now on: where the Welcome gets lost, this is all that the client has to show.
            session.tokens = (_digest(asked.resume.token),)
            self._tokens[session.tokens[0]] = session
            session.attempt = asked.resume.attempt
        self._welcome(connection, session, resumed=False)
        announcements = self._rooms[ANNOUNCEMENTS]
        self._reply(connection, Reset(room=ANNOUNCEMENTS, seq=announcements.head))
        self._follow(connection, announcements, announcements.head)

    def _resume(self, connection: Connection, session: Session, resume: Resume) -> None:
        session.attempt = max(session.attempt, resume.attempt)
        if session.connection is not None:
            self._close(session.connection, "replaced", "you have connected anew from elsewhere")
        self._lost.pop(session.id, None)
        self._absent.pop(session.id, None)
        # The token that came is good until the next one is used: its Welcome may get lost.
        used = _digest(resume.token)
        for digest in session.tokens:
            if digest != used:
                del self._tokens[digest]
        session.tokens = (used,)
        if not session.named:
            if self._taken(session.name):
                self._call(session, suggest(session.name, self._taken))
            self._names.add(session)
            session.named = True
        cursors = resume.cursors
        for name in sorted(session.private):
            # The other one has gone for good, and all that was said there has come.
            if len(self._rooms[name].members) < 2 and cursors.get(name) == self._rooms[name].head:
                self._leave_private(session, name)
        self._welcome(connection, session, resumed=True)
        for name in (ANNOUNCEMENTS, *sorted(session.private), *sorted(session.rooms)):
            room = self._rooms[name]
            if name != ANNOUNCEMENTS:
                self._reply(connection, self._members(room))
            self._follow(connection, room, self._from(connection, room, cursors.get(name)))

    def _from(self, connection: Connection, room: Room, after: int | None) -> int:
        """From where on a connection is told of a room, whose last event it knows is ``after``."""
        if after is not None and after <= room.head:
            return after
        start = room.head if after is not None else max(0, room.head - self._options.history)
        self._reply(connection, Reset(room=room.name, seq=start))
        return start

    def _welcome(self, connection: Connection, session: Session, *, resumed: bool) -> None:
        token = self._make_token(18)
        session.tokens = (*session.tokens, _digest(token))
        self._tokens[_digest(token)] = session
        session.connection = connection
        connection.session = session
        connection.refused = 0
        self._greeted(connection)
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
            if self._names.get(name) is None:
                return name

    def _unfit(self, name: str, session: Session | None) -> Error | None:
        """Why a session cannot be called ``name``."""
        if (text := bad_name(name, allow_unicode=self._options.unicode_names)) is not None:
            return Error(code="bad-name", text=text)
        if self._taken(name, session):
            hint = "" if self._options.passwords else f"; {suggest(name, self._taken)} is free"
            return Error(code="name-taken", text=f"this name is taken{hint}")
        return None

    def _taken(self, name: str, session: Session | None = None) -> bool:
        """Whether somebody else than ``session`` is called so, or nearly so."""
        holder = self._names.get(name)
        if holder is not None:
            return holder is not session
        if session is not None and any(
            key(other.name) == key(name)
            for room in session.private
            for other in self._rooms[room].members.values()
            if other is not session
        ):
            return True  # it was theirs when they were here, and the room of the two knows them by it
        return any(other is not session for other in self._names.alike(name))

    def _end_session(self, session: Session, reason: str = "") -> None:
        """Forget a session that has left all open rooms; nothing of it is kept but what it said."""
        for digest in session.tokens:
            self._tokens.pop(digest, None)
        for name in list(session.private):
            self._leave_private(session, name, reason)
        self._sessions.pop(session.id, None)
        self._lost.pop(session.id, None)
        self._absent.pop(session.id, None)
        self._changed.pop(session.id, None)
        self._gone.add(session.id)

    def _leave_private(self, session: Session, name: str, reason: str = "") -> None:
        """``session`` is in the private room ``name`` no more, which is told to the other one, if in it, and kept."""
        room = self._rooms[name]
        del room.members[session.id]
        del session.private[name]
        self._left.add(name)
        self._changed[session.id] = session
        if session.connection is not None:
            self._unfollow(session.connection, room)
        self._publish(room, "left", session.name, reason)

    def _leave_all(self, session: Session, reason: str) -> None:
        """``session`` is in no open room any more, and its name is free."""
        for name in sorted(session.rooms):
            room = self._rooms[name]
            del room.members[session.id]
            self._left.add(name)
            self._publish(room, "left", session.name, reason)
        session.rooms.clear()
        if session.named:
            self._names.remove(session)
            session.named = False
        if self._lost.pop(session.id, None) is not None:
            self._absent[session.id] = session
        self._changed[session.id] = session

    # ----------------------------------------------------------------------- rooms

    def _publish(self, room: Room, kind: EventKind, sender: str, text: str = "", id_: Id | None = None) -> int:
        room.head += 1
        room.told = self._now
        event = Event(room=room.name, seq=room.head, time=self._time, sender=sender, kind=kind, text=text, id=id_)
        self._staged.append(event)
        if id_ is not None:
            self._posted[id_] = event
        if room.live:
            self._out.append(Send(tuple(room.live), event))
        return room.head

    def _members(self, room: Room) -> Members:
        return Members(room=room.name, names=sorted(session.name for session in room.members.values()), at=room.head)

    def _entered(self, session: Session, name: str) -> Room | None:
        """The room ``name``, where ``session`` is in it."""
        if name == ANNOUNCEMENTS:
            return self._rooms[ANNOUNCEMENTS]
        name = name if name.startswith("@") else key(name)
        return self._rooms[name] if name in session.rooms or name in session.private else None

    def _nowhere(self, connection: Connection, id_: Id) -> None:
        # The same for a room that is not there: nobody learns which private rooms there are.
        self._refuse(connection, Error(code="not-in-room", text="you are not in such a room", id=id_))

    def _join(self, connection: Connection, session: Session, asked: Join) -> None:
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
        if name not in self._rooms and (like := next(self._room_names.alike(name), None)) is not None:
            text = f"this room looks like {like.name}, which is another one"
            self._refuse(connection, Error(code="bad-name", text=text, id=asked.id))
            return
        options = self._options
        lobby = key(options.lobby)
        besides = len(self._room_names) - 1 - (lobby in self._rooms)  # nor does that of the announcements count
        if len(session.rooms) >= options.max_rooms_each or (
            name not in self._rooms and name != lobby and besides >= options.max_rooms
        ):
            self._refuse(connection, Error(code="too-many-rooms", text="there are too many rooms", id=asked.id))
            return
        if len(self._rooms[name].members if name in self._rooms else ()) >= options.max_members:
            self._refuse(connection, Error(code="room-full", text="this room is full", id=asked.id))
            return
        if wait := session.moves.wait(self._now):
            self._too_fast(connection, asked.id, wait)
            return
        room = self._room(name)
        start = self._from(connection, room, asked.after)
        room.members[session.id] = session
        session.rooms.add(name)
        self._changed[session.id] = session
        self._publish(room, "joined", session.name)
        self._reply(connection, Ok(id=asked.id, room=name, seq=start))
        self._reply(connection, self._members(room))
        self._follow(connection, room, start)

    def _leave(self, connection: Connection, session: Session, asked: Leave) -> None:
        room = self._entered(session, asked.room)
        if room is None or room.name == ANNOUNCEMENTS:
            self._nowhere(connection, asked.id)
            return
        session.moves.owe(self._now)
        if room.private:
            self._leave_private(session, room.name)
        else:
            self._unfollow(connection, room)
            del room.members[session.id]
            self._left.add(room.name)
            session.rooms.discard(room.name)
            self._publish(room, "left", session.name)
            self._changed[session.id] = session
        self._reply(connection, Ok(id=asked.id, room=room.name))

    def _who(self, connection: Connection, session: Session, asked: Who) -> None:
        room = self._entered(session, asked.room)
        if room is None or room.name == ANNOUNCEMENTS:
            self._nowhere(connection, asked.id)
            return
        self._reply(connection, self._members(room))
        self._reply(connection, Ok(id=asked.id, room=room.name))

    def _history(self, connection: Connection, session: Session, asked: History) -> None:
        room = self._entered(session, asked.room)
        if room is None:
            self._nowhere(connection, asked.id)
            return
        stored = room.head - sum(event.room == room.name for event in self._staged)
        before = min(stored + 1, asked.before if asked.before is not None else stored + 1)
        events = self._log.read(room.name, max(0, before - 1 - asked.limit), max(0, min(asked.limit, before - 1)))
        kept: list[Event] = []
        left = self._options.max_frame - PAGE_HEAD
        for event in reversed(events):
            left -= written_size(event)
            if left < 0 and kept:
                break
            kept.append(event)
        kept.reverse()
        self._reply(
            connection,
            Page(id=asked.id, room=room.name, events=kept, more=bool(kept) and kept[0].seq > 1),
        )

    def _rename(self, connection: Connection, session: Session, asked: Rename) -> None:
        if self._options.passwords:
            error: Error | None = Error(code="fixed-name", text="names belong to their passwords here")
        else:
            error = self._unfit(asked.name, session)
        if error is not None:
            self._refuse(connection, msgspec.structs.replace(error, id=asked.id))
            return
        if asked.name != session.name:
            told = len(session.rooms) + len(session.private)
            if wait := session.moves.wait(self._now, max(1, told)):
                self._too_fast(connection, asked.id, wait)
                return
            self._names.remove(session)
            self._call(session, asked.name)
            self._names.add(session)
        self._reply(connection, Ok(id=asked.id))

    def _call(self, session: Session, name: str) -> None:
        """``session`` is called ``name`` from now on, and its rooms are told."""
        former, session.name = session.name, name
        self._changed[session.id] = session
        for room in sorted((*session.rooms, *session.private)):
            self._publish(self._rooms[room], "renamed", former, name)

    # ----------------------------------------------------------------------- posts

    def _post(self, connection: Connection, session: Session, asked: Post) -> None:
        number = asked.id[1]
        if number not in session.recent:
            stored = self._posted.get(asked.id) or self._log.find(asked.id)
            if stored is not None:
                self._remember(session, number, stored.room, stored.seq)
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
            elif asked.room is not None and asked.room.startswith("@") and session.id in asked.room[1:].split("+"):
                self._refuse(connection, Error(code="gone", text="the other one has gone", id=asked.id))
            elif asked.room is not None:
                self._nowhere(connection, asked.id)

    def _store(self, connection: Connection, session: Session, room: Room, asked: Post, text: str) -> None:
        if room.private and len(room.members) < 2:
            self._refuse(connection, Error(code="gone", text="the other one has gone", id=asked.id))
            return
        seq = self._publish(room, asked.kind, session.name, text, asked.id)
        self._remember(session, asked.id[1], room.name, seq)
        self._reply(connection, Ok(id=asked.id, room=room.name, seq=seq))

    @staticmethod
    def _remember(session: Session, number: int, room: str, seq: int) -> None:
        """Spare the log the next question for this post."""
        session.recent[number] = (room, seq)
        if len(session.recent) > RECENT:
            del session.recent[next(iter(session.recent))]

    def _room_with(self, connection: Connection, session: Session, asked: Post) -> Room | None:
        """The room of two with the one whom a private post is for; whoever is not in it is, from now on, and told of it."""
        assert asked.to is not None
        other = self._names.get(asked.to)
        if other is None or other is session:
            text = "nobody here has this name" if other is None else "this is you"
            self._refuse(connection, Error(code="no-such-name", text=text, id=asked.id))
            return None
        name = _private_room(session.id, other.id)
        entering = [
            (one, origin) for one, origin in ((session, ""), (other, connection.origin)) if name not in one.private
        ]
        if not entering:
            return self._rooms[name]
        if wait := session.moves.wait(self._now):
            self._too_fast(connection, asked.id, wait)
            return None
        if not all(self._has_place(one, origin) for one, origin in entering):
            text = "one of you talks to too many people already, or to too many at one address"
            self._refuse(connection, Error(code="too-many-rooms", text=text, id=asked.id))
            return None
        room = self._room(name)
        fresh = not room.head  # then nobody has been in it, and its first `Members` says who is
        for one, origin in entering:
            room.members[one.id] = one
            one.private[name] = origin
            self._changed[one.id] = one
            if not fresh:
                self._publish(room, "joined", one.name)
        for one, _ in entering:
            if one.connection is not None:
                self._reply(one.connection, self._members(room))
                self._reply(one.connection, Reset(room=name, seq=room.head))
                self._follow(one.connection, room, room.head)
        return room

    def _has_place(self, session: Session, origin: str) -> bool:
        """Whether ``session`` may be in one more private room, that those at ``origin`` begin; it leaves what it can spare."""
        while self._is_full(session, origin):
            spare = self._spare(session, origin)
            if spare is None:
                return False
            self._leave_private(session, spare)
        return True

    def _is_full(self, session: Session, origin: str) -> bool:
        """Whether ``session`` is in as many private rooms as may be, or those at ``origin`` have begun their share of them."""
        left = self._options.max_private_each - len(session.private)
        return left <= 0 or (origin != "" and sum(each == origin for each in session.private.values()) >= left)

    def _spare(self, session: Session, origin: str) -> str | None:
        """A private room that ``session`` has read, and whose other one has left it or is behind the time of grace.

        Those that were begun at ``origin`` come first, then those that the other one has left, then the oldest. What others
        have begun is spared only where no place at all is left.
        """
        connection = session.connection
        if connection is None:
            return None
        all_taken = len(session.private) >= self._options.max_private_each
        spare: list[tuple[bool, int, str]] = []
        for name, begun_at in session.private.items():
            room = self._rooms[name]
            # What was told before it was heard of last has come; what was told since may get lost with the connection.
            read = connection.name in room.live and room.told < connection.heard
            gone = all(other is session or other.id in self._absent for other in room.members.values())
            if read and gone and (all_taken or begun_at == origin):
                spare.append((begun_at != origin, len(room.members), name))
        return min(spare, key=lambda each: each[:2])[2] if spare else None
