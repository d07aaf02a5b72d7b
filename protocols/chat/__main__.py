"""``python -m protocols.chat``: the same as ``framing-chat``."""

from protocols.chat.cli import main

main()
