"""What changes the log. Each function works inside a transaction that its caller holds."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, text, update

from evomem.errors import DuplicateTurn, HeadMoved, QueryError, SharedTurns, StoreError
from evomem.records import Turn
from evomem.state import Spec
from evomem.store import Namespace, Row, Span, View
from evomem_stores import lexical
from evomem_stores.engine import Engine
from evomem_stores.lineage import (
    decode_namespace,
    encode_namespace,
    one_of,
    read,
    spans,
    take_view,
    under,
)
from evomem_stores.rows import check, encode, searched
from evomem_stores.tables import LAST, Columns, hidden, memories, row_number, turns, within

_ADD_TERMS = text("INSERT INTO terms (rowid, body) VALUES (:row, :body)")
# A contentless index must be told what it was given; what that was follows from the turn's text.
_DROP_TERMS = text("INSERT INTO terms (terms, rowid, body) VALUES ('delete', :row, :body)")
_MERGE_TERMS = text("INSERT INTO terms (terms) VALUES ('optimize')")
_FORGET_TERMS = text("INSERT INTO terms (terms) VALUES ('delete-all')")


def make_memory(
    connection: Connection, namespace: Namespace, parent: int | None, parent_seq: int, head: int
) -> int:
    """Insert a memory; return its number."""
    done = connection.execute(
        insert(memories).values(
            namespace=encode_namespace(namespace),
            parent=parent,
            parent_seq=parent_seq,
            head=head,
            revision=0,
            created=time.time_ns() // 1000,
        )
    )
    return int(done.lastrowid)


def check_rows(rows: Sequence[Row], spec: Spec, *, first: int, dense: bool) -> None:
    """Raise unless `rows` can be written from `first` on; `dense` means without gaps."""
    expected = first
    for row in rows:
        if row.seq < expected or (dense and row.seq > expected):
            raise StoreError(f"a row has seq {row.seq} where {expected} was due")
        check(row, spec)
        expected = row.seq + 1


def append(connection: Connection, view: View, rows: Sequence[Row], spec: Spec) -> None:
    """See `Store.append`."""
    now = _unmoved(connection, view)
    if rows:
        insert_rows(connection, view.memory, now.spans, rows, spec)
        own = memories.c.memory == view.memory
        connection.execute(update(memories).where(own).values(head=rows[-1].seq))


def rewrite(connection: Connection, view: View, seq: int, rows: Sequence[Row], spec: Spec) -> None:
    """See `Store.rewrite`."""
    now = _unmoved(connection, view)
    if not 1 <= seq <= now.seq or (rows and rows[-1].seq > now.seq):
        raise QueryError(f"turns 1 to {now.seq} can be rewritten, not from {seq} on")
    if shared := sharing(connection, view.memory, seq):
        names = ", ".join("/".join(namespace) for namespace in shared)
        raise SharedTurns(
            f"turns from {seq} on are shared by {len(shared)} forks ({names}): "
            "purge them there first, or with forks=True"
        )
    erase(connection, Span(view.memory, seq, now.seq))
    stale = (hidden.c.memory == view.memory, hidden.c.seq >= seq)
    kept = one_of(hidden.c.seq, [row.seq for row in rows])
    connection.execute(delete(hidden).where(*stale, ~kept))
    before = spans(connection, view.memory, seq - 1)
    changes: Columns = {"revision": now.revision + 1}
    memory = connection.execute(
        select(memories.c.parent_seq).where(memories.c.memory == view.memory)
    ).one()
    if seq <= memory.parent_seq:  # inherited rows are not changed but no longer looked at
        parent, shared_seq = (before[-1].memory, before[-1].last) if before else (None, 0)
        changes |= {"parent": parent, "parent_seq": shared_seq}
    connection.execute(update(memories).where(memories.c.memory == view.memory).values(changes))
    if rows:
        insert_rows(connection, view.memory, before, rows, spec)


def erase(connection: Connection, own: Span) -> int:
    """Delete a memory's own rows and their words; return how many rows there were."""
    _drop_terms(connection, own)
    erased = connection.execute(delete(turns).where(within(own))).rowcount
    connection.execute(_MERGE_TERMS)  # until segments are merged, deleted terms stay in them
    return erased


def scrub(engine: Engine) -> bool:
    """Empty the write-ahead log, the last file where old text can be; warn where that fails."""
    try:
        clean, why = engine.checkpoint(), "another process is reading"
    except StoreError as error:
        clean, why = False, str(error)
    if not clean:
        warnings.warn(
            f"{engine.path}: the turns were purged, but the write-ahead log still holds their text "
            f"({why}); it is emptied by the next purge, or when the last process closes the "
            "database",
            stacklevel=4,
        )
    return clean


def sharing(connection: Connection, memory: int, seq: int) -> list[Namespace]:
    """Return the memories that see a row of `memory` from `seq` on.

    A fork's parent is the owner of the last row it shares, so asking the children is enough; in
    place of a dropped one its own children count.
    """
    query = select(memories.c.memory, under(()).label("named"), memories.c.namespace).where(
        memories.c.parent == memory, memories.c.parent_seq >= seq
    )
    found: list[Namespace] = []
    for row in connection.execute(query).all():
        own = [decode_namespace(row.namespace)] if row.named else sharing(connection, row.memory, 1)
        found += own
    return sorted(found)


def write_terms(connection: Connection) -> None:
    """Write the word index anew from the turns."""
    connection.execute(_FORGET_TERMS)
    names = ["memory", "seq", "user", "assistant", "speaker"]
    for memory in connection.scalars(select(memories.c.memory)).all():
        for row in read(connection, [Span(memory, 1, LAST)], names):
            turn = Turn(user=row["user"], assistant=row["assistant"], speaker=row["speaker"])
            found = lexical.terms(searched(turn))
            number = row_number(memory, row["seq"])
            connection.execute(_ADD_TERMS, {"row": number, "body": lexical.body(memory, found)})


def _unmoved(connection: Connection, view: View) -> View:
    now = take_view(connection, view.memory)
    if (now.seq, now.key, now.revision) != (view.seq, view.key, view.revision):
        raise HeadMoved(
            f"the log ends at turn {now.seq} (revision {now.revision}), not at turn {view.seq} "
            f"(revision {view.revision}): read it again and retry; nothing was written"
        )
    return now


def insert_rows(
    connection: Connection, memory: int, seen: Sequence[Span], rows: Sequence[Row], spec: Spec
) -> None:
    """Write rows and their terms behind `seen`."""
    ids = Counter(row.turn.id for row in rows)
    taken = [row["id"] for row in read(connection, seen, ["id"], ids=ids)]
    taken += [id for id, times in ids.items() if times > 1]
    if taken:
        raise DuplicateTurn(
            f"the id {taken[0]!r} is taken: ids are unique in a memory; nothing was written"
        )
    last = next(read(connection, seen, ["chunk"], limit=1, newest_first=True), None)
    chunk = 0 if last is None else int(last["chunk"])
    columns, bodies = [], []
    for row in rows:
        chunk = row.seq if row.reading.opens_chunk or not chunk else chunk
        values, found = encode(memory, row, chunk, spec)
        columns.append(values)
        if found:
            bodies.append({"row": values["row"], "body": lexical.body(memory, found)})
    connection.execute(insert(turns), columns)
    if bodies:
        connection.execute(_ADD_TERMS, bodies)


def _drop_terms(connection: Connection, own: Span) -> None:
    names = ["row", "user", "assistant", "speaker"]
    gone = []
    for row in read(connection, [own], names):
        turn = Turn(user=row["user"], assistant=row["assistant"], speaker=row["speaker"])
        if found := lexical.terms(searched(turn)):
            gone.append({"row": row["row"], "body": lexical.body(own.memory, found)})
    if gone:
        connection.execute(_DROP_TERMS, gone)
