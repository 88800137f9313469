"""evomem for users of Mem0: replacements for `Memory` and `AsyncMemory`, and a vector store for Mem0.

The two classes need only evomem; `register` and the vector store need Mem0. See `docs/guides/mem0.md`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evomem._extras import require
from evomem_integrations.mem0.aio import AsyncMemory
from evomem_integrations.mem0.memory import Memory, MemoryNotFound

if TYPE_CHECKING:
    from evomem_integrations.mem0.vector_store import EvoMemVectorStore, register

__all__ = ["AsyncMemory", "EvoMemVectorStore", "Memory", "MemoryNotFound", "register"]


def __getattr__(name: str) -> Any:
    """Import the vector store, and with it Mem0, on first use."""
    if name not in ("EvoMemVectorStore", "register"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("mem0", extra="mem0")
    return getattr(import_module(f"{__name__}.vector_store"), name)
