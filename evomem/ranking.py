"""Ranking: pure functions from scores to an order, and the parts that a hybrid score is made of."""

from __future__ import annotations

from collections.abc import Mapping

from evomem.dates import asked_days, nearness
from evomem.records import Said

WEIGHTS: Mapping[str, float] = {
    "evolvable": 1.0,
    "lexical": 0.22,
    "time": 0.31,
    "session": 0.29,
    "beside": 0.09,
}
"""What the parts of a hybrid score count; learned on REALTALK (docs/benchmarks.md)."""


def top_k(scores: Mapping[int, float], k: int) -> list[tuple[int, float]]:
    """Return the `k` best (seq, score), best first; of equals, the newer turn.

    >>> top_k({1: 0.5, 2: 0.9, 3: 0.5}, 2)
    [(2, 0.9), (3, 0.5)]
    """
    return sorted(scores.items(), key=lambda item: (-item[1], -item[0]))[:k]


def fuse(
    query: str,
    cosines: Mapping[int, float],
    words: Mapping[int, float],
    said: Mapping[int, Said],
    beside: Mapping[int, tuple[int, int]],
) -> dict[int, dict[str, float]]:
    """Return the parts of the hybrid score of every turn in `said`; their sum is the score.

    The arguments are those of `signals`.
    """
    found = signals(query, cosines, words, said, beside)
    return {
        seq: {name: WEIGHTS[name] * value for name, value in each.items() if value}
        for seq, each in found.items()
    }


def signals(
    query: str,
    cosines: Mapping[int, float],
    words: Mapping[int, float],
    said: Mapping[int, Said],
    beside: Mapping[int, tuple[int, int]],
) -> dict[int, dict[str, float]]:
    """Return what speaks for every turn in `said`, before it is weighed.

    - `evolvable`, `lexical`: cosine and BM25, each as a share of its best for this query: cosines
      of one query lie close together and BM25 has no upper end, so neither can be added as it is.
    - `time`: the turn was said at a time that the query names, or in the week after it.
    - `session`: the best share of cosine in the turn's session: what is spoken of together is meant
      together.
    - `beside`: the shares of BM25 of the turns directly before and behind it, added: a reply seldom
      repeats the words of what it replies to.

    Args:
        query: What was asked.
        cosines: The cosine of each of `said`.
        words: BM25 of those that share a word with the query; the best turn is one of them.
        said: The candidates, and turns next to them; only those of one session are neighbours.
        beside: The seqs directly before and behind each candidate, 0 for none.
    """
    cosine, word = _best(cosines), _best(words)
    days = {seq: each.time.date() for seq, each in said.items()}
    spans = asked_days(query, days.values())
    shares = {seq: score / word for seq, score in words.items() if seq in said}
    neighbours = dict.fromkeys(said, 0.0)
    for left, right in {
        pair for seq, (before, behind) in beside.items() for pair in ((before, seq), (seq, behind))
    }:
        if left in said and right in said and said[left].session == said[right].session:
            neighbours[left] += shares.get(right, 0.0)
            neighbours[right] += shares.get(left, 0.0)
    sessions: dict[str | None, float] = {}
    for seq, (_, name) in said.items():
        sessions[name] = max(cosines[seq], sessions.get(name, cosines[seq]))
    return {
        seq: {
            "evolvable": cosines[seq] / cosine,
            "lexical": shares.get(seq, 0.0),
            "time": nearness(days[seq], spans) if spans else 0.0,
            "session": sessions[name] / cosine if name is not None else 0.0,
            "beside": neighbours[seq],
        }
        for seq, (_, name) in said.items()
    }


def _best(scores: Mapping[int, float]) -> float:
    """Return the highest score, or 1 where none is positive."""
    best = max(scores.values(), default=0.0)
    return best if best > 0 else 1.0
