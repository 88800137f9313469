"""A call reads one moment of the log, whatever is purged, deleted, dropped or added meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import Any

import pytest

import evomem
from evomem import Turn
from evomem.encoder import HashEncoder
from evomem.errors import (
    DatabaseDamaged,
    FingerprintMismatch,
    HeadMoved,
    NotFound,
    SharedTurns,
    StoreError,
)
from evomem.memory_view import Mode
from evomem.records import Hit
from evomem.reencode import reencode
from tests.interrupted import Interrupted

MODES: list[Mode] = ["hybrid", "evolvable", "lexical"]


@pytest.fixture
def encoder() -> Interrupted:
    return Interrupted()


@pytest.fixture
def db(location: str, encoder: Interrupted) -> Iterator[evomem.Database]:
    with evomem.open(location, encoder) as opened:
        opened.memory("a").add_many(_turns(8))
        yield opened


@pytest.fixture
def other(location: str, db: evomem.Database) -> Iterator[evomem.Database]:
    """The same database as another process has it."""
    with evomem.open(location, "hash") as opened:
        yield opened


def _turns(count: int, first: int = 0) -> list[Turn]:
    return [
        Turn(user=f"we talked about tea {n}", id=f"t{n}", metadata={"n": n})
        for n in range(first, first + count)
    ]


def _answer(hits: list[Hit]) -> list[tuple[str, float]]:
    return [(hit.record.id, hit.score) for hit in hits]


# between the two transactions of a search -----------------------------------------------------


@pytest.mark.parametrize("mode", ["hybrid", "evolvable"])
@pytest.mark.parametrize("id", ["t0", "t3", "t7"])
def test_a_turn_purged_while_the_query_is_embedded_was_never_there(db, other, encoder, mode, id):
    memory = db.memory("a")
    encoder.meanwhile = lambda: other.memory("a").purge(id)
    hits = memory.search("tea 3", 20, mode=mode)
    assert id not in [hit.record.id for hit in hits]
    assert _answer(hits) == _answer(memory.search("tea 3", 20, mode=mode))


@pytest.mark.parametrize("mode", ["hybrid", "evolvable"])
def test_turns_added_while_the_query_is_embedded_are_not_seen_and_cost_nothing(
    db, other, encoder, mode
):
    memory = db.memory("a")
    before = _answer(memory.search("tea 3", 20, mode=mode))
    asked = encoder.queries
    encoder.meanwhile = lambda: other.memory("a").add_many(_turns(3, first=8))
    assert _answer(memory.search("tea 3", 20, mode=mode)) == before
    assert encoder.queries == asked + 1
    assert len(memory.search("tea 3", 20, mode=mode)) == 11


@pytest.mark.parametrize("mode", ["hybrid", "evolvable"])
def test_a_turn_replaced_while_the_query_is_embedded_is_found_in_one_form(db, other, encoder, mode):
    memory = db.memory("a")

    def replace() -> None:
        other.memory("a").add("we talked about tea 3, and coffee", id="new")
        other.memory("a").delete("t3")

    encoder.meanwhile = replace
    hits = {hit.record.id for hit in memory.search("tea 3", 20, mode=mode)}
    assert len(hits & {"t3", "new"}) == 1


def test_a_search_ends_though_turns_are_deleted_all_the_time(db, other, encoder):
    ids = itertools.count()

    def delete() -> None:
        other.memory("a").delete(f"t{next(ids)}")
        encoder.meanwhile = delete

    encoder.meanwhile = delete
    hits = db.memory("a").search("tea", 20)
    encoder.meanwhile = None
    assert {hit.record.id for hit in hits} == {f"t{n}" for n in range(next(ids), 8)}


@pytest.mark.parametrize("mode", ["hybrid", "evolvable"])
@pytest.mark.parametrize("again", [False, True])
def test_a_memory_dropped_while_the_query_is_embedded_is_empty_or_the_new_one(
    db, other, encoder, mode, again
):
    def drop() -> None:
        other.memory("a").drop()
        if again:
            other.memory("a").add("only this", id="new")

    encoder.meanwhile = drop
    hits = db.memory("a").search("tea", 20, mode=mode)
    assert [hit.record.id for hit in hits] == (["new"] if again else [])


def test_a_fork_is_searched_while_the_parent_purges_what_it_does_not_share(db, other, encoder):
    memory = db.memory("a")
    fork = memory.fork("fork")
    memory.add("we talked about tea later", id="later")
    before = _answer(fork.search("tea 3", 20))
    encoder.meanwhile = lambda: other.memory("a").purge("later")
    assert _answer(fork.search("tea 3", 20)) == before


def test_a_past_view_is_searched_while_a_turn_of_it_is_purged(db, other, encoder):
    past = db.memory("a").at(seq=5)
    encoder.meanwhile = lambda: other.memory("a").purge("t2")
    ids = [hit.record.id for hit in past.search("tea", 20)]
    assert sorted(ids) == ["t0", "t1", "t3", "t4"]


def test_a_database_reencoded_while_the_query_is_embedded_is_to_be_opened_again(
    db, location, encoder
):
    encoder.meanwhile = lambda: reencode(location, HashEncoder(48))
    with pytest.raises(FingerprintMismatch, match="open it again"):
        db.memory("a").search("tea")


# inside of a transaction -----------------------------------------------------------------------


@pytest.mark.parametrize("step", ["select", "lexical", "around", "records"])
@pytest.mark.parametrize("change", ["purge", "delete", "drop", "add"])
def test_a_search_does_not_see_changes_between_its_steps(db, other, monkeypatch, step, change):
    memory, theirs = db.memory("a"), other.memory("a")
    mode = {"lexical": "lexical", "records": "evolvable"}.get(step, "hybrid")
    before = _answer(memory.search("tea 3", 20, mode=mode))
    store: Any = db._engine.store
    plain = getattr(store, step)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(store, step, plain)
        {
            "purge": lambda: theirs._engine.store.rewrite(theirs._view(), 1, []),
            "delete": lambda: theirs.delete("t3"),
            "drop": lambda: theirs._engine.store.drop(("a",)),
            "add": lambda: theirs.add("we talked about tea 3 again"),
        }[change]()
        return plain(*args, **kwargs)

    monkeypatch.setattr(store, step, interrupted)
    monkeypatch.setattr(
        other._engine.store._connections, "scrub", lambda: True
    )  # it waits for readers
    assert _answer(memory.search("tea 3", 20, mode=mode)) == before


@pytest.mark.parametrize("step", ["find", "records", "history", "select", "count"])
def test_every_other_call_reads_one_moment_too(db, other, monkeypatch, step):
    memory, theirs = db.memory("a"), other.memory("a")
    calls: list[Callable[[], Any]] = [
        lambda: memory.get("t3"),
        memory.history,
        lambda: memory.history(where={"n": {"$gte": 0}}),
        lambda: len(memory),
        lambda: memory.context("tea"),
    ]
    store: Any = db._engine.store
    plain = getattr(store, step)
    monkeypatch.setattr(other._engine.store._connections, "scrub", lambda: True)
    for call in calls:
        right = call()

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(store, step, plain)
            theirs._engine.store.drop(("a",))
            return plain(*args, **kwargs)

        monkeypatch.setattr(store, step, interrupted)
        assert call() == right
        monkeypatch.setattr(store, step, plain)
        if not other.memories():
            theirs.add_many(_turns(8))


def test_a_memory_dropped_while_it_is_forked_does_not_exist(db, other, monkeypatch):
    store: Any = db._engine.store
    plain = store.fork

    def interrupted(*args: Any) -> Any:
        other.memory("a").drop()
        return plain(*args)

    monkeypatch.setattr(store, "fork", interrupted)
    with pytest.raises(NotFound, match="does not exist"):
        db.memory("a").fork("fork")


@pytest.mark.parametrize("index", ["pgvector", "milvus"])
@pytest.mark.parametrize("mode", ["hybrid", "evolvable"])
def test_other_indexes_answer_for_the_same_moment(request, new_schema, encoder, index, mode):
    options: dict[str, Any] = {"index": index}
    if index == "milvus":
        options["milvus_uri"] = request.getfixturevalue("milvus")
    location = new_schema()
    with (
        evomem.open(location, encoder, **options) as db,
        evomem.open(location, "hash", **options) as other,
    ):
        memory, theirs = db.memory("a"), other.memory("a")
        memory.add_many(_turns(8))
        encoder.meanwhile = lambda: theirs.purge("t3")
        hits = memory.search("tea 3", 20, mode=mode)
        assert sorted(hit.record.id for hit in hits) == [f"t{n}" for n in range(8) if n != 3]
        assert _answer(hits) == _answer(memory.search("tea 3", 20, mode=mode))
        before = _answer(memory.search("tea 4", 20, mode=mode))
        encoder.meanwhile = lambda: theirs.add_many(_turns(2, first=8))
        assert _answer(memory.search("tea 4", 20, mode=mode)) == before
        index_object: Any = db._engine.index
        plain = index_object.search

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            index_object.search = plain
            theirs.purge("t5")
            return plain(*args, **kwargs)

        index_object.search = interrupted
        result = {hit.record.id for hit in memory.search("tea 4", 20, mode=mode)}
        assert result - {"t5"} == {f"t{n}" for n in range(10) if n not in (3, 5)}


# many at once, and damage -----------------------------------------------------------------------


# Readers may keep a purge from emptying SQLite's write-ahead log at once: its receipt says so.
@pytest.mark.filterwarnings("ignore:.*the write-ahead log still holds their text:UserWarning")
def test_readers_get_no_error_during_purges_drops_and_forks(location):
    """Whatever a reader gets is of one moment: all turns that were there at the time."""
    with evomem.open(location, "hash") as db, evomem.open(location, "hash") as other:
        db.memory("a").add_many(_turns(20))
        calls = [partial(_purge, other), partial(_drop, other), partial(_browse, db)]
        with ThreadPoolExecutor() as pool:
            end = time.monotonic() + 1.5
            work = [
                pool.submit(_repeat, call, end) for call in (*calls, *2 * [partial(_search, db)])
            ]
        for future in work:
            future.result()
        assert db.verify() == []


def _repeat(call: Callable[[int], None], end: float) -> None:
    for n in itertools.count():
        if time.monotonic() > end:
            return
        call(n)


def _purge(db: evomem.Database, n: int) -> None:
    memory = db.memory("a")
    memory.add("we talked about coffee", id="x")
    memory.purge("x", forks=True)
    if n % 5 == 4:
        memory.fork(f"w{n}").drop()


def _drop(db: evomem.Database, _: int) -> None:
    db.memory("b").add_many(_turns(3))
    db.memory("b").drop()


def _search(db: evomem.Database, n: int) -> None:
    for name, counts in (("a", {20}), ("b", {0, 3})):
        hits = db.memory(name).search("tea", 30, mode=MODES[n % 3])
        assert len([hit for hit in hits if hit.record.id != "x"]) in counts


def _browse(db: evomem.Database, n: int) -> None:
    memory = db.memory("a")
    assert len(memory.history()) in (20, 21)
    assert len(memory.context("tea").splitlines()) in (20, 21)
    assert len(db.memory("b")) in (0, 3)
    memory.fork(f"r{n}").drop()


DAMAGE = [
    "DELETE FROM turns WHERE seq = 4",
    "DELETE FROM turns WHERE seq = 8",
    "UPDATE turns SET embedding = x'00' WHERE seq = 4",
    "UPDATE turns SET key = x'00' WHERE seq = 4",
    "UPDATE turns SET key = x'00' WHERE seq = 8",
    "UPDATE turns SET latents = x'00' WHERE seq = 8",
    "UPDATE turns SET chunk = 99 WHERE seq = 8",
    "UPDATE turns SET seq = 44 WHERE seq = 4",
    "UPDATE turns SET words = -5 WHERE seq = 4",
    "UPDATE turns SET time = 'noon' WHERE seq = 4",
    "UPDATE turns SET metadata = '{' WHERE seq = 4",
    "UPDATE turns SET user = x'ff' WHERE seq = 4",
    "UPDATE memories SET head = 3",
    "UPDATE memories SET head = 99",
    "UPDATE memories SET parent = 7, parent_seq = 4",
    "DELETE FROM postings",
    "DELETE FROM runs",
    "UPDATE postings SET seqs = x'0000'",
    "UPDATE postings SET seqs = x'63000000'",
    "UPDATE runs SET first = 5",
]


@pytest.mark.parametrize("statement", DAMAGE)
def test_a_reader_of_damaged_rows_gets_an_error_of_ours_or_an_answer(tmp_path, statement):
    path = tmp_path / "a.db"
    with evomem.open(str(path), "hash") as db:
        db.memory("a").add_many(_turns(8))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
    with evomem.open(str(path), "hash", create=False) as db:
        memory = db.memory("a")
        calls: list[Callable[..., Any]] = [
            partial(memory.search, "tea 3", 20, mode=mode) for mode in MODES
        ]
        calls += [
            partial(memory.search, "tea 3", where={"n": {"$gte": 2}}, mode=mode) for mode in MODES
        ]
        calls += [memory.history, partial(len, memory), partial(memory.get, "t3")]
        for call in calls:
            with suppress(DatabaseDamaged, NotFound):
                call()
        with suppress(DatabaseDamaged):
            memory.add("more")


# forgetting beside forks, and closing ------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_a_purge_reaches_a_fork_that_is_made_meanwhile(db, other, encoder, deep):
    memory = db.memory("a")
    if deep:
        memory.fork("one")
    parent = other.memory("a", "one") if deep else other.memory("a")
    encoder.meanwhile = lambda: parent.fork("two")
    receipt = memory.purge("t3", forks=True)
    assert receipt.turns == (3 if deep else 2)
    for name in db.memories():
        assert "t3" not in [record.id for record in db.memory(*name).history()]
    assert db.verify() == []


def test_a_purge_without_forks_still_refuses_a_fork_that_is_made_meanwhile(db, other, encoder):
    encoder.meanwhile = lambda: other.memory("a").fork("two")
    with pytest.raises(SharedTurns, match="a/two"):
        db.memory("a").purge("t3")


@pytest.mark.parametrize("used_before", [False, True])
def test_after_close_every_async_call_raises_a_store_error(location, used_before):
    async def run() -> None:
        db = evomem.open(location, "hash")
        memory = db.memory("a")
        if used_before:
            await memory.aadd("tea", id="t")
        db.close()
        for call in (
            memory.aadd("tea"),
            memory.aadd_many(_turns(1)),
            memory.asearch("tea"),
            memory.acontext("tea"),
            memory.aget("t"),
            memory.ahistory(),
            memory.afork("b"),
            memory.aannotate("t", {}),
            memory.adelete("t"),
            memory.apurge("t"),
            memory.aexpire(session="s"),
            memory.adrop(),
        ):
            with pytest.raises(StoreError, match="closed"):
                await call
        for plain in (lambda: memory.add("tea"), lambda: memory.search("tea"), memory.history):
            with pytest.raises(StoreError, match="closed"):
                plain()

    asyncio.run(run())


def test_a_cancelled_add_that_has_started_completes(location, encoder):
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait()

    async def run(memory: Any) -> None:
        encoder.meanwhile = wait
        first = asyncio.create_task(memory.aadd_many(_turns(100)))
        await asyncio.to_thread(begun.wait)
        second = asyncio.create_task(memory.aadd("never", id="never"))
        await asyncio.sleep(0)
        for task in (first, second):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        go_on.set()
        await memory.aadd("last", id="last")
        assert [record.id for record in memory.history()] == [
            *(f"t{n}" for n in range(100)),
            "last",
        ]

    with evomem.open(location, encoder) as db:
        asyncio.run(run(db.memory("a")))


def test_a_view_stays_as_it_is_when_a_later_turn_takes_the_place_of_one_in_it():
    with evomem.open(":memory:", encoder="hash") as db:
        memory, store = db.memory("a"), db._engine.store
        for n in range(4):
            memory.add(f"tea {n}", id=f"t{n}")
        number = store.find_memory(("a",))
        assert number is not None
        views = [store.view(number), store.view(number, seq=2)]
        memory.add("more tea", id="more", supersedes="t0")
        views.append(store.view(number, seq=3))
        for view, count in zip(views, (4, 2, 3), strict=True):
            with store.snapshot(view):
                assert store.count(view) == len(store.history(view)) == count
        assert store.count(store.view(number)) == 4
        memory.delete("t1")
        for view in views:
            with pytest.raises(HeadMoved), store.snapshot(view):
                pass
