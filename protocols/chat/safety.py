"""Safe text and safe names: what people type, made harmless for the terminals of others.

`clean` is used twice, when a text comes in and again where it is shown, so that neither an old log nor a hostile server
gets through. What it returns holds no control character but the line's end, no escape sequence, no mark that changes the
direction of what stands beside it, and nothing that cannot be encoded.

Names are told apart by what a reader sees: `key` is equal for names that differ in case, width or composition only. Where
names beyond ASCII are allowed, one that mixes alphabets is none, and `look_alike` tells whether a reader would take one
for another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

__all__ = ["MAX_NAME", "bad_name", "clean", "clean_line", "faces", "key", "look_alike", "suggest"]

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
# Cf are the marks that are not seen (bidirectional, zero width); Cs, Co and Cn cannot be shown at all, except that what is not
# assigned among the pictographs may be an emoji that is newer than this Python.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PICTOGRAPHS = range(0x1F000, 0x1FC00)
# Scripts that are written together.
_MIXTURES = (frozenset({"HAN", "HIRAGANA", "KATAKANA"}), frozenset({"HAN", "HANGUL"}), frozenset({"HAN", "BOPOMOFO"}))
# Letters, by the book, that nobody sees.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")
# Joins emoji and the letters of some scripts; harmless between two visible characters.
_JOINER = "\u200d"


def clean(text: str) -> str:
    """``text`` without what a terminal would obey; its lines end in a line feed, a tab is a space."""
    text = _LINE_ENDS.sub("\n", _SEQUENCES.sub("", text)).replace("\t", " ")
    return "".join(character for character in text if character in ("\n", _JOINER) or not _unseen(character)).strip(
        "\n" + _JOINER
    )


def _unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN and ord(character) not in _PICTOGRAPHS


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
    if any(
        (unicodedata.category(character)[0] not in "LN" and character not in "-_.") or character in _FILLERS
        for character in name
    ):
        return "a name has letters, digits, and - _ ."
    if name != unicodedata.normalize("NFKC", name):
        return "this name has a plainer spelling; use that"
    if not _one_alphabet(name):
        return "a name has letters of one alphabet"
    if any(look_alike(name, word) for word in RESERVED):
        return "this name looks like a reserved one"
    return None


def look_alike(one: str, other: str) -> bool:
    """Whether a reader would take ``one`` for ``other``; False for two names in ASCII, which differ where `key` does."""
    if one.isascii() and other.isascii():
        return False
    return any(mine == theirs for mine, theirs in zip(faces(one), faces(other), strict=True))


def faces(name: str) -> tuple[str, str, str]:
    """What ``name`` looks like as it is, in capitals and in small letters: two that look alike have one of them in common."""
    return _skeleton(name), _skeleton(name.upper()), _skeleton(name.lower())


def _table() -> tuple[Any, Any]:
    """Which characters look alike, and of which alphabet each is."""
    # Loaded only where names beyond ASCII are allowed; it has no types.
    from confusable_homoglyphs import categories, confusables  # type: ignore[import-untyped, unused-ignore] # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return confusables.confusables_data, categories  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] # as said


def _one_alphabet(name: str) -> bool:
    scripts = set(_table()[1].unique_aliases(name)) - {"COMMON"}
    return len(scripts) < 2 or any(scripts <= mixture for mixture in _MIXTURES)


@lru_cache(maxsize=1 << 14)
def _skeleton(name: str) -> str:
    """``name`` with the least of those that look like it in the place of each letter."""
    return "".join(_least(character) for character in name)


@lru_cache(maxsize=1 << 12)
def _least(character: str) -> str:
    # The table leads from each letter to the one that stands for all its likes, and from there back to them.
    table = _table()[0]
    family, fresh = {character}, [character]
    while fresh:
        likes = {like["c"] for like in table.get(fresh.pop(), ()) if len(like["c"]) == 1} - family
        family |= likes
        fresh += likes
    return min(family)


def suggest(name: str, taken: Callable[[str], bool]) -> str:
    """A name like ``name`` that is not ``taken``."""
    stem = name[: MAX_NAME - 5].rstrip("0123456789") or "guest"
    number = 2
    while taken(f"{stem}{number}"):
        number += 1
    return f"{stem}{number}"
