"""evomem in Microsoft's Agent Framework: a context provider; see `docs/guides/agent-framework.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.agent_framework.provider import EvoMemContextProvider

__all__ = ["EvoMemContextProvider"]


def __getattr__(name: str) -> Any:
    """Import the class, and with it the framework, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("agent_framework", extra="agent-framework")
    from evomem_integrations.agent_framework.provider import EvoMemContextProvider

    return EvoMemContextProvider
