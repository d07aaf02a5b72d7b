"""A reset that a write has met: the system tells it once, so a read behind it finds what looks like an end, and is none."""

from __future__ import annotations

import select
import selectors
import socket
import struct
import sys

import pytest

from framing import ConnectionReset, FramingError, TruncatedFrame, Wire
from framing.drivers import blocking, nonblocking
from tests.drivers.every.services import until

WIRE = Wire.parse("u32+json")
WHOLE = WIRE.encode_many(["one", "two"])


def broken(said: bytes) -> socket.socket:
    """A socket whose peer has said so much, and has then reset the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.sendall(said)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    waiting = select.poll()
    waiting.register(ours, 0)
    until(lambda: waiting.poll(100))  # for the error, which is announced unasked
    return ours


def receive_all(receive) -> tuple[list[object], FramingError]:
    got: list[object] = []
    try:
        while True:
            got += receive()
    except FramingError as error:
        return got, error


pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems may drop what was not read before the reset"
)


@pytest.mark.parametrize("kept", range(len(WHOLE) + 1))
def test_what_was_whole_comes_first_and_then_the_reset_wherever_it_was(kept):
    for driver in (blocking, nonblocking):
        sock = broken(WHOLE[:kept])
        sock.setblocking(driver is blocking)
        with driver.Connection(sock, WIRE) as connection:
            if driver is blocking:
                with pytest.raises(ConnectionReset):
                    connection.send("met")
                receive = connection.receive_batch
            else:
                connection.send("met")
                receive = lambda connection=connection: connection.handle(selectors.EVENT_READ)  # noqa: E731 # as short as the other
            got, error = receive_all(receive)
            first = len(WIRE.encode("one"))
            assert got == ["one", "two"][: (kept >= first) + (kept == len(WHOLE))], driver
            assert type(error) is ConnectionReset, f"{driver.__name__}: {error!r}"
            again = receive_all(receive)
            assert again[0] == []
            assert type(again[1]) is ConnectionReset


def test_a_broken_pipe_behind_the_peers_own_end_inside_a_frame_leaves_that_end_what_it_is():
    for driver in (blocking, nonblocking):
        ours, theirs = socket.socketpair()
        theirs.sendall(WHOLE[:-1])
        theirs.close()
        ours.setblocking(driver is blocking)
        with driver.Connection(ours, WIRE) as connection:
            try:
                connection.send("met")
            except BrokenPipeError:
                assert driver is blocking
            receive = (
                connection.receive_batch if driver is blocking else lambda c=connection: c.handle(selectors.EVENT_READ)
            )
            got, error = receive_all(receive)
            assert got == ["one"], driver
            assert type(error) is TruncatedFrame, f"{driver.__name__}: {error!r}"
