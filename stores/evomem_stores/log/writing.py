"""Changes the log. Each function runs in its caller's transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from evomem.errors import DuplicateTurn, HeadMoved, NotFound, QueryError, SharedTurns, StoreError
from evomem.state import Spec
from evomem.store import Namespace, Row, Span, View
from evomem_stores.database.compiled import Statement
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
from evomem_stores.log.lookup import read, visible, with_ids
from evomem_stores.log.namespaces import decode_namespace, encode_namespace, under
from evomem_stores.log.rows import RECORD_COLUMNS, check, encode, searched
from evomem_stores.log.views import spans, take_entry, take_view
from evomem_stores.words import inverted_index, terms

TURNS_PER_BATCH = 2**14  # turns in memory at once while the word index is rebuilt


def make_memory(
    connection: Connection, namespace: Namespace, parent: int | None, parent_seq: int, head: int
) -> int | None:
    """Insert a memory; return its number, None if the name is taken."""
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
    """Raise unless the seqs of `rows` ascend from `first`, without gaps if `dense`, and rows are valid."""
    expected = first
    for row in rows:
        if row.seq < expected or (dense and row.seq > expected):
            raise StoreError(f"a row has seq {row.seq}, expected {expected}")
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
        last_own = now.spans[-1].last if now.spans and now.spans[-1].memory == view.memory else 0
        insert_rows(connection, entry, now.spans, rows, spec, _End(chunk, last_own))
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
    # Look up only these tombstones: reading all of them would make each deletion cost more.
    tombstones = (hidden.c.memory == view.memory, OneOf(hidden.c.seq, list(seqs)))
    is_shown = turns.c.seq.not_in(select(hidden.c.seq).where(*tombstones))
    visible_rows = read(connection, view.spans, ["seq"], is_shown, seqs=seqs)
    new = {row["seq"]: 0 for row in visible_rows}
    if new:
        add_hidden(connection, entry, new)
        ledger.put(connection, entry)
    return len(new)


def fork(connection: Connection, view: View, namespace: Namespace) -> int | None:
    """Create a memory that shares the view's rows; return its number, None if the name is taken."""
    seen = take_view(connection, view.memory, seq=view.seq).spans
    # The parent is the memory that owns the last row, so that forks do not depend on one in between.
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


_INSERT_HIDDEN = Statement(insert(hidden).inline())


def add_hidden(connection: Connection, entry: Entry, gone: Mapping[int, int]) -> None:
    """Hide turns of a memory: seqs, each with the seq of its replacement, 0 for none.

    The caller writes the entry.
    """
    if gone:
        rows = [{"memory": entry.memory, "seq": seq, "since": since} for seq, since in gone.items()]
        _INSERT_HIDDEN.run_many(connection, rows)
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
        raise QueryError(f"cannot rewrite from turn {seq}: the memory has turns 1 to {now.seq}")
    if shared := sharing(connection, view.memory, seq):
        names = ", ".join("/".join(namespace) for namespace in shared)
        raise SharedTurns(
            f"turns from {seq} on are shared by {len(shared)} forks ({names}): "
            "purge them there first, or with forks=True"
        )
    seals = seals_of(connection)
    entry, gone = ledger.with_hidden(connection, view.memory)
    seqs = {row.seq for row in rows}
    forgotten.mark_purged(connection, entry, view, seq, seqs)
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
    if seq <= entry.parent_seq:  # inherited rows stay, but this memory no longer includes them
        entry.parent, entry.parent_seq = (
            (before[-1].memory, before[-1].last) if before else (None, 0)
        )
    if rows:
        insert_rows(connection, entry, before, rows, spec)
    ledger.put(connection, entry)


def erase(connection: Connection, entry: Entry, span: Span) -> int:
    """Delete a span of own rows at a memory's end, and their words; return the number of rows."""
    first = inverted_index.cut(connection, span.memory, span.first)
    inverted_index.add(
        connection, span.memory, _terms(connection, Span(span.memory, first, span.first - 1))
    )
    erased = connection.scalars(delete(turns).where(within(span)).returning(turns.c.seal)).all()
    entry.remove(seals_of(connection), erased, ledger.newest_seal(connection, span.memory))
    return len(erased)


def annotate(connection: Connection, view: View, seq: int, metadata: Mapping[str, Any]) -> None:
    """See `Store.annotate`."""
    entry = ledger.get(connection, view.memory)
    _check_places(entry, view)
    row = next(
        read(connection, view.spans, ("row", *RECORD_COLUMNS), visible(view), seqs=[seq]), None
    )
    if row is None:
        raise NotFound(f"memory {view.memory} has no turn {seq}, or it was deleted")
    shared = sharing(connection, view.memory, seq)
    if row["memory"] != view.memory or shared:
        sharers = ", ".join("/".join(namespace) for namespace in shared) or "the forked memory"
        raise SharedTurns(f"turn {seq} is shared with {sharers}: its metadata cannot be replaced")
    seals = seals_of(connection)
    seals.check_row(row)
    changed: Columns = {**row, "metadata": json.dumps(dict(metadata))}
    changes = {"metadata": changed["metadata"], "seal": seals.row(changed)}
    connection.execute(update(turns).where(turns.c.row == row["row"]).values(changes))
    entry.replace(seals, row["seal"], changes["seal"])
    ledger.put(connection, entry)


def sharing(connection: Connection, memory: int, seq: int) -> list[Namespace]:
    """Return the memories that include a row of `memory` from `seq` on.

    A fork's parent is the owner of the last row it shares, so only children are checked; a dropped
    child is replaced with its own children.
    """
    query = select(memories.c.memory, under(()).label("named"), memories.c.namespace).where(
        memories.c.parent == memory, memories.c.parent_seq >= seq
    )
    names: list[Namespace] = []
    for row in connection.execute(query).all():
        names += (
            [decode_namespace(row.namespace)] if row.named else sharing(connection, row.memory, 1)
        )
    return sorted(names)


def write_terms(connection: Connection) -> None:
    """Rebuild the word index from the turns."""
    inverted_index.clear(connection)
    for memory, head in connection.execute(select(memories.c.memory, memories.c.head)).all():
        for first in range(1, head + 1, TURNS_PER_BATCH):
            batch = Span(memory, first, first + TURNS_PER_BATCH - 1)
            inverted_index.add(connection, memory, _terms(connection, batch))


def _unmoved(connection: Connection, view: View) -> tuple[View, Entry, int]:
    now, entry, chunk = take_entry(connection, view.memory)
    if (now.seq, now.key, now.revision) != (view.seq, view.key, view.revision):
        raise HeadMoved(
            f"the log ends at turn {now.seq} (revision {now.revision}), not at turn {view.seq} "
            f"(revision {view.revision}): read it again and retry; nothing was written"
        )
    return now, entry, chunk


def _check_places(entry: Entry, view: View) -> None:
    """Raise `HeadMoved` if turns of a memory may have been renumbered since a view was taken."""
    if entry.revision != view.revision:
        raise HeadMoved(
            f"turns of memory {view.memory} were purged or sorted since it was read: read it again "
            "and retry; nothing was written"
        )


class _End(NamedTuple):
    """Where a log ends."""

    chunk: int
    """The chunk of the last row, 0 for none."""
    last_own: int
    """The seq of the memory's last own row, 0 for none."""


_NUMBERS = Statement(
    select(turns.c.id, turns.c.row).where(
        turns.c.memory == bindparam("of"), OneOf(turns.c.id, bindparam("ids"))
    )
)
_CHUNK = Statement(select(turns.c.chunk).where(turns.c.row == bindparam("newest")))
_INSERT_TURNS = Statement(insert(turns).inline(), " ON CONFLICT (memory, id) DO NOTHING")


def insert_rows(
    connection: Connection,
    entry: Entry,
    seen: Sequence[Span],
    rows: Sequence[Row],
    spec: Spec,
    end: _End | None = None,
) -> None:
    """Write rows and their terms after the spans `seen`, and record them in the memory's entry.

    `end` is where `seen` ends; if None, it is looked up.
    """
    seals = seals_of(connection)
    ids = [row.turn.id or "" for row in rows]
    inherited = [span for span in seen if span.memory != entry.memory]
    for record in with_ids(connection, inherited, ids) if inherited else ():
        raise _taken(record[RECORD_COLUMNS.index("id")])
    if end is None:
        newest = row_number(seen[-1].memory, seen[-1].last) if seen else 0
        chunk = _CHUNK.value(connection, {"newest": newest}) or 0
    else:
        chunk = end.chunk
    columns, terms, form = [], {}, form_of(connection)
    for row in rows:
        chunk = row.seq if row.reading.opens_chunk or not chunk else chunk
        values, terms[row.seq] = encode(entry.memory, row, chunk, spec, seals, form)
        columns.append(values)
    if _INSERT_TURNS.run_many(connection, columns) < len(columns):
        stored = dict(_NUMBERS.rows(connection, {"of": entry.memory, "ids": ids}))
        raise _taken(next(row["id"] for row in columns if stored[row["id"]] != row["row"]))
    inverted_index.add(connection, entry.memory, terms, None if end is None else end.last_own)
    entry.add(seals, [values["seal"] for values in columns])


def _taken(id: str) -> DuplicateTurn:
    return DuplicateTurn(f"the id {id!r} is taken: ids are unique in a memory; nothing was written")


def _terms(connection: Connection, span: Span) -> dict[int, list[str]]:
    """Return the terms of the turns of a span, by seq."""
    return {
        row["seq"]: terms.terms(searched(row["speaker"], row["user"], row["assistant"]))
        for row in read(connection, [span], ["seq", "speaker", "user", "assistant"])
    }
