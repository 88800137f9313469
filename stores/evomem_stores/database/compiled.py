"""Compiled statements, shared by all databases of a process: compiling one costs more than running it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.util import LRUCache

CACHE: LRUCache[Any, Any] = LRUCache(1000)
"""For the execution option `compiled_cache`. Its keys contain the dialect: see `Shared`."""


class Shared:
    """Makes dialects equal that compile a statement to the same SQL. Put it before SQLAlchemy's class."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(type(self))

    def _settings(self) -> tuple[object, ...]:
        """Return what the SQL depends on; `server_version_info` is known once it has connected."""
        return type(self), getattr(self, "server_version_info", None)


def register(dialect: type[Shared], name: str) -> str:
    """Make a dialect known to SQLAlchemy; return the name that URLs give to it."""
    registry.register(f"{name}.evomem", dialect.__module__, dialect.__name__)
    return f"{name}+evomem"
