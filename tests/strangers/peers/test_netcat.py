"""``nc``, which has no framing at all: what people type into it are lines, and ``framing-echo`` answers them.

Debian's ``netcat-openbsd``; both directions, over TCP and unix sockets, with the half-close that ``-N`` makes.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from framing import ConnectionClosed, TruncatedFrame, Wire
from framing.drivers import blocking

from .programs import (
    LOOPBACK,
    SECONDS,
    connected,
    directory,
    every_driver,
    found,
    framing_echo,
    our_recorder,
    piped,
    said,
    wait_until,
)

TEXTS = ["hello", "", "naïve ☃ 🙂", "tab\there", *(str(number) * 20 for number in range(2000))]
STREAM = "".join(f"{text}\n" for text in TEXTS).encode()


@pytest.fixture(scope="module", params=["selector", "threads", "asyncio"])
def echo(request: pytest.FixtureRequest) -> Iterator[int]:
    with framing_echo("lines+text", "--driver", request.param) as port:
        yield port


def nc(*options: str) -> list[str]:
    # Debian has two of them, and each is called nc where it is the only one.
    return [found("nc.openbsd", "netcat-openbsd"), *options]


def test_lines_typed_into_nc_are_answered_also_behind_its_half_close(echo):
    assert said(nc("-N", LOOPBACK, str(echo)), STREAM) == STREAM


def test_lines_that_nc_ends_with_crlf_are_answered(echo):
    assert said(nc("-N", "-C", LOOPBACK, str(echo)), STREAM) == STREAM


@every_driver
def test_line_without_its_end_is_answered_by_nobody_and_told_to_the_service(driver):
    with our_recorder("lines+text", driver) as (port, recorder):
        said(nc("-N", LOOPBACK, str(port)), b"whole\nhal")
        wait_until(lambda: recorder.ends, "the connection has ended")
    assert recorder.got == ["whole"]
    assert [type(error) for error in recorder.ends] == [TruncatedFrame]


def test_bytes_that_are_no_text_are_refused_and_end_that_connection_alone(echo):
    assert said(nc("-N", LOOPBACK, str(echo)), b"good\nb\xffd\nnever\n") == b"good\n"
    assert said(nc("-N", LOOPBACK, str(echo)), b"good\n") == b"good\n"


def test_packets_that_nc_sends_are_answered():
    with (
        framing_echo("lines+text", listen=f"udp://{LOOPBACK}:0") as port,
        piped(nc("-u", LOOPBACK, str(port))) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for text in TEXTS[:100]:
            if text:
                process.stdin.write(f"{text}\n".encode())  # the line's end is a part of what is in the packet
                process.stdin.flush()
                assert process.stdout.readline().decode() == f"{text}\n"


def test_our_client_talks_to_a_listening_nc():
    with piped(nc("-l", "-N", "-v", "-s", LOOPBACK, "-p", "0"), stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stderr:
            port = re.search(rb" (\d+)$", process.stderr.readline().strip())
            assert port is not None
            with connected(int(port[1]), "lines+text") as connection:
                connection.send_many(TEXTS)
                process.stdin.write(STREAM)
                process.stdin.close()
                assert [connection.receive() for _ in TEXTS] == TEXTS
                with pytest.raises(ConnectionClosed):
                    connection.receive()
            assert process.stdout.read() == STREAM


def test_our_client_talks_to_nc_at_a_unix_socket():
    with directory() as place, piped(nc("-l", "-N", "-U", str(place / "socket"))) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        wait_until((place / "socket").exists, "nc listens")
        with blocking.connect(f"unix:{place / 'socket'}", Wire.parse("lines+text"), timeout=SECONDS) as connection:
            connection.send("to nc")
            process.stdin.write(b"from nc\n")
            process.stdin.flush()
            assert connection.receive() == "from nc"
            connection.close_sending()
            assert process.stdout.readline() == b"to nc\n"
