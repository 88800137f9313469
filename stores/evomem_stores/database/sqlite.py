"""SQLite: creating, recognising and opening files, transactions and errors."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal
from weakref import WeakSet

from sqlalchemy import Connection, create_engine
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from evomem.errors import DatabaseBusy, DatabaseDamaged, EvomemError, StoreError
from evomem.store import WriteSlot
from evomem_stores.database import read_only
from evomem_stores.database.compiled import CACHE, Shared, register
from evomem_stores.database.connections import (
    DECODE_ERRORS,
    Connections,
    check_timeout,
    driver,
    sync_folder,
)
from evomem_stores.database.sqlite_forks import close_at_forks, using_sqlite
from evomem_stores.database.tables import APPLICATION_ID
from evomem_stores.database.write_slots import FileSlots

Synchronous = Literal["FULL", "NORMAL"]
PAGE_BYTES = 16_384  # large rows waste more space on smaller pages
READERS = 16  # connections kept open; further threads wait for one
POOL_TIMEOUT = 30.0  # seconds that they wait

_BUSY = ("locked", "busy", "locking protocol")
_DAMAGED = ("malformed", "not a database", "disk i/o error", "corrupt", "could not decode")

_creating = threading.Lock()  # no thread opens a new file that another has yet to close

_MIN_SIZE = 512  # bytes: SQLite's smallest page
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  # the first bytes of SQLite's rollback journal

_UNREADABLE = (
    "{path} cannot be read ({message}): restore it from a backup; the file was left as it is"
)


class SqliteDialect(Shared, SQLiteDialect_pysqlite):
    """SQLAlchemy's, whose compiled statements all files share."""

    supports_statement_cache = True


_URL = register(SqliteDialect, "sqlite") + "://"


class SqliteConnections(Connections):
    """Connections to one file, configured for a log: WAL, fsync at commit, secure deletion."""

    def __init__(self, path: Path | None, synchronous: Synchronous, busy_timeout: float) -> None:
        super().__init__()
        if synchronous not in ("FULL", "NORMAL"):
            raise StoreError(f"synchronous must be 'FULL' or 'NORMAL', got {synchronous!r}")
        self.path = path
        self.place = str(path or f":memory: (database {secrets.token_hex(4)})")
        self._closed = False
        self._slots = FileSlots(path)
        self._busy_timeout = check_timeout(busy_timeout)
        self._pragmas = (
            f"PRAGMA page_size = {PAGE_BYTES}",  # only affects new files
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
        self._connections: WeakSet[_Connection] = WeakSet()
        self._idle: list[Connection] = []
        self._inherited: list[object] = []
        self._make_locks()
        close_at_forks(self)

    def _reading(self) -> AbstractContextManager[Connection]:
        """See `Connections._reading`."""
        if self.path is None or self.read_only:
            return self._reading_alone(self.path)
        return self._transaction("BEGIN")

    @contextmanager
    def _reading_alone(self, path: Path | None) -> Iterator[Connection]:
        """Read a file that must not change, or the only connection to a database in memory."""
        alone = self._writers if path is None else read_only.unchanged(path)
        with alone, self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self, memory: int | None = None) -> Iterator[Connection]:
        """See `Connections.writing`. One lock covers the whole database."""
        self.check_writable()
        with self._writers, self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    exclusive = altering = forgetting = writing

    def write_slot(self, memory: int) -> AbstractContextManager[WriteSlot]:
        """See `Connections.write_slot`."""
        return self._slots.slot(memory)

    def slot_is_taken(self, memory: int) -> bool:
        """See `Connections.slot_is_taken`."""
        return self._slots.is_taken(memory)

    def scrub(self) -> bool:
        """Empty the write-ahead log, the last file that can hold purged text; warn if that fails."""
        try:
            clean, reason = self._checkpoint(), "another process is reading"
        except StoreError as error:
            clean, reason = False, str(error)
        if not clean:
            warnings.warn(
                f"{self.path}: the turns were purged, but the write-ahead log still holds their "
                f"text ({reason}); it is emptied by the next purge, or when the last process closes "
                "the database",
                stacklevel=4,
            )
        return clean

    def finish(self) -> None:
        """Empty the write-ahead log of a killed process, which may hold purged text.

        Unlike `scrub`, this does not wait: a process that is writing empties the log when it closes.
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
            yield f"a row of {line[0]} refers to a missing memory"
        query = "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')"
        for kind, name in connection.exec_driver_sql(query):
            yield f"there is a {kind} {name!r} that evomem did not create: drop it"

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
        with self._writers, self._connected() as connection:
            driver(connection).execute("VACUUM")
        self._checkpoint()

    def backup(self, target: Path) -> None:
        """See `Connections.backup`. Only its owner may read the copy.

        Raises:
            StoreError: `target` exists already, or it cannot be written.
        """
        for path in (target, target.with_name(target.name + "-wal")):
            if path.exists():
                raise StoreError(
                    f"{path} exists already: choose another path, or move the file first"
                )
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
                with suppress(OSError):  # a failing disk is reported elsewhere
                    partial.with_name(partial.name + ending).unlink(missing_ok=True)

    def close(self) -> None:
        """See `Connections.close`."""
        self._closed = True
        self._slots.close()
        with suppress(StoreError), using_sqlite(self.place):
            self._close_idle()

    def before_fork(self) -> None:
        """See `sqlite_forks`. A database in memory has no file locks, and the child gets a copy of it."""
        if self.path is None:
            return
        self._close_idle()
        for connection in list(self._connections):  # a thread may still hold one after `close`
            with suppress(sqlite3.Error):
                connection.close()

    def after_fork_in_child(self) -> None:
        """See `sqlite_forks`."""
        self._make_locks()
        if self.path is not None:
            # Keeps the parent's connections from being closed.
            self._inherited += [self._idle, self._engine.pool]
            self._idle = []
            self._engine.dispose(close=False)

    def _make_locks(self) -> None:
        # Threads of one process queue here instead of polling for SQLite's lock. A database in
        # memory has a single connection, so that readers have to queue as well.
        self._writers = threading.RLock()
        self._permits: SimpleQueue[None] = SimpleQueue()  # one for each connection
        for _ in range(READERS):
            self._permits.put(None)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with self._connected() as connection:
            own = driver(connection)
            own.execute(begin)
            try:
                self.guard(connection)
                yield connection
                own.commit()
            except BaseException:
                if not connection.invalidated:  # which SQLAlchemy does if a signal interrupts it
                    own.rollback()
                raise

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Provide one of up to `READERS` connections.

        They stay checked out of SQLAlchemy's pool, in a transaction of SQLAlchemy's that never ends
        and sends no statement: both cost as much as several of our statements.
        """
        with translated(self.path), using_sqlite(self.place):
            permits = self._permits  # after a fork, the child has its own
            try:
                permits.get(timeout=POOL_TIMEOUT)
            except Empty as error:
                raise DatabaseBusy(
                    f"{self.path}: {READERS} threads have used the database for {POOL_TIMEOUT:g} "
                    "seconds; nothing was written: try again, or use fewer threads"
                ) from error
            try:
                idle = self._idle
                connection = self._check_out(idle)
                try:
                    yield connection
                finally:
                    self._check_in(connection, idle)
            finally:
                permits.put(None)

    def _check_out(self, idle: list[Connection]) -> Connection:
        with suppress(IndexError):  # none is idle; another thread may have taken the last one
            while not self._has_current_options(connection := idle.pop()):
                connection.close()
            return connection
        return self._engine.connect()

    def _check_in(self, connection: Connection, idle: list[Connection]) -> None:
        """Keep a connection for the next transaction, unless it belongs to a parent process.

        SQLAlchemy's pool takes care of one that could not be rolled back.
        """
        if (
            not (self._closed or self.read_only or connection.invalidated)
            and idle is self._idle
            and self._has_current_options(connection)
            and not driver(connection).in_transaction
        ):
            idle.append(connection)
        else:
            connection.close()

    def _has_current_options(self, connection: Connection) -> bool:
        """Return whether a connection has the options of the engine, such as the seals."""
        return connection.get_execution_options() is self._engine.get_execution_options()

    def _close_idle(self) -> None:
        """Close the connections that no thread uses."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self._engine.dispose()

    def _checkpoint(self) -> bool:
        with self._writers, self._connected() as connection:
            busy, _, _ = driver(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self.path or 'the database in memory'} was closed: open it again")
        if self.path and self.read_only:
            return read_only.connect(self.path, self._busy_timeout)
        connection = sqlite3.connect(
            ":memory:" if self.path is None else str(self.path),
            timeout=self._busy_timeout,
            isolation_level=None,  # or the driver would begin and commit by itself
            check_same_thread=False,  # the pool gives a connection to one thread at a time
            factory=_Connection,
        )
        self._connections.add(connection)
        try:
            self._configure(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        """Configure a connection; retry while another process switches a new file to WAL."""
        end = time.monotonic() + self._busy_timeout
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
    """An SQLite connection that supports weak references."""


class translated:  # a context manager; a generator would cost five calls more
    """Raise SQLite's errors as evomem's errors."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, EvomemError):
            return
        if isinstance(error, DECODE_ERRORS):  # such as the driver's for text that is not UTF-8
            raise DatabaseDamaged(
                f"{self._path} cannot be read ({type(error).__name__}: {error}): run verify, and "
                "restore it from a backup; if verify finds nothing, this is a bug in evomem"
            ) from error
        if isinstance(error, SQLAlchemyError | sqlite3.Error):
            raise _translation(self._path, error) from error


def _translation(path: Path | None, error: SQLAlchemyError | sqlite3.Error) -> StoreError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    message = str(cause)
    if any(word in message.lower() for word in _BUSY):
        return DatabaseBusy(
            f"{path}: another process held the lock for longer than the busy timeout ({message}); "
            "nothing was written: try again, or open with a larger busy_timeout="
        )
    if "readonly" in message.lower():
        return StoreError(
            f"{path} cannot be written any more ({message}): check whether its disk was mounted "
            "read-only; nothing was written"
        )
    if getattr(cause, "sqlite_errorname", "") == "SQLITE_IOERR_WRITE":
        return StoreError(
            f"{path} cannot be written ({message}): check whether the disk is full, or a limit of "
            "this user or process is reached; nothing was written"
        )
    if any(word in message.lower() for word in _DAMAGED):
        return DatabaseDamaged(_UNREADABLE.format(path=path, message=message))
    return StoreError(f"{path}: {message}; nothing was written")


def prepare(path: Path, *, create: bool, busy_timeout: float = 30.0) -> bool:
    """Return whether there is an evomem database at `path`; create an empty private file if not.

    Any other file is left unchanged. Only SQLite opens a file that may be a database: when a process
    closes a file, POSIX releases all locks of the process on it, and other processes would then
    consider a database that is open here unused.

    Args:
        path: The file.
        create: Whether to create an empty file if there is none.
        busy_timeout: Seconds to wait while another process holds the file's lock.

    Raises:
        DatabaseDamaged: The file is not SQLite's, cannot be read, or is another program's.
        StoreError: The file cannot be created or opened.
    """
    try:
        if not _has_content(path, create=create):
            return False
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        ours = _is_database(path) or _can_be_undone(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened ({error.strerror}): choose a file in an existing, writable folder"
        ) from error
    if not ours:
        raise DatabaseDamaged(
            f"{path} is not a database: choose another path, or restore it from a backup; the file "
            "was left as it is"
        )
    with translated(path):
        if read_only.why_read_only(path):
            with read_only.unchanged(path):
                application, tables = _contents(read_only.connect(path), busy_timeout)
        else:
            try:
                application, tables = _contents(_reader(path, "mode=ro"), busy_timeout)
            except sqlite3.OperationalError as error:
                if "readonly" not in str(error):
                    raise
                # A process was killed in a change, which SQLite has to roll back before it reads.
                application, tables = _contents(_reader(path, "mode=rw"), busy_timeout)
    if tables and application != APPLICATION_ID:
        raise DatabaseDamaged(
            f"{path} is another program's SQLite database, not evomem's: choose another path; "
            "the file was left as it is"
        )
    return bool(tables)


def _has_content(path: Path, *, create: bool) -> bool:
    """Return whether the file at `path` has content; create a private file if there is none."""
    with _creating:
        # Check the log first: SQLite creates it once the file is no longer empty.
        log = path.with_name(path.name + "-wal").exists()
        size = path.stat().st_size if log or path.exists() else -1
        if size < 0 and create:
            # Private from the start; SQLite gives its other files the same mode.
            with suppress(FileExistsError):  # another process is creating the same database
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                sync_folder(path.parent)
        return log or size > 0


def _is_database(path: Path) -> bool:
    """Return whether the first page is SQLite's; no other file is read."""
    if path.stat().st_size < _MIN_SIZE:  # SQLite overwrites a one-byte file as if it were empty
        return False
    try:
        with closing(_reader(path, "mode=ro&immutable=1")) as connection:
            connection.execute("PRAGMA application_id")
    except sqlite3.DatabaseError as error:
        # Other faults are reported by whoever reads the tables.
        return "not a database" not in str(error)
    return True


def _can_be_undone(path: Path) -> bool:
    """Return whether there is a journal from which SQLite can roll back an unfinished change."""
    journal = path.with_name(path.name + "-journal")  # has no locks that closing it could release
    return journal.exists() and journal.read_bytes()[: len(_JOURNAL_MAGIC)] == _JOURNAL_MAGIC


def _contents(reader: sqlite3.Connection, busy_timeout: float) -> tuple[int, int]:
    """Return a database's application id and its number of tables and indexes.

    Both are read in one transaction, since another process may be creating the tables.
    """
    with closing(reader) as connection:
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * busy_timeout)}")
        connection.execute("BEGIN")
        [application] = connection.execute("PRAGMA application_id").fetchone()
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return application, tables


def _reader(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{options}", uri=True, isolation_level=None)
