"""The outbox: what it keeps, what it gives away, and that the compiled one does the same."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

import framing.kernels
from framing.kernels.outbox import OVERHEAD, Outbox
from tests.kernels.comparing import native, needs_twin


class Named(bytes):
    pass


class Peer(Outbox):
    """With the reference."""

    __slots__ = ("__weakref__", "sent")

    def __init__(self):
        super().__init__()
        self.sent = []

    def _send(self, message):
        self.sent.append(message)


BASES = [Peer]
if native is not None:

    class CompiledPeer(native.Outbox):
        """With the twin."""

        __slots__ = ("__weakref__", "sent")

        def __init__(self):
            super().__init__()
            self.sent = []

        def _send(self, message):
            self.sent.append(message)

    BASES.append(CompiledPeer)


@pytest.fixture(params=BASES)
def peer(request):
    return request.param()


def opened(peer, room):
    peer._payloads, peer._room, peer._thread = [], room, threading.get_ident()
    return peer


def test_a_new_outbox_is_closed(peer):
    assert (peer._payloads, peer._room, peer._thread) == (None, 0, 0)
    peer.send(b"x")
    assert not peer._keep(b"x")
    assert peer.sent == [b"x"]


def test_an_open_one_keeps_bytes_in_their_order_and_counts_them_against_its_room(peer):
    opened(peer, 100)
    peer.send(b"first")
    assert peer._keep(b"second")
    assert peer._payloads == [b"first", b"second"]
    assert peer._room == 100 - 5 - 6 - 2 * OVERHEAD
    assert peer.sent == []


def test_it_keeps_a_payload_that_fills_its_room_and_none_that_is_a_byte_larger(peer):
    opened(peer, OVERHEAD + 8)
    peer.send(bytes(9))
    assert (peer.sent, peer._payloads, peer._room) == ([bytes(9)], [], OVERHEAD + 8)
    peer.send(bytes(8))
    assert (len(peer.sent), peer._payloads, peer._room) == (1, [bytes(8)], 0)
    peer.send(b"")
    assert peer.sent == [bytes(9), b""]


def test_what_may_change_or_is_no_payload_is_sent_at_once(peer):
    opened(peer, 1000)
    changing = bytearray(b"x")
    for message in (changing, memoryview(changing), Named(b"x"), "x", 1, None, [b"x"]):
        peer.send(message)
        assert peer.sent[-1] is message
    assert not peer._keep(Named(b"x"))
    assert not peer._keep(changing)
    assert (peer._payloads, peer._room) == ([], 1000)


def test_another_threads_messages_are_not_kept(peer):
    opened(peer, 1000)
    thread = threading.Thread(target=peer.send, args=(b"x",))
    thread.start()
    thread.join()
    assert (peer.sent, peer._payloads) == ([b"x"], [])


def test_what_sending_raises_comes_out_of_send(peer):
    class Refusing(type(peer)):
        __slots__ = ()

        def _send(self, message):
            raise ZeroDivisionError(message)

    with pytest.raises(ZeroDivisionError, match="nothing"):
        Refusing().send("nothing")


def test_without_a_way_to_send_it_says_so():
    with pytest.raises(NotImplementedError, match="Outbox has no _send"):
        Outbox().send(b"x")


@needs_twin
@given(
    st.integers(-5, 200), st.lists(st.tuples(st.booleans(), st.binary(max_size=40) | st.text() | st.just(bytearray(3))))
)
def test_the_twin_keeps_and_sends_the_same(room, calls):
    reference, twin = opened(Peer(), room), opened(CompiledPeer(), room)
    for keeping, message in calls:
        if keeping and isinstance(message, bytes):
            assert twin._keep(message) is reference._keep(message)
        else:
            twin.send(message)
            reference.send(message)
        assert (twin._payloads, twin._room, twin.sent) == (reference._payloads, reference._room, reference.sent)


@needs_twin
def test_the_twin_is_the_one_that_runs_where_it_is_built():
    assert native is not None
    assert framing.kernels.Outbox is (native.Outbox if framing.kernels.compiled else Outbox)


def test_a_peer_that_holds_itself_is_freed(peer):
    kind = type(peer)
    other = opened(kind(), 1000)
    other.sent.append(other)
    other._payloads.append(other)
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None


def test_what_was_kept_and_sent_is_let_go(peer):
    kind = type(peer)
    payload, other = bytes(2000), bytearray(2000)
    before = sys.getrefcount(payload), sys.getrefcount(other)
    one = opened(kind(), 1 << 20)
    for _ in range(50):
        one.send(payload)
        assert one._keep(payload)
        one.send(other)
        assert not one._keep(other)
    assert sys.getrefcount(payload) == before[0] + 100
    assert sys.getrefcount(other) == before[1] + 50
    one._payloads = None
    del one
    assert (sys.getrefcount(payload), sys.getrefcount(other)) == before
