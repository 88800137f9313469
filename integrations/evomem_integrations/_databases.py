"""Open databases, one for each location: what hosts that only keep settings come back to.

A host may copy an adapter, serialise it and recreate it, in this process or the next. What it
carries is a location; its database, with its encoder, is opened once a process.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import evomem
from evomem._forking import reset_in_child
from evomem.database import Database


class Handle:
    """An open database; closed when the last handle is released."""

    def __init__(self, database: Database) -> None:
        self.database = database
        weakref.finalize(self, database.close)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Be None in a copy or a pickle, which opens the database again."""
        return type(None), ()


_handles: weakref.WeakValueDictionary[Any, Handle] = weakref.WeakValueDictionary()
_guard = threading.Lock()


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()


reset_in_child(_after_fork)


def share(location: str, encoder: str | None = None, **options: Any) -> Handle:
    """Return the handle on a database, opening it as `evomem.open` does if it is not open yet.

    `":memory:"` is one database for the process, and is gone with its last handle.

    Raises:
        FingerprintMismatch: The database was written by another encoder than `encoder`.
    """
    key = (place_of(location), tuple(sorted(options.items())))
    with _guard:
        handle = _handles.get(key)
        if handle is None:
            handle = _handles[key] = Handle(evomem.open(location, encoder, **options))
        elif encoder not in (None, handle.database.spec.name):
            _check(handle.database, str(encoder))
        return handle


def place_of(location: str) -> str:
    """Return what names a database in this process: an absolute path, a URL or `":memory:"`."""
    path = location.removeprefix("sqlite:///")
    if path == ":memory:" or "://" in path:
        return location
    return str(Path(path).expanduser().absolute())


def _check(database: Database, encoder: str) -> None:
    given, own = evomem.load_encoder(encoder).spec, database.spec
    if given.fingerprint != own.fingerprint:
        raise evomem.errors.FingerprintMismatch(
            f"the database is open with the encoder {own.name!r}, not {given.name!r}: leave "
            "encoder out to use its own, or use a new location for the new one"
        )
