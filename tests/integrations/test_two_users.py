"""Two users who call everything by the same names share nothing, in every adapter.

Each class below is one adapter as one user has it; every call opens the database anew, as a restart
would. `KEEPS_NOTHING` names the rest: a new adapter is in one of the two, or a test fails.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import pkgutil
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

import evomem
import evomem_integrations
from evomem_integrations import amem, lightmem, mem0
from evomem_integrations.lightmem.embedder import TextVector
from evomem_integrations.mem0.collection import Collection
from tests.conftest import ROOT

ALICE, BOB = "zqalice takes her tea with milk", "zqbob takes his tea with lemon"
KEEPERS: dict[type[Any], Any] = {}


class Keeper:
    """What one user keeps in a folder that all users share."""

    adapter = ""
    purges: bool | None = True  # whether `purge` is a choice; `erase` hides if it is not made

    def __init_subclass__(cls, name: str, needs: str | None = None, **options):
        super().__init_subclass__(**options)
        skip = pytest.mark.skipif(bool(needs) and not installed(needs), reason=f"needs {needs}")
        KEEPERS[cls] = pytest.param(cls, id=cls.__name__, marks=skip)
        cls.adapter = name

    def __init__(self, folder, user, purge=False):
        self.folder, self.user, self.purge = folder, user, purge

    def open(self):
        return evomem.open(str(self.folder / "agent.db"), encoder="hash")


def installed(module):
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that would hold it
        return False


class Messages(Keeper, name="llamaindex.EvoMemMemory", needs="llama_index.core"):
    def memory(self):
        from evomem_integrations.llamaindex import EvoMemMemory

        return EvoMemMemory(
            location=str(self.folder / "agent.db"),
            encoder="hash",
            namespace=("acme", self.user),
            session_id="main",
            purge=self.purge,
        )

    def tell(self, text):
        from llama_index.core.llms import ChatMessage

        self.put(ChatMessage(role="user", content=text))
        self.put(ChatMessage(role="assistant", content="Noted."))
        self.put(ChatMessage(role="user", content=f"Do you know that {text}?"))  # waits

    def put(self, message):
        self.memory().put(message)

    def seen(self):
        memory = self.memory()
        return [*memory.get_all(), *memory.get("tea"), *memory.memory.history()]

    def erase(self):
        self.memory().reset()

    def seen_after_hiding(self):
        return self.memory().get_all()


class MessagesAsynchronously(Messages, name="llamaindex.EvoMemMemory", needs="llama_index.core"):
    def put(self, message):
        asyncio.run(self.memory().aput(message))

    def seen(self):
        return [*asyncio.run(self.memory().aget("tea")), *asyncio.run(self.memory().aget_all())]

    def erase(self):
        asyncio.run(self.memory().areset())


class Block(Keeper, name="llamaindex.EvoMemBlock", needs="llama_index.core"):
    purges = None  # it deletes nothing

    def block(self):
        from evomem_integrations.llamaindex import EvoMemBlock

        return EvoMemBlock(
            location=str(self.folder / "agent.db"), encoder="hash", namespace=("acme", self.user)
        )

    def tell(self, text):
        from llama_index.core.llms import ChatMessage

        messages = [
            ChatMessage(role="user", content=text),
            ChatMessage(role="assistant", content="!"),
        ]
        asyncio.run(self.block().aput(messages, session_id="main"))

    def seen(self):
        from llama_index.core.llms import ChatMessage

        asked = [ChatMessage(role="user", content="tea")]
        return [asyncio.run(self.block().aget(asked, session_id="main"))]


class ChatHistory(Keeper, name="langchain.EvoMemChatMessageHistory", needs="langchain_core"):
    def with_history(self, call):
        from evomem_integrations.langchain import EvoMemChatMessageHistory

        with self.open() as db:
            memory = db.memory("acme", self.user)
            return call(EvoMemChatMessageHistory(memory, "main", purge=self.purge))

    def tell(self, text):
        self.with_history(lambda history: history.add_user_message(text))

    def seen(self):
        return self.with_history(lambda history: history.messages)

    def erase(self):
        self.with_history(lambda history: history.clear())


class ChatHistoryAsynchronously(
    ChatHistory, name="langchain.EvoMemChatMessageHistory", needs="langchain_core"
):
    def tell(self, text):
        from langchain_core.messages import HumanMessage

        messages = [HumanMessage(text)]
        self.with_history(lambda history: asyncio.run(history.aadd_messages(messages)))

    def seen(self):
        return self.with_history(lambda history: asyncio.run(history.aget_messages()))

    def erase(self):
        self.with_history(lambda history: asyncio.run(history.aclear()))


class VectorStore(Keeper, name="langchain.EvoMemVectorStore", needs="langchain_core"):
    def with_store(self, call):
        from evomem_integrations.langchain import EvoMemVectorStore

        with self.open() as db:
            return call(EvoMemVectorStore(db, "acme", self.user, purge=self.purge))

    def tell(self, text):
        self.with_store(lambda store: store.add_texts([f"once: {text}"], ids=["main"]))
        self.with_store(lambda store: store.add_texts([text], ids=["main"]))

    def seen(self):
        return self.with_store(
            lambda store: [*store.get_by_ids(["main"]), *store.similarity_search("tea", k=9)]
        )

    def erase(self):
        self.with_store(lambda store: store.delete(["main"]))


class VectorStoreAsynchronously(
    VectorStore, name="langchain.EvoMemVectorStore", needs="langchain_core"
):
    def tell(self, text):
        self.with_store(lambda store: asyncio.run(store.aadd_texts([text], ids=["main"])))

    def seen(self):
        return self.with_store(lambda store: asyncio.run(store.asimilarity_search("tea", k=9)))

    def erase(self):
        self.with_store(lambda store: asyncio.run(store.adelete(["main"])))


class Items(Keeper, name="langgraph.EvoMemStore", needs="langgraph.store.base"):
    def with_store(self, call):
        from evomem_integrations.langgraph import EvoMemStore

        with self.open() as db:
            store = EvoMemStore(db, purge=self.purge)
            try:
                return call(store, ("users", self.user))
            finally:
                store.close()

    def tell(self, text):
        self.with_store(lambda store, place: store.put(place, "main", {"text": f"once: {text}"}))
        self.with_store(lambda store, place: store.put(place, "main", {"text": text}))

    def seen(self):
        return self.with_store(
            lambda store, place: [store.get(place, "main"), *store.search(place, query="tea")]
        )

    def erase(self):
        self.with_store(lambda store, place: store.delete(place, "main"))


class ItemsAsynchronously(Items, name="langgraph.EvoMemStore", needs="langgraph.store.base"):
    def tell(self, text):
        self.with_store(lambda store, place: asyncio.run(store.aput(place, "main", {"text": text})))

    def seen(self):
        return self.with_store(lambda store, place: asyncio.run(store.asearch(place, query="tea")))

    def erase(self):
        self.with_store(lambda store, place: asyncio.run(store.adelete(place, "main")))


class Mem0(Keeper, name="mem0.Memory"):
    purges = False  # it always does

    def with_memory(self, call):
        with self.open() as db:
            return call(mem0.Memory(database=db))

    def tell(self, text):
        ids = {"user_id": self.user, "run_id": "main"}
        self.with_memory(lambda memory: memory.add(text, **ids))

    def seen(self):
        ids = {"user_id": self.user, "run_id": "main"}
        return self.with_memory(
            lambda memory: [memory.get_all(filters=ids), memory.search("tea", filters=ids)]
        )

    def erase(self):
        self.with_memory(lambda memory: memory.delete_all(user_id=self.user, run_id="main"))


class Mem0Asynchronously(Mem0, name="mem0.AsyncMemory"):
    def with_memory(self, call):
        async def called(db):
            async with mem0.AsyncMemory(database=db) as memory:
                done = call(memory)
                return [await item for item in done] if isinstance(done, list) else await done

        with self.open() as db:
            return asyncio.run(called(db))


class Mem0Rows(Keeper, name="mem0.EvoMemVectorStore"):
    purges = False

    def tell(self, text):
        with self.open() as db:
            Collection(db, "c").put(f"main-{self.user}", {"data": text, "user_id": self.user})

    def seen(self):
        with self.open() as db:
            ids = {"user_id": self.user}
            rows = Collection(db, "c")
            return [*rows.rows(ids, None), *rows.search("tea", ids, 9)]

    def erase(self):
        with self.open() as db:
            Collection(db, "c").forget(f"main-{self.user}")


class Notes(Keeper, name="amem.AgenticMemorySystem"):
    def with_notes(self, call):
        system = amem.AgenticMemorySystem(
            location=str(self.folder / "agent.db"),
            encoder="hash",
            user_id=self.user,
            purge=self.purge,
        )
        try:
            return call(system)
        finally:
            system.close()

    def tell(self, text):
        self.with_notes(lambda system: system.add_note(f"once: {text}", id="main"))
        self.with_notes(lambda system: system.update("main", content=text))

    def seen(self):
        return self.with_notes(
            lambda system: [*map(vars, system.memories.values()), *system.search("tea", k=9)]
        )

    def erase(self):
        self.with_notes(lambda system: system.delete("main"))


class Retriever(Keeper, name="amem.PersistentChromaRetriever"):
    def with_retriever(self, call):
        retriever = amem.PersistentChromaRetriever(
            self.folder, self.user, extend=True, encoder="hash", purge=self.purge
        )
        try:
            return call(retriever)
        finally:
            retriever.close()

    def tell(self, text):
        self.with_retriever(lambda retriever: retriever.add_document(text, {"x": 1}, "main"))

    def seen(self):
        return self.with_retriever(
            lambda retriever: [retriever.collection.get(), retriever.search("tea")]
        )

    def erase(self):
        self.with_retriever(lambda retriever: retriever.delete_document("main"))


class Light(Keeper, name="lightmem.EmbeddingRetriever"):
    def with_memory(self, call):
        store = {"collection_name": self.user, "path": str(self.folder), "on_disk": True}
        config = {"embedding_retriever": {"configs": store}}
        memory = lightmem.LightMemory(config, encoder="hash", purge=self.purge)
        try:
            return call(memory.embedding_retriever)
        finally:
            memory.close()

    def tell(self, text):
        def insert(retriever):
            payload = {"memory": text, "role": "user"}
            retriever.insert([TextVector(text, retriever.loaded)], [payload], ["main"])

        self.with_memory(insert)

    def seen(self):
        return self.with_memory(lambda retriever: [retriever.get_all()])

    def erase(self):
        self.with_memory(lambda retriever: retriever.delete("main"))


class LightClass(Light, name="lightmem.LightMemory"):
    def tell(self, text):
        store = {"collection_name": self.user, "path": str(self.folder), "on_disk": True}
        memory = lightmem.LightMemory({"embedding_retriever": {"configs": store}}, encoder="hash")
        stamp = "2023/05/20 (Sat) 00:44"
        memory.add_memory({"role": "user", "content": text, "time_stamp": stamp})
        memory.close()

    def erase(self):
        def delete(retriever):
            for point in retriever.get_all():
                retriever.delete(point["id"])

        self.with_memory(delete)


class Files(Keeper, name="anthropic.EvoMemMemoryTool", needs="anthropic"):
    def call(self, **command):
        from evomem_integrations.anthropic import EvoMemMemoryTool

        with self.open() as db:
            tool = EvoMemMemoryTool(db.memory("acme", self.user), purge=self.purge)
            return tool.call({"path": "/memories/main", **command})

    def tell(self, text):
        self.call(command="create", file_text=f"once: {text}")
        self.call(command="str_replace", old_str="once: ", new_str="")

    def seen(self):
        from anthropic.lib.tools import ToolError

        try:
            return [self.call(command="view")]
        except ToolError:
            return []

    def erase(self):
        self.call(command="delete")


class FilesAsynchronously(Files, name="anthropic.EvoMemAsyncMemoryTool", needs="anthropic"):
    def call(self, **command):
        from evomem_integrations.anthropic import EvoMemAsyncMemoryTool

        with self.open() as db:
            tool = EvoMemAsyncMemoryTool(db.memory("acme", self.user), purge=self.purge)
            return asyncio.run(tool.call({"path": "/memories/main", **command}))


KEEPS_NOTHING = {
    "agent_framework.EvoMemContextProvider": "in the session: tests/integrations/agent_framework",
    "amem.ChromaRetriever": "in memory, one collection for each object",
    "amem.CopiedChromaRetriever": "in memory, one collection for each object",
    "amem.MemoryNote": "a value",
    "amem.SimpleEmbeddingRetriever": "in memory; files where the caller says",
    "amem.install": "the encoder, for the process",
    "google_adk.EvoMemMemoryService": "for one run: tests/integrations/contract/test_google_adk.py",
    "langchain.EmbeddingsEncoder": "the model",
    "langchain.EvoMemEmbeddings": "the encoder",
    "langchain.EvoMemMiddleware": "in the host's state: tests/integrations/langchain",
    "langchain.EvoMemRetriever": "reads the memory that it is given",
    "lightmem.PlainTextEmbedder": "the encoder, and how often it was called",
    "lightmem.TextEmbedder": "the encoder, and how often it was called",
    "lightmem.install": "the encoder, for the process",
    "llamaindex.EvoMemEmbedding": "the encoder",
    "llamaindex.EvoMemReranker": "the encoder",
    "llamaindex.EvoMemRetriever": "reads the memory that it is given",
    "mem0.MemoryNotFound": "an error",
    "mem0.register": "the provider's name, for the process",
    "memoryos.Embedding": "the encoder",
    "memoryos.install": "the encoder, for the process",
    "openai_agents.run_options": "for one run, in the session that it is given",
    "strands.EvoMemMemoryStore": "one conversation: tests/integrations/contract/test_strands.py",
    "pydantic_ai.EvoMemCapability": "for one run: tests/integrations/pydantic_ai",
}

HELD = {
    ("agent_framework.provider", "ContextVar"): "whether a tool of an agent calls this one",
    ("google_adk.service", "ContextVar"): "the session of the run that asks",
    ("google_adk.service", "cached_property"): "the plugin, which keeps nothing",
    ("_databases", "WeakValueDictionary"): "open databases, by place and options",
    ("_databases", "Lock"): "guards the line above",
    ("_databases", "open"): "one for each place and options",
    ("documents", "Lock"): "one for each object, which has one memory",
    ("documents", "open"): "one for each object",
    ("langchain.encoder", "cached_property"): "what the model is",
    ("langchain.vectorstore", "open"): "one for each object",
    ("langgraph.async_embeddings", "Lock"): "guards the line below",
    ("langgraph.async_embeddings", "Thread"): "the event loop of one embedding function",
    ("langgraph.catalogue", "cached_property"): "of the items below one prefix of one store",
    ("langgraph.store", "LruCache"): "items, by prefix; one for each store",
    ("langgraph.store", "ThreadPoolExecutor"): "runs calls in order; keeps none",
    ("langgraph.store", "Event"): "stops the sweeper",
    ("langgraph.store", "Thread"): "the sweeper",
    ("langgraph.store", "open"): "one for each object",
    ("lightmem.embedder", "Lock"): "guards counters",
    ("llamaindex.chats", "ThreadPoolExecutor"): "runs one call",
    ("llamaindex.chats", "create_async_engine"): "rows by place, namespace and session",
    ("llamaindex.connection", "share"): "by location, encoder and options",
    ("llamaindex.connection", "PrivateAttr"): "the line above",
    ("llamaindex.embedding", "PrivateAttr"): "the encoder",
    ("llamaindex.memory", "PrivateAttr"): "the history, by all fields that say which it is",
    ("llamaindex.reranker", "PrivateAttr"): "the encoder",
    ("mem0.aio", "ThreadPoolExecutor"): "runs calls in order; keeps none",
    ("mem0.memory", "share"): "by location and options",
    ("mem0.vector_store", "share"): "by location and options",
    ("pydantic_ai.capability", "ContextVar"): "whether a function of an agent calls this one",
    ("strands.store", "ContextVar"): "whether a tool of an agent calls this one",
}
"""Everything in which an adapter holds something between two calls, and by which key."""


def packages():
    result = pkgutil.iter_modules(evomem_integrations.__path__)
    return [module.name for module in result if module.ispkg]


def test_every_adapter_is_tested_here_or_keeps_nothing():
    public = {
        f"{package}.{name}"
        for package in packages()
        for name in importlib.import_module(f"evomem_integrations.{package}").__all__
    }
    tested = {keeper.adapter for keeper in KEEPERS}
    assert public == tested | KEEPS_NOTHING.keys()
    assert not tested & KEEPS_NOTHING.keys()


def test_every_cache_file_and_lock_of_an_adapter_is_known_with_its_key():
    folder = ROOT / "integrations" / "evomem_integrations"
    names = {name for _, name in HELD} | {
        "RLock", "Condition", "lru_cache", "cache", "WeakKeyDictionary", "defaultdict", "OrderedDict",
        "create_engine", "connect", "ContextVar", "local", "mkdtemp",
    }  # fmt: skip
    stored = set()
    for path in folder.rglob("*.py"):
        module = ".".join(path.relative_to(folder).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func
            elif isinstance(node, ast.FunctionDef) and node.decorator_list:
                called = node.decorator_list[-1]
            else:
                continue
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            own = isinstance(called, ast.Attribute) and ast.unparse(called.value) not in (
                "threading", "weakref", "evomem", "functools", "collections",
            )  # fmt: skip
            if name in names and not own:
                stored.add((module, name))
    assert stored == HELD.keys()


def said(keeper):
    text = repr(
        [vars(item) if isinstance(item, SimpleNamespace) else item for item in keeper.seen()]
    )
    return {user for user in ("alice", "bob") if f"zq{user}" in text}


def bytes_of(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("keeper", KEEPERS.values())
def test_a_user_sees_and_erases_only_their_own_turns(keeper, tmp_path):
    alice, bob = (keeper(tmp_path, user) for user in ("alice", "bob"))
    alice.tell(ALICE)
    assert said(bob) == set()
    bob.tell(BOB)
    assert (said(alice), said(bob)) == ({"alice"}, {"bob"})
    if keeper.purges is None:
        return
    bob.erase()
    assert said(alice) == {"alice"}
    assert "zqbob" not in repr(getattr(bob, "seen_after_hiding", bob.seen)())
    assert (b"zqbob" in bytes_of(tmp_path)) is keeper.purges  # else it is only hidden


@pytest.mark.parametrize("keeper", KEEPERS.values())
def test_with_purge_a_deleted_text_is_in_no_file(keeper, tmp_path):
    if not keeper.purges:
        pytest.skip("deletes truly without it, or not at all")
    alice, bob = keeper(tmp_path, "alice"), keeper(tmp_path, "bob", purge=True)
    alice.tell(ALICE)
    bob.tell(BOB)
    assert b"zqbob" in bytes_of(tmp_path)
    bob.erase()
    assert b"zqbob" not in bytes_of(tmp_path)
    assert (said(alice), said(bob)) == ({"alice"}, set())
