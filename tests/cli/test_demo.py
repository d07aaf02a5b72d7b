"""`framing demo`: its verdict comes from the data, its left side from real reads, its escapes only go to terminals."""

from __future__ import annotations

import dataclasses
import io
import random
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from framing import Wire
from framing.cli import demo, main
from framing.cli.demo import Result, conversation, messages_for, show


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["demo", *arguments])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def screen(result, width=80, *, terminal=False):
    out = io.StringIO()
    show(Console(file=out, width=width, force_terminal=terminal, highlight=False), result, "u32+json", 1)
    return out.getvalue()


@pytest.fixture(scope="module")
def result():
    wire = Wire.parse("u32+json")
    return conversation(wire, messages_for(wire, 12), 7)


def test_every_message_comes_out_of_the_wire_and_the_verdict_says_so(capsys):
    code, out, err = run(capsys, "--seed", "7")
    assert (code, err) == (0, "")
    assert "12 of 12 messages, in order, equal to what was sent." in out
    assert "\x1b" not in out
    assert "glued" in out
    assert "cut" in out


def test_the_naive_loop_saw_the_same_stream_in_other_pieces(result):
    assert b"".join(result.chunks) == Wire.parse("u32+json").encode_many(result.sent)
    assert result.right
    assert result.lucky < len(result.sent)
    assert any(kind.endswith("glued") or "glued" in kind for kind, _, _ in result.reads())
    assert sum(completed for _, _, completed in result.reads()) == len(result.sent)


def test_a_seed_shows_the_same_cuts_again(result):
    assert conversation(Wire.parse("u32+json"), result.sent, 7).chunks == result.chunks
    assert conversation(Wire.parse("u32+json"), result.sent, 8).chunks != result.chunks


def test_what_is_lost_doubled_or_changed_is_told(result):
    for received in (result.received[:-1], [*result.received, 1], [*result.received[:3], "x", *result.received[4:]]):
        wrong = dataclasses.replace(result, received=received)
        assert not wrong.right
        assert "✗ the wire" in screen(wrong)


def test_the_exit_status_is_one_when_something_is_wrong(capsys, monkeypatch, result):
    monkeypatch.setattr(demo, "conversation", lambda *_: dataclasses.replace(result, received=[]))
    assert run(capsys)[0] == 1


@pytest.mark.parametrize("spec", ["u16+msgpack", "lines+text", "netstring", "cobs+crc32+json", "varint+zlib+cbor"])
def test_any_wire_does(capsys, spec):
    code, out, _ = run(capsys, "--wire", spec, "--messages", "5")
    assert code == 0
    assert "5 of 5 messages" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--wire", "u33"), "did you mean 'u32'"),
        (("--wire", "fixed:8"), "cannot carry"),
        (("--messages", "0"), "not in the range"),
    ],
)
def test_what_is_written_wrong_is_one_line_and_status_two(capsys, arguments, says):
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_line_is_wider_than_the_screen(result, width):
    assert max(map(len, screen(result, width).splitlines())) <= width


def test_a_terminal_gets_colour(result):
    assert "\x1b[" in screen(result, terminal=True)
    assert "\x1b[" not in screen(result)


def test_kinds_of_reads_are_named_by_what_is_in_them():
    made = Result([1, 2, 3], [5, 5, 5], [b"aaaaa", b"bb", b"bbbcccc", b"c"], [])
    assert [kind for kind, _, _ in made.reads()] == ["one message", "cut", "2 glued, cut", "cut"]
    assert [kind for kind, _, _ in dataclasses.replace(made, chunks=[b"aaaaabbbbb", b"ccccc"]).reads()] == [
        "2 glued",
        "one message",
    ]


def test_many_messages_are_shown_in_part_and_judged_in_whole(capsys):
    code, out, _ = run(capsys, "--messages", "200", "--seed", str(random.Random(5).randrange(1000)))
    assert code == 0
    assert "more reads" in out
    assert "200 of 200" in out


def test_it_leaves_no_thread_behind(capsys):
    before = threading.active_count()
    run(capsys)
    assert threading.active_count() == before


def test_a_pipe_that_nobody_reads_is_no_traceback():
    program = "import sys; from framing.cli import main; main(['demo', '--messages', '200'])"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        assert (process.wait(10), err) == (141, b"")


def test_an_ascii_terminal_gets_ascii():
    program = "from framing.cli import main; main(['demo', '--messages', '2', '--seed', '1'])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env={"PYTHONIOENCODING": "ascii"}, timeout=10, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    assert b"ok the wire" in done.stdout
