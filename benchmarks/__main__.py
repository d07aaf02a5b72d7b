"""``python -m benchmarks``: every case with all its contenders in one run, as ns a frame and as a ratio to ours.

``--quick`` proves that every benchmark works, and its figures mean nothing; ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import framing
from benchmarks.decoding import cases
from benchmarks.timing import interleaved


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--quick", action="store_true", help="few frames, one round: does it work?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    environment = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "framing": f"{framing.__version__}, {'compiled' if framing.compiled else 'plain Python'} kernels",
    }
    print("; ".join(f"{name}: {value}" for name, value in environment.items()))
    results = []
    for case in cases(200 if options.quick else 20_000):
        outputs = {name: contender() for name, contender in case.contenders.items()}
        for name, output in outputs.items():
            if output != outputs["framing"]:
                print(f"{case.name}: {name} does not give the same payloads", file=sys.stderr)
                return 1
        timings = interleaved(case.contenders, case.frames, 1 if options.quick else options.rounds)
        ours = timings["framing"].median
        print(f"\n{case.name} ({case.frames} frames): CPU ns a frame, median (least to most), × framing")
        for name, timing in timings.items():
            spread = f"({timing.least:,.0f} to {timing.most:,.0f})"
            ratio = timing.median / ours if ours else float("nan")
            print(f"  {name:<14}{timing.median:>12,.0f}  {spread:<24}{ratio:>8.2f} ×")
        results.append(
            {"case": case.name, "frames": case.frames, "timings": {k: asdict(v) for k, v in timings.items()}}
        )
    if options.json:
        options.json.write_text(json.dumps({"environment": environment, "results": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
