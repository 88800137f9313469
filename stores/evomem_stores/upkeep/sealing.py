"""Seals a whole database again: after an upgrade from an older version, or with another key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, literal, select, update

from evomem.errors import IntegrityError
from evomem_stores.database.connections import Connections
from evomem_stores.database.seals import Seals, seals_of
from evomem_stores.database.tables import (
    ENCODER_COLUMNS,
    SAME_ROW,
    encoder,
    generations,
    hidden,
    integrity,
    memories,
    readings,
    row_number,
    turns,
)
from evomem_stores.log import forgotten, ledger
from evomem_stores.log.ledger import DatabaseEntry, Entry
from evomem_stores.upkeep import audit
from evomem_stores.upkeep.generations import stored_spec

ROWS_PER_BATCH = 256  # rows in memory at once

Sound = Callable[[RowMapping | Mapping[str, Any]], bool]
"""Returns whether a turn and its reading are unchanged."""

_COLUMNS_WITHOUT_SEALS = ("row", "memory", "seq", "id", "chunk", "words", "time", "added", "key", "session", "speaker", "user", "assistant", "metadata", "embedding", "latents")  # fmt: skip
_OPTIONAL_COLUMNS_WITHOUT_SEALS = ("source", "recalled")

_ROWS = (
    select(
        *(
            turns.c[name]
            for name in (
                *_COLUMNS_WITHOUT_SEALS,
                *_OPTIONAL_COLUMNS_WITHOUT_SEALS,
                "checksum",
                "seal",
            )
        )
    )
    .where(turns.c.row > bindparam("behind"), turns.c.row <= bindparam("upto"))
    .order_by(turns.c.row)
    .limit(ROWS_PER_BATCH)
)
_SEAL = (
    update(turns)
    .where(turns.c.row == bindparam("number"))
    .values(seal=bindparam("new_seal"), checksum=bindparam("new_checksum"))
)
_CHECKSUM = (
    update(readings)
    .where(
        readings.c.row == bindparam("number"), readings.c.generation == bindparam("by_generation")
    )
    .values(checksum=bindparam("new_checksum"))
)


def change_key(connections: Connections, key: bytes | None) -> int:
    """Seal a whole database with another key, in one transaction; return its number of turns.

    Refuses a database with faults, so that no edit gets a valid seal.

    Raises:
        IntegrityError: `verify` reports a fault.
    """
    with connections.exclusive() as connection:
        before = seals_of(connection)
        spec = stored_spec(connection, connections.place)
        if fault := next(audit.problems(connection, spec), None):
            raise IntegrityError(
                f"{connections.place} has faults, so it is not sealed with another key: {fault}; run "
                "verify, and restore it from a backup"
            )
        seals = Seals(before.database, key)
        connection.execution_options(seals=seals)
        seal(connection, lambda row: True)
        count = connection.scalar(select(func.count()).select_from(turns)) or 0
    connections.seals = seals
    return count


def seal(connection: Connection, sound: Sound, *, purges_leave_marks: bool = True) -> None:
    """Seal every turn, every memory and the database with the seals of the connection.

    A row that is not `sound` gets an empty, invalid seal, so that `verify` keeps reporting it.

    Args:
        connection: Inside a transaction.
        sound: Returns whether a turn is to be sealed.
        purges_leave_marks: False for a database of a version without replaced turns and marks of
            purged turns, which lacks the columns.
    """
    seals = seals_of(connection)
    fingerprint = connection.scalar(select(encoder.c.fingerprint)) or ""
    database = DatabaseEntry(0, 0, 0)
    columns = (memories.c[name] for name in ledger.PLAIN_COLUMNS)  # older versions have only these
    for row in connection.execute(select(*columns).order_by(memories.c.memory)).mappings().all():
        entry = Entry(*(row[name] for name in ledger.PLAIN_COLUMNS))
        entry.rows, entry.gone, entry.tip = 0, 0, b""
        for sealed in _seal_rows(connection, seals, entry.memory, fingerprint, sound):
            entry.add(seals, sealed)
        since = hidden.c.since if purges_leave_marks else literal(0)
        gone = select(hidden.c.seq, since).where(hidden.c.memory == entry.memory)
        entry.hide(seals, {row[0]: row[1] for row in connection.execute(gone)})
        if purges_leave_marks:
            entry.mark(seals, forgotten.marks(connection, entry))
        ledger.put(connection, entry)
        database.add(seals, entry.memory)
    if database.memories:
        _seal_readings(connection, seals, sound)
    database.changes = connection.scalar(select(integrity.c.changes)) or 0
    ledger.put_database_entry(connection, database)


def _seal_rows(
    connection: Connection, seals: Seals, memory: int, fingerprint: str, sound: Sound
) -> Iterator[list[bytes]]:
    """Seal a memory's own turns; yield their seals in batches."""
    after, upto = row_number(memory, 0), row_number(memory + 1, 0) - 1
    while rows := connection.execute(_ROWS, {"behind": after, "upto": upto}).mappings().all():
        new = []
        for row in rows:
            is_sound = sound(row)
            new.append(
                {
                    "number": row["row"],
                    "new_seal": seals.row(row) if is_sound else b"",
                    "new_checksum": seals.reading(row, fingerprint) if is_sound else b"",
                }
            )
        connection.execute(_SEAL, new)
        after = rows[-1]["row"]
        yield [entry["new_seal"] for entry in new]


def _seal_readings(connection: Connection, seals: Seals, sound: Sound) -> None:
    own = [
        turns.c[name]
        for name in (*_COLUMNS_WITHOUT_SEALS, *_OPTIONAL_COLUMNS_WITHOUT_SEALS, "seal")
        if name not in ENCODER_COLUMNS
    ]
    query = select(
        *own,
        readings.c.generation,
        generations.c.fingerprint,
        *(readings.c[name] for name in ENCODER_COLUMNS),
    ).join_from(readings, turns, onclause=SAME_ROW)
    query = query.join(generations, generations.c.generation == readings.c.generation)
    key = (readings.c.generation, readings.c.row)
    after = (-1, 0)
    while True:
        page = query.where(
            (key[0] > after[0]) | ((key[0] == after[0]) & (key[1] > after[1]))
        ).order_by(*key)
        rows = connection.execute(page.limit(ROWS_PER_BATCH)).mappings().all()
        if not rows:
            return
        connection.execute(
            _CHECKSUM,
            [
                {
                    "number": row["row"],
                    "by_generation": row["generation"],
                    "new_checksum": seals.reading(row, row["fingerprint"]) if sound(row) else b"",
                }
                for row in rows
            ],
        )
        after = (rows[-1]["generation"], rows[-1]["row"])


def was_sound_without_seals(columns: RowMapping | Mapping[str, Any]) -> bool:
    """Return whether a turn matches the checksum of a version without seals."""
    return bool(checksum_without_seals(columns) == columns["checksum"])


def checksum_without_seals(columns: RowMapping | Mapping[str, Any]) -> bytes:
    """Return a turn's checksum as in versions without seals."""
    digest = hashlib.blake2b(digest_size=16)

    def add(label: bytes, value: object) -> None:
        data = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(b"%s%d:" % (label, len(data)))
        digest.update(data)

    for name in _COLUMNS_WITHOUT_SEALS:
        add(b"", columns[name])
    for name in _OPTIONAL_COLUMNS_WITHOUT_SEALS:
        if columns[name] is not None:
            add(name.encode() + b"=", columns[name])
    return digest.digest()
