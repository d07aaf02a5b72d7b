"""The programs of the docs, run as they are written: the hub in ten lines, the bot in fifteen, the tutorial's commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from framing.drivers import blocking
from protocols.chat import client as person
from protocols.chat.client import Client
from protocols.chat.conversation import Conversation
from protocols.chat.messages import Event
from protocols.chat.wires import DEFAULT_WIRE
from tests.protocols.echo.processes import started

ROOT = Path(__file__).parents[3]
EMBED = ROOT / "docs" / "how-to" / "embed-the-chat.md"
TUTORIAL = ROOT / "docs" / "tutorial" / "chat.md"
PORT = "127.0.0.1:9009"


def programs(page: Path) -> list[str]:
    """The programs of a page, which the tests of the examples leave to this one."""
    return re.findall(r"^```py\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def lines(program: str) -> int:
    return sum(bool(line.strip()) for line in program.splitlines())


def free() -> int:
    """A port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(program: str, port: int, place: Path) -> contextlib.AbstractContextManager[Any]:
    """``program`` as a process, at another port than the page's, which may be in use."""
    changed = program.replace("9009", str(port))
    assert changed != program
    path = place / f"program{len(list(place.iterdir()))}.py"
    path.write_text(changed, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return started(sys.executable, str(path), cwd=place, env=environment, stdin=subprocess.DEVNULL)


async def conversation(address: str, *says: tuple[str, str | None]) -> list[tuple[str, str]]:
    """What others answer to ``says``, each behind the answer to the one before it."""
    answers: list[tuple[str, str]] = []
    async with asyncio.timeout(30), Conversation(address, Client("ann", ("lobby",))) as chat:
        waiting = list(says)
        async for output in chat.outputs():
            told = output.message if isinstance(output, person.Told) else None
            if isinstance(told, Event) and told.sender == "clock" and told.kind == "say":
                answers.append(("private" if told.room.startswith("@") else told.room, told.text))
                if not waiting:
                    return answers
            elif "clock" not in chat.client.members("lobby") or not waiting or len(answers) + len(waiting) < len(says):
                continue
            if waiting:
                text, to = waiting.pop(0)
                chat.say(text, room=None if to else "lobby", to=to)
    return answers


def test_the_hub_is_ten_lines_and_the_bot_fifteen_and_they_work(tmp_path: Path) -> None:
    hub, bot = programs(EMBED)
    assert lines(hub) <= 10
    assert lines(bot) <= 15
    assert programs(TUTORIAL) == [bot]
    port = free()
    with run(hub, port, tmp_path):
        wait_for(port)
        # What was said before it came is not the bot's business.
        with blocking.connect(("127.0.0.1", port), DEFAULT_WIRE, timeout=30) as before:
            before.send({"type": "hello", "version": 1, "name": "early"})
            session = next(told["session"] for told in before if told["type"] == "welcome")
            before.send({"type": "join", "id": [session, 1], "room": "lobby"})
            before.send({"type": "post", "id": [session, 2], "room": "lobby", "text": "!time"})
            assert next(told for told in before if told["type"] == "ok" and told["id"] == [session, 2])
            with run(bot, port, tmp_path):
                answers = asyncio.run(conversation(f"tcp://127.0.0.1:{port}", ("!time", None), ("!time", "clock")))
            before.send({"type": "history", "id": [session, 3], "room": "lobby"})
            page = next(told for told in before if told["type"] == "page")
    assert [room for room, _ in answers] == ["lobby", "private"]
    assert all(re.fullmatch(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", text) for _, text in answers)
    assert sum(event["sender"] == "clock" and event["kind"] == "say" for event in page["events"]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="its signals are others")
def test_ctrl_c_ends_the_hub_of_ten_lines_without_a_traceback(tmp_path: Path) -> None:
    port = free()
    with run(programs(EMBED)[0], port, tmp_path) as process:
        wait_for(port)
        with blocking.connect(("127.0.0.1", port), DEFAULT_WIRE, timeout=30) as guest:
            guest.send({"type": "hello", "version": 1, "name": "ann"})
            assert guest.receive()["type"] == "welcome"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        assert process.stderr.read() == ""


def wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as attempt:
            attempt.settimeout(1)
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nobody listens")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
def test_the_tutorials_three_commands_make_a_chat_of_two(tmp_path: Path) -> None:
    from tests.protocols.chat.screens import ENTER, Screen

    commands = re.findall(r"^\$ framing-chat (.*)$", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE)[:3]
    assert [command.split()[0] for command in commands] == ["serve", "join", "join"]
    port = f"127.0.0.1:{free()}"
    chat = [sys.executable, "-m", "protocols.chat"]
    serve, *joins = [shlex.split(command.replace(PORT, port)) for command in commands]
    serve += ["--listen", f"tcp://{port}", "--db", str(tmp_path / "chat.db")]  # its defaults may be in use
    with Screen(*chat, *serve) as server:
        server.wait(f"chat at tcp://{port}, wire u32+msgpack")
        with Screen(*chat, *joins[0]) as ann, Screen(*chat, *joins[1]) as ben:
            for screen in (ann, ben):
                screen.wait("2 in lobby")
            ann.type("good morning" + ENTER)
            ben.wait("ann: good morning")
            server.type("\x03")
            assert server.end() == 130
            ann.wait("no connection; next attempt in")
            ann.type("nobody has it yet" + ENTER)
            ann.wait("… nobody has it yet")
            with Screen(*chat, *serve) as again:
                again.wait("chat at")
                ben.wait("ann: nobody has it yet")
                ben.wait("ann: good morning")
