"""LightMem with evomem: its embedder and vector store, or the whole class. See docs/guides/lightmem.md."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from evomem import Encoder
from evomem.errors import NotFound
from evomem_integrations.documents import as_encoder
from evomem_integrations.lightmem.embedder import PlainTextEmbedder, TextEmbedder
from evomem_integrations.lightmem.memory import LightMemory
from evomem_integrations.lightmem.retriever import EmbeddingRetriever

__all__ = ["EmbeddingRetriever", "LightMemory", "PlainTextEmbedder", "TextEmbedder", "install"]

EMBEDDERS = ("lightmem.factory.text_embedder.factory", "TextEmbedderFactory")
RETRIEVERS = (
    "lightmem.factory.retriever.embeddingretriever.factory",
    "EmbeddingRetrieverFactory",
)


def install(
    encoder: str | Encoder | None = None,
    *,
    retriever: bool = True,
    purge: bool = False,
    zone: str | None = None,
) -> None:
    """Register evomem's classes in LightMem under the names of its own.

    Every embedder name (`"huggingface"`, `"openai"`) and every vector store (`"qdrant"`) then selects
    evomem, for every `LightMemory` that this process creates afterwards.

    Args:
        encoder: The encoder that reads the memories; the default encoder if not given.
        retriever: Whether to replace the vector store as well. Otherwise vectors are computed without
            a memory and stored in LightMem's own store.
        purge: Whether deleted memories are purged; otherwise they are only hidden.
        zone: The user's time zone, in which days in queries are counted; UTC if not given.

    Raises:
        NotFound: LightMem is not installed; nothing was changed.
    """
    try:
        factories = [
            getattr(import_module(module), name) for module, name in (EMBEDDERS, RETRIEVERS)
        ]
    except ModuleNotFoundError as error:
        raise NotFound(
            f"LightMem cannot be imported ({error}): install it from a checkout of "
            "https://github.com/zjunlp/LightMem"
        ) from error
    loaded = as_encoder(encoder)
    embedder = TextEmbedder if retriever else PlainTextEmbedder
    replacements: list[tuple[Any, Any]] = [(factories[0], embedder)]
    if retriever:
        replacements.append((factories[1], EmbeddingRetriever))
        EmbeddingRetriever.purge = purge
        EmbeddingRetriever.zone = zone
    for factory, ours in replacements:
        ours.encoder = loaded
        registry = factory._MODEL_MAPPING
        registry.update(dict.fromkeys(registry, f"{ours.__module__}.{ours.__qualname__}"))
