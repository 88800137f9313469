"""What is kept of the word index: never another answer, whoever changes the log meanwhile."""

from __future__ import annotations

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from evomem.errors import DatabaseDamaged, SharedTurns
from evomem.lru_cache import LruCache
from evomem.store import Span, Store, View
from evomem_stores.database.tables import MAX_SEQ, postings, runs
from evomem_stores.log import ledger, writing
from evomem_stores.log.rows import searched
from evomem_stores.words import inverted_index as words_module
from evomem_stores.words.cache import WordCache
from evomem_stores.words.terms import query_terms, terms
from tests.stores.helpers import open_at, purge, turn, words, write
from tests.stores.model import bm25

WORDS = ["cat", "dog", "oslo", "the", "東京"]
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
STEP = st.tuples(
    st.sampled_from(["add", "add", "add many", "hide", "purge", "fork", "drop"]),
    st.integers(0, 1),
    st.integers(0, 99),
    st.lists(TEXT, min_size=1, max_size=8),
)
QUERY = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)


@pytest.fixture
def two(location):
    """Two stores on one database, as two processes have them."""
    stores = open_at(location)[0], open_at(location)[0]
    yield stores
    for store in stores:
        store.close()


def plain(store: Store, view: View, query: str) -> dict[int, float]:
    """BM25 of the texts that the view shows, and of nothing that anybody kept."""
    texts = {record.seq: record.turn for record in store.history(view)}
    result = {seq: terms(searched(t.speaker, t.user, t.assistant)) for seq, t in texts.items()}
    return bm25(query_terms(query), {seq: Counter(item) for seq, item in result.items()})


def held(store: Any, memory: int) -> list[object]:
    """Everything that the cache of a store has of a memory."""
    cache = store._words
    rows = [key for key in cache._rows._held if key == memory]
    return rows + [key for key in cache._cached_postings._held if key[0] == memory]


class History:
    """Memories that two stores change by turns."""

    def __init__(self, location: str) -> None:
        self.stores = open_at(location)[0], open_at(location)[0]
        self.names: dict[int, tuple[str, ...]] = {self.stores[0].make_memory(("a",)): ("a",)}
        self.numbers = itertools.count(1)

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def go_on(self, step: str, which: int, pick: int, texts: list[str]) -> None:
        store = self.stores[which]
        memory = sorted(self.names)[pick % len(self.names)]
        view = store.view(memory)
        at = pick % (view.seq + 1)
        if step == "hide":
            store.hide(view, [at])
        elif step == "fork":
            name = ("f", str(next(self.numbers)))
            self.names[store.fork(store.view(memory, seq=at), name)] = name
        elif step == "drop" and len(self.names) > 1:
            store.drop(self.names.pop(memory))
        elif step == "purge" and at:
            with suppress(SharedTurns):
                purge(store, memory, at)
        else:
            told = texts[:1] if step == "add" else texts
            write(store, memory, [turn(text, next(self.numbers)) for text in told])


@settings(max_examples=15)
@given(steps=st.lists(STEP, min_size=1, max_size=12), data=st.data())
def test_scores_are_those_of_the_texts_regardless_of_who_changed_them_last(
    fresh, steps, data, monkeypatch
):
    monkeypatch.setattr(words_module, "BLOCK_SIZES", (2, 4))  # so that runs are folded, and often
    with closing(History(fresh())) as history:
        for step in steps:
            history.go_on(*step)
            for store, memory in itertools.product(history.stores, history.names):
                seq = data.draw(st.integers(0, store.view(memory).seq))
                query = data.draw(QUERY)
                for view in (store.view(memory), store.view(memory, seq=seq)):
                    assert words(store, view, query) == pytest.approx(plain(store, view, query))
        assert history.stores[0].verify() == []


def test_a_transaction_that_began_earlier_neither_sees_what_came_later_nor_hides_it(two):
    store, other = two
    memory = store.make_memory(("a",))
    write(store, memory, [turn("a cat", 1), turn("a dog", 2)])
    with store._connections.reading() as earlier:
        view = write(other, memory, [turn("cat and dog", 3)])
        with ThreadPoolExecutor() as pool:  # this thread would read through `earlier`
            later = pool.submit(words, store, view, "cat").result()
        assert later.keys() == {1, 3}  # known up to the third turn
        part = store._words.part(earlier, Span(memory, 1, MAX_SEQ), ["cat", "dog"])
        assert part.seqs.tolist() == [1, 2]
        assert [part.postings[term].places.tolist() for term in ("cat", "dog")] == [[0], [1]]
    assert store._words._rows.get(memory).last == 3  # still known: the next query need not read it
    assert words(store, view, "dog").keys() == {2, 3}
    assert words(store, view, "cat dog") == words(other, view, "cat dog")


@pytest.mark.parametrize("later", [1, 2, 3])
def test_turns_in_the_place_of_some_that_a_server_lost_are_read(two, later):
    store, _ = two
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn("a cat", 1), turn("a cat", 2), turn("a cat", 3)])
    assert words(store, view, "cat").keys() == {1, 2, 3}
    with store._connections.writing() as connection:  # as if the last two had never been written
        entry = ledger.get(connection, memory)
        writing.erase(connection, entry, Span(memory, 2, 3))
        entry.head = 1
        ledger.put(connection, entry)
    for count in range(1, later + 1):
        view = write(store, memory, [turn("dog dog cow", 9 + count)])
        assert words(store, view, "cat") == pytest.approx(plain(store, view, "cat"))
        assert words(store, view, "dog") == pytest.approx(plain(store, view, "dog"))


def test_after_a_purge_elsewhere_the_next_question_drops_what_was_kept(two):
    store, other = two
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn("secret cat", 1), turn("dog", 2)])
    assert words(store, view, "secret cat").keys() == {1}
    purge(other, memory, 1)
    assert words(store, store.view(memory), "dog").keys() == {2}
    assert held(store, memory) == [memory, (memory, "dog"), (memory, "~dog")]


@pytest.mark.parametrize("way", ["purge", "drop"])
def test_the_cache_forgets_a_memory_that_is_purged_or_dropped(two, way):
    store, _ = two
    kept, gone = store.make_memory(("kept",)), store.make_memory(("gone",))
    for memory in (kept, gone):
        view = write(store, memory, [turn("secret cat", 1), turn("dog", 2)])
        assert words(store, view, "secret dog").keys() == {1, 2}
    terms_kept = [(kept, term) for term in ("secret", "~secret", "dog", "~dog")]
    assert held(store, kept) == [kept, *terms_kept]
    if way == "purge":
        purge(store, gone, 1)
    else:
        store.drop(("gone",))
    assert held(store, gone) == []
    assert len(held(store, kept)) == 5


def test_the_word_cache_is_bounded_and_evictions_change_no_result(two):
    store, other = two
    store._words = WordCache(5000)
    for number in range(6):
        memory = store.make_memory((str(number),))
        write(store, memory, [turn(f"cat dog word{n} word{n + 1}", n) for n in range(60)])
    for query in ("cat word3", "dog cat", "word7 word8", "cat"):
        for number in range(6):
            view = store.view(store.find_memory((str(number),)))
            assert words(store, view, query) == words(other, view, query)
            assert max(store._words._rows.nbytes, store._words._cached_postings.nbytes) <= 5000
    assert 0 < len(store._words._rows._held) < 6


@pytest.mark.parametrize("known", [False, True])
def test_postings_of_turns_that_are_not_there_are_reported(two, known):
    store, _ = two
    memory = store.make_memory(("a",))
    write(store, memory, [turn("a cat", 1), turn("a dog", 2), turn("a cow", 3)])
    purge(store, memory, 3)  # its number is not used again
    if known:
        assert words(store, store.view(memory), "cat").keys() == {1}
    view = write(store, memory, [turn("a cat", 4)])
    with store._connections.writing() as connection:
        more = {"memory": memory, "last": 3}
        connection.execute(insert(runs).values(**more, first=3))
        connection.execute(insert(postings).values(**more, term="cat", seqs=bytes([3, 0, 0, 0])))
    for _ in range(2):
        with pytest.raises(DatabaseDamaged, match="do not exist"):
            store.lexical(view, "cat")
    assert words(store, view, "dog").keys() == {2}


def test_a_word_index_that_was_repaired_elsewhere_is_read_again(two):
    store, other = two
    memory = store.make_memory(("a",))
    view = write(store, memory, [turn("a cat", 1), turn("a dog", 2)])
    with other._connections.writing() as connection:
        connection.execute(delete(postings))
    assert words(store, view, "cat") == {}
    other.repair()
    assert words(store, view, "cat").keys() == {1}


def test_keys_can_be_forgotten():
    cache: LruCache[tuple[int, str], str] = LruCache(100, len)
    for key in ((1, "a"), (2, "b"), (1, "c")):
        cache.put(key, "four")
    cache.forget(lambda key: key[0] == 1)
    assert (cache.get((1, "a")), cache.get((2, "b")), cache.nbytes) == (None, "four", 4)
