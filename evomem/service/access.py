"""The rights of a key, and the errors for missing ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evomem.errors import AccessDenied
from evomem.service.names import join_name
from evomem.store import Namespace

RIGHTS = ("read", "write", "forget", "admin")
"""read: search, list; write: add, annotate, fork, import; forget: delete, purge, expire, drop;
admin: keys and the access log, and with the prefix of all memories the database itself."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rights of one request."""

    key: str
    """The key's id; "" if the service needs no key."""
    prefix: Namespace
    """Restricts the access to memories whose namespaces begin with these labels; () for all."""
    rights: frozenset[str]

    def covers(self, labels: Namespace) -> bool:
        """Return whether a namespace begins with the prefix."""
        return labels[: len(self.prefix)] == self.prefix

    def check(self, right: str, labels: Namespace) -> None:
        """Raise `AccessDenied` without a right to a memory, whether it exists or not."""
        if right not in self.rights:
            raise AccessDenied(
                f"the key has no right to {right}, only to {', '.join(sorted(self.rights))}: "
                "use another key"
            )
        if not self.covers(labels):
            raise AccessDenied(
                f"the key is for memories that begin with {join_name(self.prefix)!r}: name one of "
                "these, or use another key"
            )


EVERYTHING = Access("", (), frozenset(RIGHTS))
"""The rights of everybody on this machine until the first key is created."""


@dataclass(frozen=True, slots=True)
class Key:
    """The stored part of a key, without its secret."""

    id: str
    prefix: Namespace
    rights: tuple[str, ...]
    note: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    used: datetime | None
    """When it was last used, to the minute."""

    def to_json(self) -> dict[str, Any]:
        """Return the key as plain JSON values."""
        times = ("created", "expires", "revoked", "used")
        return {
            "id": self.id,
            "prefix": list(self.prefix),
            "rights": list(self.rights),
            "note": self.note,
            **{name: (time := getattr(self, name)) and time.isoformat() for name in times},
        }
