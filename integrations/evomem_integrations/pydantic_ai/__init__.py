"""evomem in Pydantic AI: a capability that gives an agent a memory; see `docs/guides/pydantic-ai.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.pydantic_ai.capability import EvoMemCapability

__all__ = ["EvoMemCapability"]


def __getattr__(name: str) -> Any:
    """Import the class, and with it Pydantic AI, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("pydantic_ai", extra="pydantic-ai")
    from evomem_integrations.pydantic_ai.capability import EvoMemCapability

    return EvoMemCapability
