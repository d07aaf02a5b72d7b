"""The coverage-guided fuzzer: ``python -m tests.fuzz --seconds 60``.

It needs atheris (``pip install '.[fuzz]'``). Each target of `tests.fuzz.invariants` runs in a process of its own, for its
share of the seconds, beginning from the corpus; with ``--corpus grow`` inputs that reached new code are merged into it, the
fewest that cover as much. A broken invariant stops the run with status 1 and leaves the input as ``corpus/<target>/crash-…``.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
TARGETS = ("framers", "wires", "spec", "kernels")


def child(target: str, arguments: list[str]) -> None:
    """Become the fuzzer of one target; does not return."""
    import atheris

    with atheris.instrument_imports(include=["framing"]):
        import framing.spec  # noqa: F401 -- else it is loaded when it is first used, and not instrumented
        from tests.fuzz import invariants

    # To merge, the fuzzer starts itself again by this, through a shell.
    itself = f"{shlex.quote(sys.executable)} -m tests.fuzz --child {target}"
    atheris.Setup([itself, *arguments], invariants.TARGETS[target])
    atheris.Fuzz()


def run(target: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--child", target, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def fuzz(target: str, seconds: int, grow: bool) -> bool:
    kept = CORPUS / target
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found")
        found.mkdir()
        status, output = run(
            target,
            f"-max_total_time={seconds}",
            "-max_len=2048",
            "-timeout=20",
            "-rss_limit_mb=2048",
            f"-artifact_prefix={kept}/",
            "-print_final_stats=1",
            str(found),
            str(kept),
        )
        executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", output)
        coverage = re.findall(r"cov: (\d+)", output)
        new = len(list(found.iterdir()))
        count = int(executions[1]) if executions else 0
        print(
            f"{target}: {count} executions, coverage {coverage[-1] if coverage else '?'}, {new} new inputs", flush=True
        )
        if status or not count:
            print(output[-6000:])
            return False
        if grow and new:
            merged = Path(folder, "merged")
            merged.mkdir()
            status, output = run(target, "-merge=1", str(merged), str(kept), str(found))
            if status or not list(merged.iterdir()):
                print(output[-3000:])
                return False
            for old in kept.iterdir():
                # What once broke something stays, whatever it covers now.
                if not old.name.startswith("crash-"):
                    old.unlink()
            for one in merged.iterdir():
                shutil.copy(one, kept / one.name)
            print(f"{target}: the corpus has {len(list(kept.iterdir()))} inputs", flush=True)
    return True


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=int, default=60, help="in all, shared by the targets (default: 60)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all")
    parser.add_argument("--corpus", choices=("read", "grow"), default="grow", help="whether to keep what was found")
    options = parser.parse_args()
    targets = options.target or list(TARGETS)
    results = [fuzz(target, max(1, options.seconds // len(targets)), options.corpus == "grow") for target in targets]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
