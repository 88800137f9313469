"""Whose memories a call reaches: those of the ids that it is given, whatever the ids are."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.errors import QueryError
from evomem_integrations.mem0 import AsyncMemory, Memory
from evomem_integrations.mem0.collection import Collection
from evomem_integrations.mem0.filters import OWNERS

PATTERNS = ["*", " * ", {"ne": "alice"}, {"in": ["alice"]}, ["alice"], ("alice",), {"alice"}, b"a"]


@pytest.fixture
def memory(db):
    memory = Memory(database=db)
    memory.add("Alice likes tea.", user_id="alice", agent_id="cook", run_id="r1")
    memory.add("Bob likes tea.", user_id="bob", agent_id="waiter", run_id="r2")
    return memory


def everything(memory):
    return {row.payload["data"] for row in memory._rows.rows({}, None)}


@pytest.mark.parametrize("name", OWNERS)
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_an_id_that_a_filter_reads_as_a_pattern_is_refused_by_every_call(memory, name, pattern):
    ids = {name: pattern}
    before = everything(memory)
    for call in (
        lambda: memory.add("Eve likes tea.", **ids),
        lambda: memory.add("Eve likes tea.", **{**dict.fromkeys(OWNERS, "eve"), **ids}),
        lambda: memory.search("tea", filters=ids),
        lambda: memory.search("tea", **ids),
        lambda: memory.get_all(filters=ids),
        lambda: memory.get_all(**ids),
        lambda: memory.delete_all(**ids),
    ):
        with pytest.raises(QueryError, match=name):
            call()
    assert everything(memory) == before


@pytest.mark.parametrize("name", OWNERS)
@pytest.mark.parametrize("word", ["AND", "OR", "NOT", "$or"])
def test_a_pattern_deep_in_a_filter_is_refused_too(memory, name, word):
    with pytest.raises(QueryError, match=f"{name} is '\\*'"):
        memory.search("tea", filters={"user_id": "alice", word: [{"AND": [{name: "*"}]}]})


async def test_the_asynchronous_class_refuses_patterns_as_well(db):
    async with AsyncMemory(database=db) as memory:
        await memory.add("Alice likes tea.", user_id="alice")
        for call in (
            memory.add("x", user_id="*"),
            memory.search("x", filters={"user_id": "*"}),
            memory.get_all(user_id="*"),
            memory.delete_all(user_id="*"),
        ):
            with pytest.raises(QueryError, match="one owner"):
                await call
        assert len((await memory.get_all(user_id="alice"))["results"]) == 1


def test_the_rows_of_a_vector_store_refuse_patterns_and_rows_of_others(db):
    rows = Collection(db, "c")
    rows.put("1", {"data": "Alice likes tea.", "user_id": "alice"})
    for call in (
        lambda: rows.put("2", {"data": "Eve likes tea.", "user_id": "*"}),
        lambda: rows.put("2", {"data": "Eve likes tea.", "user_id": "eve", "agent_id": "*"}),
        lambda: rows.put("1", {"data": "Eve likes tea.", "user_id": "eve"}),
        lambda: rows.replace("1", {"data": "Eve likes tea.", "user_id": "eve"}),
        lambda: rows.search("tea", {"user_id": "*"}, 5),
        lambda: rows.rows({"run_id": "*"}, None),
        lambda: rows.forget_all({"agent_id": "*"}),
    ):
        with pytest.raises(QueryError):
            call()
    assert [row.payload["data"] for row in rows.rows({}, None)] == ["Alice likes tea."]


def test_metadata_may_still_be_asked_for_any_value(memory):
    memory.add("Alice was in Oslo.", user_id="alice", metadata={"city": "Oslo"})
    hits = memory.get_all(filters={"user_id": "alice", "city": "*"})["results"]
    assert [item["memory"] for item in hits] == ["Alice was in Oslo."]


IDS = st.one_of(
    st.text(min_size=1, max_size=3),
    st.sampled_from(["a", "b", "*", "%", "_", "?", "a*", "$ne", "AND", "a/b", "null", "{}", "[]"]),
    st.integers(0, 2),
)
SCOPES = st.dictionaries(st.sampled_from(OWNERS), IDS, min_size=1)
names = count()


@pytest.fixture(scope="module")
def in_memory():
    with evomem.open(":memory:", encoder="hash") as db:
        yield db


@settings(max_examples=30)
@given(scopes=st.lists(SCOPES, min_size=1, max_size=4), asked=SCOPES)
def test_no_call_with_one_scope_returns_or_removes_memories_of_another(in_memory, scopes, asked):
    memory = Memory(database=in_memory, collection=f"c{next(names)}")
    kept = {}
    for number, scope in enumerate(scopes):
        try:
            memory.add(f"tea {number}", **scope)
        except ValueError:
            continue
        kept[f"tea {number}"] = {name: str(id).strip() for name, id in scope.items()}
    wanted = {name: str(id).strip() for name, id in asked.items()}
    theirs = {text for text, scope in kept.items() if wanted.items() <= scope.items()}
    try:
        listed = memory.get_all(filters=asked, top_k=9)["results"]
    except ValueError:
        assert not theirs  # what could be added can be listed
        with pytest.raises(ValueError, match="_id"):
            memory.delete_all(**asked)
        assert everything(memory) == kept.keys()
        return
    hits = memory.search("tea", filters=asked, top_k=9, threshold=0.0)["results"]
    assert {item["memory"] for item in listed} == {item["memory"] for item in hits} == theirs
    memory.delete_all(**asked)
    assert everything(memory) == kept.keys() - theirs
