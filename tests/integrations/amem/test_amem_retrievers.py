from types import ModuleType
from typing import Any

import pytest

from evomem.encoder import HashEncoder
from evomem.errors import InputError, NotFound
from evomem_integrations import amem
from evomem_integrations.amem import (
    ChromaRetriever,
    CopiedChromaRetriever,
    PersistentChromaRetriever,
)


class Counting(HashEncoder):
    """The hashing encoder; counts the turns it reads."""

    read_turns = 0

    def read(self, state, turns):
        self.read_turns += len(turns)
        return super().read(state, turns)


@pytest.fixture
def notes():
    retriever = ChromaRetriever(model_name="all-MiniLM-L6-v2", encoder="hash")
    retriever.add_document("I adopted a cat called Miso", {"tags": ["pets"], "n": 1}, "cat")
    retriever.add_document("I moved to Oslo", {"tags": []}, "oslo")
    return retriever


def test_an_empty_retriever_returns_one_empty_list_a_column():
    hits = ChromaRetriever(encoder="hash").search("anything")
    assert [hits[values] for values in ("ids", "documents", "metadatas", "distances")] == [[[]]] * 4


def test_distances_are_squared_and_ascend(notes):
    hits = notes.search("a cat called Miso", k=9)
    assert hits["ids"] == [["cat", "oslo"]]
    nearest, other = hits["distances"][0]
    assert 0 <= nearest < other
    [hit] = notes._documents.search("a cat called Miso", 1)
    assert nearest == pytest.approx(2 - 2 * hit.score)


def test_metadata_comes_back_as_a_mem_expects_it(notes):
    given = {
        "tags": ["a"],
        "config": {"x": 1},
        "whole": "42",
        "less": "-10",
        "broken": "3.14",
        "none": None,
        "leading": "0123",
        "word": "hello",
        "content": "42",
        "context": "7",
        "timestamp": "202401010000",
    }
    notes.add_document("Chess on Sundays", given, "chess")
    [back] = notes.collection.get(ids=["chess"])["metadatas"]
    numbers = {"whole": 42, "less": -10, "broken": 3.14, "timestamp": 202401010000}
    assert back == {**given, **numbers}


def test_a_long_note_is_not_stored_a_second_time_in_its_metadata(notes):
    text = "Oslo " * 20_000
    notes.add_document(text, {"content": text}, "long")
    assert notes.collection.get(ids=["long"])["metadatas"] == [{"content": text}]


def test_the_same_text_again_is_not_read_again_but_its_metadata_is_new():
    encoder = Counting()
    retriever = ChromaRetriever(encoder=encoder)
    for tags in (["old"], ["new"]):
        retriever.add_document("I moved to Oslo", {"tags": tags}, "oslo")
    assert encoder.read_turns == 1
    assert retriever.search("Oslo")["metadatas"] == [[{"tags": ["new"]}]]


def test_another_text_replaces_the_old_one(notes):
    notes.add_document("I adopted a dog", {}, "cat")
    assert notes.collection.get(ids=["cat"])["documents"] == ["I adopted a dog"]
    assert notes.collection.count() == 2


def test_a_deleted_note_is_gone_and_its_id_free(notes):
    notes.delete_document("cat")
    notes.delete_document("never there")
    assert notes.search("cat")["ids"] == [["oslo"]]
    notes.add_document("I adopted a cat called Miso", {}, "cat")
    assert notes.search("cat", k=1)["ids"] == [["cat"]]


def test_a_note_that_cannot_be_stored_leaves_the_old_one(notes):
    with pytest.raises(InputError):
        notes.add_document(" ", {}, "cat")
    assert notes.collection.get(ids=["cat"])["documents"] == ["I adopted a cat called Miso"]


def test_reset_forgets_this_retriever_and_no_other(notes):
    other = ChromaRetriever(encoder="hash")
    other.add_document("Chess on Sundays", {}, "chess")
    notes.client.reset()
    assert notes.collection.get()["ids"] == []
    assert other.collection.get()["ids"] == ["chess"]


def test_a_collection_saved_by_lightmem_s_copy_of_a_mem_can_be_loaded(notes):
    saved = notes.collection.get(include=["documents", "metadatas"])
    fresh = ChromaRetriever("memories_u1", "m", embedder_provider="huggingface", encoder="hash")
    fresh.collection.add(**saved, embeddings=[[0.0]] * 2)
    assert fresh.collection.get() == saved


def test_the_embedding_function_gives_a_unit_row_for_each_text(notes):
    rows = notes.embedding_function(["a", "b"])
    assert rows.shape == (2, 256)
    assert (rows**2).sum(1) == pytest.approx(1)


def test_a_persistent_collection_survives_and_is_not_overwritten_by_mistake(tmp_path):
    first = PersistentChromaRetriever(tmp_path, "team", encoder="hash")
    first.add_document("I moved to Oslo", {"tags": ["x"]}, "oslo")
    first.close()
    with pytest.raises(ValueError, match="already exists"):
        PersistentChromaRetriever(str(tmp_path), "team", encoder="hash")
    again = PersistentChromaRetriever(str(tmp_path), "team", extend=True, encoder="hash")
    assert again.search("Oslo")["metadatas"] == [[{"tags": ["x"]}]]
    again.client.delete_collection("team")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden"])
def test_a_collection_cannot_be_outside_its_directory(tmp_path, name):
    with pytest.raises(InputError, match="name"):
        PersistentChromaRetriever(tmp_path, name, encoder="hash")


def test_a_copy_is_independent_of_its_source(tmp_path):
    source = PersistentChromaRetriever(tmp_path, "team", encoder="hash")
    source.add_document("I moved to Oslo", {"n": 1}, "oslo")
    copy = CopiedChromaRetriever(tmp_path, "team", encoder="hash")
    copy.delete_document("oslo")
    assert copy.collection_name == "team__clone"
    assert source.collection.count() == 1
    with pytest.raises(NotFound, match="does not exist"):
        CopiedChromaRetriever(tmp_path, "nobody", encoder="hash")


def test_install_replaces_what_a_module_has_and_nothing_else():
    module: Any = ModuleType("memory_system")
    module.ChromaRetriever = object
    amem.install(module, encoder="hash")
    assert issubclass(module.ChromaRetriever, ChromaRetriever)
    assert module.ChromaRetriever().embedding_function(["x"]).shape == (1, 256)
    assert not hasattr(module, "SimpleEmbeddingRetriever")
    with pytest.raises(NotFound, match="json has none of A-MEM's retrievers"):
        amem.install(module, __import__("json"), encoder="hash")
