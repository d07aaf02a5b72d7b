"""Lengths in text: vectors, and each way in which digits can be read two ways."""

from __future__ import annotations

import pytest

from framing import (
    ContentLength,
    CorruptFrame,
    EncodeError,
    Framer,
    FrameTooLarge,
    Netstring,
    OctetCounted,
    TruncatedFrame,
    Violation,
)

VECTORS = [
    # D. J. Bernstein, "Netstrings": the two examples there.
    (Netstring(), b"hello world!", b"12:hello world!,"),
    (Netstring(), b"", b"0:,"),
    (Netstring(), b",:,", b"3:,:,,"),
    # RFC 6587, section 3.4.1: MSG-LEN SP SYSLOG-MSG.
    (OctetCounted(), b"<34>1 - - - - - -", b"17 <34>1 - - - - - -"),
    # Language Server Protocol 3.17, "Base Protocol".
    (ContentLength(), b"{}", b"Content-Length: 2\r\n\r\n{}"),
    (ContentLength(), "é".encode(), b"Content-Length: 2\r\n\r\n\xc3\xa9"),
]


@pytest.mark.parametrize(("framer", "payload", "frame"), VECTORS)
def test_vectors(framer: Framer, payload: bytes, frame: bytes):
    assert framer.encode(payload) == frame
    assert framer.decoder().feed(frame) == [payload]


BAD = [
    (Netstring(), b"01:a,", CorruptFrame),
    (Netstring(), b"00:,", CorruptFrame),
    (Netstring(), b":,", CorruptFrame),
    (Netstring(), b"-1:a,", CorruptFrame),
    (Netstring(), b"+1:a,", CorruptFrame),
    (Netstring(), b" 1:a,", CorruptFrame),
    (Netstring(), b"1 :a,", CorruptFrame),
    (Netstring(), b"1_0:", CorruptFrame),
    (Netstring(), b"0x1:a,", CorruptFrame),
    (Netstring(), "\u0661:a,".encode(), CorruptFrame),
    (Netstring(), "²:ab,".encode("latin-1"), CorruptFrame),
    (Netstring(), b"1;a,", CorruptFrame),
    (Netstring(), b"1:a;", CorruptFrame),
    (Netstring(), b"1:ab", CorruptFrame),
    (Netstring(max_frame=99), b"100:", FrameTooLarge),
    (Netstring(), b"1048577:", FrameTooLarge),
    (Netstring(), b"9999999999", FrameTooLarge),
    (OctetCounted(), b"0 ", CorruptFrame),
    (OctetCounted(), b"01 a", CorruptFrame),
    (OctetCounted(), b"<34>1", CorruptFrame),
    (OctetCounted(), b" a", CorruptFrame),
    (OctetCounted(), b"12345678901 a", FrameTooLarge),
    (ContentLength(), b"Content-Length: 2\n\n{}" + b" " * 4096, CorruptFrame),
    (ContentLength(), b"Content-Length: 02\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b"Content-Length: -2\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b"Content-Length: 2, 2\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b"Content-Length: 2\r\ncontent-length: 3\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b"Content-Type: text\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b"Content-Length : 2\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b" Content-Length: 2\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b"\r\n\r\n", CorruptFrame),
    (ContentLength(), b"Content-Length: 2\r\nX: a\rb\r\n\r\n{}", CorruptFrame),
    (ContentLength(), b"Content-Length: 1048577\r\n\r\n", FrameTooLarge),
    (ContentLength(), b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n", FrameTooLarge),
    (ContentLength(max_header=64), b"X: " + b"a" * 64, CorruptFrame),
]


@pytest.mark.parametrize(("framer", "stream", "error"), BAD)
def test_a_length_that_two_readers_could_read_differently_is_refused(
    framer: Framer, stream: bytes, error: type[Violation]
):
    good = framer.encode(b"good")
    decoder = framer.decoder()
    assert decoder.feed(good + stream) == [b"good"]
    assert type(decoder.error) is error
    assert decoder.error.offset == len(good)


def test_a_bad_digit_is_known_when_it_comes():
    decoder = Netstring().decoder()
    assert decoder.feed(b"1") == []
    with pytest.raises(CorruptFrame):
        decoder.feed(b"x")


def test_other_header_lines_are_passed_over_and_names_have_no_case():
    stream = b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\ncontent-LENGTH:2\r\n\r\n{}"
    assert ContentLength().decoder().feed(stream) == [b"{}"]


def test_a_header_of_just_max_header_bytes_is_taken_and_of_one_more_is_not():
    def header(size: int) -> bytes:
        lines = b"Content-Length: 1\r\nX: \r\n\r\n"
        return lines.replace(b"X: ", b"X: " + b"a" * (size - len(lines)))

    assert ContentLength(max_header=64).decoder().feed(header(64) + b"!") == [b"!"]
    with pytest.raises(CorruptFrame):
        ContentLength(max_header=64).decoder().feed(header(65) + b"!")


@pytest.mark.parametrize("stream", [b"1", b"12:", b"3:ab", b"3:abc"])
def test_eof_in_a_netstring_is_truncated(stream: bytes):
    decoder = Netstring().decoder()
    decoder.feed(stream)
    with pytest.raises(TruncatedFrame):
        decoder.feed_eof()


def test_octet_counting_has_no_empty_message():
    with pytest.raises(EncodeError, match="RFC 6587"):
        OctetCounted().encode(b"")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Netstring(max_frame=10**9), "max_frame"),
        (lambda: OctetCounted(max_frame=0), "max_frame"),
        (lambda: OctetCounted(max_frame=10**9), "max_frame"),
        (lambda: ContentLength(max_header=63), "max_header"),
    ],
)
def test_an_option_that_cannot_be_is_named(make, says: str):
    with pytest.raises(ValueError, match=says):
        make()
