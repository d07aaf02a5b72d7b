"""Judges ``Delimited(b"\\x1c\\r", start=b"\\x0b")``, the framing of MLLP, by hl7's asyncio reader and its blocking client."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import hl7
import pytest
from hl7.client import MLLPClient, MLLPException, read_stream
from hl7.mllp import InvalidBlockError
from hl7.mllp.streams import HL7StreamReader, MLLPStreamReader, MLLPStreamWriter
from hypothesis import given
from hypothesis import strategies as st

from framing import CorruptFrame, Delimited, EncodeError, FrameTooLarge, TruncatedFrame

from .feeding import chunk_sizes, judged, received, verdict

FRAMER = Delimited(b"\x1c\r", start=b"\x0b")
ADMISSION = b"MSH|^~\\&|LAB|HERE|APP|THERE|20240101||ADT^A01|1|P|2.5\rPID|||555||EVERYWOMAN^EVE\r"


def carried(payload: bytes) -> bool:
    return b"\x1c\r" not in payload and b"\x0b" not in payload


blocks = st.lists(st.binary(min_size=1, max_size=80).filter(carried) | st.just(ADMISSION), max_size=6)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def reader_of(loop: asyncio.AbstractEventLoop, stream: bytes, kind: Any = MLLPStreamReader, **options: Any) -> Any:
    reader = kind(loop=loop, **options)
    reader.feed_data(stream)
    reader.feed_eof()
    return reader


def blocks_of(loop: asyncio.AbstractEventLoop, stream: bytes) -> tuple[list[bytes], Exception | None]:
    """The blocks before the first error; a clean end is an ``IncompleteReadError`` of nothing, and none here."""
    reader, got = reader_of(loop, stream), []
    while True:
        try:
            got.append(bytes(loop.run_until_complete(reader.readblock())))
        except asyncio.IncompleteReadError as error:
            return got, error if error.partial else None
        except InvalidBlockError as error:
            return got, error


@judged
@given(payloads=blocks)
def test_hl7_reads_what_delimited_writes(loop, payloads):
    assert blocks_of(loop, FRAMER.encode_many(payloads)) == (payloads, None)


@judged
@given(payloads=blocks, sizes=chunk_sizes)
def test_delimited_reads_what_hl7_writes(payloads, sizes):
    written: list[bytes] = []
    writer = SimpleNamespace(write=written.append)
    for payload in payloads:
        MLLPStreamWriter.writeblock(writer, payload)
    assert received(FRAMER, b"".join(written), sizes) == payloads


def test_hl7_parses_the_message_that_delimited_carries(loop):
    message = loop.run_until_complete(reader_of(loop, FRAMER.encode(ADMISSION), HL7StreamReader).readmessage())
    assert str(message.segment("PID")) == "PID|||555||EVERYWOMAN^EVE"
    assert received(FRAMER, b"\x0b" + str(hl7.parse(ADMISSION.decode())).encode() + b"\x1c\r") == [ADMISSION]


def test_half_block_is_an_error_of_hl7_too(loop):
    got, error = blocks_of(loop, FRAMER.encode(b"a") + b"\x0bhalf")
    assert got == [b"a"]
    assert isinstance(error, asyncio.IncompleteReadError)
    assert verdict(FRAMER, FRAMER.encode(b"a") + b"\x0bhalf") == ([b"a"], TruncatedFrame)


def test_block_without_its_start_is_an_error_of_both(loop):
    got, error = blocks_of(loop, b"junk\x1c\r")
    assert (got, type(error)) == ([], InvalidBlockError)
    assert verdict(FRAMER, b"junk\x1c\r") == ([], CorruptFrame)


def test_hl7_glues_a_block_that_was_cut_off_to_the_next_one(loop):
    stream = b"\x0bMSH|cut" + FRAMER.encode(b"MSH|whole")
    assert blocks_of(loop, stream) == ([b"MSH|cut\x0bMSH|whole"], None)
    assert verdict(FRAMER, stream) == ([], CorruptFrame)
    assert received(Delimited(b"\x1c\r", start=b"\x0b", on_corrupt="skip"), stream) == [b"MSH|whole"]


def test_hl7_writes_a_block_that_ends_early_where_delimited_raises(loop):
    payload = b"OBX|1\x1c\rforged"
    written: list[bytes] = []
    MLLPStreamWriter.writeblock(SimpleNamespace(write=written.append), payload)
    got, error = blocks_of(loop, b"".join(written))
    assert (got, type(error)) == ([b"OBX|1"], InvalidBlockError)
    with pytest.raises(EncodeError):
        FRAMER.encode(payload)


def test_hl7_drops_what_was_buffered_of_an_oversized_block_and_goes_on_inside_it(loop):
    # Found in one read, the block is passed over; cut, its tail is taken for a block. The verdicts differ.
    stream = FRAMER.encode(b"x" * 40) + FRAMER.encode(b"next")

    async def read(cut: int) -> list[Any]:
        reader = MLLPStreamReader(limit=20, loop=loop)
        reader.feed_data(stream[:cut])
        outcomes: list[Any] = []
        for _ in range(3):
            try:
                outcomes.append(bytes(await reader.readblock()))
            except (ValueError, InvalidBlockError, asyncio.IncompleteReadError) as error:
                outcomes.append(type(error))
            if len(outcomes) == 1:
                reader.feed_data(stream[cut:])
                reader.feed_eof()
        return outcomes

    whole, cut = (loop.run_until_complete(read(size)) for size in (len(stream), 30))
    assert whole == [ValueError, b"next", asyncio.IncompleteReadError]
    assert cut == [ValueError, InvalidBlockError, b"next"]
    framer = Delimited(b"\x1c\r", start=b"\x0b", max_frame=20)
    assert verdict(framer, stream) == verdict(framer, stream, [30]) == ([], FrameTooLarge)


def test_hl7_client_strips_the_end_of_the_last_segment():
    assert list(read_stream(io.BytesIO(FRAMER.encode(ADMISSION)))) == [ADMISSION.rstrip(b"\r")]
    assert received(FRAMER, FRAMER.encode(ADMISSION)) == [ADMISSION]


def test_hl7_client_splits_a_chunk_at_a_form_feed():
    stream = FRAMER.encode(b"MSH|one") + FRAMER.encode(b"MSH|a\x0cb")
    assert list(read_stream(io.BytesIO(FRAMER.encode(b"MSH|one")))) == [b"MSH|one"]
    with pytest.raises(MLLPException):
        list(read_stream(io.BytesIO(stream)))
    assert received(FRAMER, stream) == [b"MSH|one", b"MSH|a\x0cb"]


def test_hl7_client_takes_the_first_piece_of_a_reply_for_the_reply():
    reply = FRAMER.encode(b"MSH|^~\\&|ACK\rMSA|AA|1\r")
    pieces = [reply[:10], reply[10:]]
    sent: list[bytes] = []
    client = MLLPClient.__new__(MLLPClient)  # its constructor connects
    client.socket = SimpleNamespace(send=sent.append, recv=lambda size: pieces.pop(0))
    client.encoding = "utf-8"
    assert client.send_message(ADMISSION) == reply[:10]
    assert received(FRAMER, b"".join(sent)) == [ADMISSION]
    assert received(FRAMER, reply, [10]) == [b"MSH|^~\\&|ACK\rMSA|AA|1\r"]
