"""Connections that end before they have begun, or just then: nothing leaks, nobody else notices, and it is told right."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from framing import Wire
from framing.drivers import aio, blocking, selector
from framing.drivers.address import Address, listen

WIRE: Wire[Any] = Wire.parse("lines+text")
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
SERVERS: dict[str, Any] = {"selector": selector.Server, "threads": blocking.Server, "asyncio": aio.StandaloneServer}


def accepted(port: int) -> list[int]:
    """This process's descriptors of connections to ``port``, at the end that was accepted; alive or reset.

    By their port, and not all that the process has: other things run in it too, and open and close what they like.
    """
    found: list[int] = []
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        with contextlib.suppress(OSError):  # it is closed by now, or is no socket
            sock = socket.socket(fileno=number)
            try:
                if sock.getsockname()[1:2] == (port,) and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.append(number)
            finally:
                sock.detach()  # it is somebody else's
    return found


class Echo:
    def received(self, peer: Any, message: Any) -> None:
        peer.send(message)


def test_a_client_that_is_closed_just_as_it_is_connected_ends_nothing_else() -> None:
    target = socket.create_server(("127.0.0.1", 0))

    class Asking:
        client: Any = None
        others: Any = None

        def received(self, peer: Any, message: str) -> None:
            if message == "connect":
                self.client = server.connect(target.getsockname(), WIRE, Echo())
                time.sleep(0.2)  # it is connected when the loop looks again, and so is the next message there
            elif message == "close":
                self.client.close()
            peer.send(message)

    server = selector.Server(("127.0.0.1", 0), WIRE, Asking())
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with blocking.connect(server.address, WIRE, timeout=30) as one:
            for _ in range(5):
                one.send("connect")
                time.sleep(0.1)
                one.send("close")
                assert [one.receive(), one.receive()] == ["connect", "close"]
    finally:
        server.stop()
        thread.join()
        server.close()
        target.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors in /proc")
@pytest.mark.parametrize("driver", SERVERS)
def test_a_reset_before_the_handshake_leaves_no_descriptor(driver: str, contexts: Contexts) -> None:
    server = SERVERS[driver](("127.0.0.1", 0), WIRE, Echo(), ssl_context=contexts[0])
    thread = threading.Thread(target=server.run)
    thread.start()
    gc.disable()  # a cycle would be found some day, and its descriptor is missed before
    try:
        with blocking.connect(server.address, WIRE, ssl_context=contexts[1], timeout=30) as other:
            other.send("x")
            assert other.receive() == "x"
            assert len(accepted(server.address.port)) == 1
            for _ in range(200):
                rude = socket.create_connection((server.address.host, server.address.port))
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                rude.close()
            for _ in range(100):
                other.send("x")
                assert other.receive() == "x"
                if len(accepted(server.address.port)) == 1:
                    break
                time.sleep(0.1)
            assert len(accepted(server.address.port)) == 1
    finally:
        gc.enable()
        server.stop()
        thread.join()
        server.close()


@pytest.mark.parametrize("driver", SERVERS)
@pytest.mark.parametrize("place", ["tcp", "unix"])
def test_a_clean_end_of_tls_is_clean_also_while_the_service_is_busy(
    driver: str, place: str, contexts: Contexts, tmp_path: Path
) -> None:
    ends: list[Exception | None] = []
    over = threading.Event()

    class Busy:
        def received(self, peer: Any, message: Any) -> None:
            time.sleep(0.3)

        def closed(self, peer: Any, error: Exception | None) -> None:
            ends.append(error)
            over.set()

    address: Any = ("127.0.0.1", 0) if place == "tcp" else f"unix:{tmp_path / 's'}"
    server = SERVERS[driver](address, WIRE, Busy(), ssl_context=contexts[0])
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        if place == "tcp":
            plain = socket.create_connection((server.address.host, server.address.port))
        else:
            plain = socket.socket(socket.AF_UNIX)
            plain.connect(server.address.path)
        with contexts[1].wrap_socket(plain, server_hostname="localhost") as secure:
            secure.sendall(b"x\n")
            time.sleep(0.1)
            secure.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                secure.unwrap()  # says good-bye, and does not wait for the answer
        assert over.wait(30)
        assert ends == [None]
    finally:
        server.stop()
        thread.join()
        server.close()


def ask_blocking() -> str:
    with blocking.connect(("two.example", 1), WIRE, timeout=2) as connection:
        connection.send("x")
        return str(connection.receive())


def ask_a_loop() -> str:
    heard: list[Any] = []

    class Asking:
        def received(self, peer: Any, message: str) -> None:
            heard.append(message)
            loop.stop()

        def closed(self, peer: Any, error: Exception | None) -> None:
            heard.append(error)
            loop.stop()

    with selector.Loop() as loop:
        loop.connect(("two.example", 1), WIRE, Asking(), timeout=2).send("x")
        loop.run()
    return str(heard[0])


def ask_asyncio() -> str:
    async def ask() -> str:
        async with aio.connect(("two.example", 1), WIRE, timeout=2) as connection:
            await connection.send("x")
            return str(await connection.receive())

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [ask_blocking, ask_a_loop, ask_asyncio])
def test_a_dead_first_address_leaves_time_for_the_second_one(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = [socket.socket() for _ in range(3)]
    for sock in waiting:
        sock.setblocking(False)
        sock.connect_ex(full.getsockname())
    server = blocking.Server(("127.0.0.1", 0), WIRE, Echo())
    thread = threading.Thread(target=server.run)
    thread.start()
    living = ("127.0.0.1", server.address.port)
    tried = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in (full.getsockname(), living)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: tried)
    try:
        assert ask() == "x"
    finally:
        monkeypatch.undo()
        server.stop()
        thread.join()
        server.close()
        for sock in (*waiting, full):
            sock.close()


def test_two_who_find_one_stale_file_do_not_both_take_its_place(tmp_path: Path) -> None:
    for number in range(50):
        path = tmp_path / f"{number}"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        start = threading.Barrier(2)
        taken: list[socket.socket] = []
        refused: list[OSError] = []

        def take(path: Path = path, start: Any = start, taken: Any = taken, refused: Any = refused) -> None:
            start.wait()
            try:
                taken.append(listen(Address.parse(f"unix:{path}")))
            except OSError as error:
                refused.append(error)

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for sock in taken:
            sock.close()
        assert (len(taken), len(refused)) == (1, 1)
