"""MessagePack: what is its own, beside what `test_formats` asks of every format."""

from __future__ import annotations

import datetime as dt
import math

import msgspec
import pytest
from hypothesis import given

from framing.codecs import MessagePack
from framing.errors import DecodeError, EncodeError
from framing.kernels.audit import count_keys, msgpack_skeleton
from tests.codecs.formats import FORMATS, NAN, Point

(messages,) = (of.messages for of in FORMATS if of.codec is MessagePack)


@given(messages)
def test_the_skeleton_counts_depth_and_entries(message):
    def depth(node):
        if isinstance(node, dict):
            return 1 + max((depth(value) for value in node.values()), default=0)
        return 1 + max(map(depth, node), default=0) if isinstance(node, list) else 0

    payload = msgspec.msgpack.encode(message)
    assert msgpack_skeleton(payload, 1000) == (depth(message), count_keys(message))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\xde\x00\x01\xd9\x01a\xcd\x00\x01", {"a": 1}),
        (b"\xdf\x00\x00\x00\x01\xda\x00\x01a\xca\x3f\x80\x00\x00", {"a": 1.0}),
        (b"\xdc\x00\x02\xd1\x00\x01\xdb\x00\x00\x00\x01b", [1, "b"]),
        (b"\xdd\x00\x00\x00\x01\xc6\x00\x00\x00\x01b", [b"b"]),
    ],
)
def test_longer_forms_than_need_be_are_read(payload, message):
    assert MessagePack().decode(payload) == message


def test_what_the_format_carries_arrives():
    now = dt.datetime(2020, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    message = {"t": now, (1, "a"): 2.5, None: b"x", 1.5: msgspec.msgpack.Ext(5, b"y"), "inf": [math.inf, -math.inf]}
    assert MessagePack().decode(MessagePack().encode(message)) == message
    assert math.isnan(MessagePack().decode(MessagePack().encode({"key": [NAN]}))["key"][0])
    assert MessagePack().decode(MessagePack().encode((1, (2,)))) == [1, [2]]


def test_a_type_may_have_nan_but_not_as_a_key():
    codec = MessagePack(type=Point)
    assert math.isnan(codec.decode(codec.encode(Point(1, NAN))).y)
    assert [math.isnan(point.y) for point in codec.decode_many(codec.encode_many([Point(1, NAN)]))] == [True]
    keyed = MessagePack(type=dict[float, int])
    with pytest.raises(EncodeError, match="NaN"):
        keyed.encode({NAN: 1})
    with pytest.raises(EncodeError, match="NaN"):
        keyed.encode_many([{1.5: 1}, {NAN: 1}])
    payload = MessagePack(verify=False).encode({NAN: 1})
    for codec in (keyed, MessagePack(), MessagePack(unique_keys=False)):
        with pytest.raises(DecodeError, match="NaN"):
            codec.decode(payload)
        with pytest.raises(DecodeError, match="NaN"):
            codec.decode_many([payload])
