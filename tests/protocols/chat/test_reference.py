"""The reference of the protocol says what the code does."""

from __future__ import annotations

from typing import get_args

from protocols.chat import messages
from tests.protocols.chat.reference import PAGE, page


def test_the_page_is_what_the_command_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.protocols.chat.reference"


def test_every_message_and_every_field_is_in_it() -> None:
    text = page()
    for record in {*get_args(messages.FromClient), *get_args(messages.FromServer)}:
        section = text.split(f"\n### {record.__name__.lower()}\n")[1].split("\n### ")[0]
        for field in record.__struct_fields__:
            assert f"| `{field}` |" in section, f"{record.__name__}.{field}"
