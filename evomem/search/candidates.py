"""Candidates: the turns of a view that are ranked, and the best of them with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evomem.engine import Engine
from evomem.errors import DatabaseDamaged
from evomem.records import Record
from evomem.scores import Scores
from evomem.search import ranking
from evomem.search.relevance import calibration_of
from evomem.state import Vectors
from evomem.store import Filter, Selection, Seqs, Span, Store, View
from evomem.times.mentions import mention_of
from evomem.times.when import When

Group = tuple[float, Selection]
"""A weight, and the turns whose source has it."""
Ranked = list[tuple[int, dict[str, float]]]
"""Seqs, best first, each with the parts of its score."""
Relevance = dict[int, float]
"""By seq (`evomem.search.relevance`)."""

POOL = 50  # least number of candidates by vectors, and by words, in hybrid mode; plus neighbours


def groups_of(
    store: Store, view: View, condition: Filter, trust: Mapping[str | None, float]
) -> list[Group]:
    """Return the turns that may be found, grouped by the weight of their source; no empty group."""
    conditions = [(1.0, condition)]
    if trust:
        rest = replace(condition, not_source=(*condition.not_source, *trust))
        conditions = [(1.0, rest)]
        for weight in sorted(set(trust.values())):
            labels = [label for label, other in trust.items() if other == weight]
            if condition.source is not None:
                labels = [label for label in labels if label in condition.source]
            conditions.append((weight, replace(condition, source=tuple(labels))))
    groups = [(weight, store.select(view, limited)) for weight, limited in conditions]
    return [group for group in groups if group[1].allowed is None or len(group[1].allowed)]


def said_then(groups: Sequence[Group], seqs: Seqs) -> list[Group]:
    """Return those of `seqs` that are in a group, by group; no empty group."""
    parts = [(weight, chosen.among(seqs)) for weight, chosen in groups]
    return [(weight, Selection(part)) for weight, part in parts if len(part)]


def best_of_one_score(
    engine: Engine,
    view: View,
    query: str,
    vector: Vectors | None,
    k: int,
    name: str,
    groups: Sequence[Group],
) -> Ranked:
    """Rank the turns by vectors, or by words alone if there is no vector.

    The best `k` of each group are enough: weights do not change the order within a group.
    """
    if vector is None:
        words = engine.store.lexical(view, query)
        best = [_among(words, chosen).top(k) for _, chosen in groups]
    else:
        best = [engine.index.search(view, vector, k, **chosen._asdict()) for _, chosen in groups]
    parts: dict[int, dict[str, float]] = {}
    for (weight, _), hits in zip(groups, best, strict=True):
        for seq, score in hits:
            parts[seq] = {name: score}
            if weight != 1:
                parts[seq]["trust"] = ranking.penalty(score, weight)
    scores = {seq: sum(values.values()) for seq, values in parts.items()}
    return [(seq, parts[seq]) for seq, _ in ranking.top_k(scores, k)]


def relevance_by_cosine(engine: Engine, view: View, query: str, ranked: Ranked) -> Relevance:
    """Return the relevance of turns that were ranked by their cosines; reads their words."""
    cosines = {seq: parts["evolvable"] for seq, parts in ranked}
    words = engine.store.lexical(view, query, np.array(sorted(cosines), np.int64))
    return _relevance(engine, cosines, dict(words), words.most)


def best_fused(
    engine: Engine,
    view: View,
    query: str,
    vector: Vectors,
    k: int,
    groups: Sequence[Group],
    when: When,
) -> tuple[Ranked, Relevance]:
    """Rank the best turns by vectors and by words, and those next to them, by all signals.

    Each group has its own candidates, so that many turns of a weak source displace no others. The
    turns of a time that the query names are another group; if the query asks for nothing but that
    time, they are the only candidates.
    """
    store, index = engine.store, engine.index
    words = store.lexical(view, query)
    pool = max(POOL, 2 * k)
    cosines: dict[int, float] = {}
    best: set[int] = set()
    timed = said_then(groups, when.turns(store, view)) if when else []
    if timed and when.is_all:
        groups = timed
    for _, chosen in groups if groups is timed else [*groups, *timed]:
        cosines.update(index.search(view, vector, pool, **chosen._asdict()))
        best.update(seq for seq, _ in _among(words, chosen).top(pool))
    best.update(cosines)
    beside, timeline = store.around(view, sorted(best))
    near = np.array(sorted(timeline), np.int64)
    weights: dict[int, float] = {}
    if any(chosen.allowed is not None for _, chosen in groups):
        parts = [(weight, chosen.among(near)) for weight, chosen in groups]
        near = np.sort(np.concatenate([seqs for _, seqs in parts]))
        timeline = {seq: timeline[seq] for seq in near.tolist()}
        weights = {seq: w for w, seqs in parts if w != 1 for seq in seqs.tolist()}
    cosines.update(index.score(view, vector, [seq for seq in timeline if seq not in cosines]))
    if missing := [seq for seq in timeline if seq not in cosines]:
        raise damaged(view, missing[0])

    if (mention := mention_of(when.dates)) and groups is not timed:
        records = store.records(view, list(timeline))
        mentioning = frozenset(
            seq for seq, record in records.items() if mention.search(record.text)
        )
        when = replace(when, mentioning=mentioning)
    word_scores = dict(words.among(near))
    ranked = ranking.fuse(
        query, when, cosines, word_scores, timeline, beside, k, weights, _Look(engine, view)
    )
    near_cosines = {seq: cosines[seq] for seq, _ in ranked}
    return ranked, _relevance(engine, near_cosines, word_scores, words.most)


def _relevance(
    engine: Engine, cosines: Mapping[int, float], words: Mapping[int, float], most: float
) -> Relevance:
    """Return the relevance of the turns whose cosines are given; `most` is that of `Scores`."""
    calibration = calibration_of(engine.store.spec.name)
    return {
        seq: calibration.relevance(cosine, words.get(seq, 0.0) / (most or 1.0))
        for seq, cosine in cosines.items()
    }


@dataclass(frozen=True)
class _Look(ranking.Look):
    """Reads turns of a view within a snapshot."""

    engine: Engine
    view: View

    def records(self, seqs: Sequence[int]) -> list[Record]:
        records = self.engine.store.records(self.view, seqs)
        return [records[seq] for seq in seqs]

    def likeness(self, seq: int, seqs: Sequence[int]) -> dict[int, float]:
        ends = zip(self.view.spans, self.view.ends, strict=True)
        span, end = next((span, end) for span, end in ends if span.first <= seq <= span.last)
        own = self.engine.store.vectors(Span(span.memory, seq, seq), end.revision)
        return self.engine.index.score(self.view, own.vectors[0], seqs)


def damaged(view: View, seq: int) -> DatabaseDamaged:
    """Return the error for a turn that only a part of the database contains."""
    return DatabaseDamaged(
        f"turn {seq} of memory {view.memory} is in one part of the database and not in another: "
        "run verify, and restore the database from a backup"
    )


def _among(words: Scores, chosen: Selection) -> Scores:
    """Return BM25 of the turns that may be found; words of hidden ones are not counted anyway."""
    return words if chosen.allowed is None else words.among(chosen.allowed)
