"""What changes the log. Each function works inside a transaction that its caller holds."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from evomem.errors import DuplicateTurn, HeadMoved, NotFound, QueryError, SharedTurns, StoreError
from evomem.state import Spec
from evomem.store import Namespace, Row, Span, View
from evomem_stores import forgotten, lexical, words
from evomem_stores.dialects import OneOf, insert_new
from evomem_stores.lineage import (
    decode_namespace,
    encode_namespace,
    read,
    spans,
    take_view,
    under,
    visible,
)
from evomem_stores.rows import check, checksum, encode, searched
from evomem_stores.tables import (
    Columns,
    column_names,
    hidden,
    memories,
    row_number,
    turns,
    within,
)

AT_ONCE = 2**14  # turns whose words are held while the word index is written anew


def make_memory(
    connection: Connection, namespace: Namespace, parent: int | None, parent_seq: int, head: int
) -> int | None:
    """Insert a memory; return its number, None if there is one of that name."""
    new = insert_new(connection, memories).values(
        namespace=encode_namespace(namespace),
        parent=parent,
        parent_seq=parent_seq,
        head=head,
        revision=0,
        created=time.time_ns() // 1000,
    )
    number: int | None = connection.scalar(new.returning(memories.c.memory))
    return number


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


def replace(connection: Connection, view: View, replaces: Mapping[int, int]) -> None:
    """Hide turns from the point of the log on at which others take their places."""
    there = read(connection, view.spans, ["seq"], visible(view), seqs=replaces)
    new = [{"memory": view.memory, "seq": r["seq"], "since": replaces[r["seq"]]} for r in there]
    if new:
        connection.execute(insert(hidden), new)


def replaced(connection: Connection, view: View, seqs: Sequence[int]) -> list[int]:
    """Return the seqs of the turns whose places those at `seqs` took, and so on back."""
    found: list[int] = []
    while seqs:
        old = select(hidden.c.seq).where(
            hidden.c.memory == view.memory, hidden.c.since > 0, OneOf(hidden.c.since, seqs)
        )
        seqs = connection.scalars(old).all()
        found += seqs
    return sorted(found)


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
    forgotten.leave(connection, view, seq, [row.seq for row in rows])
    erase(connection, Span(view.memory, seq, now.seq))
    stale = (hidden.c.memory == view.memory, hidden.c.seq >= seq)
    kept = OneOf(hidden.c.seq, [row.seq for row in rows])
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
    """Delete a memory's own rows, up to its end, and their words; return how many rows there were."""
    first = words.cut(connection, own.memory, own.first)
    words.add(connection, own.memory, _terms(connection, Span(own.memory, first, own.first - 1)))
    return connection.execute(delete(turns).where(within(own))).rowcount


def annotate(connection: Connection, view: View, seq: int, metadata: Mapping[str, Any]) -> None:
    """See `Store.annotate`."""
    row = next(read(connection, view.spans, column_names(turns), visible(view), seqs=[seq]), None)
    if row is None:
        raise NotFound(f"memory {view.memory} has no turn {seq} (any more)")
    shared = sharing(connection, view.memory, seq)
    if row["memory"] != view.memory or shared:
        with_whom = ", ".join("/".join(namespace) for namespace in shared) or "the forked memory"
        raise SharedTurns(f"turn {seq} is shared with {with_whom}: its metadata cannot be replaced")
    changed: Columns = {**row, "metadata": json.dumps(dict(metadata))}
    changes = {"metadata": changed["metadata"], "checksum": checksum(changed)}
    connection.execute(update(turns).where(turns.c.row == row["row"]).values(changes))


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
    words.clear(connection)
    for memory, head in connection.execute(select(memories.c.memory, memories.c.head)).all():
        for first in range(1, head + 1, AT_ONCE):
            some = Span(memory, first, first + AT_ONCE - 1)
            words.add(connection, memory, _terms(connection, some))


def _unmoved(connection: Connection, view: View) -> View:
    now = take_view(connection, view.memory)
    if (now.seq, now.key, now.revision) != (view.seq, view.key, view.revision):
        raise HeadMoved(
            f"the log ends at turn {now.seq} (revision {now.revision}), not at turn {view.seq} "
            f"(revision {view.revision}): read it again and retry; nothing was written"
        )
    return now


_CHUNK = select(turns.c.chunk).where(turns.c.row == bindparam("newest"))


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
    newest = row_number(seen[-1].memory, seen[-1].last) if seen else 0
    chunk = connection.scalar(_CHUNK, {"newest": newest}) or 0
    columns, terms = [], {}
    for row in rows:
        chunk = row.seq if row.reading.opens_chunk or not chunk else chunk
        values, terms[row.seq] = encode(memory, row, chunk, spec)
        columns.append(values)
    connection.execute(insert(turns), columns)
    words.add(connection, memory, terms)


def _terms(connection: Connection, own: Span) -> dict[int, list[str]]:
    """Return the terms of the turns of a span, by seq."""
    return {
        row["seq"]: lexical.terms(searched(row["speaker"], row["user"], row["assistant"]))
        for row in read(connection, [own], ["seq", "speaker", "user", "assistant"])
    }
