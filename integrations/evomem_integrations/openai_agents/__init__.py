"""evomem in the OpenAI Agents SDK: options that give a run a memory; see `docs/guides/openai-agents.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.openai_agents.running import run_options

__all__ = ["run_options"]


def __getattr__(name: str) -> Any:
    """Import the function, and with it the SDK, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("agents", extra="openai-agents")
    from evomem_integrations.openai_agents.running import run_options

    return run_options
