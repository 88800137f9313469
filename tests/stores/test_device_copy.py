"""Vectors on a device: the answers of the CPU, a bounded copy, and no search that fails with it."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.errors import StoreError
from evomem.rows import Rows
from evomem.store import Selection, Span
from evomem_stores.vectors import device_copy
from evomem_stores.vectors.device_copy import Device
from evomem_stores.vectors.faiss_index import FaissIndex
from evomem_stores.vectors.held import Held
from evomem_stores.vectors.shard import Shard
from tests.stores.helpers import DEVICES, found, open_at, open_on_device, purge
from tests.stores.test_faiss_index import fill, random_rows

PROPERTY = settings(max_examples=40)
DIM = 32


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    """The name of a device, which reads every memory, however small it is."""
    monkeypatch.setattr("evomem_stores.vectors.shard.DIRECT_ROWS", 0)
    monkeypatch.setattr("evomem_stores.vectors.shard.MARGIN", 0)
    return request.param


def shard_of(index, memory=1):
    """The shard that an index has in memory, and its copy."""
    shard = index._cached[memory].shard
    assert shard
    assert shard.device_copy is not None
    return shard, shard.device_copy


def shard_on_device(device):
    """An empty shard, and its empty copy."""
    shard = Shard(DIM, 0)
    shard.device_copy = Device(device).empty_copy()
    return shard, shard.device_copy


@PROPERTY
@given(
    seed=st.integers(0, 10**6),
    pieces=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    distinct=st.sampled_from([None, 1, 40]),
    first=st.integers(0, 300),
    length=st.sampled_from([1, 40, 10**6]),
    share=st.sampled_from([None, 1.0, 0.5, 0.05, 0.0]),
    k=st.sampled_from([1, 10, 200]),
    longest=st.sampled_from([1, 2, 20]),
)
def test_any_span_and_filter_is_answered_as_by_the_cpu(
    device, seed, pieces, distinct, first, length, share, k, longest
):
    (stored, copy), plain = shard_on_device(device), Shard(DIM, 0)
    rng = np.random.default_rng(seed)
    for piece in pieces:
        seqs = stored.watermark + 1 + np.sort(rng.choice(2 * piece, piece, replace=False))
        seqs = np.repeat(seqs, rng.integers(1, longest, piece, endpoint=True))
        vectors = random_rows(len(seqs), seed, distinct)
        for shard in (stored, plain):
            shard.add(seqs, Rows(vectors), [bytes(16)] * len(seqs))
        assert copy.follow(stored.held)
        span = Span(1, first, first + length)
        allowed = None
        if share is not None:
            allowed = np.flatnonzero(rng.random(stored.watermark + 5) < share)
        without = None
        if allowed is not None:
            without = np.setdiff1d(np.arange(stored.watermark + 5), allowed)
        for asked in random_rows(2, seed + 1):
            right = plain.nearest(span, asked, k, Selection(allowed))
            assert stored.nearest(span, asked, k, Selection(allowed)) == right
            for shard in (stored, plain):
                assert shard.nearest(span, asked, k, Selection(without=without)) == right


@pytest.mark.parametrize("share", [None, 0.5])
def test_a_device_that_computes_less_exactly_changes_no_answer(device, share):
    """Of rows that lie so close together, products of ten bits leave out the right ones."""
    rng = np.random.default_rng(0)
    rows = random_rows(1) + 3e-4 * rng.standard_normal((3000, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    (stored, copy), plain = shard_on_device(device), Shard(DIM, 0)
    for shard in (stored, plain):
        shard.add(np.arange(1, 3001), Rows(rows), [bytes(16)] * 3000)
    copy.follow(stored.held)
    cut = (copy._rows.view(torch.int32) & -(2**13)).view(torch.float32)  # as tensor cores do
    copy._rows.copy_(cut)
    assert not copy.fits(stored.vectors)
    allowed = None if share is None else np.flatnonzero(rng.random(3001) < share)
    for asked in random_rows(10, seed=2):
        given = Span(1, 1, 3000), asked, 10, Selection(allowed)
        assert stored.nearest(*given) == plain.nearest(*given)


def take(step, share, number, store, index, memories):
    """Do a step of a history; `memories` are a memory and forks, each of the one before it."""
    if step == "add":
        some = random_rows(1 + int(60 * share), seed=number, distinct=20)
        fill(store, memories[-1], some, start=1000 * number)
    elif step == "fork":
        past = store.view(memories[-1], seq=int(share * store.view(memories[-1]).seq))
        memories.append(store.fork(past, (f"fork {number}",)))
    elif step == "purge" and len(memories) == 1:
        purge(store, memories[0], 1 + int(share * (store.view(memories[0]).seq - 1)))
    elif step == "drop" and len(memories) > 1:
        for name in store.memories()[1:]:
            store.drop(name)
        del memories[1:]
    elif step == "forget":
        index.forget(memories[0])


@settings(PROPERTY, max_examples=20)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "fork", "purge", "drop", "forget"]), st.floats(0, 1, width=16)
        ),
        max_size=8,
    ),
    seed=st.integers(0, 10**6),
)
def test_any_history_is_answered_as_by_an_exact_index(device, steps, seed):
    store, index = open_on_device(device, ":memory:")
    plain = FaissIndex(store, None, exact_rows=None)
    rng = np.random.default_rng(seed)
    memories = [store.make_memory(("a",))]
    fill(store, memories[0], random_rows(40, seed, distinct=15))
    for number, (step, share) in enumerate(steps, start=1):
        take(step, share, number, store, index, memories)
        for memory in memories:
            complete = store.view(memory)
            for view in (complete, store.view(memory, seq=int(rng.integers(complete.seq + 1)))):
                some = np.flatnonzero(rng.random(complete.seq) < rng.random()) + 1
                for allowed in (None, some):
                    asked = random_rows(1, seed=int(rng.integers(1000)))[0]
                    hits = index.search(view, asked, 10, allowed=allowed)
                    assert hits == plain.search(view, asked, 10, allowed=allowed)
    assert index.verify() == []
    store.close()


def test_the_device_is_what_answers_exactly_and_no_codes_are_learned(device, tmp_path, monkeypatch):
    store, index = open_on_device(device, tmp_path / "a.db", exact_rows=50)
    view = fill(store, store.make_memory(("a",)), random_rows(100))
    index.search(view, random_rows(1)[0], 1)
    shard, _ = shard_of(index)
    assert shard.codes is None
    monkeypatch.setattr("evomem_stores.vectors.coarse.Coarse.nearest", lambda *args: 1 / 0)
    assert found(index.search(view, random_rows(100)[70], 1)) == [71]

    def refuse(*args):
        raise RuntimeError("the device was asked")

    monkeypatch.setattr(device_copy.DeviceCopy, "narrow", refuse)
    with pytest.raises(RuntimeError, match="the device was asked"):
        index.search(view, random_rows(1)[0], 1)
    store.close()


def test_small_memories_stay_on_the_cpu(tmp_path):
    store, _ = open_at(tmp_path / "a.db")
    index = FaissIndex(store, None, device=Device("cpu", rows=60))
    for count, there in ((60, False), (1, True)):
        memory = store.make_memory(("a",))
        view = fill(store, memory, random_rows(count))
        index.search(view, random_rows(1)[0], 1)
        assert bool(index._cached[1].on_device) is there
    store.close()


def test_new_rows_are_added_without_copying_all_others(device, monkeypatch):
    made = []
    plain = device_copy._allocate

    def counted(*given):
        made.append(given)
        return plain(*given)

    monkeypatch.setattr(device_copy, "_allocate", counted)
    shard, copy = shard_on_device(device)
    vectors = random_rows(1000)
    for n in range(1000):
        shard.add(np.array([n + 1]), Rows(vectors[n : n + 1]), [bytes(16)])
        assert copy.follow(shard.held)
    assert copy.fits(vectors)
    assert len(made) < 30
    assert copy.nbytes <= 1.25 * vectors.nbytes

    _, other = shard_on_device(device)
    other.follow(Held(DIM, Rows(vectors[:900])))
    other._rows[5] = 0
    other.follow(Held(DIM, Rows(vectors)))
    assert other.fits(np.where(np.arange(1000)[:, None] == 5, np.float32(0), vectors))


def test_processes_with_a_device_and_without_one_share_their_files(device, tmp_path):
    vectors = random_rows(5000)
    store, index = open_at(tmp_path / "a.db", exact_rows=4000)
    view = fill(store, store.make_memory(("a",)), vectors)
    index.search(view, vectors[0], 1)
    index.close()
    assert (tmp_path / "a.db.index" / "1.faiss").exists()
    _, there = open_on_device(device, tmp_path / "a.db", exact_rows=4000)
    view = fill(store, 1, random_rows(30, seed=3), start=10_000)
    assert found(there.search(view, vectors[70], 1)) == [71]
    there.close()
    _, again = open_at(tmp_path / "a.db", exact_rows=4000)
    assert again.verify() == []
    assert found(again.search(view, random_rows(30, seed=3)[7], 1)) == [5008]
    store.close()


# what a device has no room for -----------------------------------------------------------------


def out_of_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.43 GiB.\nGPU 0 has ...")


@pytest.mark.parametrize("exact_rows", [None, 1000], ids=["exact", "codes"])
def test_a_memory_that_does_not_fit_is_searched_on_the_cpu_with_one_warning(
    device, exact_rows, monkeypatch
):
    store, index = open_on_device(device, ":memory:", exact_rows=exact_rows)
    plain = FaissIndex(store, None, exact_rows=None)
    views = [
        fill(store, store.make_memory((str(n),)), random_rows(5000, seed=n), start=10_000 * n)
        for n in range(2)
    ]
    asked = random_rows(1, seed=9)[0]
    monkeypatch.setattr(device_copy, "_allocate", out_of_memory)
    texts = r"index_device='c.*' failed \(CUDA out of memory\. Tried to allocate 1\.43 GiB\.\)"
    with pytest.warns(UserWarning, match=texts) as told:  # noqa: PT031 - said once
        for view in views:
            assert index.search(view, asked, 5) == plain.search(view, asked, 5)
            assert index.search(view, asked, 5) == plain.search(view, asked, 5)
    assert len(told) == 1
    for memory in (1, 2):
        assert (shard_of(index, memory)[0].codes is not None) == bool(exact_rows)
    assert index.verify() == []
    monkeypatch.undo()
    index.search(views[0], asked, 5)
    assert index._cached[1].on_device == 0  # it is not tried again and again
    index.forget(1)
    index.search(views[0], asked, 5)
    assert index._cached[1].on_device > 0
    store.close()


def test_a_memory_that_outgrows_the_device_leaves_it(device, monkeypatch):
    store, index = open_on_device(device, ":memory:")
    memory = store.make_memory(("a",))
    vectors = random_rows(200)
    index.search(fill(store, memory, vectors[:100]), vectors[0], 1)
    assert index._cached[1].on_device
    view = fill(store, memory, vectors[100:])
    monkeypatch.setattr(device_copy, "_allocate", out_of_memory)
    with pytest.warns(UserWarning, match="failed"):
        assert found(index.search(view, vectors[150], 1)) == [151]
    assert index._cached[1].on_device == 0
    store.close()


def test_a_search_that_the_device_fails_at_is_answered_by_the_cpu(device, monkeypatch):
    store, index = open_on_device(device, ":memory:", exact_rows=50)
    vectors = random_rows(5000)
    view = fill(store, store.make_memory(("a",)), vectors)
    index.search(view, vectors[0], 1)
    monkeypatch.setattr(torch.Tensor, "topk", out_of_memory)
    with pytest.warns(UserWarning, match="failed"):
        assert found(index.search(view, vectors[70], 1)) == [71]
    assert found(index.search(view, vectors[71], 1)) == [72]
    assert shard_of(index)[0].codes is not None
    assert index._cached[1].on_device == 0
    store.close()


def test_copies_are_bounded_and_the_least_recently_used_ones_leave(device):
    store, _ = open_at(":memory:")
    size = 100 * DIM * 4
    index = FaissIndex(store, None, device=Device(device, rows=0, max_bytes=int(2.6 * size)))
    views = [
        fill(store, store.make_memory((str(n),)), random_rows(100, seed=n), start=1000 * n)
        for n in range(4)
    ]

    def there():
        return [memory for memory, cached in index._cached.items() if cached.on_device]

    for view in views[:3]:
        index.search(view, random_rows(1)[0], 1)
    assert there() == [2, 3]
    index.search(views[1], random_rows(1)[0], 1)
    index.search(views[3], random_rows(1)[0], 1)
    assert there() == [2, 4]
    for n, view in enumerate(views):
        assert found(index.search(view, random_rows(100, seed=n)[7], 1)) == [8]
    large = fill(store, store.make_memory(("large",)), random_rows(900), start=9000)
    assert found(index.search(large, random_rows(900)[800], 1)) == [801]
    assert there() == [5]  # larger than all there should be, but alone
    store.close()


def test_a_copy_leaves_only_when_no_search_uses_it(device):
    store, _ = open_at(":memory:")
    index = FaissIndex(store, None, device=Device(device, rows=0, max_bytes=1))
    views = [
        fill(store, store.make_memory((str(n),)), random_rows(100), start=1000 * n)
        for n in range(2)
    ]
    index.search(views[0], random_rows(1)[0], 1)
    first, seen = index._cached[1], []

    class Watched:
        def __enter__(self):
            seen.append(first.on_device > 0)

        def __exit__(self, *_):
            seen.append(first.on_device > 0)

    first.lock = Watched()  # type: ignore[assignment]
    index.search(views[1], random_rows(1)[0], 1)
    assert seen == [True, False]
    store.close()


def test_threads_that_take_each_others_copies_off_the_device_find_what_they_seek(device):
    store, _ = open_at(":memory:")
    index = FaissIndex(store, None, device=Device(device, rows=0, max_bytes=1))
    vectors = [random_rows(100, seed=n) for n in range(3)]
    views = [
        fill(store, store.make_memory((str(n),)), rows, start=1000 * n)
        for n, rows in enumerate(vectors)
    ]
    wrong: list[object] = []

    def look(turn):
        try:
            for n in range(60):
                memory, place = (n + turn) % 3, (n * 7 + turn) % 100
                [hit] = found(index.search(views[memory], vectors[memory][place], 1))
                if hit != place + 1:
                    wrong.append((memory, place, hit))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=look, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    store.close()


@pytest.mark.parametrize("how", ["purge", "another's purge", "drop", "put aside", "close"])
def test_vectors_leave_the_device(device, tmp_path, how):
    store, index = open_on_device(device, tmp_path / "a.db", index_bytes=20_000)
    memory = store.make_memory(("a",))
    view = fill(store, memory, random_rows(60))
    asked = random_rows(1)[0]
    index.search(view, asked, 1)
    copy = weakref.ref(shard_of(index)[1]._rows)
    assert copy() is not None
    if how == "purge":
        purge(store, memory, 60)
    elif how == "another's purge":
        other, _ = open_at(tmp_path / "a.db")
        purge(other, memory, 60)
        other.close()
        index.search(store.view(memory), asked, 1)
    elif how == "drop":
        store.drop(("a",))
    elif how == "put aside":
        beside = fill(store, store.make_memory(("b",)), random_rows(120), start=1000)
        index.search(beside, asked, 1)
    else:
        index.close()
    assert copy() is None
    store.close()


def test_vectors_that_differ_on_the_device_are_reported(device):
    store, index = open_on_device(device, ":memory:")
    view = fill(store, store.make_memory(("a",)), random_rows(100))
    index.search(view, random_rows(1)[0], 1)
    assert index.verify() == []
    shard_of(index)[1]._rows[40] *= -1
    assert index.verify() == ["the index of memory 1 has different vectors on its device"]
    store.close()


# opening ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cuda:99", "abacus", "meta"])
def test_a_device_that_is_not_there_is_reported_before_anything_is_written(tmp_path, name):
    with pytest.raises(StoreError, match=f"index_device='{name}' cannot be used here .*leave it out"):  # fmt: skip
        evomem.open(str(tmp_path / "new" / "a.db"), "hash", index_device=name)
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_refused_where_another_searches(tmp_path, new_schema):
    for location, index in ((str(tmp_path / "a.db"), "milvus"), (new_schema(), "pgvector")):
        with pytest.raises(StoreError, match=f"leave it out with index='{index}'"):
            evomem.open(location, "hash", index=index, index_device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_opened_with_a_device_by_its_name(fresh):
    with evomem.open(fresh(), "hash", index_device="cpu") as db:
        memory = db.memory("a")
        memory.add("I adopted a cat.")
        assert [hit.seq for hit in memory.search("cat")] == [1]
        assert db.verify() == []


def test_torch_is_not_imported_without_a_device():
    code = "import evomem, sys; evomem.open(':memory:', 'hash').close(); print('torch' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_half_of_a_gpu_is_left_to_others():
    assert Device("cuda").max_bytes == torch.cuda.mem_get_info("cuda")[1] // 2
