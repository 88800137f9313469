"""Takes views: the rows of a memory, including its ancestors' rows if it is a fork."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    literal_column,
    not_,
    select,
)

from evomem.errors import DatabaseDamaged, HeadMoved, IntegrityError, QueryError
from evomem.store import Mark, Namespace, Span, View
from evomem_stores.database.compiled import Statement
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import (
    MAX_SEQ,
    hidden,
    memories,
    row_number,
    turns,
    within_by_seq,
)
from evomem_stores.log import ledger
from evomem_stores.log.ledger import Entry
from evomem_stores.log.lookup import by, read
from evomem_stores.log.namespaces import encode_namespace, under

_ROWS = turns.alias()
_FIRST = memories.c.memory * literal_column(str(row_number(1, 0)))  # as `row_number` does

_OWN_SPAN = select(
    *ledger.ENTRY_COLUMNS,
    turns.c.seq,
    turns.c.key,
    turns.c.seal,
    turns.c.chunk,
).select_from(
    memories.outerjoin(
        turns,
        turns.c.row
        == select(func.max(_ROWS.c.row))
        .where(
            _ROWS.c.row > _FIRST + memories.c.parent_seq, _ROWS.c.row <= _FIRST + bindparam("last")
        )
        .scalar_subquery(),
    )
)
_BY_NUMBER = Statement(_OWN_SPAN.where(memories.c.memory == bindparam("memory")))
_BY_NAME = Statement(_OWN_SPAN.where(memories.c.namespace == bindparam("memory")))


class _Part(NamedTuple):
    """A span, and its last row."""

    span: Span
    end: Mark
    seal: bytes
    chunk: int


def spans(connection: Connection, memory: int, last: int) -> tuple[Span, ...]:
    """Return the spans of `memory` up to `last`, oldest first.

    Every span ends at an existing row; spans whose rows were all purged are left out.
    """
    return tuple(part.span for part in _parts(connection, memory, last)[0])


def _parts(
    connection: Connection, memory: int | Namespace, last: int
) -> tuple[list[_Part], Entry | None]:
    """Return the `spans`, each with its last row's mark, seal and chunk, and the memory's entry."""
    seals = seals_of(connection)
    parts: list[_Part] = []
    entry: Entry | None = None
    number: int | str | None = memory if isinstance(memory, int) else encode_namespace(memory)
    while number is not None and (last > 0 or entry is None):
        query = _BY_NUMBER if isinstance(number, int) else _BY_NAME
        parameters = {"memory": number, "last": max(last, 0)}
        row = query.row(connection, parameters)
        if row is None and entry is None:
            break
        own = None if row is None else ledger.open_entry(seals, row)
        if row is None or own is None or (own.parent is not None and own.parent >= own.memory):
            raise DatabaseDamaged(
                f"memory {memory} descends from memory {number}, which is missing or not older: "
                "restore the database from a backup"
            )
        entry = entry or own
        tail, key, seal, chunk = row[len(ledger.ENTRY_COLUMNS) :]
        if tail is not None:
            span = Span(own.memory, own.parent_seq + 1, tail)
            parts.append(_Part(span, Mark(own.revision, key), seal, chunk))
        number, last = own.parent, min(last, own.parent_seq)
    return parts[::-1], entry


def take_view(
    connection: Connection,
    memory: int | Namespace,
    *,
    seq: int | None = None,
    time: datetime | None = None,
    added: datetime | None = None,
    dropped: bool = False,
) -> View:
    """See `Store.view`; with `dropped`, also takes views of memories that only stay for their forks."""
    return take_entry(connection, memory, seq=seq, time=time, added=added, dropped=dropped)[0]


def take_entry(
    connection: Connection,
    memory: int | Namespace,
    *,
    seq: int | None = None,
    time: datetime | None = None,
    added: datetime | None = None,
    dropped: bool = False,
) -> tuple[View, Entry, int]:
    """Return a view, as `take_view` does, the memory's entry, and the chunk of the view's last row.

    Raises:
        HeadMoved: There is no such memory.
    """
    parts, own = _parts(connection, memory, MAX_SEQ if seq is None else seq)
    if own is None or not (own.named or dropped):
        raise HeadMoved(f"there is no memory {memory!r} any more: it was dropped meanwhile")
    end = own.head if seq is None else seq
    if not 0 <= end <= own.head:
        raise QueryError(f"there is no turn {seq}: the memory has turns 0 to {own.head}")
    cut = False
    if time is not None or added is not None:
        last = _last_by(connection, [part.span for part in parts], by(time, added))
        cut = bool(parts) and last < parts[-1].span.last
        if cut:
            parts, _ = _parts(connection, own.memory, last)
            end = last
    if end == own.head and not cut:
        ends_in_own = bool(parts) and parts[-1].span.memory == own.memory
        if ends_in_own != bool(own.rows) or (ends_in_own and parts[-1].seal != own.tip):
            raise IntegrityError(
                f"memory {own.memory} does not end with the turn that was written last: turns at "
                "its end were removed, exchanged or added; run verify, and restore the database "
                "from a backup"
            )
    hidden_later = _hidden_later(connection, own.memory, end) if own.gone and end < own.head else 0
    view = View(
        own.memory,
        end,
        (parts[-1].end.key if parts else None) or b"",
        own.revision,
        tuple(part.span for part in parts),
        tuple(part.end for part in parts),
        own.gone - hidden_later,
    )
    if time is not None or added is not None:
        view = _limited(connection, view, time, added)
    return view, own, parts[-1].chunk if parts else 0


def _last_by(
    connection: Connection, seen: Sequence[Span], limits: Sequence[ColumnElement[bool]]
) -> int:
    """Return the greatest seq that passes the limits, 0 if there is none."""
    for span in reversed(seen):
        last: int | None = connection.scalar(
            select(func.max(turns.c.seq)).where(*within_by_seq(span), *limits)
        )
        if last is not None:
            return last
    return 0


def _limited(
    connection: Connection, view: View, time: datetime | None, added: datetime | None
) -> View:
    """Return a view with its limits; without them if all of its rows pass."""
    limited = replace(view, time=time, added=added)
    if not later(connection, limited, limit=1):
        return view
    replacing = select(hidden.c.seq, hidden.c.since).where(
        hidden.c.memory == view.memory, hidden.c.since.between(1, view.seq)
    )
    gone = {row.seq: row.since for row in connection.execute(replacing)}
    late = {
        row["seq"]
        for row in read(connection, view.spans, ["seq"], _later(limited), seqs=gone.values())
    }
    return replace(limited, restored=tuple(sorted(s for s, since in gone.items() if since in late)))


def later(connection: Connection, view: View, limit: int | None = None) -> list[int]:
    """Return the seqs of a view's rows that were said or stored after the view's limits."""
    if view.time is None and view.added is None:
        return []
    return [
        seq
        for span in view.spans
        for seq in connection.scalars(
            select(turns.c.seq).where(*within_by_seq(span), _later(view)).limit(limit)
        )
    ]


def _later(view: View) -> ColumnElement[bool]:
    return not_(and_(*by(view.time, view.added)))


_HIDDEN_LATER = Statement(
    select(func.count())
    .select_from(hidden)
    .where(hidden.c.memory == bindparam("number"), hidden.c.since > bindparam("end"))
)


def _hidden_later(connection: Connection, memory: int, end: int) -> int:
    """Return how many of a memory's turns are hidden only in views that end after `end`."""
    count: int = _HIDDEN_LATER.value(connection, {"number": memory, "end": end})
    return count


_NOW = Statement(
    select(
        memories.c.revision,
        memories.c.gone,
        turns.c.key,
        under(()),
        select(func.count())
        .select_from(hidden)
        .where(hidden.c.memory == bindparam("number"))
        .scalar_subquery(),
    )
    .select_from(memories.outerjoin(turns, turns.c.row == bindparam("row")))
    .where(memories.c.memory == bindparam("number"))
)


def check_unchanged(connection: Connection, view: View) -> bool:
    """Return whether tombstones may hide turns of a view.

    Raises:
        HeadMoved: The view's rows, or its hidden turns, have changed.
    """
    last = view.spans[-1] if view.spans else Span(view.memory, 0, 0)
    parameters = {"number": view.memory, "row": row_number(last.memory, last.last)}
    row = _NOW.row(connection, parameters)
    revision, gone, key, named, tombstones = row or (None, 0, None, False, 0)
    if (
        not named
        or (revision, key or b"") != (view.revision, view.key)
        or (
            view.hidden not in (None, gone)
            # turns may have replaced others since the view was taken
            and gone - _hidden_later(connection, view.memory, view.seq) != view.hidden
        )
    ):
        raise HeadMoved(
            f"turns of memory {view.memory} were purged, deleted or dropped while it was read"
        )
    return view.hidden != 0 or bool(gone or tombstones)
