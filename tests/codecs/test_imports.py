"""Codecs and layers are light until they are used."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"msgspec", "construct", "cbor2", "zstandard", "asyncio", "hypothesis", "click", "rich"}

PROGRAM = """
import sys
from framing.codecs import CBOR, JSON, MessagePack, Raw, Text
from framing.layers import Checksum, Compressed, Signed
values = [CBOR(), JSON(), JSON(type=list[int]), MessagePack(), Raw(), Text(), Checksum("crc32"), Compressed("zstd")]
hash(tuple(values)), repr(values)
Compressed("zlib").decode(Compressed("zlib").encode(b"x"), 1)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_making_codecs_and_layers_loads_no_library():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "framing" in loaded
    assert not loaded & HEAVY
