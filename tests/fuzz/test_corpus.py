"""Every input that the fuzzer found worth keeping is a test; so is every one that once broke something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.invariants import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_holds(target: str) -> None:
    files = sorted((CORPUS / target).iterdir())
    assert files
    for file in files:
        try:
            TARGETS[target](file.read_bytes())
        except Exception as error:
            error.add_note(f"the input is {file}")
            raise
