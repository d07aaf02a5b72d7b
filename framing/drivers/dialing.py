"""Dialing: to connect without waiting, with every address of a name tried in turn.

Only to look up a name would block, so a thread of its own does that; numbers and paths are tried at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from selectors import EVENT_WRITE
from typing import Any, TypeAlias

from framing.drivers.address import Address, is_number, resolve
from framing.drivers.failures import UNDER_WAY, translate
from framing.drivers.reactor import Reactor, Timer
from framing.errors import FramingError, Timeout

__all__ = ["Dial"]

Target: TypeAlias = tuple[int, int, int, Any]


class Dial:
    """One attempt to connect to ``address``: calls ``connected(sock)``, or ``failed(error)``, once; neither after `cancel`.

    ``timeout`` seconds are for all the addresses of the name together, None for as long as the system tries.
    """

    def __init__(
        self,
        reactor: Reactor,
        address: Address,
        timeout: float | None,
        connected: Callable[[socket.socket], object],
        failed: Callable[[FramingError], object],
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._end = None if timeout is None else time.monotonic() + timeout
        self._connected = connected
        self._failed = failed
        self._targets: list[Target] = []
        self._failures: list[str] = []
        self._last: OSError = OSError("no address")
        self._sock: socket.socket | None = None
        self._timer: Timer | None = None
        self._over = False

    def start(self) -> None:
        """Begin; in the loop's thread."""
        if _needs_no_look_up(self._address):
            self._looked_up(*_look_up(self._address))
            return
        if self._end is not None:
            self._timer = self._reactor.call_later(max(self._end - time.monotonic(), 0.0), self._too_late)
        threading.Thread(target=self._look_up, name=f"framing looks up {self._address.host}", daemon=True).start()

    def _look_up(self) -> None:
        self._reactor.call_soon_threadsafe(partial(self._looked_up, *_look_up(self._address)))

    def _looked_up(self, targets: list[Target], error: FramingError | None) -> None:
        if self._over:
            return
        self._stop_waiting()
        if error is not None:
            self._give_up(error)
            return
        self._targets = targets
        self._try_next()

    def _try_next(self) -> None:
        while self._targets:
            family, kind, proto, target = self._targets.pop(0)
            try:
                self._sock = sock = socket.socket(family, kind, proto)
                sock.setblocking(False)
                number = sock.connect_ex(target)
                if number in UNDER_WAY:
                    # A dead first address must not use up the time of a living second one.
                    if self._end is not None:
                        share = max((self._end - time.monotonic()) / (len(self._targets) + 1), 0.001)
                        self._timer = self._reactor.call_later(
                            share, partial(self._note, target, TimeoutError("timed out"))
                        )
                    self._reactor.watch(sock, EVENT_WRITE, partial(self._answered, target))
                    return
            except OSError as error:
                number = error.errno or errno.EINVAL
            if self._outcome(target, number):
                return
        failure = translate(self._last, self._address, "connecting to")
        if len(self._failures) > 1:
            failure.add_note("tried " + "; ".join(self._failures))
        self._give_up(failure)

    def _answered(self, target: Any, _: int) -> None:
        if self._sock is None:
            return  # cancelled by another event of this round
        self._reactor.unwatch(self._sock)
        if not self._outcome(target, self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._try_next()

    def _outcome(self, target: Any, number: int) -> bool:
        """Whether that was it."""
        sock, self._sock = self._sock, None
        self._stop_waiting()
        if number == 0 and sock is not None:
            self._over = True
            self._connected(sock)
            return True
        if sock is not None:
            sock.close()
        self._remember(target, OSError(number, os.strerror(number)))
        return False

    def _note(self, target: Any, error: OSError) -> None:
        """The time for this address is over."""
        assert self._sock is not None
        self._reactor.unwatch(self._sock)
        self._sock.close()
        self._sock = None
        self._remember(target, error)
        self._try_next()

    def _remember(self, target: Any, error: OSError) -> None:
        self._last = error
        self._failures.append(f"{target[0] if isinstance(target, tuple) else self._address}: {error}")

    def _too_late(self) -> None:
        self._give_up(Timeout(f"connecting to {self._address}: its name was not found in time", address=self._address))

    def _give_up(self, error: FramingError) -> None:
        if not self._over:
            self.cancel()
            self._failed(error)

    def cancel(self) -> None:
        """Stop trying."""
        self._over = True
        self._stop_waiting()
        if self._sock is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._reactor.unwatch(self._sock)
            self._sock.close()
            self._sock = None

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _needs_no_look_up(address: Address) -> bool:
    return address.scheme == "unix" or not address.host or is_number(address.host)


def _look_up(address: Address) -> tuple[list[Target], FramingError | None]:
    try:
        return resolve(address), None
    except FramingError as error:
        return [], error
