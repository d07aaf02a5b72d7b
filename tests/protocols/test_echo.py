"""The echo protocol and its commands, as real processes: replies, one-line errors, exit statuses, clean ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from framing import Wire
from framing.drivers import blocking
from protocols.echo import Echo

COMMAND = [sys.executable, "-m", "protocols.echo"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("echo") / "s"
    with blocking.Server(f"unix:{path}", Wire.parse("u32+json"), Echo()) as running:
        yield running


def run(*arguments, given=""):
    done = subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, text=True, timeout=10, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def status(capsys, *arguments):
    """The same without a process, where no signal and no standard input is in play."""
    from protocols.echo.cli import main

    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_arguments_come_back_as_lines_of_json(capsys, server):
    code, out, err = status(capsys, "send", str(server.address), '{"a":[1,2.5,"ü"]}', "[]", '"x"')
    assert (code, out, err) == (0, '{"a": [1, 2.5, "ü"]}\n[]\n"x"\n', "")


def test_lines_of_standard_input_are_messages(server):
    assert run("send", str(server.address), given='1\n\n[2]\n"three"') == (0, '1\n[2]\n"three"\n', "")


@pytest.mark.parametrize(
    ("spec", "message", "shown"),
    [
        ("lines+text", "hällo", '"hällo"\n'),
        ("netstring", "raw", '"raw"\n'),
        ("varint+crc32+msgpack", '{"a":null}', '{"a": null}\n'),
        ("cobs+cbor", "[1,2]", "[1, 2]\n"),
    ],
)
def test_any_wire_does(capsys, spec, message, shown):
    with blocking.Server(("127.0.0.1", 0), Wire.parse(spec), Echo()) as server:
        assert status(capsys, "send", str(server.address), "--wire", spec, message) == (0, shown, "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("send", "nowhere", "1"), 2, "no scheme"),
        (("send", "unix:/nonexistent/s", "1"), 1, "no such socket file"),
        (("send", "tcp://127.0.0.1:1", "1"), 1, "nobody listens there"),
        (("send", "unix:/nonexistent/s", "{"), 2, "message 1 is no JSON"),
        (("send", "unix:/nonexistent/s", "[" * 100_000), 2, "message 1"),
        (("send", "unix:/nonexistent/s", "--wire", "u32+jsn", "1"), 2, "did you mean 'json'"),
        (("serve", "--listen", "tcp://127.0.0.1"), 2, "no port"),
        (("serve", "--listen", "tcp://192.0.2.1:1"), 1, "no such address"),
        (("serve", "--listen", "unix:/nonexistent/s", "--workers", "2"), 2, "only a TCP port can be shared"),
        (("serve", "--workers", "0"), 2, "--workers"),
        (("serve", "--listen", "udp://127.0.0.1:1"), 2, "datagrams"),
        (("serve", "--listen", "tls://127.0.0.1:1"), 2, "needs a certificate"),
        (("send", "udp://127.0.0.1:1", "1"), 2, "datagrams"),
        (("dance",), 2, "dance"),
    ],
)
def test_errors_are_one_line_and_a_status(capsys, arguments, code, says):
    got, out, err = status(capsys, *arguments)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("framing-echo: ")
    assert says in err


def test_a_server_that_closes_without_an_answer_is_an_error(capsys):
    class Rude:
        def received(self, peer, message):
            peer.close()

    with blocking.Server(("127.0.0.1", 0), Wire.parse("u32+json"), Rude()) as server:
        code, out, err = status(capsys, "send", str(server.address), "1")
    assert (code, out) == (1, "")
    assert "before it had answered 1" in err


def test_a_server_that_does_not_answer_is_an_error(capsys):
    class Silent:
        def received(self, peer, message):
            pass

    with blocking.Server(("127.0.0.1", 0), Wire.parse("u32+json"), Silent()) as server:
        code, _, err = status(capsys, "send", str(server.address), "--timeout", "0.05", "1")
    assert code == 1
    assert "no answer in 0.05 s" in err


def test_a_reply_that_differs_is_shown_and_is_status_one(capsys):
    class Liar:
        def received(self, peer, message):
            peer.send("lie")

    with blocking.Server(("127.0.0.1", 0), Wire.parse("u32+json"), Liar()) as server:
        code, out, err = status(capsys, "send", str(server.address), "1")
    assert (code, out) == (1, '"lie"\n')
    assert "not what was sent" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serve_ends_cleanly_by_signal_with_a_client_connected(tmp_path, number, code):
    command = [*COMMAND, "serve", "--listen", f"unix:{tmp_path}/s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            place = re.match(r"echo at (\S+), wire u32\+json", process.stdout.readline())
            assert place is not None
            with blocking.connect(place[1], Wire.parse("u32+json"), timeout=5) as connection:
                connection.send(["hello"])
                assert connection.receive() == ["hello"]
                process.send_signal(number)
                out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err.strip()) == (code, "", "")
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(not (hasattr(os, "fork") and hasattr(socket, "SO_REUSEPORT")), reason="no fork, or no SO_REUSEPORT")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_workers_share_the_port_and_end_cleanly_by_signal(number, code):
    command = [*COMMAND, "serve", "--listen", "tcp://127.0.0.1:0", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            place = re.match(
                r"echo at (tcp://127\.0\.0\.1:[1-9]\d*), wire u32\+json, 2 workers\n", process.stdout.readline()
            )
            assert place is not None
            for _ in range(8):
                with blocking.connect(place[1], Wire.parse("u32+json"), timeout=5) as connection:
                    connection.send(["hello"])
                    assert connection.receive() == ["hello"]
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (code, "", "")


def test_without_click_one_line_says_what_to_install():
    program = "import sys; sys.modules['click'] = None; from protocols.echo.cli import main; main(['send'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "framing-echo: this command needs click: pip install 'framing[cli]'\n"


def test_help_is_shown(capsys):
    assert "serve" in status(capsys, "--help")[1]
    code, _, err = status(capsys)
    assert code in (0, 2)
    assert "Traceback" not in err
