"""Milvus gives the answers that exact search gives, and never any that the log does not have."""

from __future__ import annotations

import shutil
from functools import partial

import numpy as np
import pytest

import evomem
from evomem.encoder import HashEncoder
from evomem.errors import FingerprintMismatch, HeadMoved, StoreError
from evomem.plugins import store_opener
from evomem.reencode import reencode
from evomem_stores import open_sqlite
from evomem_stores.vectors import milvus_copy, milvus_index
from evomem_stores.vectors.faiss_index import FaissIndex
from tests.stores.helpers import ENCODER, exact, found, nearest, purge, query, stored, turn, write
from tests.stores.test_faiss_index import fill, random_rows


@pytest.fixture
def opened(location, milvus):
    """Opens the log and its index in Milvus, as often as it is called."""
    made = []

    def open_it(spec=ENCODER.spec, **options):
        options = {"index": "milvus", "milvus_uri": milvus, **options}
        made.append(store_opener(location)(location, spec, **options))
        return made[-1]

    yield open_it
    for store, index in made:
        index.close()
        store.close()


@pytest.fixture
def both(tmp_path, milvus):
    """A log in a file, and its index in Milvus."""
    store, index = open_sqlite(
        str(tmp_path / "a.db"), ENCODER.spec, index="milvus", milvus_uri=milvus
    )
    yield store, index
    index.close()
    store.close()


@pytest.fixture
def small(monkeypatch):
    """Milvus' limits, made small, so that a few rows exceed them."""
    for module in (milvus_copy, milvus_index):
        monkeypatch.setattr(module, "MAX_RESULTS", 64)
        monkeypatch.setattr(module, "MAX_LISTED_SEQS", 50)
    monkeypatch.setattr(milvus_copy, "BATCH", 30)


def test_a_quiet_connection_asks_no_more_often_than_any_server_allows(both):
    _, index = both
    assert index._collection.client._handler._grpc_options["grpc.keepalive_time_ms"] == 300_000


def test_results_equal_exact_search_for_any_k_point_and_filter(both, small):
    store, index = both
    memory = store.make_memory(("a",))
    fill(store, memory, random_rows(300, distinct=100))
    fork = store.fork(store.view(memory, seq=170), ("fork",))
    fill(store, fork, random_rows(90, seed=5, distinct=20), start=10_000)
    rng = np.random.default_rng(3)
    for view in (store.view(memory), store.view(fork), store.view(memory, seq=155)):
        rows = stored(store, view)
        for share in (None, 0.5, 0.01):
            allowed = None if share is None else np.flatnonzero(rng.random(view.seq) < share) + 1
            asked = random_rows(1, seed=int(rng.integers(1000)))[0]
            for k in (1, 10, 60, 2000):
                hits = index.search(view, asked, k, allowed=allowed)
                inside = None if allowed is None else set(allowed.tolist())
                assert found(hits) == nearest(rows, asked, k, inside)
    assert index.verify() == []


def test_the_newest_of_any_number_of_equal_rows_come_first(both, small):
    store, index = both
    rows = random_rows(1)
    view = fill(store, store.make_memory(("a",)), np.repeat(rows, 200, axis=0))
    assert found(index.search(view, rows[0], 5)) == [200, 199, 198, 197, 196]
    some = np.arange(3, 190, dtype=np.int64)
    assert found(index.search(view, rows[0], 3, allowed=some)) == [189, 188, 187]
    assert index.score(view, rows[0], [3, 999]) == pytest.approx({3: 1.0}, abs=1e-6)
    assert index.score(view, rows[0], []) == {}


def test_the_index_follows_the_log_through_everything_that_any_process_does(opened):
    (store, index), (other, other_index) = opened(), opened()
    memory = store.make_memory(("a",))
    for n in range(1, 20):
        write(store if n % 2 else other, memory, [turn(f"note {n % 5} cat", n)])
        if n % 6 == 0:
            purge(other, memory, n - 3)
        view = store.view(memory)
        for item in (index, other_index):
            hits = item.search(view, query("cat"), 50)
            assert sorted(found(hits)) == sorted(exact(store, view, query("cat"), 50))
    assert index.verify() == []


def rows_of(index, memory):
    """What Milvus has of a memory, of whichever revision."""
    wanted = {"filter": f"memory == {memory}", "output_fields": ["revision", "seq"], "limit": 1000}
    rows = index._collection.client.query(
        index._collection.name, consistency_level="Strong", **wanted
    )
    return sorted((row["revision"], row["seq"]) for row in rows)


def test_a_purge_or_a_drop_takes_the_vectors_with_it(both):
    store, index = both
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn(f"note {n}", n) for n in range(1, 9)])
    index.search(view, query("note"), 1)
    assert rows_of(index, memory) == [(0, seq) for seq in range(1, 9)]
    purge(store, memory, 3)
    assert rows_of(index, memory) == []
    index.search(store.view(memory), query("note"), 1)
    fork = store.fork(store.view(memory, seq=5), ("fork",))
    store.drop(("a",), below=False)
    assert rows_of(index, memory) == []
    assert sorted(found(index.search(store.view(fork), query("note"), 9))) == [1, 2, 4, 5]
    store.drop(("fork",))
    assert rows_of(index, memory) == []
    assert index.verify() == []


# The search that is overtaken keeps the purge from emptying SQLite's write-ahead log.
@pytest.mark.filterwarnings("ignore:.*the write-ahead log still holds their text:UserWarning")
def test_a_search_that_a_purge_overtakes_is_asked_again(opened, monkeypatch):
    (store, index), (other, other_index) = opened(), opened(busy_timeout=0.05)
    memory = store.make_memory(("a",))
    write(store, memory, [turn(f"note {n}", n) for n in range(1, 9)])
    plain = index._nearest

    def overtaken(*given, **named):
        monkeypatch.setattr(index, "_nearest", plain)
        purge(other, memory, 3)  # which deletes the rows that are being asked for
        return plain(*given, **named)

    view = store.view(memory)
    other_index.search(view, query("note"), 1)
    monkeypatch.setattr(index, "_nearest", overtaken)
    with pytest.raises(HeadMoved):
        index.search(view, query("note"), 9)
    view = store.view(memory)
    assert sorted(found(index.search(view, query("note"), 9))) == [1, 2, 4, 5, 6, 7, 8]


def test_vectors_that_a_killed_purge_left_are_never_returned_and_go_with_the_next_search(opened):
    (store, index), (other, other_index) = opened(), opened()
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn(f"note {n}", n) for n in range(1, 6)])
    index.search(view, query("note"), 1)
    other.rewritten.clear()  # it is killed before it deletes anything in Milvus
    purge(other, memory, 2)
    assert "5 vectors of forgotten turns of memory 1" in index.verify()[0]
    assert sorted(found(other_index.search(store.view(memory), query("note"), 9))) == [1, 3, 4, 5]
    assert rows_of(index, memory) == [(1, 1), (1, 3), (1, 4), (1, 5)]
    other.make_memory(("b",))
    other.drop(("a",))
    assert "dropped memories" in index.verify()[0]
    assert len(index.repair()) == 1
    assert rows_of(index, memory) == []
    assert index.verify() == []


def test_a_milvus_that_is_away_stops_searches_and_purges_go_through_with_a_warning(both):
    store, index = both
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn(f"note {n}", n) for n in range(1, 6)])
    index.search(view, query("note"), 1)
    index._collection.client.drop_collection(index._collection.name)
    with pytest.raises(StoreError, match=r"Milvus at .*the log is not affected"):
        index.search(write(store, memory, [turn("one more", 6)]), query("note"), 1)
    with pytest.warns(UserWarning, match="stay in Milvus"):
        purge(store, memory, 2)
    assert [row.seq for row in store.rows(store.view(memory), after=0)] == [1, 3, 4, 5, 6]


def test_a_deleted_collection_is_recreated(opened):
    store, index = opened()
    view = write(store, store.make_memory(("a",)), [turn(f"note {n}", n) for n in range(1, 6)])
    index.search(view, query("note"), 1)
    index._collection.client.drop_collection(index._collection.name)
    _, again = opened()
    assert sorted(found(again.search(view, query("note"), 9))) == [1, 2, 3, 4, 5]


def test_rows_of_another_history_are_not_believed(tmp_path, milvus):
    """A backup is put in the place of a database that has gone on, and goes on differently."""
    spec = ENCODER.spec
    connect = partial(open_sqlite, index="milvus", milvus_uri=milvus)

    def searched(path, text):
        store, index = connect(str(path), spec)
        view = write(store, store.make_memory(("a",)), [turn(f"{text} {n}", n, id=f"{text}{n}") for n in range(4)])  # fmt: skip
        hits = found(index.search(view, query(text), 9))
        assert hits == exact(store, view, query(text), 9)
        assert index.verify() == []
        store.close()

    searched(tmp_path / "a.db", "first")
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    searched(tmp_path / "a.db", "cat")
    searched(tmp_path / "b.db", "dog")


def test_vectors_that_differ_from_the_log_are_reported_and_repaired(both):
    store, index = both
    memory = store.make_memory(("a",))
    write(store, memory, [turn(f"note {n}", n) for n in range(1, 9)])
    purge(store, memory, 7)
    view = store.view(memory)
    index.search(view, query("note"), 1)
    [row] = index._collection.client.get(index._collection.name, ids=["1.1.4"])
    index._collection.client.upsert(
        index._collection.name, [{**row, "vector": random_rows(1)[0].tolist()}]
    )
    index._collection.client.upsert(index._collection.name, [{**row, "id": "1.1.7", "seq": 7}])
    assert "2 vectors of memory 1 in Milvus do not agree" in index.verify()[0]
    assert len(index.repair()) == 1
    assert index.verify() == []
    hits = index.search(view, query("note"), 9)
    assert hits == FaissIndex(store, None).search(view, query("note"), 9)


@pytest.mark.parametrize("new", [HashEncoder(24), HashEncoder(16)])
def test_after_another_encoder_none_of_the_old_vectors_is_left(location, milvus, new):
    options = {"index": "milvus", "milvus_uri": milvus}
    with evomem.open(location, ENCODER, **options) as db:
        db.memory("m").add_many([turn(f"note {n}", n) for n in range(1, 9)])
        db.memory("m").search("note")
        reencode(location, new, **options)
        with pytest.raises(FingerprintMismatch, match="open it again"):
            db.memory("m").search("note")
    with evomem.open(location, new, **options) as db:
        memory = db.memory("m")
        hits = db._engine.index.search(memory._view(), db.encoder.embed_queries(db._engine.state(memory._view()), ["note"])[0], 9)  # fmt: skip
        assert {revision for revision, _ in rows_of(db._engine.index, 1)} == {1}
        assert len(hits) == 8
        assert db.verify() == []


def test_invalid_index_options_raise_an_error_that_names_them(tmp_path, milvus):
    place = str(tmp_path / "a.db")
    with pytest.raises(StoreError, match="needs milvus_uri="):
        open_sqlite(place, ENCODER.spec, index="milvus")
    with pytest.raises(StoreError, match="'annoy'"):
        store_opener(place)(place, ENCODER.spec, index="annoy")
    with pytest.raises(StoreError, match="Milvus at"):
        open_sqlite(place, ENCODER.spec, index="milvus", milvus_uri=str(tmp_path / "no" / "x.db"))
