"""A network that loses packets, or is gone: over every driver, in a namespace of its own, where this machine allows one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.namespace import UNABLE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unshared() -> list[str]:
    """What a command is to be preceded by to have a network of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    command = ["unshare", "--map-root-user", "--net"]
    done = subprocess.run([*command, "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{' '.join(command)} true: {done.stderr.strip()}")
    return command


def try_it(unshared: list[str], *arguments: str) -> None:
    done = subprocess.run(
        [*unshared, sys.executable, "-m", "tests.faults.namespace", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    if done.returncode == UNABLE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("percent", [5, 10, 20])
def test_packets_that_are_lost_lose_and_repeat_no_message(unshared: list[str], percent: int) -> None:
    try_it(unshared, "loss", str(percent))


@pytest.mark.parametrize("way", ["drop", "link"])
def test_a_peer_that_vanishes_is_found_out_by_the_heartbeat_on_both_sides(unshared: list[str], way: str) -> None:
    try_it(unshared, "vanish", way)


def test_an_address_of_one_interface_is_met_by_every_driver(unshared: list[str]) -> None:
    try_it(unshared, "scope")


def test_an_outage_that_is_shorter_than_the_heartbeats_patience_changes_nothing(unshared: list[str]) -> None:
    try_it(unshared, "outage")
