"""A long turn has an embedding for each of its passages, and is one turn for everybody."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem import Turn
from evomem.encoder import HashEncoder
from evomem.errors import EncoderError
from evomem.passages import divide
from evomem.reencode import reencode
from tests.stores.helpers import DAY, downgrade, log, open_at, raw, read_rows, turn, write

WINDOW = 8
FACT = "The wifi password is blue heron"
LONG = " ".join(f"word{n}" for n in range(60)) + f" {FACT} " + "and so on " * 20


class PassageEncoder(HashEncoder):
    """A `HashEncoder` that reads `WINDOW` words at once, and of a longer text the rest in passages.

    It has the fingerprint of the one without, as an encoder that learned it in a later version.
    """

    def read(self, state, turns):
        readings = []
        for item in turns:
            words = item.text.split()
            short = Turn(user=" ".join(words[:WINDOW]))
            [reading] = super().read(state, [short])
            parts = [words[p.start : p.stop] for p in divide(len(words), WINDOW, WINDOW, 2)]
            rows = self.embed_queries(state, [" ".join(part) for part in parts])
            readings.append(replace(reading, passages=rows))
            state = state.after(item, readings[-1])
        return readings


ENCODER = PassageEncoder(32)


@pytest.fixture(params=["FAISS", "pgvector", "Milvus"])
def place(request, tmp_path):
    """Where a database is made, and how it is opened."""
    if request.param == "pgvector":
        return request.getfixturevalue("new_schema")(), {"index": "pgvector"}
    if request.param == "Milvus":
        milvus = request.getfixturevalue("milvus")
        return str(tmp_path / "a.db"), {"index": "milvus", "milvus_uri": milvus}
    return str(tmp_path / "a.db"), {}


@pytest.fixture
def store(location):
    opened, _ = open_at(location)
    yield opened
    opened.close()


@pytest.fixture
def db(place):
    location, options = place
    with evomem.open(location, encoder=ENCODER, **options) as db:
        yield db


def fill(memory):
    memory.add_many(turn(f"note {n}", n) for n in range(20))
    memory.add(LONG, id="long", time=DAY[20])
    memory.add_many(turn(f"remark {n}", n) for n in range(21, 40))


def vectors(memory):
    """All embeddings of a memory's turns, by id."""
    engine = memory._engine
    rows = engine.store.rows(memory._view(), after=0)
    return {row.turn.id: row.reading.embeddings for row in rows}


def best(memory):
    return memory.search(FACT, 40, mode="evolvable")


def test_a_fact_in_the_middle_of_a_long_turn_is_found(db):
    memory = db.memory("a")
    fill(memory)
    assert memory.search(FACT, 3, mode="evolvable")[0].record.id == "long"
    assert memory.search(FACT, 3)[0].record.id == "long"


def test_a_long_turn_is_one_turn_for_people(db):
    memory = db.memory("a")
    fill(memory)
    assert len(vectors(memory)["long"]) > 10
    assert len(memory) == len(memory.history()) == len(best(memory)) == 40
    assert len({hit.seq for hit in best(memory)}) == 40
    assert memory.get("long").turn.user == LONG
    assert db.stats()["turns"] == 40
    assert db.verify() == []


def test_the_score_of_a_long_turn_is_that_of_its_best_passage(db):
    memory = db.memory("a")
    fill(memory)
    [asked] = ENCODER.embed_queries(memory._engine.state(memory._view()), [FACT])
    products = {id: float((rows @ asked).max()) for id, rows in vectors(memory).items()}
    for hit in best(memory):
        assert hit.score == pytest.approx(products[hit.record.id], abs=1e-6)


def test_views_forks_deletions_and_purges_have_the_passages_of_their_turns(db):
    memory = db.memory("a")
    fill(memory)
    assert best(memory.at(seq=21))[0].record.id == "long"
    assert "long" not in [hit.record.id for hit in best(memory.at(seq=20))]
    fork = memory.fork("fork")
    memory.delete("long")
    assert "long" not in [hit.record.id for hit in best(memory)]
    assert best(fork)[0].record.id == "long"
    fork.purge("t3", forks=True)
    assert best(fork)[0].record.id == "long"
    assert len(best(fork)) == 39
    fork.purge("long")
    assert "long" not in [hit.record.id for hit in best(fork)]
    assert db.verify() == []


def test_after_a_purge_a_memory_is_as_if_it_had_never_read_the_turn(db):
    one, other = db.memory("one"), db.memory("other")
    fill(one)
    one.purge("t3")
    other.add_many(row.turn for row in one.history())
    known = vectors(other)
    for id, rows in vectors(one).items():
        assert np.array_equal(rows, known[id])


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=12), k=st.integers(1, 12))
def test_k_hits_are_k_turns_for_any_mix_of_long_and_short_ones(lengths, k):
    with evomem.open(":memory:", encoder=ENCODER) as db:
        memory = db.memory("a")
        memory.add_many(turn("same words " * length, n) for n, length in enumerate(lengths))
        for mode in ("evolvable", "lexical", "hybrid"):
            hits = memory.search("same words", k, mode=mode)
            assert len({hit.seq for hit in hits}) == len(hits) == min(k, len(lengths))


def test_exports_have_the_passages(location, tmp_path):
    with (
        evomem.open(location, encoder=ENCODER) as db,
        evomem.open(":memory:", encoder=ENCODER) as copy,
    ):
        fill(db.memory("a"))
        db.export(tmp_path / "dump")
        copy.load(tmp_path / "dump")
        old, new = vectors(db.memory("a")), vectors(copy.memory("a"))
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[id], new[id]) for id in old)
        assert copy.verify() == []


def test_another_encoder_makes_its_own_passages(location):
    new = PassageEncoder(24)
    with evomem.open(location, encoder=ENCODER) as db:
        fill(db.memory("a"))
    reencode(location, new)
    with evomem.open(location, encoder=new) as db:
        assert vectors(db.memory("a"))["long"].shape == (len(divide(127, 8, 8, 2)) + 1, 24)
        assert best(db.memory("a"))[0].record.id == "long"
        assert db.verify() == []
    reencode(location, ENCODER)
    with evomem.open(location, encoder=ENCODER) as db:
        assert best(db.memory("a"))[0].record.id == "long"
        assert db.verify() == []


def test_a_passage_that_was_changed_directly_in_the_database_is_reported(location):
    store, _ = open_at(location, ENCODER.spec)
    memory = store.make_memory(("a",))
    view = store.view(memory)
    [row] = read_rows(store.state(view), 1, [turn(LONG, 1)], ENCODER)
    store.append(view, [row])
    with raw(location) as execute:
        execute("UPDATE turns SET embedding = ?", (row.reading.embeddings[::-1].tobytes(),))
    assert any("embedding" in problem for problem in store.verify())
    store.close()


def test_a_database_of_a_version_without_passages_continues_with_them(location):
    store, _ = open_at(location)
    view = write(store, store.make_memory(("a",)), [turn(f"note {n}", n) for n in range(5)])
    write(store, view.memory, [turn(LONG, 5)])  # by an encoder that reads its beginning alone
    before = log(store, store.view(view.memory))
    store.close()
    downgrade(location, 6)
    with evomem.open(location, encoder=ENCODER) as db:
        memory = db.memory("a")
        assert log(memory._engine.store, memory._view()) == before
        memory.add(LONG, id="long")
        assert best(memory)[0].record.id == "long"
        assert len(best(memory)) == 7
        assert db.verify() == []


def test_passages_that_cannot_be_stored_are_refused_before_anything_is_written(store):
    memory = store.make_memory(("a",))
    view = store.view(memory)
    [row] = read_rows(store.state(view), 1, [turn(LONG, 1)], ENCODER)
    for passages in (
        row.reading.passages[:, :-1],
        row.reading.passages * 2,
        np.full((1, 32), np.nan, np.float32),
        row.reading.passages.astype(np.float64),
    ):
        reading = replace(row.reading, passages=passages)  # type: ignore[arg-type]
        with pytest.raises(EncoderError, match="passage|embeddings of length"):
            store.append(view, [replace(row, reading=reading)])
    assert store.count(store.view(memory)) == 0
