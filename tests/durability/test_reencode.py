"""Changing the encoder: refused by default; on request, read again beside the old, then at once."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import evomem
from evomem.encoder import HashEncoder
from evomem.errors import FingerprintMismatch
from evomem.reencode import reencode
from evomem.state import State
from tests.durability.plans import SECRET, forget, fork, open_database, turn
from tests.durability.reference import codes, snapshot
from tests.stores.helpers import bytes_held

OLD, NEW = HashEncoder(16), HashEncoder(24)


@pytest.fixture
def place(location):
    """A database with forks, purged and deleted turns, and a trunk that was dropped."""
    with open_database(location) as db:
        _tell(db)
    return location


def _tell(db):
    for name in ("m", "n", "gone"):
        db.memory(name).add_many([turn(n) for n in range(1, 12)])
    fork("m", "f")(db)
    db.memory("m", "f").add_many([turn(n) for n in range(20, 25)])
    db.memory("m", "f").fork("g").add_many([turn(30)])
    db.memory("gone").fork("h").add_many([turn(40)])
    db.memory("gone").drop()
    forget("n", "t4")(db)
    db.memory("n").delete("t5")


def _expected():
    """What a database holds that was of the new encoder from the start."""
    with evomem.open(":memory:", NEW) as db:
        _tell(db)
        return snapshot(db)


class Failing(HashEncoder):
    """An encoder that gives up after so many turns."""

    def __init__(self, turns):
        super().__init__(NEW.spec.dim)
        self.left = turns

    def read(self, state, turns):
        self.left -= len(turns)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().read(state, turns)


def test_another_encoder_is_refused_unless_asked_for(place):
    with open_database(place) as db:
        before = snapshot(db)
    with pytest.raises(FingerprintMismatch):
        evomem.open(place, NEW)
    with open_database(place) as db:
        assert snapshot(db) == before
        assert db.verify() == []


@pytest.mark.parametrize("workers", [1, 3])
def test_a_reencoded_database_equals_one_that_was_of_that_encoder_from_the_start(place, workers):
    seen = []
    count = reencode(place, NEW, workers=workers, progress=lambda *n: seen.append(n))
    assert seen[-1] == (count, count)
    with evomem.open(place, NEW) as db:
        assert snapshot(db) == _expected()
        assert db.verify() == []
        assert db.encoder.spec.fingerprint == NEW.spec.fingerprint
        db.memory("m").add_many([turn(99)])
        assert db.memory("m").search("says 99", 1, mode="lexical")[0].record.id == "t99"
    assert reencode(place, NEW) == 0


def test_interrupted_it_continues_where_it_was(place, monkeypatch):
    monkeypatch.setattr("evomem.reencode.BATCH", 3)
    with pytest.raises(KeyboardInterrupt):
        reencode(place, Failing(20))
    with open_database(place) as db:
        assert db.verify() == []
        assert db.stats()["other_encoders"] == ["hash:24"]
        total = db.stats()["turns"]
    assert 0 < reencode(place, NEW) <= total - 18
    with evomem.open(place, NEW) as db:
        assert snapshot(db) == _expected()


def test_until_the_switch_everything_continues_and_after_it_every_process_gets_an_error(place):
    """Others add, purge and search meanwhile; nobody ever compares vectors of two encoders."""
    entered, go_on = threading.Event(), threading.Event()

    class Waiting(HashEncoder):
        def read(self, state, turns):
            entered.set()
            assert go_on.wait(60)
            return super().read(state, turns)

    with open_database(place) as db:
        thread = threading.Thread(target=reencode, args=(place, Waiting(NEW.spec.dim)))
        thread.start()
        assert entered.wait(60)
        db.memory("n").add_many([turn(60)])
        db.memory("n").purge("t2")
        assert db.memory("n").search("says 60", 1, mode="lexical")[0].record.id == "t60"
        go_on.set()
        thread.join(60)
        for call in (
            lambda: db.memory("n").search("the cat"),
            lambda: db.memory("n").add("one more"),
            lambda: db.memory("new").add("one more"),
            lambda: db.memory("n").history(),
            lambda: db.memory("n").fork("x"),
        ):
            with pytest.raises(FingerprintMismatch, match="open it again"):
                call()
    with evomem.open(place) as db:
        assert "t2" not in [record.id for record in db.memory("n").history()]
        assert db.memory("n").search("says 60", 1, mode="lexical")[0].record.id == "t60"
        assert db.verify() == []
        assert db.memories() == [("gone", "h"), ("m",), ("m", "f"), ("m", "f", "g"), ("n",)]


def test_the_old_readings_are_kept_until_dropped_and_make_the_way_back_short(place):
    with open_database(place) as db:
        before = snapshot(db)
    reencode(place, NEW)
    assert reencode(place, OLD) == 0  # all of them were there still
    with open_database(place) as db:
        assert snapshot(db) == before
        assert db.stats()["other_encoders"] == ["hash:24"]
        assert db.drop_generations() == ["hash:24"]
        assert "other_encoders" not in db.stats()
        assert db.verify() == []
        [reading] = NEW.read(State.empty(NEW.spec), [turn(1)])
        db.compact()
        assert reading.embedding.tobytes() not in bytes_held(place)


def test_a_purge_reaches_what_other_encoders_made_of_the_turns(place):
    with open_database(place) as db:
        db.memory("m").add_many([turn(70, f"{SECRET}{{}} said")])
    reencode(place, NEW)
    rows = {}
    for encoder in (OLD, NEW):
        with evomem.open(":memory:", encoder) as db:
            _tell(db)
            db.memory("m").add_many([turn(70, f"{SECRET}{{}} said")])
            store = db._engine.store
            rows[encoder.spec.name] = store.rows(db.memory("m")._view(), after=0)[-1]
    vectors = [codes(row.reading.embeddings) for row in rows.values()]
    before = bytes_held(place)
    assert all(vector in before for vector in vectors)
    with evomem.open(place, NEW) as db:
        db.memory("m").purge("t70")
        if place.startswith("postgresql"):  # which overwrites nothing by itself
            db.compact()
        after = bytes_held(place)
        assert not any(trace in after for trace in (*vectors, SECRET.encode()))
    reencode(place, OLD)
    with open_database(place) as db:
        assert "t70" not in [record.id for record in db.memory("m").history()]
        assert db.verify() == []


def test_a_damaged_reading_of_another_encoder_is_reported(place):
    reencode(place, NEW)
    with evomem.open(place, NEW) as db:
        store: Any = db._engine.store
        with store._connections.writing() as connection:
            connection.exec_driver_sql('UPDATE readings SET embedding = key FROM turns WHERE readings."row" = turns."row" AND seq = 7')  # fmt: skip
        assert any("another encoder" in fault for fault in db.verify())


def test_vectors_of_two_encoders_never_meet_in_the_index(place):
    with open_database(place) as db:
        db.memory("m").search("the cat")
    reencode(place, NEW)
    with evomem.open(place, NEW) as db:
        hits = db.memory("m").search("says 7 of the cat", 20, mode="evolvable")
        state = db._engine.store.state(db.memory("m")._view())
        query = NEW.embed_queries(state, ["says 7 of the cat"])[0]
        rows = db._engine.store.rows(db.memory("m")._view(), after=0)
        cosines = {row.seq: float(np.dot(row.reading.embedding, query)) for row in rows}
        assert {hit.seq: hit.score for hit in hits} == pytest.approx(cosines, abs=1e-6)


class Rolled(HashEncoder):
    """Another encoder of the same shapes."""

    @property
    def spec(self):
        return replace(super().spec, fingerprint="rolled")

    def read(self, state, turns):
        rolled = (replace(item, embedding=np.roll(item.embedding, 1)) for item in super().read(state, turns))  # fmt: skip
        return list(rolled)


@pytest.mark.parametrize("new", [NEW, Rolled(16)], ids=["another dimension", "the same"])
def test_pgvector_s_vectors_are_replaced_by_those_of_the_new_encoder(new_schema, new):
    place = new_schema()
    options: dict[str, Any] = {"index": "pgvector", "hnsw_rows": 5}
    with open_database(place, embeddings="float32", **options) as db:
        _tell(db)
        db.memory("m").search("the cat")
        assert _copied(db) == 11
        reencode(place, new, **options)
        with pytest.raises(FingerprintMismatch, match="open it again"):
            db.memory("m").search("the cat")
    with evomem.open(place, new, **options) as db:
        assert _copied(db) == 0
        rows = db._engine.store.rows(db.memory("m")._view(), after=0)
        for row in rows:
            view, own = db.memory("m")._view(), row.reading.embedding
            assert dict(db._engine.index.search(view, own, 1)) == pytest.approx(
                {row.seq: 1.0}, abs=1e-4
            )
        assert db.verify() == []


def _copied(db):
    with db._engine.store._connections.reading() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM vectors").scalar()
