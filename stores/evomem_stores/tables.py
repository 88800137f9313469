"""The tables as queries see them. Their constraints and indexes are in `migrations`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Integer, LargeBinary, MetaData, String, Table

from evomem.store import Span

METADATA = MetaData()
LAST = 2**32 - 1  # the greatest seq there can be

encoder = Table(
    "encoder",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String),
    Column("fingerprint", String),
    Column("dim", Integer),
    Column("latents", Integer),
    Column("width", Integer),
    Column("capacity", Integer),
    Column("dtype", String),
)

memories = Table(
    "memories",
    METADATA,
    Column("memory", Integer, primary_key=True),
    Column("namespace", String),  # canonical JSON array of the labels
    Column("parent", Integer),  # the memory whose rows up to `parent_seq` come before its own
    Column("parent_seq", Integer),
    Column("head", Integer),  # the newest seq ever given out: a purged turn's is not used again
    Column("revision", Integer),
    Column("created", Integer),  # this and all times: microseconds since 1970, UTC
)

turns = Table(
    "turns",
    METADATA,
    Column("row", Integer, primary_key=True),  # see `row_number`
    Column("memory", Integer),
    Column("seq", Integer),
    Column("id", String),
    Column("chunk", Integer),  # seq of the first turn of the chunk that the turn belongs to
    Column("words", Integer),  # length in terms, for BM25
    Column("time", Integer),
    Column("added", Integer),
    Column("key", LargeBinary),
    Column("checksum", LargeBinary),  # of all other columns: SQLite does not notice a flipped bit
    Column("session", String),
    Column("speaker", String),
    Column("user", String),
    Column("assistant", String),
    Column("metadata", String),
    Column("embedding", LargeBinary),
    Column("latents", LargeBinary),
)

hidden = Table(
    "hidden",
    METADATA,
    Column("memory", Integer, primary_key=True),
    Column("seq", Integer, primary_key=True),
)

lexicon = Table(
    "lexicon",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("analyser", String),
)

generations = Table(
    "generations",  # encoders, other than the one in use, that have read turns as well
    METADATA,
    Column("generation", Integer, primary_key=True),
    *(Column(column.name, column.type) for column in encoder.columns if column.name != "id"),
)

readings = Table(
    "readings",  # what they made of a turn; goes with the turn
    METADATA,
    Column("generation", Integer, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("chunk", Integer),
    Column("embedding", LargeBinary),
    Column("latents", LargeBinary),
    Column("checksum", LargeBinary),  # that of the turn's row, were this its reading
)

READ = ("chunk", "embedding", "latents", "checksum")
"""The columns of a turn that differ from encoder to encoder."""

SAME_ROW = readings.c.row == turns.c.row

done = Table(
    "migrations",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("name", String),
    Column("applied", Integer),
)


def row_number(memory: int, seq: int) -> int:
    """Return the primary key of a turn: a memory's rows lie together on disk, in log order.

    The full-text index knows a turn by this number alone, and the seq can be read off it.
    """
    return memory << 32 | seq


def within(span: Span) -> ColumnElement[bool]:
    """Return the condition that a turn lies in `span`, for queries that read whole rows."""
    return turns.c.row.between(
        row_number(span.memory, span.first), row_number(span.memory, span.last)
    )


def counted(span: Span) -> tuple[ColumnElement[bool], ...]:
    """Return the same for queries that an index answers without touching the (large) rows."""
    return turns.c.memory == span.memory, turns.c.seq.between(span.first, span.last)


def column_names(table: Table) -> list[str]:
    """Return the names of a table's columns, in order."""
    return [str(column.name) for column in table.columns]


Columns = dict[str, Any]
