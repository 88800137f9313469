"""The extent of a memory: caches compare it to see whether they are up to date."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from evomem_stores.database.compiled import Statement
from evomem_stores.database.tables import memories, row_number, turns

_EXTENT = Statement(
    select(memories.c.revision, memories.c.head, memories.c.rows, turns.c.key)
    .select_from(memories.outerjoin(turns, turns.c.row == bindparam("row")))
    .where(memories.c.memory == bindparam("memory"))
)


class Extent(NamedTuple):
    """The extent of a memory."""

    revision: int
    """-1 if there is no such memory."""
    head: int
    rows: int
    """How many rows of its own the memory should have."""
    key: bytes | None
    """The key of the row at the requested seq, None if there is no such row."""


def extent(connection: Connection, memory: int, seq: int) -> Extent:
    """Return the extent of a memory, with the key of its row at `seq`."""
    parameters = {"memory": memory, "row": row_number(memory, seq)}
    row = _EXTENT.row(connection, parameters)
    return Extent(-1, 0, 0, None) if row is None else Extent(*row)
