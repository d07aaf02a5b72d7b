"""Every law over every framer and every wire; `FRAMING_THOROUGH=20` looks twenty times as long."""

from __future__ import annotations

import os
from typing import Any

import pytest

from framing import Framer, Wire
from framing.testing import verify_framer, verify_wire
from tests.conformance.registry import FRAMERS, PRESETS, WIRES

THOROUGH = int(os.environ.get("FRAMING_THOROUGH", "1"))


@pytest.mark.parametrize("framer", FRAMERS, ids=repr)
def test_a_framer_keeps_every_law(framer: Framer) -> None:
    for seed in range(THOROUGH):
        verdict = verify_framer(framer, seed=seed, examples=12 if THOROUGH == 1 else 60)
        # The third and the eighth are judged by errors, which some framers have no way to make (any length is right).
        assert set(verdict.checks) >= {1, 2, 4, 5, 6, 7, 9}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_keeps_every_law(name: str) -> None:
    for seed in range(THOROUGH):
        verify_framer(PRESETS[name], seed=seed, examples=5 if THOROUGH == 1 else 60)


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_a_wire_keeps_every_law(wire: Wire[Any]) -> None:
    for seed in range(THOROUGH):
        verdict = verify_wire(wire, seed=seed, examples=5 if THOROUGH == 1 else 60)
        assert set(verdict.checks) >= {1, 2, 4, 5, 6, 7, 9}
