"""Addresses: every spelling, clear refusals, every address of a name tried, sockets bound and cleared as promised."""

from __future__ import annotations

import errno
import pickle
import socket
import threading
from pathlib import Path

import pytest

import framing
from framing.drivers import address as addresses
from framing.drivers.address import Address


@pytest.mark.parametrize(
    ("spelling", "expected", "url"),
    [
        (("127.0.0.1", 9000), Address("tcp", "127.0.0.1", 9000), "tcp://127.0.0.1:9000"),
        (("::1", 9000, 0, 0), Address("tcp", "::1", 9000), "tcp://[::1]:9000"),
        (("fe80::1", 9000, 0, 2), Address("tcp", "fe80::1%2", 9000), "tcp://[fe80::1%2]:9000"),
        ("tcp://example.org:0", Address("tcp", "example.org", 0), "tcp://example.org:0"),
        ("tcp://[::1]:65535/", Address("tcp", "::1", 65535), "tcp://[::1]:65535"),
        ("tls://example.org:443", Address("tls", "example.org", 443), "tls://example.org:443"),
        ("tls://[::1]:443", Address("tls", "::1", 443), "tls://[::1]:443"),
        ("udp://127.0.0.1:53", Address("udp", "127.0.0.1", 53), "udp://127.0.0.1:53"),
        ("tcp://:9000", Address("tcp", "", 9000), "tcp://:9000"),
        ("unix:/run/app.sock", Address("unix", path="/run/app.sock"), "unix:/run/app.sock"),
        ("unix:///run/app.sock", Address("unix", path="/run/app.sock"), "unix:/run/app.sock"),
        ("unix:relative", Address("unix", path="relative"), "unix:relative"),
        ("unix:@name", Address("unix", path="\0name"), "unix:@name"),
    ],
)
def test_spellings_are_read_and_written_as_urls(spelling, expected, url):
    address = Address.parse(spelling)
    assert address == expected
    assert str(address) == url
    assert Address.parse(url) == Address.parse(address) == pickle.loads(pickle.dumps(address)) == address


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("127.0.0.1:9000", "neither tcp"),
        ("localhost", "no scheme"),
        ("http://localhost:80", "neither tcp"),
        ("ssl://localhost:80", "neither tcp://, tls://"),
        ("tls:localhost:80", "neither tcp"),
        ("tls://localhost", "no port; write tls://localhost:9000"),
        ("udp://localhost:dns", "no number; write udp://localhost:9000"),
        ("udp://::1:53", r"brackets; write udp://\[::1\]:53"),
        ("tcp:localhost:80", "neither tcp"),
        ("tcp://localhost", "no port"),
        ("tcp://localhost:", "no port"),
        ("tcp://localhost:http", "no number"),
        ("tcp://localhost:-1", "no number"),
        ("tcp://localhost:²", "no number"),
        ("tcp://localhost:65536", "0 to 65535"),
        ("tcp://::1:9000", r"brackets; write tcp://\[::1\]:9000"),
        ("tcp://[::1]", "no port"),
        ("tcp://[::1:9000", "brackets"),
        ("tcp://[]:9000", "brackets"),
        ("tcp://user@host:9000", "is none"),
        ("tcp://host/path:9000", "is none"),
        ("tcp://ho st:9000", "is none"),
        ("unix:", "no path"),
        ("unix:@", "no path"),
        ("unix:a\0b", "NUL"),
        ("unix:/" + "x" * 200, "201 bytes long"),
        (("localhost", 70000), "0 to 65535"),
    ],
)
def test_what_is_wrong_is_told(wrong, says):
    with pytest.raises(ValueError, match=says):
        Address.parse(wrong)


@pytest.mark.parametrize(
    "wrong", [9000, None, ("localhost",), ("localhost", "80"), (b"localhost", 80), ("a", True), ["a", 1]]
)
def test_what_is_no_address_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="address"):
        Address.parse(wrong)


def test_every_tcp_socket_has_nodelay():
    listener = addresses.listen(Address("tcp", "127.0.0.1", 0))
    with listener, addresses.connect(addresses.local_address(listener, Address("tcp")), 1) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.gettimeout() is None


def test_every_address_of_a_name_is_tried_in_turn(monkeypatch):
    with addresses.listen(Address("tcp", "127.0.0.1", 0)) as listener, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        port = listener.getsockname()[1]
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", closed.getsockname()[1])),
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with addresses.connect(Address("tcp", "both.example", 1), 5) as sock:
            assert sock.getpeername()[1] == port
        found[1] = found[0]
        with pytest.raises(ConnectionRefusedError) as caught:
            addresses.connect(Address("tcp", "both.example", 1), 5)
        assert caught.value.__notes__[0].count("127.0.0.1") == 2


@pytest.mark.parametrize("url", ["udp://127.0.0.1:1", "udp://[::1]:1"])
def test_datagrams_are_not_for_a_driver_of_streams(url):
    for opening in (lambda: addresses.connect(Address.parse(url), 1), lambda: addresses.listen(Address.parse(url))):
        with pytest.raises(ValueError, match="for datagrams"):
            opening()


def test_a_listener_keeps_the_scheme_that_was_asked_for_and_so_do_its_peers():
    asked = Address.parse("tls://127.0.0.1:0")
    with addresses.listen(asked) as listener:
        place = addresses.local_address(listener, asked)
        assert str(place).startswith("tls://127.0.0.1:")
        assert addresses.peer_address(("127.0.0.1", 5), place) == Address("tls", "127.0.0.1", 5)


def test_a_reserved_port_is_shared_by_those_who_ask_for_it_and_by_nobody_else():
    if not hasattr(socket, "SO_REUSEPORT"):
        pytest.skip("no SO_REUSEPORT here")
    for url in ("tcp://127.0.0.1:0", "tcp://:0"):
        with addresses.reserve(Address.parse(url)) as held:
            address = addresses.local_address(held, Address.parse(url))
            assert address.port
            with pytest.raises(framing.ConnectionFailed, match="something listens there"):
                addresses.listen(address)
            with addresses.listen(address, reuse_port=True), addresses.listen(address, reuse_port=True):
                pass
    with pytest.raises(ValueError, match="only a TCP port"):
        addresses.reserve(Address.parse("unix:/run/none"))


def test_keep_alive_is_for_tcp_and_harms_no_other_socket():
    with socket.socket() as tcp:
        addresses.keep_alive(tcp)
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    one, other = socket.socketpair()
    with one, other:
        addresses.keep_alive(one)
        assert not one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_refused_is_the_builtin_and_names_the_address():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = Address.parse(closed.getsockname())
        with pytest.raises(framing.ConnectionRefused, match=f"{address}.*start the server") as caught:
            addresses.connect(address, 1)
    assert isinstance(caught.value, ConnectionRefusedError)
    assert (caught.value.errno, caught.value.address) == (errno.ECONNREFUSED, address)


def test_a_missing_socket_file_is_told(tmp_path):
    with pytest.raises(framing.ConnectionFailed, match="no such socket file"):
        addresses.connect(Address.parse(f"unix:{tmp_path}/none"), 1)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example"])
def test_a_host_name_that_can_be_none_is_a_failure_of_ours(host):
    with pytest.raises(framing.ConnectionFailed, match="cannot be resolved"):
        addresses.connect(Address("tcp", host, 1), 1)


def test_a_port_in_use_is_told_and_free_again_at_once():
    listener = addresses.listen(Address("tcp", "127.0.0.1", 0))
    address = addresses.local_address(listener, Address("tcp"))
    with pytest.raises(framing.ConnectionFailed, match="something listens there already") as caught:
        addresses.listen(address)
    assert caught.value.errno == errno.EADDRINUSE
    client = addresses.connect(address, 1)
    accepted, _ = listener.accept()
    accepted.close()  # this side ends first: its port stays in TIME_WAIT
    client.close()
    addresses.close_listener(listener, address)
    addresses.listen(address).close()


def test_an_empty_host_listens_for_both_families():
    if not socket.has_dualstack_ipv6():
        pytest.skip("this system has no dual-stack sockets")
    with addresses.listen(Address.parse("tcp://:0")) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            addresses.connect(Address("tcp", host, port), 1).close()


def test_a_stale_socket_file_is_replaced_and_removed_at_the_end(tmp_path):
    address = Address("unix", path=str(tmp_path / "s"))
    addresses.listen(address).close()  # closed without removing its file, as a killed server leaves it
    assert Path(address.path).exists()
    listener = addresses.listen(address)
    addresses.connect(address, 1).close()
    addresses.close_listener(listener, address)
    assert not Path(address.path).exists()


def test_a_live_socket_file_is_refused_also_when_its_queue_is_full(tmp_path):
    address = Address("unix", path=str(tmp_path / "s"))
    with addresses.listen(address, backlog=0) as listener:
        waiting = socket.socket(socket.AF_UNIX)
        with waiting:
            waiting.connect(address.path)
            with pytest.raises(framing.ConnectionFailed, match="something listens there already"):
                addresses.listen(address)
        assert listener.fileno() >= 0
    assert Path(address.path).exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(framing.ConnectionFailed, match="no socket is there"):
        addresses.listen(Address("unix", path=str(path)))
    assert path.read_text() == "data"


def test_a_server_that_ends_leaves_its_successors_socket_file(tmp_path):
    address = Address("unix", path=str(tmp_path / "s"))
    first = addresses.listen(address)
    Path(address.path).unlink()
    with addresses.listen(address):
        addresses.close_listener(first, address)
        addresses.connect(address, 1).close()


def test_a_timeout_for_connecting_is_a_timeout_error(tmp_path):
    address = Address("unix", path=str(tmp_path / "s"))
    with addresses.listen(address, backlog=0), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(address.path)
        before = threading.active_count()
        with pytest.raises((framing.Timeout, framing.ConnectionFailed)):
            addresses.connect(address, 0.05)
        assert threading.active_count() == before
