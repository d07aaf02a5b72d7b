"""Ledger: what one connection has sent, held against what comes back. It knows no sockets.

Each reply is told by its bytes. One that is not the one that is due is looked for among those that are due later, those that
were passed over, and those that have come already: so a reply that is missing, one that came twice, one that was overtaken and
one that nobody asked for are told from each other, and one mishap is counted once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from protocols.echo.latencies import Latencies

__all__ = ["Counts", "Ledger"]

REMEMBERED = 1024
"""So many replies, and so many that were passed over, are remembered for each connection."""


@dataclass(slots=True)
class Counts:
    """What has happened so far, on all connections together."""

    sent: int = 0
    replies: int = 0
    """Replies that are, byte for byte, what was sent."""
    reply_bytes: int = 0
    """The bytes of their frames, in one direction."""
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    out_of_order: int = 0
    latencies: Latencies = field(default_factory=Latencies)


class _Due(NamedTuple):
    number: int
    mark: bytes
    nbytes: int
    sent_at: float


class _Passed(NamedTuple):
    """A message that was not waited for any longer; ``lost`` says whether it was counted so."""

    number: int
    lost: bool


class Ledger:
    """``ordered`` says whether replies must keep their order, as over a stream; packets may overtake each other."""

    __slots__ = ("_answered", "_counts", "_due", "_furthest", "_number", "_ordered", "_passed")

    def __init__(self, counts: Counts, *, ordered: bool) -> None:
        self._counts = counts
        self._ordered = ordered
        self._due: deque[_Due] = deque()
        self._number = 0
        self._furthest = 0  # the latest message that was answered
        # By their hashes: the marks of large messages would be much to remember.
        self._answered: deque[int] = deque(maxlen=REMEMBERED)
        self._passed: OrderedDict[int, _Passed] = OrderedDict()

    def __len__(self) -> int:
        """How many replies are due."""
        return len(self._due)

    @property
    def oldest(self) -> float | None:
        """When the message that has waited longest was sent; None where nothing is due."""
        return self._due[0].sent_at if self._due else None

    def sent(self, mark: bytes, nbytes: int, now: float) -> None:
        """A message has been sent, in a frame of ``nbytes``."""
        self._number += 1
        self._due.append(_Due(self._number, mark, nbytes, now))
        self._counts.sent += 1

    def answered(self, mark: bytes | None, now: float) -> None:
        """A reply has come; None stands for one that is no message at all."""
        due = self._due
        if due and due[0].mark == mark:
            self._right(due.popleft(), now)
            return
        place = next((index for index, one in enumerate(due) if one.mark == mark), None)
        if place is None:
            self._unexpected(hash(mark))
            return
        if self._ordered:
            for _ in range(place):
                self._pass_over(lost=True)
            self._right(due.popleft(), now)
        else:
            # Those before it may still come; if they do not, their time will be over.
            one = due[place]
            del due[place]
            self._right(one, now)

    def _right(self, one: _Due, now: float) -> None:
        self._counts.reply_bytes += one.nbytes
        self._counts.latencies.add(now - one.sent_at)
        self._note(hash(one.mark), one.number)

    def _note(self, mark: int, number: int) -> None:
        """The reply to that message has come."""
        self._counts.replies += 1
        self._counts.out_of_order += number < self._furthest
        self._furthest = max(self._furthest, number)
        self._answered.append(mark)

    def _unexpected(self, mark: int) -> None:
        counts = self._counts
        passed = self._passed.pop(mark, None)
        if passed is not None:
            # It was only late; or what came in its place was an intruder, who is counted.
            counts.lost -= passed.lost
            self._note(mark, passed.number)
        elif mark in self._answered:
            counts.doubled += 1
        else:
            counts.changed += 1
            if self._ordered and self._due:
                self._pass_over(lost=False)  # this was to be its reply

    def _pass_over(self, *, lost: bool) -> None:
        self._counts.lost += lost
        one = self._due.popleft()
        self._passed[hash(one.mark)] = _Passed(one.number, lost)
        if len(self._passed) > REMEMBERED:
            self._passed.popitem(last=False)

    def give_up(self, sent_before: float = float("inf")) -> int:
        """Count as lost what was sent before that time, and has not come; how many."""
        count = 0
        while self._due and self._due[0].sent_at < sent_before:
            self._pass_over(lost=True)
            count += 1
        return count
