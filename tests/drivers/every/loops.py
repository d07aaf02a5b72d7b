"""Event loops for the drivers that need one: which there are, and how one is run in a thread beside a test."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

R = TypeVar("R")

SECONDS = 20.0
"""How long anything may take before it has failed; a machine with other things to do is slow."""


def _new_uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
"""Every kind of loop, by name, and what makes one."""

if importlib.util.find_spec("uvloop"):
    LOOPS["uvloop"] = _new_uvloop
    # What it opens once, for good, is no leak.
    _new_uvloop().close()


def run_tidily(make_loop: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` on a loop of its own; it may leave no task behind, and give the loop no reason to complain."""
    complaints: list[dict[str, Any]] = []

    async def tidily() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await main
        for _ in range(3):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left behind: {left}"

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(tidily())
    assert not complaints, complaints


def outcome(future: Future[R], call: Callable[[], R]) -> None:
    """Have ``future`` tell in another thread what ``call`` returns here, or raises."""
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


async def within(seconds: float, call: Coroutine[Any, Any, R]) -> R:
    """Await ``call``; TimeoutError when the time is over."""
    async with asyncio.timeout(seconds):
        return await call


@contextmanager
def loop_beside(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own until the end of the block."""
    runs: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    ended: Future[None] = Future()

    async def main() -> None:
        over = asyncio.Event()
        runs.set_result((asyncio.get_running_loop(), over))
        await over.wait()

    thread = threading.Thread(
        target=outcome, args=(ended, lambda: run_tidily(make_loop, main())), name="the loop of a test", daemon=True
    )
    thread.start()
    loop, over = runs.result(SECONDS)
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(over.set)
        ended.result(SECONDS)
        thread.join(SECONDS)
