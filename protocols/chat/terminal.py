"""The terminal client: what is typed stays where it is while messages arrive above it.

prompt_toolkit draws, edits, recalls and completes; this file decides what is shown. Nothing that came from others is shown
before `safety` has cleaned it, and nothing of it is ever taken for markup.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import Iterable
from typing import Any, Final

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.patch_stdout import patch_stdout

from protocols.chat import client as person
from protocols.chat.conversation import Conversation
from protocols.chat.messages import Event
from protocols.chat.phrases import ORDERS, phrase, phrase_event, read_line
from protocols.chat.safety import clean_line, key

__all__ = ["colour_of", "run_terminal"]

_COLOURS: Final = (
    "ansired", "ansigreen", "ansiyellow", "ansiblue", "ansimagenta", "ansicyan",
    "ansibrightred", "ansibrightgreen", "ansibrightblue", "ansibrightmagenta", "ansibrightcyan",
)  # fmt: skip # a palette reads best in rows

SHOWN_PENDING: Final = 3
INTERRUPTED: Final = 130


def colour_of(name: str) -> str:
    """The colour of a name: the same on every screen, today and tomorrow."""
    return _COLOURS[int.from_bytes(hashlib.blake2s(key(name).encode("utf-8", "replace")).digest()[:4]) % len(_COLOURS)]


class _Names(Completer):
    """Orders at the beginning of a line, names of those who are here anywhere."""

    def __init__(self, screen: _Screen) -> None:
        self._screen = screen

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002 # a completer's shape
        before = document.text_before_cursor
        word = before.rpartition(" ")[2]
        if word == before and word.startswith("/"):
            yield from (Completion(order + " ", -len(word)) for order in ORDERS if order.startswith(word))
        elif word:
            for name in self._screen.names():
                if key(name).startswith(key(word)):
                    yield Completion(name + (": " if word == before else " "), -len(word), display=name)


class _Screen:
    def __init__(self, conversation: Conversation, room: str, url: str) -> None:
        self._conversation = conversation
        self._room: str | None = room
        self._url = url
        self._state = person.Changed("connecting")
        self._waiting: dict[int, str] = {}
        self._day: dt.date | None = None
        self._failed = False
        self._session: PromptSession[str] = PromptSession(
            message=self._prompt,
            bottom_toolbar=self._toolbar,
            completer=_Names(self),
            complete_while_typing=False,
            refresh_interval=0.5,  # for the countdown
        )

    async def run(self) -> int:
        status = 0
        with patch_stdout():
            async with self._conversation as chat:
                showing = asyncio.create_task(self._show_all())
                typing = asyncio.create_task(self._type())
                done, _ = await asyncio.wait({showing, typing}, return_when=asyncio.FIRST_COMPLETED)
                if typing in done:
                    status = typing.result()
                    chat.leave()
                    await asyncio.wait({showing}, timeout=5)
                else:
                    typing.cancel()
                await asyncio.gather(showing, typing, return_exceptions=True)
        return status or int(self._failed)

    def names(self) -> list[str]:
        """Whom one may want to name: those in this room, and those in private ones."""
        client = self._conversation.client
        found = {name for room in client.rooms for name in client.members(room)} - {client.name}
        return sorted(found)

    # -------------------------------------------------------------------- typing

    async def _type(self) -> int:
        while True:
            try:
                text = await self._session.prompt_async()
            except EOFError:
                return 0
            except KeyboardInterrupt:
                return INTERRUPTED
            order = read_line(text, self._room)
            if order.reply:
                self._print(("", order.reply))
            if order.room is not None:
                self._room = order.room or None
            for given in order.inputs:
                self._conversation.put(given)
            if order.leaves:
                return 0

    def _prompt(self) -> FormattedText:
        return FormattedText([("bold", f"{self._room or '-'}> ")])

    def _toolbar(self) -> FormattedText:
        client, state = self._conversation.client, self._state
        if state.state == "online":
            here = len(client.members(key(self._room))) if self._room else 0
            text = f" {clean_line(client.name)} at {self._url}" + (f", {here} in {self._room}" if self._room else "")
        elif state.state == "waiting" and state.retry_at is not None:
            left = max(0, round(state.retry_at - time.monotonic()))
            text = f" no connection ({clean_line(state.reason)}); next attempt in {left} s"
        else:
            text = f" connecting to {self._url} …"
        lines: list[tuple[str, str]] = [("", text)]
        waiting = list(self._waiting.values())
        lines += [("italic", f"\n … {clean_line(each)[:60]}") for each in waiting[:SHOWN_PENDING]]
        if len(waiting) > SHOWN_PENDING:
            lines.append(("italic", f"\n … and {len(waiting) - SHOWN_PENDING} more"))
        return FormattedText(lines)

    # ------------------------------------------------------------------- showing

    async def _show_all(self) -> None:
        async for output in self._conversation.outputs():
            self._show(output)
            self._session.app.invalidate()

    def _show(self, output: person.Output) -> None:
        if isinstance(output, person.Told):
            if isinstance(output.message, Event):
                self._show_event(output.message)
            elif text := phrase(output.message, self._conversation.client, self._room):
                self._print(("", text))
        elif isinstance(output, person.Posted):
            if output.state == "pending":
                self._waiting[output.number] = output.text
            else:
                self._waiting.pop(output.number, None)
            if output.state == "failed":
                self._print(("ansired", f"✗ not said: {clean_line(output.text)} ({clean_line(output.why)})"))
        elif isinstance(output, person.Trouble):
            self._print(("ansired", clean_line(output.error.text)))
        elif isinstance(output, person.Changed):
            if output.state == "ended" and output.reason != "left":
                self._failed = True
            self._state = output

    def _show_event(self, event: Event) -> None:
        moment = dt.datetime.fromtimestamp(event.time / 1000).astimezone()
        if moment.date() != self._day:
            self._day = moment.date()
            self._print(("ansibrightblack", f"--- {moment:%A, %d %B %Y} ---"))
        text = phrase_event(event, self._conversation.client, key(self._room) if self._room else None)
        sender = clean_line(event.sender)
        before, found, after = text.partition(sender)
        quiet = "" if event.kind in ("say", "act", "announce") else "ansibrightblack"
        self._print(
            ("ansibrightblack", f"{moment:%H:%M} "),
            (quiet, before),
            (f"bold {colour_of(event.sender)}" if found and not quiet else quiet, found),
            (quiet, after),
        )

    @staticmethod
    def _print(*parts: tuple[Any, str]) -> None:
        print_formatted_text(FormattedText(list(parts)))


async def run_terminal(conversation: Conversation, room: str, url: str) -> int:
    """Run ``conversation`` in the terminal; the exit status."""
    return await _Screen(conversation, room, url).run()
