"""`Memory`: one ordered log of turns. `MemoryView`: the same, read-only, at one point of the log.

add:     turn ─► encoder.read(state, turn) ─► store.append (one transaction) ─► index catches up
search:  query ─► encoder.embed_queries(state) ─► index.search ─► rank ─► store.records ─► hits
"""

from __future__ import annotations

import functools
import random
import time as clock
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

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
from evomem.errors import DuplicateTurn, EncoderError, HeadMoved, NotFound, QueryError, TurnError
from evomem.pairing import Message, as_turns
from evomem.records import Hit, Record, Turn, as_utc
from evomem.state import Reading, State, Vectors
from evomem.store import Filter, Namespace, Row, Seqs, View

if TYPE_CHECKING:
    from evomem.database import Database

Mode = Literal["evolvable", "lexical", "hybrid"]
Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while many turns are read."""

BATCH = 64  # turns of one transaction in `add_many`
TRIES = 100  # lost races before a write gives up; each loss means that another writer got through
POOL = 100  # candidates of either side that are fused in hybrid mode, at least

P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self", bound="MemoryView")


def _twin(
    method: Callable[Concatenate[Self, P], R], *, write: bool = False
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, R]]:
    """Make the async twin of a method: the same code on a thread, writes in call order."""

    async def call(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._db.run(functools.partial(method, self, *args, **kwargs), ordered=write)

    call.__name__ = f"a{method.__name__}"
    call.__doc__ = f"Do as `{method.__name__}`, without blocking the event loop."
    return call


class MemoryView:
    """What can be read of a memory. Get one from `Memory.at`; it never changes anything."""

    def __init__(self, db: Database, namespace: Namespace, seq: int | None = None) -> None:
        self._db = db
        self._seq = seq
        self.namespace = namespace

    def __repr__(self) -> str:
        at = "" if self._seq is None else f", seq={self._seq}"
        return f"{type(self).__name__}({'/'.join(self.namespace)!r}{at})"

    def __len__(self) -> int:
        """Return the number of turns, deleted ones not counted."""
        return self._db.store.count(self._view())

    def search(
        self,
        query: str,
        k: int = 5,
        *,
        mode: Mode = "evolvable",
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
            mode: `"evolvable"` (the encoder's vectors), `"lexical"` (BM25) or `"hybrid"` (both).
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
        mode: Mode = "evolvable",
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
        count = count_tokens or self._db.encoder.count_tokens
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
        found = self._db.store.find(view, [id])
        visible = self._db.store.records(view, [found[id].seq]) if id in found else {}
        if not visible:
            raise NotFound(f"{self!r} has no turn with the id {id!r}")
        return next(iter(visible.values()))

    def history(self, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return the turns with a seq greater than `after`, oldest first, at most `limit`."""
        if limit is not None:
            check_k(limit, "limit")
        return self._db.store.history(self._view(), after=after, limit=limit)

    def at(self, *, seq: int | None = None, time: datetime | str | None = None) -> MemoryView:
        """Return the memory as it was after turn `seq`, or at `time`; read-only.

        At `time` means: before the first turn that was said later than that.

        Raises:
            QueryError: Neither or both are given, or `seq` is not a point of this log.
        """
        if (seq is None) == (time is None):
            raise QueryError("at() takes either seq= or time=")
        return MemoryView(self._db, self.namespace, self._view(time if seq is None else seq).seq)

    def fork(self, *labels: str) -> Memory:
        """Make a memory that begins as this one stands and is independent from then on.

        Its namespace is this one's with `labels` behind it. The shared turns are not copied.

        Raises:
            NamespaceError: It exists already.
        """
        check_labels(labels)
        namespace = (*self.namespace, *labels)
        view = self._view()
        if not view.memory:
            raise NotFound(f"{self!r} does not exist yet: add a turn before forking it")
        self._db.store.fork(view, namespace)
        return Memory(self._db, namespace)

    asearch = _twin(search)
    acontext = _twin(context)
    aget = _twin(get)
    ahistory = _twin(history)
    afork = _twin(fork, write=True)

    # ---------------------------------------------------------------------------------------

    def _view(self, at: int | datetime | str | None = None) -> View:
        """Return the view at a seq or a time; the newest one that this object may see if None."""
        at = check_point(at)
        last = self._seq
        number = self._db.number(self.namespace)
        if number is None:
            if isinstance(at, int) and at > 0:
                raise QueryError(f"{self!r} is empty: there is no turn {at}")
            return View(0, 0, b"", 0, ())
        if isinstance(at, datetime):
            view = self._db.store.view(number, time=at)
            at = view.seq if last is None else min(view.seq, last)
        elif at is None:
            at = last
        elif last is not None and at > last:
            raise QueryError(f"{self!r} ends at turn {last}: there is no turn {at}")
        return self._db.store.view(number, seq=at)

    def _search(self, view: View, query: str, k: int, mode: Mode, condition: Filter) -> list[Hit]:
        if not view.spans:
            return []
        allowed = self._db.store.select(view, condition)
        if allowed is not None and not len(allowed):
            return []
        ranked, parts = self._rank(view, query, k, mode, allowed)
        records = self._db.store.records(view, [seq for seq, _ in ranked])
        return [
            Hit(
                records[seq],
                score,
                {name: part[seq] for name, part in parts.items() if seq in part},
            )
            for seq, score in ranked
            if seq in records  # deleted since it was ranked
        ]

    def _rank(
        self, view: View, query: str, k: int, mode: Mode, allowed: Seqs | None
    ) -> tuple[list[tuple[int, float]], dict[str, Mapping[int, float]]]:
        """Return (seq, score) best first, and the parts that the scores are made of."""
        index, lexical = self._db.index, dict[int, float]()
        if mode != "evolvable":
            lexical = self._db.store.lexical(view, query)
            if allowed is not None:
                lexical = {seq: lexical[seq] for seq in allowed.tolist() if seq in lexical}
        if mode == "lexical":
            return ranking.top_k(lexical, k), {"lexical": lexical}
        vector = self._embed(view, query)
        if mode == "evolvable":
            ranked = index.search(view, vector, k, allowed=allowed)
            return ranked, {"evolvable": dict(ranked)}
        pool = max(POOL, 4 * k)
        cosines = dict(index.search(view, vector, pool, allowed=allowed))
        missing = [seq for seq, _ in ranking.top_k(lexical, pool) if seq not in cosines]
        cosines.update(index.score(view, vector, missing))
        fused = ranking.fuse(cosines, lexical)
        return ranking.top_k(fused, k), {"evolvable": cosines, "lexical": lexical}

    def _embed(self, view: View, query: str) -> Vectors:
        encoder = self._db.encoder
        vector: Vectors = encoder.embed_queries(self._db.state(view), [query])[0]
        if vector.shape != (encoder.spec.dim,) or not np.isfinite(vector).all():
            raise EncoderError(
                f"the encoder {encoder.spec.name!r} gave an unusable vector of shape "
                f"{vector.shape} for the query {query[:60]!r}"
            )
        return vector


class Memory(MemoryView):
    """One ordered log of turns: the unit of isolation. Get one from `Database.memory`."""

    def add(
        self,
        text: str,
        *,
        role: str = "user",
        reply: str | None = None,
        speaker: str | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        session: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Record:
        """Read one turn and store it; when this returns, the turn survives a crash.

        Args:
            text: What was said.
            role: `"user"` or `"assistant"`: who said it.
            reply: The assistant's answer; makes the turn an exchange.
            speaker: A name instead of "User" or "Assistant".
            id: Yours, or made up. Adding an id again with the same text changes nothing.
            time: When it was said, with a time zone; now if not given.
            session: The conversation it belongs to.
            metadata: Anything JSON can hold, to filter by later.

        Raises:
            TurnError: The turn cannot be stored as it is; nothing was written.
            DuplicateTurn: The id is taken by another text; nothing was written.
        """
        if role not in ("user", "assistant"):
            raise TurnError(f"role must be 'user' or 'assistant', got {role!r}")
        if reply is not None and role != "user":
            raise TurnError("reply= is the assistant's answer to a user's text; leave role='user'")
        sides = {role: text} if reply is None else {"user": text, "assistant": reply}
        turn = Turn(
            **sides,
            speaker=speaker,
            id=id,
            time=as_utc(time),
            session=session,
            metadata={} if metadata is None else metadata,
        )
        return self.add_many([turn])[0]

    def add_many(
        self, items: Iterable[Turn | Message], *, progress: Progress | None = None
    ) -> list[Record]:
        """Read and store turns, or chat messages paired into exchanges (`evomem.pairing`), in order.

        Everything is checked before anything is written. Turns are committed in batches; after a
        crash, turns with ids can simply be added again.

        Raises:
            TurnError: An item cannot be stored; the message names its position.
            DuplicateTurn: An id is taken by another text.
        """
        turns = [_complete(turn) for turn in as_turns(items)]
        _check_ids(turns)
        records: list[Record] = []
        with self._db.lock(self.namespace):
            self._known(self._view(), turns)  # refuse duplicates before the first batch is written
            for start in range(0, len(turns), BATCH):
                records += self._append(turns[start : start + BATCH])
                if progress:
                    progress(len(records), len(turns))
        return records

    def delete(self, id: str) -> Record:
        """Hide a turn at once from everything this memory returns; return it.

        Its influence on later turns stays, and so does its text on disk: see `purge`.

        Raises:
            NotFound: There is no such turn.
        """
        with self._db.lock(self.namespace):
            record = self.get(id)
            self._db.store.hide(self._view(), [record.seq])
            return record

    def purge(self, id: str, *, forks: bool = False, progress: Progress | None = None) -> int:
        """Forget a turn truly: its row, its text on disk, and its influence on later turns.

        Every later turn is read again without it; afterwards the memory equals one that was never
        fed the turn, except that the other turns keep their seqs. Returns how many were re-read.

        Args:
            id: The turn; it may have been deleted before.
            forks: Purge it from the forks that share it as well.
            progress: Called while the later turns are read.

        Raises:
            NotFound: There is no such turn.
            SharedTurns: Forks share the turn or later ones, and `forks` is not set.
        """
        with self._db.lock(self.namespace):
            for _ in range(TRIES):
                view = self._view()
                found = self._db.store.find(view, [id])
                if id not in found:
                    raise NotFound(f"{self!r} has no turn with the id {id!r}")
                seq = found[id].seq
                if forks:
                    for namespace in self._db.store.forks(view, seq):
                        Memory(self._db, namespace).purge(id, forks=True)
                try:
                    rows = self._without(view, seq, progress)
                    self._db.store.rewrite(view, seq, rows)
                except HeadMoved:
                    continue
                return len(rows)
        raise HeadMoved(f"{self!r} is written to all the time; purge it when it is quieter")

    aadd = _twin(add, write=True)
    aadd_many = _twin(add_many, write=True)
    adelete = _twin(delete, write=True)
    apurge = _twin(purge, write=True)

    # ---------------------------------------------------------------------------------------

    def _append(self, turns: Sequence[Turn]) -> list[Record]:
        """Write what is new of `turns`; return the records of all of them, in order."""
        number = self._db.make(self.namespace)
        for attempt in range(TRIES):
            view = self._db.store.view(number)
            known = self._known(view, turns)
            new = [turn for turn in turns if turn.id not in known]
            if not new:
                return [known[_id(turn)] for turn in turns]
            added = datetime.now(timezone.utc)
            blank = Reading(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
            places = [
                Row(view.seq + 1 + place, turn, added, blank, b"") for place, turn in enumerate(new)
            ]
            try:
                rows, state = self._read(self._db.state(view), places)
                self._db.store.append(view, rows)
            except HeadMoved:  # another process was quicker: read again behind its turns
                clock.sleep(random.uniform(0, 0.002 * min(attempt + 1, 25)))
                continue
            self._db.remember(state)
            known.update({_id(row.turn): Record(row.seq, row.turn, added) for row in rows})
            return [known[_id(turn)] for turn in turns]
        raise HeadMoved(
            f"{self!r}: other processes were quicker {TRIES} times in a row; nothing was written"
        )

    def _without(self, view: View, seq: int, progress: Progress | None) -> list[Row]:
        """Return the rows behind turn `seq`, read again as if it had never been said."""
        later = self._db.store.rows(view, after=seq)
        state = self._db.store.state(self._view(seq - 1))
        rows: list[Row] = []
        for start in range(0, len(later), BATCH):
            read, state = self._read(state, later[start : start + BATCH])
            rows += read
            if progress:
                progress(len(rows), len(later))
        return rows

    def _read(self, state: State[Turn], rows: Sequence[Row]) -> tuple[list[Row], State[Turn]]:
        """Read the rows' turns from `state` on; return the rows completed, and the state after."""
        readings = self._db.encoder.read(state, [row.turn for row in rows])
        done = []
        for row, reading in zip(rows, readings, strict=True):
            state = state.after(row.turn, reading)
            done.append(replace(row, reading=reading, key=state.key))
        return done, state

    def _known(self, view: View, turns: Sequence[Turn]) -> dict[str, Record]:
        """Return those of `turns` that the log holds; raise `DuplicateTurn` where texts differ."""
        ids = [_id(turn) for turn in turns]
        known = self._db.store.find(view, ids)
        visible = self._db.store.records(view, [record.seq for record in known.values()])
        for turn in turns:
            record = known.get(_id(turn))
            if record is None:
                continue
            if record.turn.content != turn.content:
                raise DuplicateTurn(
                    f"{self!r} holds the id {turn.id!r} already, with another text: "
                    f"{record.text[:60]!r}; use a new id, or purge the old turn first"
                )
            if record.seq not in visible:
                raise DuplicateTurn(
                    f"{self!r} held the id {turn.id!r} and it was deleted; use a new id, "
                    "or purge the old turn first"
                )
        return known


def _complete(turn: Turn) -> Turn:
    return replace(
        turn, id=turn.id or uuid.uuid4().hex, time=turn.time or datetime.now(timezone.utc)
    )


def _check_ids(turns: Sequence[Turn]) -> None:
    seen: dict[str, Turn] = {}
    for turn in turns:
        if seen.setdefault(_id(turn), turn) is not turn:
            raise DuplicateTurn(f"the id {turn.id!r} occurs twice in one call; ids must be unique")


def _id(turn: Turn) -> str:
    return turn.id or ""
