"""Samples: random messages for any wire, no two alike, so that a reply that is lost, doubled or mixed up shows.

What a wire carries is found by trying: all bytes first, then text that goes through delimiters, objects where there is a codec
for them. Each message bears its number; the rest is random, the same again for the same seed.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple, TypeAlias

from framing import CBOR, EncodeError, FixedSize, FramingError, MessagePack, Raw, Text, Wire

__all__ = ["Sample", "Samples"]

Recipe: TypeAlias = Callable[[int, int], Any]

TRIALS = 16
"""How many messages of each recipe are tried."""

RETRIES = 1000
"""How many messages in a row a wire may refuse, of a recipe that it took when it was tried."""

OVERHEAD = 128
"""The most bytes that layers and a codec are expected to add to a message."""

FILLING = 65_521
"""Random bytes behind which the filling of large messages repeats: a prime, so that no buffer's size divides it."""

SPREAD = 4096
"""The random bytes of a message begin at any of so many places."""

STRIDE = 2_654_435_761
"""Odd, so that all the places get their turn, and large, so that neighbours are far from each other."""

PLAIN = string.ascii_letters + string.digits
MIXED = PLAIN + " .-äßΩж中☃🙂"


class Sample(NamedTuple):
    """A message, its frame, and the bytes that it is told by when it comes back."""

    message: Any
    frame: bytes
    mark: bytes


class Samples(Iterator[Sample]):
    """Messages of ``smallest`` to ``largest`` bytes: exactly so many where they are raw or plain text, about so many else.

    Where a wire's frames are all of one size, so are the messages, whatever was asked for. Raises ValueError where the wire
    carries none that can be made here.
    """

    def __init__(self, wire: Wire[Any], smallest: int, largest: int, seed: int | None = None) -> None:
        if not 0 <= smallest <= largest:
            raise ValueError(f"messages of {smallest} to {largest} bytes; give 0 <= smallest <= largest")
        self.wire = wire
        self.number = 0
        self._chance = Random(seed)  # noqa: S311 # it fills messages
        room = SPREAD + max(largest, wire.framer.size if isinstance(wire.framer, FixedSize) else 0)
        once = min(room, FILLING)
        times = -(-room // once)
        self._bytes = self._chance.randbytes(once) * times
        self._plain = "".join(self._chance.choices(PLAIN, k=once)) * times
        self._mixed = "".join(self._chance.choices(MIXED, k=once)) * times
        self._recipe, self.smallest, self.largest = self._choose(smallest, largest)

    def mark(self, message: Any) -> bytes:
        """The bytes that ``message`` is told by: the codec's, in which True is not 1. Raises as ``codec.encode``."""
        return self.wire.codec.encode(message)

    def __next__(self) -> Sample:
        refused = 0
        while True:
            self.number += 1
            varies = self.smallest != self.largest
            size = self._chance.randint(self.smallest, self.largest) if varies else self.largest
            message = self._recipe(self.number, size)
            try:
                return Sample(message, self.wire.encode(message), self.mark(message))
            except EncodeError:
                refused += 1
                if refused == RETRIES:
                    raise

    # ------------------------------------------------------------- what the wire carries

    def _choose(self, smallest: int, largest: int) -> tuple[Recipe, int, int]:
        codec, framer = self.wire.codec, self.wire.framer
        if isinstance(codec, Raw):
            recipes: list[Recipe] = [self._raw, self._plain_raw]
        elif isinstance(codec, Text):
            recipes = [self._mixed_text, self._plain_text]
        else:
            recipes = [self._plain_object, self._plain_text]
            recipes.insert(0, self._binary_object if isinstance(codec, (MessagePack, CBOR)) else self._object)
        for recipe in recipes:
            if self._carries(recipe, smallest, largest):
                return recipe, smallest, largest
        if isinstance(framer, FixedSize):
            # What fits into such a frame, inside of layers and codec, is of one size, and a little smaller.
            for size in range(framer.size, max(framer.size - OVERHEAD, -1), -1):
                for recipe in recipes:
                    if self._carries(recipe, size, size):
                        return recipe, size, size
        sizes = f"{largest}" if smallest == largest else f"{smallest} to {largest}"
        raise ValueError(
            f"the wire {self.wire} carries no messages of {sizes} bytes that can be made here: "
            f"choose another size below max_frame={framer.max_frame}, or a framer that takes any payload"
        )

    def _carries(self, recipe: Recipe, smallest: int, largest: int) -> bool:
        """Whether what the wire takes comes back; and it takes most, for random bytes are a delimiter now and then."""
        refused = 0
        for number in range(TRIALS):
            size = (smallest, largest)[number] if number < 2 else self._chance.randint(smallest, largest)
            self.number += 1
            message = recipe(self.number, size)
            try:
                frame = self.wire.encode(message)
            except EncodeError:
                refused += 1
                continue
            try:
                if self.wire.decoder().feed(frame) != [message]:
                    return False
            except FramingError:
                return False
        self.number = 0
        return refused <= TRIALS // 2

    # --------------------------------------------------------------------------- recipes

    def _raw(self, number: int, size: int) -> bytes:
        stamp = number.to_bytes(8, "big")
        if size <= 8:
            return stamp[8 - size :]
        begin = number * STRIDE % SPREAD
        return stamp + self._bytes[begin : begin + size - 8]

    def _plain_raw(self, number: int, size: int) -> bytes:
        return self._plain_text(number, size).encode()

    def _plain_text(self, number: int, size: int) -> str:
        return _stamped(number, size, self._plain)

    def _mixed_text(self, number: int, size: int) -> str:
        text = _stamped(number, size, self._mixed)
        if text.isascii():
            return text
        return text.encode()[:size].decode(errors="ignore")

    def _plain_object(self, number: int, size: int) -> Any:
        return {"id": _stamped(number, max(size - 8, 1), self._plain)}

    def _object(self, number: int, size: int) -> dict[str, Any]:
        text = self._mixed_text(number, max(size - 60, 8))
        return {"id": number, "text": text, "list": [-number, number + 0.5, True, None, {"in": []}]}

    def _binary_object(self, number: int, size: int) -> Any:
        half = size // 2
        return {**self._object(number, half), "raw": self._raw(number, half)}


def _stamped(number: int, size: int, filling: str) -> str:
    stamp = f"{number:012x}"
    if size <= 12:
        return stamp[12 - size :]
    begin = number * STRIDE % SPREAD
    return stamp + filling[begin : begin + size - 12]
