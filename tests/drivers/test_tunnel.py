"""TLS without I/O: two tunnels, joined by hand."""

from __future__ import annotations

import ssl

import pytest

from framing.drivers.tunnel import Tunnel


@pytest.fixture
def both(contexts):
    return Tunnel(contexts[1], server_hostname="localhost"), Tunnel(contexts[0], server_side=True)


def pass_on(source, target):
    data = source.outgoing()
    if data:
        target.feed(data)
    return data


def shaken(client, server):
    done = [False, False]
    for _ in range(10):
        done = [client.shake() or done[0], (pass_on(client, server) and server.shake()) or done[1]]
        pass_on(server, client)
        if all(done):
            return
    raise AssertionError(done)


def read(tunnel, size=100):
    room = memoryview(bytearray(size))
    count = tunnel.read(room)
    return None if count is None else bytes(room[:count])


def test_what_goes_in_encrypted_comes_out_at_the_other_side(both):
    client, server = both
    assert not client.shake()
    shaken(client, server)
    assert read(server) is None
    for source, target in (both, both[::-1]):
        assert source.write(b"a secret") == 8
        data = pass_on(source, target)
        assert b"secret" not in data
        assert read(target, 2) == b"a "
        assert read(target) == b"secret"
        assert read(target) is None
    assert client.outgoing() == b""


def test_a_large_write_is_taken_whole(both):
    client, server = both
    shaken(client, server)
    assert client.write(bytes(1 << 18)) == 1 << 18
    pass_on(client, server)
    got = 0
    while chunk := read(server, 1 << 16):
        got += len(chunk)
    assert got == 1 << 18


def test_an_end_is_told_from_a_cut(both):
    client, server = both
    shaken(client, server)
    client.write(b"last words")
    client.end()
    pass_on(client, server)
    assert read(server) == b"last words"
    assert read(server) == b""
    assert server.write(b"a reply") == 7  # behind the peer's end
    server.end()
    pass_on(server, client)
    assert read(client) == b"a reply"
    assert read(client) == b""


def test_a_cut_is_an_error(both):
    client, server = both
    shaken(client, server)
    client.write(b"last words")
    pass_on(client, server)
    server.feed_eof()
    assert read(server) == b"last words"
    with pytest.raises(ssl.SSLEOFError):
        read(server)


def test_a_certificate_that_is_not_trusted_is_refused_with_a_word_to_the_peer(contexts):
    client = Tunnel(ssl.create_default_context(), server_hostname="localhost")
    server = Tunnel(contexts[0], server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(client, server)
    assert client.outgoing()
    client.end()


def test_plain_text_is_no_handshake(both):
    both[0].feed(b"220 hello, this is no TLS\n")
    with pytest.raises(ssl.SSLError):
        both[0].shake()


def test_a_host_name_that_is_none_is_told_at_once(contexts):
    with pytest.raises(ValueError, match=r"server_hostname|idna"):
        Tunnel(contexts[1], server_hostname=".example")


def test_it_is_known_by_asyncios_names(both, contexts):
    client, server = both
    shaken(client, server)
    assert client.extra_info("sslcontext") is contexts[1]
    assert client.extra_info("peercert")
    assert client.extra_info("cipher") == server.extra_info("cipher")
    assert client.extra_info("ssl_object").version() == server.extra_info("ssl_object").version()
    assert client.extra_info("socket") is None
