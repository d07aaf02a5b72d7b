"""Judges `Lines` and `LengthPrefixed` by Node's readline and Buffer, which need nothing from npm.

Where there is no node on PATH these tests are skipped. One process runs for all cases of a test.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess

import pytest

from framing import EncodeError, LengthPrefixed, Lines, TruncatedFrame

from .feeding import received, verdict

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node on PATH to be judged by")

READLINE = """
const lines = [];
require("readline").createInterface({input: process.stdin, crlfDelay: Infinity})
  .on("line", line => lines.push(line))
  .on("close", () => process.stdout.write(JSON.stringify(lines)));
"""
FROM_STDIN = """
const chunks = [];
process.stdin.on("data", chunk => chunks.push(chunk)).on("end", () => answer(Buffer.concat(chunks)));
"""
chance = random.Random(7)
TEXTS = [
    "",
    "a",
    "tab\there",
    "naïve ☃ 🙂",
    *("".join(chance.choices("abc é\t☃\x0b\x0c", k=chance.randrange(80))) for _ in range(60)),
]


def node(code: str, stdin: bytes = b"") -> bytes:
    assert NODE is not None
    return subprocess.run([NODE, "-e", code], input=stdin, check=True, capture_output=True).stdout


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_readline_reads_what_lines_writes(newline):
    stream = Lines(newline=newline).encode_many(text.encode() for text in TEXTS)
    assert json.loads(node(READLINE, stream)) == TEXTS


def test_lines_reads_what_node_writes():
    code = FROM_STDIN + 'function answer(data) { for (const text of JSON.parse(data)) console.log("%s", text); }'
    stream = node(code, json.dumps(TEXTS).encode())
    assert [payload.decode() for payload in received(Lines(), stream, [5])] == TEXTS


def test_readline_gives_an_unterminated_line_as_if_it_were_one():
    assert json.loads(node(READLINE, b"a\nhal")) == ["a", "hal"]
    assert verdict(Lines(), b"a\nhal") == ([b"a"], TruncatedFrame)


def test_readline_also_ends_a_line_at_a_bare_carriage_return():
    assert json.loads(node(READLINE, Lines().encode(b"one\rtwo"))) == ["one", "two"]
    assert received(Lines(), Lines().encode(b"one\rtwo")) == [b"one\rtwo"]


def test_buffer_writes_the_lengths_that_length_prefixed_reads():
    code = """
      const out = [];
      for (const size of [0, 1, 127, 128, 255, 256, 32767, 32768, 65535]) {
        const header = Buffer.alloc(6);
        header.writeUInt16BE(size, 0);
        header.writeUInt32LE(size, 2);
        out.push(header.subarray(0, 2), Buffer.alloc(size, size & 255));
      }
      process.stdout.write(Buffer.concat(out));
    """
    sizes = [0, 1, 127, 128, 255, 256, 32_767, 32_768, 65_535]
    payloads = [bytes([size & 255]) * size for size in sizes]
    stream = node(code)
    assert received(LengthPrefixed(2), stream, [1000]) == payloads
    assert stream == LengthPrefixed(2).encode_many(payloads)


def test_buffer_raises_as_we_do_where_a_length_does_not_fit():
    out = node("try { Buffer.alloc(2).writeUInt16BE(65536) } catch (error) { process.stdout.write(error.code) }")
    assert out == b"ERR_OUT_OF_RANGE"
    with pytest.raises(EncodeError):
        LengthPrefixed(2).encode(bytes(65_536))
