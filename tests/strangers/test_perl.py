"""Judges `LengthPrefixed` by Perl's ``pack`` and ``unpack``, whose ``N/a*`` means "a length, then so many bytes".

Perl is on nearly every Unix; where it is not, these tests are skipped. One process runs for all cases of a test.
"""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from framing import EncodeError, LengthPrefixed, TruncatedFrame

from .feeding import received, verdict

PERL = shutil.which("perl")
pytestmark = pytest.mark.skipif(PERL is None, reason="there is no perl on PATH to be judged by")

WIDTHS = pytest.mark.parametrize(
    ("template", "framer"),
    [
        ("C", LengthPrefixed(1)),
        ("n", LengthPrefixed(2)),
        ("v", LengthPrefixed(2, "little")),
        ("N", LengthPrefixed(4)),
        ("V", LengthPrefixed(4, "little")),
    ],
)
chance = random.Random(5)
PAYLOADS = [b"", b"a", bytes(range(256))[:255], *(chance.randbytes(chance.randrange(256)) for _ in range(40))]


def perl(code: str, stdin: bytes = b"") -> bytes:
    assert PERL is not None
    return subprocess.run(
        [PERL, "-e", "binmode STDIN; binmode STDOUT; local $/;" + code], input=stdin, check=True, capture_output=True
    ).stdout


@WIDTHS
def test_perl_unpacks_what_length_prefixed_writes(template, framer):
    out = perl(
        f'print join(" ", map {{ "x" . unpack("H*", $_) }} unpack("({template}/a*)*", <STDIN>))',
        framer.encode_many(PAYLOADS),
    )
    assert [bytes.fromhex(word[1:]) for word in out.decode().split(" ")] == PAYLOADS


@WIDTHS
def test_length_prefixed_reads_what_perl_packs(template, framer):
    words = " ".join("x" + payload.hex() for payload in PAYLOADS).encode()
    out = perl(f'print pack("({template}/a*)*", map {{ pack("H*", substr($_, 1)) }} split(/ /, <STDIN>))', words)
    assert received(framer, out, [7]) == PAYLOADS
    assert out == framer.encode_many(PAYLOADS)


def test_perl_wraps_a_length_that_does_not_fit_around():
    out = perl('print pack("C/a*", "x" x 300)')
    assert out == bytes([300 % 256]) + b"x" * 300
    with pytest.raises(EncodeError):
        LengthPrefixed(1).encode(b"x" * 300)


def test_perl_takes_half_a_frame_for_a_whole_one():
    assert perl('print join("|", unpack("(N/a*)*", <STDIN>))', b"\0\0\0\1a\0\0\0\5bc") == b"a|bc"
    assert verdict(LengthPrefixed(4), b"\0\0\0\1a\0\0\0\5bc") == ([b"a"], TruncatedFrame)
