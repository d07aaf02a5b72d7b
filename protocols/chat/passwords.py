"""The password file: a line for each name, ``name:hash``, the hash made by Argon2 (RFC 9106) with the library's own defaults.

The file is read once. A name that is not in it has no password, and to try one takes as long as a wrong one.
"""

from __future__ import annotations

from pathlib import Path

import argon2

from protocols.chat.safety import bad_name, key

__all__ = ["PasswordFileError", "Passwords", "make_line"]


class PasswordFileError(ValueError):
    """The file is none; the text says which line, and why."""


def make_line(name: str, password: str) -> str:
    """The line of the file for ``name``. Raises ValueError for what is no name."""
    if (reason := bad_name(name)) is not None:
        raise ValueError(reason)
    return f"{name}:{argon2.PasswordHasher().hash(password)}"


class Passwords:
    """The passwords in the file ``path``. Raises OSError, or `PasswordFileError`."""

    def __init__(self, path: str | Path) -> None:
        self._hasher = argon2.PasswordHasher()
        self._hashes: dict[str, str] = {}
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, hashed = line.strip().partition(":")
            reason = bad_name(name)
            if reason is None and not hashed.startswith("$argon2"):
                reason = "behind the name stands a colon and an Argon2 hash: framing-chat password NAME makes the line"
            if reason is not None:
                raise PasswordFileError(f"{path}, line {number}: {reason}")
            self._hashes[key(name)] = hashed
        self._nobody = self._hasher.hash("nobody")

    def verify(self, name: str, password: str) -> bool:
        """Whether ``password`` is that of ``name``."""
        hashed = self._hashes.get(key(name))
        try:
            self._hasher.verify(hashed or self._nobody, password)
        except argon2.exceptions.VerificationError:
            return False
        return hashed is not None
