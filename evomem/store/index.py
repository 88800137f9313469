"""`Index`: the protocol of indexes that find the nearest turns of a log."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from evomem.state import Vectors
from evomem.store.values import Seqs, View


class Index(Protocol):
    """Finds the nearest turns by inner product; always agrees with the log.

    In a large memory a search may occasionally miss a hit. Every returned hit is in the log, with its
    exact score and in the right order.
    """

    def reading(self, view: View) -> AbstractContextManager[None]:
        """Prepare for `search` and `score` of a view inside a `Store.snapshot`, and clean up after.

        Enter this before the snapshot and leave it after it: an index writes, and makes checks in
        separate transactions, outside the snapshot. `search` and `score` do this themselves if they
        are called outside a snapshot.

        Raises:
            HeadMoved: On exit, if the log was rewritten, so that results may be incomplete.
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

        The cosine of a turn with several embeddings is that of the closest one.

        Args:
            view: The turns to search; later rows do not exist.
            query: (D,) float32, unit length.
            k: At least 1.
            allowed: The only seqs to return, ascending; None for all.
            without: Seqs to leave out, ascending; not together with `allowed`.

        Raises:
            HeadMoved: The view's rows have changed since it was taken.
        """
        ...

    def score(self, view: View, query: Vectors, seqs: Sequence[int]) -> dict[int, float]:
        """Return the cosine of each of these turns of the view, as in `search`."""
        ...

    def stats(self) -> dict[str, int]:
        """Return counters of this process since it opened the index."""
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
