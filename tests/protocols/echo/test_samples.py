"""Samples: every wire that carries something gets messages that it carries, and no two are alike."""

from __future__ import annotations

import itertools

import pytest

from framing import Wire
from protocols.echo.samples import Samples

WIRES = [
    "u32",
    "u32+json",
    "u8",
    "lines",
    "lines+text",
    "crlf+text",
    "nul",
    "netstring+cbor",
    "varint+zlib+msgpack",
    "cobs+crc32",
    "slip+text",
    "hdlc+json",
    "octets",
    "records",
    "lsp+json",
    "lines+text('latin-1')",
    "u16+text('utf-16')",
    'delimited(b"ab")+text',
]


@pytest.mark.parametrize("size", [(16, 16), (200, 200), (1, 250)])
@pytest.mark.parametrize("spec", WIRES)
def test_messages_go_through_the_wire_and_no_two_are_alike(spec, size):
    wire = Wire.parse(spec)
    samples = list(itertools.islice(Samples(wire, *size, seed=1), 200))
    assert wire.decoder().feed(b"".join(sample.frame for sample in samples)) == [sample.message for sample in samples]
    marks = [sample.mark for sample in samples]
    # Only those of a byte or so can be.
    assert len({mark for mark in marks if len(mark) > 2}) == sum(len(mark) > 2 for mark in marks)


@pytest.mark.parametrize("spec", ["u32", "lines", "nul+text", "cobs"])
def test_raw_and_plain_text_have_exactly_the_size(spec):
    for size in (0, 1, 7, 8, 9, 64, 5000):
        for sample in itertools.islice(Samples(Wire.parse(spec), size, size), 20):
            assert len(sample.mark) <= size
            assert len(sample.mark) >= size - 3  # a letter of several bytes does not fit in the last place


def test_sizes_are_spread_over_the_range():
    sizes = {len(sample.message) for sample in itertools.islice(Samples(Wire.parse("u32"), 3, 12), 500)}
    assert sizes == set(range(3, 13))


@pytest.mark.parametrize(
    ("spec", "size"),
    [("fixed:16", 16), ("fixed:16+crc32", 12), ("fixed:64+json", 64), ("fixed:1", 1), ("fixed:9+text", 9)],
)
def test_frames_of_one_size_get_messages_of_one_size(spec, size):
    wire = Wire.parse(spec)
    samples = Samples(wire, 100, 200)
    assert samples.smallest == samples.largest <= size
    assert len(wire.decoder().feed(b"".join(sample.frame for sample in itertools.islice(samples, 50)))) == 50


def test_the_same_seed_makes_the_same_messages():
    wire = Wire.parse("u32+msgpack")
    one, same, other = (list(itertools.islice(Samples(wire, 5, 90, seed), 30)) for seed in (7, 7, 8))
    assert one == same
    assert one != other


def test_objects_have_what_json_has():
    message = next(Samples(Wire.parse("u32+json"), 200, 200)).message
    assert {type(value) for value in message["list"]} == {int, float, bool, type(None), dict}
    assert not message["text"].isascii()


def test_true_is_not_one_and_one_is_no_float():
    samples = Samples(Wire.parse("u32+json"), 64, 64)
    assert len({samples.mark([value]) for value in (1, 1.0, True, "1")}) == 4


def test_large_messages_cost_no_large_dice():
    sample = next(Samples(Wire.parse("u32(max_frame=16M)"), 1 << 23, 1 << 23))
    assert len(sample.message) == 1 << 23


@pytest.mark.parametrize(
    ("spec", "size", "says"),
    [
        ("u32(max_frame=16)", (17, 17), "max_frame=16"),
        ("mqtt", (64, 64), "takes any payload"),
        ("u32", (2, 1), "0 <= smallest <= largest"),
    ],
)
def test_what_cannot_be_carried_is_told(spec, size, says):
    with pytest.raises(ValueError, match=says):
        Samples(Wire.parse(spec), *size)
