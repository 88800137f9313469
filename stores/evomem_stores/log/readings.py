"""Encoder results in rows: the state at the end of a view, and the embeddings of a span."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from sqlalchemy import Connection, bindparam, func, select

from evomem.errors import DatabaseDamaged, HeadMoved
from evomem.records import Turn
from evomem.rows import Rows
from evomem.state import KEY_BYTES, Spec, State
from evomem.store import Embeddings, Span, View
from evomem_stores.database.compiled import Statement
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import memories, row_number, turns, within
from evomem_stores.log.lookup import read
from evomem_stores.log.rows import (
    READING_COLUMNS,
    RECORD_COLUMNS,
    decode_latents,
    decode_record,
    embedding_count,
    unpack_embeddings,
    unpack_many,
)


def state(connection: Connection, view: View, spec: Spec) -> State[Turn]:
    """Rebuild the state at the end of a view that has rows."""
    newest = row_number(view.spans[-1].memory, view.spans[-1].last)
    chunk = connection.scalar(select(turns.c.chunk).where(turns.c.row == newest))
    if chunk is None:
        raise HeadMoved("the memory was rewritten while it was being read; try again")
    rows = read(connection, view.spans, RECORD_COLUMNS, after=chunk - 1)
    seals = seals_of(connection)
    open_turns = tuple(decode_record(row, seals).turn for row in rows)
    queue = -(-spec.capacity // spec.latents) if spec.latents else -len(open_turns)
    rows = read(
        connection,
        view.spans,
        READING_COLUMNS,
        limit=queue + len(open_turns),  # rows, not seqs: a purge leaves gaps
        newest_first=True,
    )
    parts = [decode_latents(row, spec, seals) for row in rows]
    latents = np.concatenate([np.zeros((0, spec.width), np.float32), *reversed(parts)])
    keep = spec.capacity + len(open_turns) * spec.latents
    return State(spec, view.key, latents[max(0, len(latents) - keep) :], open_turns)


_EMBEDDINGS = Statement(
    select(turns.c.seq, turns.c.embedding, turns.c.key)
    .where(turns.c.row.between(bindparam("first"), bindparam("last")))
    .order_by(turns.c.row)
)


def embeddings(connection: Connection, span: Span, revision: int, spec: Spec) -> Embeddings:
    """Return the embeddings of a span's rows (`Store.vectors`)."""
    _check_revision(connection, span.memory, revision)
    first, last = (row_number(span.memory, seq) for seq in (span.first, span.last))
    rows = _EMBEDDINGS.rows(connection, {"first": first, "last": last})
    if not rows:
        return Embeddings(np.zeros(0, np.int64), Rows.joined([], spec.dim), [])
    numbers, blobs, keys = zip(*rows, strict=True)
    seqs = np.array(numbers, np.int64)
    with suppress(ValueError, TypeError):  # fast path; if it fails, decode row by row
        if set(map(len, keys)) == {KEY_BYTES}:
            return Embeddings(seqs, unpack_many(blobs, spec.dim), list(keys))
    parts = []
    for seq, blob, key in rows:
        try:
            parts.append(unpack_embeddings(blob, spec.dim))
            if len(key) != KEY_BYTES:
                raise ValueError(f"its key has {len(key)} bytes")
        except (ValueError, TypeError) as error:
            raise DatabaseDamaged(
                f"the embedding of turn {seq} of memory {span.memory} cannot be read "
                f"({error}): run verify, and restore the database from a backup"
            ) from error
    sizes = [len(part) for part in parts]
    repeated = [key for key, size in zip(keys, sizes, strict=True) for _ in range(size)]
    return Embeddings(np.repeat(seqs, sizes), Rows.joined(parts, spec.dim), repeated)


def keys(
    connection: Connection, span: Span, revision: int, spec: Spec
) -> list[tuple[int, bytes, int]]:
    """Return (seq, key, number of embeddings) of a span's rows, ascending."""
    size = func.length(turns.c.embedding).label("size")
    query = select(turns.c.seq, turns.c.key, size).where(within(span)).order_by(turns.c.row)
    _check_revision(connection, span.memory, revision)
    return [
        (row.seq, row.key, embedding_count(row.size, spec.dim)) for row in connection.execute(query)
    ]


_REVISION = Statement(select(memories.c.revision).where(memories.c.memory == bindparam("number")))


def _check_revision(connection: Connection, memory: int, revision: int) -> None:
    now = _REVISION.value(connection, {"number": memory})
    if now != revision:
        raise HeadMoved(f"memory {memory} is at revision {now}, not {revision}")
