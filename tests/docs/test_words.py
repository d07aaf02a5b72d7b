"""The reference pages list what there is: every word of the spec string, every error, every framer, layer and codec."""

from __future__ import annotations

import builtins
import re
from pathlib import Path

import pytest

import framing
from framing import Codec, Framer, FramingError, Layer
from framing.spec import words

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SECTIONS = {"Framers": "framer", "Layers": "layer", "Codecs": "codec", "Presets": "preset"}


def section(page: str, title: str) -> str:
    text = (REFERENCE / page).read_text(encoding="utf-8")
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no section {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|-: ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def coded(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_on_spec_strings_lists_the_words_that_there_are(title: str) -> None:
    column = 1 if title == "Presets" else 0
    listed = [word for row in rows(section("spec-strings.md", title)) for word in coded(row[column])]
    assert sorted(listed) == sorted(words()[SECTIONS[title]])


def test_the_page_on_errors_lists_all_that_are_exported() -> None:
    exported = {
        name
        for name in framing.__all__
        if isinstance(getattr(framing, name), type) and issubclass(getattr(framing, name), FramingError)
    }
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    listed = [name for row in rows(text) for name in coded(row[0])[:1] if name[0].isupper()]
    assert sorted(listed) == sorted(exported)
    tree = text[text.index("```text") : text.index("```\n\nThe second column")]
    assert exported == set(re.findall(r"\w+", tree)) & exported


def test_the_tree_of_errors_is_the_one_of_the_classes() -> None:
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    tree = re.findall(
        r"^([│├└─ ]*)(\w+)(?: {2,}(\w+))?", text[text.index("```text\n") + 8 :].split("```")[0], re.MULTILINE
    )
    parents: list[type[BaseException]] = []
    for lead, name, twin in tree:
        error = getattr(framing, name)
        depth = len(lead) // 4
        del parents[depth:]
        if parents:
            assert issubclass(error, parents[-1])
        if twin and twin[0].isupper():
            assert issubclass(error, getattr(builtins, twin))
        parents.append(error)


@pytest.mark.parametrize(
    ("page", "base"),
    [("framers.md", Framer), ("layers.md", Layer), ("codecs.md", Codec)],
    ids=["framers", "layers", "codecs"],
)
def test_every_exported_part_has_its_section(page: str, base: type) -> None:
    parts = {
        name
        for name in framing.__all__
        if isinstance(getattr(framing, name), type)
        and issubclass(getattr(framing, name), base)
        and getattr(framing, name) is not base
    }
    titles = set(re.findall(r"^## (\w+)$", (REFERENCE / page).read_text(encoding="utf-8"), re.MULTILINE))
    assert parts <= titles
    assert titles & set(framing.__all__) == parts
