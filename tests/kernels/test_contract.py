"""What every kernel owes the decoder (`framing.kernels.contract`), asked of each without a decoder around it."""

from __future__ import annotations

from random import Random

import pytest

from framing import Framer
from framing.kernels.contract import HUNTING
from framing.testing.samples import accepted, corrupted, tokens
from tests.conformance.registry import FRAMERS


def streams(framer: Framer) -> list[bytes]:
    rng = Random(5)
    frames = [framer.encode(payload) for payload in accepted(framer, rng, 6) if len(payload) <= 100] or [
        framer.encode(accepted(framer, rng, 1)[0])
    ]
    whole = b"".join(frames)
    spoiled = [whole + corrupted(rng, rng.choice(frames), tokens(framer)) for _ in range(6)]
    return [whole, whole[: len(whole) // 2], *spoiled]


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_the_answer_depends_on_nothing_before_the_start(framer: Framer):
    split = framer.splitter()
    for stream in streams(framer):
        payloads, used, need, memo, skipped, fault = split(stream, 0, None, 0)
        for before in (b"x", b"\x00\x7e\xc0\n" * 3):
            start = len(before)
            shifted = split(before + stream, start, None, 0)
            assert shifted == (payloads, used + start, need, memo, skipped, fault)


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_a_bytearray_gives_what_bytes_give_and_is_not_changed(framer: Framer):
    split = framer.splitter()
    for stream in streams(framer):
        data = bytearray(stream)
        payloads, *rest = split(data, 0, None, 0)
        assert [list(map(bytes, payloads)), *rest] == list(split(stream, 0, None, 0))
        assert data == stream


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_a_limit_stops_behind_so_many_and_the_rest_follows_from_there(framer: Framer):
    split = framer.splitter()
    for stream in streams(framer):
        every, end, need, memo, skipped, fault = split(stream, 0, None, 0)
        taken, at, seen = [], 0, 0
        while True:
            some, at, more, kept, passed, wrong = split(stream, at, None, 1)
            taken += some
            seen += passed
            if not some:
                break
            assert (len(some), more, kept, wrong) == (1, 0, None, None)
        assert (taken, at, more, kept, seen, wrong) == (every, end, need, memo, skipped, fault)


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_below_need_nothing_more_can_be_learned_and_a_memo_changes_no_answer(framer: Framer):
    split = framer.splitter()
    for stream in streams(framer):
        payloads, used, need, memo, _, fault = split(stream[:1], 0, None, 0)
        for size in range(2, len(stream) + 1):
            if payloads or fault is not None or used:
                break
            fresh = split(stream[:size], 0, None, 0)
            if size < need:
                assert (fresh[0], fresh[1], fresh[5]) == ([], 0, None)
                continue
            assert split(stream[:size], 0, memo, 0)[:3] == fresh[:3]
            payloads, used, need, memo, _, fault = fresh


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_nothing_gives_nothing(framer: Framer):
    for data in (b"", bytearray()):
        payloads, used, need, memo, skipped, fault = framer.splitter()(data, 0, None, 0)
        assert (payloads, used, skipped, fault) == ([], 0, 0, None)
        assert need >= 0
        assert memo in (None, HUNTING)
