"""Where a turn came from and which turns its answer was written from, through everything that moves."""

import hashlib
import json
import sqlite3
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import select, update

import evomem
from evomem.encoder import HashEncoder
from evomem.reencode import reencode
from evomem_stores.database import tables
from evomem_stores.upkeep.sealing import checksum_without_seals
from tests.stores.helpers import ENCODER, downgrade, log, open_at, turn, write


@pytest.fixture
def store(location):
    store, _ = open_at(location)
    yield store
    store.close()


def labelled(count):
    """Turns with every combination of a source and recalled ids."""
    return [
        turn(
            f"note {n}",
            n,
            source=(None, "user", "wéb", "import:chat.json")[n % 4],
            recalled=[f"t{m}" for m in range(n % 3)],
        )
        for n in range(count)
    ]


def provenance(memory):
    return [(record.id, record.turn.source, record.turn.recalled) for record in memory.history()]


def run_script(location, statements):
    if location.startswith("postgresql"):
        url, _, schema = location.rpartition("schema=")
        with psycopg.connect(url.rstrip("?&"), options=f"-csearch_path={schema}") as server:
            server.execute(statements)
        return
    with closing(sqlite3.connect(location)) as connection:
        connection.executescript(statements)


def test_a_database_from_before_the_columns_keeps_its_rows_and_checksums(location):
    store, _ = open_at(location)
    view = write(store, store.make_memory(("a",)), [turn(f"note {n}", n) for n in range(20)])
    before = log(store, view)
    store.close()
    downgrade(location, 3)
    store, _ = open_at(location)
    assert log(store, store.view(view.memory)) == before
    write(store, view.memory, labelled(40)[20:])
    assert store.verify() == []
    store.close()


def test_a_row_without_provenance_has_the_checksum_of_all_other_columns(store):
    write(store, store.make_memory(("a",)), [turn("a note", 1)])
    old = [
        name
        for name in tables.column_names(tables.turns)
        if name not in ("checksum", "seal", "source", "recalled")
    ]
    with store._connections.reading() as connection:
        row = connection.execute(select(tables.turns)).mappings().one()
    digest = hashlib.blake2b(digest_size=16)
    for name in old:
        data = row[name] if isinstance(row[name], bytes) else repr(row[name]).encode()
        digest.update(b"%d:" % len(data) + data)
    assert digest.digest() == checksum_without_seals(row)


@pytest.mark.parametrize(
    "change",
    [
        {"source": None},
        {"source": "web"},
        {"source": '["t1"]', "recalled": None},
        {"source": '["t1"]', "recalled": "user"},
        {"recalled": None},
        {"recalled": '["t2"]'},
    ],
)
def test_verify_sees_a_changed_source_or_recalled_turn(store, change):
    memory = store.make_memory(("a",))
    write(store, memory, [turn("one", 1), turn("two", 2, source="user", recalled=["t1"])])
    assert store.verify() == []
    with store._connections.writing() as connection:
        second = tables.turns.c.seq == 2
        connection.execute(update(tables.turns).where(second).values(change))
    assert "turn 2 of memory 1 was changed since it was written: its seal does not match" in (
        store.verify()
    )


def test_verify_sees_a_source_that_became_a_recalled_turn(store):
    write(store, store.make_memory(("a",)), [turn("one", 1, source='["t1"]')])
    with store._connections.writing() as connection:
        connection.execute(update(tables.turns).values(source=None, recalled='["t1"]'))
    assert any("its seal does not match" in fault for fault in store.verify())


def test_provenance_survives_every_way_a_turn_is_moved(location, tmp_path):
    turns = labelled(60)
    expected = [(item.id, item.source, item.recalled) for item in turns]
    with evomem.open(location, ENCODER) as db:
        memory = db.memory("a")
        assert [record.turn.recalled for record in memory.add_many(turns)] == [
            item.recalled for item in turns
        ]
        memory.annotate("t59", {"seen": True})
        assert provenance(memory) == expected
        assert provenance(memory.fork("b")) == expected
        assert provenance(memory.at(seq=30)) == expected[:30]
        assert memory.get("t5").turn == turns[5]
        assert memory.search("note 7", 1, mode="lexical")[0].record.turn == turns[7]
        db.memory("a", "b").purge("t10")  # which reads the later turns again
        del expected[10]
        assert provenance(db.memory("a", "b")) == expected
        db.export(tmp_path / "export")
    reencode(location, HashEncoder(16))
    with evomem.open(location, HashEncoder(16)) as db:
        assert provenance(db.memory("a", "b")) == expected
        assert db.verify() == []
    with evomem.open(str(tmp_path / "new.db"), ENCODER) as db:
        db.load(tmp_path / "export")
        assert provenance(db.memory("a", "b")) == expected
        assert db.verify() == []


def test_an_export_from_before_the_columns_is_loaded(tmp_path):
    with evomem.open(str(tmp_path / "old.db"), ENCODER) as db:
        db.memory("a").add_many([turn("one", 1), turn("two", 2)])
        db.export(tmp_path / "export")
    lines = tmp_path / "export" / "1.jsonl"
    old = [json.loads(line) for line in lines.read_text().splitlines()]
    for line in old:
        del line["source"], line["recalled"]
    lines.write_text("".join(json.dumps(line) + "\n" for line in old))
    about = json.loads((tmp_path / "export" / "evomem.json").read_text())
    (tmp_path / "export" / "evomem.json").write_text(json.dumps({**about, "format": 1}))
    with evomem.open(str(tmp_path / "new.db"), ENCODER) as db:
        with pytest.warns(UserWarning, match="did not seal exports"):
            assert db.load(tmp_path / "export") == 2
        assert provenance(db.memory("a")) == [("t1", None, ()), ("t2", None, ())]


def test_a_backup_has_the_provenance(tmp_path):
    with evomem.open(str(tmp_path / "agent.db"), ENCODER) as db:
        db.memory("a").add("x", reply="y", id="t1", source="user", recalled=["t0"])
        db.backup(tmp_path / "copy.db")
    with evomem.open(str(tmp_path / "copy.db"), ENCODER) as db:
        assert provenance(db.memory("a")) == [("t1", "user", ("t0",))]
