"""The logs: one suite over all of them; and what a file alone can meet: crashes, strangers, full disks, a second server."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.chat.log import Log, LogError, MemoryLog, SessionRecord
from protocols.chat.messages import Event
from protocols.chat.sqlite_log import SQLiteLog


@pytest.fixture(params=["memory", "sqlite", "sqlite in memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    if request.param == "memory":
        yield MemoryLog()
    else:
        with SQLiteLog(tmp_path / "chat.db" if request.param == "sqlite" else ":memory:") as made:
            yield made


def event(seq: int, room: str = "lobby", text: str = "hi", n: int | None = None) -> Event:
    id_ = None if n is None else ("s", n)
    return Event(room=room, seq=seq, time=1000 + seq, sender="ann", kind="say", text=text, id=id_)


def record(name: str, **changes: Any) -> SessionRecord:
    given_: dict[str, Any] = {"tokens": ("t",), "rooms": ("lobby",), "seen": 5, "named": True, **changes}
    return SessionRecord(id=name, name=name, **given_)


# ------------------------------------------------------------------ every log


def test_a_new_log_is_empty(log: Log) -> None:
    assert (log.rooms(), log.sessions(), log.read("lobby", 0, 10)) == ({}, [], [])
    assert (log.head("lobby"), log.find(("s", 1))) == (0, None)


def test_what_was_appended_in_groups_is_read_in_order(log: Log) -> None:
    log.append([event(1), event(1, "attic"), event(2)])
    log.append([event(3), event(2, "attic", n=7)])
    assert log.rooms() == {"lobby": 3, "attic": 2}
    assert [log.head(room) for room in ("lobby", "attic", "cellar")] == [3, 2, 0]
    assert log.read("lobby", 0, 100) == [event(1), event(2), event(3)]
    assert log.read("attic", 0, 100) == [event(1, "attic"), event(2, "attic", n=7)]


def test_a_piece_of_a_room_begins_behind_after_and_has_limit_events(log: Log) -> None:
    log.append([event(seq) for seq in range(1, 11)])

    def seqs(after: int, limit: int) -> list[int]:
        return [each.seq for each in log.read("lobby", after, limit)]

    assert seqs(0, 3) == [1, 2, 3]
    assert seqs(4, 3) == [5, 6, 7]
    assert seqs(8, 100) == [9, 10]
    assert seqs(10, 5) == []
    assert seqs(99, 5) == []
    assert seqs(3, 0) == []


def test_a_post_is_found_by_its_id_alone(log: Log) -> None:
    log.append([event(1, n=1), event(2, n=2), event(1, "attic", n=3)])
    assert log.find(("s", 2)) == event(2, n=2)
    assert log.find(("s", 3)) == event(1, "attic", n=3)
    assert log.find(("s", 4)) is None
    assert log.find(("t", 1)) is None


def test_the_newer_record_of_a_session_stands_and_those_that_are_gone_are_gone(log: Log) -> None:
    log.append([], [record("a"), record("b")])
    log.append([event(1)], [record("a", rooms=(), named=False, tokens=("t", "u"))], ["b"])
    assert log.sessions() == [record("a", rooms=(), named=False, tokens=("t", "u"))]
    log.append([], [record("c")], ["c", "never there"])
    assert [each.id for each in log.sessions()] == ["a"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "@x+y", "日本"]), TEXTS), max_size=20), st.integers(1, 5))
def test_every_text_comes_out_as_it_went_in(posts: list[tuple[str, str]], group: int) -> None:
    memory = MemoryLog()
    heads: dict[str, int] = {}
    events: list[Event] = []
    for number, (room, text) in enumerate(posts):
        heads[room] = heads.get(room, 0) + 1
        events.append(event(heads[room], room, text, number + 1))
    with SQLiteLog(":memory:") as log:
        for start in range(0, len(events), group):
            for each in (memory, log):
                each.append(events[start : start + group])
        assert log.rooms() == memory.rooms() == heads
        for room in heads:
            assert log.read(room, 0, 100) == memory.read(room, 0, 100) == [each for each in events if each.room == room]


# --------------------------------------------------------------- a log in a file


def test_a_file_that_is_opened_again_has_everything(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with SQLiteLog(path) as log:
        log.append([event(1, n=1), event(1, "attic")], [record("a")])
    with SQLiteLog(path) as log:
        log.append([event(2, n=2)])
    with SQLiteLog(path) as log:
        assert log.rooms() == {"lobby": 2, "attic": 1}
        assert log.read("lobby", 0, 9) == [event(1, n=1), event(2, n=2)]
        assert log.sessions() == [record("a")]


def test_a_group_is_kept_entire_or_not_at_all(tmp_path: Path) -> None:
    with SQLiteLog(tmp_path / "chat.db") as log:
        log.append([event(1, n=1)], [record("a")])
        for twice in (event(1), event(2, n=1)):
            with pytest.raises(LogError, match="UNIQUE"):
                log.append([event(2, n=2), event(3, n=3), twice], [record("b")], ["a"])
        assert log.rooms() == {"lobby": 1}
        assert log.sessions() == [record("a")]
        log.append([event(2, n=2)])
        assert log.head("lobby") == 2


CRASH = """
import os, sys
from protocols.chat.sqlite_log import SQLiteLog
from tests.protocols.chat.test_logs import event, record
log = SQLiteLog(sys.argv[1])
log.append([event(1)], [record("a")])
wanted = sys.argv[2]
log._database.set_trace_callback(lambda done: os._exit(9) if done.startswith(wanted) else None)
log.append([event(2), event(3)], [record("b")], ["a"])
"""


@pytest.mark.parametrize("where", ["BEGIN", "INSERT INTO events VALUES ('lobby', 3", "REPLACE", "DELETE", "COMMIT"])
def test_a_crash_before_the_commit_keeps_nothing_of_its_group_and_all_before_it(tmp_path: Path, where: str) -> None:
    path = tmp_path / "chat.db"
    crashed = subprocess.run([sys.executable, "-c", CRASH, path, where], capture_output=True, text=True, timeout=60)
    assert crashed.returncode == 9, crashed.stderr
    with SQLiteLog(path) as log:
        assert log.read("lobby", 0, 9) == [event(1)]
        assert log.sessions() == [record("a")]
        log.append([event(2)])
        assert log.head("lobby") == 2


def foreign_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE events (what TEXT)")


def newer_layout(path: Path) -> None:
    SQLiteLog(path).close()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (foreign_database, "something else"),
        (newer_layout, "layout 2"),
        (lambda path: path.write_text("ann: hi\n" * 1000), "not a database"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 16), "chat.db: "),
        (lambda path: path.mkdir(), "unable to open"),
    ],
    ids=["another program's database", "a newer layout", "a text", "a torn database", "a directory"],
)
def test_a_file_that_is_no_log_is_refused_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "chat.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LogError, match=reason) as caught:
        SQLiteLog(path)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="nowhere"):
        SQLiteLog(tmp_path / "nowhere" / "chat.db")


def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    path.touch()
    with SQLiteLog(path) as log:
        log.append([event(1)])
    with SQLiteLog(path) as log:
        assert log.head("lobby") == 1


def test_two_servers_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with SQLiteLog(path) as log:
        with pytest.raises(LogError, match="another server"):
            SQLiteLog(path)
        log.append([event(1)])
    with SQLiteLog(path) as log:
        assert log.head("lobby") == 1


def test_a_session_record_that_is_torn_is_an_error_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    SQLiteLog(path).close()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO sessions VALUES ('a', x'c1')")
    with SQLiteLog(path) as log, pytest.raises(LogError, match="chat"):
        log.sessions()


def test_a_full_disk_keeps_what_was_there_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with SQLiteLog(path) as log:
        log.append([event(1)])
        pages = log._database.execute("PRAGMA page_count").fetchone()[0]
        log._database.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(LogError, match="full"):
            log.append([event(seq, text="x" * 1000) for seq in range(2, 50)])
        assert log.rooms() == {"lobby": 1}
        log._database.execute("PRAGMA max_page_count = 100000")
        log.append([event(2)])
    with SQLiteLog(path) as log:
        assert log.read("lobby", 0, 9) == [event(1), event(2)]


FULL = """
import resource, signal, sys
from protocols.chat.log import LogError
from protocols.chat.sqlite_log import SQLiteLog
from tests.protocols.chat.test_logs import event
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
log = SQLiteLog(sys.argv[1])
kept = 0
try:
    for seq in range(1, 1000):
        log.append([event(seq, text="x" * 1000)])
        kept = seq
except LogError as error:
    print(kept, error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no limit of a file's size")
def test_a_file_that_may_not_grow_keeps_all_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    ended = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, timeout=60)
    kept, _, error = ended.stdout.partition(" ")
    assert str(path) in error, ended.stdout + ended.stderr
    assert int(kept) > 10
    with SQLiteLog(path) as log:
        assert [each.seq for each in log.read("lobby", 0, 1000)] == list(range(1, int(kept) + 1))


READ_ONLY = """
import os, sys
from protocols.chat.log import LogError
from protocols.chat.sqlite_log import SQLiteLog
if os.geteuid() == 0:
    os.setuid(65534)
try:
    SQLiteLog(sys.argv[1])
except LogError as error:
    print(error)
"""


def test_a_file_that_may_only_be_read_is_refused_at_the_start() -> None:
    # Not in pytest's directory, which nobody else may look into.
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "chat.db")
        with SQLiteLog(path) as log:
            log.append([event(1)])
        before = path.read_bytes()
        path.chmod(0o444)
        Path(place).chmod(0o755)
        ended = subprocess.run([sys.executable, "-c", READ_ONLY, path], capture_output=True, text=True, timeout=60)
        assert "readonly database" in ended.stdout, ended.stdout + ended.stderr
        assert str(path) in ended.stdout
        assert path.read_bytes() == before


def test_what_was_appended_is_on_the_disk_and_not_only_with_the_system(tmp_path: Path) -> None:
    with SQLiteLog(tmp_path / "chat.db") as log:
        assert log._database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert log._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        log.append([event(1, text="here it is")])
        assert b"here it is" in (tmp_path / "chat.db-wal").read_bytes()
