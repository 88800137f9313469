"""evomem in LlamaIndex: memory, memory block, retriever, reranker, embedding.

Each class implements an interface of LlamaIndex with a `Memory`; see `docs/guides/llamaindex.md`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.llamaindex.block import EvoMemBlock
    from evomem_integrations.llamaindex.embedding import EvoMemEmbedding
    from evomem_integrations.llamaindex.memory import EvoMemMemory
    from evomem_integrations.llamaindex.reranker import EvoMemReranker
    from evomem_integrations.llamaindex.retriever import EvoMemRetriever

__all__ = ["EvoMemBlock", "EvoMemEmbedding", "EvoMemMemory", "EvoMemReranker", "EvoMemRetriever"]

_MODULES = {
    "EvoMemBlock": "block",
    "EvoMemEmbedding": "embedding",
    "EvoMemMemory": "memory",
    "EvoMemReranker": "reranker",
    "EvoMemRetriever": "retriever",
}


def __getattr__(name: str) -> Any:
    """Import a class, and with it LlamaIndex, on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("llama_index.core", extra="llamaindex")
    import_module(f"{__name__}.releases")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
