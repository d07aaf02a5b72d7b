"""What the drivers' tests share: an authority and a certificate for localhost, made anew for each run; no key is kept."""

from __future__ import annotations

import ssl

import pytest
import trustme

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Whom the clients of these tests trust, and nobody else does."""
    return trustme.CA()


@pytest.fixture(scope="session")
def contexts(authority: trustme.CA) -> Contexts:
    """A server's context, with a certificate for localhost and its addresses, and a client's that trusts it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
