"""The soak finds what it is there to find: its judges are shown servers and processes that do wrong."""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drivers.every.registry import CLIENTS, SERVERS
from tests.soak import __main__ as command
from tests.soak.clients import FATAL, Options, run, script
from tests.soak.payloads import WIRE, make, misplaced
from tests.soak.samples import Sample, sample, unsteady
from tests.soak.server import Judge

ROOT = Path(__file__).parents[2]
BRIEFLY = Options(seconds=0.4, seed=3, clients=10, pause=0.01)


has_proc = pytest.mark.skipif(sys.platform != "linux", reason="processes are sampled as Linux has them")


def soaked(service, driver="selector"):
    with SERVERS[driver]("tcp://127.0.0.1:0", WIRE, service) as server:
        return run(server.address, BRIEFLY)


@pytest.mark.parametrize("driver", SERVERS)
def test_a_server_that_does_right_is_found_right(driver):
    service = Judge()
    figures = soaked(service, driver)
    assert not figures.mistakes
    assert not service.mistakes
    assert figures.replies > 100
    assert figures.conversations["steady"] == len(CLIENTS)
    assert sum(figures.conversations.values()) > 20


class Wrong:
    """Echoes, and does something wrong with each tenth message."""

    def __init__(self, wrong):
        self.wrong = wrong
        self.count = 0

    def received(self, peer, payload):
        self.count += 1
        if self.count % 10:
            peer.send(payload)
        else:
            self.wrong(peer, payload)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda peer, payload: [peer.send(payload), peer.send(payload)], "doubled|too many"),
        (lambda peer, payload: peer.send(payload + b"!"), "other bytes"),
        (lambda peer, payload: peer.send(payload[:-1] + bytes([payload[-1] ^ 1])), "other bytes|lost|doubled"),
        (lambda peer, payload: peer.send(make(1, 0, 5)), "belongs to connection"),
        (lambda peer, payload: peer.close(), "replies came"),
    ],
    ids=["doubled", "longer", "a bit", "mixed up", "closed"],
)
def test_a_server_that_does_wrong_is_found_out(wrong, says):
    figures = soaked(Wrong(wrong))
    assert figures.mistaken
    assert any(re.search(says, mistake) for mistake in figures.mistakes), figures.mistakes


def test_a_payload_tells_its_place_and_every_byte():
    payload = make(7, 3, 100)
    assert misplaced(payload, 3, 7) is None
    assert "doubled" in misplaced(payload, 4, 7)
    assert "lost" in misplaced(payload, 2, 7)
    assert "belongs" in misplaced(payload, 3, 8)
    assert "no payload" in misplaced(b"", 0)
    for place in range(len(payload)):
        assert misplaced(payload[:place] + bytes([payload[place] ^ 8]) + payload[place + 1 :], 3, 7)
    assert "other bytes" in misplaced(payload[:-1], 3, 7)
    assert "other bytes" in misplaced(payload + b"!", 3, 7)


def test_the_same_seed_gives_the_same_conversations_and_every_kind_of_fault():
    talks = [script(1, 0, number) for number in range(300)]
    assert talks == [script(1, 0, number) for number in range(300)]
    assert talks != [script(2, 0, number) for number in range(300)]
    assert {talk.fault for talk in talks} == {"none", "harmless", *FATAL}
    assert {talk.way for talk in talks} == {"", "up", "down"}


def grown(**rates):
    """Samples of a process that grows by so much from each to the next."""
    base = {"memory": 40 << 20, "descriptors": 20, "threads": 4}
    return [
        Sample(at=at, **{kind: start + rates.get(kind, 0) * at for kind, start in base.items()}) for at in range(90)
    ]


def test_what_stays_flat_is_left_alone_and_what_grows_is_named():
    assert unsteady(grown()) == []
    assert [text.split()[0] for text in unsteady(grown(memory=200_000))] == ["memory"]
    assert [text.split()[0] for text in unsteady(grown(descriptors=1, threads=1))] == ["descriptors", "threads"]


def test_warming_up_is_no_leak():
    samples = grown()
    samples[:30] = [Sample(at, (10 + at) << 20, 5, 1) for at in range(30)]
    assert unsteady(samples) == []


def test_what_was_too_short_is_not_judged():
    samples = grown(memory=1 << 20)
    assert unsteady(samples[:8]) == unsteady(samples[:20]) == []
    assert unsteady(samples[:40])


@has_proc
def test_a_process_is_sampled_as_it_is():
    before = sample(os.getpid())
    with Path(os.devnull).open():
        # Of the system, not of the heap, which may have as much to spare.
        ballast = mmap.mmap(-1, 20 << 20)
        ballast.write(b"x" * (20 << 20))
        after = sample(os.getpid())
    assert after.memory - before.memory > 19 << 20
    assert after.descriptors == before.descriptors + 1
    assert before.threads >= 1
    ballast.close()


@has_proc
def test_the_command_soaks_a_driver_and_says_so():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.soak",
            "--seconds",
            "1.5",
            "--driver",
            "selector",
            "--clients",
            "5",
            "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [told] = json.loads(done.stdout)["drivers"]
    assert told["driver"] == "selector"
    assert told["right"]
    assert told["server"]["messages"] >= told["clients"]["replies"] > 0
    assert not told["server"]["open"]


def test_the_command_fails_where_anything_was_wrong(monkeypatch, capsys):
    flat = Sample(0.0, 1 << 20, 5, 1)

    def soak(options):
        return [
            command.Pair("selector", None, None, flat),
            command.Pair("threads", None, None, flat, trouble=["the server's memory grew"]),
        ]

    monkeypatch.setattr(command, "soak", soak)
    monkeypatch.setattr(sys, "argv", ["soak"])
    assert command.main() == 1
    said = capsys.readouterr().out
    assert "the server's memory grew" in said
    assert "NO" in said
