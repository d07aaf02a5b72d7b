"""TLS in the blocking driver: contexts, certificates, deadlines, ends, and the upgrade in mid-stream with its attack."""

# ruff: noqa: SIM117 # the server's block around its clients' reads as what it is

from __future__ import annotations

import contextlib
import gc
import logging
import re
import socket
import ssl
import threading
import time
import warnings

import pytest
import trustme

from framing import (
    ConnectionClosed,
    ConnectionFailed,
    ConnectionReset,
    CorruptFrame,
    FramingError,
    LengthPrefixed,
    Lines,
    Timeout,
    Wire,
)
from framing.channel import State
from framing.drivers import blocking
from framing.drivers.address import Address
from framing.drivers.service import UpgradablePeer
from framing.drivers.tls import client_tls, server_tls

WIRE = Wire.parse("u32+json")
RAW = Wire(LengthPrefixed(4, max_frame=1 << 25))
LOCAL = "tls://127.0.0.1:0"


@pytest.fixture(autouse=True)
def _no_socket_is_left_open():
    threads = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        yield
        gc.collect()
    until(lambda: threading.active_count() == threads)


def until(condition, seconds=3.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


class Echo:
    def __init__(self):
        self.opened_peers = []
        self.ends = []

    def opened(self, peer):
        self.opened_peers.append(peer)

    def received(self, peer, message):
        peer.send(message)

    def closed(self, peer, error):
        self.ends.append(error)


def plain(server):
    sock = socket.create_connection((server.address.host, server.address.port))
    sock.settimeout(5)
    return sock


# --------------------------------------------------------------------- options


def test_a_tls_address_takes_the_default_context_and_a_name_to_check():
    context, name = client_tls(Address.parse("tls://example.org:1"), None, None)
    assert context is not None
    assert (context.verify_mode, context.check_hostname, name) == (ssl.CERT_REQUIRED, True, "example.org")
    assert client_tls(Address.parse("tls://example.org:1"), None, "other.example")[1] == "other.example"
    assert client_tls(Address.parse("tls://[fe80::1%eth0]:1"), None, None)[1] == "fe80::1"
    assert client_tls(Address.parse("tcp://example.org:1"), None, None) == (None, None)


def test_options_that_do_not_fit_are_told_before_anything_is_opened(contexts):
    server, client = contexts
    nowhere = "tcp://127.0.0.1:1"
    for context, options, says in (
        (server, {}, "a server's"),
        (None, {"server_hostname": "x"}, "server_hostname is for TLS"),
    ):
        with pytest.raises(ValueError, match=says):
            blocking.connect(nowhere, WIRE, ssl_context=context, **options)
    with pytest.raises(ValueError, match="give server_hostname"):
        blocking.connect("unix:/nonexistent", WIRE, ssl_context=client)
    with pytest.raises(ValueError, match="needs a certificate"):
        blocking.Server(LOCAL, WIRE, Echo())
    with pytest.raises(ValueError, match="a client's"):
        blocking.Server(LOCAL, WIRE, Echo(), ssl_context=client)
    with pytest.raises(ValueError, match="handshake_timeout"):
        blocking.Server(LOCAL, WIRE, Echo(), ssl_context=server, handshake_timeout=0)
    assert server_tls(None, None) is None


# --------------------------------------------------------------- conversations


@pytest.mark.parametrize("kind", ["tls", "tcp", "unix"])
def test_messages_go_there_and_back(contexts, tmp_path, kind):
    server_side, client_side = contexts
    place = f"unix:{tmp_path}/s" if kind == "unix" else f"{kind}://127.0.0.1:0"
    service = Echo()
    with blocking.Server(place, RAW, service, ssl_context=server_side) as server:
        assert str(server.address).startswith(kind)
        messages = [b"x" * size for size in (0, 1, 20_000, 16_384, 1_000_000)]
        with blocking.connect(
            server.address,
            RAW,
            timeout=5,
            ssl_context=client_side,
            server_hostname="localhost" if kind == "unix" else None,
        ) as connection:
            sender = threading.Thread(target=connection.send_many, args=(messages,))
            sender.start()
            assert [connection.receive() for _ in messages] == messages
            sender.join()
            with pytest.raises(Timeout):
                connection.receive(timeout=0.01)
        until(lambda: service.ends)
    assert service.ends == [None]


def test_a_connection_that_is_closed_at_once_loses_nothing_that_was_sent(contexts):
    got = []

    class Collect(Echo):
        def received(self, peer, message):
            got.append(message)

    service = Collect()
    with blocking.Server(LOCAL, RAW, service, ssl_context=contexts[0]) as server:
        for size in (10, 400_000):
            # The server's session tickets are never read: a plain close would answer them with a reset.
            with blocking.connect(server.address, RAW, timeout=5, ssl_context=contexts[1]) as connection:
                connection.send(b"y" * size)
        until(lambda: len(service.ends) == 2)
    assert [len(one) for one in got] == [10, 400_000]
    assert service.ends == [None, None]


def test_stop_is_a_clean_end_for_the_service_and_its_clients(contexts):
    service = Echo()
    with blocking.Server(LOCAL, WIRE, service, ssl_context=contexts[0]) as server:
        with blocking.connect(server.address, WIRE, timeout=5, ssl_context=contexts[1]) as connection:
            connection.send("hello")
            assert connection.receive() == "hello"
            before = time.monotonic()
            server.close()
            assert time.monotonic() - before < 0.5
            assert list(connection) == []
    assert service.ends == [None]


def test_replies_still_go_out_behind_the_clients_close_notify(contexts):
    go_on = threading.Event()

    class Late(Echo):
        def received(self, peer, message):
            go_on.wait(3)
            peer.send([message])

    with blocking.Server(LOCAL, WIRE, Late(), ssl_context=contexts[0]) as server, plain(server) as sock:
        secure = contexts[1].wrap_socket(sock, server_hostname="localhost")
        with secure:
            secure.sendall(WIRE.encode(1))
            secure.setblocking(False)  # unwrap() says close_notify, and would wait for the answer
            with contextlib.suppress(ssl.SSLWantReadError):
                secure.unwrap()
            secure.settimeout(5)
            go_on.set()
            # In TLS 1.3 each direction ends alone; what comes behind this side's end is read past it.
            assert secure.recv(100) == WIRE.encode([1])


def test_a_stream_that_tls_did_not_end_is_no_clean_end(contexts):
    service = Echo()
    with blocking.Server(LOCAL, WIRE, service, ssl_context=contexts[0]) as server:
        with plain(server) as sock, contexts[1].wrap_socket(sock, server_hostname="localhost") as secure:
            secure.sendall(WIRE.encode("whole"))
            assert secure.recv(100) == WIRE.encode("whole")
            secure.shutdown(socket.SHUT_WR)  # TCP's end alone, as whoever sits between may make it
            until(lambda: service.ends)
        (error,) = service.ends
        assert isinstance(error, ConnectionReset)
        assert "close_notify" in str(error)
        with plain(server) as sock, contexts[1].wrap_socket(sock, server_hostname="localhost") as secure:
            secure.sendall(WIRE.encode("whole"))
            assert secure.recv(100) == WIRE.encode("whole")
            secure.unwrap().close()
            until(lambda: len(service.ends) == 2)
        assert service.ends[1] is None


@pytest.mark.parametrize("clean", [True, False])
def test_a_tls_socket_of_ones_own_tells_its_ends_apart_too(contexts, clean):
    near, far = socket.socketpair()
    far.settimeout(5)
    shaken = []
    thread = threading.Thread(target=lambda: shaken.append(contexts[0].wrap_socket(far, server_side=True)))
    thread.start()
    secure = contexts[1].wrap_socket(near, server_hostname="localhost")
    thread.join()
    with blocking.Connection(secure, WIRE, timeout=5) as connection, shaken[0] as theirs:
        theirs.sendall(WIRE.encode("whole"))
        if clean:
            theirs.setblocking(False)  # unwrap() says close_notify, and would wait for the answer
            with contextlib.suppress(ssl.SSLWantReadError):
                theirs.unwrap()
        else:
            theirs.shutdown(socket.SHUT_WR)
        assert connection.receive() == "whole"
        with pytest.raises(ConnectionClosed if clean else ConnectionReset):
            connection.receive()


def test_closing_waits_for_what_was_sent_although_the_server_still_speaks(contexts):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        got = bytearray()

        def serve():
            sock, _ = listener.accept()
            with contexts[0].wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as secure:
                closing.wait(5)
                time.sleep(0.02)
                secure.sendall(RAW.encode(b"nobody reads this"))
                time.sleep(0.02)
                while chunk := secure.recv(1 << 16):
                    got.extend(chunk)

        closing = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        connection = blocking.connect(listener.getsockname(), RAW, timeout=5, ssl_context=contexts[1])
        connection._link.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
        connection.send(b"x" * 150_000)
        closing.set()
        connection.close()
        thread.join()
    assert got == RAW.encode(b"x" * 150_000)


# -------------------------------------------------------------------- failures


def test_a_certificate_that_is_not_trusted_or_for_another_name_says_what_to_do(contexts):
    with blocking.Server(LOCAL, WIRE, Echo(), ssl_context=contexts[0]) as server:
        with pytest.raises(ConnectionFailed, match=r"certificate was refused.*load the authority") as caught:
            blocking.connect(server.address, WIRE, timeout=5)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert caught.value.address == server.address
        with pytest.raises(ConnectionFailed, match=r"other\.example.*give the server_hostname"):
            blocking.connect(server.address, WIRE, timeout=5, ssl_context=contexts[1], server_hostname="other.example")
        with blocking.connect(server.address, WIRE, timeout=5, ssl_context=contexts[1]) as connection:
            connection.send(1)
            assert connection.receive() == 1


def test_a_server_that_speaks_plain_text_is_told_from_one_that_is_silent(contexts):
    class Greets(Echo):
        def opened(self, peer):
            peer.send(b"220 hello, this is no TLS")

    with blocking.Server("tcp://127.0.0.1:0", Wire(Lines()), Greets()) as server:
        with pytest.raises(ConnectionFailed, match="does not speak TLS"):
            blocking.connect(server.address, WIRE, timeout=5, ssl_context=contexts[1])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = time.monotonic()
        with pytest.raises(Timeout, match="shaking hands"):
            blocking.connect(silent.getsockname(), WIRE, timeout=0.1, ssl_context=contexts[1])
        assert 0.09 < time.monotonic() - before < 1


def test_who_cannot_shake_hands_harms_nobody_and_is_logged(contexts, caplog):
    caplog.set_level(logging.INFO)
    service = Echo()
    with blocking.Server(LOCAL, WIRE, service, ssl_context=contexts[0], handshake_timeout=0.15) as server:
        with plain(server) as wrong, plain(server) as http, plain(server) as silent, plain(server) as dripping:
            began = time.monotonic()
            wrong.sendall(WIRE.encode("hello"))
            http.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with plain(server) as gone:
                gone.sendall(b"\x16\x03\x01")
            with pytest.raises(ConnectionFailed):
                blocking.connect(server.address, WIRE, timeout=5)  # it does not trust the certificate
            with blocking.connect(server.address, WIRE, timeout=5, ssl_context=contexts[1]) as good:
                good.send("quick")
                assert good.receive() == "quick"
                hello = iter(b"\x16\x03\x01\x02\x00" + bytes(512))
                with contextlib.suppress(OSError):
                    while True:  # a byte now and then does not prolong the handshake
                        dripping.sendall(bytes([next(hello)]))
                        time.sleep(0.02)
                until(lambda: server.connections == 1)
                assert time.monotonic() - began < 1.8
                good.send("still")
                assert good.receive() == "still"
            with contextlib.suppress(ConnectionError):
                assert silent.recv(1) == b""
            del wrong, http
    assert len(service.opened_peers) == len(service.ends) == 1
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "plain HTTP" in said
    assert "no answer came in time" in said
    assert re.search(r"tls://127.0.0.1:\d+: the connection is closed: shaking hands", said)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_server_may_stop_while_hands_are_shaken(contexts):
    with blocking.Server(LOCAL, WIRE, Echo(), ssl_context=contexts[0]) as server, plain(server):
        until(lambda: server.connections == 1)
        before = time.monotonic()
        server.close()
        assert time.monotonic() - before < 1


def test_a_client_without_the_certificate_that_is_asked_for_is_refused(authority):
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server_side)
    authority.configure_trust(server_side)
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    service = Echo()
    with blocking.Server(LOCAL, WIRE, service, ssl_context=server_side) as server:
        # In TLS 1.3 the client's handshake is over before the server has judged its certificate.
        with pytest.raises(ConnectionFailed, match=r"load_cert_chain|dropped"):
            with blocking.connect(server.address, WIRE, timeout=5, ssl_context=client_side) as connection:
                connection.receive()
        until(lambda: server.connections == 0)
        assert not service.opened_peers
        authority.issue_cert("someone@example.org").configure_cert(client_side)
        with blocking.connect(server.address, WIRE, timeout=5, ssl_context=client_side) as connection:
            connection.send(1)
            assert connection.receive() == 1


# ---------------------------------------------------------------------- upgrade

TEXT = Wire.parse("lines+text")


@pytest.fixture
def both():
    ours, theirs = socket.socketpair()
    with blocking.Connection(ours, TEXT, timeout=5) as client, blocking.Connection(theirs, TEXT, timeout=5) as server:
        yield client, server


def test_both_sides_go_on_with_tls_in_mid_stream(both, contexts):
    client, server = both
    failed = []

    def serve():
        try:
            assert server.receive() == "STARTTLS"
            server.send("go ahead")
            server.start_tls(contexts[0], server_side=True)
            for line in server:
                server.send(line.upper())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    client.send("STARTTLS")
    assert client.receive() == "go ahead"
    client.start_tls(contexts[1], server_hostname="localhost")
    for _ in range(3):
        client.send("secret")
        assert client.receive() == "SECRET"
    with pytest.raises(FramingError, match="already"):
        client.start_tls(contexts[1], server_hostname="localhost")
    client.send("still fine")
    assert client.receive() == "STILL FINE"
    client.close()
    thread.join()
    assert not failed


class Upgrading(Echo):
    """Speaks TLS from STARTTLS on, as a server's peer."""

    def __init__(self, context):
        super().__init__()
        self.context = context
        self.got = []

    def received(self, peer, message):
        self.got.append(message)
        if message == "STARTTLS":
            peer.send("go ahead")
            assert isinstance(peer, UpgradablePeer)
            peer.start_tls(self.context)
        else:
            peer.send(message.upper())


def test_a_servers_peer_goes_on_with_tls_too(contexts):
    service = Upgrading(contexts[0])
    with blocking.Server("tcp://127.0.0.1:0", TEXT, service) as server:
        with blocking.connect(server.address, TEXT, timeout=5) as connection:
            connection.send("hello")
            assert connection.receive() == "HELLO"
            connection.send("STARTTLS")
            assert connection.receive() == "go ahead"
            connection.start_tls(contexts[1])
            connection.send("secret")
            assert connection.receive() == "SECRET"
        until(lambda: service.ends)
    assert service.ends == [None]


@pytest.mark.parametrize("injected", [b"R", b"RCPT\n", b"RCPT\nQUIT\nDA"])
def test_plain_text_injected_before_the_handshake_fails_the_server(contexts, injected):
    service = Upgrading(contexts[0])
    with blocking.Server("tcp://127.0.0.1:0", TEXT, service) as server, plain(server) as sock:
        sock.sendall(b"STARTTLS\n" + injected)
        reply = b"".join(iter(lambda: sock.recv(100), b""))
        assert reply == b"go ahead\n"  # and no handshake, let alone an answer to what was injected
        until(lambda: service.ends)
    assert service.got == ["STARTTLS"]
    (error,) = service.ends
    assert isinstance(error, CorruptFrame)
    assert "plain text" in str(error)


@pytest.mark.parametrize("injected", [b"e", b"evil\n", b"evil\nev"])
def test_plain_text_injected_before_the_handshake_fails_the_client(contexts, injected):
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, TEXT, timeout=5) as client:
        theirs.settimeout(5)
        client.send("STARTTLS")
        theirs.recv(100)
        theirs.sendall(b"go ahead\n" + injected)
        assert client.receive() == "go ahead"
        with pytest.raises(CorruptFrame, match="plain text") as caught:
            client.start_tls(contexts[1], server_hostname="localhost")
        assert client.error is caught.value
        assert client.state is State.FAILED
        assert theirs.recv(100) == b""  # no ClientHello
        for call in (lambda: client.send("x"), lambda: client.start_tls(contexts[1], server_hostname="localhost")):
            with pytest.raises(FramingError):
                call()


def test_plain_text_that_is_still_in_the_system_is_no_handshake(contexts):
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, TEXT, timeout=5) as client:
        theirs.sendall(b"go ahead\n")
        assert client.receive() == "go ahead"
        theirs.sendall(b"evil\n" * 10)
        with pytest.raises(ConnectionFailed, match="TLS"):
            client.start_tls(contexts[1], server_hostname="localhost")
        assert client.state is State.FAILED
        with pytest.raises(FramingError):
            client.receive()


def test_a_frame_that_is_being_skipped_counts_as_plain_text_too(contexts):
    wire = Wire(Lines(max_frame=8, on_oversize="skip"))
    ours, theirs = socket.socketpair()
    with theirs, blocking.Connection(ours, wire, timeout=5) as client:
        theirs.sendall(b"go ahead\n" + b"x" * 100)
        assert client.receive() == b"go ahead"
        with pytest.raises(CorruptFrame):
            client.start_tls(contexts[1], server_hostname="localhost")


def test_a_failed_upgrade_fails_the_connection(both, contexts):
    client, server = both

    def serve():
        with contextlib.suppress(FramingError):
            server.start_tls(contexts[0], server_side=True)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ConnectionFailed, match="certificate was refused"):
        client.start_tls(ssl.create_default_context(), server_hostname="localhost")
    thread.join()
    assert client.state is server.state is State.FAILED


def test_an_upgrade_has_a_deadline(both, contexts):
    with pytest.raises(Timeout):
        both[0].start_tls(contexts[1], server_hostname="localhost", timeout=0.05)
    assert both[0].state is State.FAILED


def test_options_that_do_not_fit_change_nothing(both, contexts):
    client, server = both
    for options in (
        {"ssl_context": contexts[0]},
        {"ssl_context": contexts[1]},
        {"ssl_context": contexts[1], "server_side": True},
        {"ssl_context": contexts[0], "server_side": True, "server_hostname": "localhost"},
    ):
        with pytest.raises(ValueError, match="server"):
            client.start_tls(**options)
    server.send("unharmed")
    assert client.receive() == "unharmed"


def test_while_another_thread_receives_there_is_no_upgrade(both, contexts):
    client, server = both
    got = []
    thread = threading.Thread(target=lambda: got.append(client.receive()))
    thread.start()
    until(client._link.receiving.locked)
    with pytest.raises(FramingError, match="another thread"):
        client.start_tls(contexts[1], server_hostname="localhost")
    server.send("unharmed")
    thread.join()
    assert got == ["unharmed"]


def test_behind_the_end_there_is_no_upgrade(both, contexts):
    client, server = both
    server.close()
    with pytest.raises(ConnectionClosed):
        client.receive()
    with pytest.raises(ConnectionClosed):
        client.start_tls(contexts[1], server_hostname="localhost")


def test_an_authority_of_ones_own_is_all_that_a_client_needs(authority: trustme.CA, contexts, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with blocking.Server(LOCAL, WIRE, Echo(), ssl_context=contexts[0]) as server:
        with blocking.connect(server.address, WIRE, timeout=5, ssl_context=trusting) as connection:
            connection.send(1)
            assert connection.receive() == 1
