"""Dropping whole memories. Each function runs in its caller's transaction.

A dropped memory loses its name at once. Where forks see rows of it, it stays as a nameless trunk
that holds those rows and nothing else, and goes with the last of the forks. The newest memory stays
in any case, empty: other processes know memories by number, and no number may be given out twice.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select

from evomem.store import Namespace, Span
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import LAST, counted, hidden, memories, turns
from evomem_stores.log import forgotten, ledger
from evomem_stores.log.namespaces import decode_namespace, nameless, under
from evomem_stores.log.writing import erase


def drop(connection: Connection, prefix: Namespace, *, below: bool) -> list[Namespace]:
    """Take their names from the memory at `prefix`, and from those `below` it; return the names."""
    rows = connection.execute(select(memories.c.memory, memories.c.namespace).where(under(prefix)))
    gone = {row.memory: decode_namespace(row.namespace) for row in rows}
    chosen = [number for number, name in gone.items() if below or name == prefix]
    for number in chosen:
        entry = ledger.get(connection, number, lock=True)
        entry.namespace = str(number)
        ledger.put(connection, entry)
    return sorted(gone[number] for number in chosen)


def prune(connection: Connection) -> tuple[list[int], int]:
    """Erase every row of dropped memories that no fork sees any more.

    Returns the numbers of the memories that lost rows, and how many rows there were.
    """
    newest = connection.scalar(select(func.max(memories.c.memory)))
    seals = seals_of(connection)
    pruned, removed, erased = [], [], 0
    # Forks have greater numbers than what they were forked from, so they are dropped first.
    dropped = select(memories.c.memory).where(nameless()).order_by(memories.c.memory.desc())
    dropped = dropped.with_for_update()
    for number in connection.scalars(dropped).all():
        entry, gone = ledger.with_hidden(connection, number)
        forks = memories.c.parent == number
        shared = connection.scalar(select(func.max(memories.c.parent_seq)).where(forks)) or 0
        unseen = Span(number, shared + 1, LAST)
        if connection.scalar(select(turns.c.seq).where(*counted(unseen)).limit(1)):
            erased += erase(connection, entry, unseen)
            pruned.append(number)
            entry.revision += 1
        connection.execute(delete(hidden).where(hidden.c.memory == number))
        entry.show(seals, gone)
        forgotten.clear(connection, entry)
        if shared:
            entry.head = max(shared, entry.parent_seq)
        elif number == newest:
            entry.parent, entry.parent_seq, entry.head = None, 0, 0
        else:
            connection.execute(delete(memories).where(memories.c.memory == number))
            removed.append(number)
            continue
        ledger.put(connection, entry)
    if removed:
        with ledger.changing(connection) as database:
            for number in removed:
                database.remove(seals, number)
    return pruned, erased


def kept(connection: Connection) -> int:
    """Return how many rows of dropped memories remain for forks."""
    trunks = select(memories.c.memory).where(nameless())
    count: int = (
        connection.scalar(select(func.count()).select_from(turns).where(turns.c.memory.in_(trunks)))
        or 0
    )
    return count
