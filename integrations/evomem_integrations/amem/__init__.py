"""A-MEM with evomem: its retriever, or the whole memory system. See docs/guides/amem.md.

Nothing of A-MEM is imported here: its packages are not on any index.
"""

from __future__ import annotations

from types import ModuleType

from evomem import Encoder
from evomem.errors import NotFound
from evomem_integrations.amem.evaluation import SimpleEmbeddingRetriever
from evomem_integrations.amem.retrievers import (
    ChromaRetriever,
    CopiedChromaRetriever,
    PersistentChromaRetriever,
)
from evomem_integrations.amem.system import AgenticMemorySystem, MemoryNote
from evomem_integrations.documents import as_encoder

__all__ = [
    "AgenticMemorySystem",
    "ChromaRetriever",
    "CopiedChromaRetriever",
    "MemoryNote",
    "PersistentChromaRetriever",
    "SimpleEmbeddingRetriever",
    "install",
]

RETRIEVERS: tuple[type, ...] = (
    ChromaRetriever,
    PersistentChromaRetriever,
    CopiedChromaRetriever,
    SimpleEmbeddingRetriever,
)


def install(
    *modules: ModuleType,
    encoder: str | Encoder | None = None,
    purge: bool = False,
    zone: str | None = None,
) -> None:
    """Let A-MEM's modules use our retrievers in place of their own, by the same names.

    Args:
        *modules: Those that use a retriever: `agentic_memory.memory_system`, or `memory_layer` and
            `memory_layer_robust` of the evaluation code. What was made before keeps what it has.
        encoder: What reads the notes; the default encoder if not given.
        purge: Whether deleted notes are purged; otherwise they are only hidden.
        zone: The user's time zone, in which days in queries are counted; UTC if not given.

    Raises:
        NotFound: A module has none of the names; nothing was changed.
    """
    for module in modules:
        if not any(hasattr(module, retriever.__name__) for retriever in RETRIEVERS):
            names = ", ".join(retriever.__name__ for retriever in RETRIEVERS)
            raise NotFound(f"{module.__name__} has no retriever of A-MEM ({names})")
    loaded = as_encoder(encoder)
    for ours in RETRIEVERS:
        name = ours.__name__
        settings = {"encoder": loaded, "purge": purge, "zone": zone, "__module__": ours.__module__}
        bound = type(name, (ours,), settings)
        for module in modules:
            if hasattr(module, name):
                setattr(module, name, bound)
