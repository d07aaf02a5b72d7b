"""The compiled twin says what the reference says: the same answers, the same errors, on good streams and on hostile ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import framing
from tests.kernels.comparing import REQUIRED, compare_call, compare_carry, compare_splitter, native, needs_twin
from tests.kernels.twins import FUNCTIONS, SAMPLES, SPLITTERS, Function, Splitter

UNTIMED = settings(deadline=None)


@needs_twin
@pytest.mark.parametrize("twin", SPLITTERS, ids=lambda twin: twin.name)
def test_a_compiled_splitter_says_what_its_reference_says(twin: Splitter) -> None:
    @UNTIMED
    @given(st.data())
    def hold(data: st.DataObject) -> None:
        compare_splitter(twin, data)

    hold()


@needs_twin
@pytest.mark.parametrize("twin", FUNCTIONS, ids=lambda twin: twin.name)
def test_a_compiled_function_says_what_its_reference_says(twin: Function) -> None:
    @UNTIMED
    @given(twin.arguments)
    def hold(arguments: tuple[Any, ...]) -> None:
        compare_call(twin, *arguments)

    hold()


@needs_twin
@pytest.mark.parametrize("twin", SPLITTERS, ids=lambda twin: twin.name)
def test_a_compiled_splitter_gives_every_byte_of_the_payloads_that_are_always_tried(twin: Splitter) -> None:
    assert twin.usual
    for options in twin.usual:
        frames = [twin.frame(options, payload) for payload in SAMPLES]
        stream = b"".join(frames)
        for data in (*frames, stream, stream[:-1]):
            for kind in (bytes, bytearray):
                compare_call(twin, *options, kind(data), 0, None, 0)
        compare_call(twin, *options, stream, 0, None, 3)
        for size in (1, 7, 200, len(stream)):
            compare_carry(twin, options, [stream[at : at + size] for at in range(0, len(stream), size)])


@needs_twin
@pytest.mark.parametrize("twin", [twin for twin in FUNCTIONS if twin.usual], ids=lambda twin: twin.name)
def test_a_compiled_function_gives_every_byte_of_what_is_always_tried(twin: Function) -> None:
    for arguments in twin.usual:
        compare_call(twin, *arguments)


@needs_twin
@pytest.mark.parametrize("twin", SPLITTERS, ids=lambda twin: twin.name)
def test_wrong_arguments_are_refused_in_the_words_of_the_reference(twin: Splitter) -> None:
    for arguments in ((), (1,), (None,) * 20, ("x",) * 8, (4, "middle", 0, 0, 9, b"\0" * 9, 0, None, 0)):
        compare_call(twin, *arguments)


@needs_twin
def test_every_compiled_function_is_in_the_table_of_twins() -> None:
    assert native is not None
    functions = {name for name, value in vars(native).items() if callable(value) and not name.startswith("_")}
    assert functions == {twin.name for twin in [*SPLITTERS, *FUNCTIONS]} | {"carry_for", "Outbox"}


WHICH = "import framing.kernels as k; print(k.compiled, k.split_prefixed.__module__)"


def chosen(**environment: str) -> str:
    """Which kernels a new interpreter chooses, with these variables set."""
    environ = {name: value for name, value in os.environ.items() if name != "FRAMING_PURE"} | environment
    done = subprocess.run(
        [sys.executable, "-c", WHICH], env=environ, capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    return done.stdout.strip()


def test_the_environment_chooses_the_reference() -> None:
    assert chosen(FRAMING_PURE="1") == "False framing.kernels.lengths"


@needs_twin
def test_the_twin_runs_where_it_is_built() -> None:
    for environment in ({}, {"FRAMING_PURE": ""}, {"FRAMING_PURE": "0"}):
        assert chosen(**environment) == "True framing.kernels._native"


def test_the_twin_is_built_where_it_is_required() -> None:
    assert native is not None or not REQUIRED


def test_compiled_tells_which_runs() -> None:
    assert framing.compiled == (native is not None and os.environ.get("FRAMING_PURE", "0") in {"", "0"})
    assert framing.compiled is framing.kernels.compiled
