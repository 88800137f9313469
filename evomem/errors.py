"""Every error that evomem raises on purpose.

EvomemError
├── InputError                the caller's input cannot be used (also a ValueError)
│   ├── TurnError             a turn: text, role, id, time, session or metadata
│   ├── NamespaceError        the name of a memory
│   ├── QueryError            a query, k, a mode, a filter, a point in time
│   └── DuplicateTurn         the memory holds this id with another text
├── NotFound                  no such turn, memory or database (also a LookupError)
├── EncoderError              an encoder cannot be loaded or returned unusable vectors
│   ├── CheckpointError       a checkpoint with missing, extra, misshapen or pickled weights
│   └── FingerprintMismatch   the database was written by another encoder
├── StoreError                the database or an index file
│   ├── DatabaseDamaged       the file is corrupt, or not an evomem database
│   │   └── IntegrityError    the data was edited without evomem: a seal does not match
│   ├── KeyMismatch           the database is sealed with another integrity key, or with none
│   ├── DatabaseBusy          another process held the write lock for too long
│   ├── ConnectionLost        the database's server is unreachable
│   ├── HeadMoved             the log grew while a turn was being read
│   │   └── LeaseLost         another worker took over the memory's lease
│   └── SharedTurns           a purge would reach turns that forks share
├── ServiceError              a service cannot be reached, is too busy, or gave no usable answer
│   └── AccessDenied          the service requires a key, or the key has no right to the request
└── MissingExtra              an optional package is not installed (also an ImportError)

A message names what was expected, the actual value, and the remedy.
"""

from __future__ import annotations

__all__ = [
    "AccessDenied",
    "CheckpointError",
    "ConnectionLost",
    "DatabaseBusy",
    "DatabaseDamaged",
    "DuplicateTurn",
    "EncoderError",
    "EvomemError",
    "FingerprintMismatch",
    "HeadMoved",
    "InputError",
    "IntegrityError",
    "KeyMismatch",
    "LeaseLost",
    "MissingExtra",
    "NamespaceError",
    "NotFound",
    "QueryError",
    "ServiceError",
    "SharedTurns",
    "StoreError",
    "TurnError",
]


class EvomemError(Exception):
    """The base class: catch it to catch every error of evomem."""


class InputError(EvomemError, ValueError):
    """The caller's input cannot be used; nothing was written."""


class TurnError(InputError):
    """A turn is invalid."""


class NamespaceError(InputError):
    """The name of a memory is not a tuple of plain, non-empty labels."""


class QueryError(InputError):
    """A query, its limits or its filters are not valid."""


class DuplicateTurn(InputError):
    """The memory already holds this id, with other content."""


class NotFound(EvomemError, LookupError):
    """There is no such turn, memory or database."""


class EncoderError(EvomemError):
    """An encoder cannot be loaded, or its results cannot be stored."""


class CheckpointError(EncoderError):
    """A checkpoint is incomplete, holds unexpected weights, or does not fit its configuration."""


class FingerprintMismatch(EncoderError):
    """The database was written by another encoder, whose vectors are not comparable."""


class StoreError(EvomemError):
    """The database or its index cannot complete an operation."""


class DatabaseDamaged(StoreError):
    """The file is not an evomem database, or a part of it cannot be read."""


class IntegrityError(DatabaseDamaged):
    """The database was edited without evomem: a seal does not match (docs/operations/integrity.md)."""


class KeyMismatch(StoreError):
    """The database is sealed with an integrity key other than the one passed, or with none."""


class DatabaseBusy(StoreError):
    """Another process held the write lock longer than the busy timeout; nothing was written."""


class ConnectionLost(StoreError):
    """The database's server is unreachable; a pending write was applied completely or not at all."""


class HeadMoved(StoreError):
    """The log has grown since it was read; the write was refused, nothing was written."""


class LeaseLost(HeadMoved):
    """Another worker took over the memory's lease; the write was refused, nothing was written."""


class SharedTurns(StoreError):
    """Forks share the turns that would be rewritten."""


class ServiceError(EvomemError):
    """A service cannot be reached, is too busy, or gave an answer that cannot be used."""


class AccessDenied(ServiceError):
    """The service requires a key, or the key does not allow the request."""


def closed() -> StoreError:
    """Return the error for calls after `close`."""
    return StoreError("the database was closed: open it again to continue")


class MissingExtra(EvomemError, ImportError):
    """An optional package is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {module!r}, which comes with the extra [{extra}]: "
            f"run pip install -e '.[{extra}]' in the checkout of evomem"
        )


def shown(value: object) -> str:
    """Return a value's text for a message; Python refuses to print integers with very many digits."""
    try:
        return f"{value!r:.200}"
    except ValueError:
        return f"a {type(value).__name__} too large to print"
