"""Ctrl-C and SIGTERM, sent to real processes as a terminal sends them, to the whole group: statuses, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time

import pytest

from framing import Wire
from framing.drivers import blocking, datagram

from .processes import COMMAND, DRIVERS, interrupt, serving, started

WIRE = Wire.parse("u32+json")


class Recorder:
    """Answers, or does not, and tells when something came."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.heard = threading.Event()

    def received(self, peer, message):
        self.heard.set()
        if self.answers:
            peer.send(message)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_serve_ends_with_a_client_connected(driver, workers, number, code):
    with (
        serving("--driver", driver, "--workers", workers) as (process, url),
        blocking.connect(url, WIRE, timeout=10) as connection,
    ):
        connection.send(["hello"])
        assert connection.receive() == ["hello"]
        assert interrupt(process, number) == (code, "", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("driver", DRIVERS)
def test_serve_ends_with_tls_and_with_a_peer_that_does_not_shake_hands(driver, number, code, certificates):
    with (
        serving("--driver", driver, "--tls-cert", str(certificates.both)) as (process, url),
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))),
        blocking.connect(url, WIRE, timeout=10, ssl_context=certificates.client) as connection,
    ):
        connection.send(["hello"])
        assert connection.receive() == ["hello"]
        assert interrupt(process, number) == (code, "", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("scheme", ["udp", "unix"])
def test_serve_ends_at_other_sockets_and_removes_its_file(scheme, number, code, tmp_path):
    listen = "udp://127.0.0.1:0" if scheme == "udp" else f"unix:{tmp_path}/s"
    with serving(listen=listen) as (process, url):
        if scheme == "udp":
            with datagram.connect(url, WIRE, timeout=10) as endpoint:
                endpoint.send(1)
                assert endpoint.receive().message == 1
        assert interrupt(process, number) == (code, "", "")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_second_ctrl_c_does_not_wait_for_a_peer_that_does_not_read(driver):
    with (
        serving("--driver", driver, "--wire", "u32(max_frame=64M)") as (process, url),
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sock,
    ):
        sock.sendall(Wire.parse("u32(max_frame=64M)").encode(bytes(1 << 25)))
        assert sock.recv(1) == b"\2"  # the echo of it has begun, and has no place to go
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
        assert interrupt(process) == (130, "", "")
        assert time.monotonic() - began < 4.5  # it would drain for five seconds


@pytest.mark.parametrize("kind", [blocking.Server, datagram.Server])
@pytest.mark.parametrize("given", ["argument", "input"])
def test_send_that_waits_for_a_reply_ends(given, kind):
    recorder = Recorder(answers=False)
    with kind(("127.0.0.1", 0), WIRE, recorder) as server:
        arguments = ["1"] if given == "argument" else []
        with started(*COMMAND, "send", str(server.address), "--timeout", "60", *arguments, stdin=-1) as process:
            assert process.stdin is not None
            process.stdin.write("1\n")
            process.stdin.flush()
            assert recorder.heard.wait(20)
            assert interrupt(process) == (130, "", "")


def test_send_that_waits_for_somebody_to_type_ends():
    recorder = Recorder()
    with (
        blocking.Server(("127.0.0.1", 0), WIRE, recorder) as server,
        started(*COMMAND, "send", str(server.address), stdin=-1) as process,
    ):
        assert process.stdin is not None
        process.stdin.write("1\n")
        process.stdin.flush()
        assert recorder.heard.wait(20)
        time.sleep(0.2)  # it has its reply, and waits for the next line
        code, out, err = interrupt(process)
    assert (code, err) == (130, "")
    assert out in {"1\n", ""}


def test_send_that_connects_ends(certificates):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        started(
            *COMMAND,
            "send",
            f"tls://127.0.0.1:{silent.getsockname()[1]}",
            *("1", "--tls-ca", str(certificates.ca), "--timeout", "60"),
        ) as process,
    ):
        sock, _ = silent.accept()
        with sock:
            assert sock.recv(1) == b"\x16"  # it begins to shake hands, and nobody answers
            assert interrupt(process) == (130, "", "")


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("as_json", [True, False])
def test_load_prints_the_figures_so_far(scheme, answers, as_json):
    recorder = Recorder(answers=answers)
    kind = blocking.Server if scheme == "tcp" else datagram.Server
    options = ["--seconds", "600", "--timeout", "600", *(["--json"] if as_json else [])]
    with (
        kind(("127.0.0.1", 0), WIRE, recorder) as server,
        started(*COMMAND, "load", str(server.address), *options) as process,
    ):
        assert recorder.heard.wait(20)
        time.sleep(0.2)
        code, out, err = interrupt(process)
    assert (code, err) == (130, "")
    if as_json:
        made = json.loads(out)
        assert (made["stopped"], made["right"], made["failed"]) == (True, True, 0)
        assert made["sent"] == made["replies"] + made["unanswered"] > 0
        assert (made["replies"] > 0) is answers
    else:
        assert "still under way" in out
        assert (" 0 came back" not in out) is answers


def test_load_that_connects_ends(certificates):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        started(
            *COMMAND,
            "load",
            f"tls://127.0.0.1:{silent.getsockname()[1]}",
            *("--tls-ca", str(certificates.ca), "--timeout", "60"),
        ) as process,
    ):
        sock, _ = silent.accept()
        with sock:
            assert sock.recv(1) == b"\x16"
            code, out, err = interrupt(process)
    assert (code, err) == (130, "")
    assert "0 sent" in out


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1])
def test_the_demo_ends_wherever_it_is(delay):
    program = (
        "import sys, framing.cli.demo as demo\n"
        "real = demo.conversation\n"
        "def again(*given):\n"
        "    print('it begins', file=sys.stderr, flush=True)\n"
        "    while True:\n"
        "        real(*given)\n"
        "demo.conversation = again\n"
        "from framing.cli import main\n"
        "main(['demo', '--messages', '1000'])\n"
    )
    with started(sys.executable, "-c", program) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "it begins\n"
        time.sleep(delay)
        code, _, err = interrupt(process)
    assert (code, err) == (130, "")
