"""`SpanIndex`: shared code of the indexes that query a server span by span (pgvector, Milvus)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from evomem.errors import DatabaseDamaged
from evomem.state import Vectors
from evomem.store import Mark, Selection, Seqs, Span, View
from evomem_stores.log.store import SqlLog


class SpanIndex(ABC):
    """The part of an `Index` that merges the results of a view's spans."""

    _store: SqlLog

    @contextmanager
    def reading(self, view: View) -> Iterator[None]:
        """See `Index.reading`."""
        if self._store.in_snapshot:  # inside another `reading`, which does this work
            yield
            return
        parts = list(zip(view.spans, view.ends, strict=True))
        for span, end in parts:
            self._catch_up(span, end)
        try:
            yield
        except DatabaseDamaged:  # or rows are missing because the memory was rewritten
            for span, end in parts:
                self._check_current(span, end)
            raise
        for span, end in parts:
            self._check_current(span, end)

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
        hits: list[tuple[int, float]] = []
        with self.reading(view), self._store.snapshot():
            for span, end in zip(view.spans, view.ends, strict=True):
                size = span.last - span.first + 1  # servers limit `k`
                chosen = Selection(allowed, without)
                hits += self._search_span(span, end, query, min(k, size), chosen)
        return sorted(hits, key=lambda item: (-item[1], -item[0]))[:k]

    def score(self, view: View, query: Vectors, seqs: Sequence[int]) -> dict[int, float]:
        """See `Index.score`."""
        wanted = np.array(sorted(set(seqs)), np.int64)
        scores: dict[int, float] = {}
        if not len(wanted):
            return scores
        with self.reading(view), self._store.snapshot():
            for span, end in zip(view.spans, view.ends, strict=True):
                scores |= dict(self._search_span(span, end, query, len(wanted), Selection(wanted)))
        return scores

    def stats(self) -> dict[str, int]:
        """See `Index.stats`."""
        return {}

    @abstractmethod
    def _catch_up(self, span: Span, end: Mark) -> None:
        """Copy the rows of a span that the index lacks.

        Raises:
            HeadMoved: The mark of the span's last row is not, or no longer, `end`.
        """

    @abstractmethod
    def _search_span(
        self, span: Span, end: Mark, query: Vectors, k: int, chosen: Selection
    ) -> list[tuple[int, float]]:
        """Return up to `k` (seq, cosine) of the allowed turns of one span.

        Raises:
            HeadMoved: The index no longer has the rows that it caught up with.
        """

    @abstractmethod
    def _check_current(self, span: Span, end: Mark) -> None:
        """Raise `HeadMoved` if rows of a span may have been missing from the results."""
