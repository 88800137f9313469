"""What survives: killed writers, two writers, damaged and foreign files. Real processes, real files.

EVOMEM_KILLS sets how many writers are killed (20 if not given).
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.cli import main
from evomem.database import restore
from evomem.doctor import examine as look_over
from evomem.encoder import HashEncoder
from evomem.errors import (
    DatabaseDamaged,
    EvomemError,
    FingerprintMismatch,
    NotFound,
    StoreError,
)
from evomem.plugins import load_encoder
from evomem_stores import open_sqlite
from evomem_stores.database import sqlite
from tests.processes import Forked
from tests.stores.helpers import (
    ENCODER,
    assert_same_state,
    exact,
    found,
    log,
    open_at,
    query,
    read_rows,
    running,
    turn,
    words,
    write,
)
from tests.stores.other_process import OtherProcess
from tests.stores.writer import write_turns

KILLS = int(os.environ.get("EVOMEM_KILLS", "20"))


def start(path, memory, name, count, gate=None):
    return Forked(write_turns, path, memory, name, count, gate)


def there(path):
    """Whether a database was made before its writer was killed."""
    try:
        open_at(path, None)[0].close()
    except NotFound:
        return False
    return True


def check(path, acknowledged):
    """Everything that must hold of a memory whose writer was killed; return how many turns it has."""
    store, index = open_at(path)
    memory = store.make_memory(("m",))
    view = store.view(memory)
    rows = store.rows(view, after=0)
    ids = [str(row.turn.id) for row in rows]
    assert ids[: len(acknowledged)] == acknowledged  # all there, in order
    assert len(ids) - len(acknowledged) <= 4  # at most the batch that was not yet acknowledged
    assert len(set(ids)) == len(ids)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    state = running([])
    for row, again in zip(rows, read_rows(state, 1, [row.turn for row in rows]), strict=True):
        assert row.key == again.key
        assert row.reading.embedding.tobytes() == again.reading.embedding.tobytes()
        assert row.reading.latents.tobytes() == again.reading.latents.tobytes()
        assert row.reading.opens_chunk == again.reading.opens_chunk
    assert_same_state(store.state(view), running([row.turn for row in rows]))
    assert sorted(words(store, view, "says")) == [row.seq for row in rows]
    assert found(index.search(view, query("cat 3"), 10)) == exact(store, view, query("cat 3"), 10)
    assert store.verify() == []
    assert [p for p in index.verify() if "replaced when needed" not in p] == []
    index.close()
    store.close()
    return len(rows)


@pytest.mark.slow
def test_every_acknowledged_turn_survives_a_kill_at_any_moment(fresh):
    """One database after another, each killed several times: recovery is recovered from too."""
    chance = random.Random(KILLS)
    path = fresh()
    acknowledged: list[str] = []
    moments = []
    for kill in range(KILLS):
        if kill % 5 == 0:
            path, acknowledged = fresh(), []
        process = start(path, "m", f"w{kill}", 10_000)
        from_start = chance.random() < 0.2  # also while the database is being made or opened
        batches = 0 if from_start else chance.randint(1, 8)  # however busy the machine is
        heard = [process.stdout.readline() for _ in range(batches)]
        time.sleep(chance.uniform(0, 0.1 if from_start else 0.05))
        lines = ("".join(heard) + process.kill()).split("\n")
        known = [id for line in lines[:-1] for id in line.split() if id != "ready"]
        acknowledged += known
        moments.append(len(known))
        if not there(path):
            continue
        check(path, acknowledged)
        store, _ = open_at(path)
        memory = store.make_memory(("m",))
        write(store, memory, [turn("the cat says it was killed", kill, id=f"after-{kill}")])
        acknowledged = [str(r.id) for r in store.history(store.view(memory))]
        store.close()
    assert sum(moments) > KILLS  # the kills hit writers at work


def test_two_processes_lose_and_double_nothing(location, tmp_path):
    gate = tmp_path / "gate"
    writers = [start(location, "m", name, 100, gate) for name in ("left", "right")]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 2
    gate.touch()
    texts = [writer.finish().split() for writer in writers]
    store, index = open_at(location)
    view = store.view(store.make_memory(("m",)))
    ids = [str(record.id) for record in store.history(view)]
    assert len(ids) == len(set(ids)) == 200
    for name, own in zip(("left", "right"), texts, strict=True):
        assert [id for id in ids if id.startswith(name)] == own
    order = [id.partition("-")[0] for id in ids]
    assert order != sorted(order), "they took turns, so that the race was run"
    assert index.verify() == []
    store.close()
    check(location, ids)


def test_many_processes_may_make_the_same_database_at_once(location):
    writers = [start(location, f"m{n}", "x", 2) for n in range(4)]
    for writer in writers:
        writer.finish()
    store, _ = open_at(location)
    assert store.memories() == [("m0",), ("m1",), ("m2",), ("m3",)]
    assert store.verify() == []
    store.close()


def test_a_database_whose_making_was_cut_short_is_made_by_the_next(tmp_path):
    path = tmp_path / "a.db"
    path.touch()
    store, _ = open_at(path)
    store.close()
    other = tmp_path / "b.db"
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    store, _ = open_at(other)
    assert write(store, store.make_memory(("a",)), [turn("x", 1)]).seq == 1
    store.close()


def test_turns_acknowledged_after_opening_twice_survive_a_close_in_between(tmp_path):
    """Locks that were lost would let the second process remove the log that the first one writes to."""
    path = tmp_path / "a.db"
    with evomem.open(str(path), "hash") as db:
        db.memory("m").add("made", id="made")
    first = OtherProcess()
    first.add(str(path), ("m",), [{"user": "x", "id": "before"}])
    first.open_again(str(path))
    with evomem.open(str(path)) as db:
        db.memory("m").add("x", id="between")
    assert (tmp_path / "a.db-wal").exists()
    first.add(str(path), ("m",), [{"user": "x", "id": "after"}])
    first.kill()
    with evomem.open(str(path)) as db:
        history = db.memory("m").history()
        assert [record.id for record in history] == ["made", "before", "between", "after"]
        assert db.verify() == []


LOCKED = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)  # where SQLite's readers are
    except BlockingIOError:
        sys.exit("locked")
"""


def locked(path):
    """Whether another process sees that the database is open."""
    asked = subprocess.run(
        [sys.executable, "-c", LOCKED, path], check=False, capture_output=True, text=True
    )
    assert asked.returncode == 0 or asked.stderr == "locked\n", asked.stderr
    return asked.returncode == 1


def test_operations_on_an_open_database_keep_its_locks(tmp_path):
    """POSIX takes all locks of a process on a file when it closes the file, however it was opened."""
    path = tmp_path / "a.db"

    def refused():
        with pytest.raises(FingerprintMismatch):
            evomem.open(str(path), HashEncoder(16))

    def by_command():
        assert main(["stats", "--db", str(path)]) == 0

    with evomem.open(str(path), "hash") as db:
        assert locked(path)
        memory = db.memory("m")
        memory.add("the cat", id="cat")
        calls = {
            "open": lambda: evomem.open(str(path)).close(),
            "open, another encoder": refused,
            "search": lambda: memory.search("cat"),
            "purge": lambda: memory.purge("cat"),
            "verify": db.verify,
            "repair": db.repair,
            "stats": db.stats,
            "compact": db.compact,
            "backup": lambda: db.backup(tmp_path / "b.db"),
            "restore": lambda: restore(path, tmp_path / "c.db"),
            "export": lambda: db.export(tmp_path / "dump"),
            "doctor": lambda: list(look_over(str(path))),
            "command line": by_command,
        }
        for name, call in calls.items():
            call()
            assert locked(path), name
    assert not locked(path)


def test_opening_a_file_that_another_process_is_setting_up_waits(tmp_path):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute(
            "BEGIN IMMEDIATE"
        )  # SQLite would not wait for this one to turn the file to WAL
        end = threading.Timer(0.3, other.rollback)
        end.start()
        store, _ = open_at(path)
        end.join()
    assert store.verify() == []
    store.close()


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_a_database_that_is_created_while_its_file_is_examined_is_recognised(
    tmp_path, monkeypatch, moment
):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as empty:
        empty.execute("PRAGMA journal_mode = WAL")  # as far as the other process has come
    plain = sqlite._reader
    statements = []

    class Examining(sqlite3.Connection):
        """Lets another process create the tables at one moment of the examination."""

        def execute(self, statement, *values):
            statements.append(statement)
            if len(statements) == moment:
                monkeypatch.setattr(sqlite, "_reader", plain)
                open_at(path)[0].close()
            return super().execute(statement, *values)

    def slow(path, options):
        if "immutable" in options:
            return plain(path, options)
        uri = f"{path.as_uri()}?{options}"
        return sqlite3.connect(uri, uri=True, factory=Examining, isolation_level=None)

    monkeypatch.setattr(sqlite, "_reader", slow)
    store, _ = open_at(path)
    assert len(statements) >= moment
    assert store.verify() == []
    store.close()


def test_opening_without_an_encoder_uses_that_of_a_database_created_meanwhile(
    location, monkeypatch
):
    def slow(name, **options):
        """Load an encoder so slowly that another process creates the database meanwhile."""
        open_at(location)[0].close()
        return load_encoder(name, **options)

    monkeypatch.setattr(evomem.database, "load_encoder", slow)
    monkeypatch.setattr(evomem.database, "DEFAULT_ENCODER", "hash:16")
    with evomem.open(location) as db:
        assert db.spec == ENCODER.spec


def test_a_new_file_is_closed_before_another_thread_can_open_it(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    opened = threading.Event()
    others = []

    def other():
        others.append(open_at(path)[0])
        opened.set()

    class Slow:
        """`os`, with a second opening tried between making a file and closing it."""

        def __getattr__(self, name):
            return getattr(os, name)

        def close(self, handle):
            threading.Thread(target=other).start()
            assert not opened.wait(0.5)  # true however slow this machine is
            os.close(handle)

    monkeypatch.setattr("evomem_stores.database.sqlite.os", Slow())
    store, _ = open_at(path)
    assert opened.wait(60)
    for item in (store, *others):
        item.make_memory(("m",))
        assert locked(path)
    for item in (store, *others):
        item.close()


# damaged and foreign files -------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database, closed, and what its log holds."""
    folder = tmp_path_factory.mktemp("made")
    store, index = open_at(folder / "a.db")
    memory = store.make_memory(("a",))
    write(store, memory, [turn(f"note {n} about the cat {n % 7}", n) for n in range(1, 60)])
    store.hide(store.view(memory), [5])
    fork = store.fork(store.view(memory, seq=40), ("fork",))
    write(store, fork, [turn("my own", 99)])
    everything = Snapshot(store)
    index.close()
    store.close()
    return folder, everything


class Snapshot:
    """What a database holds; equal to another that holds the same."""

    def __init__(self, store):
        self.held = [
            (log(store, view), store.history(view), words(store, view, "cat 3"))
            for view in (store.view(1), store.view(2))
        ]

    def __eq__(self, other):
        return isinstance(other, Snapshot) and self.held == other.held


def examine(path):
    """Open, verify and read; return (what was said, what the log holds or None)."""
    before = path.read_bytes()
    faults, contents = [], None
    try:
        store, _ = open_at(path)
        try:
            faults += store.verify()
            contents = Snapshot(store)
        finally:
            store.close()
    except EvomemError as error:
        faults.append(str(error))
    if faults:
        assert path.read_bytes() == before, "a damaged file is evidence: it must stay as it is"
    return faults, contents


DECODE_ERRORS = {
    "text": b"Dear diary, ...\n" * 100,
    "short": b"x",
    "zeros": bytes(8192),
    "magic alone": b"SQLite format 3\x00",
    "magic and rubbish": b"SQLite format 3\x00" + bytes(range(256)) * 40,
}


@pytest.mark.parametrize("name", DECODE_ERRORS)
def test_a_file_that_is_not_a_database_is_refused_and_left_unchanged(tmp_path, name):
    path = tmp_path / "a.db"
    path.write_bytes(DECODE_ERRORS[name])
    for spec in (ENCODER.spec, None):
        with pytest.raises(DatabaseDamaged, match=r"a\.db.*(restore|another path)"):
            open_sqlite(str(path), spec)
        assert path.read_bytes() == DECODE_ERRORS[name]
    assert [p.name for p in tmp_path.iterdir()] == ["a.db"]


def test_files_beside_a_file_that_is_no_database_are_not_changed(tmp_path):
    for ending in ("", "-journal", "-wal"):
        (tmp_path / f"a.db{ending}").write_bytes(DECODE_ERRORS["text"])
    with pytest.raises(DatabaseDamaged, match="another path"):
        open_at(tmp_path / "a.db")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        f"a.db{ending}": DECODE_ERRORS["text"] for ending in ("", "-journal", "-wal")
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_reported(tmp_path):
    (tmp_path / "a.db").write_bytes(DECODE_ERRORS["text"])
    (tmp_path / "a.db").chmod(0)
    with pytest.raises(StoreError, match=r"a\.db cannot be opened \(Permission denied\)"):
        open_at(tmp_path / "a.db")


def test_a_database_that_lost_power_in_its_first_write_is_recreated(tmp_path):
    path = tmp_path / "cut.db"
    path.write_bytes(bytes(4096))  # the size reached the disk, the page did not
    begun = bytes.fromhex("d9d505f920a163d7") + struct.pack(">5I", 0, 7, 0, 512, 4096)
    path.with_name("cut.db-journal").write_bytes(begun.ljust(512, b"\0"))
    with evomem.open(str(path), "hash") as db:
        db.memory("m").add("the cat")
        assert db.verify() == []
    assert not path.with_name("cut.db-journal").exists()


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_another_program_s_database_is_refused_and_left_alone(tmp_path, mode):
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE turns (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    for spec in (ENCODER.spec, None):
        with pytest.raises(DatabaseDamaged, match="another program's"):
            open_sqlite(str(path), spec)
    assert path.read_bytes() == before


def test_a_folder_is_not_a_database(tmp_path):
    with pytest.raises(StoreError, match=str(tmp_path)):
        open_at(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_database_is_refused_or_reported(made, tmp_path, share):
    path = tmp_path / "a.db"
    content = (made[0] / "a.db").read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    faults, stored = examine(path)
    assert faults
    assert stored is None or stored != made[1]


def test_an_emptied_database_with_a_write_ahead_log_is_not_recreated(made, tmp_path):
    store, _ = open_at(tmp_path / "a.db")
    write(store, store.make_memory(("a",)), [turn("x", 1)])
    shutil.copy(tmp_path / "a.db-wal", tmp_path / "b.db-wal")
    store.close()
    (tmp_path / "b.db").touch()
    with pytest.raises(DatabaseDamaged):
        open_at(tmp_path / "b.db")


@settings(max_examples=60)
@given(place=st.integers(0, 10**9 - 1))
def test_a_flipped_bit_is_refused_or_reported_unless_it_changes_nothing(made, tmp_path, place):
    content = bytearray((made[0] / "a.db").read_bytes())
    bit = place * 8 * len(content) // 10**9
    content[bit // 8] ^= 1 << bit % 8
    for old in tmp_path.glob("a.db*"):
        old.unlink()
    (tmp_path / "a.db").write_bytes(content)
    faults, stored = examine(tmp_path / "a.db")
    assert faults or stored == made[1]


@pytest.mark.parametrize("column", ["user", "metadata", "embedding", "latents", "session", "time", "chunk", "key", "words"])  # fmt: skip
def test_a_changed_column_is_reported_by_name_of_the_turn(made, tmp_path, column):
    path = tmp_path / "a.db"
    shutil.copy(made[0] / "a.db", path)
    change = {
        "user": "replace(user, 'cat', 'dog')",
        "metadata": "'{\"a\": 1}'",
        "embedding": "zeroblob(length(embedding))",
        "latents": "zeroblob(length(latents))",
        "session": "'s'",
        "key": "zeroblob(16)",
    }.get(column, f"{column} - 1")
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE turns SET {column} = {change} WHERE seq = 7")
    connection.commit()
    connection.close()
    faults, _ = examine(path)
    assert any("turn 7 of memory 1" in line for line in faults), faults


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM turns WHERE seq = 9", "digest chain"),
        ("DELETE FROM turns WHERE row = (1 << 32) + 40", "forked at turn 40"),
        ("UPDATE memories SET head = 50", "ends at turn 50"),
        ("UPDATE memories SET parent_seq = 30 WHERE memory = 2", "digest chain"),
        ("UPDATE memories SET parent = 77, memory = 99 WHERE memory = 2", "from turns that do not exist"),
        ("UPDATE memories SET head = 39 WHERE memory = 1", "forked from turns that do not exist"),
        ("INSERT INTO hidden (memory, seq) VALUES (1, 5000)", "hides a turn that does not exist"),
        ("INSERT INTO postings VALUES (1, 31, 'more', x'03000000')", "word index of memory 1"),
        ("INSERT INTO postings VALUES (1, 3, 'more', x'03000000')", "word index of memory 1"),
        ("DELETE FROM postings", "word index of memory 1"),
        ("DELETE FROM runs WHERE first = 1", "word index of memory 1"),
        ("UPDATE turns SET embedding = zeroblob(3) WHERE seq = 3", "cannot be read"),
        ("DELETE FROM encoder", "has lost the record of its encoder"),
    ],
)  # fmt: skip
def test_verify_reports_inconsistent_rows(made, tmp_path, statement, says):
    path = tmp_path / "a.db"
    shutil.copy(made[0] / "a.db", path)
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    faults, _ = examine(path)
    assert any(says in line for line in faults), faults


def test_a_healthy_database_has_nothing_to_report(made, tmp_path):
    shutil.copy(made[0] / "a.db", tmp_path / "a.db")
    assert examine(tmp_path / "a.db") == ([], made[1])


def test_a_full_disk_is_reported_and_nothing_is_lost(tmp_path):
    store, _ = open_at(tmp_path / "a.db")
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn(f"note {n}", n) for n in range(20)])
    with store._connections.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    with store._connections.writing() as connection:  # the pool gives the same one again
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    many = [turn(f"note {n} " + "long " * 500, n) for n in range(100, 200)]
    with pytest.raises(StoreError, match="full.*nothing was written"):
        write(store, memory, many)
    assert store.view(memory) == view
    assert store.verify() == []
    store.close()
