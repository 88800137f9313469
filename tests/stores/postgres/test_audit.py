"""`verify` on PostgreSQL: what does not fit together is reported."""

from __future__ import annotations

import psycopg
import pytest

from tests.stores.helpers import open_at, turn, write

CHANGED = {
    "user": "replace(\"user\", 'cat', 'dog')",
    "metadata": "'{\"a\": 1}'",
    "embedding": "substring(embedding FROM 5) || substring(embedding FOR 4)",
    "latents": "substring(latents FROM 5) || substring(latents FOR 4)",
    "session": "'s'",
    "key": "substring(checksum FOR 16)",
    **{name: f'"{name}" - 1' for name in ("time", "chunk", "words")},
}
APART = [
    ("DELETE FROM turns WHERE seq = 9", "digest chain"),
    ('DELETE FROM turns WHERE "row" = (1::bigint << 32) + 20', "forked at turn 20"),
    ("UPDATE memories SET head = 25", "ends at turn 25"),
    ("UPDATE memories SET parent_seq = 10 WHERE memory = 2", "digest chain"),
    ("UPDATE memories SET head = 19 WHERE memory = 1", "forked from turns that do not exist"),
    ("INSERT INTO hidden (memory, seq) VALUES (1, 5000)", "hides a turn that does not exist"),
    ("INSERT INTO postings VALUES (1, 3, 'more', '\\x03000000')", "word index of memory 1"),
    ("UPDATE postings SET seqs = seqs || seqs WHERE last = 29", "word index"),
    ("DELETE FROM runs WHERE last = 29", "word index of memory 1"),
    ("UPDATE runs SET first = 3 WHERE last = 29", "word index of memory 1"),
    ("DELETE FROM postings", "word index of memory 1"),
    ("UPDATE turns SET embedding = '\\x000000' WHERE seq = 3", "cannot be read"),
]


@pytest.fixture(scope="module")
def made(new_schema):
    """A database that every test here changes and puts back."""
    location = new_schema()
    store, _ = open_at(location)
    memory = store.make_memory(("a",))
    write(store, memory, [turn(f"note {n} about the cat {n % 7}", n) for n in range(1, 30)])
    store.hide(store.view(memory), [5])
    fork = store.fork(store.view(memory, seq=20), ("fork",))
    write(store, fork, [turn("my own", 99)])
    yield store, location.rpartition("schema=")[2]
    store.close()


def said_after(made, postgres, statement):
    """What verify says while a change is there."""
    store, schema = made
    with psycopg.connect(postgres, options=f"-csearch_path={schema}") as connection:
        kept = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in ("memories", "turns", "hidden", "runs", "postings")}  # fmt: skip
        connection.execute(statement)
        connection.commit()
        faults = store.verify()
        connection.execute("TRUNCATE memories, turns, hidden, runs, postings CASCADE")
        for name, rows in kept.items():
            marks = ", ".join(["%s"] * len(rows[0]))
            for row in rows:
                connection.execute(f'INSERT INTO "{name}" OVERRIDING SYSTEM VALUE VALUES ({marks})', row)  # fmt: skip
    assert store.verify() == []
    return faults


@pytest.mark.parametrize("column", CHANGED)
def test_a_changed_column_is_reported_by_name_of_the_turn(made, postgres, column):
    texts = said_after(
        made, postgres, f'UPDATE turns SET "{column}" = {CHANGED[column]} WHERE seq = 7'
    )
    assert any("turn 7 of memory 1" in line for line in texts), texts


@pytest.mark.parametrize(("statement", "says"), APART)
def test_verify_reports_inconsistent_rows(made, postgres, statement, says):
    texts = said_after(made, postgres, statement)
    assert any(says in line for line in texts), texts
