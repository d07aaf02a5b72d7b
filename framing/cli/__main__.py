"""``python -m framing.cli``: the same as ``framing``."""

from framing.cli import main

main()
