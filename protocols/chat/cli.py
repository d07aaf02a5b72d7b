"""``framing-chat``: the entry point; the commands are loaded when they run, for they need the ``chat`` extra."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """``framing-chat …``."""
    # Ctrl-C while modules are being loaded ends without a traceback too; `run` knows what to do with a later one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from framing.cli import run  # noqa: PLC0415 # loaded behind the line above

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run("framing-chat", "protocols.chat.commands", "chat", arguments)
