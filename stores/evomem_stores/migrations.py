"""The schema as numbered steps. A step and its record are committed together.

A step that was released is never changed again: what changes comes as a new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select

from evomem.errors import StoreError
from evomem_stores.tables import done

APPLICATION = 0x45764F6D  # "EvOm" in the file's header: this SQLite database is ours


def m001_log(connection: Connection) -> None:
    """Make the log, its tombstones and the inverted index of its words."""
    for statement in (
        f"PRAGMA application_id = {APPLICATION}",
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
        # contentless: the words are in `turns` already. ascii: every other character is kept.
        """CREATE VIRTUAL TABLE terms USING fts5(
            body, content='', columnsize=0, tokenize="ascii tokenchars '_'")""",
        "CREATE VIRTUAL TABLE postings USING fts5vocab('terms', 'instance')",
    ):
        connection.exec_driver_sql(statement)


def m002_generations(connection: Connection) -> None:
    """Make room for what other encoders make of the turns, until one takes the place of the first."""
    for statement in (
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
    ):
        connection.exec_driver_sql(statement)


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (m001_log, m002_generations)


def pending(connection: Connection) -> list[tuple[int, Callable[[Connection], None]]]:
    """Return the steps that this database lacks, each with its number.

    Raises:
        StoreError: The database has steps that this program does not know.
    """
    newest = 0
    if inspect(connection).has_table(done.name):
        numbers = connection.scalars(select(done.c.number).order_by(done.c.number)).all()
        newest = len(numbers)
    if newest > len(MIGRATIONS):
        raise StoreError(
            f"the database is of version {newest}, this evomem knows versions up to "
            f"{len(MIGRATIONS)}: upgrade evomem to open it"
        )
    return list(enumerate(MIGRATIONS, start=1))[newest:]


def apply(connection: Connection, number: int, step: Callable[[Connection], None]) -> None:
    """Run one step and record it, in the connection's transaction."""
    connection.exec_driver_sql(
        "CREATE TABLE IF NOT EXISTS migrations "
        "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied INTEGER NOT NULL)"
    )
    step(connection)
    connection.execute(
        insert(done).values(
            number=number,
            name=step.__name__,
            applied=time.time_ns() // 1000,
        )
    )
