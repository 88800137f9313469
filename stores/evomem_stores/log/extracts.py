"""Many memories at once: their turns without texts, and their embeddings.

A handful of statements, however many memories there are. Every turn's seal is checked, and that each
memory has as many turns as its entry says. An extract that was read before is brought up to date by
the turns after its end: the sum over the turns' seals, which the entry has, tells whether anything
else has changed.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, func, select

from evomem.errors import IntegrityError
from evomem.rows import Rows
from evomem.store import Extract, Listed, Namespace
from evomem_stores.database.dialects import OneOf
from evomem_stores.database.seals import MODULUS, ROW, seals_of
from evomem_stores.database.tables import hidden, integrity, memories, turns
from evomem_stores.log import ledger
from evomem_stores.log.ledger import Entry
from evomem_stores.log.lookup import read, visible
from evomem_stores.log.namespaces import bounds, decode_namespace, under
from evomem_stores.log.rows import TURN, damaged, moment, unpack_embeddings
from evomem_stores.log.views import take_view

COLUMNS = (*TURN, "embedding")
_Columns = namedtuple("_Columns", COLUMNS)  # type: ignore[misc]  # as SQLAlchemy's own rows
ROW_BYTES = 1000  # of a turn in memory, about, beside its metadata and its embeddings

_GONE = select(hidden.c.seq).where(hidden.c.memory == turns.c.memory, hidden.c.seq == turns.c.seq)
_ALL = (
    select(*(turns.c[name] for name in COLUMNS))
    .where(OneOf(turns.c.memory, bindparam("numbers")), ~_GONE.exists())
    .order_by(turns.c.row)
)
_NEW = (
    select(*(turns.c[name] for name in COLUMNS))
    .where(turns.c.memory == bindparam("number"), turns.c.seq > bindparam("after"))
    .order_by(turns.c.row)
)


_VERSION = select(
    select(integrity.c.changes).scalar_subquery(), func.count(), func.sum(memories.c.changes)
).where(
    (memories.c.namespace == bindparam("self"))
    | ((memories.c.namespace >= bindparam("first")) & (memories.c.namespace < bindparam("behind")))
)


def version(connection: Connection, prefix: Namespace) -> tuple[int, ...]:
    """See `Store.version`: numbers of changes, which never fall; memories come and go with one."""
    name, first, end = bounds(prefix)
    given = {"self": name, "first": first, "behind": end}
    return tuple(int(number or 0) for number in connection.execute(_VERSION, given).one())


def entries(connection: Connection, prefix: Namespace) -> list[tuple[Entry, Mapping[int, int]]]:
    """Return the entries of the memories below a prefix, each with what is hidden from it.

    Sorted by namespace. Raises `IntegrityError` as `ledger.with_hidden` does.
    """
    rows = connection.execute(ledger.WITH_HIDDEN.where(under(prefix))).mappings()
    opened = [ledger.opened_with_hidden(seals_of(connection), row) for row in rows]
    return sorted(opened, key=lambda pair: decode_namespace(pair[0].namespace))


def read_extracts(
    connection: Connection, prefix: Namespace, known: Callable[[int], Extract | None], dim: int
) -> list[Extract]:
    """See `Store.extracts`."""
    listed = entries(connection, prefix)
    extracts: dict[int, Extract] = {}
    for entry, gone in listed:
        old = known(entry.memory)
        if old is not None and (new := _followed(connection, old, entry, gone, dim)):
            extracts[entry.memory] = new
    alone = [e for e, _ in listed if e.memory not in extracts and e.parent is None]
    rows: dict[int, list[Any]] = {entry.memory: [] for entry in alone}
    if alone:
        for row in connection.execute(_ALL, {"numbers": list(rows)}):
            rows[row.memory].append(row)
    for entry in alone:
        extracts[entry.memory] = _made(connection, entry, rows[entry.memory], dim)
    for entry, _ in listed:
        if entry.memory not in extracts:  # a fork
            view = take_view(connection, entry.memory)
            read_rows = read(connection, view.spans, COLUMNS, visible(view))
            columns = [_Columns(*row.values()) for row in read_rows]
            extracts[entry.memory] = _extract(connection, entry, columns, dim, key=view.key)
    return [extracts[entry.memory] for entry, _ in listed]


def _mark(entry: Entry) -> tuple[Any, ...]:
    return (entry.revision, entry.created, entry.head, entry.gone, entry.changes, entry.stored)


def _total(entry: Entry, connection: Connection, mark: tuple[Any, ...]) -> int:
    """Return the sum over the seals of a memory's turns that a mark of it has."""
    *_, changes, stored = mark
    if not stored:
        return 0
    return seals_of(connection).unmask(stored, b"memory", [entry.memory, changes])[0]


def _followed(
    connection: Connection, old: Extract, entry: Entry, gone: Mapping[int, int], dim: int
) -> Extract | None:
    """Return an extract brought up to date, None where more than its end has changed."""
    if entry.parent is not None:  # what its ancestors hold may have changed
        return None
    mark = _mark(entry)
    if mark == old.mark:
        return old
    if mark[:2] != old.mark[:2]:  # turns were purged, or it is another memory
        return None
    given = {"number": entry.memory, "after": old.mark[2]}
    rows = connection.execute(_NEW, given).all()
    added = seals_of(connection).rows([row.seal for row in rows])
    before, after = (_total(entry, connection, point) for point in (old.mark, mark))
    if (before + added - after) % MODULUS:
        return None  # metadata was changed
    new = _extract(connection, entry, [row for row in rows if row.seq not in gone], dim)
    is_shown = np.array([turn.seq not in gone for turn in old.turns], bool)
    shown = [turn for turn, keep in zip(old.turns, is_shown.tolist(), strict=True) if keep]
    places = np.cumsum(is_shown) - 1
    of_kept = is_shown[old.owners]
    return Extract(
        entry.memory,
        new.namespace,
        mark,
        rows[-1].key if rows else old.key,
        [*shown, *new.turns],
        np.concatenate([old.vectors[of_kept], new.vectors]),
        np.concatenate([places[old.owners[of_kept]], new.owners + len(shown)]),
        old.nbytes + new.nbytes,
    )


def _made(connection: Connection, entry: Entry, rows: Sequence[Row[Any]], dim: int) -> Extract:
    """Return the extract of a memory that is no fork."""
    if len(rows) != entry.rows - entry.gone:
        raise IntegrityError(
            f"memory {entry.memory} has {len(rows)} visible turns, not the "
            f"{entry.rows - entry.gone} that it should have: run verify, and restore the database "
            "from a backup"
        )
    newest = rows[-1].key if rows else b""
    if entry.gone and entry.rows and (not rows or rows[-1].seq != entry.head):
        newest = take_view(connection, entry.memory).key  # its last turn is hidden
    return _extract(connection, entry, rows, dim, key=newest)


def _extract(
    connection: Connection, entry: Entry, rows: Sequence[Any], dim: int, *, key: bytes = b""
) -> Extract:
    seals = seals_of(connection)
    listed: list[Listed] = []
    nbytes = 1000
    for row in rows:
        if seals.digest(b"row", row[: len(ROW)]) != row.seal:
            seals.check_row(row._asdict())  # says what is wrong
        seq, text = row.seq, row.metadata
        try:
            metadata = json.loads(text)
            listed.append(Listed(seq, row.id, row.session, metadata, moment(row.added)))
        except (ValueError, TypeError, OverflowError) as error:
            raise damaged(entry.memory, seq, error) from error
        nbytes += ROW_BYTES + 4 * len(text) + len(row.embedding)
    parts = []
    for turn, row in zip(listed, rows, strict=True):
        try:
            parts.append(unpack_embeddings(row.embedding, dim))
        except (ValueError, TypeError) as error:
            raise damaged(entry.memory, turn.seq, error) from error
    sizes = [len(part) for part in parts]
    return Extract(
        entry.memory,
        decode_namespace(entry.namespace),
        _mark(entry),
        key,
        listed,
        Rows.joined(parts, dim)[:],
        np.repeat(np.arange(len(sizes)), sizes),
        nbytes,
    )
