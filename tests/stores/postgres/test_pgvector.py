"""pgvector gives the answers that exact search gives, and never any that the log does not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psycopg
import pytest

from evomem.encoder import HashEncoder
from evomem.errors import StoreError
from evomem.state import State
from evomem_stores.database.connections import driver
from evomem_stores.postgresql import open_postgresql
from evomem_stores.vectors.pgvector_index import BATCH
from tests.stores.helpers import (
    ENCODER,
    exact,
    found,
    nearest,
    open_at,
    purge,
    query,
    stored,
    turn,
    write,
)
from tests.stores.test_faiss_index import fill, random_rows


@pytest.fixture(scope="module")
def location(new_schema):
    """One schema for all tests here: each has a memory of its own."""
    return new_schema()


@pytest.fixture
def both(location):
    """A log and its index by pgvector."""
    store, index = open_postgresql(location, ENCODER.spec, index="pgvector")
    yield store, index
    index.close()
    store.close()


def memory_of(store):
    return store.make_memory((f"m{len(store.memories())}",))


def test_results_equal_exact_search_for_any_k_point_and_filter(both):
    store, index = both
    memory = memory_of(store)
    fill(store, memory, random_rows(BATCH + 100, distinct=300))
    fork = store.fork(store.view(memory, seq=700), ("fork", str(memory)))
    fill(store, fork, random_rows(300, seed=5, distinct=50), start=10_000)
    rng = np.random.default_rng(3)
    for view in (store.view(memory), store.view(fork), store.view(memory, seq=550)):
        rows = stored(store, view)
        vectors = {seq: embeddings[0] for seq, embeddings in rows}
        for share in (None, 0.3, 0.01):
            allowed = None if share is None else np.flatnonzero(rng.random(view.seq) < share) + 1
            asked = random_rows(1, seed=int(rng.integers(1000)))[0]
            for k in (1, 10, 2000):
                hits = index.search(view, asked, k, allowed=allowed)
                inside = None if allowed is None else set(allowed.tolist())
                right = nearest(rows, asked, k, inside)
                scores = [float(vectors[seq] @ asked) for seq in right]
                assert len(hits) == len(right)
                np.testing.assert_allclose([score for _, score in hits], scores, atol=1e-6)
                apart = [s for s, (one, _) in zip(right, hits, strict=True) if s != one]
                assert all(abs(float(vectors[s] @ asked) - float(vectors[h] @ asked)) < 1e-6 for s, (h, _) in zip(right, hits, strict=True)), apart  # fmt: skip
    assert index.verify() == []


def test_the_newest_of_equal_rows_come_first(both):
    store, index = both
    rows = random_rows(1)
    view = fill(store, memory_of(store), np.repeat(rows, 60, axis=0))
    assert found(index.search(view, rows[0], 5)) == [60, 59, 58, 57, 56]
    assert index.score(view, rows[0], [3, 99]) == pytest.approx({3: 1.0}, abs=1e-6)
    assert index.score(view, rows[0], []) == {}


def test_the_index_follows_the_log_through_everything(both, location):
    (store, index) = both
    other, other_index = open_postgresql(location, None, index="pgvector")
    memory = memory_of(store)
    for n in range(1, 20):
        write(store if n % 2 else other, memory, [turn(f"note {n % 5} cat", n)])
        if n % 6 == 0:
            purge(other, memory, n - 3)
        view = store.view(memory)
        for item in (index, other_index):
            hits = item.search(view, query("cat"), 50)
            assert sorted(found(hits)) == sorted(exact(store, view, query("cat"), 50))
        assert index.verify() == []
    other.close()


@pytest.mark.parametrize("other", ["pgvector", "faiss"])
def test_a_purge_takes_the_copied_vectors_with_it_whichever_index_the_process_uses(
    both, location, postgres, other
):
    store, index = both
    purging, _ = open_postgresql(location, None, index=other)
    memory = memory_of(store)
    view = write(store, memory, [turn(f"note {n}", n) for n in range(1, 9)])
    index.search(view, query("note"), 1)
    count = f"SELECT count(*) FROM {location.rpartition('schema=')[2]}.vectors WHERE memory = %s"
    with psycopg.connect(postgres, autocommit=True) as admin:
        assert admin.execute(count, [memory]).fetchone() == (8,)
        purge(purging, memory, 3)
        assert admin.execute(count, [memory]).fetchone() == (0,)
    purging.close()


def test_vectors_that_differ_from_the_log_are_reported(both, location, postgres):
    store, index = both
    memory = memory_of(store)
    view = write(store, memory, [turn(f"note {n}", n) for n in range(1, 9)])
    index.search(view, query("note"), 1)
    with psycopg.connect(postgres, autocommit=True) as admin:
        table = f"{location.rpartition('schema=')[2]}.vectors"
        admin.execute(f"UPDATE {table} SET embedding = embedding + embedding WHERE memory = %s AND seq = 4", [memory])  # fmt: skip
    assert index.verify() == [f"the vectors of memory {memory} differ from the log"]
    assert index.repair() == [f"the vectors of memory {memory} were removed"]
    assert sorted(found(index.search(view, query("note"), 9))) == list(range(1, 9))
    assert index.verify() == []


def plan_of(index, view, asked):
    """How the server finds the ten nearest."""
    plain = index._rows
    plans = []

    def explained(connection, statement, given):
        plans.append(driver(connection).execute("EXPLAIN " + statement, given).fetchall())
        return plain(connection, statement, given)

    index._rows = explained
    index.search(view, asked, 10)
    index._rows = plain
    return str(plans)


@pytest.mark.parametrize(("dim", "count"), [(32, 400), (2560, 100)])
def test_hnsw_finds_almost_all_of_the_nearest(new_schema, dim, count):
    encoder = HashEncoder(dim)
    store, index = open_postgresql(new_schema(), encoder.spec, index="pgvector", hnsw_rows=count)
    memory = store.make_memory(("a",))
    texts = [f"note {n} cat {n % 7} dog {n % 11} {n % 90} said {n % 13}" for n in range(count)]
    view = write(store, memory, [turn(text, n) for n, text in enumerate(texts)], encoder)
    stored = store.vectors(view.spans[0], 0)
    seqs, vectors = stored.seqs, stored.vectors
    queries = encoder.embed_queries(State.empty(encoder.spec), texts[:20])
    shared = 0
    for asked in queries:
        best = vectors @ asked
        nearest = index.search(view, asked, 10)
        shared += len(set(seqs[np.argsort(-best)[:10]]) & set(found(nearest)))
        np.testing.assert_allclose([s for _, s in nearest], best[np.array(found(nearest)) - 1], atol=1e-6)  # fmt: skip
    assert f"vectors_hnsw_{memory}" in plan_of(index, view, queries[0])
    assert shared / (10 * len(queries)) > 0.9
    early = store.view(memory, seq=50)
    assert len(index.search(early, queries[0], 10)) == 10
    assert max(found(index.search(early, queries[0], 10))) <= 50
    index.close()
    store.close()


def test_unsupported_dimensions_and_indexes_are_refused(new_schema):
    wide = replace(ENCODER.spec, dim=4001)
    with pytest.raises(StoreError, match="4000"):
        open_postgresql(new_schema(), wide, index="pgvector", hnsw_rows=1)
    with pytest.raises(StoreError, match="'annoy'"):
        open_at(new_schema(), wide, index="annoy")
