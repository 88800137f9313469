"""Marks of purged turns. Each function runs in its caller's transaction.

A mark holds no text: it is a digest of what `evomem.tombstones` says of a turn, under a random key
that belongs to the memory. The key is in the same database, so anyone who can read the database and guesses a
text can confirm that it was there (docs/operations/forgetting.md). The memory's entry has a sum over its marks;
functions here change an entry and leave it to the caller to write it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, insert, select

from evomem import tombstones
from evomem.store import View
from evomem_stores.database.dialects import OneOf
from evomem_stores.database.seals import MODULUS, Mark, seals_of
from evomem_stores.database.tables import forgotten
from evomem_stores.log.ledger import Entry
from evomem_stores.log.lookup import read
from evomem_stores.log.rows import TURN, decode_record


def marks(connection: Connection, entry: Entry) -> list[Mark]:
    """Return a memory's marks, each with its key, sorted."""
    own = select(forgotten.c.mark, forgotten.c.key).where(forgotten.c.memory == entry.memory)
    return [(row.mark, row.key) for row in connection.execute(own.order_by(forgotten.c.mark))]


def are(connection: Connection, entry: Entry) -> bool:
    """Return whether a memory's marks are those in its entry."""
    seals = seals_of(connection)
    stored = seals.marks(entry.memory, marks(connection, entry))
    return bool((stored - entry.sums(seals)[2]) % MODULUS == 0)


def leave(
    connection: Connection, entry: Entry, view: View, first: int, kept: Collection[int]
) -> None:
    """Mark the turns of a view from `first` on whose seqs are not among `kept`."""
    seals = seals_of(connection)
    key = next(iter(_keys(connection, entry.memory)), None) or secrets.token_hex(16)
    left = {
        _mark(key, fact)
        for row in read(connection, view.spans, TURN, after=first - 1)
        if row["seq"] not in kept
        for fact in tombstones.left_by(decode_record(row, seals).turn)
    }
    add(connection, entry, [(mark, key) for mark in sorted(left)])


def add(connection: Connection, entry: Entry, new: Sequence[Mark]) -> None:
    """Write marks; those that are there stay."""
    stored = _there(connection, entry.memory, [mark for mark, _ in new])
    new = [mark for mark in new if mark[0] not in stored]
    if new:
        rows = [{"memory": entry.memory, "mark": mark, "key": key} for mark, key in new]
        connection.execute(insert(forgotten), rows)
        entry.mark(seals_of(connection), new)


def among(connection: Connection, memory: int, facts: Sequence[Collection[str]]) -> list[bool]:
    """Return of each collection whether the memory has a mark of one of its facts."""
    asked = _asked(connection, memory, facts)
    stored = _there(connection, memory, {mark for marks in asked for mark in marks})
    return [not stored.isdisjoint(marks) for marks in asked]


def revive(connection: Connection, entry: Entry, facts: Sequence[Collection[str]]) -> None:
    """Remove the marks of these facts."""
    asked = _asked(connection, entry.memory, facts)
    _remove(connection, entry, sorted({mark for marks in asked for mark in marks}))


def clear(connection: Connection, entry: Entry) -> None:
    """Remove all marks of a memory."""
    _remove(connection, entry, None)


def _remove(connection: Connection, entry: Entry, gone: Sequence[str] | None) -> None:
    query = delete(forgotten).where(forgotten.c.memory == entry.memory)
    if gone is not None:
        query = query.where(OneOf(forgotten.c.mark, gone))
    removed = connection.execute(query.returning(forgotten.c.mark, forgotten.c.key)).all()
    entry.unmark(seals_of(connection), [(row.mark, row.key) for row in removed])


def _there(connection: Connection, memory: int, asked: Collection[str]) -> set[str]:
    """Return those marks that a memory has."""
    if not asked:
        return set()
    own = (forgotten.c.memory == memory, OneOf(forgotten.c.mark, list(asked)))
    return set(connection.scalars(select(forgotten.c.mark).where(*own)))


def _asked(connection: Connection, memory: int, facts: Sequence[Collection[str]]) -> list[set[str]]:
    keys = _keys(connection, memory)
    return [{_mark(key, fact) for key in keys for fact in own} for own in facts]


def _keys(connection: Connection, memory: int) -> list[str]:
    own = select(forgotten.c.key).where(forgotten.c.memory == memory).distinct()
    return list(connection.scalars(own))


def _mark(key: str, fact: str) -> str:
    return hashlib.blake2b(fact.encode(), key=bytes.fromhex(key), digest_size=16).hexdigest()
