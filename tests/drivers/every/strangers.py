"""Peers with no manners: plain sockets of the test's own, with TLS on them where the transport has it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
from typing import Any, Self

from framing import Wire
from framing.drivers.address import Address
from tests.drivers.every.registry import SECONDS, Transport

SEGMENTS_IN = 152
"""Where ``tcpi_data_segs_in`` is in Linux's ``struct tcp_info``: how many segments with data have come."""


class Stranger:
    """A connected socket, on either side; ``wire`` is what it reads and writes messages by, where it does."""

    def __init__(self, sock: socket.socket, wire: Wire[Any]) -> None:
        self.sock = sock
        self.wire = wire
        self._decoder = wire.decoder()
        self._waiting: list[Any] = []
        sock.settimeout(SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def write(self, data: bytes) -> None:
        """Send bytes; those that nobody takes any more are no concern of a stranger."""
        self.sock.sendall(data)

    def send(self, *messages: Any) -> None:
        """Send whole messages, in one write."""
        self.write(self.wire.encode_many(messages))

    def receive(self) -> Any:
        """The next message."""
        while not self._waiting:
            chunk = self.sock.recv(1 << 16)
            assert chunk, "the stream has ended"
            self._waiting = self._decoder.feed(chunk)
        return self._waiting.pop(0)

    def take(self, count: int) -> list[Any]:
        return [self.receive() for _ in range(count)]

    def rest(self) -> list[Any]:
        """The messages until the end of the stream, which must be a clean one."""
        messages, self._waiting = self._waiting, []
        while chunk := self.sock.recv(1 << 16):
            messages += self._decoder.feed(chunk)
        return messages + self._decoder.feed_eof()

    def closed(self) -> bool:
        """Wait until the other side has ended the connection, in whatever way."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def say_end(self) -> None:
        """End this side's stream as it should be ended."""
        if isinstance(self.sock, ssl.SSLSocket):
            # Whether the other side answers is another matter.
            self.sock.settimeout(0)
            with contextlib.suppress(ssl.SSLWantReadError):
                self.sock.unwrap()
            self.sock.settimeout(SECONDS)
        else:
            self.sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End this side's stream without a word of TLS."""
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    @property
    def segments(self) -> int:
        """How many segments with data have come: as many as were written, where each write was a small one."""
        assert sys.platform == "linux"
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from("=I", info, SEGMENTS_IN)[0])


def dial(
    address: Address, transport: Transport, context: ssl.SSLContext, *, receive_buffer: int = 0, shake: bool = True
) -> socket.socket:
    """Connect to one of our servers."""
    sock = socket.socket(transport.family)
    try:
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(SECONDS)
        if transport.is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((address.host, address.port))
        else:
            sock.connect(address.path)
        if transport.secure and shake:
            return context.wrap_socket(sock, server_hostname=address.host, suppress_ragged_eofs=False)
    except BaseException:
        sock.close()
        raise
    return sock


class Listener:
    """A listening socket for our clients to connect to."""

    def __init__(self, transport: Transport, path: str, context: ssl.SSLContext) -> None:
        self._transport = transport
        self._context = context
        self.sock = socket.socket(transport.family)
        self.sock.settimeout(SECONDS)
        if transport.is_tcp:
            self.sock.bind(("::1" if transport.family == socket.AF_INET6 else "127.0.0.1", 0))
            host, port = self.sock.getsockname()[:2]
            self.address = Address("tls" if transport.secure else "tcp", host, port)
        else:
            self.sock.bind(path)
            self.address = Address("unix", path=path)
        self.sock.listen()

    def accept(self) -> socket.socket:
        """Accept who is there; with TLS, shake hands."""
        sock, _ = self.sock.accept()
        sock.settimeout(SECONDS)
        if self._transport.secure:
            return self._context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        return sock
