"""Transports: where a server listens, and what its peers need to know to get there."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Transport:
    """Where a server listens: a URL, in which ``{path}`` stands for a new path for a socket file."""

    url: str
    family: socket.AddressFamily = socket.AF_INET

    @property
    def secure(self) -> bool:
        return self.url.startswith("tls:")

    @property
    def is_tcp(self) -> bool:
        return not self.url.startswith("unix:")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
