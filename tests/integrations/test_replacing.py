"""Adapters that replace a value do it at once, whoever else replaces the same value meanwhile."""

from __future__ import annotations

import pytest

import evomem
from evomem.adapter import Adapter
from evomem.encoder import HashEncoder
from evomem.records import Turn
from evomem_integrations.documents import put
from evomem_integrations.langchain import EvoMemVectorStore
from evomem_integrations.langgraph import EvoMemStore
from evomem_integrations.mem0.collection import Collection
from tests.overtaken import Overtaken


def langgraph(db):
    store = EvoMemStore(db, index={"fields": ["text"]})
    return db.memory("langgraph", "users"), lambda text: store.put(("users",), "k", {"text": text})


def langchain_vectorstore(db):
    store = EvoMemVectorStore(db, "documents")
    return store.memory, lambda text: store.add_texts([text], ids=["k"])


def conversation(db):
    """What adapters of chats write with."""
    memory = db.memory("chat")
    question = {"role": "user", "content": "?", "id": "q"}

    def answer(text):
        reply = {"role": "assistant", "content": text, "id": text}
        assert Adapter(memory, strict=True).capture([question, reply], session="t")

    return memory, answer


def documents(db):
    """What A-MEM's and LightMem's documents are put with."""
    memory = db.memory("notes")
    return memory, lambda text: put(memory, "k", lambda _: Turn(user=text, session="k"))


def mem0(db):
    rows = Collection(db, "rows")
    memory = db.memory("mem0", "rows", "user_id", "alice")
    return memory, lambda text: rows.put("k", {"data": text, "user_id": "alice"})


ADAPTERS = [langgraph, langchain_vectorstore, conversation, documents, mem0]


@pytest.fixture
def both(tmp_path):
    """Two processes, as it were, on one database; the first one's encoder may be overtaken."""
    path, encoder = str(tmp_path / "a.db"), Overtaken()
    with evomem.open(path, encoder) as slow, evomem.open(path, HashEncoder(32)) as fast:
        yield slow, fast, encoder


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_writer_that_was_overtaken_replaces_what_the_other_wrote(both, adapter):
    slow, fast, encoder = both
    memory, put = adapter(slow)
    put("first")
    encoder.meanwhile = lambda: adapter(fast)[1]("quick")
    put("late")
    assert [text(record) for record in memory.history()] == ["late"]
    everything = memory.history(all=True)
    assert [text(record) for record in everything] == ["first", "quick", "late"]
    assert [record.replaced_by for record in everything] == [2, 3, None]
    assert slow.verify() == []


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_later_of_two_writers_replaces_the_value_of_the_other(both, adapter):
    slow, fast, encoder = both
    memory, put = adapter(slow)
    slow.memory(*memory.namespace).add("Something else.", session="other")
    encoder.meanwhile = lambda: adapter(fast)[1]("quick")
    put("late")
    assert [text(record) for record in memory.history()] == ["Something else.", "late"]
    assert [record.replaced_by for record in memory.history(all=True)] == [None, 3, None]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_between_the_old_value_and_the_new_one_a_reader_sees_exactly_one(both, adapter):
    slow, fast, encoder = both
    memory, put = adapter(slow)
    put("old")
    other = fast.memory(*memory.namespace)
    seen: list[list[str]] = []
    encoder.meanwhile = lambda: seen.append([text(record) for record in other.history()])
    put("new")
    seen.append([text(record) for record in other.history()])
    assert seen == [["old"], ["new"]]


@pytest.mark.parametrize("adapter", [documents, mem0])
def test_a_value_with_the_same_text_is_not_read_again(both, adapter):
    memory, put = adapter(both[0])
    put("same")
    put("same")
    assert [record.seq for record in memory.history(all=True)] == [1]


def test_a_payload_that_comes_too_late_for_its_text_brings_the_text_again(both):
    """The other writer replaces the text between the look at it and the new payload."""
    slow, fast, _ = both
    rows, other = Collection(slow, "rows"), Collection(fast, "rows")
    rows.put("k", {"data": "tea", "user_id": "alice", "n": 1})
    memory = slow.memory("mem0", "rows", "user_id", "alice")
    annotate = type(memory).annotate

    def late(self, id, metadata):
        if meanwhile:
            meanwhile.pop()()
        return annotate(self, id, metadata)

    meanwhile = [lambda: other.put("k", {"data": "coffee", "user_id": "alice"})]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(memory), "annotate", late)
        rows.put("k", {"data": "tea", "user_id": "alice", "n": 2})
    row = rows.get("k")
    assert row is not None
    assert row.payload == {"data": "tea", "user_id": "alice", "n": 2}
    assert [text(record) for record in memory.history()] == ["tea"]


def text(record):
    return record.turn.assistant or record.turn.user
