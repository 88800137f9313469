"""What `EvoMemVectorStore` promises beyond LangChain's own tests."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index

import evomem
from evomem.errors import EncoderError, FingerprintMismatch, QueryError, TurnError
from evomem_integrations.langchain import EmbeddingsEncoder, EvoMemEmbeddings, EvoMemVectorStore
from tests.stores.counting import counted

NOTES = [
    Document("Oslo is the capital of Norway.", id="oslo", metadata={"topic": "city", "n": 1}),
    Document("Bergen is rainy.", id="bergen", metadata={"topic": "city", "n": 2}),
    Document("Miso is a cat.", id="miso", metadata={"topic": "pet", "n": 3}),
]


@pytest.fixture
def store(db):
    made = EvoMemVectorStore(db, "notes")
    made.add_documents(NOTES)
    return made


def ids(documents):
    return [document.id for document in documents]


def log(memory):
    view = memory._view()
    rows = memory._engine.store.rows(view, after=0)
    return [(row.turn.text, row.key, row.reading.embedding.tobytes()) for row in rows]


def test_adding_at_once_and_one_by_one_leaves_the_same_log(db):
    together, single = EvoMemVectorStore(db, "together"), EvoMemVectorStore(db, "single")
    together.add_documents(NOTES)
    for note in NOTES:
        single.similarity_search("what is asked in between changes nothing")
        single.add_documents([note])
    assert log(together.memory) == log(single.memory)
    asked = "Is it a rainy cat?"
    assert together.similarity_search(asked) == single.similarity_search(asked)


def test_the_same_document_again_leaves_the_log_as_it_is(store):
    before = log(store.memory)
    assert store.add_documents(NOTES) == ["oslo", "bergen", "miso"]
    assert log(store.memory) == before


def test_adding_and_searching_take_few_statements_and_transactions(store, db):
    with counted(db) as work:
        store.add_texts(["Oslo is cold.", "Rome is warm."], ids=["oslo", "rome"])  # one is replaced
    assert len(work.statements) <= 8
    assert work.transactions <= 2
    with counted(db) as work:
        assert ids(store.similarity_search("Oslo", k=1)) == ["oslo"]
    assert len(work.statements) <= 8
    assert work.transactions <= 2


def test_a_changed_document_is_a_new_turn_and_the_old_one_is_not_found(store):
    store.add_texts(["Miso is a dog."], [{"topic": "pet"}], ids=["miso"])
    assert store.get_by_ids(["miso"]) == [
        Document("Miso is a dog.", id="miso", metadata={"topic": "pet"})
    ]
    hits = store.similarity_search("Miso is a cat.", k=10)
    assert sorted(ids(hits)) == ["bergen", "miso", "oslo"]
    assert "Miso is a cat." not in [document.page_content for document in hits]
    assert [len(store.memory), store.memory.history()[-1].seq] == [3, 4]


def test_changed_metadata_alone_is_a_new_version_too(store):
    store.add_texts(["Miso is a cat."], [{"topic": "hero"}], ids=["miso"])
    assert store.get_by_ids(["miso"])[0].metadata == {"topic": "hero"}
    assert ids(store.similarity_search("cat", filter={"topic": "pet"})) == []


def test_an_id_twice_in_one_call_means_its_last_text(store):
    store.add_texts(["one", "two"], ids=["same", "same"])
    assert [document.page_content for document in store.get_by_ids(["same"])] == ["two"]
    assert ids(store.similarity_search("one", k=10)).count("same") == 1


def test_deleted_documents_can_be_added_again(store):
    store.delete(["miso", "nobody"])
    assert store.get_by_ids(["miso"]) == []
    store.add_documents(NOTES)
    assert ids(store.get_by_ids(["miso"])) == ["miso"]
    assert store.delete()
    assert store.similarity_search("Miso", k=3) == []


def test_a_blank_page_is_left_out_and_keeps_no_other_one_away(store, caplog):
    first, second, third = store.add_texts(["page one", " ", "page three"])
    assert ids(store.get_by_ids([first, second, third])) == [first, third]
    assert "1 documents without text are left out" in caplog.text
    assert store.add_texts([""], ids=["miso"]) == ["miso"]
    assert store.get_by_ids(["miso"]) == []


def test_dates_and_ids_in_metadata_are_kept_as_text(store):
    day = datetime.date(2026, 1, 2)
    (id,) = store.add_texts(["dated"], [{"on": day, "tags": {"a"}, "of": uuid.UUID(int=1)}])
    assert store.get_by_ids([id])[0].metadata == {
        "on": "2026-01-02",
        "tags": ["a"],
        "of": str(uuid.UUID(int=1)),
    }


def test_one_bad_document_keeps_all_of_them_out(store):
    before = log(store.memory)
    with pytest.raises(TurnError, match="plain JSON"):
        store.add_texts(["fine", "too"], [{}, {"x": object()}])
    with pytest.raises(ValueError, match="2 texts but 1 ids"):
        store.add_texts(["a", "b"], ids=["a"])
    assert log(store.memory) == before


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"topic": "city"}, {"oslo", "bergen"}),
        ({"n": {"$gte": 2}}, {"bergen", "miso"}),
        ({"topic": {"$in": ["pet"]}}, {"miso"}),
        (lambda document: document.metadata["n"] != 2, {"oslo", "miso"}),
        (lambda document: False, set()),
    ],
)
def test_a_filter_is_a_mapping_or_a_function(store, filter, found):
    assert set(ids(store.similarity_search("anything", k=3, filter=filter))) == found


def test_a_function_finds_what_ranks_last(store):
    first = store.similarity_search("cat", k=3)[-1]
    assert store.similarity_search("cat", k=1, filter=lambda d: d.id == first.id) == [first]


def test_options_of_the_memory_reach_it(store):
    assert ids(store.similarity_search("cat", k=3, at=1)) == ["oslo"]
    assert ids(store.similarity_search("rainy", k=3, mode="lexical")) == ["bergen"]
    with pytest.raises(QueryError, match="mode must be"):
        store.similarity_search("cat", mode="magic")


def test_scores_are_cosines_and_relevance_lies_between_0_and_1(store):
    scored = store.similarity_search_with_score("Bergen is rainy.", k=3)
    assert [score for _, score in scored] == sorted((s for _, s in scored), reverse=True)
    relevant = store.similarity_search_with_relevance_scores("Bergen is rainy.", k=3)
    assert [score for _, score in relevant] == [(1 + score) / 2 for _, score in scored]
    keen = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": relevant[0][1]}
    )
    assert ids(keen.invoke("Bergen is rainy.")) == ["bergen"]
    with pytest.raises(ValueError, match="does not return"):
        store.similarity_search_with_relevance_scores("cat", mode="lexical")


async def test_relevance_scores_of_other_modes_are_refused_in_async_code_too(store):
    with pytest.raises(ValueError, match="does not return"):
        await store.asimilarity_search_with_relevance_scores("cat", mode="hybrid")


def test_marginal_relevance_prefers_documents_that_differ():
    texts = ["the cat sleeps", "the cat sleeps well", "rain falls in Bergen"]
    store = EvoMemVectorStore.from_texts(texts, EvoMemEmbeddings("hash"))
    similar = store.similarity_search("the cat sleeps", k=2)
    varied = store.max_marginal_relevance_search("the cat sleeps", k=2, lambda_mult=0.1)
    assert [d.page_content for d in similar] == texts[:2]
    assert [d.page_content for d in varied] == [texts[0], texts[2]]
    store.delete()
    assert store.max_marginal_relevance_search("the cat sleeps") == []


def test_an_encoder_of_evomem_keeps_its_memory_and_another_model_stays_as_it_is():
    model = DeterministicFakeEmbedding(size=6)
    plain = EvoMemVectorStore.from_texts(["one"], model)
    assert plain.embeddings is model
    evolving = EvoMemVectorStore.from_documents(NOTES, EvoMemEmbeddings("hash"))
    assert evolving.database.spec.name == "hash"
    assert isinstance(evolving.embeddings, EvoMemEmbeddings)
    assert ids(evolving.get_by_ids(["miso"])) == ["miso"]


def test_documents_are_there_after_a_restart_and_another_model_is_refused(tmp_path):
    path = str(tmp_path / "notes.db")
    model = DeterministicFakeEmbedding(size=6)
    with evomem.open(path, EmbeddingsEncoder(model)) as db:
        EvoMemVectorStore(db).add_documents(NOTES)
    again = EvoMemVectorStore.from_texts([], model, location=path)
    assert ids(again.similarity_search("Miso is a cat.", k=1)) == ["miso"]
    again.database.close()
    with pytest.raises(FingerprintMismatch):
        evomem.open(path, EmbeddingsEncoder(DeterministicFakeEmbedding(size=7)))
    with pytest.raises(FingerprintMismatch):
        evomem.open(path, EmbeddingsEncoder(model, name="another"))


class Broken(DeterministicFakeEmbedding):
    def embed_documents(self, texts):
        return [[0.0] * 6, *super().embed_documents(texts)][: len(texts)]

    def embed_query(self, text):
        return [0.0] * (6 if text == "length" else 5)


def test_a_zero_vector_is_stored_and_a_misshapen_one_refused():
    store = EvoMemVectorStore.from_texts(["nothing"], Broken(size=6))
    assert len(store.memory) == 1
    with pytest.raises(EncoderError, match=r"length \[5\], expected 6"):
        store.similarity_search("anything")


async def test_documents_of_concurrent_calls_stay_together_and_in_order(store):
    calls = [[f"{name} {n}" for n in range(5)] for name in "abcdefgh"]
    await asyncio.gather(*(store.aadd_texts(texts) for texts in calls))
    spoken = [record.turn.user for record in store.memory.history(after=3)]
    groups = [spoken[start : start + 5] for start in range(0, len(spoken), 5)]
    assert sorted(groups) == calls


def test_langchain_can_keep_an_index_of_sources_up_to_date(store):
    records = InMemoryRecordManager("notes")
    records.create_schema()
    options: dict[str, Any] = {"cleanup": "full", "source_id_key": "topic", "key_encoder": "sha256"}
    first = index(NOTES, records, store, **options)
    assert (first["num_added"], first["num_skipped"]) == (3, 0)
    second = index(NOTES[:2], records, store, **options)
    assert (second["num_added"], second["num_skipped"], second["num_deleted"]) == (0, 2, 1)
