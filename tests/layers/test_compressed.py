"""Compressed: whole streams only, bombs bounded, levels checked."""

from __future__ import annotations

import builtins
import gzip
import pickle
import random
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.errors import DecodeError
from framing.layers import Compressed

ALGORITHMS = ["zlib", "gzip", "zstd"]


@given(st.sampled_from(ALGORITHMS), st.binary(max_size=500))
def test_round_trip_at_exactly_the_limit(algorithm, payload):
    layer = Compressed(algorithm)
    assert layer.decode(layer.encode(payload), len(payload)) == payload


@pytest.mark.parametrize(
    ("algorithm", "level"), [("zlib", 0), ("zlib", 9), ("gzip", 0), ("gzip", 9), ("zstd", 1), ("zstd", 22)]
)
def test_levels_differ_and_any_peer_reads_them(algorithm, level):
    payload = random.Random(1).randbytes(1000) * 3
    layer = Compressed(algorithm, level=level)
    assert Compressed(algorithm).decode(layer.encode(payload), 3000) == payload


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_byte_above_the_limit_is_refused(algorithm):
    layer = Compressed(algorithm)
    with pytest.raises(DecodeError, match="max_frame=999") as caught:
        layer.decode(layer.encode(b"a" * 1000), 999)
    assert (caught.value.expected, caught.value.got) == (999, 1000)
    with pytest.raises(DecodeError, match="max_frame=0"):
        layer.decode(layer.encode(b"a"), 0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_bomb_is_inflated_no_further_than_the_limit(algorithm):
    layer = Compressed(algorithm)
    bomb = layer.encode(bytes(64 << 20))
    assert len(bomb) < 100_000
    layer.decode(layer.encode(b"warm"), 10)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            layer.decode(bomb, 1 << 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_stream_cut_anywhere_is_refused(algorithm):
    layer = Compressed(algorithm)
    whole = layer.encode(b"hello, hello, hello, world")
    for end in range(len(whole)):
        with pytest.raises(DecodeError):
            layer.decode(whole[:end], 100)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("behind", [b"\0", b"garbage", "again"])
def test_bytes_behind_the_stream_are_refused(algorithm, behind):
    layer = Compressed(algorithm)
    whole = layer.encode(b"hello")
    extra = whole if behind == "again" else behind
    with pytest.raises(DecodeError, match="follow the end") as caught:
        layer.decode(whole + extra, 100)
    assert (caught.value.expected, caught.value.got) == (len(whole), len(whole) + len(extra))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(payload=st.binary(max_size=64))
def test_garbage_is_refused(algorithm, payload):
    layer = Compressed(algorithm)
    if layer.encode(b"")[:2] != payload[:2]:
        with pytest.raises(DecodeError):
            layer.decode(payload, 100)


@pytest.mark.parametrize("algorithm", ["zlib", "gzip"])
def test_a_wrong_trailer_is_refused(algorithm):
    layer = Compressed(algorithm)
    bad = bytearray(layer.encode(b"hello"))
    bad[-5] ^= 1
    with pytest.raises(DecodeError, match="not a sound"):
        layer.decode(bytes(bad), 100)


def test_the_streams_are_those_of_the_standard_library():
    assert zlib.decompress(Compressed("zlib").encode(b"hello")) == b"hello"
    assert gzip.decompress(Compressed("gzip").encode(b"hello")) == b"hello"
    assert Compressed("gzip").decode(gzip.compress(b"hello"), 5) == b"hello"
    assert Compressed("zlib").decode(zlib.compress(b"hello", 9), 5) == b"hello"


def test_a_zstd_window_of_a_terabyte_allocates_nothing():
    header = b"\x28\xb5\x2f\xfd" + bytes([0xE0]) + (1 << 40).to_bytes(8, "little")
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            Compressed("zstd").decode(header + b"\x01\x00\x00", 1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_zstd_frame_that_holds_less_than_it_declares_is_refused():
    frame = bytearray(Compressed("zstd").encode(b"hello"))
    assert frame[4] == 0x20
    assert frame[5] == 5
    frame[5] = 6
    with pytest.raises(DecodeError):
        Compressed("zstd").decode(bytes(frame), 100)


def test_zstd_frames_of_many_blocks_and_with_checksums_are_read():
    zstandard = pytest.importorskip("zstandard")
    payload = random.Random(2).randbytes(300_000) + bytes(300_000)
    for checksum in (False, True):
        for declared in (False, True):
            compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=declared)
            frame = compressor.compress(payload)
            assert Compressed("zstd").decode(frame, len(payload)) == payload
            with pytest.raises(DecodeError, match="does not end"):
                Compressed("zstd").decode(frame[:-1], len(payload))
            streamed = compressor.compressobj()
            frame = streamed.compress(payload) + streamed.flush()
            assert Compressed("zstd").decode(frame, len(payload)) == payload


def test_the_largest_window_that_is_sent_is_one_that_is_taken():
    payload = random.Random(3).randbytes(9 << 20)
    layer = Compressed("zstd", level=1)
    assert layer.decode(layer.encode(payload), len(payload)) == payload


@pytest.mark.parametrize(("algorithm", "level"), [("zlib", -1), ("zlib", 10), ("gzip", 10), ("zstd", 0), ("zstd", 23)])
def test_levels_out_of_bounds(algorithm, level):
    with pytest.raises(ValueError, match="level"):
        Compressed(algorithm, level=level)
    with pytest.raises(TypeError, match="level"):
        Compressed(algorithm, level="9")


def test_an_unknown_algorithm_is_told_the_known():
    with pytest.raises(ValueError, match="zlib, gzip, zstd"):
        Compressed("brotli")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the standard library has it")
def test_a_missing_library_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "zstandard":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'framing\[zstd\]'"):
        Compressed("zstd").encode(b"x")


def test_it_is_a_value():
    assert Compressed("zlib") == Compressed("zlib") != Compressed("zlib", level=9)
    assert len({Compressed("zlib"), Compressed("zlib")}) == 1
    assert pickle.loads(pickle.dumps(Compressed("zstd", level=3))) == Compressed("zstd", level=3)
