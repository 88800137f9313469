"""`MilvusIndex`: nearest turns by Milvus, beside a log in any database. See `evomem.store.Index`.

A collection is a copy of the log's embeddings, as index files are; its partition key is the memory.
Milvus and the log have no transaction in common, so that a copy must be such that it cannot be
mistaken: a row carries the revision of the memory that it was copied at, and of one revision there
is only one vector for a seq, or for each passage of a turn. Every question names the revision, and the log is asked, before and
after, whether that is the memory's still; rows of older ones are deleted by whoever comes by.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from evomem._extras import require
from evomem.errors import EvomemError, FingerprintMismatch, HeadMoved, StoreError
from evomem.state import Vectors
from evomem.store import Mark, Selection, Span
from evomem_stores.database.connections import Connections
from evomem_stores.database.tables import done, memories
from evomem_stores.log.store import SqlLog
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


class _Marked(NamedTuple):
    """Which turn a row is of, and a number that tells its text, its past and its encoder."""

    seq: int
    mark: int


class MilvusIndex(SpanIndex):
    """An `Index` in a Milvus server, cluster, or file (milvus-lite). Safe for threads and processes."""

    def __init__(
        self,
        store: SqlLog,
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
        self, span: Span, end: Mark, query: Vectors, k: int, chosen: Selection
    ) -> list[tuple[int, float]]:
        """See `SpanIndex._ask`. Whether Milvus still had all rows is known afterwards (`_check`)."""
        own = _own(span.memory, end.revision)
        allowed = chosen.allowed
        if allowed is None:
            inside = range(span.first, span.last + 1)
            without = () if chosen.without is None else chosen.without.tolist()
            return list(self._among(own, inside, query, k, frozenset(without)).items())
        found: dict[int, float] = {}
        listed = allowed[(allowed >= span.first) & (allowed <= span.last)].tolist()
        for start in range(0, len(listed), LISTED):
            found |= self._among(own, listed[start : start + LISTED], query, k)
        return list(found.items())

    def _check(self, span: Span, end: Mark) -> None:
        """See `SpanIndex._check`: who rewrites a memory deletes its older rows in Milvus."""
        if self._store.mark(span.memory, 0).revision != end.revision:
            raise HeadMoved(f"memory {span.memory} was rewritten while it was searched")

    def _among(
        self,
        own: str,
        seqs: range | list[int],
        query: Vectors,
        k: int,
        without: Collection[int] = frozenset(),
    ) -> dict[int, float]:
        """Return the scores of turns that the `k` best of `seqs` are among, but for those `without`.

        These are asked for as all others are: a condition that lists them costs more than some
        additional rows.
        """
        if isinstance(seqs, range):
            condition = f"{own} and {_between(seqs[0], seqs[-1])}"
        else:
            condition = f"{own} and seq in [{', '.join(f'{seq:d}' for seq in seqs)}]"
        k = min(k, len(seqs))
        found = self._nearest(condition, query, k, without, alone=len(seqs) == 1)
        if found is not None:
            return found
        half = len(seqs) // 2
        halves = [self._among(own, each, query, k, without) for each in (seqs[:half], seqs[half:])]
        return halves[0] | halves[1]

    def _nearest(
        self, condition: str, query: Vectors, k: int, without: Collection[int], *, alone: bool
    ) -> dict[int, float] | None:
        """Return the scores of turns that the `k` best of those that meet a condition are among.

        None if these have more rows than Milvus gives at once: `k` is large, or many rows score
        alike, or are passages of few turns. If only one turn meets the condition, it is `alone`.
        """
        slack = 4 * self._dim * float(np.finfo(np.float32).eps)
        limit = min(k + MARGIN, self._most)
        while True:
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
            best: dict[int, float] = {}
            for hit, score in zip(hits, scores, strict=True):
                seq = int(hit["entity"]["seq"])
                if seq not in without:
                    best[seq] = max(score, best.get(seq, score))
            ranked = sorted(best.values(), reverse=True)
            told = len(ranked) >= k and ranked[k - 1] > scores[-1] + slack
            if len(hits) < limit or alone or told:
                return best
            if limit == self._most:
                return None
            limit = min(4 * limit, self._most)

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
        found = {}
        for seq, key, size in self._store.keys(span, revision):
            digest = hashlib.blake2b(key + encoder, digest_size=8).digest()
            marked = _Marked(seq, int.from_bytes(digest, "big", signed=True))
            found.update({_id(span.memory, revision, seq, n): marked for n in range(size)})
        return found

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
            with self._translated():
                self._client.upsert(self._name, rows)

    def _delete(self, ids: list[str]) -> None:
        if ids:
            with self._translated():
                self._client.delete(self._name, ids=ids)

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

    def _wrong(self, memory: int, revision: int, head: int) -> dict[str, int]:
        """Return the rows that Milvus has of another vector than the log, or the log has not.

        Their ids, each with its seq.
        """
        found = {}
        for span in self._pieces(Span(memory, 1, head), revision, BATCH):
            rows = self._rows(span, revision, "id", "mark", "vector")
            if not rows:
                continue
            marks = self._marks(span, revision)
            vectors = self._vectors(span, revision)
            found.update(
                {
                    row["id"]: row["seq"]
                    for row in rows
                    if marks.get(row["id"]) != (row["seq"], row["mark"])
                    or not np.array_equal(np.array(row["vector"], np.float32), vectors[row["id"]])
                }
            )
        return found

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

    def _replace(self, memory: int, revision: int, wrong: dict[str, int]) -> None:
        seqs = sorted(set(wrong.values()))
        marks = self._marks(Span(memory, seqs[0], seqs[-1]), revision)
        self._delete([id for id in wrong if id not in marks])
        self._copy(memory, revision, seqs)

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


def _id(memory: int, revision: int, seq: int, passage: int) -> str:
    """Return the primary key of a row; of a turn's first one it does not name the passage."""
    return f"{memory:d}.{revision:d}.{seq:d}" + (f".{passage:d}" if passage else "")
