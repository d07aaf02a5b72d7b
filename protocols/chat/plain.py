"""The plain client: lines in, lines out. For pipes, for terminals that can do no more, and for scripts.

What is read from standard input is said, or is an order (`phrases`); its end ends the conversation, behind the last post.
What happens is written to standard output, a line each (further lines of one text are indented); what goes wrong to standard
error. No more is read than can be said: whoever writes into the pipe waits as the posts do.

The exit status tells how the conversation ended: 0 as it should, with everything said; 1 when something was not said, or not
done, or not written; 3 when the server would not have us, or has sent us away; 4 when there was no connection any more; 130
behind Ctrl-C, 143 behind SIGTERM, 141 when nobody reads the output any more. The others are told good-bye in each case.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final

from protocols.chat import client as person
from protocols.chat.conversation import GOODBYE, Conversation
from protocols.chat.messages import Close
from protocols.chat.phrases import HELP, Place, phrase, phrase_wait, read_line
from protocols.chat.safety import clean_line

__all__ = ["run_plain", "signals_to", "status_of"]

DONE: Final = 0
NOT_ALL: Final = 1
CLOSED: Final = 3
LOST: Final = 4

MOST_PENDING: Final = 20
"""Posts that may wait, before no more lines are read."""

MOST_LINES: Final = 100
LONGEST_LINE: Final = 1 << 16
"""Characters; what is longer is cut, and refused, for no post is as long."""

PATIENT: Final = 1.0
"""Seconds behind the input's end, until it says that it waits."""


def status_of(ended: person.Changed | None, *, failed: bool) -> int:
    """The exit status of a conversation that has ``ended`` so."""
    if ended is not None and ended.end == "closed":
        return CLOSED
    if ended is not None and ended.end == "lost":
        return LOST
    return NOT_ALL if failed else DONE


@contextlib.contextmanager
def signals_to(catch: Callable[[int], object]) -> Generator[None]:
    """While this lasts, ``catch`` is given the signals that end a program, but for Ctrl-C's."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGTERM, signal.SIGHUP] if hasattr(signal, "SIGHUP") else [signal.SIGTERM]
    with contextlib.ExitStack() as stack:
        for number in numbers:
            if signal.getsignal(number) == signal.SIG_IGN:  # by nohup
                continue
            with contextlib.suppress(NotImplementedError):  # on Windows, where the loop has no such thing
                loop.add_signal_handler(number, catch, number)
                stack.callback(loop.remove_signal_handler, number)
        yield


def lines_of(descriptor: int) -> Iterator[str]:
    """The lines that come over ``descriptor``, with what is no UTF-8 replaced; the last need not be ended."""
    # Not sys.stdin: a thread that waits inside it holds its lock, which the interpreter's end would wait for.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while chunk := os.read(descriptor, 1 << 16):
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from lines
        rest = rest[:LONGEST_LINE]
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


class _Plain:
    def __init__(self, conversation: Conversation, room: str) -> None:
        self._conversation = conversation
        self._place = Place(room)
        self._failed = False
        self._why = ""  # something was not done, as was told last
        self._unwritten: OSError | None = None  # what standard output does not take any more
        self._ended: person.Changed | None = None
        self._fewer = asyncio.Event()  # posts wait than before

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        room_left = threading.Semaphore(MOST_LINES)

        def give(line: str | None) -> None:
            room_left.acquire()
            loop.call_soon_threadsafe(lines.put_nowait, line)

        def read() -> None:
            # In a thread: standard input may be a file, a pipe or a terminal, and only a read works on all of them.
            try:
                for line in lines_of(sys.stdin.fileno()):
                    give(line)
                give(None)
            except RuntimeError:  # the loop has ended
                pass
            except OSError as error:
                loop.call_soon_threadsafe(self._fail, f"standard input: {error.strerror}")
                give(None)

        async with self._conversation as chat:
            threading.Thread(target=read, name="framing chat input", daemon=True).start()
            typing = asyncio.create_task(self._type(lines, room_left))
            try:
                async for output in chat.outputs():
                    self._show(output)
            except asyncio.CancelledError:
                # A signal. The others need not wait for the time of grace to see it.
                await chat.end(GOODBYE, at_once=True)
                async for output in chat.outputs():
                    self._show(output)
                raise
            finally:
                typing.cancel()
                await asyncio.gather(typing, return_exceptions=True)
        if self._unwritten is not None:
            raise self._unwritten
        return status_of(self._ended, failed=self._failed)

    async def _type(self, lines: asyncio.Queue[str | None], room_left: threading.Semaphore) -> None:
        chat = self._conversation
        while (line := await lines.get()) is not None:
            room_left.release()
            order = read_line(line, self._place.room)
            if order.reply == HELP:
                self._print(HELP)
            elif order.reply:
                self._fail(order.reply)
            self._place.follow(order)
            for given in order.inputs:
                chat.put(given)
            if order.leaves:
                break
            await asyncio.sleep(0)  # the client has counted what it was given
            while chat.client.pending >= MOST_PENDING:
                self._fewer.clear()
                await self._fewer.wait()
        else:
            chat.leave()
        await asyncio.sleep(PATIENT)
        if chat.client.pending:
            self._complain(f"{chat.client.pending} lines are still to be said, as fast as the server lets us")

    def _show(self, output: person.Output) -> None:
        client = self._conversation.client
        if isinstance(output, person.Told):
            self._why = ""
            if isinstance(output.message, Close) and output.message.reconnect is not None:
                return  # the change that follows has its reason
            if text := phrase(output.message, client, self._place.room):
                self._print(text)
        elif isinstance(output, person.Posted):
            self._fewer.set()
            if output.state == "failed":
                # Whatever ends it fails all that waits, and is told once.
                known = client.ended and output.why == self._why
                self._fail(f"not said: {output.text}" + ("" if known else f": {output.why}"), output.why)
        elif isinstance(output, person.Slowed):
            self._complain(phrase_wait(output, time.monotonic()))
        elif isinstance(output, person.Trouble):
            self._fail(output.error.text, output.error.text)
            self._place.take(output, client)
        elif isinstance(output, person.Changed):
            if output.state == "waiting":
                self._complain(f"no connection: {output.reason}; trying again")
            elif output.state == "online":
                self._print(f"You are {clean_line(output.name)}.")
            elif output.state == "ended":
                self._ended = output
                if output.end != "left" and output.reason != self._why:
                    self._complain(output.reason)

    def _fail(self, text: str, why: str = "") -> None:
        self._failed = True
        self._why = why
        self._complain(text)

    def _print(self, text: str) -> None:
        if self._unwritten is not None:
            return
        try:
            print(text, flush=True)  # noqa: T201 # that is what it is for
        except OSError as error:
            self._unwritten = error
            self._conversation.put(person.Leaving(at_once=True))

    def _complain(self, text: str) -> None:
        # Where the output has no reader any more, or no place, that is what is told, and it alone.
        if self._unwritten is None:
            with contextlib.suppress(OSError):  # there is nowhere left to say so
                print(f"framing-chat: {clean_line(text)}", file=sys.stderr, flush=True)  # noqa: T201 # as above


async def run_plain(conversation: Conversation, room: str) -> int:
    """Run ``conversation`` over standard input and output; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what this terminal has no letters for is no reason to end
    caught: list[int] = []
    main = asyncio.current_task()
    assert main is not None

    def catch(number: int) -> None:
        caught.append(number)
        main.cancel()

    with signals_to(catch):
        try:
            return await _Plain(conversation, room).run()
        except asyncio.CancelledError:
            if not caught:
                raise
            return 128 + caught[0]
