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
    and_,
    bindparam,
    func,
    not_,
    select,
)
from sqlalchemy.sql import ColumnExpressionArgument

from evomem.store import Span, View
from evomem_stores.database.compiled import Statement
from evomem_stores.database.dialects import OneOf
from evomem_stores.database.tables import hidden, memories, row_number, turns, within, within_by_seq
from evomem_stores.log import ledger
from evomem_stores.log.rows import RECORD_COLUMNS, micros

MAX_MICROS = 2**63 - 1  # no time is later


def read(
    connection: Connection,
    seen: Sequence[Span],
    columns: Sequence[str],
    *conditions: ColumnExpressionArgument[bool],
    seqs: Iterable[int] | None = None,
    ids: Iterable[str | None] | None = None,
    sessions: Iterable[str] | None = None,
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
        sessions: Only rows with these sessions.
        after: Only rows with a greater seq.
        limit: How many rows at most.
        newest_first: Whether to reverse the order.
    """
    wanted_seqs = None if seqs is None else sorted({int(seq) for seq in seqs})
    wanted_ids = None if ids is None else list(ids)
    wanted_sessions = None if sessions is None else list(sessions)
    selected = [turns.c[name] for name in columns]
    for span in reversed(seen) if newest_first else seen:
        if span.last <= after or limit == 0:
            continue
        part = span._replace(first=max(span.first, after + 1))
        query = select(*selected).where(
            *_rows(part, wanted_seqs, wanted_ids, wanted_sessions), *conditions
        )
        query = query.order_by(turns.c.row.desc() if newest_first else turns.c.row).limit(limit)
        for row in connection.execute(query).mappings():
            if limit is not None:
                limit -= 1
            yield row


def _rows(
    span: Span,
    seqs: list[int] | None,
    ids: Sequence[str | None] | None,
    sessions: Sequence[str] | None,
) -> tuple[ColumnElement[bool], ...]:
    """Return the condition for rows of a span in the form that the best index answers."""
    if seqs is not None:
        inside = seqs[bisect_left(seqs, span.first) : bisect_right(seqs, span.last)]
        return (OneOf(turns.c.row, [row_number(span.memory, seq) for seq in inside]),)
    if ids is not None:
        seq = turns.c.seq + 0  # keeps SQLite from using another index than the one on (memory, id)
        own = turns.c.memory == span.memory
        return own, seq.between(span.first, span.last), OneOf(turns.c.id, ids)
    if sessions is not None:
        return (*within_by_seq(span), OneOf(turns.c.session, sessions))
    return (within(span),)


_WITH_IDS = Statement(
    select(*(turns.c[name] for name in RECORD_COLUMNS))
    .where(
        turns.c.memory == bindparam("of"),
        (turns.c.seq + 0).between(bindparam("first"), bindparam("last")),  # as in `_rows`
        OneOf(turns.c.id, bindparam("ids")),
    )
    .order_by(turns.c.row)
)


def with_ids(
    connection: Connection, seen: Sequence[Span], ids: Iterable[str]
) -> list[tuple[Any, ...]]:
    """Return the `RECORD_COLUMNS` of the spans' rows with these ids, hidden or not, in log order."""
    sought = list(ids)
    rows: list[tuple[Any, ...]] = []
    for span in seen:
        given = {"of": span.memory, "first": span.first, "last": span.last, "ids": sought}
        rows += _WITH_IDS.rows(connection, given)
    return rows


def look_up(
    connection: Connection, view: View, columns: tuple[str, ...], seqs: Iterable[int]
) -> list[tuple[Any, ...]]:
    """Return the visible rows of a view at `seqs`, in log order; only the first values are `columns`."""
    ordered = sorted({int(seq) for seq in seqs})
    numbers = [
        row_number(span.memory, seq)
        for span in view.spans
        for seq in ordered[bisect_left(ordered, span.first) : bisect_right(ordered, span.last)]
    ]
    return _visible_rows(connection, view, _at(columns, is_limited(view)), {"rows": numbers})


def in_sessions(
    connection: Connection, view: View, columns: tuple[str, ...], sessions: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Return the visible rows of sessions, in log order; only the first values are `columns`."""
    rows: list[tuple[Any, ...]] = []
    query = _of_sessions(columns, is_limited(view))
    for span in view.spans:
        given = {"of": span.memory, "first": span.first, "last": span.last, "sessions": sessions}
        rows += _visible_rows(connection, view, query, given)
    return rows


def is_limited(view: View) -> bool:
    """Return whether the view hides rows by time, in addition to tombstones."""
    return view.time is not None or view.added is not None


def _visible_rows(
    connection: Connection, view: View, query: Statement, given: dict[str, Any]
) -> list[tuple[Any, ...]]:
    rows = query.rows(connection, {**given, **values_of(view)})
    if rows:
        tombstones, gone = rows[0][-2:]
        if gone not in (None, tombstones):  # None: the memory was dropped
            raise ledger.wrong_tombstones(view.memory, tombstones, gone)
    return rows


@lru_cache
def _at(columns: tuple[str, ...], limited: bool) -> Statement:
    return _selected(columns, limited, OneOf(turns.c.row, bindparam("rows")))


@lru_cache
def _of_sessions(columns: tuple[str, ...], limited: bool) -> Statement:
    return _selected(
        columns,
        limited,
        turns.c.memory == bindparam("of"),
        turns.c.seq.between(bindparam("first"), bindparam("last")),
        OneOf(turns.c.session, bindparam("sessions")),
    )


def _selected(
    columns: tuple[str, ...], limited: bool, *conditions: ColumnElement[bool]
) -> Statement:
    """Return the query for visible rows (`shown`)."""
    own = hidden.c.memory == bindparam("memory")
    tombstones = select(func.count()).select_from(hidden).where(own).scalar_subquery()
    entry = select(memories.c.gone).where(memories.c.memory == bindparam("memory"))
    counts = tombstones, entry.scalar_subquery()
    shown_columns = (turns.c[name] for name in columns)
    query = select(*shown_columns, *counts).where(*conditions, *shown(limited))
    return Statement(query.order_by(turns.c.row))


def shown(limited: bool) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of `visible` with parameters (`values_of`), for a `Statement`.

    Args:
        limited: Whether the views hide rows by time (`is_limited`).
    """
    # One look-up per row: a list of all tombstones would cost more with every replaced turn.
    gone = select(hidden.c.seq).where(
        hidden.c.memory == bindparam("memory"),
        hidden.c.seq == turns.c.seq,
        hidden.c.since <= bindparam("end"),
    )
    limits: tuple[ColumnElement[bool], ...] = ()
    if limited:
        gone = gone.where(not_(OneOf(hidden.c.seq, bindparam("restored"))))
        limits = turns.c.time <= bindparam("time"), turns.c.added <= bindparam("added")
    return ~gone.exists(), *limits


def values_of(view: View) -> dict[str, Any]:
    """Return the values of the parameters of `shown`."""
    values: dict[str, Any] = {"memory": view.memory, "end": view.hides_until}
    if is_limited(view):
        values["restored"] = view.restored
        values["time"], values["added"] = (
            MAX_MICROS if moment is None else micros(moment) for moment in (view.time, view.added)
        )
    return values


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
