"""`verify`: reads the whole database once and checks all its invariants.

Nothing that is read here is trusted: an error that a damaged value causes is reported as a fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain as all_of
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, select

from evomem.errors import DatabaseDamaged, EvomemError, IntegrityError
from evomem.state import Spec, digest
from evomem.store import Span, View
from evomem_stores.database.connections import DECODE_ERRORS, Connections
from evomem_stores.database.seals import MODULUS, Seals, seals_of
from evomem_stores.database.tables import (
    ENCODER_COLUMNS,
    MAX_SEQ,
    SAME_ROW,
    column_names,
    generations,
    hidden,
    memories,
    readings,
    row_number,
    turns,
)
from evomem_stores.log import forgotten, ledger
from evomem_stores.log.ledger import Entry
from evomem_stores.log.lookup import read
from evomem_stores.log.rows import decode_row, has_possible_lengths, searched
from evomem_stores.log.views import take_view
from evomem_stores.upkeep import anchors
from evomem_stores.words.inverted_index import all_postings
from evomem_stores.words.terms import terms

Words = Counter[int]
"""For each memory, the sum over the hashes of its postings, to compare sets of postings."""


def verify(
    connections: Connections, spec: Spec, anchor: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the faults of the database, including contradictions of `anchor`, one sentence each."""
    faults: list[str] = []
    try:
        with connections.reading() as connection:
            for problem in all_of(connections.faults(connection), problems(connection, spec)):
                faults.append(problem)
            if anchor is not None:
                faults += _with_errors("the anchor", anchors.check(connection, anchor))
    except EvomemError as error:
        faults.append(f"the check could not be finished: {error}")
    return faults


def problems(connection: Connection, spec: Spec) -> Iterator[str]:
    """Yield the faults of the rows, one sentence each."""
    words: Words = Counter()
    yield from _with_errors("the database's entry", _database(connection))
    for number in connection.scalars(select(memories.c.memory).order_by(memories.c.memory)).all():
        yield from _with_errors(f"memory {number}", _memory(connection, number, spec, words))
    yield from _with_errors("the word index", _words(connection, words))
    yield from _with_errors("the other encoders' results", _readings(connection))


def _with_errors(what: str, faults: Iterator[str]) -> Iterator[str]:
    """Yield faults; if the check fails, its error is the last fault."""
    try:
        yield from faults
    except EvomemError as error:
        yield f"{what} cannot be checked: {error}"
    except DECODE_ERRORS as error:
        yield f"{what} cannot be checked ({type(error).__name__}: {error}): restore a backup"


def _database(connection: Connection) -> Iterator[str]:
    entry = ledger.database_entry(connection)
    if fault := ledger.memories_fault(connection, entry):
        yield f"{fault}: whole memories were removed or added"


def _words(connection: Connection, words: Words) -> Iterator[str]:
    for posting in all_postings(connection):
        words[posting[0]] -= hash(posting)
    for memory, remaining in words.items():
        if remaining:
            yield f"the word index of memory {memory} does not agree with its turns"


def _readings(connection: Connection) -> Iterator[str]:
    seals = seals_of(connection)
    own = [column for column in turns.columns if column.name not in ENCODER_COLUMNS]
    query = select(*own, *(readings.c[name] for name in ENCODER_COLUMNS), generations.c.fingerprint)
    query = query.join_from(readings, turns, onclause=SAME_ROW)
    query = query.join(generations, generations.c.generation == readings.c.generation)
    for row in connection.execute(query).mappings():
        if seals.reading(row, row["fingerprint"]) != row["checksum"]:
            name = f"turn {row['seq']} of memory {row['memory']}"
            yield f"another encoder's result for {name} was changed: run reencode --drop-old"


def _memory(connection: Connection, number: int, spec: Spec, words: Words) -> Iterator[str]:
    columns = connection.execute(select(memories).where(memories.c.memory == number)).one()
    entry: Entry | None = None
    try:
        entry, _ = ledger.with_hidden(connection, number)
    except IntegrityError as error:
        yield str(error)
    inherited = View(number, 0, b"", 0, ())
    if columns.parent is not None:
        try:
            inherited = take_view(connection, columns.parent, seq=columns.parent_seq, dropped=True)
        except EvomemError as error:
            yield f"memory {number} was forked from turns that do not exist: {error}"
    rows = _Rows(number, columns.parent_seq, spec, words, seals_of(connection))
    yield from rows.check(connection, inherited)
    if entry is not None and not rows.match_entry(entry):
        yield (
            f"memory {number} has {len(rows.sealed)} turns of its own that are not the "
            f"{entry.rows} that were written: some were removed, exchanged or added"
        )
    if entry is not None and not forgotten.match_entry(connection, entry):
        yield (
            f"memory {number} does not have the marks that its purged turns left: some were "
            "removed, exchanged or added"
        )
    if rows.last > columns.head:
        yield f"memory {number} ends at turn {columns.head}, but there is a turn {rows.last}"
    beyond = select(hidden.c.seq).where(hidden.c.memory == number, hidden.c.seq > columns.head)
    if connection.scalar(beyond.limit(1)) is not None:
        yield f"memory {number} hides a turn that does not exist"


class _Rows:
    """Checks the own rows of a memory one after the other."""

    def __init__(
        self, memory: int, parent_seq: int, spec: Spec, words: Words, seals: Seals
    ) -> None:
        self.last = parent_seq
        """The seq of the newest row so far."""
        self.sealed: list[bytes] = []
        """The seals of all rows so far."""
        self._memory = memory
        self._spec = spec
        self._words = words
        self._seals = seals

    def check(self, connection: Connection, inherited: View) -> Iterator[str]:
        """Yield the faults of the rows, and of their connection to the inherited rows."""
        number = self._memory
        tail = next(
            read(connection, inherited.spans, ["seq", "chunk"], limit=1, newest_first=True), None
        )
        if self.last != (tail["seq"] if tail else 0):
            yield f"memory {number} was forked at turn {self.last}, which does not exist"
        before = inherited.key, tail["chunk"] if tail else 0
        ids = {row["id"] for row in read(connection, inherited.spans, ["id"])}
        for row in read(connection, [Span(number, 1, MAX_SEQ)], column_names(turns)):
            name = f"turn {row['seq']} of memory {number}"
            if row_number(number, self.last + 1) > row["row"] or row["row"] & MAX_SEQ != row["seq"]:
                yield f"{name} is not where it belongs"
                continue
            try:
                for problem in _row(row, self._spec, self._words, self._seals, before=before):
                    yield f"{name} {problem}"
            except DECODE_ERRORS as error:
                yield f"{name} cannot be checked ({type(error).__name__}: {error})"
            if row["id"] in ids:
                yield f"{name} has an id that an earlier turn has"
            ids.add(row["id"])
            self.sealed.append(row["seal"])
            before, self.last = (row["key"], row["chunk"]), row["seq"]

    def match_entry(self, entry: Entry) -> bool:
        """Return whether the rows match the memory's entry."""
        tip = self.sealed[-1] if self.sealed else b""
        same_sum = (self._seals.rows(self.sealed) - entry.sums(self._seals)[0]) % MODULUS == 0
        return same_sum and (len(self.sealed), tip) == (entry.rows, entry.tip)


def _row(
    row: RowMapping, spec: Spec, words: Words, seals: Seals, *, before: tuple[bytes, int]
) -> Iterator[str]:
    """Yield the faults of a row; `before` is the key and the chunk of the row before it."""
    key, chunk = before
    if seals.row(row) != row["seal"]:
        yield "was changed since it was written: its seal does not match"
    if seals.reading(row, spec.fingerprint) != row["checksum"]:
        yield "has an embedding or latents that were changed since: their checksum does not match"
    if row["chunk"] not in (row["seq"], chunk):
        yield f"is in the chunk of turn {row['chunk']}, which is not open"
    try:
        decoded = decode_row(row, spec, None)
    except DatabaseDamaged as error:
        yield f"cannot be read: {error}"
        return
    if digest(key, decoded.turn) != row["key"]:
        yield "does not continue the digest chain"
    if not (np.isfinite(decoded.reading.latents).all() and has_possible_lengths(decoded.reading)):
        yield "has an embedding or latents that no encoder produces"
    turn = decoded.turn
    terms_of_text = terms(searched(turn.speaker, turn.user, turn.assistant))
    if len(terms_of_text) != row["words"]:
        yield f"has {len(terms_of_text)} words, not {row['words']}"
    words[row["memory"]] += sum(
        hash((row["memory"], row["seq"], term, count))
        for term, count in Counter(terms_of_text).items()
    )
