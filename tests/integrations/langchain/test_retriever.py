"""What `EvoMemRetriever` and `EvoMemEmbeddings` promise beyond LangChain's own tests."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from langchain_core.documents import Document
from pydantic import ValidationError

import evomem
from evomem.errors import QueryError, TurnError
from evomem_integrations.langchain import EvoMemEmbeddings, EvoMemRetriever

MONDAY = datetime(2024, 3, 4, tzinfo=timezone.utc)


@pytest.fixture
def alice(db):
    memory = db.memory("alice")
    memory.add("I live in Bergen.", reply="A rainy place!", id="b", session="s1", time=MONDAY)
    memory.add("Miso is my cat.", speaker="Alice", id="m", metadata={"topic": "pet", "id": "x"})
    memory.add("I moved to Oslo.", id="o", metadata={"topic": "home"})
    return memory


def ids(documents):
    return [document.id for document in documents]


def test_a_document_says_what_the_turn_was(alice):
    result = EvoMemRetriever(memory=alice, k=1).invoke("Do I live in rainy Bergen?")
    assert result == [
        Document(
            "User: I live in Bergen.\nAssistant: A rainy place!",
            id="b",
            metadata={
                "id": "b",
                "seq": 1,
                "time": "2024-03-04T00:00:00+00:00",
                "session": "s1",
                "speaker": None,
                "role": "exchange",
                "score": result[0].metadata["score"],
            },
        )
    ]
    assert 0 < result[0].metadata["score"] <= 1


def test_a_turns_own_metadata_is_there_and_cannot_pass_for_evomems(alice):
    (hit,) = EvoMemRetriever(memory=alice, k=1).invoke("my cat Miso")
    assert hit.metadata["topic"] == "pet"
    assert (hit.metadata["id"], hit.metadata["speaker"]) == ("m", "Alice")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"session": "s1"}, {"b"}),
        ({"role": "user"}, {"m", "o"}),
        ({"where": {"topic": "home"}}, {"o"}),
        ({"at": 2}, {"b", "m"}),
        ({"until": "2024-03-05T00:00:00Z"}, {"b"}),
        ({"since": "2024-03-05T00:00:00Z"}, {"m", "o"}),
        ({"mode": "lexical"}, {"o"}),
    ],
)
async def test_fields_reach_the_memory_from_the_constructor_and_from_a_call(alice, fields, found):
    built = EvoMemRetriever(memory=alice, **fields)
    assert set(ids(built.invoke("Oslo"))) == found
    assert set(ids(await built.ainvoke("Oslo"))) == found
    plain = EvoMemRetriever(memory=alice)
    assert set(ids(plain.invoke("Oslo", **fields))) == found
    assert set(ids(await plain.ainvoke("Oslo", **fields))) == found


def test_a_view_of_the_past_can_be_searched(alice):
    assert ids(EvoMemRetriever(memory=alice.at(seq=1)).invoke("Oslo")) == ["b"]


def test_a_search_changes_nothing(alice):
    before = alice._view()
    EvoMemRetriever(memory=alice).batch(["Oslo", "Miso"])
    assert alice._view() == before


def test_a_field_that_does_not_exist_or_makes_no_sense_is_refused(alice):
    with pytest.raises(ValidationError, match="filter"):
        EvoMemRetriever(memory=alice, filter={"topic": "home"})  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="colour"):
        EvoMemRetriever(memory=alice).invoke("Oslo", colour="red")
    with pytest.raises(QueryError, match="k must be"):
        EvoMemRetriever(memory=alice).invoke("Oslo", k=0)


@pytest.mark.parametrize("name", ["hash", "static:all-MiniLM-L6-v2"])
def test_embeddings_are_those_of_an_empty_memory(name):
    model = EvoMemEmbeddings(name)
    texts = ["I moved to Oslo.", "Miso is my cat."]
    for text, vector in zip(texts, model.embed_documents(texts), strict=True):
        with evomem.open(":memory:", model.encoder, embeddings="float32") as db:
            memory = db.memory("m")
            memory.add(text)
            (row,) = memory._engine.store.rows(memory._view(), after=0)
            assert vector == pytest.approx(row.reading.embedding.tolist(), abs=1e-6)
    assert model.embed_documents(texts[::-1]) == model.embed_documents(texts)[::-1]


def test_an_empty_text_has_no_embedding():
    model = EvoMemEmbeddings("hash")
    assert model.embed_documents([]) == []
    with pytest.raises(TurnError, match="needs text"):
        model.embed_documents(["fine", ""])
