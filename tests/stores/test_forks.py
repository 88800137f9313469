"""What a forked child may do with a database that its parent has open: everything, safely."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch

import evomem
from evomem.errors import StoreError
from evomem_stores.database import sqlite_forks
from tests.conftest import ROOT
from tests.forked import fork, needs_fork

pytestmark = needs_fork


@pytest.fixture
def db(location):
    """A database that was used in every way before the fork: once a file, once on a server."""
    with evomem.open(location, encoder="hash") as opened:
        warm(opened.memory("a"))
        yield opened


def warm(memory):
    memory.add("before the fork", id="before")
    asyncio.run(memory.aadd("from a thread before the fork", id="thread"))
    for mode in ("evolvable", "hybrid", "lexical"):
        asyncio.run(memory.asearch("fork", mode=mode))


def stored(location):
    with evomem.open(location) as db:
        assert db.verify() == []
        return [record.id for record in db.memory("a").history()]


def connections(memory) -> Any:
    """Return the pool of connections behind a memory."""
    return memory._engine.store._connections


def add_and_find(memory, name):
    async def both():
        await memory.aadd(f"said by {name}", id=name)
        return [hit.record.id for hit in await memory.asearch(f"said by {name}", k=1)]

    return asyncio.run(both())


@contextmanager
def held(lock_or_block):
    """Have another thread hold a lock, or be inside a block, until this one is left."""
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with lock_or_block:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    yield
    leave.set()
    thread.join()


def test_child_and_parent_make_synchronous_and_asynchronous_calls(db, location):
    memory = db.memory("a")
    wait = fork(lambda: add_and_find(memory, "child"))
    assert add_and_find(memory, "parent") == ["parent"]
    assert wait() == ["child"]
    assert add_and_find(memory, "again") == ["again"]
    db.close()
    assert sorted(stored(location)) == ["again", "before", "child", "parent", "thread"]


@pytest.mark.parametrize("child_closes", [True, False])
def test_turns_acknowledged_to_a_child_stay_when_the_parent_closes_first(
    db, location, child_closes
):
    memory = db.memory("a")
    reading, writing = os.pipe()

    def child():
        memory.add("by the child, while the parent is open", id="first")
        os.read(reading, 1)
        for n in range(8):
            memory.add(f"child {n}", id=f"c{n}")
        if child_closes:
            db.close()

    wait = fork(child)
    db.close()
    os.write(writing, b"x")
    wait()
    assert stored(location)[2:] == ["first", *(f"c{n}" for n in range(8))]


def test_acknowledged_turns_of_the_parent_survive_when_the_child_closes_first(db, location):
    memory = db.memory("a")

    def child():
        memory.add("by the child", id="child")
        db.close()
        gc.collect()

    fork(child)()
    for n in range(8):
        memory.add(f"parent {n}", id=f"p{n}")
    fork(gc.collect)()  # a child that never uses the database
    memory.add("last", id="last")
    db.close()
    assert stored(location)[2:] == ["child", *(f"p{n}" for n in range(8)), "last"]


def test_a_database_that_was_closed_with_a_connection_in_use_is_let_go_at_a_fork(tmp_path):
    location = str(tmp_path / "a.db")
    db = evomem.open(location, encoder="hash")
    memory = db.memory("a")
    memory.add("one", id="one")
    gc.disable()
    try:
        with connections(memory).reading():
            db.close()
        reading, writing = os.pipe()
        with evomem.open(location) as again:
            wait = fork(lambda: (os.read(reading, 1), add_and_find(again.memory("a"), "two"))[1])
    finally:
        gc.enable()
    gc.collect()
    os.write(writing, b"x")
    assert wait() == ["two"]
    assert stored(location) == ["one", "two"]


def add_ten(memory, name):
    for n in range(5):
        memory.add(f"{name} says {n}", id=f"{name}-{n}")
    return add_and_find(memory, name)


def test_a_process_pool_and_its_parent_write_one_memory_and_nothing_is_lost_or_doubled(
    db, location
):
    memory = db.memory("a")
    waits = [fork(partial(add_ten, memory, name)) for name in ("left", "mid", "right")]
    add_ten(memory, "parent")
    assert [wait() for wait in waits] == [["left"], ["mid"], ["right"]]
    db.close()
    ids = stored(location)
    assert Counter(id.partition("-")[0] for id in ids) == {
        **dict.fromkeys(("left", "mid", "right", "parent"), 6),
        **dict.fromkeys(("before", "thread"), 1),
    }
    for name in ("left", "mid", "right", "parent"):
        texts = [id for id in ids if id.startswith(name)]
        assert texts == [*(f"{name}-{n}" for n in range(5)), name]


def _in_pool(name):
    return add_and_find(POOLED["memory"], name)


POOLED: dict[str, evomem.Memory] = {}


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_multiprocessing_s_pool_uses_its_parent_s_database(db, location):
    POOLED["memory"] = db.memory("a")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        names = [f"task{n}" for n in range(6)]
        assert pool.map(_in_pool, names, chunksize=1) == [[name] for name in names]
        pool.close()
        pool.join()
    db.close()
    assert sorted(stored(location)[2:]) == names


def test_a_fork_of_a_fork_is_one_too(db, location):
    memory = db.memory("a")

    def child():
        memory.add("by the child", id="child")
        return fork(lambda: add_and_find(memory, "grandchild"))()

    assert fork(child)() == ["grandchild"]
    assert add_and_find(memory, "parent") == ["parent"]


def test_locks_that_other_threads_hold_at_the_fork_do_not_hold_up_the_child(db):
    memory = db.memory("a")
    engine, index = memory._engine, memory._engine.index
    [shard] = index._cached.values()
    words = memory._engine.store._words
    with (
        held(engine.lock(memory.namespace)),
        held(engine._guard),
        held(engine._states._lock),
        held(index._guard),
        held(shard.lock),
        held(words._rows._lock),
        held(words._cached_postings._lock),
    ):
        wait = fork(lambda: add_and_find(memory, "child"))
        assert wait() == ["child"]
    assert add_and_find(memory, "parent") == ["parent"]


def test_a_batch_that_another_thread_computes_at_the_fork_does_not_hold_up_the_child(tmp_path):
    computing, finish = threading.Event(), threading.Event()

    class Slow(evomem.HashEncoder):
        batch_tokens = 100
        parallel = False

        def measure(self, turn):
            return 1

        def read_batch(self, jobs):
            if jobs[0][1][0].user == "slow":
                computing.set()
                finish.wait()
            return [self.read(*job) for job in jobs]

        def embed_batch(self, jobs):
            return [self.embed_queries(*job) for job in jobs]

    with evomem.open(str(tmp_path / "a.db"), encoder=Slow()) as db:
        thread = threading.Thread(target=lambda: db.memory("a").add("slow", id="slow"))
        thread.start()
        computing.wait()
        memory = db.memory("a")
        assert fork(lambda: add_and_find(memory, "child"))() == ["child"]
        finish.set()
        thread.join()
        assert [record.id for record in memory.history()] == ["child", "slow"]


def test_caches_continue_in_the_child_and_are_its_own(db):
    memory = db.memory("a")
    [shard] = [cached.shard for cached in memory._engine.index._cached.values()]

    def child():
        [kept] = [cached.shard for cached in memory._engine.index._cached.values()]
        memory.add("by the child", id="child")
        memory.purge("before")
        return kept is shard, [hit.record.id for hit in memory.search("fork child", k=9)]

    same, ids = fork(child)()
    assert same
    assert sorted(ids) == ["child", "thread"]
    assert sorted(hit.record.id for hit in memory.search("fork child", k=9)) == ["child", "thread"]


# a transaction of another thread --------------------------------------------------------------


def leave_mark(connection):
    """Change something that no seal covers."""
    connection.exec_driver_sql("UPDATE migrations SET applied = 7 WHERE number = 2")


def is_marked(engine):
    with engine.reading() as connection:
        query = "SELECT applied FROM migrations WHERE number = 2"
        return connection.exec_driver_sql(query).scalar() == 7


def test_a_fork_waits_for_another_thread_s_transaction(tmp_path):
    location = str(tmp_path / "a.db")
    with evomem.open(location, encoder="hash") as db:
        memory = db.memory("a")
        warm(memory)
        engine = connections(memory)
        begun = threading.Event()

        def write():
            with engine.writing(1) as connection:
                leave_mark(connection)
                begun.set()
                time.sleep(0.2)
                with engine.reading():  # what is inside gets on
                    pass

        thread = threading.Thread(target=write)
        thread.start()
        begun.wait()
        wait = fork(lambda: [is_marked(engine), *add_and_find(memory, "child")])
        thread.join()
        assert wait() == [True, "child"]
        assert is_marked(engine)
    assert stored(location) == ["before", "thread", "child"]


def test_after_a_transaction_that_a_fork_cannot_wait_for_the_child_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sqlite_forks, "FORK_TIMEOUT", 0.05)
    location, other = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    with evomem.open(location, encoder="hash") as db, evomem.open(other, encoder="hash") as second:
        memory = db.memory("a")
        warm(memory)

        def child():
            for call in (lambda: memory.add("x"), lambda: evomem.open(location)):
                with pytest.raises(StoreError, match="fork when no thread is using it"):
                    call()
            db.close()
            return add_and_find(second.memory("a"), "other")

        with held(connections(memory).writing(1)):
            assert fork(child)() == ["other"]
        assert add_and_find(memory, "parent") == ["parent"]
    assert stored(location) == ["before", "thread", "parent"]


def test_a_transaction_on_a_server_stays_the_parent_s(new_schema):
    location = new_schema()
    with evomem.open(location, encoder="hash") as db:
        memory = db.memory("a")
        warm(memory)
        engine = connections(memory)

        def pid(connection):
            return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()

        with engine.writing(1) as connection:
            leave_mark(connection)
            own = pid(connection)
            with engine.reading() as other:  # which the pool keeps open
                idle = pid(other)

            def child():
                with engine.reading() as fresh:
                    backend = pid(fresh)
                gc.collect()
                db.close()
                return backend, db.memory("a").namespace

            backend, _ = fork(child)()
            assert backend not in (own, idle)
            assert pid(connection) == own
        assert is_marked(engine)
        assert add_and_find(memory, "parent") == ["parent"]


def test_many_threads_write_while_the_process_forks_again_and_again(tmp_path):
    location = str(tmp_path / "a.db")
    with evomem.open(location, encoder="hash") as db:
        memory = db.memory("a")
        warm(memory)
        stop = threading.Event()
        added: Counter[str] = Counter()

        def write(name):
            while not stop.is_set():
                memory.add(f"{name} says {added[name]}", id=f"{name}-{added[name]}")
                memory.search("says", k=2)
                added[name] += 1

        threads = [threading.Thread(target=write, args=(name,)) for name in ("left", "right")]
        for thread in threads:
            thread.start()
        try:
            for n in range(5):
                assert fork(partial(add_and_find, memory, f"child{n}"))() == [f"child{n}"]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    ids = Counter(id.partition("-")[0] for id in stored(location))
    assert ids == {**added, **{f"child{n}": 1 for n in range(5)}, "before": 1, "thread": 1}


# databases in memory, encoders, servers -------------------------------------------------------


def test_a_child_has_a_copy_of_a_database_in_memory_which_is_its_own():
    with evomem.open(":memory:", encoder="hash") as db:
        memory = db.memory("a")
        warm(memory)

        def child():
            result = add_and_find(memory, "child")
            ids = [record.id for record in memory.history()]
            db.close()
            return result, ids, evomem.open(":memory:", encoder="hash").memories()

        assert fork(child)() == [["child"], ["before", "thread", "child"], []]
        assert [record.id for record in memory.history()] == ["before", "thread"]


def test_the_small_encoder_reads_in_a_child_of_a_process_with_several_torch_threads(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with evomem.open(str(tmp_path / "a.db"), encoder="mini") as db:
            memory = db.memory("a")
            texts = [f"{n} I live in Bergen, and it rains all day long." for n in range(8)]
            memory.add_many([evomem.Turn(user=text) for text in texts])  # starts OpenMP's threads

            def child():
                memory.add_many([evomem.Turn(user=text) for text in texts])
                return [*add_and_find(memory, "child"), torch.get_num_threads()]

            assert fork(child)() == ["child", 1]
            assert torch.get_num_threads() == 2
            assert add_and_find(memory, "parent") == ["parent"]
    finally:
        torch.set_num_threads(before)


def test_a_milvus_connection_from_before_the_fork_is_refused_in_the_child(milvus, tmp_path):
    options = {"index": "milvus", "milvus_uri": milvus}
    with evomem.open(str(tmp_path / "a.db"), encoder="hash", **options) as db:
        memory = db.memory("a")
        warm(memory)

        def child():
            memory.add("by the child", id="child")
            with pytest.raises(StoreError, match="open the database after the fork"):
                memory.search("child", mode="evolvable")
            hits = [hit.record.id for hit in memory.search("child", mode="lexical")]
            db.close()
            return hits

        assert fork(child)() == ["child"]
        assert [hit.record.id for hit in memory.search("child", k=1)] == ["child"]


APP = """
import evomem
DB = evomem.open({location!r}, encoder="hash")
DB.memory("a").add("preloaded", id="preloaded")
DB.memory("a").search("preloaded")

def app(environ, start_response):
    name = environ["QUERY_STRING"]
    import asyncio
    asyncio.run(DB.memory("a").aadd(f"request {{name}}", id=name))
    hits = DB.memory("a").search(f"request {{name}}", k=1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [hits[0].record.id.encode()]
"""


def test_a_preloading_web_server_s_workers_share_the_database(tmp_path):
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    location, address = str(tmp_path / "a.db"), tmp_path / "socket"
    (tmp_path / "served.py").write_text(APP.format(location=location))
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--no-control-socket"]
        + ["--bind", f"unix:{address}", "--chdir", str(tmp_path), "served:app"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    try:
        for n in range(8):
            assert ask(address, f"r{n}") == f"r{n}"
    finally:
        server.send_signal(signal.SIGTERM)
        _, output = server.communicate(timeout=60)
    assert b"Traceback" not in output, output.decode()
    assert stored(location) == ["preloaded", *(f"r{n}" for n in range(8))]


def ask(address, name):
    end = time.monotonic() + 30
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(str(address))
                client.sendall(f"GET /?{name} HTTP/1.0\r\n\r\n".encode())
                return b"".join(iter(lambda: client.recv(4096), b"")).decode().rpartition("\n")[2]
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_sqlite_s_note_of_locks_outlives_a_fork_which_is_why_the_parent_closes(tmp_path):
    """If this fails, SQLite has changed, and `sqlite_forks` may be more than is needed."""
    path = tmp_path / "a.db"

    def connect():
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        return connection

    parent = connect()
    parent.execute("CREATE TABLE numbers (number)")
    reading, writing = os.pipe()

    def child():
        own = connect()
        own.execute("SELECT * FROM numbers").fetchall()
        os.write(writing, b"x")
        os.read(back, 1)
        own.execute("INSERT INTO numbers VALUES (1)")

    back, go = os.pipe()
    wait = fork(child)
    os.read(reading, 1)
    parent.close()
    os.write(go, b"x")
    wait()
    again = connect()
    assert again.execute("SELECT count(*) FROM numbers").fetchone() == (0,)
    again.close()
