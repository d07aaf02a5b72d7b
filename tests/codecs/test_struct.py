"""Struct: declared binary, to the last byte and back."""

from __future__ import annotations

import dataclasses
import pickle
import tracemalloc

import construct as c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framing.codecs import Struct
from framing.declaration import declaration_key, dump_declaration, load_declaration
from framing.errors import DecodeError, EncodeError


def declare():
    return c.Struct(
        "magic" / c.Const(b"FR"),
        "kind" / c.Enum(c.Int8ub, ask=1, answer=2),
        "count" / c.Rebuild(c.Int16ub, c.len_(c.this.values)),
        "values" / c.Array(c.this.count, c.Int32sb),
        "name" / c.PascalString(c.Int8ub, "utf8"),
        "flags" / c.BitStruct("urgent" / c.Flag, "rest" / c.BitsInteger(7)),
    )


Tree = c.Struct("count" / c.Int8ub, "below" / c.Array(c.this.count, c.LazyBound(lambda: Tree)))

sent = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["ask", "answer"]),
        "values": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
        "name": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        "flags": st.fixed_dictionaries({"urgent": st.booleans(), "rest": st.integers(0, 127)}),
    }
)
MESSAGE = {"kind": "ask", "values": [1, -2], "name": "é", "flags": {"urgent": True, "rest": 3}}


@given(sent)
def test_round_trip(message):
    codec = Struct(declare())
    arrived = codec.decode(codec.encode(message))
    assert arrived == {**message, "magic": b"FR", "count": len(message["values"])}
    assert codec.decode(codec.encode(arrived)) == arrived


def test_values_arrive_in_plain_types():
    arrived = Struct(declare()).decode(Struct(declare()).encode(MESSAGE))
    assert type(arrived) is dict
    assert type(arrived["flags"]) is dict
    assert type(arrived["values"]) is list
    assert type(arrived["kind"]) is str
    assert type(Struct(c.Hex(c.Int8ub)).decode(b"\1")) is int
    assert type(Struct(c.HexDump(c.Bytes(1))).decode(b"\1")) is bytes
    assert type(Struct(c.Enum(c.Byte, a=1)).decode(b"\5")) is int


@given(st.binary(max_size=40))
def test_any_payload_is_a_message_or_a_decode_error(payload):
    for declaration in (declare(), Tree, c.GreedyRange(c.Int16ub), c.CString("utf8")):
        try:
            Struct(declaration).decode(payload)
        except DecodeError as error:
            assert error.offset is None


def test_the_payload_is_used_to_its_last_byte():
    whole = Struct(declare()).encode(MESSAGE)
    with pytest.raises(DecodeError, match="describes") as caught:
        Struct(declare()).decode(whole + b"\0")
    assert (caught.value.expected, caught.value.got) == (len(whole), len(whole) + 1)
    for end in range(len(whole)):
        with pytest.raises(DecodeError):
            Struct(declare()).decode(whole[:end])


def test_the_path_is_told():
    with pytest.raises(DecodeError) as caught:
        Struct(c.Struct("a" / c.Struct("b" / c.Int16ub))).decode(b"\0")
    assert caught.value.path == "$.a.b"


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (c.Struct("a" / c.Byte), {}),
        (c.Struct("a" / c.Byte), {"a": 256}),
        (c.Struct("a" / c.Byte), {"a": "x"}),
        (c.Struct("a" / c.Byte), {"a": 1, "b": 2}),
        (c.Struct("a" / c.Struct("b" / c.Byte)), {"a": {"b": 1, "c": 2}}),
        (c.Struct("a" / c.Byte), None),
        (c.Struct("a" / c.Byte), 5),
        (c.Struct("a" / c.Byte), []),
        (c.Struct("n" / c.Rebuild(c.Byte, c.len_(c.this.d)), "d" / c.Bytes(c.this.n)), {"n": 9, "d": b"x"}),
        (c.Struct("m" / c.Const(b"ab")), {"m": b"xx"}),
        (c.CString("utf8"), "a\0b"),
        (c.Bytes(2), b"abc"),
        (c.Bytes(2), 5),
        (c.Byte[2], [1, 2, 3]),
        (c.Flag, 2),
        (c.Enum(c.Byte, a=1), "b"),
        (c.PaddedString(4, "utf8"), "abcde"),
        (c.PaddedString(4, "utf8"), "a\0"),
        (c.CString("utf8"), "\ud800"),
        (c.Int8ub, 1.5),
        (c.Float32b, 1e300),
    ],
)
def test_messages_that_would_arrive_as_others_are_refused(declaration, message):
    with pytest.raises(EncodeError):
        Struct(declaration).encode(message)


def test_floats_are_rounded_to_the_declared_width():
    for declaration, message in ((c.Float16b, 0.1), (c.Float32b, 1.1), (c.Float64b, 1.1), (c.Float32l, float("nan"))):
        arrived = Struct(declaration).decode(Struct(declaration).encode(message))
        assert arrived == pytest.approx(message, rel=1e-3, nan_ok=True)


@pytest.mark.parametrize(
    ("declaration", "payload"),
    [
        (c.Struct("n" / c.Int32ub, "d" / c.Array(c.this.n, c.Int16ub)), b"\x7f\xff\xff\xff"),
        (c.Struct("n" / c.Int32ub, "d" / c.Array(c.this.n, c.Pass)), b"\x7f\xff\xff\xff"),
        (c.Struct("n" / c.Int32ub, "d" / c.Optional(c.Array(c.this.n, c.Pass))), b"\x7f\xff\xff\xff"),
        (c.Struct("n" / c.Int32ub, "m" / c.Byte, "d" / c.Array(c.this.n, c.Byte[c.this.m])), b"\x7f\xff\xff\xff\0"),
        (c.Struct("n" / c.Int32ub, "d" / c.Array(c.this.n, c.If(c.this.n == 1, c.Byte))), b"\x7f\xff\xff\xff"),
        (c.Struct("n" / c.Int32ub, "d" / c.Bytes(c.this.n)), b"\x7f\xff\xff\xff"),
        (c.Prefixed(c.Int32ub, c.GreedyBytes), b"\x7f\xff\xff\xff"),
        (c.PrefixedArray(c.Int32ub, c.Struct()), b"\x7f\xff\xff\xff"),
        (c.GreedyRange(c.Pass), b""),
        (c.RepeatUntil(lambda item, _items, _context: item == 1, c.Computed(0)), b""),
        (c.Struct("n" / c.Int32sb, "d" / c.Array(c.this.n, c.Byte)), b"\xff\xff\xff\xff"),
    ],
)
def test_an_announced_length_allocates_nothing(declaration, payload):
    codec = Struct(declaration)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            codec.decode(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_as_many_elements_as_the_payload_has_bits_are_read():
    codec = Struct(c.GreedyRange(c.Bitwise(c.Array(8, c.Array(1, c.Bit)))))
    assert len(codec.decode(b"\xff" * 500)) == 500
    assert len(Struct(c.GreedyRange(c.Byte)).decode(bytes(5000))) == 5000


@pytest.mark.parametrize("payload", [b"\1" * 100_000, b"\2" * 100_000])
def test_nesting_bombs_are_refused(payload):
    with pytest.raises(DecodeError):
        Struct(Tree).decode(payload)
    assert Struct(Tree).decode(b"\2\0\1\0")["below"][1] == {"count": 1, "below": [{"count": 0, "below": []}]}


def test_two_of_equal_declarations_are_equal():
    assert Struct(declare()) == Struct(declare())
    assert hash(Struct(declare())) == hash(Struct(declare()))
    assert len({Struct(declare()), Struct(declare()), Struct(c.Byte)}) == 2
    assert pickle.loads(pickle.dumps(Struct(declare()))) == Struct(declare())
    assert pickle.loads(pickle.dumps(Struct(declare()))).encode(MESSAGE) == Struct(declare()).encode(MESSAGE)
    assert dataclasses.replace(Struct(c.Byte), verify=False) == Struct(c.Byte, verify=False) != Struct(c.Byte)
    assert Struct(c.Byte) != c.Byte


def test_a_compiled_declaration_is_run_as_its_source():
    codec = Struct(c.Struct("n" / c.Byte, "d" / c.Bytes(c.this.n)).compile())
    assert codec.decode(codec.encode({"n": 1, "d": b"x"})) == {"n": 1, "d": b"x"}


def test_bad_declarations():
    with pytest.raises(TypeError, match="construct"):
        Struct({"a": "u8"})
    with pytest.raises(ValueError, match="Pickled"):
        Struct(c.Struct("a" / c.Prefixed(c.Byte, c.Pickled)))


DIFFERENT = [
    c.Int8ub,
    c.Int8sb,
    c.Int16ub,
    c.Int16ul,
    c.Bytes(1),
    c.Bytes(2),
    c.Const(1, c.Byte),
    c.Const(2, c.Byte),
    c.Const(True, c.Byte),
    "a" / c.Byte,
    "b" / c.Byte,
    c.Struct("a" / c.Byte),
    c.Struct("b" / c.Byte),
    c.Struct("a" / c.Byte, "b" / c.Byte),
    c.Sequence("a" / c.Byte, "b" / c.Byte),
    c.Struct("b" / c.Byte, "a" / c.Byte),
    c.Enum(c.Byte, a=1),
    c.Enum(c.Byte, a=2),
    c.Enum(c.Byte, b=1),
    c.Bytes(c.this.a),
    c.Bytes(c.this.b),
    c.Bytes(c.this.a - 4),
    c.Bytes(c.this.a - 5),
    c.Bytes(4 - c.this.a),
    c.Bytes(c.len_(c.this.a)),
    c.Switch(c.this.a, {1: c.Byte}),
    c.Switch(c.this.a, {2: c.Byte}),
    c.Switch(c.this.a, {1: c.Int16ub}),
    c.Bitwise(c.Array(8, c.Bit)),
    c.Bitwise(c.Array(16, c.Bit)),
    c.Computed(len),
    c.Computed(lambda this: 1),
    c.Computed(lambda this: 2),
    c.Computed([1]),
    Tree,
]


def test_declarations_that_differ_have_keys_that_differ():
    keys = [declaration_key(declaration) for declaration in DIFFERENT]
    for index, key in enumerate(keys):
        assert keys.index(key) == index, DIFFERENT[index]
        assert declaration_key(DIFFERENT[index]) == key
        hash(key)


def test_a_lambda_does_not_pickle():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(Struct(c.Bytes(lambda this: 1)))


def test_every_single_object_of_construct_pickles():
    for single in (c.GreedyBytes, c.Flag, c.VarInt, c.ZigZag, c.Pass, c.Terminated, c.Tell, c.Index):
        assert load_declaration(dump_declaration(single)) is single


def test_declarations_made_again_have_the_same_key():
    assert declaration_key(declare()) == declaration_key(declare())
    for make in (
        lambda: c.Bitwise(c.Array(8, c.Bit)),
        lambda: c.Switch(c.this.a, {1: c.Byte}),
        lambda: c.Bytes(c.this._.a * 2 + c.len_(c.this.b)),
        lambda: c.Prefixed(c.VarInt, c.GreedyString("utf8")),
        lambda: c.ByteSwapped(c.Bytes(4)),
        lambda: c.FlagsEnum(c.Byte, a=1, b=2),
        lambda: c.BytesInteger(3, swapped=True),
    ):
        assert declaration_key(make()) == declaration_key(make())
        assert declaration_key(load_declaration(dump_declaration(make()))) == declaration_key(make())
