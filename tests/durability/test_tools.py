"""Copies, exports and repairs: what they give back is what was there, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.database import restore
from evomem.doctor import examine
from evomem.encoder import HashEncoder
from evomem.errors import (
    DatabaseDamaged,
    FingerprintMismatch,
    IntegrityError,
    NamespaceError,
    StoreError,
)
from tests.durability.plans import ENCODER, forget, fork, hide, open_database, turn
from tests.durability.reference import assert_sound, snapshot
from tests.stores.helpers import downgrade


@pytest.fixture
def place(location):
    with open_database(location) as db:
        _tell(db)
    return location


@pytest.fixture
def path(tmp_path):
    """The same, in a file: for what is about files, as backups are."""
    with open_database(tmp_path / "a.db") as db:
        _tell(db)
    return tmp_path / "a.db"


def _tell(db):
    """Forks, gaps, deletions, metadata of all kinds, and what a dropped memory left to a fork."""
    db.memory("m").add_many([turn(n, metadata={"n": n, "é": ["\n", None]}) for n in range(1, 12)])
    db.memory("m").add("\u2028 odd", reply="x\ry", speaker="Zoë", session="s", id="odd")
    fork("m", "f")(db)
    db.memory("m", "f").add_many([turn(n) for n in range(20, 25)])
    forget("m/f", "t23")(db)
    db.memory("gone").add_many([turn(1), turn(2)])
    db.memory("gone").fork("h").add_many([turn(40)])
    db.memory("gone").drop()
    hide("m", "t5")(db)
    forget("m/f", "t24")(db)


# backup and restore --------------------------------------------------------------------------


def test_a_backup_is_a_database_with_everything_and_for_the_owner_alone(path, tmp_path):
    with open_database(path) as db:
        db.backup(tmp_path / "b.db")
        assert stat.S_IMODE((tmp_path / "b.db").stat().st_mode) == 0o600
        with open_database(tmp_path / "b.db") as copy:
            assert snapshot(copy) == snapshot(db)
            assert copy.verify() == []
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_backup_taken_while_others_write_is_of_one_moment(path, tmp_path):
    stop = threading.Event()

    def write():
        with open_database(path) as other:
            number = 100
            while not stop.is_set():
                other.memory("w").add_many([turn(number), turn(number + 1)])
                number += 2

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with open_database(path) as db:
            while not len(db.memory("w")):
                time.sleep(0.01)
            for number in range(3):
                target = tmp_path / f"{number}.db"
                before = len(db.memory("w"))
                db.backup(target)
                with open_database(target) as copy:
                    assert len(copy.memory("w")) % 2 == 0
                    assert len(copy.memory("w")) >= before
                    assert_sound(copy)
    finally:
        stop.set()
        thread.join()


def test_a_backup_replaces_nothing(path, tmp_path):
    (tmp_path / "b.db").write_text("precious")
    with open_database(path) as db:
        with pytest.raises(StoreError, match="exists already"):
            db.backup(tmp_path / "b.db")
        with pytest.raises(StoreError, match="cannot be written"):
            db.backup(tmp_path / "no such folder" / "b.db")
    assert (tmp_path / "b.db").read_text() == "precious"


def test_a_restored_database_is_what_was_backed_up(path, tmp_path):
    with open_database(path) as db:
        db.backup(tmp_path / "b.db")
        before = snapshot(db)
        db.drop("m")
    for old in tmp_path.glob("a.db*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    restore(tmp_path / "b.db", path)
    with open_database(path) as db:
        assert snapshot(db) == before
        assert_sound(db)


def test_restoring_replaces_nothing_and_refuses_a_backup_with_faults(path, tmp_path):
    with open_database(path) as db:
        db.backup(tmp_path / "b.db")
    with pytest.raises(StoreError, match="exists already"):
        restore(tmp_path / "b.db", path)
    _spoil(tmp_path / "b.db", "UPDATE turns SET user = 'other' WHERE seq = 3")
    with pytest.raises(StoreError, match="has faults"):
        restore(tmp_path / "b.db", tmp_path / "c.db")
    (tmp_path / "d.db").write_bytes(b"no database" * 100)
    with pytest.raises(DatabaseDamaged):
        restore(tmp_path / "d.db", tmp_path / "c.db")
    assert not (tmp_path / "c.db").exists()


def test_a_database_is_not_restored_next_to_another_write_ahead_log(path, tmp_path):
    (tmp_path / "c.db-wal").write_bytes(b"of a database that was deleted")
    with pytest.raises(StoreError, match=r"c\.db-wal exists"):
        restore(path, tmp_path / "c.db")


def test_a_server_is_not_backed_up_but_told_how_that_is_done(new_schema, tmp_path):
    with open_database(new_schema()) as db:
        with pytest.raises(StoreError, match=r"pg_dump --schema=test_.*evomem export"):
            db.backup(tmp_path / "b.db")
    assert list(tmp_path.iterdir()) == []


# exports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_an_export_loaded_again_is_equal_bit_for_bit(place, target, tmp_path, request):
    """From either database into either."""
    to = tmp_path / "b.db" if target == "sqlite" else request.getfixturevalue("new_schema")()
    with open_database(place) as db, open_database(to) as copy:
        assert db.export(tmp_path / "dump") == copy.load(tmp_path / "dump") == db.stats()["turns"]
        assert snapshot(copy) == snapshot(db)
        for name in db.memories():
            added = [[r.added for r in record.memory(*name).history()] for record in (db, copy)]
            assert added[0] == added[1]
        assert_sound(copy)
        copy.memory("m").add_many([turn(50)])
        db.memory("m").add_many([turn(50)])
        assert snapshot(copy) == snapshot(db)
        copy.memory("gone", "h").drop()
        assert copy.verify() == []


@settings(max_examples=10)
@given(
    texts=st.lists(st.text(min_size=1).filter(lambda t: t.strip() and "\x00" not in t), max_size=6),
    metadata=st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.booleans()),
)
def test_any_text_survives_an_export(tmp_path_factory, texts, metadata):
    folder = tmp_path_factory.mktemp("export") / "dump"
    with open_database(":memory:") as db, open_database(":memory:") as copy:
        try:
            turns = [evomem.Turn(user=text, metadata=metadata) for text in texts]
        except evomem.EvomemError:
            return
        db.memory("m").add_many(turns)
        db.export(folder)
        copy.load(folder)
        assert snapshot(copy) == snapshot(db)


def test_an_export_can_be_read_without_evomem(path, tmp_path):
    from safetensors.numpy import load_file

    with open_database(path) as db:
        db.export(tmp_path / "dump")
        first = db._engine.store.rows(db.memory("m")._view(), after=0)[0]
    about = json.loads((tmp_path / "dump" / "evomem.json").read_text("utf-8"))
    assert about["memories"][0]["namespace"] == ["m"]
    with (tmp_path / "dump" / "1.jsonl").open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert (lines[0]["id"], lines[0]["user"]) == ("t1", "says 1 of the cat")
    tensors = load_file(tmp_path / "dump" / "1.safetensors")
    assert tensors["embeddings"].shape == (len(lines), ENCODER.spec.dim)
    assert np.array_equal(tensors["embeddings"][0], first.reading.embedding)
    for file in (tmp_path / "dump").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("1.jsonl", b"says 3", b"says 4", r"1\.jsonl was changed"),
        ("1.jsonl", b'"seq": 3', b'"seq": 2', r"1\.jsonl was changed"),
        ("1.jsonl", b"\n", b"", r"1\.jsonl was changed"),
        ("1.safetensors", b"", None, "cannot be read"),
        ("2.jsonl", b"", None, "cannot be read"),
        ("evomem.json", b'"format": 3', b'"format": 9', "format"),
        ("evomem.json", b'"turns": 12', b'"turns": 13', "its digest does not match"),
    ],
)
def test_a_changed_export_is_refused_and_nothing_is_written(path, tmp_path, file, old, new, says):
    with open_database(path) as db:
        db.export(tmp_path / "dump")
    changed = tmp_path / "dump" / file
    if new is None:
        changed.unlink()
    else:
        changed.write_bytes(changed.read_bytes().replace(old, new, 1))
    with open_database(tmp_path / "b.db") as copy:
        with pytest.raises(StoreError, match=says):
            copy.load(tmp_path / "dump")
        assert copy.memories() == []
        assert copy.verify() == []


def test_an_export_is_not_loaded_over_a_memory_nor_into_another_encoder_s_database(place, tmp_path):
    with open_database(place) as db:
        db.export(tmp_path / "dump")
        before = snapshot(db)
        with pytest.raises(NamespaceError, match="already"):
            db.load(tmp_path / "dump")
        assert snapshot(db) == before
        with pytest.raises(StoreError, match="new"):
            db.export(tmp_path / "dump")
    with evomem.open(":memory:", HashEncoder(8)) as other, pytest.raises(FingerprintMismatch):
        other.load(tmp_path / "dump")


LONG = " ".join(f"word{n}" for n in range(400))  # text that does not compress to nothing


# repairs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM postings",
        "DELETE FROM runs",
        "UPDATE postings SET seqs = substr(seqs, 2)",
        "INSERT INTO postings SELECT memory, last, 'more', seqs FROM postings LIMIT 1",
        "INSERT INTO hidden (memory, seq) VALUES (1, 5000)",
        "UPDATE lexicon SET analyser = 'another'",
    ],
)
def test_repair_restores_all_data_derived_from_the_log(place, damage):
    with open_database(place) as db:
        before, words = snapshot(db), db.memory("m").search("the cat", 20, mode="lexical")
    _spoil(place, damage)
    with open_database(place) as db:
        db.repair()
        assert snapshot(db) == before
        assert db.memory("m").search("the cat", 20, mode="lexical") == words
        assert_sound(db)
        assert db.repair() == []


def test_index_files_that_are_wrong_are_removed(path):
    with open_database(path) as db:
        db.memory("m").search("the cat")
    file = path.with_name("a.db.index") / "1.faiss"
    file.write_bytes(file.read_bytes()[:-1])
    with open_database(path) as db:
        assert [fault for fault in db.verify() if "1.faiss" in fault]
        assert any("1.faiss was removed" in repaired for repaired in db.repair())
        assert db.verify() == []


def test_a_changed_turn_cannot_be_repaired_and_stays_reported(place):
    _spoil(place, "UPDATE turns SET speaker = 'other' WHERE seq = 3 AND memory = 1")
    with open_database(place) as db:
        db.repair()
        assert any("turn 3 of memory 1" in fault for fault in db.verify())


def test_half_written_index_files_of_dead_processes_are_swept_and_of_live_ones_kept(path):
    import os

    folder = path.with_name("a.db.index")
    folder.mkdir(exist_ok=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid()):
        (folder / f".1.faiss.{pid}.0abc").write_bytes(b"half")
    open_database(path).close()
    assert [p.name for p in folder.glob(".*")] == [f".1.faiss.{os.getpid()}.0abc"]


def test_compacting_gives_space_back_and_changes_nothing(place):
    with open_database(place) as db:
        db.memory("big").add_many([turn(n, LONG + "{}") for n in range(150)])
        before = snapshot(db)
        del before[("big",)]
        db.drop("big")
        size, after = db.compact()
        assert after < size / 2
        assert snapshot(db) == before
        assert_sound(db)


# doctor --------------------------------------------------------------------------------------


def test_the_doctor_finds_a_healthy_installation_and_database(place):
    findings = list(examine(place))
    assert [finding for finding in findings if not finding.sound] == []
    looked_at = {"sqlite", "trial", "database", "encoder"}
    if not place.startswith("postgresql"):
        looked_at |= {"permissions", "disk"}
    assert looked_at <= {finding.what for finding in findings}


@pytest.mark.parametrize("ailment", ["others may read it", "is not a database", "its encoders"])
def test_the_doctor_says_what_is_wrong(path, ailment):
    if ailment == "is not a database":
        path.write_bytes(b"Dear diary")
    elif ailment == "its encoders":
        _spoil(path, "UPDATE encoder SET name = 'nothing like it'")
    else:
        path.chmod(0o644)
    wrong = [finding.says for finding in examine(str(path)) if not finding.sound]
    assert any(ailment in says for says in wrong), wrong


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("3.40.1", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.45.0", True),
        ("3.50.6", True),
        ("3.50.7", False),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.53.0", False),
    ],
)
def test_the_doctor_knows_an_sqlite_that_several_processes_should_not_write_with(
    monkeypatch, version, affected
):
    monkeypatch.setattr(sqlite3, "sqlite_version", version)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", tuple(map(int, version.split("."))))
    log = next(finding for finding in examine("no.db") if finding.what == "write-ahead log")
    assert log.sound
    assert log.says.startswith(version)
    assert ("let one process write" in log.says) == affected


# the schema of the first release ---------------------------------------------------------------


def test_a_database_of_the_first_schema_opens_with_everything(place):
    with open_database(place) as db:
        before = snapshot(db)
    downgrade(place, 1)
    with open_database(place) as db:
        assert snapshot(db) == before
        db.memory("m").add_many([turn(50)])
        assert_sound(db)


def test_edits_made_before_seals_existed_are_still_reported(place):
    downgrade(place, 4)
    _spoil(place, "UPDATE turns SET speaker = 'other' WHERE seq = 3 AND memory = 1")
    for _ in range(2):
        with open_database(place) as db:
            assert any("turn 3 of memory 1 was changed" in fault for fault in db.verify())
            with pytest.raises(IntegrityError, match="turn 3 of memory 1"):
                db.memory("m").history()
            assert db.memory("m").get("t4").seq == 4


def _spoil(place, statement):
    if str(place).startswith("postgresql"):
        url, _, schema = place.rpartition("schema=")
        with psycopg.connect(url.rstrip("?&"), options=f"-csearch_path={schema}") as server:
            server.execute(statement)
        return
    connection = sqlite3.connect(place)
    connection.execute(statement)
    connection.commit()
    connection.close()
