"""The kit can fail: for each law there is something broken that it must catch, and name the law."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from framing import Framer, LengthPrefixed, Wire
from framing.testing import LAWS, LawBroken, verify_framer, verify_wire
from tests.conformance import broken

FRAMERS = [(law, framer) for law, framers in broken.FRAMERS.items() for framer in framers]
WIRES = [(law, wire, messages) for law, wires in broken.WIRES.items() for wire, messages in wires]


def named(value: Any) -> str:
    return type(value).__name__ if isinstance(value, Framer) else str(value)[:60]


@pytest.mark.parametrize(("law", "framer"), FRAMERS, ids=named)
def test_a_broken_framer_is_caught_by_the_law_that_it_breaks(law: int, framer: Framer):
    with pytest.raises(LawBroken) as caught:
        verify_framer(framer)
    assert (caught.value.law, caught.value.name) == (law, LAWS[law])


@pytest.mark.parametrize("framer", [one for law, one in FRAMERS if law != 9], ids=named)
def test_a_few_examples_are_enough_to_catch_it(framer: Framer):
    with pytest.raises(LawBroken):
        verify_framer(framer, seed=3, examples=15)


@pytest.mark.parametrize(("law", "wire", "messages"), WIRES, ids=named)
def test_a_broken_wire_is_caught_by_the_law_that_it_breaks(law: int, wire: Wire[Any], messages: list[Any]):
    with pytest.raises(LawBroken) as caught:
        verify_wire(wire, messages=messages)
    assert (caught.value.law, caught.value.name) == (law, LAWS[law])


def test_every_law_has_a_broken_framer_and_a_broken_wire():
    assert broken.FRAMERS.keys() == LAWS.keys() == broken.WIRES.keys()


@pytest.mark.parametrize("framer", [broken.Prefixed(), broken.Dollars()], ids=named)
def test_what_the_broken_ones_were_made_from_keeps_every_law(framer: Framer):
    assert verify_framer(framer, examples=25).checks.keys() >= {1, 2, 3, 4, 5, 6, 7, 9}


def test_the_verdict_names_law_bytes_cuts_expected_and_got():
    with pytest.raises(LawBroken) as caught:
        verify_framer(broken.MissesASplitDelimiter())
    error = caught.value
    assert isinstance(error, AssertionError)
    assert (error.law, error.name) == (1, "cuts change nothing")
    assert b"$$" in error.stream
    assert b"".join(error.chunks) == error.stream
    assert len(error.chunks) == len(error.cuts) + 1
    assert error.expected != error.got
    for said in ("law 1", "MissesASplitDelimiter", "cut at", "expected", "got", "seed=0"):
        assert said in str(error)


def test_the_chunks_of_a_verdict_show_what_it_says():
    with pytest.raises(LawBroken) as caught:
        verify_framer(broken.MissesASplitDelimiter())
    whole, cut = broken.MissesASplitDelimiter().decoder(), broken.MissesASplitDelimiter().decoder()
    assert whole.feed(caught.value.stream) != [payload for chunk in caught.value.chunks for payload in cut.feed(chunk)]


def test_the_verdict_survives_a_pickle():
    with pytest.raises(LawBroken) as caught:
        verify_framer(broken.WrapsAround())
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.law, again.stream) == (str(caught.value), caught.value.law, caught.value.stream)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_gives_the_same_verdict(seed: int):
    verdicts = [verify_framer(LengthPrefixed(2), seed=seed, examples=10) for _ in range(2)]
    assert verdicts[0] == verdicts[1]
    assert str(verdicts[0]) == str(verdicts[1])
    failures = []
    for _ in range(2):
        with pytest.raises(LawBroken) as caught:
            verify_framer(broken.LimitsWhatItHasNotFound(), seed=seed)
        failures.append(str(caught.value))
    assert failures[0] == failures[1]


def test_payloads_of_the_users_own_must_be_carried():
    assert verify_framer(LengthPrefixed(1), payloads=[b"mine", b"yours"], examples=5)
    with pytest.raises(LawBroken, match="given is refused") as caught:
        verify_framer(LengthPrefixed(1), payloads=[bytes(256)], examples=5)
    assert caught.value.law == 2


def test_all_but_the_strategies_work_without_hypothesis():
    program = """
import sys
sys.modules["hypothesis"] = None
from framing import LengthPrefixed
from framing.testing import ScriptedSocket, connected, verify_framer
verify_framer(LengthPrefixed(2), examples=2)
try:
    from framing.testing import payloads
except ImportError as error:
    assert "framing[testing]" in str(error), error
else:
    raise SystemExit("strategies without Hypothesis")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
