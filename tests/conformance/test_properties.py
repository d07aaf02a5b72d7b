"""Hypothesis on top: payloads and cuts that nobody thought of, over every framer and wire.

`FRAMING_THOROUGH=20` tries twenty times as many.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framing import Framer, Wire
from framing.testing import cuts, messages, payloads
from framing.testing.runs import Outcome, chunked, run, same
from framing.testing.samples import corrupted, tokens
from tests.conformance.registry import FRAMERS, PRESETS, WIRES

EXAMPLES = 6 * int(os.environ.get("FRAMING_THOROUGH", "1"))
few = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 6,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
EVERY = (*FRAMERS, *PRESETS.values())


@pytest.mark.parametrize("framer", EVERY, ids=lambda framer: repr(framer)[:100])
@few
@given(data=st.data())
def test_payloads_come_out_of_any_chunks_as_they_went_in(framer: Framer, data: st.DataObject) -> None:
    sent = data.draw(st.lists(payloads(framer), max_size=5))
    frames = [framer.encode(payload) for payload in sent]
    stream = b"".join(frames)
    edges = [sum(map(len, frames[:count])) for count in range(len(frames))]
    chunks = data.draw(cuts(stream, boundaries=edges))
    assert run(framer.decoder, chunks).outcome == Outcome(tuple(sent), None, 0, b"")
    assert framer.encode_many(sent) == stream


@pytest.mark.parametrize("framer", FRAMERS, ids=lambda framer: repr(framer)[:100])
@few
@given(data=st.data())
def test_a_spoiled_stream_gives_the_same_in_any_chunks(framer: Framer, data: st.DataObject) -> None:
    frames = [framer.encode(payload) for payload in data.draw(st.lists(payloads(framer), min_size=1, max_size=3))]
    rng = data.draw(st.randoms(use_true_random=False))
    stream = b"".join(frames) + corrupted(rng, frames[-1], tokens(framer)) + frames[0]
    chunks = data.draw(cuts(stream))
    assert run(framer.decoder, chunks).outcome == run(framer.decoder, [stream]).outcome


@pytest.mark.parametrize("wire", WIRES, ids=str)
@few
@given(data=st.data())
def test_messages_come_out_of_any_chunks_as_they_went_in(wire: Wire[Any], data: st.DataObject) -> None:
    from framing import EncodeError

    sent = []
    frames = []
    for message in data.draw(st.lists(messages(wire.codec), max_size=4)):
        try:
            frames.append(wire.encode(message))
        except EncodeError:
            # The codec takes it and the framer does not: it holds the delimiter.
            continue
        sent.append(message)
    chunks = data.draw(cuts(b"".join(frames)))
    assert same(run(wire.decoder, chunks).outcome, Outcome(tuple(sent), None, 0, b""))


@few
@given(stream=st.binary(max_size=40), data=st.data())
def test_the_chunks_of_cuts_make_up_the_stream(stream: bytes, data: st.DataObject) -> None:
    assert b"".join(data.draw(cuts(stream, boundaries=[1, 5]))) == stream


def test_cuts_are_found_whole_in_bytes_and_with_empty_chunks() -> None:
    from hypothesis import find

    stream = b"abcdef"
    assert find(cuts(stream), lambda chunks: len(chunks) == 1) == [stream]
    assert find(cuts(stream), lambda chunks: max(map(len, chunks)) == 1 and b"" not in chunks) == chunked(
        stream, range(1, 6)
    )
    assert b"" in find(cuts(stream), lambda chunks: b"" in chunks)
    assert find(cuts(stream, boundaries=[3]), lambda chunks: b"abc" in chunks) == [b"abc", b"def"]


def test_payloads_shrink_to_the_shortest_that_fails() -> None:
    from hypothesis import find

    from tests.conformance.broken import Prefixed

    assert find(payloads(Prefixed()), lambda payload: len(payload) >= 3) in (b"\x00\x00\x00", b"aaa")
    assert find(payloads(FRAMERS[10]), lambda frame: len(frame) > 5) == b"\x00\x00\x03\x00\x00\x00"
