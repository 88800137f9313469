"""What the log does in SQLite alone: files and their modes, settings, what a purge leaves."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

import evomem
from evomem.errors import DatabaseBusy, NotFound, StoreError
from evomem_stores import open_sqlite
from evomem_stores.database import sqlite, tables
from evomem_stores.database.connections import driver
from evomem_stores.database.seals import Seals, seals_of
from tests.stores.counting import counted
from tests.stores.helpers import ENCODER, bytes_of, exact, found, open_at, purge, query, turn, write


def notes(count, start=1):
    return [turn(f"note {n} about cat number {n % 7}", n) for n in range(start, start + count)]


def test_a_path_may_hold_anything_a_path_can(tmp_path):
    for name in ("a b?.db", "ü#%20.db", "x;'\".db"):
        store, _ = open_at(tmp_path / name)
        write(store, store.make_memory(("a",)), notes(3))
        store.close()
        again, _ = open_sqlite(f"sqlite:///{tmp_path / name}", None)
        assert again.stats()["turns"] == 3
        again.close()


@pytest.mark.parametrize("location", ["no.db", ":memory:", "empty.db"])
def test_opening_a_missing_database_without_a_spec_raises_and_creates_no_file(tmp_path, location):
    (tmp_path / "empty.db").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NotFound, match=location):
        open_sqlite(location if ":" in location else str(tmp_path / location), None)
    assert sorted(tmp_path.iterdir()) == before


def test_every_file_is_readable_by_its_owner_alone(tmp_path):
    store, index = open_at(tmp_path / "a.db")
    index._min_new_rows = 1
    view = write(store, store.make_memory(("a",)), notes(20))
    index.search(view, query("cat"), 3)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert set(modes) == {"a.db", "a.db-wal", "a.db-shm", "a.db.index", "1.faiss"}
    assert modes.pop("a.db.index") == 0o700
    assert set(modes.values()) == {0o600}
    index.close()
    store.close()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        open_at(tmp_path / "nowhere" / "a.db")


def test_a_setting_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(StoreError, match="'OFF'"):
        open_at(tmp_path / "a.db", synchronous="OFF")


@pytest.mark.parametrize("timeout", [-1, float("nan"), "30", None, True])
def test_a_timeout_that_is_not_a_number_of_seconds_is_refused(location, timeout):
    with pytest.raises(StoreError, match="busy_timeout must be a number of seconds"):
        open_at(location, busy_timeout=timeout)


@pytest.mark.parametrize("timeout", [10**400, float("inf"), 0])
def test_a_timeout_may_be_of_any_length(location, timeout):
    store, _ = open_at(location, busy_timeout=timeout)
    assert write(store, store.make_memory(("a",)), [turn("x", 1)]).seq == 1
    store.close()


@pytest.mark.parametrize(("setting", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_connections_are_set_up_for_a_log(tmp_path, setting, level):
    store, _ = open_at(tmp_path / "a.db", synchronous=setting)
    with store._connections.writing() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert values == {"journal_mode": "wal", "synchronous": level, "foreign_keys": 1, "secure_delete": 1}  # fmt: skip
    store.close()


@pytest.mark.parametrize("hidden_first", [False, True])
def test_purged_text_is_in_no_byte_of_the_folder(tmp_path, hidden_first):
    store, index = open_at(tmp_path / "a.db")
    index._min_new_rows = 1
    memory = store.make_memory(("a",))
    rng = np.random.default_rng(1)
    for n in range(1, 120):
        secret = f"zyxw{n}vuts" if n % 3 == 0 else f"plain{n}word"
        filler = " ".join(f"w{rng.integers(500)}" for _ in range(rng.integers(1, 400)))
        fields = {"session": secret + "session", "speaker": secret, "metadata": {secret: secret}}
        write(store, memory, [turn(f"{filler} {secret} {filler}", n, id=secret, **fields)])
        index.search(store.view(memory), query("w1"), 3)
    assert bytes_of(tmp_path).count(b"zyxw") > 100
    kept = {n: store.rows(store.view(memory, seq=n), after=n - 1)[0] for n in (2, 119)}
    for n in reversed(range(3, 120, 3)):
        if hidden_first:
            store.hide(store.view(memory), [n])
        purge(store, memory, n)
    everything = bytes_of(tmp_path)
    assert b"zyxw" not in everything
    assert b"plain119word" in everything
    assert kept[2].reading.embedding.tobytes() in everything
    assert found(index.search(store.view(memory), query("w1"), 9)) == exact(
        store, store.view(memory), query("w1"), 9
    )
    assert store.verify() == index.verify() == []
    index.close()
    store.close()
    assert b"zyxw" not in bytes_of(tmp_path)


def test_a_purge_while_another_process_reads_says_what_is_left(tmp_path):
    store, _ = open_at(tmp_path / "a.db", busy_timeout=0.05)
    other, _ = open_at(tmp_path / "a.db")
    memory = store.make_memory(("a",))
    write(store, memory, notes(3))
    with other._connections.reading() as connection:
        connection.execute(tables.turns.select().limit(1)).all()
        with pytest.warns(UserWarning, match="were purged, but the write-ahead log"):
            purge(store, memory, 2)
    assert [r.seq for r in store.history(store.view(memory))] == [1, 3]
    other.close()
    store.close()


def test_a_closed_database_in_memory_says_so():
    store, _ = open_at(":memory:")
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.memories()


def test_frequent_operations_do_not_scan_all_turns(tmp_path):
    """A condition written so that no index answers it looks the same and costs a million rows."""
    with evomem.open(str(tmp_path / "a.db"), ENCODER) as db:
        memory = db.memory("a")
        memory.add("a cat", id="1")  # made: making it looks elsewhere
        with counted(db) as work:
            memory.add("another cat", id="2", session="s")
            memory.add_many([evomem.Turn(user=f"note {n}", id=f"n{n}") for n in range(9)])
            for mode in ("evolvable", "hybrid", "lexical"):
                memory.search("cat", 2, mode=mode)
            memory.search("cat", 2, session="s")
            memory.import_chats({"id": "s", "messages": [{"role": "user", "content": "a hen"}]})
            memory.get("2")
            memory.delete("1")
            memory.at(seq=3).fork("f").add("a third cat")
    with sqlite3.connect(tmp_path / "a.db") as connection:
        for statement, given in work.given:
            if " turns " in statement and statement.startswith("SELECT"):
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
                assert not [line for *_, line in plan if line.startswith("SCAN turns")], statement
                for column in ("id", "session"):
                    if f"turns.{column} IN" in statement:
                        assert f"(memory=? AND {column}=?" in str(plan), statement
    connection.close()
    assert len(work.given) > 50


def test_lookups_cost_the_same_in_a_long_memory(tmp_path):
    """Counted in hundreds of instructions of SQLite's machine."""
    store, _ = open_at(tmp_path / "a.db")
    instructions: list[list[int]] = [[]]
    with store._connections.reading() as connection:  # the only one, since there is one thread
        driver(connection).set_progress_handler(lambda: instructions[-1].append(1), 100)
    cost = []
    for count in (100, 2000):
        memory = store.make_memory((str(count),))
        view = write(store, memory, [turn("rare", 1), *notes(count, 2)])
        store.lexical(view, "rare")  # how long the turns are is read once
        instructions.append([])
        middle = count // 2
        beside, texts = store.around(view, [middle])
        assert beside == {middle: (middle - 1, middle + 1)}
        assert set(texts) == {middle - 1, middle, middle + 1}
        assert set(store.records(view, [middle])) == {middle}
        assert set(store.find(view, [f"t{middle}"])) == {f"t{middle}"}
        assert dict(store.lexical(view, "rare")).keys() == {1}
        cost.append(len(instructions[-1]))
    store.close()
    assert 0 < cost[1] < cost[0] + 5


def test_a_thread_keeps_its_connection_and_further_threads_wait_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "POOL_TIMEOUT", 0.01)
    store, _ = open_at(tmp_path / "a.db")
    connections: Any = store._connections
    with connections.reading() as connection:
        first = driver(connection)
    write(store, store.make_memory(("a",)), notes(3))
    with connections.reading() as connection:
        assert driver(connection) is first
    with ExitStack() as others:
        for _ in range(sqlite.READERS):
            others.enter_context(connections._reading())
        with pytest.raises(DatabaseBusy, match="use fewer threads"):
            store.memories()
    assert store.memories() == [("a",)]
    assert len(connections._idle) == sqlite.READERS
    store.close()
    assert not connections._idle


def test_a_connection_whose_settings_are_outdated_is_not_used_again(tmp_path):
    store, _ = open_at(tmp_path / "a.db")
    connections: Any = store._connections
    with connections._connected() as connection:
        old = seals_of(connection)
    connections.seals = Seals(old.database, bytes(32))
    with connections._connected() as connection:
        assert seals_of(connection) is connections.seals
    store.close()


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path):
    store, _ = open_at(tmp_path / "a.db")

    def fail():
        with store._connections.writing() as connection:
            connection.execute(tables.lexicon.update().values(analyser="other"))
            driver(connection).execute("INSERT INTO missing VALUES (1)")

    for _ in range(2 * sqlite.READERS):
        with pytest.raises(StoreError, match="no such table"):
            fail()
    assert store.verify() == []
    with store._connections.reading() as connection:
        assert connection.scalar(select(tables.lexicon.c.analyser)) != "other"
    store.close()


def test_an_interrupt_inside_a_statement_stays_an_interrupt_and_leaves_nothing_behind(
    tmp_path, monkeypatch
):
    store, _ = open_at(tmp_path / "a.db")

    def interrupt(*_: object) -> None:  # as Ctrl-C does wherever Python is
        raise KeyboardInterrupt

    def write_twice():
        with store._connections.writing() as connection:
            driver(connection).execute("UPDATE lexicon SET analyser = 'other'")
            connection.execute(tables.lexicon.update().values(analyser="another"))

    for _ in range(2 * sqlite.READERS):
        with monkeypatch.context() as patch:
            patch.setattr(sqlite.SqliteDialect, "do_execute", interrupt)
            with pytest.raises(KeyboardInterrupt):
                write_twice()
    with store._connections.reading() as connection:
        assert connection.scalar(select(tables.lexicon.c.analyser)) not in ("other", "another")
    assert store.verify() == []
    store.close()
