"""Latencies: percentiles of any number of times, right within one per cent, in little memory."""

from __future__ import annotations

import random

import pytest

from protocols.echo.latencies import Latencies


@pytest.mark.parametrize("percent", [0.1, 1, 50, 90, 99, 99.9])
def test_percentiles_are_right_within_one_per_cent(percent):
    chance = random.Random(3)
    times = sorted(chance.lognormvariate(-7, 3) for _ in range(20_000))
    latencies = Latencies()
    for seconds in times:
        latencies.add(seconds)
    right = times[max(round(len(times) * percent / 100) - 1, 0)]
    assert right * 0.99 - 2e-9 <= latencies.percentile(percent) <= right * 1.01 + 2e-9
    assert latencies.count == len(times)


def test_the_longest_is_exact_and_no_percentile_is_above_it():
    latencies = Latencies()
    for seconds in (0.001, 0.0123456789, 0.002):
        latencies.add(seconds)
    assert latencies.longest == latencies.percentile(100) == latencies.percentile(99) == 0.0123456789


def test_of_none_all_are_zero():
    assert [Latencies().percentile(percent) for percent in (0, 50, 100)] == [0.0, 0.0, 0.0]


def test_many_times_take_no_more_room_than_some():
    latencies = Latencies()
    chance = random.Random(4)
    for _ in range(50_000):
        latencies.add(chance.random())
    assert len(latencies._buckets) < 5000
