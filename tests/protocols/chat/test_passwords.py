"""Passwords, end to end: the file, what may be told by time, and who is let in over which transport."""
# ruff: noqa: SIM117 # the chat's block around its guests' reads as what it is

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import argon2
import pytest

from framing.drivers.address import Address
from protocols.chat.hub import Options
from protocols.chat.passwords import PasswordFileError, Passwords, make_line
from tests.protocols.chat.house import DRIVERS, Guest, House, house
from tests.protocols.chat.serving import Serving
from tests.protocols.conftest import Certificates

COMMAND = [sys.executable, "-m", "protocols.chat"]
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    path.write_text(f"# the team\n\nann:{CHEAP.hash('sesame')}\nBen:{CHEAP.hash('open: it')}\n")
    return path


# ---------------------------------------------------------------------- the file


def test_a_password_is_right_for_its_name_alone(file: Path) -> None:
    passwords = Passwords(file)
    assert passwords.verify("ann", "sesame")
    assert passwords.verify("ANN", "sesame")
    assert passwords.verify("ben", "open: it")
    for name, password in (
        ("ann", "open: it"),
        ("ann", "Sesame"),
        ("ann", ""),
        ("eve", "sesame"),
        ("eve", "nobody"),
        ("", ""),
    ):
        assert not passwords.verify(name, password)


def test_a_line_is_made_with_the_librarys_own_defaults_and_salted() -> None:
    line = make_line("ann", "sesame")
    name, _, hashed = line.partition(":")
    assert name == "ann"
    assert argon2.extract_parameters(hashed) == argon2.profiles.get_default_parameters()
    assert "sesame" not in line
    assert make_line("ann", "sesame") != line
    with pytest.raises(ValueError, match="letters"):
        make_line("no name", "x")


GOOD = CHEAP.hash("x", salt=b"the same each time")  # for the names of the tests


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ann", "Argon2"),
        ("ann:", "Argon2"),
        ("ann:sesame", "Argon2"),
        ("ann:$argon2id$v=19$m=1024,t=1,p=1$bad", "Argon2"),
        (f"ann:{GOOD[:-10]}!!!!", "Argon2"),
        ("ann:$2b$12$abcdefghijklmnopqrstuv", "Argon2"),
        (f":{GOOD}", "1 to 32"),
        (f"no name:{GOOD}", "letters"),
        (f"admin:{GOOD}", "reserved"),
        (f"BEN:{GOOD}", "already"),
    ],
)
def test_a_file_with_a_bad_line_is_refused_with_the_lines_number(file: Path, line: str, reason: str) -> None:
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(PasswordFileError, match=rf"line 5: .*{reason}") as caught:
        Passwords(file)
    assert str(file) in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PasswordFileError, match="UTF-8"):
        Passwords(file)


def test_names_beyond_ascii_are_in_the_file_where_they_are_allowed(file: Path) -> None:
    file.write_text(f"Zoë:{GOOD}\n")
    with pytest.raises(PasswordFileError):
        Passwords(file)
    assert Passwords(file, allow_unicode=True).verify("zoë", "x")


def test_an_unknown_name_takes_as_long_as_a_wrong_password(tmp_path: Path) -> None:
    costly = argon2.PasswordHasher(time_cost=8, memory_cost=16_384, parallelism=1)
    path = tmp_path / "passwords"
    path.write_text(f"ann:{costly.hash('sesame')}\n")
    passwords = Passwords(path)

    def seconds(name: str) -> float:
        took = []
        for _ in range(7):
            begun = time.process_time()
            assert not passwords.verify(name, "wrong")
            took.append(time.process_time() - begun)
        return statistics.median(took)

    known, unknown = seconds("ann"), seconds("eve")
    assert 0.5 < unknown / known < 2.0


# ------------------------------------------------------------------ over transports


@pytest.fixture(params=["tls", "unix"])
def safe(
    request: pytest.FixtureRequest, file: Path, certificates: Certificates, tmp_path: Path
) -> Iterator[Callable[[], Guest]]:
    """A chat that asks for passwords, where they may be sent: what makes a guest of it."""
    listen = "tls://127.0.0.1:0" if request.param == "tls" else f"unix:{tmp_path / 's'}"
    with house(
        listen=listen, options=Options(passwords=True), verify=Passwords(file).verify, **served(listen, certificates)
    ) as chat:
        yield lambda: guest_of(chat, certificates)


def served(listen: str, certificates: Certificates) -> dict[str, Any]:
    return {"ssl_context": certificates.server} if listen.startswith("tls") else {}


def guest_of(chat: House, certificates: Certificates) -> Guest:
    return chat.guest(ssl_context=certificates.client) if chat.address.scheme == "tls" else chat.guest()


def test_whoever_knows_the_password_is_let_in(safe: Callable[[], Guest]) -> None:
    with safe() as ann, safe() as ben:
        ann.enter("ann", password="sesame")
        ben.enter("Ben", password="open: it")
        assert ben.say("hi")["type"] == "ok"
        assert ann.hears("hi")["sender"] == "Ben"
        assert ann.done("rename", name="eve")["code"] == "fixed-name"


def test_nobody_else_is_and_all_are_told_the_same(safe: Callable[[], Guest]) -> None:
    with safe() as eve:
        answers = [eve.hello(name, password=word) for name, word in (("ann", "x"), ("eve", "sesame"), ("no name", "x"))]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0]["code"] == "password"
    with safe() as eve:
        assert eve.hello("ann")["code"] == "password"
        assert eve.hello(password="sesame")["code"] == "password"
        eve.send(type="join", id=["x", 1], room="lobby")
        assert eve.ended()["code"] == "hello-first"


def test_a_few_wrong_passwords_end_the_connection(safe: Callable[[], Guest]) -> None:
    with safe() as eve:
        codes = []
        for attempt in range(20):
            codes.append(eve.hello("ann", password=str(attempt))["code"])
            if codes[-1] != "password":
                break
        assert codes[-1] == "flood"
        assert len(codes) < 8


def test_whoever_has_lost_the_connection_comes_back_with_the_password_or_the_token(safe: Callable[[], Guest]) -> None:
    with safe() as ann:
        ann.enter("ann", password="sesame")
    with safe() as again:
        assert again.hello(resume={"token": ann.token})["session"] == ann.session
    with safe() as anew:
        welcome = anew.hello("ann", password="sesame")
        assert (welcome["type"], welcome["name"]) == ("welcome", "ann")
        with safe() as second:
            answer = second.hello("ann", password="sesame")
            assert (answer["code"], "is free" in answer["text"]) == ("name-taken", False)


@pytest.mark.parametrize("driver", DRIVERS)
def test_over_plain_tcp_no_password_is_taken(driver: str, file: Path) -> None:
    asked: list[str] = []

    def verify(name: str, password: str) -> bool:
        asked.append(name)
        return True

    with house(driver, options=Options(passwords=True), verify=verify) as chat:
        for hello in ({"name": "ann", "password": "sesame"}, {"name": "ann"}, {}):
            with chat.guest() as ann:
                answer = ann.hello(**hello)
                assert (answer["type"], answer["code"], answer.get("reconnect")) == ("close", "insecure", None)
                ann.ended()
        assert asked == []


def test_while_a_password_is_verified_others_talk_on(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def verify(name: str, password: str) -> bool:
        if name == "slow":
            begun.set()
            assert go_on.wait(10)
        return True

    with house(listen=f"unix:{tmp_path / 's'}", options=Options(passwords=True), verify=verify) as chat:
        with chat.guest() as ann, chat.guest() as ben, chat.guest() as slow:
            ann.enter("ann", password="x")
            ben.enter("ben", password="x")
            slow.send(type="hello", version=1, name="slow", password="x")
            assert begun.wait(10)
            slow.send(type="hello", version=1, name="fast", password="x")
            assert slow.get("error", code="already")
            assert ann.say("meanwhile")["type"] == "ok"
            assert ben.hears("meanwhile")
            go_on.set()
            assert slow.get("welcome")["name"] == "slow"


def test_whoever_leaves_before_the_answer_is_forgotten(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def verify(name: str, password: str) -> bool:
        begun.set()
        assert go_on.wait(10)
        return True

    with house(listen=f"unix:{tmp_path / 's'}", options=Options(passwords=True), verify=verify) as chat:
        with chat.guest() as hasty:
            hasty.send(type="hello", version=1, name="ann", password="x")
            assert begun.wait(10)
        go_on.set()
        with chat.guest() as ann:
            assert ann.hello("ann", password="x")["type"] == "welcome"


def test_a_verifier_that_fails_lets_nobody_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def verify(name: str, password: str) -> bool:
        raise OSError("the directory does not answer")

    with house(listen=f"unix:{tmp_path / 's'}", options=Options(passwords=True), verify=verify) as chat:
        with chat.guest() as ann:
            assert ann.hello("ann", password="se\x1bsame")["code"] == "password"
    assert "does not answer" in caplog.text
    assert "same" not in caplog.text


# ------------------------------------------------------------------- the commands


def test_the_commands_make_a_file_and_serve_by_it(tmp_path: Path, certificates: Certificates) -> None:
    made = subprocess.run([*COMMAND, "password", "ann"], input="sesame\n", capture_output=True, text=True, timeout=60)
    assert made.stdout.startswith("ann:$argon2id$"), made.stderr
    path = tmp_path / "passwords"
    path.write_text(made.stdout)
    options = ("--tls-cert", str(certificates.both), "--password-file", str(path), "-v")
    with Serving(tmp_path / "chat.db", *options) as serving:
        address = Address.parse(serving.address)
        assert address.scheme == "tls"
        with guest_at(address, certificates) as eve, guest_at(address, certificates) as ann:
            assert eve.hello("ann", password="guess")["code"] == "password"
            assert ann.enter("ann", password="sesame").say("hi")["type"] == "ok"
        assert serving.stop() == 0
        assert "sesame" not in serving.said
        assert "Traceback" not in serving.said
    assert b"sesame" not in (tmp_path / "chat.db").read_bytes()


def guest_at(address: Address, certificates: Certificates) -> Guest:
    return Guest(address, ssl_context=certificates.client, server_hostname="localhost")


@pytest.mark.parametrize(
    ("given", "name", "reason"),
    [
        ("\n", "ann", "empty password"),
        ("", "ann", "empty password"),
        ("x\n", "no name", "letters"),
        ("x\n", "admin", "reserved"),
    ],
)
def test_the_password_command_says_what_is_wrong_in_one_line(given: str, name: str, reason: str) -> None:
    made = subprocess.run([*COMMAND, "password", name], input=given, capture_output=True, text=True, timeout=60)
    assert made.returncode in (1, 2)
    assert reason in made.stderr
    assert made.stderr.count("\n") == 1
    assert made.stdout == ""
