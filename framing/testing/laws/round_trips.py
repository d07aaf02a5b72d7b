"""Law 2: what goes in comes out exactly, or is refused with `EncodeError` before a byte is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from framing.errors import EncodeError, FramingError
from framing.framers import Framer
from framing.framers.base import PIECE_BYTES
from framing.testing.laws.court import Court, crashed, limited
from framing.testing.runs import Outcome, describe, run, same
from framing.wire import Wire

__all__ = ["in_pieces", "opens_apart", "refusals", "round_trips"]


def round_trips(court: Court, items: Sequence[Any], hostile_items: Sequence[Any], *, required: bool) -> None:
    """Each is refused with `EncodeError` and nothing else, or comes out exactly; also one behind the other."""
    carried: list[tuple[Any, bytes]] = []
    for index, item in enumerate((*items, *hostile_items)):
        try:
            frame = court.encode(item)
        except EncodeError as error:
            if index < len(items) and required:
                court.broken(2, "an item that was given is refused", expected=item, got=describe(error))
            if not str(error):
                court.broken(8, "the EncodeError says nothing", got=item)
            court.holds(2)
            continue
        except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
            court.broken(2, "encoding raises something other than EncodeError", expected=item, got=describe(error))
        if type(frame) is not bytes:
            court.broken(2, "encoding gives something other than bytes", expected=item, got=frame)
        _comes_out(court, "an item is encoded and decoded", frame, [item])
        if isinstance(item, bytes) and (
            court.encode(memoryview(item)) != frame or court.encode(bytearray(item)) != frame
        ):
            court.broken(2, "the frame differs where the payload is a bytearray or memoryview", frame, got=item)
        carried.append((item, frame))
    group: list[Any] = []
    for one in range(0, len(carried), 5):
        group = [item for item, _ in carried[one : one + 5]]
        _comes_out(court, "items are encoded by encode_many and decoded", court.encode_many(group), group)
        _comes_out(
            court, "frames are joined and decoded", b"".join(frame for _, frame in carried[one : one + 5]), group
        )


def _comes_out(court: Court, what: str, stream: bytes, items: list[Any]) -> None:
    expected = Outcome(tuple(items), None, 0, b"")
    got = run(court.make, [stream]).outcome
    if not same(expected, got):
        law = 8 if got.error is not None and crashed(got.error) else 2
        court.broken(law, what, stream, (), expected, got)
    court.holds(2)


def in_pieces(court: Court, framer: Framer, items: Sequence[bytes], hostile_items: Sequence[bytes]) -> None:
    """A frame that is written in pieces is the frame, or is refused as it is, and a large payload is a piece by itself."""

    def whole_frame(payload: bytes) -> list[bytes]:
        return [court.encode(payload)]

    for item in (*items, *hostile_items):
        repeated = (item or b"a") * (PIECE_BYTES // max(len(item), 1) + 1)
        for payload in (item, repeated[:PIECE_BYTES]):
            whole = _joined(court, whole_frame, payload)
            pieces = _joined(court, framer.pieces, payload)
            if whole != pieces:
                court.broken(2, "the pieces are not the frame", payload, (), whole, pieces)
            around = _joined(court, partial(_around, framer), payload)
            if around not in (whole, None):
                court.broken(2, "what surround() gives does not make the frame", payload, (), whole, around)
            court.holds(2)
        payload = repeated[:PIECE_BYTES]
        if around is not None and whole and not any(piece is payload for piece in framer.pieces(payload)):
            court.broken(2, "a large payload is copied, though the frame carries it as it is", payload)


def _around(framer: Framer, payload: bytes) -> Sequence[bytes] | None:
    around = framer.surround(payload) if len(payload) <= framer.max_frame else (b"", b"")
    if around is None:
        return None
    if len(payload) > framer.max_frame:
        raise EncodeError("it is above the limit")
    return around[0], payload, around[1]


def _joined(court: Court, make: Callable[[bytes], Sequence[bytes] | None], payload: bytes) -> bytes | None:
    """What ``make`` gives, as one; empty where it is refused, None where it gives nothing."""
    try:
        pieces = make(payload)
    except EncodeError:
        return b""
    except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
        court.broken(2, "encoding raises something other than EncodeError", got=describe(error))
    return None if pieces is None else b"".join(pieces)


def refusals(court: Court, framer: Framer) -> None:
    """What must be refused: what is not bytes, and one byte above the limit; in encode_many too."""
    for strange in ("text", 5, None, ["a"], 1.5):
        for call, argument in ((court.encode, strange), (court.encode_many, [strange])):
            try:
                written = call(argument)
            except EncodeError:
                court.holds(2)
            except Exception as error:  # noqa: BLE001 -- whatever else it raises is what is looked for
                court.broken(2, f"encoding {strange!r} raises something other than EncodeError", got=describe(error))
            else:
                court.broken(2, f"{strange!r} is no payload, and is encoded", written)
    small = limited(framer, 300)
    if small is not None and small.max_frame == 300:
        for letter in (b"a", b"\x00", b"\xff"):
            with suppress(EncodeError):
                court.broken(5, "a payload of max_frame + 1 bytes is encoded", small.encode(letter * 301))
            court.holds(5)


def opens_apart(court: Court, wire: Wire[Any], items: Sequence[Any]) -> None:
    """Layers and codec have no state: the same again the second time."""
    for item in items:
        try:
            payload = wire.payload(item)
            opened = wire.opener()(payload)
        except FramingError:
            continue  # the second law judges it
        try:
            again, payload_again = wire.opener()(payload), wire.payload(item)
        except FramingError as error:
            court.broken(9, "the same again is refused the second time", payload, (), opened, describe(error))
        if not same(opened, again):
            court.broken(9, "the same payload, opened twice, gives something else", payload, (), opened, again)
        if payload != payload_again:
            court.broken(
                9, "the same message, encoded twice, gives something else", payload, (), payload, payload_again
            )
        court.holds(9)
