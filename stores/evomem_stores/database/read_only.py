"""Reads SQLite databases that this process cannot write.

SQLite needs a `-shm` file to read a database in WAL mode, and cannot create one here. A database
without a write-ahead log is therefore opened as immutable. Another process may still change it,
through another mount or as another user, so each transaction checks that its files stayed the same.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from evomem.errors import EvomemError, HeadMoved, StoreError


class _Files(NamedTuple):
    """The state of a database's files; the stamps are (size, modification time, inode)."""

    database: tuple[int, ...] | None
    log: tuple[int, ...] | None
    shared: bool
    """Whether the `-shm` file exists."""

    @property
    def unchanging(self) -> bool:
        """Whether the whole database is in one file that no process has open for writing."""
        return self.log is None or not (self.log[0] or self.shared)


def why_read_only(path: Path) -> str | None:
    """Return why the database at `path` cannot be written ("is on ..."); None if it can."""
    real = Path(os.path.realpath(path))
    if not real.exists() or _may(real, os.W_OK) and _may(real.parent, os.W_OK | os.X_OK):
        return None
    if os.statvfs(real).f_flag & os.ST_RDONLY:
        return "is on a read-only file system"
    if not _may(real, os.W_OK):
        return "is a file that this user may not write"
    return "is in a folder that this user may not write, where SQLite keeps its write-ahead log"


def connect(path: Path, busy_timeout: float = 0.0) -> sqlite3.Connection:
    """Open a database that cannot be written; wait up to `busy_timeout` seconds for locks.

    Raises:
        StoreError: Reading its newest turns, or rolling back an interrupted change, needs a write.
    """
    files = _files(path)
    real = Path(os.path.realpath(path))
    journal = real.with_name(real.name + "-journal")
    if not files.unchanging and not files.shared:
        raise StoreError(
            f"{path} cannot be read without write access: its newest turns are in {path.name}"
            f"-wal, and {path.name}-shm is missing; copy both files to a writable folder, and open "
            "the copy"
        )
    if journal.exists() and journal.stat().st_size:
        raise StoreError(
            f"{path} cannot be read without write access: a change was interrupted, and has to "
            f"be rolled back with {journal.name}; copy both files to a writable folder, and open "
            "the copy"
        )
    options = "mode=ro&immutable=1" if files.unchanging else "mode=ro"
    return sqlite3.connect(
        f"{real.as_uri()}?{options}",
        timeout=busy_timeout,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Check that an immutable database did not change during the block.

    Where the `-shm` file exists, SQLite isolates readers itself, and changes are allowed.

    Raises:
        HeadMoved: The database changed, so what was read may be inconsistent.
    """
    before = _files(path)
    try:
        yield
    except EvomemError as error:
        if _changed(before, path):
            raise _moved(path) from error
        raise
    if _changed(before, path):
        raise _moved(path)


def _changed(before: _Files, path: Path) -> bool:
    now = _files(path)
    return now != before and (now.unchanging or before.unchanging)


def _moved(path: Path) -> HeadMoved:
    return HeadMoved(f"{path} was changed while it was being read; try again")


def _files(path: Path) -> _Files:
    real = os.path.realpath(path)
    return _Files(_stamp(real), _stamp(real + "-wal"), os.path.exists(real + "-shm"))


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _may(path: Path, mode: int) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, mode, effective_ids=effective)
