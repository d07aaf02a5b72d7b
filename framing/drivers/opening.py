"""Opening: what ``connect`` and ``bind`` of the asynchronous drivers return, to be awaited or entered.

    connection = await aio.connect(address, wire)          # and close it yourself
    async with aio.connect(address, wire) as connection:   # closed at the end of the block
        ...

Nothing is opened before one of the two is done; what is opened is opened once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Generic, Protocol, TypeVar

__all__ = ["Opening"]


class _Closable(Protocol):
    async def aclose(self) -> None: ...


R = TypeVar("R", bound=_Closable)


class Opening(Generic[R]):
    """Await it for the thing itself, or enter it with ``async with``, which closes the thing behind the block."""

    __slots__ = ("_open", "_opened")

    def __init__(self, make: Callable[[], Awaitable[R]]) -> None:
        self._open = make
        self._opened: R | None = None

    def __await__(self) -> Generator[None, None, R]:
        return self._open().__await__()

    async def __aenter__(self) -> R:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.aclose()
