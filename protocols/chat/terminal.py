"""The terminal client: what is typed stays where it is while messages arrive above it.

prompt_toolkit draws, edits, recalls and completes; this file decides what is shown. Nothing that came from others is shown
before `safety` has cleaned it, and nothing of it is ever taken for markup. However it ends (an order, Ctrl-C, a signal, the
server), the terminal is left as it was found.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import signal
import sys
import time
from collections.abc import Generator, Iterable
from typing import Final

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.input import Input
from prompt_toolkit.patch_stdout import patch_stdout

from protocols.chat import client as person
from protocols.chat.conversation import GOODBYE, LEAVE_TIMEOUT, Conversation
from protocols.chat.messages import Close, Event
from protocols.chat.phrases import (
    ORDERS,
    Place,
    event_parts,
    is_repeated,
    moment_of,
    phrase,
    phrase_wait,
    read_line,
)
from protocols.chat.plain import signals_to, status_of
from protocols.chat.safety import clean_line, key

__all__ = ["colour_of", "run_terminal"]

_COLOURS: Final = (
    "ansired", "ansigreen", "ansiyellow", "ansiblue", "ansimagenta", "ansicyan",
    "ansibrightred", "ansibrightgreen", "ansibrightblue", "ansibrightmagenta", "ansibrightcyan",
)  # fmt: skip # a palette reads best in rows

_QUIET: Final = "ansibrightblack"
_BAD: Final = "ansired"

SHOWN_PENDING: Final = 3
INTERRUPTED: Final = 128 + signal.SIGINT


def colour_of(name: str) -> str:
    """The colour of a name: the same on every screen, today and tomorrow."""
    return _COLOURS[int.from_bytes(hashlib.blake2s(key(name).encode("utf-8", "replace")).digest()[:4]) % len(_COLOURS)]


@contextlib.contextmanager
def _terminal() -> Generator[Input]:
    """The terminal, as it has to be from the beginning to the end.

    The library gives it back for as long as it prints something above the line that is typed, and between two lines: keys
    that were pressed just then would be echoed where they do not belong, and what was pasted would be many lines.
    """
    if sys.platform == "win32":
        with create_app_session() as session:
            yield session.input
        return
    from prompt_toolkit.input.vt100 import Vt100Input  # noqa: PLC0415 # not on Windows
    from prompt_toolkit.output.vt100 import Vt100_Output  # noqa: PLC0415 # as above

    class Quiet(Vt100Input):
        def cooked_mode(self) -> contextlib.nullcontext[None]:
            return contextlib.nullcontext()

    class Steady(Vt100_Output):
        def disable_bracketed_paste(self) -> None:
            pass

    output = Steady.from_pty(sys.stdout)
    with create_app_session(Quiet(sys.stdin), output) as session:
        try:
            yield session.input
        finally:
            Vt100_Output.disable_bracketed_paste(output)
            output.flush()


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
    def __init__(self, keyboard: Input, conversation: Conversation, room: str, url: str) -> None:
        self._keyboard = keyboard
        self._conversation = conversation
        self._place = Place(room)
        self._url = url
        self._state = person.Changed("connecting")
        self._waiting: dict[int, str] = {}
        self._day: dt.date | None = None
        self._failed = False
        self._lost = False  # the connection, and that was told
        self._caught: int | None = None
        self._parts: list[tuple[str, str]] = []  # what is shown next
        self._session: PromptSession[str] = PromptSession(
            message=self._prompt,
            bottom_toolbar=self._toolbar,
            completer=_Names(self),
            complete_while_typing=False,
            refresh_interval=0.5,  # for the countdown
        )
        # What was said is shown when the server has it: at its place among what the others say, and once.
        self._session.app.erase_when_done = True

    async def run(self) -> int:
        with patch_stdout(), signals_to(self._catch):
            async with self._conversation as chat:
                showing = asyncio.create_task(self._show_all())
                typing = asyncio.create_task(self._type())
                try:
                    await asyncio.wait({showing, typing}, return_when=asyncio.FIRST_COMPLETED)
                    if typing.done():
                        hurried = typing.result() is not None
                        if self._waiting and not hurried:
                            self._print((_QUIET, f"{len(self._waiting)} still to be said; Ctrl-C does not wait"))
                        await chat.end(GOODBYE if hurried else LEAVE_TIMEOUT, at_once=hurried)
                    else:
                        self._stop_typing()
                    await asyncio.gather(showing, typing)
                finally:
                    showing.cancel()
                    typing.cancel()
                    await asyncio.gather(showing, typing, return_exceptions=True)
                    for text in self._waiting.values():
                        self._tell_failed(text, "there was no connection")
                    self._flush()
        status = typing.result()
        return status if status is not None else status_of(self._state, failed=self._failed)

    def _catch(self, number: int) -> None:
        self._caught = number
        self._stop_typing()

    def _stop_typing(self) -> None:
        # Not by cancelling it: the application puts the terminal back as it was.
        if self._session.app.is_running and not self._session.app.is_done:
            self._session.app.exit(exception=EOFError)

    def names(self) -> list[str]:
        """Whom one may want to name: those in this room, and those in private ones."""
        client = self._conversation.client
        found = {name for room in client.rooms for name in client.members(room)} - {client.name}
        return sorted(name for name in found if name and name == clean_line(name))

    # -------------------------------------------------------------------- typing

    async def _type(self) -> int | None:
        """Take lines, up to the end; the exit status, where it was another end than one by an order."""
        # Between two lines, too, the terminal is ours: what is typed then is read with the next one.
        with self._keyboard.raw_mode():
            while self._caught is None and not self._conversation.client.ended:
                try:
                    text = await self._session.prompt_async()
                except EOFError:
                    break
                except KeyboardInterrupt:
                    return INTERRUPTED
                if self._take(text):
                    break
        return None if self._caught is None else 128 + self._caught

    def _take(self, text: str) -> bool:
        """Do what ``text`` asks for; whether it asks for the end."""
        order = read_line(text, self._place.room)
        if order.reply:
            self._print(("", order.reply))
        self._place.follow(order)
        for given in order.inputs:
            self._conversation.put(given)
        return order.leaves

    def _prompt(self) -> FormattedText:
        return FormattedText([("bold", f"{clean_line(self._place.room or '-')}> ")])

    def _toolbar(self) -> FormattedText:
        client, state, room = self._conversation.client, self._state, self._place.room
        if state.state == "online":
            here = len(client.members(key(room))) if room else 0
            text = f" {clean_line(client.name)} at {self._url}"
            if room:
                text += f", {here} in {clean_line(room)}"
        elif state.state == "waiting" and state.retry_at is not None:
            left = max(0, round(state.retry_at - time.monotonic()))
            text = f" no connection; next attempt in {left} s"
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
            elif isinstance(output.message, Close) and output.message.reconnect is not None:
                pass  # the change that follows has its reason, and is told of once
            elif text := phrase(output.message, self._conversation.client, self._place.room):
                self._print(("", text))
        elif isinstance(output, person.Posted):
            if output.state == "pending":
                self._waiting[output.number] = output.text
            else:
                self._waiting.pop(output.number, None)
            if output.state == "failed":
                self._tell_failed(output.text, output.why)
        elif isinstance(output, person.Slowed):
            self._print((_QUIET, phrase_wait(output, time.monotonic())))
        elif isinstance(output, person.Trouble):
            self._print((_BAD, clean_line(output.error.text)))
            self._place.take(output, self._conversation.client)
        elif isinstance(output, person.Changed):
            self._show_change(output)

    def _show_change(self, change: person.Changed) -> None:
        if change.state == "online" and change.name:
            back = "The connection is back. " if self._lost else ""
            self._print((_QUIET, f"{back}You are {clean_line(change.name)}."))
            self._lost = False
        elif change.state == "waiting" and not self._lost:
            # Once: each further attempt is seen in the last line, where its time is counted down.
            self._print((_QUIET, f"No connection: {clean_line(change.reason)}"))
            self._lost = True
        self._state = change

    def _tell_failed(self, text: str, why: str) -> None:
        self._failed = True
        self._print((_BAD, f"✗ not said: {clean_line(text)} ({clean_line(why)})"))

    def _show_event(self, event: Event) -> None:
        if is_repeated(event, self._conversation.client):
            return
        moment = moment_of(event)
        if moment.date() != self._day:
            self._day = moment.date()
            self._print((_QUIET, f"--- {moment:%A, %d %B %Y} ---"))
        before, name, after = event_parts(event, self._conversation.client, self._place.room)
        quiet = "" if event.kind in ("say", "act", "announce") else _QUIET
        coloured = f"bold {colour_of(name)}" if name and not quiet else quiet
        self._print((_QUIET, f"{moment:%H:%M} "), (quiet, before), (coloured, name), (quiet, after))

    def _print(self, *parts: tuple[str, str]) -> None:
        # All that comes in one go is drawn in one go: the line that is being typed is drawn anew behind each.
        if not self._parts:
            asyncio.get_running_loop().call_soon(self._flush)
        self._parts += [*parts, ("", "\n")]

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            print_formatted_text(FormattedText(parts), end="")


async def run_terminal(conversation: Conversation, room: str, url: str) -> int:
    """Run ``conversation`` in the terminal; the exit status."""
    with _terminal() as keyboard:
        return await _Screen(keyboard, conversation, room, url).run()
