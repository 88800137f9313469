"""A cache of keys, valid until the key store is written to.

SQLite reports at the cost of a function call whether any connection of any process has committed
since. So the next request refuses a revoked key, and most requests need no thread and no statement.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

from evomem.service.access import Access

KEPT = 10_000  # keys


class KeyCache:
    """Caches keys for one location; caches nothing if the location is not a file."""

    def __init__(self, location: str) -> None:
        self._connection: sqlite3.Connection | None = None
        if "://" not in location and location != ":memory:":
            path = Path(location).expanduser().absolute()
            with suppress(sqlite3.Error):
                self._connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
        self._lock = threading.Lock()
        self._version: int | None = None
        self._found: dict[bytes, tuple[Access, float]] = {}

    def version(self) -> int | None:
        """Return a number that changes with every commit; None if nothing can be cached."""
        with self._lock:
            return self._read()

    def get(self, secret: str) -> Access | None:
        """Return the cached result for a secret; None if it is not cached or not valid."""
        with self._lock:
            version = self._read()
            if version is None or version != self._version:
                return None
            access, until = self._found.get(_name(secret), (None, 0.0))
            return access if time.time() < until else None

    def put(self, version: int | None, secret: str, access: Access, until: float) -> None:
        """Cache a result until a time, if the version before the lookup was this one."""
        with self._lock:
            if version is None:
                return
            if version != self._version or len(self._found) >= KEPT:
                self._version, self._found = version, {}
            self._found[_name(secret)] = access, until

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self) -> int | None:
        if self._connection is None:
            return None
        try:
            number: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:  # another process holds the file: treat the cache as empty
            return None
        return number


def _name(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
