from typing import Any

import pytest

from evomem.errors import InputError
from evomem_integrations.amem import AgenticMemorySystem, MemoryNote


@pytest.fixture
def system():
    return AgenticMemorySystem(evo_threshold=3, api_key="unused", encoder="hash")


@pytest.fixture
def ids(system):
    return [
        system.add_note("I adopted a cat called Miso", tags=["pets"], time="202401010000"),
        system.add_note("I moved to Oslo", keywords=["Oslo"], context="home"),
        system.add_note("Chess on Sundays"),
    ]


def test_a_note_has_a_mem_s_attributes_and_defaults():
    note = MemoryNote("x", timestamp="", links=None)
    assert len(note.id) == 36
    assert (note.keywords, note.links, note.tags, note.evolution_history) == ([], [], [], [])
    assert (note.context, note.category, note.retrieval_count) == ("General", "Uncategorized", 0)
    assert len(note.timestamp) == len(note.last_accessed) == 12


def test_notes_are_written_without_an_llm_and_found(system, ids):
    [hit] = system.search("a cat called Miso", k=1)
    assert set(hit) == {"id", "content", "context", "keywords", "score"}
    assert hit["id"] == ids[0]
    assert system.read(ids[0]).timestamp == "202401010000"
    assert list(system.memories) == ids


def test_the_least_score_is_the_best(system, ids):
    scores = [hit["score"] for hit in system.search("Oslo", k=3)]
    assert scores == sorted(scores)


def test_an_unknown_attribute_is_refused_as_by_a_mem(system):
    with pytest.raises(TypeError):
        system.add_note("x", colour="red")


def test_unknown_ids_give_none_false_or_no_hits(system):
    assert system.read("nobody") is None
    assert system.update("nobody", content="x") is False
    assert system.delete("nobody") is False
    assert system.search("x") == system.search_agentic("x") == []
    assert system.find_related_memories("x") == ("", [])
    assert system.find_related_memories_raw("x") == ""


def test_an_update_changes_what_is_found_but_never_the_id(system, ids):
    assert system.update(ids[2], content="Bridge on Mondays", tags=["games"], id="other", odd=1)
    [hit] = system.search_agentic("Bridge on Mondays", k=1)
    assert (hit["id"], hit["content"], hit["tags"]) == (
        ids[2],
        "Bridge on Mondays",
        ["games"],
    )
    assert not hasattr(system.read(ids[2]), "odd")


def test_an_update_that_cannot_be_stored_changes_nothing(system, ids):
    with pytest.raises(InputError):
        system.update(ids[0], content=" ")
    assert system.read(ids[0]).content == "I adopted a cat called Miso"
    assert system.search("a cat called Miso", k=1)[0]["id"] == ids[0]


def test_a_deleted_note_is_not_found(system, ids):
    assert system.delete(ids[0]) is True
    assert ids[0] not in {hit["id"] for hit in system.search("a cat called Miso", k=9)}


def test_linked_notes_fill_up_what_a_search_leaves_room_for(system, ids):
    system.update(ids[0], links=[ids[2], "gone"])
    for other in ids[1:]:
        system.retriever.delete_document(other)  # still notes, but not found by themselves
    result = system.search_agentic("cat", k=2)
    assert [(item["id"], item["is_neighbor"]) for item in result] == [
        (ids[0], False),
        (ids[2], True),
    ]
    assert "score" not in result[1]
    assert len(system.search_agentic("cat", k=1)) == 1


def test_related_memories_are_written_as_a_mem_writes_them(system, ids):
    line = (
        "talk start time:202401010000\tmemory content: I adopted a cat called Miso\t"
        "memory context: General\tmemory keywords: []\tmemory tags: ['pets']\n"
    )
    assert system.find_related_memories("cat called Miso", k=1) == (f"memory index:0\t{line}", [0])
    assert system.find_related_memories_raw("cat called Miso", k=1) == line


def test_consolidation_stores_what_was_changed_on_the_notes_themselves(tmp_path):
    file = str(tmp_path / "notes.db")
    system = AgenticMemorySystem(location=file, encoder="hash")
    id = system.add_note("I moved to Oslo")
    note = system.read(id)
    assert note
    note.context = "home"
    system.consolidate_memories()
    system.close()
    again = AgenticMemorySystem(location=file, encoder="hash")
    result = again.read(id)
    assert result
    assert result.context == "home"


def test_notes_are_there_again_when_a_file_is_opened_again(tmp_path):
    file = str(tmp_path / "notes.db")
    with_all: dict[str, Any] = {
        "keywords": ["k"],
        "links": ["l"],
        "retrieval_count": 2,
        "timestamp": "00",
        "last_accessed": "202401010000",
        "context": "7",
        "evolution_history": [{"a": 1}],
        "category": "c",
        "tags": ["t"],
    }
    first = AgenticMemorySystem(location=file, encoder="hash")
    id = first.add_note("42", **with_all)
    first.close()
    again = AgenticMemorySystem(location=file, encoder="hash")
    assert vars(again.read(id)) == {"id": id, "content": "42", **with_all}


def test_two_systems_in_one_process_are_independent(system, ids):
    other = AgenticMemorySystem(encoder="hash")
    other.add_note("Secret of another user")
    assert len(system.search("Secret of another user", k=9)) == 3
    assert len(other.search("cat", k=9)) == 1


def test_notes_do_not_evolve_without_an_llm(system, ids):
    note = system.read(ids[0])
    assert system.process_memory(note) == (False, note)
    assert system.analyze_content("x") == {"keywords": [], "context": "General", "tags": []}
