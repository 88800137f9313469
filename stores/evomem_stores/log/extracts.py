"""Extracts of many memories at once: turns without texts, and embeddings.

The number of statements does not depend on the number of memories. Every turn's seal is checked, and
that each memory has as many turns as its entry records. An extract that was read before is updated
with the turns after its end; the entry's sum over the turns' seals shows whether anything else has
changed.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, func, select

from evomem.errors import IntegrityError
from evomem.rows import Rows
from evomem.state import Vectors
from evomem.store import Extract, Listed, Namespace, Seqs
from evomem_stores.database.compiled import Statement
from evomem_stores.database.dialects import OneOf
from evomem_stores.database.seals import MODULUS, SEALED_COLUMNS, seals_of
from evomem_stores.database.tables import hidden, integrity, memories, turns
from evomem_stores.log import ledger
from evomem_stores.log.ledger import Entry
from evomem_stores.log.lookup import read, visible
from evomem_stores.log.namespaces import bounds, decode_namespace, under
from evomem_stores.log.rows import RECORD_COLUMNS, damaged, moment, unpack_embeddings, unpack_many
from evomem_stores.log.views import take_view

COLUMNS = (*RECORD_COLUMNS, "embedding")
_Columns = namedtuple("_Columns", COLUMNS)  # type: ignore[misc]
ROW_BYTES = 1000  # approximate size of a turn in memory without metadata and embeddings

_TOMBSTONE = select(hidden.c.seq).where(
    hidden.c.memory == turns.c.memory, hidden.c.seq == turns.c.seq
)
_ALL = Statement(
    select(*(turns.c[name] for name in COLUMNS))
    .where(OneOf(turns.c.memory, bindparam("numbers")), ~_TOMBSTONE.exists())
    .order_by(turns.c.row)
)
_NEW = Statement(
    select(*(turns.c[name] for name in COLUMNS))
    .where(turns.c.memory == bindparam("number"), turns.c.seq > bindparam("after"))
    .order_by(turns.c.row)
)


_VERSION = Statement(
    select(
        select(integrity.c.changes).scalar_subquery(), func.count(), func.sum(memories.c.changes)
    ).where(
        (memories.c.namespace == bindparam("self"))
        | (memories.c.namespace >= bindparam("first"))
        & (memories.c.namespace < bindparam("behind"))
    )
)


def version(connection: Connection, prefix: Namespace) -> tuple[int, ...]:
    """See `Store.version`: counters that never decrease; adding or dropping a memory raises one."""
    name, first, end = bounds(prefix)
    parameters = {"self": name, "first": first, "behind": end}
    return tuple(int(number or 0) for number in _VERSION.rows(connection, parameters)[0])


def entries(connection: Connection, prefix: Namespace) -> list[tuple[Entry, Mapping[int, int]]]:
    """Return the entries of the memories below a prefix, each with its tombstones.

    Sorted by namespace. Raises `IntegrityError` as `ledger.with_hidden` does.
    """
    rows = connection.execute(ledger.WITH_HIDDEN.where(under(prefix)))
    pairs = [ledger.open_with_hidden(seals_of(connection), row) for row in rows]
    return sorted(pairs, key=lambda pair: decode_namespace(pair[0].namespace))


def read_extracts(
    connection: Connection, prefix: Namespace, known: Callable[[int], Extract | None], dim: int
) -> list[Extract]:
    """See `Store.extracts`."""
    listed = entries(connection, prefix)
    extracts: dict[int, Extract] = {}
    for entry, gone in listed:
        old = known(entry.memory)
        if old is not None and (new := _updated(connection, old, entry, gone, dim)):
            extracts[entry.memory] = new
    unforked = [e for e, _ in listed if e.memory not in extracts and e.parent is None]
    rows: dict[int, list[Any]] = {entry.memory: [] for entry in unforked}
    if unforked:
        for row in _ALL.rows(connection, {"numbers": list(rows)}):
            rows[row[0]].append(_Columns._make(row))
    for entry in unforked:
        extracts[entry.memory] = _built(connection, entry, rows[entry.memory], dim)
    for entry, _ in listed:
        if entry.memory not in extracts:  # a fork
            view = take_view(connection, entry.memory)
            read_rows = read(connection, view.spans, COLUMNS, visible(view))
            columns = [_Columns._make(row.values()) for row in read_rows]
            extracts[entry.memory] = _extract(connection, entry, columns, dim, key=view.key)
    return [extracts[entry.memory] for entry, _ in listed]


def _mark(entry: Entry) -> tuple[Any, ...]:
    return (entry.revision, entry.created, entry.head, entry.gone, entry.changes, entry.stored)


def _sum_of_seals(entry: Entry, connection: Connection, mark: tuple[Any, ...]) -> int:
    """Return the sum over the seals of a memory's turns at a mark of the memory."""
    *_, changes, stored = mark
    if not stored:
        return 0
    return seals_of(connection).unmask(stored, b"memory", [entry.memory, changes])[0]


def _updated(
    connection: Connection, old: Extract, entry: Entry, gone: Mapping[int, int], dim: int
) -> Extract | None:
    """Return an updated extract; None if more than its end has changed."""
    if entry.parent is not None:  # its ancestors' rows may have changed
        return None
    mark = _mark(entry)
    if mark == old.mark:
        return old
    if mark[:2] != old.mark[:2]:  # turns were purged, or the number belongs to another memory
        return None
    parameters = {"number": entry.memory, "after": old.mark[2]}
    rows: list[Any] = [_Columns._make(row) for row in _NEW.rows(connection, parameters)]
    added = seals_of(connection).rows([row.seal for row in rows])
    before, after = (_sum_of_seals(entry, connection, point) for point in (old.mark, mark))
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


def _built(connection: Connection, entry: Entry, rows: Sequence[Any], dim: int) -> Extract:
    """Return the extract of a memory that is not a fork."""
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
        if seals.digest(b"row", row[: len(SEALED_COLUMNS)]) != row.seal:
            seals.check_row(row._asdict())  # raises the error
        seq, text = row.seq, row.metadata
        try:
            metadata = json.loads(text)
            listed.append(Listed(seq, row.id, row.session, metadata, moment(row.added)))
        except (ValueError, TypeError, OverflowError) as error:
            raise damaged(entry.memory, seq, error) from error
        nbytes += ROW_BYTES + 4 * len(text) + len(row.embedding)
    vectors, owners = _vectors(entry.memory, rows, dim)
    return Extract(
        entry.memory,
        decode_namespace(entry.namespace),
        _mark(entry),
        key,
        listed,
        vectors,
        owners,
        nbytes,
    )


def _vectors(memory: int, rows: Sequence[Any], dim: int) -> tuple[Vectors, Seqs]:
    """Return the embeddings of rows, (n, D) float32, and for each the index of its row."""
    with suppress(ValueError, TypeError, IndexError):  # fast path; if it fails, decode row by row
        return unpack_many([row.embedding for row in rows], dim)[:], np.arange(len(rows))
    parts = []
    for row in rows:
        try:
            parts.append(unpack_embeddings(row.embedding, dim))
        except (ValueError, TypeError) as error:
            raise damaged(memory, row.seq, error) from error
    sizes = [len(part) for part in parts]
    return Rows.joined(parts, dim)[:], np.repeat(np.arange(len(sizes)), sizes)
