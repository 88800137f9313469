"""How many statements and transactions the calls of a memory take."""

from __future__ import annotations

import pytest

import evomem
from evomem import HashEncoder, Turn
from tests.stores.counting import counted


@pytest.fixture
def memory(tmp_path):
    with evomem.open(tmp_path / "a.db", encoder=HashEncoder()) as db:
        memory = db.memory("acme", "alice")
        memory.add_many([Turn(user=f"coffee in Paris, number {n}", id=f"t{n}") for n in range(40)])
        memory.delete("t3")
        memory.search("coffee")  # fills the caches
        yield memory


def count(memory, call):
    """Return how many statements and transactions a call takes."""
    with counted(memory) as work:
        call()
    return len(work.statements), work.transactions


CALLS = {
    "add": (lambda memory: memory.add("tea in London"), 6, 2),
    "add with an id": (lambda memory: memory.add("tea in London", id="x"), 7, 2),
    "add_many": (lambda memory: memory.add_many([Turn(user=f"tea {n}") for n in range(8)]), 6, 2),
    "search evolvable": (lambda memory: memory.search("coffee", mode="evolvable"), 5, 2),
    "search lexical": (lambda memory: memory.search("coffee", mode="lexical"), 5, 2),
    "search hybrid": (lambda memory: memory.search("coffee"), 6, 2),
    "search with a filter": (lambda memory: memory.search("coffee", role="user"), 7, 2),
    "context": (lambda memory: memory.context("coffee"), 6, 2),
    "history": (lambda memory: memory.history(), 4, 1),
    "get": (lambda memory: memory.get("t5"), 3, 1),
    "delete": (lambda memory: memory.delete("t5"), 8, 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_takes_few_statements_and_transactions(memory, name):
    call, statements, transactions = CALLS[name]
    taken = count(memory, lambda: call(memory))
    assert taken[0] <= statements, taken
    assert taken[1] <= transactions, taken


def test_a_search_by_vectors_reads_tombstones_only_where_there_are_some(memory):
    bare = evomem.Memory(memory._engine, ("acme", "bob"))
    bare.add_many([Turn(user=f"coffee in Paris, number {n}") for n in range(40)])
    bare.search("coffee")
    assert count(bare, lambda: bare.search("coffee", mode="evolvable")) == (3, 2)


def test_a_deletion_reads_no_other_tombstones(memory):
    with counted(memory) as work:
        memory.delete("t5")
    assert not [one for one in work.statements if "group_concat" in one.lower()]
    assert [hit for hit in memory.search("coffee", k=40) if hit.record.id in ("t3", "t5")] == []


def test_a_session_that_was_replaced_often_is_read_without_a_list_of_all_tombstones(memory):
    store = memory._engine.store
    with counted(memory) as work:
        store.of_sessions(store.view(memory.namespace), ["s"])
    [(statement, given)] = [item for item in work.given if "turns.session IN" in item[0]]
    with store._connections.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all()
    looked_up = "SEARCH hidden USING PRIMARY KEY (memory=? AND seq=?)"
    assert any(looked_up in step.detail for step in plan), plan


@pytest.mark.parametrize("name", ["add", "add with an id", "add_many", "delete"])
def test_a_lease_that_is_held_takes_no_statement_more(memory, tmp_path, name):
    with evomem.open(tmp_path / "b.db", encoder=HashEncoder(), lease=600) as db:
        leased = db.memory("acme", "alice")
        leased.add_many([Turn(user=f"coffee in Paris, number {n}", id=f"t{n}") for n in range(40)])
        leased.delete("t3")
        leased.search("coffee")
        call = CALLS[name][0]
        assert count(leased, lambda: call(leased)) == count(memory, lambda: call(memory))


def test_when_a_memory_began_is_looked_up_and_no_row_is_sorted(memory):
    store = memory._engine.store
    view = store.view(memory.namespace)
    with counted(memory) as work:
        assert store.period(view)
    queries = [item for item in work.given if "ORDER BY turns.time" in item[0]]
    assert len(queries) == 2
    with store._connections.reading() as connection:
        for statement, given in queries:
            explained = f"EXPLAIN QUERY PLAN {statement}"
            plan = connection.exec_driver_sql(explained, tuple(given)).all()
            assert any("turns_time" in step.detail for step in plan)
            assert not any("TEMP B-TREE" in step.detail for step in plan)
