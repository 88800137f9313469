"""`LogReader`: the reading half of the log; `evomem.store.Store` documents the methods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import numpy as np
from sqlalchemy import Connection, bindparam, func, select

from evomem.errors import HeadMoved, IntegrityError
from evomem.records import Record, TimeAndSession, Turn
from evomem.scores import Scores
from evomem.state import Spec, State
from evomem.store import (
    Embeddings,
    Extract,
    Filter,
    Mark,
    Namespace,
    Pair,
    Row,
    Selection,
    Seqs,
    Span,
    Trace,
    View,
)
from evomem_stores.database.compiled import Statement
from evomem_stores.database.connections import Connections
from evomem_stores.database.extent import extent
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import (
    column_names,
    memories,
    turns,
    within,
    within_by_seq,
)
from evomem_stores.log import (
    extracts,
    filters,
    forgotten,
    ledger,
    readings,
    timeline,
    views,
    writing,
)
from evomem_stores.log.lookup import in_sessions, look_up, read, visible, with_ids
from evomem_stores.log.namespaces import decode_namespace, encode_namespace, under
from evomem_stores.log.rows import (
    RECORD_COLUMNS,
    TIME_COLUMNS,
    TRACE_COLUMNS,
    decode_record,
    decode_row,
    decode_time,
    decode_trace,
    record_of,
)
from evomem_stores.log.views import take_view
from evomem_stores.words.bm25 import bm25
from evomem_stores.words.cache import WordCache
from evomem_stores.words.terms import query_terms


class LogReader:
    """Views and rows of the memories in one SQL database."""

    def __init__(self, connections: Connections, spec: Spec) -> None:
        self._connections = connections
        self._spec = spec
        self._words = WordCache(read_once=connections.read_once)

    @property
    def spec(self) -> Spec:
        """The encoder that wrote the rows."""
        return self._spec

    def find_memory(self, namespace: Namespace) -> int | None:
        """See `Store.find_memory`."""
        with self._connections.reading() as connection:
            return find_memory(connection, namespace)

    def memories(self, prefix: Namespace = ()) -> list[Namespace]:
        """See `Store.memories`."""
        query = select(memories.c.namespace).where(under(prefix))
        with self._connections.reading() as connection:
            return sorted(decode_namespace(text) for text in connection.scalars(query))

    def version(self, prefix: Namespace) -> tuple[int, ...]:
        """See `Store.version`."""
        with self._connections.reading() as connection:
            return extracts.version(connection, prefix)

    def sizes(self, prefix: Namespace) -> dict[Namespace, int]:
        """See `Store.sizes`."""
        with self._connections.reading() as connection:
            return {
                decode_namespace(entry.namespace): entry.rows - entry.gone
                if entry.parent is None
                else self.count(take_view(connection, entry.memory))
                for entry, _ in extracts.entries(connection, prefix)
            }

    def extracts(self, prefix: Namespace, known: Callable[[int], Extract | None]) -> list[Extract]:
        """See `Store.extracts`."""
        with self._connections.reading() as connection:
            return extracts.read_extracts(connection, prefix, known, self._spec.dim)

    def forks(self, view: View, seq: int) -> list[Namespace]:
        """See `Store.forks`."""
        with self._connections.reading() as connection:
            return writing.sharing(connection, view.memory, seq)

    @contextmanager
    def snapshot(self, view: View | None = None) -> Iterator[None]:
        """See `Store.snapshot`."""
        with self._connections.reading() as connection:
            if view is not None:
                hides = views.check_unchanged(connection, view)
                self._connections.read_once(("hides", view), lambda: hides)
            yield

    @property
    def in_snapshot(self) -> bool:
        """See `Store.in_snapshot`."""
        return self._connections.is_reading

    def view(
        self,
        memory: int | Namespace,
        *,
        seq: int | None = None,
        time: datetime | None = None,
        added: datetime | None = None,
    ) -> View:
        """See `Store.view`."""
        with self._connections.reading() as connection:
            return take_view(connection, memory, seq=seq, time=time, added=added)

    def state(self, view: View) -> State[Turn]:
        """See `Store.state`."""
        if not view.spans:
            return State.empty(self._spec)
        with self._connections.reading() as connection:
            return readings.state(connection, view, self._spec)

    def records(self, view: View, seqs: Sequence[int]) -> dict[int, Record]:
        """See `Store.records`."""
        with self._connections.reading() as connection:
            seals = seals_of(connection)
            rows = look_up(connection, view, RECORD_COLUMNS, seqs)
            records = [record_of(row, seals) for row in rows]
        return {record.seq: record for record in records}

    def period(self, view: View) -> tuple[datetime, datetime] | None:
        """See `Store.period`."""
        with self._connections.reading() as connection:
            return timeline.period(connection, view)

    def sessions(self, view: View) -> list[str]:
        """See `Store.sessions`."""
        with self._connections.reading() as connection:
            return timeline.sessions(connection, view)

    def around(
        self, view: View, seqs: Sequence[int]
    ) -> tuple[dict[int, Pair], dict[int, TimeAndSession]]:
        """See `Store.around`."""
        sought = np.array(sorted(set(seqs)), np.int64)
        with self._connections.reading() as connection:
            all_seqs = self._seqs(connection, view)
            places = np.searchsorted(all_seqs, sought)
            places = places[places < np.searchsorted(all_seqs, sought, side="right")]
            before = np.where(places > 0, all_seqs[places - 1], 0).tolist()
            next_seqs = all_seqs.take(places + 1, mode="clip")
            after = np.where(places + 1 < len(all_seqs), next_seqs, 0).tolist()
            present = all_seqs[places].tolist()
            rows = look_up(connection, view, TIME_COLUMNS, {*present, *before, *after})
        pairs = zip(before, after, strict=True)
        return dict(zip(present, pairs, strict=True)), {
            row[1]: decode_time(*row[: len(TIME_COLUMNS)]) for row in rows
        }

    def history(self, view: View, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """See `Store.history`."""
        with self._connections.reading() as connection:
            entry, _ = self._hidden(connection, view)
            if entry is not None and limit is None and view.seq == entry.head:
                _check_count(connection, entry)
            seals = seals_of(connection)
            rows = read(
                connection, view.spans, RECORD_COLUMNS, visible(view), after=after, limit=limit
            )
            return [decode_record(row, seals) for row in rows]

    def of_sessions(self, view: View, sessions: Sequence[str]) -> list[Record]:
        """See `Store.of_sessions`."""
        with self._connections.reading() as connection:
            seals = seals_of(connection)
            rows = in_sessions(connection, view, RECORD_COLUMNS, sessions)
            return [record_of(row, seals) for row in rows]

    def find(self, view: View, ids: Sequence[str]) -> dict[str, Record]:
        """See `Store.find`."""
        with self._connections.reading() as connection:
            seals = seals_of(connection)
            rows = with_ids(connection, view.spans, ids)
            records = [record_of(row, seals) for row in rows]
        return {record.id: record for record in records}

    def told(
        self, view: View, *, sessions: Sequence[str] | None = None, after: int = 0, limit: int
    ) -> list[tuple[Record, int | None]]:
        """See `Store.told`."""
        with self._connections.reading() as connection:
            _, gone = self._hidden(connection, view)
            seals = seals_of(connection)
            rows = read(
                connection,
                view.spans,
                RECORD_COLUMNS,
                sessions=sessions,
                after=after,
                limit=limit,
            )
            return [(decode_record(row, seals), gone.get(row["seq"])) for row in rows]

    def replacements(self, view: View) -> dict[int, int]:
        """See `Store.replacements`."""
        with self._connections.reading() as connection:
            _, gone = self._hidden(connection, replace(view, with_replaced=False))
            return {seq: since for seq, since in gone.items() if since}

    def replaced(self, view: View, seqs: Collection[int]) -> dict[int, list[Record]]:
        """See `Store.replaced`."""
        with self._connections.reading() as connection:
            _, gone = self._hidden(connection, view)
            newest = {seq: seq for seq in seqs}  # by seq, the one of `seqs` that replaced the turn
            # A turn only replaces earlier ones.
            for seq in sorted(gone, reverse=True):
                if gone[seq] in newest and seq not in newest:
                    newest[seq] = newest[gone[seq]]
            old = newest.keys() - set(seqs)
            seals = seals_of(connection)
            records: dict[int, list[Record]] = {}
            for row in read(connection, view.spans, RECORD_COLUMNS, seqs=old) if old else ():
                records.setdefault(newest[row["seq"]], []).append(decode_record(row, seals))
            return records

    def forgotten(self, view: View, facts: Sequence[Collection[str]]) -> list[bool]:
        """See `Store.forgotten`."""
        with self._connections.reading() as connection:
            return forgotten.are_marked(connection, view.memory, facts)

    def rows(self, view: View, *, after: int) -> list[Row]:
        """See `Store.rows`."""
        with self._connections.reading() as connection:
            rows = read(connection, view.spans, column_names(turns), after=after)
            seals = seals_of(connection)
            return [decode_row(row, self._spec, seals) for row in rows]

    def traces(self, view: View, *, after: int) -> list[Trace]:
        """See `Store.traces`."""
        with self._connections.reading() as connection:
            rows = read(connection, view.spans, TRACE_COLUMNS, after=after)
            return [decode_trace(row) for row in rows]

    def vectors(self, span: Span, revision: int) -> Embeddings:
        """See `Store.vectors`."""
        with self._connections.reading() as connection:
            return readings.embeddings(connection, span, revision, self._spec)

    def keys(self, span: Span, revision: int) -> list[tuple[int, bytes, int]]:
        """Return (seq, key, number of embeddings) of a span's rows, ascending.

        Raises `HeadMoved` as `vectors` does.
        """
        with self._connections.reading() as connection:
            return readings.keys(connection, span, revision, self._spec)

    def mark(self, memory: int, seq: int) -> Mark:
        """See `Store.mark`."""
        with self._connections.reading() as connection:
            memory_extent = extent(connection, memory, seq)
            return Mark(memory_extent.revision, memory_extent.key)

    def select(self, view: View, condition: Filter) -> Selection:
        """See `Store.select`; `filters` defines conditions on metadata."""
        tests = filters.conditions(condition)
        with self._connections.reading() as connection:
            gone = self._unseen(connection, view)
            if not tests:
                return self._all_but(connection, view, gone)
            seqs: list[int] = []
            in_order = filters.reads_rows(condition)
            for span in view.spans:
                inside = (within(span),) if in_order else within_by_seq(span)
                query = select(turns.c.seq).where(*inside, visible(view))
                parameters = {"memory": span.memory}
                size = filters.TESTS_PER_STATEMENT
                matches = [
                    set(
                        connection.scalars(
                            query.where(*tests[start : start + size]), parameters
                        ).all()
                    )
                    for start in range(0, len(tests), size)
                ]
                seqs += sorted(set.intersection(*matches))
        return Selection(np.array(seqs, np.int64))

    def _all_but(self, connection: Connection, view: View, gone: Seqs) -> Selection:
        if not len(gone):
            return Selection()
        if 2 * len(gone) <= sum(span.last - span.first + 1 for span in view.spans):
            return Selection(without=gone)
        return Selection(np.setdiff1d(self._seqs(connection, view), gone, True))

    def lexical(self, view: View, query: str, among: Seqs | None = None) -> Scores:
        """See `Store.lexical`; the scores are those of `words/bm25`."""
        terms = query_terms(query)
        with self._connections.reading() as connection:
            gone = self._unseen(connection, view)
            parts = [self._words.part(connection, span, terms).without(gone) for span in view.spans]
        return bm25(terms, parts, among)

    def count(self, view: View) -> int:
        """See `Store.count`."""
        with self._connections.reading() as connection:
            self._hidden(connection, view)
            shown = select(func.count()).select_from(turns).where(visible(view))
            return sum(
                connection.scalar(shown.where(*within_by_seq(span))) or 0 for span in view.spans
            )

    def _hidden(
        self, connection: Connection, view: View
    ) -> tuple[ledger.Entry | None, dict[int, int]]:
        """Return the entry of the view's memory, and the view's tombstones (`ledger.with_hidden`).

        The entry is None if the view has no memory, or if the memory was dropped. Call this inside
        `reading`, and do not change the result.

        Raises:
            IntegrityError: The entry or a tombstone was changed.
        """
        try:
            entry, gone = self._connections.read_once(
                ("hidden", view.memory), lambda: ledger.with_hidden(connection, view.memory)
            )
        except HeadMoved:
            return None, {}
        restored = set(view.restored)
        return entry, {
            seq: since
            for seq, since in gone.items()
            if since <= view.hides_until and seq not in restored
        }

    def _unseen(self, connection: Connection, view: View) -> Seqs:
        """Return the seqs of the view's rows that are not visible."""
        late = views.later(connection, view)
        # If the snapshot was entered with this view, and the view hides nothing, skip the tombstones.
        if not self._connections.read_once(("hides", view), lambda: True):
            return np.array(late, np.int64)
        hidden_seqs = self._hidden(connection, view)[1]
        return np.array(sorted({*hidden_seqs, *late}), np.int64)

    def _seqs(self, connection: Connection, view: View) -> Seqs:
        """Return the seqs of all rows of a view, including hidden ones, ascending."""
        parts = [self._words.part(connection, span, ()).seqs for span in view.spans]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.int64), *parts])


_FIND = Statement(select(memories.c.memory).where(memories.c.namespace == bindparam("name")))


def find_memory(connection: Connection, namespace: Namespace) -> int | None:
    """Return the number of a memory, None if there is no such memory."""
    number: int | None = _FIND.value(connection, {"name": encode_namespace(namespace)})
    return number


def _check_count(connection: Connection, entry: ledger.Entry) -> None:
    """Raise `IntegrityError` unless a memory's number of own rows matches its entry."""
    query = select(func.count()).select_from(turns).where(turns.c.memory == entry.memory)
    if (count := connection.scalar(query)) != entry.rows:
        raise IntegrityError(
            f"memory {entry.memory} has {count} turns of its own, not the {entry.rows} that were "
            "written: run verify, and restore the database from a backup"
        )
