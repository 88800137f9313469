"""BM25: scores of a view's turns for the terms of a query.

A database's own full-text search takes its statistics from the whole table: words in other people's
memories, and in later turns, would affect the scores, and so reveal something about these turns.
Here, statistics cover only what one view can see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from evomem.scores import Scores, common_places
from evomem.store import Seqs

Places = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.integer[Any]]

K1, B = 1.5, 0.75  # as in bm25s


class Postings(NamedTuple):
    """Where a term occurs."""

    places: Places
    """(p,) places of turns, ascending and distinct."""
    counts: Counts
    """(p,) occurrences in each turn."""


class Part(NamedTuple):
    """Turns of one log, and the postings of a query's terms in them."""

    seqs: Seqs
    """(n,) ascending."""
    lengths: Counts
    """(n,) number of terms of each turn."""
    postings: Mapping[str, Postings]
    """By term; places are indices into `seqs`."""

    def without(self, excluded: Seqs) -> Part:
        """Return the part without the turns `excluded`."""
        places = np.searchsorted(self.seqs, excluded)
        is_present = places < np.searchsorted(self.seqs, excluded, side="right")
        if not is_present.any():
            return self
        shown = np.ones(len(self.seqs), bool)
        shown[places[is_present]] = False
        moved = np.cumsum(shown) - 1
        postings = {}
        for term, (term_places, counts) in self.postings.items():
            is_shown = shown[term_places]
            postings[term] = Postings(moved[term_places[is_shown]], counts[is_shown])
        return Part(self.seqs[shown], self.lengths[shown], postings)

    def among(self, seqs: Seqs) -> Part:
        """Return the part restricted to `seqs` (ascending)."""
        _, places = common_places(seqs, self.seqs)
        postings = {}
        for term, (term_places, counts) in self.postings.items():
            moved, at = common_places(places, term_places)
            postings[term] = Postings(moved, counts[at])
        return Part(self.seqs[places], self.lengths[places], postings)


def bm25(query: Mapping[str, float], parts: Sequence[Part], among: Seqs | None = None) -> Scores:
    """Return the BM25 score, in Lucene's variant, of every turn that has a term of the query.

    Args:
        query: The weight of each term of the query.
        parts: All turns for the statistics, ordered by seq, and the postings of each term.
        among: Ascending; only these turns are scored. Statistics still cover all turns.

    >>> cat = Postings(np.array([1]), np.array([2]))
    >>> scores = bm25({"cat": 1}, [Part(np.array([6, 7]), np.array([4, 4]), {"cat": cat})])
    >>> [(seq, round(score, 6)) for seq, score in scores]
    [(7, 0.396084)]
    """
    turns = sum(len(part.seqs) for part in parts)
    words = sum(int(part.lengths.sum()) for part in parts)
    mean = words / turns if turns else 0.0
    scored_parts = parts if among is None else [part.among(among) for part in parts]
    sums = [np.zeros(len(part.seqs)) for part in scored_parts]
    maximum = 0.0
    for term, factor in query.items():
        having = sum(len(part.postings[term].places) for part in parts)
        weight = factor * math.log(1 + (turns - having + 0.5) / (having + 0.5))
        maximum += weight
        if not having:
            continue
        for part, scores in zip(scored_parts, sums, strict=True):
            places, counts = part.postings[term]
            share = counts / (counts + K1 * (1 - B + B * part.lengths[places] / mean))
            scores[places] += weight * share
    scored = [np.flatnonzero(scores > 0) for scores in sums]  # faster on booleans than on floats
    seqs = [part.seqs[places] for part, places in zip(scored_parts, scored, strict=True)]
    values = [scores[places] for scores, places in zip(sums, scored, strict=True)]
    return Scores(
        np.concatenate([np.zeros(0, np.int64), *seqs]),
        np.concatenate([np.zeros(0), *values]),
        maximum,
    )
