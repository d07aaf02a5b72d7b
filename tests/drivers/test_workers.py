"""Workers as real processes: one port for all, signals passed on, deaths told, and nobody left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from framing import ConnectionFailed, Wire
from framing.drivers import blocking
from framing.drivers.workers import run_workers

WIRE = Wire.parse("u32+json")

pytestmark = pytest.mark.skipif(
    not (hasattr(os, "fork") and hasattr(socket, "SO_REUSEPORT")), reason="no fork, or no SO_REUSEPORT, here"
)

PROGRAM = textwrap.dedent(
    """
    import os, ssl, sys, threading, time
    from framing import Wire
    from framing.drivers import aio, blocking, selector
    from framing.drivers.workers import run_workers

    wire = Wire.parse("u32+json")
    context, address = None, "tcp://127.0.0.1:0"
    if {certificate!r}:
        context, address = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "tls://127.0.0.1:0"
        context.load_cert_chain({certificate!r})

    class Pid:
        def received(self, peer, message):
            if message == "die":
                os._exit(7)
            if message == "hang":
                time.sleep(60)
            peer.send(os.getpid())

    def make(address):
        return {server}(address, wire, Pid(), ssl_context=context, reuse_port=True, drain_timeout={drain})

    outcome = run_workers({count}, address, make, grace={grace}, ready=lambda a: print(a, flush=True))
    print(sorted(outcome.exits), outcome.signal, threading.active_count(), flush=True)
    """
)


every_server = pytest.mark.parametrize("server", ["blocking.Server", "selector.Server", "aio.StandaloneServer"])


@contextlib.contextmanager
def running(server="blocking.Server", grace=5.0, drain=1.0, certificate=""):
    program = PROGRAM.format(count=2, server=server, grace=grace, drain=drain, certificate=str(certificate))
    # A session of its own: Ctrl-C goes to the whole group, as a terminal sends it.
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ask(address, message=0, **options):
    with blocking.connect(address, WIRE, timeout=5, **options) as connection:
        connection.send(message)
        return connection.receive()


def both(address, **options):
    """The processes behind ``address``; the system spreads connections by chance, so it takes some."""
    pids: set[int] = set()
    end = time.monotonic() + 5
    while len(pids) < 2:
        assert time.monotonic() < end
        pids.add(ask(address, **options))
    return pids


def gone(pid):
    """Whether the process ends within some seconds; one that only waits for its parent to look at its status has ended."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except ProcessLookupError:
            return True
        except OSError:
            state = "?"
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@every_server
def test_workers_share_one_port_and_end_by_sigterm(server):
    with running(server) as (process, address):
        assert not address.endswith(":0")
        pids = both(address)
        assert process.pid not in pids
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert (out, err, process.returncode) == (f"[0, 0] {signal.SIGTERM.value} 1\n", "", 0)
        assert all(gone(pid) for pid in pids)


@every_server
def test_ctrl_c_reaches_all_and_ends_without_a_traceback(server):
    with running(server) as (process, address):
        both(address)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert (out, err) == (f"[0, 0] {signal.SIGINT.value} 1\n", "")


@every_server
def test_workers_share_a_certificate_and_a_port(server, authority, contexts, tmp_path):
    certificate = tmp_path / "both.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with running(server, certificate=certificate) as (process, address):
        assert address.startswith("tls://")
        both(address, ssl_context=contexts[1])
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert (out, err) == (f"[0, 0] {signal.SIGTERM.value} 1\n", "")


def test_one_that_dies_is_logged_and_the_others_go_on():
    with running() as (process, address):
        pids = both(address)
        with pytest.raises(ConnectionError):
            ask(address, "die")
        time.sleep(0.1)
        assert {ask(address) for _ in range(5)} < pids
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert out.startswith("[0, 7] ")
        assert re.search(r"has ended with status 7; it is not started again, 1 go on", err)


def test_who_does_not_end_is_killed_after_the_grace():
    with running(grace=0.3, drain=30) as (process, address):
        with blocking.connect(address, WIRE) as connection:
            connection.send("hang")
            time.sleep(0.1)
            before = time.monotonic()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=10)
            assert time.monotonic() - before < 3
        assert out.startswith(f"[-{signal.SIGKILL.value}, 0] ")
        assert "1 workers have not ended in 0.3 s and are killed" in err


def test_workers_do_not_outlive_a_parent_that_is_killed():
    with running() as (process, address):
        pids = both(address)
        process.kill()
        process.wait()
        assert all(gone(pid) for pid in pids)


def test_one_that_cannot_start_stops_all():
    program = PROGRAM.format(count=3, server="blocking.Server", grace=5, drain=1, certificate="").replace(
        "def make(address):", "def make(address):\n    raise ZeroDivisionError"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0
    assert "[1, 1, 1] None 1\n" in done.stdout
    assert "ZeroDivisionError" in done.stderr


def test_a_port_in_use_is_told_once_and_no_worker_is_started():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ConnectionFailed, match="something listens there already"),
    ):
        run_workers(2, listener.getsockname(), lambda _: pytest.fail("it was started"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 0}, "1 worker at least"),
        ({"grace": -1}, "seconds"),
        ({"address": "unix:/run/x.sock"}, "only a TCP port"),
        ({"address": "udp://127.0.0.1:0"}, "datagrams"),
    ],
)
def test_options_that_are_none_are_refused(options, says):
    given = {"count": 1, "address": "tcp://127.0.0.1:0", "make_server": print, **options}
    with pytest.raises(ValueError, match=says):
        run_workers(given.pop("count"), given.pop("address"), given.pop("make_server"), **given)


def test_beside_other_threads_it_does_not_fork():
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="before other threads"):
            run_workers(1, "tcp://127.0.0.1:0", lambda _: pytest.fail("it was started"))
    finally:
        go_on.set()
        thread.join()
