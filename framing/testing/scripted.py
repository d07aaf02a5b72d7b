"""ScriptedSocket: a socket whose peer and system follow a script.

Short reads and writes, a full buffer (EAGAIN), an interrupted call (EINTR), a reset, a timeout, the end of the stream: what
a driver meets once a month, as often as a test likes and at the same place every time. It is a `socket.socket`, with a
descriptor of its own, so that it can be registered with a selector, given options and closed as any other; only
what goes through it is made up. While the script has something to read, the descriptor is readable.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

__all__ = ["EOF", "ScriptedSocket", "Step"]

EOF: Final = b""
"""The end of the peer's stream, as `recv` has it."""

Failure: TypeAlias = BaseException | type[BaseException]
Step: TypeAlias = bytes | Failure


class ScriptedSocket(socket.socket):
    """A socket that receives, and lets send, what the script says.

    ``incoming`` is what one `recv` after the other meets: bytes, which it returns (in parts, where it asks for fewer),
    `EOF`, or an error (an instance or a class: ``BlockingIOError``, ``InterruptedError``, ``ConnectionResetError``,
    ``TimeoutError``), which it raises. When the script is at its end the stream is too; with ``then_block=True`` there
    is merely nothing to read (``BlockingIOError``, or ``TimeoutError`` where the socket has a timeout).

    ``outgoing`` is what one `send` after the other meets: how many bytes it takes, or an error. At its end all is taken.

    ``sent`` is what went out; ``calls`` the names of the methods called, in order; ``shut`` how the socket was shut down.
    """

    def __init__(
        self,
        incoming: Iterable[Step] = (),
        outgoing: Iterable[int | Failure] = (),
        *,
        then_block: bool = False,
    ) -> None:
        near, self._far = socket.socketpair()
        super().__init__(near.family, near.type, near.proto, fileno=near.detach())
        self.incoming: deque[Step] = deque(incoming)
        self.outgoing: deque[int | Failure] = deque(outgoing)
        self.sent = bytearray()
        self.calls: list[str] = []
        self.shut: list[int] = []
        self._then_block = then_block
        self._readable = False
        self._show_readable()

    # -------------------------------------------------------------------------------------------- reading

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """The next bytes of the script, ``bufsize`` at the most."""
        self._called("recv")
        return self._read(bufsize, bool(flags & socket.MSG_PEEK))

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Put the next bytes of the script into ``buffer``; return how many."""
        self._called("recv_into")
        room = memoryview(buffer).cast("B")
        chunk = self._read(nbytes or len(room), bool(flags & socket.MSG_PEEK))
        room[: len(chunk)] = chunk
        return len(chunk)

    def _read(self, most: int, peek: bool) -> bytes:
        if not self.incoming:
            if self._then_block:
                raise self._nothing("there is nothing to read")
            return EOF
        step = self.incoming[0]
        if not isinstance(step, bytes):
            self.incoming.popleft()
            self._show_readable()
            raise step
        if not peek and step != EOF:
            # The end of a stream stays where it is: every later read finds it again.
            self.incoming.popleft()
            if len(step) > most:
                self.incoming.appendleft(step[most:])
            self._show_readable()
        return step[:most]

    # -------------------------------------------------------------------------------------------- writing

    def send(self, data: Any, _flags: int = 0, /) -> int:
        """Take as many bytes of ``data`` as the script says; return how many."""
        self._called("send")
        return self._write(bytes(data))

    def sendall(self, data: Any, _flags: int = 0, /) -> None:
        """Take all of ``data``, in as many parts as the script says; an error leaves a part of it sent."""
        self._called("sendall")
        rest = bytes(data)
        while rest:
            rest = rest[self._write(rest) :]

    def sendmsg(self, buffers: Iterable[Any], *_more: Any) -> int:
        """Take as many bytes of the buffers, one behind the other, as the script says; return how many."""
        self._called("sendmsg")
        return self._write(b"".join(map(bytes, buffers)))

    def _write(self, data: bytes) -> int:
        step = self.outgoing.popleft() if self.outgoing else len(data)
        if not isinstance(step, int):
            raise step
        self.sent += data[:step]
        return min(step, len(data))

    # ---------------------------------------------------------------------------------------------- state

    def shutdown(self, how: int, /) -> None:
        """Note that a direction was shut down."""
        self._called("shutdown")
        self.shut.append(how)

    def close(self) -> None:
        """Close the descriptor, as any socket does."""
        self.calls.append("close")
        self._far.close()
        super().close()

    @property
    def closed(self) -> bool:
        """Whether the socket was closed."""
        return self.fileno() < 0

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.closed:
            raise OSError(9, "the socket is closed")

    def _nothing(self, reason: str) -> OSError:
        return BlockingIOError(11, reason) if self.gettimeout() in (None, 0) else TimeoutError(reason)

    def _show_readable(self) -> None:
        """Make the descriptor readable where there is something to read: a selector looks at it, not at the script."""
        wanted = bool(self.incoming) or not self._then_block
        if wanted and not self._readable:
            self._far.send(b"!")
        elif self._readable and not wanted:
            super().recv(1)
        self._readable = wanted
