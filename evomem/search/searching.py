"""Searching: one question to one snapshot of a memory.

question ─► encoder.embed_queries(state) ─► candidates ─► ranking ─► store.records ─► hits

The state is read before the encoder embeds the query, and everything else after it, in a second
transaction; no transaction is open meanwhile. If rows of the view were purged, deleted or dropped in
between, the search starts again. With `Question.rerank`, the hits are scored again after that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Literal

import numpy as np

from evomem.encoder import Encoder
from evomem.engine import TRIES, Engine
from evomem.errors import EncoderError, HeadMoved, QueryError
from evomem.records import Hit, Turn
from evomem.search.candidates import (
    best_fused,
    best_of_one_score,
    damaged,
    groups_of,
    relevance_by_cosine,
    said_then,
)
from evomem.search.events import with_events
from evomem.state import State, Vectors
from evomem.store import Filter, View
from evomem.times.dates import asked_events
from evomem.times.event_words import Event
from evomem.times.when import When, names_only_time, names_time, read_when

Mode = Literal["evolvable", "lexical", "hybrid"]

PATIENCE = 3  # restarts because of deleted turns, after which a search ignores deletions


@dataclass(frozen=True, slots=True)
class Question:
    """A checked question with its options."""

    query: str
    k: int
    """Maximum number of hits."""
    mode: Mode
    condition: Filter
    """Which turns may be returned."""
    trust: Mapping[str | None, float]
    """Weights of sources."""
    now: datetime | None
    """The time of the question; None for the time of the view's newest turn."""
    zone: tzinfo
    """The time zone of days in the question."""
    min_relevance: float | None = None
    """Hits with a lower relevance are left out."""
    rerank: bool = False
    """Whether the best hits are ordered by the database's re-ranker."""


def find_hits(
    engine: Engine, take_view: Callable[[], View], question: Question, asked_of: object
) -> list[Hit]:
    """Return the turns that answer a question best.

    Args:
        engine: The engine of the memory.
        take_view: Returns the current view to search; called again if the log was rewritten
            meanwhile.
        question: The question.
        asked_of: The name of the memory in errors.

    Raises:
        HeadMoved: The memory was purged in every attempt.
        QueryError: The question asks for a re-ranker, and the database has none.
    """
    if not question.rerank:
        return _find(engine, take_view, question, asked_of)
    if engine.reranker is None:
        raise QueryError(
            "rerank=True needs a re-ranker: open the database with evomem.open(..., reranker=), or "
            "start the service with evomem serve --reranker MODEL"
        )
    from evomem.reranking import DEPTH, rerank

    candidates = replace(question, k=max(question.k, DEPTH))
    hits = _find(engine, take_view, candidates, asked_of)
    return rerank(engine.reranker, question.query, hits)[: question.k]


def _find(
    engine: Engine, take_view: Callable[[], View], question: Question, asked_of: object
) -> list[Hit]:
    """Return the hits in the order of their scores, without re-ranking."""
    store, index = engine.store, engine.index
    query, by_vectors = question.query, question.mode != "lexical"
    is_timed = _is_timed(question)  # parsed before a transaction is open
    events = asked_events(query) if is_timed else []
    for attempt in range(TRIES):
        try:
            with store.snapshot():
                view = take_view()
                state = engine.state(view) if by_vectors else None
            if not view.spans:
                return []
            texts = [query, *(event.text for event in events)]
            vectors = [] if state is None else _embed(engine.reader, state, texts)
            if (
                attempt >= PATIENCE
            ):  # turns are deleted constantly: return a view without the hidden ones
                view = replace(view, hidden=None)
            indexed = index.reading(view) if vectors else nullcontext()
            with indexed, store.snapshot(view):
                return _hits(engine, view, question, vectors, is_timed, events)
        except HeadMoved:  # the log was rewritten meanwhile: start again from its current state
            continue
    raise HeadMoved(f"{asked_of!r} keeps being purged while it is searched; try again later")


def _is_timed(question: Question) -> bool:
    """Return whether a time that the question names influences its hits."""
    if question.mode == "hybrid":
        return names_time(question.query)
    return question.mode == "evolvable" and names_only_time(question.query)


def _hits(
    engine: Engine,
    view: View,
    question: Question,
    vectors: Sequence[Vectors],
    is_timed: bool,
    events: Sequence[Event],
) -> list[Hit]:
    """Rank the turns of a view. Everything is read here, inside one snapshot.

    Args:
        engine: The engine of the memory.
        view: The turns to search.
        question: The question.
        vectors: Each (D,) float32: the query and the `events`, embedded at the view's end; none for
            "lexical".
        is_timed: Whether to read the time that the query names.
        events: The events that times of the query are counted from.
    """
    vector = vectors[0] if vectors else None
    store, query = engine.store, question.query
    groups = groups_of(store, view, question.condition, question.trust)
    if not groups:
        return []
    when = read_when(store, view, query, question.now, question.zone) if is_timed else When()
    if events:
        when = with_events(when, engine, view, groups, list(zip(events, vectors[1:], strict=True)))
    if question.mode == "hybrid":
        assert vector is not None
        ranked, relevance = best_fused(engine, view, query, vector, question.k, groups, when)
    else:
        if when.is_all and vector is not None:
            groups = said_then(groups, when.turns(store, view)) or groups
        ranked = best_of_one_score(engine, view, query, vector, question.k, question.mode, groups)
        relevance = {}
        if vector is not None and question.min_relevance is not None:  # reading words takes time
            relevance = relevance_by_cosine(engine, view, query, ranked)
    if question.min_relevance:
        ranked = [hit for hit in ranked if relevance[hit[0]] >= question.min_relevance]
    records = store.records(view, [seq for seq, _ in ranked])
    if missing := [seq for seq, _ in ranked if seq not in records]:
        raise damaged(view, missing[0])
    # Most memories hide nothing: then the query is not needed.
    earlier = {} if view.hidden == 0 else store.replaced(view, records)
    return [
        Hit(
            records[seq],
            sum(parts.values()),
            parts,
            tuple(earlier.get(seq, ())),
            relevance.get(seq),
        )
        for seq, parts in ranked
    ]


def _embed(encoder: Encoder, state: State[Turn], texts: Sequence[str]) -> list[Vectors]:
    vectors: list[Vectors] = list(encoder.embed_queries(state, texts))
    for text, vector in zip(texts, vectors, strict=True):
        if vector.shape != (encoder.spec.dim,) or not np.isfinite(vector).all():
            raise EncoderError(
                f"the encoder {encoder.spec.name!r} returned an unusable vector of shape "
                f"{vector.shape} for the query {text[:60]!r}"
            )
    return vectors
