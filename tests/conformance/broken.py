"""Framers, layers, codecs and wires that break one law each, as real code breaks it: what the kit must catch.

Each is the sort of thing that passes a test which sends one message and reads it back.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from framing import (
    JSON,
    Codec,
    CorruptFrame,
    DecodeError,
    Decoder,
    EncodeError,
    Framer,
    FrameTooLarge,
    Layer,
    LengthPrefixed,
    Lines,
    Raw,
    Text,
    Violation,
    Wire,
)
from framing.framers import Delimited
from framing.kernels import split_found


@dataclass(frozen=True, slots=True)
class Prefixed(Framer):
    """Sound: two bytes of length. The broken ones differ from it in one thing."""

    def find(self, data, start, seen):
        begin = start + 2
        if begin > len(data):
            return begin - len(data)
        end = begin + int.from_bytes(data[start:begin])
        return begin, end, end

    def wrap(self, payload):
        if len(payload) > 0xFFFF:
            raise EncodeError("too long for two bytes of length", expected=0xFFFF, got=len(payload))
        return len(payload).to_bytes(2) + payload


@dataclass(frozen=True, slots=True)
class Dollars(Framer):
    """Sound: a payload without dollar signs, and two dollar signs."""

    def find(self, data, start, seen):
        at = data.find(b"$$", max(start, seen - 1))
        return (start, at, at + 2) if at >= 0 else 1

    def wrap(self, payload):
        if b"$" in payload:
            raise EncodeError("the payload holds a dollar sign")
        return payload + b"$$"


# ------------------------------------------------------------------------------------------------ law 1


@dataclass(frozen=True, slots=True)
class MissesASplitDelimiter(Dollars):
    """The search goes on behind the last byte, where the second half of a delimiter may be."""

    def find(self, data, start, seen):
        at = data.find(b"$$", max(start, seen))
        return (start, at, at + 2) if at >= 0 else 1


@dataclass(frozen=True, slots=True)
class ReadsBeyondTheChunk(Prefixed):
    """The header is taken to be there whole: a cut inside it is an IndexError."""

    def find(self, data, start, seen):
        begin = start + 2
        end = begin + (data[start] << 8 | data[start + 1])
        return begin, end, end


@dataclass(frozen=True, slots=True)
class LimitsWhatItHasNotFound(Dollars):
    """The limit on a line is held only where its end has not come yet: h11 and anyio had it so."""

    def find(self, data, start, seen):
        at = data.find(b"$$", max(start, seen - 1))
        if at < 0 and len(data) - start > 20:
            raise CorruptFrame("no delimiter within 20 bytes", expected=20)
        return (start, at, at + 2) if at >= 0 else 1


@dataclass(frozen=True, slots=True)
class WaitsTooLong(Prefixed):
    """It asks for more than the frame has: the last message comes when the next one begins."""

    def find(self, data, start, seen):
        begin = start + 2
        if begin > len(data):
            return begin - len(data) + 3
        end = begin + int.from_bytes(data[start:begin])
        return begin, end, end


# ------------------------------------------------------------------------------------------------ law 2


@dataclass(frozen=True, slots=True)
class WrapsAround(Prefixed):
    """The length is cut to the field: Erlang sends 300 bytes under a header of 44."""

    def find(self, data, start, seen):
        return start + 1, start + 1 + data[start], start + 1 + data[start]

    def wrap(self, payload):
        return bytes((len(payload) & 0xFF,)) + payload


@dataclass(frozen=True, slots=True)
class TruncatesSilently(Prefixed):
    """What does not fit is left out."""

    def wrap(self, payload):
        return Prefixed.wrap(self, payload[:255])


@dataclass(frozen=True, slots=True)
class SurroundsAnotherFrame(Prefixed):
    """What it says of a frame is not what it makes."""

    def wrap(self, payload):
        return Prefixed.wrap(self, payload)

    def surround(self, payload):
        return bytes([len(payload) & 255]), b"" if len(payload) < 100 else b"!"


@dataclass(frozen=True, slots=True)
class SendsTheDelimiter(Dollars):
    """Whatever is in the payload is sent."""

    def wrap(self, payload):
        return payload + b"$$"


@dataclass(frozen=True, slots=True)
class SendsHalfADelimiter(Dollars):
    """Only the whole delimiter is refused: a payload that ends in its first byte ends one byte early."""

    def wrap(self, payload):
        if b"$$" in payload:
            raise EncodeError("the payload holds the delimiter")
        return payload + b"$$"


@dataclass(frozen=True, slots=True)
class StripsReturns(Lines):
    """A line that ends in CR is sent, and comes back without."""

    def wrap(self, payload):
        if b"\n" in payload:
            raise EncodeError("the payload holds a newline")
        return payload + b"\n"


@dataclass(frozen=True, slots=True)
class RaisesSomethingElse(Prefixed):
    """int.to_bytes refuses, and nobody translates."""

    def find(self, data, start, seen):
        return start + 1, start + 1 + data[start], start + 1 + data[start]

    def wrap(self, payload):
        return len(payload).to_bytes(1) + payload


# ------------------------------------------------------------------------------------------------ law 3


class _Forgiving(Decoder[bytes]):
    """Goes on behind an error as if nothing had been."""

    __slots__ = ()

    def feed(self, data, limit=0):
        if self._error is not None:
            self._error = None
        return Decoder.feed(self, data, limit)


class _Hasty(Decoder[bytes]):
    """Raises a violation as soon as it knows of it, and forgets the payloads before it."""

    __slots__ = ()

    def feed(self, data, limit=0):
        payloads = Decoder.feed(self, data, limit)
        if self._error is not None:
            raise self._error
        return payloads


@dataclass(frozen=True, slots=True)
class GoesOnAfterAnError(LengthPrefixed):
    def decoder(self):
        return _Forgiving(self)


@dataclass(frozen=True, slots=True)
class LosesWhatCameBefore(LengthPrefixed):
    def decoder(self):
        return _Hasty(self)


# ------------------------------------------------------------------------------------------------ law 4


class _Lenient(Decoder[bytes]):
    """At EOF, a header with nothing behind it is nothing: tokio-util had it so."""

    __slots__ = ()

    def feed_eof(self):
        if self.buffered <= 2 and self._error is None:
            self._carry.drop()
        return Decoder.feed_eof(self)


class _Silent(Decoder[bytes]):
    """At EOF, what is not a whole line is dropped: Erlang has it so."""

    __slots__ = ()

    def feed_eof(self):
        if self._error is None:
            self._carry.drop()
        return Decoder.feed_eof(self)


@dataclass(frozen=True, slots=True)
class EndsAfterAHeader(Prefixed):
    def decoder(self):
        return _Lenient(self)


@dataclass(frozen=True, slots=True)
class DropsTheLastLine(Lines):
    def decoder(self):
        return _Silent(self)


# ------------------------------------------------------------------------------------------------ law 5


@dataclass(frozen=True, slots=True)
class IgnoresTheLimit(Prefixed):
    """The limit is there, and the decoder is never told."""

    def splitter(self):
        return partial(split_found, self.find, 1 << 40)


@dataclass(frozen=True, slots=True)
class LimitsOnlyWhatItSends(Dollars):
    """A delimiter is looked for without end."""

    def splitter(self):
        return partial(split_found, self.find, max(self.max_frame, 1 << 40))


def _off_by_one(find, max_frame, data, start, memo, limit):
    return split_found(find, max_frame + 1, data, start, memo, limit)


@dataclass(frozen=True, slots=True)
class AllowsOneMore(Prefixed):
    """The limit is exclusive on one side, inclusive on the other."""

    def splitter(self):
        return partial(_off_by_one, self.find, self.max_frame)


# ------------------------------------------------------------------------------------------------ law 6


@dataclass(frozen=True, slots=True)
class AllocatesForTheHeader(Framer):
    """Room is made for what the header says, before it comes."""

    def find(self, data, start, seen):
        begin = start + 4
        if begin > len(data):
            return begin - len(data)
        end = begin + int.from_bytes(data[start:begin])
        if end - begin <= self.max_frame:
            bytes(end - begin)
        return begin, end, end

    def wrap(self, payload):
        return len(payload).to_bytes(4) + payload


# ------------------------------------------------------------------------------------------------ law 7


@dataclass(frozen=True, slots=True)
class Rescans(Dollars):
    """Each chunk is searched for together with all that came before it."""

    def find(self, data, start, seen):
        at = data.find(b"$$", start)
        return (start, at, at + 2) if at >= 0 else 1


_DOLLARS = re.compile(rb"\$\$")


@dataclass(frozen=True, slots=True)
class RescansByPattern(Dollars):
    """The same in a regular expression, which no counting sees."""

    def find(self, data, start, seen):
        found = _DOLLARS.search(data, start)
        return (start, found.start(), found.end()) if found else 1


@dataclass(frozen=True, slots=True)
class CopiesTheRest(Prefixed):
    """What is behind a frame is copied for each frame."""

    def find(self, data, start, seen):
        rest = data[start:]
        if len(rest) < 2:
            return 2 - len(rest)
        end = start + 2 + int.from_bytes(rest[:2])
        return start + 2, end, end


# ------------------------------------------------------------------------------------------------ law 8


@dataclass(frozen=True, slots=True)
class RaisesValueError(Prefixed):
    """A bad header is an error that knows neither offset nor stream."""

    def find(self, data, start, seen):
        if data[start] > 0x7F:
            raise ValueError("negative length")
        return Prefixed.find(self, data, start, seen)

    def wrap(self, payload):
        if len(payload) > 0x7FFF:
            raise EncodeError("too long")
        return Prefixed.wrap(self, payload)


@dataclass(frozen=True, slots=True)
class SaysNothing(Prefixed):
    """An EncodeError without a word."""

    def wrap(self, payload):
        if len(payload) > 200:
            raise EncodeError
        return Prefixed.wrap(self, payload)


class _Lost(Decoder[bytes]):
    """Does not know where it is."""

    __slots__ = ()

    def _violation(self, fault, head):
        self._offset = 0
        return Decoder._violation(self, fault, head)


@dataclass(frozen=True, slots=True)
class LosesTheOffset(LengthPrefixed):
    def decoder(self):
        return _Lost(self)


class _Curt(Decoder[bytes]):
    """Says that it is wrong, and not what it saw."""

    __slots__ = ()

    def _violation(self, fault, head):
        return FrameTooLarge(f"byte {self._offset}", offset=self._offset, expected=fault[2], got=fault[3], head=head)


@dataclass(frozen=True, slots=True)
class KeepsHTTPToItself(LengthPrefixed):
    def decoder(self):
        return _Curt(self)


# ------------------------------------------------------------------------------------------------ law 9


@dataclass(frozen=True, slots=True)
class RemembersInItself(Prefixed):
    """The length of the frame under way is kept in the framer, which all decoders share."""

    cache: dict[str, int] = field(default_factory=dict, compare=False)

    def find(self, data, start, seen):
        begin = start + 2
        if begin > len(data):
            return begin - len(data)
        if seen - start < 2:
            self.cache["size"] = int.from_bytes(data[start:begin])
        end = begin + self.cache["size"]
        return begin, end, end


@dataclass(frozen=True, slots=True)
class HoldsAList(Prefixed):
    """Equal values have no hash."""

    names: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HoldsALambda(Prefixed):
    """It cannot be sent to another process."""

    check: Callable[[bytes], bool] = field(default=lambda payload: True)


@dataclass(frozen=True, slots=True)
class CanBeChanged(Prefixed):
    """Frozen, until somebody thaws it."""


CanBeChanged.__setattr__ = object.__setattr__  # type: ignore[method-assign]


FRAMERS: dict[int, tuple[Framer, ...]] = {
    1: (MissesASplitDelimiter(), ReadsBeyondTheChunk(), LimitsWhatItHasNotFound(), WaitsTooLong()),
    2: (
        WrapsAround(),
        TruncatesSilently(),
        SurroundsAnotherFrame(),
        SendsTheDelimiter(),
        SendsHalfADelimiter(),
        StripsReturns(),
        RaisesSomethingElse(),
    ),
    3: (GoesOnAfterAnError(2, max_frame=1000), LosesWhatCameBefore(4, max_frame=1000)),
    4: (EndsAfterAHeader(), DropsTheLastLine()),
    5: (IgnoresTheLimit(), LimitsOnlyWhatItSends(), AllowsOneMore()),
    6: (AllocatesForTheHeader(),),
    7: (Rescans(), RescansByPattern(), CopiesTheRest()),
    8: (RaisesValueError(), SaysNothing(), LosesTheOffset(4, max_frame=1000), KeepsHTTPToItself(4, max_frame=1000)),
    9: (RemembersInItself(), HoldsAList(), HoldsALambda(), CanBeChanged()),
}


# ------------------------------------------------------------------------- layers, codecs and wires


@dataclass(frozen=True, slots=True)
class Strips(Codec[str]):
    """Law 2: white space at the ends is lost."""

    def encode(self, message):
        return message.encode()

    def decode(self, payload):
        try:
            return payload.decode().strip()
        except UnicodeError as error:
            raise DecodeError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Pads(Layer):
    """Law 2: zeros fill the payload to a multiple of eight, and whoever sent zeros loses them."""

    def encode(self, payload):
        return payload + bytes(-len(payload) % 8)

    def decode(self, payload, max_size):
        return payload.rstrip(b"\x00")


class _Giving(Decoder[Any]):
    """Takes a payload that its codec refuses for the end of everything."""

    __slots__ = ("_given_up",)

    def feed(self, data, limit=0):
        try:
            return Decoder.feed(self, data, limit)
        except DecodeError as error:
            self._carry.drop()
            self._error = Violation(str(error), offset=error.offset or 0)
            raise


@dataclass(frozen=True, slots=True, init=False)
class GivesUp(Wire[Any]):
    """Law 3: one bad message ends the stream."""

    def decoder(self):
        return _Giving(self.framer, self.opener())


@dataclass(frozen=True, slots=True)
class Inflates(Layer):
    """Law 5: what a payload inflates to has no limit."""

    def encode(self, payload):
        return zlib.compress(payload)

    def decode(self, payload, max_size):
        try:
            return zlib.decompress(payload)
        except zlib.error as error:
            raise DecodeError(str(error)) from error


@dataclass(frozen=True, slots=True)
class InflatesFirst(Inflates):
    """Law 6: the limit is asked for when the memory is gone."""

    def decode(self, payload, max_size):
        inflated = Inflates.decode(self, payload, max_size)
        if len(inflated) > max_size:
            raise DecodeError("too large", expected=max_size, got=len(inflated))
        return inflated


@dataclass(frozen=True, slots=True)
class TrustsANumber(Layer):
    """Law 6: a size inside the payload is believed before it is compared."""

    def encode(self, payload):
        return len(payload).to_bytes(4) + payload

    def decode(self, payload, max_size):
        room = bytes(int.from_bytes(payload[:4]) & 0x0FFF_FFFF)
        if len(room) != len(payload) - 4:
            raise DecodeError("the size inside is wrong", expected=len(room), got=len(payload) - 4)
        return payload[4:]


class _PickyError(DecodeError):
    def __init__(self, payload, reason):
        super().__init__(reason, head=payload[:16])


@dataclass(frozen=True, slots=True)
class RaisesWhatCannotTravel(Codec[str]):
    """Law 8: its error needs arguments that a pickle does not keep."""

    def encode(self, message):
        return message.encode()

    def decode(self, payload):
        try:
            return payload.decode()
        except UnicodeError as error:
            raise _PickyError(payload, "not UTF-8") from error


@dataclass(frozen=True, slots=True)
class RefusesWithoutAWord(Codec[str]):
    """Law 8: why, it does not say."""

    def encode(self, message):
        return message.encode()

    def decode(self, payload):
        try:
            return payload.decode()
        except UnicodeError:
            raise DecodeError from None


@dataclass(frozen=True, slots=True)
class OpensOnce(Layer):
    """Law 9: against replays, the layer remembers what it has opened; for all decoders, in all threads."""

    opened: set[bytes] = field(default_factory=set, compare=False)

    def encode(self, payload):
        return payload

    def decode(self, payload, max_size):
        if payload in self.opened:
            raise DecodeError("this was sent before")
        self.opened.add(payload)
        return payload


WIRES: dict[int, tuple[tuple[Wire[Any], list[Any]], ...]] = {
    1: ((Wire(MissesASplitDelimiter(), Text()), ["a", "b", ""]),),
    2: (
        (Wire(LengthPrefixed(2), Strips()), ["a", "b ", "c"]),
        (Wire(LengthPrefixed(2), Pads(), Raw()), [b"a", b"", b"\x00a\x00"]),
    ),
    3: ((GivesUp(LengthPrefixed(2), JSON()), [1, {"a": 2}, "b"]),),
    4: ((Wire(EndsAfterAHeader(), Text()), ["a", "bc"]),),
    5: (
        (Wire(LengthPrefixed(4), Inflates(), Raw()), [b"a", b"bc"]),
        (Wire(AllowsOneMore(), Text()), ["a", "bc"]),
    ),
    6: (
        (Wire(LengthPrefixed(4), InflatesFirst(), Raw()), [b"a", b"bc"]),
        (Wire(LengthPrefixed(4), TrustsANumber(), Raw()), [b"a", b"bc", b"hello"]),
    ),
    7: ((Wire(Rescans(), Text()), ["a", "bc"]),),
    8: (
        (Wire(LengthPrefixed(4), RaisesWhatCannotTravel()), ["a", "bc", "hello"]),
        (Wire(Delimited(b"\x00"), RefusesWithoutAWord()), ["a", "bc", "hello"]),
    ),
    9: ((Wire(LengthPrefixed(4), OpensOnce(), Raw()), [b"a", b"bc"]),),
}
