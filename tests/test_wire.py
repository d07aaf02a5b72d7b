"""A wire handles batches as it handles messages one by one: the same bytes, the same messages, the same refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from framing import (
    CBOR,
    JSON,
    Checksum,
    Codec,
    Compressed,
    DecodeError,
    EncodeError,
    LengthPrefixed,
    Lines,
    MessagePack,
    Text,
    Wire,
)

WIRES: list[Wire[Any]] = [
    Wire(LengthPrefixed(4), JSON()),
    Wire(LengthPrefixed(4), Checksum("crc32c"), MessagePack()),
    Wire(LengthPrefixed(4), Compressed("zlib"), Checksum("crc16-x25"), CBOR()),
    Wire(Lines(), JSON(type=dict[str, list[str]])),
]
MESSAGES = [{"a": ["b"]}, {}, {"a:": [":"], "b": []}, {"x": ["y" * 100]}]

each = pytest.mark.parametrize("wire", WIRES, ids=str)


@each
def test_a_batch_is_its_messages_one_behind_the_other(wire: Wire[Any]):
    written = b"".join(map(wire.encode, MESSAGES))
    assert (
        wire.encode_many(MESSAGES) == wire.encode_many(tuple(MESSAGES)) == wire.encode_many(iter(MESSAGES)) == written
    )
    assert wire.decoder().feed(written) == MESSAGES
    assert wire.encode_many([]) == b""


@each
def test_a_message_that_cannot_be_sent_is_refused_in_a_batch_as_by_itself(wire: Wire[Any]):
    for bad in ({"a": object()}, {"a": [1j]}):
        with pytest.raises(EncodeError) as alone:
            wire.encode(bad)
        with pytest.raises(EncodeError) as among:
            wire.encode_many([*MESSAGES, bad, *MESSAGES])
        assert str(among.value) == str(alone.value)


@each
def test_a_refused_payload_is_raised_at_its_place_and_nothing_else_is_lost(wire: Wire[Any]):
    bad = wire.framer.encode(b"\xc1 no payload of any of them")
    before = wire.encode_many(MESSAGES)
    decoder = wire.decoder()
    assert decoder.feed(before + bad + before + bad) == MESSAGES
    with pytest.raises(DecodeError) as caught:
        decoder.feed(b"")
    assert caught.value.offset == len(before)
    assert decoder.feed(b"") == MESSAGES
    with pytest.raises(DecodeError) as caught:
        decoder.feed(b"")
    assert caught.value.offset == 2 * len(before) + len(bad)
    assert decoder.feed(before) == MESSAGES


@each
def test_opening_many_stops_at_the_first_that_is_refused(wire: Wire[Any]):
    payloads = list(map(wire.payload, MESSAGES))
    opened: list[Any] = [0]
    wire.open_many(payloads, opened)
    assert opened == [0, *MESSAGES]
    with pytest.raises(DecodeError):
        wire.open_many([*payloads, b"\xc1", *payloads], opened)
    assert opened == [0, *MESSAGES, *MESSAGES]


def test_a_step_above_the_limit_is_refused_in_a_batch_too():
    wire = Wire(LengthPrefixed(4, max_frame=100), Compressed("zlib"), Text())
    with pytest.raises(EncodeError, match="before") as among:
        wire.encode_many(["a", "b" * 101])
    assert among.value.got == 101
    assert wire.decoder().feed(wire.encode_many(["a", "b" * 100])) == ["a", "b" * 100]


@dataclass(frozen=True, slots=True)
class OnlySingly(Codec[str]):
    """A codec whose batches are broken."""

    def encode(self, message: str) -> bytes:
        return message.encode()

    def decode(self, payload: bytes) -> str:
        return payload.decode()

    def encode_many(self, messages: Any) -> list[bytes]:
        raise RuntimeError

    def decode_many(self, payloads: list[bytes]) -> list[str]:
        raise RuntimeError


def test_what_a_batch_cannot_do_is_done_one_by_one():
    wire = Wire(LengthPrefixed(2), OnlySingly())
    assert wire.decoder().feed(wire.encode_many(["a", "b"])) == ["a", "b"]


def test_memory_that_is_out_is_nobodys_fault():
    @dataclass(frozen=True, slots=True)
    class Greedy(Text):
        def decode_many(self, payloads: list[bytes]) -> list[str]:
            raise MemoryError

        def encode_many(self, messages: Any) -> list[bytes]:
            raise MemoryError

    wire = Wire(LengthPrefixed(2), Greedy())
    with pytest.raises(MemoryError):
        wire.encode_many(["a"])
    with pytest.raises(MemoryError):
        wire.open_many([b"a"], [])
