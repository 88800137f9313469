"""Which later turns and answers a turn had a part in."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem import Turn
from evomem.encoder import HashEncoder
from evomem.errors import DatabaseDamaged, NotFound
from evomem.influence import Influence
from evomem.state import Reading, State
from tests.stores.helpers import raw

ENCODER = HashEncoder(32)
TOLD = st.lists(
    st.tuples(st.integers(1, 30), st.lists(st.integers(0, 40), max_size=3)),
    min_size=2,
    max_size=40,
)


def turns_of(told):
    """Turns of so many words, which decide the chunks, that recall some of the earlier ones."""
    return [
        Turn(
            user=" ".join(f"w{n}x{word}" for word in range(words)),
            id=str(n),
            recalled=[str(m) for m in recalled if m < n],
        )
        for n, (words, recalled) in enumerate(told)
    ]


def rows(memory):
    store = memory._engine.store
    return store.rows(store.view(store.find_memory(memory.namespace)), after=0)


def seen_by_each(rows):
    """The ids that each turn was read in the light of, by running the queue with ids for latents."""
    spec = dataclasses.replace(ENCODER.spec, width=1)
    state: State[Turn] = State.empty(spec)
    seen = {}
    for place, row in enumerate(rows):
        past = state.queue if row.reading.opens_chunk else state.chunk_queue
        numbers = {int(number) for number in np.concatenate([past, state.queue])[:, 0]}
        ids = {rows[number].turn.id for number in numbers}
        if not row.reading.opens_chunk:
            ids |= {turn.id for turn in state.open}
        seen[row.turn.id] = ids
        mark = np.array([[place]], np.float32)
        state = state.after(row.turn, Reading(row.reading.embedding, mark, row.reading.opens_chunk))
    return seen


@settings(max_examples=20)
@given(told=TOLD, which=st.integers(0, 39), forked=st.integers(1, 39), gone=st.integers(0, 39))
def test_influence_is_what_running_the_queue_shows(told, which, forked, gone):
    turns = turns_of(told)
    which, forked, gone = which % len(turns), 1 + forked % len(turns), gone % len(turns)
    with evomem.open(":memory:", ENCODER) as db:
        parent = db.memory("a")
        parent.add_many(turns[:forked])
        memory = parent.fork("b")
        memory.add_many(turns[forked:])
        if gone != which:
            memory.purge(str(gone))
        memory.delete(turns[-1].id) if gone != len(turns) - 1 else None
        influence = memory.influence(str(which))
        log = rows(memory)
    ids = [row.turn.id for row in log]
    later = ids[ids.index(str(which)) + 1 :]
    direct = [id for id in later if str(which) in seen_by_each(log)[id]]
    assert list(influence.direct) == direct
    assert list(influence.indirect) == [id for id in later if id not in direct]
    reached = {str(which)}
    for row in log:
        if reached & set(row.turn.recalled):
            reached.add(row.turn.id)
    assert list(influence.answers) == [id for id in ids if id in reached - {str(which)}]


@settings(max_examples=15)
@given(told=st.lists(st.integers(1, 30), min_size=2, max_size=30), which=st.integers(0, 29))
def test_a_purge_changes_only_turns_within_its_influence(told, which):
    turns = turns_of([(words, []) for words in told])
    which %= len(turns)
    with evomem.open(":memory:", ENCODER) as db:
        memory = db.memory("a")
        memory.add_many(turns)
        influence = memory.influence(str(which))
        before = {row.turn.id: row.reading.embedding for row in rows(memory)}
        memory.purge(str(which))
        changed = {
            row.turn.id
            for row in rows(memory)
            if not np.array_equal(row.reading.embedding, before[row.turn.id])
        }
    assert changed <= {*influence.direct, *influence.indirect}
    in_queue = [turn.id for turn in turns[which + 1 : which + 1 + ENCODER.spec.capacity]]
    assert set(in_queue) <= changed & set(influence.direct)


def test_everything_after_the_queue_changes_with_a_recurrent_encoder(db):
    memory = db.memory("a")
    memory.add_many([Turn(user=f"note {n}", id=str(n)) for n in range(30)])
    influence = memory.influence("3")
    before = {row.turn.id: row.reading.embedding for row in rows(memory)}
    memory.purge("3")
    changed = [
        row.turn.id
        for row in rows(memory)
        if not np.array_equal(row.reading.embedding, before[row.turn.id])
    ]
    assert (*influence.direct, *influence.indirect) == tuple(changed)
    assert len(influence.direct) >= 8
    assert influence.indirect


def test_an_encoder_without_memory_spreads_nothing():
    class Memoryless(HashEncoder):
        """The same words, and no queue."""

        def __init__(self):
            super().__init__(32)
            self._spec = dataclasses.replace(
                self._spec, fingerprint="memoryless", latents=0, width=0, capacity=0
            )

        def read(self, state, turns):
            vectors = self.embed_queries(state, [turn.text for turn in turns])
            return [Reading(vector, np.zeros((0, 0), np.float32)) for vector in vectors]

        def _embed(self, words, state):
            return words

    with evomem.open(":memory:", Memoryless()) as db:
        memory = db.memory("a")
        memory.add_many([Turn(user="x", id="0"), Turn(user="y", id="1", recalled=["0"])])
        assert memory.influence("0") == Influence(("a",), "0", (), (), ("1",))


def test_forks_that_hold_the_turn_are_looked_at_too(db):
    memory = db.memory("a")
    memory.add("before", id="t0")
    before = memory.fork("earlier")
    memory.add("a lie", id="lie", source="web")
    memory.add("so?", reply="As you said.", id="t1", recalled=["lie"])
    copy = memory.fork("copy")
    copy.add("and?", reply="Again.", id="t2", recalled=["t1"])
    copy.purge("t0")  # from here on the fork has copies of its own
    before.add("another", id="lie")
    db.memory("a", "stranger").add("a lie", id="lie")
    influence = memory.influence("lie")
    assert (influence.direct, influence.indirect, influence.answers) == (("t1",), (), ("t1",))
    assert influence.forks == (Influence(("a", "copy"), "lie", ("t1", "t2"), (), ("t1", "t2")),)
    assert memory.at(seq=2).influence("lie") == Influence(("a",), "lie", (), (), ())


def test_the_answers_of_a_purged_turn_are_still_found(db):
    memory = db.memory("a")
    memory.add("a lie", id="lie")
    memory.add("so?", reply="Yes.", id="t1", recalled=["lie"])
    memory.purge("lie")
    assert memory.influence("lie") == Influence(("a",), "lie", (), (), ("t1",))
    with pytest.raises(NotFound, match="no turn with the id 'never', nor one that recalled it"):
        memory.influence("never")
    with pytest.raises(NotFound):
        db.memory("b").influence("lie")


@pytest.mark.parametrize("recalled", ['"lie"', "[1]", "{}", "["])
def test_recalled_ids_that_were_edited_are_refused(db, tmp_path, recalled):
    memory = db.memory("a")
    memory.add("a lie", id="lie")
    memory.add("so?", reply="Yes.", id="t1", recalled=["lie"])
    with raw(str(tmp_path / "test.db")) as execute:
        execute(f"UPDATE turns SET recalled = '{recalled}' WHERE id = 't1'")
    with pytest.raises(DatabaseDamaged, match="turn 2 of memory 1"):
        memory.influence("lie")


def test_influence_needs_no_encoder(tmp_path):
    with evomem.open(str(tmp_path / "a.db"), HashEncoder()) as db:
        db.memory("a").add_many([Turn(user=f"note {n}", id=str(n)) for n in range(5)])
    with evomem.open(str(tmp_path / "a.db")) as db:
        assert db.memory("a").influence("2").direct == ("3", "4")
        assert db._engine._encoder is None
