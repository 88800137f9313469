"""The extent of a memory, with which caches of its rows are compared."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from evomem_stores.database.tables import memories, row_number, turns

_EXTENT = (
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
    """How many own rows it should have."""
    key: bytes | None
    """That of its row at the seq that was asked for, None if it has none."""


def extent(connection: Connection, memory: int, seq: int) -> Extent:
    """Return the extent of a memory, with the key of its row at `seq`."""
    given = {"memory": memory, "row": row_number(memory, seq)}
    row = connection.execute(_EXTENT, given).one_or_none()
    return Extent(-1, 0, 0, None) if row is None else Extent(*row)
