"""SQLite files: opened read-only, recognised by their tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from evomem.chats.stream import parse
from evomem.errors import InputError

MAGIC = b"SQLite format 3\x00"


@contextmanager
def opened(path: Path, name: str) -> Iterator[sqlite3.Connection]:
    """Open a SQLite file for reading.

    Raises:
        InputError: The file is damaged, on opening or while it is read.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as file:
            file.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
            yield file
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise InputError(f"{name} is a SQLite file that cannot be read: {error}") from error


def tables(file: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Return the names of all tables, each with its columns."""
    names = [
        name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    return {
        name: frozenset(
            row[0] for row in file.execute("SELECT name FROM pragma_table_info(?)", [name])
        )
        for name in names
    }


def tables_with(file: sqlite3.Connection, columns: frozenset[str]) -> list[str]:
    """Return the names of the tables that have these columns, quoted for SQL."""
    return [
        '"' + name.replace('"', '""') + '"'
        for name, known in tables(file).items()
        if columns <= known
    ]


def grouped(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, Iterator[tuple[Any, ...]]]]:
    """Yield the rows of each session, which is in their first column."""
    for key, members in groupby(rows, key=lambda row: row[0]):
        yield str(key), members


def json_of(data: object, where: str) -> object:
    """Return the JSON value of a column, or its text if it is not JSON."""
    if isinstance(data, bytes):
        data = data.decode("utf-8", "replace")
    if not isinstance(data, str):
        return data
    try:
        return parse(data, where)
    except InputError:
        return data
