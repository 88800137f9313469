"""A pytest plugin that puts `EvoMemStore` in the place of LangGraph's own stores.

LangGraph's tests of its in-memory and SQLite stores, taken from a checkout, then run against ours:
`pytest -p tests.integrations.langgraph.rebound <checkout>/libs/checkpoint/tests/test_store.py`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType
from typing import Any

import langgraph.store.memory
from langgraph.store.base import ensure_embeddings

import evomem
from evomem_integrations.langchain import EmbeddingsEncoder
from evomem_integrations.langgraph import EvoMemStore


class InMemory(EvoMemStore):
    """Made as an `InMemoryStore`: without a database, and with a model in `index`."""

    def __init__(self, *, index: Any = None) -> None:
        encoder: Any = "hash"
        if index:
            encoder = EmbeddingsEncoder(ensure_embeddings(index["embed"]), dim=index["dims"])
        super().__init__(evomem.open(":memory:", encoder), index=index)


class Sqlite(EvoMemStore):
    """Made as a `SqliteStore`, which calls its fields `text_fields`."""

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str, *, index: Any = None, ttl: Any = None) -> Iterator[Any]:  # type: ignore[override]  # fmt: skip
        if conn_string != ":memory:":  # the tests make an empty file beforehand, and delete it
            conn_string += ".evomem"
        encoder = None if index else "hash"
        index = index and {**index, "fields": index.get("text_fields")}
        opened = super().from_conn_string(conn_string, encoder=encoder, index=index, ttl=ttl)
        with opened as store:
            yield store

    def setup(self) -> None:
        """Do nothing: evomem sets itself up."""


class AsyncSqlite(Sqlite):
    """Made as an `AsyncSqliteStore`."""

    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, conn_string: str, **options: Any) -> AsyncIterator[Any]:  # type: ignore[override]  # fmt: skip
        with super().from_conn_string(conn_string, **options) as store:
            yield store

    async def setup(self) -> None:  # type: ignore[override]
        """Do nothing: evomem sets itself up."""

    async def sweep_ttl(self) -> int:  # type: ignore[override]
        """Sweep on a thread."""
        return await asyncio.to_thread(super().sweep_ttl)

    async def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> None:  # type: ignore[override]  # fmt: skip
        """Start the sweeper."""
        super().start_ttl_sweeper(sweep_interval_minutes)

    async def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Stop the sweeper."""
        return super().stop_ttl_sweeper(timeout)

    def close(self) -> None:
        """Stop the sweeper without awaiting."""
        Sqlite.stop_ttl_sweeper(self)
        self._writer.shutdown()

    def _sweep(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            Sqlite.sweep_ttl(self)


def _module(name: str, **names: Any) -> None:
    made = ModuleType(name)
    vars(made).update(names)
    sys.modules[name] = made


langgraph.store.memory.InMemoryStore = InMemory  # type: ignore[misc, assignment]
_module("langgraph.store.sqlite", SqliteStore=Sqlite, AsyncSqliteStore=AsyncSqlite)
_module("langgraph.store.sqlite.aio", AsyncSqliteStore=AsyncSqlite)
_module(
    "langgraph.store.sqlite.base",
    NS_MATCH_FUNCTION=None,
    BaseSqliteStore=None,
    SqliteIndexConfig=dict,
    _escape_glob_literal=None,
    _namespace_match_pattern=None,
)
