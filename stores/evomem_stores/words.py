"""The inverted index of the turns' words, in both databases. See `lexical` for what is done with it.

SQLite has it in FTS5, where every term carries its memory in front (`lexical.tagged`); PostgreSQL
in a table of its own, in which a memory's postings of one term lie together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from sqlalchemy import Connection, text

from evomem.store import Seqs, Span
from evomem_stores.lexical import body, tagged, terms
from evomem_stores.rows import searched
from evomem_stores.tables import LAST, row_number

Terms = Mapping[int, list[str]]
"""The terms of turns, by seq."""

FEW = 32  # turns whose texts are read sooner than all postings of a common word


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

    def counts(self, connection: Connection, span: Span, term: str) -> tuple[Seqs, Seqs]:
        """Return the seqs of a span's turns in which a term occurs, ascending, and how often."""
        ...

    def lengths(self, connection: Connection, span: Span) -> tuple[Seqs, Seqs]:
        """Return the seqs of a span's turns, ascending, and how many terms each has."""
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
        "SELECT group_concat(doc & 4294967295) FROM postings WHERE term = ? AND doc BETWEEN ? AND ?"
    )
    _LENGTHS = (
        "SELECT group_concat(seq), group_concat(words) FROM "
        "(SELECT seq, words FROM turns WHERE memory = ? AND seq BETWEEN ? AND ? ORDER BY seq)"
    )
    _DOCS = "SELECT rowid FROM terms WHERE terms MATCH ? AND rowid BETWEEN ? AND ? LIMIT ?"
    _TEXTS = (
        "SELECT row, speaker, user, assistant FROM turns "
        "WHERE row IN (SELECT value FROM json_each(?))"
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

    def counts(self, connection: Connection, span: Span, term: str) -> tuple[Seqs, Seqs]:
        """See `Words.counts`.

        Only a search for the term can begin in the middle of its postings, and it does not say how
        often the term occurs in a turn. That is counted in the texts, where they are few.
        """
        known_as = tagged(span.memory, term)
        ends = row_number(span.memory, span.first), row_number(span.memory, span.last)
        execute = driver(connection).execute
        if span.first > 1:
            few = [doc for (doc,) in execute(self._DOCS, (f'"{known_as}"', *ends, FEW + 1))]
            if len(few) <= FEW:
                texts = execute(self._TEXTS, (json.dumps(few),)) if few else ()
                found = {row: terms(searched(*said)).count(term) for row, *said in texts}
                docs = np.array(sorted(few), np.int64)
                return docs & LAST, np.array([found.get(doc, 0) for doc in docs.tolist()], np.int64)
        [docs] = execute(self._COUNTS, (known_as, *ends)).fetchone()
        seqs, counts = np.unique(_numbers(docs), return_counts=True)
        return seqs, counts

    def lengths(self, connection: Connection, span: Span) -> tuple[Seqs, Seqs]:
        seqs, lengths = driver(connection).execute(self._LENGTHS, span).fetchone()
        return _numbers(seqs), _numbers(lengths)

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
        "SELECT string_agg(seq::text, ','), string_agg(count::text, ',') FROM (SELECT seq, count "
        "FROM terms WHERE memory = %s AND term = %s AND seq BETWEEN %s AND %s ORDER BY seq) AS found"
    )
    _LENGTHS = (
        "SELECT string_agg(seq::text, ','), string_agg(words::text, ',') FROM (SELECT seq, words "
        "FROM turns WHERE memory = %s AND seq BETWEEN %s AND %s ORDER BY seq) AS found"
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

    def counts(self, connection: Connection, span: Span, term: str) -> tuple[Seqs, Seqs]:
        seqs, counts = (
            driver(connection)
            .execute(self._COUNTS, (span.memory, term, span.first, span.last))
            .fetchone()
        )
        return _numbers(seqs), _numbers(counts)

    def lengths(self, connection: Connection, span: Span) -> tuple[Seqs, Seqs]:
        seqs, lengths = driver(connection).execute(self._LENGTHS, span).fetchone()
        return _numbers(seqs), _numbers(lengths)

    def postings(self, connection: Connection) -> Iterator[tuple[int, str, int]]:
        for memory, term, seq, count in connection.execute(self._POSTINGS):
            yield row_number(memory, seq), tagged(memory, term), count


def _numbers(listed: str | None) -> Seqs:
    """Return the numbers of a list such as "1,2,3", None for none.

    In one text they come several times as fast as in a row each.
    """
    return np.fromstring(listed or "", np.int64, sep=",")


_FTS5, _TABLE = _Fts5(), _Table()
