"""Hypothesis strategies: ways to cut a stream, payloads that a framer accepts, messages that a codec accepts.

They shrink towards what is easy to read: one chunk, short payloads of plain bytes, small messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

try:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover -- the tests have Hypothesis
    raise ImportError("the strategies of framing.testing need Hypothesis: pip install 'framing[testing]'") from error

from random import Random

from framing.codecs import CBOR, JSON, Codec, MessagePack, Raw, Struct, Text
from framing.errors import EncodeError
from framing.framers import FixedSize, Framer, LengthField
from framing.testing.samples import EDGE_SIZES, accepted, accepts, field_frame, grown, of_size, tokens

__all__ = ["cuts", "draw", "messages", "payloads"]

_PROBED = 64
_UNHURRIED = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)


def cuts(stream: bytes, *, boundaries: Sequence[int] = ()) -> st.SearchStrategy[list[bytes]]:
    """Ways to cut ``stream`` into chunks that make it up again: whole, byte by byte, anywhere; with empty chunks.

    ``boundaries`` are offsets worth a closer look, as where frames end: the cuts at them, before and behind are tried too.
    """
    size = len(stream)
    anywhere = st.integers(0, size)
    places: st.SearchStrategy[int] = anywhere
    near = sorted({at for boundary in boundaries for at in range(boundary - 1, boundary + 2) if 0 <= at <= size})
    if near:
        places = st.sampled_from(near) | anywhere

    def chunks(offsets: Sequence[int]) -> list[bytes]:
        edges = [0, *sorted(offsets), size]
        return [stream[begin:end] for begin, end in pairwise(edges)]

    some = st.lists(places, max_size=8).map(chunks)
    return st.just([stream]) | some | st.just(chunks(range(1, size)))


def payloads(framer: Framer, *, max_size: int = 300) -> st.SearchStrategy[bytes]:
    """Payloads that ``framer`` accepts, of about ``max_size`` bytes at the most (fewer where ``max_frame`` says so).

    They like what is hard for a framer: its own delimiters, marks and escapes, and sizes at the edge of a length field.
    For a framer that delivers the frame whole they are whole frames. A framer of your own is asked what it accepts, by
    its ``encode``.
    """
    most = min(max_size, framer.max_frame)
    if isinstance(framer, FixedSize):
        return _bodies(framer, framer.size, framer.size)
    if isinstance(framer, LengthField):
        frames = st.builds(field_frame, st.just(framer), st.binary(max_size=framer.offset), _bodies(framer, 0, most))
        return frames.filter(lambda frame: frame is not None).map(lambda frame: frame or b"")
    least = getattr(framer, "min_frame", 0)
    bodies = _bodies(framer, least if isinstance(least, int) else 0, most)
    if _often(framer, most):
        return bodies.filter(lambda payload: accepts(framer, payload))
    sizes = [size for size in range(min(most, _PROBED * 4) + 1) if of_size(framer, size) is not None]
    if sizes:
        of_these = st.sampled_from(sizes).flatmap(lambda size: st.binary(min_size=size, max_size=size))
        plain = st.sampled_from([of_size(framer, size) or b"" for size in sizes])
        return plain | of_these.filter(lambda payload: accepts(framer, payload))
    samples = accepted(framer, Random(0), _PROBED)  # noqa: S311 -- to be repeated, not to be secret
    if not samples:
        raise ValueError(f"no payload was found that {framer!r} accepts: write a strategy of your own for it")
    return st.sampled_from(samples) | _grown(framer, most).filter(lambda payload: accepts(framer, payload))


def _bodies(framer: Framer, least: int, most: int) -> st.SearchStrategy[bytes]:
    """Bytes of ``least`` to ``most``, some of them full of what means something to the framer."""
    plain = st.binary(min_size=least, max_size=most)
    edges = [size for size in EDGE_SIZES if least <= size <= most] or [least]
    filled = st.tuples(st.sampled_from([b"a", b"\x00", b"\xff"]), st.sampled_from(edges)).map(_repeated)
    known = tokens(framer)
    if not known:
        return plain | filled
    parts = [*known, *(token[:cut] for token in known for cut in range(1, len(token)))]
    pieces = st.lists(st.sampled_from(parts) | st.binary(max_size=3), max_size=12).map(b"".join)
    return plain | filled | pieces.filter(lambda payload: least <= len(payload) <= most)


def _repeated(letter_and_size: tuple[bytes, int]) -> bytes:
    letter, size = letter_and_size
    return letter * size


def _often(framer: Framer, most: int) -> bool:
    """Whether filtering by what the framer accepts leaves enough."""
    rng = Random(0)  # noqa: S311 -- to be repeated, not to be secret
    tried = [rng.randbytes(rng.randrange(min(most, _PROBED) + 1)) for _ in range(_PROBED)]
    return sum(accepts(framer, payload) for payload in tried) * 4 >= len(tried)


@st.composite
def _grown(draw: st.DrawFn, framer: Framer, most: int) -> bytes:
    payload = grown(framer, Random(draw(st.integers(0, 1 << 16))), most)  # noqa: S311 -- to be repeated, not to be secret
    return payload or b""


def messages(codec: Codec[Any]) -> st.SearchStrategy[Any]:
    """Messages that ``codec`` accepts; for `JSON`, `MessagePack` and `CBOR` of the type they were given, or of any.

    A codec of your own is asked, by its ``encode``, which of all kinds of messages it accepts; where it accepts few, and
    for a `Struct` of more than numbers, bytes and strings, write a strategy of your own.
    """
    every = _candidates(codec)
    return every.filter(lambda message: _carries(codec, message))


def _carries(codec: Codec[Any], message: Any) -> bool:
    try:
        codec.encode(message)
    except EncodeError:
        return False
    return True


def _candidates(codec: Codec[Any]) -> st.SearchStrategy[Any]:
    if isinstance(codec, Raw):
        return st.binary(max_size=64)
    if isinstance(codec, Text):
        return st.text(max_size=64)
    if isinstance(codec, (JSON, MessagePack)) and codec.type is not Any:
        return st.from_type(codec.type)
    if isinstance(codec, Struct):
        return _declared(codec.declaration)
    numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
    leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | numbers | st.text(max_size=20)
    if not isinstance(codec, JSON):
        leaves |= st.binary(max_size=20)
    if isinstance(codec, CBOR):
        leaves |= st.integers(-(1 << 80), 1 << 80) | st.uuids() | st.floats()
    if isinstance(codec, MessagePack):
        leaves |= st.floats()

    def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)

    return st.recursive(leaves, nested, max_leaves=12)


def _declared(declaration: Any) -> st.SearchStrategy[Any]:
    """Messages for a construct declaration of numbers, bytes, strings, enums, arrays and structs of these."""
    built = _field(declaration, 0)
    if built is None:
        raise ValueError(
            f"messages() cannot make messages for the declaration {declaration!r}: write a strategy of your own for it"
        )
    return built


def _field(part: Any, depth: int) -> st.SearchStrategy[Any] | None:
    """What one part of a declaration carries; None where that cannot be told from it."""
    kind = type(part).__name__
    inner = getattr(part, "subcon", None)
    if depth > 16:
        return None
    if kind in ("Renamed", "Rebuild", "Default", "Hex"):
        return _field(inner, depth + 1)
    if kind == "Struct":
        named: dict[str, st.SearchStrategy[Any]] = {}
        for one in part.subcons:
            if not one.name or getattr(one, "flagbuildnone", False):
                # Constants, padding and what is computed: a message need not hold them.
                continue
            strategy = _field(one, depth + 1)
            if strategy is None:
                return None
            named[one.name] = strategy
        return st.fixed_dictionaries(named)
    if kind == "FormatField":
        return _number(part.fmtstr[1])
    if kind in ("BytesInteger", "BitsInteger") and isinstance(part.length, int):
        bits = part.length * (8 if kind == "BytesInteger" else 1)
        return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if part.signed else st.integers(0, (1 << bits) - 1)
    if kind == "Bytes" and isinstance(part.length, int):
        return st.binary(min_size=part.length, max_size=part.length)
    if kind in ("Prefixed", "GreedyBytes") and (inner is None or type(inner).__name__ == "GreedyBytes"):
        return st.binary(max_size=64)
    if kind in ("StringEncoded", "CString", "PascalString"):
        return st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
    if kind == "Enum":
        return st.sampled_from([str(name) for name in part.encmapping]) if part.encmapping else None
    if kind == "VarInt":
        return st.integers(0, (1 << 64) - 1)
    if kind in ("PrefixedArray", "GreedyRange"):
        element = _field(part.subcon, depth + 1)
        return None if element is None else st.lists(element, max_size=4)
    if kind == "Array" and isinstance(part.count, int):
        element = _field(inner, depth + 1)
        return None if element is None else st.lists(element, min_size=part.count, max_size=part.count)
    return None


def _number(letter: str) -> st.SearchStrategy[Any] | None:
    """What struct's format letter carries."""
    sizes = {"b": 8, "h": 16, "i": 32, "l": 32, "q": 64}
    bits = sizes.get(letter.lower())
    if bits is not None:
        return (
            st.integers(0, (1 << bits) - 1) if letter.isupper() else st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
        )
    widths = {"e": 16, "f": 32, "d": 64}
    return st.floats(width=widths[letter], allow_nan=False) if letter in widths else None  # type: ignore[arg-type] # a Literal


def draw(strategy: st.SearchStrategy[Any], *, seed: int, count: int) -> list[Any]:
    """``count`` examples of a strategy, or fewer where it has fewer: the same ones for the same seed."""
    found: list[Any] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=_UNHURRIED,
    )
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found
