"""What the protocols' tests share: an authority and a certificate, made anew for each run, as files and as contexts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme


@dataclass(frozen=True)
class Certificates:
    """``both`` holds the certificate and its key; ``stranger`` is somebody else's key."""

    ca: Path
    cert: Path
    key: Path
    both: Path
    stranger: Path
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    place = tmp_path_factory.mktemp("certificates")
    made = Certificates(
        *(place / f"{name}.pem" for name in ("ca", "cert", "key", "both", "stranger")),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.create_default_context(),
    )
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made.ca)
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(made.cert)
    issued.private_key_pem.write_to_path(made.key)
    issued.private_key_and_cert_chain_pem.write_to_path(made.both)
    authority.issue_cert("localhost").private_key_pem.write_to_path(made.stranger)
    issued.configure_cert(made.server)
    authority.configure_trust(made.client)
    return made
