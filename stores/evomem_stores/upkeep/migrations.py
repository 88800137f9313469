"""Migrations: the schema as numbered steps. All missing steps are committed together.

A released step is never changed; further changes are new steps. A step has the same number, and the
same effect, in SQLite and in PostgreSQL.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select

from evomem.errors import StoreError
from evomem_stores.database.seals import Seals
from evomem_stores.database.tables import APPLICATION_ID, SCHEMA_COMMENT, migrations
from evomem_stores.log import ledger
from evomem_stores.upkeep import sealing

_LOG_SQLITE = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    """CREATE TABLE encoder (
        id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL, fingerprint TEXT NOT NULL,
        dim INTEGER NOT NULL, latents INTEGER NOT NULL, width INTEGER NOT NULL,
        capacity INTEGER NOT NULL, dtype TEXT NOT NULL)""",
    """CREATE TABLE memories (
        memory INTEGER PRIMARY KEY, namespace TEXT NOT NULL UNIQUE,
        parent INTEGER REFERENCES memories CHECK (parent < memory), parent_seq INTEGER NOT NULL,
        head INTEGER NOT NULL CHECK (head >= parent_seq), revision INTEGER NOT NULL,
        created INTEGER NOT NULL)""",
    "CREATE INDEX memories_parent ON memories (parent, parent_seq) WHERE parent IS NOT NULL",
    """CREATE TABLE turns (
        row INTEGER PRIMARY KEY CHECK (row = (memory << 32) + seq),
        memory INTEGER NOT NULL REFERENCES memories,
        seq INTEGER NOT NULL CHECK (seq BETWEEN 1 AND 4294967295),
        id TEXT NOT NULL, chunk INTEGER NOT NULL CHECK (chunk BETWEEN 1 AND seq),
        words INTEGER NOT NULL, time INTEGER NOT NULL, added INTEGER NOT NULL,
        key BLOB NOT NULL, checksum BLOB NOT NULL, session TEXT, speaker TEXT,
        user TEXT NOT NULL, assistant TEXT NOT NULL, metadata TEXT NOT NULL,
        embedding BLOB NOT NULL, latents BLOB NOT NULL, UNIQUE (memory, id))""",
    "CREATE INDEX turns_words ON turns (memory, seq, words)",
    "CREATE INDEX turns_time ON turns (memory, time, seq)",
    "CREATE INDEX turns_session ON turns (memory, session, seq) WHERE session IS NOT NULL",
    """CREATE TABLE hidden (
        memory INTEGER NOT NULL REFERENCES memories, seq INTEGER NOT NULL,
        PRIMARY KEY (memory, seq)) WITHOUT ROWID""",
    "CREATE TABLE lexicon (id INTEGER PRIMARY KEY CHECK (id = 1), analyser TEXT NOT NULL)",
)

# Collation "C" orders by bytes, as SQLite does. Names can exceed the size limit of B-tree entries,
# which EXCLUDE's hash index does not have. EXTERNAL avoids compressing vectors, which is futile.
_LOG_POSTGRESQL = (
    f"COMMENT ON TABLE migrations IS '{SCHEMA_COMMENT}'",
    """CREATE TABLE encoder (
        id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL, fingerprint TEXT NOT NULL,
        dim BIGINT NOT NULL, latents BIGINT NOT NULL, width BIGINT NOT NULL,
        capacity BIGINT NOT NULL, dtype TEXT NOT NULL)""",
    """CREATE TABLE memories (
        memory BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY (MAXVALUE 2147483647),
        namespace TEXT COLLATE "C" NOT NULL, parent BIGINT REFERENCES memories CHECK (parent < memory),
        parent_seq BIGINT NOT NULL, head BIGINT NOT NULL CHECK (head >= parent_seq),
        revision BIGINT NOT NULL, created BIGINT NOT NULL, EXCLUDE USING hash (namespace WITH =))""",
    "CREATE INDEX memories_parent ON memories (parent, parent_seq) WHERE parent IS NOT NULL",
    """CREATE TABLE turns (
        "row" BIGINT PRIMARY KEY CHECK ("row" = (memory << 32) + seq),
        memory BIGINT NOT NULL REFERENCES memories,
        seq BIGINT NOT NULL CHECK (seq BETWEEN 1 AND 4294967295),
        id TEXT COLLATE "C" NOT NULL, chunk BIGINT NOT NULL CHECK (chunk BETWEEN 1 AND seq),
        words INTEGER NOT NULL, "time" BIGINT NOT NULL, added BIGINT NOT NULL,
        key BYTEA NOT NULL, checksum BYTEA NOT NULL, session TEXT COLLATE "C", speaker TEXT,
        "user" TEXT NOT NULL, assistant TEXT NOT NULL, metadata TEXT NOT NULL,
        embedding BYTEA NOT NULL, latents BYTEA NOT NULL, UNIQUE (memory, id))""",
    """ALTER TABLE turns ALTER COLUMN embedding SET STORAGE EXTERNAL,
        ALTER COLUMN latents SET STORAGE EXTERNAL""",
    "CREATE INDEX turns_words ON turns (memory, seq) INCLUDE (words)",
    'CREATE INDEX turns_time ON turns (memory, "time", seq)',
    "CREATE INDEX turns_session ON turns (memory, session, seq) WHERE session IS NOT NULL",
    """CREATE TABLE hidden (
        memory BIGINT NOT NULL REFERENCES memories, seq BIGINT NOT NULL,
        PRIMARY KEY (memory, seq))""",
    "CREATE TABLE lexicon (id INTEGER PRIMARY KEY CHECK (id = 1), analyser TEXT NOT NULL)",
    # Like SQLite's numbers in JSON: 64-bit integers, and float64 for all others. A float64 is
    # converted exactly in the range where it could be compared with a close integer.
    """CREATE FUNCTION metadata_number(literal TEXT) RETURNS NUMERIC LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE
            WHEN literal ~ '^-?[0-9]+$'
                AND literal::numeric BETWEEN -9223372036854775808 AND 9223372036854775807
                THEN literal::numeric
            WHEN abs(literal::numeric) > 1.7976931348623157e308
                THEN sign(literal::numeric) * 'Infinity'::numeric
            WHEN abs(literal::float8) >= 9007199254740992 AND abs(literal::float8) < 9223372036854775808
                THEN literal::float8::bigint::numeric
            ELSE literal::float8::text::numeric
        END $$""",
    """CREATE FUNCTION metadata_entries(metadata TEXT)
        RETURNS TABLE (key TEXT, type TEXT, value TEXT, number NUMERIC) LANGUAGE sql IMMUTABLE AS $$
        SELECT entry.key COLLATE "C",
            CASE json_typeof(entry.value)
                WHEN 'string' THEN 'text' WHEN 'number' THEN 'real'
                WHEN 'boolean' THEN entry.value #>> '{}' ELSE json_typeof(entry.value) END,
            (entry.value #>> '{}') COLLATE "C",
            CASE WHEN json_typeof(entry.value) = 'number'
                THEN metadata_number(entry.value #>> '{}') END
        FROM json_each(metadata::json) AS entry $$""",
)


_GENERATIONS_SQLITE = (
    """CREATE TABLE generations (
        generation INTEGER PRIMARY KEY, name TEXT NOT NULL, fingerprint TEXT NOT NULL UNIQUE,
        dim INTEGER NOT NULL, latents INTEGER NOT NULL, width INTEGER NOT NULL,
        capacity INTEGER NOT NULL, dtype TEXT NOT NULL)""",
    """CREATE TABLE readings (
        generation INTEGER NOT NULL REFERENCES generations ON DELETE CASCADE,
        row INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE, chunk INTEGER NOT NULL,
        embedding BLOB NOT NULL, latents BLOB NOT NULL, checksum BLOB NOT NULL,
        PRIMARY KEY (row, generation))""",
    "CREATE INDEX readings_generation ON readings (generation)",
)

_GENERATIONS_POSTGRESQL = (
    """CREATE TABLE generations (
        generation BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        name TEXT NOT NULL, fingerprint TEXT NOT NULL UNIQUE,
        dim BIGINT NOT NULL, latents BIGINT NOT NULL, width BIGINT NOT NULL,
        capacity BIGINT NOT NULL, dtype TEXT NOT NULL)""",
    """CREATE TABLE readings (
        generation BIGINT NOT NULL REFERENCES generations ON DELETE CASCADE,
        "row" BIGINT NOT NULL REFERENCES turns ON DELETE CASCADE, chunk BIGINT NOT NULL,
        embedding BYTEA NOT NULL, latents BYTEA NOT NULL, checksum BYTEA NOT NULL,
        PRIMARY KEY ("row", generation))""",
    """ALTER TABLE readings ALTER COLUMN embedding SET STORAGE EXTERNAL,
        ALTER COLUMN latents SET STORAGE EXTERNAL""",
    "CREATE INDEX readings_generation ON readings (generation)",
)


_WORDS_SQLITE = (
    "DROP TABLE IF EXISTS postings",
    "DROP TABLE IF EXISTS terms",
    """CREATE TABLE runs (
        memory INTEGER NOT NULL REFERENCES memories, last INTEGER NOT NULL,
        first INTEGER NOT NULL CHECK (first BETWEEN 1 AND last),
        PRIMARY KEY (memory, last)) WITHOUT ROWID""",
    """CREATE TABLE postings (
        memory INTEGER NOT NULL, last INTEGER NOT NULL, term TEXT NOT NULL, seqs BLOB NOT NULL,
        PRIMARY KEY (memory, last, term)) WITHOUT ROWID""",
    # forces a rebuild of the word index
    "UPDATE lexicon SET analyser = '' WHERE EXISTS (SELECT 1 FROM turns)",
)

_WORDS_POSTGRESQL = (
    "DROP TABLE IF EXISTS terms",
    """CREATE TABLE runs (
        memory BIGINT NOT NULL REFERENCES memories, last BIGINT NOT NULL,
        first BIGINT NOT NULL CHECK (first BETWEEN 1 AND last), PRIMARY KEY (memory, last))""",
    """CREATE TABLE postings (
        memory BIGINT NOT NULL, last BIGINT NOT NULL, term TEXT COLLATE "C" NOT NULL,
        seqs BYTEA NOT NULL, PRIMARY KEY (memory, last, term))""",
    "UPDATE lexicon SET analyser = '' WHERE EXISTS (SELECT 1 FROM turns)",
)


# The indexes cover filters and `influence`: in a row, these columns are stored after the vectors.
_PROVENANCE = (
    "ALTER TABLE turns ADD COLUMN source TEXT{collate}",
    "ALTER TABLE turns ADD COLUMN recalled TEXT",
    "CREATE INDEX turns_source ON turns (memory, source, seq) WHERE source IS NOT NULL",
    "CREATE INDEX turns_recalled ON turns (memory, seq) WHERE recalled IS NOT NULL",
)


def m001_log(connection: Connection) -> None:
    """Create the log and its tombstones."""
    server = connection.dialect.name == "postgresql"
    for statement in _LOG_POSTGRESQL if server else _LOG_SQLITE:
        connection.exec_driver_sql(statement)


def m002_generations(connection: Connection) -> None:
    """Add tables for the readings of other encoders."""
    server = connection.dialect.name == "postgresql"
    for statement in _GENERATIONS_POSTGRESQL if server else _GENERATIONS_SQLITE:
        connection.exec_driver_sql(statement)


def m003_words(connection: Connection) -> None:
    """Store the words of each memory separately, in the same tables for SQLite and PostgreSQL.

    FTS5 has one index for all memories. Forgetting a turn requires a merge of the whole index, and
    after some 2,000 merges SQLite before 3.42 considers it, and with it the database, damaged. Such an
    index can only be dropped after it is marked as empty.
    """
    server = connection.dialect.name == "postgresql"
    if not server and inspect(connection).has_table("terms_data"):
        connection.exec_driver_sql("UPDATE terms_data SET block = zeroblob(7) WHERE id = 10")
    for statement in _WORDS_POSTGRESQL if server else _WORDS_SQLITE:
        connection.exec_driver_sql(statement)


def m004_provenance(connection: Connection) -> None:
    """Add each turn's source, and the ids of the turns that its answer was based on."""
    server = connection.dialect.name == "postgresql"
    for statement in _PROVENANCE:
        collate = ' COLLATE "C"' if server else ""
        connection.exec_driver_sql(statement.format(collate=collate))


_INTEGRITY = (
    "ALTER TABLE turns ADD COLUMN seal {bytes} NOT NULL DEFAULT {empty}",
    """CREATE TABLE integrity (
        id INTEGER PRIMARY KEY CHECK (id = 1), database TEXT NOT NULL, key TEXT NOT NULL,
        changes BIGINT NOT NULL, memories BIGINT NOT NULL, total {bytes} NOT NULL,
        seal {bytes} NOT NULL)""",
    *(
        f"ALTER TABLE memories ADD COLUMN {column}"
        for column in (
            '"rows" BIGINT NOT NULL DEFAULT 0',
            "tip {bytes} NOT NULL DEFAULT {empty}",
            "gone BIGINT NOT NULL DEFAULT 0",
            "changes BIGINT NOT NULL DEFAULT 0",
            "sums {bytes} NOT NULL DEFAULT {empty}",
            "seal {bytes} NOT NULL DEFAULT {empty}",
        )
    ),
)


def m005_integrity(connection: Connection) -> None:
    """Seal each turn, each memory, and the database, without a key.

    A turn whose old checksum is wrong gets an invalid seal, so that `verify` keeps reporting it.
    """
    server = connection.dialect.name == "postgresql"
    names = {"bytes": "BYTEA", "empty": "''"} if server else {"bytes": "BLOB", "empty": "x''"}
    for statement in _INTEGRITY:
        connection.exec_driver_sql(statement.format(**names))
    seals = Seals(secrets.token_hex(16))
    connection.execution_options(seals=seals)
    ledger.create_database_entry(connection, seals)
    sealing.seal(connection, sealing.was_sound_without_seals, purges_leave_marks=False)


_FORGOTTEN = (
    "ALTER TABLE hidden ADD COLUMN since BIGINT NOT NULL DEFAULT 0",
    """CREATE TABLE forgotten (
        memory BIGINT NOT NULL REFERENCES memories, mark TEXT{collate} NOT NULL,
        key TEXT NOT NULL, PRIMARY KEY (memory, mark))""",
)


def m006_forgotten(connection: Connection) -> None:
    """Let a turn replace an earlier one, and mark purged turns.

    The seals of memories stay valid: a memory without marks needs no sum over marks.
    """
    collate = ' COLLATE "C"' if connection.dialect.name == "postgresql" else ""
    for statement in _FORGOTTEN:
        connection.exec_driver_sql(statement.format(collate=collate))


def m007_passages(connection: Connection) -> None:
    """Allow several embeddings per turn, one after the other in its column.

    The schema does not change. The step keeps versions that would consider such a turn damaged from
    opening the database.
    """


def m008_storage(connection: Connection) -> None:
    """Record the form in which embeddings are stored; existing ones are float32."""
    connection.exec_driver_sql(
        "CREATE TABLE storage (id INTEGER PRIMARY KEY CHECK (id = 1), embeddings TEXT NOT NULL)"
    )
    connection.exec_driver_sql("INSERT INTO storage VALUES (1, 'float32')")


def m009_leases(connection: Connection) -> None:
    """Add leases of memories: fencing token, holder, expiry, and whether another worker waits."""
    collate = ' COLLATE "C"' if connection.dialect.name == "postgresql" else ""
    for column in (
        "fence BIGINT NOT NULL DEFAULT 0",
        f"holder TEXT{collate}",
        "leased BIGINT NOT NULL DEFAULT 0",
        "wanted BIGINT NOT NULL DEFAULT 0",
    ):
        connection.exec_driver_sql(f"ALTER TABLE memories ADD COLUMN {column}")


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    m001_log,
    m002_generations,
    m003_words,
    m004_provenance,
    m005_integrity,
    m006_forgotten,
    m007_passages,
    m008_storage,
    m009_leases,
)


def pending(connection: Connection) -> list[tuple[int, Callable[[Connection], None]]]:
    """Return the steps that this database lacks, each with its number.

    Raises:
        StoreError: A newer version of evomem wrote the database.
    """
    newest = 0
    if inspect(connection).has_table(migrations.name):
        numbers = connection.scalars(
            select(migrations.c.number).order_by(migrations.c.number)
        ).all()
        newest = len(numbers)
    if newest > len(MIGRATIONS):
        raise StoreError(
            f"the database was written by a newer version of evomem (schema {newest}; this version "
            f"supports schemas up to {len(MIGRATIONS)}): upgrade evomem to open it"
        )
    return list(enumerate(MIGRATIONS, start=1))[newest:]


def apply(connection: Connection, number: int, step: Callable[[Connection], None]) -> None:
    """Run one step and record it, in the connection's transaction."""
    if number == 1:
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied BIGINT NOT NULL)"
        )
    step(connection)
    connection.execute(
        insert(migrations).values(
            number=number,
            name=step.__name__,
            applied=time.time_ns() // 1000,
        )
    )
