"""Erlang's ``{packet, …}``, where the runtime system frames: one of the oldest framings that a language has built in.

Both directions of ``{packet, 1 | 2 | 4 | line}``; and the packets of other protocols that it knows, as judges of presets.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from framing import CorruptFrame, EncodeError, FrameTooLarge, LengthPrefixed, Lines, TruncatedFrame, Wire, presets
from framing.drivers import blocking

from .programs import (
    SECONDS,
    accepted,
    all_of,
    announced,
    connected,
    directory,
    every_driver,
    found,
    listening,
    our_echo,
    piped,
    said,
    started,
)

SPECS = {"1": "u8", "2": "u16", "4": "u32(max_frame=64M)"}
SIZES = {"1": [0, 1, 127, 128, 255], "2": [0, 1, 255, 256, 65_535], "4": [0, 1, 65_536, 5_000_000]}
FRAMED = ["1", "2", "4", "line", "sunrm", "asn1", "tpkt", "fcgi"]

# A process of its own for each listener; a connection is served where it was accepted, one after the other.
SERVER = """
Echo = fun Echo(S) ->
  case gen_tcp:recv(S, 0) of {ok, Data} -> ok = gen_tcp:send(S, Data), Echo(S); _ -> gen_tcp:close(S) end
end,
Accept = fun Accept(L) -> {ok, S} = gen_tcp:accept(L), Echo(S), Accept(L) end,
[spawn(fun() ->
  {ok, L} = gen_tcp:listen(0, [binary, {ip, {127,0,0,1}}, {active, false}, {reuseaddr, true}, {packet, P}]),
  {ok, Port} = inet:port(L),
  io:format("~p at ~p.~n", [P, Port]),
  Accept(L)
end) || P <- [PACKETS]].
"""
CLIENT = """
{ok, S} = gen_tcp:connect("127.0.0.1", PORT, [binary, {active, false}, {packet, PACKET}]),
Payloads = [<< <<((I * 7 + N) rem 251)>> || I <- lists:seq(1, N) >> || N <- [SIZES]],
[ok = gen_tcp:send(S, Payload) || Payload <- Payloads],
io:format("~p", [[begin {ok, Back} = gen_tcp:recv(S, 0, 4000), Back =:= Payload end || Payload <- Payloads]]),
halt().
"""
LINES = """
{ok, S} = gen_tcp:connect("127.0.0.1", PORT, [binary, {active, false}, {packet, line}]),
Lines = [iolist_to_binary([integer_to_list(N), "\\n"]) || N <- lists:seq(1, 1000)],
ok = gen_tcp:send(S, Lines),
io:format("~p", [lists:all(fun(Line) -> gen_tcp:recv(S, 0, 4000) =:= {ok, Line} end, Lines)]),
halt().
"""
SEND = """
{ok, S} = gen_tcp:connect("127.0.0.1", PORT, [binary, {packet, PACKET}]),
io:format("~p", [gen_tcp:send(S, DATA)]),
gen_tcp:close(S),
halt().
"""
RECEIVE = """
{ok, S} = gen_tcp:connect("127.0.0.1", PORT, [binary, {active, false}, {packet, PACKET}]),
All = fun All() ->
  case gen_tcp:recv(S, 0, 4000) of
    {ok, Data} -> io:format("~s ", [[io_lib:format("~2.16.0b", [B]) || <<B>> <= <<"x", Data/binary>>]]), All();
    {error, Reason} -> io:format("~p", [Reason])
  end
end,
All(),
halt().
"""


def script(code: str, **words: object) -> list[str]:
    for name, value in words.items():
        code = code.replace(name, str(value))
    return [found("erl", "erlang-base"), "-noshell", "-noinput", "-eval", code]


def sent(packet: str, data: str) -> tuple[bytes, str]:
    """What goes over the wire when Erlang sends ``data``, and what it says of that."""
    with listening() as listener:
        code = script(SEND, PORT=listener.getsockname()[1], PACKET=packet, DATA=data)
        with piped(code) as process, accepted(listener) as sock:
            return all_of(sock), process.communicate(timeout=SECONDS)[0].decode()


def received(packet: str, stream: bytes) -> tuple[list[bytes], str]:
    """What Erlang receives of ``stream``, and the reason that it gives for the end."""
    with listening() as listener:
        code = script(RECEIVE, PORT=listener.getsockname()[1], PACKET=packet)
        with piped(code) as process, accepted(listener) as sock:
            sock.sendall(stream)
            sock.shutdown(socket.SHUT_WR)
            *data, reason = process.communicate(timeout=SECONDS)[0].decode().split(" ")
    return [bytes.fromhex(word)[1:] for word in data], reason


@pytest.fixture(scope="module")
def erlang() -> Iterator[dict[str, int]]:
    """The ports of echo servers in Erlang, by their packets."""
    with directory() as place, started(script(SERVER, PACKETS=", ".join(FRAMED)), place / "log"):
        yield {packet: int(announced(place / "log", rf"\b{packet} at (\d+)\.")[1]) for packet in FRAMED}


def payload(size: int) -> bytes:
    return bytes((index * 7 + size) % 251 for index in range(1, size + 1))


@pytest.mark.parametrize("packet", SPECS)
def test_our_client_is_answered_by_a_server_with_packet(erlang, packet):
    payloads = [payload(size) for size in SIZES[packet]]
    with connected(erlang[packet], SPECS[packet]) as connection:
        connection.send_many(payloads)
        assert [connection.receive() for _ in payloads] == payloads


@pytest.mark.parametrize("packet", SPECS)
@every_driver
def test_client_with_packet_is_answered_by_our_server(packet, driver):
    with our_echo(SPECS[packet], driver) as port:
        sizes = [size for size in SIZES[packet] if size <= 65_536]
        out = said(script(CLIENT, PORT=port, PACKET=packet, SIZES=", ".join(map(str, sizes))))
    assert out.decode() == f"[{','.join(['true'] * len(sizes))}]"


def test_ten_thousand_frames_come_back_in_order(erlang):
    payloads = [b"%d" % number for number in range(10_000)]
    with connected(erlang["2"], "u16") as connection:
        connection.send_many(payloads)
        assert [connection.receive() for _ in payloads] == payloads


@every_driver
def test_lines_go_in_both_directions(erlang, driver):
    texts = [f"{number} {'☃' * (number % 50)}" for number in range(1000)]
    with connected(erlang["line"], "lines+text") as connection:
        connection.send_many(texts)
        assert [connection.receive() for _ in texts] == texts
    with our_echo("lines+text", driver) as port:
        assert said(script(LINES, PORT=port)) == b"true"


@pytest.mark.parametrize(
    ("packet", "spec", "frames"),
    [
        ("asn1", "ber", [b"\x30\x03abc", b"\x04\x00", b"\x30\x81\x80" + bytes(128), b"\x1f\x81\x01\x01x"]),
        ("asn1", "ldap", [b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"]),
        ("tpkt", "tpkt", [b"\x03\x00\x00\x07\x02\xf0\x80", b"\x03\x00\x04\x00" + bytes(1020)]),
        ("fcgi", "fastcgi", [b"\1\1\0\1\0\3\0\0abc", b"\1\2\0\1\0\0\0\0"]),
    ],
)
def test_frames_of_other_protocols_go_to_erlang_and_come_back(erlang, packet, spec, frames):
    with connected(erlang[packet], spec) as connection:
        connection.send_many(frames)
        assert [connection.receive() for _ in frames] == frames


# What it does wrong, or leaves to who uses it: shown, so that these tests say so on the day it is mended.


@pytest.mark.parametrize(("packet", "width", "size"), [("1", 1, 300), ("2", 2, 65_541)])
def test_length_that_does_not_fit_wraps_around_there_and_raises_here(packet, width, size):
    stream, verdict = sent(packet, f'binary:copy(<<"x">>, {size})')
    assert verdict == "ok"
    assert stream == (size % (1 << 8 * width)).to_bytes(width) + b"x" * size  # 44, and then 300 bytes
    with pytest.raises(EncodeError):
        LengthPrefixed(width).encode(b"x" * size)


@pytest.mark.parametrize(
    ("packet", "wire", "stream", "whole"),
    [
        ("line", Lines(), b"one\nhal", b"one\n"),
        ("4", LengthPrefixed(4), b"\0\0\0\x03one\0\0\0\x04hal", b"one"),
        ("4", LengthPrefixed(4), b"\0\0\0\x03one\0\0\0\x04", b"one"),
    ],
)
def test_half_frame_at_the_end_vanishes_there_and_is_truncated_here(packet, wire, stream, whole):
    assert received(packet, stream) == ([whole], "closed")  # as at a clean end
    left, right = socket.socketpair()
    with left, blocking.Connection(right, Wire(wire), timeout=SECONDS) as connection:
        left.sendall(stream)
        left.shutdown(socket.SHUT_WR)
        assert connection.receive() == b"one"
        with pytest.raises(TruncatedFrame):
            connection.receive()


def test_long_line_falls_into_pieces_there_that_look_like_lines():
    pieces, _ = received("line", b"x" * 5000 + b"\nnext\n")
    assert len(pieces) > 2
    assert b"".join(pieces) == b"x" * 5000 + b"\nnext\n"
    assert Lines().decoder().feed(b"x" * 5000 + b"\nnext\n") == [b"x" * 5000, b"next"]


def test_fragments_of_a_record_are_not_put_together_there(erlang):
    fragments = b"\0\0\0\x02re" + b"\x80\0\0\x04cord"
    assert received("sunrm", fragments) == ([b"\0\0\0\x02re", b"\x80\0\0\x04cord"], "closed")
    with connected(erlang["sunrm"], "onc_rpc") as connection:
        connection.send_encoded(fragments)  # … which comes back as it went there
        assert connection.receive() == b"record"


def test_what_presets_refuse_erlang_takes():
    assert received("asn1", b"\x30\x80") == ([b"\x30\x80"], "closed")  # an end that is not told
    with pytest.raises(CorruptFrame):
        presets.ber().decoder().feed(b"\x30\x80")
    assert received("tpkt", b"\x03\0\0\x05a") == ([b"\x03\0\0\x05a"], "closed")  # less than the least
    with pytest.raises(CorruptFrame):
        presets.tpkt().decoder().feed(b"\x03\0\0\x05a")


def test_padding_of_a_record_is_taken_away_there_and_delivered_here():
    record = b"\1\1\0\1\0\3\2\0abc\0\0"
    assert received("fcgi", record) == ([record[:-2]], "closed")
    assert presets.fastcgi().decoder().feed(record) == [record]


def test_other_protocol_is_waited_for_there_and_named_here():
    assert received("4", b"HTTP/1.1 200 OK\r\n\r\n") == ([], "closed")
    with pytest.raises(FrameTooLarge, match="HTTP"):
        LengthPrefixed(4).decoder().feed(b"HTTP/1.1 200 OK\r\n\r\n")
