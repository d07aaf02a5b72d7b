"""Descriptors: a process's limit is raised as far as is needed, and as it may; never lowered."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="this system has no such limits")


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed", "after"),
    [
        (100, 1000, 500, 500, 564),
        (100, 300, 500, 236, 300),
        (300, 300, 10, 10, 300),
        (60, 60, 10, 0, 60),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may(soft, hard, wanted, allowed, after):
    # In a process of its own: what was lowered stays so.
    program = (
        "import resource\n"
        "from protocols.echo.descriptors import allow\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        f"print(allow({wanted}), *resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(allowed), str(after), str(hard)]
