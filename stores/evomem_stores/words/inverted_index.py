"""The inverted index of the turns' words: in which turns of a memory a term occurs, and how often.

It consists of runs: each has the words of turns that follow one another in one memory. Turns that
are added together begin as a run. When a stretch of 32 numbers is complete, the runs that begin in it
are folded into one, and again for stretches of 1,024 and of 16,384. So what is written follows what is
there, and is written three times more; a query looks for its terms in some forty runs and one more for
every 16,384 turns; and what is forgotten changes no run of another memory.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, String, and_, bindparam, delete, func, insert, select

from evomem.errors import DatabaseDamaged
from evomem.store import Seqs, Span
from evomem_stores.database.connections import driver
from evomem_stores.database.dialects import OneOf
from evomem_stores.database.tables import LAST, postings, runs, turns

Terms = Mapping[int, Sequence[str]]
"""The terms of turns, by seq."""

Inverted = defaultdict[str, bytearray]
"""The seqs of turns by term: uint32, little-endian, one for each time that the term occurs."""

STRETCHES = (32, 1024, 16384)  # of seqs; one ends where some of the smaller ones do

_NEWEST = select(func.max(runs.c.last)).where(runs.c.memory == bindparam("memory"))


def add(connection: Connection, memory: int, terms: Terms, newest: int | None = None) -> None:
    """Add turns of a memory after all its turns; their `newest` is looked up if None."""
    if not terms:
        return
    if newest is None:
        newest = connection.scalar(_NEWEST, {"memory": memory}) or 0
    seqs = sorted(terms)
    for start in range(0, len(seqs), STRETCHES[-1]):
        stretch = seqs[start : start + STRETCHES[-1]]
        inverted: Inverted = defaultdict(bytearray)
        for seq in stretch:
            packed = seq.to_bytes(4, "little")
            for term in terms[seq]:
                inverted[term] += packed
        _insert(connection, Span(memory, stretch[0], stretch[-1]), inverted)
    for size in STRETCHES:
        before, now = newest // size, seqs[-1] // size
        if before < now:
            _fold(connection, Span(memory, before * size, now * size - 1), size)


def cut(connection: Connection, memory: int, seq: int) -> int:
    """Remove a memory's turns from `seq` on, or from an earlier one; return from which.

    A run goes as a whole: the turns before `seq` that were in it have to be added again.
    """
    first = connection.scalar(
        select(func.min(runs.c.first)).where(runs.c.memory == memory, runs.c.last >= seq)
    )
    for table in (postings, runs):
        connection.execute(delete(table).where(table.c.memory == memory, table.c.last >= seq))
    return min(seq, first or seq)


def clear(connection: Connection) -> None:
    """Remove everything."""
    for table in (postings, runs):
        connection.execute(delete(table))


_NEEDED = select(runs.c.last).where(
    runs.c.memory == bindparam("memory"),
    runs.c.last >= bindparam("from_seq"),
    runs.c.first <= bindparam("to_seq"),
)
_FOUND = (
    select(postings.c.term, postings.c.seqs)
    .where(
        postings.c.memory == bindparam("memory"),
        postings.c.last.in_(_NEEDED),
        OneOf(postings.c.term, bindparam("terms")),
    )
    .order_by(postings.c.last)
)


def counts(
    connection: Connection, span: Span, terms: Sequence[str]
) -> dict[str, tuple[Seqs, Seqs]]:
    """Return, for each of the terms, in which turns of a span it occurs, ascending, and how often.

    Raises:
        DatabaseDamaged: The stored value is not a list of seqs.
    """
    runs_of: dict[str, list[bytes]] = {term: [] for term in terms}
    given = {"memory": span.memory, "from_seq": span.first, "to_seq": span.last, "terms": terms}
    for term, seqs in connection.execute(_FOUND, given):
        if not isinstance(seqs, bytes) or len(seqs) % 4:
            raise DatabaseDamaged(
                f"the word index of memory {span.memory} cannot be read: evomem verify --repair "
                "writes it again from the turns"
            )
        runs_of[term].append(seqs)
    return {term: _unpack(b"".join(seqs), span.first, span.last) for term, seqs in runs_of.items()}


_TURNS = (
    select(turns.c.seq, turns.c.words)
    .where(
        turns.c.memory == bindparam("memory"),
        turns.c.seq.between(bindparam("from_seq"), bindparam("to_seq")),
    )
    .order_by(turns.c.seq)
    .subquery()
)
_LENGTHS = select(
    func.aggregate_strings(_TURNS.c.seq.cast(String), ","),
    func.aggregate_strings(_TURNS.c.words.cast(String), ","),
)


def lengths(connection: Connection, span: Span) -> tuple[Seqs, Seqs]:
    """Return the seqs of a span's turns, ascending, and how many terms each has."""
    given = {"memory": span.memory, "from_seq": span.first, "to_seq": span.last}
    seqs, words = (_numbers(listed) for listed in connection.execute(_LENGTHS, given).one())
    if len(seqs) != len(words):
        raise DatabaseDamaged(
            f"turns of memory {span.memory} have no length in words: run verify, and restore the "
            "database from a backup"
        )
    return seqs, words


def everything(connection: Connection) -> Iterator[tuple[int, int, str, int]]:
    """Yield (memory, seq, term, how often); seq is 0 where a turn is not where it belongs."""
    same_run = and_(postings.c.memory == runs.c.memory, postings.c.last == runs.c.last)
    query = select(postings, runs.c.first).join_from(postings, runs, same_run, isouter=True)
    before = run = (0, 0)
    for row in connection.execute(query.order_by(postings.c.memory, postings.c.last)):
        if run != (row.memory, row.last):
            before, run = run, (row.memory, row.last)
        sound = row.first is not None and before < (row.memory, row.first)
        packed = row.seqs if isinstance(row.seqs, bytes) else b""
        if len(packed) % 4 or not packed:
            yield row.memory, 0, row.term, 1
            continue
        for seq, count in zip(*_unpack(packed, 0, LAST), strict=True):
            inside = sound and row.first <= seq <= row.last
            yield row.memory, int(seq) if inside else 0, row.term, int(count)


def _fold(connection: Connection, span: Span, size: int) -> None:
    """Merge all runs that begin in the same stretch of a span."""
    inside = (runs.c.last >= span.first, runs.c.first <= span.last)
    query = select(runs).where(runs.c.memory == span.memory, *inside)
    newest = connection.execute(query.order_by(runs.c.last)).all()
    for _, stretch in groupby(newest, lambda run: run.first // size):
        folded = list(stretch)
        if len(folded) > 1:
            _merge(connection, folded)


def _merge(connection: Connection, folded: Sequence[Row[Any]]) -> None:
    """Replace several consecutive runs with one."""
    merged = Span(folded[0].memory, folded[0].first, folded[-1].last)
    there = [
        and_(table.c.memory == merged.memory, table.c.last.between(folded[0].last, merged.last))
        for table in (postings, runs)
    ]
    inverted: Inverted = defaultdict(bytearray)
    query = select(postings.c.term, postings.c.seqs).where(there[0]).order_by(postings.c.last)
    for term, seqs in connection.execute(query):
        inverted[term] += seqs
    connection.execute(delete(postings).where(there[0]))
    connection.execute(delete(runs).where(there[1]))
    _insert(connection, merged, inverted)


_RUN = insert(runs)
# SQLAlchemy takes as long to look at a row as SQLite to write it.
_INSERT_SQLITE = "INSERT INTO postings (memory, last, term, seqs) VALUES (?, ?, ?, ?)"
_INSERT_POSTGRESQL = (
    "INSERT INTO postings (memory, last, term, seqs) "
    "SELECT %s, %s, * FROM unnest(%s::text[], %s::bytea[])"
)


def _insert(connection: Connection, run: Span, inverted: Inverted) -> None:
    memory, first, last = run
    connection.execute(_RUN, {"memory": memory, "first": first, "last": last})
    if connection.dialect.name == "postgresql":
        columns = list(inverted), list(map(bytes, inverted.values()))
        driver(connection).execute(_INSERT_POSTGRESQL, (memory, last, *columns))
    else:
        rows = [(memory, last, term, bytes(seqs)) for term, seqs in sorted(inverted.items())]
        driver(connection).executemany(_INSERT_SQLITE, rows)


_LISTED = re.compile(r"([0-9]{1,18}(,[0-9]{1,18})*)?")


def _numbers(listed: str | None) -> Seqs:
    """Return the numbers of a list such as "1,2,3", None for none.

    In one text they come several times as fast as in a row each.
    """
    if not _LISTED.fullmatch(listed or ""):
        raise DatabaseDamaged(
            "the seqs or the lengths of turns are not numbers: run verify, and restore the database "
            "from a backup"
        )
    return np.fromstring(listed or "", np.int64, sep=",")


def _unpack(packed: bytes, first: int, last: int) -> tuple[Seqs, Seqs]:
    """Return the seqs from `first` to `last`, ascending, and how often each is there."""
    seqs = np.frombuffer(packed, "<u4").astype(np.int64)
    seqs = seqs[slice(*np.searchsorted(seqs, (first, last + 1)))]
    starts = np.flatnonzero(np.diff(seqs, prepend=-1))
    return seqs[starts], np.diff(starts, append=len(seqs))
