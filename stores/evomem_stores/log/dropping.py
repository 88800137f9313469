"""Dropping whole memories. Each function runs in its caller's transaction.

A dropped memory loses its name at once. If forks share some of its rows, it stays as a nameless
trunk with only those rows, until the last of the forks is dropped. The newest memory always stays,
empty: other processes refer to memories by number, and no number may be assigned twice.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select

from evomem.store import Namespace, Span
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import MAX_SEQ, hidden, memories, turns, within_by_seq
from evomem_stores.log import forgotten, ledger
from evomem_stores.log.namespaces import decode_namespace, nameless, under
from evomem_stores.log.writing import erase


def drop(connection: Connection, prefix: Namespace, *, below: bool) -> list[Namespace]:
    """Remove the names of the memory at `prefix` and, if `below`, of those below it; return them."""
    rows = connection.execute(select(memories.c.memory, memories.c.namespace).where(under(prefix)))
    names = {row.memory: decode_namespace(row.namespace) for row in rows}
    chosen = [number for number, name in names.items() if below or name == prefix]
    for number in chosen:
        entry = ledger.get(connection, number, lock=True)
        entry.namespace = str(number)
        ledger.put(connection, entry)
    return sorted(names[number] for number in chosen)


def prune(connection: Connection) -> tuple[list[int], int]:
    """Erase the rows of dropped memories that no fork sees.

    Returns the numbers of the memories that lost rows, and how many rows were erased.
    """
    newest = connection.scalar(select(func.max(memories.c.memory)))
    seals = seals_of(connection)
    pruned, removed, erased = [], [], 0
    # Forks have greater numbers than their parents, so they are handled first.
    dropped = select(memories.c.memory).where(nameless()).order_by(memories.c.memory.desc())
    dropped = dropped.with_for_update()
    for number in connection.scalars(dropped).all():
        entry, tombstones = ledger.with_hidden(connection, number)
        forks = memories.c.parent == number
        shared = connection.scalar(select(func.max(memories.c.parent_seq)).where(forks)) or 0
        unseen = Span(number, shared + 1, MAX_SEQ)
        if connection.scalar(select(turns.c.seq).where(*within_by_seq(unseen)).limit(1)):
            erased += erase(connection, entry, unseen)
            pruned.append(number)
            entry.revision += 1
        connection.execute(delete(hidden).where(hidden.c.memory == number))
        entry.show(seals, tombstones)
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


def rows_kept_for_forks(connection: Connection) -> int:
    """Return how many rows of dropped memories remain because forks share them."""
    trunks = select(memories.c.memory).where(nameless())
    count: int = (
        connection.scalar(select(func.count()).select_from(turns).where(turns.c.memory.in_(trunks)))
        or 0
    )
    return count
