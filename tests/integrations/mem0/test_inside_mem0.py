"""evomem as a vector store of an unmodified Mem0, and `Memory` beside Mem0's own."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("mem0", reason="mem0ai, the extra [mem0], is not installed")

import mem0
from mem0.embeddings.base import EmbeddingBase
from mem0.llms.base import LLMBase
from mem0.utils.factory import EmbedderFactory, LlmFactory
from mem0.vector_stores.base import VectorStoreBase

from evomem_integrations.mem0 import EvoMemVectorStore, Memory, register

ALICE = {"user_id": "alice"}


class Facts(LLMBase):  # type: ignore[misc]  # Mem0 has no types
    """Extracts every line of the user as a fact, as a language model would be asked to."""

    def generate_response(self, messages, response_format=None, **kwargs):
        text = messages[-1]["content"]
        facts = [line for line in ("I live in Bergen.", "I have a cat.") if line in text]
        return json.dumps({"memory": [{"text": fact} for fact in facts]})


class Nothing(EmbeddingBase):  # type: ignore[misc]
    """Vectors that tell nothing: whatever is found, evomem has found."""

    def embed(self, text, memory_action=None):
        return [0.0] * 8


@pytest.fixture
def config(tmp_path, monkeypatch):
    register()
    here = "tests.integrations.mem0.test_inside_mem0"
    monkeypatch.setitem(EmbedderFactory.provider_to_class, "huggingface", f"{here}.Nothing")
    config_class = LlmFactory.provider_to_class["ollama"][1]
    monkeypatch.setitem(LlmFactory.provider_to_class, "ollama", (f"{here}.Facts", config_class))
    return {
        "vector_store": {
            "provider": "evomem",
            "config": {"location": str(tmp_path / "agent.db"), "encoder": "hash"},
        },
        "embedder": {"provider": "huggingface", "config": {}},
        "llm": {"provider": "ollama", "config": {}},
        "history_db_path": ":memory:",
    }


@pytest.fixture
def theirs(config):
    with mem0.Memory.from_config(config) as memory:
        yield memory


def texts(result):
    return [item["memory"] for item in result["results"]]


# through Mem0 -----------------------------------------------------------------------------------


def test_extracted_facts_can_be_found_updated_and_deleted(theirs):
    assert isinstance(theirs.vector_store, VectorStoreBase)
    messages = [{"role": "user", "content": "I live in Bergen.\nI have a cat."}]
    added = theirs.add(messages, user_id="alice")["results"]
    assert [event["memory"] for event in added] == ["I live in Bergen.", "I have a cat."]
    # Mem0 drops duplicates by their hash.
    assert theirs.add(messages, user_id="alice")["results"] == []
    hits = theirs.search("Who lives in Bergen?", filters=ALICE, top_k=1)
    assert texts(hits) == ["I live in Bergen."]
    id = hits["results"][0]["id"]
    theirs.update(id, "I live in Oslo.")
    assert theirs.get(id)["memory"] == "I live in Oslo."
    assert sorted(texts(theirs.get_all(filters=ALICE))) == ["I have a cat.", "I live in Oslo."]
    theirs.delete(id)
    assert theirs.get(id) is None
    with pytest.raises(ValueError, match="not found"):
        theirs.delete(id)
    theirs.delete_all(user_id="alice")
    assert theirs.get_all(filters=ALICE) == {"results": []}


def test_filters_reach_the_store_as_mem0_passes_them_on(theirs):
    for city, stars in (("Oslo", 5), ("Bergen", 3), ("Rome", 4)):
        theirs.add(
            f"I was in {city}.",
            user_id="alice",
            infer=False,
            metadata={"city": city, "stars": stars},
        )

    def cities(**filters):
        hits = theirs.search("I was in", filters={**ALICE, **filters}, threshold=0.0)
        return {item["metadata"]["city"] for item in hits["results"]}

    assert cities(stars={"gte": 4}) == {"Oslo", "Rome"}
    assert cities(OR=[{"city": "Oslo"}, {"stars": 3}]) == {"Oslo", "Bergen"}
    assert cities(NOT=[{"city": "Oslo"}]) == {"Bergen", "Rome"}
    assert cities(city="*") == {"Oslo", "Bergen", "Rome"}
    assert cities(city={"in": ["Rome"]}) == {"Rome"}


def test_rows_survive_and_reset_forgets_them(config, tmp_path):
    with mem0.Memory.from_config(config) as memory:
        memory.add("I live in Bergen.", user_id="alice", infer=False)
    with mem0.Memory.from_config(config) as memory:
        assert texts(memory.get_all(filters=ALICE)) == ["I live in Bergen."]
        memory.reset()
        assert memory.get_all(filters=ALICE) == {"results": []}
    assert b"Bergen" not in (tmp_path / "agent.db").read_bytes()


@pytest.mark.parametrize("name", ["user_id", "agent_id", "run_id"])
def test_mem0_reaches_nobody_with_an_id_that_it_reads_as_everybody(theirs, name):
    theirs.add("I live in Bergen.", **{name: "alice"}, infer=False)
    for call in (
        lambda: theirs.add("I live in Rome.", **{name: "*"}, infer=False),
        lambda: theirs.search("Bergen", filters={name: "*"}),
        lambda: theirs.get_all(filters={name: "*"}),
        lambda: theirs.delete_all(**{name: "*"}),
    ):
        with pytest.raises(ValueError, match="one owner"):
            call()
    assert texts(theirs.get_all(filters={name: "alice"})) == ["I live in Bergen."]


async def test_mem0s_asynchronous_class_works_too(config):
    async with mem0.AsyncMemory.from_config(config) as memory:
        await memory.add("I live in Bergen.", user_id="alice", infer=False)
        hits = await memory.search("Bergen", filters=ALICE)
        assert texts(hits) == ["I live in Bergen."]


def test_the_provider_checks_its_configuration(config):
    config["vector_store"]["config"] = {"path": "/tmp/x"}
    with pytest.raises(ValueError, match="location"):
        mem0.Memory.from_config(config)


# the store itself -------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    return EvoMemVectorStore(str(tmp_path / "agent.db"), "c", "hash")


def rows(*texts, **payload):
    payloads = [{"data": text, **ALICE, **payload} for text in texts]
    return [[0.0]] * len(texts), payloads, [f"id-{text}" for text in texts]


def test_a_store_does_what_mem0_asks_of_one(store):
    store.create_col("c", 8, "cosine")
    store.insert(*rows("I live in Bergen.", "I have a cat.", stars=4))
    match = store.search("Bergen", [0.0], top_k=2, filters=ALICE)
    assert match[0].payload == {"data": "I live in Bergen.", **ALICE, "stars": 4}
    assert all(0 <= row.score <= 1 for row in match)
    assert match == sorted(match, key=lambda row: -row.score)
    assert [row.id for row in store.keyword_search("cat", filters=ALICE)] == ["id-I have a cat."]
    assert store.search(" ", [0.0]) == store.search("x", [0.0], top_k=0) == []
    assert len(store.list(filters=ALICE)[0]) == 2
    assert len(store.list(top_k=1)[0]) == 1
    assert store.list_cols() == ["c"]
    assert store.col_info() == {"name": "c", "count": 2, "dimension": 256, "distance": "cosine"}


def test_an_id_that_is_inserted_again_is_replaced(store):
    store.insert(*rows("a b"))
    store.insert([[0.0]], [{"data": "c d", **ALICE}], ["id-a b"])
    [[row]] = store.list()
    assert (row.id, row.payload["data"]) == ("id-a b", "c d")


def test_an_update_replaces_the_payload_and_reads_only_a_new_text(store):
    store.insert(*rows("a b", stars=4))
    memory = store._rows.database.memory("mem0", "c", "user_id", "alice")
    [before] = memory.history()
    store.update(vector_id="id-a b", vector=[0.0], payload={"data": "a b", **ALICE, "x": 1})
    assert store.get(vector_id="id-a b").payload == {"data": "a b", **ALICE, "x": 1}
    assert memory.history()[0].seq == before.seq
    store.update("id-a b", payload=None)
    store.update("id-a b", payload={"data": "c d", **ALICE})
    assert [record.text for record in memory.history()] == ["User: c d"]


def test_missing_ids_are_no_error_and_rows_without_text_are(store):
    assert store.get("nothing") is None
    store.delete("nothing")
    with pytest.raises(ValueError, match="needs text"):
        store.insert([[0.1]], [{"user_id": "u", "type": "user_identity"}], ["u"])
    with pytest.raises(ValueError, match="reads texts"):
        store.insert([[0.1]])
    store.insert(*rows("a b"))
    store.delete_col()
    assert store.list() == [[]]


# beside Mem0 ------------------------------------------------------------------------------------


def test_results_have_the_same_shapes_as_those_of_mem0(theirs, tmp_path):
    ours = Memory(
        {"vector_store": {"config": {"location": str(tmp_path / "o.db"), "encoder": "hash"}}}
    )

    def shapes(memory):
        meta = {"topic": "home"}
        chat = [{"role": "user", "content": "I live in Bergen."}]
        raw = memory.add(chat, user_id="alice", run_id="r", metadata=meta, infer=False)
        inferred = memory.add("I have a cat.", user_id="alice")
        id = raw["results"][0]["id"]
        yield from (raw, inferred, memory.get(id), memory.get(inferred["results"][0]["id"]))
        yield memory.get_all(filters=ALICE)
        yield memory.search("Bergen", filters={**ALICE, "run_id": "r"}, explain=True)
        yield memory.update(id, "I live in Oslo.")
        yield [
            {k: v for k, v in e.items() if k not in ("id", "memory_id")} for e in memory.history(id)
        ]
        yield (
            memory.delete(id),
            memory.get(id),
            memory.delete_all(user_id="alice"),
            memory.reset(),
        )

    for mine, mem0s in zip(shapes(ours), shapes(theirs), strict=True):
        assert shape(mine) == shape(mem0s)


def shape(value):
    """What can be relied on: keys in their order do not matter, nor do values of these kinds."""
    if isinstance(value, dict):
        varied = {
            "role",
            "score_details",
        }  # extracted facts have no role; ours were said by someone
        return {key: shape(item) for key, item in sorted(value.items()) if key not in varied}
    if isinstance(value, list | tuple):
        return [shape(item) for item in value]
    return value if isinstance(value, str) and value.endswith("!") else type(value).__name__


def test_a_configuration_object_opens_the_same_database(config):
    given = mem0.configs.base.MemoryConfig(**config)
    memory = Memory(given)
    memory.add("I live in Bergen.", user_id="alice")
    with Memory.from_config({"vector_store": config["vector_store"]}) as again:
        assert len(again.get_all(filters=ALICE)["results"]) == 1
    memory.close()
