"""`MemoryView`: what can be read of a memory, now or at one point of its log.

query ─► encoder.embed_queries(state) ─► index.search ─► rank ─► store.records ─► hits

Every call reads one moment of the log. A search reads the state before the encoder embeds the query,
and everything else after it, in a second transaction; no transaction is open meanwhile. If rows of
its view were purged, deleted or dropped in between, it starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evomem import ranking
from evomem.async_methods import async_method
from evomem.checks import (
    Sources,
    check_filter,
    check_k,
    check_labels,
    check_mode,
    check_point,
    check_query,
    check_trust,
    check_whole,
)
from evomem.engine import Engine
from evomem.errors import DatabaseDamaged, EncoderError, HeadMoved, NotFound, QueryError
from evomem.influence import Influence, find_influence
from evomem.records import Context, Hit, Record, Turn
from evomem.scores import Scores
from evomem.state import State, Vectors
from evomem.store import Filter, Namespace, Seqs, View

if TYPE_CHECKING:
    from evomem.memory import Memory

Mode = Literal["evolvable", "lexical", "hybrid"]
Group = tuple[float, Seqs | None]
"""A weight, and the turns whose source has it, ascending; None for all turns of the view."""

POOL = 50  # candidates of either side in hybrid mode, at least; their neighbours come on top
TRIES = 100  # lost races against other processes before a call gives up
PATIENCE = 3  # of these, lost because turns were deleted, before a search no longer starts again


class MemoryView:
    """What can be read of a memory. Get one from `Memory.at`; it never changes anything."""

    def __init__(self, engine: Engine, namespace: Namespace, seq: int | None = None) -> None:
        self._engine = engine
        self._seq = seq
        self.namespace = namespace

    def __repr__(self) -> str:
        at = "" if self._seq is None else f", seq={self._seq}"
        return f"{type(self).__name__}({'/'.join(self.namespace)!r}{at})"

    def __len__(self) -> int:
        """Return the number of turns, deleted ones not counted."""
        store = self._engine.store
        with store.snapshot():
            return store.count(self._view())

    def search(
        self,
        query: str,
        k: int = 5,
        *,
        mode: Mode = "hybrid",
        at: int | datetime | str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        session: str | None = None,
        role: str | None = None,
        where: Mapping[str, Any] | None = None,
        source: Sources | None = None,
        not_source: Sources | None = None,
        trust: Mapping[str | None, float] | None = None,
    ) -> list[Hit]:
        """Return the turns that answer `query` best, in the light of the memory's state.

        Args:
            query: The question, as the user asked it.
            k: How many hits at most; at least 1.
            mode: `"hybrid"` (all that speaks for a turn: `evomem.ranking.fuse`), `"evolvable"` (the
                encoder's vectors alone) or `"lexical"` (BM25 alone).
            at: Ask as of that turn (seq) or time; the memory as it was then.
            since: Only turns said at this time or later.
            until: Only turns said before this time.
            session: Only turns of this session.
            role: Only `"user"`, `"assistant"` or `"exchange"` turns.
            where: Only turns with this metadata, such as `{"topic": "travel"}` or
                `{"stars": {"$gte": 4}}`; the operators are `evomem.store.OPERATORS`.
            source: Only turns of this source, or of one of these; None in a list stands for turns
                without a source: `["user", None]`.
            not_source: No turns of this source, or of any of these.
            trust: Weights of sources, such as `{"web": 0.5, None: 0.8}`, above 0 and at most 1; a
                source that is not named has 1. The score of a turn is lowered by the rest, before
                the best `k` are chosen: by half of it for a weight of 0.5 (the part `"trust"`).

        Raises:
            QueryError: An argument makes no sense; the message says which and why.
        """
        check_query(query)
        k = check_k(k)
        check_mode(mode)
        condition = check_filter(since, until, session, role, where, source, not_source)
        weights = check_trust(trust)
        store, index = self._engine.store, self._engine.index
        for attempt in range(TRIES):
            try:
                with store.snapshot():
                    view = self._view(at)
                    state = None if mode == "lexical" else self._engine.state(view)
                if not view.spans:
                    return []
                vector = None if state is None else self._embed(state, query)
                if attempt >= PATIENCE:  # turns are deleted all the time: leave these out
                    view = replace(view, hidden=None)
                indexed = nullcontext() if vector is None else index.reading(view)
                with indexed, store.snapshot(view):
                    groups = self._groups(view, condition, weights)
                    return self._ranked(view, query, vector, k, mode, groups)
            except HeadMoved:  # the log was rewritten meanwhile: start again from what it is now
                continue
        raise HeadMoved(f"{self!r} is purged all the time; search it when it is quieter")

    def context(
        self,
        /,
        query: str,
        *,
        max_tokens: int = 2000,
        k: int = 50,
        mode: Mode = "hybrid",
        count_tokens: Callable[[str], int] | None = None,
        **filters: Any,
    ) -> Context:
        """Return the best turns for `query` as text for a prompt: dated lines, oldest first.

        The ids of these turns are the text's `ids`: store them with the answer, as `recalled`.

        Args:
            query: The question.
            max_tokens: The budget; the best turns that fit are taken, in order of rank.
            k: How many turns are considered.
            mode: As in `search`.
            count_tokens: Your model's token counter; the encoder's own if not given.
            **filters: As in `search`, `trust` included.
        """
        check_whole(max_tokens, "max_tokens", least=1)
        count = count_tokens or self._engine.encoder.count_tokens
        return fit(self.search(query, k, mode=mode, **filters), max_tokens, count)

    def get(self, id: str) -> Record:
        """Return the turn with this id. Raises `NotFound`."""
        store = self._engine.store
        with store.snapshot():
            view = self._view()
            record = store.find(view, [id]).get(id)
            visible = store.records(view, [record.seq]) if record else {}
        if not visible:
            raise NotFound(f"{self!r} has no turn with the id {id!r}")
        return next(iter(visible.values()))

    def history(
        self,
        *,
        after: int = 0,
        limit: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        session: str | None = None,
        role: str | None = None,
        where: Mapping[str, Any] | None = None,
        source: Sources | None = None,
        not_source: Sources | None = None,
    ) -> list[Record]:
        """Return the turns with a seq greater than `after`, oldest first, at most `limit`.

        The filters are those of `search`; `session` and `source` are answered by an index.

        Raises:
            QueryError: An argument makes no sense; the message says which and why.
        """
        after = check_whole(after, "after", least=0)
        limit = None if limit is None else check_k(limit, "limit")
        condition = check_filter(since, until, session, role, where, source, not_source)
        store = self._engine.store
        with store.snapshot():
            view = self._view()
            if condition == Filter():
                return store.history(view, after=after, limit=limit)
            seqs = store.select(view, condition)
            chosen = [] if seqs is None else seqs[seqs > after][:limit].tolist()
            return list(store.records(view, chosen).values())

    def influence(self, id: str) -> Influence:
        """Return which later turns and answers a turn had a part in, here and in forks.

        From the log alone: nothing is read again. Of a turn that was purged, the answers remain
        that name it as recalled.

        Raises:
            NotFound: There is no such turn, and none that names it.
        """
        with self._engine.store.snapshot():
            found = find_influence(
                self._engine, self.namespace, self._view(), id, forks=self._seq is None
            )
        if found is None:
            raise NotFound(f"{self!r} has no turn with the id {id!r}, nor one that recalled it")
        return found

    def at(self, *, seq: int | None = None, time: datetime | str | None = None) -> MemoryView:
        """Return the memory as it was after turn `seq`, or at `time`; read-only.

        At `time` means: before the first turn that was said later than that.

        Raises:
            QueryError: Neither or both are given, or `seq` is not a point of this log.
        """
        if (seq is None) == (time is None):
            raise QueryError("at() takes either seq= or time=")
        with self._engine.store.snapshot():
            view = self._view(time if seq is None else seq)
        return MemoryView(self._engine, self.namespace, view.seq)

    def fork(self, *labels: str) -> Memory:
        """Make a memory that begins as this one stands and is independent from then on.

        Its namespace is this one's with `labels` behind it. The shared turns are not copied.

        Raises:
            NamespaceError: It exists already.
        """
        from evomem.memory import Memory  # which builds on this class

        check_labels(labels)
        namespace = (*self.namespace, *labels)
        for _ in range(TRIES):
            with self._engine.store.snapshot():
                view = self._view()
            if not view.memory:
                raise NotFound(f"{self!r} does not exist yet: add a turn before forking it")
            with suppress(HeadMoved):  # dropped meanwhile: look whether there is a new one
                self._engine.store.fork(view, namespace)
                return Memory(self._engine, namespace)
        raise HeadMoved(f"{self!r} is dropped all the time; fork it when it is quieter")

    asearch = async_method(search)
    acontext = async_method(context)
    aget = async_method(get)
    ahistory = async_method(history)
    ainfluence = async_method(influence)
    afork = async_method(fork, write=True)

    # ---------------------------------------------------------------------------------------

    def _view(self, at: int | datetime | str | None = None) -> View:
        """Return the view at a seq or a time; the newest one that this object may see if None."""
        at = check_point(at)
        last = self._seq
        number = self._engine.store.find_memory(self.namespace)
        if number is None:
            if isinstance(at, int) and at > 0:
                raise QueryError(f"{self!r} is empty: there is no turn {at}")
            return View(0, 0, b"", 0, ())
        if isinstance(at, datetime):
            view = self._engine.store.view(number, time=at)
            at = view.seq if last is None else min(view.seq, last)
        elif at is None:
            at = last
        elif last is not None and at > last:
            raise QueryError(f"{self!r} ends at turn {last}: there is no turn {at}")
        return self._engine.store.view(number, seq=at)

    def _groups(
        self, view: View, condition: Filter, trust: Mapping[str | None, float]
    ) -> list[Group]:
        """Return the turns that may be found, by the weight of their source; no empty group."""
        conditions = [(1.0, condition)]
        if trust:
            others = replace(condition, not_source=(*condition.not_source, *trust))
            conditions = [(1.0, others)]
            for weight in sorted(set(trust.values())):
                named = [label for label, other in trust.items() if other == weight]
                if condition.source is not None:
                    named = [label for label in named if label in condition.source]
                conditions.append((weight, replace(condition, source=tuple(named))))
        groups = [(weight, self._engine.store.select(view, each)) for weight, each in conditions]
        return [(weight, seqs) for weight, seqs in groups if seqs is None or len(seqs)]

    def _ranked(
        self,
        view: View,
        query: str,
        vector: Vectors | None,
        k: int,
        mode: Mode,
        groups: Sequence[Group],
    ) -> list[Hit]:
        """Rank the turns of a view. Everything is read here, inside one snapshot.

        Args:
            view: What may be found.
            query: The question.
            vector: (D,) float32, the question embedded at the view's end; None for "lexical".
            k: How many hits at most.
            mode: As in `search`.
            groups: Which turns may be found, by the weight of their source.
        """
        if not groups:
            return []
        if mode == "hybrid":
            assert vector is not None
            ranked = self._fused(view, query, vector, k, groups)
        else:
            ranked = self._by_one_score(view, query, vector, k, mode, groups)
        records = self._engine.store.records(view, [seq for seq, _ in ranked])
        if missing := [seq for seq, _ in ranked if seq not in records]:
            raise _damaged(view, missing[0])
        return [Hit(records[seq], sum(parts.values()), parts) for seq, parts in ranked]

    def _by_one_score(
        self,
        view: View,
        query: str,
        vector: Vectors | None,
        k: int,
        mode: Mode,
        groups: Sequence[Group],
    ) -> list[tuple[int, dict[str, float]]]:
        """Rank the turns by vectors or by words alone.

        The best `k` of each group are enough: weights do not change the order within a group.
        """
        store, index = self._engine.store, self._engine.index
        if vector is None:
            words = store.lexical(view, query)
            best = [_among(words, allowed).top(k) for _, allowed in groups]
        else:
            best = [index.search(view, vector, k, allowed=allowed) for _, allowed in groups]
        parts: dict[int, dict[str, float]] = {}
        for (weight, _), hits in zip(groups, best, strict=True):
            for seq, score in hits:
                parts[seq] = {mode: score}
                if weight != 1:
                    parts[seq]["trust"] = ranking.penalty(score, weight)
        scores = {seq: sum(each.values()) for seq, each in parts.items()}
        return [(seq, parts[seq]) for seq, _ in ranking.top_k(scores, k)]

    def _fused(
        self, view: View, query: str, vector: Vectors, k: int, groups: Sequence[Group]
    ) -> list[tuple[int, dict[str, float]]]:
        """Rank the best turns of either side, and those next to them, by all that speaks for them.

        Each group has its own candidates, so that many turns of a weak source displace no others.
        """
        store, index = self._engine.store, self._engine.index
        words = store.lexical(view, query)
        pool = max(POOL, 2 * k)
        cosines: dict[int, float] = {}
        best: set[int] = set()
        for _, allowed in groups:
            cosines.update(index.search(view, vector, pool, allowed=allowed))
            best.update(seq for seq, _ in _among(words, allowed).top(pool))
        best.update(cosines)
        beside, said = store.around(view, sorted(best))
        near = np.array(sorted(said), np.int64)
        weights: dict[int, float] = {}
        limited = [(weight, seqs) for weight, seqs in groups if seqs is not None]
        if limited:
            parts = [(weight, np.intersect1d(near, seqs)) for weight, seqs in limited]
            near = np.sort(np.concatenate([seqs for _, seqs in parts]))
            said = {seq: said[seq] for seq in near.tolist()}
            weights = {seq: w for w, seqs in parts if w != 1 for seq in seqs.tolist()}
        cosines.update(index.score(view, vector, [seq for seq in said if seq not in cosines]))
        if missing := [seq for seq in said if seq not in cosines]:
            raise _damaged(view, missing[0])
        return ranking.fuse(query, cosines, dict(words.among(near)), said, beside, k, weights)

    def _embed(self, state: State[Turn], query: str) -> Vectors:
        encoder = self._engine.reader
        vector: Vectors = encoder.embed_queries(state, [query])[0]
        if vector.shape != (encoder.spec.dim,) or not np.isfinite(vector).all():
            raise EncoderError(
                f"the encoder {encoder.spec.name!r} gave an unusable vector of shape "
                f"{vector.shape} for the query {query[:60]!r}"
            )
        return vector


def fit(hits: Iterable[Hit], max_tokens: int, count: Callable[[str], int]) -> Context:
    """Return the best hits that fit into a budget as dated lines, oldest first."""
    chosen: dict[int, tuple[str, str]] = {}
    used = 0
    for hit in hits:
        line = f"[{hit.record.time:%Y-%m-%d %H:%M}] {hit.text}"
        cost = count(line + "\n")
        if used + cost <= max_tokens:
            chosen[hit.seq] = line, hit.record.id
            used += cost
    shown = [chosen[seq] for seq in sorted(chosen)]
    return Context("\n".join(line for line, _ in shown), [id for _, id in shown])


def _among(words: Scores, allowed: Seqs | None) -> Scores:
    """Return BM25 of the turns that may be found."""
    return words if allowed is None else words.among(allowed)


def _damaged(view: View, seq: int) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"turn {seq} of memory {view.memory} is in one part of the database and not in another: "
        "run verify, and restore the database from a backup"
    )
