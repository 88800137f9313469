"""A large memory is searched through codes: almost nothing is missed, and nothing is made up."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.rows import Rows
from evomem.store import Selection, Span
from evomem_stores.vectors import index_file
from evomem_stores.vectors.codes import RETRAIN_GROWTH, Codes, faiss, single_threaded
from evomem_stores.vectors.faiss_index import FaissIndex
from evomem_stores.vectors.shard import Shard
from tests.stores.helpers import ENCODER, found, open_at, purge
from tests.stores.test_faiss_index import fill

PROPERTY = settings(max_examples=20)
ROWS, DIM = 6000, 32
ALL = Span(1, 1, 10**9)


def clustered(count, seed=0):
    """Unit vectors around common centres, as texts lie around their subjects."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((60, DIM))
    rows = centres[rng.integers(0, 60, count)] + 0.8 * rng.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def shard_of(vectors, *, coded):
    shard = Shard(DIM, 0)
    every_other = np.arange(1, len(vectors) + 1) * 2  # as after purges
    shard.add(every_other, Rows(vectors), [bytes(16)] * len(vectors))
    if coded:
        shard.encode()
    return shard


@pytest.fixture(scope="module")
def shards():
    """The same rows with codes and without."""
    vectors = clustered(ROWS)
    return shard_of(vectors, coded=True), shard_of(vectors, coded=False)


@PROPERTY
@given(
    seed=st.integers(0, 10**6),
    k=st.sampled_from([1, 10, 40]),
    last=st.integers(ROWS, 2 * ROWS),
    share=st.sampled_from([None, 1.0, 0.9, 0.6]),
    by_exclusion=st.booleans(),
)
def test_hits_are_exact_and_few_are_missed(shards, seed, k, last, share, by_exclusion):
    coded, exact = shards
    rng = np.random.default_rng(seed)
    span = Span(1, 1, last)
    allowed = None
    if share:
        allowed = np.flatnonzero(rng.random(2 * ROWS) < share) + 1
    chosen = Selection(allowed)
    if allowed is not None and by_exclusion:
        chosen = Selection(without=np.setdiff1d(np.arange(2 * ROWS + 1), allowed))
    missed = 0
    for query in clustered(10, seed):
        hits = coded.nearest(span, query, k, chosen)
        right = exact.nearest(span, query, k, Selection(allowed))
        assert len(hits) == len(right)
        assert hits == sorted(hits, key=lambda hit: (-hit[1], -hit[0]))
        assert dict(hits) == exact.score(np.array(sorted(seq for seq, _ in hits)), query)
        assert all(seq <= last for seq, _ in hits)
        assert allowed is None or set(found(hits)) <= set(allowed.tolist())
        missed += len(set(found(right)) - set(found(hits)))
    assert missed <= 0.01 * 10 * k + 1


def test_the_codes_are_what_answers(shards, monkeypatch):
    coded, _ = shards
    monkeypatch.setattr(coded.codes.index, "search", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        coded.nearest(ALL, clustered(1)[0], 10)


@pytest.mark.parametrize("by_exclusion", [False, True])
def test_the_codes_answer_a_search_with_a_filter_without_reading_all_rows(shards, by_exclusion):
    coded, exact = shards
    seqs, is_allowed = coded.seqs, np.random.default_rng(2).random(ROWS) < 0.8
    allowed = seqs[is_allowed]
    chosen = Selection(without=seqs[~is_allowed]) if by_exclusion else Selection(allowed)
    before = coded.read_all
    for query in clustered(5, seed=3):
        hits = coded.nearest(ALL, query, 5, chosen)
        assert found(hits) == found(exact.nearest(ALL, query, 5, Selection(allowed)))
    assert coded.read_all == before


@pytest.mark.parametrize(
    ("last", "k", "share"), [(ROWS - 10, 10, 1), (2 * ROWS, 48, 1), (2 * ROWS, 10, 0.2)]
)
def test_a_short_view_a_narrow_filter_or_many_hits_are_answered_exactly(
    shards, monkeypatch, last, k, share
):
    coded, exact = shards
    monkeypatch.setattr(coded.codes.index, "search", lambda *args: 1 / 0)
    allowed = np.flatnonzero(np.random.default_rng(1).random(2 * ROWS) < share)
    for query in clustered(5, seed=3):
        given = Span(1, 1, last), query, k, Selection(None if share == 1 else allowed)
        assert coded.nearest(*given) == exact.nearest(*given)


def test_a_filter_that_leaves_none_of_the_named_rows_is_answered_exactly(shards):
    coded, exact = shards
    query = clustered(1, seed=5)[0]
    far = [seq for seq, _ in exact.nearest(ALL, query, ROWS)[ROWS // 3 :]]
    allowed = np.array(sorted(far))
    assert coded.nearest(ALL, query, 10, Selection(allowed)) == exact.nearest(
        ALL, query, 10, Selection(allowed)
    )


@pytest.mark.parametrize("equal", [400, 3000, ROWS])
def test_the_newest_of_equal_rows_come_first(equal):
    vectors = clustered(ROWS)
    vectors[100 : 100 + equal] = vectors[100]
    shard = shard_of(vectors[:ROWS], coded=True)
    last = min(100 + equal, ROWS)
    assert found(shard.nearest(ALL, vectors[100], 3)) == [
        2 * last,
        2 * last - 2,
        2 * last - 4,
    ]


@pytest.mark.parametrize("dim", [1, 2, 31])
def test_vectors_may_have_any_length(dim):
    rows = np.random.default_rng(0).standard_normal((5000, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    shard = Shard(dim, 0)
    shard.add(np.arange(5000), Rows(rows), [bytes(16)] * 5000)
    right = shard.nearest(Span(1, 0, 5000), rows[7], 3)
    shard.encode()
    assert shard.nearest(Span(1, 0, 5000), rows[7], 3) == right


def test_codes_are_learned_again_only_when_there_are_many_more_rows():
    shard = Shard(DIM, 0)
    learned = []
    for n in range(2 * RETRAIN_GROWTH):
        shard.add(
            np.arange(500 * n, 500 * (n + 1)), Rows(clustered(500, seed=n)), [bytes(16)] * 500
        )
        shard.encode()
        assert shard.codes
        assert len(shard.codes) == len(shard)
        learned.append(shard.codes.learned)
    assert learned == [500] * (RETRAIN_GROWTH - 1) + [500 * RETRAIN_GROWTH] * (RETRAIN_GROWTH + 1)


# in a database ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database with a large memory and its index file, never changed by a test."""
    folder = tmp_path_factory.mktemp("made")
    store, index = opened(folder)
    view = fill(store, store.make_memory(("a",)), clustered(ROWS))
    index.search(view, clustered(1)[0], 1)
    index.close()
    store.close()
    return folder


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def opened(folder, exact_rows=4000):
    store, _ = open_at(folder / "a.db")
    index = FaissIndex(store, folder / "a.db.index", exact_rows=exact_rows)
    store.rewritten.append(lambda memory, _: index.forget(memory))
    return store, index


def agree(store, index, view, seed=11):
    """Say whether the answers of an index are those of an exact one, up to one miss in a hundred."""
    exact = FaissIndex(store, None, exact_rows=None)
    missed = 0
    for query in clustered(10, seed):
        right = dict(exact.search(view, query, 10))
        hits = dict(index.search(view, query, 10))
        assert all(hits[seq] == right[seq] for seq in hits.keys() & right.keys())
        missed += len(right.keys() - hits.keys())
    return missed <= 1


def test_a_file_keeps_the_codes_and_later_turns_are_added_to_them(copy, monkeypatch):
    monkeypatch.setattr(Codes, "learn", lambda rows: 1 / 0)
    store, index = opened(copy)
    view = fill(store, 1, clustered(50, seed=2), start=10_000)
    for seq, vector in enumerate(clustered(50, seed=2), start=ROWS + 1):
        assert index.search(view, vector, 1)[0][0] == seq
    assert agree(store, index, view)
    assert index.verify() == []
    index.close()
    store.close()


def test_purges_forks_and_views_are_answered_as_by_an_exact_index(copy):
    store, index = opened(copy)
    asked = clustered(ROWS)[ROWS - 5]
    complete = store.view(1)
    assert index.search(complete, asked, 1)[0][0] == ROWS - 4
    past = store.view(1, seq=ROWS - 5)
    assert index.search(past, asked, 1)[0][0] <= ROWS - 5
    assert agree(store, index, past)
    fork = store.fork(past, ("fork",))
    forked = fill(store, fork, clustered(5, seed=4), start=20_000)
    assert agree(store, index, forked)
    store.drop(("fork",))
    purge(store, 1, ROWS - 4)
    after = store.view(1)
    assert index.search(after, asked, 1)[0][0] != ROWS - 4
    assert agree(store, index, after)
    assert index.verify() == []
    index.close()
    store.close()


@pytest.mark.parametrize("damage", ["flipped", "truncated", "deleted"])
def test_a_damaged_file_is_replaced(copy, damage):
    path = copy / "a.db.index" / "1.faiss"
    good = path.read_bytes()
    if damage == "flipped":
        place = len(good) - 5000  # in the codes
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    elif damage == "truncated":
        path.write_bytes(good[:-5000])
    else:
        path.unlink()
    store, index = opened(copy)
    assert agree(store, index, store.view(1))
    index.close()
    assert opened(copy)[1].verify() == []
    assert path.exists()
    store.close()


def test_codes_of_other_vectors_are_reported(copy):
    path = copy / "a.db.index" / "1.faiss"
    shard = index_file.load(path.read_bytes(), 1, ENCODER.spec)
    assert shard.codes
    shard.codes.index.reset()
    shard.codes.add(clustered(ROWS, seed=9))
    path.write_bytes(b"".join(index_file.dump(shard, 1, ENCODER.spec)))
    store, index = opened(copy)
    assert "codes that do not match" in index.verify()[0]
    store.close()


def test_a_file_whose_codes_are_not_of_its_rows_is_not_trusted(copy):
    path = copy / "a.db.index" / "1.faiss"
    shard = index_file.load(path.read_bytes(), 1, ENCODER.spec)
    assert shard.codes
    shard.codes.add(clustered(1))
    with pytest.raises(ValueError, match="codes"):
        index_file.load(b"".join(index_file.dump(shard, 1, ENCODER.spec)), 1, ENCODER.spec)


def test_exact_rows_none_searches_without_codes(copy):
    store, index = opened(copy, exact_rows=None)
    index.search(store.view(1), clustered(1)[0], 10)
    assert index._cached[1].shard.codes is None
    store.close()


def test_faiss_keeps_to_one_thread_for_a_question_and_no_longer():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        with single_threaded():
            assert faiss.omp_get_max_threads() == 1
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
