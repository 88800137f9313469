"""Retrieval metrics: pure functions of a ranking and the evidence, with binary relevance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from math import log2

CUTS = (1, 5, 10, 20)
DEPTH = 50
"""The number of turns that systems are asked for, and the maximum cut."""
MRR_DEPTH = 20

MAIN_METRIC = "recall@10"
"""The metric of differences, of question types and of overviews."""
TABLE_METRICS = ("recall@1", "recall@5", MAIN_METRIC, "ndcg@10")
"""The metrics of tables with several datasets or groups."""
DETAILED_TABLE_METRICS = ("recall@1", "recall@5", MAIN_METRIC, "recall_all@10", "ndcg@10", "mrr")
"""The metrics of a table of one dataset."""
QA_TABLE_METRICS = ("recall@5", MAIN_METRIC, "recall_all@10", "ndcg@10")
"""The metrics of retrieval in tables of question answering."""
SET_TABLE_METRICS = ("hit@1", "hit@10", MAIN_METRIC, "mrr")
"""The metrics of tables of document sets, unless a set has its own."""


def recall(ranking: Sequence[Hashable], evidence: Collection[Hashable], k: int) -> float:
    """Return the share of the evidence among the first `k`.

    >>> recall([7, 3, 9], {3, 4}, k=2)
    0.5
    """
    return len(set(ranking[:k]) & set(evidence)) / len(evidence)


def recall_all(ranking: Sequence[Hashable], evidence: Collection[Hashable], k: int) -> float:
    """Return 1 if all of the evidence is among the first `k`, else 0."""
    return float(set(evidence) <= set(ranking[:k]))


def hit(ranking: Sequence[Hashable], evidence: Collection[Hashable], k: int) -> float:
    """Return 1 if any of the evidence is among the first `k`, else 0."""
    return float(not set(evidence).isdisjoint(ranking[:k]))


def ndcg(ranking: Sequence[Hashable], evidence: Collection[Hashable], k: int) -> float:
    """Return the discounted gain of the first `k`, divided by the best possible gain.

    >>> ndcg([7, 3], {3}, k=10) == 1 / log2(3)
    True
    """
    gain = sum(1 / log2(rank + 1) for rank, turn in enumerate(ranking[:k], 1) if turn in evidence)
    best = sum(1 / log2(rank + 1) for rank in range(1, min(k, len(evidence)) + 1))
    return gain / best


def reciprocal_rank(ranking: Sequence[Hashable], evidence: Collection[Hashable]) -> float:
    """Return 1 / rank of the first evidence in the ranking, 0 if there is none."""
    return next((1 / rank for rank, turn in enumerate(ranking, 1) if turn in evidence), 0.0)


def set_f1(ranking: Sequence[Hashable], evidence: Collection[Hashable], k: int) -> float:
    """Return the F1 of the first `k` as a set: the harmonic mean of precision and recall.

    >>> set_f1([7, 3], {3, 4}, k=2)
    0.5
    """
    first = set(ranking[:k])
    return 2 * len(first & set(evidence)) / (len(first) + len(evidence)) if first else 0.0


def score(
    ranking: Sequence[Hashable], evidence: Collection[Hashable], cuts: Sequence[int] = CUTS
) -> dict[str, float]:
    """Return every metric of one question; `evidence` must not be empty."""
    functions = {"recall": recall, "recall_all": recall_all, "hit": hit, "ndcg": ndcg}
    scores = {f"{n}@{k}": f(ranking, evidence, k) for n, f in functions.items() for k in cuts}
    scores["mrr"] = reciprocal_rank(ranking[:MRR_DEPTH], evidence)
    return scores


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every metric over `rows`."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def summarise(
    scored: Sequence[tuple[str, Mapping[str, float]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return means of (question type, metrics) pairs.

    "overall" has the mean over questions ("all") and the mean over question types ("macro"); "types" has
    the mean of each type.
    """
    groups: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for kind, metrics in scored:
        groups[kind].append(metrics)
    types = {kind: mean(rows) for kind, rows in sorted(groups.items())}
    overall = {"all": mean([m for _, m in scored]), "macro": mean(list(types.values()))}
    return {"overall": overall, "types": types}
