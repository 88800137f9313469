"""Process forks and SQLite: a process closes its connections before it forks.

SQLite keeps one record of the locks on a file for all connections of a process. A forked child
inherits the record, but not the operating system's locks. Even a new connection in the child would
hold no lock: the parent could remove the write-ahead log that the child commits to, and the commits
would be lost. SQLite drops the record when the last connection to the file is closed, and only the
parent can close its connections. So before a fork, the parent waits until no other thread is using
SQLite, and closes its connections; parent and child reconnect when they need to.

<https://sqlite.org/howtocorrupt.html>, "Carrying an open database across a fork".
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet

from evomem.errors import StoreError

FORK_TIMEOUT = 30.0
"""Seconds that a fork waits for the transactions of other threads."""


class Connections(Protocol):
    """Connections to one database."""

    place: str
    """The argument of `using_sqlite` for these connections."""

    def before_fork(self) -> None:
        """Close all connections; no thread is using one."""

    def after_fork_in_child(self) -> None:
        """Drop open connections without closing them, and replace all locks."""


class _Gate:
    """Tracks the threads that are using SQLite, and blocks others while the process forks."""

    def __init__(self) -> None:
        self.connections: WeakSet[Connections] = WeakSet()
        self._lost: set[str] = set()
        """Databases that another thread was using when this process was forked."""
        self._inside: list[tuple[int, str]] = []
        """(thread id, database) of the threads that are using SQLite."""
        self._forker: int | None = None
        self._changed = threading.Condition()

    def enter(self, place: str) -> tuple[int, str]:
        thread = threading.get_ident()
        with self._changed:
            if place in self._lost:
                raise StoreError(
                    f"{place}: another thread was in the middle of a transaction when this process "
                    "was forked, so SQLite's locks do not protect the database here: fork when no "
                    "thread is using it, or start the process with 'spawn'"
                )
            if self._forker not in (None, thread) and not self._is_inside(thread):
                # A thread that is inside must proceed, or the fork would wait until its timeout.
                self._changed.wait_for(lambda: self._forker is None)
            self._inside.append((thread, place))
        return thread, place

    def leave(self, entry: tuple[int, str]) -> None:
        with self._changed:
            self._inside.remove(entry)
            if self._forker is not None:
                self._changed.notify_all()

    def before_fork(self) -> None:
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._forker is None)
            self._forker = thread
            if not self._is_inside(thread):
                self._changed.wait_for(lambda: not self._inside, FORK_TIMEOUT)
            in_use = {place for _, place in self._inside}
        for connection in list(self.connections):
            if connection.place not in in_use:
                connection.before_fork()

    def after_fork_in_parent(self) -> None:
        with self._changed:
            self._forker = None
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        self._lost.update(place for _, place in self._inside)
        self._inside = [entry for entry in self._inside if entry[0] == self._forker]
        self._forker = None
        self._changed = threading.Condition()
        for connection in list(self.connections):
            connection.after_fork_in_child()

    def _is_inside(self, thread: int) -> bool:
        return any(owner == thread for owner, _ in self._inside)


_gate = _Gate()


class using_sqlite:  # a context manager; a generator would cost five calls more
    """Use the database at `place` in this block; no other thread forks until the block ends.

    Raises:
        StoreError: The process was forked while another thread was using the database.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        self._entry = _gate.enter(self._place)

    def __exit__(self, *error: object) -> None:
        _gate.leave(self._entry)


def close_at_forks(connections: Connections) -> None:
    """Close these connections at every fork, for as long as the object lives."""
    _gate.connections.add(connections)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(
        before=_gate.before_fork,
        after_in_parent=_gate.after_fork_in_parent,
        after_in_child=_gate.after_fork_in_child,
    )
