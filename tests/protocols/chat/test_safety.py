# ruff: noqa: RUF001 # letters that look like others are what this is about
"""Safe text and safe names, by properties; judged by `unicodedata`, by `wcwidth` and by the table of what looks alike."""

from __future__ import annotations

import re
import string
import unicodedata

import pytest
import wcwidth
from confusable_homoglyphs import categories, confusables
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.chat import safety
from protocols.chat.safety import MAX_NAME, bad_name, clean, clean_line, key, look_alike, suggest

# What hostile people put together, and any other text; lone surrogates too.
PIECES = st.one_of(
    st.sampled_from(
        [
            *("\x1b[31m", "\x1b]52;c;aGFja2Vk\x07", "\x1b]0;title\x1b\\", "\x9b2J", "\x9d8;;http://x\x9c", "\x1bP+q\x1b\\"),
            "\x1bc",
            *("\x1b", "\x1b[", "\x1b]", "\x9d", "\x90", "\x07", "\x08", "\x7f", "\x00", "\r", "\r\n", "\x85"),
            *("\u2028", "\u2029"),
            *("\u202e", "\u202d", "\u2066", "\u2069", "\u200f", "\u061c", "\u200b", "\u200d"),
            *("\ufeff", "\ud800", "\U000e0041"),
            *("\x0b", "\x0c", "\t", "\n", "a", "ß", "日", "🙂", "e\u0301"),
        ]
    ),
    st.text(st.characters(), max_size=8),
    st.text(st.characters(max_codepoint=0xA0), max_size=8),
)  # fmt: skip # one kind a line
HOSTILE = st.lists(PIECES, max_size=12).map("".join)


# ---------------------------------------------------------------------- texts


@given(HOSTILE)
def test_what_is_clean_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    for character in clean(text):
        if character == "\n":
            continue
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert wcwidth.wcwidth(character) >= 0, f"{character!r} is a control character"
        assert unicodedata.bidirectional(character) not in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip # as the standard lists them
        assert character not in "\u200e\u200f\u061c"


@given(HOSTILE)
def test_what_is_clean_can_be_encoded_and_stays_as_it_is(text: str) -> None:
    once = clean(text)
    once.encode()
    assert clean(once) == once
    assert "\n" not in clean_line(text)
    assert not once.startswith("\n")
    assert not once.endswith("\n")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=40), st.data())
def test_what_people_write_is_left_as_it_is(text: str, data: st.DataObject) -> None:
    assert clean(text) == text
    lines = [text, data.draw(st.text(string.ascii_letters, min_size=1))]
    assert clean("\r\n".join(["x", *lines])) == "\n".join(["x", *lines])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("a\x1b]52;c;aGFja2Vk\x07b", "ab"),
        ("a\x1b]52;c;aGFja2Vk\x1b\\b", "ab"),
        ("a\x9d52;c;aGFja2Vk\x9cb", "ab"),
        ("a\x1b]0;never ended\nb", "a\nb"),
        ("a\x1bP1$r0m\x1b\\b", "ab"),
        ("a\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\b", "ab"),
        ("a\x9b31mb", "ab"),
        ("a\x1b(0b\x1bcc\x1b7d", "abcd"),
        ("a\x07b\x08c\x7fd\x00e", "abcde"),
        ("user\u202egnp.exe\u2066x\u2069", "usergnp.exex"),
        ("a\r\nb\rc\x85d\u2028e\u2029f\x0bg\x0ch", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("tab\there", "tab here"),
        ("\ud800half", "half"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("\n\n\u200dmiddle\u200d\n", "middle"),
        ("newer than this Python: \U0001fbfb", "newer than this Python: \U0001fbfb"),
        ("private \ue000, not a character \ufffe\U0001ffff", "private , not a character "),
    ],
)
def test_escape_sequences_go_as_a_whole(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_to_clean_the_worst_of_texts_takes_no_longer_than_it_is() -> None:
    # Quadratic work on any of these would take minutes.
    for worst in ("\x1b]", "\x1b[", "\x9d", "\x1b[0;", "\x1b(", "\r", "\u202e", "\x1b"):
        assert len(clean(worst * 100_000)) <= 400_000
        assert clean(worst + "0" * 1_000_000 + "\nz").endswith("z")


# ---------------------------------------------------------------------- names

ASCII_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,31}", fullmatch=True)
NAMES = st.one_of(ASCII_NAMES, st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), HOSTILE)


@given(NAMES)
@example("ann\u200b")
@example("аnn")
def test_names_are_ascii_letters_digits_and_three_signs(name: str) -> None:
    good = (
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,31}", name) is not None and name.casefold() not in safety.RESERVED
    )
    assert (bad_name(name) is None) == good


@given(ASCII_NAMES, st.data())
def test_names_that_differ_in_case_or_width_are_the_same(name: str, data: st.DataObject) -> None:
    wide = "".join(chr(ord(letter) + 0xFEE0) if data.draw(st.booleans()) else letter for letter in name)
    cased = "".join(letter.upper() if data.draw(st.booleans()) else letter.lower() for letter in name)
    assert key(wide) == key(cased) == key(name)


@given(st.text(max_size=20))
def test_a_key_is_its_own_key_and_stays_when_composed_anew(name: str) -> None:
    assert key(key(name)) == key(name)
    assert key(unicodedata.normalize("NFD", name)) == key(name) == key(unicodedata.normalize("NFC", name))


@given(NAMES)
def test_names_beyond_ascii_hold_letters_of_one_alphabet_that_can_be_seen(name: str) -> None:
    if bad_name(name, allow_unicode=True) is not None:
        return
    assert 1 <= len(name) <= MAX_NAME
    assert not confusables.is_mixed_script(name) or cjk(name)
    assert unicodedata.normalize("NFKC", name) == name
    for character in name:
        assert unicodedata.category(character)[0] in "LN" or character in "-_."
        assert character not in "\u115f\u1160\u3164\uffa0"
    assert clean_line(name) == name


def cjk(name: str) -> bool:
    return categories.unique_aliases(name) <= {"HAN", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "COMMON"}


@pytest.mark.parametrize(
    "name", ["Борис", "Γιώργος", "田中さくら", "김철수", "אבנר", "José", "Zoë", "ørsted", "Đặng", "x-1_y.z"]
)
def test_people_of_many_languages_can_have_their_names(name: str) -> None:
    assert bad_name(name, allow_unicode=True) is None


@pytest.mark.parametrize(
    "name",
    [
        *("аnn", "аdmin", "раypal", "Ѕегvег", "ann\u200b", "a\u00adnn", "\u3164", "\u1160", "a\u0336nn", "ａnn", "ﬁn", "①"),
        *("ѕуѕтем", "ann bob", "ann\n", "", "x" * 33, "日" * 33, "a\u202eb", "@ann", "#room", "ann:", "\ud800"),
        *("server", "ME"),
    ],
)  # fmt: skip # those that mix, and those that are none
def test_names_that_mix_alphabets_or_hide_something_are_refused(name: str) -> None:
    assert bad_name(name, allow_unicode=True) is not None
    assert bad_name(name) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [("сосо", "coco"), ("СОСО", "coco"), ("НОРЕ", "hope"), ("ΑΒΕ", "АВЕ"), ("ГП", "ΓΠ"), ("ı", "i"), ("օ", "o")],
)
def test_names_of_another_alphabet_that_look_the_same_are_alike(one: str, other: str) -> None:
    assert look_alike(one, other)
    assert look_alike(other, one)


@given(st.sampled_from(string.ascii_letters + string.digits), st.data())
def test_whatever_the_table_has_beside_a_letter_looks_like_it(letter: str, data: st.DataObject) -> None:
    likes = [
        like["c"] for like in confusables.confusables_data[letter] if len(like["c"]) == 1 and not like["c"].isascii()
    ]
    if likes:
        assert look_alike("x" + data.draw(st.sampled_from(likes)), "x" + letter)


@pytest.mark.parametrize(("one", "other"), [("Анна", "Иван"), ("bill", "bi11"), ("日本", "本日"), ("José", "Josh")])
def test_names_that_look_different_are_not_alike(one: str, other: str) -> None:
    assert not look_alike(one, other)


@given(ASCII_NAMES.filter(lambda name: bad_name(name) is None), st.integers(0, 30))
@example("x" * MAX_NAME, 12)
@example("9" * MAX_NAME, 0)
def test_what_is_suggested_is_a_free_name_that_begins_alike(name: str, crowd: int) -> None:
    taken = {key(name)}
    for _ in range(crowd):
        taken.add(key(suggest(name, lambda other: key(other) in taken)))
    free = suggest(name, lambda other: key(other) in taken)
    assert len(taken) == crowd + 1, "the same name was suggested twice"
    assert key(free) not in taken
    assert bad_name(free) is None
    assert free[0] == name[0] or free.startswith("guest")
