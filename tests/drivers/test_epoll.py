"""Epoll: what the `selectors` module promises, at a cost that idle descriptors do not add to."""

from __future__ import annotations

import os
import selectors
import socket
from selectors import EVENT_READ, EVENT_WRITE

import pytest

from framing.drivers import epoll
from framing.drivers.epoll import Epoll, best_selector
from framing.drivers.reactor import Reactor

pytestmark = pytest.mark.skipif(not epoll.HAS_EPOLL, reason="this system has no epoll")


@pytest.fixture
def selector():
    with Epoll() as one:
        yield one


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def ready(selector):
    return [(key.fileobj, key.data, events) for key, events in selector.select(0)]


def test_it_tells_what_is_ready_of_what_was_asked(selector, pair):
    one, other = pair
    key = selector.register(one, EVENT_READ, "data")
    assert key == selectors.SelectorKey(one, one.fileno(), EVENT_READ, "data")
    assert ready(selector) == []
    other.send(b"x")
    assert ready(selector) == [(one, "data", EVENT_READ)]
    selector.modify(one, EVENT_READ | EVENT_WRITE, "more")
    assert ready(selector) == [(one, "more", EVENT_READ | EVENT_WRITE)]
    selector.modify(one, EVENT_WRITE)
    assert ready(selector) == [(one, None, EVENT_WRITE)]
    assert list(selector.get_map().values()) == [selector.get_key(one.fileno())]
    selector.unregister(one)
    assert ready(selector) == []
    assert not selector.get_map()


def test_a_peer_that_is_gone_makes_ready_whatever_was_asked(selector, pair):
    one, other = pair
    selector.register(one, EVENT_READ)
    other.close()
    assert ready(selector) == [(one, None, EVENT_READ)]
    selector.modify(one, EVENT_WRITE)
    assert ready(selector) == [(one, None, EVENT_WRITE)]


def test_a_descriptor_is_as_good_as_a_file(selector, pair):
    one, _ = pair
    selector.register(one.fileno(), EVENT_WRITE)
    assert ready(selector) == [(one.fileno(), None, EVENT_WRITE)]
    assert selector.unregister(one).fd == one.fileno()


def test_what_was_closed_can_still_be_unregistered(selector, pair):
    one, other = pair
    selector.register(one, EVENT_READ)
    selector.register(other, EVENT_READ)
    one.close()
    assert selector.unregister(one).fileobj is one
    assert [key.fileobj for key in selector.get_map().values()] == [other]


def test_what_is_wrong_is_refused(selector, pair):
    one, other = pair
    selector.register(one, EVENT_READ)
    with pytest.raises(KeyError, match="registered already"):
        selector.register(one, EVENT_READ)
    for call in (selector.unregister, lambda sock: selector.modify(sock, EVENT_READ)):
        with pytest.raises(KeyError, match="not registered"):
            call(other)
    for events in (0, 4):
        with pytest.raises(ValueError, match="EVENT_READ, EVENT_WRITE or both"):
            selector.register(other, events)
    assert [key.fileobj for key in selector.get_map().values()] == [one]


def test_a_file_that_never_has_to_wait_is_refused_as_by_the_systems_own(selector, tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(PermissionError):
        selector.register(file, EVENT_WRITE)
    assert not selector.get_map()


def test_a_wait_is_no_longer_than_was_asked_and_a_time_that_has_passed_is_none(selector):
    assert selector.select(0.01) == []
    assert selector.select(-1) == []


def test_everybody_who_is_ready_gets_a_turn_though_they_are_more_than_one_wait_gives(selector, monkeypatch):
    monkeypatch.setattr(epoll, "MOST_EVENTS", 3)
    ends = [os.pipe() for _ in range(10)]
    try:
        for _, end in ends:
            selector.register(end, EVENT_WRITE)
        turns = [len(ready(selector)) for _ in range(3)]
        assert turns == [3, 3, 3]
        met = {number for _ in range(10) for number, _, _ in ready(selector)}
        assert met == {end for _, end in ends}
    finally:
        for end in ends:
            for number in end:
                os.close(number)


def test_a_loop_waits_with_it_unless_it_is_given_another():
    own, given = Reactor(), Reactor(selectors.SelectSelector())
    assert type(own._selector) is type(best_selector()) is Epoll
    assert type(given._selector) is selectors.SelectSelector
    own.shut()
    given.shut()
    given._selector.close()
