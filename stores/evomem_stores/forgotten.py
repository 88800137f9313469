"""Tombstones of purged turns. Each function works inside a transaction that its caller holds.

A tombstone holds no text: its marks are digests of what `evomem.tombstones` says of a turn, under a
random key that belongs to the memory. The key is in the same database, so whoever can read that and
guesses a text can confirm that it was there (docs/forgetting.md).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Connection, delete, insert, literal, select

from evomem import tombstones
from evomem.store import View
from evomem_stores.dialects import OneOf, insert_new
from evomem_stores.lineage import read
from evomem_stores.rows import TURN, decode_record
from evomem_stores.tables import forgotten


def leave(connection: Connection, view: View, first: int, kept: Iterable[int]) -> None:
    """Mark the turns of a view from `first` on whose seqs are not among `kept`."""
    staying = set(kept)
    key = next(iter(_keys(connection, view.memory)), secrets.token_hex(16))
    marks = {
        _mark(key, fact)
        for row in read(connection, view.spans, TURN, after=first - 1)
        if row["seq"] not in staying
        for fact in tombstones.left_by(decode_record(row).turn)
    }
    add(connection, view.memory, [(mark, key) for mark in sorted(marks)])


def add(connection: Connection, memory: int, marks: Sequence[tuple[str, str]]) -> None:
    """Write marks, each with its key; those that are there stay."""
    if marks:
        rows = [{"memory": memory, "mark": mark, "key": key} for mark, key in marks]
        connection.execute(insert_new(connection, forgotten), rows)


def among(connection: Connection, memory: int, facts: Sequence[Collection[str]]) -> list[bool]:
    """Return of each collection whether the memory has a mark of one of its facts."""
    marks = _marks(connection, memory, facts)
    asked = sorted({mark for each in marks for mark in each})
    own = select(forgotten.c.mark).where(
        forgotten.c.memory == memory, OneOf(forgotten.c.mark, asked)
    )
    there = set(connection.scalars(own)) if asked else set()
    return [not there.isdisjoint(each) for each in marks]


def revive(connection: Connection, memory: int, facts: Sequence[Collection[str]]) -> None:
    """Remove the marks of these facts."""
    gone = sorted({mark for each in _marks(connection, memory, facts) for mark in each})
    if gone:
        own = (forgotten.c.memory == memory, OneOf(forgotten.c.mark, gone))
        connection.execute(delete(forgotten).where(*own))


def copy(connection: Connection, source: int, target: int) -> None:
    """Give one memory the marks of another."""
    own = select(literal(target), forgotten.c.mark, forgotten.c.key)
    own = own.where(forgotten.c.memory == source)
    connection.execute(insert(forgotten).from_select(["memory", "mark", "key"], own))


def _marks(connection: Connection, memory: int, facts: Sequence[Collection[str]]) -> list[set[str]]:
    keys = _keys(connection, memory)
    return [{_mark(key, fact) for key in keys for fact in each} for each in facts]


def _keys(connection: Connection, memory: int) -> list[str]:
    own = select(forgotten.c.key).where(forgotten.c.memory == memory).distinct()
    return list(connection.scalars(own))


def _mark(key: str, fact: str) -> str:
    return hashlib.blake2b(fact.encode(), key=bytes.fromhex(key), digest_size=16).hexdigest()
