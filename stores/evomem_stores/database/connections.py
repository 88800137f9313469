"""`Connections`: connections to a database, its transactions and its files.

The implementations are in `sqlite` and `postgresql`.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection

from evomem.errors import StoreError, shown
from evomem.rows import Form
from evomem.store import WriteSlot
from evomem_stores.database.seals import Seals

V = TypeVar("V")

DECODE_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""Errors that decoding a damaged value may raise."""

MAX_TIMEOUT = 2**31 // 1000  # seconds: SQLite and PostgreSQL count milliseconds in 32 bits


class Connections(ABC):
    """Connections to one database. Safe to use from many threads and processes.

    The driver's errors inside a transaction are raised as errors of `evomem.errors`.
    """

    place: str
    """The database's name in messages, without a password."""
    read_only: str | None = None
    """Why the database cannot be written ("is on ..."); None if it can."""
    guard: Callable[[Connection], None] = staticmethod(lambda connection: None)
    """Called at the beginning of every transaction on the log; an error ends the transaction."""

    _engine: sqlalchemy.Engine

    def __init__(self) -> None:
        self._snapshot = _Snapshot()

    @property
    def seals(self) -> Seals:
        """The seals of the database, which connections opened later use (`seals_of`)."""
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

    def reading(self) -> AbstractContextManager[Connection]:
        """Provide a connection that sees one snapshot of the database.

        A nested `reading` in the same thread provides the same connection.
        """
        current = self._snapshot.connection
        return self._snapshot_of_now() if current is None else nullcontext(current)

    @contextmanager
    def _snapshot_of_now(self) -> Iterator[Connection]:
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
        """Provide a connection with a transaction to change `memory`, or to create a memory.

        Until it ends, no other writer changes this memory or forks it. Rows that a fork shares cannot
        be changed while the fork exists (`writing.sharing`), so a transaction needs only this one
        lock, and two writers cannot deadlock.
        """

    @abstractmethod
    def write_slot(self, memory: int) -> AbstractContextManager[WriteSlot]:
        """Take turns with other writers of a memory; see `write_slots`."""

    @abstractmethod
    def slot_is_taken(self, memory: int) -> bool:
        """Return whether another writer holds a memory's slot; call it inside `reading`."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[Connection]:
        """Provide a connection to change any memory while no other process or thread writes."""

    @abstractmethod
    def altering(self) -> AbstractContextManager[Connection]:
        """Provide a connection to change the tables; only one exists at a time."""

    @abstractmethod
    def forgetting(self, memory: int | None = None) -> AbstractContextManager[Connection]:
        """Provide a connection like `writing`, to erase rows; only one exists at a time.

        Erasing reads several memories, to find the rows that no fork sees.
        """

    def check_writable(self) -> None:
        """Raise `StoreError` if the database is read-only; every write calls this first."""
        if self.read_only:
            raise StoreError(
                f"{self.place} {self.read_only}: it can be searched, exported and backed up, but "
                "not changed"
            )

    @abstractmethod
    def scrub(self) -> bool:
        """Remove the remains of erased rows from disk, as far as the database allows.

        Returns whether this process has removed everything that it can remove.
        """

    @abstractmethod
    def faults(self, connection: Connection) -> Iterator[str]:
        """Yield the faults that the database's own checks report, one sentence each."""

    @abstractmethod
    def size(self, connection: Connection) -> int:
        """Return bytes on disk."""

    @abstractmethod
    def compact(self) -> None:
        """Return unused space to the file system."""

    @abstractmethod
    def backup(self, target: Path) -> None:
        """Copy the database's current state to a new file, completely or not at all."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection; harmless when repeated."""


def check_timeout(seconds: object) -> float:
    """Return the seconds to wait for a lock, capped at the databases' maximum of about 24 days.

    Raises:
        StoreError: It is not a number of seconds.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise StoreError(f"busy_timeout must be a number of seconds, got {shown(seconds)}")
    return float(min(seconds, MAX_TIMEOUT))


class _Snapshot(threading.local):
    """The connection of a thread's current `reading`, and the results cached in it (`read_once`)."""

    connection: Connection | None = None

    def __init__(self) -> None:
        self.values: dict[Hashable, Any] = {}


def driver(connection: Connection) -> Any:
    """Return the driver's connection of the same transaction, for what SQLAlchemy does not offer."""
    return connection.connection.dbapi_connection


def sync_folder(folder: Path) -> None:
    """Sync `folder`, so that new files survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def form_of(connection: Connection) -> Form:
    """Return the form in which a connection's database stores the embeddings of new turns."""
    form: Form = connection.get_execution_options()["embeddings"]
    return form
