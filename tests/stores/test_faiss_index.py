"""The index is exact, and never says anything that the log does not say."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem import HashEncoder
from evomem.errors import HeadMoved
from evomem.records import Turn
from evomem.rows import Rows
from evomem.state import Reading, State
from evomem.store import Row
from evomem_stores.vectors import index_file
from evomem_stores.vectors.codes import faiss
from evomem_stores.vectors.faiss_index import FaissIndex
from evomem_stores.vectors.held import Held
from evomem_stores.vectors.shard import DIRECT_ROWS
from tests.stores.helpers import (
    DAY,
    DEVICES,
    ENCODER,
    exact,
    found,
    nearest,
    open_at,
    open_on_device,
    purge,
    query,
    stored,
    turn,
    write,
)

PROPERTY = settings(max_examples=25)


@pytest.fixture(autouse=True, params=["faiss", *DEVICES])
def reader(request, monkeypatch):
    """What reads the vectors: every test is run with FAISS and with torch, and must not tell."""
    if request.param != "faiss":
        monkeypatch.setitem(globals(), "open_at", partial(open_on_device, request.param))
        monkeypatch.setattr("evomem_stores.vectors.shard.DIRECT_ROWS", 0)
        monkeypatch.setattr("evomem_stores.vectors.shard.MARGIN", 0)


def fill(store, memory, vectors, start=1):
    """Append turns with these embeddings, of one or of several rows."""
    view = store.view(memory)
    key, rows = view.key, []
    for seq, vector in enumerate(vectors, start=view.seq + 1):
        item = turn(f"row {seq}", start + seq)
        empty: State[Turn] = State.empty(ENCODER.spec)
        state = replace(empty, key=key)
        embedding, *passages = np.atleast_2d(vector)
        latents = np.zeros((1, 32), np.float32)
        reading = Reading(embedding, latents, passages=np.array(passages, np.float32))
        key = state.after(item, reading).key
        rows.append(Row(seq, item, DAY[0], reading, key))
    store.append(view, rows)
    return store.view(memory)


def random_rows(count, seed=0, distinct=None):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((distinct or count, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[rng.integers(0, len(rows), count)] if distinct else rows


def random_turns(count, seed=0, distinct=None):
    """Embeddings of turns, every fifth of which has many passages."""
    rng = np.random.default_rng(seed)
    sizes = np.where(rng.random(count) < 0.2, rng.integers(2, 30, count), 1)
    rows = random_rows(int(sizes.sum()), seed, distinct)
    return np.split(rows, np.cumsum(sizes)[:-1])


def test_results_equal_exact_search_for_any_k_point_and_filter(location):
    """Large enough that FAISS and its selectors do the work, with many exact ties."""
    store, index = open_at(location)
    memory = store.make_memory(("a",))
    fill(store, memory, random_rows(3 * DIRECT_ROWS, distinct=300))
    fork = store.fork(store.view(memory, seq=2 * DIRECT_ROWS + 7), ("fork",))
    fill(store, fork, random_rows(2 * DIRECT_ROWS, seed=5, distinct=200), start=10_000)
    purge_free = store.view(fork)
    rng = np.random.default_rng(3)
    for view in (store.view(memory), purge_free, store.view(memory, seq=DIRECT_ROWS + 50), store.view(fork, seq=40)):  # fmt: skip
        rows = stored(store, view)
        for share in (None, 0.9, 0.3, 0.01):
            allowed = None
            if share is not None:
                allowed = np.flatnonzero(rng.random(view.seq) < share) + 1
            asked = random_rows(1, seed=int(rng.integers(1000)))[0]
            for k in (1, 10, 200, 5000):
                hits = index.search(view, asked, k, allowed=allowed)
                inside = None if allowed is None else set(allowed.tolist())
                assert found(hits) == nearest(rows, asked, k, inside)
    store.close()


def test_the_newest_of_a_thousand_equal_rows_come_first(tmp_path):
    store, index = open_at(tmp_path / "a.db")
    rows = random_rows(1)
    view = fill(store, store.make_memory(("a",)), np.repeat(rows, 2 * DIRECT_ROWS, axis=0))
    assert found(index.search(view, rows[0], 5)) == [1024, 1023, 1022, 1021, 1020]
    some = np.arange(3, 900, dtype=np.int64)
    assert found(index.search(view, rows[0], 3, allowed=some)) == [899, 898, 897]
    store.close()


def test_equal_rows_score_equally_wherever_they_lie(tmp_path):
    store, index = open_at(tmp_path / "a.db")
    vectors = random_rows(700)
    view = fill(store, store.make_memory(("a",)), vectors)
    alone = fill(store, store.make_memory(("b",)), vectors[350:351], start=5000)
    asked = random_rows(1, seed=9)[0]
    everywhere = dict(index.search(view, asked, 700))
    assert index.search(alone, asked, 1) == [(1, everywhere[351])]
    assert index.score(view, asked, [351, 1, 9999]) == {351: everywhere[351], 1: everywhere[1]}
    assert index.score(view, asked, []) == {}
    assert index.score(store.view(view.memory, seq=5), asked, [5, 6]) == {5: everywhere[5]}
    store.close()


def test_no_other_memory_is_ever_returned(tmp_path):
    store, index = open_at(tmp_path / "a.db")
    vectors = random_rows(60)
    views = [fill(store, store.make_memory((str(n),)), vectors[n * 20 : n * 20 + n + 1]) for n in range(3)]  # fmt: skip
    for n, view in enumerate(views):
        for k in (1, 100):
            assert len(index.search(view, vectors[0], k)) == min(k, n + 1)
        assert index.search(view, vectors[0], 5, allowed=np.array([0, 50, 60])) == []
    store.close()


def test_the_index_follows_the_log_through_everything(location):
    store, index = open_at(location)
    index._min_new_rows = 1
    memory = store.make_memory(("a",))
    for n in range(1, 40):
        write(store, memory, [turn(f"note {n % 5} cat", n)])
        if n % 9 == 0:
            purge(store, memory, n - 3)
        view = store.view(memory)
        assert found(index.search(view, query("cat"), 50)) == exact(store, view, query("cat"), 50)
        assert index.verify() == []
    store.close()


def test_another_process_s_turns_and_purges_are_seen(location):
    (store, index), (other, other_index) = open_at(location), open_at(location)
    memory = store.make_memory(("a",))
    for n in range(1, 30, 2):
        write(store, memory, [turn(f"note {n}", n)])
        write(other, memory, [turn(f"note {n + 1}", n + 1)])
        if n % 7 == 0:
            purge(other, memory, n)
        view = store.view(memory)
        for item in (index, other_index):
            assert found(item.search(view, query("note 3"), 9)) == exact(store, view, query("note 3"), 9)  # fmt: skip
    index._min_new_rows = 1
    index.search(store.view(memory), query("x"), 1)
    write(store, memory, [turn("one more", 99)])
    purge(other, memory, 2)
    index.close()  # what it has in memory is void now: it must not be written
    assert other_index.verify() == []
    for opened in (store, other):
        opened.close()


# files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database with an index file, never changed by a test; and the right answer."""
    folder = tmp_path_factory.mktemp("made")
    store, index = open_at(folder / "a.db")
    index._min_new_rows = 1
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn(f"note {n} cat", n) for n in range(1, 41)])
    index.search(view, query("cat"), 3)
    right = exact(store, view, query("cat"), 7)
    index.close()
    store.close()
    assert [path.name for path in (folder / "a.db.index").iterdir()] == ["1.faiss"]
    return folder, right


@pytest.fixture
def copy(made, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(made[0], folder)
    return folder


def answers(folder, right):
    """Search with whatever index files are there; they must be good afterwards."""
    store, index = open_at(folder / "a.db")
    index._min_new_rows = 1
    view = store.view(1)
    assert found(index.search(view, query("cat"), 7)) == right
    assert index.verify() == []
    index.close()
    store.close()
    return folder / "a.db.index" / "1.faiss"


def verify(folder):
    store, index = open_at(folder / "a.db")
    problems = index.verify()
    store.close()
    return problems


def test_a_good_file_is_read_and_only_what_is_new_comes_from_the_log(copy, made, monkeypatch):
    store, index = open_at(copy / "a.db")
    write(store, 1, [turn("new", 50)])
    asked = []
    plain = store.vectors

    def watched(span, revision):
        asked.append(span.first)
        return plain(span, revision)

    monkeypatch.setattr(store, "vectors", watched)
    index.search(store.view(1), query("cat"), 3)
    assert asked == [41]
    store.close()


@settings(max_examples=60)
@given(data=st.data())
def test_a_file_with_any_bit_flipped_is_not_trusted(made, data):
    path = made[0] / "a.db.index" / "1.faiss"
    good = path.read_bytes()
    bits = data.draw(st.sets(st.integers(0, 8 * len(good) - 1), min_size=1, max_size=3))
    bad = bytearray(good)
    for bit in bits:
        bad[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="damaged"):
        index_file.load(bytes(bad), 1, ENCODER.spec)
    assert len(index_file.load(good, 1, ENCODER.spec)) == 40


@pytest.mark.parametrize("where", [0, 5, 16, 18, 30, 100, 250, 400, 2000, -40, -1])
def test_a_flipped_byte_changes_no_answer_and_is_repaired(copy, made, where):
    path = copy / "a.db.index" / "1.faiss"
    bad = bytearray(path.read_bytes())
    bad[where] ^= 0x40
    path.write_bytes(bad)
    assert len(verify(copy)) == 1
    assert path.read_bytes() == bad
    answers(copy, made[1])
    assert verify(copy) == []


@pytest.mark.parametrize("size", [0, 1, 16, 20, 300, 2000, -33, -1])
def test_a_truncated_file_changes_no_answer_and_is_repaired(copy, made, size):
    path = copy / "a.db.index" / "1.faiss"
    good = path.read_bytes()
    path.write_bytes(good[:size])
    assert "damaged" in verify(copy)[0]
    answers(copy, made[1])
    assert verify(copy) == []


def test_a_deleted_file_or_folder_is_recreated(copy, made):
    (copy / "a.db.index" / "1.faiss").unlink()
    assert answers(copy, made[1]).exists()
    shutil.rmtree(copy / "a.db.index")
    assert answers(copy, made[1]).exists()


def test_a_file_of_another_memory_encoder_or_database_is_not_trusted(copy, made, tmp_path):
    path = copy / "a.db.index" / "1.faiss"
    good = path.read_bytes()
    shard = index_file.load(good, 1, ENCODER.spec)
    strangers = {
        "memory": b"".join(index_file.dump(shard, 2, ENCODER.spec)),
        "fingerprint": b"".join(index_file.dump(shard, 1, replace(ENCODER.spec, fingerprint="x"))),
        "dim": b"".join(index_file.dump(shard, 1, replace(ENCODER.spec, dim=33))),
    }
    store, index = open_at(tmp_path / "other.db")
    index._min_new_rows = 1
    view = write(store, store.make_memory(("a",)), [turn(f"other {n}", n) for n in range(50)])
    index.search(view, query("x"), 1)
    strangers["rows"] = (tmp_path / "other.db.index" / "1.faiss").read_bytes()
    store.close()
    for name, data in strangers.items():
        path.write_bytes(data)
        assert name in verify(copy)[0]
        answers(copy, made[1])
        assert verify(copy) == []


def test_a_file_that_is_ahead_of_the_log_or_of_rows_since_rewritten_is_not_trusted(copy, made):
    old = copy / "old"
    shutil.copytree(made[0], old)
    store, index = open_at(copy / "a.db")
    index._min_new_rows = 1
    write(store, 1, [turn(f"later {n}", n) for n in range(50, 60)])
    index.search(store.view(1), query("x"), 1)
    index.close()
    store.close()
    shutil.copy(copy / "a.db.index" / "1.faiss", old / "a.db.index" / "1.faiss")
    assert "no longer, in the log" in verify(old)[0]  # the log was put back from a backup
    answers(old, made[1])
    store, index = open_at(old / "a.db")
    stale = (old / "a.db.index" / "1.faiss").read_bytes()
    purge(store, 1, 39)
    assert not (old / "a.db.index" / "1.faiss").exists()
    (old / "a.db.index" / "1.faiss").write_bytes(stale)
    right = exact(store, store.view(1), query("cat"), 7)
    store.close()
    answers(old, right)


def test_vectors_that_differ_from_the_log_are_reported(copy):
    path = copy / "a.db.index" / "1.faiss"
    shard = index_file.load(path.read_bytes(), 1, ENCODER.spec)
    row = np.array(shard.held.parts[0].numbers)
    row[3] *= -1
    shard.held = Held(ENCODER.spec.dim, Rows(row))
    path.write_bytes(b"".join(index_file.dump(shard, 1, ENCODER.spec)))
    assert "differs from the log" in verify(copy)[0]
    (copy / "a.db.index" / "x.faiss").write_bytes(b"")
    assert "not named after a memory" in verify(copy)[1]


def test_a_file_that_claims_more_than_it_holds_is_not_trusted(made):
    """The digest only tells accidents: a file made on purpose must not be believed either."""
    shard = index_file.load((made[0] / "a.db.index" / "1.faiss").read_bytes(), 1, ENCODER.spec)

    for count in (39, 41):
        body = b"".join(index_file.dump(shard, 1, ENCODER.spec))[: -index_file.DIGEST]
        body = body.replace(b'"count": 40', b'"count": %d' % count)
        digest = hashlib.sha256(body).digest()
        with pytest.raises((ValueError, RuntimeError)):
            index_file.load(body + digest, 1, ENCODER.spec)
    with pytest.raises(ValueError, match="damaged"):
        index_file.load(json.dumps({}).encode(), 1, ENCODER.spec)


@pytest.mark.parametrize("blocked", ["folder", "file"])
def test_files_that_cannot_be_written_cause_one_warning_and_no_harm(tmp_path, blocked):
    store, index = open_at(tmp_path / "a.db")
    index._min_new_rows = 1
    if blocked == "folder":
        (tmp_path / "a.db.index").write_text("a file where the folder should be")
    else:
        (tmp_path / "a.db.index" / "1.faiss").mkdir(parents=True)
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn("cat", 1)])
    with pytest.warns(UserWarning, match="cannot be written to") as told:  # noqa: PT031 - the second search must not say it again
        assert found(index.search(view, query("cat"), 3)) == [1]
        for n in range(2, 20):
            view = write(store, memory, [turn(f"cat {n}", n)])
            assert found(index.search(view, query("cat"), 3)) == exact(store, view, query("cat"), 3)
    assert len(told) == 1
    index.close()
    store.close()


def test_a_search_that_a_purge_elsewhere_ends_removes_the_outdated_file(copy):
    path = copy / "a.db"
    (store, index), (elsewhere, _) = open_at(path), open_at(path)
    view = store.view(1)
    index.search(view, query("cat"), 7)
    file = copy / "a.db.index" / "1.faiss"
    stale = file.read_bytes()
    purge(elsewhere, 1, 2)
    file.write_bytes(stale)  # as a third process may that began to write before the purge
    with pytest.raises(HeadMoved), index.reading(view), store.snapshot(view):
        pass
    assert not file.exists()
    elsewhere.close()
    store.close()


def test_repair_removes_only_files_that_do_not_belong_to_the_log(copy):
    store, index = open_at(copy / "a.db")
    assert index.repair() == []
    shutil.copy(copy / "a.db.index" / "1.faiss", copy / "a.db.index" / "2.faiss")
    [removed] = index.repair()
    assert removed.startswith("the index file 2.faiss was removed")
    assert [path.name for path in (copy / "a.db.index").iterdir()] == ["1.faiss"]
    store.close()


def test_an_error_while_writing_a_file_keeps_its_reason(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.open", full)
    with pytest.raises(OSError, match="No space left"):
        index_file.write(tmp_path / "1.faiss", [b"rows"])


def test_memory_is_bounded_and_evicted_shards_are_reloaded(tmp_path):
    store, index = open_at(tmp_path / "a.db", index_bytes=20_000)
    views = [fill(store, store.make_memory((str(n),)), random_rows(50, seed=n)) for n in range(6)]
    for _ in range(2):
        for n, view in enumerate(views):
            assert found(index.search(view, random_rows(50, seed=n)[7], 1)) == [8]
            stored = sum(cached.shard.nbytes for cached in index._cached.values() if cached.shard)
            assert stored <= 20_000
    assert list(tmp_path.glob("*.index")) == []  # so few rows are not worth a file
    store.close()


def test_a_file_is_written_when_enough_is_new_and_at_the_end(tmp_path):
    store, _ = open_at(tmp_path / "a.db")
    index = FaissIndex(store, tmp_path / "a.db.index", min_new_rows=100)
    memory = store.make_memory(("a",))
    path = Path(tmp_path / "a.db.index" / "1.faiss")
    vectors = random_rows(1500)
    sizes = []
    for start, end in ((0, 99), (99, 100), (100, 150), (150, 1300), (1300, 1420), (1420, 1430)):
        view = fill(store, memory, vectors[start:end])
        index.search(view, vectors[0], 1)
        sizes.append(len(index_file.load(path.read_bytes(), 1, ENCODER.spec)) if path.exists() else 0)  # fmt: skip
    assert sizes == [0, 100, 100, 1300, 1300, 1430]
    fill(store, memory, vectors[1430:1431])
    index.search(store.view(memory), vectors[0], 1)
    index.close()
    index.close()
    assert len(index_file.load(path.read_bytes(), 1, ENCODER.spec)) == 1431
    store.close()


def test_many_threads_search_while_the_log_grows(location):
    store, index = open_at(location)
    memory = store.make_memory(("a",))
    fill(store, memory, random_rows(600))
    wrong = []

    def look():
        for _ in range(20):
            view = store.view(memory)
            if found(index.search(view, query("cat"), 5)) != exact(store, view, query("cat"), 5):
                wrong.append(view.seq)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(40):
        write(store, memory, [turn(f"cat {n}", 9000 + n)])
    for thread in threads:
        thread.join()
    assert wrong == []
    store.close()


@pytest.mark.parametrize("reader", ["faiss"], indirect=True)
def test_faiss_is_what_answers(tmp_path, monkeypatch):
    store, index = open_at(tmp_path / "a.db")
    view = fill(store, store.make_memory(("a",)), random_rows(2 * DIRECT_ROWS))
    index.search(view, random_rows(1)[0], 1)

    def refuse(*args, **kwargs):
        raise RuntimeError("FAISS was asked")

    monkeypatch.setattr(faiss.IndexScalarQuantizer, "search", refuse)
    with pytest.raises(RuntimeError, match="FAISS was asked"):
        index.search(view, random_rows(1)[0], 1)
    store.close()


def test_a_file_written_while_another_process_purges_does_not_stay(tmp_path, monkeypatch):
    with (
        evomem.open(tmp_path / "a.db", encoder=HashEncoder()) as one,
        evomem.open(tmp_path / "a.db", encoder=HashEncoder()) as other,
    ):
        memory = one.memory("m")
        memory.add_many([Turn(user=f"coffee number {n}", id=f"t{n}") for n in range(8)])
        monkeypatch.setattr(one._engine.index, "_min_new_rows", 1)
        write = index_file.write

        def purge_then_write(path, data):
            other.memory("m").purge("t3")
            write(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(index_file, "write", purge_then_write)
            memory.search("coffee")
        assert not list((tmp_path / "a.db.index").glob("*.faiss"))
        memory.search("coffee")
        assert list((tmp_path / "a.db.index").glob("*.faiss"))
