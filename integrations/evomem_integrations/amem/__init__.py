"""A-MEM with evomem: its retriever, or the whole memory system. See docs/guides/amem.md.

A-MEM is not imported here, because its packages are not on a package index.
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
    """Replace the retrievers in A-MEM's modules by evomem's classes of the same names.

    Objects that already exist keep their retriever.

    Args:
        *modules: The modules that use a retriever: `agentic_memory.memory_system`, or `memory_layer`
            and `memory_layer_robust` of the evaluation code.
        encoder: The encoder that reads the notes; the default encoder if not given.
        purge: Whether deleted notes are purged; otherwise they are only hidden.
        zone: The user's time zone, in which days in queries are counted; UTC if not given.

    Raises:
        NotFound: A module has none of the retrievers; nothing was changed.
    """
    for module in modules:
        if not any(hasattr(module, retriever.__name__) for retriever in RETRIEVERS):
            names = ", ".join(retriever.__name__ for retriever in RETRIEVERS)
            raise NotFound(
                f"the module {module.__name__} has none of A-MEM's retrievers ({names}): pass the "
                "module that uses one"
            )
    loaded = as_encoder(encoder)
    for ours in RETRIEVERS:
        name = ours.__name__
        settings = {"encoder": loaded, "purge": purge, "zone": zone, "__module__": ours.__module__}
        bound = type(name, (ours,), settings)
        for module in modules:
            if hasattr(module, name):
                setattr(module, name, bound)
