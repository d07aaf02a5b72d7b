"""``import framing`` is light: it loads nothing before it is used, and then neither what only some use, nor an event loop."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

import framing

HEAVY = {
    "construct",
    "msgspec",
    "asyncio",
    "cbor2",
    "zstandard",
    "hypothesis",
    "click",
    "rich",
    "socket",
    "ssl",
    "selectors",
}
SELDOM = {"ast", "datetime", "decimal", "difflib", "hashlib", "hmac", "json", "pickle", "urllib", "uuid", "zlib"}
BASIC = {"dataclasses", "enum", "functools", "inspect", "re", "struct", "typing"}


def loaded_by(statement: str) -> set[str]:
    """What is loaded behind ``statement`` in an interpreter of its own, without what an environment's .pth files load."""
    code = f"import sys, site; {statement}; print(sorted(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return set(ast.literal_eval(done.stdout))


def of_ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "framing"}


def test_importing_framing_loads_nothing_before_a_name_of_it_is_used() -> None:
    loaded = loaded_by("import framing")
    assert of_ours(loaded) == {"framing", "framing.deferred"}
    assert loaded & (HEAVY | SELDOM | BASIC) == set()


def test_a_wire_of_bytes_loads_its_own_modules_and_none_that_it_seldom_needs() -> None:
    loaded = loaded_by("from framing import LengthPrefixed, Wire; Wire(LengthPrefixed(4)).decoder().feed(b'')")
    needed = {"ast"} if framing.compiled else {"ast", "zlib"}  # dataclasses loads the one, plain checksums the other
    assert loaded & (HEAVY | SELDOM - needed) == set()
    assert not {"framing.spec", "framing.presets", "framing.framers.delimiters", "framing.codecs.json"} & loaded
    assert {"framing.wire", "framing.framers.lengths"} <= loaded


def test_a_spec_loads_nothing_that_only_errors_or_some_codecs_need() -> None:
    loaded = loaded_by("import framing; framing.Wire.parse('u32+crc32+msgpack').decoder()")
    assert loaded & {"datetime", "decimal", "difflib", "hashlib", "hmac", "json", "uuid"} == set()


@pytest.mark.parametrize(
    "statement",
    [
        "import framing",
        "import framing; framing.Wire(framing.LengthPrefixed(4), framing.Checksum('crc32'), framing.JSON())",
        "import framing; framing.Wire.parse('u32+crc32+msgpack').decoder()",
        "import framing.presets",
    ],
)
def test_importing_framing_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


def test_the_test_sees_what_is_loaded() -> None:
    assert "msgspec" in loaded_by("import framing; framing.JSON().encode(1)")
    assert "construct" in loaded_by("import framing, construct; framing.Struct(construct.Int8ub).encode")
