"""`MilvusIndex`: an `evomem.store.Index` in Milvus, next to a log in any database.

A collection is a copy of the log's embeddings, like an index file; its partition key is the memory.
Milvus and the log share no transaction, so every row carries the memory's revision at which it was
copied, and a revision has exactly one vector per seq, or per passage of a turn. Every search names
the revision, and checks before and after that it is still the memory's; a process that finds rows
of older revisions deletes them.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection

import numpy as np
from sqlalchemy import Connection, select

from evomem.errors import EvomemError, FingerprintMismatch, HeadMoved, StoreError
from evomem.state import Vectors
from evomem.store import Mark, Selection, Span
from evomem_stores.database.connections import Connections
from evomem_stores.database.tables import migrations
from evomem_stores.log.store import SqlLog
from evomem_stores.vectors.milvus_collection import (
    MAX_LISTED_SEQS,
    MAX_RESULTS,
    MilvusCollection,
    between,
    of_revision,
)
from evomem_stores.vectors.milvus_copy import MilvusCopy
from evomem_stores.vectors.span_index import SpanIndex

ANSWER_BYTES = 2**25  # of vectors in one answer
MARGIN = 16  # rows requested beyond k, to detect ties at the k-th place


class MilvusIndex(SpanIndex):
    """An `Index` in a Milvus server, cluster, or file (milvus-lite). Safe for threads and processes."""

    def __init__(
        self,
        store: SqlLog,
        connections: Connections,
        uri: str | None,
        *,
        token: str | None = None,
        collection: str | None = None,
    ) -> None:
        """Create an index, and the collection if there is none.

        Args:
            store: The log.
            connections: Of that log.
            uri: `"http://host:19530"`, or a file ending in `.db` for milvus-lite.
            token: `"user:password"` or an API key, if the server requires one.
            collection: Its name; None for one that is unique to the log. A copy of a database that is
                used next to the original needs its revision_filter collection.

        Raises:
            StoreError: `uri` is missing, or Milvus cannot be reached.
            MissingExtra: pymilvus is not installed.
        """
        if not uri:
            raise StoreError(
                'index="milvus" needs milvus_uri=, such as "http://localhost:19530", or a file '
                'such as "vectors.db" for milvus-lite'
            )
        self._store = store
        self._dim = store.spec.dim
        self._collection = MilvusCollection(uri, token, self._dim)
        self._copy = MilvusCopy(store, connections, self._collection)
        serialised = connections.reading if connections.read_only else connections.forgetting
        with serialised() as connection:  # and no process changes the encoder
            created = connection.scalar(
                select(migrations.c.applied).where(migrations.c.number == 1)
            )
            with self._collection.translated():
                self._collection.prepare(collection or f"evomem_{created}")

    def verify(self) -> list[str]:
        """Compare the copied vectors with the log; missing new rows are not reported."""
        return [fault for fault, _ in self._copy.faults()]

    def repair(self) -> list[str]:
        """See `Index.repair`. Replaces wrong vectors, and removes vectors of forgotten turns."""
        repaired = []
        for fault, repair in self._copy.faults():
            repair()
            repaired.append(f"repaired: {fault}")
        return repaired

    def forget(self, memory: int, connection: Connection | None) -> None:
        """Delete the copies of rows that a memory lost; warn on failure.

        This waits for the end of the transaction (None): until then, others may search these rows.
        """
        if connection is not None:
            return
        try:
            self._copy.remove_older(memory, self._store.mark(memory, 0)[0])
        except FingerprintMismatch:  # re-encoded: searches delete the outdated rows
            return
        except EvomemError as error:
            warnings.warn(
                f"vectors of forgotten turns stay in Milvus ({error}) until the next search in this "
                "memory, or until `evomem verify --repair`",
                stacklevel=2,
            )

    def close(self) -> None:
        """Close the connection; harmless when repeated and in a forked child, which has none."""
        self._collection.close()

    # searching -----------------------------------------------------------------------------

    def _catch_up(self, span: Span, end: Mark) -> None:
        """See `SpanIndex._catch_up`."""
        if self._copy.catch_up(span.memory, span.last) != end.revision:
            raise HeadMoved(f"memory {span.memory} was rewritten while it was searched")

    def _search_span(
        self, span: Span, end: Mark, query: Vectors, k: int, chosen: Selection
    ) -> list[tuple[int, float]]:
        """See `SpanIndex._search_span`; `_check_current` detects rows that were missing."""
        revision_filter = of_revision(span.memory, end.revision)
        allowed = chosen.allowed
        if allowed is None:
            inside = range(span.first, span.last + 1)
            without = () if chosen.without is None else chosen.without.tolist()
            return list(
                self._best_of(revision_filter, inside, query, k, frozenset(without)).items()
            )
        scores: dict[int, float] = {}
        listed = allowed[(allowed >= span.first) & (allowed <= span.last)].tolist()
        for start in range(0, len(listed), MAX_LISTED_SEQS):
            scores |= self._best_of(
                revision_filter, listed[start : start + MAX_LISTED_SEQS], query, k
            )
        return list(scores.items())

    def _check_current(self, span: Span, end: Mark) -> None:
        """See `SpanIndex._check_current`: rewriting a memory deletes its older rows in Milvus."""
        if self._store.mark(span.memory, 0).revision != end.revision:
            raise HeadMoved(f"memory {span.memory} was rewritten while it was searched")

    def _best_of(
        self,
        revision_filter: str,
        seqs: range | list[int],
        query: Vectors,
        k: int,
        without: Collection[int] = frozenset(),
    ) -> dict[int, float]:
        """Return the scores of turns of `seqs` that include the `k` best, except those in `without`.

        Excluded turns are requested too: a filter that lists them costs more than additional rows.
        """
        if isinstance(seqs, range):
            condition = f"{revision_filter} and {between(seqs[0], seqs[-1])}"
        else:
            condition = f"{revision_filter} and seq in [{', '.join(f'{seq:d}' for seq in seqs)}]"
        k = min(k, len(seqs))
        hits = self._nearest(condition, query, k, without, alone=len(seqs) == 1)
        if hits is not None:
            return hits
        half = len(seqs) // 2
        halves = [
            self._best_of(revision_filter, half_seqs, query, k, without)
            for half_seqs in (seqs[:half], seqs[half:])
        ]
        return halves[0] | halves[1]

    def _nearest(
        self, condition: str, query: Vectors, k: int, without: Collection[int], *, alone: bool
    ) -> dict[int, float] | None:
        """Return the scores of turns that meet the condition, including the `k` best.

        None if that takes more rows than one query returns: `k` is large, or many rows have the same
        score, or are passages of few turns. `alone`: only one turn meets the condition.
        """
        slack = 4 * self._dim * float(np.finfo(np.float32).eps)
        limit = min(k + MARGIN, self._max_rows)
        while True:
            with self._collection.translated():
                [hits] = self._collection.client.search(
                    self._collection.name,
                    data=[query.tolist()],
                    anns_field="vector",
                    filter=condition,
                    limit=limit,
                    output_fields=["seq", "vector"],
                    search_params={"metric_type": "IP"},
                    consistency_level="Strong",
                )
            # Rescore in float64: Milvus's score of a vector depends on its position among others.
            rows = np.array([hit["entity"]["vector"] for hit in hits], np.float32)
            wide = rows.reshape(-1, self._dim).astype(np.float64) * query.astype(np.float64)
            scores: list[float] = wide.sum(axis=1).astype(np.float32).astype(float).tolist()
            best: dict[int, float] = {}
            for hit, score in zip(hits, scores, strict=True):
                seq = int(hit["entity"]["seq"])
                if seq not in without:
                    best[seq] = max(score, best.get(seq, score))
            ranked = sorted(best.values(), reverse=True)
            is_complete = len(ranked) >= k and ranked[k - 1] > scores[-1] + slack
            if len(hits) < limit or alone or is_complete:
                return best
            if limit == self._max_rows:
                return None
            limit = min(4 * limit, self._max_rows)

    @property
    def _max_rows(self) -> int:
        """The most rows, with their vectors, in one query."""
        return min(MAX_RESULTS, max(1, ANSWER_BYTES // (4 * self._dim)))
