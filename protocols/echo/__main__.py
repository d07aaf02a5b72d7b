"""``python -m protocols.echo``: the same as ``framing-echo``."""

from protocols.echo.cli import main

main()
