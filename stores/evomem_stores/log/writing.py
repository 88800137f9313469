"""Changing the log. Each function runs in its caller's transaction."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from evomem.errors import DuplicateTurn, HeadMoved, NotFound, QueryError, SharedTurns, StoreError
from evomem.state import Spec
from evomem.store import Namespace, Row, Span, View
from evomem_stores.database.connections import form_of
from evomem_stores.database.dialects import OneOf, insert_new
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import (
    Columns,
    hidden,
    memories,
    row_number,
    turns,
    within,
)
from evomem_stores.log import forgotten, ledger
from evomem_stores.log.ledger import Entry
from evomem_stores.log.lookup import read, taken, visible
from evomem_stores.log.namespaces import decode_namespace, encode_namespace, under
from evomem_stores.log.rows import TURN, check, encode, searched
from evomem_stores.log.views import spans, take_entry, take_view
from evomem_stores.words import inverted_index, terms

AT_ONCE = 2**14  # turns whose words are held while the word index is rebuilt


def make_memory(
    connection: Connection, namespace: Namespace, parent: int | None, parent_seq: int, head: int
) -> int | None:
    """Insert a memory; return its number, None if there is one of that name."""
    columns: Columns = {
        "namespace": encode_namespace(namespace),
        "parent": parent,
        "parent_seq": parent_seq,
        "head": head,
        "revision": 0,
        "created": time.time_ns() // 1000,
    }
    new = insert_new(connection, memories).values(columns)
    number: int | None = connection.scalar(new.returning(memories.c.memory))
    if number is not None:
        ledger.put(connection, Entry(number, **columns))
        with ledger.changing(connection) as database:
            database.add(seals_of(connection), number)
    return number


def check_rows(rows: Sequence[Row], spec: Spec, *, first: int, dense: bool) -> None:
    """Raise unless `rows` can be written from `first` on; `dense` means without gaps."""
    expected = first
    for row in rows:
        if row.seq < expected or (dense and row.seq > expected):
            raise StoreError(f"a row has seq {row.seq} where {expected} was due")
        check(row, spec)
        expected = row.seq + 1


def append(
    connection: Connection,
    view: View,
    rows: Sequence[Row],
    spec: Spec,
    replaces: Mapping[int, int] = MappingProxyType({}),
    revived: Sequence[Collection[str]] = (),
) -> None:
    """See `Store.append`."""
    now, entry, chunk = _unmoved(connection, view)
    if replaces and view.hidden != now.hidden:
        raise HeadMoved(
            f"turns of memory {view.memory} were hidden since it was read: read it again and "
            "retry; nothing was written"
        )
    if rows:
        own = now.spans[-1].last if now.spans and now.spans[-1].memory == view.memory else 0
        insert_rows(connection, entry, now.spans, rows, spec, _End(chunk, own))
        entry.head = rows[-1].seq
    add_hidden(connection, entry, replaces)
    if revived:
        forgotten.revive(connection, entry, revived)
    if rows or replaces or revived:
        ledger.put(connection, entry)


def hide(connection: Connection, view: View, seqs: Sequence[int]) -> int:
    """See `Store.hide`."""
    entry = ledger.get(connection, view.memory)
    _check_places(entry, view)
    # Only these are looked up: reading every tombstone would make each deletion dearer than the last.
    own = (hidden.c.memory == view.memory, OneOf(hidden.c.seq, list(seqs)))
    is_shown = turns.c.seq.not_in(select(hidden.c.seq).where(*own))
    visible_rows = read(connection, view.spans, ["seq"], is_shown, seqs=seqs)
    new = {row["seq"]: 0 for row in visible_rows}
    if new:
        add_hidden(connection, entry, new)
        ledger.put(connection, entry)
    return len(new)


def fork(connection: Connection, view: View, namespace: Namespace) -> int | None:
    """Create a memory that shares the view's rows; return its number, None if the name is taken."""
    seen = take_view(connection, view.memory, seq=view.seq).spans
    # The parent is the memory that owns the last row, so that no fork depends on one in between.
    parent, shared = (seen[-1].memory, seen[-1].last) if seen else (None, 0)
    source, gone = ledger.with_hidden(connection, view.memory)
    number = make_memory(connection, namespace, parent, shared, view.seq)
    inherited = {seq: since for seq, since in gone.items() if seq <= view.seq and since <= view.seq}
    marks = forgotten.marks(connection, source)
    if number is not None and (inherited or marks):
        entry = ledger.get(connection, number)
        add_hidden(connection, entry, inherited)
        forgotten.add(connection, entry, marks)
        ledger.put(connection, entry)
    return number


def add_hidden(connection: Connection, entry: Entry, gone: Mapping[int, int]) -> None:
    """Hide turns of a memory, each with the seq of its replacement, 0 for none.

    The caller writes the entry.
    """
    if gone:
        rows = [{"memory": entry.memory, "seq": seq, "since": since} for seq, since in gone.items()]
        connection.execute(insert(hidden), rows)
        entry.hide(seals_of(connection), gone)


def rewrite(
    connection: Connection,
    view: View,
    seq: int,
    rows: Sequence[Row],
    spec: Spec,
    moved: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """See `Store.rewrite`."""
    now = _unmoved(connection, view)[0]
    if not 1 <= seq <= now.seq or (rows and rows[-1].seq > now.seq):
        raise QueryError(f"turns 1 to {now.seq} can be rewritten, not from {seq} on")
    if shared := sharing(connection, view.memory, seq):
        names = ", ".join("/".join(namespace) for namespace in shared)
        raise SharedTurns(
            f"turns from {seq} on are shared by {len(shared)} forks ({names}): "
            "purge them there first, or with forks=True"
        )
    seals = seals_of(connection)
    entry, gone = ledger.with_hidden(connection, view.memory)
    seqs = {row.seq for row in rows}
    forgotten.leave(connection, entry, view, seq, seqs)
    before = spans(connection, view.memory, seq - 1)
    erase(connection, entry, Span(view.memory, seq, now.seq))
    stale = {
        hidden_seq: since
        for hidden_seq, since in gone.items()
        if hidden_seq >= seq and hidden_seq not in seqs
    }
    tombstones = {
        hidden_seq: since for hidden_seq, since in gone.items() if hidden_seq not in stale
    }
    places = {s: (moved.get(s, s), moved.get(since, since)) for s, since in tombstones.items()}
    changed = {s: place for s, place in places.items() if place != (s, tombstones[s])}
    stale |= {hidden_seq: tombstones[hidden_seq] for hidden_seq in changed}
    connection.execute(
        delete(hidden).where(hidden.c.memory == view.memory, OneOf(hidden.c.seq, list(stale)))
    )
    entry.show(seals, stale)
    add_hidden(connection, entry, dict(changed.values()))
    entry.revision += 1
    if seq <= entry.parent_seq:  # inherited rows are not changed but no longer looked at
        entry.parent, entry.parent_seq = (
            (before[-1].memory, before[-1].last) if before else (None, 0)
        )
    if rows:
        insert_rows(connection, entry, before, rows, spec)
    ledger.put(connection, entry)


def erase(connection: Connection, entry: Entry, own: Span) -> int:
    """Delete a memory's own rows, up to its end, and their words; return how many rows there were."""
    first = inverted_index.cut(connection, own.memory, own.first)
    inverted_index.add(
        connection, own.memory, _terms(connection, Span(own.memory, first, own.first - 1))
    )
    erased = connection.scalars(delete(turns).where(within(own)).returning(turns.c.seal)).all()
    entry.remove(seals_of(connection), erased, ledger.newest(connection, own.memory))
    return len(erased)


def annotate(connection: Connection, view: View, seq: int, metadata: Mapping[str, Any]) -> None:
    """See `Store.annotate`."""
    entry = ledger.get(connection, view.memory)
    _check_places(entry, view)
    row = next(read(connection, view.spans, ("row", *TURN), visible(view), seqs=[seq]), None)
    if row is None:
        raise NotFound(f"memory {view.memory} has no turn {seq} (any more)")
    shared = sharing(connection, view.memory, seq)
    if row["memory"] != view.memory or shared:
        with_whom = ", ".join("/".join(namespace) for namespace in shared) or "the forked memory"
        raise SharedTurns(f"turn {seq} is shared with {with_whom}: its metadata cannot be replaced")
    seals = seals_of(connection)
    seals.check_row(row)
    changed: Columns = {**row, "metadata": json.dumps(dict(metadata))}
    changes = {"metadata": changed["metadata"], "seal": seals.row(changed)}
    connection.execute(update(turns).where(turns.c.row == row["row"]).values(changes))
    entry.replace(seals, row["seal"], changes["seal"])
    ledger.put(connection, entry)


def sharing(connection: Connection, memory: int, seq: int) -> list[Namespace]:
    """Return the memories that include a row of `memory` from `seq` on.

    A fork's parent is the owner of the last row it shares, so asking the children is enough; in
    place of a dropped one its own children count.
    """
    query = select(memories.c.memory, under(()).label("named"), memories.c.namespace).where(
        memories.c.parent == memory, memories.c.parent_seq >= seq
    )
    names: list[Namespace] = []
    for row in connection.execute(query).all():
        own = [decode_namespace(row.namespace)] if row.named else sharing(connection, row.memory, 1)
        names += own
    return sorted(names)


def write_terms(connection: Connection) -> None:
    """Rebuild the word index from the turns."""
    inverted_index.clear(connection)
    for memory, head in connection.execute(select(memories.c.memory, memories.c.head)).all():
        for first in range(1, head + 1, AT_ONCE):
            stretch = Span(memory, first, first + AT_ONCE - 1)
            inverted_index.add(connection, memory, _terms(connection, stretch))


def _unmoved(connection: Connection, view: View) -> tuple[View, Entry, int]:
    now, entry, chunk = take_entry(connection, view.memory)
    if (now.seq, now.key, now.revision) != (view.seq, view.key, view.revision):
        raise HeadMoved(
            f"the log ends at turn {now.seq} (revision {now.revision}), not at turn {view.seq} "
            f"(revision {view.revision}): read it again and retry; nothing was written"
        )
    return now, entry, chunk


def _check_places(entry: Entry, view: View) -> None:
    """Raise `HeadMoved` if turns of a memory may have other seqs than in a view."""
    if entry.revision != view.revision:
        raise HeadMoved(
            f"turns of memory {view.memory} were purged or sorted since it was read: read it again "
            "and retry; nothing was written"
        )


class _End(NamedTuple):
    """Where a log ends."""

    chunk: int
    """Of its last row, 0 for none."""
    own: int
    """Seq of the memory's last row of its own, 0 for none."""


_CHUNK = select(turns.c.chunk).where(turns.c.row == bindparam("newest"))


def insert_rows(
    connection: Connection,
    entry: Entry,
    seen: Sequence[Span],
    rows: Sequence[Row],
    spec: Spec,
    end: _End | None = None,
) -> None:
    """Write rows and their terms after `seen`, and note them in the entry of their memory.

    `end` says where `seen` ends, if the caller knows; it is looked up if not.
    """
    seals = seals_of(connection)
    ids = Counter(row.turn.id for row in rows)
    double = taken(connection, seen, ids) + [id for id, times in ids.items() if times > 1]
    if double:
        raise DuplicateTurn(
            f"the id {double[0]!r} is taken: ids are unique in a memory; nothing was written"
        )
    if end is None:
        newest = row_number(seen[-1].memory, seen[-1].last) if seen else 0
        chunk = connection.scalar(_CHUNK, {"newest": newest}) or 0
    else:
        chunk = end.chunk
    columns, terms, form = [], {}, form_of(connection)
    for row in rows:
        chunk = row.seq if row.reading.opens_chunk or not chunk else chunk
        values, terms[row.seq] = encode(entry.memory, row, chunk, spec, seals, form)
        columns.append(values)
    connection.execute(insert(turns), columns)
    inverted_index.add(connection, entry.memory, terms, None if end is None else end.own)
    entry.add(seals, [values["seal"] for values in columns])


def _terms(connection: Connection, own: Span) -> dict[int, list[str]]:
    """Return the terms of the turns of a span, by seq."""
    return {
        row["seq"]: terms.terms(searched(row["speaker"], row["user"], row["assistant"]))
        for row in read(connection, [own], ["seq", "speaker", "user", "assistant"])
    }
