"""The text port: the chat for people who have ``nc`` or telnet. It asks for a name; then each line is said.

Each of them is a client of the same hub, with the same state machine as every other client: the text port only turns lines
into what the client is asked, and what the client is told into lines. Nobody is told again what they said themselves.
Telnet's negotiation is declined and taken out, the ends of lines may be CRLF, a line that is too long is left out, which is
told, and nothing is sent that a terminal would obey.

Whoever the hub does not let in yet waits, and is let in by themselves. Whoever ends what they send (``printf … | nc -N``) is
shown nothing more, and what they typed is still said. Of one address so many may be there without having been let in.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from framing import EncodeError, Framer, Raw, Wire
from framing.drivers.service import Peer
from protocols.chat import client as person
from protocols.chat.host import Host, origin_of
from protocols.chat.messages import Close, Event, FromServer, to_map
from protocols.chat.phrases import Place, phrase, phrase_wait, read_line
from protocols.chat.safety import clean_line, key

__all__ = ["MAX_LINE", "TEXT_WIRE", "TextService"]

MAX_LINE: Final = 4096
"""Bytes of a line; what is longer is left out, up to its end, and the next line is taken again."""

_PIECE: Final = MAX_LINE + len("\r\n")


@dataclass(frozen=True, slots=True)
class _Pieces(Framer):
    """Lines, with their ends; one that is too long comes in pieces, of which the last alone has the end.

    So whoever typed it can be told; a framer that skips it tells nobody but its decoder.
    """

    def find(self, data: Any, start: int, seen: int) -> tuple[int, int, int] | int:
        """Up to the end of the line, and no further than a piece is long."""
        most = start + _PIECE
        end = data.find(b"\n", max(start, seen), most) + 1
        if not end:
            if len(data) < most:
                return 1
            end = most
        return start, end, end

    def wrap(self, payload: bytes) -> bytes:
        """``payload``, which is a line with its end."""
        if payload.find(b"\n") + 1 != (len(payload) or -1) or len(payload) > _PIECE:
            raise EncodeError(f"a line ends in its only newline, and has {_PIECE} bytes at the most with it")
        return payload

    @property
    def final_delimiter(self) -> bytes:
        """The end of the last line, which need not be typed."""
        return b"\n"


TEXT_WIRE: Final[Wire[bytes]] = Wire(_Pieces(max_frame=_PIECE), Raw())

MOST_PENDING: Final = 100
"""Lines of one person that may wait until they may be said; those above are not said."""

NAME_TIMEOUT: Final = 60.0
"""Seconds in which to give a name."""

MOST_NAMELESS: Final = 64
"""People of one address who may be there without having been let in; those of a unix socket are not counted."""

LAST_WORDS: Final = 60.0
"""Seconds in which what somebody typed who has ended what they send is still said."""

CLOCK: Final = 0.1

_NO_MORE: Final = "(not said: wait until what you have typed before is said)"
_TOO_LONG: Final = f"(not said: a line has {MAX_LINE} bytes at the most)"
_CROWDED: Final = "Too many have come from your address and not given a name. Try again later."

_IAC, _WILL, _WONT, _DO, _DONT = 255, 251, 252, 253, 254
# RFC 854: IAC, then a command; WILL, WON'T, DO and DON'T take one byte more, SB goes up to IAC SE.
_TELNET = re.compile(rb"\xff(?:[\xfb-\xfe].?|\xfa(?:[^\xff]|\xff[^\xf0])*(?:\xff\xf0)?|.|$)", re.DOTALL)


class _Attempt:
    """One connection of a person's with the hub, which may end it and let another one begin: the host's line."""

    __slots__ = ("_line",)

    def __init__(self, line: _TextLine) -> None:
        self._line = line

    def __repr__(self) -> str:
        return repr(self._line)

    @property
    def paused(self) -> bool:
        return self._line.paused

    def tell(self, message: FromServer, encoded: dict[Any, Any]) -> None:
        told = encoded.get("map")
        if told is None:
            told = encoded["map"] = to_map(message)
        self._line.tell(self, told)

    def flush(self) -> None:
        """Nothing is left: what it was told has been shown."""

    def close(self) -> None:
        self._line.close(self)


class _TextLine:
    """One person with a terminal: a client, and the connection that it is seen through."""

    def __init__(self, host: Host, peer: Peer[bytes], room: str) -> None:
        self._host = host
        self._peer = peer
        self.origin = origin_of(peer.address)
        self._place = Place(room)
        self._client: person.Client | None = None
        self._attempt: _Attempt | None = None  # what the hub knows of it
        self._entered = False  # the hub has let it in
        self._waits = False  # for that, and that was told
        self._leaving = False
        self._too_long = False  # the line that is being typed
        self._finish_by: float | None = None  # the person has ended what they send, and sees nothing any more
        self.over = False
        self._since = time.monotonic()
        # The server's thread brings what is typed, the hub's what is told.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"text {self._peer.address}"

    @property
    def paused(self) -> bool:
        return self._finish_by is None and self._peer.paused

    @property
    def nameless(self) -> bool:
        """Whether it has not been let in, and may still be."""
        return not self._entered and not self.over

    def close(self, attempt: _Attempt) -> None:
        """The host ends ``attempt``; nothing is left to do where it said so first, and that was understood."""
        with self._lock:
            if attempt is self._attempt:
                self._hang_up()

    def _hang_up(self) -> None:
        self.over = True
        self._disconnect()
        self._peer.close()

    def _disconnect(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._host.closed(attempt)

    def show(self, text: str) -> None:
        """Send ``text``, which may have several lines."""
        if self._finish_by is None:
            lines = "".join(line + "\r\n" for line in text.split("\n"))
            self._peer.send_encoded(lines.encode("utf-8", "replace"))

    # --------------------------------------------------------- from the terminal

    def typed(self, piece: bytes) -> None:
        """A line came, with its end, or a piece of one that is too long."""
        line = piece.removesuffix(b"\n")
        whole, begun = line != piece, self._too_long
        self._too_long = not whole
        if begun or not whole or len(line.removesuffix(b"\r")) > MAX_LINE:
            if not begun:
                self.show(_TOO_LONG)
            return
        if answer := b"".join(_declined(command) for command in _TELNET.findall(line)):
            self._peer.send_encoded(answer)
        text = _TELNET.sub(b"", line).decode("utf-8", "replace").rstrip("\r\0")
        with self._lock:
            client = self._client
            if client is None:
                name = clean_line(text).strip()
                if name == "QUIT":
                    self._hang_up()
                else:
                    self._client = person.Client(name or None, (self._place.room,) if self._place.room else ())
                    self._handle(person.Wake())
                return
            order = read_line(text, self._place.room)
            if order.reply:
                self.show(order.reply)
            self._place.follow(order)
            self._leaving = self._leaving or order.leaves
            for given in order.inputs:
                if isinstance(given, person.Say) and client.pending >= MOST_PENDING:
                    self.show(_NO_MORE)
                else:
                    self._handle(given)

    def gone(self, error: Exception | None) -> None:
        """The connection has ended, by ``error`` or by the end of what is typed: then what was is still said."""
        with self._lock:
            if error is None and not self.over and self._client is not None:
                self._finish_by = time.monotonic() + LAST_WORDS
                if not self._leaving:
                    self._leaving = True
                    self._handle(person.Leaving())
            else:
                self.over = True
                self._disconnect()

    # -------------------------------------------------------------- from the hub

    def tell(self, attempt: _Attempt, told: Any) -> None:
        """The hub tells ``attempt`` something."""
        with self._lock:
            if attempt is self._attempt:
                self._handle(person.Received(told))

    def tick(self, now: float) -> None:
        """Time has passed."""
        with self._lock:
            client = self._client
            if client is None:
                if not self.over and now - self._since >= NAME_TIMEOUT:
                    self._hang_up()
            elif self._finish_by is not None and now >= self._finish_by:
                self._handle(person.Leaving(at_once=True))
            elif client.wake_at is not None and client.wake_at <= now:
                self._handle(person.Wake())

    # ---------------------------------------------------------------- the client

    def _handle(self, given: person.Input) -> None:
        inputs = deque([given])
        while inputs and self._client is not None and not self.over:
            for output in self._client.handle(inputs.popleft(), time.monotonic()):
                self._carry_out(output, inputs)

    def _carry_out(self, output: person.Output, inputs: deque[person.Input]) -> None:
        client = self._client
        assert client is not None
        if isinstance(output, person.Connect):
            self._attempt = attempt = _Attempt(self)
            private = self._peer.address.scheme in ("tls", "unix")
            self._host.opened(attempt, private=private, origin=self.origin)
            inputs.append(person.Connected())
        elif isinstance(output, person.Transmit):
            if self._attempt is not None:
                self._host.received(self._attempt, to_map(output.message))
        elif isinstance(output, person.Disconnect):
            self._disconnect()
            # Whoever was never let in may try again, or another name; everybody else has to come back by themselves.
            if self._entered:
                self._hang_up()
        elif isinstance(output, person.Told):
            self._tell(output.message, client)
        elif isinstance(output, person.Posted):
            if output.state == "failed":
                self.show(f"(not said: {clean_line(output.why)})")
        elif isinstance(output, person.Slowed):
            self.show(f"({phrase_wait(output, time.monotonic())})")
        elif isinstance(output, person.Trouble):
            self._place.take(output, client)
            self.show(f"({clean_line(output.error.text)})")
        elif not self._entered:
            self._let_in(output)

    def _tell(self, told: Any, client: person.Client) -> None:
        if isinstance(told, Close) and told.reconnect is not None and not self._entered:
            return  # the change that follows has its reason
        if not self._mine(told) and (text := phrase(told, client, self._place.room)):
            self.show(text)

    def _let_in(self, change: person.Changed) -> None:
        """What becomes of somebody who has given a name."""
        if change.state == "online":
            self._entered = True
            self.show(f"You are {clean_line(change.name)}. /help tells what you can do.")
        elif change.state == "waiting" and not self._waits:
            self._waits = True  # once: it is asked for again and again
            self.show(f"(Please wait, you are let in by yourself: {clean_line(change.reason)})")
        elif change.state == "ended":
            if self._leaving:
                self._hang_up()
            else:
                self._client = None
                self._since = time.monotonic()
                self.show("What is your name?")

    def _mine(self, told: object) -> bool:
        """Whether it stands on the screen already, for it was typed there."""
        return (
            isinstance(told, Event)
            and told.kind == "say"
            and told.room == (key(self._place.room) if self._place.room is not None else None)
            and self._client is not None
            and self._client.wrote(told)
        )


def _declined(command: bytes) -> bytes:
    """The answer to a command of telnet's: nothing that it offers or asks for is wanted here."""
    if len(command) < 3 or command[1] not in (_WILL, _DO):
        return b""
    return bytes((_IAC, _WONT if command[1] == _DO else _DONT, command[2]))


class TextService:
    """The text port, as a service of any server driver that speaks `TEXT_WIRE`. Everybody enters ``room`` first.

    Use it as a context manager: inside it a clock runs, which lets posts that had to wait go on.
    """

    def __init__(self, host: Host, room: str = "lobby") -> None:
        self._host = host
        self._room = room
        self._lines: dict[Peer[bytes], _TextLine] = {}
        self._finishing: set[_TextLine] = set()  # their connections have ended
        self._nameless: dict[str, set[_TextLine]] = {}  # by their origins, and those who have been let in since
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, name="framing chat text clock", daemon=True)

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._clock.join()

    def _tick(self) -> None:
        while not self._ended.wait(CLOCK):
            with self._lock:
                lines = [*self._lines.values(), *self._finishing]
            now = time.monotonic()
            for line in lines:
                line.tick(now)
            with self._lock:
                for line in [line for line in self._finishing if line.over]:
                    self._finishing.discard(line)
                    self._forget(line)

    def opened(self, peer: Peer[bytes]) -> None:
        """Ask for a name."""
        line = _TextLine(self._host, peer, self._room)
        with self._lock:
            crowded = self._is_crowded(line)
            if not crowded:
                self._lines[peer] = line
        if crowded:
            line.show(_CROWDED)
            peer.close()
        else:
            line.show("Welcome. What is your name? (An empty line gives you one.)")

    def received(self, peer: Peer[bytes], message: bytes) -> None:
        """Take a line."""
        self._lines[peer].typed(message)

    def closed(self, peer: Peer[bytes], error: Exception | None) -> None:
        """Tell the hub that ``peer`` has gone, behind what it has still to say."""
        with self._lock:
            line = self._lines.pop(peer, None)
        if line is None:
            return  # it was turned away
        line.gone(error)
        with self._lock:
            if line.over:
                self._forget(line)
            else:
                self._finishing.add(line)

    def _is_crowded(self, line: _TextLine) -> bool:
        """Whether there are too many already where ``line`` comes from; else it is counted there."""
        if not line.origin:
            return False
        nameless = {each for each in self._nameless.get(line.origin, ()) if each.nameless}
        if len(nameless) >= MOST_NAMELESS:
            return True
        self._nameless[line.origin] = {*nameless, line}
        return False

    def _forget(self, line: _TextLine) -> None:
        if (nameless := self._nameless.get(line.origin)) is not None:
            nameless.discard(line)
            if not nameless:
                del self._nameless[line.origin]
