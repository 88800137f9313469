"""`PgvectorIndex`: an `evomem.store.Index` with pgvector, in the log's database.

The table `vectors` is a copy of the log's embeddings, like an index file: one row per turn, or per
passage of a turn, counted from 0. A search of a memory fills it, and checks in its transaction that
it matches the log's rows. All processes share this copy, and keep no vectors themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import Connection

from evomem.errors import HeadMoved, StoreError
from evomem.state import Vectors
from evomem.store import Mark, Selection, Seqs, Span
from evomem_stores.database.connections import Connections, driver
from evomem_stores.log.rows import unpack_embeddings
from evomem_stores.log.store import SqlLog
from evomem_stores.vectors.span_index import SpanIndex

BATCH = 1000  # turns copied per transaction
ROWS_PER_HIT = 4  # requested of HNSW if the nearest rows are passages of few turns
MAX_DIM = 2000  # of an HNSW index over float32; longer vectors are indexed as float16
MAX_HALF_DIM = 4000  # of an HNSW index over float16
MAX_EF = 1000  # the largest hnsw.ef_search; a greater k is searched exactly

_OUTDATED = """
    SELECT to_regclass('vectors') IS NOT NULL AND count(*) < 2 FROM pg_attribute
    WHERE attrelid = to_regclass('vectors')
    AND (attname = 'passage' OR attname = 'embedding' AND atttypmod = %s)"""
"""Whether the copy was made with another encoder, or by a version without passages."""
_STATE = """
    SELECT coalesce(memories.revision = copied.revision, false), coalesce(copied.seq, 0),
        coalesce(copied.rows, 0), copied.hnsw
    FROM memories LEFT JOIN copied USING (memory) WHERE memory = %s"""
_NEW = """
    SELECT seq, embedding FROM turns WHERE memory = %s AND seq > %s ORDER BY seq LIMIT %s"""
_COPIED = """
    INSERT INTO copied (memory, revision, seq, rows)
    SELECT memory, revision, %(seq)s, %(rows)s FROM memories WHERE memory = %(memory)s
    ON CONFLICT (memory) DO UPDATE
    SET revision = excluded.revision, seq = excluded.seq, rows = excluded.rows"""


class PgvectorIndex(SpanIndex):
    """An `Index` in the schema of the log. Safe to use from many threads and processes."""

    def __init__(
        self, store: SqlLog, connections: Connections, *, hnsw_rows: int | None = None
    ) -> None:
        """Create an index.

        Args:
            store: The log.
            connections: Of that log.
            hnsw_rows: The number of rows from which a memory gets an HNSW index. Searches without
                filters are then approximate, except in views of fewer rows. None: all searches are
                exact.

        Raises:
            StoreError: The server has no pgvector, or this user may not install it.
        """
        self._store = store
        self._connections = connections
        self._hnsw_rows = hnsw_rows
        self._dim = store.spec.dim
        if hnsw_rows is not None and self._dim > MAX_HALF_DIM:
            raise StoreError(
                f"pgvector indexes vectors of up to {MAX_HALF_DIM} numbers, the encoder "
                f"{store.spec.name!r} gives {self._dim}: leave hnsw_rows= out, or use another index"
            )
        with connections.forgetting() as connection:  # so that no process changes the encoder
            execute = driver(connection).execute
            # All schemas share the extension: creating it twice at the same time would fail.
            execute("SELECT pg_advisory_xact_lock(hashtextextended('evomem extension', 0))")
            execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
            [extension_schema] = execute(
                "SELECT quote_ident(nspname) FROM pg_extension "
                "JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"
            ).fetchone()
            self._extension_schema = str(extension_schema)
            [outdated] = execute(_OUTDATED, [self._dim]).fetchone()
            if outdated:
                execute("DROP TABLE vectors, copied")
            execute(
                f"CREATE TABLE IF NOT EXISTS vectors (memory BIGINT, seq BIGINT, passage INTEGER, "
                f"embedding {extension_schema}.vector({self._dim}) NOT NULL, "
                "PRIMARY KEY (memory, seq, passage))"
            )
            execute(
                "CREATE TABLE IF NOT EXISTS copied (memory BIGINT PRIMARY KEY, revision BIGINT "
                "NOT NULL, seq BIGINT NOT NULL, rows BIGINT NOT NULL, hnsw BOOLEAN NOT NULL "
                "DEFAULT false)"
            )

    def verify(self) -> list[str]:
        """Compare the copied vectors with the log; missing new rows are not reported."""
        return [
            f"the vectors of memory {memory} differ from the log" for memory in self._mismatched()
        ]

    def repair(self) -> list[str]:
        """See `Index.repair`."""
        wrong = list(self._mismatched())
        for memory in wrong:
            with self._connections.writing(memory) as connection:
                _clear(connection, memory)
        return [f"the vectors of memory {memory} were removed" for memory in wrong]

    def close(self) -> None:
        """Do nothing: everything is in the database."""

    # ---------------------------------------------------------------------------------------

    def _mismatched(self) -> Iterator[int]:
        """Yield the memories whose copy differs from the log."""
        with self._connections.reading() as connection:
            rows = driver(connection).execute(
                "SELECT memory, copied.seq, revision FROM copied JOIN memories "
                "USING (memory, revision) ORDER BY memory"
            )
            memories = rows.fetchall()
        for memory, last, revision in memories:
            span = Span(memory, 1, last)
            with self._connections.reading() as connection:
                seqs, vectors = self._copied(connection, span)
            in_log = self._store.vectors(span, revision)
            same = np.array_equal(seqs, in_log.seqs)
            if not (same and np.array_equal(vectors, in_log.vectors)):
                yield memory

    def _search_span(
        self, span: Span, end: Mark, query: Vectors, k: int, chosen: Selection
    ) -> list[tuple[int, float]]:
        """See `SpanIndex._search_span`: the search is in the same transaction as the check of the copy."""
        with self._connections.reading() as connection:
            current, seq, _, hnsw = self._state(connection, span.memory)
            if not (current and seq >= span.last):
                raise HeadMoved(f"memory {span.memory} was rewritten while it was searched")
            if hnsw and chosen.allowed is None and self._is_large(span, k):
                for rows in (k, ROWS_PER_HIT * k):
                    hits = self._approximate(connection, span, query, k, rows, chosen)
                    if len(hits) == k:
                        return hits
                # The scan stopped before it reached k turns of the span.
            return self._exact(connection, span, query, k, chosen)

    def _check_current(self, span: Span, end: Mark) -> None:
        """Do nothing: the answers come from the log's snapshot."""

    def _is_large(self, span: Span, k: int) -> bool:
        """Return whether a span is large enough for an approximate search.

        The HNSW index covers all rows of the memory. The smaller the span, the is_behind rows outside it
        a scan visits, until it stops.
        """
        size = span.last - span.first + 1
        return self._hnsw_rows is not None and size >= self._hnsw_rows and k <= MAX_EF // 2

    def _exact(
        self, connection: Connection, span: Span, query: Vectors, k: int, chosen: Selection
    ) -> list[tuple[int, float]]:
        condition, listed = _condition(chosen)
        return self._rows(
            connection,
            f"SELECT seq, max(-({self._product})) AS score FROM vectors "
            f"WHERE memory = %s AND seq BETWEEN %s AND %s {condition}GROUP BY seq "
            "ORDER BY score DESC, seq DESC LIMIT %s",
            [query.tolist(), *span, *listed, k],
        )

    def _approximate(
        self,
        connection: Connection,
        span: Span,
        query: Vectors,
        k: int,
        rows: int,
        chosen: Selection,
    ) -> list[tuple[int, float]]:
        """Return at most `k` turns of the nearest `rows` rows."""
        # The iterative scan skips rows outside the view. Sorting is disabled because the planner,
        # without statistics on this memory, would read and sort all of its rows.
        driver(connection).execute(
            f"SET LOCAL hnsw.ef_search = {min(MAX_EF, max(40, 2 * rows))}; "
            "SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL enable_sort = off"
        )
        condition, listed = _condition(chosen)
        return self._rows(
            connection,
            f"SELECT seq, max(-({self._product})) AS score FROM ("
            f"SELECT seq, embedding FROM vectors WHERE memory = {span.memory:d} "  # see _build
            f"AND seq BETWEEN %s AND %s {condition}ORDER BY {self._indexed_product} LIMIT %s"
            ") AS near GROUP BY seq ORDER BY score DESC, seq DESC LIMIT %s",
            [query.tolist(), span.first, span.last, *listed, query.tolist(), rows, k],
        )

    @property
    def _product(self) -> str:
        """The negative inner product with a parameter, in float32."""
        return f"embedding OPERATOR({self._extension_schema}.<#>) %s::real[]::{self._extension_schema}.vector"

    @property
    def _indexed_product(self) -> str:
        """The same product in the form of the HNSW index."""
        if self._dim <= MAX_DIM:
            return self._product
        kind = f"{self._extension_schema}.halfvec({self._dim})"
        return f"(embedding::{kind}) OPERATOR({self._extension_schema}.<#>) %s::real[]::{kind}"

    def _rows(
        self, connection: Connection, statement: str, parameters: list[Any]
    ) -> list[tuple[int, float]]:
        rows: list[tuple[int, float]] = driver(connection).execute(statement, parameters).fetchall()
        return rows

    def _state(self, connection: Connection, memory: int) -> tuple[bool, int, int, bool]:
        """Return, of a memory's copy: whether it is current, its newest seq, its rows, whether HNSW exists."""
        row = driver(connection).execute(_STATE, [memory]).fetchone()
        current, seq, rows, hnsw = row or (False, 0, 0, False)
        return current, seq, rows, hnsw

    def _catch_up(self, span: Span, end: Mark) -> None:
        """See `SpanIndex._catch_up`. Blocks writers of the memory while it copies a batch."""
        memory = span.memory
        with self._connections.reading() as connection:
            current, seq, _, _ = self._state(connection, memory)
        is_behind = not (current and seq >= span.last)
        if not is_behind:
            return
        while is_behind:
            with self._connections.writing(memory) as connection:
                current, seq, rows, hnsw = self._state(connection, memory)
                if not current:
                    _clear(connection, memory)
                    seq, rows, hnsw = 0, 0, False
                new = driver(connection).execute(_NEW, [memory, seq, BATCH]).fetchall()
                if new:
                    rows += self._copy(connection, memory, new)
                    seq = new[-1][0]
                driver(connection).execute(_COPIED, {"memory": memory, "seq": seq, "rows": rows})
                is_behind = len(new) == BATCH
        if self._hnsw_rows is not None and rows >= self._hnsw_rows and not hnsw:
            self._build(memory)

    def _copy(self, connection: Connection, memory: int, turns: list[tuple[int, bytes]]) -> int:
        """Insert rows with COPY in binary format, in which pgvector takes float32 without conversion.

        Returns the number of rows.
        """
        layout = [("fields", ">i2"), ("size1", ">i4"), ("memory", ">i8"), ("size2", ">i4"), ("seq", ">i8"), ("size3", ">i4"), ("passage", ">i4"), ("size4", ">i4"), ("dim", ">i2"), ("unused", ">i2"), ("embedding", ">f4", (self._dim,))]  # fmt: skip
        parts = [unpack_embeddings(embedding, self._dim)[:] for _, embedding in turns]
        data = np.zeros(sum(map(len, parts)), np.dtype(layout))
        data["fields"], data["size1"], data["size2"], data["size3"] = 4, 8, 8, 4
        data["size4"], data["dim"] = 4 + 4 * self._dim, self._dim
        data["memory"] = memory
        data["seq"] = np.repeat([seq for seq, _ in turns], [len(part) for part in parts])
        data["passage"] = np.concatenate([np.arange(len(part)) for part in parts])
        data["embedding"] = np.concatenate(parts)
        command = "COPY vectors (memory, seq, passage, embedding) FROM STDIN (FORMAT BINARY)"
        with driver(connection).cursor() as cursor, cursor.copy(command) as copy:
            copy.write(b"PGCOPY\n\xff\r\n\x00" + bytes(8) + data.tobytes() + b"\xff\xff")
        return len(data)

    def _build(self, memory: int) -> None:
        """Create a partial HNSW index over one memory's rows, for queries of that memory."""
        column, kind = "embedding", "vector"
        if self._dim > MAX_DIM:
            column, kind = f"(embedding::{self._extension_schema}.halfvec({self._dim}))", "halfvec"
        with self._connections.altering() as connection:
            driver(connection).execute(
                f"CREATE INDEX IF NOT EXISTS vectors_hnsw_{memory} ON vectors "
                f"USING hnsw ({column} {self._extension_schema}.{kind}_ip_ops) WHERE memory = {memory:d}"
            )
            driver(connection).execute("UPDATE copied SET hnsw = true WHERE memory = %s", [memory])

    def _copied(self, connection: Connection, span: Span) -> tuple[Seqs, Vectors]:
        """Return the copied seqs (n,) and vectors (n, D) of a span, ordered as in `Store.vectors`."""
        rows = driver(connection).execute(
            "SELECT seq, embedding::real[] FROM vectors "
            "WHERE memory = %s AND seq BETWEEN %s AND %s ORDER BY seq, passage",
            span,
        )
        fetched = rows.fetchall()
        vectors = np.array([row[1] for row in fetched], np.float32)
        return np.array([row[0] for row in fetched], np.int64), vectors.reshape(-1, self._dim)


def _condition(chosen: Selection) -> tuple[str, list[list[int]]]:
    """Return a further SQL condition, and its parameters."""
    if chosen.allowed is not None:
        return "AND seq = ANY (%s::bigint[]) ", [chosen.allowed.tolist()]
    if chosen.without is not None:
        return "AND seq <> ALL (%s::bigint[]) ", [chosen.without.tolist()]
    return "", []


def forget_copy(memory: int, connection: Connection | None) -> None:
    """Delete the copied vectors of a memory that loses rows, in the transaction that erases them.

    No process can copy the rows again before that transaction ends, so the call after it does nothing.
    """
    if connection is not None:
        [copies] = driver(connection).execute("SELECT to_regclass('copied')").fetchone()
        if copies is not None:
            _clear(connection, memory)


def _clear(connection: Connection, memory: int) -> None:
    for table in ("vectors", "copied"):
        driver(connection).execute(f"DELETE FROM {table} WHERE memory = %s", [memory])
