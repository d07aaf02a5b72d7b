"""The console that commands print tables on."""

from __future__ import annotations

import rich.console

__all__ = ["Console"]


class Console(rich.console.Console):
    """A console that leaves it to the command to end when nobody reads its output any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
