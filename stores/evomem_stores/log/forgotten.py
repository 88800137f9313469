"""Marks of purged turns. Each function runs in its caller's transaction.

A mark holds no text: it is a digest of a fact about the turn (`evomem.tombstones`), keyed with a random
key of the memory. The key is in the same database, so anyone who can read the database and guesses a
text can confirm that it was there (docs/operations/forgetting.md). The memory's entry has a sum over
its marks; functions here change the entry, and their caller writes it.
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
from evomem_stores.log.rows import RECORD_COLUMNS, decode_record


def marks(connection: Connection, entry: Entry) -> list[Mark]:
    """Return a memory's marks, each with its key, sorted."""
    query = select(forgotten.c.mark, forgotten.c.key).where(forgotten.c.memory == entry.memory)
    return [(row.mark, row.key) for row in connection.execute(query.order_by(forgotten.c.mark))]


def match_entry(connection: Connection, entry: Entry) -> bool:
    """Return whether a memory's marks match the sum in its entry."""
    seals = seals_of(connection)
    stored = seals.marks(entry.memory, marks(connection, entry))
    return bool((stored - entry.sums(seals)[2]) % MODULUS == 0)


def mark_purged(
    connection: Connection, entry: Entry, view: View, first: int, kept: Collection[int]
) -> None:
    """Mark the turns of a view from seq `first` on, except those in `kept`, as purged."""
    seals = seals_of(connection)
    key = next(iter(_keys(connection, entry.memory)), None) or secrets.token_hex(16)
    new_marks = {
        _mark(key, fact)
        for row in read(connection, view.spans, RECORD_COLUMNS, after=first - 1)
        if row["seq"] not in kept
        for fact in tombstones.left_by(decode_record(row, seals).turn)
    }
    add(connection, entry, [(mark, key) for mark in sorted(new_marks)])


def add(connection: Connection, entry: Entry, new: Sequence[Mark]) -> None:
    """Write marks that are not stored yet."""
    stored = _stored_marks(connection, entry.memory, [mark for mark, _ in new])
    new = [mark for mark in new if mark[0] not in stored]
    if new:
        rows = [{"memory": entry.memory, "mark": mark, "key": key} for mark, key in new]
        connection.execute(insert(forgotten), rows)
        entry.mark(seals_of(connection), new)


def are_marked(connection: Connection, memory: int, facts: Sequence[Collection[str]]) -> list[bool]:
    """Return for each collection whether the memory has a mark of one of its facts."""
    candidates = _candidate_marks(connection, memory, facts)
    stored = _stored_marks(connection, memory, {mark for marks in candidates for mark in marks})
    return [not stored.isdisjoint(marks) for marks in candidates]


def revive(connection: Connection, entry: Entry, facts: Sequence[Collection[str]]) -> None:
    """Remove the marks of these facts."""
    candidates = _candidate_marks(connection, entry.memory, facts)
    _remove(connection, entry, sorted({mark for marks in candidates for mark in marks}))


def clear(connection: Connection, entry: Entry) -> None:
    """Remove all marks of a memory."""
    _remove(connection, entry, None)


def _remove(connection: Connection, entry: Entry, marks: Sequence[str] | None) -> None:
    query = delete(forgotten).where(forgotten.c.memory == entry.memory)
    if marks is not None:
        query = query.where(OneOf(forgotten.c.mark, marks))
    removed = connection.execute(query.returning(forgotten.c.mark, forgotten.c.key)).all()
    entry.unmark(seals_of(connection), [(row.mark, row.key) for row in removed])


def _stored_marks(connection: Connection, memory: int, candidates: Collection[str]) -> set[str]:
    """Return those of the candidates that a memory has."""
    if not candidates:
        return set()
    conditions = (forgotten.c.memory == memory, OneOf(forgotten.c.mark, list(candidates)))
    return set(connection.scalars(select(forgotten.c.mark).where(*conditions)))


def _candidate_marks(
    connection: Connection, memory: int, facts: Sequence[Collection[str]]
) -> list[set[str]]:
    keys = _keys(connection, memory)
    return [{_mark(key, fact) for key in keys for fact in alternatives} for alternatives in facts]


def _keys(connection: Connection, memory: int) -> list[str]:
    query = select(forgotten.c.key).where(forgotten.c.memory == memory).distinct()
    return list(connection.scalars(query))


def _mark(key: str, fact: str) -> str:
    return hashlib.blake2b(fact.encode(), key=bytes.fromhex(key), digest_size=16).hexdigest()
