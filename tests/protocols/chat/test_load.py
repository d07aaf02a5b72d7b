"""The load, in small: everything is delivered, slow readers or none, and who has come and gone leaves nothing behind."""

from __future__ import annotations

import sys

import pytest

from tests.protocols.chat.load import Shape, as_dict, measure, table
from tests.protocols.chat.serving import DRIVERS


@pytest.mark.skipif(sys.platform != "linux", reason="processes are sampled as Linux has them")
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_post_comes_to_every_member_beside_slow_readers_too(tmp_path, driver):
    # Each text as long as one may be: what slow readers do not take is far more than their systems hold for them.
    shape = Shape(driver=driver, seconds=1.5, members=30, rate=60.0, size=8000, never=1, drip=4, visits=200)
    figures = measure(tmp_path, shape)
    assert not figures.wrong, "\n".join(figures.wrong)
    for part, readers in ((figures.alone, 30), (figures.among, 35), (figures.beside, 30)):
        assert part.posts == 90
        assert part.deliveries == 90 * readers
        assert 0 < part.delivery["p50"] <= part.delivery["p99"]
        assert 0 < part.acknowledgement["p50"] <= part.acknowledgement["p99"]
    # They were blocked, told so, and given the rest from the log: all of it, in order, when at last they read.
    assert min(figures.beside.slow_lagged) >= 1
    assert figures.beside.slow_counts == [90] * 5
    assert figures.beside.slow_closed == 0
    assert figures.visits.made == 200
    assert f"| {driver} |" in table([figures])
    assert as_dict(figures)["right"]
    slow, alone, among = (part.delivery["p99"] for part in (figures.beside, figures.alone, figures.among))
    assert as_dict(figures)["p99_ratios"] == (slow / alone, slow / among)
