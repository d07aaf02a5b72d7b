"""The decoder, whatever the framer; and a framer of one's own, from one function."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest

from framing import (
    JSON,
    ConnectionClosed,
    CorruptFrame,
    DecodeError,
    Decoder,
    Delimited,
    EncodeError,
    Framer,
    FrameTooLarge,
    LengthPrefixed,
    Lines,
    Netstring,
    TruncatedFrame,
    VarintPrefixed,
    Wire,
)
from framing.framers.base import LENT_BYTES
from framing.kernels.contract import Data
from framing.kernels.found import ROOM
from framing.kernels.outbox import OVERHEAD
from tests.conformance.registry import FRAMERS

U16 = LengthPrefixed(2)


def feed_all(decoder: Decoder[bytes], chunks: Iterable[bytes]) -> list[bytes]:
    return [payload for chunk in chunks for payload in decoder.feed(chunk)]


ABC = U16.encode(b"a") + U16.encode(b"bc") + U16.encode(b"def")
HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Pascal(Framer):
    def find(self, data, start, seen):
        begin = start + 1
        end = begin + data[start]
        return begin, end, end

    def wrap(self, payload):
        if len(payload) > 255:
            raise EncodeError("a Pascal string has 255 bytes at the most")
        return bytes([len(payload)]) + payload


@dataclass(frozen=True, slots=True)
class Semicolons(Framer):
    def find(self, data, start, seen):
        if data[start] == 0:
            raise CorruptFrame("a NUL begins no frame", expected=1, got=0)
        at = data.find(b";", seen)
        return (start, at, at + 1) if at >= 0 else 1

    def wrap(self, payload):
        if b";" in payload or payload.startswith(b"\0"):
            raise EncodeError("no")
        return payload + b";"


# --------------------------------------------------------------------------------------- limit, residue


def test_a_limit_stops_behind_so_many_payloads_and_leaves_the_rest_in_unconsumed():
    decoder = U16.decoder()
    assert decoder.feed(ABC, limit=1) == [b"a"]
    assert decoder.unconsumed == ABC[3:]
    assert decoder.pending
    assert decoder.feed(b"", limit=1) == [b"bc"]
    assert decoder.feed(b"") == [b"def"]
    assert (decoder.unconsumed, decoder.pending) == (b"", False)


def test_the_framer_changes_in_mid_stream_and_not_a_byte_is_lost():
    first = Lines().decoder()
    assert first.feed(b"STARTTLS\n" + U16.encode(b"x")[:2], limit=1) == [b"STARTTLS"]
    second = U16.decoder()
    assert second.feed(first.unconsumed) == []
    assert second.feed(b"x") == [b"x"]


def test_without_a_limit_nothing_is_pending():
    decoder = U16.decoder()
    assert decoder.feed(ABC + b"\0") == [b"a", b"bc", b"def"]
    assert not decoder.pending
    assert (decoder.buffered, decoder.unconsumed) == (1, b"\0")


def test_a_decoder_told_to_take_one_by_one_returns_what_waits_at_eof():
    decoder = U16.decoder()
    assert decoder.feed(ABC, limit=1) == [b"a"]
    assert decoder.feed_eof() == [b"bc", b"def"]
    assert decoder.feed_eof() == []


def test_a_decoder_takes_bytes_bytearrays_and_views_and_gives_bytes():
    for given in (ABC, bytearray(ABC), memoryview(ABC), memoryview(bytearray(ABC))):
        assert [(type(payload), payload) for payload in U16.decoder().feed(given)] == [
            (bytes, b"a"),
            (bytes, b"bc"),
            (bytes, b"def"),
        ]


def test_what_was_fed_may_change_behind_the_decoders_back():
    chunk = bytearray(ABC[:4])
    decoder = U16.decoder()
    assert decoder.feed(chunk) == [b"a"]
    chunk[:] = b"\xff" * 4
    assert decoder.feed(ABC[4:]) == [b"bc", b"def"]


# --------------------------------------------------------------------------------------- violations


def test_payloads_before_a_violation_are_returned_and_the_violation_stays():
    decoder = LengthPrefixed(4).decoder()
    assert decoder.feed(b"\0\0\0\1a" + HTTP) == [b"a"]
    error = decoder.error
    assert isinstance(error, FrameTooLarge)
    for call in (lambda: decoder.feed(b"x"), decoder.feed_eof, decoder.get_buffer, lambda: decoder.feed(b"", 1)):
        with pytest.raises(FrameTooLarge) as raised:
            call()
        assert raised.value is error
    assert (decoder.buffered, decoder.unconsumed, decoder.pending) == (0, b"", False)


def test_a_violation_with_nothing_before_it_is_raised_at_once():
    with pytest.raises(FrameTooLarge):
        LengthPrefixed(4).decoder().feed(HTTP)


def test_a_length_that_spells_http_says_so_with_offset_and_numbers():
    decoder = LengthPrefixed(4, max_frame=1000).decoder()
    decoder.feed(b"\0\0\0\1a" + HTTP)
    error = decoder.error
    assert error is not None
    assert (error.offset, error.expected, error.got, error.head) == (5, 1000, 1213486160, b"HTTP")
    assert "an HTTP response" in str(error)
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


def test_a_length_that_is_a_tls_record_says_so():
    with pytest.raises(FrameTooLarge, match="a TLS alert") as raised:
        LengthPrefixed(4).decoder().feed(bytes.fromhex("15030300 02 0228"))
    assert raised.value.got == 352518912


@pytest.mark.parametrize("at", range(1, 8))
def test_eof_in_a_frame_is_truncated_with_what_came_and_what_was_expected(at: int):
    decoder = LengthPrefixed(4).decoder()
    decoder.feed((b"\0\0\0\4abcd")[:at])
    with pytest.raises(TruncatedFrame) as raised:
        decoder.feed_eof()
    assert isinstance(raised.value, EOFError)
    assert (raised.value.offset, raised.value.got, raised.value.expected) == (0, at, 4 if at < 4 else 8)


def test_behind_eof_no_byte_is_taken():
    decoder = U16.decoder()
    assert decoder.feed_eof() == []
    for call in (lambda: decoder.feed(b"\0"), decoder.get_buffer):
        with pytest.raises(ConnectionClosed):
            call()


# --------------------------------------------------------------------------------------- refused payloads


def refused(decoder: Decoder[object], data: bytes = b"") -> DecodeError:
    with pytest.raises(DecodeError) as raised:
        decoder.feed(data)
    return raised.value


def test_a_refused_payload_is_raised_at_its_place_once_and_poisons_nothing():
    wire = Wire(Lines(), JSON())
    decoder = wire.decoder()
    assert decoder.feed(b"1\n2\n{\n3\n}\n4\n5") == [1, 2]
    assert decoder.pending
    assert decoder.error is None
    assert refused(decoder).offset == 4
    assert decoder.pending
    assert decoder.feed(b"") == [3]
    assert refused(decoder).offset == 8
    assert decoder.feed(b"0\n") == [4, 50]
    assert not decoder.pending


def test_a_refused_payload_with_nothing_before_it_is_raised_at_once():
    decoder = Wire(Lines(), JSON()).decoder()
    assert "byte 0 of the stream" in str(refused(decoder, b"{\n1\n"))
    assert decoder.feed(b"") == [1]


def test_at_eof_refused_payloads_are_raised_one_after_the_other():
    decoder = Wire(Lines(), JSON()).decoder()
    assert decoder.feed(b"1\n{\n}\n2\n") == [1]
    for offset in (2, 4):
        with pytest.raises(DecodeError) as raised:
            decoder.feed_eof()
        assert raised.value.offset == offset
    assert decoder.feed_eof() == [2]
    assert decoder.feed_eof() == []


def test_bytes_that_come_with_the_call_that_raises_are_kept():
    decoder = Wire(Lines(), JSON()).decoder()
    assert decoder.feed(b"1\n{\n") == [1]
    refused(decoder, b"2\n")
    assert decoder.feed(b"") == [2]


def test_frames_skipped_before_a_refused_payload_are_counted_once():
    decoder = Wire(Lines(on_oversize="skip", max_frame=4), JSON()).decoder()
    assert decoder.feed(b"1\n123456\n{\n123456\n2\n") == [1]
    assert decoder.skipped == 1
    refused(decoder)
    assert decoder.feed(b"") == [2]
    assert decoder.skipped == 2


# --------------------------------------------------------------------------------------- skipping framers


def test_an_oversized_line_is_skipped_counted_and_never_kept():
    decoder = Lines(on_oversize="skip", max_frame=10).decoder()
    most = 0
    got = decoder.feed(b"a\n")
    for _ in range(1000):
        got += decoder.feed(b"x" * 100)
        most = max(most, decoder.buffered)
    got += decoder.feed(b"\nb\n")
    assert (got, decoder.skipped, most <= 12) == ([b"a", b"b"], 1, True)


def test_a_skipped_frame_that_the_stream_ends_in_is_still_a_truncated_one():
    decoder = Lines(on_oversize="skip", max_frame=3).decoder()
    assert decoder.feed(b"abcdefgh") == []
    with pytest.raises(TruncatedFrame):
        decoder.feed_eof()


# --------------------------------------------------------------------------------------- lent buffers


def receive(decoder: Decoder[bytes], stream: bytes, step: int) -> list[bytes]:
    got = []
    while stream:
        lent = decoder.get_buffer()
        part = stream[: min(step, len(lent))]
        lent[: len(part)] = part
        stream = stream[len(part) :]
        got += decoder.buffer_updated(len(part))
    return got


@pytest.mark.parametrize("step", [1000, LENT_BYTES - 1, LENT_BYTES, LENT_BYTES + 1, 1 << 30])
def test_a_large_frame_received_in_place_is_the_frame_that_was_sent(step: int):
    payload = bytes(range(256)) * 1200
    stream = LengthPrefixed(4).encode_many([b"before", payload, b"behind"])
    assert receive(LengthPrefixed(4).decoder(), stream, step) == [b"before", payload, b"behind"]


def test_the_last_bytes_of_a_large_frame_land_where_the_others_are():
    # When fewer bytes are missing than a lent buffer holds, the buffer is still the frame's own place.
    payload = bytes(range(256)) * 300
    stream = LengthPrefixed(4).encode(payload)
    decoder = LengthPrefixed(4).decoder()
    assert receive(decoder, stream[:-10], 1 << 30) == []
    assert receive(decoder, stream[-10:], 1) == [payload]


def test_in_place_is_a_frame_under_way_of_which_more_is_missing_than_a_buffer_holds():
    decoder = LengthPrefixed(4).decoder()
    assert not decoder.in_place
    decoder.feed((4 + LENT_BYTES).to_bytes(4) + b"xxx")
    assert decoder.in_place
    decoder.feed(b"x")
    assert not decoder.in_place  # the rest has room in any buffer
    decoder.feed(bytes(LENT_BYTES))
    decoder.feed((1 << 20).to_bytes(4))
    assert decoder.in_place
    assert receive(decoder, bytes((1 << 20) - 10), 1 << 30) == []
    assert decoder.in_place  # where it was begun it goes on
    assert decoder.feed(bytes(10)) == [bytes(1 << 20)]
    assert not decoder.in_place


def test_a_lent_buffer_grows_with_what_has_come_not_with_what_was_announced():
    decoder = LengthPrefixed(4, max_frame=1 << 30).decoder()
    decoder.feed((1 << 30).to_bytes(4))
    for _ in range(4):
        lent = decoder.get_buffer()
        assert len(lent) <= LENT_BYTES
        decoder.buffer_updated(10)
    assert (decoder.buffered, len(decoder.unconsumed)) == (44, 44)


def test_fed_and_lent_may_alternate():
    payload = bytes(100_000)
    stream = LengthPrefixed(4).encode(payload) * 2
    decoder = LengthPrefixed(4).decoder()
    got = receive(decoder, stream[:50_000], 20_000) + decoder.feed(stream[50_000:60_000])
    got += receive(decoder, stream[60_000:], 33_333)
    assert got == [payload, payload]


@pytest.mark.parametrize("count", [-1, LENT_BYTES + 1])
def test_more_than_was_lent_cannot_have_been_read(count: int):
    decoder = U16.decoder()
    decoder.get_buffer()
    with pytest.raises(ValueError, match="were read into a buffer"):
        decoder.buffer_updated(count)


# --------------------------------------------------------------------------------------- a framer of one's own


def test_one_function_and_its_reverse_are_a_framer():
    framer = Pascal()
    assert framer.encode(b"abc") == b"\x03abc"
    assert framer.decoder().feed(b"\x03abc\x00\x01") == [b"abc", b""]


def test_a_find_that_has_no_end_is_held_to_the_limit_for_it():
    decoder = Semicolons(max_frame=100).decoder()
    with pytest.raises(FrameTooLarge) as raised:
        feed_all(decoder, [b"x" * 100] * 1000)
    assert raised.value.expected == 100
    whole = Semicolons(max_frame=100).decoder()
    with pytest.raises(FrameTooLarge) as at_once:
        whole.feed(b"x" * (ROOM + 101) + b";")
    assert str(at_once.value) == str(raised.value)


def test_what_find_finds_above_the_limit_is_refused():
    with pytest.raises(FrameTooLarge) as raised:
        Semicolons(max_frame=3).decoder().feed(b"abcd;")
    assert (raised.value.expected, raised.value.got) == (3, 4)


def test_what_find_refuses_is_located():
    decoder = Semicolons().decoder()
    assert decoder.feed(b"ab;\0") == [b"ab"]
    assert isinstance(decoder.error, CorruptFrame)
    assert (decoder.error.offset, decoder.error.expected, decoder.error.got) == (3, 1, 0)
    assert "a NUL begins no frame" in str(decoder.error)


@pytest.mark.parametrize("answer", [0, -1, (0, 1, 0), (1, 0, 2), (0, 0, 0), (0, 3, 2)])
def test_a_find_that_answers_nonsense_is_told_so(answer):
    class Wrong(Framer):
        def find(self, data, start, seen):
            return answer

    with pytest.raises(ValueError, match="find "):
        Wrong().decoder().feed(b"abcd")


def test_a_framer_without_its_functions_says_which_is_missing():
    with pytest.raises(NotImplementedError, match="Framer has no find"):
        Framer().decoder().feed(b"a")
    with pytest.raises(NotImplementedError, match="Framer has no wrap"):
        Framer().encode(b"a")


# --------------------------------------------------------------------------------------- encoding


@pytest.mark.parametrize("strange", [5, "text", None, [1], 1.5])
def test_what_is_not_bytes_is_no_payload(strange):
    with pytest.raises(EncodeError, match="a payload is bytes"):
        U16.encode(strange)


def test_a_payload_above_the_limit_is_refused_with_the_numbers():
    with pytest.raises(EncodeError) as raised:
        LengthPrefixed(4, max_frame=3).encode(b"abcd")
    assert (raised.value.expected, raised.value.got) == (3, 4)


def test_encode_many_writes_all_or_nothing():
    assert U16.encode_many([b"a", bytearray(b"b")]) == b"\0\1a\0\1b"
    with pytest.raises(EncodeError):
        U16.encode_many([b"a", bytes(70_000)])


@pytest.mark.parametrize("wrong", [-1, 1 << 63])
def test_max_frame_has_bounds(wrong: int):
    with pytest.raises(ValueError, match="max_frame"):
        Pascal(max_frame=wrong)


@pytest.mark.parametrize("wrong", ["1", 1.0, True, None])
def test_max_frame_is_a_whole_number(wrong):
    with pytest.raises(TypeError, match="max_frame is a whole number"):
        Pascal(max_frame=wrong)


def test_a_framer_is_a_value():
    framer = Delimited(b"\n", max_frame=10)
    assert replace(framer, max_frame=20) == Delimited(b"\n", max_frame=20)
    assert pickle.loads(pickle.dumps(framer)) == framer
    assert len({framer, Delimited(b"\n", max_frame=10)}) == 1
    with pytest.raises(AttributeError):
        framer.max_frame = 5


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_mistake_in_a_users_find_loses_nothing_and_never_goes_on_behind_itself(size: int) -> None:
    decoder = Mistaken().decoder()
    stream = b"\x01a\x09\x01b"
    got: list[bytes] = []
    raised = 0
    for at in range(0, len(stream), size):
        try:
            got += decoder.feed(stream[at : at + size])
            while decoder.pending:
                got += decoder.feed(b"")
        except KeyError:
            raised += 1
    assert got == [b"a"]
    assert raised
    assert decoder.unconsumed == b"\x09\x01b"
    with pytest.raises(KeyError, match="a mistake"):
        decoder.feed(b"\x01c")


@dataclass(frozen=True, slots=True)
class Mistaken(Framer):
    def find(self, data: bytes | bytearray, start: int, seen: int) -> tuple[int, int, int] | int:
        if data[start] == 9:
            raise KeyError("a mistake")
        end = start + 1 + data[start]
        return start + 1, end, end


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_what_a_joiner_takes_it_joins_as_the_framer_would_one_by_one(framer: Framer) -> None:
    joiner = framer.joiner()
    if joiner is None:
        return
    join, most = joiner
    sizes = [size for size in (0, 1, 2, 127, 128, 255, 256, 65_535, 65_536, most) if size <= min(most, 1 << 21)]
    payloads = [bytes([size % 251]) * size for size in sizes]
    assert join(payloads) == b"".join(map(framer.encode, payloads))
    for payload in payloads:
        assert join([payload]) == framer.encode(payload)
        assert len(framer.encode(payload)) <= len(payload) + OVERHEAD
    if most < 1 << 21:
        assert join([b"x", bytes(most + 1)]) is None
        with pytest.raises(EncodeError):
            framer.encode(bytes(most + 1))


def test_there_is_a_joiner_where_every_payload_can_be_carried_and_else_none() -> None:
    for framer, most in (
        (LengthPrefixed(1), 255),
        (LengthPrefixed(1, counts="frame"), 254),
        (LengthPrefixed(4, max_frame=7), 7),
        (VarintPrefixed(max_frame=7), 7),
    ):
        joiner = framer.joiner()
        assert joiner is not None
        assert joiner[1] == most
    for framer in (LengthPrefixed(4, min_frame=1), VarintPrefixed(min_frame=1), Lines(), Netstring()):
        assert framer.joiner() is None


@pytest.mark.parametrize("method", ["encode", "wrap", "encode_many"])
def test_a_framer_with_an_encoding_of_its_own_has_not_the_joiner_of_another(method: str) -> None:
    own = type("Own", (LengthPrefixed,), {"__slots__": (), method: getattr(LengthPrefixed, method)})
    assert own(4).joiner() is None


def test_behind_a_shortage_of_memory_nothing_is_taken_for_a_frame() -> None:
    def open_(payload: bytes) -> bytes:
        if payload == b"large":
            raise MemoryError
        return payload

    decoder = Decoder(LengthPrefixed(1), open_)
    assert decoder.feed(b"\x02hi") == [b"hi"]
    with pytest.raises(MemoryError):
        decoder.feed(b"\x01a\x05large\x04no")
    with pytest.raises(CorruptFrame, match="no memory"):
        decoder.feed(b"ne")
    assert (decoder.buffered, decoder.idle, decoder.pending) == (0, False, False)


def test_nor_where_the_kernel_itself_had_none() -> None:
    class Greedy(Framer):
        __slots__ = ()

        def find(self, data: Data, start: int, seen: int) -> tuple[int, int, int] | int:
            if data[start] == 255:
                raise MemoryError
            return start, start + 1, start + 1

        def wrap(self, payload: bytes) -> bytes:
            return payload

    decoder = Greedy().decoder()
    assert decoder.feed(b"ab") == [b"a", b"b"]
    with pytest.raises(MemoryError):
        decoder.feed(b"\xffc")
    with pytest.raises(CorruptFrame, match="no memory"):
        decoder.feed(b"d")
