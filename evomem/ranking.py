"""Ranking: pure functions from scores to an order."""

from __future__ import annotations

from collections.abc import Mapping

LEXICAL_SHARE = 0.3
"""Share of BM25 in a hybrid score; chosen on REALTALK and BEAM (docs/benchmarks.md)."""


def top_k(scores: Mapping[int, float], k: int) -> list[tuple[int, float]]:
    """Return the `k` best (seq, score), best first; of equals, the newer turn.

    >>> top_k({1: 0.5, 2: 0.9, 3: 0.5}, 2)
    [(2, 0.9), (3, 0.5)]
    """
    return sorted(scores.items(), key=lambda item: (-item[1], -item[0]))[:k]


def fuse(evolvable: Mapping[int, float], lexical: Mapping[int, float]) -> dict[int, float]:
    """Return hybrid scores of the turns in `evolvable`, at most 1.

    Each side counts as a share of its best for this query: cosines of one query lie close together
    and BM25 has no upper end, so neither can be added as it is. A turn that shares no word with the
    query has a lexical part of 0.

    >>> fuse({1: 0.4, 2: 0.2}, {2: 8.0})
    {1: 0.7, 2: 0.65}
    """
    cosine, words = _best(evolvable), _best(lexical)
    return {
        seq: round(
            (1 - LEXICAL_SHARE) * score / cosine + LEXICAL_SHARE * lexical.get(seq, 0.0) / words, 9
        )
        for seq, score in evolvable.items()
    }


def _best(scores: Mapping[int, float]) -> float:
    """Return the highest score, or 1 where none is positive."""
    best = max(scores.values(), default=0.0)
    return best if best > 0 else 1.0
