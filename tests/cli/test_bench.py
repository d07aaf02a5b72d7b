"""`framing bench`: a table for any wire and message, errors of the command line for what cannot be measured; never a time."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from framing import Wire
from framing.cli import bench, main
from framing.cli.bench import Figure, measure, sample_message, show

CASES = ["encode", "decode, 64 KiB chunks", "decode, 1,400 B chunks"]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_it_shows_what_the_wire_costs_beside_the_floor_and_the_codec(capsys):
    code, out, err = run(capsys, "u32+json", "--message", '{"a": 1}', "--seconds", "0.1")
    assert (code, err) == (0, "")
    assert "Wire u32+json, a message that is 11 bytes on the wire." in out
    assert all(out.count(case) == 1 for case in CASES)
    for alone in ("the floor", "  msgspec", "the codec"):
        assert out.count(f"{alone} alone") == len(CASES)
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("spec", "others"),
    [
        ("u32", {"floor"}),
        ("lines+text", {"floor", "codec"}),
        ("u16+crc32", {"floor", "layers and codec"}),
        ("cobs+zlib+cbor", {"floor", "layers and codec"}),
        ("records+msgpack", {"floor", "msgspec", "codec"}),
        ("u32+json", {"floor", "msgspec", "codec"}),
        ("u32+cbor", {"floor", "cbor2", "codec"}),
    ],
)
def test_a_wire_is_held_against_what_it_has(spec, others):
    wire = Wire.parse(spec)
    figures = measure(wire, sample_message(wire), 0.1)
    assert [figure.what for figure in figures if figure.name == "wire"] == CASES
    for case in CASES:
        group = [figure for figure in figures if figure.what == case]
        assert {figure.name for figure in group} == {"wire", *others}
        assert all((figure.ratio is not None) == (figure.name == "wire") for figure in group)
    assert all(math.isfinite(figure.ns) and figure.ns >= 0 for figure in figures)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("u32", b"hello, world"),
        ("lines+text", "hello, world"),
        ("fixed:4", b"hell"),
        ("fixed:15+text", "hello, worldhel"),
        ("fixed:8+crc32", b"hell"),
        ("u32(max_frame=5)", b"hello"),
        ("u32(max_frame=0)", b""),
    ],
)
def test_the_message_that_is_made_up_is_of_a_length_that_fits(spec, message):
    wire = Wire.parse(spec)
    assert sample_message(wire) == message
    assert wire.decoder().feed(wire.encode(message)) == [message]


@pytest.mark.parametrize("spec", ["websocket", "fixed:9+json", "fixed:3+crc32", "u32(max_frame=9)+msgpack"])
def test_who_gave_no_message_is_told_to_give_one_where_none_can_be_made_up(capsys, spec):
    code, out, err = run(capsys, spec, "--seconds", "0.1")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"give one of your messages with --message: the wire {spec} cannot carry the one that is made up" in err


def test_a_fixed_size_can_be_measured_without_a_message(capsys):
    code, out, err = run(capsys, "fixed:4", "--seconds", "0.1")
    assert (code, err) == (0, "")
    assert "a message that is 4 bytes on the wire" in out


@pytest.mark.parametrize("message", ["", "x" * 100, "x" * 300_000])
def test_messages_of_any_size_can_be_measured(message):
    wire = Wire.parse("u32+text")
    assert len(measure(wire, message, 0.1)) == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "nonsense"),
        (["u32+json", "--message", "{"], "--message is no JSON"),
        (["u32+json", "--message", "[" * 100_000], "--message"),
        (["u8", "--message", "x" * 300], "cannot carry it"),
        (["u32(max_frame=4)+json", "--message", '"hello"'], "cannot carry it"),
        (["u32", "--seconds", "0"], "--seconds"),
        (["u32", "--seconds", "nan"], "--seconds"),
        ([], "SPEC"),
    ],
)
def test_what_cannot_be_measured_is_an_error_of_the_command_line(capsys, arguments, said):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err


def test_a_console_without_unicode_can_show_it():
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(Console(file=out, width=100), [Figure("encode", "wire", 12.3, 1.5), Figure("encode", "floor", 0.0)], "u32", 20)
    out.flush()
    assert b"1.50" in out.buffer.getvalue()


def test_the_ratio_is_to_all_that_the_wire_is_held_against(monkeypatch):
    monkeypatch.setattr(
        bench, "_interleaved", lambda *_: {"encode": {"wire": [3.0, 6.0], "floor": [1.0, 1.0], "codec": [1.0, 2.0]}}
    )
    wire = Wire.parse("u32+json")
    figures = measure(wire, 1, 0.1)
    assert figures[0] == Figure("encode", "wire", 4.5, 1.75)
