"""Delimiters: strict ones, several, marks, and what may not be sent between them."""

from __future__ import annotations

from contextlib import suppress

import pytest

from framing import (
    CorruptFrame,
    DecodeError,
    Decoder,
    Delimited,
    EncodeError,
    Framer,
    FrameTooLarge,
    Lines,
    TruncatedFrame,
)

MLLP = Delimited(b"\x1c\r", start=b"\x0b")
SEQUENCE = Delimited(b"\n", start=b"\x1e")

VECTORS = [
    (Lines(), b"a\nb\r\n\n", [b"a", b"b", b""]),
    (Lines(newline=b"\r\n"), b"a\nb\r\nc\rd\r\n", [b"a\nb", b"c\rd"]),
    (Lines(newline=b"\r"), b"a\rb\n\r", [b"a", b"b\n"]),
    (Lines(), b"a\r\r\n", [b"a\r"]),
    # U+2028 and the other separators of str.splitlines() end no line.
    (Lines(), "a\u2028b\x0b\x0c\x1c\x85\n".encode(), ["a\u2028b\x0b\x0c\x1c\x85".encode()]),
    (Delimited(b"\0"), b"a\0\0b\0", [b"a", b"", b"b"]),
    (Delimited(b"\r\n", b"\n"), b"a\r\nb\nc\r\r\n", [b"a", b"b", b"c\r"]),
    (Delimited(b"abab"), b"abaabab", [b"aba"]),
    # MLLP (HL7 v2 transport): 0B, the message, 1C 0D.
    (MLLP, b"\x0bMSH|1\x1c\r\x0bMSH|2\x1c\r", [b"MSH|1", b"MSH|2"]),
    (MLLP, b"\x0ba\x1cb\rc\x1c\r", [b"a\x1cb\rc"]),
    # RFC 7464, section 2.1: RS, the text, LF.
    (SEQUENCE, b'\x1e{"a":1}\n\x1e[]\n', [b'{"a":1}', b"[]"]),
]


@pytest.mark.parametrize(("framer", "stream", "payloads"), VECTORS)
def test_vectors(framer: Framer, stream: bytes, payloads: list[bytes]):
    decoder = framer.decoder()
    assert decoder.feed(stream) == payloads
    assert decoder.feed_eof() == []
    decoder = framer.decoder()
    assert [one for at in range(len(stream)) for one in decoder.feed(stream[at : at + 1])] == payloads


REFUSED = [
    (Lines(), b"a\nb"),
    (Lines(), b"a\r"),
    (Lines(newline=b"\r\n"), b"a\r\nb"),
    (Lines(newline=b"\r"), b"\r"),
    (Delimited(b"$$"), b"a$$b"),
    (Delimited(b"$$"), b"a$"),
    (Delimited(b"aab"), b"xaaab"),
    (Delimited(b"\r\n", b"\n"), b"a\nb"),
    (MLLP, b"a\x1c\rb"),
    (MLLP, b"a\x0bb"),
    (SEQUENCE, b"\x1e"),
]


@pytest.mark.parametrize(("framer", "payload"), REFUSED)
def test_a_payload_that_would_end_early_is_refused(framer: Framer, payload: bytes):
    with pytest.raises(EncodeError):
        framer.encode(payload)


def test_half_a_delimiter_in_a_payload_is_sent_where_it_makes_no_whole_one():
    assert Lines(newline=b"\r\n").decoder().feed(Lines(newline=b"\r\n").encode(b"a\r")) == [b"a\r"]
    assert Delimited(b"$!").decoder().feed(Delimited(b"$!").encode(b"$")) == [b"$"]


@pytest.mark.parametrize("stream", [b"junk\x0ba\x1c\r", b"\x0ba\x1c\rjunk", b"\x0ba\x0bb\x1c\r", b"\r\n\x0ba\x1c\r"])
def test_what_is_between_marked_frames_or_cut_off_is_corrupt(stream: bytes):
    decoder = MLLP.decoder()
    with suppress(CorruptFrame):
        decoder.feed(stream)
    assert isinstance(decoder.error, CorruptFrame)


def test_a_marked_frame_that_was_cut_off_is_skipped_and_the_next_one_found():
    decoder = Delimited(b"\n", start=b"\x1e", on_corrupt="skip").decoder()
    assert decoder.feed(b'junk\x1e{"a"\x1e{"b":2}\nmore\x1e3\n') == [b'{"b":2}', b"3"]
    assert decoder.skipped == 3


def test_an_oversized_line_is_refused_at_the_same_byte_however_it_comes():
    for chunk in (1, 2, 5, 100):
        decoder = Lines(max_frame=4).decoder()
        stream = b"abcd\nabcde\n"
        got = []
        error = None
        for at in range(0, len(stream) + chunk, chunk):
            try:
                got += decoder.feed(stream[at : at + chunk])
            except FrameTooLarge as raised:
                error = raised
                break
        assert error is not None
        assert (got, error.offset, error.expected, error.got) == ([b"abcd"], 5, 4, 5)


def test_a_line_of_just_the_limit_passes_with_either_newline():
    assert Lines(max_frame=4).decoder().feed(b"abcd\nabcd\r\n") == [b"abcd", b"abcd"]


def test_a_last_line_without_newline_is_a_line_only_where_that_was_asked_for():
    decoder = Lines(final="optional").decoder()
    assert decoder.feed(b"a\nb") == [b"a"]
    assert decoder.feed_eof() == [b"b"]
    assert decoder.feed_eof() == []
    strict = Lines().decoder()
    assert strict.feed(b"a\nb") == [b"a"]
    with pytest.raises(TruncatedFrame):
        strict.feed_eof()


def test_a_last_line_that_ends_in_half_a_newline():
    decoder = Lines(newline=b"\r\n", final="optional").decoder()
    decoder.feed(b"a\r")
    assert decoder.feed_eof() == [b"a\r"]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (Delimited, ValueError, "delimiters"),
        (lambda: Delimited(b""), ValueError, "delimiters"),
        (lambda: Delimited(b"a", b"a"), ValueError, "twice"),
        (lambda: Delimited(b"a", b"ab"), ValueError, "never be found"),
        (lambda: Delimited(b"a", on_corrupt="skip"), ValueError, "start mark"),
        (lambda: Delimited(b"a", on_oversize="drop"), ValueError, "on_oversize"),
        (lambda: Delimited("a"), EncodeError, "bytes"),
        (lambda: Lines(newline=b"\n\r"), ValueError, "newline"),
        (lambda: Lines(final="maybe"), ValueError, "final"),
        (lambda: Lines(on_oversize="drop"), ValueError, "on_oversize"),
    ],
)
def test_an_option_that_cannot_be_is_named(make, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("limit", [0, 1])
@pytest.mark.parametrize("cut", range(14))
def test_a_refused_payload_is_told_by_its_own_place_behind_a_frame_that_it_cuts_off(cut: int, limit: int):
    def refuse(payload: bytes) -> bytes:
        if payload == b"bad":
            raise DecodeError("no")
        return payload

    stream = b"\x02ok\n\x02cut\x02bad\n"
    decoder = Decoder(Delimited(b"\n", start=b"\x02", on_corrupt="skip"), refuse)
    got: list[bytes] = []
    chunks = iter((stream[:cut], stream[cut:], b"", b""))
    with pytest.raises(DecodeError) as refused:
        got.extend(one for chunk in chunks for one in decoder.feed(chunk, limit))
    assert (got, refused.value.offset) == ([b"ok"], 8)
    assert (decoder.feed(b"\x02on\n"), decoder.skipped) == ([b"on"], 1)
