"""Ranking: pure functions from scores to an order."""

from __future__ import annotations

from collections.abc import Mapping

LEXICAL_SHARE = 0.4
"""Share of BM25 in a hybrid score."""


def top_k(scores: Mapping[int, float], k: int) -> list[tuple[int, float]]:
    """Return the `k` best (seq, score), best first; of equals, the newer turn.

    >>> top_k({1: 0.5, 2: 0.9, 3: 0.5}, 2)
    [(2, 0.9), (3, 0.5)]
    """
    return sorted(scores.items(), key=lambda item: (-item[1], -item[0]))[:k]


def fuse(evolvable: Mapping[int, float], lexical: Mapping[int, float]) -> dict[int, float]:
    """Return hybrid scores of the turns in `evolvable`.

    The cosine plus BM25 as a share of the best BM25 of this query, so that both lie in about
    [0, 1]; a turn that shares no word with the query has a lexical part of 0.

    >>> fuse({1: 0.5, 2: 0.5}, {2: 8.0})
    {1: 0.3, 2: 0.7}
    """
    best = max(lexical.values(), default=0.0) or 1.0
    return {
        seq: round((1 - LEXICAL_SHARE) * cosine + LEXICAL_SHARE * lexical.get(seq, 0.0) / best, 9)
        for seq, cosine in evolvable.items()
    }
