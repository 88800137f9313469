"""`Scores`: the scores of turns as arrays, since a common word occurs in most turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The scores of turns; other turns have none.

    >>> scores = Scores(np.array([2, 3, 5, 7]), np.array([0.5, 0.9, 0.5, 0.5]))
    >>> scores.top(2)
    [(3, 0.9), (7, 0.5)]
    >>> scores.among(np.array([1, 2, 3])).top(1)
    [(3, 0.9)]
    >>> dict(scores)[5]
    0.5
    """

    seqs: npt.NDArray[np.int64]
    """(n,), ascending."""
    values: npt.NDArray[np.float64]
    """(n,)"""
    most: float = 0.0
    """An upper bound on the scores: that of a turn that consists of the query's words."""

    def __len__(self) -> int:
        return len(self.seqs)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.seqs.tolist(), self.values.tolist(), strict=True)

    def among(self, seqs: npt.NDArray[np.int64]) -> Scores:
        """Return the scores of those of `seqs` (ascending) that have a score."""
        _, places = common_places(seqs, self.seqs)
        return Scores(self.seqs[places], self.values[places], self.most)

    def top(self, k: int) -> list[tuple[int, float]]:
        """Return the `k` best (seq, score), best first; ties by newer turn."""
        best = self
        if k < len(self):
            least = np.partition(self.values, -k)[-k]
            places = np.flatnonzero(self.values >= least)  # including ties with the last one
            best = Scores(self.seqs[places], self.values[places])
        order = np.lexsort((-best.seqs, -best.values))[:k]
        return list(Scores(best.seqs[order], best.values[order]))


def common_places(
    sought: npt.NDArray[np.integer[Any]], listed: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the places of common numbers in both arrays, which are ascending.

    >>> common_places(np.array([1, 3, 9]), np.array([3, 5]))
    (array([1]), array([0]))
    """
    at = np.searchsorted(listed, sought)
    at = at[: np.searchsorted(at, len(listed))]  # drop numbers beyond the last of `listed`
    present = np.flatnonzero(listed[at] == sought[: len(at)])
    return present, at[present]
