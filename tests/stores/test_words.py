"""The word index: runs of turns that are folded as the log grows, and what it was before."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, select, update

from evomem.errors import DatabaseDamaged
from evomem.store import Span
from evomem_stores import opening
from evomem_stores.database.tables import MAX_SEQ, postings, runs
from evomem_stores.log.reanalysis import reanalyse
from evomem_stores.upkeep.migrations import MIGRATIONS
from evomem_stores.words import inverted_index
from tests.stores.helpers import downgrade, log, open_at, purge, raw, turn, write
from tests.stores.helpers import words as found

TERMS = ["cat", "dog", "oslo", "東京"]
TURN = st.lists(st.sampled_from(TERMS), max_size=6)
ADD = st.tuples(st.just("add"), st.lists(st.tuples(st.integers(1, 4), TURN), min_size=1, max_size=9))  # fmt: skip
CUT = st.tuples(st.just("cut"), st.integers(1, 30))


@pytest.fixture
def store(location):
    """A store of a new database."""
    made, _ = open_at(location)
    with closing(made):
        yield made


@settings(max_examples=40)
@given(steps=st.lists(ADD | CUT, min_size=1, max_size=12), spans=st.data())
def test_the_index_has_what_was_added_and_was_not_cut(store, steps, spans, monkeypatch):
    monkeypatch.setattr(inverted_index, "BLOCK_SIZES", (2, 4))
    memory = store.make_memory(("a",))
    with store._connections.writing() as connection:
        inverted_index.clear(connection)
        texts: dict[int, list[str]] = {}
        last = 0
        for step, given_ in steps:
            if step == "add":
                new = {}
                for gap, item in given_:
                    last += gap
                    new[last] = item
                inverted_index.add(connection, memory, new)
                texts |= new
            else:
                first = inverted_index.cut(connection, memory, given_)
                assert first <= given_
                kept = {seq: item for seq, item in texts.items() if seq < given_}
                again = {seq: item for seq, item in kept.items() if seq >= first}
                inverted_index.add(connection, memory, again)
                texts, last = kept, max(last, given_)
            span = Span(memory, *sorted(spans.draw(st.tuples(*[st.integers(1, 60)] * 2))))
            for where in (span, Span(memory, 1, MAX_SEQ)):
                assert read(connection, where) == plain(texts, where)
            check_runs(connection, texts)
        everything = [(memory, seq, term, count) for seq, item in texts.items() for term, count in Counter(item).items()]  # fmt: skip
        assert sorted(inverted_index.all_postings(connection)) == sorted(everything)
        inverted_index.clear(connection)


def read(connection, span):
    counted = inverted_index.counts(connection, span, TERMS)
    return {term: dict(zip(*map(list, both), strict=True)) for term, both in counted.items()}


def plain(terms_of, span):
    inside = {
        seq: Counter(terms_of[seq]) for seq in sorted(terms_of) if span.first <= seq <= span.last
    }
    return {term: {seq: c[term] for seq, c in inside.items() if c[term]} for term in TERMS}


def check_runs(connection, terms_of):
    """They are those of the turns, apart from each other, and one for each stretch that is full."""
    made = connection.execute(select(runs.c.first, runs.c.last).order_by(runs.c.last)).all()
    stored = [seq for seq in sorted(terms_of) for run in made if run.first <= seq <= run.last]
    assert stored == sorted(terms_of)
    assert all(run.first in terms_of and run.last in terms_of for run in made)
    now = max(terms_of, default=0)
    for size in inverted_index.BLOCK_SIZES:
        full = [run.first // size for run in made if run.first // size < now // size]
        assert len(full) == len(set(full))


def test_truncated_postings_are_reported_and_never_trusted(store):
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn("a cat", 1), turn("a dog", 2)])
    with store._connections.writing() as connection:
        own = postings.c.term == "cat"
        connection.execute(update(postings).where(own).values(seqs=bytes(3)))
    with pytest.raises(DatabaseDamaged, match="verify --repair"):
        store.lexical(view, "cat")
    assert found(store, view, "dog").keys() == {2}
    assert store.verify() == ["the word index of memory 1 does not agree with its turns"]


@pytest.mark.parametrize("at_once", [1, 7, 64, 3000])
def test_the_words_of_a_long_memory_lie_in_few_runs(store, at_once):
    memory = store.make_memory(("a",))
    with store._connections.writing() as connection:
        for first in range(1, 3001, at_once):
            new = range(first, min(first + at_once, 3001))
            inverted_index.add(connection, memory, {seq: ["cat"] for seq in new})
        lengths = [run.last - run.first + 1 for run in connection.execute(select(runs))]
        [(seqs, counts)] = inverted_index.counts(
            connection, Span(memory, 1, 3000), ["cat"]
        ).values()
    assert sum(lengths) == 3000
    assert len(lengths) <= 31 + 31 + 2
    assert (seqs.tolist(), set(counts.tolist())) == (list(range(1, 3001)), {1})


def test_forgetting_changes_no_words_of_another_memory(store):
    memories = [store.make_memory((name,)) for name in "abc"]
    for memory in memories:
        for n in range(40):
            write(store, memory, [turn(f"a cat and the dog {n}", n)])

    def held(memory):
        with store._connections.reading() as connection:
            own = select(postings).where(postings.c.memory == memory)
            return connection.execute(own.order_by(postings.c.last, postings.c.term)).all()

    before = {memory: held(memory) for memory in memories}
    purge(store, memories[0], 35)
    assert held(memories[0]) != before[memories[0]]
    store.drop(("b",))
    assert held(memories[1]) == []
    assert held(memories[2]) == before[memories[2]]
    assert store.verify() == []


# what it was before ------------------------------------------------------------------------------

FTS5 = """
    CREATE VIRTUAL TABLE terms USING fts5(
        body, content='', columnsize=0, tokenize="ascii tokenchars '_'");
    CREATE VIRTUAL TABLE postings USING fts5vocab('terms', 'instance');
"""
TABLE = """
    CREATE TABLE terms (memory BIGINT, term TEXT, seq BIGINT, count INTEGER);
    INSERT INTO terms VALUES (1, 'purged', 1, 1)
"""


@pytest.mark.parametrize("worn", [False, True])
def test_a_database_of_the_former_word_index_is_opened_and_has_the_new_one(location, worn):
    assert [step.__name__ for step in MIGRATIONS].index("m003_words") == 2
    store, _ = open_at(location)
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn(f"note {n}", n) for n in range(50)])
    before, scores = log(store, view), found(store, view, "note 7")
    assert scores
    store.close()
    make_former(location, worn)
    store, _ = open_at(location)
    with closing(store):
        assert log(store, store.view(memory)) == before
        assert found(store, store.view(memory), "note 7") == scores
        assert store.verify() == []
        with store._connections.reading() as connection:
            assert "terms" not in inspect(connection).get_table_names()


def test_its_words_are_read_again_by_one_of_all_who_open_it_at_once(location, monkeypatch):
    store, _ = open_at(location)
    memory = store.make_memory(("a",))
    before = log(store, write(store, memory, [turn(f"note {n}", n) for n in range(9)]))
    store.close()
    make_former(location, worn=False)
    written: list[object] = []

    def slowly(connection):
        written.append(connection)
        time.sleep(0.3)  # the others see meanwhile that somebody has to
        reanalyse(connection)

    monkeypatch.setattr(opening, "reanalyse", slowly)
    with ThreadPoolExecutor(4) as pool:
        stores = [store for store, _ in pool.map(open_at, [location] * 4)]
    assert len(written) == 1
    for store in stores:
        assert log(store, store.view(memory)) == before
        assert store.verify() == []
        store.close()


def make_former(location, worn):
    downgrade(location, 2)
    if location.startswith("postgresql"):
        with raw(location) as execute:
            execute(TABLE)
        return
    with closing(sqlite3.connect(location, isolation_level=None)) as connection:
        connection.executescript(FTS5)
        say = "INSERT INTO terms (rowid, body) VALUES (?, 'm1_purged m1_cat')"
        # Merged so often, it is taken for damaged by the SQLite of Debian 12; then nothing can be
        # read or written, nor the table dropped.
        with suppress(sqlite3.DatabaseError):
            for n in range(2100 if worn else 1):
                connection.execute(say, (3 * n,))
                connection.execute(say, (3 * n + 1,))
                connection.execute("INSERT INTO terms (terms) VALUES ('optimize')")
