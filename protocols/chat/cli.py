"""``framing-chat``: the entry point; the commands are loaded when they run, for they need the ``chat`` extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from framing.cli import run

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """``framing-chat …``."""
    run("framing-chat", "protocols.chat.commands", "chat", arguments)
