"""Who is called what: a name is found by its key, and, where names beyond ASCII are allowed, by what it looks like.

However many there are, it costs no more to find one: whoever renames in a crowd keeps nobody else waiting.
"""

from __future__ import annotations

from collections.abc import Iterator

from protocols.chat.safety import faces, key
from protocols.chat.tables import Session

__all__ = ["Names"]


class Names:
    """The sessions whose names are taken. ``faces``: whether it is asked which of them look alike."""

    __slots__ = ("_by_face", "_by_key", "_faces")

    def __init__(self, *, faces: bool) -> None:
        self._faces = faces
        self._by_key: dict[str, Session] = {}
        self._by_face: dict[tuple[int, str], set[Session]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, name: str) -> Session | None:
        """Who is called ``name``, however it is written."""
        return self._by_key.get(key(name))

    def add(self, session: Session) -> None:
        """``session`` has its name."""
        self._by_key[key(session.name)] = session
        if self._faces:
            for face in enumerate(faces(session.name)):
                self._by_face.setdefault(face, set()).add(session)

    def remove(self, session: Session) -> None:
        """``session`` has it no more; called before it is called anything else."""
        del self._by_key[key(session.name)]
        if self._faces:
            for face in enumerate(faces(session.name)):
                alike = self._by_face[face]
                alike.discard(session)
                if not alike:
                    del self._by_face[face]

    def alike(self, name: str) -> Iterator[Session]:
        """Who has a name that a reader would take for ``name``: two names in ASCII differ where their keys do."""
        if self._faces:
            for face in enumerate(faces(name)):
                for session in self._by_face.get(face, ()):
                    if not (name.isascii() and session.name.isascii()):
                        yield session
