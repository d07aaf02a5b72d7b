"""Judges `RecordMarked` by the ONC RPC client inside pyvisa-py, which drives instruments over VXI-11 (RFC 5531, section 11).

Its functions take a socket: a connected pair in this process, closed with the test.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyvisa_py.protocols.rpc import _recvrecord, _sendrecord

from framing import CorruptFrame, FrameTooLarge, RecordMarked, TruncatedFrame

from .feeding import chunk_sizes, judged, payload_lists, received, verdict

FRAMER = RecordMarked()
LAST = 1 << 31


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def fragment(payload: bytes, *, last: bool) -> bytes:
    return (len(payload) | (LAST if last else 0)).to_bytes(4, "big") + payload


@judged
@given(payloads=payload_lists)
def test_pyvisa_reads_what_record_marked_writes(payloads):
    with pair() as (left, right):
        left.sendall(FRAMER.encode_many(payloads))
        assert [_recvrecord(right, 1) for _ in payloads] == payloads


@judged
@given(payloads=payload_lists, size=st.integers(1, 300), sizes=chunk_sizes)
def test_record_marked_reads_what_pyvisa_writes_in_fragments_of_any_size(payloads, size, sizes):
    sent: list[bytes] = []

    class Socket:
        def sendall(self, data: bytes) -> None:
            sent.append(data)

    for payload in payloads:
        _sendrecord(Socket(), payload, fragsize=size)
    assert received(FRAMER, b"".join(sent), sizes) == payloads


def test_both_join_fragments_also_empty_ones():
    stream = fragment(b"ab", last=False) + fragment(b"", last=False) + fragment(b"c", last=True)
    with pair() as (left, right):
        left.sendall(stream)
        assert _recvrecord(right, 1) == b"abc"
    assert received(FRAMER, stream) == [b"abc"]


@pytest.mark.parametrize("stream", [b"", b"\x80\0", b"\x80\0\0\5", b"\x80\0\0\5ab", fragment(b"ab", last=False)])
def test_pyvisa_waits_for_its_timeout_at_any_end_of_the_stream(stream):
    with pair() as (left, right):
        left.sendall(stream)
        left.shutdown(socket.SHUT_WR)
        with pytest.raises(TimeoutError):
            _recvrecord(right, 0.02)
    assert verdict(FRAMER, stream)[1] is (TruncatedFrame if stream else None)


def test_pyvisa_loses_what_it_read_of_the_next_record_where_the_stream_was_cut():
    stream = FRAMER.encode_many([b"0123456789", b"next record"])

    def read_in(pieces: list[bytes]) -> list[bytes]:
        rest = bytearray()

        def read(size: int) -> bytes:
            if not rest:
                rest.extend(pieces.pop(0))
            part = bytes(rest[:size])
            del rest[:size]
            return part

        with pair() as (left, right):
            left.sendall(b"!")  # never read: it makes the socket readable, and so the reader ask for bytes
            got = [_recvrecord(right, 1, read)]
            with contextlib.suppress(TimeoutError, IndexError):
                got.append(_recvrecord(right, 0.02, read))
            return got

    assert read_in([stream]) == [b"0123456789", b"next record"]
    # The header and six bytes come first: it asks for ten more where four are missing, and forgets the other six.
    assert read_in([stream[:10], stream[10:]]) == [b"0123456789"]
    assert received(FRAMER, stream, [10]) == received(FRAMER, stream) == [b"0123456789", b"next record"]


def test_pyvisa_asks_for_as_many_bytes_as_a_header_announces():
    asked: list[int] = []
    pieces = [b"\xff\xff\xff\xff"]

    def read(size: int) -> bytes:
        asked.append(size)
        return pieces.pop(0) if pieces else b""

    with pair() as (left, right):
        left.sendall(b"!")
        with pytest.raises(TimeoutError):
            _recvrecord(right, 0.01, read)
    assert asked[1] == LAST - 1
    assert verdict(FRAMER, b"\xff\xff\xff\xff") == ([], FrameTooLarge)


def test_pyvisa_takes_any_number_of_empty_fragments():
    flood = fragment(b"", last=False) * 1024 + fragment(b"a", last=True)
    pieces = [flood[at : at + 4] for at in range(0, len(flood), 4)] + [flood[-1:]]
    with pair() as (left, right):
        left.sendall(b"!")
        assert _recvrecord(right, 5, lambda size: pieces.pop(0)) == b"a"
    assert verdict(FRAMER, flood) == ([], CorruptFrame)
