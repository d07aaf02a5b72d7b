"""The errors that people meet, provoked for real: each is one of ours and the builtin, keeps its number, and says what to do.

The rows are those of docs/reference/connection-errors.md; a test holds the two together.
"""

# ruff: noqa: SIM117 # the server's block around its clients' reads as what it is

from __future__ import annotations

import asyncio
import errno
import re
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

import framing
from framing import (
    ConnectionClosed,
    ConnectionFailed,
    ConnectionRefused,
    ConnectionReset,
    FramingError,
    LengthPrefixed,
    Timeout,
    Wire,
)
from framing.drivers import aio, blocking, nonblocking, selector

WIRE = Wire.parse("u32+json")
RAW = Wire(LengthPrefixed(4, max_frame=1 << 26))
PAGE = Path(__file__).parents[2] / "docs/reference/connection-errors.md"

MET = {
    errno.EBADF: (ConnectionClosed, ConnectionError, "closed on this side"),
    errno.EINVAL: (ConnectionFailed, ConnectionError, "needs its interface"),
    errno.EMFILE: (ConnectionFailed, ConnectionError, "too many files open"),
    errno.EPIPE: (ConnectionReset, BrokenPipeError, "dropped the connection"),
    errno.EADDRINUSE: (ConnectionFailed, ConnectionError, "something listens there already"),
    errno.ECONNRESET: (ConnectionReset, ConnectionResetError, "dropped the connection"),
    errno.ENOTCONN: (ConnectionFailed, ConnectionError, "is not connected"),
    errno.ETIMEDOUT: (Timeout, TimeoutError, "no answer came in time"),
    errno.ECONNREFUSED: (ConnectionRefused, ConnectionRefusedError, "nobody listens there"),
}


class Echo:
    def received(self, peer, message):
        peer.send(message)


def is_the_error(number, error, address=None):
    ours, builtin, says = MET[number]
    assert isinstance(error, ours), repr(error)
    assert isinstance(error, builtin)
    assert isinstance(error, FramingError)
    assert isinstance(error, OSError)
    assert error.errno == number
    assert says in str(error)
    assert str(error).partition(says)[2], "it says what to do"
    if address is not None:
        assert error.address == framing.drivers.address.Address.parse(address)
        assert str(error.address) in str(error)
    return True


def connect_aio(address, **options):
    async def main():
        connection = await aio.connect(address, WIRE, **options)
        await connection.aclose()

    asyncio.run(main())


def connect_blocking(address, **options):
    blocking.connect(address, WIRE, **options).close()


def connect_selector(address, **options):
    """The selector driver tells its client's service."""
    ends = []

    class Client(Echo):
        def closed(self, peer, error):
            ends.append(error)
            loop.stop()

    with selector.Loop() as loop:
        loop.connect(address, WIRE, Client(), **options)
        loop.run()
    raise ends[0]


CONNECTING = pytest.mark.parametrize("connect", [connect_blocking, connect_aio, connect_selector])
SERVING = pytest.mark.parametrize("server", [blocking.Server, selector.Server])


def reset(sock):
    """Close so that the peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def pair():
    """Two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        return ours, theirs


def failing(connection):
    """Turn the non-blocking connection until it raises what is not a clean end."""
    end = time.monotonic() + 2
    while time.monotonic() < end:
        connection.handle(connection.interest)
        time.sleep(0.005)
    raise AssertionError("nothing was raised")


def test_the_page_has_each_row_with_its_names():
    rows = re.findall(r"^\| (\d+) \| (E\w+) \| `(\w+)` \| `(\w+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    if sys.platform == "linux":
        assert [int(number) for number, *_ in rows] == [9, 22, 24, 32, 98, 104, 107, 110, 111]
    assert {getattr(errno, name) for _, name, *_ in rows} == set(MET)
    for _, name, ours, builtin, says in rows:
        kind, twin, text = MET[getattr(errno, name)]
        assert (kind.__name__, twin.__name__) == (ours, builtin)
        assert says in text or text in says or name == "EINVAL"


# 9
def test_ebadf_a_socket_that_was_closed_below_its_connection():
    for call in (lambda c: c.receive(), lambda c: c.send(1), lambda c: c.receive(timeout=1)):
        ours, theirs = socket.socketpair()
        with theirs:
            connection = blocking.Connection(ours, WIRE)
            ours.close()
            with pytest.raises(ConnectionClosed) as caught:
                call(connection)
            assert is_the_error(errno.EBADF, caught.value)
            connection.close()


# 22
@CONNECTING
@pytest.mark.skipif(sys.platform != "linux", reason="other systems look for a route instead")
def test_einval_a_link_local_address_without_its_interface(connect):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    address = "tcp://[fe80::1]:9000"
    with pytest.raises(ConnectionFailed) as caught:
        connect(address, timeout=2)
    if caught.value.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
        pytest.skip("IPv6 is switched off here")
    assert is_the_error(errno.EINVAL, caught.value, address)


# 24
@pytest.mark.parametrize("connect", [connect_blocking])
def test_emfile_no_descriptors_are_left(connect):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(ConnectionFailed) as caught:
                connect(address, timeout=1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert is_the_error(errno.EMFILE, caught.value, address)


@SERVING
def test_emfile_is_met_by_servers_too(server):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    asked = "tcp://127.0.0.1:0"
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match=r"[Tt]oo many") as caught:
            server(asked, WIRE, Echo())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE


# 32
def test_epipe_behind_the_peers_end():
    ours, theirs = socket.socketpair()
    theirs.sendall(WIRE.encode("bye"))
    theirs.close()
    with blocking.Connection(ours, WIRE, timeout=5) as connection:
        with pytest.raises(BrokenPipeError) as caught:
            connection.send(1)
        assert is_the_error(errno.EPIPE, caught.value)
        assert connection.receive() == "bye"
        with pytest.raises(ConnectionClosed):
            connection.receive()


def test_epipe_in_a_loop_of_ones_own():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    with nonblocking.Connection(ours, WIRE) as connection:
        connection.reading = False
        connection.send(1)
        with pytest.raises(BrokenPipeError) as caught:
            failing(connection)
        assert is_the_error(errno.EPIPE, caught.value)


# 98
@SERVING
def test_eaddrinuse_two_servers_at_one_port(server):
    with blocking.Server(("127.0.0.1", 0), WIRE, Echo()) as first:
        with pytest.raises(ConnectionFailed) as caught:
            server(first.address, WIRE, Echo())
        assert is_the_error(errno.EADDRINUSE, caught.value, first.address)


def test_eaddrinuse_on_asyncio():
    async def main(address):
        async with aio.serve(address, WIRE, Echo()):
            raise AssertionError("it listens")

    with blocking.Server(("127.0.0.1", 0), WIRE, Echo()) as first:
        with pytest.raises(ConnectionFailed) as caught:
            asyncio.run(main(first.address))
        assert is_the_error(errno.EADDRINUSE, caught.value, first.address)


# 104
def test_econnreset_behind_what_was_whole():
    ours, theirs = pair()
    with blocking.Connection(ours, WIRE, timeout=5) as connection:
        theirs.sendall(WIRE.encode("whole"))
        assert connection.receive() == "whole"
        reset(theirs)
        with pytest.raises(ConnectionResetError) as caught:
            connection.receive()
        assert is_the_error(errno.ECONNRESET, caught.value, connection.address)


def test_econnreset_that_a_send_has_met_is_no_clean_end_to_a_receive():
    ours, theirs = pair()
    with blocking.Connection(ours, WIRE, timeout=5) as connection:
        reset(theirs)
        time.sleep(0.02)
        for call in (lambda: connection.send(1), connection.receive, connection.receive):
            with pytest.raises(ConnectionReset) as caught:
                call()
            assert is_the_error(errno.ECONNRESET, caught.value, connection.address)


def test_econnreset_in_a_loop_of_ones_own():
    ours, theirs = pair()
    ours.setblocking(False)
    with nonblocking.Connection(ours, WIRE) as connection:
        reset(theirs)
        with pytest.raises(ConnectionResetError) as caught:
            failing(connection)
        assert is_the_error(errno.ECONNRESET, caught.value, connection.address)


def test_econnreset_on_asyncio():
    async def main(address, accepted):
        async with aio.connect(address, WIRE) as connection:
            reset((await asyncio.to_thread(accepted))[0])
            await connection.receive()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(ConnectionResetError) as caught:
            asyncio.run(main(listener.getsockname(), listener.accept))
        assert is_the_error(errno.ECONNRESET, caught.value, listener.getsockname())


@SERVING
def test_econnreset_ends_one_connection_of_a_server(server):
    ends = []

    class Listening(Echo):
        def closed(self, peer, error):
            ends.append(error)

    running = server(("127.0.0.1", 0), WIRE, Listening())
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        with blocking.connect(running.address, WIRE, timeout=5) as good:
            bad = socket.create_connection((running.address.host, running.address.port))
            bad.sendall(WIRE.encode(1))
            assert bad.recv(100)
            reset(bad)
            good.send("unharmed")
            assert good.receive() == "unharmed"
            end = time.monotonic() + 2
            while not ends and time.monotonic() < end:
                time.sleep(0.005)
    finally:
        running.stop()
        thread.join()
    assert is_the_error(errno.ECONNRESET, ends[0])


# 107
def test_enotconn_a_socket_that_is_not_connected():
    with blocking.Connection(socket.socket(), WIRE, timeout=5) as connection:
        with pytest.raises(ConnectionFailed) as caught:
            connection.receive()
        assert is_the_error(errno.ENOTCONN, caught.value)


def test_enotconn_in_a_loop_of_ones_own():
    sock = socket.socket()
    sock.setblocking(False)
    with nonblocking.Connection(sock, WIRE) as connection:
        with pytest.raises(ConnectionFailed) as caught:
            failing(connection)
        assert is_the_error(errno.ENOTCONN, caught.value)


# 110
@CONNECTING
@pytest.mark.skipif(sys.platform != "linux", reason="how long the queue is differs")
def test_etimedout_a_server_whose_queue_is_full(connect):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        with socket.create_connection(full.getsockname()):
            with pytest.raises(TimeoutError) as caught:
                connect(full.getsockname(), timeout=0.1)
        assert is_the_error(errno.ETIMEDOUT, caught.value, full.getsockname())


@pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system's own patience cannot be shortened here"
)
def test_etimedout_a_peer_that_takes_nothing_and_no_clean_end_is_told_behind_it():
    ours, theirs = pair()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50)
    with theirs, blocking.Connection(ours, RAW) as connection:
        with pytest.raises(TimeoutError) as caught:
            connection.send(b"x" * (1 << 25))
        assert is_the_error(errno.ETIMEDOUT, caught.value, connection.address)
        with pytest.raises(Timeout):
            connection.receive()


# 111
@CONNECTING
def test_econnrefused_nobody_listens(connect):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError) as caught:
            connect(closed.getsockname(), timeout=5)
        assert is_the_error(errno.ECONNREFUSED, caught.value, closed.getsockname())
