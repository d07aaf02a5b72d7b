r"""The spec string: a wire written in words, for command lines and configuration files.

    spec   = framer *("+" layer) ["+" codec]
    part   = word [":" value] ["(" option *("," option) ")"]
    option = [name "="] value
    value  = number [K | M | G] | word | 'text' | b"bytes"

``u32+crc32+msgpack``, ``lines(max_frame=64K)+json``, ``fixed:16``, ``delimited(b"\x1c\r", start=b"\x0b")``. What is read is
checked by the classes themselves; what is wrong is named, with the nearest right word. `write` gives the shortest
spelling that `parse` reads back as an equal value. Keys are secrets, and types no words: neither has a spelling.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from framing import presets
from framing.codecs import CBOR, JSON, Codec, MessagePack, Raw, Text
from framing.errors import SpecError
from framing.framers import (
    COBS,
    HDLC,
    SLIP,
    ContentLength,
    Delimited,
    FixedSize,
    Framer,
    LengthField,
    LengthPrefixed,
    Lines,
    Netstring,
    OctetCounted,
    RecordMarked,
    VarintPrefixed,
)
from framing.layers import CHECKSUMS, Checksum, Compressed, Layer

__all__ = ["parse", "words", "write"]


@dataclass(frozen=True, slots=True)
class _Word:
    """What a word stands for: a class, the options that the word fixes, and those that may be given by position."""

    kind: str
    make: type[Any]
    fixed: Mapping[str, Any]
    positional: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def options(self) -> list[str]:
        return [one.name for one in fields(self.make) if one.init and one.name not in (*self.fixed, *self.hidden)]


_WORDS: dict[str, _Word] = {
    **{
        f"u{8 * width}{suffix}": _Word("framer", LengthPrefixed, {"width": width, "byteorder": order})
        for width in range(1, 9)
        for suffix, order in (("", "big"), ("le", "little"))
        if width > 1 or not suffix
    },
    "varint": _Word("framer", VarintPrefixed, {}),
    "field": _Word("framer", LengthField, {}, ("width", "byteorder")),
    "netstring": _Word("framer", Netstring, {}),
    "octets": _Word("framer", OctetCounted, {}),
    "lsp": _Word("framer", ContentLength, {}),
    "lines": _Word("framer", Lines, {"newline": b"\n"}),
    "crlf": _Word("framer", Lines, {"newline": b"\r\n"}),
    "cr": _Word("framer", Lines, {"newline": b"\r"}),
    "nul": _Word("framer", Delimited, {"delimiters": (b"\x00",)}),
    "delimited": _Word("framer", Delimited, {}, ("delimiters",)),
    "fixed": _Word("framer", FixedSize, {}, ("size",)),
    "cobs": _Word("framer", COBS, {}),
    "slip": _Word("framer", SLIP, {}),
    "hdlc": _Word("framer", HDLC, {}),
    "records": _Word("framer", RecordMarked, {}),
    **{name: _Word("layer", Checksum, {"name": name}) for name in CHECKSUMS},
    **{name: _Word("layer", Compressed, {"algorithm": name}) for name in ("zlib", "gzip", "zstd")},
    "raw": _Word("codec", Raw, {}),
    "text": _Word("codec", Text, {}, ("encoding",)),
    "json": _Word("codec", JSON, {}, hidden=("type",)),
    "msgpack": _Word("codec", MessagePack, {}, hidden=("type",)),
    "cbor": _Word("codec", CBOR, {}, hidden=("tags",)),
}

_NAME = re.compile(r"[A-Za-z][\w.-]*")
_TOKEN = re.compile(
    r"""\s*(?:(?P<op>[=,()+:])|(?P<quoted>b?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))|(?P<bare>[\w.\-]+))\s*"""
)
_NUMBER = re.compile(r"(-?[0-9]+)([KMG]?)")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}
_BARE = {"true": True, "false": False, "none": None}


def words() -> dict[str, list[str]]:
    """Every word of the spec string by kind: ``framer``, ``layer``, ``codec`` and ``preset``."""
    kinds: dict[str, list[str]] = {"framer": [], "layer": [], "codec": [], "preset": list(presets.PRESETS)}
    for name, word in _WORDS.items():
        kinds[word.kind].append(name)
    return kinds


def parse(spec: str) -> tuple[Framer, tuple[Layer, ...], Codec[Any]]:
    """The framer, layers and codec that ``spec`` names; raises `SpecError`."""
    if not isinstance(spec, str):  # pyright: ignore[reportUnnecessaryIsInstance] configuration files are not typed
        raise SpecError(f"a spec is a str such as 'u32+json', not {type(spec).__name__}")
    made = [_make(part, name, positional, named) for part, name, positional, named in _parts(spec)]
    codec: Codec[Any] = made.pop()[1] if len(made) > 1 and isinstance(made[-1][1], Codec) else Raw()
    if not isinstance(made[0][1], Framer):
        raise _wrong(made[0][0], "a spec begins with a framer, such as u32 or lines")
    for part, value in made[1:]:
        if not isinstance(value, Layer):
            kind = (
                "the codec comes last, and once"
                if isinstance(value, Codec)
                else "there is one framer, and it comes first"
            )
            raise _wrong(part, kind)
    return made[0][1], tuple(value for _, value in made[1:]), codec


def write(framer: Framer, layers: Iterable[Layer], codec: Codec[Any]) -> str:
    """The shortest spec that `parse` reads back as equal values; raises `SpecError` where there is none."""
    parts = [_write_framer(framer), *map(_write, layers)]
    if codec != Raw():
        parts.append(_write(codec))
    return "+".join(parts)


def _wrong(part: str, reason: str, word: str = "", known: Iterable[str] = ()) -> SpecError:
    import difflib  # noqa: PLC0415 needed for errors alone

    close = difflib.get_close_matches(word.lower(), known, 1, 0.5) if word else []
    nearest = close[0] if close else None
    hint = f"; did you mean {nearest!r}?" if nearest else ""
    return SpecError(f"in the spec, {part!r}: {reason}{hint}", part=part, nearest=nearest)


def _parts(spec: str) -> list[tuple[str, str, list[Any], dict[str, Any]]]:
    """Read the parts: their text, their word, the values given by position and those given by name."""
    tokens: list[tuple[str, str, int]] = []
    at = 0
    while at < len(spec):
        found = _TOKEN.match(spec, at)
        if found is None:
            raise _wrong(spec[at:], "this cannot be read")
        kind = found.lastgroup or ""
        tokens.append((kind, found[kind], found.start(kind)))
        at = found.end()
    parts: list[tuple[str, str, list[Any], dict[str, Any]]] = []
    index = 0

    def take(kind: str, text: str | None = None) -> str | None:
        nonlocal index
        if index < len(tokens) and tokens[index][0] == kind and text in (None, tokens[index][1]):
            index += 1
            return tokens[index - 1][1]
        return None

    def value() -> Any:
        for kind in ("quoted", "bare"):
            text = take(kind)
            if text is not None:
                return _value(text, kind == "quoted", spec)
        rest = spec[tokens[index][2] :] if index < len(tokens) else ""
        raise _wrong(spec, f"a value is missing before {rest!r}" if rest else "a value is missing at its end")

    while True:
        begin = tokens[index][2] if index < len(tokens) else len(spec)
        name = take("bare")
        if name is None or not _NAME.fullmatch(name):
            raise _wrong(spec[begin:] or spec, "a word is missing here" if name is None else "this is no word")
        positional: list[Any] = []
        named: dict[str, Any] = {}
        if take("op", ":"):
            positional.append(value())
        if take("op", "("):
            while not take("op", ")"):
                if index + 1 < len(tokens) and tokens[index + 1][:2] == ("op", "=") and tokens[index][0] == "bare":
                    option = tokens[index][1]
                    index += 2
                    if option in named:
                        raise _wrong(name, f"option {option!r} is given twice")
                    named[option] = value()
                else:
                    positional.append(value())
                if not take("op", ",") and (index >= len(tokens) or tokens[index][1] != ")"):
                    raise _wrong(spec[begin:], "its parenthesis is not closed")
        end = tokens[index][2] if index < len(tokens) else len(spec)
        parts.append((spec[begin:end].strip(), name, positional, named))
        if index == len(tokens):
            return parts
        if not take("op", "+"):
            raise _wrong(spec[begin:], f"expected '+' before {spec[end:]!r}")


def _value(text: str, quoted: bool, spec: str) -> Any:
    if quoted:
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError) as error:
            raise _wrong(spec, f"{text} is no text or bytes: {error}") from None
    number = _NUMBER.fullmatch(text)
    if number is not None and len(text) <= 20:
        return int(number[1]) << _UNITS[number[2]]
    return _BARE.get(text.lower(), text)


def _make(part: str, name: str, positional: list[Any], named: dict[str, Any]) -> tuple[str, Any]:
    preset = presets.PRESETS.get(name.replace("-", "_"))
    word = _WORDS.get(name)
    if word is None and preset is None:
        if name == "signed":
            raise _wrong(part, "a key does not belong into a spec: give Wire(framer, Signed(key), …) in the program")
        raise _wrong(part, "there is no framer, layer, codec or preset of this name", name, [*_WORDS, *presets.PRESETS])
    options = word.options() if word is not None else _preset_options(name.replace("-", "_"))
    for option in named:
        if option not in options:
            raise _wrong(
                part, f"{name} has no option {option!r} (it has {', '.join(options) or 'none'})", option, options
            )
    try:
        if word is None:
            assert preset is not None
            if positional:
                raise _wrong(part, f"{name} takes no value by position")
            return part, preset(**named)
        if word.positional == ("delimiters",):
            return part, word.make(*positional, **named)
        if len(positional) > len(word.positional):
            takes = ", ".join(word.positional) or "none"
            raise _wrong(part, f"{name} takes fewer values by position ({takes})")
        if word.positional and not positional and word.positional[0] not in named and _required(word):
            raise _wrong(part, f"{name} needs its {word.positional[0]}, as in {name}(4)")
        given = dict(zip(word.positional, positional, strict=False))
        if twice := given.keys() & named.keys():
            raise _wrong(part, f"option {twice.pop()!r} is given twice")
        return part, word.make(**word.fixed, **given, **named)
    except SpecError:
        raise
    except (TypeError, ValueError) as error:
        raise _wrong(part, str(error)) from error


def _preset_options(name: str) -> list[str]:
    """What a preset may be given by name, as far as it can be written in a spec; asked of the function itself."""
    return list(inspect.signature(presets.PRESETS[name]).parameters)


def _required(word: _Word) -> bool:
    first = next(one for one in fields(word.make) if one.name == word.positional[0])
    return first.default is MISSING and first.default_factory is MISSING


def _default(one: Any) -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default


def _write_framer(framer: Framer) -> str:
    try:
        spelled = _write(framer)
    except SpecError:
        spelled = ""
    if not spelled or "(" in spelled or ":" in spelled:
        limited = ""
        for name, preset in presets.PRESETS.items():
            same = preset()
            if same == framer:
                return name
            if not limited and type(same) is type(framer) and replace(same, max_frame=framer.max_frame) == framer:
                limited = f"{name}(max_frame={_text(framer.max_frame)})"
        spelled = spelled or limited
    return spelled or _write(framer)


def _write(value: Any) -> str:
    best: str | None = None
    for name, word in _WORDS.items():
        if type(value) is not word.make or any(getattr(value, key) != fixed for key, fixed in word.fixed.items()):
            continue
        spelled = _spell(name, word, value)
        if spelled is not None and (best is None or len(spelled) < len(best)):
            best = spelled
    if best is None:
        raise _wrong(type(value).__name__, "it has no spelling in a spec string: an option of it is no word or number")
    return best


def _spell(name: str, word: _Word, value: Any) -> str | None:
    options: list[str] = []
    by_position = list(word.positional)
    for one in fields(word.make):
        current = getattr(value, one.name)
        if one.name in word.fixed or not one.init:
            continue
        default = _default(one)
        if current == default and type(current) is type(default):
            continue
        if one.name == "delimiters":
            options += map(repr, current)
            continue
        text = _text(current)
        if text is None or one.name in word.hidden:
            return None
        in_place = bool(by_position) and by_position[0] == one.name
        if in_place:
            by_position.pop(0)
        else:
            by_position.clear()
        options.append(text if in_place else f"{one.name}={text}")
    if name == "fixed" and len(options) == 1:
        return f"{name}:{options[0]}"
    return f"{name}({', '.join(options)})" if options else name


def _text(value: Any) -> str | None:
    """How a value is written, or None where it cannot be."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        for unit in ("G", "M", "K"):
            if value and value % (1 << _UNITS[unit]) == 0:
                return f"{value >> _UNITS[unit]}{unit}"
        return str(value)
    if isinstance(value, str):
        plain = _NAME.fullmatch(value) and value.lower() not in _BARE
        return value if plain else repr(value)
    return repr(value) if isinstance(value, bytes) else None
