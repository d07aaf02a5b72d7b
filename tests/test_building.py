"""The package is built from its source distribution also where no compiler works: then without its compiled twin."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("framing", "protocols", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")

PROGRAM = """
import framing
decoder = framing.Wire(framing.LengthPrefixed(4), framing.Checksum("crc32c")).decoder()
frame = framing.Wire(framing.LengthPrefixed(4), framing.Checksum("crc32c")).encode(b"hello")
assert decoder.feed(frame * 3 + frame[:5]) == [b"hello"] * 3
print(framing.compiled, framing.__file__)
"""


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    pytest.importorskip("setuptools", minversion="77", reason="builds with setuptools, which is not installed here")
    tree = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
        else:
            shutil.copy(ROOT / part, tree / part)
    (tree / "tests").mkdir()
    # setuptools would take it, by its name, and nothing of what it needs.
    shutil.copy(__file__, tree / "tests")
    run("setup.py", "-q", "sdist", "--formats=tar", folder=tree)
    [archive] = (tree / "dist").glob("*.tar")
    with tarfile.open(archive) as opened:
        opened.extractall(tree / "unpacked", filter="data")
    [folder] = (tree / "unpacked").iterdir()
    return folder


def test_a_source_distribution_has_the_sources_of_the_twin_and_what_types_need(source: Path) -> None:
    native = Path("framing", "kernels", "native")
    assert sorted(path.name for path in (source / native).iterdir()) == sorted(
        path.name for path in (ROOT / native).iterdir()
    )
    assert (source / "framing" / "py.typed").exists()
    assert (source / "framing" / "kernels" / "_native.pyi").exists()


def test_a_source_distribution_has_no_tests_rather_than_some_of_them(source: Path) -> None:
    assert not (source / "tests").exists()


@pytest.mark.parametrize("environment", [{"CC": "false"}, {"FRAMING_PURE": "1"}], ids=["no compiler", "not wanted"])
def test_without_a_compiler_it_is_built_without_the_twin_and_works(
    source: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    built = tmp_path / "built"
    options = ("--build-lib", str(built), "--build-temp", str(tmp_path / "temporary"))
    run("setup.py", "-q", "build", *options, folder=source, **environment)
    assert list(built.glob("framing/kernels/_native*")) == [built / "framing" / "kernels" / "_native.pyi"]
    assert not (built / "framing" / "kernels" / "native").exists()
    clean = {"PYTHONPATH": str(built), "FRAMING_PURE": ""}
    assert run("-S", "-c", PROGRAM, folder=tmp_path, **clean).split() == [
        "False",
        str(built / "framing" / "__init__.py"),
    ]
