"""Every benchmark works, and every contender gives the same payloads: never how fast they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_benchmark_runs_and_its_contenders_agree(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads(figures.read_text())["results"]
    assert {"floor", "framing"} <= set.intersection(*(set(result["timings"]) for result in results))
    assert all(result["case"] in done.stdout for result in results)
    assert len(results) >= 12
