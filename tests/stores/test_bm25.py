"""The scores of words: BM25 against bm25s, and whose statistics count."""

from __future__ import annotations

import itertools

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.encoder import HashEncoder
from evomem.records import Turn
from evomem.reencode import reencode
from evomem_stores.words import bm25
from evomem_stores.words.terms import query_terms, terms
from tests.stores.helpers import open_at, purge, raw, turn, words, write

WORDS = "cat dog paris oslo ran running runs the a 東京 東京都 ネコ straße CAFÉ naïve 42 x_y don't".split()
TEXTS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=12
)
PROPERTY = settings(max_examples=30)
NUMBERS = itertools.count(1)


@pytest.fixture
def store(location):
    opened, _ = open_at(location)
    yield opened
    assert opened.verify() == []
    opened.close()


def new_memory(store):
    """A memory beside those of other examples, none of which has a part in its scores."""
    return store.make_memory((f"m{next(NUMBERS)}",))


@PROPERTY
@given(texts=TEXTS, asked=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
def test_scores_equal_those_of_bm25s(store, texts, asked):
    corpus = [terms(text) for text in texts]
    reference = bm25s.BM25(method="lucene", k1=bm25.K1, b=bm25.B)
    reference.index(corpus, show_progress=False)
    expected = np.zeros(len(texts))
    for term, weight in query_terms(" ".join(asked)).items():
        if term in reference.vocab_dict:
            expected += weight * reference.get_scores([term])
    memory = new_memory(store)
    write(store, memory, [turn(text, n) for n, text in enumerate(texts, start=1)])
    scores = words(store, store.view(memory), " ".join(asked))
    dense = [scores.get(seq, 0.0) for seq in range(1, len(texts) + 1)]
    np.testing.assert_allclose(dense, expected, atol=1e-5)
    assert all(score > 0 for score in scores.values())


@PROPERTY
@given(texts=TEXTS, data=st.data())
def test_only_what_a_view_shows_has_a_part_in_its_scores(store, texts, data):
    """Other memories, later turns, deleted and purged ones: none moves a score."""
    turns = [turn(text, n) for n, text in enumerate(texts, start=1)]
    cut = data.draw(st.integers(0, len(texts)))
    point = data.draw(st.integers(0, cut))
    gone = data.draw(st.sets(st.integers(1, len(texts)), max_size=2))
    write(store, new_memory(store), [turn("cat dog oslo paris 東京", n) for n in range(9)])
    memory = new_memory(store)
    write(store, memory, turns[:point])
    child = store.fork(store.view(memory), (f"m{next(NUMBERS)}",))
    write(store, memory, [turn("cat cat cat dog paris", 99)])  # the parent goes on: not seen
    view = write(store, child, turns[point:])
    for number, seq in enumerate(sorted(gone)):
        if number:
            store.hide(view, [seq])
        else:
            purge(store, child, seq)
            view = store.view(child)
    view = store.view(child, seq=cut)
    fresh = new_memory(store)
    left = [seq for seq in range(1, cut + 1) if seq not in gone]
    write(store, fresh, [turns[seq - 1] for seq in left])
    for query in ("cat dog", "running in Paris", "東京", "nothing here"):
        expected = words(store, store.view(fresh), query)
        assert words(store, view, query) == {left[seq - 1]: s for seq, s in expected.items()}


def test_the_name_of_the_speaker_is_found_and_the_word_user_is_not(store):
    memory = store.make_memory(("a",))
    view = write(store, memory, [Turn(user="hello", speaker="Caroline", id="1"), turn("hello", 2)])
    assert list(words(store, view, "caroline")) == [1]
    assert words(store, view, "user assistant") == {}
    assert sorted(words(store, view, "hello")) == [1, 2]


@pytest.mark.parametrize("query", ["", '"', "cat*", "NEAR(cat dog)", "cat OR dog", "m1_cat", "body:cat", "^cat", "'; DROP TABLE turns; --"])  # fmt: skip
def test_a_query_is_words_and_never_a_query_language(store, query):
    view = write(store, store.make_memory(("a",)), [turn("a cat", 1), turn("m1_cat", 2)])
    asked = set(terms(query))
    expected = [n for n, text in ((1, "a cat"), (2, "m1_cat")) if asked & set(terms(text))]
    assert sorted(words(store, view, query)) == expected


@pytest.fixture
def of_another_analyser(location, monkeypatch):
    """A database whose turns are as long as they have words between spaces; with two readings."""
    with monkeypatch.context() as earlier:
        earlier.setattr("evomem_stores.opening.ANALYSER", "0 another")
        earlier.setattr("evomem_stores.log.rows.terms", str.split)
        with evomem.open(location, HashEncoder(16)) as db:
            db.memory("a").add_many([turn("the cats sleep", 1), turn("दिल्ली, à Besançon", 2)])
            db.memory("a").fork("b").add_many([turn("l'hôtel", 3)])
        reencode(location, HashEncoder(24))
    return location


def test_a_database_of_another_analyser_is_analysed_again_when_it_is_opened(of_another_analyser):
    for _ in range(2):
        with evomem.open(of_another_analyser, HashEncoder(24)) as db:
            assert db.verify() == []
            for query, expected in (
                ("cat", [1]),
                ("Besancon", [2]),
                ("दिल्ली", [2]),
                ("hotel", [3]),
            ):
                hits = db.memory("a", "b").search(query, mode="lexical")
                assert [hit.seq for hit in hits] == expected


def test_rows_edited_before_an_upgrade_are_still_reported(of_another_analyser):
    with raw(of_another_analyser) as execute:
        execute("UPDATE turns SET words = 7 WHERE seq = 2")
    with evomem.open(of_another_analyser, HashEncoder(24)) as db:
        problems = "\n".join(db.verify())
    assert "turn 2 of memory 1 has an embedding or latents that were changed" in problems
    assert "another encoder's result for turn 2 of memory 1 was changed" in problems
    assert "turn 1 of memory 1" not in problems
