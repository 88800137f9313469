"""Records the statements that the driver is given, and counts the transactions that calls take."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from evomem.database import Database
from evomem.memory import Memory
from evomem_stores.database import sqlite
from evomem_stores.upkeep import generations

NOT_COUNTED = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", ";", "SELECT pg_", generations._NOW)


@dataclass
class Work:
    """What the driver was given to do."""

    given: list[tuple[str, Any]] = field(default_factory=list)
    """Statements with their values; those of one `executemany` count as one."""
    transactions: int = 0

    @property
    def statements(self) -> list[str]:
        """The statements without their values."""
        return [statement for statement, _ in self.given]

    def note(self, statement: str, values: Any) -> None:
        """Record a statement."""
        self.transactions += statement.startswith("BEGIN")
        if statement and not statement.startswith(NOT_COUNTED):
            self.given.append((statement, values))


@contextmanager
def counted(database: Database | Memory) -> Iterator[Work]:
    """Record what this process asks databases like this one inside of the context.

    Statements that begin and end transactions, with their locks and the check of the encoder, and those
    that set up a connection, are not counted.
    """
    work = Work()
    connections: Any = database._engine.store._connections  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(connections, sqlite.SqliteConnections):
            _note_of_sqlite(patch, work)
        else:
            _note_of_postgresql(patch, work)
        yield work


def _note_of_sqlite(patch: pytest.MonkeyPatch, work: Work) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, statement: str, values: Any = ()) -> Cursor:
            work.note(statement, values)
            return super().execute(statement, values)

        def executemany(self, statement: str, values: Any) -> Cursor:
            listed = list(values)
            work.note(statement, listed)
            return super().executemany(statement, listed)

    def cursor(connection: sqlite3.Connection) -> Cursor:
        return sqlite3.Connection.cursor(connection, Cursor)

    def execute(connection: sqlite3.Connection, *given: Any) -> Cursor:
        return cursor(connection).execute(*given)

    def executemany(connection: sqlite3.Connection, *given: Any) -> Cursor:
        return cursor(connection).executemany(*given)

    for method in (cursor, execute, executemany):
        patch.setattr(sqlite._Connection, method.__name__, method)


def _note_of_postgresql(patch: pytest.MonkeyPatch, work: Work) -> None:
    psycopg = pytest.importorskip("psycopg")
    for name in ("execute", "executemany"):
        unpatched = getattr(psycopg.Cursor, name)

        def noted(
            cursor: Any, statement: Any, *given: Any, of: Any = unpatched, **options: Any
        ) -> Any:
            work.note(str(statement), given)
            return of(cursor, statement, *given, **options)

        patch.setattr(psycopg.Cursor, name, noted)
