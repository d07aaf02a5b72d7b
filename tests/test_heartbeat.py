"""Heartbeats of a channel: what is sent when, what the caller never sees, and who counts as gone."""

from __future__ import annotations

import math
from typing import Any

import pytest

from framing import JSON, EncodeError, LengthPrefixed, Lines, Timeout, Wire
from framing.channel import Channel, Heartbeat, State

WIRE: Wire[Any] = Wire(LengthPrefixed(4), JSON())


def written(channel: Channel[Any], now: float) -> list[Any]:
    """What the channel writes, as the peer would receive it; all of it counts as written at ``now``."""
    out = b"".join(channel.outgoing())
    channel.sent(len(out), now)
    return WIRE.decoder().feed(out) if out else []


def test_a_ping_is_due_when_nothing_was_written_for_an_interval() -> None:
    channel = Channel(WIRE, heartbeat=Heartbeat("ping", interval=10))
    assert channel.deadline == 10
    channel.expire(9.9)
    assert written(channel, 9.9) == []
    channel.expire(10)
    assert written(channel, 10) == ["ping"]
    channel.receive(WIRE.encode("hello"), 12)
    channel.send("busy")
    assert written(channel, 15) == ["busy"]
    channel.expire(20)
    assert written(channel, 20) == []
    channel.expire(25)
    assert written(channel, 25) == ["ping"]


def test_silence_fails_the_channel() -> None:
    channel = Channel(WIRE, heartbeat=Heartbeat("ping", interval=10, timeout=25))
    for now in (10.0, 20.0):
        channel.expire(now)
        assert written(channel, now) == ["ping"]
    assert channel.deadline == 25
    with pytest.raises(Timeout, match="nothing was heard from the peer for 25 s"):
        channel.expire(25)
    assert channel.state is State.FAILED
    with pytest.raises(Timeout):
        channel.receive(b"")


def test_anything_heard_is_a_sign_of_life() -> None:
    channel = Channel(WIRE, heartbeat=Heartbeat("ping", interval=10))
    channel.expire(10)
    channel.receive(WIRE.encode("x")[:3], 19)
    for now in (20.0, 30.0, 38.9):
        channel.expire(now)
    with pytest.raises(Timeout):
        channel.expire(39)


def test_a_peer_that_was_not_asked_because_nobody_looked_has_its_time_to_answer() -> None:
    channel = Channel(WIRE, heartbeat=Heartbeat("ping", interval=10))
    channel.expire(1000)
    assert written(channel, 1000) == ["ping"]
    assert channel.deadline == 1010
    with pytest.raises(Timeout):
        channel.expire(1010)


def test_the_heartbeats_own_messages_never_reach_the_caller() -> None:
    channel = Channel(WIRE, heartbeat=Heartbeat(1, pong=2, interval=10))
    got = channel.receive(WIRE.encode_many([1, "a", 2, True, 1, 1.0, "b"]), 1)
    # 1 == True == 1.0, but only an int is the ping.
    assert got == ["a", True, 1.0, "b"]
    assert [type(one) for one in got] == [str, bool, float, str]
    assert written(channel, 1) == [2]


def test_two_peers_with_the_same_heartbeat_keep_each_other_alive() -> None:
    beat = Heartbeat({"beat": 0}, interval=10)
    a, b = Channel(WIRE, heartbeat=beat), Channel(WIRE, heartbeat=beat)
    for second in range(1, 200):
        now = float(second)
        for one, other in ((a, b), (b, a)):
            one.expire(now)
            out = b"".join(one.outgoing())
            one.sent(len(out), now)
            if out:
                assert other.receive(out, now) == []
    assert a.state is b.state is State.OPEN


def test_a_peer_without_the_option_is_fine_with_a_timeout_without_end() -> None:
    channel = Channel(WIRE, heartbeat=Heartbeat("ping", interval=10, timeout=math.inf))
    for now in (10.0, 20.0, 1e6):
        channel.expire(now)
        assert written(channel, now) == ["ping"]


def test_pings_do_not_pile_up_behind_what_the_peer_does_not_take() -> None:
    channel = Channel(WIRE, heartbeat=Heartbeat("ping", interval=1, timeout=1000))
    channel.send("stuck")
    for second in range(1, 100):
        channel.expire(float(second))
    assert written(channel, 100) == ["stuck"]


def test_after_this_sides_end_nothing_is_sent_and_silence_still_counts() -> None:
    channel = Channel(WIRE, heartbeat=Heartbeat("ping", interval=10))
    channel.send_eof()
    assert channel.deadline == 20
    channel.expire(15)
    assert written(channel, 15) == []
    with pytest.raises(Timeout):
        channel.expire(20)


def test_a_ping_that_cannot_be_encoded_is_found_at_once() -> None:
    with pytest.raises(EncodeError):
        Channel(Wire(Lines()), heartbeat=Heartbeat(b"two\nlines"))


@pytest.mark.parametrize("options", [{"interval": 0}, {"timeout": 0}, {"interval": -1}, {"interval": math.nan}])
def test_a_heartbeat_without_time_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give seconds above 0"):
        Heartbeat("ping", **options)
