"""evomem in LangGraph: `EvoMemStore`, a `BaseStore` whose namespaces are memories.

See `docs/guides/langgraph.md`; for agents there is middleware in `evomem_integrations.langchain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.langgraph.store import EvoMemStore

__all__ = ["EvoMemStore"]


def __getattr__(name: str) -> Any:
    """Import the store, and with it LangGraph, on first use."""
    if name != "EvoMemStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("langgraph.store.base", extra="langgraph")
    from evomem_integrations.langgraph.store import EvoMemStore

    return EvoMemStore
