"""The ledger: every mishap of a reply is told from the others, and counted once."""

from __future__ import annotations

import random

import pytest

from protocols.echo.ledger import REMEMBERED, Counts, Ledger


def held(sent: str, came: str, *, ordered: bool = True) -> tuple[Counts, Ledger]:
    """The letters of ``sent`` were sent, and those of ``came`` came."""
    counts = Counts()
    ledger = Ledger(counts, ordered=ordered)
    for moment, letter in enumerate(sent):
        ledger.sent(letter.encode(), 10, float(moment))
    for letter in came:
        ledger.answered(letter.encode(), 100.0)
    return counts, ledger


def faults(counts: Counts) -> dict[str, int]:
    names = ("lost", "doubled", "changed", "out_of_order")
    return {name: getattr(counts, name) for name in names if getattr(counts, name)}


@pytest.mark.parametrize(
    ("came", "replies", "wrong", "due"),
    [
        ("abcde", 5, {}, 0),
        ("abc", 3, {}, 2),
        ("acde", 4, {"lost": 1}, 0),
        ("e", 1, {"lost": 4}, 0),
        ("aabcde", 5, {"doubled": 1}, 0),
        ("abcdee", 5, {"doubled": 1}, 0),
        ("abcdea", 5, {"doubled": 1}, 0),
        ("aXcde", 4, {"changed": 1}, 0),
        ("aXbcde", 5, {"changed": 1}, 0),
        ("XXXXX", 0, {"changed": 5}, 0),
        ("abcdeX", 5, {"changed": 1}, 0),
        ("acbde", 5, {"out_of_order": 1}, 0),
        ("bcdea", 5, {"out_of_order": 1}, 0),
        ("edcba", 5, {"out_of_order": 4}, 0),
        ("acbbde", 5, {"out_of_order": 1, "doubled": 1}, 0),
    ],
)
def test_over_a_stream(came, replies, wrong, due):
    counts, ledger = held("abcde", came)
    assert (counts.replies, faults(counts), len(ledger)) == (replies, wrong, due)
    assert counts.sent == 5


@pytest.mark.parametrize(
    ("came", "replies", "wrong", "due"),
    [
        ("abcde", 5, {}, 0),
        ("acde", 4, {}, 1),
        ("acbde", 5, {"out_of_order": 1}, 0),
        ("edcba", 5, {"out_of_order": 4}, 0),
        ("ccabde", 5, {"doubled": 1, "out_of_order": 2}, 0),
        ("aXcde", 4, {"changed": 1}, 1),
    ],
)
def test_packets_that_are_missing_wait_for_their_time(came, replies, wrong, due):
    counts, ledger = held("abcde", came, ordered=False)
    assert (counts.replies, faults(counts), len(ledger)) == (replies, wrong, due)


def test_what_is_given_up_is_lost_and_found_again_where_it_was_only_late():
    counts, ledger = held("abcde", "c", ordered=False)
    assert ledger.oldest == 0.0
    assert ledger.give_up(sent_before=1.0) == 1
    assert (faults(counts), ledger.oldest) == ({"lost": 1}, 1.0)
    ledger.answered(b"a", 200.0)
    assert (faults(counts), counts.replies) == ({"out_of_order": 1}, 2)
    assert ledger.give_up() == 3
    assert (faults(counts), len(ledger), ledger.oldest) == ({"lost": 3, "out_of_order": 1}, 0, None)


def test_what_is_no_message_at_all_is_a_change():
    counts, ledger = held("ab", "")
    ledger.answered(None, 1.0)
    assert (faults(counts), len(ledger)) == ({"changed": 1}, 1)


def test_messages_that_are_alike_are_answered_one_by_one():
    counts, ledger = held("aaaa", "aaaa")
    assert (counts.replies, faults(counts), len(ledger)) == (4, {}, 0)
    ledger.answered(b"a", 5.0)
    assert faults(counts) == {"doubled": 1}


def test_bytes_and_latencies_are_counted():
    counts, _ = held("abc", "ab")
    assert counts.reply_bytes == 20
    assert counts.latencies.longest == 100.0
    assert counts.latencies.count == 2


def test_what_it_remembers_is_bounded():
    counts = Counts()
    ledger = Ledger(counts, ordered=True)
    for number in range(5 * REMEMBERED):
        ledger.sent(b"%d" % number, 1, 0.0)
        ledger.sent(b"lost %d" % number, 1, 0.0)
        ledger.answered(b"%d" % number, 1.0)
    ledger.give_up()
    assert counts.lost == 5 * REMEMBERED
    assert len(ledger._answered) == len(ledger._passed) == REMEMBERED


def test_the_sum_is_right_whatever_happens_to_a_stream():
    chance = random.Random(8)
    for _ in range(300):
        sent = [b"%d" % number for number in range(20)]
        lost = set(chance.sample(sent, chance.randrange(4)))
        doubled = set(chance.sample(sent, chance.randrange(4))) - lost
        counts = Counts()
        ledger = Ledger(counts, ordered=True)
        for mark in sent:
            ledger.sent(mark, 1, 0.0)
        for mark in sent:
            for _ in range(0 if mark in lost else 2 if mark in doubled else 1):
                ledger.answered(mark, 1.0)
        ledger.give_up()
        assert (counts.lost, counts.doubled, counts.changed, counts.out_of_order) == (len(lost), len(doubled), 0, 0)
        assert counts.replies == 20 - len(lost)
