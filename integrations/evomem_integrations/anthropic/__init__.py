"""evomem as the storage of the memory tool of Anthropic's API; see `docs/guides/anthropic.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.anthropic.tool import EvoMemAsyncMemoryTool, EvoMemMemoryTool

__all__ = ["EvoMemAsyncMemoryTool", "EvoMemMemoryTool"]


def __getattr__(name: str) -> Any:
    """Import a class, and with it Anthropic's SDK, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("anthropic", extra="anthropic")
    from evomem_integrations.anthropic import tool

    return getattr(tool, name)
