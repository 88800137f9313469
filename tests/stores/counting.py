"""Counts the statements and the transactions that calls take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event

from evomem.database import Database


@dataclass
class Work:
    """What a database was asked to do."""

    statements: list[str] = field(default_factory=list)
    transactions: int = 0


@contextmanager
def counted(database: Database) -> Iterator[Work]:
    """Count what a database is asked inside of the context.

    Statements that begin and end transactions, and those that set up a connection, are not counted.
    """
    work = Work()
    engine = database._engine.store._connections._engine  # type: ignore[attr-defined]

    def began(_: Any) -> None:
        work.transactions += 1

    def asked(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SET")):
            work.statements.append(statement)

    event.listen(engine, "begin", began)
    event.listen(engine, "before_cursor_execute", asked)
    try:
        yield work
    finally:
        event.remove(engine, "begin", began)
        event.remove(engine, "before_cursor_execute", asked)
