"""Who runs a server, and that it is over: decided once, in whatever order things happen."""

from __future__ import annotations

import threading

import pytest

from framing import ConnectionClosed
from framing.drivers.running import Running


class Server:
    """Runs until it is stopped, and counts what is called."""

    def __init__(self):
        self.running = Running("the server")
        self.stopped = threading.Event()
        self.entered = threading.Event()
        self.released = 0

    def release(self):
        self.released += 1

    def run(self):
        self.running.claim()
        try:
            self.running.enter()
            self.entered.set()
            self.stopped.wait(5)
        finally:
            self.running.end(self.release)

    def close(self):
        self.running.close(self.stopped.set, self.release)


def test_what_was_closed_before_it_ran_is_released_once_and_does_not_run():
    server = Server()
    server.close()
    server.close()
    assert server.released == 1
    assert server.running.ended
    with pytest.raises(ConnectionClosed, match="the server has been stopped; make a new one"):
        server.run()
    assert server.released == 1


def test_close_waits_for_the_run_of_another_thread():
    server = Server()
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.entered.wait(5)
    with pytest.raises(RuntimeError, match="running already"):
        server.run()
    assert not server.running.ended
    server.close()
    assert server.released == 1
    assert server.running.ended
    thread.join()
    server.close()
    with pytest.raises(ConnectionClosed):
        server.run()


def test_close_inside_the_run_leaves_the_end_to_it():
    server = Server()
    server.running.claim()
    server.running.enter()
    server.close()
    assert server.stopped.is_set()
    assert server.released == 0
    with pytest.raises(RuntimeError, match="running already"):
        server.running.claim()
    server.running.end(server.release)
    server.running.end(server.release)
    assert server.released == 1


def test_a_signal_handler_that_closes_between_claim_and_enter_keeps_it_from_running():
    server = Server()
    server.running.claim()
    server.close()  # as a handler does, in the same thread
    assert server.released == 1
    with pytest.raises(ConnectionClosed):
        server.running.enter()
    server.running.end(server.release)
    assert server.released == 1


def test_the_end_is_told_even_where_the_release_fails():
    server = Server()

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        server.running.end(fail)
    thread = threading.Thread(target=server.close)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
