"""The testing kit: what the laws of this library are proved with, for framers, layers, codecs and drivers of your own.

`verify_framer` and `verify_wire` hold a value against every law and say which one it breaks, on which bytes, cut where.
`cuts`, `payloads` and `messages` are Hypothesis strategies for property tests of your own. `ScriptedSocket` plays a peer
and a system that do their worst; `connected` joins two channels without a socket.

All but the strategies work without Hypothesis; with them, install ``framing[testing]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framing.testing.pair import End, connected
from framing.testing.scripted import EOF, ScriptedSocket
from framing.testing.verdict import LAWS, LawBroken, Verdict
from framing.testing.verifier import verify_framer, verify_wire

if TYPE_CHECKING:
    from framing.testing.strategies import cuts, messages, payloads

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

_STRATEGIES = ("cuts", "messages", "payloads")


def __getattr__(name: str) -> Any:
    """Load the strategies, and Hypothesis with them, when one is first asked for."""
    if name in _STRATEGIES:
        from framing.testing import strategies  # noqa: PLC0415 -- Hypothesis is optional, and slow to load

        return getattr(strategies, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
