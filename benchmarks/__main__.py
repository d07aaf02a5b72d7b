"""``python -m benchmarks``: every target of the project, with what was reached beside it.

What is compared takes turns in one run, in CPU time; framing twice, with its compiled kernels and in plain Python.
``--quick`` proves that every benchmark works, and its figures mean nothing. ``--explain`` says what each measures, and what
would make it unfair. ``--json FILE`` keeps every figure. ``--write-docs`` writes the docs' page and its plots.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import traceback
from dataclasses import asdict
from pathlib import Path

from benchmarks import crowd, decoding, encoding, large, messages, serving, starting
from benchmarks.environment import environment, load
from benchmarks.report import comparison, rows, table
from benchmarks.results import Benchmark, Result, Settings

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for module in (decoding, large, encoding, messages, serving, crowd, starting)
    for benchmark in module.BENCHMARKS
}


def _options() -> argparse.Namespace:
    summary, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=summary.replace("``", ""))
    parser.add_argument(
        "--only", action="append", choices=list(BENCHMARKS), metavar="CASE", help="this one; may be repeated"
    )
    parser.add_argument("--explain", action="store_true", help="what each measures, and what would make it unfair")
    parser.add_argument("--quick", action="store_true", help="few frames, one round: does everything work?")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="by default 11")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    parser.add_argument(
        "--write-docs", action="store_true", help="write the docs' page and its plots; needs matplotlib"
    )
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: give 1 or more")
    if options.write_docs and (options.only or options.quick):
        parser.error("--write-docs: the page shows all figures, and true ones: give neither --only nor --quick")
    return options


def _explain(names: list[str]) -> None:
    for name in names:
        paragraphs = BENCHMARKS[name].explain.split("\n\n")
        text = "\n\n".join(textwrap.fill(one, 100) for one in paragraphs)
        print(f"{name}\n{textwrap.indent(text, '    ')}\n")


def _run(names: list[str], settings: Settings) -> tuple[dict[str, list[Result]], list[str]]:
    """What each gave; and the names of those that failed."""
    found: dict[str, list[Result]] = {name: [] for name in names}
    failed = []
    for name in names:
        try:
            for result in BENCHMARKS[name].run(settings):
                found[name].append(result)
                print(comparison(result), flush=True)
        except Exception:  # noqa: BLE001 -- the others are still worth running; the exit status tells
            traceback.print_exc()
            failed.append(name)
    return found, failed


def main() -> int:
    options = _options()
    names: list[str] = options.only or list(BENCHMARKS)
    if options.explain:
        _explain(names)
        return 0
    around = environment()
    for key, value in around.items():
        print(textwrap.fill(f"{key}: {value}", 120, subsequent_indent="    "))
    if options.quick:
        print("--quick: the figures below mean nothing")
    settings = Settings(quick=options.quick, rounds=options.rounds)
    found, failed = _run(names, settings)
    around["load at the end"] = load()
    everything = [result for results in found.values() for result in results]
    reached = rows(everything)
    print(f"\n{table(reached)}\nload at the end: {around['load at the end']}")
    if options.json:
        kept = {"environment": around, "quick": options.quick, "benchmarks": {}}
        kept["benchmarks"] = {name: [asdict(result) for result in results] for name, results in found.items()}
        options.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in failed:
        print(f"{name} failed: see above", file=sys.stderr)
    if options.write_docs and not failed:
        from benchmarks.docs import write

        for path in write(around, {BENCHMARKS[name]: results for name, results in found.items()}, reached):
            print(f"wrote {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
