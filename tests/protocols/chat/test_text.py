"""The text port: ``nc`` and telnet for real, and a bare socket for what these two do not send."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from framing.drivers.address import Address
from protocols.chat import text as module
from protocols.chat.hub import Options
from protocols.chat.messages import Error, from_server
from tests.protocols.chat.house import DRIVERS, SECONDS, House, house, until
from tests.protocols.chat.puppets import welcome
from tests.strangers.peers.programs import found


class Screen:
    """What somebody types, and what has come to be seen."""

    def __init__(self, read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
        self._read = read
        self._write = write
        self._changed = threading.Condition()
        self.shown = b""
        self.over = False
        self._at = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            try:
                chunk = self._read()
            except (OSError, ValueError):
                chunk = b""
            with self._changed:
                self.shown += chunk
                self.over = not chunk
                self._changed.notify_all()
            if not chunk:
                return

    def types(self, *lines: str, end: str = "\n") -> None:
        for line in lines:
            self._write((line + end).encode())

    def sends(self, data: bytes) -> None:
        self._write(data)

    def sees(self, text: str) -> str:
        """Wait until ``text`` is shown, behind what was looked for before; what was shown up to it."""
        wanted = text.encode()
        with self._changed:
            seen = self._changed.wait_for(lambda: wanted in self.shown[self._at :] or self.over, SECONDS)
            assert wanted in self.shown[self._at :], (seen, self.shown[self._at :])
            end = self.shown.index(wanted, self._at) + len(wanted)
            before, self._at = self.shown[self._at : end], end
        return before.decode()

    def ends(self) -> str:
        """Wait for the end; all that was shown."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.over, SECONDS), "it does not end"
        return self.shown.decode("utf-8", "replace")

    def enters(self, name: str) -> None:
        self.sees("What is your name?")
        self.types(name)
        self.sees(f"You are {name}.")
        self.sees(f"* {name} joined")


@contextlib.contextmanager
def program(*command: str) -> Iterator[Screen]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        keyboard, output = process.stdin, process.stdout

        def write(data: bytes) -> None:
            keyboard.write(data)
            keyboard.flush()

        screen = Screen(lambda: output.read1(1 << 16), write)  # type: ignore[attr-defined] # a pipe's reader is buffered
        screen.close_typing = keyboard.close  # type: ignore[attr-defined] # of programs alone
        try:
            yield screen
        finally:
            process.kill()
            process.wait()
            screen._thread.join(SECONDS)


def nc(chat: House, *options: str) -> contextlib.AbstractContextManager[Screen]:
    return program(found("nc.openbsd", "netcat-openbsd"), *options, chat.text.host, str(chat.text.port))


def gone(chat: House, left: int) -> None:
    """Wait until the server has closed all but ``left`` connections: ``nc`` itself stays until a line is typed."""
    until(lambda: chat.text_server.connections == left, f"{left} connections are left")


def telnet(chat: House) -> contextlib.AbstractContextManager[Screen]:
    return program(found("telnet", "inetutils-telnet"), chat.text.host, str(chat.text.port))


@contextlib.contextmanager
def bare(chat: House) -> Iterator[Screen]:
    with socket.create_connection((chat.text.host, chat.text.port)) as sock:
        screen = Screen(lambda: sock.recv(1 << 16), sock.sendall)
        yield screen
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        screen._thread.join(SECONDS)


@pytest.fixture(params=DRIVERS)
def chat(request: pytest.FixtureRequest) -> Iterator[House]:
    with house(request.param, text=True) as made:
        yield made


@pytest.fixture
def quiet() -> Iterator[House]:
    with house(text=True) as made:
        yield made


# ------------------------------------------------------------- the tutorial's chat


def test_everything_that_the_classic_chat_does_with_nc_alone(chat: House) -> None:
    with nc(chat) as ann, nc(chat) as ben, nc(chat) as cat:
        ann.enters("ann")
        ben.enters("ben")
        ann.sees("* ben joined\r\n")
        cat.enters("cat")
        for each in (ann, ben):
            each.sees("* cat joined\r\n")
        ann.types("hello, all")
        for each in (ben, cat):
            each.sees("ann: hello, all\r\n")
        cat.types("SECRECT ann between us")
        ann.sees("[cat to you] between us\r\n")
        chat.host.announce("tea is ready")
        for each in (ann, ben, cat):
            each.sees("*** tea is ready\r\n")
        ben.types("QUIT")
        gone(chat, 2)
        ann.sees("* ben left")
        cat.sees("* ben left")
        assert "hello, all" not in ann.shown.decode(), "one's own line comes back"
        assert "between us" not in ben.shown.decode()


def test_the_orders_work_too(chat: House) -> None:
    with nc(chat) as ann, nc(chat) as ben:
        ann.enters("ann")
        ben.enters("ben")
        ann.types("/names")
        ann.sees("In lobby: ann, ben\r\n")
        ann.types("/me waves")
        ben.sees("* ann waves\r\n")
        ben.types("/msg ann psst \x1b[31mred")
        ann.sees("[ben to you] psst red\r\n")
        ben.sees("[you to ann] psst red\r\n")
        ben.types("/join attic")
        ben.sees("In attic: ben\r\n")
        ben.types("alone up here")
        ben.types("/rooms")
        ben.sees("attic: 1\r\nlobby: 2\r\n")
        ann.types("/join attic")
        ann.sees("ben: alone up here")
        ann.types("/nick Annette")
        ben.sees("* ann is now called Annette")
        ann.types("/frob", "/help", "//slash")
        ann.sees("There is no /frob")
        ann.sees("/msg name text")
        ben.sees("Annette: /slash\r\n")
        ann.types("/history 3")
        ann.sees("--- earlier\r\n")
        assert "Annette: /slash" in ann.sees("\r\n---\r\n")
        ann.types("/quit so long")
        gone(chat, 1)
        ben.sees("* Annette left (so long)")


def test_whoever_is_not_let_into_a_room_stays_where_they_were(quiet: House) -> None:
    with bare(quiet) as ann, bare(quiet) as ben:
        ann.enters("ann")
        ben.enters("ben")
        ann.types("/join bad room!", "/join worse room!")
        ann.sees("(a name has")
        ann.sees("(a name has")
        ann.types("still here")
        ben.sees("ann: still here\r\n")
        ann.types("/join attic", "up here")
        ben.types("/join attic")
        ben.sees("ann: up here\r\n")


def test_a_name_that_is_taken_or_none_is_asked_for_again(quiet: House) -> None:
    with nc(quiet) as ann, nc(quiet) as other:
        ann.enters("ann")
        other.sees("What is your name?")
        other.types("Ann")
        other.sees("this name is taken; Ann2 is free")
        other.sees("What is your name?")
        other.types("not a name")
        other.sees("a name has letters")
        other.sees("What is your name?")
        other.types("server")
        other.sees("reserved")
        other.enters("Ann2")
        ann.sees("* Ann2 joined")


def test_who_gives_no_name_is_given_one_and_may_go_at_once(quiet: House) -> None:
    with nc(quiet) as guest, nc(quiet) as other:
        guest.sees("name?")
        guest.types("")
        guest.sees("You are guest1.")
        other.sees("name?")
        other.types("QUIT")
        gone(quiet, 1)


def test_the_end_of_what_is_typed_is_the_end_of_the_connection(quiet: House) -> None:
    with nc(quiet) as ann, nc(quiet, "-N") as ben:
        ann.enters("ann")
        ben.enters("ben")
        ben.sends(b"last words, and no end of the line")
        ben.close_typing()  # type: ignore[attr-defined] # of programs alone
        ann.sees("ben: last words, and no end of the line\r\n")
        ben.ends()


def test_people_with_nc_and_those_with_a_real_client_talk_to_each_other(chat: House) -> None:
    with nc(chat, "-C") as ann, chat.guest() as ben:
        ann.enters("ann")
        ben.enter("ben")
        ann.sees("* ben joined")
        ann.types("CRLF ends this", end="\n")  # -C makes it so
        assert ben.hears("CRLF ends this")
        ben.say("two\nlines\x1b]52;c;eA==\x07")
        ann.sees("ben: two\r\n    lines\r\n")
        ben.say("psst", to="ann")
        ann.sees("[ben to you] psst")


# ------------------------------------------------------------------------- telnet


def test_telnet_joins_talks_and_leaves(chat: House) -> None:
    with telnet(chat) as ann, nc(chat) as ben:
        ann.sees("Escape character")
        ann.enters("ann")
        ben.enters("ben")
        ann.sees("* ben joined")
        ann.types("from telnet", "/msg ben psst")
        ben.sees("ann: from telnet\r\n")
        ben.sees("[ann to you] psst")
        ben.types("back")
        ann.sees("ben: back")
        ann.types("QUIT")
        assert "closed by foreign host" in ann.ends()
        ben.sees("* ann left")


SE, NOP, IP, AYT, SB, WILL, WONT, DO, DONT, IAC = (
    bytes((code,)) for code in (240, 241, 244, 246, 250, 251, 252, 253, 254, 255)
)


def test_negotiation_is_declined_and_taken_out_of_what_is_said(quiet: House) -> None:
    with bare(quiet) as ann, nc(quiet) as ben:
        ben.enters("ben")
        ann.sees("name?")
        window = IAC + SB + b"\x1f\x00\x50\x00\x18" + IAC + SE
        ann.sends(IAC + WILL + b"\x1f" + IAC + DO + b"\x01" + window + b"a" + IAC + NOP + b"nn\r\n")
        ben.sees("* ann joined")
        with ann._changed:
            assert ann._changed.wait_for(lambda: IAC + WONT + b"\x01" in ann.shown, SECONDS)
        assert IAC + DONT + b"\x1f" in ann.shown
        ann.sends(IAC + AYT + b"hel" + IAC + WONT + b"\x03" + IAC + IAC + b"lo" + IAC + IP + b"\r\0\r\n")
        ben.sees("ann: hello\r\n")
        ann.sends(IAC + b"\r\n" + IAC + SB + b"\x18 never ended\r\n" + b"and on\r\n")
        ben.sees("ann: and on\r\n")
        assert ann.shown.count(IAC) == 2, "what is declined once is not answered again"


# -------------------------------------------------------------- lines that are none


def test_a_line_that_is_too_long_is_left_out_and_the_next_one_is_said(chat: House) -> None:
    with bare(chat) as ann, nc(chat) as ben:
        ben.enters("ben")
        ann.enters("ann")
        ben.sees("* ann joined")
        ann.sends(b"x" * (module.MAX_LINE + 1) + b"\r\n")
        ann.types("y" * 4000, "short")
        assert "x" * 100 not in ben.sees("y" * 4000)
        ben.sees("ann: short\r\n")
        ann.sends(b"z" * 3_000_000 + b"\nbehind\n")
        assert "zzz" not in ben.sees("ann: behind\r\n")


def test_whoever_sends_half_a_line_and_hangs_is_closed_and_nobody_else_waits() -> None:
    with house(text=True, text_options={"frame_timeout": 1.0}) as chat, bare(chat) as half, nc(chat) as ben:
        half.enters("half")
        ben.enters("ben")
        half.sends(b"I was about to sa")
        begun = time.monotonic()
        half.ends()
        assert time.monotonic() - begun < SECONDS / 2
        ben.types("/names")
        ben.sees("In lobby: ")
        assert "about to" not in ben.shown.decode()


def test_whoever_gives_no_name_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAME_TIMEOUT", 0.3)
    with house(text=True) as chat, bare(chat) as mute, bare(chat) as ann:
        ann.enters("ann")
        assert "You are" not in mute.ends()
        ann.types("/names")
        ann.sees("In lobby: ann")


def test_a_line_typed_in_pieces_is_one_line(quiet: House) -> None:
    with bare(quiet) as ann, nc(quiet) as ben:
        ben.enters("ben")
        ann.enters("ann")
        ben.sees("* ann joined")
        for byte in "naïve ☃\r\n".encode():
            ann.sends(bytes((byte,)))
            time.sleep(0.005)
        ben.sees("ann: naïve ☃\r\n")


def test_bytes_that_are_no_text_and_control_characters_reach_nobodys_terminal(quiet: House) -> None:
    with bare(quiet) as ann, bare(quiet) as ben:
        ben.enters("ben")
        ann.enters("ann")
        ben.sees("* ann joined")
        ann.sends(b"\x1b[31mred \x9b2J\xfe\x80 \x07bell \x1b]52;c;eA==\x07\xe2\x80\xae over\r\n")
        ann.types("end")
        ben.sees("ann: end")
        assert not [byte for byte in ben.shown if (byte < 32 and byte not in b"\r\n") or byte == 127]
        for letter in ben.shown.decode():
            assert not 0x80 <= ord(letter) < 0xA0
            assert letter not in "\u202e\u009b"


# ------------------------------------------------------------------ floods and ends


def test_what_a_server_says_of_a_mistake_reaches_no_terminal_uncleaned() -> None:
    shown: list[bytes] = []
    peer = SimpleNamespace(address=Address.parse("tcp://127.0.0.1:1"), send_encoded=shown.append)
    deaf = SimpleNamespace(opened=lambda *given, **more: None, received=lambda *given: None)
    line: Any = module._TextLine(deaf, peer, "lobby")  # type: ignore[arg-type] # as much of both as is used
    line.typed(b"ann")
    let_in = from_server(welcome())
    assert let_in is not None
    line.tell(let_in, {})
    line.tell(Error(code="odd", text="\x1b[31mred\x07 \x9b2Jtape"), {})
    assert shown[-1] == b"(red tape)\r\n"


def test_rooms_that_are_asked_for_too_fast_are_entered_as_soon_as_they_may_be() -> None:
    with house(text=True, options=Options(move_burst=2, move_rate=5.0)) as chat, bare(chat) as ann:
        ann.enters("ann")
        ann.types(*(f"/join room{number}" for number in range(6)))
        ann.types("in the last one")
        for number in range(6):
            ann.sees(f"In room{number}: ann\r\n")
        until(lambda: chat.log.head("room5") == 2, "it is said there")
        assert "(" not in ann.shown.decode().partition("In room0")[2], "there is nothing to complain of"


def test_an_order_that_has_to_wait_for_long_is_told_of() -> None:
    with house(text=True, options=Options(move_burst=2, move_rate=0.01)) as chat, bare(chat) as ann:
        ann.enters("ann")
        ann.types("/join attic", "/join cellar")
        ann.sees("In attic: ann\r\n")
        ann.sees("(The server is asked too much; /join cellar follows in ")


def test_lines_typed_too_fast_are_said_as_soon_as_they_may_be_in_their_order() -> None:
    with house(text=True, options=Options(burst=3, rate=20.0)) as chat, bare(chat) as ann, nc(chat) as ben:
        ben.enters("ben")
        ann.enters("ann")
        ann.sends("".join(f"line {number}\n" for number in range(12)).encode())
        for number in range(12):
            ben.sees(f"ann: line {number}\r\n")


def test_what_is_pasted_without_end_costs_a_bounded_queue(quiet: House) -> None:
    with bare(quiet) as ann, nc(quiet) as ben:
        ben.enters("ben")
        ann.enters("ann")
        ben.sees("* ann joined")
        ann.sends("".join(f"line {number}\n" for number in range(3000)).encode())
        ann.sees("(not said: wait")
        ben.sees("ann: line 4\r\n")
        with module_lines(quiet) as lines:
            assert max(line._client.pending for line in lines if line._client) <= module.MOST_PENDING
        ann.types("QUIT")
        ben.types("still here")
        ann.sees("ben: still here")


@contextlib.contextmanager
def module_lines(chat: House) -> Iterator[list[module._TextLine]]:
    yield [line for line in list(chat.host._lines) if isinstance(line, module._TextLine)]


def test_a_stop_of_the_server_is_told_and_ends_the_connection(chat: House) -> None:
    with nc(chat) as ann, nc(chat) as nameless:
        ann.enters("ann")
        nameless.sees("name?")
        chat.host.stop()
        assert chat.host.join(SECONDS)
        ann.sees("The server has closed the connection: the server ends.")
        gone(chat, 1)  # whoever has no name yet is the server's alone


def test_whoever_types_and_never_reads_is_closed_alone() -> None:
    options = Options(burst=10_000, rate=10_000.0, slow_reader_timeout=1.0, grace=0.5)
    with house(text=True, options=options) as chat, chat.guest() as ann, bare(chat) as ben:
        ann.enter("ann")
        ben.enters("ben")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((chat.text.host, chat.text.port))
            deaf.sendall(b"deaf\n")
            ann.has("event", kind="joined", sender="deaf")
            for number in range(400):
                assert ann.say(f"{number} " + "x" * 8000)["type"] == "ok"
            assert ann.has("event", kind="left", sender="deaf")
            ann.say("go on")
            ben.sees("ann: go on")
