"""The host: runs one hub for any number of servers, on any driver.

    with SQLiteLog("chat.db") as log, Host(Hub(log)) as host:
        with selector.Server(("127.0.0.1", 9009), wire, host.service(wire)) as server:
            server.run()

The hub has a thread of its own. What the servers' threads and loops hear is put in its queue; it takes all that waits, handles
it as one batch (one commit), and sends. So a disk that is slow for a moment stops nobody from reading, and the busier it gets,
the more posts share a commit. A connection that fills the queue alone is closed.

If the log fails, the host ends: `error` has the reason, `on_end` is called, and connections are closed without a word, as in
a crash; their clients come back, to a server whose log works again. A connection that cannot be told something, for its wire
does not carry it, is closed alone.
"""

from __future__ import annotations

import ipaddress
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Protocol, Self

from framing import Wire
from framing.drivers.address import Address
from framing.drivers.service import Peer
from protocols.chat.hub import Hub
from protocols.chat.log import LogError
from protocols.chat.messages import Close, FromServer, to_map
from protocols.chat.traffic import (
    Announced,
    Blocked,
    Closed,
    Drained,
    Input,
    Opened,
    Output,
    Received,
    Send,
    Shut,
    Stopped,
    Verified,
    Verify,
)

__all__ = ["ChatService", "Host", "Line", "origin_of"]

logger = logging.getLogger("protocols.chat")

BATCH: Final = 64
"""Inputs in one batch, at most: so many texts may be added to what waits for a peer before it is looked at."""

BATCH_BYTES: Final = 1 << 16
"""Characters of their texts, at which there are no more in a batch."""

MOST_WAITING: Final = 200
"""Messages of one connection that may wait for the hub."""

LOOK_EVERY: Final = 0.05
"""Seconds between two looks at who takes nothing."""


def origin_of(address: Address) -> str:
    """What makes the sessions of one host count together: its address, or of IPv6, where a host has many, the first half.

    Empty for a unix socket, which has no host: whoever may open it is trusted with that.
    """
    try:
        there = ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return address.host
    if there.version == 4:
        return str(there)
    return str(there.ipv4_mapped or ipaddress.ip_network((int(there) >> 64 << 64, 64)))


class Line(Protocol):
    """A connection, as the host sees it; it hashes, and is the hub's name for it."""

    def __hash__(self) -> int: ...

    @property
    def paused(self) -> bool:
        """Whether more waits for it than it takes."""
        ...

    def tell(self, message: FromServer, encoded: dict[Any, bytes]) -> None:
        """Send ``message``, at the next `flush` at the latest; ``encoded`` keeps what it is on each wire, for the others."""
        ...

    def flush(self) -> None:
        """Send what it has been told: in one piece, for a piece costs more than a message."""
        ...

    def close(self) -> None:
        """End it, behind what it was told."""
        ...


class Host:
    """See the module's text.

    ``verify(name, password)`` says whether it is right; it may take its time, and is called in a thread of its own.
    ``on_end`` is called, in the hub's thread, when the hub has ended: stop the servers then.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        verify: Callable[[str, str], bool] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self._hub = hub
        self._verify = verify
        self._on_end = on_end
        self._inputs: queue.SimpleQueue[Input] = queue.SimpleQueue()
        self._waiting: Counter[Line] = Counter()
        self._lines: set[Line] = set()
        self._lock = threading.Lock()
        self._slow: set[Any] = set()  # those that take nothing, and the hub knows
        self._told: set[Any] = set()  # those that were told something in the last turn
        self._ended = False
        self._checks = ThreadPoolExecutor(2, "framing chat password") if verify is not None else None
        self._thread = threading.Thread(target=self._run, name="framing chat hub", daemon=True)
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.join()

    def service(self, wire: Wire[Any]) -> ChatService:
        """The service to give to a server that speaks ``wire``."""
        return ChatService(self, wire)

    def announce(self, text: str) -> None:
        """Say ``text`` to everybody. Any thread may."""
        self._inputs.put(Announced(text))

    def stop(self, reconnect: float | None = 1.0) -> None:
        """Say good-bye to all and end. Any thread may, and a signal's handler."""
        self._inputs.put(Stopped(reconnect))

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; False when it has not come in ``timeout`` seconds."""
        self._thread.join(timeout)
        if self._checks is not None and not self._thread.is_alive():
            self._checks.shutdown(wait=True, cancel_futures=True)
        return not self._thread.is_alive()

    # --------------------------------------------------- what the servers tell it

    def opened(self, line: Line, *, private: bool, origin: str = "") -> None:
        """``line`` has been made; ``private`` and ``origin`` as `Opened` has them."""
        with self._lock:
            late = self._ended
            self._lines.add(line)
        if late:
            line.close()
        self._inputs.put(Opened(line, private, origin))

    def received(self, line: Line, message: Any) -> None:
        """``line`` sent ``message``."""
        with self._lock:
            self._waiting[line] += 1
            flood = self._waiting[line] > MOST_WAITING
        if flood:
            logger.info("%r: closed, for it sends faster than the hub takes it", line)
            line.close()
        else:
            self._inputs.put(Received(line, message))

    def closed(self, line: Line) -> None:
        """``line`` has ended."""
        with self._lock:
            self._lines.discard(line)
            self._waiting.pop(line, None)
        self._inputs.put(Closed(line))

    # ------------------------------------------------------------- the hub's thread

    def _run(self) -> None:
        try:
            while not self._hub.stopped:
                self._turn(self._gather())
        except Exception as error:
            self.error = error
            if isinstance(error, LogError):
                logger.error("the chat ends, for its log does not work: %s", error)  # noqa: TRY400 # the text says it all
            else:
                logger.exception("the chat ends")
        finally:
            with self._lock:
                self._ended = True
                lines = list(self._lines)
            # Those that it said good-bye to are closing already; there may be others.
            for line in lines:
                line.close()
            if self._on_end is not None:
                self._on_end()

    def _gather(self) -> list[Input]:
        """All that waits, up to a batch; where nothing does, what comes until the hub must be woken."""
        wake = self._hub.wake_at
        wait = None if wake is None else max(0.0, wake - time.monotonic())
        if self._slow:
            wait = LOOK_EVERY if wait is None else min(wait, LOOK_EVERY)
        batch: list[Input] = []
        try:
            batch.append(self._inputs.get(timeout=wait) if wait != 0.0 else self._inputs.get_nowait())
            left = BATCH_BYTES - _said(batch[0])
            while len(batch) < BATCH and left > 0:
                batch.append(self._inputs.get_nowait())
                left -= _said(batch[-1])
        except queue.Empty:
            pass
        with self._lock:
            for given in batch:
                if isinstance(given, Received):
                    line: Any = given.connection
                    if line in self._waiting:
                        self._waiting[line] -= 1
        return batch

    def _turn(self, batch: list[Input]) -> None:
        # Looked at now, and not when they were told: what they were told is sent by the threads of the servers.
        looked: list[Input] = []
        for line in [line for line in self._slow if not line.paused]:
            self._slow.discard(line)
            looked.append(Drained(line))
        for line in [line for line in self._told if line.paused]:
            self._slow.add(line)
            looked.append(Blocked(line))
        self._told = self._handle(looked + batch)
        for given in batch:
            if isinstance(given, Closed):
                self._slow.discard(given.connection)
                self._told.discard(given.connection)

    def _handle(self, inputs: list[Input]) -> set[Any]:
        """Give ``inputs`` to the hub, and carry out what comes of them: who was told something."""
        told: set[Any] = set()
        for output in self._hub.handle(inputs, time.monotonic(), time.time_ns() // 1_000_000):
            self._carry_out(output, told)
        for line in told:
            self._flush(line)
        return told

    def _carry_out(self, output: Output, told: set[Any]) -> None:
        if isinstance(output, Send):
            if isinstance(output.message, Close):
                for line in output.connections:
                    logger.info("%r: %s: %s", line, output.message.code, output.message.text)
            encoded: dict[Any, bytes] = {}
            for line in output.connections:
                self._tell(line, output.message, encoded)
            told.update(output.connections)
        elif isinstance(output, Shut):
            shut: Any = output.connection
            if shut in told:
                told.discard(shut)
                self._flush(shut)
            self._slow.discard(shut)
            shut.close()
        else:
            self._check(output)

    @staticmethod
    def _tell(line: Any, message: FromServer, encoded: dict[Any, bytes]) -> None:
        try:
            line.tell(message, encoded)
        except Exception:
            logger.exception("%r cannot be told a message, and is closed", line)
            line.close()

    @staticmethod
    def _flush(line: Any) -> None:
        try:
            line.flush()
        except Exception:
            logger.exception("%r cannot be sent what it was told, and is closed", line)
            line.close()

    def _check(self, asked: Verify) -> None:
        assert self._checks is not None
        assert self._verify is not None
        verify = self._verify

        def check() -> None:
            try:
                right = verify(asked.name, asked.password)
            except Exception:
                logger.exception("the password of %r could not be verified", asked.name)
                right = False
            self._inputs.put(Verified(asked.connection, right))

        self._checks.submit(check)


def _said(given: Input) -> int:
    """How much text there is in an input, which others may be told."""
    message: Any = given.message if isinstance(given, Received) else None
    text: Any = message.get("text") if isinstance(message, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] # of whatever
    return len(text) if isinstance(text, str) else 0


class _PeerLine:
    """A framing peer as a line."""

    __slots__ = ("_frames", "_peer", "_wire", "sent_away")

    def __init__(self, peer: Peer[Any], wire: Wire[Any]) -> None:
        self._peer = peer
        self._wire = wire
        self._frames: list[bytes] = []  # told, and not sent yet; only the hub's thread has to do with them
        self.sent_away = False

    def __repr__(self) -> str:
        return str(self._peer.address)

    @property
    def paused(self) -> bool:
        return self._peer.paused

    def tell(self, message: FromServer, encoded: dict[Any, bytes]) -> None:
        # By identity, for it is asked once for each line that is told something: a wire hashes all of its options.
        wire = id(self._wire)
        frames = encoded.get(wire)
        if frames is None:
            frames = encoded[wire] = self._wire.encode(to_map(message))
        self._frames.append(frames)

    def flush(self) -> None:
        frames = b"".join(self._frames)
        self._frames.clear()
        self._peer.send_encoded(frames)

    def close(self) -> None:
        self.sent_away = True
        self._peer.close()


class ChatService:
    """The chat, as a service of any server driver that speaks ``wire``; its codec carries maps.

    The server itself may hold what it reads against a lower ``max_frame``.

    Why each connection ended is logged once, at the level INFO: a failure by the driver, to ``framing.drivers``; what the chat
    itself has ended, and what its client has, to ``protocols.chat``.
    """

    def __init__(self, host: Host, wire: Wire[Any]) -> None:
        self._host = host
        self._wire = wire
        self._lines: dict[Peer[Any], _PeerLine] = {}

    def opened(self, peer: Peer[Any]) -> None:
        """Tell the host of ``peer``."""
        line = self._lines[peer] = _PeerLine(peer, self._wire)
        self._host.opened(line, private=peer.address.scheme in ("tls", "unix"), origin=origin_of(peer.address))

    def received(self, peer: Peer[Any], message: Any) -> None:
        """Pass ``message`` on."""
        self._host.received(self._lines[peer], message)

    def closed(self, peer: Peer[Any], error: Exception | None) -> None:
        """Tell the host that ``peer`` has gone."""
        line = self._lines.pop(peer)
        if error is None and not line.sent_away:
            logger.info("%r: its client has closed the connection", line)
        self._host.closed(line)
