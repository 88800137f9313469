"""`MemoryView`: what can be read of a memory, now or at one point of its log.

query ─► encoder.embed_queries(state) ─► index.search ─► rank ─► store.records ─► hits

Every call reads one moment of the log. A search reads the state before the encoder embeds the query,
and everything else after it, in a second transaction; no transaction is open meanwhile. If rows of
its view were purged, deleted or dropped in between, it starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evomem import ranking
from evomem.checks import (
    check_filter,
    check_k,
    check_labels,
    check_mode,
    check_point,
    check_query,
)
from evomem.engine import Engine
from evomem.errors import DatabaseDamaged, EncoderError, HeadMoved, NotFound, QueryError
from evomem.records import Hit, Record, Turn
from evomem.scores import Scores
from evomem.state import State, Vectors
from evomem.store import Filter, Namespace, Seqs, View
from evomem.twins import twin

if TYPE_CHECKING:
    from evomem.memory import Memory

Mode = Literal["evolvable", "lexical", "hybrid"]

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

        Raises:
            QueryError: An argument makes no sense; the message says which and why.
        """
        check_query(query)
        check_k(k)
        check_mode(mode)
        condition = check_filter(since, until, session, role, where)
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
                with index.reading(view), store.snapshot(view):
                    return self._ranked(view, query, vector, k, mode, condition)
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
    ) -> str:
        """Return the best turns for `query` as text for a prompt: dated lines, oldest first.

        Args:
            query: The question.
            max_tokens: The budget; the best turns that fit are taken, in order of rank.
            k: How many turns are considered.
            mode: As in `search`.
            count_tokens: Your model's token counter; the encoder's own if not given.
            **filters: As in `search`.
        """
        if max_tokens < 1:
            raise QueryError(f"max_tokens must be at least 1, got {max_tokens}")
        count = count_tokens or self._engine.encoder.count_tokens
        chosen: dict[int, str] = {}
        used = 0
        for hit in self.search(query, k, mode=mode, **filters):
            line = f"[{hit.record.time:%Y-%m-%d %H:%M}] {hit.text}"
            cost = count(line + "\n")
            if used + cost <= max_tokens:
                chosen[hit.seq] = line
                used += cost
        return "\n".join(chosen[seq] for seq in sorted(chosen))

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
    ) -> list[Record]:
        """Return the turns with a seq greater than `after`, oldest first, at most `limit`.

        The filters are those of `search`; `session` is answered by an index.
        """
        if limit is not None:
            check_k(limit, "limit")
        condition = check_filter(since, until, session, role, where)
        store = self._engine.store
        with store.snapshot():
            view = self._view()
            if condition == Filter():
                return store.history(view, after=after, limit=limit)
            seqs = store.select(view, condition)
            chosen = [] if seqs is None else seqs[seqs > after][:limit].tolist()
            return list(store.records(view, chosen).values())

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

    asearch = twin(search)
    acontext = twin(context)
    aget = twin(get)
    ahistory = twin(history)
    afork = twin(fork, write=True)

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

    def _ranked(
        self,
        view: View,
        query: str,
        vector: Vectors | None,
        k: int,
        mode: Mode,
        condition: Filter,
    ) -> list[Hit]:
        """Rank the turns of a view. Everything is read here, inside one snapshot.

        Args:
            view: What may be found.
            query: The question.
            vector: (D,) float32, the question embedded at the view's end; None for "lexical".
            k: How many hits at most.
            mode: As in `search`.
            condition: Which turns may be found.
        """
        store = self._engine.store
        allowed = store.select(view, condition)
        if allowed is not None and not len(allowed):
            return []
        ranked: list[tuple[int, dict[str, float]]]
        if vector is None:
            ranked = [(n, {mode: s}) for n, s in self._words(view, query, allowed).top(k)]
        elif mode == "evolvable":
            near = self._engine.index.search(view, vector, k, allowed=allowed)
            ranked = [(n, {mode: s}) for n, s in near]
        else:
            ranked = self._fused(view, query, vector, k, allowed)
        records = store.records(view, [seq for seq, _ in ranked])
        if missing := [seq for seq, _ in ranked if seq not in records]:
            raise _damaged(view, missing[0])
        return [Hit(records[seq], sum(parts.values()), parts) for seq, parts in ranked]

    def _fused(
        self, view: View, query: str, vector: Vectors, k: int, allowed: Seqs | None
    ) -> list[tuple[int, dict[str, float]]]:
        """Rank the best turns of either side, and those next to them, by all that speaks for them."""
        store, index = self._engine.store, self._engine.index
        words = self._words(view, query, allowed)
        pool = max(POOL, 2 * k)
        cosines = dict(index.search(view, vector, pool, allowed=allowed))
        best = {*cosines, *(seq for seq, _ in words.top(pool))}
        beside, said = store.around(view, sorted(best))
        near = np.array(sorted(said), np.int64)
        if allowed is not None:
            near = near[np.isin(near, allowed)]
            said = {seq: said[seq] for seq in near.tolist()}
        cosines.update(index.score(view, vector, [seq for seq in said if seq not in cosines]))
        if missing := [seq for seq in said if seq not in cosines]:
            raise _damaged(view, missing[0])
        return ranking.fuse(query, cosines, dict(words.among(near)), said, beside, k)

    def _words(self, view: View, query: str, allowed: Seqs | None) -> Scores:
        """Return BM25 of the turns that may be found."""
        words = self._engine.store.lexical(view, query)
        return words if allowed is None else words.among(allowed)

    def _embed(self, state: State[Turn], query: str) -> Vectors:
        encoder = self._engine.reader
        vector: Vectors = encoder.embed_queries(state, [query])[0]
        if vector.shape != (encoder.spec.dim,) or not np.isfinite(vector).all():
            raise EncoderError(
                f"the encoder {encoder.spec.name!r} gave an unusable vector of shape "
                f"{vector.shape} for the query {query[:60]!r}"
            )
        return vector


def _damaged(view: View, seq: int) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"turn {seq} of memory {view.memory} is in one part of the database and not in another: "
        "run verify, and restore the database from a backup"
    )
