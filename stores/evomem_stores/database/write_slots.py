"""Write slots: writers of one memory, in several processes, take turns while they read.

Whoever appends to a memory first reads its turns through the encoder, and has read them in vain if
another writer appends meanwhile. A slot avoids that: there is one for each memory, and who holds it
reads and appends while the others wait. Nothing depends on it for correctness: `Store.append` checks
the head of the log in its own transaction, with a slot or without. So waiting is bounded (`WAIT`), and
where a slot cannot be had at all, a writer continues without one.

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

WAIT = 5.0  # seconds that a writer waits for a slot before it continues without
POLL = 0.002, 0.01  # seconds between two attempts to lock a byte: at first, and at most


@dataclass(eq=False)
class _LockFile:
    """A file whose bytes are locked: empty, and open once in a process.

    POSIX takes all locks that a process has on a file when the process closes any handle of it, and
    does not keep its threads apart: `held` does.
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
            except OSError:  # another process has it, or the file system has no locks
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
    """The write slots of an SQLite database: two bytes a memory of a file beside it.

    A writer that waits for a slot holds the memory's first byte, the gate, and who has a slot has the
    second. Everyone goes through the gate, so that a writer that gives its slot back and wants it
    again comes after the one that waits.
    """

    def __init__(self, database: Path | None) -> None:
        """Make the slots of a database; None for one in memory, which needs none."""
        self._path = database and database.with_name(f"{database.name}-writers")
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
        gate, own = 2 * memory, 2 * memory + 1
        if file is None or not _take(file, gate, own):
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
            file.unlock(own)

    def close(self) -> None:
        """Close the file, if nothing else in this process uses it; harmless when repeated."""
        with _guard:
            file, self._file = self._file, None
            if file is None:
                return
            file.users -= 1
            if not file.users:
                del _files[str(self._path)]
                os.close(file.handle)

    def _opened(self, *, create: bool) -> _LockFile | None:
        """Return the file; None if there is none, and it is not or cannot be made."""
        if self._path is None or self._file is not None:
            return self._file
        if not create and not self._path.exists():
            return None
        with _guard:
            if self._file is None:
                name = str(self._path)
                if name not in _files:
                    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
                    try:
                        _files[name] = _LockFile(os.open(name, flags, 0o600))
                    except OSError:  # a folder that cannot be written to, say
                        return None
                self._file = _files[name]
                self._file.users += 1
            return self._file


def _take(file: _LockFile, gate: int, own: int) -> bool:
    """Go through the gate and lock the slot; return whether that succeeded within `WAIT` seconds."""
    end = time.monotonic() + WAIT
    if not _lock(file, gate, end):
        return False
    try:
        return _lock(file, own, end)
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
