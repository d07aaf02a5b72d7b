"""The table shows the worst that was reached for each target, and says what was missed; the docs' page is written in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import docs
from benchmarks.builds import COMPILED, PLAIN
from benchmarks.report import comparison, number, rows, table
from benchmarks.results import Benchmark, Goal, Result, Settings, at_least, at_most, fastest
from benchmarks.timing import paired, spread

SAMPLES = {
    "floor": [10.0, 20.0, 10.0],
    COMPILED: [13.0, 40.0, 14.0],
    PLAIN: [50.0, 60.0, 70.0],
    "Twisted": [100.0, 90.0, 400.0],
    "tornado": [300.0, 310.0, 290.0],
}


def result(**changes):
    goals = [
        *at_most("decode", SAMPLES, "floor", (1.3, None), "the floor"),
        *at_least("decode", SAMPLES, ["Twisted", "tornado"], (5, 1.5), "the fastest peer"),
    ]
    options = {"title": "decode, 64 B", "unit": "ns a frame", "samples": SAMPLES, "goals": goals}
    return Result(**{**options, **changes})


def test_ratios_are_taken_round_by_round():
    assert paired([10, 30, 20], [10, 10, 10]) == 2
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (3, 2, 4)
    assert spread([1.0, 2.0]) == (1.5, 1, 2)


def test_a_goal_is_met_at_its_bound_and_missed_beyond():
    goals = {(goal.build, goal.text): goal for goal in result().goals}
    assert goals[COMPILED, "≤ 1.3 × the floor"].reached == 1.4
    assert not goals[COMPILED, "≤ 1.3 × the floor"].met
    assert goals[COMPILED, "≥ 5 × the fastest peer"].reached == 100 / 13
    assert goals[COMPILED, "≥ 5 × the fastest peer"].met
    assert goals[PLAIN, "≥ 1.5 × the fastest peer"].met
    assert Goal("c", PLAIN, "≤ 2", 2, 2, at_most=True).met
    assert Goal("c", PLAIN, "≥ 2", 2, 2, at_most=False).met


def test_the_fastest_peer_is_the_one_with_the_lowest_median():
    assert fastest(SAMPLES, ["tornado", "Twisted"]) == "Twisted"
    assert fastest(SAMPLES, ["nobody"]) is None
    assert list(at_least("c", SAMPLES, ["nobody"], (1, 1), "nobody")) == []
    assert list(at_most("c", {PLAIN: [1.0]}, "floor", (1, 1), "the floor")) == []


def test_the_table_shows_the_worst_of_a_case_and_what_was_missed():
    worse = {**SAMPLES, COMPILED: [90.0, 90.0, 90.0]}
    other = result(samples=worse, goals=list(at_least("decode", worse, ["Twisted"], (5, None), "the fastest peer")))
    found = rows([result(), other])
    text = table(found)
    assert [(row.compiled is not None, row.plain is not None) for row in found] == [(True, True), (True, False)]
    assert "1.40 × MISSED" in text
    assert "1.11 × MISSED" in text
    assert "7.69" not in text
    assert table(rows([other, result()])).count("1.11 × MISSED") == 1
    assert "7.69" not in table(rows([other, result()]))
    assert text.endswith("3 targets, 1 met, 2 missed")


def test_a_comparison_names_everybody_and_who_was_skipped():
    text = comparison(
        result(skipped={"Erlang": "no Erlang here"}, note="A note.", also=("messages/s", {"floor": "1,000"}))
    )
    for said in (*SAMPLES, "messages/s", "1,000", "skipped: Erlang: no Erlang here", "A note."):
        assert said in text
    assert "needs a compiler" in comparison(Result(title="t", unit="", samples={}, skipped={"all": "needs a compiler"}))


@pytest.mark.parametrize(("value", "shown"), [(1234.5, "1,234"), (12.34, "12.3"), (0.123, "0.12"), (float("inf"), "–")])
def test_numbers_have_the_digits_that_matter(value, shown):
    assert number(value) == shown


def _decode(settings: Settings):
    """CPU time.

    Unfair would be: another.
    """
    yield from ()


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "performance.md"
    page.write_text(f"# By hand\n\n{docs.BEGIN}\nold\n{docs.END}\n\nAlso by hand.\n", encoding="utf-8")
    one = result(title="decode u32, 64 B payloads")
    for _ in range(2):
        written = list(
            docs.write({"python": "3"}, {Benchmark(name="decode", run=_decode): [one]}, rows([one]), page, tmp_path)
        )
    assert [path.name for path in written] == ["performance-decode.svg", "performance-decode.png", "performance.md"]
    assert all(path.stat().st_size > 100 for path in written)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# By hand\n")
    assert text.endswith("\n\nAlso by hand.\n")
    assert "old" not in text
    assert text.count("## The targets") == 1
    assert "Unfair would be: another." in text
    assert "**missed**" in text


def test_a_page_without_its_marks_is_not_written(tmp_path: Path):
    page = tmp_path / "performance.md"
    page.write_text("# By hand\n", encoding="utf-8")
    with pytest.raises(ValueError, match="marks"):
        list(docs.write({}, {}, [], page, tmp_path))
    assert page.read_text(encoding="utf-8") == "# By hand\n"
