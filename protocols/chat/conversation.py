"""A conversation: a client, run on asyncio. What a bot, the terminal and the plain client are made of.

    async with Conversation("tcp://127.0.0.1:9009", Client("bot", ("lobby",))) as chat:
        async for event in chat.events(history=False):
            if event.kind == "say" and event.text == "!time":
                chat.say(time.ctime(), room=event.room)

It connects by itself, comes back by itself, and ends when the server says so for good, or behind `leave`. What is said is sent
in its order; `outputs` tells all that the client tells, `events` only what happens in the rooms.

A client with a password is carried by TLS or a unix socket only: over anything else it would be there for all to read, so
`Conversation` raises ValueError before it connects.

Memory is bounded: whoever takes the outputs more slowly than they come is a slow reader to the server too, which pages; a
server that asks and does not take the answers is not read from; of outputs that nobody has asked for yet, the last are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from framing import FramingError, Wire
from framing.drivers import aio
from framing.drivers.address import Address
from protocols.chat import client as person
from protocols.chat.messages import Event, FromClient, Members, to_map
from protocols.chat.safety import clean_line
from protocols.chat.wires import DEFAULT_WIRE

if TYPE_CHECKING:
    import ssl

    from framing.drivers.address import AddressLike

__all__ = ["DEFAULT_WIRE", "GOODBYE", "INSECURE", "LEAVE_TIMEOUT", "Conversation", "is_private"]

logger = logging.getLogger("protocols.chat")

CONNECT_TIMEOUT: Final = 10.0
LEAVE_TIMEOUT: Final = 5.0
GOODBYE: Final = 1.0
"""Seconds that the last words have, where the block is left by an exception, such as Ctrl-C's."""

MOST_OUTPUTS: Final = 1000
"""How many outputs may wait to be taken, or messages to be sent, before nothing more is read from the server."""

INSECURE: Final = "passwords are sent over TLS or a unix socket only"


def is_private(address: AddressLike, ssl_context: ssl.SSLContext | None) -> bool:
    """Whether nobody on the way can read what is said to ``address``."""
    return ssl_context is not None or Address.parse(address).scheme in ("tls", "unix")


class Conversation:
    """See the module's text. Use it in one task; it raises nothing of the network's: `person.Changed` tells of that."""

    def __init__(
        self,
        address: AddressLike,
        client: person.Client,
        *,
        wire: Wire[Any] = DEFAULT_WIRE,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if client.has_password and not is_private(address, ssl_context):
            raise ValueError(INSECURE)
        self.client = client
        self._address = address
        self._wire = wire
        self._ssl_context = ssl_context
        self._inputs: asyncio.Queue[tuple[int, person.Input]] = asyncio.Queue()
        self._outputs: deque[person.Output] = deque()
        self._told = asyncio.Event()  # there are outputs, or it is over
        self._room = asyncio.Event()  # there may be room for what more comes from the server
        self._listening = False
        self._over = False
        self._attempt = 0  # which connection is meant; what comes from an earlier one is not listened to
        self._sending: asyncio.Queue[FromClient | None] = asyncio.Queue()
        self._links: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.end()
        else:
            # The others need not wait for the time of grace; what went wrong here is told behind it.
            with contextlib.suppress(Exception):
                await self.end(GOODBYE, at_once=True)

    async def _cut(self) -> None:
        assert self._task is not None
        tasks = [self._task, *self._links]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------ the user

    def say(
        self, text: str, *, room: str | None = None, to: str | None = None, kind: Literal["say", "act"] = "say"
    ) -> None:
        """Say ``text`` in ``room``, or to one person; it is sent as soon as it can be."""
        self.put(person.Say(text, room=room, to=to, kind=kind))

    def join(self, room: str) -> None:
        """Enter ``room``."""
        self.put(person.Ask("join", room))

    def leave(self, reason: str = "") -> None:
        """End it, behind what was said."""
        self.put(person.Leaving(reason))

    async def end(self, timeout: float = LEAVE_TIMEOUT, *, at_once: bool = False) -> None:  # noqa: ASYNC109 # what it bounds is not an error
        """Leave, ``at_once`` or behind what was said; wait for it, ``timeout`` seconds at most, then cut the connection."""
        assert self._task is not None
        self.put(person.Leaving(at_once=at_once))
        try:
            await asyncio.wait([self._task], timeout=timeout)
        finally:
            await self._cut()
        if not self._task.cancelled():
            self._task.result()

    def put(self, given: person.Input) -> None:
        """Give the client an input."""
        self._inputs.put_nowait((self._attempt, given))

    async def wait(self) -> None:
        """Wait for the end."""
        assert self._task is not None
        await asyncio.wait([self._task])
        self._task.result()

    async def outputs(self) -> AsyncIterator[person.Output]:
        """All that the client tells, up to its end."""
        self._listening = True
        while True:
            while self._outputs:
                output = self._outputs.popleft()
                self._room.set()
                yield output
            if self._over:
                break
            self._told.clear()
            await self._told.wait()

    async def events(self, *, history: bool = True) -> AsyncIterator[Event]:
        """What happens in the rooms, up to the end; without ``history``, not what had happened before it joined.

        Where it is the server that ends it, or does not let us in, a warning is logged, for nothing here would tell.
        """
        heads: dict[str, int] = {}
        async for output in self.outputs():
            if isinstance(output, person.Changed) and output.end in ("closed", "lost"):
                logger.warning("the conversation with %s has ended: %s", self._address, clean_line(output.reason))
            told = output.message if isinstance(output, person.Told) else None
            if isinstance(told, Members):
                # The first one answers the join; an earlier head than that is of a log that was begun anew.
                heads[told.room] = min(told.at, heads.get(told.room, told.at))
            elif isinstance(told, Event) and (history or told.seq > heads.get(told.room, 0)):
                yield told

    # ------------------------------------------------------------------- running

    async def _run(self) -> None:
        client = self.client
        try:
            self._step(person.Wake())
            while not client.ended:
                wake = client.wake_at
                wait = None if wake is None else max(0.0, wake - time.monotonic())
                try:
                    async with asyncio.timeout(wait):
                        attempt, given = await self._inputs.get()
                except TimeoutError:
                    attempt, given = self._attempt, person.Wake()
                of_link = isinstance(given, (person.Connected, person.Received, person.Lost))
                if not of_link or attempt == self._attempt:
                    self._step(given)
                self._room.set()
            while not self._inputs.empty():  # for each that is said is told what became of it
                _, given = self._inputs.get_nowait()
                self._step(given)
            if self._links:  # the last words are on their way
                await asyncio.wait(self._links, timeout=LEAVE_TIMEOUT)
        finally:
            self._over = True
            self._told.set()

    def _step(self, given: person.Input) -> None:
        for output in self.client.handle(given, time.monotonic()):
            if isinstance(output, person.Connect):
                self._attempt += 1
                self._sending = asyncio.Queue()
                link = asyncio.create_task(self._link(self._attempt, self._sending))
                self._links.add(link)
                link.add_done_callback(self._links.discard)
            elif isinstance(output, person.Transmit):
                self._sending.put_nowait(output.message)
            elif isinstance(output, person.Disconnect):
                self._attempt += 1
                self._sending.put_nowait(None)
            else:
                self._outputs.append(output)
                if not self._listening and len(self._outputs) > MOST_OUTPUTS:
                    self._outputs.popleft()
                self._told.set()

    async def _link(self, attempt: int, sending: asyncio.Queue[FromClient | None]) -> None:
        """One connection, from its making to its end."""
        reason = "the server has closed the connection"
        try:
            connecting = aio.connect(self._address, self._wire, timeout=CONNECT_TIMEOUT, ssl_context=self._ssl_context)
            async with connecting as connection:
                self._inputs.put_nowait((attempt, person.Connected()))
                receiving = asyncio.create_task(self._receive(attempt, connection))
                writing = asyncio.create_task(self._write(connection, sending))
                try:
                    done, _ = await asyncio.wait({receiving, writing}, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    receiving.cancel()
                    writing.cancel()
                    await asyncio.gather(receiving, writing, return_exceptions=True)
        except (FramingError, OSError) as error:
            reason = str(error)
        self._inputs.put_nowait((attempt, person.Lost(reason)))

    async def _receive(self, attempt: int, connection: aio.Connection[Any]) -> None:
        async for message in connection:
            self._inputs.put_nowait((attempt, person.Received(message)))
            while self._is_full and attempt == self._attempt:
                self._room.clear()
                await self._room.wait()

    @property
    def _is_full(self) -> bool:
        """Whether more of it waits to be looked at, to be taken or to be sent than should."""
        untaken = len(self._outputs) if self._listening else 0
        return max(untaken, self._inputs.qsize(), self._sending.qsize()) > MOST_OUTPUTS

    async def _write(self, connection: aio.Connection[Any], sending: asyncio.Queue[FromClient | None]) -> None:
        while (message := await sending.get()) is not None:
            await connection.send(to_map(message))
            self._room.set()
