"""The text port: the chat for people who have ``nc`` or telnet. It asks for a name; then each line is said.

Each of them is a client of the same hub, with the same state machine as every other client: the text port only turns lines
into what the client is asked, and what the client is told into lines. Nobody is told again what they said themselves.
Telnet's negotiation is declined and taken out, the ends of lines may be CRLF, a line that is too long is left out, and nothing
is sent that a terminal would obey.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from types import TracebackType
from typing import Any, Final, Self

from framing import Lines, Raw, Wire
from framing.drivers.service import Peer
from protocols.chat import client as person
from protocols.chat.host import Host, origin_of
from protocols.chat.messages import Event, FromServer, to_map
from protocols.chat.phrases import phrase, phrase_wait, read_line
from protocols.chat.safety import clean_line, key

__all__ = ["MAX_LINE", "TEXT_WIRE", "TextService"]

MAX_LINE: Final = 4096
"""Bytes of a line; what is longer is left out, up to its end, and the next line is taken again."""

TEXT_WIRE: Final[Wire[bytes]] = Wire(Lines(max_frame=MAX_LINE, on_oversize="skip", final="optional"), Raw())

MOST_PENDING: Final = 100
"""Lines of one person that may wait until they may be said; those above are not said."""

NAME_TIMEOUT: Final = 120.0
"""Seconds in which to give a name."""

CLOCK: Final = 0.1

_NO_MORE: Final = "(not said: wait until what you have typed before is said)"

_IAC, _WILL, _WONT, _DO, _DONT = 255, 251, 252, 253, 254
# RFC 854: IAC, then a command; WILL, WON'T, DO and DON'T take one byte more, SB goes up to IAC SE.
_TELNET = re.compile(rb"\xff(?:[\xfb-\xfe].?|\xfa(?:[^\xff]|\xff[^\xf0])*(?:\xff\xf0)?|.|$)", re.DOTALL)


class _TextLine:
    """One person with a terminal: a client, and the connection that it is seen through."""

    def __init__(self, host: Host, peer: Peer[bytes], room: str) -> None:
        self._host = host
        self._peer = peer
        self._room: str | None = room
        self._before: str | None = None  # where it goes back to from a room that it is not let into
        self._client: person.Client | None = None
        self._connected = False
        self._left = False
        self._entered = False
        self._since = time.monotonic()
        # The server's thread brings what is typed, the hub's what is told.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"text {self._peer.address}"

    @property
    def paused(self) -> bool:
        return self._peer.paused

    def close(self) -> None:
        self._peer.close()

    def show(self, text: str) -> None:
        """Send ``text``, which may have several lines."""
        lines = "".join(line + "\r\n" for line in text.split("\n"))
        self._peer.send_encoded(lines.encode("utf-8", "replace"))

    # --------------------------------------------------------- from the terminal

    def typed(self, line: bytes) -> None:
        """A line came."""
        if answer := b"".join(_declined(command) for command in _TELNET.findall(line)):
            self._peer.send_encoded(answer)
        text = _TELNET.sub(b"", line).decode("utf-8", "replace").rstrip("\r\0")
        with self._lock:
            client = self._client
            if client is None:
                name = clean_line(text).strip()
                if name == "QUIT":
                    self.close()
                else:
                    self._client = person.Client(name or None, (self._room,) if self._room else ())
                    self._handle(person.Wake())
                return
            order = read_line(text, self._room)
            if order.reply:
                self.show(order.reply)
            if order.room is not None:
                if self._room is not None and key(self._room) in client.rooms:
                    self._before = self._room
                self._room = order.room or None
            for given in order.inputs:
                if isinstance(given, person.Say) and client.pending >= MOST_PENDING:
                    self.show(_NO_MORE)
                else:
                    self._handle(given)

    def gone(self) -> None:
        """The connection has ended."""
        with self._lock:
            self._left = True
            if self._connected:
                self._connected = False
                self._host.closed(self)

    # -------------------------------------------------------------- from the hub

    def tell(self, message: FromServer, encoded: dict[Any, Any]) -> None:
        told = encoded.get("map")
        if told is None:
            told = encoded["map"] = to_map(message)
        with self._lock:
            self._handle(person.Received(told))

    def tick(self, now: float) -> None:
        """Time has passed."""
        with self._lock:
            client = self._client
            if client is None:
                if now - self._since >= NAME_TIMEOUT:
                    self.close()
            elif client.wake_at is not None and client.wake_at <= now:
                self._handle(person.Wake())

    # ---------------------------------------------------------------- the client

    def _handle(self, given: person.Input) -> None:
        inputs = deque([given])
        while inputs and self._client is not None and not self._left:
            for output in self._client.handle(inputs.popleft(), time.monotonic()):
                self._carry_out(output, inputs)

    def _carry_out(self, output: person.Output, inputs: deque[person.Input]) -> None:
        client = self._client
        assert client is not None
        if isinstance(output, person.Connect):
            self._connected = True
            address = self._peer.address
            self._host.opened(self, private=address.scheme in ("tls", "unix"), origin=origin_of(address))
            inputs.append(person.Connected())
        elif isinstance(output, person.Transmit):
            self._host.received(self, to_map(output.message))
        elif isinstance(output, person.Disconnect):
            if self._connected:
                self._connected = False
                self._host.closed(self)
            # Whoever was never let in may try another name; everybody else has to come back by themselves.
            if self._client is not None and self._entered:
                self._left = True
                self.close()
        elif isinstance(output, person.Told):
            if not self._mine(output.message) and (text := phrase(output.message, client, self._room)):
                self.show(text)
        elif isinstance(output, person.Posted):
            if output.state == "failed":
                self.show(f"(not said: {clean_line(output.why)})")
        elif isinstance(output, person.Slowed):
            self.show(f"({phrase_wait(output, time.monotonic())})")
        elif isinstance(output, person.Trouble):
            if output.ask is not None and output.ask.what == "join" and output.ask.argument == self._room:
                self._room = self._before
            self.show(f"({clean_line(output.error.text)})")
        elif output.state == "online" and not self._entered:
            self._entered = True
            self.show(f"You are {clean_line(output.name)}. /help tells what you can do.")
        elif output.state == "ended" and not self._entered:
            self._client = None
            self._since = time.monotonic()
            self.show("What is your name?")

    def _mine(self, told: object) -> bool:
        """Whether it stands on the screen already, for it was typed there."""
        return (
            isinstance(told, Event)
            and told.kind == "say"
            and told.room == (key(self._room) if self._room is not None else None)
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
                lines = list(self._lines.values())
            now = time.monotonic()
            for line in lines:
                line.tick(now)

    def opened(self, peer: Peer[bytes]) -> None:
        """Ask for a name."""
        line = _TextLine(self._host, peer, self._room)
        with self._lock:
            self._lines[peer] = line
        line.show("Welcome. What is your name? (An empty line gives you one.)")

    def received(self, peer: Peer[bytes], message: bytes) -> None:
        """Take a line."""
        self._lines[peer].typed(message)

    def closed(self, peer: Peer[bytes], error: Exception | None) -> None:  # noqa: ARG002 # a service's shape
        """Tell the hub that ``peer`` has gone."""
        with self._lock:
            line = self._lines.pop(peer)
        line.gone()
