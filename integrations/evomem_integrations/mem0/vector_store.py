"""`EvoMemVectorStore`: evomem as a vector store of Mem0, which keeps using its language model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from mem0.utils.factory import VectorStoreFactory
from mem0.vector_stores.base import VectorStoreBase
from mem0.vector_stores.configs import VectorStoreConfig
from pydantic import BaseModel, ConfigDict, Field

from evomem.errors import NotFound
from evomem_integrations._databases import share
from evomem_integrations.mem0.collection import ROOT, Collection, Item

PROVIDER = "evomem"

Items = list[Item]  # needed because the class has a method named `list`


class EvoMemConfig(BaseModel):
    """The `config` of the provider `"evomem"`."""

    model_config = ConfigDict(extra="forbid")

    location: str = Field(description="The database, as in evomem.open.")
    collection_name: str = "mem0"
    encoder: str | None = Field(default=None, description="For a new database.")
    device: str | None = None
    dtype: str | None = None
    zone: str | None = Field(default=None, description="The users' time zone; UTC if not given.")
    embedding_model_dims: int | None = Field(
        default=None, description="Ignored: evomem's encoder determines it."
    )


class EvoMemVectorStore(VectorStoreBase):  # type: ignore[misc]  # Mem0 has no types
    """Stores Mem0's rows in the logs of their users; see `Collection`.

    Mem0 passes texts with their vectors. evomem's encoder reads the texts in the order they arrive;
    the vectors, which another model made, are ignored.
    """

    def __init__(
        self,
        location: str,
        collection_name: str = "mem0",
        encoder: str | None = None,
        embedding_model_dims: int | None = None,
        **options: str | None,
    ) -> None:
        """Open a database; see `EvoMemConfig`."""
        options = {name: value for name, value in options.items() if value is not None}
        self._handle = share(location, encoder, **options)
        self._rows = Collection(self._handle.database, collection_name)

    def insert(
        self,
        vectors: Sequence[Any],
        payloads: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Read the payloads' texts in order; a row with an existing id is replaced.

        Raises:
            ValueError: `payloads` or `ids` is None.
        """
        if payloads is None or ids is None:
            raise ValueError("insert needs ids, and payloads with the texts under 'data'")
        for id, payload in zip(ids, payloads, strict=True):
            self._rows.put(id, payload)

    def search(
        self, query: str, vectors: Any, top_k: int = 5, filters: Mapping[str, Any] | None = None
    ) -> Items:
        """Return the rows that answer `query` best, with scores in [0, 1]."""
        if not query.strip() or top_k < 1:
            return []
        rows = self._rows.search(query, filters, top_k)
        return [Item(row.id, row.payload, max(0.0, row.score or 0.0)) for row in rows]

    def keyword_search(
        self, query: str, top_k: int = 5, filters: Mapping[str, Any] | None = None
    ) -> Items:
        """Return the rows that share words with `query`; scores are BM25."""
        if not query.strip() or top_k < 1:
            return []
        return self._rows.search(query, filters, top_k, mode="lexical")

    def get(self, vector_id: str) -> Item | None:
        """Return a row, or None if there is no row with this id."""
        return self._rows.get(vector_id)

    def update(
        self, vector_id: str, vector: Any = None, payload: Mapping[str, Any] | None = None
    ) -> None:
        """Replace a row's payload; its text is read again only if it changed."""
        if payload is not None:
            self._rows.replace(vector_id, payload)

    def delete(self, vector_id: str) -> None:
        """Purge a row, its text and its influence on later rows; an unknown id is ignored."""
        try:
            self._rows.forget(vector_id)
        except NotFound:
            return

    def list(
        self, filters: Mapping[str, Any] | None = None, top_k: int | None = None
    ) -> Sequence[Items]:
        """Return rows in the order they were stored, in the list with one list that Mem0 expects."""
        return [self._rows.rows(filters, top_k)]

    def create_col(self, name: str, vector_size: int | None = None, distance: Any = None) -> None:
        """Do nothing: a collection is created with its first row."""

    def list_cols(self) -> Sequence[str]:
        """Return the names of the collections that hold rows."""
        namespaces = self._rows.database.memories(ROOT)
        return sorted({labels[1] for labels in namespaces})

    def delete_col(self) -> None:
        """Purge every row."""
        self._rows.forget_all({})

    def col_info(self) -> dict[str, Any]:
        """Return the collection's name and size."""
        spec = self._rows.database.spec
        count = self._rows.count()
        return {
            "name": self._rows.name,
            "count": count,
            "dimension": spec.dim,
            "distance": "cosine",
        }

    def reset(self) -> None:
        """Purge every row."""
        self.delete_col()


def register() -> None:
    """Register `"evomem"` as a provider of vector stores in Mem0; calling it again has no effect.

    Mem0 has no API for this, so it changes Mem0's internal tables; checked with 2.2.1.
    """
    name = f"mem0.configs.vector_stores.{PROVIDER}"
    module = sys.modules.setdefault(name, ModuleType(name))
    module.__dict__[EvoMemConfig.__name__] = EvoMemConfig
    known = VectorStoreConfig.__private_attributes__["_provider_configs"].default
    known[PROVIDER] = EvoMemConfig.__name__
    kind = EvoMemVectorStore
    VectorStoreFactory.provider_to_class[PROVIDER] = f"{kind.__module__}.{kind.__qualname__}"
