"""Addresses: what a driver connects to and listens at, read once, and the sockets made from them.

An address is written as ``(host, port)``, as ``"tcp://host:port"`` (IPv6 in brackets: ``"tcp://[::1]:9000"``), as
``"tls://host:port"``, which is TCP with TLS on it, as ``"udp://host:port"`` for datagrams, or as
``"unix:/path/to/socket"`` (``"unix:@name"`` is Linux's abstract namespace). `Address` is what all of them are read into;
``str(address)`` writes it as a URL again.

Every TCP socket made here has TCP_NODELAY set: frames leave when they are written, they do not wait for an
acknowledgement. A name's addresses are tried one after the other until one answers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from framing.drivers.failures import translate
from framing.errors import ConnectionFailed

__all__ = [
    "Address",
    "AddressLike",
    "claimed_path",
    "close_listener",
    "connect",
    "is_number",
    "keep_alive",
    "listen",
    "local_address",
    "no_delay",
    "peer_address",
    "peer_of",
    "remove_dead_path",
    "reserve",
    "resolve",
]

LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""The most bytes that the system's sockaddr_un holds in front of its NUL."""

_EXAMPLES = (
    '("127.0.0.1", 9000), "tcp://127.0.0.1:9000", "tcp://[::1]:9000", "tls://example.org:9000", '
    '"udp://127.0.0.1:9000" or "unix:/run/app.sock"'
)

_WITH_PORTS = ("tcp", "tls", "udp")
"""The schemes of addresses that have a host and a port."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens or a peer is.

    ``scheme`` is ``"tcp"``, ``"tls"`` or ``"udp"`` (with ``host`` and ``port``), or ``"unix"`` (with ``path``). The
    ``path`` of an abstract socket begins with a NUL; an unnamed unix socket, as a client's is, has an empty one.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:@{self.path[1:]}" if self.path[:1] == "\0" else f"unix:{self.path}"
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @classmethod
    def parse(cls, value: AddressLike) -> Address:
        """Read an address in any of its spellings; raises ValueError, or TypeError for what is no address at all."""
        if isinstance(value, Address):
            return value
        if isinstance(value, str):
            return cls._from_url(value)
        return cls._from_parts(value)

    @classmethod
    def _from_parts(cls, value: Any) -> Address:
        """Read ``(host, port)``, or the four that the socket module gives for IPv6: flow label and scope come behind."""
        parts: tuple[Any, ...] = ()
        if isinstance(value, tuple):
            parts = value  # pyright: ignore[reportUnknownVariableType] # isinstance says nothing of a tuple's items
        if len(parts) not in (2, 4):
            raise TypeError(f"{value!r} is no address; give {_EXAMPLES}")
        host, port = parts[:2]
        if not isinstance(host, str) or not isinstance(port, int) or isinstance(port, bool):
            raise TypeError(f"an address is (host: str, port: int), not {parts!r}")
        if len(parts) == 4 and parts[3] and "%" not in host:
            host = f"{host}%{parts[3]}"
        return cls("tcp", host, _check_port(port, parts))

    @classmethod
    def _from_url(cls, url: str) -> Address:
        scheme, colon, rest = url.partition(":")
        if not colon:
            raise ValueError(f"the address {url!r} has no scheme; give {_EXAMPLES}")
        if scheme == "unix":
            return cls("unix", path=_check_path(rest.removeprefix("//"), url))
        if scheme not in _WITH_PORTS or not rest.startswith("//"):
            raise ValueError(
                f"the address {url!r} is neither tcp://, tls:// or udp:// nor unix:/path; give {_EXAMPLES}"
            )
        place = rest[2:].removesuffix("/")
        if place.startswith("["):
            host, bracket, behind = place[1:].partition("]")
            if not bracket or not host or (behind and not behind.startswith(":")):
                raise ValueError(f"the brackets in {url!r} do not enclose an IPv6 address; write {scheme}://[::1]:9000")
            port = behind[1:]
        else:
            host, _, port = place.rpartition(":")
            if ":" in host:
                raise ValueError(f"the IPv6 address in {url!r} needs brackets; write {scheme}://[{host}]:{port}")
            if not host and ":" not in place:
                raise ValueError(f"the address {url!r} has no port; write {scheme}://{place or '127.0.0.1'}:9000")
        if any(mark in host for mark in "/@?#") or any(letter.isspace() for letter in host):
            raise ValueError(f"the host {host!r} in {url!r} is none; write {scheme}://host:port and nothing behind")
        if not (port.isascii() and port.isdigit() and len(port) <= 5):
            what = f"the port {port!r} in {url!r} is no number" if port else f"the address {url!r} has no port"
            raise ValueError(f"{what}; write {scheme}://{f'[{host}]' if ':' in host else host}:9000")
        return cls(scheme, host, _check_port(int(port), url))


AddressLike: TypeAlias = Address | str | tuple[str, int] | tuple[str, int, int, int]
"""All spellings of an address that the drivers take."""


def _check_port(port: int, value: object) -> int:
    if not 0 <= port <= 65535:
        raise ValueError(f"the port of {value!r} is {port}; ports are 0 to 65535")
    return port


def _check_path(path: str, url: str) -> str:
    if path.startswith("@"):
        path = "\0" + path[1:]
    if not path or path == "\0":
        raise ValueError(f"the address {url!r} has no path; write unix:/path/to/socket")
    if "\0" in path[1:]:
        raise ValueError(f"the path in {url!r} holds a NUL")
    if (size := len(os.fsencode(path))) > LONGEST_PATH:
        raise ValueError(f"the path in {url!r} is {size} bytes long; the system takes {LONGEST_PATH} for a unix socket")
    return path


def peer_address(raw: Any, fallback: Address) -> Address:
    """What the socket module calls a peer, as an address; ``fallback`` for unix peers, which have no name.

    The scheme is the fallback's: who is connected to ``tls://…`` speaks TLS.
    """
    if not isinstance(raw, tuple):
        return fallback
    address = Address.parse(cast("tuple[str, int]", raw))
    return replace(address, scheme=fallback.scheme) if fallback.scheme in _WITH_PORTS else address


def peer_of(sock: socket.socket) -> Address | None:
    """The address of the peer that ``sock`` is connected to; None where it has none, as one of a pair has none."""
    try:
        raw = sock.getpeername()
    except OSError:
        return None
    if isinstance(raw, str) and raw:
        return Address("unix", path=raw)
    return Address.parse(cast("tuple[str, int]", raw)) if isinstance(raw, tuple) else None


def local_address(sock: socket.socket, asked: Address) -> Address:
    """The address that ``sock`` is bound to: with the port that the system chose, where 0 was asked for."""
    return peer_address(sock.getsockname(), asked)


def is_number(host: str) -> bool:
    """Whether ``host`` is an IP address, for which nobody need be asked; one with an interface (``fe80::1%eth0``) too."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host.partition("%")[0])
            return True
    return False


def no_delay(sock: socket.socket) -> None:
    """Set TCP_NODELAY where ``sock`` is TCP: some systems and libraries accept sockets without it."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        # A peer that has gone already makes this an error on some systems; the first read tells it better.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def keep_alive(sock: socket.socket) -> None:
    """Set SO_KEEPALIVE where ``sock`` is TCP: the system probes a peer that says nothing, after hours on most systems.

    A `framing.Heartbeat` finds out in seconds, and asks the peer's program, where this asks only its system.
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # as in no_delay
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def connect(address: Address, timeout: float | None) -> socket.socket:
    """A connected stream socket; ``timeout`` seconds are for all the addresses of the name together.

    Raises `ConnectionRefused`, `ConnectionFailed` or `Timeout`: of the last address tried, with the others as notes;
    ValueError for ``udp://``. A ``tls://`` address gives the socket below the TLS, which is the caller's to add.
    """
    _refuse_datagrams(address)
    end = None if timeout is None else time.monotonic() + timeout
    targets = resolve(address)
    failures: list[str] = []
    last: OSError = OSError("no address")
    for index, (family, kind, proto, target) in enumerate(targets):
        # A dead first address must not use up the time of a living second one.
        share = None if end is None else max((end - time.monotonic()) / (len(targets) - index), 0.001)
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, proto)
            sock.settimeout(share)
            sock.connect(target)
            sock.settimeout(None)
        except OSError as error:
            if sock is not None:
                sock.close()
            last = error
            failures.append(f"{target[0] if isinstance(target, tuple) else address}: {error}")
        else:
            no_delay(sock)
            return sock
    failure = translate(last, address, "connecting to")
    if len(failures) > 1:
        failure.add_note("tried " + "; ".join(failures))
    raise failure


def resolve(
    address: Address, doing: str = "connecting to", *, passive: bool = False, family: int = 0
) -> list[tuple[int, int, int, Any]]:
    """The family, type, protocol and raw address of each place that ``address`` stands for, best first.

    ``passive``: to be bound to, and no host means every address of this machine. ``family``: of no other than this one, IPv4
    written as IPv6 where it has to be. Raises `ConnectionFailed`, which says what this side was ``doing``. A host name is
    looked up, which may take its time; numbers and paths are not.
    """
    try:
        return _targets(address, passive=passive, family=family)
    except OSError as error:
        raise translate(error, address, doing) from error


def _targets(address: Address, *, passive: bool, family: int = 0) -> list[tuple[int, int, int, Any]]:
    if address.scheme == "unix":
        if not hasattr(socket, "AF_UNIX"):
            raise OSError(errno.EAFNOSUPPORT, "this system has no unix sockets")
        return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, address.path)]
    flags = socket.AI_PASSIVE if passive else 0
    if family == socket.AF_INET6:
        flags |= getattr(socket, "AI_V4MAPPED", 0)
    kind = socket.SOCK_DGRAM if address.scheme == "udp" else socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(address.host or None, address.port, family=family, type=kind, flags=flags)
    except UnicodeError as error:
        # A label that is empty, or longer than 63 letters, fails in the codec before anybody is asked.
        raise socket.gaierror(socket.EAI_NONAME, f"this can be no host name ({error})") from error
    return [(family, kind, proto, target) for family, kind, proto, _, target in found]


def _refuse_datagrams(address: Address) -> None:
    if address.scheme == "udp":
        raise ValueError(
            f"{address} is for datagrams, and this is a driver of streams; write tcp://, or use the datagram driver"
        )


def listen(address: Address, backlog: int = socket.SOMAXCONN, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket, which does not block. An empty host means every address of this machine, IPv6 and IPv4.

    With ``reuse_port`` several processes may listen at the port, and the system spreads the connections over them.

    A socket file that nobody listens at is replaced; one that somebody listens at, or a file that is no socket, is left
    alone and refused. Raises `ConnectionFailed`; ValueError for ``udp://``.
    """
    return _bound(address, backlog, reuse_port=reuse_port)


def reserve(address: Address) -> socket.socket:
    """A socket that holds the port of ``address`` without listening, for servers that `listen` there with ``reuse_port``.

    So several processes agree on the port that the system chose for port 0, and nobody else gets it while they start.
    Raises as `listen`.
    """
    if address.scheme == "unix":
        raise ValueError(
            f"{address}: only a TCP port can be shared by several processes; give a tcp:// or tls:// address"
        )
    try:
        # Without SO_REUSEADDR, with which Linux lets anybody bind beside a socket that does not listen.
        return _bound(address, None, reuse_port=True, reuse_address=False)
    except ConnectionFailed as error:
        if error.errno != errno.EADDRINUSE:
            raise
    # Perhaps there are only connections of an earlier server in TIME_WAIT.
    return _bound(address, None, reuse_port=True)


def _bound(address: Address, backlog: int | None, *, reuse_port: bool, reuse_address: bool = True) -> socket.socket:
    _refuse_datagrams(address)
    try:
        with claimed_path(address, socket.SOCK_STREAM, "listening at"):
            return _bound_here(address, backlog, reuse_port=reuse_port, reuse_address=reuse_address)
    except ConnectionFailed:
        raise
    except OSError as error:
        raise translate(error, address, "listening at") from error


def _bound_here(address: Address, backlog: int | None, *, reuse_port: bool, reuse_address: bool) -> socket.socket:
    if address.scheme != "unix" and not address.host and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # a kernel may have IPv6 switched off at run time: IPv4 alone, then
            place = ("::", address.port)
            return _bind(socket.AF_INET6, place, backlog, dual=True, reuse_port=reuse_port, reuse_address=reuse_address)
    last: OSError = OSError("no address")
    for family, _, _, target in _targets(address, passive=True):
        try:
            return _bind(family, target, backlog, reuse_port=reuse_port, reuse_address=reuse_address)
        except OSError as error:
            last = error
    raise last


def _bind(
    family: int, target: Any, backlog: int | None, *, reuse_port: bool, reuse_address: bool, dual: bool = False
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family in (socket.AF_INET, socket.AF_INET6) and os.name == "posix" and reuse_address:
            # So that a server that was stopped can start again while old connections are in TIME_WAIT. (On Windows
            # the same option would let two servers share a port.)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port and family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, _reuse_port_option(), 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(target)
        if backlog is not None:
            sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _reuse_port_option() -> int:
    option: int | None = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise OSError(errno.EOPNOTSUPP, "this system does not share a port between processes (SO_REUSEPORT)")
    return option


@contextlib.contextmanager
def claimed_path(address: Address, kind: int, doing: str) -> Generator[None]:
    """Remove the socket file that a dead socket of this ``kind`` left, for the block to make its own there.

    Who else claims a path in this directory waits until the block is left: between the look at a dead file and the life of the
    new one there is no moment in which two could replace each other. Raises `ConnectionFailed` where it is no dead one.
    """
    if address.scheme != "unix" or address.path[:1] in {"", "\0"}:
        yield
        return
    with _locked(Path(address.path).parent):
        _clear_path(address, kind, doing)
        yield


LOCK_SECONDS = 1.0
"""How long to wait for others who make sockets in the same directory; whoever holds its lock for longer is none of them."""


@contextlib.contextmanager
def _locked(directory: Path) -> Generator[None]:
    """Hold the lock of ``directory``, where there are such locks."""
    try:
        import fcntl  # noqa: PLC0415 # not on every system

        descriptor = os.open(directory, os.O_RDONLY)
    except (ImportError, OSError):
        yield  # what is wrong with the directory is told by whoever makes a file in it
        return
    try:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.01)
                    continue
            except OSError:
                pass  # some file systems have no locks
            break
        yield
    finally:
        os.close(descriptor)


def _clear_path(address: Address, kind: int, doing: str) -> None:
    """Remove a dead socket's file; raises `ConnectionFailed` where there is another."""
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConnectionFailed(
            f"{doing} {address}: a file that is no socket is there; it was left alone: remove it, or mend the path",
            address=address,
            errno=errno.EADDRINUSE,
        )
    with socket.socket(socket.AF_UNIX, kind) as probe:
        # Without blocking: a live server whose queue is full answers EAGAIN at once.
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                Path(address.path).unlink()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EPROTOTYPE}:  # the latter: one of the other kind lives there
                raise translate(error, address, doing) from error
    raise translate(OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)), address, doing)


def remove_dead_path(address: Address, kind: int) -> None:
    """Remove the socket file of a socket that was closed, if it has one that nobody else has taken over since."""
    with contextlib.suppress(OSError), claimed_path(address, kind, "closing"):
        pass


def close_listener(sock: socket.socket, address: Address) -> None:
    """Close a listening socket, and remove its socket file as `remove_dead_path` does."""
    sock.close()
    remove_dead_path(address, socket.SOCK_STREAM)
