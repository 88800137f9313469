"""Write slots: writers of one memory, in several processes, take turns while they read.

Before a writer appends turns to a memory, the encoder reads them; the read is wasted if another
writer appends in the meantime. Each memory has a slot to avoid that: its holder reads and appends
while other writers wait. Correctness does not depend on slots: `Store.append` checks the head of the
log in its own transaction. So waiting is bounded (`WAIT`), and a writer that cannot get a slot
continues without one.

A slot is a lock that the operating system, or the database server, releases when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from evomem._forking import reset_in_child
from evomem.store import WriteSlot, nobody_waits

WAIT = 5.0  # seconds that a writer waits for a slot before it continues without one
POLL = 0.002, 0.01  # seconds between attempts to lock a byte: initially, and at most


@dataclass(eq=False)
class _LockFile:
    """An empty file, open once per process, whose bytes are locked.

    POSIX releases all locks of a process on a file when the process closes any handle of it, and
    does not distinguish its threads: `held` does.
    """

    handle: int
    users: int = 0
    held: set[int] = field(default_factory=set)

    def try_lock(self, byte: int) -> bool:
        with _guard:
            if byte in self.held:
                return False
            try:
                fcntl.lockf(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except OSError:  # another process holds it, or the file system has no locks
                return False
            self.held.add(byte)
            return True

    def unlock(self, byte: int) -> None:
        with _guard:
            self.held.discard(byte)
            with suppress(OSError):
                fcntl.lockf(self.handle, fcntl.LOCK_UN, 1, byte)


_guard = threading.Lock()
_files: dict[str, _LockFile] = {}


def _reset_after_fork() -> None:
    """Reset the locks in a child process: they belong to the parent."""
    global _guard
    _guard = threading.Lock()
    for file in _files.values():
        file.held.clear()


reset_in_child(_reset_after_fork)


class FileSlots:
    """The write slots of an SQLite database: two bytes per memory in a file next to it.

    The first byte of a memory is the gate, locked by the next writer in line; the second is the slot,
    locked by its holder. All writers pass the gate, so that a writer that releases its slot and
    requests it again queues behind the waiting writer.
    """

    def __init__(self, database: Path | None) -> None:
        """Provide the slots of a database file; None for a database in memory, which needs none."""
        self._path = None if database is None else f"{database}-writers"
        self._file: _LockFile | None = None

    def is_taken(self, memory: int) -> bool:
        """Return whether another writer holds a memory's slot."""
        file = self._opened(create=False)
        if file is None:
            return False
        if not file.try_lock(2 * memory + 1):
            return True
        file.unlock(2 * memory + 1)
        return False

    @contextmanager
    def slot(self, memory: int) -> Iterator[WriteSlot]:
        """Wait for a memory's slot and hold it."""
        file = self._opened(create=True)
        gate, slot = 2 * memory, 2 * memory + 1
        if file is None or not _take(file, gate, slot):
            yield nobody_waits
            return

        def is_wanted() -> bool:
            if not file.try_lock(gate):
                return True
            file.unlock(gate)
            return False

        try:
            yield is_wanted
        finally:
            file.unlock(slot)

    def close(self) -> None:
        """Close the file unless something else in this process uses it; harmless when repeated."""
        with _guard:
            file, self._file = self._file, None
            if file is None:
                return
            file.users -= 1
            if not file.users:
                del _files[str(self._path)]
                os.close(file.handle)

    def _opened(self, *, create: bool) -> _LockFile | None:
        """Return the file; None if it does not exist and is not, or cannot be, created."""
        if self._path is None or self._file is not None:
            return self._file
        if not create and not os.path.exists(self._path):
            return None
        with _guard:
            if self._file is None:
                name = self._path
                if name not in _files:
                    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
                    try:
                        _files[name] = _LockFile(os.open(name, flags, 0o600))
                    except OSError:  # such as a read-only folder
                        return None
                self._file = _files[name]
                self._file.users += 1
            return self._file


def _take(file: _LockFile, gate: int, slot: int) -> bool:
    """Pass the gate and lock the slot; return whether that succeeded within `WAIT` seconds."""
    end = time.monotonic() + WAIT
    if not _lock(file, gate, end):
        return False
    try:
        return _lock(file, slot, end)
    finally:
        file.unlock(gate)


def _lock(file: _LockFile, byte: int, end: float) -> bool:
    pause, longest = POLL
    while not file.try_lock(byte):
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, longest)
    return True
