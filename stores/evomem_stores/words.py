"""The inverted index of the turns' words, in both databases. See `lexical` for what is done with it.

SQLite has it in FTS5, where every term carries its memory in front (`lexical.tagged`); PostgreSQL
in a table of its own, in which a memory's postings of one term lie together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Protocol

from sqlalchemy import Connection, text

from evomem.store import Span
from evomem_stores.lexical import body, tagged
from evomem_stores.tables import row_number

Terms = Mapping[int, list[str]]
"""The terms of turns, by seq."""


class Words(Protocol):
    """An inverted index. Every method works inside the transaction of its connection."""

    def add(self, connection: Connection, memory: int, terms: Terms) -> None:
        """Add turns of a memory."""
        ...

    def drop(self, connection: Connection, memory: int, terms: Terms) -> None:
        """Remove turns that were added with these terms, without a trace where that is possible."""
        ...

    def clear(self, connection: Connection) -> None:
        """Remove everything."""
        ...

    def counts(self, connection: Connection, span: Span, term: str) -> Iterable[tuple[int, int]]:
        """Return (seq, how often) for the turns of a span in which a term occurs."""
        ...

    def lengths(
        self, connection: Connection, span: Span, seqs: Collection[int]
    ) -> Iterable[tuple[int, int]]:
        """Return (seq, number of terms) of those of `seqs` that lie in the span."""
        ...

    def postings(self, connection: Connection) -> Iterator[tuple[int, str, int]]:
        """Yield everything: (row number, tagged term, how often)."""
        ...


def words_of(connection: Connection) -> Words:
    """Return the word index of the database that a connection leads to."""
    return _TABLE if connection.dialect.name == "postgresql" else _FTS5


def driver(connection: Connection) -> Any:
    """Return the driver's own connection, inside the same transaction.

    A common word has a posting in every other turn, and a row object of SQLAlchemy's for each
    would cost more than all the rest of a search.
    """
    return connection.connection.driver_connection


class _Fts5:
    """SQLite: a contentless FTS5 table (the words are in `turns` already)."""

    _ADD = text("INSERT INTO terms (rowid, body) VALUES (:row, :body)")
    # A contentless index must be told what it was given; that follows from the turn's text.
    _DROP = text("INSERT INTO terms (terms, rowid, body) VALUES ('delete', :row, :body)")
    # Until segments are merged, deleted terms stay in them.
    _MERGE = text("INSERT INTO terms (terms) VALUES ('optimize')")
    _CLEAR = text("INSERT INTO terms (terms) VALUES ('delete-all')")
    _COUNTS = (
        "SELECT doc & 4294967295, count(*) FROM postings "
        "WHERE term = ? AND doc BETWEEN ? AND ? GROUP BY doc"
    )
    # +seq: looked up one by one, not by going through the whole span.
    _LENGTHS = (
        "SELECT seq, words FROM turns WHERE memory = ? AND +seq BETWEEN ? AND ? "
        "AND seq IN (SELECT value FROM json_each(?))"
    )
    _POSTINGS = text("SELECT doc, term FROM postings")  # in the order of the terms, then the docs

    def add(self, connection: Connection, memory: int, terms: Terms) -> None:
        if rows := _bodies(memory, terms):
            connection.execute(self._ADD, rows)

    def drop(self, connection: Connection, memory: int, terms: Terms) -> None:
        if rows := _bodies(memory, terms):
            connection.execute(self._DROP, rows)
        connection.execute(self._MERGE)

    def clear(self, connection: Connection) -> None:
        connection.execute(self._CLEAR)

    def counts(self, connection: Connection, span: Span, term: str) -> Iterable[tuple[int, int]]:
        ends = row_number(span.memory, span.first), row_number(span.memory, span.last)
        found: Iterable[tuple[int, int]] = driver(connection).execute(
            self._COUNTS, (tagged(span.memory, term), *ends)
        )
        return found

    def lengths(
        self, connection: Connection, span: Span, seqs: Collection[int]
    ) -> Iterable[tuple[int, int]]:
        found: Iterable[tuple[int, int]] = driver(connection).execute(
            self._LENGTHS, (*span, json.dumps(sorted(seqs)))
        )
        return found

    def postings(self, connection: Connection) -> Iterator[tuple[int, str, int]]:
        for (doc, term), places in groupby(map(tuple, connection.execute(self._POSTINGS))):
            yield doc, term, sum(1 for _ in places)


def _bodies(memory: int, terms: Terms) -> list[dict[str, int | str]]:
    return [
        {"row": row_number(memory, seq), "body": body(memory, found)}
        for seq, found in terms.items()
        if found
    ]


class _Table:
    """PostgreSQL: a table of (memory, term, seq, count), read through its primary key alone."""

    _ADD = (
        "INSERT INTO terms (memory, term, seq, count) "
        "SELECT %s, * FROM unnest(%s::text[], %s::bigint[], %s::int[])"
    )
    _DROP = "DELETE FROM terms WHERE memory = %s AND seq = ANY (%s::bigint[])"
    _CLEAR = text("DELETE FROM terms")
    _COUNTS = (
        "SELECT seq, count FROM terms WHERE memory = %s AND term = %s AND seq BETWEEN %s AND %s"
    )
    _LENGTHS = (
        "SELECT seq, words FROM turns "
        "WHERE memory = %s AND seq BETWEEN %s AND %s AND seq = ANY (%s::bigint[])"
    )
    _POSTINGS = text("SELECT memory, term, seq, count FROM terms")

    def add(self, connection: Connection, memory: int, terms: Terms) -> None:
        rows = [
            (term, seq, count)
            for seq, found in terms.items()
            for term, count in Counter(found).items()
        ]
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            driver(connection).execute(self._ADD, (memory, *columns))

    def drop(self, connection: Connection, memory: int, terms: Terms) -> None:
        driver(connection).execute(self._DROP, (memory, list(terms)))

    def clear(self, connection: Connection) -> None:
        connection.execute(self._CLEAR)

    def counts(self, connection: Connection, span: Span, term: str) -> Iterable[tuple[int, int]]:
        found: Iterable[tuple[int, int]] = driver(connection).execute(
            self._COUNTS, (span.memory, term, span.first, span.last)
        )
        return found

    def lengths(
        self, connection: Connection, span: Span, seqs: Collection[int]
    ) -> Iterable[tuple[int, int]]:
        found: Iterable[tuple[int, int]] = driver(connection).execute(
            self._LENGTHS, (*span, sorted(seqs))
        )
        return found

    def postings(self, connection: Connection) -> Iterator[tuple[int, str, int]]:
        for memory, term, seq, count in connection.execute(self._POSTINGS):
            yield row_number(memory, seq), tagged(memory, term), count


_FTS5, _TABLE = _Fts5(), _Table()
