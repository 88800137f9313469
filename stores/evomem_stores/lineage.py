"""Which rows a memory sees: its own, and behind a fork those of its ancestors."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, func, select
from sqlalchemy.sql import ColumnExpressionArgument

from evomem.errors import DatabaseDamaged, HeadMoved, QueryError
from evomem.store import Namespace, Span, View
from evomem_stores.dialects import OneOf
from evomem_stores.rows import micros
from evomem_stores.tables import counted, hidden, memories, row_number, turns, within


def encode_namespace(namespace: Namespace) -> str:
    """Return the canonical text of a namespace: a JSON array without spaces."""
    return json.dumps(list(namespace), ensure_ascii=False, separators=(",", ":"))


def decode_namespace(text: str) -> Namespace:
    """Return the namespace that a canonical text stands for."""
    return tuple(json.loads(text))


def under(prefix: Namespace) -> ColumnElement[bool]:
    """Return the condition that a memory has a name, and that it begins with `prefix`."""
    name = memories.c.namespace
    if not prefix:
        return name >= "["
    # Canonical texts that begin with the same labels are neighbours: after the last label comes
    # "]" or ",", and a quotation mark inside a label is always escaped.
    start = encode_namespace(prefix)[:-1]
    return (name == start + "]") | ((name >= start + ",") & (name < start + "-"))


def nameless() -> ColumnElement[bool]:
    """Return the condition that a memory was dropped (`dropping`): its number is all it is called."""
    return memories.c.namespace < "["


# Every call takes a view, and putting a statement together costs more than the database's answer.
_END = select(memories.c.head, memories.c.revision, under(()).label("named")).where(
    memories.c.memory == bindparam("number")
)
_OWN_SPAN = select(
    memories.c.parent,
    memories.c.parent_seq,
    select(func.max(turns.c.seq))
    .where(
        turns.c.memory == bindparam("number"),
        turns.c.seq.between(memories.c.parent_seq + 1, bindparam("end")),
    )
    .scalar_subquery()
    .label("tail"),
).where(memories.c.memory == bindparam("number"))
_KEY = select(turns.c.key).where(turns.c.row == bindparam("newest"))


def spans(connection: Connection, memory: int, last: int) -> tuple[Span, ...]:
    """Return what `memory` sees of the log up to `last`, oldest first.

    Every span ends at a row that is there: one that was purged empty is left out.
    """
    found: list[Span] = []
    number: int | None = memory
    while number is not None and last > 0:
        own = connection.execute(_OWN_SPAN, {"number": number, "end": last}).one_or_none()
        if own is None or (own.parent is not None and own.parent >= number):
            raise DatabaseDamaged(
                f"memory {memory} descends from memory {number}, which is not there or no older: "
                "restore the database from a backup"
            )
        if own.tail is not None:
            found.append(Span(number, own.parent_seq + 1, own.tail))
        number, last = own.parent, min(last, own.parent_seq)
    return tuple(reversed(found))


def take_view(
    connection: Connection,
    memory: int,
    *,
    seq: int | None = None,
    time: datetime | None = None,
    dropped: bool = False,
) -> View:
    """See `Store.view`; with `dropped`, also of a memory that was dropped and stays for its forks."""
    own = connection.execute(_END, {"number": memory}).one_or_none()
    if own is None or not (own.named or dropped):
        raise HeadMoved(f"there is no memory number {memory} any more: it was dropped meanwhile")
    end = own.head if seq is None else seq
    if not 0 <= end <= own.head:
        raise QueryError(f"there is no turn {seq}: the memory has turns 0 to {own.head}")
    seen = spans(connection, memory, end)
    later = None if time is None else _first_later(connection, seen, micros(time))
    if later is not None:
        seen = spans(connection, memory, later - 1)
        end = seen[-1].last if seen else 0
    key = b""
    if seen:
        newest = row_number(seen[-1].memory, seen[-1].last)
        key = connection.scalar(_KEY, {"newest": newest}) or b""
    return View(memory, end, key, own.revision, seen)


_MARK = (
    select(memories.c.revision, memories.c.head, turns.c.key)
    .select_from(memories.outerjoin(turns, turns.c.row == bindparam("row")))
    .where(memories.c.memory == bindparam("memory"))
)


def mark(connection: Connection, memory: int, seq: int) -> tuple[int, int, bytes | None]:
    """Return a memory's revision (-1 if it is not there), its head, and the key of its row at `seq`."""
    given = {"memory": memory, "row": row_number(memory, seq)}
    found = connection.execute(_MARK, given).one_or_none()
    return (-1, 0, None) if found is None else (found.revision, found.head, found.key)


def _first_later(connection: Connection, seen: Iterable[Span], time: int) -> int | None:
    for span in seen:
        first: int | None = connection.scalar(
            select(func.min(turns.c.seq)).where(*counted(span), turns.c.time > time)
        )
        if first is not None:
            return first
    return None


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
    """Yield the rows that the spans hold, in log order or the other way round.

    Args:
        connection: Inside a transaction.
        seen: Spans, oldest first.
        columns: Which columns are wanted.
        *conditions: What must hold of a row.
        seqs: Only rows with these seqs.
        ids: Only rows with these ids.
        after: Only rows with a greater seq.
        limit: How many rows at most.
        newest_first: Whether to begin at the end.
    """
    wanted_seqs = None if seqs is None else sorted({int(seq) for seq in seqs})
    wanted_ids = None if ids is None else list(ids)
    wanted = [turns.c[name] for name in columns]
    for span in reversed(seen) if newest_first else seen:
        if span.last <= after or limit == 0:
            continue
        part = span._replace(first=max(span.first, after + 1))
        query = select(*wanted).where(*_rows(part, wanted_seqs, wanted_ids), *conditions)
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
        seq = turns.c.seq + 0  # not a bare column: the index on (memory, id) is the one to use
        own = turns.c.memory == span.memory
        return own, seq.between(span.first, span.last), OneOf(turns.c.id, ids)
    return (within(span),)


def look_up(
    connection: Connection, view: View, columns: tuple[str, ...], seqs: Iterable[int]
) -> Sequence[Any]:
    """Return the visible rows of a view at `seqs`, in log order."""
    wanted = sorted({int(seq) for seq in seqs})
    numbers = [
        row_number(span.memory, seq)
        for span in view.spans
        for seq in wanted[bisect_left(wanted, span.first) : bisect_right(wanted, span.last)]
    ]
    given = {"rows": numbers, "memory": view.memory, "end": view.seq}
    return connection.execute(_at(columns), given).all()


@lru_cache
def _at(columns: tuple[str, ...]) -> Select[Any]:
    gone = select(hidden.c.seq).where(
        hidden.c.memory == bindparam("memory"), hidden.c.since <= bindparam("end")
    )
    there = OneOf(turns.c.row, bindparam("rows")), turns.c.seq.not_in(gone)
    return select(*(turns.c[name] for name in columns)).where(*there).order_by(turns.c.row)


def visible(view: View) -> ColumnElement[bool]:
    """Return the condition that a turn is not hidden in the view."""
    gone = select(hidden.c.seq).where(hidden.c.memory == view.memory, hidden.c.since <= view.seq)
    return turns.c.seq.not_in(gone)
