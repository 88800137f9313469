"""`EvoMemStore` behaves as LangGraph's stores do; what differs is said in docs/guides/langgraph.md."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

import evomem
from evomem.errors import TurnError
from evomem_integrations.langgraph import EvoMemStore
from tests.stores.counting import counted

NS = ("users", "alice")


@pytest.fixture
def store(db):
    made = EvoMemStore(db)
    yield made
    made.close()


@pytest.fixture
def facts(db):
    """A store that reads only the text of a value."""
    made = EvoMemStore(db, index={"fields": ["text"]}, root=("facts",))
    made.put(NS, "home", {"text": "I live in Bergen.", "stars": 2})
    made.put(NS, "cat", {"text": "I adopted a cat called Miso.", "stars": 5})
    made.put(("users", "bob"), "home", {"text": "I live in Rome.", "stars": 4})
    yield made
    made.close()


def keys(items):
    return [item.key for item in items]


def log(db, *namespace):
    return [record.turn.user for record in db.memory(*namespace).history()]


# one item ------------------------------------------------------------------------------------


def test_an_item_comes_back_as_it_was_put(store):
    value = {"text": "héllo 中", "n": 1.5, "none": None, "deep": {"list": [1, {"a": True}]}}
    before = datetime.now(timezone.utc)
    store.put(NS, "k", value)
    item = store.get(NS, "k")
    assert (item.namespace, item.key, item.value) == (NS, "k", value)
    assert before <= item.created_at <= item.updated_at <= datetime.now(timezone.utc)
    assert json.loads(json.dumps(item.dict()))["value"] == value


@pytest.mark.parametrize("index", [None, False, ["name"], ["text"]])
def test_a_value_may_be_of_any_size(store, index):
    text = 'héllo \\ "quoted" 中 ' * 25_000  # as text, longer than a turn may be
    value = {"text": text, "name": "a long file", "lines": ["word"] * 20_000}
    store.put(NS, "long", value, index=index)
    store.put(NS, "short", {"name": "a short file"}, index=["name"])
    assert store.get(NS, "long").value == value
    assert {item.key: item.value for item in store.search(NS)}["long"] == value
    hits = store.search(NS, query="a long file", filter={"name": "a long file"})
    assert [(item.key, item.score is None) for item in hits] == [("long", index is False)]
    first = store.get(NS, "long").created_at
    store.put(NS, "long", {**value, "name": "edited"}, index=index)
    assert store.get(NS, "long").value["name"] == "edited"
    assert store.get(NS, "long").created_at == first
    store.delete(NS, "long")
    assert keys(store.search(NS)) == ["short"]
    assert len(store.database.memory("langgraph", *NS)) == 1


def test_a_key_that_names_a_large_value_is_not_what_it_is_found_by(facts):
    facts.put(NS, "miso", {"text": "Nothing about it.", "more": "x" * 200_000})
    assert keys(facts.search(NS, query="miso", limit=1)) == ["cat"]


def test_a_large_value_that_is_purged_leaves_nothing_on_disk(tmp_path):
    path = tmp_path / "a.db"
    with EvoMemStore.from_conn_string(str(path), encoder="hash:4", purge=True) as store:
        store.put(NS, "ever", {"x": 1})
        store.put(NS, "long", {"text": "secret! " * 20_000}, index=False)
        store.delete(NS, "long")
        assert keys(store.search(NS)) == ["ever"]
    assert b"secret!" not in b"".join(item.read_bytes() for item in tmp_path.iterdir())


def test_a_value_is_copied_in_and_out(store):
    value = {"list": [1]}
    store.put(NS, "k", value)
    value["list"].append(2)
    store.get(NS, "k").value["list"].append(3)
    assert store.get(NS, "k").value == {"list": [1]}


def test_a_missing_item_is_none_and_deleting_it_has_no_effect(store):
    assert store.get(NS, "k") is None
    store.delete(NS, "k")
    assert store.search(NS) == []
    assert store.search(NS, query="anything") == []
    assert store.list_namespaces() == []


def test_a_key_put_again_is_a_new_turn_and_the_old_value_is_not_found(facts, db):
    first = facts.get(NS, "home")
    facts.put(NS, "home", {"text": "I live in Oslo."})
    second = facts.get(NS, "home")
    assert second.value == {"text": "I live in Oslo."}
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    hits = facts.search(NS, query="Do I live in Bergen?", limit=10)
    assert sorted(keys(hits)) == ["cat", "home"]
    assert "Bergen" not in str(hits)
    assert log(db, "facts", *NS) == ["I adopted a cat called Miso.", "I live in Oslo."]
    assert [record.seq for record in db.memory("facts", *NS).history()] == [2, 3]


def test_a_deleted_item_is_gone_from_everything_and_can_be_put_again(facts):
    facts.delete(("users", "bob"), "home")
    assert facts.get(("users", "bob"), "home") is None
    assert sorted(keys(facts.search(("users",), query="Rome"))) == ["cat", "home"]
    assert facts.list_namespaces() == [NS]
    facts.put(("users", "bob"), "home", {"text": "I live in Rome."})
    assert facts.get(("users", "bob"), "home").value == {"text": "I live in Rome."}


def test_items_are_there_after_a_restart(tmp_path):
    path = str(tmp_path / "store.db")
    with EvoMemStore.from_conn_string(path, encoder="hash") as store:
        store.put(NS, "k", {"text": "I adopted a cat."})
        item = store.get(NS, "k")
    with EvoMemStore.from_conn_string(path) as store:
        assert store.get(NS, "k") == item
        assert keys(store.search(("users",), query="cat")) == ["k"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("k", {"x": object()}, "plain JSON"),
        ("k", {"x": float("nan")}, "plain JSON"),
        ("k", {"x": "a\x00"}, "NUL"),
        ("k", {"x": "y" * 70_000 + "\ud800"}, "surrogate"),
        ("", {"x": 1}, "the key '' is empty"),
        ("k" * 600, {"x": 1}, "the limit is 512"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_whole_batch(store, key, value, says):
    store.put(NS, "k", {"old": True})
    with pytest.raises(TurnError, match=says):
        store.batch([PutOp(NS, "fine", {"x": 1}), PutOp(NS, key, value)])
    assert keys(store.search(NS)) == ["k"]
    assert store.get(NS, "k").value == {"old": True}


@pytest.mark.parametrize("namespace", [(), ("langgraph", "x"), ("a.b",), ("",), ("a", 1)])
def test_a_namespace_that_langgraph_refuses_is_refused(store, namespace):
    with pytest.raises(InvalidNamespaceError):
        store.put(namespace, "k", {"x": 1})


def test_a_batch_is_checked_as_single_calls_are(store):
    with pytest.raises(InvalidNamespaceError):
        store.batch([PutOp(("a.b",), "k", {"x": 1})])
    with pytest.raises(ValueError, match="unknown operation str"):
        store.batch(["get"])


# batches -------------------------------------------------------------------------------------


def test_reads_of_a_batch_see_what_was_before_it_and_results_are_in_order(store):
    store.put(NS, "a", {"n": 1})
    results = store.batch(
        [
            PutOp(NS, "a", {"n": 2}),
            GetOp(NS, "a"),
            SearchOp(("users",)),
            PutOp(("other",), "b", {"n": 3}),
            ListNamespacesOp(),
            GetOp(("other",), "b"),
        ]
    )
    assert results[0] is results[3] is results[5] is None
    assert results[1].value == {"n": 1}
    assert [item.value for item in results[2]] == [{"n": 1}]
    assert results[4] == [NS]
    assert store.get(NS, "a").value == {"n": 2}


def test_the_last_of_several_puts_to_a_key_counts(store, db):
    store.batch([PutOp(NS, "a", {"n": 1}), PutOp(NS, "b", {"n": 2}), PutOp(NS, "a", {"n": 3})])
    store.batch([PutOp(NS, "b", {"n": 4}), PutOp(NS, "b", None)])
    assert [item.value for item in store.search(NS)] == [{"n": 3}]
    assert len(db.memory("langgraph", *NS)) == 1


def test_items_with_the_same_text_in_one_batch_are_all_kept(store):
    store.batch([PutOp(NS, key, {"text": "same"}) for key in "abc"])
    assert sorted(keys(store.search(NS, query="same"))) == ["a", "b", "c"]


# search --------------------------------------------------------------------------------------


def test_a_query_ranks_by_cosine_below_a_prefix_of_whole_labels(facts):
    facts.put(("users2",), "x", {"text": "I live in Paris."})
    hits = facts.search(("users",), query="a cat called Miso")
    assert keys(hits)[0] == "cat"
    assert sorted(keys(hits)) == ["cat", "home", "home"]
    scores = [item.score for item in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1 for score in scores)
    assert facts.search(("user",), query="cat") == []
    assert len(facts.search((), query="cat")) == 4


def test_each_namespace_is_searched_with_the_state_of_its_own_log(facts, db):
    """A score is what the memory itself would give: other namespaces have no part in it."""
    for item in facts.search(("users",), query="Where do I live?"):
        memory = db.memory("facts", *item.namespace)
        (hit,) = [
            h
            for h in memory.search("Where do I live?", mode="evolvable")
            if h.record.turn.session == item.key
        ]
        assert item.score == pytest.approx(hit.score, abs=1e-6)


def test_pages_follow_each_other_with_and_without_a_query(facts):
    for query in (None, "I live"):
        complete = facts.search((), query=query, limit=10)
        pages = [facts.search((), query=query, limit=1, offset=n)[0] for n in range(3)]
        assert pages == complete
        assert facts.search((), query=query, limit=5, offset=3) == []


def test_without_a_query_the_item_put_last_comes_first(facts):
    facts.put(NS, "home", {"text": "I live in Oslo."})
    facts.batch([PutOp(NS, key, {"text": "Both at once."}) for key in ("a", "b")])
    hits = facts.search(())
    assert [(item.namespace[1], item.key) for item in hits] == [
        ("alice", "b"),
        ("alice", "a"),
        ("alice", "home"),
        ("bob", "home"),
        ("alice", "cat"),
    ]
    assert {item.score for item in hits} == {None}


def test_items_without_an_index_are_listed_and_follow_scored_hits(facts):
    facts.put(NS, "secret", {"text": "The cat burglar."}, index=False)
    facts.put(NS, "empty", {"stars": 1})
    hits = facts.search(NS, query="the cat burglar")
    assert keys(hits)[0] == "cat"
    assert [(item.key, item.score) for item in hits[2:]] == [("empty", None), ("secret", None)]
    assert keys(facts.search(NS, query="the cat burglar", limit=2)) == ["cat", "home"]
    assert facts.get(NS, "secret").value == {"text": "The cat burglar."}


def test_items_without_an_index_are_not_embedded(facts, db):
    facts.put(NS, "secret", {"text": "The cat burglar."}, index=False)
    assert log(db, "facts", *NS)[-1] == "secret"


def test_an_item_of_several_texts_is_found_by_the_best_of_them_once(store, db):
    value = {"title": "Pets", "notes": [{"text": "Miso is a cat"}, {"text": "Rex is a dog"}]}
    store.put(NS, "pets", value, index=["title", "notes[*].text"])
    store.put(NS, "home", {"text": "I live in Oslo"}, index=["text"])
    for query in ("Miso is a cat", "Rex is a dog"):
        hits = store.search(NS, query=query)
        assert keys(hits) == ["pets", "home"]
        assert hits[0].value == value
        assert hits[0].score > 0.8
    store.put(NS, "pets", {"text": "none left"}, index=["text"])
    assert len(db.memory("langgraph", *NS)) == 2
    store.delete(NS, "pets")
    assert keys(store.search(NS, query="Miso")) == ["home"]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"stars": 5}, ["cat"]),
        ({"stars": {"$eq": 5}}, ["cat"]),
        ({"stars": {"$ne": 5}}, ["home", "home", "odd"]),
        ({"stars": {"$gt": 2}}, ["cat", "home"]),
        ({"stars": {"$gte": 2, "$lt": 5}}, ["home", "home"]),
        ({"stars": {"$lte": 2}}, ["home", "odd"]),  # "many" begins with no number: 0
        ({"stars": 5, "text": "other"}, []),
        ({"deep": {"a": 1}}, ["odd"]),
        ({"deep": {"a": {"$gte": 2}}}, []),
        ({"deep.b": [1, 2]}, ["odd"]),
        ({"a.b": True}, ["odd"]),
        ({"nothing": None}, ["cat", "home", "home", "odd"]),
        ({}, ["cat", "home", "home", "odd"]),
    ],
)
def test_filters(facts, filter, found):
    facts.put(("z",), "odd", {"stars": "many", "deep": {"a": 1, "b": [1, 2]}, "a.b": True})
    assert sorted(keys(facts.search((), filter=filter))) == found
    assert sorted(keys(facts.search((), filter=filter, query="live"))) == found


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"v": {"$gte": "2026-02-01"}}, ["february"]),
        ({"v": {"$lt": "2026-02-01"}}, ["january", "ten", "true"]),
        ({"v": {"$gt": "2026"}}, ["february", "january"]),
        ({"v": {"$gt": 9}}, ["february", "january", "ten"]),
        ({"v": {"$gt": 11.5, "$lte": 2026}}, ["february", "january"]),
        ({"v": {"$lt": "zzz"}}, ["february", "january", "ten", "true"]),
        ({"v": {"$gte": True}}, ["february", "january", "ten", "true"]),
        ({"v": {"$lte": 10**400}}, ["february", "january", "ten", "true"]),
        ({"v": {"$gt": ["a"]}}, []),
    ],
)
def test_dates_texts_and_numbers_are_in_the_order_that_sqlite_store_has(store, filter, found):
    dates = {"january": "2026-01-05T10:00:00+00:00", "february": "2026-02-05"}
    for key, value in {**dates, "ten": "10", "true": True, "none": None}.items():
        store.put(("n",), key, {"v": value})
    store.put(("n",), "without", {})
    assert sorted(keys(store.search(("n",), filter=filter))) == found


@pytest.mark.parametrize(
    "filter",
    [
        {"stars": {"$like": 5}},
        {"deep": {"a": {"$like": 5}}},
        {"deep": [{"a": {"$like": 5}}]},
        {"stars": {"$gt": 1, "max": 3}},
        {"$and": [{"stars": 5}]},
        {"deep": {"$or": [1]}},
    ],
)
def test_an_unknown_operator_is_refused_at_every_level_and_the_known_ones_are_named(store, filter):
    with pytest.raises(ValueError, match=r"\$eq, \$ne, \$gt, \$gte, \$lt, \$lte"):
        store.search((), filter=filter)  # though there is nothing to compare


@pytest.mark.parametrize("page", [{"offset": -1}, {"limit": -1}, {"limit": True}, {"offset": 0.5}])
def test_a_page_that_makes_no_sense_is_refused(facts, page):
    for search in (facts.search, lambda prefix, **page: facts.list_namespaces(**page)):
        with pytest.raises(ValueError, match=f"{next(iter(page))} must be a whole number"):
            search((), **page)


def test_a_page_may_be_larger_than_any_store(facts):
    assert len(facts.search((), query="cat", limit=10**30)) == len(facts.search(()))
    assert facts.search((), query="cat", offset=10**30) == []


def test_a_filter_finds_what_ranks_last(facts):
    last = facts.search((), query="cat", limit=3)[-1]
    (hit,) = facts.search((), query="cat", limit=1, filter={"stars": last.value["stars"]})
    assert hit == last


def test_a_search_changes_no_log(facts, db):
    before = [(m, db.memory(*m)._view()) for m in db.memories()]
    facts.search((), query="cat", filter={"stars": 5})
    facts.get(NS, "cat")
    assert [(m, db.memory(*m)._view()) for m in db.memories()] == before


# namespaces ----------------------------------------------------------------------------------

LABELS = st.lists(st.sampled_from(["a", "b", "c", "A"]), min_size=1, max_size=4).map(tuple)
PATHS = st.lists(st.sampled_from(["a", "b", "*"]), max_size=2).map(tuple)


@settings(max_examples=15)
@given(
    namespaces=st.lists(LABELS, min_size=1, max_size=5),
    prefix=PATHS,
    suffix=PATHS,
    depth=st.none() | st.integers(1, 4),
    offset=st.integers(0, 3),
)
def test_namespaces_are_listed_as_by_langgraphs_own_store(
    namespaces, prefix, suffix, depth, offset
):
    reference = InMemoryStore()
    with EvoMemStore.from_conn_string(":memory:", encoder="hash:4") as store:
        for one_store in (reference, store):
            for namespace in namespaces:
                one_store.put(namespace, "k", {"x": 1})
        asked = {"prefix": prefix, "suffix": suffix, "max_depth": depth, "offset": offset}
        assert store.list_namespaces(**asked) == reference.list_namespaces(**asked)
        plain = tuple(label for label in prefix if label != "*")
        assert len(store.search(plain, limit=99)) == len(reference.search(plain, limit=99))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"suffix": ("home",)}, [("a", "home"), ("b", "home")]),
        ({"suffix": ("a", "*")}, [("a", "home"), ("a", "work")]),
        ({"prefix": ("*", "work")}, [("a", "work"), ("b", "work", "x")]),
        ({"prefix": ("b",), "suffix": ("x",)}, [("b", "work", "x")]),
        ({"suffix": ("1", "2", "3", "4")}, []),
        ({"max_depth": 1}, [("a",), ("b",)]),
        ({"max_depth": 2, "offset": 1, "limit": 2}, [("a", "work"), ("b", "home")]),
    ],
)
def test_namespaces_can_be_asked_for_by_both_ends(store, asked, found):
    for namespace in (("a", "home"), ("a", "work"), ("b", "home"), ("b", "work", "x")):
        store.put(namespace, "k", {"x": 1})
    assert store.list_namespaces(**asked) == found


def test_an_unknown_condition_is_refused(facts):
    with pytest.raises(ValueError, match="unknown match type 'infix'"):
        facts.batch([ListNamespacesOp((MatchCondition("infix", ("a",)),))])  # type: ignore[arg-type]


def test_other_memories_of_the_database_are_not_the_stores(facts, db):
    db.memory("users", "alice").add("I live in Paris.")
    db.memory("facts").add("A turn at the root itself.")
    assert facts.list_namespaces() == [NS, ("users", "bob")]
    assert "Paris" not in str(facts.search((), query="Paris", limit=99))
    assert EvoMemStore(db, root=("another",)).search(()) == []


def test_turns_that_others_wrote_into_a_namespace_are_no_items(facts, db):
    db.memory("facts", *NS).add("Not an item.", session="home")
    assert sorted(keys(facts.search(NS, query="not an item"))) == ["cat", "home"]
    assert facts.get(NS, "home").value["text"] == "I live in Bergen."


# work ----------------------------------------------------------------------------------------


def test_a_put_that_replaces_takes_two_transactions_and_few_statements(facts, db):
    facts.put(NS, "home", {"text": "I live in Oslo."})
    with counted(db) as work:
        facts.put(NS, "home", {"text": "I live in Rome."})
    assert len(work.statements) <= 8
    assert work.transactions <= 2
    with counted(db) as work:
        assert facts.get(NS, "home").value == {"text": "I live in Rome."}
    assert len(work.statements) <= 4
    assert work.transactions == 1


def test_a_get_after_a_search_takes_one_statement_and_sees_what_others_wrote(facts, db):
    facts.put(NS, "home", {"text": "I live in Oslo."})
    facts.search(NS, query="home")
    with counted(db) as work:
        assert facts.get(NS, "home").value == {"text": "I live in Oslo."}
        assert facts.get(NS, "none") is None
    assert (len(work.statements), work.transactions) == (2, 2)
    EvoMemStore(db, root=("facts",)).put(NS, "home", {"text": "I live in Rome."})
    assert facts.get(NS, "home").value == {"text": "I live in Rome."}
    facts.delete(NS, "home")
    assert facts.get(NS, "home") is None


def test_a_search_of_many_namespaces_takes_few_statements_and_none_twice(facts, db):
    for n in range(30):
        facts.put(("users", f"u{n}"), "k", {"text": f"fact {n}", "n": n})
    with counted(db) as work:
        assert len(facts.search(("users",), query="fact", limit=50)) == 33
    assert len(work.statements) <= 4
    for call in (
        lambda: facts.search(("users",), query="a fact", limit=5, filter={"n": 3}),
        lambda: facts.search(("users",), filter={"n": {"$gt": 3}}),
        lambda: facts.search(("users",), offset=5),
    ):
        with counted(db) as work:
            assert call()
        assert (len(work.statements), work.transactions) == (1, 1)
    facts.put(("users", "u3"), "k", {"text": "fact three", "n": 3})
    with counted(db) as work:
        assert facts.search(("users",), filter={"n": 3})[0].value["text"] == "fact three"
    assert len(work.statements) <= 3
    facts.list_namespaces()
    with counted(db) as work:
        assert len(facts.list_namespaces()) == 32
    assert len(work.statements) == 1


def test_writes_of_another_process_or_connection_are_visible_at_once(tmp_path):
    path = str(tmp_path / "a.db")
    with (
        EvoMemStore.from_conn_string(path, encoder="hash:4") as one,
        EvoMemStore.from_conn_string(path) as other,
    ):
        for store, reader in ((one, other), (other, one)):
            store.put(NS, "k", {"n": id(store)})
            assert reader.search(NS)[0].value == {"n": id(store)}
            assert reader.search((), query="n")[0].value == {"n": id(store)}
            store.put(NS, "gone", {"n": 1})
            assert len(reader.search(NS)) == 2
            store.delete(NS, "gone")
            assert keys(reader.search(NS)) == ["k"]


# models --------------------------------------------------------------------------------------


def test_a_model_given_as_for_other_stores_becomes_the_encoder(tmp_path):
    index = {"dims": 6, "embed": DeterministicFakeEmbedding(size=6), "fields": ["text"]}
    with EvoMemStore.from_conn_string(str(tmp_path / "a.db"), index=index) as store:  # type: ignore[arg-type]
        store.put(NS, "a", {"text": "exactly this"})
        store.put(NS, "b", {"text": "something else"})
        (best, _) = store.search(NS, query="exactly this")
        assert best.key == "a"
        assert best.score == pytest.approx(1.0, abs=1e-4)
        assert store.database.spec.dim == 6


class Embedder:
    """Embeds when it is awaited, on the event loop that it was first awaited on."""

    def __init__(self):
        self.loops = set()

    async def __call__(self, texts):
        await asyncio.sleep(0)
        self.loops.add(asyncio.get_running_loop())
        return DeterministicFakeEmbedding(size=6).embed_documents(texts)


def test_an_asynchronous_function_embeds_for_both_kinds_of_calls(tmp_path):
    embedder = Embedder()

    async def function(texts):
        return await embedder(texts)

    async def use(store):
        await store.aput(NS, "a", {"text": "exactly this"})
        await store.aput(NS, "b", {"text": "something else"})
        return await store.asearch(NS, query="exactly this", limit=1)

    for number, embed in enumerate((function, embedder)):
        index = {"dims": 6, "embed": embed, "fields": ["text"]}
        path = str(tmp_path / f"{number}.db")
        with EvoMemStore.from_conn_string(path, index=index) as store:  # type: ignore[arg-type]
            (best,) = asyncio.run(use(store))
            assert (best.key, best.score) == ("a", pytest.approx(1.0, abs=1e-4))
            assert keys(store.search(NS, query="something else", limit=1)) == ["b"]
    assert len(embedder.loops) == 2
    assert all(loop.is_closed() for loop in embedder.loops)


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_other_modes_rank_too(db, mode):
    store = EvoMemStore(db, mode=mode, index={"fields": ["text"]})
    store.put(NS, "home", {"text": "I live in Bergen."})
    store.put(NS, "cat", {"text": "Miso is a cat."})
    assert keys(store.search(NS, query="Bergen", limit=1)) == ["home"]
    store.close()


def test_the_log_reads_items_in_the_order_they_were_put(db):
    """Namespaces are memories: their state is that of a memory that was told the same."""
    store = EvoMemStore(db, index={"fields": ["text"]})
    told = [f"fact number {n}" for n in range(12)]
    store.batch([PutOp(NS, text, {"text": text}) for text in told])
    with evomem.open(":memory:", encoder="hash") as other:
        same = other.memory("m")
        for text in told:
            same.add(text)
        ours = db.memory("langgraph", *NS)
        asked = "which fact is number 7?"
        assert [(h.text, h.score) for h in ours.search(asked, mode="evolvable")] == [
            (h.text, h.score) for h in same.search(asked, mode="evolvable")
        ]
    store.close()
