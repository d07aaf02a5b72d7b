"""What servers bear with: the options, the same in every driver, and the two judgments, on a clock of the test's own."""

from __future__ import annotations

import inspect
import socket

import pytest

from framing import Heartbeat, Timeout, Wire
from framing.drivers import aio, blocking, limits, selector
from framing.drivers.address import Address
from framing.drivers.limits import LINGER, LONGEST_LINGER, NEVER, QUIET, Limits, Linger, SlowReader

WIRE = Wire.parse("u32+json")
LOCAL = ("127.0.0.1", 0)
PEER = Address("tcp", "192.0.2.1", 9)


class Echo:
    def received(self, peer, message):
        peer.send(message)


# ---------------------------------------------------------------------------------------------------- options

SERVERS = [blocking.Server, selector.Server, aio.serve, aio.StandaloneServer]
OWN = {"selector", "loop_factory"}  # what one driver alone can be given: what it waits with
DIFFERENT = {"max_connections"}  # a thread costs more than an entry in a selector


def options_of(server):
    return {
        name: parameter.default
        for name, parameter in inspect.signature(server).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in OWN
    }


@pytest.mark.parametrize("server", SERVERS[1:], ids=lambda server: server.__module__)
def test_every_server_has_the_same_options_in_the_same_order_with_the_same_defaults(server):
    expected, found = options_of(SERVERS[0]), options_of(server)
    assert list(found) == list(expected)
    assert {name for name in found if found[name] != expected[name]} <= DIFFERENT


def test_the_limits_of_a_connection_have_the_servers_defaults():
    defaults, own = options_of(SERVERS[0]), Limits()
    for name in ("frame_timeout", "slow_reader_timeout", "high_water", "low_water", "max_queued", "heartbeat"):
        assert getattr(own, name) == defaults[name]


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: f"{server.__module__}.{server.__name__}")
@pytest.mark.parametrize(
    "options",
    [
        {"max_connections": 0},
        {"frame_timeout": 0},
        {"idle_timeout": -1},
        {"handshake_timeout": 0.0},
        {"slow_reader_timeout": float("nan")},
        {"drain_timeout": -0.1},
        {"drain_timeout": float("nan")},
        {"low_water": 2, "high_water": 1},
        {"low_water": -1},
        {"max_queued": (1 << 16) - 1},
    ],
    ids=str,
)
def test_every_server_refuses_what_cannot_be_before_it_opens_anything(server, options, monkeypatch):
    def no_socket(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    with pytest.raises(ValueError, match=next(iter(options))):
        server(LOCAL, WIRE, Echo(), **options)


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: f"{server.__module__}.{server.__name__}")
def test_every_server_takes_none_for_no_limit_and_a_heartbeat_must_fit_its_wire(server):
    nothing = dict.fromkeys(
        ["frame_timeout", "idle_timeout", "handshake_timeout", "slow_reader_timeout", "max_queued", "heartbeat"]
    )
    made = server(LOCAL, WIRE, Echo(), drain_timeout=0, **nothing)
    if server is not aio.serve:
        made.close()
    with pytest.raises(ValueError, match="JSON"):
        server(LOCAL, WIRE, Echo(), heartbeat=Heartbeat(object()))


def test_one_may_be_looked_at_as_often_as_its_shortest_deadline_is_long():
    assert Limits().period == 30
    assert Limits(frame_timeout=5, idle_timeout=7, slow_reader_timeout=None).period == 5
    assert Limits(heartbeat=Heartbeat("x", interval=2)).period == 2
    assert Limits(frame_timeout=None, slow_reader_timeout=None).period is None


# ------------------------------------------------------------------------------------------------- slow readers


def test_who_takes_what_it_should_in_each_window_is_waited_for_as_long_as_it_goes_on():
    slowness = SlowReader(10, 50_000)
    taken = 7
    for turn in range(100):
        now = turn * 9.9
        assert not slowness.look(now, taken, slow=True)
        assert now < slowness.due <= now + 10
        taken += 50_000


def test_who_takes_less_is_not_waited_for_beyond_its_time():
    slowness = SlowReader(10, 50_000)
    for turn in range(10):
        assert not slowness.look(100 + turn, 1000 + turn * 5554, slow=True)
    assert slowness.due == 110
    assert slowness.look(110, 1000 + 49_999, slow=True)
    verdict = slowness.verdict(PEER, 12_345)
    assert isinstance(verdict, Timeout)
    assert "does not read" in str(verdict)
    assert "12345 bytes" in str(verdict)
    assert (verdict.address, verdict.seconds, verdict.queued) == (PEER, 10, 12_345)


def test_who_is_down_at_the_low_mark_once_has_all_its_time_again():
    slowness = SlowReader(10, 50_000)
    assert not slowness.look(0, 0, slow=True)
    assert not slowness.look(9, 5, slow=False)
    assert slowness.due == NEVER
    assert not slowness.look(11, 5, slow=True)
    assert slowness.due == 21
    assert slowness.look(21, 6, slow=True)


@pytest.mark.parametrize("high_water", [0, 1, 100])
def test_a_drip_is_no_progress_however_low_the_marks_are(high_water):
    slowness = SlowReader(10, high_water)
    taken = 0
    for now in range(10):
        taken += 100
        assert not slowness.look(now, taken, slow=True)
    assert slowness.look(10, taken, slow=True)


def test_without_a_time_nobody_is_too_slow():
    slowness = SlowReader(None, 0)
    assert not slowness.look(0, 0, slow=True)
    assert not slowness.look(1e9, 0, slow=True)
    assert slowness.due == NEVER


# ------------------------------------------------------------------------------------------------- lingering


def test_a_quiet_peer_is_waited_for_a_moment():
    assert Linger(100, hurried=False).due == 100 + LINGER
    assert Linger(100, hurried=True).due == 100 + QUIET


def test_a_peer_that_still_sends_is_waited_for_longer_and_not_for_ever():
    for hurried, quiet, longest in ((False, LINGER, LONGEST_LINGER), (True, QUIET, LINGER)):
        linger = Linger(100, hurried=hurried)
        now = 100.0
        while now < linger.due:
            linger.threw(0, now)  # a look at which nothing was there is no news
            now += quiet * 0.9
            linger.threw(1, now)
        assert longest <= now - 100 < longest + quiet


def test_somebody_may_begin_to_wait_at_any_time():
    linger = Linger(100, hurried=False)
    linger.threw(10, 100.5)
    linger.hurried = True
    assert linger.due == 100.5 + QUIET


def test_whoever_sends_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(limits, "LINGER_BYTES", 1000)
    linger = Linger(100, hurried=False)
    linger.threw(1000, 100)
    assert linger.due > 100
    linger.threw(1, 100)
    assert linger.due < 100
