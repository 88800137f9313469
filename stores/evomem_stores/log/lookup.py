"""Looks up rows in the spans of a view."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    bindparam,
    func,
    not_,
    select,
)
from sqlalchemy.sql import ColumnExpressionArgument

from evomem.store import Span, View
from evomem_stores.database.dialects import OneOf
from evomem_stores.database.tables import hidden, memories, row_number, turns, within
from evomem_stores.log import ledger
from evomem_stores.log.rows import micros


def read(
    connection: Connection,
    seen: Sequence[Span],
    columns: Sequence[str],
    *conditions: ColumnExpressionArgument[bool],
    seqs: Iterable[int] | None = None,
    ids: Iterable[str | None] | None = None,
    after: int = 0,
    limit: int | None = None,
    newest_first: bool = False,
) -> Iterator[RowMapping]:
    """Yield rows of the spans, in log order or reversed.

    Args:
        connection: Inside a transaction.
        seen: Spans, oldest first.
        columns: The columns to read.
        *conditions: Conditions on a row.
        seqs: Only rows with these seqs.
        ids: Only rows with these ids.
        after: Only rows with a greater seq.
        limit: How many rows at most.
        newest_first: Whether to reverse the order.
    """
    wanted_seqs = None if seqs is None else sorted({int(seq) for seq in seqs})
    wanted_ids = None if ids is None else list(ids)
    selected = [turns.c[name] for name in columns]
    for span in reversed(seen) if newest_first else seen:
        if span.last <= after or limit == 0:
            continue
        part = span._replace(first=max(span.first, after + 1))
        query = select(*selected).where(*_rows(part, wanted_seqs, wanted_ids), *conditions)
        query = query.order_by(turns.c.row.desc() if newest_first else turns.c.row).limit(limit)
        for row in connection.execute(query).mappings():
            if limit is not None:
                limit -= 1
            yield row


def _rows(
    span: Span, seqs: list[int] | None, ids: Sequence[str | None] | None
) -> tuple[ColumnElement[bool], ...]:
    """Return the condition for rows of a span in the form that the best index answers."""
    if seqs is not None:
        inside = seqs[bisect_left(seqs, span.first) : bisect_right(seqs, span.last)]
        return (OneOf(turns.c.row, [row_number(span.memory, seq) for seq in inside]),)
    if ids is not None:
        seq = turns.c.seq + 0  # keeps SQLite from using another index than the one on (memory, id)
        own = turns.c.memory == span.memory
        return own, seq.between(span.first, span.last), OneOf(turns.c.id, ids)
    return (within(span),)


_TAKEN = select(turns.c.id).where(  # built once: building it costs more than running it
    turns.c.memory == bindparam("of"),
    (turns.c.seq + 0).between(bindparam("first"), bindparam("last")),  # as in `_rows`
    OneOf(turns.c.id, bindparam("ids")),
)


def taken(connection: Connection, seen: Sequence[Span], ids: Iterable[str | None]) -> list[str]:
    """Return those of `ids` that rows of the spans have."""
    sought = list(ids)
    return [
        id
        for span in seen
        for id in connection.scalars(
            _TAKEN, {"of": span.memory, "first": span.first, "last": span.last, "ids": sought}
        )
    ]


def look_up(
    connection: Connection, view: View, columns: tuple[str, ...], seqs: Iterable[int]
) -> Sequence[Any]:
    """Return the visible rows of a view at `seqs`, in log order."""
    ordered = sorted({int(seq) for seq in seqs})
    numbers = [
        row_number(span.memory, seq)
        for span in view.spans
        for seq in ordered[bisect_left(ordered, span.first) : bisect_right(ordered, span.last)]
    ]
    return _visible_rows(connection, view, _at(columns, _is_limited(view)), {"rows": numbers})


def in_sessions(
    connection: Connection, view: View, columns: tuple[str, ...], sessions: Sequence[str]
) -> list[Any]:
    """Return the visible rows of sessions, in log order."""
    rows: list[Any] = []
    query = _of_sessions(columns, _is_limited(view))
    for span in view.spans:
        given = {"of": span.memory, "first": span.first, "last": span.last, "sessions": sessions}
        rows += _visible_rows(connection, view, query, given)
    return rows


def _is_limited(view: View) -> bool:
    """Return whether the view hides rows by time, in addition to tombstones."""
    return view.time is not None or view.added is not None


def _visible_rows(
    connection: Connection, view: View, query: Select[Any], given: dict[str, Any]
) -> Sequence[Any]:
    given = {**given, "memory": view.memory, "end": view.hides_until}
    if _is_limited(view):
        query = query.where(visible(view))
    rows = connection.execute(query, given).all()
    if rows and rows[0].gone not in (None, rows[0].tombstones):  # None: the memory was dropped
        raise ledger.wrong_tombstones(view.memory, rows[0].tombstones, rows[0].gone)
    return rows


@lru_cache
def _at(columns: tuple[str, ...], limited: bool) -> Select[Any]:
    return _selected(columns, limited, OneOf(turns.c.row, bindparam("rows")))


@lru_cache
def _of_sessions(columns: tuple[str, ...], limited: bool) -> Select[Any]:
    return _selected(
        columns,
        limited,
        turns.c.memory == bindparam("of"),
        turns.c.seq.between(bindparam("first"), bindparam("last")),
        OneOf(turns.c.session, bindparam("sessions")),
    )


def _selected(
    columns: tuple[str, ...], limited: bool, *conditions: ColumnElement[bool]
) -> Select[Any]:
    """Return the query for rows; unless `limited`, without those that have a tombstone."""
    own = hidden.c.memory == bindparam("memory")
    gone = select(hidden.c.seq).where(own, hidden.c.since <= bindparam("end"))
    tombstones = select(func.count()).select_from(hidden).where(own).scalar_subquery()
    entry = select(memories.c.gone).where(memories.c.memory == bindparam("memory"))
    counts = tombstones.label("tombstones"), entry.scalar_subquery().label("gone")
    shown_columns = (turns.c[name] for name in columns)
    shown = () if limited else (turns.c.seq.not_in(gone),)
    return select(*shown_columns, *counts).where(*conditions, *shown).order_by(turns.c.row)


def visible(view: View) -> ColumnElement[bool]:
    """Return the condition that a turn is neither hidden in the view nor later than its limits."""
    since = hidden.c.since <= view.hides_until
    gone = select(hidden.c.seq).where(hidden.c.memory == view.memory, since)
    if view.restored:
        gone = gone.where(not_(OneOf(hidden.c.seq, view.restored)))
    return and_(turns.c.seq.not_in(gone), *by(view.time, view.added))


def by(time: datetime | None, added: datetime | None) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that a turn was said, and stored, by these times; None for no limit."""
    limits = ((turns.c.time, time), (turns.c.added, added))
    return tuple(column <= micros(moment) for column, moment in limits if moment is not None)
