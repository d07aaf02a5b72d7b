"""The password file: a line for each name, ``name:hash``, the hash made by Argon2 (RFC 9106) with the library's own defaults.

The file is read once, and refused as a whole where one of its lines is none. A name that is not in it has no password, and to
try one takes as long as a wrong one does.
"""

from __future__ import annotations

from pathlib import Path

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from protocols.chat.safety import bad_name, key

__all__ = ["PasswordFileError", "Passwords", "make_line"]


class PasswordFileError(ValueError):
    """The file is none; the text says which line, and why."""


def make_line(name: str, password: str, *, allow_unicode: bool = False) -> str:
    """The line of the file for ``name``. Raises ValueError for what is no name."""
    if (reason := bad_name(name, allow_unicode=allow_unicode)) is not None:
        raise ValueError(reason)
    return f"{name}:{argon2.PasswordHasher().hash(password)}"


class Passwords:
    """The passwords in the file ``path``. Raises OSError, or `PasswordFileError`."""

    def __init__(self, path: str | Path, *, allow_unicode: bool = False) -> None:
        self._hashes: dict[str, str] = {}
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise PasswordFileError(f"{path} is no text (UTF-8)") from error
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, hashed = line.strip().partition(":")
            reason = bad_name(name, allow_unicode=allow_unicode) or _bad_hash(hashed)
            if reason is None and key(name) in self._hashes:
                reason = f"{name} has a password already"
            if reason is not None:
                raise PasswordFileError(f"{path}, line {number}: {reason}")
            self._hashes[key(name)] = hashed
        # Made as those in the file are, for else the time would tell them apart.
        made = [argon2.extract_parameters(hashed) for hashed in self._hashes.values()]
        costs = max(made, key=lambda cost: cost.time_cost * cost.memory_cost, default=None)
        self._hasher = argon2.PasswordHasher() if costs is None else argon2.PasswordHasher.from_parameters(costs)
        self._nobody = self._hasher.hash("nobody")

    def verify(self, name: str, password: str) -> bool:
        """Whether ``password`` is that of ``name``."""
        hashed = self._hashes.get(key(name))
        try:
            self._hasher.verify(hashed or self._nobody, password)
        except VerificationError:
            return False
        return hashed is not None


def _bad_hash(hashed: str) -> str | None:
    """Why ``hashed`` is no hash; None when it is one."""
    try:
        # The parameters can be read of more than can be verified.
        argon2.extract_parameters(hashed)
        argon2.PasswordHasher().verify(hashed, "")
    except (InvalidHashError, VerificationError) as error:
        if not isinstance(error, argon2.exceptions.VerifyMismatchError):
            return "behind the name stands a colon and an Argon2 hash: framing-chat password NAME makes the line"
    return None
