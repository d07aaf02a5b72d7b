"""Where the verdicts of the audits change: edges that no drawing is certain to meet. Both are asked, reference and twin."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from framing.codecs.json import _tools as json_tools
from framing.codecs.msgpack import _tools as msgpack_tools
from framing.kernels import audit
from tests.kernels.comparing import native, needs_twin


@pytest.fixture(params=["reference", pytest.param("compiled", marks=needs_twin)])
def judge(request: pytest.FixtureRequest) -> Any:
    """The module with the audits, each of the two."""
    return audit if request.param == "reference" else native


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize(
    ("head", "first", "last"),
    [(b"\xca", b"\x7f\x80\0\1", b"\x7f\xff\xff\xff"), (b"\xcb", b"\x7f\xf0\0\0\0\0\0\1", b"\x7f" + b"\xff" * 7)],
)
def test_every_nan_is_one_from_the_first_to_the_last_and_no_infinity_is(
    judge: Any, head: bytes, first: bytes, last: bytes, sign: int
) -> None:
    tools = msgpack_tools(Any)
    for bits in (first, last, (int.from_bytes(first) - 1).to_bytes(len(first)), b"\x7f\x7f" + last[2:]):
        number = bytes([bits[0] | sign]) + bits[1:]
        nan = math.isnan(struct.unpack(">f" if len(bits) == 4 else ">d", number)[0])
        assert nan == (bits in (first, last))
        payload = b"\x81" + head + number + b"\1"
        for unique in (True, False):
            sound = judge.msgpack_sound([payload], [tools.decode(payload)], 64, unique, tools.same)
            assert sound is not nan


@pytest.mark.parametrize(
    ("payload", "depth"),
    [
        (rb'"\"[[[[["', 0),
        (rb'"\\\"{{{{{"', 0),
        (rb'["\\"]' + b" " * 9, 1),
        (rb'[["\\",[[]],"]]]]]]"]]', 4),
        (rb'{"\"}}}}": {"[[[[\\": {}}}', 3),
    ],
)
def test_a_quote_behind_a_backslash_ends_no_string(judge: Any, payload: bytes, depth: int) -> None:
    tools = json_tools(Any)
    message = tools.decode(payload)
    assert judge.json_within([payload], depth) is True
    assert judge.json_sound([payload], [message], depth, True, tools.same) is True
    if depth:
        assert judge.json_within([payload], depth - 1) is False


@pytest.mark.parametrize(
    ("payload", "unique"),
    [
        (rb'{"a\":": 1, "b": ":"}', True),
        (rb'{"a": "\":\":\":", "b": 1, "c": ["\":"]}', True),
        (rb'{"a": "\":", "a": 1}', False),
        (rb'{"a\\": 1, "a\\": 2}', False),
        (rb'[{"\\": "\\\"", "\"": "\\"}, {"\"": 1, "\"": 2}]', False),
    ],
)
def test_a_colon_behind_an_escaped_quote_is_no_name(judge: Any, payload: bytes, unique: bool) -> None:
    tools = json_tools(Any)
    message = tools.decode(payload)
    assert judge.json_sound([payload], [message], 64, True, tools.same) is unique
    assert judge.json_sound([payload], [message], 64, False, tools.same) is True


def test_a_message_that_nests_deeper_than_the_processors_stack_is_judged(judge: Any) -> None:
    message: list[Any] = []
    for _ in range(200_000):
        message = [message]
    assert judge.cbor_sound(b"\x81" * 200_000 + b"\x80", message, 256) is False
    assert judge.is_plain(message, 256) is False
