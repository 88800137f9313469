"""How embeddings are stored: exactly, or in 8 bits a number; and both in one memory."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import evomem
from evomem.errors import IntegrityError, StoreError
from evomem.plugins import store_opener
from evomem.rows import Rows
from evomem.state import Reading
from evomem_stores.log.rows import embedding_count, pack_embeddings, unpack_embeddings, unpack_many
from evomem_stores.vectors.held import Held
from tests.stores.helpers import ENCODER, found, query, turn, write

TEXTS = [f"note {n} on {'tea' if n % 3 else 'coffee'}" for n in range(12)]


def random_vectors(count, dim, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(
    arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 9)),
           elements=st.floats(-1, 1, width=32, allow_subnormal=False)),
)  # fmt: skip
def test_rounding_to_8_bits_is_close_and_changes_nothing_the_second_time(vectors):
    once = Rows.quantized(vectors)
    off = np.abs(once[:] - vectors)
    assert (off <= np.abs(vectors).max(axis=1, initial=0, keepdims=True) / 60 + 1e-37).all()
    lengths, right = (np.linalg.norm(rows.astype(float), axis=1) for rows in (once[:], vectors))
    np.testing.assert_allclose(lengths, right, rtol=2e-5, atol=1e-37)
    again = Rows.quantized(once[:])
    assert np.array_equal(again[:], once[:])


@pytest.mark.parametrize("form", ["float32", "int8"])
@pytest.mark.parametrize(("passages", "dim"), [(0, 32), (0, 7), (2, 7), (1, 7), (3, 384)])
def test_stored_embeddings_tell_their_form_and_number(form, passages, dim):
    vectors = random_vectors(1 + passages, dim)
    reading = Reading(vectors[0], np.zeros((0, 0), np.float32), passages=vectors[1:])
    data = pack_embeddings(reading, form)
    assert len(data) % 2 == (form == "int8")
    assert embedding_count(len(data), dim) == 1 + passages
    rows = unpack_embeddings(data, dim)
    assert np.array_equal(rows[:], Rows.of(vectors, form)[:])
    if not passages:
        assert np.array_equal(unpack_many([data, data], dim)[:], rows[:][[0, 0]])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-2],
        lambda data: data + b"\0\0",
        lambda data: b"\7" + data[1:],
        lambda data: b"\x08",
    ],  # fmt: skip
)
def test_other_bytes_are_no_embedding(damage):
    reading = Reading(random_vectors(1, 6)[0], np.zeros((0, 0), np.float32))
    with pytest.raises(ValueError, match="embedding"):
        unpack_embeddings(damage(pack_embeddings(reading, "int8")), 6)


@given(
    head=st.integers(0, 5),
    pieces=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["int8", "float32"])), max_size=5),
    head_form=st.sampled_from(["int8", "float32"]),
)
def test_held_rows_are_those_that_were_added(head, pieces, head_form):
    first = Rows.of(random_vectors(head, 5), head_form)
    stored, right = Held(5, first), first[:]
    for seed, (count, form) in enumerate(pieces):
        rows = Rows.of(random_vectors(count, 5, seed + 1), form)
        stored.add(rows)
        right = np.concatenate([right, rows[:]])
        assert np.array_equal(stored.between(0, len(right)), right)
        assert np.array_equal(stored.between(0, len(stored)), right)
        places = np.random.default_rng(seed).integers(0, max(1, len(right)), 7)[
            : 7 * bool(len(right))
        ]
        assert np.array_equal(stored.take(places), right[places])
        assert np.array_equal(np.concatenate([part[:] for part in stored.parts]), right)
    half = len(right) // 2
    assert np.array_equal(stored.between(0, half), right[:half])
    assert np.array_equal(stored.between(half, len(right)), right[half:])


def opened(path, spec=ENCODER.spec, **options):
    return store_opener(str(path))(str(path), spec, **options)


def test_a_new_database_keeps_8_bits_and_an_old_one_its_own_form_until_it_is_asked(tmp_path):
    exact = tmp_path / "exact.db"
    store, index = opened(exact)
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn(text, n) for n, text in enumerate(TEXTS)])
    before = index.search(view, query("tea"), 5)
    store.close()
    store, index = opened(exact, embeddings="int8")  # it is not new
    index._min_new_rows = 1
    assert store.stats()["embeddings"] == "float32"
    assert index.search(store.view(memory), query("tea"), 5) == before
    sizes = store.compact("int8")
    assert store.stats()["embeddings"] == "int8"
    assert sizes[1] <= sizes[0]
    assert store.verify() == []
    view = write(store, memory, [turn("more tea", 20)])
    after = index.search(view, query("tea"), 5)
    rows = {row.seq: row.reading.embedding for row in store.rows(view, after=0)}
    assert dict(after) == {
        n: pytest.approx(float(rows[n] @ query("tea")), abs=1e-6) for n, _ in after
    }
    assert all(
        dict(after)[n] == pytest.approx(score, abs=0.01) for n, score in before if n in dict(after)
    )
    assert index.verify() == []
    store.close()
    with closing(sqlite3.connect(exact)) as connection:
        [sizes] = connection.execute("SELECT group_concat(DISTINCT length(embedding)) FROM turns")
    assert sizes == (str(1 + 4 + 32 + 0),)


def test_both_forms_in_one_memory_are_searched_as_they_are(tmp_path):
    store, index = opened(tmp_path / "a.db")
    memory = store.make_memory(("a",))
    write(store, memory, [turn(text, n) for n, text in enumerate(TEXTS[:6])])
    store._connections.embeddings = "int8"
    view = write(store, memory, [turn(text, n) for n, text in enumerate(TEXTS[6:], 6)])
    rows = {row.seq: row.reading.embedding for row in store.rows(view, after=0)}
    right = {n: float(row @ query("tea")) for n, row in rows.items()}
    for mixed in (index, opened(tmp_path / "a.db")[1]):
        hits = mixed.search(view, query("tea"), 12)
        assert dict(hits) == {n: pytest.approx(right[n], abs=1e-6) for n in right}
    assert store.verify() == []
    store.compact("float32")
    assert found(index.search(store.view(memory), query("tea"), 12)) == found(hits)
    assert store.verify() == []
    store.close()


def test_a_changed_embedding_is_not_stored_again(tmp_path):
    store, _ = opened(tmp_path / "a.db")
    write(store, store.make_memory(("a",)), [turn(text, n) for n, text in enumerate(TEXTS)])
    store.close()
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute("UPDATE turns SET embedding = zeroblob(128) WHERE seq = 3")
    store, _ = opened(tmp_path / "a.db")
    with pytest.raises(IntegrityError, match="turn 3"):
        store.compact("int8")
    assert store.stats()["embeddings"] == "float32"
    store.close()


def test_a_form_that_is_none_is_refused(tmp_path):
    with pytest.raises(StoreError, match="embeddings must be float32 or int8, got 'half'"):
        evomem.open(tmp_path / "a.db", "hash", embeddings="half")  # type: ignore[arg-type]
    with evomem.open(tmp_path / "a.db", "hash") as db:
        assert db.stats()["embeddings"] == "int8"
        with pytest.raises(StoreError, match="got 'half'"):
            db.compact("half")  # type: ignore[arg-type]


def test_an_export_of_8_bits_is_loaded_as_it_was(tmp_path):
    with evomem.open(tmp_path / "a.db", "hash:32") as db:
        db.memory("m").add_many([evomem.Turn(user=text) for text in TEXTS])
        db.export(tmp_path / "dump")
        before = db.memory("m").search("tea", 5, mode="evolvable")
    with evomem.open(tmp_path / "b.db", "hash:32") as db:
        db.load(tmp_path / "dump")
        assert db.memory("m").search("tea", 5, mode="evolvable") == before
        assert db.verify() == []
