"""Anchors: small sealed records of a database's state, to store elsewhere.

A seal cannot reveal that a whole database, or a whole memory, was replaced by an older copy, since its
seals are valid. An anchor can: sealed counters that only increase show which of two states is older.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, select

from evomem.errors import IntegrityError
from evomem_stores.database.extent import extent
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import memories, turns
from evomem_stores.log import ledger

FORMAT = "evomem anchor 1"
MEMORY_FIELDS = ("memory", "changes", "revision", "head", "rows", "last", "key", "seal")
"""The fields of each memory in an anchor; `last` and `key` are of its newest own turn."""


def take(connection: Connection) -> dict[str, Any]:
    """Return an anchor of the database, as JSON values. Raises `IntegrityError`."""
    seals = seals_of(connection)
    database = ledger.database_entry(connection)
    anchor: dict[str, Any] = {
        "format": FORMAT,
        "database": seals.database,
        "key": seals.key_id,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "changes": database.changes,
        "memories": [
            _memory(connection, number)
            for number in connection.scalars(
                select(memories.c.memory).order_by(memories.c.memory)
            ).all()
        ],
    }
    return {**anchor, "seal": seals.digest(b"anchor", [anchor]).hex()}


def check(connection: Connection, anchor: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the database fails to continue an anchor, one sentence each."""
    seals = seals_of(connection)
    claims = {name: value for name, value in anchor.items() if name != "seal"}
    if claims["format"] != FORMAT or claims["database"] != seals.database:
        yield f"the anchor belongs to another database, not to {seals.database}"
        return
    if claims["key"] != seals.key_id:
        yield (
            f"the anchor is sealed with the key {claims['key'] or 'none'!r}, the database with "
            f"{seals.key_id or 'none'!r}: after a change of keys, take a new anchor"
        )
        return
    if seals.digest(b"anchor", [claims]).hex() != anchor["seal"]:
        yield "the anchor was changed since it was taken: its seal does not match"
        return
    when = claims["time"]
    changes = ledger.database_entry(connection).changes
    if changes < claims["changes"]:
        yield f"the database is older than the anchor of {when}: it was replaced by an older copy"
    for values in claims["memories"]:
        then = dict(zip(MEMORY_FIELDS, values, strict=True))
        if problem := _problem(connection, then, dropped=changes > claims["changes"]):
            yield f"memory {then['memory']} {problem} (the anchor is of {when})"


def _memory(connection: Connection, number: int) -> list[Any]:
    entry = ledger.get(connection, number)
    newest = select(turns.c.seq, turns.c.key).where(turns.c.memory == number)
    row = connection.execute(newest.order_by(turns.c.row.desc()).limit(1)).one_or_none()
    if (row is None) != (entry.rows == 0) or ledger.newest_seal(connection, number) != entry.tip:
        raise IntegrityError(
            f"memory {number} does not end with the turn that was written last: run verify; no "
            "anchor was taken"
        )
    last, key = (0, b"") if row is None else row
    seal = ledger.stored_seal(connection, number)
    counters = (entry.changes, entry.revision, entry.head, entry.rows)
    return [number, *counters, last, key.hex(), seal.hex()]


def _problem(connection: Connection, then: dict[str, Any], *, dropped: bool) -> str | None:
    """Return how a memory fails to continue its state in an anchor; None if it continues it."""
    exists = select(memories.c.memory).where(memories.c.memory == then["memory"])
    if connection.scalar(exists) is None:
        return None if dropped else "was removed"
    now = ledger.get(connection, then["memory"])
    if now.changes < then["changes"] or now.revision < then["revision"]:
        return "is older than it was: its newest turns or changes were reverted"
    if now.changes == then["changes"]:
        same = ledger.stored_seal(connection, now.memory).hex() == then["seal"]
        return None if same else "is not what it was"
    if now.revision == then["revision"] and then["rows"]:
        key = extent(connection, now.memory, then["last"]).key
        if key is None or key.hex() != then["key"]:
            return f"does not hold the turn {then['last']} that it ended with"
    return None
