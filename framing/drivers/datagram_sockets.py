"""The sockets of the datagram driver: bound to where packets are received, or connected to whom they are sent."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from framing.drivers.address import Address, AddressLike, claimed_path, resolve
from framing.drivers.failures import translate

__all__ = ["bound", "connected", "parse"]


def parse(value: AddressLike) -> Address:
    """Read an address; what is no URL is UDP's. Raises ValueError for a stream's URL."""
    where = Address.parse(value)
    if where.scheme in {"udp", "unix"}:
        return where
    if isinstance(value, tuple):
        return replace(where, scheme="udp")
    raise ValueError(f"{where} is for streams, and this is the driver of datagrams; write udp://host:port")


def bound(where: Address) -> socket.socket:
    """A socket that receives at ``where``; an empty host means every address of this machine. Raises `ConnectionFailed`."""
    with claimed_path(where, socket.SOCK_DGRAM, "binding"):
        return _bound(where)


def _bound(where: Address) -> socket.socket:
    if where.scheme != "unix" and not where.host and socket.has_dualstack_ipv6():
        # A kernel may have IPv6 switched off at run time: IPv4 alone, then.
        with contextlib.suppress(OSError):
            return _made(where, "binding", [(socket.AF_INET6, ("::", where.port))], _bind_dual)
    targets = resolve(where, "binding", passive=True)
    return _made(where, "binding", [(family, raw) for family, _, _, raw in targets], _bind)


def connected(where: Address) -> socket.socket:
    """A socket that sends to, and hears, ``where`` alone. Raises `ConnectionFailed`."""
    targets = resolve(where, "connecting to")
    return _made(where, "connecting to", [(family, raw) for family, _, _, raw in targets], _connect)


def _made(
    where: Address, doing: str, targets: Iterable[tuple[int, Any]], use: Callable[[socket.socket, Any], None]
) -> socket.socket:
    """A socket for the first of ``targets`` that it can be used with; raises what the last one did."""
    last: OSError = OSError("no address")
    for family, raw in targets:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            use(sock, raw)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise translate(last, where, doing) from last


def _bind(sock: socket.socket, raw: Any, *, dual: bool = False) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
    sock.bind(raw)


def _bind_dual(sock: socket.socket, raw: Any) -> None:
    _bind(sock, raw, dual=True)


def _connect(sock: socket.socket, raw: Any) -> None:
    if isinstance(raw, str) and sys.platform == "linux":
        sock.bind("")  # a name of the system's choice, without which nobody could answer
    sock.connect(raw)
