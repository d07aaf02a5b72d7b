"""The compiled twin says what the reference says: the same answers, the same errors, on good streams and on hostile ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import framing
from tests.kernels.twins import FUNCTIONS, SPLITTERS, Function, Splitter

try:
    from framing.kernels import _native
except ImportError:
    _native = None

REQUIRED = os.environ.get("FRAMING_REQUIRE_COMPILED") == "1"

needs_twin = pytest.mark.skipif(_native is None and not REQUIRED, reason="the compiled twin is not built")


UNTIMED = settings(deadline=None)


class Odd(bytes):
    """A subclass whose slices are its own business: a kernel gives plain bytes."""


class OddArray(bytearray):
    """The same of a bytearray."""


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, with the types of the payloads, or what it raises."""
    try:
        answer = function(*arguments)
    except Exception as error:  # whatever it is, the twin has to raise the same
        return type(error), str(error)
    if isinstance(answer, tuple) and answer and isinstance(answer[0], list):
        return answer, list(map(type, answer[0])), list(map(type, answer))
    return answer, type(answer)


def cut_short(data: bytes, by: int) -> bytes:
    return data[: max(0, len(data) - by)]


@needs_twin
@pytest.mark.parametrize("twin", SPLITTERS, ids=lambda twin: twin.name)
def test_a_compiled_splitter_says_what_its_reference_says(twin: Splitter) -> None:
    @UNTIMED
    @given(st.data())
    def hold(data: st.DataObject) -> None:
        check_splitter(twin, data)

    hold()


def check_splitter(twin: Splitter, data: st.DataObject) -> None:
    compiled = getattr(_native, twin.name)
    options = data.draw(twin.options)
    payloads = st.binary(max_size=20) | st.sampled_from([b"", b"a" * 200, b"ab" * 150])
    frames = payloads.map(lambda payload: twin.frame(options, payload))
    pieces = frames | frames | frames | st.sampled_from(twin.tokens or (b"",)) | st.binary(max_size=6)
    stream = b"".join(data.draw(st.lists(pieces, max_size=8)))
    stream = cut_short(stream, data.draw(st.sampled_from([0, 0, 0, 1, 2, 5, 20])))
    kind = data.draw(st.sampled_from([bytes, bytes, bytearray, Odd, OddArray]))
    limit = data.draw(st.sampled_from([0, 0, 0, 1, 2, 3, 1 << 70, -1]))
    start = data.draw(st.sampled_from([0, 0, 0, 1, 3, len(stream), len(stream) + 1, -1, 1 << 70]))
    given_memo = data.draw(st.just(None) | twin.memos)
    expected = outcome(twin.reference, *options, kind(stream), start, given_memo, limit)
    assert outcome(compiled, *options, kind(stream), start, given_memo, limit) == expected
    # As a decoder goes on: the memo of a call on fewer bytes.
    if data.draw(st.booleans()):
        size = data.draw(st.integers(0, len(stream)))
        try:
            _, at, _, memo, _, fault = twin.reference(*options, stream[:size], 0, None, 0)
        except Exception:  # options that the reference refuses; that was compared above
            return
        if fault is None:
            expected = outcome(twin.reference, *options, kind(stream), at, memo, limit)
            assert outcome(compiled, *options, kind(stream), at, memo, limit) == expected


@needs_twin
@pytest.mark.parametrize("twin", FUNCTIONS, ids=lambda twin: twin.name)
def test_a_compiled_function_says_what_its_reference_says(twin: Function) -> None:
    @UNTIMED
    @given(twin.arguments)
    def hold(arguments: tuple[Any, ...]) -> None:
        assert outcome(getattr(_native, twin.name), *arguments) == outcome(twin.reference, *arguments)

    hold()


@needs_twin
@pytest.mark.parametrize("twin", SPLITTERS, ids=lambda twin: twin.name)
def test_wrong_arguments_are_refused_in_the_words_of_the_reference(twin: Splitter) -> None:
    compiled = getattr(_native, twin.name)
    for arguments in ((), (1,), (None,) * 20, ("x",) * 8, (4, "middle", 0, 0, 9, b"\0" * 9, 0, None, 0)):
        expected = outcome(twin.reference, *arguments)
        assert expected == outcome(compiled, *arguments)


def _asked(script: str, **environment: str) -> str:
    """What a new interpreter prints, with these variables set."""
    environ = {name: value for name, value in os.environ.items() if name != "FRAMING_PURE"} | environment
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    return done.stdout.strip()


WHICH = "import framing.kernels as k; print(k.compiled, k.split_prefixed.__module__)"


def test_the_environment_chooses_the_reference() -> None:
    assert _asked(WHICH, FRAMING_PURE="1") == "False framing.kernels.lengths"


@needs_twin
def test_the_twin_runs_where_it_is_built() -> None:
    assert _native is not None
    for environment in ({}, {"FRAMING_PURE": ""}, {"FRAMING_PURE": "0"}):
        assert _asked(WHICH, **environment) == "True framing.kernels._native"


def test_compiled_tells_which_runs() -> None:
    assert framing.compiled == (_native is not None and os.environ.get("FRAMING_PURE", "0") in {"", "0"})
    assert framing.compiled is framing.kernels.compiled
