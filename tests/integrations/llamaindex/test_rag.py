"""The retriever, the reranker and the embedding."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from evomem import HashEncoder, Turn
from evomem.errors import EncoderError
from evomem.state import State
from evomem_integrations.llamaindex import EvoMemEmbedding, EvoMemReranker, EvoMemRetriever
from tests.integrations.llamaindex.scripted import ScriptedLLM


@pytest.fixture
def alice(db):
    memory = db.memory("acme", "alice")
    memory.add("I live in Bergen.", id="bergen", time="2024-03-01T10:00:00Z", session="s1")
    memory.add("I adopted a cat.", id="cat", time="2024-03-02T10:00:00Z", metadata={"topic": "pet"})
    memory.add("I live in Oslo now.", id="oslo", time="2024-03-03T10:00:00Z")
    return memory


# retriever -------------------------------------------------------------------------------------


def test_a_retriever_finds_what_a_search_finds(alice):
    hits = alice.search("Where do I live?", 2, mode="evolvable")
    nodes = EvoMemRetriever(alice, k=2).retrieve("Where do I live?")
    assert [(n.node_id, n.text, n.score) for n in nodes] == [
        (hit.record.id, hit.text, hit.score) for hit in hits
    ]


async def test_retrieving_asynchronously_gives_the_same(alice):
    retriever = EvoMemRetriever(alice, k=2, mode="hybrid")
    assert await retriever.aretrieve("Oslo") == retriever.retrieve("Oslo")


def test_filters_and_views_of_the_past_are_honoured(alice):
    def ids(memory, **options):
        hits = EvoMemRetriever(memory, **options).retrieve(QueryBundle("Where do I live?"))
        return {node.node_id for node in hits}

    assert ids(alice, where={"topic": "pet"}) == {"cat"}
    assert ids(alice, session="s1") == {"bergen"}
    assert ids(alice, since="2024-03-02T00:00:00Z") == {"cat", "oslo"}
    assert ids(alice.at(seq=2)) == {"bergen", "cat"}


def test_a_model_is_shown_the_text_the_time_and_the_users_metadata(alice):
    [node] = EvoMemRetriever(alice, k=1, where={"topic": "pet"}).retrieve("cat")
    shown = node.node.get_content(MetadataMode.LLM)
    assert shown == "topic: pet\ntime: 2024-03-02T10:00:00+00:00\n\nUser: I adopted a cat."
    assert node.node.get_content(MetadataMode.EMBED) == "User: I adopted a cat."
    assert node.metadata["seq"] == 2


def test_a_query_engine_answers_from_a_memory(alice):
    llm = ScriptedLLM.of("Oslo.")
    engine = RetrieverQueryEngine.from_args(EvoMemRetriever(alice, k=2), llm=llm)
    assert str(engine.query("Where do I live now?")) == "Oslo."
    assert "User: I live in Oslo now." in str(llm.asked[0])


# reranker --------------------------------------------------------------------------------------


def nodes(*texts, **metadata):
    return [NodeWithScore(node=TextNode(text=text, metadata=metadata), score=0.0) for text in texts]


def test_nodes_are_read_as_a_story_and_the_best_answers_are_kept():
    encoder = HashEncoder()
    texts = ["I live in Bergen.", "I adopted a cat.", "I live in Oslo now."]
    ranked = EvoMemReranker(encoder="hash", top_n=2).postprocess_nodes(
        nodes(*texts), query_str="Where do I live now?"
    )
    state: State[Turn] = State.empty(encoder.spec)
    turns = [Turn(user=text) for text in texts]
    readings = encoder.read(state, turns)
    for turn, reading in zip(turns, readings, strict=True):
        state = state.after(turn, reading)
    query = encoder.embed_queries(state, ["Where do I live now?"])[0]
    scores = {text: float(r.embedding @ query) for text, r in zip(texts, readings, strict=True)}
    assert [(n.text, n.score) for n in ranked] == sorted(scores.items(), key=lambda s: -s[1])[:2]


def test_the_story_is_told_by_time_whatever_order_the_nodes_are_in(alice):
    hits = EvoMemRetriever(alice).retrieve("Where do I live?")
    reranker = EvoMemReranker(encoder="hash")
    ranked = [reranker.postprocess_nodes(item, query_str="live?") for item in (hits, hits[::-1])]
    assert ranked[0] == ranked[1]
    by_seq = EvoMemReranker(encoder="hash", order_by="seq")
    assert by_seq.postprocess_nodes(hits, query_str="live?") == ranked[0]


def test_a_reranker_needs_a_question_and_drops_what_says_nothing():
    reranker = EvoMemReranker(encoder="hash")
    with pytest.raises(ValueError, match="needs a question"):
        reranker.postprocess_nodes(nodes("a"))
    assert reranker.postprocess_nodes([], query_str="q") == []
    assert [n.text for n in reranker.postprocess_nodes(nodes("", "a"), query_str="q")] == ["a"]
    assert EvoMemReranker.from_dict(reranker.to_dict()).to_dict() == reranker.to_dict()


# embedding -------------------------------------------------------------------------------------


def test_texts_are_embedded_alone_and_questions_as_questions():
    encoder = HashEncoder()
    embedding = EvoMemEmbedding("hash")
    assert isinstance(embedding, BaseEmbedding)
    empty: State[Turn] = State.empty(encoder.spec)
    together = embedding.get_text_embedding_batch(["I live in Bergen.", "I adopted a cat."])
    for text, vector in zip(["I live in Bergen.", "I adopted a cat."], together, strict=True):
        expected = encoder.read(empty, [Turn(user=text)])[0].embedding
        np.testing.assert_allclose(vector, expected, atol=1e-7)
    question = embedding.get_query_embedding("Where?")
    np.testing.assert_allclose(question, encoder.embed_queries(empty, ["Where?"])[0], atol=1e-7)


async def test_the_asynchronous_embedding_is_the_same():
    embedding = EvoMemEmbedding(HashEncoder(64))
    assert await embedding.aget_query_embedding("a") == embedding.get_query_embedding("a")
    assert await embedding.aget_text_embedding("a") == embedding.get_text_embedding("a")


def test_copies_of_an_embedding_embed_alike():
    embedding = EvoMemEmbedding("hash:32")
    expected = embedding.get_text_embedding("a")
    for twin in (
        EvoMemEmbedding.from_dict(embedding.to_dict()),
        pickle.loads(pickle.dumps(embedding)),
        embedding.model_copy(deep=True),
    ):
        assert twin.get_text_embedding("a") == expected
    with pytest.raises(EncoderError):
        EvoMemEmbedding("no-such-encoder:x")


def test_an_index_of_llamaindex_takes_the_embedding():
    documents = [TextNode(text=text) for text in ("Bergen is rainy.", "Rome is sunny.")]
    index = VectorStoreIndex(documents, embed_model=EvoMemEmbedding("hash"))
    [hit] = index.as_retriever(similarity_top_k=1).retrieve("sunny Rome")
    assert hit.text == "Rome is sunny."
