"""The chat's log in SQLite: one file, one thread, one transaction for each group.

It is written ahead (WAL), and each commit is on the disk before it returns (``synchronous=FULL``): what `append` was given
outlives a killed process and a power cut. A file that is not this log, of a newer layout, or that another server has open, is
refused and left as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from protocols.chat.log import LogError, SessionRecord
from protocols.chat.messages import Event, Id

__all__ = ["LogError", "SQLiteLog"]

_APPLICATION: Final = 0x63686174  # "chat", in the file's header
_LAYOUT: Final = 1

PATIENCE: Final = 1.0
"""Seconds to wait for somebody else who has the file open: a server that ends, or a backup."""

_TABLES = """
CREATE TABLE events (
    room TEXT NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL, sender TEXT NOT NULL, kind TEXT NOT NULL,
    text TEXT NOT NULL, session TEXT, n INTEGER, PRIMARY KEY (room, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX posts ON events (session, n) WHERE session IS NOT NULL;
CREATE TABLE sessions (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
"""


class SQLiteLog:
    """A log in the file ``path``, made where there is none; raises `LogError`. ``:memory:`` is a log without a file."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        try:
            # The hub's thread is another than the one that opens it; there is only ever one at a time.
            self._database = sqlite3.connect(
                self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._database.close()
            raise self._trouble(error) from error
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        ask = self._database.execute
        application, layout = ask("PRAGMA application_id").fetchone()[0], ask("PRAGMA user_version").fetchone()[0]
        empty = not ask("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not empty and application != _APPLICATION:
            raise LogError(f"{self._path} is a database of something else; give another file")
        if not empty and layout != _LAYOUT:
            raise LogError(f"{self._path} has layout {layout}, and this program knows {_LAYOUT}")
        ask("PRAGMA locking_mode = EXCLUSIVE")  # two servers on one log would each count by themselves
        ask("PRAGMA journal_mode = WAL")
        ask("PRAGMA synchronous = FULL")
        ask("BEGIN EXCLUSIVE")
        if empty:
            for statement in _TABLES.split(";"):
                ask(statement)
            ask(f"PRAGMA application_id = {_APPLICATION}")
            ask(f"PRAGMA user_version = {_LAYOUT}")
        ask("COMMIT")

    def _trouble(self, error: Exception) -> LogError:
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LogError(f"{self._path}: another server has it open; give each a file of its own")
        return LogError(f"{self._path}: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called again."""
        self._database.close()

    def append(self, events: Sequence[Event], sessions: Iterable[SessionRecord] = (), gone: Iterable[str] = ()) -> None:
        rows = [(*_columns(event), *(event.id or (None, None))) for event in events]
        records = [(session.id, msgspec.msgpack.encode(session)) for session in sessions]
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            try:
                database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
                database.executemany("REPLACE INTO sessions VALUES (?, ?)", records)
                database.executemany("DELETE FROM sessions WHERE id = ?", [(name,) for name in gone])
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def read(self, room: str, after: int, limit: int) -> list[Event]:
        return self._events("room = ? AND seq > ? ORDER BY seq LIMIT ?", room, after, limit)

    def find(self, id: Id) -> Event | None:  # noqa: A002 # the field's name
        return next(iter(self._events("session = ? AND n = ?", *id)), None)

    def head(self, room: str) -> int:
        return int(self._ask("SELECT coalesce(max(seq), 0) FROM events WHERE room = ?", room)[0][0])

    def rooms(self) -> dict[str, int]:
        return dict(self._ask("SELECT room, max(seq) FROM events GROUP BY room"))

    def sessions(self) -> list[SessionRecord]:
        records = self._ask("SELECT record FROM sessions ORDER BY id")
        try:
            return [msgspec.msgpack.decode(record, type=SessionRecord) for (record,) in records]
        except msgspec.MsgspecError as error:
            raise self._trouble(error) from error

    def _events(self, where: str, *values: Any) -> list[Event]:
        rows = self._ask(f"SELECT room, seq, time, sender, kind, text, session, n FROM events WHERE {where}", *values)  # noqa: S608 # the texts are this file's
        return [
            Event(
                room=room,
                seq=seq,
                time=time,
                sender=sender,
                kind=kind,
                text=text,
                id=None if session is None else (session, n),
            )
            for room, seq, time, sender, kind, text, session, n in rows
        ]

    def _ask(self, question: str, *values: Any) -> list[Any]:
        try:
            return self._database.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise self._trouble(error) from error


def _columns(event: Event) -> tuple[str, int, int, str, str, str]:
    return event.room, event.seq, event.time, event.sender, event.kind, event.text
