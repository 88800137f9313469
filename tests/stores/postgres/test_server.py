"""What is PostgreSQL's own: schemas, settings, locks, lost connections, what a purge leaves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from evomem.errors import DatabaseBusy, DatabaseDamaged, NotFound, SharedTurns, StoreError
from evomem_stores.database.postgresql import PostgresConnections
from evomem_stores.log import writing
from tests.stores.helpers import (
    ENCODER,
    exact,
    found,
    open_at,
    purge,
    query,
    read_rows,
    turn,
    write,
)


@pytest.fixture
def location(new_schema):
    return new_schema()


@pytest.fixture
def store(location):
    opened, index = open_at(location)
    yield opened
    index.close()
    opened.close()


@pytest.fixture
def alice(store):
    return store.make_memory(("acme", "alice"))


@pytest.fixture
def admin(postgres):
    """A connection beside the store's, in autocommit mode."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


def schema_of(location):
    return location.rpartition("schema=")[2]


def notes(count, start=1):
    return [turn(f"note {n} about cat number {n % 7}", n) for n in range(start, start + count)]


def cut(store, admin):
    """Close every connection of a store from the server's side, as a restart does."""
    with store._connections.reading() as connection:
        name = f"cut{id(store)}"
        connection.exec_driver_sql(f"SET SESSION application_name = '{name}'")
    admin.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
        [name],
    )


# where the tables are ------------------------------------------------------------------------


def test_opening_a_missing_database_without_a_spec_raises_and_creates_nothing(location, admin):
    with pytest.raises(NotFound, match="encoder="):
        open_at(location, None)
    there = "SELECT to_regnamespace(%s)"
    assert admin.execute(there, [schema_of(location)]).fetchone() == (None,)


def test_without_a_name_the_schema_is_called_evomem(postgres):
    engine = PostgresConnections(postgres, synchronous_commit="on", busy_timeout=1, pool_size=1)
    assert engine.schema == "evomem"
    assert "(schema evomem)" in engine.place
    engine.close()


def test_two_schemas_are_two_databases(new_schema):
    one, two = open_at(new_schema())[0], open_at(new_schema())[0]
    write(one, one.make_memory(("a",)), notes(3))
    assert (one.memories(), two.memories()) == ([("a",)], [])
    assert two.verify() == []
    one.close()
    two.close()


@pytest.mark.parametrize("name", ["Mixed Case", 'quo"te', "semi; drop", "ümlaut", "select"])
def test_a_schema_may_have_any_name(location, name, admin):
    name = schema_of(location) + name
    place = (
        location.rpartition("schema=")[0] + "schema=" + name.replace(" ", "%20").replace(";", "%3B")
    )
    for _ in range(2):
        store, _ = open_at(place)
        store.make_memory(("a",))
        assert store.verify() == []
        store.close()
    assert admin.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [name]).fetchone() == (1,)  # fmt: skip


@pytest.mark.parametrize("table", ["turns", "migrations"])
def test_another_program_s_tables_are_refused_and_left_alone(location, admin, table):
    admin.execute(f"CREATE SCHEMA {schema_of(location)}")
    admin.execute(f"CREATE TABLE {schema_of(location)}.{table} (x int)")
    for spec in (ENCODER.spec, None):
        with pytest.raises(DatabaseDamaged, match=r"another program.*\?schema="):
            open_at(location, spec)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
    assert admin.execute(tables, [schema_of(location)]).fetchall() == [(table,)]


def test_many_may_make_the_same_tables_at_once(location):
    gate = threading.Barrier(4)

    def make(number):
        gate.wait()
        with closing(open_at(location)[0]) as store:
            return store.make_memory(("same",))

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(make, range(4))) == {1}
    with closing(open_at(location)[0]) as store:
        assert store.memories() == [("same",)]
        assert store.verify() == []


# addresses and settings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("postgresql://user:secret@/db?host=/nowhere", "no connection to the server"),
        ("postgresql://user@/db?host=/nowhere&password=secret", "no connection to the server"),
        ("postgresql://user:secret@/db?host=/nowhere&schema=a&schema=b", "takes one name"),
        ("postgresql://user:secret@host:port/db", "not a URL"),
        ("postgresql://user:secret@/db?nonsense=1&host=/nowhere", "nonsense"),
    ],
)
def test_an_address_that_does_not_work_is_reported_without_its_password(location, says):
    with pytest.raises(StoreError, match=says) as raised:
        open_at(location)
    assert "secret" not in str(raised.value)


def test_a_database_that_does_not_exist_is_named(postgres):
    elsewhere = postgres.replace("/postgres?", "/nowhere?")
    with pytest.raises(StoreError, match='"nowhere" does not exist'):
        open_at(elsewhere)


def test_a_setting_that_does_not_exist_is_refused(location):
    with pytest.raises(StoreError, match="'FULL'"):
        open_at(location, synchronous_commit="FULL")


@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_write_waits_for_the_disk_unless_told_otherwise(location, admin, setting):
    store, _ = open_at(location, synchronous_commit=setting)
    with store._connections.writing() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == setting
    store.close()


def test_a_reader_sees_one_state_and_cannot_write(store, alice):
    with store._connections.reading() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM turns").scalar()
        write(store, alice, notes(3))
        assert connection.exec_driver_sql("SELECT count(*) FROM turns").scalar() == before == 0
    with pytest.raises(StoreError, match="read-only"):
        with store._connections.reading() as connection:
            connection.exec_driver_sql("DELETE FROM hidden")


def test_settings_end_with_the_transaction_so_that_a_pooler_may_share_connections(store):
    with store._connections._engine.connect() as connection:
        shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("search_path", "lock_timeout")]  # fmt: skip
    assert shown == ['"$user", public', "0"]


def test_namespaces_and_ids_may_be_as_long_as_they_may_be(store):
    long = tuple(chr(0x1F600 + n) * 512 for n in range(16))
    memory = store.make_memory(long)
    assert store.make_memory(long) == memory
    assert store.memories(long[:15]) == [long]
    id = "\N{GRINNING FACE}" * 512
    write(store, memory, [turn("x", 1, id=id, session=id, speaker=id)])
    assert store.find(store.view(memory), [id])[id].seq == 1


def test_ids_that_postgresql_cannot_store_are_not_found(store, alice):
    view = write(store, alice, notes(2))
    assert list(store.find(view, ["\x00", "\ud800", "t1"])) == ["t1"]


# writers at once -----------------------------------------------------------------------------


def test_writers_of_two_memories_do_not_wait_for_each_other(location, store, alice):
    other, _ = open_at(location, busy_timeout=0.05)
    with store._connections.writing(alice):
        bob = other.make_memory(("acme", "bob"))
        assert write(other, bob, notes(3)).seq == 3
        assert other.fork(other.view(bob), ("fork",)) > bob
        with pytest.raises(DatabaseBusy, match="nothing was written"):
            write(other, alice, notes(1))
    other.close()


def test_a_fork_and_a_purge_of_what_it_shares_come_one_after_the_other(location, store, alice):
    view = write(store, alice, notes(5))
    other, _ = open_at(location)
    with ThreadPoolExecutor(1) as thread:
        with store._connections.writing(alice) as connection:  # a purge begins ...
            purging = thread.submit(purge, other, alice, 2)
            with pytest.raises(TimeoutError):
                purging.result(0.2)  # ... and waits for the fork
            writing.make_memory(connection, ("fork",), alice, view.seq, view.seq)
        with pytest.raises(SharedTurns, match="fork"):
            purging.result(30)
    assert len(store.history(store.view(alice))) == 5
    assert store.verify() == []
    other.close()


def test_while_readings_are_swapped_writers_wait_and_readers_do_not(location, store, alice):
    """Loading an export and repairing hold the same lock."""

    def swap():
        with store._connections.exclusive():
            pass

    write(store, alice, notes(3))
    other, _ = open_at(location, busy_timeout=0.05)
    with store._connections.exclusive():
        for call in (lambda: write(other, alice, notes(1, 4)), lambda: other.make_memory(("b",))):
            with pytest.raises(DatabaseBusy, match="nothing was written"):
                call()
        assert len(other.history(other.view(alice))) == 3
    with ThreadPoolExecutor(1) as thread, other._connections.writing(alice):
        swapping = thread.submit(swap)
        with pytest.raises(TimeoutError):  # and it waits for those who have begun
            swapping.result(0.2)
    other.close()


def test_purges_come_one_after_the_other_and_other_memories_continue_being_written(
    location, store, alice
):
    other, _ = open_at(location, busy_timeout=0.05)
    bob = other.make_memory(("acme", "bob"))
    write(other, bob, notes(5))
    with store._connections.forgetting(alice):
        assert write(other, bob, notes(1, 6)).seq == 6
        with pytest.raises(DatabaseBusy, match="nothing was written"):
            purge(other, bob, 2)
    purge(other, bob, 2)
    other.close()


def test_a_pool_that_is_used_up_is_reported(location):
    store, _ = open_at(location, pool_size=1, busy_timeout=0.05)
    with store._connections.reading(), ThreadPoolExecutor() as other:
        with pytest.raises(DatabaseBusy, match="pool_size"):
            other.submit(store.memories).result()
    assert store.memories() == []
    store.close()


def test_each_worker_keeps_index_files_of_its_own(location, tmp_path):
    one, one_index = open_at(location, index_folder=tmp_path / "one")
    two, two_index = open_at(location, index_folder=tmp_path / "two")
    memory = one.make_memory(("a",))
    write(one, memory, notes(20))
    for index in (one_index, two_index):
        index._min_new_rows = 1
        index.search(one.view(memory), query("cat"), 3)
    assert one.stats()["index_bytes"] == two.stats()["index_bytes"] > 0
    purge(one, memory, 7)  # which the other worker is not told of
    assert [len(list((tmp_path / name).iterdir())) for name in ("one", "two")] == [0, 1]
    view = two.view(memory)
    assert found(two_index.search(view, query("cat"), 30)) == exact(two, view, query("cat"), 30)
    assert two_index.verify() == []
    for opened in (one_index, one, two_index, two):
        opened.close()


# lost connections ----------------------------------------------------------------------------


def test_after_the_server_was_restarted_calls_continue(store, alice, admin):
    write(store, alice, notes(2))
    cut(store, admin)
    assert len(store.history(store.view(alice))) == 2
    cut(store, admin)
    assert write(store, alice, notes(2, 3)).seq == 4


def test_a_connection_lost_in_the_middle_of_a_write_is_reported_and_leaves_nothing_half(
    store, alice, admin
):
    write(store, alice, notes(2))
    view = store.view(alice)
    rows = read_rows(store.state(view), 3, notes(3, 3))

    def write_and_lose():
        with store._connections.writing(alice) as connection:
            writing.append(connection, view, rows, store.spec)
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    with pytest.raises(StoreError, match=r"lost.*completely or not at all.*same ids"):
        write_and_lose()
    assert store.view(alice) == view
    assert write(store, alice, notes(3, 3)).seq == 5
    assert store.verify() == []


# forgetting ----------------------------------------------------------------------------------


FILES = """
    SELECT relname, pg_relation_filepath(oid) FROM pg_class
    WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'i') OR oid IN (
        SELECT reltoastrelid FROM pg_class WHERE relnamespace = %(schema)s::regnamespace)"""


def test_purged_text_is_in_no_table_after_the_documented_vacuum(store, location, admin):
    memory = store.make_memory(("a",))
    secret = "zyxwvuts"
    fields = {"session": secret, "speaker": secret, "metadata": {secret: secret}}
    for n in range(1, 30):
        write(store, memory, [turn("w " * n + secret, n, **fields)] if n % 3 == 0 else notes(1, n))
    for n in range(27, 0, -3):
        purge(store, memory, n)
    schema = schema_of(location)

    def traces():
        admin.execute("CHECKPOINT")
        read = "SELECT pg_read_binary_file(%s)"
        files = admin.execute(FILES, {"schema": schema}).fetchall()
        return [name for name, path in files if secret.encode() in admin.execute(read, [path]).fetchone()[0]]  # fmt: skip

    assert "turns" in traces(), "what a purge leaves until the table is vacuumed"
    for table in ("turns", "postings"):
        admin.execute(f"VACUUM (FULL, ANALYZE) {schema}.{table}")
    assert traces() == []
    assert store.verify() == []
