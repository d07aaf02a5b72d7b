"""The load, in small: everything is delivered, slow readers or none, and who has come and gone leaves nothing behind."""

from __future__ import annotations

import sys
from itertools import count

import pytest

from protocols.chat import hub as server
from protocols.chat.hub import Hub
from protocols.chat.log import MemoryLog
from tests.protocols.chat.load import Shape, as_dict, measure, table
from tests.protocols.chat.serving import DRIVERS


@pytest.mark.skipif(sys.platform != "linux", reason="processes are sampled as Linux has them")
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_post_comes_to_every_member_beside_slow_readers_too(tmp_path, driver):
    shape = Shape(driver=driver, seconds=1.5, members=30, rate=60.0, never=1, drip=4, visits=200)
    figures = measure(tmp_path, shape)
    assert not figures.wrong, "\n".join(figures.wrong)
    for part in (figures.alone, figures.beside):
        assert part.posts == 90
        assert part.deliveries == 90 * 30
        assert 0 < part.delivery["p50"] <= part.delivery["p99"]
        assert 0 < part.acknowledgement["p50"] <= part.acknowledgement["p99"]
    assert figures.visits.made == 200
    assert f"| {driver} |" in table([figures])
    assert as_dict(figures)["right"]


def test_ten_thousand_who_join_and_leave_leave_nothing_in_the_hub():
    tokens = count()
    hub = Hub(MemoryLog(), make_token=lambda size: f"token-{next(tokens)}")
    held = []
    for number in range(10_000):
        now = number / 100

        def give(*inputs):
            outputs = hub.handle(inputs, now, int(now * 1000))  # noqa: B023 # called in this round alone
            return [output.message for output in outputs if isinstance(output, server.Send)]

        hello = {"type": "hello", "version": 1, "name": f"v{number}", "resume": {"token": f"my own token {number}"}}
        session = give(server.Opened(number), server.Received(number, hello))[0].session
        give(server.Received(number, {"type": "join", "id": [session, 1], "room": f"room{number % 10}"}))
        if number % 2:
            give(server.Received(number, {"type": "leave", "id": [session, 2], "room": f"room{number % 10}"}))
        give(server.Received(number, {"type": "bye"}), server.Closed(number))
        held.append(hub.held)
    assert held[-1] == held[20]
    assert held[-1]["sessions"] == held[-1]["tokens"] == held[-1]["connections"] == 0
    assert hub.rooms == {}
