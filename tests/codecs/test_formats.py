"""JSON, MessagePack and CBOR alike: what goes in comes out, what cannot is refused, and nothing ends the process."""

from __future__ import annotations

import dataclasses
import pickle
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framing.codecs import JSON, Codec
from framing.errors import DecodeError, EncodeError
from tests.codecs.formats import FORMATS, INF, NAN, TYPED, Format, Point, TypedFormat, nested

each = pytest.mark.parametrize("of", FORMATS, ids=repr)
each_typed = pytest.mark.parametrize("of", TYPED, ids=repr)
unhurried = settings(deadline=None)  # the first call loads the library


def cases(field: str) -> pytest.MarkDecorator:
    """Each format with each of its ``field``, named by its place: some have no repr, or one that differs by process."""
    return pytest.mark.parametrize(
        ("of", "case"),
        [pytest.param(of, case, id=f"{of}-{at}") for of in FORMATS for at, case in enumerate(getattr(of, field))],
    )


@each
def test_what_goes_in_comes_out_one_by_one_and_in_batches(of: Format):
    codec = of.codec()

    @unhurried
    @given(st.lists(of.messages, max_size=4))
    def hold(messages: list[Any]) -> None:
        payloads = [codec.encode(message) for message in messages]
        assert [codec.decode(payload) for payload in payloads] == messages
        assert codec.encode_many(iter(messages)) == payloads
        assert codec.decode_many(payloads) == messages

    hold()


@each
def test_what_another_encoder_wrote_is_read(of: Format):
    @unhurried
    @given(of.messages)
    def hold(message: Any) -> None:
        payload = of.foreign(message)
        assert of.codec().decode(payload) == message
        assert of.codec().decode_many([payload, payload]) == [message, message]

    hold()


@each
def test_any_payload_is_a_message_or_a_decode_error(of: Format):
    codec = of.codec()

    @unhurried
    @given(st.binary(max_size=60) | of.noise)
    def hold(payload: bytes) -> None:
        try:
            message = codec.decode(payload)
        except DecodeError as error:
            assert error.offset is None
            with pytest.raises(DecodeError):
                codec.decode_many([payload])
        else:
            # A NaN is not even itself, and a msgspec.msgpack.Ext does not show what is in it: either is written as itself.
            [again] = codec.decode_many([payload])
            assert again == message or codec.encode(again) == codec.encode(message)

    hold()


@cases("bad")
def test_bad_payloads_are_refused_also_among_good_ones(of: Format, case: bytes):
    codec = of.codec()
    good = codec.encode([{"a": 1}])
    with pytest.raises(DecodeError) as caught:
        codec.decode(case)
    with pytest.raises(DecodeError) as among:
        codec.decode_many([good, case, good])
    assert (str(among.value), among.value.path) == (str(caught.value), caught.value.path)


@each
def test_repeated_keys_may_be_allowed(of: Format):
    payload, message = of.twice
    with pytest.raises(DecodeError):
        of.codec().decode(payload)
    assert of.codec(unique_keys=False).decode(payload) == message
    assert of.codec(unique_keys=False).decode_many([payload]) == [message]


@each
@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("max_depth", [1, 64, 256])
def test_the_depth_limit_is_exact_in_both_directions(of: Format, kind: type, max_depth: int):
    codec = of.codec(max_depth=max_depth)
    fits, over = nested(max_depth, kind), nested(max_depth + 1, kind)
    assert codec.decode_many(codec.encode_many([fits, [1]])) == [fits, [1]]
    assert codec.decode(codec.encode(fits)) == fits
    for call in (codec.encode, lambda message: codec.encode_many([1, message])):
        with pytest.raises(EncodeError, match="deep"):
            call(over)
    for call in (codec.decode, lambda payload: codec.decode_many([codec.encode(1), payload])):
        with pytest.raises(DecodeError, match=r"deep|depth"):
            call(of.foreign(over))


@each
def test_an_empty_map_is_a_level_too(of: Format):
    with pytest.raises(DecodeError, match="deep"):
        of.codec(max_depth=1).decode(of.foreign({"a": {}}))
    with pytest.raises(EncodeError, match="deep"):
        of.codec(max_depth=1).encode({"a": {}})


@each
def test_what_only_looks_like_nesting_is_none(of: Format):
    codec = of.codec(max_depth=3)
    messages: list[Any] = [[[]] * 1000, ["[" * 1000], {'"\\[[[': ["[{" * 100] * 100}, [{"a": ['\\"[[[']}] * 100]
    messages += [["\u0110\u0450" * 1000], [{"a": ["\u0110" * 99]}] * 100]
    assert codec.decode_many(codec.encode_many(messages)) == messages
    for message in messages:
        assert codec.decode(codec.encode(message)) == message


@cases("bombs")
def test_nesting_bombs_are_refused_in_little_memory(of: Format, case: bytes):
    codec = of.codec()
    codec.decode(codec.encode(1))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            codec.decode(case)
        with pytest.raises(DecodeError):
            codec.decode_many([case])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@each
def test_messages_that_hold_themselves_or_nest_without_end_are_refused(of: Format):
    cycle: list[Any] = []
    cycle.append(cycle)
    for message in (cycle, nested(100_000), nested(100_000, dict)):
        with pytest.raises(EncodeError, match="deep"):
            of.codec().encode(message)
        with pytest.raises(EncodeError, match="deep"):
            of.codec().encode_many([message])


@cases("lost")
def test_messages_that_would_arrive_as_others_are_refused_also_among_good_ones(of: Format, case: Any):
    codec = of.codec()
    with pytest.raises(EncodeError) as caught:
        codec.encode(case)
    with pytest.raises(EncodeError) as among:
        codec.encode_many([1, case, {}])
    assert str(among.value) == str(caught.value)


@each
def test_the_error_names_the_place(of: Format):
    message, place = of.place
    with pytest.raises(EncodeError, match=place):
        of.codec().encode(message)


@each
def test_a_tuple_arrives_as_a_list_in_a_batch_too(of: Format):
    codec = of.codec()
    assert codec.decode(codec.encode({"a": (1, (2, None))})) == {"a": [1, [2, None]]}
    assert codec.decode_many(codec.encode_many([(1, (2,)), {"a": ()}])) == [[1, [2]], {"a": []}]


@each
def test_unverified_encoding_leaves_what_the_library_refuses(of: Format):
    message, payload = of.unverified
    codec = of.codec(verify=False)
    assert codec.encode(message) == payload
    assert codec.encode_many([message, message]) == [payload, payload]
    with pytest.raises(EncodeError):
        codec.encode(object())
    with pytest.raises(EncodeError):
        codec.encode_many([1, object()])


@each
def test_nothing_is_an_empty_batch(of: Format):
    assert of.codec().encode_many([]) == of.codec().decode_many([]) == []


@each
def test_a_codec_is_a_value(of: Format):
    assert of.codec() == of.codec() != of.codec(max_depth=3)
    assert len({of.codec(), of.codec(), of.codec(verify=False)}) == 2
    for codec in (of.codec(), of.codec(max_depth=3), of.codec(unique_keys=False)):
        assert pickle.loads(pickle.dumps(codec)) == codec
    assert dataclasses.replace(of.codec(), max_depth=5) == of.codec(max_depth=5)
    assert "max_depth=64" in repr(of.codec())


@each
@pytest.mark.parametrize("max_depth", [0, 257, "1"])
def test_wrong_options(of: Format, max_depth: Any):
    with pytest.raises((ValueError, TypeError), match="max_depth"):
        of.codec(max_depth=max_depth)


# --- Types


@each_typed
def test_a_type_is_read_straight_into(of: TypedFormat):
    codec = of.codec(type=Point)
    points = [Point(1, 2.5), Point(2), Point(3, 0.5)]
    assert [codec.decode(codec.encode(point)) for point in points] == points
    assert codec.decode_many(codec.encode_many(points)) == points
    assert codec.decode(of.codec().encode({"x": 1, "z": [1, {"k": 2}]})) == Point(1)
    assert codec.decode_many(of.codec().encode_many([{"x": 1, "z": {}}, {"x": 2}])) == [Point(1), Point(2)]
    sets = of.codec(type=set[int])
    assert sets.decode(sets.encode({1, 2})) == {1, 2}


@each_typed
@pytest.mark.parametrize(
    ("message", "path"), [({"x": "a"}, "$.x"), ({"x": 1, "y": "b"}, "$.y"), ([], None), ({}, None)], ids=repr
)
def test_data_of_another_type_is_refused_with_its_path(of: TypedFormat, message: Any, path: str | None):
    with pytest.raises(DecodeError) as caught:
        of.codec(type=Point).decode(of.codec().encode(message))
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("of", "payload"), [pytest.param(of, case, id=f"{of}-{at}") for of in TYPED for at, case in enumerate(of.skipped)]
)
def test_what_the_type_skips_is_judged_too(of: TypedFormat, payload: bytes):
    codec = of.codec(type=Point)
    with pytest.raises(DecodeError):
        codec.decode(payload)
    with pytest.raises(DecodeError):
        codec.decode_many([codec.encode(Point(1)), payload])


@each_typed
@pytest.mark.parametrize(
    ("kind", "message"), [(Point, Point("a")), (Point, {"x": 1}), (int, "1"), (float, "x")], ids=repr
)
def test_messages_that_are_not_of_the_type_are_refused(of: TypedFormat, kind: type, message: Any):
    with pytest.raises(EncodeError):
        of.codec(type=kind).encode(message)
    with pytest.raises(EncodeError):
        of.codec(type=kind).encode_many([message])


@each_typed
def test_a_codec_of_a_type_is_a_value(of: TypedFormat):
    assert of.codec() == of.codec(type=Any) != of.codec(type=Point)
    assert len({of.codec(type=Point), of.codec(type=Point), of.codec()}) == 2
    for codec in (of.codec(type=Point), of.codec(type=list[Point]), of.codec(type=int | None)):
        assert pickle.loads(pickle.dumps(codec)) == codec
    assert dataclasses.replace(of.codec(type=Point), max_depth=5) == of.codec(type=Point, max_depth=5)


# --- Codecs of a user's own


def test_a_subclass_with_its_own_methods_has_them_in_batches_too():
    class Shouting(JSON[Any]):
        __slots__ = ()

        def encode(self, message: Any) -> bytes:
            return JSON.encode(self, message).upper()

        def decode(self, payload: bytes) -> Any:
            return JSON.decode(self, payload.lower())

    assert Shouting().encode_many(["a", "b"]) == [b'"A"', b'"B"']
    assert Shouting().decode_many([b'"A"', b'"B"']) == ["a", "b"]


def test_a_subclass_with_its_own_batches_keeps_them():
    class Counting(Codec[int]):
        __slots__ = ()

        def decode(self, payload: bytes) -> int:
            return len(payload)

        def decode_many(self, payloads: list[bytes]) -> list[int]:
            return [-1] * len(payloads)

    assert Counting().decode_many([b"abc"]) == [-1]


def test_numbers_that_are_none_are_lost_by_json_alone():
    for of in FORMATS:
        if of.codec is not JSON:
            arrived = of.codec().decode_many(of.codec().encode_many([[NAN], [INF, -INF]]))
            assert repr(arrived) == "[[nan], [inf, -inf]]"
