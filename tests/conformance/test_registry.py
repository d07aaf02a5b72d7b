"""Nothing escapes the laws: what is defined, or exported, is registered."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import framing
from framing import Codec, Framer, Layer
from tests.conformance.registry import FRAMERS, PRESETS, WIRES

# The bases themselves, what JSON and MessagePack share, and the kit's own spy, which counts for the seventh law.
BASES = {"Framer", "Layer", "Codec", "Typed", "Spied"}


def below(kind: type[Any]) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


def of_framing(kind: type[Any]) -> set[str]:
    for module in pkgutil.walk_packages(framing.__path__, "framing."):
        if "__main__" not in module.name:
            importlib.import_module(module.name)
    defined = {one.__name__ for one in below(kind) if one.__module__.startswith("framing.")}
    exported = {
        name
        for name in framing.__all__
        if isinstance(getattr(framing, name), type) and issubclass(getattr(framing, name), kind)
    }
    return (defined | exported) - BASES


def test_every_framer_is_registered_with_two_option_sets_at_least():
    counts = {name: sum(type(framer).__name__ == name for framer in FRAMERS) for name in of_framing(Framer)}
    assert counts
    assert {name: count for name, count in counts.items() if count < 2} == {}


def test_every_layer_is_registered():
    assert {type(layer).__name__ for wire in WIRES for layer in wire.layers} == of_framing(Layer)


def test_every_codec_is_registered():
    assert {type(wire.codec).__name__ for wire in WIRES} == of_framing(Codec)


def test_every_preset_is_registered():
    assert PRESETS.keys() == framing.presets.PRESETS.keys()


def test_a_framer_that_is_registered_nowhere_is_noticed():
    class Stray(Framer):
        pass

    Stray.__module__ = "framing.stray"
    try:
        assert "Stray" in of_framing(Framer)
    finally:
        Stray.__module__ = __name__
