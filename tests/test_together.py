"""What many memories hold, read at once, is what each of them says, whatever has happened between."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem import HashEncoder, Turn
from evomem.errors import HeadMoved, IntegrityError, NotFound, SharedTurns
from evomem.state import Reading, Spec
from tests.stores.counting import counted

NAMES = ("a", "b")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "replace", "delete", "annotate", "purge", "drop", "fork", "other"]),
        st.sampled_from(NAMES),
    ),
    max_size=12,
)


@pytest.fixture
def db(location):
    with evomem.open(location, encoder=HashEncoder(4)) as opened:
        yield opened


def turns_of(memory):
    return [(r.seq, r.id, r.turn.session, dict(r.turn.metadata), r.added) for r in memory.history()]


def assert_current(db):
    """Compare with what each memory says, and with what a new connection reads."""
    together = db.together("root")
    wanted = {names: turns_of(db.memory(*names)) for names in db.memories("root")}
    assert [extract.namespace for extract in together.extracts] == list(wanted)
    for extract in together.extracts:
        assert [tuple(turn) for turn in extract.turns] == wanted[extract.namespace]
    assert db.sizes("root") == {names: len(turns) for names, turns in wanted.items()}
    cosines = together.cosines("coffee")
    assert len(cosines) == len(together.turns)
    scores = {
        (names, hit.record.id): hit.score
        for names in wanted
        for hit in db.memory(*names).search("coffee", k=999, mode="evolvable")
    }
    for (names, turn), cosine in zip(together.turns, cosines.tolist(), strict=True):
        assert cosine == pytest.approx(scores[names, turn.id], abs=1e-5)


def step(db, elsewhere, what, name, number):
    memory = db.memory("root", name)
    ids = [record.id for record in memory.history()]
    if what == "add" or not ids:
        memory.add_many(
            [Turn(user=f"coffee {number} {n}", id=f"{number}-{n}", session="s") for n in range(2)]
        )
    elif what == "replace":
        memory.correct(ids[0], f"tea {number}")
    elif what == "delete":
        memory.delete(ids[-1])
    elif what == "annotate":
        memory.annotate(ids[0], {"number": number})
        memory.add(f"water {number}")
    elif what == "purge":
        memory.purge(ids[0], forks=True)
    elif what == "drop":
        memory.drop()
    elif what == "fork":
        memory.fork(f"fork{number}")
    else:
        elsewhere.memory("root", name).add(f"from elsewhere {number}")


@settings(max_examples=12)
@given(steps=STEPS)
def test_it_is_what_the_memories_say_whatever_happens(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("together") / "a.db"
    with evomem.open(path, HashEncoder(4)) as db, evomem.open(path) as elsewhere:
        db.memory("root", "ever").add("coffee is always there")
        db.memory("rooting").add("not below root")
        for number, (what, name) in enumerate(steps):
            with suppress(SharedTurns, NotFound):
                step(db, elsewhere, what, name, number)
            assert_current(db)


def test_every_kind_of_change_is_seen(db, location):
    with evomem.open(location) as elsewhere:
        for number, what in enumerate(
            ["add", "annotate", "replace", "fork", "delete", "other", "add", "purge", "drop", "add"]
        ):
            with suppress(SharedTurns, NotFound):
                step(db, elsewhere, what, "a", number)
            assert_current(db)


def test_reading_together_again_reads_only_memories_that_changed(db):
    for n in range(20):
        db.memory("root", f"m{n}").add("coffee")
    with counted(db) as work:
        first = db.together("root")
    assert len(work.statements) <= 3
    with counted(db) as work:
        assert db.together("root") is first
    assert (len(work.statements), work.transactions) == (1, 1)
    db.memory("root", "m7").add("tea")
    with counted(db) as work:
        second = db.together("root")
    assert len(work.statements) <= 3
    shared = [a is b for a, b in zip(first.extracts, second.extracts, strict=True)]
    assert shared.count(False) == 1


class Lengths:
    """Reads the length of a text alone: an encoder without latents."""

    spec = Spec("lengths", "lengths", 16)
    asked = 0

    def read(self, state, turns):
        return [Reading(self.vector(turn.user), np.zeros((0, 0), np.float32)) for turn in turns]

    def embed_queries(self, state, queries):
        self.asked += len(queries)
        return np.stack([self.vector(query) for query in queries])

    def count_tokens(self, text):
        return len(text)

    def vector(self, text):
        return np.eye(self.spec.dim, dtype=np.float32)[len(text) % self.spec.dim]


def test_an_encoder_without_latents_embeds_a_query_once_for_all_memories(location):
    encoder = Lengths()
    with evomem.open(location, encoder, embeddings="float32") as db:
        for n in range(5):
            db.memory("root", f"m{n}").add("coffee" + "!" * n)
        assert db.together("root").cosines("coffee!!").tolist() == [0, 0, 1, 0, 0]
        assert encoder.asked == 1


@pytest.mark.parametrize("deleted", [["t0"], ["t2"], ["t0", "t1", "t2"]])
def test_a_memory_whose_newest_turn_is_deleted_is_read_by_another_process(location, deleted):
    with evomem.open(location, HashEncoder(4)) as db:
        memory = db.memory("root", "a")
        memory.add_many([Turn(user=f"coffee {n}", id=f"t{n}") for n in range(3)])
        for id in deleted:
            memory.delete(id)
    with evomem.open(location) as db:
        assert_current(db)


def test_a_state_that_has_moved_on_is_an_error_and_not_a_wrong_answer(tmp_path):
    with evomem.open(tmp_path / "a.db", HashEncoder(4)) as db:
        db.memory("root", "a").add("coffee")
    with evomem.open(tmp_path / "a.db") as db, evomem.open(tmp_path / "a.db") as elsewhere:
        together = db.together("root")
        elsewhere.memory("root", "a").add("tea")
        with pytest.raises(HeadMoved):
            together.cosines("coffee")


def test_an_edited_turn_is_an_error(tmp_path):
    import sqlite3

    with evomem.open(tmp_path / "a.db", HashEncoder(4)) as db:
        db.memory("root", "a").add("coffee", metadata={"stars": 1})
    raw = sqlite3.connect(tmp_path / "a.db")
    raw.execute("""UPDATE turns SET metadata = '{"stars": 5}'""")
    raw.commit()
    raw.close()
    with evomem.open(tmp_path / "a.db") as db, pytest.raises(IntegrityError):
        db.together("root")
