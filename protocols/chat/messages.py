"""The chat's messages: typed records, carried as tagged maps by any wire whose codec carries maps.

A map is read in two steps. The codec gives the map, within its own limits; `from_client` and `from_server` make the record
of it, and check each field's type and bounds here. So an unknown kind of message, or a field of a wrong type, is an answer
(`Refused`), not the end of the connection; and unknown fields are ignored, so that either side may learn new ones first.

The bounds are of this protocol, in characters and items; the hub holds texts and names against narrower ones.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

__all__ = [
    "ANNOUNCEMENTS",
    "VERSION",
    "Bye",
    "Close",
    "Error",
    "Event",
    "FromClient",
    "FromServer",
    "Hello",
    "History",
    "Id",
    "Join",
    "Lag",
    "Leave",
    "Limits",
    "Members",
    "Ok",
    "Page",
    "Ping",
    "Pong",
    "Post",
    "Refused",
    "Rename",
    "Reset",
    "Resume",
    "RoomList",
    "Rooms",
    "Welcome",
    "Who",
    "from_client",
    "from_server",
    "to_map",
]

VERSION: Final = 1

ANNOUNCEMENTS: Final = "server"
"""The room that everybody is in, and only the server speaks in."""

# As a message may spell them; what the hub takes is narrower.
_Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
_Room: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
_Seq: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
_Number: TypeAlias = Annotated[int, Meta(ge=1, le=(1 << 53) - 1)]

Id: TypeAlias = tuple[Annotated[str, Meta(max_length=64)], _Number]
"""``(session, n)``, chosen by the client, n growing: names a request, and makes a post that comes twice the same post."""

EventKind: TypeAlias = Literal["say", "act", "joined", "left", "renamed", "announce"]


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag=str.lower):
    """A message; on the wire it is a map whose ``type`` is the record's name in lower case."""


# ---------------------------------------------------------------- both ways


class Ping(_Record, frozen=True, kw_only=True):
    """Are you there? The answer is `Pong` with the same ``n``."""

    n: _Seq


class Pong(_Record, frozen=True, kw_only=True):
    """The answer to `Ping`."""

    n: _Seq


# --------------------------------------------------------- client to server


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """Which session goes on, and from where: ``cursors`` has the last seq seen of each room.

    ``token`` is that of the last `Welcome`. Before the first one it is one that the client has made up, of 16 characters or
    more that nobody can guess: it goes on with the session that it began, should the `Welcome` have been lost.

    ``attempt``, where it is given, grows with each connection that the client makes. A hello may arrive behind one that was
    sent later, over a connection that its client has left: by it the server knows which one counts.
    """

    token: Annotated[str, Meta(max_length=64)]
    cursors: Annotated[dict[_Room, _Seq], Meta(max_length=1024)] = {}
    attempt: _Seq = 0


class Hello(_Record, frozen=True, kw_only=True):
    """The first message. ``name`` is asked for; without one the server gives one."""

    version: int
    name: _Name | None = None
    resume: Resume | None = None
    password: Annotated[str, Meta(max_length=1024)] | None = None


class Join(_Record, frozen=True, kw_only=True):
    """Enter ``room``; events with a seq above ``after`` follow, or without it the last few."""

    id: Id
    room: _Room
    after: _Seq | None = None


class Leave(_Record, frozen=True, kw_only=True):
    """Leave ``room``; the others in it are told. Of a room of two, the next post from one to the other opens it again."""

    id: Id
    room: _Room


class Post(_Record, frozen=True, kw_only=True):
    """Say ``text`` in ``room``, or to the one person called ``to``; just one of the two is given."""

    id: Id
    text: Annotated[str, Meta(max_length=1 << 15)]
    room: _Room | None = None
    to: _Name | None = None
    kind: Literal["say", "act"] = "say"


class History(_Record, frozen=True, kw_only=True):
    """Ask for the last ``limit`` events of ``room`` with a seq below ``before``, or of all."""

    id: Id
    room: _Room
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    before: _Seq | None = None


class Rename(_Record, frozen=True, kw_only=True):
    """Be called ``name`` from now on, in every room."""

    id: Id
    name: _Name


class Who(_Record, frozen=True, kw_only=True):
    """Ask for the `Members` of ``room``."""

    id: Id
    room: _Room


class Rooms(_Record, frozen=True, kw_only=True):
    """Ask for the `RoomList`."""

    id: Id


class Bye(_Record, frozen=True, kw_only=True):
    """The session ends here, without a time of grace."""

    reason: Annotated[str, Meta(max_length=200)] = ""


# --------------------------------------------------------- server to client


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What this server takes: bytes and lines of a text, posts at once and a second, bytes of a frame."""

    text: int
    lines: int
    burst: int
    rate: float
    frame: int


class Welcome(_Record, frozen=True, kw_only=True):
    """The answer to `Hello`. ``name`` is what it is called from now on.

    ``token`` resumes the session. It changes with each `Welcome`, and is good until the next one is used: a `Welcome` that
    gets lost costs nothing, and whoever has seen a token can come back by it as long as its owner has not used a later one.

    ``rooms`` are the rooms that it is in: after a time of grace it is in none but the private ones.
    """

    version: int
    session: str
    token: str
    name: str
    resumed: bool
    rooms: list[str]
    limits: Limits
    heartbeat: float


class Ok(_Record, frozen=True, kw_only=True):
    """The request was done; what it changed is stored. ``seq`` is that of the post, or, for `Join`, your cursor."""

    id: Id
    room: str | None = None
    seq: int | None = None


class Error(_Record, frozen=True, kw_only=True):
    """The request was not done. ``code`` is for programs, ``text`` for people; ``retry_after`` in seconds, where it helps."""

    code: str
    text: str
    id: Id | None = None
    retry_after: float | None = None


class Event(_Record, frozen=True, kw_only=True):
    """What happened in a room. ``seq`` counts from 1 without a gap; ``time`` is milliseconds since 1970, for display only.

    ``text`` is what was said; for ``renamed``, the new name. ``id`` is the post's.
    """

    room: str
    seq: int
    time: int
    sender: str
    kind: EventKind
    text: str = ""
    id: Id | None = None


class Members(_Record, frozen=True, kw_only=True):
    """Who is in ``room``, true for the moment behind the event ``at``; events tell of all who come and go since.

    It is told to whoever enters a room or comes back into it, and as the answer to `Who`. In a room of two somebody is, there
    or not, until they leave it or their session ends.
    """

    room: str
    names: list[str]
    at: int


class Page(_Record, frozen=True, kw_only=True):
    """The answer to `History`, oldest first; ``more`` tells whether there are older ones."""

    id: Id
    room: str
    events: list[Event]
    more: bool


class RoomList(_Record, frozen=True, kw_only=True):
    """The answer to `Rooms`: each open room, and how many are in it; of very many rooms, the fullest."""

    id: Id
    rooms: dict[str, int]


class Lag(_Record, frozen=True, kw_only=True):
    """You do not read as fast as others write: what follows ``seq`` is sent as you take it."""

    room: str
    seq: int


class Reset(_Record, frozen=True, kw_only=True):
    """Your cursor of ``room`` is ``seq`` now: you had none, or the log has begun anew. The next event is seq + 1."""

    room: str
    seq: int


class Close(_Record, frozen=True, kw_only=True):
    """The server closes the connection. ``reconnect``: seconds to wait first; None: do not come back by yourself."""

    code: str
    text: str
    reconnect: float | None = None


FromClient: TypeAlias = Hello | Join | Leave | Post | History | Rename | Who | Rooms | Bye | Ping | Pong
FromServer: TypeAlias = Welcome | Ok | Error | Event | Members | Page | RoomList | Lag | Reset | Close | Ping | Pong

_FROM_CLIENT: Final = frozenset(
    {"hello", "join", "leave", "post", "history", "rename", "who", "rooms", "bye", "ping", "pong"}
)


class Refused(ValueError):
    """A message is none of this protocol; ``code`` is "unsupported" (an unknown type) or "malformed"."""

    def __init__(self, code: str, text: str, id: Id | None = None) -> None:  # noqa: A002 # the field's name
        super().__init__(text)
        self.code = code
        self.id = id


def to_map(message: FromClient | FromServer) -> Any:
    """``message`` as the map that a codec carries."""
    return msgspec.to_builtins(message)


def from_client(message: Any) -> FromClient:
    """The record that a client's map stands for; raises `Refused`."""
    kind = _kind_of(message)
    if kind not in _FROM_CLIENT:
        raise Refused("unsupported", f"no such type of message: {kind[:32]!r}", _id_of(message))
    try:
        asked: FromClient = msgspec.convert(message, FromClient)  # type: ignore[arg-type, unused-ignore] # a union is a type here
        # A codec that is lax gives halves of surrogate pairs, which no other codec and no file would take.
        msgspec.msgpack.encode(asked)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError, OverflowError) as error:
        raise Refused("malformed", str(error)[:200], _id_of(message)) from None
    return asked


def from_server(message: Any) -> FromServer | None:
    """The record that a server's map stands for; None for a type unknown here, which is ignored. Raises `Refused`."""
    if _kind_of(message) not in _FROM_SERVER:
        return None
    try:
        return msgspec.convert(message, FromServer)  # type: ignore[no-any-return, arg-type, unused-ignore] # as above
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError, OverflowError) as error:
        raise Refused("malformed", str(error)[:200]) from None


_FROM_SERVER: Final = frozenset(
    {"welcome", "ok", "error", "event", "members", "page", "roomlist", "lag", "reset", "close", "ping", "pong"}
)


def _kind_of(message: Any) -> str:
    """The type that a message says it is."""
    kind: Any = message.get("type") if isinstance(message, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] # of whatever
    if not isinstance(kind, str):
        raise Refused("malformed", "a message is a map with a type")
    return kind


def _id_of(message: Any) -> Id | None:
    """The id of a message that is otherwise wrong, so that its sender knows which one was refused."""
    try:
        id_: Id = msgspec.convert(message.get("id"), Id)
        msgspec.msgpack.encode(id_)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError, OverflowError):
        return None
    return id_
