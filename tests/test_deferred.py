"""Packages that load their names when they are first asked for look like packages that have loaded them."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import sys
import types

import pytest

from framing.deferred import deferred

PACKAGES = ["framing", "framing.codecs", "framing.framers", "framing.layers", "framing.testing"]


def tables(package: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What a package's source tells type checkers, and what it tells the interpreter: names by module."""
    module = importlib.import_module(package)
    tree = ast.parse(inspect.getsource(module))
    [block] = [one for one in tree.body if isinstance(one, ast.If)]
    told: dict[str, set[str]] = {}
    for one in block.body:
        assert isinstance(one, ast.ImportFrom)
        told.setdefault(one.module or "", set()).update(name.name for name in one.names)
    [call] = [one for one in ast.walk(block) if isinstance(one, ast.Call)]
    homes = ast.literal_eval(call.args[1])
    return told, {home: set(names.split()) for home, names in homes.items()}


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_are_told_what_the_interpreter_is(package: str) -> None:
    told, homes = tables(package)
    assert told == homes


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_listed(package: str) -> None:
    module = importlib.import_module(package)
    _, homes = tables(package)
    assert set().union(*homes.values()) <= set(module.__all__) <= set(dir(module))
    for home, names in homes.items():
        for name in names:
            assert getattr(module, name) is getattr(importlib.import_module(home), name)


def test_a_star_import_gives_all_names() -> None:
    namespace: dict[str, object] = {}
    exec("from framing import *", namespace)
    framing = importlib.import_module("framing")
    assert namespace.keys() - {"__builtins__"} == set(framing.__all__)


def test_submodules_are_attributes_without_an_import_of_their_own() -> None:
    framing = importlib.import_module("framing")
    for name in ("channel", "codecs", "errors", "framers", "layers", "presets", "wire"):
        assert getattr(framing, name) is importlib.import_module(f"framing.{name}")
        assert name in dir(framing)


@pytest.mark.parametrize("package", PACKAGES)
def test_another_name_is_an_attribute_error_as_of_any_module(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Wires'"):
        assert importlib.import_module(package).Wires


def test_a_name_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_package")
    monkeypatch.setitem(sys.modules, "a_package", module)
    load, names = deferred("a_package", {"fractions": "Fraction", "decimal": "Decimal"})
    monkeypatch.setattr(module, "__getattr__", load, raising=False)
    assert {"Decimal", "Fraction"} <= set(names()) - set(vars(module))
    first = module.Fraction
    assert vars(module)["Fraction"] is first is importlib.import_module("fractions").Fraction


def test_values_pickle_by_the_module_that_defines_them() -> None:
    framing = importlib.import_module("framing")
    framer = framing.LengthPrefixed(4)
    assert pickle.loads(pickle.dumps(framer)) == framer
