"""Process forks and SQLite: a process closes its connections before it forks.

SQLite notes the locks on a file once for all connections of a process. The child of a fork inherits
the note, but the operating system gives it none of the locks. So even a new connection in the child
would hold none: the parent could remove the write-ahead log that the child commits to, and what was
committed would be lost. The note goes with the last connection to the file; only the parent can
close one. Before a fork it therefore waits until no other thread is using SQLite, and closes its
connections; parent and child connect again when they need to.

<https://sqlite.org/howtocorrupt.html>, "Carrying an open database across a fork".
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

from evomem.errors import StoreError

PATIENCE = 30.0
"""Seconds that a fork waits for the transactions of other threads."""


class Connections(Protocol):
    """Connections to one database."""

    place: str
    """What `using_sqlite` is given for them."""

    def before_fork(self) -> None:
        """Close all of them; no thread is using one."""

    def after_fork_in_child(self) -> None:
        """Forget those that are still open, without closing them, and replace all locks."""


class _Gate:
    """Knows which threads are using SQLite, and keeps others out while the process forks."""

    def __init__(self) -> None:
        self.connections: WeakSet[Connections] = WeakSet()
        self._lost: set[str] = set()
        """Databases that another thread was using at the fork that this process began with."""
        self._inside: list[tuple[int, str]] = []
        """The threads that are using SQLite, by number, and the database that each uses."""
        self._forker: int | None = None
        self._changed = threading.Condition()

    def enter(self, place: str) -> tuple[int, str]:
        me = threading.get_ident()
        with self._changed:
            if place in self._lost:
                raise StoreError(
                    f"{place}: another thread was in the middle of a transaction when this process "
                    "was forked, so SQLite's locks do not protect the database here: fork when no "
                    "thread is using it, or start the process with 'spawn'"
                )
            # A thread that is inside already must get on, or the fork would wait for it in vain.
            self._changed.wait_for(lambda: self._forker in (None, me) or self._is_inside(me))
            self._inside.append((me, place))
        return me, place

    def leave(self, entry: tuple[int, str]) -> None:
        with self._changed:
            self._inside.remove(entry)
            self._changed.notify_all()

    def before_fork(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._forker is None)
            self._forker = me
            if not self._is_inside(me):
                self._changed.wait_for(lambda: not self._inside, PATIENCE)
            used = {place for _, place in self._inside}
        for connection in list(self.connections):
            if connection.place not in used:
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


@contextmanager
def using_sqlite(place: str) -> Iterator[None]:
    """Use the database at `place` in this block: no other thread forks until it is left.

    Raises:
        StoreError: The process was forked while another thread was using the database.
    """
    entry = _gate.enter(place)
    try:
        yield
    finally:
        _gate.leave(entry)


def close_at_forks(connections: Connections) -> None:
    """Close these connections at every fork, for as long as the object lives."""
    _gate.connections.add(connections)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(
        before=_gate.before_fork,
        after_in_parent=_gate.after_fork_in_parent,
        after_in_child=_gate.after_fork_in_child,
    )
