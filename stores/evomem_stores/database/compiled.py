"""A cache of compiled statements for all databases of a process: compiling costs more than running."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.util import LRUCache

CACHE: LRUCache[Any, Any] = LRUCache(1000)
"""The value of the execution option `compiled_cache`. Its keys contain the dialect (`Shared`)."""


class Shared:
    """A mixin, placed before SQLAlchemy's class: dialects that compile to the same SQL are equal."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(type(self))

    def _settings(self) -> tuple[object, ...]:
        """Return what the SQL depends on; `server_version_info` is set when the dialect connects."""
        return type(self), getattr(self, "server_version_info", None)


def register(dialect: type[Shared], name: str) -> str:
    """Register a dialect with SQLAlchemy; return its name in URLs."""
    registry.register(f"{name}.evomem", dialect.__module__, dialect.__name__)
    return f"{name}+evomem"
