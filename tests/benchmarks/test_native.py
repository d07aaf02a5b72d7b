"""The floor gives the payloads, with and without a compiler; the load generator takes nothing for an echo but the echo."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks import decoding, native
from benchmarks.builds import COMPILED, PLAIN, builds
from benchmarks.streams import Stream, chunked, payloads

FRAME = b"\0\0\0\4abcd"


@pytest.fixture
def compiled():
    module = native.build()
    if isinstance(module, str):
        pytest.skip(module)
    return module


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[socket.socket]:
    """A socket whose other end gives back what ``answer`` makes of each chunk, until it makes nothing."""
    ours, theirs = socket.socketpair()

    def talk() -> None:
        with theirs:
            while chunk := theirs.recv(1 << 16):
                made = answer(chunk)
                if not made:
                    return
                theirs.sendall(made)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        with ours:
            yield ours
    finally:
        thread.join(20)


@pytest.mark.parametrize("without_compiler", [False, True])
@pytest.mark.parametrize("chunk", [7, 100, 1 << 16])
def test_the_floor_gives_the_payloads_that_each_chunk_completes(monkeypatch, without_compiler, chunk):
    if without_compiler:
        monkeypatch.setattr(native, "build", lambda: "no C compiler")
        assert "no C compiler" in native.floor_kind()
    given = payloads(0, 30, 50)
    stream = Stream.of(given, [len(one).to_bytes(4, "big") + one for one in given], 4, chunk)
    make = native.floor(stream.data, stream.spans, stream.counts())
    for _ in range(2):
        batches = list(make())
        assert [one for batch in batches for one in batch] == given
        assert [len(batch) for batch in batches] == stream.counts()
    at = 0
    for number, batch in enumerate(batches, 1):
        at += sum(4 + len(one) for one in batch)
        assert at <= number * chunk


def test_without_a_compiler_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "compiler" in native.build.__wrapped__()


def test_objects_refuses_spans_that_it_was_not_given(compiled):
    assert compiled.objects(b"abc", bytes(16), 0, 1) == [b""]
    for arguments in [(b"abc", bytes(16), 0, 2), (b"abc", bytes(16), -1, 0), (b"abc", bytes(16), 1, 0)]:
        with pytest.raises(ValueError, match="spans"):
            compiled.objects(*arguments)
    with pytest.raises(TypeError):
        compiled.objects(b"abc", [], 0, 1)


def test_the_load_counts_what_comes_back(compiled):
    with answering(lambda chunk: chunk) as sock:
        frames, took = compiled.flood([sock.fileno()], FRAME * 10, len(FRAME), 5 * len(FRAME), 0.02)
        assert frames > 0
        assert took >= 20_000_000
        again, _ = compiled.flood([sock.fileno()], FRAME, len(FRAME), len(FRAME), 0.01)
        assert again > 0


@pytest.mark.parametrize(
    "answer",
    [lambda chunk: chunk[:-1] + b"!", lambda chunk: chunk * 2, bytes.upper],
    ids=["changed", "twice", "upper"],
)
def test_the_load_refuses_what_is_no_echo(compiled, answer):
    with answering(answer) as sock, pytest.raises(RuntimeError, match="not what was sent"):
        compiled.flood([sock.fileno()], FRAME, len(FRAME), len(FRAME), 5.0)


def test_the_load_tells_when_the_server_is_gone(compiled):
    with answering(lambda _: b"") as sock, pytest.raises(RuntimeError, match="connection"):
        compiled.flood([sock.fileno()], FRAME, len(FRAME), len(FRAME), 5.0)


def test_a_round_trip_is_timed_for_each_frame_and_must_come_back(compiled):
    with answering(lambda chunk: chunk) as sock:
        times = compiled.ping(sock.fileno(), FRAME, 5)
        assert len(times) == 5
        assert min(times) > 0
    for wrong in (bytes.upper, lambda _: b""):
        with answering(wrong) as sock, pytest.raises(RuntimeError, match="come back"):
            compiled.ping(sock.fileno(), FRAME, 5)


def test_loads_that_make_no_sense_are_refused(compiled):
    for arguments in [([], FRAME, 8, 8, 0.1), ([0], FRAME, 3, 8, 0.1), ([0], FRAME, 8, 7, 0.1)]:
        with pytest.raises(ValueError, match="no such load"):
            compiled.flood(*arguments)


def test_both_builds_of_framing_are_there_side_by_side():
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "framing"}
    *fast, plain = builds()
    after = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "framing"}
    assert before.items() <= after.items()
    assert plain.name == PLAIN
    assert plain.framing.compiled is False
    for build in fast:
        assert build.name == COMPILED
        assert build.framing.compiled is True
        assert build.framing.LengthPrefixed is not plain.framing.LengthPrefixed
    for build in builds():
        assert build.framing.LengthPrefixed(4).decoder().feed(FRAME) == [b"abcd"]


def test_who_does_not_give_the_payloads_is_not_timed():
    given = [b"ab", b"cd"]
    chunks = [b"\0\0\0\2ab\0\0\0\2cd"]

    def missing(_):
        raise ImportError(name="nobody")

    def checked(**peers):
        return decoding.checked(
            lambda framing: framing.LengthPrefixed(4),
            chunks,
            given,
            {key: (peer, chunks) for key, peer in peers.items()},
        )

    contenders, skipped = checked(right=lambda _: [given], nobody=missing)
    assert "right" in contenders
    assert skipped == {"nobody": "not installed: nobody"}
    for wrong in ([given[:1]], [given, given], [[b"ab", b"cx"]]):
        with pytest.raises(AssertionError, match="wrong does not give the payloads"):
            checked(wrong=lambda _, wrong=wrong: wrong)


def test_chunks_and_payloads_are_the_same_in_every_run():
    assert payloads(16, 64, 20) == payloads(16, 64, 20)
    assert {len(one) for one in payloads(16, 64, 2000)} == set(range(16, 65))
    assert chunked(b"abcde", 2) == [b"ab", b"cd", b"e"]
