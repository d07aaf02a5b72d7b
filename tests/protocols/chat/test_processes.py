"""The server killed in the middle of a hundred clients that post: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio

from tests.protocols.chat.kills import survive


def test_what_was_acknowledged_outlives_the_server(tmp_path):
    """One run of those that ``python -m tests.protocols.chat kill`` makes for many seeds and every driver."""
    figures = asyncio.run(survive(tmp_path, seed=1, kills=2))
    assert not figures.wrong, "\n".join(figures.wrong)
    assert figures.posts == 501
    assert figures.waiting > 0
