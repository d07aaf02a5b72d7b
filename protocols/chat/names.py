"""Who, or which room, is called what: found by the name's key, and, where names beyond ASCII are allowed, by its looks.

However many there are, it costs no more to find one: whoever renames in a crowd keeps nobody else waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from protocols.chat.safety import faces, key

__all__ = ["Names"]


class _Named(Protocol):
    """Whatever has a name, and hashes by what it is."""

    name: str


T = TypeVar("T", bound=_Named)


class Names(Generic[T]):
    """Those whose names are taken. ``faces``: whether it is asked which of them look alike."""

    __slots__ = ("_by_face", "_by_key", "_faces")

    def __init__(self, *, faces: bool) -> None:
        self._faces = faces
        self._by_key: dict[str, T] = {}
        self._by_face: dict[tuple[int, str], set[T]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, name: str) -> T | None:
        """Who is called ``name``, however it is written."""
        return self._by_key.get(key(name))

    def add(self, one: T) -> None:
        """``one`` has its name."""
        self._by_key[key(one.name)] = one
        if self._faces:
            for face in enumerate(faces(one.name)):
                self._by_face.setdefault(face, set()).add(one)

    def remove(self, one: T) -> None:
        """``one`` has it no more; called before it is called anything else."""
        del self._by_key[key(one.name)]
        if self._faces:
            for face in enumerate(faces(one.name)):
                alike = self._by_face[face]
                alike.discard(one)
                if not alike:
                    del self._by_face[face]

    def alike(self, name: str) -> Iterator[T]:
        """Who has a name that a reader would take for ``name``: two names in ASCII differ where their keys do."""
        if self._faces:
            for face in enumerate(faces(name)):
                for one in self._by_face.get(face, ()):
                    if not (name.isascii() and one.name.isascii()):
                        yield one
