"""Every index finds what brute force finds, in every view, fork and filter, and beside deletions.

Some turns are short and some long: these have many embeddings, of which the best one counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.plugins import store_opener
from evomem.store import Filter
from evomem_stores.vectors.codes import Codes
from evomem_stores.vectors.pgvector_index import PgvectorIndex
from tests.stores.helpers import DAY, ENCODER, purge
from tests.stores.test_faiss_index import fill, random_rows, random_turns

ROWS = 600
LATER = DAY[-1] + timedelta(days=1)
SERVERS = {"pgvector", "pgvector HNSW"}
APPROXIMATE = {"FAISS codes": 100, "pgvector HNSW": 20}
"""How many rows a search has to be of to be approximate."""


@dataclass
class Known:
    """A memory as it is known without the database."""

    number: int
    vectors: dict[int, np.ndarray] = field(default_factory=dict)
    times: dict[int, datetime] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)

    def candidates(self, seq, since, until):
        return {
            n: vector
            for n, vector in self.vectors.items()
            if n <= seq and n not in self.hidden and since <= self.times[n] < until
        }


@pytest.fixture(
    scope="module", params=["FAISS", "FAISS codes", "pgvector", "pgvector HNSW", "Milvus"]
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def opened(name, request, tmp_path_factory):
    """A log and its index."""
    choices: dict[str, dict[str, Any]] = {
        "FAISS": {"exact_rows": None},
        "FAISS codes": {"exact_rows": APPROXIMATE["FAISS codes"]},
        "pgvector": {"index": "pgvector"},
        "pgvector HNSW": {"index": "pgvector", "hnsw_rows": APPROXIMATE["pgvector HNSW"]},
        "Milvus": {"index": "milvus"},
    }
    options = choices[name]
    location = str(tmp_path_factory.mktemp("every") / "a.db")
    if name in SERVERS:
        location = request.getfixturevalue("new_schema")()
    if name == "pgvector HNSW":  # gives up as early as in a much larger memory
        location += "&options=-chnsw.max_scan_tuples%3D50"
    if name == "Milvus":
        options["milvus_uri"] = request.getfixturevalue("milvus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evomem_stores.vectors.shard.DIRECT_ROWS", 0)
        patch.setattr(
            "evomem_stores.vectors.shard.MIN_CANDIDATES", 48
        )  # of the few rows that there are
        patch.setattr("evomem_stores.vectors.shard.CANDIDATES_PER_HIT", 4)
        store, index = store_opener(location)(location, ENCODER.spec, **options)
        yield store, index
        index.close()
        store.close()


@pytest.fixture(scope="module")
def memories(opened):
    """A large memory with a gap, forks from its first and its last turns, all with hidden turns."""
    store, _ = opened
    numbers = [store.make_memory(("large",))]
    fill(store, numbers[0], random_turns(ROWS, seed=1, distinct=500))
    purge(store, numbers[0], ROWS - 20)
    hidden: list[set[int]] = [set()]

    def fork(parent, seq, rows, gone):
        numbers.append(store.fork(store.view(numbers[parent], seq=seq), (f"fork {len(numbers)}",)))
        fill(store, numbers[-1], random_turns(rows, seed=len(numbers)), start=1000 * len(numbers))
        store.hide(store.view(numbers[-1]), sorted(gone))
        hidden.append({n for n in hidden[parent] if n <= seq} | set(gone))

    fork(0, 10, 5, ())
    fork(1, 13, 120, (3, 40))
    fork(2, 100, 3, (101,))
    fork(0, ROWS, 1, range(1, ROWS, 7))
    fork(0, ROWS, 1, set(range(1, ROWS)).difference(range(1, ROWS, 3)))
    made = []
    for number, gone in zip(numbers, hidden, strict=True):
        memory = Known(number, hidden=gone)
        for row in store.rows(store.view(number), after=0):
            memory.vectors[row.seq] = row.reading.embeddings
            memory.times[row.seq] = row.turn.time
        made.append(memory)
    return made


def test_hits_are_those_of_brute_force(name, opened, memories):
    store, index = opened
    wanted, right = 0, 0

    @settings(max_examples=60)
    @given(
        memory=st.sampled_from(memories),
        end=st.sampled_from([1, 10, 12, 25, 130, 1.0]) | st.floats(0, 1),
        k=st.sampled_from([1, 2, 10, 60, 10**30]),
        days=st.none() | st.tuples(st.integers(0, 399), st.integers(0, 399)),
        seed=st.integers(0, 50),
    )
    def check(memory, end, k, days, seed):
        nonlocal wanted, right
        newest = max(memory.vectors)
        seq = round(end * newest) if isinstance(end, float) else min(end, newest)
        view = store.view(memory.number, seq=seq)
        since, until = (None, None) if days is None else (DAY[min(days)], DAY[max(days)])
        chosen = store.select(view, Filter(since=since, until=until))
        candidates = memory.candidates(seq, since or DAY[0], until or LATER)
        there = np.array([n for n in sorted(memory.vectors) if n <= seq], np.int64)
        assert chosen.among(there).tolist() == sorted(candidates)
        asked = random_rows(1, seed=seed)[0]
        hits = index.search(view, asked, k, **chosen._asdict())
        scores = {n: float((rows.astype(float) @ asked).max()) for n, rows in candidates.items()}
        best = sorted(scores.values(), reverse=True)[: min(k, len(scores))]
        assert len(hits) == len(best)
        assert len({n for n, _ in hits}) == len(hits)
        assert {n for n, _ in hits} <= set(candidates)
        returned = [score for _, score in hits]
        assert returned == sorted(returned, reverse=True)
        np.testing.assert_allclose(returned, [scores[n] for n, _ in hits], atol=1e-6)
        if seq < APPROXIMATE.get(name, ROWS + 1):
            np.testing.assert_allclose(returned, best, atol=1e-6)
        wanted += len(best)
        right += sum(scores[n] >= best[-1] - 1e-6 for n, _ in hits)

    check()
    assert right >= 0.9 * wanted


@pytest.mark.parametrize(
    ("name", "owner", "method"),
    [("FAISS codes", Codes, "nearest"), ("pgvector HNSW", PgvectorIndex, "_approximate")],
    indirect=["name"],
)
def test_a_large_memory_is_searched_approximately(opened, memories, monkeypatch, owner, method):
    """So that the test above is one of approximate searches, too."""
    store, index = opened
    plain, calls = getattr(owner, method), []

    def counted(*args):
        calls.append(args)
        return plain(*args)

    monkeypatch.setattr(owner, method, counted)
    assert len(index.search(store.view(memories[0].number), random_rows(1)[0], 10)) == 10
    assert calls
