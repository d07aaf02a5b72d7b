"""The plain client: lines in, lines out. For pipes, for terminals that can do no more, and for scripts.

What is read from standard input is said, or is an order (`phrases`); its end ends the conversation, behind the last post.
What happens is written to standard output, a line each; what goes wrong to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

from protocols.chat import client as person
from protocols.chat.conversation import Conversation
from protocols.chat.phrases import phrase, read_line
from protocols.chat.safety import clean_line

__all__ = ["run_plain"]


class _Plain:
    def __init__(self, conversation: Conversation, room: str) -> None:
        self._conversation = conversation
        self._room: str | None = room
        self._failed = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[str | None] = asyncio.Queue()

        def read() -> None:
            # In a thread: standard input may be a file, a pipe or a terminal, and only a read works on all of them.
            with contextlib.suppress(RuntimeError, ValueError):  # the loop has ended
                for line in sys.stdin:
                    loop.call_soon_threadsafe(lines.put_nowait, line)
                loop.call_soon_threadsafe(lines.put_nowait, None)

        async with self._conversation as chat:
            threading.Thread(target=read, name="framing chat input", daemon=True).start()
            typing = asyncio.create_task(self._type(lines))
            async for output in chat.outputs():
                self._show(output)
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)
        return 1 if self._failed else 0

    async def _type(self, lines: asyncio.Queue[str | None]) -> None:
        while (line := await lines.get()) is not None:
            order = read_line(line.rstrip("\n"), self._room)
            if order.reply:
                self._print(order.reply)
            if order.room is not None:
                self._room = order.room or None
            for given in order.inputs:
                self._conversation.put(given)
        self._conversation.leave()

    def _show(self, output: person.Output) -> None:
        if isinstance(output, person.Told):
            if text := phrase(output.message, self._conversation.client, self._room):
                self._print(text)
        elif isinstance(output, person.Posted):
            if output.state == "failed":
                self._failed = True
                self._complain(f"not said: {output.text}: {output.why}")
        elif isinstance(output, person.Trouble):
            self._failed = True
            self._complain(output.error.text)
        elif isinstance(output, person.Changed):
            if output.state == "waiting":
                self._complain(f"no connection: {output.reason}; trying again")
            elif output.state == "online" and output.name:
                self._print(f"You are {clean_line(output.name)}.")
            elif output.state == "ended" and output.reason != "left":
                self._failed = True
                self._complain(output.reason)

    def _print(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201 # that is what it is for

    def _complain(self, text: str) -> None:
        print(f"framing-chat: {clean_line(text)}", file=sys.stderr, flush=True)  # noqa: T201 # as above


async def run_plain(conversation: Conversation, room: str) -> int:
    """Run ``conversation`` over standard input and output; the exit status."""
    return await _Plain(conversation, room).run()
