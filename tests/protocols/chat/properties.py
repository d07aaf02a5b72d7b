"""The long form of the promises: the state machine of `test_promises`, for so many steps, and long lives beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from tests.protocols.chat.test_promises import Chat, live

__all__ = ["Figures", "walk"]

STEPS_IN_A_LIFE = 100
LIVES_IN_A_ROUND = 200


@dataclass(slots=True)
class Figures:
    """What was done: steps of rules, in how many lives of the machine, each of which began with an empty world."""

    seed: int
    steps: int = 0
    lives: int = 0
    seconds: float = 0.0


def walk(*, steps: int, number: int = 1, long_steps: int = 0) -> Figures:
    """Make ``steps`` steps or a few more, and in one more world ``long_steps``.

    Raises what Hypothesis does when a promise is broken.
    """
    figures = Figures(number)
    began = time.monotonic()
    checks = 0

    class Counted(Chat):
        def __init__(self) -> None:
            super().__init__()
            figures.lives += 1

        @invariant()
        def counted(self) -> None:
            nonlocal checks
            checks += 1

    while checks - figures.lives < steps:
        run_state_machine_as_test(  # type: ignore[no-untyped-call] # of Hypothesis
            seed(number)(Counted),
            settings=settings(
                max_examples=LIVES_IN_A_ROUND,
                stateful_step_count=STEPS_IN_A_LIFE,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
        number += 1
    # Invariants are looked at behind each step, and once before the first one.
    figures.steps = checks - figures.lives
    live(Random(figures.seed), steps=long_steps)
    figures.seconds = time.monotonic() - began
    return figures
