"""``import framing`` is light: it loads neither what only some use, nor an event loop."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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


def loaded_by(statement: str) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


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
