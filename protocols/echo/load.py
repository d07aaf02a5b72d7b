"""Load: many connections that an echo server has to keep up with, and every byte of every reply held against what was sent.

    from protocols.echo.load import Load

    load = Load("tcp://127.0.0.1:9000", wire, connections=50, messages=100_000)
    figures = load.run()                  # until all is answered, or load.stop(), from any thread or a signal handler
    assert figures.right, figures

One thread drives all connections, on a `selector.Loop`. All of them are opened first; then each keeps ``pipeline`` messages
under way. When the last reply has come, it listens a moment longer, for replies that come twice.

Of ``udp://`` each connection is a socket of its own. Packets may be lost: one whose reply does not come in ``timeout`` seconds
is counted, and the next one sent. Packets may overtake each other: that is counted, and no fault.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from framing import ConnectionClosed, ConnectionFailed, DecodeError, EncodeError, FramingError, Timeout, Wire
from framing.drivers import datagram, selector
from framing.drivers.address import Address, AddressLike
from protocols.echo.ledger import Counts, Ledger
from protocols.echo.samples import Samples

if TYPE_CHECKING:
    import ssl

    from framing.drivers.service import Peer

__all__ = ["Figures", "Load"]

DIALS = 32
"""Connections that are being made at the same time: more would only wait for each other in the server's queue."""

LISTEN_ON = 0.1
"""Seconds for which replies that nobody waits for are listened for at the end."""

TICK = 0.1
"""Seconds between two looks at the clock."""

DRAIN_SECONDS = 1.0
"""The most seconds that connections take to end."""

REASONS = 5
"""So many different errors of connections are kept, in full."""


@dataclass(slots=True)
class Figures(Counts):
    """What a load has found out, so far or in the end. ``seconds`` are from the first message to the last reply."""

    connections: int = 0
    """Connections that were made."""
    failed: int = 0
    """Connections that were not, or that ended before all was answered."""
    unanswered: int = 0
    """Messages whose replies were still under way when the load was stopped."""
    seconds: float = 0.0
    stopped: bool = False
    """Whether `Load.stop` ended it."""
    order_counts: bool = True
    """Whether a reply that is out of order is a fault: over streams it is."""
    errors: list[Exception] = field(default_factory=list[Exception])
    """Why connections failed; of equal texts one, and five at the most."""

    @property
    def right(self) -> bool:
        """Whether every message came back, once, byte for byte the same, in its order; but for what stop() cut off."""
        faults = self.lost + self.doubled + self.changed + self.failed
        return not faults and not (self.order_counts and self.out_of_order)

    @property
    def messages_per_second(self) -> float:
        """Replies that were right, in a second."""
        return self.replies / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """The bytes of their frames in a second, in one direction; there were as many in the other."""
        return self.reply_bytes / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All figures, in what JSON has words for; latencies in seconds."""
        names = (one.name for one in fields(self) if one.name not in {"latencies", "errors", "order_counts"})
        return {
            **{name: getattr(self, name) for name in names},
            "messages_per_second": self.messages_per_second,
            "bytes_per_second": self.bytes_per_second,
            "latency": {
                **{f"p{percent}": self.latencies.percentile(percent) for percent in (50, 90, 99)},
                "max": self.latencies.longest,
            },
            "errors": [str(error) for error in self.errors],
            "right": self.right,
        }


class Load:
    """One run against the echo server at ``address``. `figures` may be looked at while it runs, in the thread that runs it.

    It ends when ``messages``, of all connections together, have been answered, or, where ``seconds`` are given, when these are
    over and what was under way then has been answered. ``size``: bytes of a message, or the least and the most, as
    `Samples` makes them; ``seed`` makes the same ones again. ``timeout``: seconds in which a connection must be made, and
    then in which a reply must come.

    Raises ValueError for options that are none, and for a wire that it has no messages for.
    """

    def __init__(
        self,
        address: AddressLike,
        wire: Wire[Any],
        *,
        connections: int = 8,
        pipeline: int = 16,
        messages: int | None = None,
        seconds: float | None = None,
        size: int | tuple[int, int] = 64,
        timeout: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        seed: int | None = None,
    ) -> None:
        if (messages is None) == (seconds is None):
            raise ValueError("give messages or seconds: one of them says when the load ends")
        numbers = {"connections": connections, "pipeline": pipeline, "messages": messages}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; give 1 at least")
        for name, duration in {"seconds": seconds, "timeout": timeout}.items():
            if duration is not None and not 0 < duration < math.inf:
                raise ValueError(f"{name} is {duration!r}; give seconds above 0")
        self.address = Address.parse(address)
        self.wire = wire
        self.pipeline = pipeline
        self.messages = messages
        self.seconds = seconds
        self.timeout = timeout
        smallest, largest = (size, size) if isinstance(size, int) else size
        self.samples = Samples(wire, smallest, largest, seed)
        self.figures = Figures(order_counts=self.address.scheme != "udp")
        self._wanted = connections
        self._tls: dict[str, Any] = {"ssl_context": ssl_context, "server_hostname": server_hostname}
        self._left = math.inf if messages is None else messages
        self._lines: list[_Line] = []
        self._busy: dict[_Line, None] = {}  # those that wait for replies, in order
        self._dialing = self._open = 0
        self._loop: selector.Loop | None = None
        self._stop_asked = False
        self._progress: Callable[[Figures], object] | None = None
        self._trouble: BaseException | None = None
        self._talking = False  # all connections are made
        self._ending = False  # all is answered
        self._over = False  # connections that end now may
        self._began = 0.0

    def run(self, progress: Callable[[Figures], object] | None = None) -> Figures:
        """Run it, once, and return the figures. ``progress`` gets them ten times a second; what it raises ends the load.

        Where not even the first connection can be made, its error is in the figures, and no other one is tried.
        """
        if self._loop is not None:
            raise ConnectionClosed("this load has been run; make a new one")
        self._progress = progress
        try:
            with selector.Loop(drain_timeout=DRAIN_SECONDS) as loop:
                self._loop = loop
                if self._stop_asked:
                    self.stop()
                loop.call_later(0, partial(self._safely, self._begin))
                loop.call_later(TICK, self._tick)
                loop.run()
        finally:
            for line in self._lines:
                line.close()
        if self._trouble is not None:
            raise self._trouble
        return self.figures

    def stop(self) -> None:
        """End it now, from any thread or signal handler: what is under way is not waited for. Returns at once."""
        self._stop_asked = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cut_off)

    @property
    def loop(self) -> selector.Loop:
        """What drives it, from `run` on."""
        assert self._loop is not None
        return self._loop

    # ------------------------------------------------------------------ the beginning

    def _begin(self) -> None:
        if self.address.scheme == "udp":
            for _ in range(self._wanted):
                try:
                    endpoint = datagram.connect(self.address, self.wire, timeout=self.timeout)
                except FramingError as error:
                    self.fail(error)
                    break
                line = _PacketLine(self, endpoint)
                self._lines.append(line)
                self.opened(line)
                self.loop.add_reader(endpoint, line.ready)
            self._talk()
        else:
            # Where nobody answers one, to try all would tell no more.
            self._dial()

    def _dial(self) -> None:
        line = _StreamLine(self)
        self._lines.append(line)
        self._dialing += 1
        line.peer = self.loop.connect(self.address, self.wire, line, timeout=self.timeout, **self._tls)

    def dialed(self, line: _Line, error: Exception | None = None) -> None:
        """A connection was made, or was not."""
        self._dialing -= 1
        if self._over:
            return
        if error is None:
            self.opened(line)
        else:
            self.fail(error)
        while self.figures.connections and self._dialing < DIALS and len(self._lines) < self._wanted:
            self._dial()
        if not self._dialing:
            self._talk()

    def _talk(self) -> None:
        """All connections are made: begin with the messages."""
        self._talking = True
        self._began = time.perf_counter()
        if self.seconds is not None:
            self.loop.call_later(self.seconds, self._no_more)
        # By turns: each has something to do, also where there are fewer messages than places.
        for depth in range(1, self.pipeline + 1):
            for line in self._lines:
                line.top_up(depth)
        self.look()  # where there is not one

    # ------------------------------------------------------------- called by the lines

    def opened(self, line: _Line) -> None:
        """There is one more connection."""
        line.open = True
        self._open += 1
        self.figures.connections += 1

    def forget(self, endpoint: datagram.Endpoint[Any]) -> None:
        """Wait for it no more."""
        self.loop.remove_reader(endpoint)

    def settled(self, line: _Line) -> None:
        """It has sent what it may, and waits for replies, or for none."""
        if len(line.ledger):
            self._busy[line] = None
        else:
            self._busy.pop(line, None)
            self.look()

    @property
    def may_send(self) -> bool:
        """Whether there is another message to be sent."""
        return self._left > 0 and self._talking and not self._over

    def next_sample(self) -> Any:
        """The next message to send."""
        self._left -= 1
        return next(self.samples)

    def replied(self) -> None:
        """A reply has come."""
        self.figures.seconds = time.perf_counter() - self._began

    def ended(self, line: _Line, error: Exception | None) -> None:
        """A connection has ended; if that was not to be yet, it has failed."""
        if not line.open or self._over:
            return
        line.open = False
        self._open -= 1
        line.ledger.give_up()
        self._busy.pop(line, None)
        if error is None:
            hint = "" if line.heard else f"; does it speak {self.wire}?"
            error = ConnectionClosed(f"{self.address} ended the connection before all was answered{hint}")
        self.fail(error)
        self.look()

    def fail(self, error: Exception) -> None:
        """Note a connection that failed."""
        self.figures.failed += 1
        errors = self.figures.errors
        if len(errors) < REASONS and str(error) not in map(str, errors):
            errors.append(error)

    def look(self) -> None:
        """Whether that was all."""
        if not self._talking or self._ending:
            return
        if self._busy or (self._left > 0 and self._open):
            return
        self._ending = True
        self.loop.call_later(LISTEN_ON, self._finish)

    def surrender(self, error: BaseException) -> None:
        """End with an error that is nobody's but ours."""
        self._trouble = self._trouble or error
        self._finish()

    # --------------------------------------------------------------------- in the loop

    def _safely(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 # run() raises it
            self.surrender(error)

    def _tick(self) -> None:
        if self._over:
            return
        self.loop.call_later(TICK, self._tick)
        now = time.perf_counter()
        for line in list(self._busy):
            line.look_at_clock(now)
        if self._progress is not None:
            self._safely(partial(self._progress, self.figures))

    def _no_more(self) -> None:
        self._left = 0
        self.look()

    def _cut_off(self) -> None:
        if not self._over:
            self.figures.stopped = True
            self.figures.unanswered = sum(len(line.ledger) for line in self._busy)
            self._finish()

    def _finish(self) -> None:
        self._over = True
        self.loop.stop()


class _Line:
    """One connection: keeps ``pipeline`` messages under way, and has its ledger judge what comes."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.ledger = Ledger(load.figures, ordered=load.figures.order_counts)
        self.open = False
        self.heard = 0.0

    def top_up(self, most: int | None = None) -> None:
        """Send as many messages as there may be under way."""
        load = self.load
        room = load.pipeline if most is None else most
        try:
            while self.open and len(self.ledger) < room and load.may_send:
                sample = load.next_sample()
                # Noted first: to send can fail, and then the message was under way, or was to be.
                self.ledger.sent(sample.mark, len(sample.frame), time.perf_counter())
                self.send(sample)
        except EncodeError as error:
            load.surrender(error)
        load.settled(self)

    def send(self, sample: Any) -> None:
        raise NotImplementedError

    def look_at_clock(self, now: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the loop has not."""

    def take(self, message: Any) -> None:
        """A reply."""
        now = time.perf_counter()
        self.heard = now
        try:
            mark = self.load.samples.mark(message)
        except FramingError:
            mark = None
        self.load.replied()
        self.ledger.answered(mark, now)
        self.top_up()


class _StreamLine(_Line):
    """A connection of the loop, as the service that is called for it."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.peer: Peer[Any] | None = None
        self._dialed = False

    def opened(self, peer: Peer[Any]) -> None:  # noqa: ARG002 # a service's method; this one has one peer
        self._dialed = True
        self.load.dialed(self)

    def received(self, peer: Peer[Any], message: Any) -> None:  # noqa: ARG002 # as above
        self.take(message)

    def closed(self, peer: Peer[Any], error: Exception | None) -> None:  # noqa: ARG002 # as above
        if self._dialed:
            self.load.ended(self, error)
        else:
            self.load.dialed(self, error or ConnectionClosed("the load was stopped"))

    def send(self, sample: Any) -> None:
        assert self.peer is not None
        self.peer.send_encoded(sample.frame)

    def look_at_clock(self, now: float) -> None:
        load, oldest = self.load, self.ledger.oldest
        assert oldest is not None
        assert self.peer is not None
        if now - max(oldest, self.heard) > load.timeout:
            load.ended(
                self, Timeout(f"{load.address} gave no answer in {load.timeout:g} s; does it speak {load.wire}?")
            )
            self.peer.close()


class _PacketLine(_Line):
    """A socket of datagrams, connected."""

    def __init__(self, load: Load, endpoint: datagram.Endpoint[Any]) -> None:
        super().__init__(load)
        self.endpoint = endpoint

    def ready(self) -> None:
        """A packet has come, or word that one did not arrive."""
        try:
            packet = self.endpoint.receive(timeout=0)
        except Timeout:
            return  # a packet with a wrong checksum wakes, and is none
        except DecodeError:
            self.load.replied()
            self.ledger.answered(None, time.perf_counter())
            self.top_up()
        except (ConnectionFailed, ConnectionClosed) as error:
            self._give_up(error)
        else:
            self.take(packet.message)

    def send(self, sample: Any) -> None:
        try:
            self.endpoint.send(sample.message)
        except (ConnectionFailed, Timeout) as error:
            self._give_up(error)

    def _give_up(self, error: FramingError) -> None:
        self.load.ended(self, error)
        self.close()

    def look_at_clock(self, now: float) -> None:
        if self.ledger.give_up(now - self.load.timeout):
            self.top_up()

    def close(self) -> None:
        self.load.forget(self.endpoint)
        self.endpoint.close()
