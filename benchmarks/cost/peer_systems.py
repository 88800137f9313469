"""The systems that `peers` measures, behind one interface; the other memories are not dependencies."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import evomem
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

TOPICS = 10  # values of the metadata that filters use
K = 10

Embed = Callable[[Sequence[str]], Vectors]
"""Returns the unit vectors of texts, (n, D) float32."""


class Peer(Protocol):
    """A memory of texts, each with an id and a topic."""

    def add(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        """Add texts, in one call if the system supports it; the topic follows from the id."""
        ...

    def search(self, query: str, topic: int | None = None) -> list[str]:
        """Return the ids of the `K` nearest texts, among those with the topic if it is given."""
        ...

    def delete(self, id: str) -> None:
        """Delete a text."""
        ...


def topic_of(id: str) -> int:
    """Return the topic of the text with this id."""
    return int(id[1:]) % TOPICS


class _Encoder:
    """An evomem encoder without a memory, from an embedding function."""

    def __init__(self, embed: Embed, dim: int) -> None:
        self._embed = embed
        self.spec = Spec("peers", f"peers-{dim}", dim)

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        nothing = np.zeros((0, 0), np.float32)
        return [Reading(row, nothing) for row in self._embed([turn.user for turn in turns])]

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        return self._embed(queries)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class _EvoMem:
    def __init__(self, memory: evomem.Memory, mode: Any) -> None:
        self._memory = memory
        self._mode = mode

    def add(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        turns = [
            Turn(user=text, id=id, metadata={"topic": topic_of(id)})
            for id, text in zip(ids, texts, strict=True)
        ]
        self._memory.add_many(turns)

    def search(self, query: str, topic: int | None = None) -> list[str]:
        where = None if topic is None else {"topic": topic}
        return [
            hit.record.id for hit in self._memory.search(query, K, mode=self._mode, where=where)
        ]

    def delete(self, id: str) -> None:
        self._memory.delete(id)


def _evomem(mode: str) -> Callable[[Path, Embed, int], Any]:
    @contextmanager
    def open_memory(folder: Path, embed: Embed, dim: int) -> Iterator[Peer]:
        with evomem.open(str(folder / "a.db"), _Encoder(embed, dim)) as db:
            yield _EvoMem(db.memory("m"), mode)

    return open_memory


class _LangGraph:
    def __init__(self, store: Any, operation: Any) -> None:
        self._store = store
        self._put = operation

    def add(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        self._store.batch(
            [
                self._put(("m",), id, {"text": text, "topic": topic_of(id)})
                for id, text in zip(ids, texts, strict=True)
            ]
        )

    def search(self, query: str, topic: int | None = None) -> list[str]:
        condition = None if topic is None else {"topic": topic}
        hits = self._store.search(("m",), query=query, limit=K, filter=condition)
        return [hit.key for hit in hits]

    def delete(self, id: str) -> None:
        self._store.delete(("m",), id)


@contextmanager
def langgraph(folder: Path, embed: Embed, dim: int) -> Iterator[Peer]:
    """LangGraph's SqliteStore: the package langgraph-checkpoint-sqlite."""
    base = import_module("langgraph.store.sqlite.base")
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        base.sqlite3 = import_module("pysqlite3")  # type: ignore[attr-defined]
    index = {
        "dims": dim,
        "embed": lambda texts: embed(texts).tolist(),
        "text_fields": [
            "text"
        ],  # the key that the store reads, although its documentation says "fields"
    }
    with base.SqliteStore.from_conn_string(str(folder / "a.db"), index=index) as store:
        store.setup()
        yield _LangGraph(store, import_module("langgraph.store.base").PutOp)


class _Chroma:
    def __init__(self, collection: Any, embed: Embed) -> None:
        self._collection = collection
        self._embed = embed

    def add(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        self._collection.add(
            ids=list(ids),
            documents=list(texts),
            embeddings=self._embed(texts),
            metadatas=[{"topic": topic_of(id)} for id in ids],
        )

    def search(self, query: str, topic: int | None = None) -> list[str]:
        condition = None if topic is None else {"topic": topic}
        response = self._collection.query(
            query_embeddings=self._embed([query]), n_results=K, where=condition
        )
        ids: list[str] = response["ids"][0]
        return ids

    def delete(self, id: str) -> None:
        self._collection.delete(ids=[id])


@contextmanager
def chroma(folder: Path, embed: Embed, dim: int) -> Iterator[Peer]:
    """Chroma in this process, with default settings except for the distance."""
    library = import_module("chromadb")
    settings = import_module("chromadb.config").Settings(anonymized_telemetry=False)
    client = library.PersistentClient(str(folder), settings=settings)
    collection = client.get_or_create_collection(
        "texts", configuration={"hnsw": {"space": "ip"}}, embedding_function=None
    )
    yield _Chroma(collection, embed)
    client.close()


class _Mem0:
    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._mem0_ids: dict[str, str] = {}  # by our id: Mem0 generates its own ids

    def add(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        for id, text in zip(ids, texts, strict=True):
            metadata = {"topic": topic_of(id), "name": id}
            added = self._memory.add(text, user_id="m", metadata=metadata, infer=False)
            self._mem0_ids[id] = added["results"][0]["id"]

    def search(self, query: str, topic: int | None = None) -> list[str]:
        filters: dict[str, Any] = {"user_id": "m"}
        if topic is not None:
            filters["topic"] = topic
        response = self._memory.search(query, filters=filters, top_k=K, threshold=0.0)
        return [hit["metadata"]["name"] for hit in response["results"]]

    def delete(self, id: str) -> None:
        self._memory.delete(self._mem0_ids[id])


@contextmanager
def mem0(folder: Path, embed: Embed, dim: int) -> Iterator[Peer]:
    """Mem0 without a language model (`infer=False`), with its default store, Qdrant in a folder."""
    os.environ.setdefault("MEM0_TELEMETRY", "False")
    os.environ.setdefault("MEM0_DIR", str(folder / "mem0"))
    base = import_module("langchain_core.embeddings").Embeddings
    embeddings = type(
        "Stored",
        (base,),
        {
            "embed_query": lambda self, text: embed([text])[0].tolist(),
            "embed_documents": lambda self, texts: embed(texts).tolist(),
        },
    )()
    store = {"path": str(folder / "qdrant"), "on_disk": True, "embedding_model_dims": dim}
    memory = import_module("mem0").Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "embedder": {"provider": "langchain", "config": {"model": embeddings}},
            "llm": {"provider": "openai", "config": {"api_key": "unused"}},
            "history_db_path": str(folder / "history.db"),
        }
    )
    yield _Mem0(memory)
    memory.vector_store.client.close()


class _LlamaIndex:
    def __init__(self, index: Any, folder: Path, embed: Embed) -> None:
        self._index = index
        self._folder = folder
        self._embed = embed
        self._schema = import_module("llama_index.core.schema")
        self._stores = import_module("llama_index.core.vector_stores")

    def add(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        vectors = self._embed(texts).tolist()
        nodes = [
            self._schema.TextNode(
                id_=id, text=text, embedding=vector, metadata={"topic": topic_of(id)}
            )
            for id, text, vector in zip(ids, texts, vectors, strict=True)
        ]
        self._index.insert_nodes(nodes)

    def search(self, query: str, topic: int | None = None) -> list[str]:
        filters = None
        if topic is not None:
            condition = self._stores.MetadataFilter(key="topic", value=topic)
            filters = self._stores.MetadataFilters(filters=[condition])
        bundle = self._schema.QueryBundle(query, embedding=self._embed([query])[0].tolist())
        retriever = self._index.as_retriever(similarity_top_k=K, filters=filters)
        return [hit.node.node_id for hit in retriever.retrieve(bundle)]

    def delete(self, id: str) -> None:
        self._index.delete_nodes([id], delete_from_docstore=True)


@contextmanager
def llamaindex(folder: Path, embed: Embed, dim: int) -> Iterator[Peer]:
    """LlamaIndex's VectorStoreIndex on its simple stores, written to JSON on closing."""
    core = import_module("llama_index.core")
    model = import_module("llama_index.core.embeddings").MockEmbedding(embed_dim=dim)
    if (folder / "docstore.json").exists():
        context = core.StorageContext.from_defaults(persist_dir=str(folder))
        index = core.load_index_from_storage(context, embed_model=model)
    else:
        index = core.VectorStoreIndex([], embed_model=model)
    yield _LlamaIndex(index, folder, embed)
    index.storage_context.persist(str(folder))


PEERS: dict[str, Callable[[Path, Embed, int], Any]] = {
    "evomem": _evomem("evolvable"),
    "evomem hybrid": _evomem("hybrid"),
    "LangGraph SqliteStore": langgraph,
    "Chroma": chroma,
    "Mem0": mem0,
    "LlamaIndex": llamaindex,
}
"""Context managers by system, which take a folder, an embedding function and the dimension of vectors."""
