"""A conversation: a client, run on asyncio. What a bot, the terminal and the plain client are made of.

    async with Conversation("tcp://127.0.0.1:9009", Client("bot", ("lobby",))) as chat:
        async for event in chat.events():
            if event.kind == "say" and event.text == "!time":
                chat.say(time.ctime(), room=event.room)

It connects by itself, comes back by itself, and ends when the server says so for good, or behind `leave`. What is said is sent
in its order; `outputs` tells all that the client tells, `events` only what happens in the rooms.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from framing import FramingError, MessagePack, Wire
from framing.drivers import aio
from framing.framers import LengthPrefixed
from protocols.chat import client as person
from protocols.chat.messages import Event, FromClient, to_map

if TYPE_CHECKING:
    import ssl

    from framing.drivers.address import AddressLike

__all__ = ["DEFAULT_WIRE", "Conversation"]

DEFAULT_WIRE: Final[Wire[Any]] = Wire(LengthPrefixed(4), MessagePack())

CONNECT_TIMEOUT: Final = 10.0
LEAVE_TIMEOUT: Final = 5.0


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
        self.client = client
        self._address = address
        self._wire = wire
        self._ssl_context = ssl_context
        self._inputs: asyncio.Queue[tuple[int, person.Input]] = asyncio.Queue()
        self._outputs: asyncio.Queue[person.Output | None] = asyncio.Queue()
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
            self.leave()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_TIMEOUT):
                    await self.wait()
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

    def put(self, given: person.Input) -> None:
        """Give the client an input."""
        self._inputs.put_nowait((self._attempt, given))

    async def wait(self) -> None:
        """Wait for the end."""
        assert self._task is not None
        await asyncio.wait([self._task])

    async def outputs(self) -> AsyncIterator[person.Output]:
        """All that the client tells, up to its end."""
        while (output := await self._outputs.get()) is not None:
            yield output

    async def events(self) -> AsyncIterator[Event]:
        """What happens in the rooms, up to the end."""
        async for output in self.outputs():
            if isinstance(output, person.Told) and isinstance(output.message, Event):
                yield output.message

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
            if self._links:  # the last words are on their way
                await asyncio.wait(self._links, timeout=LEAVE_TIMEOUT)
        finally:
            self._outputs.put_nowait(None)

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
                self._outputs.put_nowait(output)

    async def _link(self, attempt: int, sending: asyncio.Queue[FromClient | None]) -> None:
        """One connection, from its making to its end."""
        reason = "the server has closed the connection"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await aio.connect(self._address, self._wire, ssl_context=self._ssl_context)
            async with connection:
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
        except TimeoutError:
            reason = f"no connection in {CONNECT_TIMEOUT:g} s"
        except (FramingError, OSError) as error:
            reason = str(error)
        self._inputs.put_nowait((attempt, person.Lost(reason)))

    async def _receive(self, attempt: int, connection: aio.Connection[Any]) -> None:
        async for message in connection:
            self._inputs.put_nowait((attempt, person.Received(message)))

    async def _write(self, connection: aio.Connection[Any], sending: asyncio.Queue[FromClient | None]) -> None:
        while (message := await sending.get()) is not None:
            await connection.send(to_map(message))
        connection.close_sending()
