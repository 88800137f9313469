"""Rebuilding the word index and the lengths of turns when the analyser changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from evomem.store import Span
from evomem_stores.database.dialects import OneOf
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import (
    ENCODER_COLUMNS,
    SAME_ROW,
    encoder,
    generations,
    memories,
    readings,
    turns,
)
from evomem_stores.log.lookup import read
from evomem_stores.log.rows import READING_COLUMNS, searched
from evomem_stores.log.writing import write_terms
from evomem_stores.words.terms import terms

ROWS_PER_BATCH = 256  # rows in memory at once

_LENGTH = (
    update(turns)
    .where(turns.c.row == bindparam("number"))
    .values(words=bindparam("length"), checksum=bindparam("new_checksum"))
)
_CHECKSUM = (
    update(readings)
    .where(
        readings.c.row == bindparam("number"), readings.c.generation == bindparam("by_generation")
    )
    .values(checksum=bindparam("new_checksum"))
)
_TURNS = select(turns.c.row, *(turns.c[name] for name in READING_COLUMNS))
_READINGS = (
    select(
        *(turns.c[name] for name in ("row", *READING_COLUMNS) if name not in ENCODER_COLUMNS),
        *(readings.c[name] for name in ENCODER_COLUMNS),
        readings.c.generation,
        generations.c.fingerprint,
    )
    .join_from(readings, turns, onclause=SAME_ROW)
    .join(generations, generations.c.generation == readings.c.generation)
)


def reanalyse(connection: Connection) -> None:
    """Rebuild the word index and the turns' lengths, and the checksums that cover the lengths.

    A wrong checksum stays unchanged, with its length, so that `verify` keeps reporting it.
    """
    write_terms(connection)
    for memory, head in connection.execute(select(memories.c.memory, memories.c.head)).all():
        for first in range(1, head + 1, ROWS_PER_BATCH):
            _correct_lengths(connection, Span(memory, first, first + ROWS_PER_BATCH - 1))


def _correct_lengths(connection: Connection, span: Span) -> None:
    lengths = {}
    for row in read(connection, [span], ["row", "words", "speaker", "user", "assistant"]):
        length = len(terms(searched(row["speaker"], row["user"], row["assistant"])))
        if length != row["words"]:
            lengths[row["row"]] = length
    if not lengths:
        return
    changed = OneOf(turns.c.row, lengths)
    fingerprint = connection.scalar(select(encoder.c.fingerprint)) or ""
    other_checksums = []
    for row in connection.execute(_READINGS.where(changed)).mappings():
        if checksum := _checksum(connection, row, row["fingerprint"], lengths):
            number, generation = row["row"], row["generation"]
            other_checksums.append(
                {"number": number, "by_generation": generation, "new_checksum": checksum}
            )
    own_checksums = []
    for row in connection.execute(_TURNS.where(changed)).mappings():
        if checksum := _checksum(connection, row, fingerprint, lengths):
            number = row["row"]
            own_checksums.append(
                {"number": number, "length": lengths[number], "new_checksum": checksum}
            )
    if other_checksums:
        connection.execute(_CHECKSUM, other_checksums)
    if own_checksums:
        connection.execute(_LENGTH, own_checksums)


def _checksum(
    connection: Connection, row: RowMapping, fingerprint: str, lengths: Mapping[int, int]
) -> bytes | None:
    """Return the checksum of a reading with its turn's new length; None if the old one is wrong."""
    seals = seals_of(connection)
    if seals.reading(row, fingerprint) != row["checksum"]:
        return None
    columns: dict[str, Any] = {**row, "words": lengths[row["row"]]}
    return seals.reading(columns, fingerprint)
