"""What indexes share that ask somebody else for the best of one span: pgvector, Milvus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from evomem.state import Vectors
from evomem.store import Seqs, Span, View


class SpanIndex(ABC):
    """The part of an `Index` that puts the answers for the spans of a view together."""

    def search(
        self, view: View, query: Vectors, k: int, *, allowed: Seqs | None = None
    ) -> list[tuple[int, float]]:
        """See `Index.search`."""
        found: list[tuple[int, float]] = []
        for span in view.spans:
            most = span.last - span.first + 1  # a service may not take any number for `k`
            found += self._ask(span, query, min(k, most), allowed)
        return sorted(found, key=lambda item: (-item[1], -item[0]))[:k]

    def score(self, view: View, query: Vectors, seqs: Sequence[int]) -> dict[int, float]:
        """See `Index.score`."""
        wanted = np.unique(np.array(seqs, np.int64))
        found: dict[int, float] = {}
        for span in view.spans if len(wanted) else ():
            found |= dict(self._ask(span, query, len(wanted), wanted))
        return found

    @abstractmethod
    def _ask(
        self, span: Span, query: Vectors, k: int, allowed: Seqs | None
    ) -> list[tuple[int, float]]:
        """Return up to `k` (seq, cosine) of one span, only of `allowed` if that is given."""
