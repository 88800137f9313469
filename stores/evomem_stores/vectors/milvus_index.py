"""`MilvusIndex`: nearest turns by Milvus, beside a log in any database. See `evomem.store.Index`.

A collection is a copy of the log's embeddings, as index files are; its partition key is the memory.
Milvus and the log have no transaction in common, so that a copy must be such that it cannot be
mistaken: a row carries the revision of the memory that it was copied at, and of one revision there
is only one vector for a seq. Every question names the revision, and the log is asked, before and
after, whether that is the memory's still; rows of older ones are deleted by whoever comes by.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from evomem._extras import require
from evomem.errors import EvomemError, FingerprintMismatch, HeadMoved, StoreError
from evomem.state import Vectors
from evomem.store import Mark, Seqs, Span
from evomem_stores.database.connections import Connections
from evomem_stores.database.tables import done, memories
from evomem_stores.log.store import SqlStore
from evomem_stores.vectors.span_index import SpanIndex

pymilvus = require("pymilvus", extra="milvus")

WINDOW = 16_384  # the most rows that Milvus gives for one question
ANSWER = 2**25  # bytes of vectors in one answer
LISTED = 1024  # the most seqs in one condition
BATCH = 1000  # rows written, or read with their vectors, at once
MARGIN = 16  # rows asked for beyond k, to see that nothing at the k-th place was cut off
KNOWN = 100_000  # memories of which is remembered what was copied
PARTITIONS = 64  # among which Milvus spreads the memories
GRPC = {"grpc.keepalive_time_ms": 300_000}
"""How often gRPC servers let a quiet client ask whether they are there, unless set otherwise.

pymilvus asks every 10 seconds, for which milvus-lite, now and then, ends the connection.
"""


class _Known(NamedTuple):
    """What is known to be in Milvus: a memory's rows up to `seq`."""

    revision: int
    seq: int
    key: bytes | None


class MilvusIndex(SpanIndex):
    """An `Index` in a Milvus server, cluster, or file (milvus-lite). Safe for threads and processes."""

    def __init__(
        self,
        store: SqlStore,
        connections: Connections,
        uri: str | None,
        *,
        token: str | None = None,
        collection: str | None = None,
    ) -> None:
        """Make an index; make the collection if there is none.

        Args:
            store: The log.
            connections: Of that log.
            uri: `"http://host:19530"`, or a file ending in `.db` for milvus-lite.
            token: `"user:password"` or an API key, where the server asks for one.
            collection: Its name; if not given, one that no other log has. A copy of a database that
                is used beside the original needs a collection of its own.

        Raises:
            StoreError: There is no `uri`, or Milvus cannot be reached.
            MissingExtra: pymilvus is not installed.
        """
        if not uri:
            raise StoreError(
                'index="milvus" needs milvus_uri=, such as "http://localhost:19530", or a file '
                'such as "vectors.db" for milvus-lite'
            )
        self._store = store
        self._connections = connections
        self._place = re.sub("//[^/]*@", "//", uri)  # without a password
        self._dim = store.spec.dim
        self._guard = threading.Lock()
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._process = os.getpid()
        with self._translated():
            self._own_client = pymilvus.MilvusClient(uri, token=token or "", grpc_options=GRPC)
        alone = connections.reading if connections.read_only else connections.forgetting
        with alone() as connection:  # one at a time; nobody changes the encoder
            made = connection.scalar(select(done.c.applied).where(done.c.number == 1))
            self._name = collection or f"evomem_{made}"
            with self._translated():
                self._prepare()

    def verify(self) -> list[str]:
        """Compare the copied vectors with the log; being behind is no difference."""
        return [says for says, _ in self._faults()]

    def repair(self) -> list[str]:
        """See `Index.repair`. Vectors that are wrong are replaced; those of forgotten turns removed."""
        repaired = []
        for says, repair in self._faults():
            repair()
            repaired.append(f"repaired: {says}")
        return repaired

    def forget(self, memory: int, connection: Connection | None) -> None:
        """Delete what was copied of rows that a memory lost; warn where that fails.

        Only when the transaction is over: until then, others may search for these rows.
        """
        if connection is not None:
            return
        try:
            self._remove_older(memory, self._store.mark(memory, 0)[0])
        except FingerprintMismatch:  # re-encoded: all is void, and goes as memories are searched
            return
        except EvomemError as error:
            warnings.warn(
                f"vectors of turns that were forgotten stay in Milvus ({error}) until the next "
                "search in this memory, or until `evomem verify --repair`",
                stacklevel=2,
            )

    def close(self) -> None:
        """Close the connection; harmless when repeated, and in a forked child, which has none."""
        if self._process == os.getpid():
            self._own_client.close()

    @property
    def _client(self) -> Any:
        """The connection to Milvus: gRPC's threads do not survive a fork.

        Raises:
            StoreError: This process was forked from the one that connected.
        """
        if self._process != os.getpid():
            raise StoreError(
                f"the connection to Milvus at {self._place} was made before this process was "
                "forked, and cannot be used here: open the database after the fork, in each process"
            )
        return self._own_client

    # asking --------------------------------------------------------------------------------

    def _catch_up(self, span: Span, end: Mark) -> None:
        """See `SpanIndex._catch_up`."""
        if self._caught_up(span.memory, span.last) != end.revision:
            raise HeadMoved(f"memory {span.memory} was rewritten while it was searched")

    def _ask(
        self, span: Span, end: Mark, query: Vectors, k: int, allowed: Seqs | None
    ) -> list[tuple[int, float]]:
        """See `SpanIndex._ask`. Whether Milvus still had all rows is known afterwards (`_check`)."""
        own = _own(span.memory, end.revision)
        if allowed is None:
            return list(self._within(own, span.first, span.last, query, k).items())
        found: dict[int, float] = {}
        inside = allowed[(allowed >= span.first) & (allowed <= span.last)].tolist()
        block = min(LISTED, self._most)
        for start in range(0, len(inside), block):
            some = inside[start : start + block]
            listed = ", ".join(f"{seq:d}" for seq in some)
            found |= self._nearest(f"{own} and seq in [{listed}]", len(some), query, k) or {}
        return list(found.items())

    def _check(self, span: Span, end: Mark) -> None:
        """See `SpanIndex._check`: who rewrites a memory deletes its older rows in Milvus."""
        if self._store.mark(span.memory, 0).revision != end.revision:
            raise HeadMoved(f"memory {span.memory} was rewritten while it was searched")

    def _within(self, own: str, first: int, last: int, query: Vectors, k: int) -> dict[int, float]:
        """Return rows of a range of seqs that the `k` best are among, with their scores."""
        condition = f"{own} and {_between(first, last)}"
        found = self._nearest(condition, last - first + 1, query, k)
        if found is not None:
            return found
        middle = (first + last) // 2
        return {
            **self._within(own, first, middle, query, k),
            **self._within(own, middle + 1, last, query, k),
        }

    def _nearest(
        self, condition: str, size: int, query: Vectors, k: int
    ) -> dict[int, float] | None:
        """Return rows, of the `size` at most that meet the condition, that the `k` best are among.

        None if these are more than Milvus gives at once: `k` is large, or many rows score alike.
        """
        slack = 4 * self._dim * float(np.finfo(np.float32).eps)
        limit = min(k + MARGIN, size)
        while limit <= self._most:
            with self._translated():
                [hits] = self._client.search(
                    self._name,
                    data=[query.tolist()],
                    anns_field="vector",
                    filter=condition,
                    limit=limit,
                    output_fields=["seq", "vector"],
                    search_params={"metric_type": "IP"},
                    consistency_level="Strong",
                )
            # Equal vectors score differently with their place among others: scored again in float64.
            rows = np.array([hit["entity"]["vector"] for hit in hits], np.float32)
            wide = rows.reshape(-1, self._dim).astype(np.float64) * query.astype(np.float64)
            scores: list[float] = wide.sum(axis=1).astype(np.float32).astype(float).tolist()
            if len(hits) < limit or limit == size or scores[-1] < scores[k - 1] - slack:
                seqs = [int(hit["entity"]["seq"]) for hit in hits]
                return dict(zip(seqs, scores, strict=True))
            limit = min(4 * limit, size)
        return None

    @property
    def _most(self) -> int:
        """How many rows may be asked for at once, with their vectors."""
        return min(WINDOW, max(1, ANSWER // (4 * self._dim)))

    # catching up ---------------------------------------------------------------------------

    def _caught_up(self, memory: int, last: int) -> int:
        """See to it that Milvus has a memory's rows up to `last`; return their revision.

        Raises:
            HeadMoved: The memory was rewritten meanwhile, or is not there any more.
        """
        with self._guard:
            known = self._known.get(memory)
        revision, key = self._store.mark(memory, known.seq if known else 0)
        if revision < 0:
            raise HeadMoved(f"memory {memory} was dropped")
        if known is None or (known.revision, known.key) != (revision, key):
            self._remove_older(memory, revision)
            known = _Known(revision, 0, None)
        if known.seq < last:
            for first in range(known.seq + 1, last + 1, WINDOW):
                span = Span(memory, first, min(last, first + WINDOW - 1))
                extra, wrong, missing = self._compared(span, revision)
                self._delete(memory, revision, extra)
                self._copy(memory, revision, sorted(wrong + missing))
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

    def _compared(self, span: Span, revision: int) -> tuple[list[int], list[int], list[int]]:
        """Return the seqs that Milvus has and the log has not, that differ, and that it lacks.

        A row is known to be of the log's by its mark; it was copied together with the vector.
        """
        there = {row["seq"]: row["mark"] for row in self._rows(span, revision, "mark")}
        marks = self._marks(span, revision)
        return (
            [seq for seq in there if seq not in marks],
            [seq for seq in there if seq in marks and there[seq] != marks[seq]],
            [seq for seq in marks if seq not in there],
        )

    def _marks(self, span: Span, revision: int) -> dict[int, int]:
        """Return, for each row of a span, a number that tells its text, its past and its encoder."""
        encoder = self._store.spec.fingerprint.encode()
        found = {}
        for seq, key in self._store.keys(span, revision):
            digest = hashlib.blake2b(key + encoder, digest_size=8).digest()
            found[seq] = int.from_bytes(digest, "big", signed=True)
        return found

    def _vectors(self, span: Span, revision: int) -> dict[int, Vectors]:
        """Return the embeddings of a span's rows by seq."""
        rows = self._store.vectors(span, revision)
        return dict(zip(rows.seqs.tolist(), rows.vectors, strict=True))

    def _copy(self, memory: int, revision: int, seqs: list[int]) -> None:
        """Write rows; those that another process writes at the same time are the same."""
        for start in range(0, len(seqs), BATCH):
            wanted = seqs[start : start + BATCH]
            span = Span(memory, wanted[0], wanted[-1])
            marks = self._marks(span, revision)
            found = self._vectors(span, revision)
            rows = [
                {
                    "id": _id(memory, revision, seq),
                    "memory": memory,
                    "revision": revision,
                    "seq": seq,
                    "mark": marks[seq],
                    "vector": found[seq].tolist(),
                }
                for seq in wanted
            ]
            with self._translated():
                self._client.upsert(self._name, rows)

    def _delete(self, memory: int, revision: int, seqs: list[int]) -> None:
        if seqs:
            with self._translated():
                self._client.delete(self._name, ids=[_id(memory, revision, seq) for seq in seqs])

    def _remove_older(self, memory: int, revision: int) -> None:
        """Delete rows of earlier revisions; all, if `revision` says that the memory is not there."""
        older = f" and revision < {revision:d}" if revision >= 0 else ""
        self._remove(f"memory == {memory:d}{older}")

    def _remove(self, condition: str) -> None:
        with self._translated():
            self._client.delete(self._name, filter=condition)

    def _rows(self, span: Span, revision: int, *fields: str) -> list[dict[str, Any]]:
        """Return what Milvus has of a span, which is no longer than `WINDOW`."""
        with self._translated():
            return list(
                self._client.query(
                    self._name,
                    filter=f"{_own(span.memory, revision)} and {_between(span.first, span.last)}",
                    output_fields=["seq", *fields],
                    limit=WINDOW,
                    consistency_level="Strong",
                )
            )

    # checking ------------------------------------------------------------------------------

    def _faults(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield what is wrong, and what repairs it."""
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

    def _wrong(self, memory: int, revision: int, head: int) -> list[int]:
        """Return the seqs at which Milvus has another vector than the log, or the log has none."""
        found = []
        for first in range(1, head + 1, BATCH):
            span = Span(memory, first, min(head, first + BATCH - 1))
            rows = self._rows(span, revision, "mark", "vector")
            if not rows:
                continue
            marks = self._marks(span, revision)
            vectors = self._vectors(span, revision)
            found += [
                row["seq"]
                for row in rows
                if marks.get(row["seq"]) != row["mark"]
                or not np.array_equal(np.array(row["vector"], np.float32), vectors[row["seq"]])
            ]
        return sorted(found)

    def _left(self, condition: str, whose: str) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield that there are vectors of turns that were forgotten, if so."""
        with self._translated():
            [row] = self._client.query(
                self._name,
                filter=condition,
                output_fields=["count(*)"],
                consistency_level="Strong",
            )
        if count := row["count(*)"]:
            says = f"Milvus has {count} vectors of forgotten turns of {whose} still"
            yield says, partial(self._remove, condition)

    def _replace(self, memory: int, revision: int, wrong: list[int]) -> None:
        there = {seq for seq, _ in self._store.keys(Span(memory, wrong[0], wrong[-1]), revision)}
        self._delete(memory, revision, [seq for seq in wrong if seq not in there])
        self._copy(memory, revision, [seq for seq in wrong if seq in there])

    # ---------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Make the collection, unless there is one for vectors of this length."""
        client, kinds = self._client, pymilvus.DataType
        if client.has_collection(self._name):
            fields = client.describe_collection(self._name)["fields"]
            dims = [field["params"].get("dim") for field in fields if field["name"] == "vector"]
            if [int(dim) for dim in dims if dim] == [self._dim]:
                client.load_collection(self._name)
                return
            client.drop_collection(self._name)  # the database was re-encoded: the copy is void
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("memory", kinds.INT64, is_partition_key=True)
        for name in ("revision", "seq", "mark"):
            schema.add_field(name, kinds.INT64)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=self._dim)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")  # exact
        client.create_collection(
            self._name,
            schema=schema,
            index_params=index,
            num_partitions=PARTITIONS,
            consistency_level="Strong",
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what pymilvus raises into an error of ours."""
        try:
            yield
        except pymilvus.MilvusException as error:
            raise StoreError(
                f"Milvus at {self._place}: {error.message}; the log is not touched by this: try "
                'again, or open with index="faiss" meanwhile'
            ) from error


def _own(memory: int, revision: int) -> str:
    return f"memory == {memory:d} and revision == {revision:d}"


def _between(first: int, last: int) -> str:
    return f"seq >= {first:d} and seq <= {last:d}"


def _id(memory: int, revision: int, seq: int) -> str:
    return f"{memory:d}.{revision:d}.{seq:d}"
