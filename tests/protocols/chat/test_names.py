"""Who is called what: found by what a reader sees, and by nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.chat.names import Names
from protocols.chat.options import Options
from protocols.chat.rates import Bucket
from protocols.chat.safety import key, look_alike
from protocols.chat.tables import Session
from tests.protocols.chat.table import Table

# Latin, Cyrillic and Greek letters that look alike, in both cases, and digits that look like letters.
LETTERS = "aоoеeсcрpхxАAВBМMοΟ1lI0"  # noqa: RUF001 # that is what is tested
NAMES = st.lists(st.text(LETTERS, min_size=1, max_size=3), unique_by=key, max_size=12)


def session(name: str) -> Session:
    bucket = Bucket(1, 1.0, 0.0)
    return Session(name, name, bucket, bucket, bucket)


@given(NAMES, NAMES, st.text(LETTERS, min_size=1, max_size=3))
def test_those_who_look_alike_are_found_whoever_has_come_and_gone(stay: list[str], go: list[str], name: str) -> None:
    names: Names[Session] = Names(faces=True)
    there = {key(each): session(each) for each in stay}
    gone = [session(each) for each in go if key(each) not in there]
    for each in (*there.values(), *gone):
        names.add(each)
    for each in gone:
        names.remove(each)
    assert {each.name for each in names.alike(name)} == {each for each in stay if look_alike(each, name)}
    assert names.get(name) is there.get(key(name))
    assert len(names) == len(stay)


def test_where_names_are_ascii_nobody_looks_alike() -> None:
    names: Names[Session] = Names(faces=False)
    names.add(session("оо"))  # noqa: RUF001 # Cyrillic
    assert list(names.alike("oo")) == []


def test_a_room_that_looks_like_another_one_is_none() -> None:
    table = Table(Options(unicode_names=True))
    ann, ben = table.enter("ann", room="cope"), table.enter("ben", room=None)
    (answer,) = table.send("ben", {"type": "join", "id": [ben, 1], "room": "соре"})  # noqa: RUF001 # Cyrillic
    assert (answer["type"], answer["code"]) == ("error", "bad-name")
    assert "cope" in answer["text"]
    assert table.send("ben", {"type": "join", "id": [ben, 2], "room": "COPE"})[0]["type"] != "error"
    for name, session in (("ann", ann), ("ben", ben)):
        table.send(name, {"type": "leave", "id": [session, 3], "room": "cope"})
    answers = table.send("ben", {"type": "join", "id": [ben, 4], "room": "соре"})  # noqa: RUF001 # as above
    assert "error" not in {message["type"] for message in answers}  # the other one is no more
