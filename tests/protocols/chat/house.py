"""A chat in this process, for real sockets: any driver, any wire, any log; and guests, who speak to it in maps."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from framing import FramingError, Timeout, Wire
from framing.drivers import blocking
from framing.drivers.address import Address
from protocols.chat.host import Host
from protocols.chat.hub import Hub, Options
from protocols.chat.log import Log, MemoryLog
from protocols.chat.text import TEXT_WIRE, TextService
from tests.drivers.every.registry import SERVERS

__all__ = ["DRIVERS", "LOCAL", "SECONDS", "WIRE", "Guest", "House", "house", "until"]

LOCAL = "tcp://127.0.0.1:0"
WIRE: Wire[Any] = Wire.parse("u32+msgpack")
SECONDS = 20.0
"""How long anything may take before it has failed; a machine with other things to do is slow."""


def until(happened: Callable[[], Any], what: str) -> Any:
    """What ``happened`` returns, as soon as that is true."""
    end = time.monotonic() + SECONDS
    while not (result := happened()):
        assert time.monotonic() < end, f"it did not happen: {what}"
        time.sleep(0.01)
    return result


class Guest:
    """One connection, and all that it was told, as maps."""

    def __init__(
        self, address: Address, wire: Wire[Any] = WIRE, *, narrow: bool = False, source: str = "", **options: Any
    ) -> None:
        if narrow or source:
            sock = socket.socket()
            if narrow:  # its system takes little that is not read
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            if source:  # it comes from another address of this machine
                sock.bind((source, 0))
            sock.connect((address.host, address.port))
            self.connection = blocking.Connection(sock, wire, timeout=SECONDS)
        else:
            self.connection = blocking.connect(address, wire, timeout=SECONDS, **options)
        self.told: list[Any] = []
        self.session = ""
        self.token = ""
        self.name = ""
        self._n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.close()

    def send(self, **message: Any) -> None:
        self.connection.send(message)

    def ask(self, kind: str, /, **fields: Any) -> list[Any]:
        """Send a request; its id."""
        self._n += 1
        id_ = [self.session, self._n]
        self.connection.send({**fields, "type": kind, "id": id_})
        return id_

    def get(self, kind: str, /, **fields: Any) -> Any:
        """The next message of ``kind`` that has these ``fields``; what comes before it is only kept in ``told``."""
        return self.meet(lambda message: message["type"] == kind and fields.items() <= message.items())

    def has(self, kind: str, /, **fields: Any) -> Any:
        """The first such message: one that was told already, or the next."""
        for message in self.told:
            if message["type"] == kind and fields.items() <= message.items():
                return message
        return self.get(kind, **fields)

    def meet(self, wanted: Callable[[Any], bool]) -> Any:
        """The next message that is ``wanted``."""
        end = time.monotonic() + 3 * SECONDS
        while True:
            assert time.monotonic() < end, "it does not come, though others do"
            message = self.connection.receive()
            self.told.append(message)
            if wanted(message):
                return message

    def done(self, kind: str, /, **fields: Any) -> Any:
        """Send a request; its answer."""
        id_ = self.ask(kind, **fields)
        return self.meet(lambda message: message.get("id") == id_ and message["type"] != "event")

    def hello(self, name: str | None = None, **fields: Any) -> Any:
        """Say hello; the answer."""
        if name is not None:
            fields["name"] = name
        self.send(type="hello", version=1, **fields)
        answer = self.meet(lambda message: message["type"] in ("welcome", "error", "close"))
        if answer["type"] == "welcome":
            self.session, self.token, self.name = answer["session"], answer["token"], answer["name"]
        return answer

    def enter(self, name: str | None = None, room: str | None = "lobby", **fields: Any) -> Self:
        """Say hello, and join; both must succeed."""
        answer = self.hello(name, **fields)
        assert answer["type"] == "welcome", answer
        if room is not None:
            answer = self.done("join", room=room)
            assert answer["type"] == "ok", answer
        return self

    def say(self, text: str, /, **fields: Any) -> Any:
        """Post ``text`` in the lobby, or where ``fields`` say; the answer."""
        if "to" not in fields:
            fields.setdefault("room", "lobby")
        return self.done("post", text=text, **fields)

    def hears(self, text: str) -> Any:
        """The event that says ``text``."""
        return self.get("event", text=text)

    def still_there(self) -> bool:
        """Whether the server answers this connection; what waited has been told then."""
        self.send(type="ping", n=7)
        return bool(self.get("pong", n=7))

    def ended(self) -> Any:
        """Read to the end; the last message."""
        try:
            self.meet(lambda message: False)
        except Timeout:
            raise AssertionError("the connection does not end") from None
        except (FramingError, OSError):
            pass
        return self.told[-1] if self.told else None

    def events(self, kind: str = "say") -> list[str]:
        """The texts of the events that were told."""
        return [message.get("text", "") for message in self.told if message.get("kind") == kind]


@dataclass
class House:
    """A host that serves, and the log below it."""

    host: Host
    address: Address
    log: Log
    wire: Wire[Any]
    server: Any
    text_server: Any = None
    text_service: Any = None

    @property
    def text(self) -> Address:
        """Where people with ``nc`` and telnet are served."""
        return self.text_server.address  # type: ignore[no-any-return] # each driver has a server of its own

    def guest(self, **options: Any) -> Guest:
        return Guest(self.address, self.wire, **options)


DRIVERS = list(SERVERS)


@contextlib.contextmanager
def house(
    driver: str = "selector",
    wire: Wire[Any] = WIRE,
    *,
    options: Options | None = None,
    log: Log | None = None,
    listen: str = LOCAL,
    text: bool = False,
    verify: Callable[[str, str], bool] | None = None,
    text_options: dict[str, Any] | None = None,
    **server_options: Any,
) -> Iterator[House]:
    """A chat until the end of the block: ``driver`` is one of `DRIVERS`; it reads frames of 64 KiB, as the command does."""
    log = log if log is not None else MemoryLog()
    host = Host(Hub(log, options), verify=verify)
    with contextlib.ExitStack() as stack:
        framer: Any = wire.framer
        narrow = replace(wire, framer=replace(framer, max_frame=min(framer.max_frame, 1 << 16)))
        server = stack.enter_context(SERVERS[driver](listen, narrow, host.service(wire), **server_options))
        second = service = None
        if text:
            service = stack.enter_context(TextService(host))
            second = stack.enter_context(SERVERS[driver](LOCAL, TEXT_WIRE, service, **(text_options or {})))
        stack.enter_context(host)
        yield House(host, server.address, log, wire, server, second, service)
