"""Open databases, one per location and process, for hosts that keep only an adapter's settings.

A host may copy an adapter, or serialise it and recreate it in this process or another. The copy
carries a location; all copies in a process share one open database and its encoder.
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
        """Become None in a copy or a pickle, which then opens the database itself."""
        return type(None), ()


_handles: weakref.WeakValueDictionary[Any, Handle] = weakref.WeakValueDictionary()
_guard = threading.Lock()


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()


reset_in_child(_after_fork)


def share(location: str, encoder: str | None = None, **options: Any) -> Handle:
    """Return the handle of a database, opened as by `evomem.open` if it is not open yet.

    `":memory:"` is one database per process; it is discarded with its last handle.

    Raises:
        FingerprintMismatch: The database was written by an encoder other than `encoder`.
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
    """Return the key of a database in this process: an absolute path, a URL or `":memory:"`."""
    path = location.removeprefix("sqlite:///")
    if path == ":memory:" or "://" in path:
        return location
    return str(Path(path).expanduser().absolute())


def _check(database: Database, encoder: str) -> None:
    requested, current = evomem.load_encoder(encoder).spec, database.spec
    if requested.fingerprint != current.fingerprint:
        raise evomem.errors.FingerprintMismatch(
            f"the database is open with the encoder {current.name!r}, not {requested.name!r}: omit "
            "encoder to use the database's own, or choose a new location for the new encoder"
        )
