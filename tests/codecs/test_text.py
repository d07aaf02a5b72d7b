"""Text and Raw: strict both ways."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.codecs import Codec, Raw, Text
from framing.errors import DecodeError, EncodeError

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"]), texts)
def test_round_trip_in_every_encoding_of_unicode(encoding, message):
    try:
        payload = Text(encoding).encode(message)
    except EncodeError:
        assert encoding == "utf-7" or "\ufeff" in message
        return
    assert Text(encoding).decode(payload) == message


@pytest.mark.parametrize(
    ("encoding", "payload"),
    [
        ("utf-8", b"\xff"),
        ("utf-8", b"a\xc0\x80"),
        ("utf-8", b"\xed\xa0\x80"),
        ("utf-8", b"\xf4\x90\x80\x80"),
        ("utf-8", b"\xc3"),
        ("ascii", b"\x80"),
        ("utf-16", b"\xff\xfea"),
        ("utf-16-le", b"\x00\xd8"),
    ],
)
def test_bytes_that_are_not_the_encoding_are_refused(encoding, payload):
    with pytest.raises(DecodeError, match="not " + encoding):
        Text(encoding).decode(payload)


def test_the_position_is_told():
    with pytest.raises(DecodeError) as caught:
        Text().decode(b"abc\xff")
    assert caught.value.got == 3
    assert caught.value.head == b"abc\xff"


@pytest.mark.parametrize(
    ("encoding", "message"), [("utf-8", "\ud800"), ("ascii", "ü"), ("latin-1", "€"), ("utf-16", "\udc00")]
)
def test_characters_that_the_encoding_has_not_are_refused(encoding, message):
    with pytest.raises(EncodeError, match="no " + encoding):
        Text(encoding).encode(message)


@pytest.mark.parametrize("message", [b"bytes", None, 5, ["a"]])
def test_what_is_no_string_is_refused(message):
    with pytest.raises(EncodeError, match="sends str"):
        Text().encode(message)


@pytest.mark.parametrize("encoding", ["rot13", "hex", "base64", "zlib"])
def test_codecs_that_are_not_of_text_are_refused(encoding):
    with pytest.raises(ValueError, match="no encoding of text"):
        Text(encoding)


def test_an_unknown_encoding_is_refused():
    with pytest.raises(LookupError, match="utf-9"):
        Text("utf-9")


def test_raw_is_the_bytes_themselves():
    payload = b"\x00\xff"
    assert Raw().encode(payload) is payload
    assert Raw().decode(payload) is payload
    assert Raw().encode(bytearray(payload)) == Raw().encode(memoryview(payload)) == payload
    for message in ("text", 5, None, [1]):
        with pytest.raises(EncodeError, match="put a codec"):
            Raw().encode(message)


def test_they_are_values():
    for codec in (Raw(), Text(), Text("utf-16")):
        assert pickle.loads(pickle.dumps(codec)) == codec
    assert len({Raw(), Raw(), Text(), Text("utf-8"), Text("ascii")}) == 3


def test_a_codec_without_methods_says_so():
    with pytest.raises(NotImplementedError, match="encode"):
        Codec().encode(b"")
    with pytest.raises(NotImplementedError, match="decode"):
        Codec().decode(b"")
