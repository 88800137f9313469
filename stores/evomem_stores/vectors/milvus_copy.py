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
    MAX_LISTED_SEQS,
    MAX_RESULTS,
    MilvusCollection,
    between,
    of_revision,
)

BATCH = 1000  # rows per write, or per read with vectors
MAX_KNOWN = 100_000  # memories whose copied part is remembered


class _Known(NamedTuple):
    """The rows of a memory, up to `seq`, that are known to be in Milvus."""

    revision: int
    seq: int
    key: bytes | None


class _Marked(NamedTuple):
    """The turn of a row, and a digest of its key (its text and all turns before it) and its encoder."""

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
            HeadMoved: The memory was rewritten during the copy, or was dropped.
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
            for span in self._pieces(Span(memory, known.seq + 1, last), revision, MAX_RESULTS):
                extra, mismatched, missing = self._compared(span, revision)
                self._delete(extra)
                self._copy(memory, revision, sorted({*mismatched, *missing}))
            now, key = self._store.mark(memory, last)
            if now != revision:
                raise HeadMoved(f"memory {memory} was rewritten while it was copied")
            known = _Known(revision, last, key)
        with self._guard:
            self._known[memory] = known
            self._known.move_to_end(memory)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return revision

    def _pieces(self, span: Span, revision: int, max_rows: int) -> Iterator[Span]:
        """Divide a span into parts of at max_rows `max_rows` rows in Milvus, or of one turn."""
        for first in range(span.first, span.last + 1, max_rows):
            last = min(span.last, first + max_rows - 1)
            rows = 0
            for seq, _, size in self._store.keys(Span(span.memory, first, last), revision):
                if rows and rows + size > max_rows:
                    yield Span(span.memory, first, seq - 1)
                    first, rows = seq, 0
                rows += size
            yield Span(span.memory, first, last)

    def _compared(self, span: Span, revision: int) -> tuple[list[str], list[int], list[int]]:
        """Return ids that only Milvus has, seqs whose rows differ, and seqs that Milvus lacks.

        Rows are compared by their marks, which were written together with the vectors.
        """
        stored = {row["id"]: row["mark"] for row in self._rows(span, revision, "id", "mark")}
        marks = self._marks(span, revision)
        return (
            [id for id in stored if id not in marks],
            [marks[id].seq for id in stored if id in marks and stored[id] != marks[id].mark],
            [marks[id].seq for id in marks if id not in stored],
        )

    def _marks(self, span: Span, revision: int) -> dict[str, _Marked]:
        """Return the marks of the rows that Milvus should have for a span, by their ids."""
        encoder = self._store.spec.fingerprint.encode()
        marks = {}
        for seq, key, size in self._store.keys(span, revision):
            digest = hashlib.blake2b(key + encoder, digest_size=8).digest()
            marked = _Marked(seq, int.from_bytes(digest, "big", signed=True))
            marks.update({_id(span.memory, revision, seq, n): marked for n in range(size)})
        return marks

    def _vectors(self, span: Span, revision: int) -> dict[str, Vectors]:
        """Return the embeddings of a span's rows, by their ids in Milvus."""
        rows = self._store.vectors(span, revision)
        seqs = rows.seqs.tolist()
        passages = [n for size in Counter(seqs).values() for n in range(size)]
        ids = (_id(span.memory, revision, seq, n) for seq, n in zip(seqs, passages, strict=True))
        return dict(zip(ids, rows.vectors, strict=True))

    def _copy(self, memory: int, revision: int, seqs: list[int]) -> None:
        """Write rows; another process that writes them at the same time writes the same."""
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
        """Delete rows of earlier revisions; all rows if `revision` is negative (a dropped memory)."""
        older = f" and revision < {revision:d}" if revision >= 0 else ""
        self._remove(f"memory == {memory:d}{older}")

    def _remove(self, condition: str) -> None:
        with self._collection.translated():
            self._collection.client.delete(self._collection.name, filter=condition)

    def _rows(self, span: Span, revision: int, *fields: str) -> list[dict[str, Any]]:
        """Return the rows that Milvus has for a span of at most `MAX_RESULTS` rows."""
        with self._collection.translated():
            return list(
                self._collection.client.query(
                    self._collection.name,
                    filter=f"{of_revision(span.memory, revision)} and {between(span.first, span.last)}",
                    output_fields=["seq", *fields],
                    limit=MAX_RESULTS,
                    consistency_level="Strong",
                )
            )

    # checking ------------------------------------------------------------------------------

    def faults(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield faults, each with its repair."""
        with self._connections.reading() as connection:
            query = select(memories.c.memory, memories.c.revision, memories.c.head)
            entries = connection.execute(query.order_by(memories.c.memory)).all()
        for memory, revision, head in entries:
            try:
                mismatched = self._mismatched(memory, revision, head)
            except HeadMoved:  # rewritten by a process that replaces the vectors too
                continue
            if mismatched:
                fault = f"{len(mismatched)} vectors of memory {memory} in Milvus do not agree with the log"
                yield fault, partial(self._replace, memory, revision, mismatched)
            older = f"memory == {memory:d} and revision < {revision:d}"
            yield from self._leftovers(older, f"memory {memory}")
        numbers = {row.memory for row in entries}
        dropped = [number for number in range(1, max(numbers, default=0)) if number not in numbers]
        for start in range(0, len(dropped), MAX_LISTED_SEQS):
            listed = ", ".join(f"{number:d}" for number in dropped[start : start + MAX_LISTED_SEQS])
            yield from self._leftovers(f"memory in [{listed}]", "dropped memories")

    def _mismatched(self, memory: int, revision: int, head: int) -> dict[str, int]:
        """Return the rows in Milvus whose vectors differ from the log, or that the log lacks.

        By id; the values are their seqs.
        """
        mismatched = {}
        for span in self._pieces(Span(memory, 1, head), revision, BATCH):
            rows = self._rows(span, revision, "id", "mark", "vector")
            if not rows:
                continue
            marks = self._marks(span, revision)
            vectors = self._vectors(span, revision)
            mismatched.update(
                {
                    row["id"]: row["seq"]
                    for row in rows
                    if marks.get(row["id"]) != (row["seq"], row["mark"])
                    or not np.array_equal(np.array(row["vector"], np.float32), vectors[row["id"]])
                }
            )
        return mismatched

    def _leftovers(self, condition: str, whose: str) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield a fault if vectors of forgotten turns meet the condition."""
        with self._collection.translated():
            [row] = self._collection.client.query(
                self._collection.name,
                filter=condition,
                output_fields=["count(*)"],
                consistency_level="Strong",
            )
        if count := row["count(*)"]:
            fault = f"Milvus still has {count} vectors of forgotten turns of {whose}"
            yield fault, partial(self._remove, condition)

    def _replace(self, memory: int, revision: int, mismatched: dict[str, int]) -> None:
        seqs = sorted(set(mismatched.values()))
        marks = self._marks(Span(memory, seqs[0], seqs[-1]), revision)
        self._delete([id for id in mismatched if id not in marks])
        self._copy(memory, revision, seqs)


def _id(memory: int, revision: int, seq: int, passage: int) -> str:
    """Return the primary key of a row; a turn's first row has no passage number in it."""
    return f"{memory:d}.{revision:d}.{seq:d}" + (f".{passage:d}" if passage else "")
