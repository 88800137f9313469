"""The period and the sessions of a view's turns."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from evomem.store import Span, View
from evomem_stores.database.compiled import Statement
from evomem_stores.database.tables import turns, within_by_seq, within_by_time
from evomem_stores.log.lookup import is_limited, shown, values_of
from evomem_stores.log.rows import TIME_COLUMNS, decode_time

_COLUMNS = [turns.c[name] for name in TIME_COLUMNS]
_SPAN: Any = Span(*(bindparam(name) for name in ("of", "first", "last")))  # type: ignore[arg-type]


def period(connection: Connection, view: View) -> tuple[datetime, datetime] | None:
    """Return the earliest and the latest time of visible turns, UTC; None if there are no turns."""
    ends = [_end(is_limited(view), latest) for latest in (False, True)]
    rows = [
        row
        for span in view.spans
        for end in ends
        if (row := end.row(connection, _values(view, span))) is not None
    ]
    times = [decode_time(*row).time for row in rows]
    return (min(times), max(times)) if times else None


def sessions(connection: Connection, view: View) -> list[str]:
    """Return the names of the view's sessions, ordered by the times of their first turns."""
    starts: dict[str, datetime] = {}
    query = _starts(is_limited(view))
    for span in view.spans:
        for memory, seq, time, session in query.rows(connection, _values(view, span)):
            starts.setdefault(session, decode_time(memory, seq, time, session).time)
    return sorted(starts, key=lambda name: (starts[name], name))


def _values(view: View, span: Span) -> dict[str, Any]:
    return {"of": span.memory, "first": span.first, "last": span.last, **values_of(view)}


@lru_cache
def _end(limited: bool, latest: bool) -> Statement:
    """Return the query for the earliest or the latest visible turn of a span."""
    order: ColumnElement[Any] = turns.c.time.desc() if latest else turns.c.time.asc()
    query = select(*_COLUMNS).where(*within_by_time(_SPAN), *shown(limited))
    return Statement(query.order_by(order).limit(1))


@lru_cache
def _starts(limited: bool) -> Statement:
    """Return the query for the first visible turn of each session in a span."""
    named = turns.c.session.is_not(None)
    first = select(func.min(turns.c.seq)).where(*within_by_seq(_SPAN), *shown(limited), named)
    return Statement(
        select(*_COLUMNS).where(
            turns.c.memory == _SPAN.memory,
            turns.c.seq.in_(first.group_by(turns.c.session).scalar_subquery()),
        )
    )
