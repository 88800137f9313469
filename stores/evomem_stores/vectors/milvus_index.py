"""`MilvusIndex`: nearest turns by Milvus, beside a log in any database. See `evomem.store.Index`.

A collection is a copy of the log's embeddings, as index files are; its partition key is the memory.
Milvus and the log have no transaction in common, so that a copy must be such that it cannot be
mistaken: a row carries the revision of the memory that it was copied at, and of one revision there
is only one vector for a seq, or for each passage of a turn. Every question names the revision, and the log is asked, before and
after, whether that is the memory's still; rows of older ones are deleted by any process that comes across them.
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
from evomem_stores.database.tables import done
from evomem_stores.log.store import SqlLog
from evomem_stores.vectors.milvus_collection import (
    LISTED,
    WINDOW,
    MilvusCollection,
    between,
    of_revision,
)
from evomem_stores.vectors.milvus_copy import MilvusCopy
from evomem_stores.vectors.span_index import SpanIndex

ANSWER = 2**25  # bytes of vectors in one answer
MARGIN = 16  # rows asked for beyond k, to see that nothing at the k-th place was cut off


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
            token: `"user:password"` or an API key, where the server asks for one.
            collection: Its name; if not given, one that no other log has. A copy of a database that
                is used beside the original needs a collection of its own.

        Raises:
            StoreError: There is no `uri`, or Milvus cannot be reached.
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
        alone = connections.reading if connections.read_only else connections.forgetting
        with alone() as connection:  # one at a time; no one changes the encoder
            made = connection.scalar(select(done.c.applied).where(done.c.number == 1))
            with self._collection.translated():
                self._collection.prepare(collection or f"evomem_{made}")

    def verify(self) -> list[str]:
        """Compare the copied vectors with the log; missing new rows are no difference."""
        return [says for says, _ in self._copy.faults()]

    def repair(self) -> list[str]:
        """See `Index.repair`. Vectors that are wrong are replaced; those of forgotten turns removed."""
        repaired = []
        for says, repair in self._copy.faults():
            repair()
            repaired.append(f"repaired: {says}")
        return repaired

    def forget(self, memory: int, connection: Connection | None) -> None:
        """Delete the copies of rows that a memory lost; warn if that fails.

        Only when the transaction is over: until then, others may search for these rows.
        """
        if connection is not None:
            return
        try:
            self._copy.remove_older(memory, self._store.mark(memory, 0)[0])
        except FingerprintMismatch:  # re-encoded: all is void, and goes as memories are searched
            return
        except EvomemError as error:
            warnings.warn(
                f"vectors of turns that were forgotten stay in Milvus ({error}) until the next "
                "search in this memory, or until `evomem verify --repair`",
                stacklevel=2,
            )

    def close(self) -> None:
        """Close the connection; harmless when repeated, and in a forked child, which has none."""
        self._collection.close()

    # asking --------------------------------------------------------------------------------

    def _catch_up(self, span: Span, end: Mark) -> None:
        """See `SpanIndex._catch_up`."""
        if self._copy.catch_up(span.memory, span.last) != end.revision:
            raise HeadMoved(f"memory {span.memory} was rewritten while it was searched")

    def _ask(
        self, span: Span, end: Mark, query: Vectors, k: int, chosen: Selection
    ) -> list[tuple[int, float]]:
        """See `SpanIndex._ask`. Whether Milvus still had all rows is known afterwards (`_check`)."""
        own = of_revision(span.memory, end.revision)
        allowed = chosen.allowed
        if allowed is None:
            inside = range(span.first, span.last + 1)
            without = () if chosen.without is None else chosen.without.tolist()
            return list(self._among(own, inside, query, k, frozenset(without)).items())
        scores: dict[int, float] = {}
        listed = allowed[(allowed >= span.first) & (allowed <= span.last)].tolist()
        for start in range(0, len(listed), LISTED):
            scores |= self._among(own, listed[start : start + LISTED], query, k)
        return list(scores.items())

    def _check(self, span: Span, end: Mark) -> None:
        """See `SpanIndex._check`: who rewrites a memory deletes its older rows in Milvus."""
        if self._store.mark(span.memory, 0).revision != end.revision:
            raise HeadMoved(f"memory {span.memory} was rewritten while it was searched")

    def _among(
        self,
        own: str,
        seqs: range | list[int],
        query: Vectors,
        k: int,
        without: Collection[int] = frozenset(),
    ) -> dict[int, float]:
        """Return the scores of turns that the `k` best of `seqs` are among, but for those `without`.

        These are asked for as all others are: a condition that lists them costs more than some
        additional rows.
        """
        if isinstance(seqs, range):
            condition = f"{own} and {between(seqs[0], seqs[-1])}"
        else:
            condition = f"{own} and seq in [{', '.join(f'{seq:d}' for seq in seqs)}]"
        k = min(k, len(seqs))
        hits = self._nearest(condition, query, k, without, alone=len(seqs) == 1)
        if hits is not None:
            return hits
        half = len(seqs) // 2
        halves = [
            self._among(own, half_seqs, query, k, without)
            for half_seqs in (seqs[:half], seqs[half:])
        ]
        return halves[0] | halves[1]

    def _nearest(
        self, condition: str, query: Vectors, k: int, without: Collection[int], *, alone: bool
    ) -> dict[int, float] | None:
        """Return the scores of turns that the `k` best of those that meet a condition are among.

        None if these have more rows than Milvus gives at once: `k` is large, or many rows score
        alike, or are passages of few turns. If only one turn meets the condition, it is `alone`.
        """
        slack = 4 * self._dim * float(np.finfo(np.float32).eps)
        limit = min(k + MARGIN, self._most)
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
            # Equal vectors score differently with their place among others: scored again in float64.
            rows = np.array([hit["entity"]["vector"] for hit in hits], np.float32)
            wide = rows.reshape(-1, self._dim).astype(np.float64) * query.astype(np.float64)
            scores: list[float] = wide.sum(axis=1).astype(np.float32).astype(float).tolist()
            best: dict[int, float] = {}
            for hit, score in zip(hits, scores, strict=True):
                seq = int(hit["entity"]["seq"])
                if seq not in without:
                    best[seq] = max(score, best.get(seq, score))
            ranked = sorted(best.values(), reverse=True)
            told = len(ranked) >= k and ranked[k - 1] > scores[-1] + slack
            if len(hits) < limit or alone or told:
                return best
            if limit == self._most:
                return None
            limit = min(4 * limit, self._most)

    @property
    def _most(self) -> int:
        """How many rows may be asked for at once, with their vectors."""
        return min(WINDOW, max(1, ANSWER // (4 * self._dim)))
