"""Safe text and safe names: what people type, made harmless for the terminals of others.

`clean` is used twice, when a text comes in and again where it is shown, so that neither an old log nor a hostile server
gets through. What it returns holds no control character but the line's end, no escape sequence, no mark that changes the
direction of what stands beside it, and nothing that cannot be encoded.

Names are told apart by what a reader sees: `key` is equal for names that differ in case, width or composition only, and,
where names beyond ASCII are allowed, `look_alike` is equal for names that a reader would mix up.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

__all__ = ["MAX_NAME", "bad_name", "clean", "clean_line", "key", "suggest"]

MAX_NAME: Final = 32

RESERVED: Final = frozenset(
    {"server", "system", "admin", "administrator", "root", "operator", "moderator", "everyone", "everybody", "all",
     "here", "channel", "you", "me", "nobody", "anonymous"}
)  # fmt: skip # a list of words is best read as one

# Escape sequences go as a whole, so that no half of one is left to read: strings (OSC, DCS, SOS, PM, APC) up to their end or,
# unterminated, to the end of the line; then control sequences; then two-character escapes.
_SEQUENCES = re.compile(
    "(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|\x1b[ -/]*[0-~]?"
)
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_ASCII_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
# Cf are the marks that are not seen (bidirectional, zero width); Cs, Co and Cn cannot be shown at all.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Joins emoji and the letters of some scripts; harmless between two visible characters.
_JOINER = "\u200d"


def clean(text: str) -> str:
    """``text`` without what a terminal would obey; its lines end in a line feed, a tab is a space."""
    text = _LINE_ENDS.sub("\n", _SEQUENCES.sub("", text)).replace("\t", " ")
    return "".join(
        character
        for character in text
        if character in ("\n", _JOINER) or unicodedata.category(character) not in _UNSEEN
    ).strip("\n" + _JOINER)


def clean_line(text: str) -> str:
    """As `clean`, in one line."""
    return clean(text).replace("\n", " ")


def key(name: str) -> str:
    """What makes a name the same name."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def bad_name(name: str, *, allow_unicode: bool = False) -> str | None:
    """Why ``name`` is no name for a person or a room; None when it is one."""
    if not 1 <= len(name) <= MAX_NAME:
        return f"a name has 1 to {MAX_NAME} characters"
    if key(name) in RESERVED:
        return "this name is reserved"
    if _ASCII_NAME.fullmatch(name):
        return None
    if not allow_unicode:
        return "a name has letters from A to Z, digits, and - _ . behind the first of them"
    if any(unicodedata.category(character)[0] not in "LN" and character not in "-_." for character in name):
        return "a name has letters, digits, and - _ ."
    if name != unicodedata.normalize("NFKC", name):
        return "this name has a plainer spelling; use that"
    return _mixed(name)


def _mixed(name: str) -> str | None:
    """Why a name beyond ASCII could be taken for another one."""
    # Loaded only where names beyond ASCII are allowed; it has no types.
    from confusable_homoglyphs import confusables as untyped  # type: ignore[import-untyped, unused-ignore] # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]

    confusables: Any = untyped
    if confusables.is_dangerous(name) or confusables.is_confusable(name, greedy=False, preferred_aliases=["latin"]):
        return "this name can be taken for another one"
    return None


def suggest(name: str, taken: Callable[[str], bool]) -> str:
    """A name like ``name`` that is not ``taken``."""
    stem = name[: MAX_NAME - 5].rstrip("0123456789") or "guest"
    number = 2
    while taken(f"{stem}{number}"):
        number += 1
    return f"{stem}{number}"
