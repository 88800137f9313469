"""SQLite: creating, recognising and opening a file, its transactions and its errors."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool, Pool, QueuePool, StaticPool

from evomem.errors import DatabaseBusy, DatabaseDamaged, EvomemError, StoreError
from evomem.store import WriteSlot
from evomem_stores.database import read_only
from evomem_stores.database.compiled import CACHE, Shared, register
from evomem_stores.database.connections import (
    FOREIGN,
    Connections,
    check_timeout,
    driver,
    sync_folder,
)
from evomem_stores.database.sqlite_forks import close_at_forks, using_sqlite
from evomem_stores.database.tables import APPLICATION
from evomem_stores.database.write_slots import FileSlots

Synchronous = Literal["FULL", "NORMAL"]
PAGE = 16_384  # bytes: in smaller ones, more of a page stays empty after large rows
READERS = 16  # connections kept open; more threads than that wait for one

_BUSY = ("locked", "busy", "locking protocol", "queuepool limit")
_DAMAGED = ("malformed", "not a database", "disk i/o error", "corrupt", "could not decode")

_making = threading.Lock()  # no thread may open a new file that another has yet to close

_LEAST = 512  # bytes: SQLite's smallest page
_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # how SQLite's rollback journal begins

_LOST = "{path} cannot be read ({says}): restore it from a backup; the file was left as it is"


class SqliteDialect(Shared, SQLiteDialect_pysqlite):
    """SQLAlchemy's, whose compiled statements all files share."""

    supports_statement_cache = True


_URL = register(SqliteDialect, "sqlite") + "://"


class SqliteConnections(Connections):
    """Connections to one file, set up for a log: WAL, fsync at commit, secure deletion."""

    def __init__(self, path: Path | None, synchronous: Synchronous, busy_timeout: float) -> None:
        super().__init__()
        if synchronous not in ("FULL", "NORMAL"):
            raise StoreError(f"synchronous must be 'FULL' or 'NORMAL', got {synchronous!r}")
        self.path = path
        self.place = str(path or f":memory: (database {secrets.token_hex(4)})")
        self._closed = False
        self._slots = FileSlots(path)
        self._timeout = check_timeout(busy_timeout)
        self._pragmas = (
            f"PRAGMA page_size = {PAGE}",  # of a new file; one that is there keeps its own
            "PRAGMA journal_mode = WAL",
            f"PRAGMA synchronous = {synchronous}",
            "PRAGMA foreign_keys = ON",
            "PRAGMA secure_delete = ON",
        )
        self.read_only = None if path is None else read_only.why_read_only(path)
        pool: dict[str, Any] = {"poolclass": StaticPool}
        if self.read_only:
            pool = {"poolclass": NullPool}  # each transaction checks the files again
        elif path is not None:
            pool = {"poolclass": QueuePool, "pool_size": READERS, "max_overflow": 0}
        self._engine = create_engine(_URL, creator=self._connect, **pool)
        self._engine.update_execution_options(compiled_cache=CACHE)
        event.listen(self._engine, "begin", _begin)
        self._connections: WeakSet[_Connection] = WeakSet()
        self._inherited: list[Pool] = []
        self._make_locks()
        close_at_forks(self)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """See `Connections._reading`."""
        stable = read_only.unchanged(self.path) if self.path and self.read_only else nullcontext()
        with stable, self._readers, self._using() as connection:
            with connection.begin():
                self.guard(connection)
                yield connection

    @contextmanager
    def writing(self, memory: int | None = None) -> Iterator[Connection]:
        """See `Connections.writing`. There is one lock for all of the database."""
        self.check_writable()
        with self._writers, self._using() as connection:
            connection.execution_options(begin="BEGIN IMMEDIATE")
            with connection.begin():
                self.guard(connection)
                yield connection

    alone = altering = forgetting = writing

    def write_slot(self, memory: int) -> AbstractContextManager[WriteSlot]:
        """See `Connections.write_slot`."""
        return self._slots.slot(memory)

    def slot_is_taken(self, memory: int) -> bool:
        """See `Connections.slot_is_taken`."""
        return self._slots.is_taken(memory)

    def scrub(self) -> bool:
        """Empty the write-ahead log, the last file that can hold old text; warn if that fails."""
        try:
            clean, why = self._checkpoint(), "another process is reading"
        except StoreError as error:
            clean, why = False, str(error)
        if not clean:
            warnings.warn(
                f"{self.path}: the turns were purged, but the write-ahead log still holds their "
                f"text ({why}); it is emptied by the next purge, or when the last process closes "
                "the database",
                stacklevel=4,
            )
        return clean

    def finish(self) -> None:
        """Empty the write-ahead log of a killed process: purged text may be in it.

        Unlike `scrub`, this does not wait: another process that is writing does it when it ends.
        """
        log = self.path and self.path.with_name(self.path.name + "-wal")
        if not self.read_only and log and log.exists() and log.stat().st_size:
            with translated(self.path), using_sqlite(self.place):
                with closing(sqlite3.connect(str(self.path), 0)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def faults(self, connection: Connection) -> Iterator[str]:
        """See `Connections.faults`."""
        for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
            if line != "ok":
                yield f"SQLite reports: {line}"
        for line in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield f"a row of {line[0]} refers to a memory that is not there"
        foreign = "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')"
        for kind, name in connection.exec_driver_sql(foreign):
            yield f"there is a {kind} {name!r} that evomem did not make: drop it"

    def size(self, connection: Connection) -> int:
        """See `Connections.size`."""
        files = (
            [] if self.path is None else [self.path, self.path.with_name(self.path.name + "-wal")]
        )
        return sum(file.stat().st_size for file in files if file.exists())

    def compact(self) -> None:
        """See `Connections.compact`."""
        self.check_writable()
        self._checkpoint()
        with self._writers, self._using() as connection:
            driver(connection).execute("VACUUM")
        self._checkpoint()

    def backup(self, target: Path) -> None:
        """See `Connections.backup`. The copy is for the owner alone.

        Raises:
            StoreError: There is something at `target` already, or it cannot be written.
        """
        for path in (target, target.with_name(target.name + "-wal")):
            if path.exists():
                raise StoreError(f"{path} exists already: give another path, or move it away first")
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            with self.reading() as connection, closing(sqlite3.connect(partial)) as copy:
                try:
                    copy.execute("PRAGMA synchronous = FULL")
                    driver(connection).backup(copy)
                except sqlite3.Error as error:
                    raise OSError(str(error)) from error
            os.link(partial, target)  # unlike a rename, this never replaces a file
            sync_folder(target.parent)
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error}") from error
        finally:
            for ending in ("", "-wal", "-shm", "-journal"):
                with suppress(
                    OSError
                ):  # a disk that fails now has failed before, or will be seen to
                    partial.with_name(partial.name + ending).unlink(missing_ok=True)

    def close(self) -> None:
        """See `Connections.close`."""
        self._closed = True
        self._slots.close()
        with suppress(StoreError), using_sqlite(self.place):
            self._engine.dispose()

    def before_fork(self) -> None:
        """See `sqlite_forks`. A database in memory has no locks, and the child gets a copy of it."""
        if self.path is None:
            return
        self._engine.dispose()
        for connection in list(self._connections):  # a thread may have kept one beyond `close`
            with suppress(sqlite3.Error):
                connection.close()

    def after_fork_in_child(self) -> None:
        """See `sqlite_forks`."""
        self._make_locks()
        if self.path is not None:
            self._inherited.append(self._engine.pool)  # so that nothing in it is ever closed
            self._engine.dispose(close=False)

    def _make_locks(self) -> None:
        # Threads of one process queue here instead of polling for SQLite's lock. A database in
        # memory is a single connection, so that there even reading has to queue.
        self._writers = threading.RLock()
        self._readers: AbstractContextManager[Any] = (
            nullcontext() if self.path is not None else self._writers
        )

    @contextmanager
    def _using(self) -> Iterator[Connection]:
        with translated(self.path), using_sqlite(self.place), self._engine.connect() as connection:
            yield connection

    def _checkpoint(self) -> bool:
        with self._writers, self._using() as connection:
            busy, _, _ = driver(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self.path or 'the database in memory'} was closed: open it again")
        if self.path and self.read_only:
            return read_only.connect(self.path, self._timeout)
        connection = sqlite3.connect(
            ":memory:" if self.path is None else str(self.path),
            timeout=self._timeout,
            isolation_level=None,  # the driver would begin and commit on its own account
            check_same_thread=False,  # the pool gives a connection to one thread at a time
            factory=_Connection,
        )
        self._connections.add(connection)
        try:
            self._arrange(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _arrange(self, connection: sqlite3.Connection) -> None:
        """Set up a connection, again if another process switches a new file to WAL meanwhile."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                for pragma in self._pragmas:
                    connection.execute(pragma)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return


class _Connection(sqlite3.Connection):
    """One that can be referred to weakly."""


def _begin(connection: Connection) -> None:
    driver(connection).execute(connection.get_execution_options().get("begin", "BEGIN"))


@contextmanager
def translated(path: Path | None) -> Iterator[None]:
    """Turn SQLite's errors into evomem's."""
    try:
        yield
    except EvomemError:
        raise
    except FOREIGN as error:  # such as the driver's, of a text that is none
        says = f"{type(error).__name__}: {error}"
        raise DatabaseDamaged(
            f"{path} cannot be read ({says}): run verify, and restore it from a backup; if verify "
            "finds nothing, this is a fault of evomem"
        ) from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        says = str(cause)
        if any(word in says.lower() for word in _BUSY):
            raise DatabaseBusy(
                f"{path}: another process held the lock for longer than the busy timeout ({says}); "
                "nothing was written: try again, or open with a larger busy_timeout="
            ) from error
        if "readonly" in says.lower():
            raise StoreError(
                f"{path} cannot be written any more ({says}): see whether its disk was mounted "
                "read-only; nothing was written"
            ) from error
        if getattr(cause, "sqlite_errorname", "") == "SQLITE_IOERR_WRITE":
            raise StoreError(
                f"{path} cannot be written ({says}): see whether the disk is full, or a limit of this "
                "user or process is reached; nothing was written"
            ) from error
        if any(word in says.lower() for word in _DAMAGED):
            raise DatabaseDamaged(_LOST.format(path=path, says=says)) from error
        raise StoreError(f"{path}: {says}; nothing was written") from error


def prepare(path: Path, *, create: bool, timeout: float = 30.0) -> bool:
    """Return whether there is an evomem database at `path`; create an empty private file if not.

    A file that is something else is left as it is, down to the last byte. SQLite alone opens what
    may be a database: when a process closes a file, POSIX takes all the locks that it has on it, so
    that another process would take a database that is open here for unused.

    Args:
        path: The file.
        create: Whether to make an empty file if there is none.
        timeout: Seconds to wait while another process holds the file's lock.

    Raises:
        DatabaseDamaged: The file is not SQLite, cannot be read, or is another program's.
        StoreError: The file cannot be made or opened.
    """
    try:
        if not _begun(path, create=create):
            return False
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        ours = _is_database(path) or _can_be_undone(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened ({error.strerror}): give a file in a folder that exists and "
            "can be written"
        ) from error
    if not ours:
        raise DatabaseDamaged(
            f"{path} is not a database: give another path, or restore it from a backup; the file "
            "was left as it is"
        )
    with translated(path):
        if read_only.why_read_only(path):
            with read_only.unchanged(path):
                application, tables = _contents(read_only.connect(path), timeout)
        else:
            try:
                application, tables = _contents(_reader(path, "mode=ro"), timeout)
            except sqlite3.OperationalError as error:
                if "readonly" not in str(error):
                    raise
                # A process was killed while changing it: SQLite undoes that before it reads.
                application, tables = _contents(_reader(path, "mode=rw"), timeout)
    if tables and application != APPLICATION:
        raise DatabaseDamaged(
            f"{path} is another program's SQLite database, not evomem's: give another path; "
            "the file was left as it is"
        )
    return bool(tables)


def _begun(path: Path, *, create: bool) -> bool:
    """Return whether the file at `path` has content; create a private file if there is none."""
    with _making:
        # The log first: SQLite begins it when the file is no longer empty.
        log = path.with_name(path.name + "-wal").exists()
        size = path.stat().st_size if log or path.exists() else -1
        if size < 0 and create:
            # Private from the first moment; SQLite gives its other files the same mode.
            with suppress(FileExistsError):  # another process is making the same database
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                sync_folder(path.parent)
        return log or size > 0


def _is_database(path: Path) -> bool:
    """Return whether the first page is one of SQLite's; no other file is read."""
    if path.stat().st_size < _LEAST:  # SQLite takes a single byte for an empty file, and fills it
        return False
    try:
        with closing(_reader(path, "mode=ro&immutable=1")) as connection:
            connection.execute("PRAGMA application_id")
    except sqlite3.DatabaseError as error:
        # A reader of the remaining tables reports other faults.
        return "not a database" not in str(error)
    return True


def _can_be_undone(path: Path) -> bool:
    """Return whether SQLite can roll back an unfinished change, such as an interrupted creation."""
    journal = path.with_name(path.name + "-journal")  # SQLite has no locks on it to be lost
    return journal.exists() and journal.read_bytes()[: len(_JOURNAL)] == _JOURNAL


def _contents(reader: sqlite3.Connection, timeout: float) -> tuple[int, int]:
    """Return the application id of a database and how many tables and indexes it has.

    Both are read in one transaction: another process may be creating the tables at this moment.
    """
    with closing(reader) as connection:
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * timeout)}")
        connection.execute("BEGIN")
        [application] = connection.execute("PRAGMA application_id").fetchone()
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return application, tables


def _reader(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{options}", uri=True, isolation_level=None)
