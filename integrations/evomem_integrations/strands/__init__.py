"""evomem in Strands: a memory store for its memory manager; see `docs/guides/strands.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.strands.store import EvoMemMemoryStore

__all__ = ["EvoMemMemoryStore"]


def __getattr__(name: str) -> Any:
    """Import the class, and with it Strands, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("strands", extra="strands")
    from evomem_integrations.strands.store import EvoMemMemoryStore

    return EvoMemMemoryStore
