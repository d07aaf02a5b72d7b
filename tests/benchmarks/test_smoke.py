"""Every benchmark works, and every contender gives the same payloads: never how fast they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import framing
from benchmarks.__main__ import BENCHMARKS

ROOT = Path(__file__).parents[2]


def run(*arguments: str, pure: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({} if pure is None else {"FRAMING_PURE": pure})}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_and_its_contenders_agree(name: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = run("--quick", "--only", name, "--json", str(figures))
    assert done.returncode == 0, done.stderr
    kept = json.loads(figures.read_text(encoding="utf-8"))
    results = kept["benchmarks"][name]
    assert results
    for result in results:
        assert result["title"] in done.stdout
        assert all(
            values and all(isinstance(value, float) for value in values) for values in result["samples"].values()
        )
        assert all(reason for reason in result["skipped"].values())
        if not result["samples"]:
            assert result["skipped"]
            continue
        ours = {contender for contender in result["samples"] if contender.startswith("framing")}
        assert any(contender.startswith("framing, plain Python") for contender in ours)
        assert framing.compiled == any(not contender.startswith("framing, plain Python") for contender in ours)
        assert {goal["build"] for goal in result["goals"]} <= {"framing", "framing, plain Python"}
    assert any(result["goals"] or not result["samples"] for result in results)
    assert "processor" in kept["environment"]


def test_plain_python_alone_is_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = run("--quick", "--only", "encode", "--json", str(figures), pure="1")
    assert done.returncode == 0, done.stderr
    (first, *_) = json.loads(figures.read_text(encoding="utf-8"))["benchmarks"]["encode"]
    assert "framing" not in first["samples"]
    assert {goal["build"] for goal in first["goals"]} == {"framing, plain Python"}


def test_every_benchmark_says_what_it_measures_and_what_would_be_unfair() -> None:
    done = run("--explain")
    assert done.returncode == 0
    for name, benchmark in BENCHMARKS.items():
        assert f"\n{name}\n" in f"\n{done.stdout}"
        assert len(benchmark.explain) > 80
    assert "nfair" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--only", "nothing"], ["--rounds", "0"], ["--write-docs", "--quick"], ["--write-docs", "--only", "encode"]],
)
def test_what_cannot_be_run_is_an_error_of_the_command_line(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "error" in done.stderr
