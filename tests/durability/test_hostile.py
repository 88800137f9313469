"""Hostile names, ids, metadata and filters: refused before anything is written, or kept exactly."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import evomem
from evomem.errors import InputError, NotFound, QueryError
from evomem.records import MAX_CHARS, MAX_LABEL, MAX_METADATA
from evomem.where import OPERATORS
from tests.durability.plans import ENCODER, open_database
from tests.durability.reference import assert_sound, snapshot
from tests.stores.counting import counted

FRAGMENTS = [
    "'", '"', '""', "';--", "' OR 1=1 --", '") UNION SELECT * FROM turns --', "\\", "%", "_", "*",
    "[", "]", '"]', '","', "{}", "$", "$.a", '$."a"', "$[0]", "->>", ":memory:", "?", ":x", "%s",
    "..", "/", "../../etc/passwd", "C:\\x", "\x00", "\ud800", "\udfff", "\u202e", "\ufeff", "\n",
    "\r\n", "\x1b[2J", "é", "e\u0301", "İ", "ß", "\U0001f600", " ", "", "a" * 600, "m1_cat", "AND",
    "NEAR(", "body:", "a*", "^a", "0", "1e999", "null", "true", "NaN",
]  # fmt: skip
hostile = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=3).map("".join),
    st.text(st.characters(codec=None), max_size=20),
)
scalars = st.one_of(
    hostile, st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.none(), st.binary()
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=2) | st.dictionaries(hostile, v, max_size=2)
)
FUZZ = settings(max_examples=60)


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    with open_database(tmp_path_factory.mktemp("hostile") / "a.db") as opened:
        for n in range(5):
            opened.memory("quiet").add(f"note {n}", id=f"n{n}", metadata={"a": n, "b": str(n)})
        yield opened


@FUZZ
@given(
    labels=st.lists(hostile, min_size=1, max_size=3),
    fields=st.fixed_dictionaries(
        {}, optional={"id": hostile, "session": hostile, "speaker": hostile, "reply": hostile}
    ),
    text=hostile,
    metadata=st.dictionaries(hostile, values, max_size=3),
)
@example(labels=["x"], fields={"id": "i" * (MAX_LABEL + 1)}, text="x", metadata={})
@example(labels=["l" * (MAX_LABEL + 1)], fields={}, text="x", metadata={})
@example(labels=["x"] * 17, fields={}, text="x", metadata={})
@example(labels=["x"], fields={}, text="x" * (MAX_CHARS + 1), metadata={})
@example(labels=["x"], fields={}, text="x", metadata={"k": "v" * MAX_METADATA})
@example(labels=["x"], fields={}, text="x", metadata={"a": {"b": ["\ud800"]}})
def test_a_hostile_turn_is_refused_before_writing_or_read_back_exactly(
    db, labels, fields, text, metadata
):
    before = db.stats()
    try:
        record = db.memory(*labels).add(text, metadata=metadata, **fields)
    except InputError:
        assert {**db.stats(), "bytes": 0} == {**before, "bytes": 0}
        return
    with evomem.open(db_path(db), ENCODER) as again:  # through other connections
        memory = again.memory(*labels)
        assert memory.get(record.id) == record
        assert record.turn.user == text
        assert dict(record.turn.metadata) == metadata
        assert {name: getattr(record.turn, name) for name in fields if name != "reply"} == {
            name: value for name, value in fields.items() if name != "reply"
        }
        assert tuple(labels) in again.memories()
        assert tuple(labels) in again.memories(labels[0])
        for name in again.memories():
            if name != tuple(labels):
                with pytest.raises(NotFound):
                    again.memory(*name).get(record.id)
        session = record.turn.session
        if session is not None:
            assert memory.search("note", session=session)
    db.drop(*labels)


@FUZZ
@given(
    query=hostile,
    arguments=st.fixed_dictionaries(
        {},
        optional={
            "session": hostile,
            "role": hostile,
            "mode": st.sampled_from(["evolvable", "lexical", "hybrid"]) | hostile,
            "since": hostile,
            "at": hostile | st.integers(-3, 9),
            "k": st.integers(-2, 2**70) | hostile,
            "where": st.dictionaries(
                hostile | st.sampled_from(["a", "b"]),
                values | st.dictionaries(st.sampled_from(OPERATORS) | hostile, values, max_size=2),
                max_size=3,
            ),
        },
    ),
)
def test_a_question_is_refused_or_answered_from_its_own_memory_and_changes_nothing(
    db, query, arguments
):
    db.memory("other").add_many([])
    before = snapshot(db)
    with suppress(InputError):
        for hit in db.memory("quiet").search(query, **arguments):
            assert hit.record.turn.user.startswith("note")
    assert snapshot(db) == before


@FUZZ
@given(name=hostile.map(lambda text: "$" + text), value=values)
def test_an_operator_that_is_not_on_the_list_is_refused(db, name, value):
    if name not in OPERATORS:
        with pytest.raises(QueryError, match="operators are"):
            db.memory("quiet").search("note", where={"a": {name: value}})


MARK = "zebra'\"]%_"


def _everything(db: evomem.Database, mark: str) -> None:
    """Give `mark` to every place that takes a value."""
    memory = db.memory(mark, mark)
    memory.add(
        f"cat {mark}", reply=mark, speaker=mark, id=mark, session=mark, metadata={mark: mark}
    )
    memory.add(f"dog {mark}", id=mark + "2")
    for mode in ("evolvable", "lexical", "hybrid"):
        for where in (
            {mark: mark},
            {mark: {"$in": [mark, mark]}},
            {mark: {"$gt": mark, "$ne": mark, "$nin": [mark], "$exists": True}},
        ):
            memory.search(f"cat {mark}", mode=mode, session=mark, where=where, role="exchange")
    memory.context(mark)
    memory.get(mark)
    memory.history(after=1)
    fork = memory.fork(mark)
    fork.delete(mark)
    memory.purge(mark, forks=True)
    memory.expire(session=mark)
    db.memories(mark)
    db.drop(mark)


def test_no_value_is_ever_part_of_a_statement(tmp_path):
    """The statements are the same, letter for letter, whatever the values are."""
    statements_of: dict[str, set[str]] = {}
    for mark in (MARK, "plain"):
        with open_database(tmp_path / f"{len(statements_of)}.db") as db:
            with counted(db) as work:
                _everything(db, mark)
            statements_of[mark] = set(work.statements)
    hostile, plain = statements_of.values()
    assert len(plain) > 30
    assert hostile == plain
    assert not [statement for statement in hostile if "zebra" in statement]


def test_hostile_names_make_no_files_and_all_files_are_the_owner_s_alone(tmp_path):
    mask = os.umask(0)  # the worst case: nothing is taken away
    try:
        with open_database(tmp_path / "a.db") as db:
            for label in ("../../up", "/etc/passwd", "a/b", "..", "x" * 500):
                for n in range(6):
                    db.memory(label, label).add(f"note {n}")
                db.memory(label, label).search("note")
            modes = {
                path.relative_to(tmp_path): path.stat().st_mode for path in tmp_path.rglob("*")
            }
    finally:
        os.umask(mask)
    names = {str(path) for path in modes}
    files = {f"a.db.index/{number}.faiss" for number in range(1, 6)}
    assert names == {"a.db", "a.db-wal", "a.db-shm", "a.db.index", *files}
    for path, mode in modes.items():
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path


def test_memories_with_hostile_names_do_not_show_in_each_other(db):
    names = [("a", "b"), ('a","b',), ("a/b",), ("a", "b", "c"), ("ab",), ("A", "b"), ("a ", "b")]
    for number, name in enumerate(names):
        db.memory(*name).add(f"secret{number} note", id="same")
    for number, name in enumerate(names):
        memory = db.memory(*name)
        for mode in ("evolvable", "lexical", "hybrid"):
            hits = memory.search("note secret0 secret1 secret2", k=99, mode=mode)
            assert [hit.record.turn.user for hit in hits] == [f"secret{number} note"]
    assert_sound(db)


def db_path(db: evomem.Database) -> str:
    store: Any = db._engine.store
    return str(store._connections.path)
