"""`MemoryView`: what can be read of a memory, now or at one point of its log.

query ─► encoder.embed_queries(state) ─► index.search ─► rank ─► store.records ─► hits
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    check_whole,
)
from evomem.engine import Engine
from evomem.errors import EncoderError, HeadMoved, NotFound, QueryError
from evomem.records import Hit, Record
from evomem.scores import Scores
from evomem.state import Vectors
from evomem.store import Filter, Namespace, Seqs, View
from evomem.twins import twin

if TYPE_CHECKING:
    from evomem.memory import Memory

Mode = Literal["evolvable", "lexical", "hybrid"]

POOL = 50  # candidates of either side in hybrid mode, at least; their neighbours come on top
TRIES = 100  # lost races against other processes before a call gives up


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
        return self._engine.store.count(self._view())

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
        k = check_k(k)
        check_mode(mode)
        condition = check_filter(since, until, session, role, where)
        for _ in range(TRIES):
            try:
                return self._search(self._view(at), query, k, mode, condition)
            except HeadMoved:  # a purge changed the log meanwhile: look at it as it is now
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
        check_whole(max_tokens, "max_tokens", least=1)
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
        view = self._view()
        found = self._engine.store.find(view, [id])
        visible = self._engine.store.records(view, [found[id].seq]) if id in found else {}
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

        Raises:
            QueryError: An argument makes no sense; the message says which and why.
        """
        after = check_whole(after, "after", least=0)
        limit = None if limit is None else check_k(limit, "limit")
        condition = check_filter(since, until, session, role, where)
        store, view = self._engine.store, self._view()
        if condition == Filter():
            return store.history(view, after=after, limit=limit)
        seqs = store.select(view, condition)
        chosen = [] if seqs is None else seqs[seqs > after][:limit].tolist()
        records = store.records(view, chosen)
        return [records[seq] for seq in chosen if seq in records]

    def at(self, *, seq: int | None = None, time: datetime | str | None = None) -> MemoryView:
        """Return the memory as it was after turn `seq`, or at `time`; read-only.

        At `time` means: before the first turn that was said later than that.

        Raises:
            QueryError: Neither or both are given, or `seq` is not a point of this log.
        """
        if (seq is None) == (time is None):
            raise QueryError("at() takes either seq= or time=")
        return MemoryView(
            self._engine, self.namespace, self._view(time if seq is None else seq).seq
        )

    def fork(self, *labels: str) -> Memory:
        """Make a memory that begins as this one stands and is independent from then on.

        Its namespace is this one's with `labels` behind it. The shared turns are not copied.

        Raises:
            NamespaceError: It exists already.
        """
        from evomem.memory import Memory  # which builds on this class

        check_labels(labels)
        namespace = (*self.namespace, *labels)
        view = self._view()
        if not view.memory:
            raise NotFound(f"{self!r} does not exist yet: add a turn before forking it")
        self._engine.store.fork(view, namespace)
        return Memory(self._engine, namespace)

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

    def _search(self, view: View, query: str, k: int, mode: Mode, condition: Filter) -> list[Hit]:
        if not view.spans:
            return []
        allowed = self._engine.store.select(view, condition)
        if allowed is not None and not len(allowed):
            return []
        if mode == "hybrid":
            return self._fused(view, query, k, allowed)
        if mode == "lexical":
            ranked = self._words(view, query, allowed).top(k)
        else:
            ranked = self._engine.index.search(view, self._embed(view, query), k, allowed=allowed)
        records = self._engine.store.records(view, [seq for seq, _ in ranked])
        return [
            Hit(records[seq], score, {mode: score})
            for seq, score in ranked
            if seq in records  # deleted since it was ranked
        ]

    def _fused(self, view: View, query: str, k: int, allowed: Seqs | None) -> list[Hit]:
        """Rank the best turns of either side, and those next to them, by all that speaks for them."""
        store, index = self._engine.store, self._engine.index
        vector = self._embed(view, query)
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
        ranked = ranking.fuse(query, cosines, dict(words.among(near)), said, beside, k)
        records = store.records(view, [seq for seq, _ in ranked])
        return [
            Hit(records[seq], sum(parts.values()), parts) for seq, parts in ranked if seq in records
        ]

    def _words(self, view: View, query: str, allowed: Seqs | None) -> Scores:
        """Return BM25 of the turns that may be found."""
        words = self._engine.store.lexical(view, query)
        return words if allowed is None else words.among(allowed)

    def _embed(self, view: View, query: str) -> Vectors:
        encoder = self._engine.reader
        vector: Vectors = encoder.embed_queries(self._engine.state(view), [query])[0]
        if vector.shape != (encoder.spec.dim,) or not np.isfinite(vector).all():
            raise EncoderError(
                f"the encoder {encoder.spec.name!r} gave an unusable vector of shape "
                f"{vector.shape} for the query {query[:60]!r}"
            )
        return vector
