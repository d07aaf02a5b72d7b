"""A connected pair carries messages both ways, cut as the test wants them."""

from __future__ import annotations

import pytest

from framing import (
    JSON,
    ConnectionClosed,
    CorruptFrame,
    DecodeError,
    LengthPrefixed,
    Lines,
    Netstring,
    TruncatedFrame,
    Wire,
)
from framing.testing import connected

WIRE = Wire(LengthPrefixed(4), JSON())


def test_messages_go_both_ways():
    near, far = connected(WIRE)
    near.send([1])
    near.send({"a": 2})
    assert far.receive() == [[1], {"a": 2}]
    far.send("reply")
    assert near.receive() == ["reply"]
    assert near.receive() == far.receive() == []


@pytest.mark.parametrize("seed", range(5))
def test_cut_at_random_they_are_the_same(seed: int):
    near, far = connected(WIRE, seed=seed)
    messages = [list(range(size)) for size in range(40)]
    for message in messages:
        near.send(message)
    assert far.receive() == messages


def test_the_same_seed_cuts_the_same_way():
    chunks = []
    for _ in range(2):
        near, far = connected(WIRE, seed=7)
        seen: list[bytes] = []
        plain = far.channel.receive
        far.channel, channel = Noting(plain, seen, far.channel), far.channel
        near.send("x" * 1000)
        far.receive()
        far.channel = channel
        chunks.append(seen)
    assert chunks[0] == chunks[1]
    assert len(chunks[0]) > 1


class Noting:
    def __init__(self, receive, seen, channel):
        self._receive, self._seen, self._channel = receive, seen, channel

    def receive(self, chunk):
        self._seen.append(chunk)
        return self._receive(chunk)

    def __getattr__(self, name):
        return getattr(self._channel, name)


def test_a_cut_of_the_tests_own():
    near, far = connected(WIRE, cut=lambda stream: [stream[at : at + 1] for at in range(len(stream))])
    near.send([1, 2])
    assert far.receive() == [[1, 2]]


def test_the_end_of_the_stream_comes_behind_the_last_message():
    near, far = connected(WIRE)
    near.send(1)
    near.send_eof()
    assert far.receive() == [1]
    with pytest.raises(ConnectionClosed):
        far.receive()
    far.send(2)
    assert near.receive() == [2]


def test_a_frame_spoiled_on_its_way_fails_behind_the_good_ones():
    near, far = connected(Wire(Netstring()))
    near.send(b"good")
    far.deliver(near.written() + b"1:xy")
    assert far.receive() == [b"good"]
    for _ in range(2):
        with pytest.raises(CorruptFrame):
            far.receive()


def test_a_refused_message_is_raised_at_its_place_and_those_behind_it_come():
    _, far = connected(Wire(Lines(), JSON()))
    far.deliver(b"1\n{\n2\n")
    assert far.receive() == [1]
    with pytest.raises(DecodeError):
        far.receive()
    assert far.receive() == [2]


def test_a_stream_that_ends_in_a_frame_is_truncated():
    near, far = connected(WIRE)
    near.send([1, 2])
    far.deliver(near.written()[:-1])
    near.close()
    with pytest.raises(TruncatedFrame):
        far.receive()


def test_options_go_to_both_channels():
    ends = connected(WIRE, high_water=10, low_water=5)
    assert [end.channel.high_water for end in ends] == [10, 10]
