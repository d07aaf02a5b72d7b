"""The text port: ``nc`` and telnet for real, and a bare socket for what these two do not send."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from framing import EncodeError
from framing.drivers.address import Address
from framing.testing import verify_framer
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

    def half_close(self) -> None:
        """End what is typed, and go on looking."""
        self.sock.shutdown(socket.SHUT_WR)  # type: ignore[attr-defined] # of a bare one alone

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
        screen.sock = sock  # type: ignore[attr-defined] # of a bare one alone
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


def test_a_room_is_the_same_however_it_is_written(quiet: House) -> None:
    with bare(quiet) as ann, bare(quiet) as ben:
        ann.enters("ann")
        ben.enters("ben")
        ann.types("/join Attic")
        ann.sees("* ann joined\r\n")
        ben.types("/join ATTIC")
        assert "[attic]" not in ann.sees("* ben joined\r\n").replace("[lobby]", "")
        ben.types("up here")
        assert "[attic]" not in ann.sees("ben: up here\r\n")
        ann.types("/leave aTTic", "into nowhere")
        ann.sees("You are in no room")


def test_a_new_name_is_told_of_by_the_room_and_not_by_private_ones_too(quiet: House) -> None:
    with bare(quiet) as ann, bare(quiet) as ben:
        ann.enters("ann")
        ben.enters("ben")
        ann.types("/msg ben psst")
        ben.sees("[ann to you] psst\r\n")
        ann.types("/nick anna", "done")
        assert ben.sees("anna: done\r\n").count("is now called anna") == 1
        ann.types("/leave")
        ben.sees("* anna left")
        ann.types("/nick annie", "/msg ben done")
        assert ben.sees("[annie to you] done\r\n").count("* anna is now called annie") == 1


def test_who_comes_and_goes_is_told_by_open_rooms_alone(quiet: House) -> None:
    with bare(quiet) as ben:
        ben.enters("ben")
        with bare(quiet) as ann:
            ann.enters("ann")
            ann.types("/msg ben psst", "/quit so long")
            before = ben.sees("* ann left (so long)\r\n")
        assert before.count("ann to you") == 1
        with bare(quiet) as ann:
            ann.enters("ann")
            ann.types("/msg ben back")
            before = ben.sees("[ann to you] back\r\n")
        assert (before.count("joined"), before.count("to you"), before.count("so long")) == (1, 1, 0)


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
        ann.sees("(not said: a line has 4096 bytes at the most)\r\n")
        ann.types("y" * module.MAX_LINE, "short", end="\r\n")
        assert "x" * 100 not in ben.sees("y" * module.MAX_LINE)
        ben.sees("ann: short\r\n")
        ann.sends(b"z" * 3_000_000 + b"\nbehind\n")
        assert "zzz" not in ben.sees("ann: behind\r\n")
        ben.types("over")
        ann.sees("ben: over\r\n")
        assert ann.shown.count(b"(not said") == 2, "once for each line"


def test_the_lines_frames_keep_the_laws_of_every_framer() -> None:
    long = b"x" * module.MAX_LINE
    verify_framer(module.TEXT_WIRE.framer, examples=10, payloads=[b"\n", b"a\r\n", long + b"\r\n"])
    for given in (b"", b"no end", b"two\nlines\n", long + b"xx\n"):
        with pytest.raises(EncodeError):
            module.TEXT_WIRE.encode(given)


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


# --------------------------------------------------------------- people who come in crowds


def test_whoever_the_hub_does_not_let_in_yet_is_told_once_and_let_in_by_themselves(chat_of_few: House) -> None:
    with nc(chat_of_few) as ann, nc(chat_of_few) as ben, bare(chat_of_few) as cat:
        ann.enters("ann")
        for each, name in ((ben, "ben"), (cat, "cat")):
            each.sees("What is your name?")
            each.types(name, f"I am {name}")
        for each, name in ((ben, "ben"), (cat, "cat")):
            before = each.sees(f"You are {name}.")
            assert before.count("(Please wait, you are let in by yourself: too many have come from your address") == 1
            assert "closed" not in before
            until(lambda said=f"{name}: I am {name}\r\n": said.encode() in ann.shown, f"{name} speaks")


@pytest.fixture(params=DRIVERS)
def chat_of_few(request: pytest.FixtureRequest) -> Iterator[House]:
    with house(request.param, text=True, options=Options(newcomers=1, newcomer_rate=1.0)) as made:
        yield made


@pytest.fixture
def full_chat() -> Iterator[House]:
    """One that lets in one person, and nobody more for as long as a test takes."""
    with house(text=True, options=Options(newcomers=1, newcomer_rate=0.001)) as made:
        yield made


def test_whoever_waits_to_be_let_in_may_go(full_chat: House) -> None:
    with bare(full_chat) as ann, bare(full_chat) as ben:
        ann.enters("ann")
        ben.sees("name?")
        ben.types("ben")
        ben.sees("(Please wait")
        ben.types("QUIT")
        assert ben.ends().count("What is your name?") == 1
        gone(full_chat, 1)


def test_whoever_asked_to_go_before_they_were_let_in_is_not_asked_for_another_name(quiet: House) -> None:
    with bare(quiet) as ann, bare(quiet) as other:
        ann.enters("ann")
        other.sees("name?")
        other.sends(b"ann\nQUIT\n")
        assert "What is your name?" not in other.ends().partition("What is your name?")[2]


def test_whoever_waits_to_be_let_in_goes_with_the_host(full_chat: House) -> None:
    with bare(full_chat) as ann, bare(full_chat) as ben:
        ann.enters("ann")
        ben.sees("name?")
        ben.types("ben")
        ben.sees("(Please wait")
        full_chat.host.stop()
        assert full_chat.host.join(SECONDS)
        for line in list(full_chat.text_service._lines.values()):
            if line._client is not None and line._client._retry_at is not None:
                line._client._retry_at = 0.0  # they need not wait for it here
        ben.ends()


def named(shown: list[bytes], ended: list[str], *, paused: bool = False) -> Any:
    """The line of a connection that is not there, whose person is called ann: what is shown, and whom its end is told."""
    peer = SimpleNamespace(
        address=Address.parse("tcp://127.0.0.1:1"),
        send_encoded=shown.append,
        close=lambda: ended.append("peer"),
        paused=paused,
    )
    deaf = SimpleNamespace(
        opened=lambda *given, **more: None, received=lambda *given: None, closed=lambda line: ended.append("hub")
    )
    line = module._TextLine(deaf, peer, "lobby")  # type: ignore[arg-type] # as much of both as is used
    line.typed(b"ann\n")
    return line


def test_a_line_that_the_host_closes_hangs_up_while_the_hub_knows_of_it() -> None:
    closed: list[str] = []
    line = named([], closed)
    later = from_server({"type": "close", "code": "x", "text": "later", "reconnect": 60.0})
    assert later is not None
    first = line._attempt
    first.tell(later, {})
    first.close()
    assert closed == ["hub"], "the person waits"
    line._client._retry_at = 0.0
    line.tick(time.monotonic())
    first.close()  # it comes late
    first.tell(later, {})
    assert closed == ["hub"]
    line._attempt.close()
    assert closed == ["hub", "hub", "peer"]


def test_whoever_has_ended_what_they_send_is_waited_for_no_more() -> None:
    line = named([], [], paused=True)
    assert line.paused
    line.gone(None)  # what was typed is still to be said, to which there are answers
    assert not line.paused
    assert not line.over


def test_so_many_of_one_address_may_be_there_without_a_name_and_the_newest_is_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_NAMELESS", 3)
    with house(text=True) as chat, contextlib.ExitStack() as stack:
        ann, ben, silent = (stack.enter_context(bare(chat)) for _ in range(3))
        for each in (ann, ben, silent):
            each.sees("name?")
        with bare(chat) as late:
            assert late.ends() == "Too many have come from your address and not given a name. Try again later.\r\n"
        ann.types("ann")
        ann.sees("* ann joined")
        with bare(chat) as cat:
            cat.enters("cat")  # there was room again
        with bare(chat) as dan, bare(chat) as late:
            dan.sees("name?")
            assert "Too many" in late.ends()
        gone(chat, 3)
        with bare(chat) as eve:
            eve.enters("eve")
        for each in (ben, silent):
            each.types("QUIT")
        gone(chat, 1)
        ann.types("QUIT")
        gone(chat, 0)
        until(lambda: not chat.text_service._nameless and not chat.text_service._finishing, "nothing is kept of them")


class Nobody:
    """A peer, as much of it as is used."""


def test_people_of_a_unix_socket_are_not_counted() -> None:
    sent: list[bytes] = []
    service = module.TextService(SimpleNamespace())  # type: ignore[arg-type] # nobody says who they are
    for scheme, welcomed in (("unix:/s", 100), ("tcp://127.0.0.1:1", module.MOST_NAMELESS)):
        sent.clear()
        for _ in range(100):
            peer: Any = Nobody()
            peer.address, peer.send_encoded, peer.close = Address.parse(scheme), sent.append, list
            service.opened(peer)
        assert sum(each.startswith(b"Welcome.") for each in sent) == welcomed


# ------------------------------------------------------------------ ends of what is typed


def says_all(chat: House, typed: str) -> str:
    """What is shown to somebody who types so much, and ends what they send."""
    with bare(chat) as screen:
        screen.sees("name?")
        screen.sends(typed.encode())
        screen.half_close()
        return screen.ends()


@pytest.mark.parametrize("last", ["", "QUIT\n"])
def test_what_was_typed_before_the_end_of_typing_is_said_though_it_has_to_wait(chat: House, last: str) -> None:
    with nc(chat) as ben:
        ben.enters("ben")
        lines = [f"line {number}" for number in range(8)]
        says_all(chat, "ann\n" + "".join(f"{line}\n" for line in lines) + last)
        for line in lines:
            ben.sees(f"ann: {line}\r\n")
        ben.sees("* ann left (bye)")


def test_whoever_ends_typing_before_they_are_let_in_is_let_in_and_says_it() -> None:
    with house(text=True, options=Options(newcomers=1, newcomer_rate=0.5)) as chat, bare(chat) as ben:
        ben.enters("ben")
        assert "You are" not in says_all(chat, "ann\nhello\n"), "nobody is there to be shown it"
        ben.sees("* ann joined\r\nann: hello\r\n")
        ben.sees("* ann left (bye)")


def test_what_cannot_be_said_for_long_behind_the_end_of_typing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_WORDS", 0.5)
    with house(text=True, options=Options(burst=1, rate=0.001)) as chat, bare(chat) as ben:
        ben.enters("ben")
        says_all(chat, "ann\none\ntwo\n")
        ben.sees("ann: one\r\n")
        ben.sees("* ann left (bye)")
        until(lambda: not chat.text_service._finishing, "nothing is left of it")
        assert "two" not in ben.shown.decode()


def test_a_connection_that_breaks_is_no_end_of_typing() -> None:
    with house(text=True, options=Options(grace=60.0)) as chat, bare(chat) as ben:
        ben.enters("ben")
        with socket.create_connection((chat.text.host, chat.text.port)) as sock:
            sock.sendall(b"ann\n")
            ben.sees("* ann joined")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is reset
        gone(chat, 1)
        assert not chat.text_service._finishing
        ben.types("/names")
        ben.sees("In lobby: ann, ben\r\n")


# ------------------------------------------------------------------ floods and ends


def test_what_a_server_says_of_a_mistake_reaches_no_terminal_uncleaned() -> None:
    shown: list[bytes] = []
    line = named(shown, [])
    let_in = from_server(welcome())
    assert let_in is not None
    line._attempt.tell(let_in, {})
    line._attempt.tell(Error(code="odd", text="\x1b[31mred\x07 \x9b2Jtape"), {})
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
    yield list(chat.text_service._lines.values())


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
