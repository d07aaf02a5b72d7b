"""Law 9: framers, layers, codecs and wires are values: frozen, hashable, picklable, shared by threads."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

from framing.errors import FramingError
from framing.framers import Framer
from framing.testing.laws.court import Court
from framing.testing.runs import Outcome, describe, run, same

__all__ = ["shared", "values"]


def values(court: Court, value: Any) -> None:
    """Frozen, hashable, equal, picklable, replaceable."""
    name = type(value).__name__
    if not is_dataclass(value) or isinstance(value, type):
        court.broken(9, f"{name} is no dataclass")
    for one in fields(value):
        before = getattr(value, one.name)
        try:
            setattr(value, one.name, before)
        except (AttributeError, TypeError):
            continue
        court.broken(9, f"{name}.{one.name} can be assigned to: it is not frozen")
    try:
        hash(value)
    except TypeError as error:
        court.broken(9, f"{name} cannot be hashed", got=describe(error))
    options = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
    try:
        twins: list[tuple[str, Any]] = [("dataclasses.replace", replace(value)), ("copy.copy", copy.copy(value))]
        if all(map(_importable, _parts(value))):
            twins.append(("pickle", pickle.loads(pickle.dumps(value))))  # noqa: S301 -- it was pickled one call before
        else:
            # The rest of it: a class inside a function can be no part of a pickle, whatever its values are.
            pickle.dumps([option for option in options.values() if not any(map(_is_value, _parts(option)))])
    except Exception as error:  # noqa: BLE001 -- whatever it raises, the value cannot be copied
        court.broken(9, f"{name} cannot be replaced, copied or pickled", expected=value, got=describe(error))
    for how, twin in twins:
        if twin != value or hash(twin) != hash(value):
            court.broken(9, f"{how} gives a value that is not equal, or has another hash", expected=value, got=twin)
        court.holds(9)
    if isinstance(value, Framer):
        with suppress(ValueError):
            other = replace(value, max_frame=value.max_frame + 1)
            if other.max_frame != value.max_frame + 1 or other == value:
                court.broken(9, "dataclasses.replace(framer, max_frame=…) changes nothing", got=other)


def _is_value(value: Any) -> bool:
    """Whether it is a dataclass instance; a class among the options, such as a message's type, is none."""
    return is_dataclass(value) and not isinstance(value, type)


def _parts(value: Any) -> list[Any]:
    """A value, and the values of this sort that it is made of: a wire's framer, layers and codec."""
    inner: list[Any] = [getattr(value, one.name) for one in fields(value)] if _is_value(value) else []
    inner += [*value] if isinstance(value, tuple) else []
    return [value, *(part for one in inner for part in _parts(one) if _is_value(part))]


def _importable(value: object) -> bool:
    """Whether pickle finds the value's class by its name; a class inside a function has none."""
    kind = type(value)
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def shared(court: Court, items: Sequence[Any]) -> None:
    """Two decoders in step, then threads: one value serves them all, and they do not meet."""
    short = [item for item in items if len(court.encode(item)) <= 64][-10:] or list(items[:2])
    stream, other = court.encode_many(short), court.encode_many(short[::-1])
    expected = run(court.make, [stream]).outcome
    for lag in range(4):
        decoders = (court.make(), court.make())
        events: list[Any] = []
        with suppress(FramingError):
            for at in range(len(stream)):
                events.extend(decoders[0].feed(stream[at : at + 1]))
                decoders[1].feed(other[max(0, at - lag) : max(0, at - lag + 1)])
        if not same(tuple(events), expected.events):
            reason = "two decoders of one value, fed in turn, disturb each other"
            court.broken(9, reason, stream, range(1, len(stream)), expected.events, events)
        court.holds(9)
    outcomes: list[Outcome] = []

    def use() -> None:
        outcomes.append(run(court.make, [court.encode_many(short)]).outcome)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(outcomes) != len(threads) or not all(same(one, expected) for one in outcomes):
        court.broken(9, "threads that share the value get something else", stream, (), expected, outcomes)
    court.holds(9)
