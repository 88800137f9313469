"""`MilvusCopy`: the log's embeddings in Milvus, kept equal to the log."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import select

from evomem.errors import HeadMoved
from evomem.state import Vectors
from evomem.store import Span
from evomem_stores.database.connections import Connections
from evomem_stores.database.tables import memories
from evomem_stores.log.store import SqlLog
from evomem_stores.vectors.milvus_collection import (
    LISTED,
    WINDOW,
    MilvusCollection,
    between,
    of_revision,
)

BATCH = 1000  # rows written, or read with their vectors, at once
KNOWN = 100_000  # memories of which is remembered what was copied


class _Known(NamedTuple):
    """The part of a memory that is known to be in Milvus: its rows up to `seq`."""

    revision: int
    seq: int
    key: bytes | None


class _Marked(NamedTuple):
    """Which turn a row is of, and a number that tells its text, its past and its encoder."""

    seq: int
    mark: int


class MilvusCopy:
    """The copy of the log in a collection; brings it up to date, checks it, and repairs it."""

    def __init__(
        self, store: SqlLog, connections: Connections, collection: MilvusCollection
    ) -> None:
        self._store = store
        self._connections = connections
        self._collection = collection
        self._guard = threading.Lock()
        self._known: OrderedDict[int, _Known] = OrderedDict()

    def catch_up(self, memory: int, last: int) -> int:
        """Ensure that Milvus has a memory's rows up to `last`; return their revision.

        Raises:
            HeadMoved: The memory was rewritten meanwhile, or is not there any more.
        """
        with self._guard:
            known = self._known.get(memory)
        revision, key = self._store.mark(memory, known.seq if known else 0)
        if revision < 0:
            raise HeadMoved(f"memory {memory} was dropped")
        if known is None or (known.revision, known.key) != (revision, key):
            self.remove_older(memory, revision)
            known = _Known(revision, 0, None)
        if known.seq < last:
            for span in self._pieces(Span(memory, known.seq + 1, last), revision, WINDOW):
                extra, wrong, missing = self._compared(span, revision)
                self._delete(extra)
                self._copy(memory, revision, sorted({*wrong, *missing}))
            now, key = self._store.mark(memory, last)
            if now != revision:
                raise HeadMoved(f"memory {memory} was rewritten while it was copied")
            known = _Known(revision, last, key)
        with self._guard:
            self._known[memory] = known
            self._known.move_to_end(memory)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return revision

    def _pieces(self, span: Span, revision: int, most: int) -> Iterator[Span]:
        """Divide a span into parts that have `most` rows in Milvus, at most, or one turn."""
        for first in range(span.first, span.last + 1, most):
            last = min(span.last, first + most - 1)
            rows = 0
            for seq, _, size in self._store.keys(Span(span.memory, first, last), revision):
                if rows and rows + size > most:
                    yield Span(span.memory, first, seq - 1)
                    first, rows = seq, 0
                rows += size
            yield Span(span.memory, first, last)

    def _compared(self, span: Span, revision: int) -> tuple[list[str], list[int], list[int]]:
        """Return the ids that Milvus has and the log has not, and the seqs that differ or it lacks.

        A row is known to be of the log's by its mark; it was copied together with the vector.
        """
        there = {row["id"]: row["mark"] for row in self._rows(span, revision, "id", "mark")}
        marks = self._marks(span, revision)
        return (
            [id for id in there if id not in marks],
            [marks[id].seq for id in there if id in marks and there[id] != marks[id].mark],
            [marks[id].seq for id in marks if id not in there],
        )

    def _marks(self, span: Span, revision: int) -> dict[str, _Marked]:
        """Return the rows that Milvus should have of a span, by their ids."""
        encoder = self._store.spec.fingerprint.encode()
        marks = {}
        for seq, key, size in self._store.keys(span, revision):
            digest = hashlib.blake2b(key + encoder, digest_size=8).digest()
            marked = _Marked(seq, int.from_bytes(digest, "big", signed=True))
            marks.update({_id(span.memory, revision, seq, n): marked for n in range(size)})
        return marks

    def _vectors(self, span: Span, revision: int) -> dict[str, Vectors]:
        """Return the embeddings of a span's rows by their ids in Milvus."""
        rows = self._store.vectors(span, revision)
        seqs = rows.seqs.tolist()
        passages = [n for size in Counter(seqs).values() for n in range(size)]
        ids = (_id(span.memory, revision, seq, n) for seq, n in zip(seqs, passages, strict=True))
        return dict(zip(ids, rows.vectors, strict=True))

    def _copy(self, memory: int, revision: int, seqs: list[int]) -> None:
        """Write rows; those that another process writes at the same time are the same."""
        if not seqs:
            return
        wanted = set(seqs)
        for span in self._pieces(Span(memory, seqs[0], seqs[-1]), revision, BATCH):
            if wanted.isdisjoint(range(span.first, span.last + 1)):
                continue
            vectors = self._vectors(span, revision)
            rows = [
                {
                    "id": id,
                    "memory": memory,
                    "revision": revision,
                    "seq": seq,
                    "mark": mark,
                    "vector": vectors[id].tolist(),
                }
                for id, (seq, mark) in self._marks(span, revision).items()
                if seq in wanted
            ]
            with self._collection.translated():
                self._collection.client.upsert(self._collection.name, rows)

    def _delete(self, ids: list[str]) -> None:
        if ids:
            with self._collection.translated():
                self._collection.client.delete(self._collection.name, ids=ids)

    def remove_older(self, memory: int, revision: int) -> None:
        """Delete rows of earlier revisions; all, if `revision` says that the memory is not there."""
        older = f" and revision < {revision:d}" if revision >= 0 else ""
        self._remove(f"memory == {memory:d}{older}")

    def _remove(self, condition: str) -> None:
        with self._collection.translated():
            self._collection.client.delete(self._collection.name, filter=condition)

    def _rows(self, span: Span, revision: int, *fields: str) -> list[dict[str, Any]]:
        """Return what Milvus has of a span, which is no longer than `WINDOW`."""
        with self._collection.translated():
            return list(
                self._collection.client.query(
                    self._collection.name,
                    filter=f"{of_revision(span.memory, revision)} and {between(span.first, span.last)}",
                    output_fields=["seq", *fields],
                    limit=WINDOW,
                    consistency_level="Strong",
                )
            )

    # checking ------------------------------------------------------------------------------

    def faults(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield faults, each with its repair."""
        with self._connections.reading() as connection:
            query = select(memories.c.memory, memories.c.revision, memories.c.head)
            there = connection.execute(query.order_by(memories.c.memory)).all()
        for memory, revision, head in there:
            try:
                wrong = self._wrong(memory, revision, head)
            except HeadMoved:  # rewritten meanwhile, by a process that saw to its vectors
                continue
            if wrong:
                says = (
                    f"{len(wrong)} vectors of memory {memory} in Milvus do not agree with the log"
                )
                yield says, partial(self._replace, memory, revision, wrong)
            older = f"memory == {memory:d} and revision < {revision:d}"
            yield from self._left(older, f"memory {memory}")
        numbers = {row.memory for row in there}
        gone = [number for number in range(1, max(numbers, default=0)) if number not in numbers]
        for start in range(0, len(gone), LISTED):
            listed = ", ".join(f"{number:d}" for number in gone[start : start + LISTED])
            yield from self._left(f"memory in [{listed}]", "dropped memories")

    def _wrong(self, memory: int, revision: int, head: int) -> dict[str, int]:
        """Return the rows that Milvus has of another vector than the log, or the log has not.

        Their ids, each with its seq.
        """
        wrong = {}
        for span in self._pieces(Span(memory, 1, head), revision, BATCH):
            rows = self._rows(span, revision, "id", "mark", "vector")
            if not rows:
                continue
            marks = self._marks(span, revision)
            vectors = self._vectors(span, revision)
            wrong.update(
                {
                    row["id"]: row["seq"]
                    for row in rows
                    if marks.get(row["id"]) != (row["seq"], row["mark"])
                    or not np.array_equal(np.array(row["vector"], np.float32), vectors[row["id"]])
                }
            )
        return wrong

    def _left(self, condition: str, whose: str) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield that there are vectors of turns that were forgotten, if so."""
        with self._collection.translated():
            [row] = self._collection.client.query(
                self._collection.name,
                filter=condition,
                output_fields=["count(*)"],
                consistency_level="Strong",
            )
        if count := row["count(*)"]:
            says = f"Milvus has {count} vectors of forgotten turns of {whose} still"
            yield says, partial(self._remove, condition)

    def _replace(self, memory: int, revision: int, wrong: dict[str, int]) -> None:
        seqs = sorted(set(wrong.values()))
        marks = self._marks(Span(memory, seqs[0], seqs[-1]), revision)
        self._delete([id for id in wrong if id not in marks])
        self._copy(memory, revision, seqs)


def _id(memory: int, revision: int, seq: int, passage: int) -> str:
    """Return the primary key of a row; of a turn's first one it does not name the passage."""
    return f"{memory:d}.{revision:d}.{seq:d}" + (f".{passage:d}" if passage else "")
