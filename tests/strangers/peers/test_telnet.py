"""telnet, typed into by a pipe: it sends CRLF, and ``framing-echo`` answers its lines as it answers those of ``nc``.

A telnet is more than a pipe: it has commands, which begin with the byte FF. They are no business of a framer's; what that
means is shown.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from framing import Lines

from .programs import LOOPBACK, accepted, found, framing_echo, listening, piped

TEXTS = ["hello", "naïve ☃ 🙂", "tab\there", *(str(number) * 20 for number in range(200))]


@contextmanager
def telnet(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """telnet, connected: what it says before that has been read."""
    with piped([found("telnet", "inetutils-telnet"), LOOPBACK, str(port)], stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for first in (b"Trying", b"Connected", b"Escape"):
            assert process.stdout.readline().startswith(first)
        yield process


def type_in(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


@pytest.mark.parametrize("driver", ["selector", "threads", "asyncio"])
@pytest.mark.parametrize("spec", ["lines+text", "crlf+text"])
def test_lines_typed_into_telnet_are_answered(spec, driver):
    with framing_echo(spec, "--driver", driver) as port, telnet(port) as process:
        assert process.stdout is not None
        for text in TEXTS:
            type_in(process, f"{text}\n".encode())
            assert process.stdout.readline().decode().rstrip("\r\n") == text


def test_telnet_ends_its_lines_with_crlf_and_doubles_the_byte_that_its_commands_begin_with():
    with listening() as listener, telnet(listener.getsockname()[1]) as process, accepted(listener) as sock:
        type_in(process, b"one\ntw\xffo\n")
        stream = b""
        while stream.count(b"\n") < 2:
            stream += sock.recv(100)
    assert stream == b"one\r\ntw\xff\xffo\r\n"
    assert Lines().decoder().feed(stream) == [b"one", b"tw\xff\xffo"]  # UTF-8 has no such byte: text goes unharmed
