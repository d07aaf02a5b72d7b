"""JSON: what is its own, beside what `test_formats` asks of every format."""

from __future__ import annotations

import decimal
import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings

from framing.codecs import JSON
from framing.errors import DecodeError, EncodeError
from tests.codecs.formats import FORMATS, INF, NAN, Opaque, Point

(messages,) = (of.messages for of in FORMATS if of.codec is JSON)


def test_colons_in_strings_are_no_keys():
    assert JSON().decode(b'{"a:b": "c:d", "e" : [":", {":": 1}]}') == {"a:b": "c:d", "e": [":", {":": 1}]}


def test_a_repeated_key_is_named_and_may_be_allowed():
    with pytest.raises(DecodeError, match="'b'"):
        JSON().decode(b'{"a":1,"c":{"b":1,"b":1}}')
    assert JSON(unique_keys=False).decode(b'{"a":1,"a":2}') == {"a": 2}


def test_numbers_too_large_for_a_float_are_fine_where_the_type_has_room():
    codec = JSON(type=dict[str, decimal.Decimal])
    assert codec.decode(b'{"a": 1e999}') == {"a": decimal.Decimal("1e999")}
    with pytest.raises(DecodeError, match="twice"):
        codec.decode(b'{"a": 1e999, "a": 1}')


def test_types_that_compare_by_identity_are_sent():
    arrived = JSON(type=Opaque).decode(JSON(type=Opaque).encode(Opaque((1, 2))))
    assert (arrived.values, arrived.ratio) == ([1, 2], None)


@settings(deadline=None)
@given(messages)
def test_the_standard_library_reads_what_is_written_and_is_read_however_it_spaces(message):
    assert json.loads(JSON().encode(message)) == message
    payload = json.dumps(message, ensure_ascii=False, indent=1).encode()
    assert JSON().decode(payload) == message
    assert JSON().decode_many([payload, b"{}"]) == [message, {}]


def test_it_is_written_without_white_space():
    assert JSON().encode(None) == b"null"
    assert JSON(type=Point).encode(Point(1, 2.5)) == b'{"x":1,"y":2.5}'


def test_a_type_may_have_what_json_has_not():
    assert JSON(list[Point]).decode(b'[{"x":1,"y":null}]') == [Point(1)]
    assert JSON(type=dict[int, uuid.UUID]).decode(b'{"1":"00000000-0000-0000-0000-000000000001"}') == {
        1: uuid.UUID(int=1)
    }


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Point, Point(1, NAN)), (Opaque, Opaque([1], NAN)), (float, INF)],
    ids=["equal", "eq=False", "bare"],
)
def test_what_is_not_finite_would_arrive_as_null_and_is_refused_of_a_type_too(kind: Any, message: Any):
    with pytest.raises(EncodeError):
        JSON(type=kind).encode(message)
    with pytest.raises(EncodeError):
        JSON(type=kind).encode_many([message])


def test_newlines_between_values_hold_no_two_payloads_together():
    for payloads in ([b"[1,\n2]", b"3"], [b"[1]\n", b"[2]"], [b"\n[1]", b"{}"], [b"1", b'{"a":\n1}']):
        assert JSON().decode_many(payloads) == [json.loads(payload) for payload in payloads]
    with pytest.raises(DecodeError, match="'a'"):
        JSON().decode_many([b"{}", b'{"a":1,\n"a":2}'])
