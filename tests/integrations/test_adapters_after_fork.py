"""Adapters that were used before a fork, in the child: what a preloading server does."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

import evomem
from evomem_integrations import _databases
from tests.forked import fork, needs_fork

pytestmark = needs_fork


@pytest.fixture
def location(tmp_path):
    return str(tmp_path / "a.db")


def in_parent_child_and_parent(use):
    """Use an adapter before a fork, in the child, and in the parent after it."""
    use("before")
    fork(lambda: use("child"))()
    use("after")


def test_langchain_s_vector_store(location):
    pytest.importorskip("langchain_core")
    from evomem_integrations.langchain import EvoMemEmbeddings, EvoMemVectorStore

    encoder = evomem.HashEncoder()
    store = EvoMemVectorStore.from_texts(
        ["first"], EvoMemEmbeddings(encoder), location=location, namespace=("a",)
    )

    async def use(name):
        await store.aadd_texts([f"said {name}"], ids=[name])
        assert [
            document.id for document in await store.asimilarity_search(f"said {name}", k=1)
        ] == [name]

    in_parent_child_and_parent(lambda name: asyncio.run(use(name)))
    assert [document.id for document in store.get_by_ids(["before", "child", "after"])] == [
        "before",
        "child",
        "after",
    ]


def test_langgraph_s_store(location):
    pytest.importorskip("langgraph")
    from evomem_integrations.langgraph import EvoMemStore

    with evomem.open(location, "hash") as db:
        store = EvoMemStore(db)
        store.start_ttl_sweeper(60)

        async def use(name):
            await store.aput(("notes",), name, {"text": f"said {name}"})
            hits = await store.asearch(("notes",), query=f"said {name}", limit=1)
            assert [item.key for item in hits] == [name]

        def call(name):
            asyncio.run(use(name))
            if name == "child":
                store.start_ttl_sweeper(60)
                assert store.stop_ttl_sweeper(5)

        in_parent_child_and_parent(call)
        assert {item.key for item in store.search(("notes",))} == {"before", "child", "after"}
        store.close()


def test_llamaindex_s_memory(location):
    pytest.importorskip("llama_index.core")
    from llama_index.core.llms import ChatMessage

    from evomem_integrations.llamaindex import EvoMemMemory

    memory = EvoMemMemory(
        location=location, namespace=("a",), encoder="hash", session_id="s", token_limit=100_000
    )

    def exchange(name):
        return [ChatMessage(f"asked {name}"), ChatMessage(f"told {name}", role="assistant")]

    def use(name):
        memory.put_messages(exchange(f"{name} waiting"))
        asyncio.run(memory.aput_messages(exchange(name)))
        assert f"told {name}" in str(memory.get_all()[-1].content)
        assert memory.memory.search(f"asked {name}", k=1)

    in_parent_child_and_parent(use)
    assert len(memory.get_all()) == 12
    assert len(memory.memory) == 6


def test_mem0_s_memory(location):
    from evomem_integrations.mem0 import AsyncMemory

    config = {"location": location, "encoder": "hash"}
    memory = AsyncMemory({"vector_store": {"provider": "evomem", "config": config}})

    async def use(name):
        await memory.add(f"said {name}", user_id="alice")
        hits = await memory.search(f"said {name}", filters={"user_id": "alice"})
        assert f"said {name}" in [hit["memory"] for hit in hits["results"]]

    in_parent_child_and_parent(lambda name: asyncio.run(use(name)))
    assert len(asyncio.run(memory.get_all(filters={"user_id": "alice"}))["results"]) == 3
    memory.close()


def test_a_mem_s_retriever(tmp_path):
    from evomem_integrations.amem import PersistentChromaRetriever

    notes = PersistentChromaRetriever(directory=tmp_path, encoder="hash")

    def use(name):
        notes.add_document(f"said {name}", {}, name)
        assert notes.search(f"said {name}", k=1)["ids"] == [[name]]

    in_parent_child_and_parent(use)
    assert {*notes.search("said", k=9)["ids"][0]} == {"before", "child", "after"}


def test_lightmem_s_memory(tmp_path):
    from evomem_integrations.lightmem import LightMemory

    configs = {"path": str(tmp_path / "notes"), "on_disk": True}
    memory = LightMemory({"embedding_retriever": {"configs": configs}}, encoder="hash")

    def use(name):
        memory.add_memory(
            {"role": "user", "content": f"said {name}", "time_stamp": "2026-01-05T10:00:00"}
        )
        assert f"said {name}" in str(memory.retrieve(f"said {name}", limit=1))

    in_parent_child_and_parent(use)
    assert all(name in str(memory.retrieve("said", limit=9)) for name in ("child", "after"))


def test_memoryos_s_embedding():
    from evomem_integrations import memoryos

    module = SimpleNamespace(__name__="mid_term", get_embedding=None)
    memoryos.install(module, encoder="hash")  # type: ignore[arg-type]

    def use(name):
        assert module.get_embedding(f"said {name}").shape
        assert module.get_embedding(f"User: said {name} Assistant: yes").shape

    in_parent_child_and_parent(use)


def test_locks_that_other_threads_hold_at_the_fork_do_not_hold_up_adapters(location):
    from evomem_integrations.amem import ChromaRetriever

    notes = ChromaRetriever(encoder="hash")
    handle = _databases.share(location, "hash")
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with notes._documents._lock, _databases._guard:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()

    def child():
        notes.add_document("said by the child", {}, "child")
        return [_databases.share(location) is handle, notes.search("child", k=1)["ids"]]

    assert fork(child)() == [True, [["child"]]]
    leave.set()
    thread.join()
