"""The channel: states as the table says, messages before errors, all-or-nothing sending, deadlines by the caller's clock."""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import framing
from framing import (
    JSON,
    Channel,
    Checksum,
    ConnectionClosed,
    ConnectionReset,
    CorruptFrame,
    DecodeError,
    EncodeError,
    FrameTooLarge,
    LengthPrefixed,
    Lines,
    Netstring,
    Timeout,
    TruncatedFrame,
    Violation,
    Wire,
)
from framing.channel import TRANSITIONS, Event, State
from framing.kernels.outbox import OVERHEAD

WIRE = Wire(LengthPrefixed(2, max_frame=1000), JSON())
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "reference" / "channel.md"


def drain(channel):
    """Write all that is queued, whole buffers at a time."""
    out = b""
    while buffers := channel.outgoing():
        out += b"".join(map(bytes, buffers))
        channel.sent(sum(map(len, buffers)))
    return out


def in_state(state):
    """A channel that came into ``state`` by what really leads there."""
    channel = Channel(WIRE, idle_timeout=10.0)
    if state is State.HALF_CLOSED_LOCAL:
        channel.send_eof()
    elif state is State.HALF_CLOSED_REMOTE:
        channel.receive_eof()
    elif state is State.CLOSED:
        channel.close()
    elif state is State.FAILED:
        channel.lost(ConnectionReset("gone"))
    assert channel.state is state
    return channel


def happen(channel, event):
    match event:
        case Event.SEND:
            channel.send(1)
        case Event.RECEIVE:
            channel.receive(WIRE.encode(1))
        case Event.SEND_EOF:
            channel.send_eof()
        case Event.RECEIVE_EOF:
            channel.receive_eof()
        case Event.VIOLATION:
            with pytest.raises(FrameTooLarge):
                channel.receive(b"\xff\xff")
        case Event.TIMEOUT:
            with pytest.raises(Timeout):
                channel.expire(10.0)
        case Event.LOST:
            channel.lost(ConnectionReset("gone"))
        case Event.CLOSE:
            channel.close()


def diagram():
    """The states and what leads from one to another, as mermaid draws them, out of the table alone."""
    name = {state: "".join(word.title() for word in state.name.split("_")) for state in State}
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, event), target in TRANSITIONS.items():
        if state is not target:
            arrows.setdefault((state, target), []).append(event.value)
    lines = ["stateDiagram-v2", f"    [*] --> {name[State.OPEN]}"]
    lines += [f"    {name[a]} --> {name[b]}: {', '.join(events)}" for (a, b), events in arrows.items()]
    return "\n".join([*lines, *(f"    {name[end]} --> [*]" for end in (State.CLOSED, State.FAILED))])


def test_the_diagram_in_the_documentation_is_the_table():
    drawn = re.search(r"```mermaid\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert drawn is not None
    assert drawn[1] == diagram()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_each_event_in_each_state_leads_where_the_table_says_or_is_refused(state, event):
    channel = in_state(state)
    target = TRANSITIONS.get((state, event))
    if target is not None:
        happen(channel, event)
        assert channel.state is target
        return
    if event is Event.TIMEOUT:
        channel.expire(1e9)  # ended channels have no deadlines
    else:
        with pytest.raises((ConnectionClosed, ConnectionReset)):
            happen(channel, Event.RECEIVE if event is Event.VIOLATION else event)
    assert channel.state is state
    assert not channel.queued


def test_ends_are_final():
    assert {target for (state, _), target in TRANSITIONS.items() if state is State.CLOSED} == {State.CLOSED}
    assert {target for (state, _), target in TRANSITIONS.items() if state is State.FAILED} == {State.FAILED}


def test_what_one_channel_sends_another_receives_however_it_is_cut():
    messages = [{"n": n, "list": [n] * n} for n in range(20)]
    sender, receiver = Channel(WIRE), Channel(WIRE)
    for message in messages[:10]:
        sender.send(message)
    sender.send_many(messages[10:])
    stream = drain(sender)
    assert [m for byte in stream for m in receiver.receive(bytes([byte]))] == messages
    assert receiver.receive_eof() == []
    assert receiver.state is State.HALF_CLOSED_REMOTE


def test_messages_before_a_violation_are_returned_and_then_it_is_raised_again_and_again():
    channel = Channel(WIRE)
    channel.send("queued before")
    assert channel.receive(WIRE.encode(1) + b"\xff\xff") == [1]
    assert channel.state is State.OPEN
    channel.send("the answer to 1")
    assert channel.pending
    for _ in range(3):
        with pytest.raises(FrameTooLarge) as caught:
            channel.receive(b"")
        assert caught.value is channel.error
    assert channel.state is State.FAILED
    with pytest.raises(ConnectionClosed) as refused:
        channel.send(2)
    assert refused.value.__cause__ is channel.error
    assert drain(channel) == WIRE.encode("queued before") + WIRE.encode("the answer to 1")


def test_a_refused_payload_is_raised_in_its_place_and_the_stream_goes_on():
    channel = Channel(WIRE)
    bad = LengthPrefixed(2).encode(b"{")
    assert channel.receive(WIRE.encode(1) + bad + WIRE.encode(2)) == [1]
    with pytest.raises(DecodeError):
        channel.receive(b"")
    assert channel.receive(b"") == [2]
    assert channel.state is State.OPEN
    assert not channel.pending


@pytest.mark.parametrize("size", range(1, len(WIRE.encode("hello"))))
def test_eof_inside_a_frame_is_truncation_at_every_byte(size):
    channel = Channel(WIRE)
    assert channel.receive(WIRE.encode(1) + WIRE.encode("hello")[:size]) == [1]
    with pytest.raises(TruncatedFrame):
        channel.receive_eof()
    assert channel.state is State.FAILED
    with pytest.raises(TruncatedFrame):
        channel.receive_eof()


def test_eof_gives_first_what_was_waiting_then_the_error():
    wire = Wire(framing.Lines(final="optional"), JSON())
    channel = Channel(wire)
    assert channel.receive(b"1\n2") == [1]
    assert channel.receive_eof() == [2]
    assert channel.receive_eof() == []
    assert channel.state is State.HALF_CLOSED_REMOTE


def test_replies_can_be_sent_after_the_peers_eof():
    channel = Channel(WIRE)
    channel.receive(WIRE.encode(1))
    channel.receive_eof()
    channel.send("reply")
    channel.send_eof()
    assert channel.state is State.CLOSED
    assert not channel.eof_due
    assert drain(channel) == WIRE.encode("reply")
    assert channel.eof_due


def test_nothing_is_queued_when_encoding_fails():
    channel = Channel(Wire(LengthPrefixed(1), JSON()))
    for refused in (object(), float("nan"), "x" * 300):
        with pytest.raises(EncodeError):
            channel.send(refused)
        with pytest.raises(EncodeError):
            channel.send_many([1, 2, refused])
    assert channel.queued == 0
    assert channel.outgoing() == []


def test_any_number_of_bytes_may_be_written_at_a_time():
    frames = [b"a" * 10, b"b" * 40_000, b"c", b"", b"d" * 16_384, b"e" * 5]
    wire = Wire(LengthPrefixed(4))
    for step in (1, 7, 16_384, 100_000):
        channel = Channel(wire)
        channel.send_many(frames[:1])
        for frame in frames[1:]:
            channel.send(frame)
        expected, out = wire.encode_many(frames), bytearray()
        while channel.queued:
            joined = (
                b"".join(map(bytes, channel.outgoing()))[:step] if step > 1000 else bytes(channel.outgoing()[0][:step])
            )
            out += joined
            channel.sent(len(joined))
            if len(out) == 7:
                channel.send(b"late")
                expected += wire.encode(b"late")
        assert out == expected
        assert channel.outgoing() == []


def test_no_more_is_given_than_asked_for():
    channel = Channel(Wire(LengthPrefixed(4)))
    frames = [b"a" * 20_000, b"b" * 20_000, b"c"]
    for frame in frames:
        channel.send_encoded(frame)
    stream = b"".join(frames)
    assert channel.outgoing(0) == []
    for most in (1, 19_999, 20_000, 20_001, 40_000, 40_001, 50_000):
        assert b"".join(channel.outgoing(most)) == stream[:most]
    channel.sent(30_000)
    assert b"".join(channel.outgoing(10_000)) == stream[30_000:40_000]


def test_more_than_was_queued_cannot_have_been_written():
    channel = Channel(WIRE)
    channel.send(1)
    for count in (channel.queued + 1, -1):
        with pytest.raises(ValueError, match="bytes were written of"):
            channel.sent(count)


def test_small_frames_are_joined_and_large_ones_are_handed_over_uncopied():
    channel = Channel(Wire(LengthPrefixed(4)))
    for _ in range(1000):
        channel.send(b"small")
    large = LengthPrefixed(4).encode(b"x" * 100_000)
    channel.send_encoded(large)
    buffers = channel.outgoing()
    assert [len(buffer) for buffer in buffers] == [9000, 100_004]
    assert buffers[1] is large


def test_a_call_gives_a_bounded_number_of_buffers_and_the_rest_later():
    channel = Channel(Wire(LengthPrefixed(4)))
    for _ in range(200):
        channel.send(b"x" * 20_000)
    assert len(channel.outgoing()) == 64
    assert len(drain(channel)) == 200 * 20_004


def test_paused_from_above_high_water_until_low_water():
    channel = Channel(Wire(LengthPrefixed(4)), high_water=100, low_water=20)
    channel.send(b"x" * 96)
    assert (channel.queued, channel.paused) == (100, False)
    channel.send(b"")
    assert channel.paused
    channel.sent(83)
    assert (channel.queued, channel.paused) == (21, True)
    channel.sent(1)
    assert (channel.queued, channel.paused) == (20, False)


def test_the_lent_buffer_receives_like_chunks_do():
    channel = Channel(WIRE)
    stream = WIRE.encode_many([1, [2], {"three": 3}]) + b"\xff\xff"
    channel.get_buffer()[: len(stream)] = stream
    assert channel.buffer_updated(len(stream)) == [1, [2], {"three": 3}]
    with pytest.raises(FrameTooLarge):
        channel.get_buffer()
    assert Channel(WIRE).pending is False


def test_unconsumed_bytes_can_be_taken_over_by_an_upgrade():
    channel = Channel(WIRE)
    channel.receive(WIRE.encode(1) + b"\x00")
    assert (channel.unconsumed, channel.buffered) == (b"\x00", 1)


# ------------------------------------------------------------------- deadlines


def test_without_timeouts_there_is_no_deadline():
    channel = Channel(WIRE)
    channel.receive(b"\x00")
    assert channel.deadline is None
    channel.expire(1e12)
    assert channel.state is State.OPEN


def test_slow_loris_drip_does_not_extend_the_frame_deadline():
    """A row of the hardening list: a deadline for each frame, not only for idleness."""
    channel = Channel(WIRE, frame_timeout=5.0, now=100.0)
    frame = WIRE.encode("x" * 50)
    for index in range(4):
        assert channel.receive(frame[index : index + 1], now=100.0 + index) == []
        channel.expire(100.0 + index)
        assert channel.deadline == 105.0
    channel.expire(104.99)
    with pytest.raises(Timeout, match=r"in 5 s: 4 bytes"):
        channel.expire(105.0)
    assert channel.state is State.FAILED
    assert channel.deadline is None
    with pytest.raises(Timeout):
        channel.receive(frame[4:])


def test_the_frame_deadline_starts_anew_when_a_frame_completes():
    channel = Channel(WIRE, frame_timeout=5.0)
    frame = WIRE.encode("hello")
    channel.receive(frame[:3], now=1.0)
    assert channel.deadline == 6.0
    assert channel.receive(frame[3:] + frame[:1], now=5.5) == ["hello"]
    assert channel.deadline == 10.5
    assert channel.receive(frame[1:], now=6.0) == ["hello"]
    assert channel.deadline is None


def test_a_refused_payload_completes_its_frame():
    channel = Channel(WIRE, frame_timeout=5.0)
    bad = LengthPrefixed(2).encode(b"{")
    channel.receive(bad[:1], now=0.0)
    with pytest.raises(DecodeError):
        channel.receive(bad[1:] + b"\x00", now=4.0)
    assert channel.receive(b"") == []
    assert channel.deadline == 9.0


def test_idleness_is_counted_from_the_last_byte_in_either_direction():
    channel = Channel(WIRE, idle_timeout=10.0, now=50.0)
    assert channel.deadline == 60.0
    channel.receive(b"\x00", now=55.0)
    assert channel.deadline == 65.0
    channel.send(1)
    channel.sent(1, now=58.0)
    assert channel.deadline == 68.0
    channel.expire(67.9)
    with pytest.raises(TimeoutError, match="nothing was received or written for 10 s"):
        channel.expire(68.0)


def test_the_earlier_deadline_counts():
    channel = Channel(WIRE, idle_timeout=10.0, frame_timeout=3.0)
    channel.receive(b"\x00", now=5.0)
    assert channel.deadline == 8.0


@pytest.mark.parametrize("options", [{"frame_timeout": 0}, {"idle_timeout": -1}, {"low_water": 5, "high_water": 4}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="give"):
        Channel(WIRE, **options)


def test_lost_forgets_what_nobody_will_read_and_keeps_the_first_error():
    channel = Channel(WIRE)
    channel.send(1)
    first = ConnectionReset("first")
    channel.lost(first)
    channel.lost(ConnectionReset("second"))
    assert (channel.error, channel.queued) == (first, 0)
    with pytest.raises(ConnectionReset, match="first"):
        channel.receive(b"x")


def test_an_error_that_is_raised_again_does_not_grow_a_traceback():
    channel = Channel(Wire(Netstring(), Checksum("crc32"), JSON()))
    with pytest.raises(CorruptFrame):
        channel.receive(b"x")
    depths = []
    for _ in range(5):
        with pytest.raises(CorruptFrame) as caught:
            channel.receive(b"x")
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


def test_the_frame_deadline_covers_a_frame_that_is_being_skipped() -> None:
    channel = Channel(Wire(Lines(max_frame=4, on_oversize="skip")), frame_timeout=5.0)
    for second in range(5):
        assert channel.receive(b"xxxxxxxx", float(second)) == []
    assert channel.deadline == 5.0
    with pytest.raises(Timeout, match="did not complete it"):
        channel.expire(5.0)


RAW = Wire(LengthPrefixed(2, max_frame=1000))


def test_what_was_gathered_leaves_in_its_place_among_all_that_is_sent():
    channel = Channel(RAW)
    channel.send(b"1")
    payloads, room = channel.gather()
    assert payloads == []
    assert room > 0
    payloads += [b"2", b"3"]
    channel.send(b"4")
    payloads.append(b"5")
    channel.send_encoded(RAW.encode(b"6"))
    payloads.append(b"7")
    channel.send_many([b"8", b"9"])
    payloads.append(b"10")
    assert channel.queued == len(RAW.encode_many([b"%d" % number for number in range(1, 11)]))
    assert RAW.decoder().feed(drain(channel)) == [b"%d" % number for number in range(1, 11)]


@pytest.mark.parametrize("end", ["send_eof", "close", "violation"])
def test_what_was_gathered_before_the_end_is_still_written_and_what_came_behind_it_never(end):
    channel = Channel(RAW)
    payloads, _ = channel.gather()
    payloads.append(b"before")
    if end == "violation":
        with pytest.raises(FrameTooLarge):
            channel.receive(b"\xff\xff")
    else:
        getattr(channel, end)()
    payloads.append(b"behind")
    assert channel.gather() == (None, 0)
    assert drain(channel) == RAW.encode(b"before")
    assert channel.eof_due


@pytest.mark.parametrize("end", ["drop", "lost"])
def test_what_was_gathered_is_forgotten_with_all_else(end):
    channel = Channel(RAW)
    payloads, _ = channel.gather()
    payloads.append(b"x")
    if end == "drop":
        assert channel.drop() == len(RAW.encode(b"x"))
    else:
        channel.lost(ConnectionReset("gone"))
    assert (channel.queued, channel.outgoing()) == (0, [])


def test_the_room_is_what_is_left_below_the_high_mark_so_that_nothing_gathered_makes_it_paused():
    channel = Channel(RAW, high_water=500, low_water=0)
    assert channel.gather()[1] == 500
    channel.send(bytes(98))
    payloads, room = channel.gather()
    assert room == 400
    while room >= OVERHEAD + 10:
        payloads.append(bytes(10))
        room -= OVERHEAD + 10
    assert channel.queued <= 500
    assert not channel.paused
    channel.send(bytes(998))
    assert channel.paused
    assert channel.gather()[1] <= 0


def test_no_payload_that_is_gathered_is_larger_than_a_frame_may_be():
    assert Channel(Wire(LengthPrefixed(1))).gather()[1] == 255
    assert Channel(Wire(LengthPrefixed(4, max_frame=77), JSON())).gather()[1] == 77


@pytest.mark.parametrize("framer", [Lines(), LengthPrefixed(2, min_frame=1), Netstring()], ids=repr)
def test_nothing_is_gathered_where_a_payload_must_be_looked_at(framer):
    assert Channel(Wire(framer)).gather() == (None, 0)


def test_a_push_writes_what_is_queued_once_and_says_what_is_left():
    channel = Channel(RAW)
    taken = []

    def write(buffers, most=7):
        data = b"".join(map(bytes, buffers))[:most]
        taken.append(data)
        return len(data)

    assert channel.push(write) == 0
    assert taken == []
    payloads, _ = channel.gather()
    payloads += [b"abc", b"defg"]
    assert channel.push(write) == 4
    assert (taken, channel.written) == ([b"\0\3abc\0\4"], 7)
    payloads += [b"hi"]
    assert channel.push(write) == 1
    assert channel.push(write) == 0
    assert b"".join(taken) == RAW.encode_many([b"abc", b"defg", b"hi"])
    assert channel.written == 15
    assert channel.outgoing() == []
    payloads += [b"all"]
    assert channel.push(write) == 0
    assert taken[-1] == RAW.encode(b"all")
    assert channel.written == 20


@pytest.mark.parametrize("before", [b"", b"before"])
def test_where_writing_raises_nothing_is_lost(before):
    channel = Channel(RAW)
    if before:
        channel.send_encoded(before)
    payloads, _ = channel.gather()
    payloads.append(b"x")

    def write(_):
        raise BlockingIOError

    with pytest.raises(BlockingIOError):
        channel.push(write)
    assert drain(channel) == before + RAW.encode(b"x")
    assert channel.written == len(before) + 3


def test_a_push_of_so_many_bytes_writes_no_more_of_what_was_gathered():
    channel = Channel(Wire(LengthPrefixed(4)))
    channel.send(b"before")
    gathered, _ = channel.gather()
    assert gathered is not None
    gathered.append(b"behind")
    written: list[bytes] = []

    def write(buffers: Sequence[bytes | memoryview]) -> int:
        written.extend(map(bytes, buffers))
        return sum(map(len, buffers))

    assert channel.push(write, 10) == 10
    assert b"".join(written) == b"\0\0\0\6before"
    gathered, _ = channel.gather()
    assert gathered is not None
    assert channel.push(write, 0) == 10
    assert channel.push(write) == 0
    assert b"".join(written) == b"\0\0\0\6before\0\0\0\6behind"
    gathered.append(b"alone")
    assert channel.push(write, 0) == 9
    assert b"alone" not in b"".join(written)


def test_encoded_frames_are_taken_as_they_are_at_the_call():
    channel = Channel(Wire(LengthPrefixed(4)))
    frames = bytearray(b"\0\0\0\4good")
    channel.send_encoded(frames)  # type: ignore[arg-type]  # the type says bytes, and nothing else would
    frames[4:] = b"evil"
    assert channel.outgoing() == [b"\0\0\0\4good"]


def test_what_cannot_be_framed_is_told_once_and_forgotten():
    class Faithless(LengthPrefixed):
        def joiner(self) -> tuple[Callable[[list[bytes]], bytes | None], int]:
            def join(payloads: list[bytes]) -> bytes:
                raise MemoryError

            return join, self.max_frame

    channel = Channel(Wire(Faithless(4)))
    for ask in (lambda: channel.queued, lambda: channel.push(lambda buffers: 0), channel.outgoing, channel.close):
        gathered, _ = channel.gather()
        assert gathered is not None
        gathered.append(b"lost")
        with pytest.raises(MemoryError):
            ask()
        assert channel.queued == 0
        assert channel.outgoing() == []
    channel.close()


def test_a_push_counts_as_movement():
    channel = Channel(RAW, idle_timeout=10.0)
    payloads, _ = channel.gather()
    payloads.append(b"x")
    channel.push(lambda buffers: len(buffers[0]), now=4.0)
    assert channel.deadline == 14.0
    channel.send(b"x")
    channel.push(lambda buffers: len(buffers[0]), now=5.0)
    assert channel.deadline == 15.0


@pytest.mark.parametrize("wire", [RAW, WIRE, Wire(Lines(max_frame=9, on_oversize="skip"))], ids=str)
@given(data=st.data())
def test_a_channel_that_is_idle_has_nothing_to_say_and_is_in_no_frame(wire, data):
    channel = Channel(wire)
    stream = b"".join(data.draw(st.lists(st.sampled_from([b"\0\1x", b"\0\0011", b"\0", b"\xff", b"\n", b"x" * 9]))))
    for chunk in data.draw(st.permutations([stream[:3], stream[3:7], stream[7:], b"", b"\0\0011"])):
        with contextlib.suppress(DecodeError, Violation, ConnectionClosed):
            channel.receive(chunk)
        if channel.idle:
            assert (channel.pending, channel.inside, channel.in_place, channel.buffered) == (False, False, False, 0)
            assert channel.may_receive
    with contextlib.suppress(DecodeError, Violation, ConnectionClosed):
        channel.receive_eof()
    assert not channel.idle


def test_a_channel_is_idle_between_frames_and_not_inside_them():
    channel = Channel(WIRE)
    assert channel.idle
    channel.receive(b"\0")
    assert not channel.idle
    channel.receive(b"\0011\0")
    assert not channel.idle
    channel.receive(b"\0011")
    assert channel.idle
    with pytest.raises(DecodeError):
        channel.receive(b"\0\1{")
    assert channel.receive(b"\0\0011\0\1{") == [1]
    assert not channel.idle
    with pytest.raises(DecodeError):
        channel.receive(b"")
    assert channel.receive(b"") == []
    assert channel.idle
    channel.close()
    assert not channel.idle
