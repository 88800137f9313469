"""evomem in Google's Agent Development Kit: a memory service; see `docs/guides/google-adk.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.google_adk.service import EvoMemMemoryService

__all__ = ["EvoMemMemoryService"]


def __getattr__(name: str) -> Any:
    """Import the class, and with it ADK, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("google.adk", extra="google-adk")
    from evomem_integrations.google_adk.service import EvoMemMemoryService

    return EvoMemMemoryService
