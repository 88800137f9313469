"""Protocols of databases: the `Store` (the log, the single source of truth) and the `Index`.

A store holds rows; an index is a cache of their embeddings that may be deleted at any time. Both are
read through a `View`: one memory at one point of its log.
"""

from __future__ import annotations

from typing import Any, Protocol

from evomem.state import Spec
from evomem.store.index import Index
from evomem.store.log import Log
from evomem.store.upkeep import Generation, Upkeep
from evomem.store.values import (
    EMPTY_VIEW,
    Dropped,
    Embeddings,
    Extract,
    Filter,
    Listed,
    Mark,
    Namespace,
    Pair,
    Row,
    Selection,
    Seqs,
    Span,
    Trace,
    View,
    WriteSlot,
    nobody_waits,
)

__all__ = [
    "EMPTY_VIEW",
    "Dropped",
    "Embeddings",
    "Extract",
    "Filter",
    "Generation",
    "Index",
    "Listed",
    "Log",
    "Mark",
    "Namespace",
    "OpenStore",
    "Pair",
    "Row",
    "Selection",
    "Seqs",
    "Span",
    "Store",
    "Trace",
    "Upkeep",
    "View",
    "WriteSlot",
    "nobody_waits",
]


class Store(Log, Upkeep, Protocol):
    """An append-only log of turns per memory. A failed write changes nothing."""

    def close(self) -> None:
        """Release the database; harmless when repeated."""
        ...


class OpenStore(Protocol):
    """The signature of an entry point in the group `evomem.stores`."""

    def __call__(self, location: str, spec: Spec | None, **options: Any) -> tuple[Store, Index]:
        """Open `location`; create it for `spec` if it does not exist.

        `evomem.open` passes `embeddings=` among the options: how a new database stores embeddings.

        Raises:
            NotFound: There is no database, and no `spec` to create one with.
            FingerprintMismatch: The database was written by an encoder other than `spec`.
        """
        ...
