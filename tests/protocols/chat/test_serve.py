"""``framing-chat serve`` as a process: its options, its console, its logs, and its ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framing import EncodeError, Wire
from framing.drivers.address import Address
from protocols.chat import command_serve
from protocols.chat.command_serve import _most_members, serve
from protocols.chat.messages import Members, to_map
from protocols.chat.passwords import Passwords
from protocols.chat.text import TEXT_WIRE
from tests.protocols.chat.house import WIRE, Guest
from tests.protocols.chat.serving import DRIVERS, kept
from tests.protocols.conftest import Certificates
from tests.protocols.echo.processes import started

COMMAND = [sys.executable, "-m", "protocols.chat"]
LOCAL = "tcp://127.0.0.1:0"

every_driver = pytest.mark.parametrize("driver", DRIVERS)


class Served:
    """A server that runs: what it says, and what is typed into it."""

    def __init__(self, process: subprocess.Popen[str], wire: Wire[Any], *, text: bool) -> None:
        self.process = process
        self.wire = wire
        assert process.stdout is not None
        line = process.stdout.readline()
        place = re.fullmatch(r"chat at (\S+), wire (.+)\n", line)
        if place is None:
            process.kill()
            raise AssertionError(line + process.communicate()[1])
        self.address, self.wire_shown = Address.parse(place[1]), place[2]
        if text:
            port = re.fullmatch(r"text at (\S+)\n", process.stdout.readline())
            assert port is not None
            self.text = Address.parse(port[1])

    def guest(self, **options: Any) -> Guest:
        return Guest(self.address, self.wire, **options)

    def types(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def ends(self, number: int | None = None) -> tuple[int, str]:
        """Its exit status, when the signal has come, and what it wrote to standard error."""
        if number is not None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        assert "Traceback" not in err, err
        assert "Fatal" not in err, err
        return self.process.returncode, err


@contextlib.contextmanager
def serving(
    *options: str, wire: Wire[Any] = WIRE, listen: str = LOCAL, db: str | Path = ":memory:", **given: Any
) -> Iterator[Served]:
    command = [*COMMAND, "serve", "--listen", listen, "--db", str(db), *options]
    with started(*command, **{"stdin": subprocess.PIPE, **given}) as process:
        yield Served(process, wire, text="--text-listen" in options)


def complaint(*options: str, db: str = ":memory:") -> str:
    """What a command line is refused with: one line, and a status that is not 0."""
    ended = subprocess.run(
        [*COMMAND, "serve", "--db", db, *options], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert ended.returncode in (1, 2), ended
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("framing-chat: ")
    return ended.stderr


# -------------------------------------------------------------------- the options


@every_driver
def test_each_driver_serves_and_stores_and_ends_with_sigterm(driver: str, tmp_path: Path) -> None:
    db = tmp_path / "chat.db"
    with serving("--driver", driver, "--text-listen", LOCAL, db=db) as served:  # noqa: SIM117 # the server's block around
        with served.guest() as ann, socket.create_connection((served.text.host, served.text.port)) as ben:
            ann.enter("ann")
            ben.sendall(b"ben\n")
            assert ann.get("event", kind="joined", sender="ben")
            ben.sendall(b"from nc\n")
            assert ann.hears("from nc")
            ids = [ann.ask("post", room="lobby", text=str(number)) for number in range(5)]
            answers = [ann.has("ok", id=id_) for id_ in ids]
            status, err = served.ends(signal.SIGTERM)
            assert (status, err) == (0, "")
            close = ann.ended()
            assert (close["type"], close["code"], close["reconnect"]) == ("close", "stopping", 1.0)
    stored = {(event.seq, event.text) for event in kept(db)["lobby"]}
    assert {(answer["seq"], str(number)) for number, answer in enumerate(answers)} <= stored
    assert not (tmp_path / "chat.db-wal").exists(), "the file is whole again"


@every_driver
def test_the_port_can_be_used_again_at_once(driver: str) -> None:
    listen = LOCAL
    for _ in range(2):
        with serving("--driver", driver, listen=listen) as served, served.guest() as ann:
            listen = str(served.address)
            assert ann.enter("ann").say("hi")["type"] == "ok"
            assert served.ends(signal.SIGTERM)[0] == 0


@every_driver
def test_ctrl_c_ends_it_without_a_traceback_and_with_a_good_bye(driver: str) -> None:
    with serving("--driver", driver) as served, served.guest() as ann:
        ann.enter("ann")
        assert served.ends(signal.SIGINT) == (130, "")
        assert ann.ended()["code"] == "stopping"


@pytest.mark.parametrize("spec", ["netstring+json", "varint+cbor", "u16+msgpack", "u32+crc32+json"])
def test_any_wire_serves_whose_codec_carries_maps(spec: str) -> None:
    with serving("--wire", spec, wire=Wire.parse(spec)) as served, served.guest() as ann:
        assert served.wire_shown == spec
        assert ann.enter("ann").say("naïve ☃ 🙂 \n line")["type"] == "ok"
        assert ann.has("event", text="naïve ☃ 🙂 \n line")
        for number in range(4):
            ann.say(f"{number} {chr(34) * 8190}")  # as long as a text can be, and JSON writes each as two
        assert ann.done("history", room="lobby")["more"]


@every_driver
def test_tls_serves_whoever_trusts_the_certificate(driver: str, certificates: Certificates) -> None:
    options = ("--tls-cert", str(certificates.cert), "--tls-key", str(certificates.key), "--driver", driver)
    with serving(*options) as served:
        assert served.address.scheme == "tls"
        with served.guest(ssl_context=certificates.client, server_hostname="localhost") as ann:
            assert ann.enter("ann").say("hi")["type"] == "ok"
        with socket.create_connection((served.address.host, served.address.port)) as plain:
            plain.sendall(WIRE.encode({"type": "hello", "version": 1}))
            assert b"welcome" not in b"".join(iter(lambda: received(plain), b""))
        assert served.ends(signal.SIGTERM)[0] == 0


def received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except OSError:
        return b""


def test_the_text_port_speaks_tls_where_it_is_asked_to(certificates: Certificates) -> None:
    options = ("--tls-cert", str(certificates.both), "--text-listen", "tls://127.0.0.1:0")
    with (
        serving(*options) as served,
        socket.create_connection((served.text.host, served.text.port)) as sock,
        certificates.client.wrap_socket(sock, server_hostname="localhost") as secure,
    ):
        assert secure.recv(1 << 10).startswith(b"Welcome.")


def test_a_unix_socket_serves_and_its_file_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(listen=f"unix:{path}") as served, served.guest() as ann:
        assert ann.enter("ann").say("hi")["type"] == "ok"
        assert served.ends(signal.SIGTERM)[0] == 0
    assert not path.exists()


def test_names_beyond_ascii_are_an_option() -> None:
    with serving() as served, served.guest() as ann:
        assert ann.hello("Zoë")["code"] == "bad-name"
    with serving("--unicode-names") as served, served.guest() as ann:
        assert ann.hello("Zoë")["name"] == "Zoë"


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    db = tmp_path / "chat.db"
    with serving(db=db) as served, served.guest() as ann:
        ann.enter("ann")
        seq = ann.say("before")["seq"]
        assert served.ends(signal.SIGTERM)[0] == 0
    with serving(db=db) as served, served.guest() as again:
        assert again.hello(resume={"token": ann.token, "cursors": {"lobby": seq - 1}})["resumed"]
        assert again.hears("before")["seq"] == seq


# -------------------------------------------------------------------- the console


@every_driver
def test_what_is_typed_is_announced_and_quit_ends_it_for_good(driver: str) -> None:
    with serving("--driver", driver) as served, served.guest() as ann:
        ann.enter("ann")
        served.types("tea is ready", "", "  and \x1b[31mcake  ")
        assert [ann.get("event", kind="announce")["text"] for _ in range(2)] == ["tea is ready", "and cake"]
        served.types("QUIT")
        assert served.ends() == (0, "")
        last = ann.ended()
        assert (last["code"], last.get("reconnect")) == ("stopping", None)


def test_the_end_of_the_console_is_not_the_end_of_the_server() -> None:
    with serving(stdin=subprocess.DEVNULL) as served, served.guest() as ann:
        assert ann.enter("ann").say("hi")["type"] == "ok"
        assert served.ends(signal.SIGTERM) == (0, "")


def test_a_console_that_was_closed_before_is_none(tmp_path: Path) -> None:
    # A shell's <&-: the lowest descriptor is free, and something else is given it.
    command = ["sh", "-c", f"exec {' '.join(COMMAND)} serve --listen {LOCAL} --db {tmp_path / 'c.db'} <&-"]
    with started(*command) as process:
        served = Served(process, WIRE, text=False)
        with served.guest() as ann:
            ann.enter("ann")
            assert ann.say("QUIT")["type"] == "ok"
            assert ann.still_there()
        assert served.ends(signal.SIGTERM) == (0, "")


def test_bytes_that_are_no_text_and_lines_without_end_do_the_console_no_harm() -> None:
    with serving() as served, served.guest() as ann:
        ann.enter("ann")
        assert served.process.stdin is not None
        stdin: Any = served.process.stdin.buffer  # type: ignore[attr-defined] # of a text stream
        stdin.write(b"caf\xe9 \xff\n" + b"x" * 100_000 + b"\nand on\n")
        stdin.flush()
        assert ann.get("event", kind="announce")["text"].startswith("caf")
        assert len(ann.get("event", kind="announce")["text"]) == 8192
        assert ann.get("event", kind="announce")["text"] == "and on"
        stdin.write(b"QUIT")  # without the end of the line, as a pipe may end
        stdin.close()
        assert served.process.wait(30) == 0


# --------------------------------------------------------------- errors, in one line


def test_options_that_are_wrong_are_told_in_one_clear_line(tmp_path: Path, certificates: Certificates) -> None:
    for options, reason in (
        (("--driver", "twisted"), "twisted"),
        (("--listen", "127.0.0.1"), "--listen"),
        (("--listen", "udp://127.0.0.1:0"), "streams"),
        (("--text-listen", "udp://127.0.0.1:0"), "streams"),
        (("--wire", "u32+yaml"), "yaml"),
        (("--wire", "u32"), "codec"),
        (("--wire", "u8+json"), "length"),
        (("--wire", "lines+msgpack"), "newline"),
        (("--wire", "u32(max_frame=1K)+json"), "max_frame=1024"),
        (("--listen", "tls://127.0.0.1:0"), "--tls-cert"),
        (("--tls-key", str(certificates.key)), "--tls-cert"),
        (("--tls-cert", str(tmp_path / "none.pem")), "none.pem"),
        (("--text-listen", "tls://127.0.0.1:0"), "--tls-cert"),
        (("--password-file", str(tmp_path / "none")), "TLS"),
        (("--listen", f"unix:{tmp_path / 's'}", "--password-file", str(tmp_path / "none")), "No such file"),
        (("--listen", f"unix:{tmp_path / 's'}", "--password-file", str(tmp_path)), "directory"),
        (("--listen", f"unix:{tmp_path / 's'}", "--password-file", __file__), "line 1"),
        (("--listen", f"unix:{tmp_path / 's'}", "--password-file", "x", "--text-listen", LOCAL), "text port"),
        (("--listen", f"unix:{tmp_path / 'none' / 's'}"), "none"),
    ):
        said = complaint(*options)
        assert reason in said, said
    assert not (tmp_path / "s").exists()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in complaint("--listen", f"tcp://127.0.0.1:{port}")
        assert str(port) in complaint("--listen", LOCAL, "--text-listen", f"tcp://127.0.0.1:{port}")


def test_a_log_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    foreign = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(foreign)) as database, database:
        database.execute("CREATE TABLE t (x)")
    assert "other.db" in complaint(db=str(foreign))
    assert "nowhere" in complaint(db=str(tmp_path / "nowhere" / "chat.db"))
    with serving(db=tmp_path / "chat.db") as served:
        assert "another server" in complaint(db=str(tmp_path / "chat.db"))
        assert served.ends(signal.SIGTERM)[0] == 0


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
from protocols.chat.cli import main
main(sys.argv[1:])
"""


def test_a_disk_that_is_full_ends_it_with_one_line_and_all_that_was_acknowledged(tmp_path: Path) -> None:
    db = tmp_path / "chat.db"
    command = [sys.executable, "-c", FULL, "serve", "--listen", LOCAL, "--db", str(db)]
    with started(*command, stdin=subprocess.PIPE) as process:
        served = Served(process, WIRE, text=False)
        acknowledged: list[str] = []
        with served.guest() as ann:
            ann.enter("ann")
            with contextlib.suppress(OSError):
                while True:
                    text = f"{len(acknowledged)} {'x' * 8000}"
                    answer = ann.say(text)
                    if answer["type"] == "ok":
                        acknowledged.append(text)
                    else:
                        time.sleep(answer["retry_after"])
            assert ann.told[-1]["type"] != "close"
        status, err = served.ends()
        assert status == 1
        assert "chat.db" in err
        assert len(err.splitlines()) <= 2, err
    assert len(acknowledged) > 3
    assert [event.text for event in kept(db)["lobby"] if event.kind == "say"][: len(acknowledged)] == acknowledged


# ----------------------------------------------------------------------- the logs


def test_the_log_is_quiet_by_itself_and_says_why_connections_ended_when_asked() -> None:
    for option, told in (((), False), (("-v",), True)):
        with serving(*option) as served:
            with served.guest() as eve:
                eve.enter("eve\x1b"[:3])
                eve.connection.send_encoded(b"GET / HTTP/1.1\r\n\r\n")
                eve.ended()
            with served.guest() as ann:
                ann.enter("ann")
            status, err = served.ends(signal.SIGTERM)
        assert status == 0
        lines = err.splitlines()
        assert bool(lines) == told
        for line in lines:
            assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ", line), line
            assert line.isprintable()
        assert sum("HTTP" in line for line in lines) == told, "once"


def test_the_text_port_finds_those_who_have_gone_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, dict[str, Any]]] = []

    class Ended(Exception):
        pass

    class Server:
        address = Address.parse(LOCAL)

        def __init__(self, address: Address, wire: Any, service: Any, **options: Any) -> None:
            made.append((wire, options))
            if wire is TEXT_WIRE:
                raise Ended

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

    monkeypatch.setitem(command_serve.SERVERS, "selector", Server)
    with pytest.raises(Ended):
        serve.main(["--db", ":memory:", "--listen", LOCAL, "--text-listen", LOCAL], standalone_mode=False)
    options = made[1][1]
    assert (options["keep_alive"], options["frame_timeout"]) == (True, command_serve.HALF_A_LINE)


def test_new_people_of_one_address_are_counted_as_the_option_says() -> None:
    with serving("--newcomers", "1") as served, served.guest() as ann, served.guest() as ben:
        ann.enter("ann")
        assert ben.hello("ben")["code"] == "too-many-new"
        assert served.ends(signal.SIGTERM)[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="terminals have no background there")
def test_in_the_background_of_a_terminal_it_serves_and_in_the_foreground_it_listens(tmp_path: Path) -> None:
    main, terminal = os.openpty()
    script = (
        "import os, signal, subprocess, sys, time, fcntl, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0); signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
        "child = subprocess.Popen(sys.argv[1:], process_group=0)\n"
        "os.read(3, 1); os.tcsetpgrp(0, child.pid); sys.exit(child.wait())\n"
    )
    gate, opener = os.pipe()
    command = [sys.executable, "-c", script.replace("os.read(3, 1)", f"os.read({gate}, 1)")]
    command += [*COMMAND, "serve", "--listen", LOCAL, "--db", str(tmp_path / "chat.db")]
    try:
        with started(*command, stdin=terminal, pass_fds=(gate,)) as process:
            served = Served(process, WIRE, text=False)
            os.write(main, b"tea is ready\n")
            with served.guest() as ann:
                ann.enter("ann")
                time.sleep(0.3)  # it has tried to read meanwhile
                assert ann.still_there()
                assert "tea is ready" not in ann.events("announce")
                os.write(opener, b"x")
                assert ann.has("event", kind="announce")["text"] == "tea is ready"
                os.write(main, b"QUIT\n")
                assert ann.ended()["code"] == "stopping"
            assert process.wait(30) == 0
    finally:
        for descriptor in (main, terminal, gate, opener):
            os.close(descriptor)


def test_help_tells_all_options() -> None:
    told = subprocess.run([*COMMAND, "serve", "--help"], capture_output=True, text=True, timeout=60)
    for option in (
        "--listen",
        "--text-listen",
        "--db",
        "--driver",
        "--wire",
        "--tls-cert",
        "--tls-key",
        "--password-file",
        "--unicode-names",
    ):
        assert option in told.stdout
    assert told.returncode == 0


@contextlib.contextmanager
def stuck(place: Path) -> Iterator[Served]:
    """A server that has more for somebody who does not read than their systems hold: so it cannot end at once."""
    # A unix socket's system holds a fixed number of bytes.
    with serving(listen=f"unix:{place / 's'}") as served, served.guest() as slow, served.guest() as ann:
        slow.enter("slow")
        ann.enter("ann")
        for _ in range(5):
            ann.done("post", room="lobby", text="x" * 8000)
        for _ in range(18):
            slow.ask("history", room="lobby")  # and reads nothing of it
        assert ann.done("who", room="lobby")["type"] == "ok"
        yield served


def test_a_second_ctrl_c_does_not_wait_for_whoever_reads_nothing(tmp_path: Path) -> None:
    with stuck(tmp_path) as served:
        served.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(1.0)  # it has 5 s
        begun = time.monotonic()
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(30) == 130
        assert time.monotonic() - begun < 2


def test_a_second_sigterm_waits_as_the_first_does_and_the_status_is_0(tmp_path: Path) -> None:
    with stuck(tmp_path) as served:
        served.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(1.0)
        assert served.ends(signal.SIGTERM) == (0, "")


# --------------------------------------------------------------------- the system


def test_an_output_that_is_closed_is_told_of_and_nothing_is_served(tmp_path: Path) -> None:
    for closed, reason in ((">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")):
        path = tmp_path / "s"
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, "serve", "--listen", f"unix:{path}"]
        command += ["--text-listen", LOCAL, "--db", ":memory:"]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr == f"framing-chat: the output cannot be written: {reason}\n"
        assert not path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell of their processes' limits so")
def test_it_takes_as_many_descriptors_as_it_may_have() -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500))

    with serving(preexec_fn=limit) as served:
        assert resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE) == (500, 500)
        assert served.ends(signal.SIGTERM) == (0, "")


# -------------------------------------------------------------------- the passwords' command


def line_of(*options: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, "password", *options], input=given, capture_output=True, timeout=60)


def test_the_password_command_makes_lines_for_names_that_the_server_is_told_to_allow(tmp_path: Path) -> None:
    refused = line_of("Жанна", given=b"sesame\n")
    assert (refused.returncode, refused.stdout) == (2, b"")
    made = line_of("Жанна", "--unicode-names", given=b"sesame\n")
    assert made.returncode == 0, made.stderr
    path = tmp_path / "passwords"
    path.write_bytes(made.stdout)
    assert Passwords(path, allow_unicode=True).verify("Жанна", "sesame")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_the_end_of_a_line_is_no_part_of_the_password(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "passwords"
    path.write_bytes(line_of("ann", given="se same ☃".encode() + end).stdout)
    assert Passwords(path).verify("ann", "se same ☃")


def test_a_password_that_is_no_text_or_cannot_be_read_is_told_of_in_one_line() -> None:
    told = line_of("ann", given=b"\xff\xfe\n")
    assert (told.returncode, told.stderr) == (1, b"framing-chat: the password is no text (UTF-8)\n")
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "password", "ann"], capture_output=True, timeout=60
    )
    assert (closed.returncode, closed.stderr) == (1, b"framing-chat: standard input: Bad file descriptor\n")


@pytest.mark.parametrize("unicode_names", [False, True])
@pytest.mark.parametrize("spec", ["u16+msgpack", "u16+json", "u16+cbor"])
def test_the_names_of_a_full_room_fit_into_a_frame(spec: str, unicode_names: bool) -> None:
    wire: Any = Wire.parse(spec)
    most = _most_members(wire, unicode_names=unicode_names)
    letter = "\N{LINEAR B SYLLABLE B008 A}" if unicode_names else "n"
    names = [letter * 32] * most
    assert most > 300
    wire.encode(to_map(Members(room="r" * 32, names=names, at=1 << 40)))
    with pytest.raises(EncodeError):
        wire.encode(to_map(Members(room="r", names=names * 2, at=1)))
