"""Items that expire: the clock is set by how long an item may live, nothing waits for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from evomem_integrations.langgraph import EvoMemStore

NS = ("users", "alice")
PAST = -1.0  # minutes: expired since
LONG = 60.0


@pytest.fixture
def make(db):
    made = []

    def build(**ttl):
        config: Any = ttl
        made.append(EvoMemStore(db, ttl=config))
        return made[-1]

    yield build
    for store in made:
        store.close()


def expiry(store, key):
    (record,) = store.database.memory("langgraph", *NS).history(session=key)
    return record.turn.metadata.get("expires")


def test_a_sweep_deletes_what_has_expired_and_nothing_else(make):
    store = make()
    store.put(NS, "old", {"x": 1}, ttl=PAST)
    store.put(NS, "new", {"x": 1}, ttl=LONG)
    store.put(NS, "ever", {"x": 1})
    store.put(("other",), "old", {"a": "x", "b": "y"}, index=["a", "b"], ttl=PAST)
    assert store.get(NS, "old", refresh_ttl=False) is not None
    assert store.sweep_ttl() == 2
    assert store.sweep_ttl() == 0
    assert [item.key for item in store.search(())] == ["ever", "new"]
    assert store.list_namespaces() == [NS]


def test_reading_an_item_lets_it_live_its_whole_time_again(make):
    store = make()
    for key in ("got", "found", "looked at"):
        store.put(NS, key, {"x": 1}, ttl=LONG)
    before = {key: expiry(store, key) for key in ("got", "found", "looked at")}
    item = store.get(NS, "got")
    store.search(NS, query="x", limit=9, filter={"x": 1}, refresh_ttl=False)
    assert expiry(store, "found") == before["found"]
    store.search(NS)
    assert expiry(store, "found") > before["found"]
    assert expiry(store, "got") > before["got"]
    assert store.get(NS, "got").updated_at == item.updated_at
    now = expiry(store, "looked at")
    store.get(NS, "looked at", refresh_ttl=False)
    assert expiry(store, "looked at") == now


def test_only_what_is_returned_is_kept_alive(make):
    store = make()
    for key in ("b", "a"):
        store.put(NS, key, {"x": key}, ttl=LONG)
    before = expiry(store, "b")
    store.search(NS, limit=1)
    store.search(NS, filter={"x": "a"})
    assert expiry(store, "b") == before


def test_a_refresh_reads_no_turn_again(make, db):
    store = make()
    store.put(NS, "a", {"x": 1}, ttl=LONG)
    before = db.memory("langgraph", *NS)._view()
    store.get(NS, "a")
    assert db.memory("langgraph", *NS)._view() == before
    assert db.verify() == []


def test_defaults_are_those_of_the_store(make):
    store = make(default_ttl=LONG, refresh_on_read=False)
    store.put(NS, "a", {"x": 1})
    store.put(NS, "ever", {"x": 1}, ttl=None)
    before = expiry(store, "a")
    store.get(NS, "a")
    assert expiry(store, "a") == before
    store.get(NS, "a", refresh_ttl=True)
    assert expiry(store, "a") > before
    assert expiry(store, "ever") is None


def test_expired_items_can_be_left_out_before_they_are_deleted(make):
    store = make(omit_expired=True)
    store.put(NS, "old", {"text": "a cat"}, ttl=PAST)
    store.put(("b",), "new", {"text": "a dog"})
    assert store.get(NS, "old") is None
    assert [item.key for item in store.search((), query="a cat")] == ["new"]
    assert [item.key for item in store.search(())] == ["new"]
    assert store.list_namespaces() == [("b",)]
    store.put(NS, "old", {"text": "a cat"})
    assert store.list_namespaces() == [("b",), NS]
    assert store.sweep_ttl() == 0


def test_the_sweeper_sweeps_until_it_is_stopped(make):
    store = make(sweep_interval_minutes=1e-4)
    swept = threading.Event()
    sweep = store.sweep_ttl

    def told():
        done = sweep()
        swept.set()
        return done

    store.sweep_ttl = told
    store.put(NS, "old", {"x": 1}, ttl=PAST)
    store.start_ttl_sweeper()
    store.start_ttl_sweeper()
    assert swept.wait(60)
    assert sum(thread.name == "evomem-sweeper" for thread in threading.enumerate()) == 1
    assert store.stop_ttl_sweeper(60)
    assert store.stop_ttl_sweeper()
    assert store.get(NS, "old") is None
