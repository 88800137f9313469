"""Search without memory: each text is read as if it were the first that the encoder ever read.

The ranking is that of `MemoryView.search`, over a store and an index of the same log with other vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from evomem.encoder import Encoder
from evomem.engine import Engine
from evomem.lru_cache import LruCache
from evomem.memory_view import MemoryView
from evomem.records import Hit, Record, Turn
from evomem.rows import Rows
from evomem.search.ranking import top_k
from evomem.state import Spec, State, Vectors, digest
from evomem.store import Embeddings, Namespace, Selection, Seqs, Span, Store, View

MOST = 200  # turns read alone per search, at most
CACHE = 32 << 20  # bytes of cached vectors
TOGETHER = 16  # turns read concurrently, so that they share forward passes

Key = tuple[Namespace, bytes]
"""A memory and a turn's digest: the cache must not reveal a memory's content to another by its timing."""
Vectorize = Callable[[Sequence[int]], dict[int, Vectors]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a search without memory."""

    hits: list[Hit]
    compared: int
    """The number of candidates: all turns of the view, or the best of a search with memory."""
    remembers: bool
    """Whether the encoder has a memory; without one, the hits are those of an ordinary search."""


class Alone:
    """Searches without memory; caches the vectors of turns read alone."""

    def __init__(self) -> None:
        self._known: LruCache[Key, Vectors] = LruCache(CACHE, lambda vectors: vectors.nbytes)

    def search(self, seen: MemoryView, query: str, k: int, **how: Any) -> Comparison:
        """Return the hits of `seen.search(query, k, **how)` without memory.

        Raises:
            QueryError: An argument is invalid.
        """
        engine = seen._engine
        if not engine.store.spec.capacity:
            hits = seen.search(query, k, **how)
            return Comparison(hits, len(seen), remembers=False)
        if len(seen) <= MOST:
            records = seen.history()
        else:
            records = [hit.record for hit in seen.search(query, MOST, **how)]
        self._read(engine, seen.namespace, records)
        candidates = np.array(sorted(record.seq for record in records), np.int64)
        forgetful = _Engine(engine, candidates, partial(self._vectors, engine, seen.namespace))
        view = MemoryView(cast(Engine, forgetful), seen.namespace, seen._point, seen._own_zone)
        return Comparison(view.search(query, k, **how), len(records), remembers=True)

    def _vectors(
        self, engine: Engine, memory: Namespace, view: View, seqs: Sequence[int]
    ) -> dict[int, Vectors]:
        records = list(engine.store.records(view, seqs).values())
        read = self._read(engine, memory, records)
        return {record.seq: vectors for record, vectors in zip(records, read, strict=True)}

    def _read(self, engine: Engine, memory: Namespace, records: Sequence[Record]) -> list[Vectors]:
        """Return the embeddings (n, D) of each turn, read alone."""
        keys = [(memory, digest(b"", record.turn)) for record in records]
        known = {key: self._known.get(key) for key in keys}
        unread = {
            key: record.turn
            for key, record in zip(keys, records, strict=True)
            if known[key] is None
        }
        empty: State[Turn] = State.empty(engine.store.spec)

        def read(turn: Turn) -> Vectors:
            return engine.reader.read(empty, [turn])[0].embeddings

        if unread:
            with ThreadPoolExecutor(TOGETHER, "evomem-alone") as pool:
                for key, vectors in zip(unread, pool.map(read, unread.values()), strict=True):
                    known[key] = vectors
                    self._known.put(key, vectors)
        return [cast(Vectors, known[key]) for key in keys]


class _Engine:
    """An engine without memory, with the attributes that `MemoryView.search` uses."""

    def __init__(
        self, engine: Engine, candidates: Seqs, vectors: Callable[..., dict[int, Vectors]]
    ) -> None:
        self.store = cast(Store, _Store(engine.store, vectors))
        self.index = _Index(candidates, vectors)
        self.zone = engine.zone
        self.reranker = engine.reranker
        self.reader: Encoder = engine.reader
        self._spec: Spec = engine.store.spec

    def state(self, view: View) -> State[Turn]:
        """Return the state of a memory that has read nothing."""
        return State.empty(self._spec)


class _Index:
    """The vectors of turns that were read alone."""

    def __init__(self, candidates: Seqs, vectors: Callable[..., dict[int, Vectors]]) -> None:
        self._candidates = candidates
        self._vectors = vectors

    @contextmanager
    def reading(self, view: View) -> Iterator[None]:
        """See `Index.reading`; there is nothing to prepare."""
        yield

    def search(
        self,
        view: View,
        query: Vectors,
        k: int,
        *,
        allowed: Seqs | None = None,
        without: Seqs | None = None,
    ) -> list[tuple[int, float]]:
        """See `Index.search`."""
        seqs = Selection(allowed, without).among(self._candidates)
        return top_k(self.score(view, query, seqs.tolist()), k)

    def score(self, view: View, query: Vectors, seqs: Sequence[int]) -> dict[int, float]:
        """See `Index.score`."""
        vectors_of = self._vectors(view, seqs)
        return {seq: float((vectors @ query).max()) for seq, vectors in vectors_of.items()}


class _Store:
    """A store of the same log with other vectors."""

    def __init__(self, store: Store, vectors: Callable[..., dict[int, Vectors]]) -> None:
        self._store = store
        self._alone = vectors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def vectors(self, span: Span, revision: int) -> Embeddings:
        """Return the embedding of a span's only turn; longer spans are never requested."""
        view = self._store.view(span.memory)
        own = self._alone(view, [span.first])[span.first][:1]
        return Embeddings(np.array([span.first], np.int64), Rows(own), [b""])
