"""The tables and columns for queries; constraints and indexes are in `upkeep/migrations`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, LargeBinary, MetaData, String, Table

from evomem.store import Span

METADATA = MetaData()
MAX_SEQ = 2**32 - 1  # seqs are the lower 32 bits of a row number
APPLICATION_ID = 0x45764F6D  # "EvOm" in the file's header marks an SQLite database of evomem
SCHEMA_COMMENT = "evomem"  # on the table `migrations`: marks a PostgreSQL schema of evomem

encoder = Table(
    "encoder",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("name", String),
    Column("fingerprint", String),
    Column("dim", BigInteger),
    Column("latents", BigInteger),
    Column("width", BigInteger),
    Column("capacity", BigInteger),
    Column("dtype", String),
)

memories = Table(
    "memories",
    METADATA,
    Column("memory", BigInteger, primary_key=True),
    Column("namespace", String),  # canonical JSON array of the labels
    Column("parent", BigInteger),  # the memory whose rows up to `parent_seq` precede its own
    Column("parent_seq", BigInteger),
    Column("head", BigInteger),  # the newest seq ever assigned: seqs of purged turns are not reused
    Column("revision", BigInteger),
    Column("created", BigInteger),  # like all times: microseconds since 1970, UTC
    Column("rows", BigInteger),  # this and the following columns: `ledger.Entry`
    Column("tip", LargeBinary),
    Column("gone", BigInteger),
    Column("changes", BigInteger),
    Column("sums", LargeBinary),
    Column("seal", LargeBinary),
    Column("fence", BigInteger),  # this and the following columns: `log/leases`; not sealed
    Column("holder", String),
    Column("leased", BigInteger),
    Column("wanted", BigInteger),
)

integrity = Table(
    "integrity",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("database", String),  # a random id of this database
    Column("key", String),  # `evomem.integrity.key_id`
    Column("changes", BigInteger),  # this and the following columns: `ledger.DatabaseEntry`
    Column("memories", BigInteger),
    Column("total", LargeBinary),
    Column("seal", LargeBinary),
)

turns = Table(
    "turns",
    METADATA,
    Column("row", BigInteger, primary_key=True),  # see `row_number`
    Column("memory", BigInteger),
    Column("seq", BigInteger),
    Column("id", String),
    Column("chunk", BigInteger),  # seq of the first turn of the turn's chunk
    Column("words", BigInteger),  # length in terms, for BM25
    Column("time", BigInteger),
    Column("added", BigInteger),
    Column("key", LargeBinary),
    Column("checksum", LargeBinary),  # `Seals.reading`: over the encoder's results for the turn
    Column("session", String),
    Column("speaker", String),
    Column("user", String),
    Column("assistant", String),
    Column("metadata", String),
    Column("embedding", LargeBinary),  # several in a row for a long text
    Column("latents", LargeBinary),
    Column("source", String),
    Column("recalled", String),  # JSON array of ids, NULL for none
    Column("seal", LargeBinary),  # `Seals.row`: over the turn's record
)

hidden = Table(
    "hidden",
    METADATA,
    Column("memory", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("since", BigInteger),  # hidden in views that end here or later; 0: in all of them
)

forgotten = Table(
    "forgotten",  # marks of purged turns (the module `forgotten`)
    METADATA,
    Column("memory", BigInteger, primary_key=True),
    Column("mark", String, primary_key=True),
    Column("key", String),
)

lexicon = Table(
    "lexicon",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("analyser", String),
)

storage = Table(
    "storage",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("embeddings", String),  # `evomem.rows.Form` of new turns' embeddings
)

runs = Table(
    "runs",  # consecutive turns whose words are stored together in `postings` (`words`)
    METADATA,
    Column("memory", BigInteger, primary_key=True),
    Column("last", BigInteger, primary_key=True),  # seq of the run's last turn
    Column("first", BigInteger),
)

postings = Table(
    "postings",
    METADATA,
    Column("memory", BigInteger, primary_key=True),
    Column("last", BigInteger, primary_key=True),  # identifies the run
    Column("term", String, primary_key=True),
    Column("seqs", LargeBinary),  # uint32, little-endian: one per occurrence of the term
)

generations = Table(
    "generations",  # encoders other than the current one that have read turns
    METADATA,
    Column("generation", BigInteger, primary_key=True),
    *(Column(column.name, column.type) for column in encoder.columns if column.name != "id"),
)

readings = Table(
    "readings",  # results of those encoders for a turn; deleted with the turn
    METADATA,
    Column("generation", BigInteger, primary_key=True),
    Column("row", BigInteger, primary_key=True),
    Column("chunk", BigInteger),
    Column("embedding", LargeBinary),
    Column("latents", LargeBinary),
    Column("checksum", LargeBinary),  # the turn's checksum if this were its current reading
)

ENCODER_COLUMNS = ("chunk", "embedding", "latents", "checksum")
"""The columns of a turn that depend on the encoder."""

SAME_ROW = readings.c.row == turns.c.row

migrations = Table(
    "migrations",
    METADATA,
    Column("number", BigInteger, primary_key=True),
    Column("name", String),
    Column("applied", BigInteger),
)


def row_number(memory: int, seq: int) -> int:
    """Return the primary key of a turn, which keeps a memory's rows adjacent on disk, in log order."""
    return memory << 32 | seq


def within(span: Span) -> ColumnElement[bool]:
    """Return the condition that a turn is in a span, for queries that read whole rows."""
    return turns.c.row.between(
        row_number(span.memory, span.first), row_number(span.memory, span.last)
    )


def within_by_seq(span: Span) -> tuple[ColumnElement[bool], ...]:
    """Return the same condition in a form that an index on seqs answers without the (large) rows."""
    return turns.c.memory == span.memory, turns.c.seq.between(span.first, span.last)


def within_by_time(span: Span) -> tuple[ColumnElement[bool], ...]:
    """Return the same condition in a form that the index on times answers in order of time.

    With a bare `seq`, SQLite reads all rows of the span and sorts them.
    """
    seq = turns.c.seq + 0
    return turns.c.memory == span.memory, seq.between(span.first, span.last)


def column_names(table: Table) -> list[str]:
    """Return the names of a table's columns, in order."""
    return [str(column.name) for column in table.columns]


Columns = dict[str, Any]
