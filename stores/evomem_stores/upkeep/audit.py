"""`verify`: reads the whole database once and checks all its invariants.

Nothing that is read here is trusted: whatever a damaged value makes go wrong is one more problem.
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
from evomem_stores.database.connections import FOREIGN, Connections
from evomem_stores.database.seals import MODULUS, Seals, seals_of
from evomem_stores.database.tables import (
    LAST,
    READ,
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
from evomem_stores.words.inverted_index import everything
from evomem_stores.words.terms import terms

Words = Counter[int]
"""For each memory, the sum of the hashes of its postings: equal sums, equal postings."""


def verify(
    connections: Connections, spec: Spec, anchor: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the faults of the database, also against `anchor`, one sentence each."""
    faults: list[str] = []
    try:
        with connections.reading() as connection:
            for problem in all_of(connections.faults(connection), problems(connection, spec)):
                faults.append(problem)
            if anchor is not None:
                faults += _caught("the anchor", anchors.check(connection, anchor))
    except EvomemError as error:
        faults.append(f"the check could not be finished: {error}")
    return faults


def problems(connection: Connection, spec: Spec) -> Iterator[str]:
    """Yield the faults of the rows, one sentence each."""
    words: Words = Counter()
    yield from _caught("the database's entry", _database(connection))
    for number in connection.scalars(select(memories.c.memory).order_by(memories.c.memory)).all():
        yield from _caught(f"memory {number}", _memory(connection, number, spec, words))
    yield from _caught("the word index", _words(connection, words))
    yield from _caught("the other encoders' results", _readings(connection))


def _caught(what: str, faults: Iterator[str]) -> Iterator[str]:
    """Yield problems; if the search fails, its error is the last one."""
    try:
        yield from faults
    except EvomemError as error:
        yield f"{what} cannot be checked: {error}"
    except FOREIGN as error:
        yield f"{what} cannot be checked ({type(error).__name__}: {error}): restore a backup"


def _database(connection: Connection) -> Iterator[str]:
    entry = ledger.whole(connection)
    if fault := ledger.found(connection, entry):
        yield f"{fault}: whole memories were removed or added"


def _words(connection: Connection, words: Words) -> Iterator[str]:
    for posting in everything(connection):
        words[posting[0]] -= hash(posting)
    for memory, remaining in words.items():
        if remaining:
            yield f"the word index of memory {memory} does not agree with its turns"


def _readings(connection: Connection) -> Iterator[str]:
    seals = seals_of(connection)
    own = [column for column in turns.columns if column.name not in READ]
    query = select(*own, *(readings.c[name] for name in READ), generations.c.fingerprint)
    query = query.join_from(readings, turns, onclause=SAME_ROW)
    query = query.join(generations, generations.c.generation == readings.c.generation)
    for row in connection.execute(query).mappings():
        if seals.reading(row, row["fingerprint"]) != row["checksum"]:
            name = f"turn {row['seq']} of memory {row['memory']}"
            yield f"what another encoder made of {name} was changed: run reencode --drop-old"


def _memory(connection: Connection, number: int, spec: Spec, words: Words) -> Iterator[str]:
    own = connection.execute(select(memories).where(memories.c.memory == number)).one()
    entry: Entry | None = None
    try:
        entry, _ = ledger.with_hidden(connection, number)
    except IntegrityError as error:
        yield str(error)
    inherited = View(number, 0, b"", 0, ())
    if own.parent is not None:
        try:
            inherited = take_view(connection, own.parent, seq=own.parent_seq, dropped=True)
        except EvomemError as error:
            yield f"memory {number} was forked from turns that are not there: {error}"
    rows = _Rows(number, own.parent_seq, spec, words, seals_of(connection))
    yield from rows.check(connection, inherited)
    if entry is not None and not rows.are(entry):
        yield (
            f"memory {number} has {len(rows.sealed)} turns of its own that are not the "
            f"{entry.rows} that were written: some were removed, exchanged or added"
        )
    if entry is not None and not forgotten.are(connection, entry):
        yield (
            f"memory {number} does not have the marks that its purged turns left: some were "
            "removed, exchanged or added"
        )
    if rows.last > own.head:
        yield f"memory {number} ends at turn {own.head}, but there is a turn {rows.last}"
    gone = select(hidden.c.seq).where(hidden.c.memory == number, hidden.c.seq > own.head)
    if connection.scalar(gone.limit(1)) is not None:
        yield f"memory {number} hides a turn that is not there"


class _Rows:
    """The own rows of a memory, checked one after the other."""

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
        """Yield what is wrong with the rows, and where they follow those that are inherited."""
        number = self._memory
        tail = next(
            read(connection, inherited.spans, ["seq", "chunk"], limit=1, newest_first=True), None
        )
        if self.last != (tail["seq"] if tail else 0):
            yield f"memory {number} was forked at turn {self.last}, which is not there"
        before = inherited.key, tail["chunk"] if tail else 0
        ids = {row["id"] for row in read(connection, inherited.spans, ["id"])}
        for row in read(connection, [Span(number, 1, LAST)], column_names(turns)):
            name = f"turn {row['seq']} of memory {number}"
            if row_number(number, self.last + 1) > row["row"] or row["row"] & LAST != row["seq"]:
                yield f"{name} is not where it belongs"
                continue
            try:
                for problem in _row(row, self._spec, self._words, self._seals, before=before):
                    yield f"{name} {problem}"
            except FOREIGN as error:
                yield f"{name} cannot be checked ({type(error).__name__}: {error})"
            if row["id"] in ids:
                yield f"{name} has an id that an earlier turn has"
            ids.add(row["id"])
            self.sealed.append(row["seal"])
            before, self.last = (row["key"], row["chunk"]), row["seq"]

    def are(self, entry: Entry) -> bool:
        """Return whether these are the rows in the memory's entry."""
        tip = self.sealed[-1] if self.sealed else b""
        same = (self._seals.rows(self.sealed) - entry.sums(self._seals)[0]) % MODULUS == 0
        return same and (len(self.sealed), tip) == (entry.rows, entry.tip)


def _row(
    row: RowMapping, spec: Spec, words: Words, seals: Seals, *, before: tuple[bytes, int]
) -> Iterator[str]:
    """Yield the faults of a row, given the key and the chunk of the row before it."""
    key, chunk = before
    if seals.row(row) != row["seal"]:
        yield "was changed since it was written: its seal does not fit"
    if seals.reading(row, spec.fingerprint) != row["checksum"]:
        yield "has an embedding or latents that were changed since: their checksum does not fit"
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
        yield "has an embedding or latents that no encoder gives"
    turn = decoded.turn
    terms_of_text = terms(searched(turn.speaker, turn.user, turn.assistant))
    if len(terms_of_text) != row["words"]:
        yield f"has {len(terms_of_text)} words, not {row['words']}"
    words[row["memory"]] += sum(
        hash((row["memory"], row["seq"], term, count))
        for term, count in Counter(terms_of_text).items()
    )
