"""The echo commands: replies, figures, one-line errors and exit statuses. How they end by signals is in test_signals.py."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from framing import Wire
from framing.drivers import blocking, datagram
from protocols.echo import Echo, command_load

from .processes import COMMAND, DRIVERS, serving

NOT_HERE = "tcp://192.0.2.1:1"
"""No machine has this address: it is for examples (RFC 5737)."""


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
        (("send", "unix:/nonexistent/s", "1", "--timeout", "nan"), 2, "nan is no time"),
        (("load", "unix:/nonexistent/s", "--timeout", "inf"), 2, "inf is no time"),
        (("load", "unix:/nonexistent/s", "--seconds", "nan"), 2, "nan is no time"),
        (("send", "unix:/nonexistent/s", "[" * 100_000), 2, "message 1"),
        (("send", "unix:/nonexistent/s", "--wire", "u32+jsn", "1"), 2, "did you mean 'json'"),
        (("serve", "--listen", "tcp://127.0.0.1"), 2, "no port"),
        (("serve", "--listen", NOT_HERE), 1, "no such address"),
        (("serve", "--listen", "unix:/nonexistent/s", "--workers", "2"), 2, "only a TCP port can be shared"),
        # No server that is asked for here could listen: one that began to serve would never return.
        (("serve", "--listen", NOT_HERE, "--workers", "0"), 2, "--workers"),
        (("serve", "--listen", "udp://192.0.2.1:1", "--workers", "2"), 2, "datagrams"),
        (("serve", "--listen", "udp://192.0.2.1:1", "--driver", "asyncio"), 2, "--driver is for streams"),
        (("serve", "--listen", "udp://192.0.2.1:1"), 1, "no such address"),
        (("serve", "--listen", "tls://192.0.2.1:1"), 2, "give --tls-cert FILE"),
        (("serve", "--listen", NOT_HERE, "--driver", "twisted"), 2, "'selector', 'threads', 'asyncio'"),
        (("serve", "--listen", NOT_HERE, "--wire", "u33"), 2, "did you mean 'u32'"),
        (("serve", "--listen", NOT_HERE, "--tls-key", "key.pem"), 2, "give --tls-cert too"),
        (("serve", "--listen", "unix:/nonexistent/s", "--tls-cert", "x"), 2, "is for tls://host:port"),
        (("serve", "--listen", NOT_HERE, "--workers", "2"), 1, "no such address"),
        (("send", "unix:/tmp/s", "1", "--tls-ca", "x"), 2, "is for tls://host:port"),
        (("send", "tcp://127.0.0.1:1", "1", "--tls-ca", "/nonexistent/ca"), 1, "/nonexistent/ca: No such file"),
        (("send", "tcp://127.0.0.1:1", "1", "--tls-ca", os.devnull), 1, "holds no certificate"),
        (("send", "udp://127.0.0.1:2", "1"), 1, "nobody listens there"),
        (("load", "tcp://127.0.0.1:1"), 1, "nobody listens there"),
        (("load", "udp://127.0.0.1:2"), 1, "nobody listens there"),
        (("load", "tls://127.0.0.1:1"), 1, "nobody listens there"),
        (("load", "unix:/nonexistent/s"), 1, "no such socket file"),
        (("load", "nowhere"), 2, "no scheme"),
        (("load",), 2, "URL"),
        (("load", "unix:/s", "--wire", "mqtt"), 2, "takes any payload"),
        (("load", "unix:/s", "--wire", "u32(max_frame=16)"), 2, "below max_frame=16"),
        (("load", "unix:/s", "--messages", "1", "--seconds", "1"), 2, "give one of them"),
        (("load", "unix:/s", "--messages", "0"), 2, "--messages"),
        (("load", "unix:/s", "--size", "large"), 2, "'large' is no size"),
        (("load", "unix:/s", "--size", "9-1"), 2, "'9-1' is no size"),
        (("load", "tcp://127.0.0.1:1", "--tls-ca", "/nonexistent/ca"), 1, "/nonexistent/ca: No such file"),
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


def test_a_stream_that_ends_inside_a_frame_is_an_error_and_no_ctrl_d(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as sock:
                sock.recv(100)
                sock.sendall(b"\0\0\0\5hel")

        thread = threading.Thread(target=answer)
        thread.start()
        code, out, err = status(capsys, "send", f"tcp://127.0.0.1:{listener.getsockname()[1]}", "1")
        thread.join(10)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "ended inside the frame at byte 0" in err


def test_one_is_not_true(capsys):
    class Python:
        def received(self, peer, message):
            peer.send(message == 1)

    with blocking.Server(("127.0.0.1", 0), Wire.parse("u32+json"), Python()) as server:
        code, out, err = status(capsys, "send", str(server.address), "1")
    assert (code, out) == (1, "true\n")
    assert "not what was sent, 1" in err


def test_a_reader_who_has_gone_is_no_error_of_the_connection(server):
    with subprocess.Popen(
        [*COMMAND, "send", str(server.address)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stdin is not None
        process.stdin.write(b"1\n" * 10_000)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(30)) == (b"", 141)


# --------------------------------------------------------------- what serve serves


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_driver_serves_plain_and_tls_in_one_process_and_in_several(capsys, driver, workers, certificates):
    options = ("--driver", driver, "--workers", str(workers))
    with serving(*options) as (_, url):
        assert url.startswith("tcp://")
        assert status(capsys, "send", url, "[1]", '"x"') == (0, '[1]\n"x"\n', "")
    tls = ("--tls-cert", str(certificates.cert), "--tls-key", str(certificates.key))
    with serving(*options, *tls) as (_, url):
        assert url.startswith("tls://")
        assert status(capsys, "send", url, "[1]", "--tls-ca", str(certificates.ca)) == (0, "[1]\n", "")
        code, out, err = status(capsys, "send", url, "1")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "certificate was refused" in err
        code, out, err = status(capsys, "load", url, "--messages", "100", "--tls-ca", str(certificates.ca))
        assert (code, err) == (0, "")


def test_the_selector_is_the_default(tmp_path):
    with serving(listen=f"unix:{tmp_path}/s") as (process, url), contextlib.ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(blocking.connect(url, Wire.parse("u32+json"), timeout=10))
            connection.send(1)
            assert connection.receive() == 1
        tasks = Path(f"/proc/{process.pid}/task")
        if not tasks.exists():
            pytest.skip("this system does not show a process's threads")
        assert len(list(tasks.iterdir())) == 1


def test_a_certificate_and_its_key_may_be_in_one_file(capsys, certificates):
    with serving("--tls-cert", str(certificates.both), listen="tls://127.0.0.1:0") as (_, url):
        assert status(capsys, "send", url, "1", "--tls-ca", str(certificates.ca)) == (0, "1\n", "")


def test_datagrams_are_served_sent_and_loaded(capsys):
    with serving("--wire", "lines+text", listen="udp://127.0.0.1:0") as (_, url):
        assert url.startswith("udp://")
        assert status(capsys, "send", url, "--wire", "lines+text", "hello", "wörld") == (0, '"hello"\n"wörld"\n', "")
        code, out, _ = status(capsys, "load", url, "--wire", "lines+text", "--messages", "200")
        assert code == 0
        assert "200 sent, 200 came back" in out


def test_a_packet_without_an_answer_is_an_error(capsys):
    class Silent:
        def received(self, peer, message):
            pass

    with datagram.Server(("127.0.0.1", 0), Wire.parse("u32+json"), Silent()) as server:
        code, _, err = status(capsys, "send", str(server.address), "--timeout", "0.05", "1")
    assert code == 1
    assert "no answer in 0.05 s" in err


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_one_line(capsys, driver, workers):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        code, out, err = status(capsys, "serve", "--driver", driver, "--listen", url, "--workers", workers)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "something listens there already" in err


@pytest.mark.parametrize("scheme", ["udp", "unix"])
def test_a_place_in_use_is_one_line_for_other_sockets_too(capsys, scheme, tmp_path):
    with serving(listen="udp://127.0.0.1:0" if scheme == "udp" else f"unix:{tmp_path}/s") as (_, url):
        code, out, err = status(capsys, "serve", "--listen", url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "something listens there already" in err


def test_certificates_that_are_wrong_are_one_line_that_names_the_file(capsys, certificates, tmp_path):
    locked = tmp_path / "locked.pem"
    key = certificates.key.read_bytes()
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key, None)
    form = serialization.BestAvailableEncryption(b"secret")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(loaded.private_bytes(pem, pkcs8, form))
    cert, key, stranger = str(certificates.cert), str(certificates.key), str(certificates.stranger)
    for files, says in (
        (("--tls-cert", "/nonexistent"), "--tls-cert: /nonexistent: No such file"),
        (("--tls-cert", str(tmp_path)), f"--tls-cert: {tmp_path}: Is a directory"),
        (("--tls-cert", key), f"--tls-cert: {key} holds no certificate"),
        (("--tls-cert", os.devnull, "--tls-key", key), "holds no certificate"),
        (("--tls-cert", cert), f"--tls-cert: {cert} holds no key; give --tls-key FILE"),
        (("--tls-cert", cert, "--tls-key", "/nonexistent"), "--tls-key: /nonexistent: No such file"),
        (("--tls-cert", cert, "--tls-key", cert), f"--tls-key: {cert} holds no key"),
        (("--tls-cert", cert, "--tls-key", stranger), f"the key in {stranger} does not fit the certificate in {cert}"),
        (("--tls-cert", cert, "--tls-key", str(locked)), f"--tls-key: {locked}: the key has a passphrase"),
    ):
        for workers in ("1", "2"):
            code, out, err = status(capsys, "serve", "--listen", NOT_HERE, "--workers", workers, *files)
            assert (code, out, err.count("\n")) == (1, "", 1), err
            assert says in err


# ---------------------------------------------------------------------------- load


def test_load_prints_its_figures(capsys, server):
    code, out, err = status(capsys, "load", str(server.address), "--messages", "300", "--connections", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{server.address}, wire u32+json, 64 bytes, 16 under way a connection"
    assert lines[1].split() == ["connections", "3,", "0", "failed"]
    assert "300 sent, 300 came back as they went, byte for byte" in lines[2]
    assert "messages/s" in lines[3]
    assert "MB/s each way" in lines[3]
    for name in ("p50", "p90", "p99", "max"):
        assert f"{name} " in lines[4]
    assert "0 lost, 0 doubled, 0 changed, 0 out of order" in lines[5]
    assert "\x1b" not in out


def test_load_prints_json(capsys, server):
    code, out, err = status(capsys, "load", str(server.address), "--seconds", "0.1", "--size", "5-90", "--json")
    assert (code, err) == (0, "")
    made = json.loads(out)
    assert made["replies"] == made["sent"] > 0
    assert (made["right"], made["size"], made["wire"], made["pipeline"]) == (True, "5-90", "u32+json", 16)
    assert made["address"] == str(server.address)
    assert made["seconds"] > 0


def test_load_finds_what_is_wrong_and_its_status_says_so(capsys):
    class Liar:
        def received(self, peer, message):
            peer.send({**message, "id": 0} if message["id"] == 7 else message)

    with blocking.Server(("127.0.0.1", 0), Wire.parse("u32+json"), Liar()) as server:
        code, out, _ = status(capsys, "load", str(server.address), "--messages", "50")
        assert (code, "49 came back" in out, "1 changed" in out) == (1, True, True)
        code, out, _ = status(capsys, "load", str(server.address), "--messages", "50", "--json")
        assert (code, json.loads(out)["changed"], json.loads(out)["right"]) == (1, 1, False)


def test_load_tells_why_connections_failed(capsys):
    class HangsUp:
        def received(self, peer, message):
            peer.send(message)
            if message["id"] > 20:
                peer.close()

    with blocking.Server(("127.0.0.1", 0), Wire.parse("u32+json"), HangsUp()) as server:
        code, out, err = status(capsys, "load", str(server.address), "--messages", "100", "--connections", "1")
    assert code == 1
    assert "1 failed" in out
    assert err.startswith("framing-echo: a connection failed: ")


def test_a_server_of_another_wire_is_one_line(capsys):
    with blocking.Server(("127.0.0.1", 0), Wire.parse("cobs+crc32"), Echo()) as server:
        code, out, err = status(capsys, "load", str(server.address), "--messages", "10", "--timeout", "0.5")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "does it speak u32+json?" in err


def test_a_process_that_may_not_have_so_many_connections_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(command_load, "allow", lambda _: 7)
    code, out, err = status(capsys, "load", "tcp://127.0.0.1:1", "--connections", "8")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "may not have 8 connections" in err


def test_the_progress_bar_is_for_terminals_alone_and_on_standard_error(server):
    ours, theirs = pty.openpty()
    command = [*COMMAND, "load", str(server.address), "--seconds", "0.6"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # what the end of a terminal is here
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(30) == 0
    assert b"8 connections" in shown
    assert b"messages/s" in shown
    assert shown.endswith((b"\x1b[?25h", b"\x1b[2K", b"\x1b[1A"))  # the cursor is shown again, the bar is gone
    assert b"\x1b[?25h" in shown
    assert b"\x1b" not in out


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
