"""evomem in LangChain: a retriever, a vector store, agent middleware, a chat history, embeddings.

Each class implements an interface of LangChain with a `Memory`; see `docs/guides/langchain.md`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evomem._extras import require

if TYPE_CHECKING:
    from evomem_integrations.langchain.embeddings import EvoMemEmbeddings
    from evomem_integrations.langchain.encoder import EmbeddingsEncoder
    from evomem_integrations.langchain.history import EvoMemChatMessageHistory
    from evomem_integrations.langchain.middleware import EvoMemMiddleware
    from evomem_integrations.langchain.retriever import EvoMemRetriever
    from evomem_integrations.langchain.vectorstore import EvoMemVectorStore

__all__ = [
    "EmbeddingsEncoder",
    "EvoMemChatMessageHistory",
    "EvoMemEmbeddings",
    "EvoMemMiddleware",
    "EvoMemRetriever",
    "EvoMemVectorStore",
]

_MODULES = {
    "EmbeddingsEncoder": "encoder",
    "EvoMemChatMessageHistory": "history",
    "EvoMemEmbeddings": "embeddings",
    "EvoMemMiddleware": "middleware",
    "EvoMemRetriever": "retriever",
    "EvoMemVectorStore": "vectorstore",
}


def __getattr__(name: str) -> Any:
    """Import a class, and with it LangChain, on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("langchain_core", extra="langchain")
    if name == "EvoMemMiddleware":
        require("langchain.agents", extra="langchain")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
