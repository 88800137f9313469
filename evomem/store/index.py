"""`Index`: what finds the nearest turns of a log must do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from evomem.state import Vectors
from evomem.store.values import Seqs, View


class Index(Protocol):
    """Finds the nearest turns by inner product; always agrees with the log.

    In a large memory a hit may be missed now and then. Every hit that is returned is in the log, has
    its exact score, and is in the right order.
    """

    def reading(self, view: View) -> AbstractContextManager[None]:
        """Prepare for `search` and `score` of a view inside a `Store.snapshot`, and clean up after.

        Enter this before the snapshot and leave it after: what an index has to write, and what it
        has to check in a transaction of its own, happens outside of the snapshot. `search` and
        `score` do all of this themselves when they are called outside of a snapshot.

        Raises:
            HeadMoved: On leaving: the log was rewritten, so that answers may be incomplete.
        """
        ...

    def search(
        self,
        view: View,
        query: Vectors,
        k: int,
        *,
        allowed: Seqs | None = None,
        without: Seqs | None = None,
    ) -> list[tuple[int, float]]:
        """Return up to `k` (seq, cosine) of the view's turns, best first, ties by newer seq.

        The cosine of a turn with several embeddings is that of its closest one.

        Args:
            view: The turns to search; later rows do not exist.
            query: (D,) float32, unit length.
            k: At least 1.
            allowed: The only seqs that may be returned, ascending; None for all.
            without: Seqs that may not be returned, ascending; only without `allowed`.

        Raises:
            HeadMoved: The view's rows have changed since it was taken.
        """
        ...

    def score(self, view: View, query: Vectors, seqs: Sequence[int]) -> dict[int, float]:
        """Return the cosine of exactly these turns of the view, as in `search`."""
        ...

    def stats(self) -> dict[str, int]:
        """Return counts of what this process has done since it opened the index."""
        ...

    def verify(self) -> list[str]:
        """Compare the index files with the log; return one sentence for each fault."""
        ...

    def repair(self) -> list[str]:
        """Remove wrong index files; return one sentence for each removal."""
        ...

    def close(self) -> None:
        """Write index files and release everything; harmless when repeated."""
        ...
