"""What framing code has got wrong in software that people trust: each row of the table, over what it can touch here.

The rows about drivers (output that grows, slow peers, descriptors that run out) are tested with the drivers.
"""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from framing import (
    CBOR,
    COBS,
    HDLC,
    JSON,
    SLIP,
    Checksum,
    Compressed,
    ContentLength,
    CorruptFrame,
    DecodeError,
    Delimited,
    EncodeError,
    Framer,
    FrameTooLarge,
    LengthField,
    LengthPrefixed,
    Lines,
    MessagePack,
    Netstring,
    OctetCounted,
    Raw,
    RecordMarked,
    Signed,
    StructHeader,
    TruncatedFrame,
    VarintPrefixed,
    Violation,
    Wire,
    presets,
)
from framing.framers import Decoder
from framing.testing.counting import Spied, Tally
from framing.testing.runs import chunked, run
from tests.conformance.registry import FRAMERS, PLAIN_HEADER

TWO_GIB = (1 << 31) - 1

# Framer, and a header that announces all that its field can, or 2 GiB.
ANNOUNCING = [
    (LengthPrefixed(4), TWO_GIB.to_bytes(4)),
    (LengthPrefixed(8), ((1 << 62) - 1).to_bytes(8)),
    (LengthPrefixed(4, "little", counts="frame"), TWO_GIB.to_bytes(4, "little")),
    (VarintPrefixed(), b"\xff\xff\xff\xff\x07"),
    (LengthField(4, offset=1), b"a" + TWO_GIB.to_bytes(4)),
    (LengthField("varint", offset=1), b"a\xff\xff\xff\x7f"),
    (StructHeader(PLAIN_HEADER, size=lambda header: header.length << 15), b"\x01\xff\xff"),
    (Netstring(), b"999999999:"),
    (OctetCounted(), b"999999999 "),
    (ContentLength(), b"Content-Length: 2147483647\r\n\r\n"),
    (RecordMarked(), b"\xff\xff\xff\xff"),
]


def generous(framer: Framer) -> Framer:
    for limit in ((1 << 63) - 1, TWO_GIB, 10**9 - 1):
        try:
            return replace(framer, max_frame=limit)
        except ValueError:
            continue
    raise AssertionError


def feed_all(decoder: Decoder[Any], chunks: Iterable[bytes]) -> list[Any]:
    return [message for chunk in chunks for message in decoder.feed(chunk)]


def peak(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def named(value: Any) -> str:
    return type(value).__name__ if isinstance(value, Framer) else repr(value)[:40]


@pytest.mark.parametrize(("framer", "header"), ANNOUNCING, ids=named)
def test_memory_for_a_declared_length(framer: Framer, header: bytes):
    """Netty CVE-2026-42583 and -45416, CPython http.client CVE-2025-13836, Kafka KIP-498: room for what was announced."""
    decoder = generous(framer).decoder()

    def receive() -> None:
        assert decoder.feed(header) == []
        for _ in range(20):
            decoder.feed(b"x")
            decoder.get_buffer()[:4] = b"abcd"
            decoder.buffer_updated(4)

    assert peak(receive) < 1 << 20
    assert decoder.buffered == len(header) + 100


@pytest.mark.parametrize(("framer", "header"), ANNOUNCING, ids=named)
def test_a_limit_late_or_bypassed_by_what_is_announced(framer: Framer, header: bytes):
    """Netty MQTT CVE-2026-42587, CVE-2026-44248: the limit is held on the header, before any of the body has come."""
    for chunks in ([header], chunked(header, range(1, len(header)))):
        decoder = framer.decoder()
        with pytest.raises(FrameTooLarge):
            feed_all(decoder, chunks)
        assert decoder.buffered == 0


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
@pytest.mark.parametrize("letter", [b"a", b"\0", b"\xff", b"1", b"\r", b"<"])
def test_a_limit_late_or_bypassed_on_the_path_where_nothing_is_found(framer: Framer, letter: bytes):
    """h11 and anyio accept in one read what they refuse in two: no path keeps more than the limit, whatever the cuts."""
    try:
        small = replace(framer, max_frame=max(40, getattr(framer, "min_frame", 0)))
    except ValueError:
        return
    stream = letter * 20_000
    whole = run(small.decoder, [stream]).outcome
    assert run(small.decoder, chunked(stream, range(777, len(stream), 777))).outcome == whole
    decoder = small.decoder()
    try:
        for _ in range(200):
            decoder.feed(letter * 100)
            assert decoder.buffered <= 2 * small.max_frame + 8192
    except Violation:
        pass


def test_many_tiny_items_in_one_record():
    """Redis CVE-2021-32675, HTTP/2 CVE-2019-9518: empty fragments are counted too."""
    decoder = RecordMarked(max_fragments=100).decoder()
    with pytest.raises(CorruptFrame) as raised:
        feed_all(decoder, [bytes(4)] * 1000)
    assert (raised.value.expected, raised.value.got) == (100, 101)


def test_many_tiny_items_in_one_chunk_cost_no_more_than_their_bytes():
    """The same: a flood of empty frames is as many messages, and linear."""
    for framer, frame in ((LengthPrefixed(4), bytes(4)), (Netstring(), b"0:,"), (SLIP(), b"\xc0"), (Lines(), b"\n")):
        costs = []
        for count in (2000, 4000):
            tally = Tally()
            Decoder(Spied(framer, tally)).feed(frame * count)
            costs.append(tally.touched)
        assert costs[1] <= 2.5 * costs[0]


def test_a_header_of_many_lines_has_a_limit():
    """HTTP/2 CVE-2019-9518: headers count too."""
    decoder = ContentLength(max_header=1000).decoder()
    with pytest.raises(CorruptFrame):
        feed_all(decoder, [b"X: y\r\n"] * 1000)
    assert decoder.buffered == 0


@pytest.mark.parametrize(
    ("framer", "stream"),
    [
        (VarintPrefixed(), b"\xff" * 11),
        (VarintPrefixed(max_frame=(1 << 63) - 1), b"\xff" * 11),
        (LengthField("varint", offset=1), b"a" + b"\xff" * 11),
        (presets.mqtt(), b"\x10\xff\xff\xff\xff\x01"),
        (LengthPrefixed(8), b"\xff" * 8),
        (LengthPrefixed(4), b"\x80\x00\x00\x00"),
        (LengthPrefixed(4, counts="frame"), b"\x00\x00\x00\x03"),
        (LengthField(4, adjust=-4), b"\x00\x00\x00\x03"),
        (LengthField(2, offset=2, adjust=-4), b"\x03\x00\x00\x00"),
        (StructHeader(PLAIN_HEADER, size=lambda header: header.length - 4), b"\x01\x00\x03"),
        (presets.kafka(), b"\xff\xff\xff\xff"),
    ],
    ids=named,
)
def test_length_overflow_and_sign(framer: Framer, stream: bytes):
    """NATS CVE-2026-27889, hiredis CVE-2021-32765, libzmq CVE-2019-6250: bounded, and never below zero or the header."""
    for chunks in ([stream + b"abcdefgh"], chunked(stream, range(1, len(stream)))):
        with pytest.raises(Violation):
            feed_all(framer.decoder(), chunks)


@pytest.mark.parametrize("width", [1, 2])
def test_an_encoder_that_wraps(width: int):
    """pgx CVE-2024-27304; Erlang's {packet,1} sends 300 bytes under a header of 44: raise, never truncate."""
    for framer in (LengthPrefixed(width), LengthPrefixed(width, counts="frame"), LengthPrefixed(width, "little")):
        for size in ((1 << 8 * width), (1 << 8 * width) + 44):
            with pytest.raises(EncodeError):
                framer.encode(bytes(size))
    with pytest.raises(EncodeError):
        FRAMERS[0].encode_many([b"a", bytes(300)])


@pytest.mark.parametrize(
    ("framer", "unit"),
    [
        (Lines(), b"a"),
        (Lines(newline=b"\r\n"), b"\r"),
        (Delimited(b"aaab"), b"a"),
        (Delimited(b"ab", b"ac"), b"a"),
        (Delimited(b"\x1c\r", start=b"\x0b"), b"\x1c"),
        (ContentLength(max_header=1 << 20), b"\r\n"),
        (COBS(), b"\x01"),
        (SLIP(), b"\xdb\xdc"),
        (HDLC(), b"a"),
        (LengthPrefixed(4), b"\0\0\x80\0"),
        (RecordMarked(), b"\0\0\0\0"),
    ],
    ids=named,
)
def test_quadratic_work(framer: Framer, unit: bytes):
    """tungstenite CVE-2023-43669, split2 (2 MB took 5 s), Pekko on repeated first bytes of a delimiter: linear, by bytes."""
    costs = []
    for count in (1024, 2048):
        tally = Tally()
        decoder: Decoder[bytes] = Decoder(Spied(framer, tally, plant=unit))
        stream = b"\x0b" * (getattr(framer, "start", b"") == b"\x0b") + unit * (count // len(unit))
        try:
            for at in range(len(stream)):
                decoder.feed(stream[at : at + 1])
        except Violation:
            pass
        costs.append(tally.touched)
    assert costs[1] <= 3 * costs[0] + 1024


@pytest.mark.parametrize(
    ("framer", "stream"),
    [
        (Lines(newline=b"\r\n"), b"a\nb\rc\r\n"),
        (presets.smtp() if "smtp" in presets.PRESETS else Lines(newline=b"\r\n"), b"DATA\n.\nx\r\n"),
    ],
)
def test_lenient_delimiters(framer: Framer, stream: bytes):
    """SMTP smuggling CVE-2023-51764: where CRLF ends a line, a bare CR or LF does not."""
    assert framer.decoder().feed(stream) == [stream[:-2]]


@pytest.mark.parametrize(
    ("framer", "stream"),
    [
        (Netstring(), b"1:ab"),
        (Netstring(), b"+1:a,"),
        (ContentLength(), b"Content-Length: 0x2\r\n\r\nab"),
        (ContentLength(), b"Content-Length: 1_0\r\n\r\n"),
        (ContentLength(), b"Content-Length: 2\nX: y\r\n\r\nab"),
        (LengthField(1, trailer=b"\r\n"), b"\x02\r\r"),
        (SLIP(), b"a\xdbx\xc0"),
        (Delimited(b"\x1c\r", start=b"\x0b"), b"\n\x0ba\x1c\r"),
    ],
    ids=named,
)
def test_lenient_trailers_and_digits(framer: Framer, stream: bytes):
    """h11 CVE-2025-43859 took any two bytes for the CRLF behind a chunk: what must be there is asked for, byte by byte."""
    with pytest.raises(CorruptFrame):
        framer.decoder().feed(stream)


@pytest.mark.parametrize(("framer", "header"), ANNOUNCING, ids=named)
def test_going_on_after_an_error(framer: Framer, header: bytes):
    """redis-py CVE-2023-28858; Netty skips a bad header and goes on where no frame begins: poisoned, and it says so."""
    decoder = framer.decoder()
    with pytest.raises(FrameTooLarge) as first:
        decoder.feed(header)
    for _ in range(3):
        with pytest.raises(FrameTooLarge) as again:
            decoder.feed(b"\0\0\0\1a")
        assert again.value is first.value


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_a_half_frame_that_looks_clean(framer: Framer):
    """tokio-util: EOF behind a consumed header; Erlang drops an unterminated line: TruncatedFrame, wherever it is."""
    from random import Random

    from framing.testing.samples import accepted

    if framer.final_delimiter:
        return
    payload = accepted(framer, Random(1), 5)[-1]
    frame = framer.encode(payload)
    flag = 1 if isinstance(framer, (SLIP, HDLC)) else 0
    for at in range(1 + flag, len(frame)):
        decoder = framer.decoder()
        assert decoder.feed(frame[:at]) == []
        with pytest.raises(TruncatedFrame):
            decoder.feed_eof()


def test_bytes_kept_across_an_upgrade():
    """PostgreSQL CVE-2021-23214: what came before the upgrade is in unconsumed, and the new decoder begins with nothing."""
    before = presets.postgres_startup().decoder()
    injected = b"Q\x00\x00\x00\x0dSELECT 1\x00"
    request = bytes.fromhex("00000008 04d2162f")
    assert before.feed(request + injected, limit=1) == [request]
    assert before.unconsumed == injected
    assert presets.postgres().decoder().unconsumed == b""


BOMB = bytes(1 << 24)


@pytest.mark.parametrize(
    ("algorithm", "bomb"), [("zlib", zlib.compress(BOMB)), ("gzip", zlib.compress(BOMB, wbits=31)), ("zstd", None)]
)
def test_decompression_bombs(algorithm: Any, bomb: bytes | None):
    """NATS CVE-2026-27571, MongoDB CVE-2025-14847: inflating stops at the limit, and the stream goes on behind it."""
    layer = Compressed(algorithm)
    wire = Wire(LengthPrefixed(4, max_frame=1 << 16), layer, Raw())
    bomb = bomb or layer.encode(BOMB)
    decoder = wire.decoder()
    stream = wire.framer.encode(bomb) + wire.encode(b"behind")

    def receive() -> None:
        with pytest.raises(DecodeError):
            decoder.feed(stream)

    assert peak(receive) < 1 << 20
    assert decoder.feed(b"") == [b"behind"]


def test_decompression_that_gives_less_or_more_than_one_stream():
    """MongoDB CVE-2025-14847: what was declared and what was inflated are the same, to the last byte."""
    layer = Compressed("zlib")
    for wrong in (zlib.compress(b"abc")[:-1], zlib.compress(b"abc") + b"x", zlib.compress(b"abc") * 2, b""):
        with pytest.raises(DecodeError):
            layer.decode(wrong, 100)


@pytest.mark.parametrize(
    ("codec", "bomb"),
    [
        (JSON(), b"[" * 100_000),
        (JSON(), b"[" * 1000 + b"]" * 1000),
        (JSON(), b'{"a":' * 1000 + b"1" + b"}" * 1000),
        (MessagePack(), b"\x91" * 100_000 + b"\xc0"),
        (MessagePack(), b"\x81\xa1a" * 1000 + b"\xc0"),
        (CBOR(), b"\x81" * 100_000 + b"\xf6"),
        (CBOR(), b"\xc1" * 1000 + b"\x00"),
        (CBOR(), b"\x9f" * 1000),
    ],
    ids=named,
)
def test_nesting_bombs(codec: Any, bomb: bytes):
    """cbor2 CVE-2026-26209: a depth limit of our own, and DecodeError; never RecursionError, never a crash."""
    with pytest.raises(DecodeError):
        codec.decode(bomb)
    decoder = Wire(LengthPrefixed(4), codec).decoder()
    with pytest.raises(DecodeError) as raised:
        decoder.feed(LengthPrefixed(4).encode(bomb))
    assert raised.value.offset == 0
    assert decoder.error is None


@pytest.mark.parametrize("codec", [JSON(), MessagePack(), CBOR()])
def test_nesting_that_cannot_arrive_is_not_sent(codec: Any):
    """The same limit in both directions; and a message that holds itself ends in an error too."""
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    for message in (deep, endless):
        with pytest.raises(EncodeError):
            codec.encode(message)


@pytest.mark.parametrize(
    "framer",
    [Netstring(), OctetCounted(), ContentLength(), presets.syslog() if "syslog" in presets.PRESETS else OctetCounted()],
)
def test_digits(framer: Framer):
    """rsyslog CVE-2022-24903: digits are capped, before they are counted or converted."""
    begin = b"Content-Length: " if isinstance(framer, ContentLength) else b""
    end = b"\r\n\r\n" if isinstance(framer, ContentLength) else b""
    for digits in (b"9" * 20, b"9" * 4000):
        with pytest.raises(FrameTooLarge):
            framer.decoder().feed(begin + digits + end)


@pytest.mark.parametrize(
    ("layer", "payload"),
    [(Checksum("crc32"), b"abc"), (Signed(bytes(32)), b"short"), (Checksum("crc16-x25"), b"")],
    ids=named,
)
def test_an_inner_length_never_passes_the_outer_one(layer: Any, payload: bytes):
    """Heartbleed: a payload shorter than what it must hold is refused, not read beyond its end."""
    with pytest.raises(DecodeError) as raised:
        layer.decode(payload, 1000)
    assert raised.value.got == len(payload)


def test_an_inner_length_is_held_to_the_bytes_that_are_there():
    """Heartbleed: a string that announces more than its payload has is refused."""
    for codec, payload in (
        (MessagePack(), b"\xda\xff\xffab"),
        (CBOR(), b"\x79\xff\xffab"),
        (MessagePack(), b"\xdf\xff\xff\xff\xff"),
    ):

        def refuse(codec: Any = codec, payload: bytes = payload) -> None:
            with pytest.raises(DecodeError):
                codec.decode(payload)

        assert peak(refuse) < 1 << 20


def test_fragments_never_pass_the_limit_of_their_record():
    """Heartbleed, and every reassembly: the sum is judged, before the fragment comes."""
    decoder = RecordMarked(max_frame=10).decoder()
    assert decoder.feed(bytes.fromhex("00000006") + b"abcdef") == []
    with pytest.raises(FrameTooLarge):
        decoder.feed(bytes.fromhex("80000005"))


def test_duplicate_names_are_read_one_way_or_refused():
    """Lenient parsers, as in the row on delimiters: what two readers read differently is refused, and json's way shown."""
    payload = b'{"role":"user","role":"admin"}'
    assert json.loads(payload) == {"role": "admin"}
    with pytest.raises(DecodeError):
        JSON().decode(payload)
