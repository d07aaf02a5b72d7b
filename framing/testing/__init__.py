"""The testing kit: what the laws of this library are proved with, for framers, layers, codecs and drivers of your own.

`verify_framer` and `verify_wire` hold a value against every law and say which one it breaks, on which bytes, cut where.
`cuts`, `payloads` and `messages` are Hypothesis strategies for property tests of your own. `ScriptedSocket` plays a peer
and a system that do their worst; `connected` joins two channels without a socket.

All but the strategies work without Hypothesis; with them, install ``framing[testing]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from framing.deferred import deferred
from framing.testing.pair import End, connected
from framing.testing.scripted import EOF, ScriptedSocket
from framing.testing.verdict import LAWS, LawBroken, Verdict
from framing.testing.verifier import verify_framer, verify_wire

if TYPE_CHECKING:
    from framing.testing.strategies import cuts, messages, payloads
else:
    # Hypothesis is optional, and slow to load.
    __getattr__, __dir__ = deferred(__name__, {"framing.testing.strategies": "cuts messages payloads"})

__all__ = [
    "EOF",
    "LAWS",
    "End",
    "LawBroken",
    "ScriptedSocket",
    "Verdict",
    "connected",
    "cuts",
    "messages",
    "payloads",
    "verify_framer",
    "verify_wire",
]
