"""The period and the sessions of a view's turns."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from evomem.store import View
from evomem_stores.database.tables import turns, within_by_seq, within_by_time
from evomem_stores.log.lookup import visible
from evomem_stores.log.rows import TIME_COLUMNS, decode_time


def period(connection: Connection, view: View) -> tuple[datetime, datetime] | None:
    """Return the earliest and the latest time of visible turns, UTC; None if there are no turns."""
    times: list[datetime] = []
    for span in view.spans:
        query = select(*(turns.c[name] for name in TIME_COLUMNS)).where(
            *within_by_time(span), visible(view)
        )
        for order in (turns.c.time, turns.c.time.desc()):
            rows = connection.execute(query.order_by(order).limit(1))
            times += [decode_time(*row).time for row in rows]
    return (min(times), max(times)) if times else None


def sessions(connection: Connection, view: View) -> list[str]:
    """Return the names of the view's sessions, ordered by the times of their first turns."""
    starts: dict[str, datetime] = {}
    for span in view.spans:
        named = turns.c.session.is_not(None)
        first = select(func.min(turns.c.seq)).where(*within_by_seq(span), visible(view), named)
        rows = select(*(turns.c[name] for name in TIME_COLUMNS)).where(
            turns.c.memory == span.memory,
            turns.c.seq.in_(first.group_by(turns.c.session).scalar_subquery()),
        )
        for row in connection.execute(rows):
            starts.setdefault(row.session, decode_time(*row).time)
    return sorted(starts, key=lambda name: (starts[name], name))
