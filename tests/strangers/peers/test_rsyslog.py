r"""rsyslog met through `presets.syslog` (octets counted) and `presets.syslog_lines`, which its one port takes both.

It is met in both directions: what our client sends it writes into a file, and what it forwards our servers receive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from framing import EncodeError, FrameTooLarge, OctetCounted

from .programs import Recorder, connected, directory, found, our_recorder, served, wait_until

CONFIG = """
global(workDirectory="{place}" maxMessageSize="64k")
module(load="imtcp")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="written" type="string" string="%app-name%: %msg%\\n")
template(name="sent" type="string" string="<%pri%>1 %timestamp:::date-rfc3339% - %app-name% - - - %msg%")
action(type="omfile" file="{place}/messages" template="written")
action(type="omfwd" target="127.0.0.1" port="{octets}" protocol="tcp" tcp_framing="octet-counted" template="sent")
action(type="omfwd" target="127.0.0.1" port="{lines}" protocol="tcp" tcp_framing="traditional" template="sent")
"""


@dataclass
class Rsyslog:
    port: int
    file: Path
    by_octets: Recorder
    by_lines: Recorder

    def written(self, program: str, count: int) -> list[str]:
        """The messages of ``program`` that are in the file, as soon as there are ``count`` of them."""

        def texts() -> list[str]:
            # Whole lines alone: it may be caught in the midst of a write, and that in the midst of a character.
            whole = self.file.read_bytes().rpartition(b"\n")[0] if self.file.exists() else b""
            lines = whole.decode().split("\n")
            return [line.removeprefix(f"{program}: ") for line in lines if line.startswith(f"{program}: ")]

        wait_until(lambda: len(texts()) >= count, f"{count} messages of {program} are written")
        return texts()


@pytest.fixture(scope="module")
def rsyslog() -> Iterator[Rsyslog]:
    program = found("rsyslogd", "rsyslog")
    with (
        our_recorder("syslog(max_frame=64K)", "selector") as (octets, by_octets),
        our_recorder("syslog_lines(max_frame=64K)", "asyncio") as (lines, by_lines),
        directory() as place,
    ):
        config = place / "conf"

        def command(port: int) -> list[str]:
            config.write_text(CONFIG.format(place=place, port=port, octets=octets, lines=lines))
            return [program, "-n", "-f", str(config), "-i", str(place / "pid")]

        with served(command, place / "log") as port:
            yield Rsyslog(port, place / "messages", by_octets, by_lines)


def entry(program: str, text: str) -> bytes:
    return f"<13>1 2025-01-01T00:00:00Z - {program} - - - {text}".encode()


@pytest.mark.parametrize("wire", ["syslog", "syslog_lines"])
def test_every_message_is_written_in_order(rsyslog, wire):
    texts = [f"{number} {'☃' * (number % 100)}" for number in range(2000)]
    with connected(rsyslog.port, wire) as connection:
        connection.send_many(entry(wire, text) for text in texts)
        connection.close_sending()
    assert rsyslog.written(wire, 2000) == texts


def test_newline_inside_a_message_is_carried_by_octets_and_refused_by_lines(rsyslog):
    with connected(rsyslog.port, "syslog") as connection:
        connection.send_many([entry("newline", "one\n<13>two"), entry("newline", "three")])
    assert rsyslog.written("newline", 2) == ["one#012<13>two", "three"]  # as rsyslog writes a control character
    with connected(rsyslog.port, "syslog_lines") as connection, pytest.raises(EncodeError):
        connection.send(entry("newline", "one\n<13>two"))


@pytest.mark.parametrize("recorder", ["by_octets", "by_lines"])
def test_what_rsyslog_forwards_our_server_receives_in_order(rsyslog, recorder):
    texts = [f"{number} {'☃' * (number % 100)}" for number in range(1000)]
    with connected(rsyslog.port, "syslog") as connection:
        connection.send_many(entry(f"to-{recorder}", text) for text in texts)
    marked = f" - to-{recorder} - - - ".encode()

    def received() -> list[str]:
        got = getattr(rsyslog, recorder).got
        return [message.partition(marked)[2].decode() for message in got if marked in message]

    wait_until(lambda: len(received()) >= 1000, "all messages are forwarded")
    assert received() == texts
    assert getattr(rsyslog, recorder).ends == []


def test_message_above_the_limit_loses_its_end_there_without_a_word_and_is_refused_here(rsyslog):
    text = "x" * 100_000
    with pytest.raises(EncodeError):
        OctetCounted(max_frame=1 << 16).encode(entry("large", text))
    with connected(rsyslog.port, "octets") as connection:
        connection.send(entry("large", text))
        connection.send(entry("large", "next"))
    got = rsyslog.written("large", 2)
    assert got[1] == "next"
    assert len(got[0]) < 1 << 16
    assert text.startswith(got[0])
    with pytest.raises(FrameTooLarge):
        OctetCounted(max_frame=1 << 16).decoder().feed(b"100000 ")
