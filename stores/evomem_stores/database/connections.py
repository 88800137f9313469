"""`Connections`: connections, transactions and files of a database. See `sqlite` and `postgresql`."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection

from evomem.errors import StoreError, shown
from evomem.rows import Form
from evomem.store import WriteSlot
from evomem_stores.database.seals import Seals

V = TypeVar("V")

FOREIGN = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""Errors that a damaged value may raise when it is read."""

MAX_TIMEOUT = 2**31 // 1000  # seconds: SQLite and PostgreSQL count milliseconds in 32 bits


class Connections(ABC):
    """Connections to one database. Safe to use from many threads and processes.

    Whatever the driver raises inside a transaction comes out as an error of `evomem.errors`.
    """

    place: str
    """The name of the database for messages, without a password."""
    read_only: str | None = None
    """Why the database cannot be written, as `is on ...`; None if it can."""
    guard: Callable[[Connection], None] = staticmethod(lambda connection: None)
    """Called at the beginning of every transaction on the log; an error ends the transaction."""

    _engine: sqlalchemy.Engine

    def __init__(self) -> None:
        self._snapshot = _Snapshot()

    @property
    def seals(self) -> Seals:
        """The seals of the database: those of every connection from now on (`seals_of`)."""
        seals: Seals = self._engine.get_execution_options()["seals"]
        return seals

    @seals.setter
    def seals(self, seals: Seals) -> None:
        self._engine.update_execution_options(seals=seals)

    @property
    def embeddings(self) -> Form:
        """How the embeddings of new turns are stored (`form_of`)."""
        form: Form = self._engine.get_execution_options()["embeddings"]
        return form

    @embeddings.setter
    def embeddings(self, form: Form) -> None:
        self._engine.update_execution_options(embeddings=form)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Provide a connection that sees one snapshot of the database.

        Inside of another `reading` of the same thread, this is the same connection.
        """
        if (current := self._snapshot.connection) is not None:
            yield current
            return
        with self._reading() as connection:
            self._snapshot.connection = connection
            self._snapshot.values = {}
            try:
                yield connection
            finally:
                self._snapshot.connection = None
                self._snapshot.values = {}

    @property
    def is_reading(self) -> bool:
        """Whether this thread is inside a `reading`."""
        return self._snapshot.connection is not None

    def read_once(self, key: Hashable, read: Callable[[], V]) -> V:
        """Return the result of `read`, cached within this thread's `reading`."""
        if not self.is_reading:
            return read()
        values = self._snapshot.values
        if key not in values:
            values[key] = read()
        value: V = values[key]
        return value

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]:
        """Begin a transaction that sees one snapshot of the database."""

    @abstractmethod
    def writing(self, memory: int | None = None) -> AbstractContextManager[Connection]:
        """Provide a connection with a transaction to change `memory`, or to create one.

        Until it ends, no other writer changes this memory or shares more of its rows. A memory that is
        forked from rows of others keeps them from changing by being there (`writing.sharing`), so
        that this one lock is enough, and two writers never wait for each other.
        """

    @abstractmethod
    def write_slot(self, memory: int) -> AbstractContextManager[WriteSlot]:
        """Take turns with other writers of a memory; see `write_slots`."""

    @abstractmethod
    def slot_is_taken(self, memory: int) -> bool:
        """Return whether another writer holds a memory's slot; call this within `reading`."""

    @abstractmethod
    def alone(self) -> AbstractContextManager[Connection]:
        """Provide a connection like `writing`, to change any memory while no one else writes."""

    @abstractmethod
    def altering(self) -> AbstractContextManager[Connection]:
        """Provide a connection to change the tables; there is one at a time."""

    @abstractmethod
    def forgetting(self, memory: int | None = None) -> AbstractContextManager[Connection]:
        """Provide a connection like `writing`, to erase rows; there is one at a time.

        Who erases looks at several memories, to find which rows no fork sees any more.
        """

    def check_writable(self) -> None:
        """Raise `StoreError` if the database cannot be written; all writing calls this first."""
        if self.read_only:
            raise StoreError(
                f"{self.place} {self.read_only}: it can be searched, exported and backed up, but "
                "not changed"
            )

    @abstractmethod
    def scrub(self) -> bool:
        """Remove the remains of erased rows from disk, as far as the database allows.

        Returns whether nothing is left that this process can do something about.
        """

    @abstractmethod
    def faults(self, connection: Connection) -> Iterator[str]:
        """Yield the faults that the database itself finds in its files, one sentence each."""

    @abstractmethod
    def size(self, connection: Connection) -> int:
        """Return bytes on disk."""

    @abstractmethod
    def compact(self) -> None:
        """Return unused space to the file system."""

    @abstractmethod
    def backup(self, target: Path) -> None:
        """Copy the database as it is at this moment to a new file, completely or not at all."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection; harmless when repeated."""


def check_timeout(seconds: object) -> float:
    """Return the time to wait for a lock, at most the databases' maximum of about 24 days.

    Raises:
        StoreError: It is no number of seconds.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise StoreError(f"busy_timeout must be a number of seconds, got {shown(seconds)}")
    return float(min(seconds, MAX_TIMEOUT))


class _Snapshot(threading.local):
    """The connection that a thread is reading through, and the results it has read (`read_once`)."""

    connection: Connection | None = None

    def __init__(self) -> None:
        self.values: dict[Hashable, Any] = {}


def driver(connection: Connection) -> Any:
    """Return the driver's own connection in the same transaction, for features beyond SQLAlchemy."""
    return connection.connection.driver_connection


def sync_folder(folder: Path) -> None:
    """Sync `folder`, so that new files survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def form_of(connection: Connection) -> Form:
    """Return how the database of a connection stores the embeddings of new turns."""
    form: Form = connection.get_execution_options()["embeddings"]
    return form
