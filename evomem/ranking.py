"""Ranking: pure functions from scores to an order, and the parts that a hybrid score is made of."""

from __future__ import annotations

from collections.abc import Mapping

from evomem.dates import asked_days, nearness
from evomem.records import Record

WEIGHTS: Mapping[str, float] = {
    "evolvable": 1.0,
    "lexical": 0.27,
    "time": 0.31,
    "reply": 0.08,
    "next": 0.07,
    "question": -0.05,
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
    records: Mapping[int, Record],
    beside: Mapping[int, tuple[int, int]],
) -> dict[int, dict[str, float]]:
    """Return the parts of the hybrid score of every turn in `records`; their sum is the score.

    The arguments are those of `signals`.
    """
    found = signals(query, cosines, words, records, beside)
    return {
        seq: {name: WEIGHTS[name] * value for name, value in each.items() if value}
        for seq, each in found.items()
    }


def signals(
    query: str,
    cosines: Mapping[int, float],
    words: Mapping[int, float],
    records: Mapping[int, Record],
    beside: Mapping[int, tuple[int, int]],
) -> dict[int, dict[str, float]]:
    """Return what speaks for every turn in `records`, before it is weighed.

    - `evolvable`, `lexical`: cosine and BM25, each as a share of its best for this query: cosines
      of one query lie close together and BM25 has no upper end, so neither can be added as it is.
    - `time`: the turn was said at a time that the query names, or in the week after it.
    - `reply`: the share of the turn before it, if that one asks something.
    - `next`: the share of the turn behind it: what is spoken of again was meant before.
    - `question`: 1 if it only asks, and so answers nothing.

    Args:
        query: What was asked.
        cosines: The cosine of each of `records`.
        words: BM25 of the turns that share a word with the query.
        records: The candidates, and turns next to them; only those of one session are neighbours.
        beside: The seqs directly before and behind each candidate, 0 for none.
    """
    cosine, word = _best(cosines), _best(words)
    days = {seq: record.time.date() for seq, record in records.items()}
    spans = asked_days(query, days.values())
    before = {seq: at for at, (_, seq) in beside.items()} | {s: b for s, (b, _) in beside.items()}
    behind = {seq: at for at, (seq, _) in beside.items()} | {s: b for s, (_, b) in beside.items()}
    found = {}
    for seq, record in records.items():
        last = _same_session(record, records.get(before.get(seq, 0)))
        then = _same_session(record, records.get(behind.get(seq, 0)))
        found[seq] = {
            "evolvable": cosines[seq] / cosine,
            "lexical": words.get(seq, 0.0) / word,
            "time": nearness(days[seq], spans),
            "reply": cosines[last.seq] / cosine if last and _asks(last) else 0.0,
            "next": cosines[then.seq] / cosine if then else 0.0,
            "question": float(_asks(record)),
        }
    return found


def _same_session(record: Record, other: Record | None) -> Record | None:
    """Return the neighbour if it belongs to the same session."""
    return other if other and other.turn.session == record.turn.session else None


def _asks(record: Record) -> bool:
    return record.text.rstrip().endswith(("?", "？"))


def _best(scores: Mapping[int, float]) -> float:
    """Return the highest score, or 1 where none is positive."""
    best = max(scores.values(), default=0.0)
    return best if best > 0 else 1.0
