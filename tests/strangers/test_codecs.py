"""Codecs and compressions against libraries that nobody here wrote: encode here and decode there, and the reverse."""

from __future__ import annotations

import gzip
import io
import json
import zlib

import cbor2
import msgpack
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from framing.codecs import CBOR, JSON, MessagePack
from framing.errors import DecodeError
from framing.layers import Compressed

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
messages = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(messages)
def test_json_of_the_standard_library(message):
    assert json.loads(JSON().encode(message)) == message
    assert JSON().decode(json.dumps(message).encode()) == message


def test_where_the_standard_library_is_lenient_we_are_not():
    for payload, lenient in ((b'{"a":1,"a":2}', {"a": 2}), (b"1e999", float("inf")), (b'"\\ud800"', "\ud800")):
        assert json.loads(payload) == lenient
        with pytest.raises(DecodeError):
            JSON().decode(payload)


@given(messages | st.binary())
def test_msgpack(message):
    assert msgpack.unpackb(MessagePack().encode(message), strict_map_key=False) == message
    assert MessagePack().decode(msgpack.packb(message)) == message


@given(messages)
def test_msgpack_in_single_precision(message):
    payload = (
        msgpack.packb(message, use_single_float=True, use_bin_type=True) if _fits(message) else msgpack.packb(None)
    )
    assert MessagePack().decode(payload) == msgpack.unpackb(payload)


def _fits(message):
    try:
        msgpack.packb(message, use_single_float=True)
    except OverflowError:
        return False
    return True


def test_where_msgpack_takes_the_last_of_two_keys_we_refuse():
    assert msgpack.unpackb(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}
    with pytest.raises(DecodeError, match="twice"):
        MessagePack().decode(b"\x82\xa1a\x01\xa1a\x02")


@given(messages | st.binary())
def test_cbor2(message):
    assert cbor2.loads(CBOR().encode(message)) == message
    for options in ({}, {"canonical": True}, {"indefinite_containers": True}):
        assert CBOR().decode(cbor2.dumps(message, **options)) == message


def test_where_cbor2_ignores_bytes_behind_the_item_we_refuse():
    assert cbor2.loads(b"\x01\x01") == 1
    with pytest.raises(DecodeError, match="follow the end"):
        CBOR().decode(b"\x01\x01")


# RFC 8949, appendix A: the examples that have a value here.
VECTORS = [
    ("1bffffffffffffffff", 18446744073709551615),
    ("c249010000000000000000", 18446744073709551616),
    ("3bffffffffffffffff", -18446744073709551616),
    ("c349010000000000000000", -18446744073709551617),
    ("f93e00", 1.5),
    ("f90001", 5.960464477539063e-8),
    ("fa7f7fffff", 3.4028234663852886e38),
    ("fb7e37e43c8800759c", 1.0e300),
    ("f97c00", float("inf")),
    ("f6", None),
    ("64f0908591", "\U00010151"),
    ("83010203", [1, 2, 3]),
    ("a201020304", {1: 2, 3: 4}),
    ("5f42010243030405ff", b"\x01\x02\x03\x04\x05"),
    ("7f657374726561646d696e67ff", "streaming"),
    ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
    ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
]


@pytest.mark.parametrize(("payload", "message"), VECTORS)
def test_vectors_of_rfc_8949(payload, message):
    assert CBOR().decode(bytes.fromhex(payload)) == message


@given(st.binary(max_size=300))
def test_compressions(payload):
    assert zlib.decompress(Compressed("zlib").encode(payload)) == payload
    assert gzip.decompress(Compressed("gzip").encode(payload)) == payload
    assert zstandard.ZstdDecompressor().stream_reader(io.BytesIO(Compressed("zstd").encode(payload))).read() == payload
    assert Compressed("zlib").decode(zlib.compress(payload), 300) == payload
    assert Compressed("gzip").decode(gzip.compress(payload), 300) == payload
    assert Compressed("zstd").decode(zstandard.compress(payload), 300) == payload


def test_where_gzip_joins_members_we_refuse():
    two = gzip.compress(b"a") + gzip.compress(b"b")
    assert gzip.decompress(two) == b"ab"
    with pytest.raises(DecodeError, match="follow the end"):
        Compressed("gzip").decode(two, 10)
