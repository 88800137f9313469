"""The times of a view's turns: its period, and its sessions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from evomem.store import View
from evomem_stores.database.tables import by_time, counted, turns
from evomem_stores.log.lookup import visible
from evomem_stores.log.rows import SAID, decode_said


def period(connection: Connection, view: View) -> tuple[datetime, datetime] | None:
    """Return when the view's first and last visible turns were said, UTC; None without any."""
    times: list[datetime] = []
    for span in view.spans:
        query = select(*(turns.c[name] for name in SAID)).where(*by_time(span), visible(view))
        for order in (turns.c.time, turns.c.time.desc()):
            rows = connection.execute(query.order_by(order).limit(1))
            times += [decode_said(*row).time for row in rows]
    return (min(times), max(times)) if times else None


def sessions(connection: Connection, view: View) -> list[str]:
    """Return the names of the view's sessions, in the order in which they began."""
    began: dict[str, datetime] = {}
    for span in view.spans:
        named = turns.c.session.is_not(None)
        first = select(func.min(turns.c.seq)).where(*counted(span), visible(view), named)
        rows = select(*(turns.c[name] for name in SAID)).where(
            turns.c.memory == span.memory,
            turns.c.seq.in_(first.group_by(turns.c.session).scalar_subquery()),
        )
        for row in connection.execute(rows):
            began.setdefault(row.session, decode_said(*row).time)
    return sorted(began, key=lambda name: (began[name], name))
