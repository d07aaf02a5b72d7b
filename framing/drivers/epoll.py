"""Epoll: what a loop waits with where the system has epoll and the caller gave nothing else.

It does what ``selectors.EpollSelector`` does, and costs less: that one makes room, at each wait, for as many events as it has
descriptors, so that the idle ones are paid for as often as the busy ones are ready. Here the room is the same for any number;
whoever finds none is ready still at the next wait, and then comes first.
"""

from __future__ import annotations

import contextlib
import select
import selectors
from collections.abc import Mapping
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, Final

__all__ = ["Epoll", "best_selector"]

MOST_EVENTS: Final = 256
"""The most events that one wait gives."""

BOTH: Final = EVENT_READ | EVENT_WRITE

HAS_EPOLL: Final = hasattr(select, "epoll")


class Epoll(selectors.BaseSelector):
    """A selector, as the `selectors` module defines it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        # Whatever is neither, an error or a hang-up, makes both ready, so that the next call tells what it is.
        self._events = {select.EPOLLIN: EVENT_READ, select.EPOLLOUT: EVENT_WRITE}

    def _flags(self, events: int) -> int:
        if not events or events & ~BOTH:
            raise ValueError(f"events are {events!r}; give EVENT_READ, EVENT_WRITE or both")
        return (select.EPOLLIN if events & EVENT_READ else 0) | (select.EPOLLOUT if events & EVENT_WRITE else 0)

    def _found(self, fileobj: Any) -> selectors.SelectorKey:
        """What ``fileobj`` was registered with, which may have been closed since. Raises KeyError where it was not."""
        with contextlib.suppress(ValueError, OSError):
            number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
            if number in self._keys:
                return self._keys[number]
        for key in self._keys.values():
            if key.fileobj is fileobj:
                return key
        raise KeyError(f"{fileobj!r} is not registered")

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        flags = self._flags(events)
        if number in self._keys:
            raise KeyError(f"{fileobj!r} (descriptor {number}) is registered already")
        self._epoll.register(number, flags)
        self._keys[number] = key = selectors.SelectorKey(fileobj, number, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._keys.pop(self._found(fileobj).fd)
        # The system forgets a descriptor that is closed.
        with contextlib.suppress(OSError):
            self._epoll.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = self._found(fileobj).fd
        self._epoll.modify(number, self._flags(events))
        self._keys[number] = key = selectors.SelectorKey(fileobj, number, events, data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout < 0.0:
            timeout = 0.0
        keys, events = self._keys, self._events
        ready: list[tuple[selectors.SelectorKey, int]] = []
        for number, flags in self._epoll.poll(timeout, MOST_EVENTS):
            key = keys.get(number)
            if key is not None:
                ready.append((key, events.get(flags, BOTH) & key.events))
        return ready

    def close(self) -> None:
        self._epoll.close()
        self._keys.clear()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


def best_selector() -> selectors.BaseSelector:
    """A new selector: the best that the system has."""
    return Epoll() if HAS_EPOLL else selectors.DefaultSelector()
