"""The inverted index: in which turns of a memory a term occurs, and how often.

The index consists of runs. A run holds the words of consecutive turns of one memory; turns that are
added together form a run. When a block of 32 seqs is complete, the runs that begin in it are merged
into one, and again for blocks of 1,024 and of 16,384 seqs. So every posting is appended once and
rewritten three times; a query reads about forty runs, plus one for every 16,384 turns; and erasing
turns changes no run of another memory.
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
from evomem_stores.database.compiled import Statement
from evomem_stores.database.connections import driver
from evomem_stores.database.dialects import COMMA, OneOf
from evomem_stores.database.tables import MAX_SEQ, postings, runs, turns

Terms = Mapping[int, Sequence[str]]
"""The terms of turns, by seq."""

Inverted = defaultdict[str, bytearray]
"""The seqs of turns by term: uint32, little-endian, one per occurrence of the term."""

BLOCK_SIZES = (32, 1024, 16384)  # in seqs; each divides the next

_NEWEST = Statement(select(func.max(runs.c.last)).where(runs.c.memory == bindparam("memory")))


def add(connection: Connection, memory: int, terms: Terms, newest: int | None = None) -> None:
    """Append turns of a memory; `newest` is its newest seq so far, looked up if None."""
    if not terms:
        return
    if newest is None:
        newest = _NEWEST.value(connection, {"memory": memory}) or 0
    seqs = sorted(terms)
    for start in range(0, len(seqs), BLOCK_SIZES[-1]):
        block = seqs[start : start + BLOCK_SIZES[-1]]
        inverted: Inverted = defaultdict(bytearray)
        for seq in block:
            packed = seq.to_bytes(4, "little")
            for term in terms[seq]:
                inverted[term] += packed
        _insert(connection, Span(memory, block[0], block[-1]), inverted)
    for size in BLOCK_SIZES:
        before, now = newest // size, seqs[-1] // size
        if before < now:
            _fold(connection, Span(memory, before * size, now * size - 1), size)


def cut(connection: Connection, memory: int, seq: int) -> int:
    """Remove a memory's turns from `seq`, or an earlier turn, on; return the first removed seq.

    Runs are removed completely: the caller has to add their turns before `seq` again.
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


_RUNS_OF_SPAN = select(runs.c.last).where(
    runs.c.memory == bindparam("memory"),
    runs.c.last >= bindparam("from_seq"),
    runs.c.first <= bindparam("to_seq"),
)
_POSTINGS = Statement(
    select(postings.c.term, postings.c.seqs)
    .where(
        postings.c.memory == bindparam("memory"),
        postings.c.last.in_(_RUNS_OF_SPAN),
        OneOf(postings.c.term, bindparam("terms")),
    )
    .order_by(postings.c.last)
)


def counts(
    connection: Connection, span: Span, terms: Sequence[str]
) -> dict[str, tuple[Seqs, Seqs]]:
    """Return for each term the seqs, ascending, of a span's turns with it, and its occurrences in each.

    Raises:
        DatabaseDamaged: The stored value is not a list of seqs.
    """
    runs_of: dict[str, list[bytes]] = {term: [] for term in terms}
    parameters = {
        "memory": span.memory,
        "from_seq": span.first,
        "to_seq": span.last,
        "terms": terms,
    }
    for term, seqs in _POSTINGS.rows(connection, parameters):
        if not isinstance(seqs, bytes) or len(seqs) % 4:
            raise DatabaseDamaged(
                f"the word index of memory {span.memory} cannot be read: evomem verify --repair "
                "rebuilds it from the turns"
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
_LENGTHS = Statement(
    select(
        func.aggregate_strings(_TURNS.c.seq.cast(String), COMMA),
        func.aggregate_strings(_TURNS.c.words.cast(String), COMMA),
    )
)


def lengths(connection: Connection, span: Span) -> tuple[Seqs, Seqs]:
    """Return the seqs of a span's turns, ascending, and the number of terms of each."""
    parameters = {"memory": span.memory, "from_seq": span.first, "to_seq": span.last}
    seqs, words = map(_numbers, _LENGTHS.rows(connection, parameters)[0])
    if len(seqs) != len(words):
        raise DatabaseDamaged(
            f"turns of memory {span.memory} have no length in words: run verify, and restore the "
            "database from a backup"
        )
    return seqs, words


def all_postings(connection: Connection) -> Iterator[tuple[int, int, str, int]]:
    """Yield (memory, seq, term, occurrences); seq is 0 for a turn outside its run."""
    same_run = and_(postings.c.memory == runs.c.memory, postings.c.last == runs.c.last)
    query = select(postings, runs.c.first).join_from(postings, runs, same_run, isouter=True)
    before = run = (0, 0)
    for row in connection.execute(query.order_by(postings.c.memory, postings.c.last)):
        if run != (row.memory, row.last):
            before, run = run, (row.memory, row.last)
        is_sound = row.first is not None and before < (row.memory, row.first)
        packed = row.seqs if isinstance(row.seqs, bytes) else b""
        if len(packed) % 4 or not packed:
            yield row.memory, 0, row.term, 1
            continue
        for seq, count in zip(*_unpack(packed, 0, MAX_SEQ), strict=True):
            is_inside = is_sound and row.first <= seq <= row.last
            yield row.memory, int(seq) if is_inside else 0, row.term, int(count)


def _fold(connection: Connection, span: Span, size: int) -> None:
    """Merge all runs that begin in the same block of `size` seqs of a span."""
    inside = (runs.c.last >= span.first, runs.c.first <= span.last)
    query = select(runs).where(runs.c.memory == span.memory, *inside)
    rows = connection.execute(query.order_by(runs.c.last)).all()
    for _, block in groupby(rows, lambda run: run.first // size):
        folded = list(block)
        if len(folded) > 1:
            _merge(connection, folded)


def _merge(connection: Connection, folded: Sequence[Row[Any]]) -> None:
    """Replace several consecutive runs with one."""
    merged = Span(folded[0].memory, folded[0].first, folded[-1].last)
    conditions = [
        and_(table.c.memory == merged.memory, table.c.last.between(folded[0].last, merged.last))
        for table in (postings, runs)
    ]
    inverted: Inverted = defaultdict(bytearray)
    query = select(postings.c.term, postings.c.seqs).where(conditions[0]).order_by(postings.c.last)
    for term, seqs in connection.execute(query):
        inverted[term] += seqs
    connection.execute(delete(postings).where(conditions[0]))
    connection.execute(delete(runs).where(conditions[1]))
    _insert(connection, merged, inverted)


_RUN = Statement(insert(runs).inline())
# Bypasses SQLAlchemy, which takes as long to process a row as SQLite to write it.
_INSERT_SQLITE = "INSERT INTO postings (memory, last, term, seqs) VALUES (?, ?, ?, ?)"
_INSERT_POSTGRESQL = (
    "INSERT INTO postings (memory, last, term, seqs) "
    "SELECT %s, %s, * FROM unnest(%s::text[], %s::bytea[])"
)


def _insert(connection: Connection, run: Span, inverted: Inverted) -> None:
    memory, first, last = run
    _RUN.run(connection, {"memory": memory, "first": first, "last": last})
    if connection.dialect.name == "postgresql":
        columns = list(inverted), list(map(bytes, inverted.values()))
        driver(connection).execute(_INSERT_POSTGRESQL, (memory, last, *columns))
    else:
        rows = [(memory, last, term, bytes(seqs)) for term, seqs in sorted(inverted.items())]
        driver(connection).executemany(_INSERT_SQLITE, rows)


_LISTED = re.compile(r"([0-9]{1,18}(,[0-9]{1,18})*)?")


def _numbers(text: str | None) -> Seqs:
    """Return the numbers in a text such as "1,2,3"; none for None.

    One text is read several times as fast as a row per number.
    """
    if not _LISTED.fullmatch(text or ""):
        raise DatabaseDamaged(
            "the seqs or the lengths of turns are not numbers: run verify, and restore the database "
            "from a backup"
        )
    return np.fromstring(text or "", np.int64, sep=",")


def _unpack(packed: bytes, first: int, last: int) -> tuple[Seqs, Seqs]:
    """Return the seqs from `first` to `last`, ascending, and the occurrences of each."""
    seqs = np.frombuffer(packed, "<u4").astype(np.int64)
    seqs = seqs[slice(*np.searchsorted(seqs, (first, last + 1)))]
    starts = np.flatnonzero(np.diff(seqs, prepend=-1))
    return seqs[starts], np.diff(starts, append=len(seqs))
