"""The commands: `main` is ``framing …``; `run` gives any click command the manners of a Unix program.

The manners: an error is one line on standard error and an exit status (1 for what went wrong, 2 for what was written wrong);
Ctrl-C ends with 130 and a closed pipe with 141, both without a traceback; output that cannot be written, for its disk is
full or it was closed, is such an error; a missing extra is named with the command that installs it. click and rich are
imported when a command runs, never before.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from framing.errors import FramingError, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]

FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141

UNWRITTEN = {errno.EBADF, errno.EFBIG, errno.EIO, errno.ENOSPC}
"""What a standard output says that was closed, or has no place left."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """``framing …``."""
    run("framing", "framing.cli.commands", "framing", arguments)


def run(program: str, module: str, command: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the click command named ``command`` out of ``module`` as ``program``, and exit with its status."""
    _replace_closed_streams()
    sys.exit(_status(program, module, command, arguments))


def _replace_closed_streams() -> None:
    """Give a standard stream that was closed a descriptor that cannot be read, or written; what is complained of is lost.

    Without one the next file that is opened, or the next connection, would have its number, and what is meant for it.
    """
    for name, access, mode in (
        ("stdin", os.O_WRONLY, "r"),
        ("stdout", os.O_RDONLY, "w"),
        ("stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, access), mode, closefd=False))  # noqa: SIM115 # it stays open


def _status(program: str, module: str, command: str, arguments: Sequence[str] | None) -> int:
    try:
        status = _outcome(program, module, command, sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED and sys.stderr.isatty():
        print(file=sys.stderr)  # noqa: T201 # the shell's prompt does not belong behind the ^C
    return status


def _outcome(program: str, module: str, command: str, arguments: Sequence[str]) -> int:
    try:
        import click  # noqa: PLC0415 # an extra: without it, one line says so

        importlib.import_module("rich")
    except ModuleNotFoundError as error:
        return _complain(program, f"this command needs {error.name}: pip install 'framing[cli]'", FAILED)
    try:
        loaded: Any = getattr(importlib.import_module(module), command)
        # Not its main(), which takes every EOFError for Ctrl-D, and every EPIPE for a reader of the output that has gone:
        # errors of connections are such, too.
        with loaded.make_context(program, list(arguments)) as context:
            result: object = loaded.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later; before, it printed the help itself
            print(error.format_message(), file=sys.stderr)  # noqa: T201 # the program's own voice
            return MISUSED
        where = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
        return _complain(program, f"{error.format_message()}{where}", MISUSED)
    except click.ClickException as error:
        return _complain(program, error.format_message(), error.exit_code)
    except BrokenPipeError as error:
        if isinstance(error, FramingError):
            return _complain(program, str(error), FAILED)
        _drop_output()
        return PIPE_CLOSED
    except SpecError as error:
        return _complain(program, str(error), MISUSED)
    except FramingError as error:
        return _complain(program, str(error), FAILED)
    except OSError as error:
        if error.errno not in UNWRITTEN or error.filename is not None:
            raise
        _drop_output()
        return _complain(program, f"the output cannot be written: {error.strerror}", FAILED)
    return result if isinstance(result, int) else 0


def _drop_output() -> None:
    """Let what is still buffered, which nobody reads or nothing keeps, not fail at exit too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _complain(program: str, text: str, status: int) -> int:
    print(f"{program}: {' '.join(text.split())}", file=sys.stderr)  # noqa: T201 # the program's own voice
    return status
